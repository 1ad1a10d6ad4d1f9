/* test_queue_clock.c - when a message came, after the clock was set */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/queue_clock.h"

#define DAY ((usec_t)86400 * 1000000)
#define NOW ((usec_t)1800000000 * 1000000)

static void forward_and_back(void **unused)
{
    struct clock_jumps j = {0};

    (void)unused;
    assert_true(clock_jumps_apply(&j, 5, NOW) == NOW);
    clock_jumps_add(&j, 10, NOW, 10 * DAY);
    assert_true(clock_jumps_apply(&j, 10, NOW - 1) == NOW - 1 + 10 * DAY);
    assert_true(clock_jumps_apply(&j, 11, NOW + 10 * DAY) == NOW + 10 * DAY); /* came after it */
    clock_jumps_add(&j, 20, NOW + 11 * DAY, -20 * DAY);
    assert_true(clock_jumps_apply(&j, 10, NOW - 1) == NOW - 1 - 10 * DAY);
    assert_true(clock_jumps_apply(&j, 11, NOW + 10 * DAY) == NOW - 10 * DAY);
    assert_true(clock_jumps_apply(&j, 21, NOW - 9 * DAY) == NOW - 9 * DAY);
}

/* A machine that begins with an old date until it is told the time: what was queued before it began has the right date. */
static void a_clock_that_was_wrong_at_first(void **unused)
{
    struct clock_jumps j = {0};

    (void)unused;
    clock_jumps_add(&j, 10, 30 * 365 * DAY, NOW - 30 * 365 * DAY);
    assert_true(clock_jumps_apply(&j, 9, NOW - DAY) == NOW - DAY);
    assert_true(clock_jumps_apply(&j, 10, 30 * 365 * DAY - 1) == NOW - 1);
}

static void rows_in_any_order(void **unused)
{
    struct clock_jumps j = {0}, again = {0};
    char name[CLOCK_ROW_SIZE];

    (void)unused;
    for (unsigned i = 0; i < 5; i++) /* two between the same messages: their order counts */
        clock_jumps_add(&j, 10 + i / 2, NOW + i * DAY, i % 2 ? -DAY / 2 : DAY);
    for (unsigned i = 0; i < 5; i++) {
        unsigned at = i * 3 % 5;

        clock_jump_row(&j, at, name);
        assert_true(clock_jumps_read(&again, name, j.of[at].by));
    }
    assert_int_equal(again.n, j.n);
    for (unsigned i = 0; i < j.n; i++) {
        assert_int_equal(again.of[i].mid, j.of[i].mid);
        assert_int_equal(again.of[i].number, j.of[i].number);
        assert_int_equal(again.of[i].wall, j.of[i].wall);
        assert_int_equal(again.of[i].by, j.of[i].by);
    }
    assert_false(clock_jumps_read(&again, "suspended", 1));
    assert_false(clock_jumps_read(&again, "clock/1/2/3x", 1));
    assert_false(clock_jumps_read(&again, "clock/1", 1));
    assert_int_equal(again.n, 5); /* none of these was one */
}

static void bounded(void **unused)
{
    struct clock_jumps j = {0};
    char name[CLOCK_ROW_SIZE];

    (void)unused;
    for (unsigned i = 0; i < 100; i++)
        clock_jumps_add(&j, i, NOW, DAY);
    assert_int_equal(j.n, CLOCK_JUMPS);
    assert_int_equal(j.of[0].mid, 100 - CLOCK_JUMPS);
    clock_jump_row(&j, 0, name);
    j.of[0].number++; /* an older one than all does not drive out another */
    assert_true(clock_jumps_read(&j, name, DAY));
    assert_int_equal(j.n, CLOCK_JUMPS);
    assert_int_equal(j.of[0].number, 100 - CLOCK_JUMPS + 2);
    clock_jumps_forget(&j, 98);
    assert_int_equal(j.n, 2);
    clock_jumps_forget(&j, UINT64_MAX);
    assert_int_equal(j.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_and_back),
        cmocka_unit_test(a_clock_that_was_wrong_at_first),
        cmocka_unit_test(rows_in_any_order),
        cmocka_unit_test(bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
