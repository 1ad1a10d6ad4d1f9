/* test_authorities.c - lists of certificate authorities: what is read, what is refused, and what
 * their members are called. */
#include "store/authorities.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct test_cert a, b, leaf;

static bool read(const char *text, size_t max, bool strict, struct authorities *out,
                 struct err *err)
{
    memset(err, 0, sizeof(*err));
    return authorities_read(text, strlen(text), max, strict, out, err);
}

static void lists_are_read_or_refused_with_a_sentence(void **state)
{
    char *broken = xstrdup(b.cert), *base64 = xstrdup(b.cert);
    const struct {
        const char *parts[4];
        size_t max;
        bool strict;
        size_t n;
        unsigned repeated, damaged;
        const char *text; /* of the refusal */
    } cases[] = {
        {{a.cert},                                        10, true,  1, 0, 0, NULL                                               },
        {{"# a comment\n", a.cert, "\r\nmore\n", b.cert}, 10, true,  2, 0, 0, NULL                                               },
        {{a.cert, a.cert, b.cert, a.cert},                10, true,  2, 2, 0, NULL                                               },
        {{a.key, a.cert, b.key},                          10, true,  1, 0, 0, NULL                                               },
        {{a.cert, b.cert},                                2,  true,  2, 0, 0, NULL                                               },
        {{a.cert, b.cert, leaf.cert},                     2,  true,  0, 0, 0, "more than 2 certificates"                         },
        {{a.cert, a.cert, a.cert},                        2,  true,  0, 0, 0, "more than 2 certificates"                         },
        {{a.cert, broken, leaf.cert},                     10, true,  0, 0, 0, "Certificate 2 of the text is damaged"             },
        {{a.cert, broken, leaf.cert},                     10, false, 2, 0, 1, NULL                                               },
        {{a.cert, base64, leaf.cert},                     10, true,  0, 0, 0, "Certificate 2 of the text is damaged"             },
        {{broken},                                        10, false, 0, 0, 0, "None of the certificates in the text can be read."},
        {{""},                                            10, true,  0, 0, 0, "The text holds no certificate in PEM format."     },
        {{a.key},                                         10, true,  0, 0, 0, "The text holds no certificate in PEM format."     },
        {{"-----BEGIN CERTIFICATE-----\n"},               10, true,  0, 0, 0, "damaged"                                          },
    };
    (void)state;

    strchr(broken, '\n')[1] = 'A'; /* no SEQUENCE any more */
    strchr(base64, '\n')[20] = '!';
    for (size_t i = 0; i < countof(cases); i++) {
        struct buf text = BUF_INIT(1 << 20);
        struct authorities list;
        struct err err;
        bool ok;

        for (size_t k = 0; k < countof(cases[i].parts) && cases[i].parts[k]; k++)
            buf_str_add(&text, cases[i].parts[k]);
        ok = read(buf_str(&text), cases[i].max, cases[i].strict, &list, &err);
        if (ok != (cases[i].text == NULL) || (!ok && !strstr(err.text, cases[i].text)))
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(list.n, cases[i].n);
        assert_int_equal(list.repeated, cases[i].repeated);
        assert_int_equal(list.damaged, cases[i].damaged);
        authorities_free(&list);
        buf_free(&text);
    }
    free(broken);
    free(base64);
}

static struct authorities one(const char *subject_cn, const char *names)
{
    struct test_cert c = test_cert_named(subject_cn, names, 0, 1, 1);
    struct authorities list;
    struct err err;

    assert_true(read(c.cert, 1, true, &list, &err));
    test_cert_free(&c);
    return list;
}

static void names_are_readable_and_fit(void **state)
{
    static const struct {
        const char *cn, *name;
    } cases[] = {
        {"ISRG Root X1",                                            "ISRG-Root-X1"},
        {"Root CA - G3",                                            "Root-CA-G3"  },
        {"a.b_c",                                                   "a.b_c"       },
        {"  (strange)  ",                                           "strange"     },
        {"T\xc3\x9c"
         "B\xc4\xb0TAK",                                   "T-B-TAK"     },
        {"x\x1b[31m/../\"y",                                        "x-31m-..-y"  },
        {"0123456789012345678901234567890123456789012345678901234",
         "012345678901234567890123456789012345678901234567"                       },
    };
    struct authorities list;
    char name[AUTHORITY_NAME], print[65];
    (void)state;

    for (size_t i = 0; i < countof(cases); i++) {
        list = one(cases[i].cn, NULL);
        authority_name(list.items[0], name);
        assert_string_equal(name, cases[i].name);
        authorities_free(&list);
    }
    list = one("\xe6\xa0\xb9", NULL); /* nothing of it can stand in a name */
    authority_fingerprint(list.items[0], print);
    authority_name(list.items[0], name);
    assert_memory_equal(name, "CA-", 3);
    assert_memory_equal(name + 3, print, 16);
    authorities_free(&list);
}

static void fqdn_validation_looks_at_all_names(void **state)
{
    static const struct {
        const char *cn, *names, *text;
    } cases[] = {
        {"mail.example.com", NULL,                                  NULL                                                            },
        {"mail.example.com", "DNS:a.example.com,DNS:*.example.com", NULL                                                            },
        {"Some Root",        NULL,                                  "its common name Some Root is not a fully qualified domain name"},
        {"localhost",        NULL,                                  "its common name localhost is not"                              },
        {"192.0.2.1",        NULL,                                  "its common name 192.0.2.1 is not"                              },
        {"mail.example.com", "DNS:a.example.com,DNS:b",
         "its DNS name b is not a fully qualified domain name"                                                                      },
    };
    (void)state;

    for (size_t i = 0; i < countof(cases); i++) {
        struct authorities list = one(cases[i].cn, cases[i].names);
        struct err err = {0};
        bool ok = authority_check_fqdn(list.items[0], &err);

        if (ok != (cases[i].text == NULL) || (!ok && !strstr(err.text, cases[i].text)))
            fail_msg("%s: %s", cases[i].cn, err.text);
        authorities_free(&list);
    }
}

static void the_ca_flag_is_seen(void **state)
{
    struct authorities list;
    struct err err;
    (void)state;

    assert_true(read(a.cert, 1, true, &list, &err));
    assert_true(authority_is_ca(list.items[0]));
    authorities_free(&list);
    assert_true(read(leaf.cert, 1, true, &list, &err));
    assert_false(authority_is_ca(list.items[0]));
    authorities_free(&list);
}

static int set_up(void **state)
{
    (void)state;
    a = test_cert_named("a", NULL, 0, 1, 1);
    b = test_cert_named("b", NULL, 0, 1, 1);
    leaf = test_cert_named("leaf", "DNS:leaf.example", 0, 0, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_cert_free(&a);
    test_cert_free(&b);
    test_cert_free(&leaf);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read_or_refused_with_a_sentence),
        cmocka_unit_test(names_are_readable_and_fit),
        cmocka_unit_test(fqdn_validation_looks_at_all_names),
        cmocka_unit_test(the_ca_flag_is_seen),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
