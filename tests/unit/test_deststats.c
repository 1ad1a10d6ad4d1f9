/* The table of counters by domain: what it adds up, what it forgets when it is full, the order of
 * tophosts. */
#include "daemon/deststats.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/cm.h"

static int clean(void **state)
{
    (void)state;
    deststats_forget();
    return 0;
}

static void queued(const char *domain, int n)
{
    deststats_change(domain, &(struct dest_change){.gauge = {[DEST_ACTIVE] = n}});
}

static void test_adds_up(void **unused)
{
    struct tally t = {0};
    struct dest_stats d;

    (void)unused;
    assert_false(deststats_get("a.example", &d));
    assert_string_equal(d.domain, "a.example");
    tally_of(&t, "a.example")->gauge[DEST_ACTIVE]++;
    tally_of(&t, "a.example")->gauge[DEST_ACTIVE]++;
    tally_of(&t, "b.example")->gauge[DEST_ACTIVE]++;
    tally_of(&t, "a.example")->gauge[DEST_ACTIVE]++;
    tally_end(&t);
    assert_true(deststats_get("a.example", &d));
    assert_int_equal(d.gauge[DEST_ACTIVE], 3);
    assert_int_equal(d.reach, DEST_UNKNOWN);
    deststats_change("a.example", &(struct dest_change){
                                      .gauge = {[DEST_ACTIVE] = -2  },
                                      .count = { [DEST_DELIVERED] = 1, [DEST_HARD_5XX] = 1},
                                      .reach = DEST_UP,
                                      .at = 77,
                                      .error = "550 no \033[2Jsuch user",
                                      .address = "192.0.2.1"
    });
    assert_true(deststats_get("a.example", &d));
    assert_int_equal(d.gauge[DEST_ACTIVE], 1);
    assert_int_equal(d.count[DEST_DELIVERED], 1);
    assert_int_equal(dest_hard(&d), 1);
    assert_int_equal(d.reach, DEST_UP);
    assert_int_equal(d.last, 77);
    assert_int_equal(d.error_at, 77);
    assert_string_equal(d.error, "550 no \\x1B[2Jsuch user");
    assert_string_equal(d.address, "192.0.2.1");
    assert_true(deststats_get("b.example", &d));
    assert_int_equal(d.gauge[DEST_ACTIVE], 1);
    queued("b.example", -5);
    assert_true(deststats_get("b.example", &d));
    assert_int_equal(d.gauge[DEST_ACTIVE], 0);
}

static void test_bounded(void **unused)
{
    struct dest_stats d;
    char name[40];

    (void)unused;
    queued("keeps.example", 1);
    for (unsigned i = 0; i < DESTSTATS_DOMAINS + 1000; i++) {
        snprintf(name, sizeof(name), "d%u.example", i);
        deststats_change(name, &(struct dest_change){.count = {[DEST_DELIVERED] = 1}});
    }
    assert_true(deststats_get("keeps.example", &d)); /* it has mail */
    assert_false(deststats_get("d0.example", &d));
    assert_true(deststats_get(name, &d));

    deststats_forget();
    for (unsigned i = 0; i < DESTSTATS_DOMAINS; i++) {
        snprintf(name, sizeof(name), "d%u.example", i);
        queued(name, 1);
    }
    queued("late.example", 1); /* all others have mail: it is not counted */
    assert_false(deststats_get("late.example", &d));
    assert_true(deststats_get("d0.example", &d));
    queued("d0.example", -1);
    for (unsigned i = 0; i < DESTSTATS_DOMAINS / 64 + 1 && !deststats_get("late.example", &d); i++)
        queued("late.example", 1);
    assert_true(deststats_get("late.example", &d));
}

static void test_top(void **unused)
{
    struct dest_stats top[3];

    (void)unused;
    assert_int_equal(deststats_top(DEST_BY_ACTIVE, top, 3), 0);
    queued("one.example", 1);
    queued("nine.example", 9);
    queued("five.example", 5);
    queued("also-five.example", 5);
    deststats_change("one.example", &(struct dest_change){
                                        .count = {[DEST_HARD_DNS] = 2, [DEST_SOFT] = 1}
    });
    assert_int_equal(deststats_top(DEST_BY_ACTIVE, top, 3), 3);
    assert_string_equal(top[0].domain, "nine.example");
    assert_string_equal(top[1].domain, "also-five.example");
    assert_string_equal(top[2].domain, "five.example");
    assert_int_equal(deststats_top(DEST_BY_HARD, top, 1), 1);
    assert_string_equal(top[0].domain, "one.example");
    assert_int_equal(deststats_top(DEST_BY_SOFT, top, 1), 1);
    assert_string_equal(top[0].domain, "one.example");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_adds_up, clean, clean),
        cmocka_unit_test_setup_teardown(test_bounded, clean, clean),
        cmocka_unit_test_setup_teardown(test_top, clean, clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
