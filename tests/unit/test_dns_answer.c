/* test_dns_answer.c - rdata as they come, and as liars send them. */
#include "tests/unit/cm.h"

#include <string.h>

#include "daemon/dns_answer.h"

#define R(text)                                                                                    \
    {                                                                                              \
        (const unsigned char *)(text), sizeof(text) - 1                                            \
    }

static struct dns_answer *answer(int type, const struct dns_rdata *r, size_t n)
{
    struct dns_answer *a = dns_answer_new("Asked.Example.", NULL, type, DNS_OK, r, n);

    a->secure = true;
    a->ttl = 300;
    return a;
}

static void mx_sorted_and_bounded(void **state)
{
    static const struct dns_rdata r[] = {
        R("\0\x14\1b\7example\0"),
        R("\0\x0a\1A\7EXAMPLE\0"),
        R("\0\x1e\1c\7example"),
        R("\0\x05\x40"),
        R("\0"),
        R("\0\x01\3a b\7example\0"),
    };
    struct dns_answer *a = answer(TYPE_MX, r, countof(r));
    struct dns_mx mx;

    (void)state;
    dns_answer_mx(a, &mx);
    assert_int_equal(mx.status, DNS_OK);
    assert_int_equal(mx.security, DNS_SECURE);
    assert_int_equal(mx.ttl, 300);
    assert_string_equal(mx.canonical, "asked.example");
    assert_int_equal(mx.n, 2);
    assert_string_equal(mx.hosts[0].host, "a.example");
    assert_int_equal(mx.hosts[0].preference, 10);
    assert_string_equal(mx.hosts[1].host, "b.example");
    dns_mx_free(&mx);
    dns_answer_free(&a);
}

static void mx_without_end(void **state)
{
    static struct dns_rdata r[DNS_MAX_RECORDS + 10];
    static unsigned char data[countof(r)][8];
    struct dns_answer *a;
    struct dns_mx mx;

    (void)state;
    for (unsigned i = 0; i < countof(r); i++) { /* the later the better */
        unsigned preference = 60000 - i;

        memcpy(data[i], "\0\0\1x\2yz\0", 8);
        data[i][0] = (unsigned char)(preference >> 8);
        data[i][1] = (unsigned char)preference;
        r[i] = (struct dns_rdata){data[i], 8};
    }
    a = answer(TYPE_MX, r, countof(r));
    dns_answer_mx(a, &mx);
    assert_int_equal(mx.n, 100);
    assert_int_equal(mx.hosts[0].preference, 60000 - (DNS_MAX_RECORDS - 1));
    assert_int_equal(mx.hosts[99].preference, mx.hosts[0].preference + 99);
    dns_mx_free(&mx);
    dns_answer_free(&a);
}

static void mx_of_equal_preference_is_shuffled(void **state)
{
    static const struct dns_rdata r[] = {R("\0\x0a\1a\0"), R("\0\x0a\1b\0")};
    struct dns_answer *a = answer(TYPE_MX, r, 2);
    unsigned first = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        struct dns_mx mx;

        dns_answer_mx(a, &mx);
        first += str_eq(mx.hosts[0].host, "a");
        dns_mx_free(&mx);
    }
    assert_in_range(first, 40, 160);
    dns_answer_free(&a);
}

static void null_mx(void **state)
{
    static const struct dns_rdata r[] = {R("\0\0\0"), R("\0\x0a\1b\0")};
    struct dns_answer *alone = answer(TYPE_MX, r, 1), *both = answer(TYPE_MX, r, 2);
    struct dns_mx mx;

    (void)state;
    dns_answer_mx(alone, &mx);
    assert_true(mx.null_mx);
    assert_int_equal(mx.n, 0);
    assert_int_equal(mx.status, DNS_OK);
    dns_mx_free(&mx);
    dns_answer_mx(both, &mx); /* RFC 7505 section 3: it is one only when it is alone */
    assert_false(mx.null_mx);
    assert_int_equal(mx.n, 1);
    dns_mx_free(&mx);
    dns_answer_free(&alone);
    dns_answer_free(&both);
}

static void tlsa_records(void **state)
{
    static const struct dns_rdata r[] = {R("\3\1\1\xaa\xbb"), R("\2\0"), R("\2\0\0"), R("")};
    struct dns_answer *a = answer(TYPE_TLSA, r, countof(r));
    struct dns_tlsa t;

    (void)state;
    dns_answer_tlsa(a, &t);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.records[0].usage, 3);
    assert_int_equal(t.records[0].selector, 1);
    assert_int_equal(t.records[0].matching, 1);
    assert_int_equal(t.records[0].len, 2);
    assert_memory_equal(t.records[0].data, "\xaa\xbb", 2);
    assert_int_equal(t.records[1].len, 0);
    dns_tlsa_free(&t);
    assert_int_equal(t.n, 0);
    dns_answer_free(&a);
    a = answer(TYPE_TLSA, r + 3, 1);
    dns_answer_tlsa(a, &t);
    assert_int_equal(t.status, DNS_NODATA);
    dns_tlsa_free(&t);
    dns_answer_free(&a);
}

static void texts(void **state)
{
    static const struct dns_rdata r[] = {
        R("\3v=S\4TSv1"), R("\5short"), R("\6short"), R(""), R("\2a\0"), R("\0"),
    };
    struct dns_answer *a = answer(TYPE_TXT, r, countof(r));
    struct dns_texts t;

    (void)state;
    dns_answer_texts(a, &t);
    assert_int_equal(t.texts.n, 3);
    assert_string_equal(t.texts.items[0], "v=STSv1");
    assert_string_equal(t.texts.items[1], "short");
    assert_string_equal(t.texts.items[2], "");
    dns_texts_free(&t);
    dns_answer_free(&a);
}

static void addresses(void **state)
{
    static const struct dns_rdata r[] = {R("\x7f\0\0\1"), R("\x7f\0\0"), R("\x7f\0\0\2\3"),
                                         R("\x7f\0\0\2")};
    struct dns_answer *a = answer(TYPE_A, r, countof(r));
    struct dns_addrs addrs = {0};
    char text[ADDR_TEXT];

    (void)state;
    dns_answer_addresses(a, &addrs);
    assert_int_equal(addrs.n, 2);
    assert_string_equal(addr_text(&addrs.addrs[0], text), "127.0.0.1");
    assert_string_equal(addr_text(&addrs.addrs[1], text), "127.0.0.2");
    dns_addrs_free(&addrs);
    dns_answer_free(&a);
}

static void what_is_no_answer_has_no_records(void **state)
{
    struct dns_answer *a = dns_answer_new("x.example", NULL, TYPE_MX, DNS_NXDOMAIN, NULL, 0);
    struct dns_mx mx;

    (void)state;
    a->secure = true;
    dns_answer_mx(a, &mx);
    assert_int_equal(mx.status, DNS_NXDOMAIN);
    assert_int_equal(mx.security, DNS_SECURE);
    assert_int_equal(mx.n, 0);
    dns_mx_free(&mx);
    dns_answer_free(&a);
}

static void names(void **state)
{
    static const struct {
        const char *wire;
        size_t n;
        const char *text; /* NULL: refused */
    } cases[] = {
        {"\0",                1,  ""         },
        {"\1a\2BC\0",         6,  "a.bc"     },
        {"\1a\2BC",           5,  NULL       }, /* no end */
        {"\1a\xc0\x0c",       4,  NULL       }, /* a pointer */
        {"\x05"
         "ab",       3,  NULL       }, /* longer than there is */
        {"\3a.b\0",           5,  NULL       },
        {"\3a\\b\0",          5,  NULL       },
        {"\3a\x1b"
         "b\0",      5,  NULL       },
        {"\3a\xff"
         "b\0",      5,  NULL       },
        {"\3a\0b\0",          5,  NULL       },
        {"\5a)b(c\0",         7,  NULL       }, /* it would leave the comment of a trace line */
        {"\3a;b\0",           5,  NULL       },
        {"\3a<b\0",           5,  NULL       },
        {"\4a/25\0",          6,  "a/25"     }, /* RFC 2317 */
        {"",                  0,  NULL       },
        {"\4_25\x2d\4_tcp\0", 11, "_25-._tcp"},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        size_t used = 0;
        bool ok = dns_wire_name((const unsigned char *)cases[i].wire, cases[i].n, text,
                                sizeof(text), &used);

        assert_int_equal(ok, cases[i].text != NULL);
        if (ok) {
            assert_string_equal(text, cases[i].text);
            assert_int_equal(used, cases[i].n);
        }
    }
}

static void the_longest_name(void **state)
{
    unsigned char wire[300];
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(wire); i++)
        wire[i] = i % 2 ? 'a' : 1;
    wire[254] = 0; /* 255 octets, the most there are */
    assert_true(dns_wire_name(wire, 255, text, sizeof(text), NULL));
    assert_int_equal(strlen(text), 253);
    wire[254] = 1;
    wire[256] = 0;
    assert_false(dns_wire_name(wire, 257, text, sizeof(text), NULL));
}

static void rdata_as_text(void **state)
{
    static const struct {
        int type;
        struct dns_rdata r;
        const char *text;
    } cases[] = {
        {TYPE_A,     R("\xc0\0\2\1"),                                                 "192.0.2.1"                  },
        {TYPE_A,     R("\xc0\0\2"),                                                   "\\# 3 C00002"               },
        {TYPE_AAAA,  R("\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"),                     "2001:db8::1"                },
        {TYPE_MX,    R("\0\x0a\4mail\7Example\0"),                                    "10 mail.example."           },
        {TYPE_MX,    R("\0\0\0"),                                                     "0 ."                        },
        {TYPE_MX,    R("\0\x0a\4mai"),                                                "\\# 6 000A046D6169"         },
        {TYPE_CNAME, R("\1a\0"),                                                      "a."                         },
        {TYPE_TXT,   R("\3a\"b\2\x1b[\0"),                                            "\"a\\\"b\" \"\\x1B[\" \"\"" },
        {TYPE_TXT,   R("\4abc"),                                                      "\\# 4 04616263"             },
        {TYPE_TLSA,  R("\3\1\1\xab"),                                                 "3 1 1 AB"                   },
        {TYPE_TLSA,  R("\3\1"),                                                       "\\# 2 0301"                 },
        {TYPE_DS,    R("\x4f\x66\x08\x02\xe0"),                                       "20326 8 2 E0"               },
        {TYPE_SRV,   R("\0\1\0\2\1\xbb\1h\0"),                                        "1 2 443 h."                 },
        {TYPE_SOA,   R("\1n\0\1m\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\xff\xff\xff\xff"),
         "n. m. 1 2 3 4 4294967295"                                                                                },
        {TYPE_SOA,   R("\1n\0\1m\0\0\0\0\1"),                                         "\\# 10 016E00016D0000000001"},
        {TYPE_CAA,   R("\x80\5issueca.example"),                                      "128 issue \"ca.example\""   },
        {TYPE_CAA,   R("\0\x7fissue"),                                                "\\# 7 007F6973737565"       },
        {65280,      R("\1\2"),                                                       "\\# 2 0102"                 },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(1000);

        buf_str_add(&out, "=");
        dns_rdata_text(cases[i].type, &cases[i].r, &out);
        assert_string_equal(buf_str(&out) + 1, cases[i].text);
    }
}

static void type_names(void **state)
{
    (void)state;
    assert_int_equal(dns_type_of("mx"), TYPE_MX);
    assert_int_equal(dns_type_of("TLSA"), 52);
    assert_int_equal(dns_type_of("type65280"), 65280);
    assert_int_equal(dns_type_of("TYPE0"), -1);
    assert_int_equal(dns_type_of("TYPE65536"), -1);
    assert_int_equal(dns_type_of("TYPE1x"), -1);
    assert_int_equal(dns_type_of("nonsense"), -1);
    assert_string_equal(dns_type_name(TYPE_AAAA), "AAAA");
    assert_string_equal(dns_type_name(65280), "TYPE65280");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mx_sorted_and_bounded),
        cmocka_unit_test(mx_without_end),
        cmocka_unit_test(mx_of_equal_preference_is_shuffled),
        cmocka_unit_test(null_mx),
        cmocka_unit_test(tlsa_records),
        cmocka_unit_test(texts),
        cmocka_unit_test(addresses),
        cmocka_unit_test(what_is_no_answer_has_no_records),
        cmocka_unit_test(names),
        cmocka_unit_test(the_longest_name),
        cmocka_unit_test(rdata_as_text),
        cmocka_unit_test(type_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
