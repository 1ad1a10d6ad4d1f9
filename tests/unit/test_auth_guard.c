/* daemon/auth_guard.c under a virtual clock. */
#include "daemon/auth.h"

#include <stdio.h>
#include <string.h>

#include "daemon/alert.h"
#include "tests/unit/cm.h"

static unsigned alerts;
static char alert_key[200], alert_text[1000];

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    va_list ap;

    assert_int_equal(class, ALERT_SYSTEM);
    assert_int_equal(severity, ALERT_WARNING);
    alerts++;
    str_copy(alert_key, sizeof(alert_key), key);
    va_start(ap, fmt);
    vsnprintf(alert_text, sizeof(alert_text), fmt, ap);
    va_end(ap);
}

static const struct listener_setup setup = {.auth_failures_host = 6, .auth_lockout = 900};

static struct addr ip(const char *text)
{
    struct addr a;

    assert_true(addr_parse(text, &a));
    return a;
}

static int begin(void **unused)
{
    (void)unused;
    static msec_t now = SECONDS(100000);

    clock_set_virtual(now += SECONDS(100000), 0); /* what other tests left is forgotten */
    alerts = 0;
    return 0;
}

static void test_delays_and_lockout(void **unused)
{
    static const unsigned delays[] = {1, 2, 4, 8, 8, 8};
    struct addr a = ip("192.0.2.1"), b = ip("192.0.2.2");
    struct auth_lockout list[4];
    char user[20];

    (void)unused;
    for (unsigned i = 0; i < countof(delays); i++) {
        assert_false(auth_locked_out(&a));
        assert_int_equal(alerts, 0);
        snprintf(user, sizeof(user), "joe%u\033", i);
        assert_int_equal(auth_failed(&a, &setup, user), SECONDS(delays[i]));
    }
    assert_true(auth_locked_out(&a));
    assert_false(auth_locked_out(&b));
    assert_int_equal(alerts, 1);
    assert_string_equal(alert_key, "smtp-auth 192.0.2.1");
    assert_non_null(strstr(alert_text, "6 SMTP authentications from 192.0.2.1 have failed"));
    auth_failed(&a, &setup,
                "late"); /* one that was under way: no further alert, and no longer lockout */
    assert_int_equal(alerts, 1);
    auth_succeeded(&a);
    assert_int_equal(auth_lockouts(list, 4), 1);
    assert_string_equal(list[0].address, "192.0.2.1");
    assert_string_equal(list[0].user, "late");
    assert_int_equal(list[0].failures, 7);
    assert_int_equal(list[0].left, SECONDS(900));
    clock_advance(SECONDS(900) - 1);
    assert_true(auth_locked_out(&a));
    clock_advance(1);
    assert_false(auth_locked_out(&a));
    assert_int_equal(auth_lockouts(list, 4), 0);
    assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(1)); /* all is forgotten */
}

static void test_forgetting(void **unused)
{
    struct addr a = ip("192.0.2.1");

    (void)unused;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(1));
        clock_advance(SECONDS(900));
    }
    for (unsigned i = 0; i < 5; i++, clock_advance(SECONDS(899)))
        auth_failed(&a, &setup, "");
    assert_false(auth_locked_out(&a));
    auth_failed(&a, &setup, "");
    assert_true(auth_locked_out(&a));
}

/* An office behind one address: more successes than failures never lock it out; one success does
 * not undo many. */
static void test_success(void **unused)
{
    struct addr a = ip("192.0.2.1");

    (void)unused;
    auth_succeeded(&a);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(1));
        auth_succeeded(&a);
        auth_succeeded(&a);
    }
    for (unsigned i = 0; i < 5; i++)
        auth_failed(&a, &setup, "");
    auth_succeeded(&a);
    assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(8));
    auth_failed(&a, &setup, "");
    assert_true(auth_locked_out(&a));
}

static void test_networks(void **unused)
{
    struct addr a = ip("2001:db8::1"), near = ip("2001:db8::ffff:1"), far = ip("2001:db8:0:1::1"),
                four = ip("192.0.2.9");
    struct auth_lockout list[4];

    (void)unused;
    for (unsigned i = 0; i < 6; i++) {
        auth_failed(i % 2 ? &a : &near, &setup, "");
        auth_failed(&four, &setup, "");
    }
    assert_true(auth_locked_out(&a));
    assert_true(auth_locked_out(&near));
    assert_false(auth_locked_out(&far));
    assert_int_equal(auth_lockouts(list, 4), 2);
    assert_string_equal(list[0].address, "2001:db8::/64");
    assert_int_equal(auth_lockouts(list, 1), 1);
    assert_int_equal(auth_unlock("2001:db8:0:1::/64"), 0);
    assert_int_equal(auth_unlock("nonsense"), 0);
    assert_int_equal(auth_unlock("2001:db8::7"), 1);
    assert_false(auth_locked_out(&a));
    assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(1));
    assert_true(auth_locked_out(&four));
    assert_int_equal(auth_unlock(NULL), 1);
    assert_false(auth_locked_out(&four));
}

/* Many hosts guess one user's password: slower, told once, never locked out. */
static void test_names(void **unused)
{
    struct addr a = ip("10.0.0.0");

    (void)unused;
    for (unsigned i = 0; i < 100; i++) {
        a.ip[3] = (unsigned char)i;
        assert_int_equal(auth_failed(&a, &setup, i % 2 ? "Joe" : "joe"),
                         SECONDS(i > 2 ? 8 : 1 << i));
        assert_false(auth_locked_out(&a));
        assert_int_equal(alerts, i >= 29);
    }
    assert_non_null(strstr(
        alert_text, "30 SMTP authentications for the user \"joe\" have failed, the last one from "
                    "10.0.0.29"));
}

/* The tables are bounded, and floods do not free who is locked out. */
static void test_bounds(void **unused)
{
    struct addr bad = ip("192.0.2.1"), a = ip("10.0.0.0");
    char user[20];

    (void)unused;
    for (unsigned i = 0; i < 6; i++)
        auth_failed(&bad, &setup, "");
    for (unsigned i = 0; i < 60000; i++) {
        a.ip[1] = (unsigned char)(i >> 16);
        a.ip[2] = (unsigned char)(i >> 8);
        a.ip[3] = (unsigned char)i;
        snprintf(user, sizeof(user), "u%u", i);
        auth_failed(&a, &setup, user);
    }
    assert_true(auth_locked_out(&bad));
    assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(2)); /* the newest is remembered */
    a = ip("10.0.0.0");
    assert_int_equal(auth_failed(&a, &setup, ""), SECONDS(1)); /* the oldest is not */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_delays_and_lockout, begin),
        cmocka_unit_test_setup(test_forgetting, begin),
        cmocka_unit_test_setup(test_success, begin),
        cmocka_unit_test_setup(test_networks, begin),
        cmocka_unit_test_setup(test_names, begin),
        cmocka_unit_test_setup(test_bounds, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
