/* test_expiry.c - when the end of a certificate is announced: a hundred days pass, with restarts in
 * between. */
#include "daemon/expiry.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/served.h"
#include "daemon/state.h"
#include "daemon/reload.h"
#include "store/base/buf.h"
#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"
#include "tests/unit/home.h"

#define HOUR (INT64_C(3600) * 1000000)
#define DAY (24 * HOUR)

static char *home;
static struct buf said = BUF_INIT(65536);
static usec_t now, start;

/* What the rest of the daemon would do. */
void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    static const char *const words[] = {
        [ALERT_CRITICAL] = "critical", [ALERT_WARNING] = "warning", [ALERT_INFO] = "info"};
    struct buf text = BUF_INIT(4000);
    va_list ap;

    assert_int_equal(class, ALERT_SYSTEM);
    assert_true(str_starts(key, "expiry "));
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    buf_printf(&said, "%lld %s %.*s\n", (long long)((now - start) / DAY), words[severity],
               (int)strcspn(buf_str(&text), "\n"), buf_str(&text));
    buf_free(&text);
}

void served_check_all(void)
{
}

struct config *running_config(void)
{
    return NULL;
}

static void add(struct config_edits *e, const struct section *s, const char *name,
                const char *field, const char *value, const char *field2, const char *value2)
{
    struct row *r = row_new(s, name);

    assert_true(row_set(r, field, value, NULL));
    if (field2)
        assert_true(row_set(r, field2, value2, NULL));
    row_freeze(r);
    config_edits_put(e, s, name, r);
}

static struct config *make(const char *mail, const char *unused, const char *ca, bool custom)
{
    struct config_edits e = {0};
    struct config *c;

    add(&e, &section_system, "-", "hostname", "gw.example.com", NULL, NULL);
    add(&e, &section_authority_setup, "-", "custom_list", custom ? "yes" : "no", NULL, NULL);
    add(&e, &section_certificate, "mail", "certificate", mail, NULL, NULL);
    add(&e, &section_certificate, "unused", "certificate", unused, NULL, NULL);
    add(&e, &section_listener, "InboundMail", "certificate", "Demo", "certificates", "mail");
    add(&e, &section_authority, "partner", "certificate", ca, NULL, NULL);
    add(&e, &section_authority, "off", "certificate", unused, "enabled", "no");
    c = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    return c;
}

static void restart(void)
{
    struct err err = {0};

    state_stop();
    expiry_forget();
    if (!state_start(home, &err) || !expiry_load(&err))
        fail_msg("%s", err.text);
}

static void a_hundred_days(void **state)
{
    struct test_cert mail = test_cert_named("mail.example", NULL, 0, 0, 100),
                     ca = test_cert_named("ca", NULL, 0, 1, 20);
    struct config *c = make(mail.cert, ca.cert, ca.cert, true);
    (void)state;

    start = clock_wall() - 60000000; /* the certificates were made a moment ago */
    buf_reset(&said);
    for (int hour = 0; hour <= 24 * 103; hour++) {
        now = start + hour * HOUR;
        expiry_look(c, now);
        if (hour % 101 == 0)
            restart();
    }
    assert_string_equal(
        buf_str(&said),
        "0 warning Your certificate authority \"partner\" will expire in 20 days.\n"
        "4 warning Your certificate authority \"partner\" will expire in 15 days.\n"
        "9 info Your certificate \"mail\" will expire in 90 days.\n"
        "14 warning Your certificate authority \"partner\" will expire in 5 days.\n"
        "15 warning Your certificate authority \"partner\" will expire in 4 days.\n"
        "16 warning Your certificate authority \"partner\" will expire in 3 days.\n"
        "17 warning Your certificate authority \"partner\" will expire in 2 days.\n"
        "18 warning Your certificate authority \"partner\" will expire in 1 day.\n"
        "19 warning Your certificate authority \"partner\" will expire in less than a day.\n"
        "20 critical The certificate authority \"partner\" has expired.\n"
        "39 info Your certificate \"mail\" will expire in 60 days.\n"
        "69 warning Your certificate \"mail\" will expire in 30 days.\n"
        "84 warning Your certificate \"mail\" will expire in 15 days.\n"
        "94 warning Your certificate \"mail\" will expire in 5 days.\n"
        "95 warning Your certificate \"mail\" will expire in 4 days.\n"
        "96 warning Your certificate \"mail\" will expire in 3 days.\n"
        "97 warning Your certificate \"mail\" will expire in 2 days.\n"
        "98 warning Your certificate \"mail\" will expire in 1 day.\n"
        "99 warning Your certificate \"mail\" will expire in less than a day.\n"
        "100 critical The certificate \"mail\" has expired.\n");
    config_free(&c);
    test_cert_free(&mail);
    test_cert_free(&ca);
}

static void the_clock_may_go_back(void **state)
{
    struct test_cert mail = test_cert_named("mail2.example", NULL, 0, 0, 50);
    struct config *c = make(mail.cert, mail.cert, mail.cert, false);
    (void)state;

    now = start = clock_wall();
    buf_reset(&said);
    expiry_look(c, now + 36 * DAY); /* the gateway was off: only the step it is at now */
    expiry_look(c, now);
    expiry_look(c, now + 40 * DAY);
    assert_string_equal(buf_str(&said),
                        "0 warning Your certificate \"mail\" will expire in 13 days.\n");
    config_free(&c);
    test_cert_free(&mail);
}

static void steps(void **state)
{
    static const struct {
        double days;
        int step;
    } cases[] = {
        {400,  EXPIRY_NONE},
        {91,   EXPIRY_NONE},
        {90.9, 90         },
        {90,   90         },
        {61,   90         },
        {60.5, 60         },
        {31,   60         },
        {30,   30         },
        {16,   30         },
        {15.9, 15         },
        {6,    15         },
        {5.9,  5          },
        {5,    5          },
        {1,    1          },
        {0.9,  0          },
        {0,    EXPIRY_OVER},
        {-3,   EXPIRY_OVER},
    };
    (void)state;

    for (size_t i = 0; i < countof(cases); i++)
        assert_int_equal(
            expiry_step(1700000000000000 + (usec_t)(cases[i].days * (double)DAY), 1700000000000000),
            cases[i].step);
}

static int set_up(void **state)
{
    if (home_make(state) != 0)
        return -1;
    home = ((struct home *)*state)->dir;
    return state_start(home, NULL) && expiry_load(NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    state_stop();
    expiry_forget();
    buf_free(&said);
    return home_drop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(a_hundred_days),
        cmocka_unit_test(the_clock_may_go_back),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
