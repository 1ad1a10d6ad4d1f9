/* Tables of daemon/smtp_parse.c. */
#include "daemon/smtp_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/str.h"

#define S64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
    const char *in;
    const char *address; /* NULL: refused */
    const char *rest; /* what is left behind the path */
} paths[] = {
    {"<user@example.com>",                        "user@example.com",           ""          },
    {"<User@EXAMPLE.Com> SIZE=1",                 "User@example.com",           " SIZE=1"   },
    {"<>",                                        "",                           ""          },
    {"<> BODY=7BIT",                              "",                           " BODY=7BIT"},
    {"user@example.com",                          "user@example.com",           ""          },
    {"user@example.com SIZE=1",                   "user@example.com",           " SIZE=1"   },
    {"<postmaster>",                              "postmaster",                 ""          },
    {"<a.b+c=d@example.com>",                     "a.b+c=d@example.com",        ""          },
    {"<a%b@example.com>",                         "a%b@example.com",            ""          },
    {"<a!b@example.com>",                         "a!b@example.com",            ""          },
    {"<user@sub_domain.example>",                 "user@sub_domain.example",    ""          },
    {"<user@example.com.>",                       "user@example.com",           ""          },
 /* quoted local parts: no more quotes than needed */
    {"<\"john\"@example.com>",                    "john@example.com",           ""          },
    {"<\"john doe\"@example.com>",                "\"john doe\"@example.com",   ""          },
    {"<\"a\\b\"@example.com>",                    "ab@example.com",             ""          },
    {"<\"a\\\"b\"@example.com>",                  "\"a\\\"b\"@example.com",     ""          },
    {"<\"a\\\\b\"@example.com>",                  "\"a\\\\b\"@example.com",     ""          },
    {"<\"\"@example.com>",                        "\"\"@example.com",           ""          },
    {"<\"a@b\"@example.com>",                     "\"a@b\"@example.com",        ""          },
    {"<\"a>b\"@example.com>",                     "\"a>b\"@example.com",        ""          },
    {"<\".a\"@example.com>",                      "\".a\"@example.com",         ""          },
    {"<\"a\"b@example.com>",                      NULL,                         NULL        },
    {"<\"a@example.com>",                         NULL,                         NULL        },
    {"<\"a\\\">",                                 NULL,                         NULL        },
    {"<\"a\tb\"@example.com>",                    NULL,                         NULL        },
 /* literals */
    {"<user@[192.0.2.1]>",                        "user@[192.0.2.1]",           ""          },
    {"<user@[IPv6:2001:DB8::1]>",                 "user@[IPv6:2001:db8::1]",    ""          },
    {"<user@[ipv6:::1]>",                         "user@[IPv6:::1]",            ""          },
    {"<user@[IPv6:::ffff:192.0.2.1]>",            "user@[192.0.2.1]",           ""          },
    {"<user@[192.0.2.256]>",                      NULL,                         NULL        },
    {"<user@[192.0.2.1>",                         NULL,                         NULL        },
    {"<user@[]>",                                 NULL,                         NULL        },
    {"<user@[::1]>",                              NULL,                         NULL        },
    {"<user@[IPv6:192.0.2.1]>",                   NULL,                         NULL        },
    {"<user@[X-tag:stuff]>",                      NULL,                         NULL        },
    {"<user@[192.0.2.1].example>",                NULL,                         NULL        },
 /* source routes are dropped */
    {"<@a.example:user@example.com>",             "user@example.com",           ""          },
    {"<@a.example,@b.example:user@example.com>",  "user@example.com",           ""          },
    {"<@a.example user@example.com>",             NULL,                         NULL        },
    {"<@a.example,b.example:user@example.com>",   NULL,                         NULL        },
    {"<@:user@example.com>",                      NULL,                         NULL        },
    {"<@a.example:>",                             NULL,                         NULL        },
 /* refused */
    {"",                                          NULL,                         NULL        },
    {"<",                                         NULL,                         NULL        },
    {"<user@>",                                   NULL,                         NULL        },
    {"<@example.com>",                            NULL,                         NULL        },
    {"<user@example.com",                         NULL,                         NULL        },
    {"user@example.com>",                         NULL,                         NULL        },
    {"<user@example.com>x",                       NULL,                         NULL        },
    {"<user@@example.com>",                       NULL,                         NULL        },
    {"<user@a@example.com>",                      NULL,                         NULL        },
    {"<user@-example.com>",                       NULL,                         NULL        },
    {"<user@example-.com>",                       NULL,                         NULL        },
    {"<user@ex..com>",                            NULL,                         NULL        },
    {"<user@.example.com>",                       NULL,                         NULL        },
    {"<user name@example.com>",                   NULL,                         NULL        },
    {"<.user@example.com>",                       NULL,                         NULL        },
    {"<user.@example.com>",                       NULL,                         NULL        },
    {"<us..er@example.com>",                      NULL,                         NULL        },
    {"<us(er@example.com>",                       NULL,                         NULL        },
    {"<user@exa mple.com>",                       NULL,                         NULL        },
    {"<user@exam\x7fple.com>",                    NULL,                         NULL        },
    {"<" S64 "@example.com>",                     S64 "@example.com",           ""          },
    {"<" S64 S64 "@example.com>",                 S64 S64 "@example.com",       ""          },
    {"<" S64 S64 "aaa@example.com>",              NULL,                         NULL        },
    {"<u@" S64 ".com>",                           NULL,                         NULL        },
    {"<u@a." S64 "." S64 "." S64 "." S64 ".com>", NULL,                         NULL        },
 /* other scripts */
    {"<j\xc3\xb6rg@example.com>",                 "j\xc3\xb6rg@example.com",    ""          },
    {"<info@m\xc3\xbcller.example>",              "info@xn--mller-kva.example", ""          },
    {"<j\xc3rg@example.com>",                     NULL,                         NULL        },
    {"<user@m\xc3ller.example>",                  NULL,                         NULL        },
};

static void test_paths(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < countof(paths); i++) {
        struct slice in = slice_of(paths[i].in);
        struct smtp_path path;
        struct smtp_refusal why = {0};
        bool ok = smtp_parse_path(&in, &path, &why);

        if (ok != (paths[i].address != NULL))
            fail_msg("%s: %s", paths[i].in, ok ? path.address : why.text);
        if (!ok) {
            assert_int_equal(why.code, 501);
            assert_true(why.enhanced && why.text[0]);
            continue;
        }
        if (!str_eq(path.address, paths[i].address))
            fail_msg("%s: got %s", paths[i].in, path.address);
        if (!slice_eq(in, paths[i].rest))
            fail_msg("%s: rest %.*s", paths[i].in, (int)in.n, in.p);
        assert_int_equal(path.utf8, strpbrk(paths[i].in, "\xc3") != NULL);
    }
}

static void test_path_parts(void **unused)
{
    struct smtp_path path;
    struct smtp_refusal why;
    struct slice in;

    (void)unused;
    in = slice_of("<\"a@b\"@example.com>");
    assert_true(smtp_parse_path(&in, &path, &why));
    assert_int_equal(path.local_len, 5);
    assert_string_equal(smtp_path_domain(&path), "example.com");
    assert_false(path.literal);
    in = slice_of("<x@[192.0.2.1]>");
    assert_true(smtp_parse_path(&in, &path, &why));
    assert_true(path.literal);
    in = slice_of("<postmaster>");
    assert_true(smtp_parse_path(&in, &path, &why));
    assert_string_equal(smtp_path_domain(&path), "");
}

static void test_split(void **unused)
{
    static const struct {
        const char *line, *verb, *args;
    } cases[] = {
        {"NOOP",             "NOOP", ""           },
        {"EHLO example.com", "EHLO", "example.com"},
        {"QUIT  \t",         "QUIT", ""           },
        {"MAIL   FROM:<>",   "MAIL", "FROM:<>"    },
        {"",                 "",     ""           },
        {" NOOP",            "",     "NOOP"       },
        {"X-1 a",            "",     "X-1 a"      },
        {"GET / HTTP/1.1",   "GET",  "/ HTTP/1.1" },
        {"MAIL\tFROM:<> ",   "MAIL", "FROM:<>"    },
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct slice verb, args;

        smtp_split_command(slice_of(cases[i].line), &verb, &args);
        assert_true(slice_eq(verb, cases[i].verb));
        assert_true(slice_eq(args, cases[i].args));
    }
}

static void test_mail(void **unused)
{
    static const struct {
        const char *in;
        int code; /* 0: accepted */
        uint64_t size;
        bool eightbit, smtputf8;
        char ret;
        const char *envid;
    } cases[] = {
        {"FROM:<a@b.example>",                                   0,   0,              false, false, 0,   ""},
        {"from: <a@b.example>",                                  0,   0,              false, false, 0,   ""},
        {"FROM:<> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=QQ+3D1", 0,   100,            true,  false, 'H',
         "QQ+3D1"                                                                                          },
        {"FROM:<a@b.example> body=7bit size=0 ret=full",         0,   0,              false, false, 'F', ""},
        {"FROM:<j\xc3\xb6@b.example> SMTPUTF8",                  0,   0,              false, true,  0,   ""},
        {"FROM:<j\xc3\xb6@b.example>",                           553, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SIZE=99999999999999999999",         0,   UINT64_MAX - 6, false, false, 0,   ""},
        {"FROM:<a@b.example> SIZE=",                             501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SIZE",                              501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SIZE=-1",                           501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SIZE=1 SIZE=2",                     501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SIZE=123456789012345678901",        501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> BODY=9BIT",                   501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> RET=X",                             501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> ENVID=a=b",                         501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> ENVID=a+b",                         501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> SMTPUTF8=1",                        501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> AUTH=<>",                           0,   0,              false, false, 0,   ""},
        {"FROM:<a@b.example> AUTH=a+40b.example SIZE=1",         0,   1,              false, false, 0,   ""},
        {"FROM:<a@b.example> AUTH=<a@b.example>",                0,   0,              false, false, 0,   ""},
        {"FROM:<a@b.example> AUTH",                              501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> AUTH=+4",                           501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> AUTH=<> AUTH=<>",                   501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> X-FOO",                             555, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> -FOO",                              501, 0,              0,     0,     0,   ""},
        {"FROM:<a@b.example> ;",                                 501, 0,              0,     0,     0,   ""},
        {"TO:<a@b.example>",                                     501, 0,              0,     0,     0,   ""},
        {"FROM",                                                 501, 0,              0,     0,     0,   ""},
        {"",                                                     501, 0,              0,     0,     0,   ""},
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct smtp_mail m;
        struct smtp_refusal why = {0};
        bool ok = smtp_parse_mail(slice_of(cases[i].in), &m, &why);

        if ((ok ? 0 : why.code) != cases[i].code)
            fail_msg("%s: %d %s", cases[i].in, why.code, why.text);
        if (!ok)
            continue;
        if (cases[i].size == UINT64_MAX - 6)
            assert_true(m.size > UINT64_MAX / 2);
        else
            assert_int_equal(m.size, cases[i].size);
        assert_int_equal(m.eightbit, cases[i].eightbit);
        assert_int_equal(m.smtputf8, cases[i].smtputf8);
        assert_int_equal(m.ret, cases[i].ret);
        assert_true(slice_eq(m.envid, cases[i].envid));
    }
}

static void test_rcpt(void **unused)
{
    static const struct {
        const char *in;
        int code;
        unsigned notify;
        const char *orcpt;
    } cases[] = {
        {"TO:<a@b.example>",                                                           0,   0,                 ""                         },
        {"to: <a@b.example> notify=never",                                             0,   SMTP_NOTIFY_NEVER, ""                         },
        {"TO:<a@b.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bx@b.example", 0,
         SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY,                                        "rfc822;a+2Bx@b.example"   },
        {"TO:<a@b.example> ORCPT=utf-8;j\xc3\xb6@b.example",                           0,   0,                 "utf-8;j\xc3\xb6@b.example"},
        {"TO:<a@b.example> ORCPT=utf-8;j\\x{F6}\\x{1F600}@b.example",                    0,   0,                 "utf-8;j\\x{F6}\\x{1F600}@b.example"},
        {"TO:<a@b.example> ORCPT=utf-8;j\\x{F6@b.example",                             501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j\\x{D800}@b.example",                          501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j\\x{110000}@b.example",                        501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j\\x{00}@b.example",                            501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j\\@b.example",                                 501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j+C3@b.example",                                501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=utf-8;j\xc3@b.example",                               501, 0,                 ""                         },
        {"TO:<a@b.example> NOTIFY=NEVER,SUCCESS",                                      501, 0,                 ""                         },
        {"TO:<a@b.example> NOTIFY=SUCCESS,SUCCESS",                                    501, 0,                 ""                         },
        {"TO:<a@b.example> NOTIFY=SUCCESS,",                                           501, 0,                 ""                         },
        {"TO:<a@b.example> NOTIFY=",                                                   501, 0,                 ""                         },
        {"TO:<a@b.example> NOTIFY=MAYBE",                                              501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=a@b.example",                                         501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=rfc822;",                                             501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=;a",                                                  501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=rfc822;a+b",                                          501, 0,                 ""                         },
        {"TO:<a@b.example> ORCPT=rfc822;a+00b",                                        501, 0,                 ""                         },
        {"TO:<a@b.example> SIZE=1",                                                    555, 0,                 ""                         },
        {"TO:<>",                                                                      501, 0,                 ""                         },
        {"FROM:<a@b.example>",                                                         501, 0,                 ""                         },
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct smtp_rcpt r;
        struct smtp_refusal why = {0};
        bool ok = smtp_parse_rcpt(slice_of(cases[i].in), &r, &why);

        if ((ok ? 0 : why.code) != cases[i].code)
            fail_msg("%s: %d %s", cases[i].in, why.code, why.text);
        if (ok) {
            assert_int_equal(r.notify, cases[i].notify);
            assert_true(slice_eq(r.orcpt, cases[i].orcpt));
        }
    }
}

static void test_utf8_address(void **unused)
{
    static const struct {
        const char *utf8, *ascii;
    } cases[] = {
        {"j\xc3\xb6rg@b.example",              "j\\x{F6}rg@b.example"        },
        {"a b\\c+d=e\x7f@\xe4\xbe\x8b.example", "a\\x{20}b\\x{5C}c\\x{2B}d\\x{3D}e\\x{7F}@\\x{4F8B}.example"},
        {"\xf0\x9f\x98\x80@b.example",        "\\x{1F600}@b.example"       },
    };
    char most[600];

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct buf ascii = BUF_INIT(1000), back = BUF_INIT(1000);

        smtp_utf8_address_encode(&ascii, cases[i].utf8);
        assert_string_equal(buf_str(&ascii), cases[i].ascii);
        assert_true(smtp_utf8_address_decode(slice_of(cases[i].ascii), &back));
        assert_string_equal(buf_str(&back), cases[i].utf8);
        buf_free(&ascii);
        buf_free(&back);
    }
    for (unsigned n = 499; n <= 501; n++) { /* RFC 3461 section 5.4: 500 characters, the type with them */
        struct smtp_refusal why;
        struct smtp_rcpt r;

        snprintf(most, sizeof(most), "TO:<a@b.example> ORCPT=rfc822;%0*d", (int)n - 7, 0);
        assert_int_equal(smtp_parse_rcpt(slice_of(most), &r, &why), n <= 500);
    }
    for (unsigned n = 99; n <= 101; n++) {
        struct smtp_refusal why;
        struct smtp_mail m;

        snprintf(most, sizeof(most), "FROM:<a@b.example> ENVID=%0*d", (int)n, 0);
        assert_int_equal(smtp_parse_mail(slice_of(most), &m, &why), n <= 100);
    }
}

static void test_helo(void **unused)
{
    static const struct {
        const char *in;
        bool ok;
    } cases[] = {
        {"client.example",     true },
        {"localhost",          true },
        {"[192.0.2.1]",        true },
        {"[IPv6:2001:db8::1]", true },
        {"under_score",        true },
        {"",                   false},
        {"a b",                false},
        {"a(b",                false},
        {"<a>",                false},
        {"a\x01"
         "b",         false},
        {"a\"b",               false},
        {"a;b",                false},
    };
    char out[256];

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++)
        assert_int_equal(smtp_parse_helo(slice_of(cases[i].in), out, sizeof(out)), cases[i].ok);
    assert_false(smtp_parse_helo((struct slice){"a\0b", 3}, out, sizeof(out)));
}

static void test_xtext(void **unused)
{
    char out[16];
    AUTO(buf) struct buf b = BUF_INIT(100);

    (void)unused;
    assert_int_equal(smtp_xtext_decode(slice_of("a+2Bb+3D"), out, sizeof(out)), 4);
    assert_string_equal(out, "a+b=");
    assert_int_equal(smtp_xtext_decode(slice_of("+2b"), out, sizeof(out)), -1);
    assert_int_equal(smtp_xtext_decode(slice_of("a+2"), out, sizeof(out)), -1);
    assert_int_equal(smtp_xtext_decode(slice_of("a b"), out, sizeof(out)), -1);
    assert_int_equal(smtp_xtext_decode(slice_of("1234567890123456"), out, sizeof(out)), -1);
    smtp_xtext_encode(&b, "a+b=c d\xc3");
    assert_string_equal(buf_str(&b), "a+2Bb+3Dc+20d+C3");
}

static void test_replies(void **unused)
{
    static const struct {
        const char *lines[4];
        enum smtp_reply_state state; /* after the last line */
        int code;
        const char *enhanced, *text;
    } cases[] = {
        {{"250 2.1.0 ok"},                                  SMTP_REPLY_DONE, 250, "2.1.0", "ok"                           },
        {{"250"},                                           SMTP_REPLY_DONE, 250, "",      ""                             },
        {{"250-mail.example", "250-SIZE 1000", "250 HELP"},
         SMTP_REPLY_DONE,                                                    250,
         "",                                                                               "mail.example\nSIZE 1000\nHELP"},
        {{"550-5.1.1 no such", "550 5.1.1 user"},           SMTP_REPLY_DONE, 550, "5.1.1", "no such\nuser"                },
        {{"550 #5.1.0 Address rejected."},                  SMTP_REPLY_DONE, 550, "",      "#5.1.0 Address rejected."     },
        {{"450 5.1.1 wrong class"},                         SMTP_REPLY_DONE, 450, "",      "5.1.1 wrong class"            },
        {{"250 2.1.0"},                                     SMTP_REPLY_DONE, 250, "2.1.0", ""                             },
        {{"250 2.1.0x"},                                    SMTP_REPLY_DONE, 250, "",      "2.1.0x"                       },
        {{"250 2.1234.0 x"},                                SMTP_REPLY_DONE, 250, "",      "2.1234.0 x"                   },
        {{"250-a", "251 b"},                                SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{"250-a"},                                         SMTP_REPLY_MORE, 250, "",      "a"                            },
        {{"25"},                                            SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{"190 x"},                                         SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{"650 x"},                                         SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{"250_x"},                                         SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{"HTTP/1.1 400"},                                  SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
        {{""},                                              SMTP_REPLY_BAD,  0,   NULL,    NULL                           },
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct smtp_reply r = {0};
        enum smtp_reply_state state = SMTP_REPLY_MORE;

        for (size_t n = 0; n < 4 && cases[i].lines[n]; n++) {
            assert_int_equal(state, SMTP_REPLY_MORE);
            state = smtp_reply_feed(&r, slice_of(cases[i].lines[n]));
        }
        if (state != cases[i].state)
            fail_msg("%s: state %d", cases[i].lines[0], state);
        if (state == SMTP_REPLY_BAD)
            continue;
        assert_int_equal(r.code, cases[i].code);
        assert_string_equal(r.enhanced, cases[i].enhanced);
        assert_string_equal(r.text, cases[i].text);
    }
}

static void test_endless_reply(void **unused)
{
    struct smtp_reply r = {0};
    char line[900];
    int n = 0;

    (void)unused;
    memset(line, 'x', sizeof(line));
    memcpy(line, "250-", 4);
    while (smtp_reply_feed(&r, (struct slice){line, sizeof(line)}) == SMTP_REPLY_MORE)
        assert_true(++n < 1000);
    assert_int_equal(strlen(r.text), sizeof(r.text) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),         cmocka_unit_test(test_path_parts),
        cmocka_unit_test(test_split),         cmocka_unit_test(test_mail),
        cmocka_unit_test(test_rcpt),          cmocka_unit_test(test_utf8_address), cmocka_unit_test(test_helo),
        cmocka_unit_test(test_xtext),         cmocka_unit_test(test_replies),
        cmocka_unit_test(test_endless_reply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
