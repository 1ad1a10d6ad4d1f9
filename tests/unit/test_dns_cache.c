/* test_dns_cache.c - answers are kept until their time is up, within a bound. */
#include "tests/unit/cm.h"

#include <stdio.h>
#include <string.h>

#include "daemon/dns_cache.h"

static void put(const char *name, int type, enum dns_status status, unsigned ttl, size_t size)
{
    static unsigned char data[4096];
    struct dns_rdata r = {data, size};
    struct dns_answer *a = dns_answer_new(name, NULL, type, status, &r, status == DNS_OK);

    a->ttl = ttl;
    dns_cache_put(name, a);
    dns_answer_free(&a);
}

static bool has(const char *name, int type)
{
    struct dns_answer *a = dns_cache_get(name, type);
    bool there = a != NULL;

    dns_answer_free(&a);
    return there;
}

static int clean(void **state)
{
    (void)state;
    clock_set_virtual(SECONDS(1000), 0);
    dns_cache_limit(1u << 20);
    dns_cache_flush(NULL);
    return 0;
}

static void kept_until_its_time_is_up(void **state)
{
    struct dns_answer *a;

    (void)state;
    put("a.example", TYPE_A, DNS_OK, 60, 4);
    put("none.example", TYPE_A, DNS_NXDOMAIN, 10, 0);
    put("zero.example", TYPE_A, DNS_OK, 0, 4);
    assert_true(has("A.Example.", TYPE_A)); /* the same name */
    assert_false(has("a.example", TYPE_AAAA));
    assert_false(has("zero.example", TYPE_A));
    clock_advance(SECONDS(9));
    assert_true(has("none.example", TYPE_A));
    clock_advance(SECONDS(1));
    assert_false(has("none.example", TYPE_A));
    clock_advance(SECONDS(30));
    a = dns_cache_get("a.example", TYPE_A);
    assert_int_equal(dns_answer_ttl(a), 20);
    clock_advance(SECONDS(20));
    assert_false(has("a.example", TYPE_A));
    assert_int_equal(a->n, 1); /* who has it may keep it */
    dns_answer_free(&a);
}

static void failures_are_not_kept(void **state)
{
    (void)state;
    put("a.example", TYPE_A, DNS_BOGUS, 60, 0);
    put("b.example", TYPE_A, DNS_SERVFAIL, 60, 0);
    put("c.example", TYPE_A, DNS_TIMEOUT, 60, 0);
    assert_false(has("a.example", TYPE_A) || has("b.example", TYPE_A) || has("c.example", TYPE_A));
}

static void flushed_by_name(void **state)
{
    (void)state;
    put("example.com", TYPE_MX, DNS_OK, 60, 10);
    put("mx.example.com", TYPE_A, DNS_OK, 60, 4);
    put("badexample.com", TYPE_A, DNS_OK, 60, 4);
    put("com", TYPE_NS, DNS_OK, 60, 4);
    dns_cache_flush("Example.com.");
    assert_false(has("example.com", TYPE_MX) || has("mx.example.com", TYPE_A));
    assert_true(has("badexample.com", TYPE_A) && has("com", TYPE_NS));
    dns_cache_flush(".");
    assert_false(has("badexample.com", TYPE_A) || has("com", TYPE_NS));
}

static void bounded(void **state)
{
    struct dns_cache_totals t;
    char name[40];

    (void)state;
    dns_cache_limit(100000);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%d.example", i);
        put(name, TYPE_TXT, DNS_OK, 60, 2000);
        assert_true(i < 10 || has("n0.example", TYPE_TXT)); /* what is used stays */
    }
    dns_cache_totals(&t);
    assert_true(t.bytes <= 100000);
    assert_in_range(t.entries, 20, 50);
    assert_false(has("n500.example", TYPE_TXT));
    assert_true(has("n999.example", TYPE_TXT));
    dns_cache_limit(0);
    assert_false(has("n999.example", TYPE_TXT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(kept_until_its_time_is_up, clean),
        cmocka_unit_test_setup(failures_are_not_kept, clean),
        cmocka_unit_test_setup(flushed_by_name, clean),
        cmocka_unit_test_setup(bounded, clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
