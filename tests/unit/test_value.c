/* Field types: what is accepted, how it is written back, what the refusal says; and the rules named
 * in schema/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/config.h"

static const struct case_ {
    const char *section, *field, *text;
    const char *shown; /* NULL: refused */
    const char *why; /* part of the refusal */
} cases[] = {
    {"listener",       "port",               "25",                                            "25",                                                                   NULL                                           },
    {"listener",       "port",               "0",                                             NULL,                                                                   "from 1 to 65535."                             },
    {"listener",       "port",               "65536",                                         NULL,                                                                   "The value must be an integer from 1 to 65535."},
    {"listener",       "port",               "-1",                                            NULL,                                                                   "integer"                                      },
    {"listener",       "port",               "25x",                                           NULL,                                                                   "integer"                                      },
    {"listener",       "port",               "",                                              NULL,                                                                   "integer"                                      },
    {"listener",       "port",               "99999999999999999999999999",                    NULL,                                                                   "integer"                                      },
    {"listener",       "max_message_size",   "20M",                                           "20M",                                                                  NULL                                           },
    {"listener",       "max_message_size",   "1024k",                                         "1M",                                                                   NULL                                           },
    {"listener",       "max_message_size",   "1500",                                          "1500",                                                                 NULL                                           },
    {"listener",       "max_message_size",   "1G",                                            "1024M",                                                                NULL                                           },
    {"listener",       "max_message_size",   "1000000000000G",                                NULL,
     "a size from 1k to 1024M. Add a trailing k"                                                                                                                                                                     },
    {"listener",       "max_message_size",   "20Q",                                           NULL,                                                                   "a size"                                       },
    {"listener",       "max_message_size",   "20MM",                                          NULL,                                                                   "a size"                                       },
    {"listener",       "max_rcpts_per_hour", "unlimited",                                     "unlimited",                                                            NULL                                           },
    {"listener",       "max_rcpts_per_hour", "0",                                             "unlimited",                                                            NULL                                           },
    {"destination",    "concurrency_limit",  "Default",                                       "default",                                                              NULL                                           },
    {"destination",    "concurrency_limit",  "1001",                                          NULL,                                                                   "from 1 to 1000, or \"default\"."              },
    {"listener_setup", "idle_timeout",       "90",                                            "90",                                                                   NULL                                           },
    {"listener_setup", "idle_timeout",       "300",                                           "5m",                                                                   NULL                                           },
    {"listener_setup", "idle_timeout",       "24H",                                           "1d",                                                                   NULL                                           },
    {"listener_setup", "idle_timeout",       "2d",                                            NULL,
     "a time from 10 to 1d. Add a trailing s, m, h or d"                                                                                                                                                             },
    {"bounce_profile", "send_bounces",       "Y",                                             "yes",                                                                  NULL                                           },
    {"bounce_profile", "send_bounces",       "off",                                           "no",                                                                   NULL                                           },
    {"bounce_profile", "send_bounces",       "perhaps",                                       NULL,                                                                   "choose one of: default, no, yes."              },
    {"log",            "alert_removed",      "perhaps",                                       NULL,                                                                   "yes or no"                                    },
    {"log",            "alert_removed",      "Y",                                             "yes",                                                                  NULL                                           },
    {"destination",    "use_tls",            "REQUIRE",                                       "require",                                                              NULL                                           },
    {"destination",    "use_tls",            "Preferred",                                     "on",                                                                   NULL                                           },
    {"destination",    "use_tls",            "requird",                                       NULL,
     "Unknown value \"requird\"; choose one of: default, off, on, require, on_verify, require_verify, "
     "require_hosted_verify."                                                                                                                                          },
    {"destination",    "domain",             "Example.COM",                                   "example.com",                                                          NULL                                           },
    {"destination",    "domain",             ".Example.com.",                                 ".example.com",                                                         NULL                                           },
    {"destination",    "domain",
     "b\xc3\xbc"
     "cher.example",                                                                          "xn--bcher-kva.example",                                                NULL                                           },
    {"destination",    "domain",             "exa mple.com",                                  NULL,                                                                   "letters, digits"                              },
    {"destination",    "domain",             "[192.0.2.1]",                                   "[192.0.2.1]",                                                          NULL                                           },
    {"destination",    "domain",             "[192.0.2]",                                     NULL,                                                                   "must be a domain"                             },
    {"destination",    "domain",             "",                                              NULL,                                                                   "A value is required."                         },
    {"destination",    "domain",             "all",                                           NULL,                                                                   "Use the entry \"default\""                    },
    {"smtp_route",     "domain",             "all",                                           "ALL",                                                                  NULL                                           },
    {"smtp_route",     "hosts",              "mx1.example.com , [10.0.0.1]:2525,10.0.0.2:26",
     "mx1.example.com, [10.0.0.1]:2525, 10.0.0.2:26",                                                                                                                 NULL                                           },
    {"smtp_route",     "hosts",              "mx1.example.com:0",                             NULL,                                                                   "USEDNS or /dev/null"                          },
    {"smtp_route",     "hosts",              "300.1.1.1",                                     NULL,                                                                   "USEDNS or /dev/null"                          },
    {"smtp_route",     "hosts",              "[mx1.example.com",                              NULL,                                                                   "USEDNS or /dev/null"                          },
    {"smtp_route",     "hosts",              "[2001:db8::1]:25, a.example, a.example",        "[2001:db8::1]:25, a.example",
     NULL                                                                                                                                                                                                            },
    {"smtp_route",     "hosts",              " , ",                                           NULL,                                                                   "A value is required."                         },
    {"system",         "hostname",           "Mail3.Example.com",                             "mail3.example.com",                                                    NULL                                           },
    {"system",         "hostname",           "mail3",                                         NULL,                                                                   "fully qualified"                              },
    {"system",         "hostname",           "192.0.2.1",                                     NULL,                                                                   "fully qualified"                              },
    {"system",         "admin_address",      "",                                              "",                                                                     NULL                                           },
    {"system",         "admin_address",      "joe@[192.0.2.1]",                               "joe@[192.0.2.1]",                                                      NULL                                           },
    {"system",         "admin_address",      "joe",                                           NULL,                                                                   "email address"                                },
    {"listener",       "name",               "In-bound_1.x",                                  "In-bound_1.x",                                                         NULL                                           },
    {"listener",       "name",               "a/b",                                           NULL,                                                                   "must begin with"                              },
    {"listener",       "name",               "-x",                                            NULL,                                                                   "must begin with"                              },
    {"listener",       "name",               "abcdefghijklmnopqrstuvwxyz1234567",             NULL,                                                                   "33 characters; at most 32"                    },
    {"mail_policy",    "name",               "$ACCEPTED",                                     NULL,                                                                   "without \"$\""                                },
    {"listener",       "address",            "::",                                            "::",                                                                   NULL                                           },
    {"listener",       "address",            "127.0.0",                                       NULL,                                                                   "IP address such as"                           },
    {"listener",       "default_domain",     "example.com",                                   "example.com",                                                          NULL                                           },
    {"listener",       "default_domain",     "com",                                           NULL,                                                                   "domain name such as"                          },
    {"sender_group",   "hosts",
     "10.1.1.0/24, 10.1.1.10-20, 10.2.3., 2001:db8::/32, .example.com, ALL",                  "10.1.1.0/24, 10.1.1.10-20, 10.2.3., 2001:db8::/32, .example.com, ALL", NULL                                           },
    {"sender_group",   "hosts",              "10.1.1.0/33",                                   NULL,                                                                   "prefix length"                                },
    {"sender_group",   "hosts",              "300.1.1.1",                                     NULL,                                                                   "300.1.1.1"                                    },
    {"sender_group",   "hosts",              "a b",                                           NULL,                                                                   "is not a host"                                },
    {"sender_group",   "comment",            "tab\there",                                     NULL,                                                                   "control characters"                           },
    {"sender_group",   "comment",            "\xff",                                          NULL,                                                                   "UTF-8"                                        },
    {"rcpt_access",    "address",            "postmaster@",                                   "postmaster@",                                                          NULL                                           },
    {"rcpt_access",    "address",            ".example.com",                                  ".example.com",                                                         NULL                                           },
    {"rcpt_access",    "address",            "joe@example.com",                               "joe@example.com",                                                      NULL                                           },
    {"rcpt_access",    "address",            "@example.com",                                  NULL,                                                                   "The value must be"                            },
    {"rcpt_access",    "address",            "ALL",                                           NULL,                                                                   "open relay"                                   },
    {"dns_domain",     "domain",             ".",                                             ".",                                                                    NULL                                           },
    {"dns_domain",     "domain",             "Corp.Example",                                  "corp.example",                                                         NULL                                           },
    {"dns_domain",     "domain",             ".example",                                      NULL,                                                                   "must be a domain"                             },
    {"dns_anchor",     "records",            "DS 1 5 1 0123456789abcdef0123456789abcdef01234567", "DS 1 5 1 0123456789abcdef0123456789abcdef01234567",                NULL                                           },
    {"dns_anchor",     "records",            "DS 1 5 2 0123456789abcdef0123456789abcdef01234567", NULL,                                                               "length"                                       },
    {"dns_anchor",     "records",            "DS 70000 5 1 00",                               NULL,                                                                   "looks like this"                              },
    {"dns_anchor",     "records",            "DNSKEY 257 4 8 AAAA",                           NULL,                                                                   "looks like this"                              },
    {"dns_anchor",     "records",            "trust me",                                      NULL,                                                                   "A trust anchor is"                            },
    {"dns_untrusted",  "expires",            "2027-13-01",                                    NULL,                                                                   "There is no day"                              },
    {"dns_untrusted",  "expires",            "2027-1-01",                                     NULL,                                                                   "must be a date"                               },
    {"dns_server",     "priority",           "100",                                           NULL,                                                                   "0 to 99"                                      },
    {"dns_domain",     "servers",            "192.0.2.1, 2001:db8::1@5353",                   "192.0.2.1, 2001:db8::1@5353",                                          NULL                                           },
    {"dns_domain",     "servers",            "192.0.2.1@0",                                   NULL,                                                                   "ADDRESS@PORT"                                 },
    {"certificate",    "certificate",        "a\r\nb\n",                                      "a\nb\n",                                                               NULL                                           },
    {"certificate",    "certificate",        "a\x01",                                         NULL,                                                                   "control characters"                           },
    {"certificate",    "private_key",        "-----BEGIN",                                    NULL,                                                                   "sealed"                                       },
    {"certificate",    "private_key",        "sealed:1:2",                                    "sealed:1:2",                                                           NULL                                           },
};

static void texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        const struct section *s = section_find(cases[i].section);
        struct row *r = row_new(s, NULL);
        struct err err = {0};
        bool ok = row_set(r, cases[i].field, cases[i].text, &err);

        if (ok != !!cases[i].shown)
            fail_msg("%s.%s = \"%s\": %s", cases[i].section, cases[i].field, cases[i].text,
                     ok ? "accepted" : err.text);
        if (ok)
            assert_string_equal(row_text(r, cases[i].field), cases[i].shown);
        else if (!strstr(err.text, cases[i].why))
            fail_msg("%s.%s = \"%s\" says: %s", cases[i].section, cases[i].field, cases[i].text,
                     err.text);
        row_free(&r);
    }
}

/* A refused value leaves the old one. */
static void refusal_changes_nothing(void **state)
{
    struct row *r = row_new(&section_listener, "A");

    (void)state;
    assert_false(row_set(r, "port", "x", NULL));
    assert_string_equal(row_text(r, "port"), "25");
    assert_false(row_set(r, "name", "a b", NULL));
    assert_string_equal(r->name, "A");
    row_free(&r);
}

/* Defaults pass their own rules, in every section. */
static void defaults_are_valid(void **state)
{
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < section_count(); i++) {
        const struct section *s = section_at(i);
        struct row *r = row_new(s, NULL);

        for (size_t k = 0; k < s->nfields; k++) {
            const struct field *f = &s->fields[k];

            if (f->required && (!f->deflt || !*f->deflt))
                continue;
            if (!value_check(f, row_slot(r, f), &err))
                fail_msg("%s.%s: %s", s->name, f->name, err.text);
            assert_non_null(f->label);
            assert_true(f->hidden || f->prompt);
            if (f->ref)
                assert_non_null(section_find(f->ref));
        }
        row_free(&r);
    }
}

static void batch_form_is_quoted(void **state)
{
    static const char *const texts[][2] = {
        {"plain",      "plain"          },
        {"",           "\"\""           },
        {"two words",  "\"two words\""  },
        {"a\"b\\c",    "\"a\\\"b\\\\c\""},
        {"a\nb",       "\"a\\nb\""      },
        {"a;b",        "\"a;b\""        },
        {"#x",         "\"#x\""         },
        {"-x",         "\"-x\""         },
        {"a=b",        "\"a=b\""        },
        {"10.0.0.0/8", "10.0.0.0/8"     },
    };

    (void)state;
    for (size_t i = 0; i < countof(texts); i++) {
        struct buf b = BUF_INIT(100);

        value_quote(texts[i][0], &b);
        assert_string_equal(buf_str(&b), texts[i][1]);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(refusal_changes_nothing),
        cmocka_unit_test(defaults_are_valid),
        cmocka_unit_test(batch_form_is_quoted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
