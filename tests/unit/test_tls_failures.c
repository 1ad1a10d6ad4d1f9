/* The memory of failed handshakes: an hour, by host and address, bounded. */
#include "daemon/tls_failures.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct addr address(const char *text)
{
    struct addr a;

    assert_true(addr_parse_port(text, 25, &a));
    return a;
}

static void remembered_for_an_hour(void **state)
{
    struct addr one = address("192.0.2.1:25"), two = address("192.0.2.2:25"),
                port = address("192.0.2.1:26");
    struct tls_failure *list;

    (void)state;
    clock_set_virtual(SECONDS(1000), 1000000);
    assert_false(tls_failures_has("mx.example.com", &one));
    tls_failures_note("mx.example.com", &one, "connection reset");
    assert_true(tls_failures_has("mx.example.com", &one));
    assert_false(tls_failures_has("mx.example.com", &two));
    assert_false(tls_failures_has("mx.example.com", &port));
    assert_false(tls_failures_has("mx.example.net", &one));
    assert_int_equal(tls_failures_list(&list), 1);
    assert_string_equal(list[0].host, "mx.example.com [192.0.2.1]:25");
    assert_string_equal(list[0].reason, "connection reset");
    free(list);
    clock_advance(SECONDS(3599));
    assert_true(tls_failures_has("mx.example.com", &one));
    clock_advance(SECONDS(1));
    assert_false(tls_failures_has("mx.example.com", &one));
    assert_int_equal(tls_failures_list(&list), 0);
    free(list);
}

static void forgotten_by_name(void **state)
{
    struct addr one = address("192.0.2.1:25"), two = address("192.0.2.2:25");

    (void)state;
    tls_failures_note("mx.example.com", &one, "a");
    tls_failures_note("mx.example.com", &two, "b");
    tls_failures_note("mx.example.com.net", &one, "c");
    assert_int_equal(tls_failures_clear("MX.example.com [192.0.2.2]:25"), 1);
    assert_int_equal(tls_failures_clear("mx.example.com"), 1);
    assert_true(tls_failures_has("mx.example.com.net", &one));
    assert_int_equal(tls_failures_clear("mx.example"), 0);
    assert_int_equal(tls_failures_clear(NULL), 1);
}

static void bounded(void **state)
{
    struct addr one = address("192.0.2.1:25");
    struct tls_failure *list;
    char host[40];
    unsigned n;

    (void)state;
    for (int i = 0; i < 12000; i++) {
        snprintf(host, sizeof(host), "mx%d.example.com", i);
        tls_failures_note(host, &one, "x");
    }
    n = tls_failures_list(&list);
    free(list);
    assert_int_equal(n, 10000);
    clock_advance(SECONDS(3600)); /* old ones make room */
    tls_failures_note("new.example.com", &one, "x");
    assert_true(tls_failures_has("new.example.com", &one));
    assert_int_equal(tls_failures_clear(NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembered_for_an_hour),
        cmocka_unit_test(forgotten_by_name),
        cmocka_unit_test(bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
