/* test_exceptions.c - which exception counts when, and what is said of its end. Time is virtual. */
#include "daemon/exceptions.h"

#include <stdlib.h>
#include <time.h>

#include "store/base/str.h"
#include "store/check.h"
#include "tests/unit/cm.h"

static struct config *config_of(const char *const rows[][4], size_t n)
{
    struct config_edits e = {0};
    struct config *cfg;

    for (size_t i = 0; i < n; i++) {
        struct row *r = row_new(&section_tls_exception, rows[i][0]);

        assert_true(row_set(r, "kind", rows[i][1], NULL));
        assert_true(row_set(r, "target", rows[i][2], NULL));
        assert_true(row_set(r, "expires", rows[i][3], NULL));
        row_freeze(r);
        config_edits_put(&e, &section_tls_exception, rows[i][0], r);
    }
    cfg = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    return cfg;
}

static usec_t at(int year, int month, int day, int hour)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_isdst = -1};

    return (usec_t)mktime(&tm) * 1000000;
}

static const char *name_for(const struct config *cfg, int kind, const char *name, const char *ip,
                            usec_t when)
{
    struct addr a = {0};
    const struct tls_exception *e;

    if (ip)
        assert_true(addr_parse(ip, &a));
    e = exception_for(cfg, kind, name, ip ? &a : NULL, when);
    return e ? e->name : "";
}

static void targets_and_dates(void **state)
{
    static const char *const rows[][4] = {
        {"mx",    "no-dane",     "MX1.Partner.example", "2027-03-31"},
        {"below", "no-dane",     ".dead.example",       "2027-03-31"},
        {"sts",   "no-mta-sts",  "partner.example",     "2027-03-31"},
        {"net",   "no-tls",      "192.0.2.0/28",        "2027-03-31"},
        {"v6",    "require-tls", "2001:db8::1",         "2027-03-31"},
        {"old",   "no-tls",      "198.51.100.1",        "2027-03-01"},
    };
    static const struct {
        int kind;
        const char *name, *ip, *found;
    } cases[] = {
        {EXCEPTION_NO_DANE,    "mx1.partner.example", NULL,           "mx"   },
        {EXCEPTION_NO_DANE,    "mx2.partner.example", NULL,           ""     },
        {EXCEPTION_NO_DANE,    "a.b.dead.example",    NULL,           "below"},
        {EXCEPTION_NO_DANE,    "dead.example",        NULL,           ""     },
        {EXCEPTION_NO_DANE,    "xdead.example",       NULL,           ""     },
        {EXCEPTION_NO_MTA_STS, "Partner.Example",     NULL,           "sts"  },
        {EXCEPTION_NO_MTA_STS, "mx1.partner.example", NULL,           ""     },
        {EXCEPTION_NO_TLS,     NULL,                  "192.0.2.15",   "net"  },
        {EXCEPTION_NO_TLS,     NULL,                  "192.0.2.16",   ""     },
        {EXCEPTION_TLS,        "x.example",           "2001:db8::1",  "v6"   },
        {EXCEPTION_NO_TLS,     NULL,                  "2001:db8::1",  ""     },
        {EXCEPTION_NO_TLS,     NULL,                  "198.51.100.1", ""     },
        {EXCEPTION_NO_TLS,     "",                    NULL,           ""     },
    };
    struct config *cfg = config_of(rows, countof(rows));
    const struct tls_exception *next;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_string_equal(
            name_for(cfg, cases[i].kind, cases[i].name, cases[i].ip, at(2027, 3, 15, 12)),
            cases[i].found);
    /* through the last minute of the last day */
    assert_string_equal(
        name_for(cfg, EXCEPTION_NO_DANE, "mx1.partner.example", NULL, at(2027, 3, 31, 23)), "mx");
    assert_string_equal(
        name_for(cfg, EXCEPTION_NO_DANE, "mx1.partner.example", NULL, at(2027, 4, 1, 0)), "");
    assert_string_equal(name_for(cfg, EXCEPTION_NO_TLS, NULL, "198.51.100.1", at(2027, 3, 1, 9)),
                        "old");
    assert_int_equal(exceptions_in_force(cfg, at(2027, 3, 1, 12), &next), 6);
    assert_string_equal(next->name, "old");
    assert_int_equal(exceptions_in_force(cfg, at(2027, 3, 2, 12), &next), 5);
    assert_string_equal(next->expires, "2027-03-31");
    assert_int_equal(exceptions_in_force(cfg, at(2028, 3, 2, 12), &next), 0);
    assert_null(next);
    config_free(&cfg);
}

static void inbound(void **state)
{
    static const char *const rows[][4] = {
        {"broken", "no-tls",      "192.0.2.0/24",  "2027-03-31"},
        {"one",    "require-tls", "192.0.2.7",     "2027-03-31"},
        {"named",  "require-tls", ".bank.example", "2027-03-31"},
    };
    struct config *cfg = config_of(rows, countof(rows)), *none = config_of(rows, 0);
    struct config *nets = config_of(rows, 2);
    struct addr a, b, c;
    usec_t then = at(2027, 3, 15, 12);

    (void)state;
    addr_parse("192.0.2.1", &a);
    addr_parse("192.0.2.7", &b);
    addr_parse("203.0.113.1", &c);
    assert_int_equal(exception_inbound(cfg, TLS_PREFERRED, &a, NULL, then), TLS_OFF);
    assert_int_equal(exception_inbound(cfg, TLS_OFF, &b, NULL, then),
                     TLS_REQUIRED); /* both lists */
    assert_int_equal(exception_inbound(cfg, TLS_PREFERRED, &c, NULL, then), TLS_PREFERRED);
    assert_int_equal(exception_inbound(cfg, TLS_OFF, &c, "mx.bank.example", then), TLS_REQUIRED);
    assert_int_equal(exception_inbound(cfg, TLS_OFF, &c, "mx.bank.example", at(2027, 4, 1, 1)),
                     TLS_OFF);
    assert_int_equal(exception_inbound(none, TLS_PREFERRED, &a, NULL, then), TLS_PREFERRED);
    assert_true(exceptions_need_name(cfg));
    assert_false(exceptions_need_name(nets));
    assert_false(exceptions_need_name(none));
    config_free(&cfg);
    config_free(&none);
    config_free(&nets);
}

static void ends_are_said_once(void **state)
{
    const struct tls_exception e = {.expires = (char *)"2027-03-31"};
    static const struct {
        int month, day, left;
        enum exception_step step;
    } days[] = {
        {2, 28, 31, EXCEPTION_QUIET},
        {3, 23, 8,  EXCEPTION_QUIET},
        {3, 24, 7,  EXCEPTION_WEEK },
        {3, 25, 6,  EXCEPTION_QUIET},
        {3, 29, 2,  EXCEPTION_QUIET},
        {3, 30, 1,  EXCEPTION_DAY  },
        {3, 31, 0,  EXCEPTION_QUIET},
        {4, 1,  -1, EXCEPTION_OVER },
        {4, 2,  -2, EXCEPTION_QUIET},
    };
    enum exception_step said = EXCEPTION_QUIET;

    (void)state;
    for (size_t i = 0; i < countof(days); i++) {
        usec_t now = at(2027, days[i].month, days[i].day, 8);
        enum exception_step step = exception_step(&e, now, said);

        assert_int_equal(exception_days_left(&e, now), days[i].left);
        assert_int_equal(step, days[i].step);
        said = step ? step : said;
    }
    /* what slept through the week says the nearest thing only */
    assert_int_equal(exception_step(&e, at(2027, 3, 31, 8), EXCEPTION_QUIET), EXCEPTION_DAY);
    assert_int_equal(exception_step(&e, at(2028, 1, 1, 8), EXCEPTION_QUIET), EXCEPTION_OVER);
}

/* One target each, and the field an error is about. */
static void the_rules_of_targets(void **state)
{
    static const struct {
        const char *kind, *target;
        bool ok;
    } cases[] = {
        {"no-dane",     "mx.example.com", true },
        {"no-dane",     ".example.com",   true },
        {"no-dane",     "192.0.2.1",      false},
        {"no-dane",     "mx",             false},
        {"no-mta-sts",  "example.com",    true },
        {"no-mta-sts",  "192.0.2.0/24",   false},
        {"no-tls",      "192.0.2.0/24",   true },
        {"no-tls",      "2001:db8::/32",  true },
        {"no-tls",      "example.com",    true },
        {"no-tls",      "a b",            false},
        {"require-tls", ".example.com",   true },
        {"require-tls", "192.0.2.300",    false},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct row *r = row_new(&section_tls_exception, "x");
        struct check check = {.row = r};

        row_set(r, "kind", cases[i].kind, NULL);
        row_set(r, "target", cases[i].target, NULL);
        check_tls_exception_target(r, &check);
        if ((check.errors == 0) != cases[i].ok)
            fail_msg("%s %s", cases[i].kind, cases[i].target);
        check_free(&check);
        row_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_and_dates),
        cmocka_unit_test(inbound),
        cmocka_unit_test(ends_are_said_once),
        cmocka_unit_test(the_rules_of_targets),
    };

    setenv("TZ", "Europe/Zurich", 1); /* a night with 23 hours lies among the days */
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
