/* store/base/net: addresses, networks and domain names. */
#include "tests/unit/cm.h"

#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"

static void addresses_parse_and_print(void **state)
{
    static const struct {
        const char *text, *printed; /* NULL: refused */
    } cases[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:DB8::1", "2001:db8::1"},
        {"[2001:db8::1]", "2001:db8::1"},
        {"::ffff:192.0.2.1", "192.0.2.1"}, /* one machine, one spelling */
        {"::", "::"},
        {"192.0.2.256", NULL},
        {"192.0.2.01", NULL},
        {"192.0.2", NULL},
        {"[192.0.2.1]", NULL},
        {"[2001:db8::1", NULL},
        {"", NULL},
        {"[]", NULL},
        {"localhost", NULL},
        {"1.2.3.4 ", NULL},
    };
    char out[ADDR_TEXT];

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct addr a;

        assert_int_equal(addr_parse(cases[i].text, &a), cases[i].printed != NULL);
        if (cases[i].printed)
            assert_string_equal(addr_text(&a, out), cases[i].printed);
    }
}

static void ports_are_read_where_they_are_unambiguous(void **state)
{
    static const struct {
        const char *text, *printed;
    } cases[] = {
        {"192.0.2.1:25", "192.0.2.1:25"},     {"192.0.2.1", "192.0.2.1:587"},
        {"[2001:db8::1]:25", "[2001:db8::1]:25"}, {"[2001:db8::1]", "[2001:db8::1]:587"},
        {"2001:db8::25", "[2001:db8::25]:587"}, {"192.0.2.1:65536", NULL},
        {"192.0.2.1:", NULL},                 {"192.0.2.1:x", NULL},
        {"192.0.2.1:-1", NULL},               {":25", NULL},
        {"[::1]25", NULL},
    };
    char out[ADDR_TEXT];

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct addr a;

        assert_int_equal(addr_parse_port(cases[i].text, 587, &a), cases[i].printed != NULL);
        if (cases[i].printed)
            assert_string_equal(addr_text_port(&a, out), cases[i].printed);
    }
}

static void socket_addresses_go_both_ways(void **state)
{
    static const char *const texts[] = {"192.0.2.1:25", "[2001:db8::1]:2525"};
    struct sockaddr_storage ss;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
    struct addr a, b;
    char out[ADDR_TEXT];

    (void)state;
    for (size_t i = 0; i < countof(texts); i++) {
        assert_true(addr_parse_port(texts[i], 0, &a));
        assert_true(addr_to_sockaddr(&a, &ss) > 0);
        addr_from_sockaddr(&b, &ss);
        assert_true(addr_eq(&a, &b));
        assert_string_equal(addr_text_port(&b, out), texts[i]);
    }
    memset(&ss, 0, sizeof(ss));
    in6->sin6_family = AF_INET6;
    memcpy(&in6->sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01", 16);
    addr_from_sockaddr(&a, &ss);
    assert_string_equal(addr_text(&a, out), "127.0.0.1");
    assert_true(addr_is_loopback(&a));
    memset(&a, 0, sizeof(a));
    assert_int_equal(addr_to_sockaddr(&a, &ss), 0);
    assert_string_equal(addr_text(&a, out), "none");
}

static void public_addresses_are_told_from_others(void **state)
{
    static const char *const open[] = {"8.8.8.8",   "100.63.255.255", "100.128.0.0",
                                       "172.32.0.1", "223.255.255.255", "2606:4700::1111",
                                       "2a00::1",    "64:ff9b::8.8.8.8", "2001:4860::1"};
    static const char *const closed[] = {
        "0.0.0.0",     "10.0.0.1",    "100.64.0.1",  "127.0.0.1",    "169.254.1.1",
        "172.16.0.1",  "172.31.255.255", "192.0.0.1", "192.0.2.1",   "192.168.1.1",
        "198.18.0.1",  "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "255.255.255.255", "::",      "::1",         "fe80::1",      "fc00::1",
        "fd12::1",     "ff02::1",     "2001:db8::1", "2001::1",      "2002:a00:1::1",
        "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "3fff::1",
    };
    struct addr a;

    (void)state;
    for (size_t i = 0; i < countof(open); i++) {
        assert_true(addr_parse(open[i], &a));
        if (!addr_is_public(&a))
            fail_msg("%s is public", open[i]);
    }
    for (size_t i = 0; i < countof(closed); i++) {
        assert_true(addr_parse(closed[i], &a));
        if (addr_is_public(&a))
            fail_msg("%s is not public", closed[i]);
    }
}

static void networks_as_administrators_write_them(void **state)
{
    static const struct {
        const char *net, *lo, *hi;
    } cases[] = {
        {"10.1.1.0/24", "10.1.1.0", "10.1.1.255"},
        {"10.1.1.10-20", "10.1.1.10", "10.1.1.20"},
        {"10.1.1.10-10.1.2.20", "10.1.1.10", "10.1.2.20"},
        {"10.2.3.", "10.2.3.0", "10.2.3.255"},
        {"10.", "10.0.0.0", "10.255.255.255"},
        {"10.2-5.", "10.2.0.0", "10.5.255.255"},
        {"192.0.2.7", "192.0.2.7", "192.0.2.7"},
        {"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
        {"192.0.2.7/32", "192.0.2.7", "192.0.2.7"},
        {"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
        {"2001:db8::1-2001:db8::9", "2001:db8::1", "2001:db8::9"},
        {"2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"},
    };
    static const char *const refused[] = {
        "",          "10.1.1.0/33",  "10.1.1.5/24", "10.1.1.20-10", "10.1.1.10-300", "10.2.3",
        "10.2.3.4.", "10..1.",       ".1.2.3",      "10.1.1.0/",    "10.1.1.0/x",    "example.com",
        "10.1-2.3.4", "2001:db8::1/32", "2001:db8::/129", "10.1.1.1-2001:db8::1", "/24",
    };
    char lo[ADDR_TEXT], hi[ADDR_TEXT];
    struct net n;
    struct err e;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        if (!net_parse(cases[i].net, &n, &e))
            fail_msg("%s: %s", cases[i].net, e.text);
        assert_string_equal(addr_text(&n.lo, lo), cases[i].lo);
        assert_string_equal(addr_text(&n.hi, hi), cases[i].hi);
        assert_true(net_has(&n, &n.lo) && net_has(&n, &n.hi));
    }
    for (size_t i = 0; i < countof(refused); i++)
        if (net_parse(refused[i], &n, &e))
            fail_msg("%s was accepted", refused[i]);
    assert_false(net_parse("10.1.1.5/24", &n, &e));
    assert_non_null(strstr(e.text, "10.1.1.0/24")); /* says what was meant */
}

static void a_network_has_its_addresses_only(void **state)
{
    struct net n;
    struct addr a;

    (void)state;
    assert_true(net_parse("10.1.1.10-20", &n, NULL));
    assert_true(addr_parse("10.1.1.9", &a));
    assert_false(net_has(&n, &a));
    assert_true(addr_parse("10.1.1.21", &a));
    assert_false(net_has(&n, &a));
    assert_true(addr_parse("::ffff:10.1.1.15", &a));
    assert_true(net_has(&n, &a));
    assert_true(addr_parse("2001:db8::1", &a));
    assert_false(net_has(&n, &a));
}

static void host_names_are_checked(void **state)
{
    char longest[256], label[80];
    struct err e;

    (void)state;
    assert_true(host_check("example.com", &e));
    assert_true(host_check("a", &e));
    assert_true(host_check("xn--bcher-kva.example", &e));
    assert_true(host_check("_25._tcp.mail-1.example", &e));
    assert_false(host_check("", &e));
    assert_false(host_check("a..b", &e));
    assert_false(host_check(".a", &e));
    assert_false(host_check("a.", &e));
    assert_false(host_check("-a.example", &e));
    assert_false(host_check("a-.example", &e));
    assert_false(host_check("a b", &e));
    assert_false(host_check("b\xC3\xBC" "cher.example", &e));
    memset(label, 'a', 64);
    str_copy(label + 63, 17, ".example");
    assert_true(host_check(label, &e));
    memset(label, 'a', 64);
    str_copy(label + 64, 16, ".example");
    assert_false(host_check(label, &e));
    for (size_t i = 0; i < 254; i++)
        longest[i] = i % 2 ? '.' : 'a';
    longest[253] = '\0';
    assert_true(host_check(longest, &e));
    longest[253] = 'a', longest[254] = '\0';
    assert_false(host_check(longest, &e));
    assert_true(host_is_fqdn("a.example"));
    assert_false(host_is_fqdn("localhost"));
    assert_false(host_is_fqdn("a.example."));
}

static void domains_match_patterns(void **state)
{
    (void)state;
    assert_true(domain_matches("Example.com", "example.COM"));
    assert_false(domain_matches("a.example.com", "example.com"));
    assert_true(domain_matches("a.b.example.com", ".example.com"));
    assert_false(domain_matches("example.com", ".example.com"));
    assert_false(domain_matches("badexample.com", ".example.com"));
    assert_false(domain_matches("badexample.com", "example.com"));
}

static void domains_become_ascii(void **state)
{
    char out[256], tiny[5];
    struct err e;

    (void)state;
    assert_true(domain_to_ascii("B\xC3\xBC" "CHER.example", out, sizeof(out), &e));
    assert_string_equal(out, "xn--bcher-kva.example");
    assert_true(domain_to_ascii("fa\xC3\x9F.de", out, sizeof(out), &e));
    assert_string_equal(out, "xn--fa-hia.de"); /* IDNA 2008 */
    assert_true(domain_to_ascii("EXAMPLE.com.", out, sizeof(out), &e));
    assert_string_equal(out, "example.com");
    assert_true(domain_to_ascii("_dmarc.example", out, sizeof(out), &e));
    assert_false(domain_to_ascii("a..example", out, sizeof(out), &e));
    assert_false(domain_to_ascii("", out, sizeof(out), &e));
    assert_false(domain_to_ascii("\xFF.example", out, sizeof(out), &e));
    assert_false(domain_to_ascii("\xE2\x80\xAE.example", out, sizeof(out), &e));
    assert_false(domain_to_ascii("example", tiny, sizeof(tiny), &e));
    assert_int_equal(e.code, E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_parse_and_print),
        cmocka_unit_test(ports_are_read_where_they_are_unambiguous),
        cmocka_unit_test(socket_addresses_go_both_ways),
        cmocka_unit_test(public_addresses_are_told_from_others),
        cmocka_unit_test(networks_as_administrators_write_them),
        cmocka_unit_test(a_network_has_its_addresses_only),
        cmocka_unit_test(host_names_are_checked),
        cmocka_unit_test(domains_match_patterns),
        cmocka_unit_test(domains_become_ascii),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
