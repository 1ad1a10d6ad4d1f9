/* Addresses that mail goes to, under virtual time: how many connections they get, when they are down. */
#include "daemon/hosts.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/cm.h"

#define FIRST SECONDS(60)
#define MOST SECONDS(3600)

static struct addr host;

static int set_up(void **state)
{
    (void)state;
    hosts_forget();
    addr_parse("192.0.2.1", &host);
    host.port = 25;
    return 0;
}

static unsigned enter_all(msec_t now)
{
    unsigned n = 0;

    while (hosts_enter(&host, 0, now, NULL) == HOSTS_GO)
        n++;
    return n;
}

static bool fails(msec_t now, msec_t *until)
{
    return hosts_failed(&host, "connection refused", FIRST, MOST, now, until);
}

static void starts_slowly(void **state)
{
    msec_t now = 1000, lasted;

    (void)state;
    assert_int_equal(enter_all(now), 8); /* none has been greeted yet */
    assert_false(hosts_takes(&host, 0, now));
    assert_false(hosts_worked(&host, now, &lasted));
    assert_int_equal(enter_all(now), 2); /* each one that is makes room for two */
    for (int i = 0; i < 9; i++)
        hosts_worked(&host, now, &lasted);
    assert_int_equal(enter_all(now), 18);
    for (int i = 0; i < 10; i++)
        hosts_leave(&host, true);
    for (int i = 0; i < 18; i++)
        hosts_leave(&host, false);
    assert_int_equal(enter_all(now), 8); /* nobody was there any more: from the beginning */
}

static void limits_hold(void **state)
{
    struct hosts_wait w;
    msec_t lasted;

    (void)state;
    assert_int_equal(hosts_enter(&host, 2, 1000, &w), HOSTS_GO);
    assert_int_equal(hosts_enter(&host, 2, 1000, &w), HOSTS_GO);
    assert_false(hosts_takes(&host, 2, 1000));
    assert_true(hosts_takes(&host, 3, 1000));
    hosts_worked(&host, 1000, &lasted);
    hosts_worked(&host, 1000, &lasted);
    assert_int_equal(hosts_enter(&host, 2, 1000, &w), HOSTS_FULL);
    assert_int_equal(w.until, 2000);
    hosts_leave(&host, true);
    assert_int_equal(hosts_enter(&host, 2, 1000, &w), HOSTS_GO);
    hosts_join(&host); /* a race was won */
    assert_int_equal(hosts_enter(&host, 3, 1000, &w), HOSTS_FULL);
}

static void silence_is_waited_out(void **state)
{
    struct hosts_wait w;

    (void)state;
    assert_int_equal(enter_all(1000), 8);
    hosts_enter(&host, 0, 1001, &w);
    assert_int_equal(w.until, 1051); /* it may be quick */
    hosts_enter(&host, 0, 3000, &w);
    assert_int_equal(w.until, 5000);
    hosts_enter(&host, 0, 1000 + SECONDS(29), &w);
    assert_int_equal(w.until, 1000 + SECONDS(44));
    hosts_worked(&host, 1000 + SECONDS(30), &(msec_t){0}); /* it speaks */
    assert_int_equal(enter_all(1000 + SECONDS(30)), 2);
    hosts_enter(&host, 0, 1000 + SECONDS(30), &w);
    assert_int_equal(w.until, 1000 + SECONDS(30) + 50);
}

static void goes_down_and_is_probed(void **state)
{
    struct hosts_wait w;
    struct hosts_info info;
    msec_t now = 1000, until, lasted, interval = FIRST;

    (void)state;
    assert_int_equal(enter_all(now), 8);
    now += SECONDS(30);
    assert_false(fails(now, &until));
    assert_false(fails(now, &until));
    assert_int_equal(until, 0);
    assert_true(fails(now, &until)); /* the third in a row, said once */
    for (int i = 3; i < 8; i++)
        assert_false(fails(now, &until)); /* those that were under way tell nothing new */
    assert_int_equal(until, now + FIRST);
    assert_int_equal(hosts_enter(&host, 0, now + 1, &w), HOSTS_DOWN);
    assert_int_equal(w.until, until);
    assert_string_equal(w.why, "connection refused");
    assert_false(hosts_takes(&host, 0, now + 1));
    for (int k = 0; k < 10; k++) {
        now = until;
        assert_int_equal(hosts_enter(&host, 0, now, &w), HOSTS_PROBE);
        assert_int_equal(hosts_enter(&host, 0, now, &w), HOSTS_DOWN); /* one at a time */
        assert_int_equal(w.until, now + SECONDS(5));
        assert_false(hosts_takes(&host, 0, now));
        assert_false(fails(now + 100, &until));
        interval = interval * 2 < MOST ? interval * 2 : MOST;
        assert_int_equal(until, now + 100 + interval);
    }
    assert_true(hosts_show(&host, &info));
    assert_int_equal(info.down_since, 31000);
    assert_int_equal(info.probe_at, until);
    assert_string_equal(info.why, "connection refused");
    now = until;
    assert_int_equal(hosts_enter(&host, 0, now, &w), HOSTS_PROBE);
    assert_true(hosts_worked(&host, now + 50, &lasted));
    assert_int_equal(lasted, now + 50 - 31000);
    assert_int_equal(enter_all(now + 60), 2); /* slowly again */
    hosts_worked(&host, now + 70, &lasted);
    hosts_worked(&host, now + 70, &lasted);
    assert_int_equal(enter_all(now + 80), 4);
    assert_true(hosts_show(&host, &info));
    assert_int_equal(info.down_since, 0);
    assert_string_equal(info.why, "");
}

static void a_success_between(void **state)
{
    msec_t until, lasted;

    (void)state;
    for (int k = 0; k < 10; k++) {
        for (int i = 0; i < 2; i++) {
            assert_int_equal(hosts_enter(&host, 0, 1000, NULL), HOSTS_GO);
            assert_false(fails(1000, &until));
        }
        assert_int_equal(hosts_enter(&host, 0, 1000, NULL), HOSTS_GO);
        hosts_worked(&host, 1000, &lasted);
        hosts_leave(&host, true);
    }
}

static void so_many_and_no_more(void **state)
{
    msec_t until, lasted;

    (void)state;
    assert_int_equal(enter_all(1000), 8);
    for (int i = 0; i < 5; i++)
        hosts_worked(&host, 1000, &lasted);
    for (int i = 0; i < 3; i++)
        assert_false(fails(1000, &until)); /* "421 too many connections": it is well */
    assert_int_equal(hosts_enter(&host, 0, 1000, NULL), HOSTS_FULL);
    hosts_leave(&host, true);
    assert_int_equal(enter_all(1000), 1);
    hosts_worked(&host, 1000, &lasted); /* and is asked for more by and by */
    assert_int_equal(enter_all(1000), 0);
    for (int i = 0; i < 4; i++) {
        hosts_leave(&host, true);
        assert_int_equal(enter_all(1000), 1);
        hosts_worked(&host, 1000, &lasted);
    }
    assert_int_equal(enter_all(1000), 1);
}

static void a_lost_probe(void **state)
{
    struct hosts_wait w;
    msec_t until;

    (void)state;
    for (int i = 0; i < 3; i++) {
        hosts_enter(&host, 0, 1000, &w);
        fails(1000, &until);
    }
    assert_int_equal(hosts_enter(&host, 0, until, &w), HOSTS_PROBE);
    hosts_leave(&host, false); /* nothing was found out: the next one */
    assert_int_equal(hosts_enter(&host, 0, until, &w), HOSTS_PROBE);
    assert_int_equal(hosts_enter(&host, 0, until + MINUTES(1), &w), HOSTS_DOWN);
    hosts_leave(&host, false);
    fails(until, &until);
    assert_int_equal(hosts_enter(&host, 0, until - 1, &w), HOSTS_DOWN);
    hosts_probe(); /* delivernow */
    assert_int_equal(hosts_enter(&host, 0, until - 1, &w), HOSTS_PROBE);
    assert_int_equal(hosts_enter(&host, 0, until + MINUTES(2), &w), HOSTS_PROBE); /* that one is lost */
}

static void dead_ones_are_not_collected(void **state)
{
    struct addr a;
    char text[32];
    msec_t until;
    struct hosts_info info;

    (void)state;
    for (unsigned i = 0; i < HOSTS_MAX + 1000; i++) {
        snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        addr_parse(text, &a);
        a.port = 25;
        for (unsigned k = 0; k < HOSTS_STRIKES; k++) {
            hosts_enter(&a, 0, 1000, NULL);
            hosts_failed(&a, "refused", FIRST, MOST, 1000, &until);
        }
    }
    assert_false(hosts_show(&a, &info)); /* full: it is not remembered */
    hosts_enter(&a, 0, MINUTES(120), NULL);
    hosts_failed(&a, "refused", FIRST, MOST, MINUTES(120), &until); /* makes room */
    assert_true(hosts_show(&a, &info));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(starts_slowly, set_up),
        cmocka_unit_test_setup(limits_hold, set_up),
        cmocka_unit_test_setup(silence_is_waited_out, set_up),
        cmocka_unit_test_setup(goes_down_and_is_probed, set_up),
        cmocka_unit_test_setup(a_success_between, set_up),
        cmocka_unit_test_setup(so_many_and_no_more, set_up),
        cmocka_unit_test_setup(a_lost_probe, set_up),
        cmocka_unit_test_setup(dead_ones_are_not_collected, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
