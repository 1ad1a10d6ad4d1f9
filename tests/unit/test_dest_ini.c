/* test_dest_ini.c - INI files: their grammar, and the destination table in one. */
#include "store/dest_ini.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/check.h"
#include "store/ini.h"
#include "tests/unit/cm.h"

#define DEFAULT                                                                                    \
    "[DEFAULT]\nip_sort_pref = PREFER_V6\nmax_host_concurrency = 500\n"                            \
    "max_messages_per_connection = 50\nlimit_type = host\nlimit_apply = VG\ntable_tls = off\n"     \
    "bounce_validation = 0\nsend_tls_req_alert = 0\ncertificate = example.com\n"

static struct config *base;

static int set_up(void **state)
{
    struct config_edits e = {0};
    static const struct {
        const struct section *section;
        const char *name, *field, *value;
    } rows[] = {
        {&section_destination,       "default",     "use_tls",      "on"  },
        {&section_destination,       "old.example", "use_tls",      "on"  },
        {&section_destination_setup, "-",           "certificate",  "Demo"},
        {&section_certificate,       "Demo",        "request",      ""    },
        {&section_certificate,       "example.com", "request",      ""    },
        {&section_bounce_profile,    "Default",     "send_bounces", "yes" },
        {&section_bounce_profile,    "tls_failed",  "send_bounces", "yes" },
    };

    (void)state;
    for (size_t i = 0; i < countof(rows); i++) {
        struct row *r = row_new(rows[i].section, rows[i].name);

        assert_true(row_set(r, rows[i].field, rows[i].value, NULL));
        if (str_eq(rows[i].name, "default")) {
            row_set(r, "concurrency_limit", "500", NULL);
            row_set(r, "max_messages_per_connection", "50", NULL);
        }
        row_freeze(r);
        config_edits_put(&e, rows[i].section, rows[i].name, r);
    }
    base = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_free(&base);
    return 0;
}

/* What the reader sees, as "[section] key|value" lines; the sentence behind "!" ends it. */
static char *read_ini(const char *text, size_t n)
{
    struct buf out = BUF_INIT(1 << 16);
    struct err err = {0};
    enum ini_step step;
    struct ini in;

    ini_begin(&in, text, n);
    while ((step = ini_next(&in, &err)) != INI_END) {
        if (step == INI_SECTION)
            buf_printf(&out, "[%.*s]", (int)in.section.n, in.section.p);
        else if (step == INI_KEY)
            buf_printf(&out, "%.*s|%.*s;", (int)in.key.n, in.key.p, (int)in.value.n, in.value.p);
        else
            buf_printf(&out, "!%s", err.text);
        if (step == INI_ERROR)
            break;
    }
    return buf_take(&out);
}

static void lines_are_read(void **state)
{
    static const struct {
        const char *text, *seen;
    } cases[] = {
        {"",                                     ""                                                                },
        {"[a]\nk = v\n",                         "[a]k|v;"                                                         },
        {"\xef\xbb\xbf[ a ]\r\nk=v\r\nl: w",     "[a]k|v;l|w;"                                                     },
        {"# x\n; y\n\n  [a] ; note\n k =  a b ", "[a]k|a b;"                                                       },
        {"k = v # why\nl = v;w\nm = #\n",        "k|v;l|v;w;m|;"                                                   },
        {"[[192.0.2.1]]\nk=\n",                  "[[192.0.2.1]]k|;"                                                },
        {"k = a = b\n",                          "k|a = b;"                                                        },
        {"[a]\n[b\n",                            "[a]!Line 2: a section begins with \"[\" and must end with \"]\"."},
        {"[]\n",                                 "!Line 1: the section has no name."                               },
        {"[a] b\n",                              "!Line 1: there is something behind the \"]\" of a section."      },
        {"word\n",                               "!Line 1: this is neither [section] nor key = value."             },
        {"= v\n",                                "!Line 1: there is no key before the \"=\"."                      },
        {"k = \x1b[2J\n",                        "!Line 1: the line holds control characters or is not UTF-8."     },
        {"k = \xff\n",                           "!Line 1: the line holds control characters or is not UTF-8."     },
    };
    char *long_line = xmalloc(INI_MAX_LINE + 3), *seen;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        seen = read_ini(cases[i].text, strlen(cases[i].text));
        assert_string_equal(seen, cases[i].seen);
        free(seen);
    }
    seen = read_ini("k = a\0b\n", 8);
    assert_string_equal(seen, "!Line 1: the line holds control characters or is not UTF-8.");
    free(seen);
    memset(long_line, 'k', INI_MAX_LINE + 1);
    seen = read_ini(long_line, INI_MAX_LINE + 1);
    assert_string_equal(seen, "!Line 1: the line is too long.");
    free(seen);
    free(long_line);
}

/* The configuration after the import, or NULL and the sentence. */
static struct config *import(const char *text, struct err *err)
{
    struct config_edits e = {0};
    struct config *cfg = NULL;
    size_t entries = 0;

    *err = (struct err){0};
    if (dest_ini_import(text, strlen(text), base, &e, &entries, err))
        cfg = config_edit(base, e.items, e.n, 2);
    else
        assert_int_equal(err->code, E_INVALID);
    config_edits_free(&e);
    return cfg;
}

static void a_file_replaces_the_table(void **state)
{
    struct err err;
    struct config *cfg = import(
        DEFAULT
        "\n[example1.com]\nip_sort_pref = REQUIRE_v4\nrecipient_minutes = 60\n"
        "recipient_limit = 100\ntable_tls = Require_Verify\nlimit_apply = 1\n"
        "bounce_profile = tls_failed\nlimit_type = mxip\nTABLE_DANE = 2\ntable_mta_sts = on\n"
        "[.Example2.COM]\ntable_tls = 5\nbounce_validation = ON\n[c.example]\ntable_tls=required\n",
        &err);
    const struct destination *d, *sub;
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    AUTO(buf) struct buf again = BUF_INIT(1 << 20);
    struct config *twice;

    (void)state;
    assert_string_equal(err.text, "");
    assert_int_equal(config_count(cfg, &section_destination), 4);
    assert_null(config_row(cfg, &section_destination, "old.example"));
    d = CONFIG_GET(cfg, destination, "example1.com");
    assert_int_equal(d->ip_sort_pref, IP_REQUIRE_V4);
    assert_int_equal(d->recipient_limit, 100);
    assert_int_equal(d->use_tls, DEST_TLS_REQUIRED_VERIFY);
    assert_int_equal(d->limit_type, LIMIT_MXIP);
    assert_int_equal(d->limit_apply, LIMIT_VG);
    assert_int_equal(d->dane, DANE_MANDATORY);
    assert_int_equal(d->mta_sts, STS_ON);
    assert_string_equal(d->bounce_profile, "tls_failed");
    sub = CONFIG_GET(cfg, destination, ".example2.com");
    assert_int_equal(sub->use_tls, DEST_TLS_REQUIRED_HOSTED);
    assert_int_equal(sub->bounce_verification, SWITCH_ON);
    assert_int_equal(CONFIG_GET(cfg, destination, "c.example")->use_tls, DEST_TLS_REQUIRED);
    assert_int_equal(CONFIG_GET(cfg, destination, "default")->use_tls, DEST_TLS_NONE);
    assert_string_equal(CONFIG_SINGLE(cfg, destination_setup)->certificate, "example.com");
    assert_false(CONFIG_SINGLE(cfg, destination_setup)->send_tls_req_alert);

    dest_ini_export(cfg, &text); /* and back: the same */
    twice = import(buf_str(&text), &err);
    assert_string_equal(err.text, "");
    dest_ini_export(twice, &again);
    assert_string_equal(buf_str(&text), buf_str(&again));
    assert_int_equal(config_count(twice, &section_destination), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(row_equal(config_at(cfg, &section_destination, i),
                              config_at(twice, &section_destination, i)));
    }
    assert_non_null(strstr(buf_str(&text), "[DEFAULT]\nip_sort_pref = PREFER_V6\n"));
    assert_non_null(strstr(buf_str(&text), "\n[.example2.com]\ntable_tls = require_hosted_verify\n"
                                           "bounce_validation = on\n"));
    config_free(&twice);
    config_free(&cfg);
}

static void errors_name_section_key_and_fix(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"",
         "There is no section [DEFAULT]; add it with the values that the other sections inherit."},
        {"[a.example]\ntable_tls=on\n",
         "There is no section [DEFAULT]; add it with the values that the other sections inherit."},
        {"table_tls=on\n",                                                              "Line 1, table_tls: There must be a section such as [DEFAULT] or "
                           "[example.com] before it."                  },
        {"[DEFAULT]\ntable_tls=on\n",
         "Line 1, [DEFAULT], ip_sort_pref: [DEFAULT] must have this key; add it."                },
        {DEFAULT "[a.example]\nmax_host_concurrency = 5\n",
         "Line 11, [a.example], max_host_concurrency: It needs limit_type too; add it to this "
         "section."                                                                              },
        {DEFAULT "[a.example]\nmax_host_concurrency = 5\nlimit_type = 0\n",
         "Line 11, [a.example], max_host_concurrency: It needs limit_apply too; add it to this "
         "section."                                                                              },
        {DEFAULT "[a.example]\nrecipient_limit = 5\nlimit_type = 0\nlimit_apply = 0\n",
         "Line 11, [a.example], recipient_limit: It needs recipient_minutes too; add it to this "
         "section."                                                                              },
        {DEFAULT "[a.example]\nrecipient_minutes = 5\n",
         "Line 11, [a.example], recipient_minutes: It needs recipient_limit too; add it to this "
         "section."                                                                              },
        {DEFAULT "[a.example]\nrecipient_minutes = 61\n",
         "Line 12, [a.example], recipient_minutes: The value must be an integer from 1 to 60, or "
         "\"default\"."                                                                          },
        {DEFAULT "[a.example]\ncertificate = Demo\n",
         "Line 12, [a.example], certificate: It counts for all destinations; move it to "
         "[DEFAULT]."                                                                            },
        {DEFAULT "bounce_profile = tls_failed\n",
         "Line 11, [DEFAULT], bounce_profile: It may not stand in [DEFAULT]; name it in the "
         "sections of the domains."                                                              },
        {DEFAULT "[a.example]\nbounce_profile = none\n",
         "Line 12, [a.example], bounce_profile: There is no bounce profile \"none\"; create it "
         "with bounceconfig, or name another one."                                               },
        {DEFAULT "[a.example]\ntable_tls = maybe\n",
         "Line 12, [a.example], table_tls: \"maybe\" is not one of the values: 0 or off, 1 or on, "
         "2 or required, 3 or on_verify, 4 or require_verify, 5 or require_hosted_verify."       },
        {DEFAULT "[a.example]\ntable_tls = 6\n",
         "Line 12, [a.example], table_tls: \"6\" is not one of the values: 0 or off, 1 or on, 2 or "
         "required, 3 or on_verify, 4 or require_verify, 5 or require_hosted_verify."            },
        {DEFAULT "[a.example]\ntable_tls = on\ntable_tls = on\n",
         "Line 13, [a.example], table_tls: The key stands twice in this section; remove one."    },
        {DEFAULT "[a.example]\n[A.example]\n",
         "Line 12: The section [A.example] stands twice; remove one."                            },
        {DEFAULT "[a b]\n",
         "Line 11: [a b]: a b: a host name consists of letters, digits, hyphens and dots."       },
        {DEFAULT "[a.example]\ntable_tls =\n",
         "Line 12, [a.example], table_tls: There is no value behind the \"=\"."                  },
        {DEFAULT "[a.example]\ntable_dane = opportunistic\n",
         "[a.example], table_dane: It needs TLS, but table_tls is off; set table_tls to on or "
         "more, or table_dane to none."                                                          },
        {DEFAULT "table_mta_sts = 1\n",
         "[DEFAULT], table_mta_sts: It needs TLS, but table_tls is off; set table_tls to on or "
         "more, or table_mta_sts to off."                                                        },
        {DEFAULT "[a.example]\nspeed = 5\n",
         "Line 12, [a.example], speed: There is no such key; the keys are ip_sort_pref, "
         "max_host_concurrency, max_messages_per_connection, recipient_minutes, recipient_limit, "
         "limit_type, limit_apply, table_tls, table_dane, table_mta_sts, bounce_validation, "
         "bounce_profile."                                                                       },
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        assert_null(import(cases[i].text, &err));
        assert_string_equal(err.text, cases[i].sentence);
    }
}

/* What "default" comes to in the default entry is written out, and read back as no change. */
static void an_export_read_back_is_no_change(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    struct config *cfg;
    struct err err;

    (void)state;
    dest_ini_export(base, &text);
    assert_non_null(strstr(buf_str(&text), "ip_sort_pref = PREFER_V6\n"));
    assert_non_null(strstr(buf_str(&text),
                           "table_dane = none\ntable_mta_sts = off\nbounce_validation = off\n"));
    cfg = import(buf_str(&text), &err);
    assert_string_equal(err.text, "");
    for (size_t i = 0; i < config_count(base, &section_destination); i++)
        assert_true(row_equal(config_at(base, &section_destination, i),
                              config_at(cfg, &section_destination, i)));
    assert_true(row_equal(config_row(base, &section_destination_setup, "-"),
                          config_row(cfg, &section_destination_setup, "-")));
    config_free(&cfg);
}

static void what_the_file_does_not_name(void **state)
{
    struct err err;
    struct config *cfg;
    char *without = xstrdup(DEFAULT);

    (void)state;
    *strstr(without, "certificate") = '\0'; /* then the demonstration certificate serves */
    cfg = import(without, &err);
    assert_string_equal(err.text, "");
    assert_string_equal(CONFIG_SINGLE(cfg, destination_setup)->certificate, "Demo");
    assert_int_equal(config_count(cfg, &section_destination), 1);
    free(without);
    config_free(&cfg);

    cfg =
        import(DEFAULT "recipient_limit =\nrecipient_minutes =\n[a.example]\ntable_tls = default\n"
                       "bounce_profile = Default\n",
               &err);
    assert_string_equal(err.text, "");
    assert_int_equal(CONFIG_GET(cfg, destination, "a.example")->use_tls, DEST_TLS_DEFAULT);
    assert_string_equal(CONFIG_GET(cfg, destination, "a.example")->bounce_profile, "Default");
    config_free(&cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read),
        cmocka_unit_test(a_file_replaces_the_table),
        cmocka_unit_test(errors_name_section_key_and_fix),
        cmocka_unit_test(an_export_read_back_is_no_change),
        cmocka_unit_test(what_the_file_does_not_name),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
