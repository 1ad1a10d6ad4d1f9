/* MTA-STS records and policies: what is one, what is none, which hosts a policy names (RFC 8461 sections 3.1, 3.2, 4.1). */
#include "daemon/mta_sts.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

#define ID32 "0123456789abcdefghijABCDEFGHIJ01"
#define KEY32 "a123456789.bcdefghij-BCDEFGHIJ_1"

static const struct {
    const char *texts[3];
    const char *id; /* NULL: refused */
} records[] = {
    {{"v=STSv1; id=20160831085700Z;"},                    "20160831085700Z"},
    {{"v=STSv1;id=1"},                                    "1"              },
    {{"v=STSv1;\t id=1 \t;\t "},                          "1"              },
    {{"v=STSv1; id=" ID32},                               ID32             },
    {{"v=STSv1; a=b; id=1; c.d-e_f=g:h"},                 "1"              },
    {{"v=STSv1; " KEY32 "=x; id=1"},                      "1"              },
    {{"v=STSv1; id=1; id=2"},                             "1"              },
    {{"v=STSv1; id=1; id=---"},                           "1"              },
    {{"v=STSv1; ID=x; id=1"},                             "1"              }, /* names are compared as they are */
    {{"v=spf1 -all", "v=STSv1; id=1", "v=STSv2; id=2"},   "1"              },
    {{"v=STSv1; id=1", "v=STSv1"},                        "1"              }, /* "v=STSv1;" is what makes it one */
    {{"v=STSv1; id=1", "v=STSv1 ; id=1"},                 "1"              },
    {{"v=STSv1; id=1", "v=stsv1; id=2"},                  "1"              },
    {{NULL},                                              NULL             },
    {{"v=spf1 -all"},                                     NULL             },
    {{"v=STSv1"},                                         NULL             },
    {{"v=STSv1;"},                                        NULL             },
    {{"v=STSv1 ; id=1"},                                  NULL             },
    {{" v=STSv1; id=1"},                                  NULL             },
    {{"V=STSv1; id=1"},                                   NULL             },
    {{"v=STSv1; id=1", "v=STSv1; id=1"},                  NULL             },
    {{"v=STSv1; id=1", "v=STSv1; broken"},                NULL             },
    {{"v=STSv1; id="},                                    NULL             },
    {{"v=STSv1; id=" ID32 "x"},                           NULL             },
    {{"v=STSv1; id=2016-08-31"},                          NULL             },
    {{"v=STSv1; id=---; id=1"},                           NULL             }, /* the first counts */
    {{"v=STSv1; id =1"},                                  NULL             },
    {{"v=STSv1; id= 1"},                                  NULL             },
    {{"v=STSv1;; id=1"},                                  NULL             },
    {{"v=STSv1; id=1;;"},                                 NULL             },
    {{"v=STSv1; id=1 x=2"},                               NULL             },
    {{"v=STSv1; id=1, x=2"},                              NULL             },
    {{"v=STSv1; id=1; x"},                                NULL             },
    {{"v=STSv1; id=1; x="},                               NULL             },
    {{"v=STSv1; id=1; =x"},                               NULL             },
    {{"v=STSv1; id=1; x=a=b"},                            NULL             },
    {{"v=STSv1; id=1; x=\xc3\xbc"},                       NULL             },
    {{"v=STSv1; id=1; -x=y"},                             NULL             },
    {{"v=STSv1; " KEY32 "x=y; id=1"},                     NULL             },
    {{"v=STSv1; id=1\n"},                                 NULL             },
};

static void a_record_is_what_the_grammar_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(records); i++) {
        struct err err = {0};
        unsigned n = 0;
        char id[33];

        while (n < 3 && records[i].texts[n])
            n++;
        if (sts_parse_record(records[i].texts, n, id, &err) != (records[i].id != NULL))
            fail_msg("%s: %s", n ? records[i].texts[0] : "(none)", err.text);
        if (records[i].id)
            assert_string_equal(id, records[i].id);
        else
            assert_true(*err.text);
    }
}

static void no_record_is_told_from_a_wrong_one(void **state)
{
    const char *foreign = "v=spf1 -all", *wrong = "v=STSv1; id=";
    struct err err = {0};
    char id[33];

    (void)state;
    assert_false(sts_parse_record(&foreign, 1, id, &err));
    assert_int_equal(err.code, E_NOT_FOUND);
    assert_false(sts_parse_record(&wrong, 1, id, &err));
    assert_int_equal(err.code, E_INVALID);
}

#define REST "max_age: 86400\nmx: a.example"

static const struct {
    const char *body;
    enum sts_state mode; /* 0: refused */
    unsigned max_age;
    const char *mx; /* joined with blanks */
} policies[] = {
    {"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n",
     STS_MODE_ENFORCE, 604800, "mail.example.com *.example.net backupmx.example.com"},
    {"version: STSv1\r\nmode: testing\r\nmx: a.example\r\nmax_age: 0\r\n", STS_MODE_TESTING, 0, "a.example"},
    {"version:STSv1\nmode:enforce\r\nmx:a.example\nmax_age:1", STS_MODE_ENFORCE, 1, "a.example"},
    {"version: \t STSv1 \nmode: enforce\t\nmx: a.example \t \n\nmax_age: 1", 0, 0, NULL},
    {"version: \t STSv1 \nmode: enforce\t\nmx: a.example \t \nmax_age: 1 ", STS_MODE_ENFORCE, 1, "a.example"},
    {"mx: a.example\nmax_age: 5\nmode: enforce\nversion: STSv1", STS_MODE_ENFORCE, 5, "a.example"},
    {"version: STSv1\nmode: none\nmax_age: 86400\n", STS_MODE_NONE, 86400, ""},
    {"version: STSv1\nmode: none\n" REST, STS_MODE_NONE, 86400, "a.example"},
    /* names nobody knows; duplicates */
    {"version: STSv1\nmode: enforce\nnmx: b.example\nx-y.z_1: some \"words\" \xc3\xbc: more\n" REST, STS_MODE_ENFORCE, 86400, "a.example"},
    {"version: STSv1\nmode: enforce\nmode: none\nmax_age: 3\nversion: STSv2\n" REST, STS_MODE_ENFORCE, 3, "a.example"},
    {"version: STSv1\nmode: enforce\nmode: what\nmax_age: 3\nmax_age: x\nmx: a.example", STS_MODE_ENFORCE, 3, "a.example"},
    {"version: STSv1\nMODE: none\nmode: enforce\n" REST, STS_MODE_ENFORCE, 86400, "a.example"},
    /* lifetimes */
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 31557600", STS_MODE_ENFORCE, 31557600, "a.example"},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 31557601", STS_MODE_ENFORCE, 31557600, "a.example"},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 9999999999", STS_MODE_ENFORCE, 31557600, "a.example"},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 0000000060", STS_MODE_ENFORCE, 60, "a.example"},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 10000000000", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1.5", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1d", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example\nmax_age:", 0, 0, NULL},
    /* patterns */
    {"version: STSv1\nmode: enforce\nmx: Mail.EXAMPLE.com\nmax_age: 1", STS_MODE_ENFORCE, 1, "mail.example.com"},
    {"version: STSv1\nmode: enforce\nmx: *.b\xc3\xbc" "cher.example\nmax_age: 1", STS_MODE_ENFORCE, 1, "*.xn--bcher-kva.example"},
    {"version: STSv1\nmode: enforce\nmx: .example.com\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: *.\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: m*.example.com\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.*.example.com\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example b.example\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example, b.example\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example.\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a..example\nmax_age: 1", 0, 0, NULL},
    /* what must be there */
    {"", 0, 0, NULL},
    {"mode: enforce\n" REST, 0, 0, NULL},
    {"version: STSv1\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmx: a.example", 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nmax_age: 1", 0, 0, NULL},
    {"version: STSv1\nmode: testing\nnmx: a.example\nmax_age: 1", 0, 0, NULL},
    {"version: STSv2\nmode: enforce\n" REST, 0, 0, NULL},
    {"version: stsv1\nmode: enforce\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: Enforce\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: report\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode:\n" REST, 0, 0, NULL},
    /* the form of lines */
    {"version: STSv1\nmode: enforce\n" REST "\n\n", 0, 0, NULL},
    {"\nversion: STSv1\nmode: enforce\n" REST, 0, 0, NULL},
    {"\xef\xbb\xbfversion: STSv1\nmode: enforce\n" REST, 0, 0, NULL},
    {" version: STSv1\nmode: enforce\n" REST, 0, 0, NULL},
    {"version : STSv1\nmode: enforce\n" REST, 0, 0, NULL},
    {"version=STSv1\nmode: enforce\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode\n" REST, 0, 0, NULL},
    {"version: STSv1\n: enforce\nmode: enforce\n" REST, 0, 0, NULL},
    {"version: STSv1\rmode: enforce\r" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\r\r\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nx: a\tb\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nx: \x1b[2J\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\nx: \xff\n" REST, 0, 0, NULL},
    {"version: STSv1\nmode: enforce\n" KEY32 "x: y\n" REST, 0, 0, NULL},
    {"<html><body>404</body></html>", 0, 0, NULL},
};

static void a_policy_is_what_the_grammar_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(policies); i++) {
        struct err err = {0};
        struct sts_policy *p = sts_parse_policy(policies[i].body, strlen(policies[i].body), &err);
        AUTO(buf) struct buf mx = BUF_INIT(1000);

        if ((p != NULL) != (policies[i].mode != 0))
            fail_msg("policy %zu: %s: %s", i, policies[i].body, err.text);
        if (!p) {
            assert_int_equal(err.code, E_INVALID);
            continue;
        }
        strlist_join(&p->mx, " ", &mx);
        assert_int_equal(p->mode, policies[i].mode);
        assert_int_equal(p->max_age, policies[i].max_age);
        assert_string_equal(buf_str(&mx), policies[i].mx);
        sts_policy_free(&p);
    }
}

static void a_policy_has_at_most_64_kib_and_no_nul(void **state)
{
    static const char head[] = "version: STSv1\nmode: enforce\n" REST "\nx: ";
    char *body = malloc(STS_MAX_POLICY + 1);
    struct sts_policy *p;
    struct err err = {0};

    (void)state;
    memset(body, 'y', STS_MAX_POLICY + 1);
    memcpy(body, head, sizeof(head) - 1);
    p = sts_parse_policy(body, STS_MAX_POLICY, &err);
    assert_non_null(p);
    sts_policy_free(&p);
    assert_null(sts_parse_policy(body, STS_MAX_POLICY + 1, &err));
    assert_int_equal(err.code, E_LIMIT);
    body[1000] = '\0';
    assert_null(sts_parse_policy(body, STS_MAX_POLICY, &err));
    free(body);
}

static const struct {
    const char *pattern, *host;
    bool covers;
} hosts[] = {
    {"mail.example.com",         "mail.example.com",          true },
    {"mail.example.com",         "MAIL.Example.COM.",         true },
    {"mail.example.com",         "xmail.example.com",         false},
    {"mail.example.com",         "a.mail.example.com",        false},
    {"mail.example.com",         "example.com",               false},
    {"*.example.com",            "mail.example.com",          true },
    {"*.Example.com",            "MAIL.example.COM",          true },
    {"*.example.com",            "example.com",               false},
    {"*.example.com",            "a.mail.example.com",        false},
    {"*.example.com",            "mailexample.com",           false},
    {"*.example.com",            ".example.com",              false},
    {"*.example.com",            "*.example.com",             false},
    {"*.b\xc3\xbc" "cher.example", "mx.xn--bcher-kva.example",  true },
    {"b\xc3\xbc" "cher.example",   "b\xc3\xbc" "cher.example",    true },
    {"xn--bcher-kva.example",    "B\xc3\xbc" "cher.example",    true },
    {"mail.example.com",         "",                          false},
};

static void a_pattern_covers_a_host_or_one_label(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(hosts); i++) {
        char body[300];
        struct sts_policy *p;

        snprintf(body, sizeof(body), "version: STSv1\nmode: enforce\nmax_age: 1\nmx: other.example\nmx: %s\n",
                 hosts[i].pattern);
        p = sts_parse_policy(body, strlen(body), NULL);
        assert_non_null(p);
        if (sts_lists(p, hosts[i].host) != hosts[i].covers)
            fail_msg("%s and %s", hosts[i].pattern, hosts[i].host);
        sts_policy_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_what_the_grammar_says),
        cmocka_unit_test(no_record_is_told_from_a_wrong_one),
        cmocka_unit_test(a_policy_is_what_the_grammar_says),
        cmocka_unit_test(a_policy_has_at_most_64_kib_and_no_nul),
        cmocka_unit_test(a_pattern_covers_a_host_or_one_label),
    };

    return cmocka_run_group_tests_name("sts_parse", tests, NULL, NULL);
}
