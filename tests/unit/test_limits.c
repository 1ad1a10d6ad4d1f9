/* daemon/limits.c under a virtual clock. */
#include "daemon/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/clock.h"

static struct addr ip(const char *text)
{
    struct addr a;

    assert_true(addr_parse(text, &a));
    return a;
}

static void test_connections(void **unused)
{
    struct limits_listener *a = limits_listener("A"), *b = limits_listener("B");

    (void)unused;
    assert_ptr_equal(a, limits_listener("A"));
    assert_ptr_not_equal(a, b);
    assert_int_equal(limits_connect(a, 3, 2), LIMITS_OK);
    assert_int_equal(limits_connect(a, 3, 2), LIMITS_OK);
    assert_int_equal(limits_connect(a, 3, 2), LIMITS_LISTENER);
    assert_int_equal(limits_connect(b, 3, 2), LIMITS_OK);
    assert_int_equal(limits_connect(b, 3, 2), LIMITS_ALL);
    assert_int_equal(limits_connections(NULL), 3);
    assert_int_equal(limits_connections(a), 2);
    limits_disconnect(a);
    assert_int_equal(limits_connect(b, 3, 2), LIMITS_OK);
    limits_disconnect(a);
    limits_disconnect(b);
    limits_disconnect(b);
    assert_int_equal(limits_connections(NULL), 0);
}

static void test_hosts(void **unused)
{
    struct limits_listener *a = limits_listener("A"), *b = limits_listener("B");
    struct addr one = ip("192.0.2.1"), two = ip("192.0.2.2"), six = ip("2001:db8::1"),
                near = ip("2001:db8::2"), far = ip("2001:db8:0:1::1");
    struct limits_host *h[8];

    (void)unused;
    assert_non_null(h[0] = limits_host_enter(a, &one, 1));
    assert_null(limits_host_enter(a, &one, 1));
    assert_non_null(h[1] = limits_host_enter(a, &two, 1));
    assert_non_null(h[2] = limits_host_enter(b, &one, 1));
    limits_host_leave(h[0]);
    assert_non_null(h[0] = limits_host_enter(a, &one, 1));
    assert_non_null(h[3] = limits_host_enter(a, &six, 1));
    assert_null(limits_host_enter(a, &near, 1));
    assert_non_null(h[4] = limits_host_enter(a, &far, 1));
    for (int i = 0; i < 5; i++)
        limits_host_leave(h[i]);
}

static void test_recipients_per_hour(void **unused)
{
    struct limits_listener *a = limits_listener("A");
    struct addr one = ip("192.0.2.1");
    struct limits_host *h = limits_host_enter(a, &one, 1);

    (void)unused;
    for (int i = 0; i < 1000; i++)
        assert_true(limits_rcpt(h, 0));
    assert_true(limits_rcpt(h, 2));
    assert_true(limits_rcpt(h, 2));
    assert_false(limits_rcpt(h, 2));
    limits_host_leave(h); /* hanging up does not help */
    h = limits_host_enter(a, &one, 1);
    assert_false(limits_rcpt(h, 2));
    clock_advance(MINUTES(59));
    assert_false(limits_rcpt(h, 2));
    clock_advance(MINUTES(1));
    assert_true(limits_rcpt(h, 2));
    limits_host_leave(h);
}

static void test_hosts_are_forgotten(void **unused)
{
    struct limits_listener *a = limits_listener("A");
    struct addr one = ip("192.0.2.77");
    struct limits_host *h;

    (void)unused;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 5000; i++) { /* many, each with a counted recipient */
            struct addr many = {
                .family = AF_INET,
                .ip = {10, (unsigned char)round, (unsigned char)(i >> 8), (unsigned char)i}
            };

            h = limits_host_enter(a, &many, 1);
            assert_non_null(h);
            assert_true(limits_rcpt(h, 1));
            limits_host_leave(h);
        }
        clock_advance(MINUTES(61));
    }
    h = limits_host_enter(a, &one, 1);
    assert_non_null(h);
    limits_host_leave(h);
}

static void test_invalid_recipients(void **unused)
{
    struct limits_listener *a = limits_listener("A");
    struct addr one = ip("192.0.2.101");
    struct limits_host *h = limits_host_enter(a, &one, 1);

    (void)unused;
    assert_false(limits_invalid(h, 0)); /* not counted */
    assert_false(limits_harvests(h, 0));
    assert_false(limits_invalid(h, 2));
    assert_false(limits_invalid(h, 2));
    assert_false(limits_harvests(h, 2));
    assert_true(limits_invalid(h, 2));
    assert_true(limits_harvests(h, 2));
    limits_host_leave(h); /* coming back does not help */
    h = limits_host_enter(a, &one, 1);
    assert_true(limits_harvests(h, 2));
    assert_false(limits_harvests(h, 0));
    assert_true(limits_rcpt(h, 1)); /* another count */
    clock_advance(MINUTES(59));
    assert_true(limits_harvests(h, 2));
    clock_advance(MINUTES(1));
    assert_false(limits_harvests(h, 2));
    assert_false(limits_invalid(h, 2));
    limits_host_leave(h);
}

static void test_senders(void **unused)
{
    struct limits_listener *a = limits_listener("A"), *b = limits_listener("B");

    (void)unused;
    for (int i = 0; i < 100; i++) {
        assert_true(limits_sender(a, "", 1, 60)); /* bounces */
        assert_true(limits_sender(a, "x@example.com", 0, 60));
    }
    assert_true(limits_sender(a, "x@example.com", 2, 10));
    clock_advance(MINUTES(5));
    assert_true(limits_sender(a, "X@Example.Com", 2, 10));
    assert_false(limits_sender(a, "x@example.com", 2, 10));
    assert_true(limits_sender(a, "y@example.com", 2, 10));
    assert_true(limits_sender(b, "x@example.com", 2, 10));
    clock_advance(MINUTES(5) - 1);
    assert_false(limits_sender(a, "x@example.com", 2, 10));
    clock_advance(1);
    assert_true(limits_sender(a, "x@example.com", 2, 10));
}

/* A flood forgets whose interval ends first, and takes no more memory. */
static void test_flood_of_senders(void **unused)
{
    struct limits_listener *a = limits_listener("A");
    char sender[40];
    unsigned known = 0;

    (void)unused;
    for (unsigned i = 0; i < 400000; i++) {
        snprintf(sender, sizeof(sender), "s%u@example.com", i);
        assert_true(limits_sender(a, sender, 1, 60));
    }
    for (unsigned i = 399000; i < 400000; i++) {
        snprintf(sender, sizeof(sender), "s%u@example.com", i);
        known += !limits_sender(a, sender, 1, 60);
    }
    assert_true(known > 950);
}

static void test_tls(void **unused)
{
    (void)unused;
    assert_true(limits_tls_enter(1));
    assert_false(limits_tls_enter(1));
    limits_tls_leave();
    assert_true(limits_tls_enter(1));
    limits_tls_leave();
}

static int setup(void **unused)
{
    (void)unused;
    clock_set_virtual(SECONDS(1000), 1700000000000000);
    return 0;
}

/* Half a million networks, each with a counted recipient: the first are forgotten, nearly all, for the order of the
 * table is nobody's to foresee; who is connected is not. */
static void test_full(void **unused)
{
    struct limits_listener *a = limits_listener("full");
    struct addr one = ip("192.0.2.1"), two = ip("198.51.100.2"), six = ip("2001:db8::1");
    struct limits_host *first, *stays = limits_host_enter(a, &two, 1);
    unsigned forgotten = 0;

    (void)unused;
    assert_false(limits_invalid(stays, 1));
    assert_true(limits_invalid(stays, 1));
    for (one.ip[3] = 0; one.ip[3] < 40; one.ip[3]++) {
        first = limits_host_enter(a, &one, 1);
        assert_false(limits_invalid(first, 1));
        assert_true(limits_invalid(first, 1));
        limits_host_leave(first);
    }
    for (unsigned i = 0; i < 500000; i++) {
        struct limits_host *h;

        memcpy(six.ip + 4, &i, sizeof(i));
        assert_non_null(h = limits_host_enter(a, &six, 1));
        limits_invalid(h, 1);
        limits_host_leave(h);
    }
    assert_true(limits_harvests(stays, 1));
    for (one.ip[3] = 0; one.ip[3] < 40; one.ip[3]++) {
        first = limits_host_enter(a, &one, 1);
        forgotten += !limits_harvests(first, 1);
        limits_host_leave(first);
    }
    assert_true(forgotten >= 20);
    limits_host_leave(stays);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_recipients_per_hour),
        cmocka_unit_test(test_hosts_are_forgotten),
        cmocka_unit_test(test_invalid_recipients),
        cmocka_unit_test(test_senders),
        cmocka_unit_test(test_flood_of_senders),
        cmocka_unit_test(test_tls),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
