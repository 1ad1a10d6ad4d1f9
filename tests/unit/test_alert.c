/* When an alert is said again, who gets it, what the mail looks like. Time is virtual. */
#include "daemon/alert_mail.h"
#include "daemon/alert_repeat.h"
#include "daemon/message.h"
#include "daemon/queue.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

#define WALL ((usec_t)1766361600 * 1000000)

/* Something happens every half second for ten minutes: the seconds at which it is said. */
static void said_at(const struct repeat_pace *pace, unsigned *out, unsigned n)
{
    struct repeat r = {0}, over;
    unsigned said = 0;

    for (msec_t t = 0; t <= SECONDS(600) && said < n; t += 500) {
        if (repeat_summary(&r, pace, t, &over))
            out[said++] = (unsigned)(t / 1000);
        if (said < n && repeat_happened(&r, pace, t, WALL + t * 1000))
            out[said++] = (unsigned)(t / 1000);
    }
    while (said < n)
        out[said++] = 9999;
}

static void test_growing_waits(void **unused)
{
    static const unsigned free_run[] = {0, 5, 15, 35, 75, 155, 315},
                          capped[] = {0, 5, 15, 35, 60, 120, 180};
    const struct repeat_pace paces[] = {
        {5, 100000},
        {5, 60    }
    };
    unsigned out[7];

    (void)unused;
    said_at(&paces[0], out, 7);
    assert_memory_equal(out, free_run, sizeof(out));
    said_at(&paces[1], out, 7);
    assert_memory_equal(out, capped, sizeof(out));
}

static void test_no_suppression(void **unused)
{
    const struct repeat_pace pace = {0, 3600};
    struct repeat r = {0};

    (void)unused;
    for (int i = 0; i < 5; i++)
        assert_int_equal(repeat_happened(&r, &pace, 1000, WALL), i ? REPEAT_AGAIN : REPEAT_FIRST);
    assert_int_equal(repeat_due(&r), NEVER);
    repeat_resume(&r, &pace, SECONDS(1), SECONDS(9000));
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(9001), WALL), REPEAT_AGAIN);
}

static void test_counts(void **unused)
{
    const struct repeat_pace pace = {10, 3600};
    struct repeat r = {0}, over;

    (void)unused;
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(100), WALL), REPEAT_FIRST);
    assert_int_equal(repeat_due(&r), NEVER);
    for (int i = 1; i <= 3; i++)
        assert_false(repeat_happened(&r, &pace, SECONDS(100 + i), WALL + i));
    assert_int_equal(repeat_due(&r), SECONDS(110));
    assert_false(repeat_summary(&r, &pace, SECONDS(110) - 1, &over));
    assert_true(repeat_summary(&r, &pace, SECONDS(110), &over));
    assert_int_equal(over.held, 3);
    assert_int_equal(over.first, WALL + 1);
    assert_int_equal(over.latest, WALL + 3);
    assert_false(repeat_summary(&r, &pace, SECONDS(111), &over));
}

/* The first wait ends at 110; until 210 it is the same story, after that a new one. */
static void test_quiet(void **unused)
{
    const struct repeat_pace pace = {10, 100};
    struct repeat r = {0};

    (void)unused;
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(100), WALL), REPEAT_FIRST);
    assert_false(repeat_over(&r, &pace, SECONDS(209)));
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(209), WALL),
                     REPEAT_AGAIN); /* the wait was over */
    assert_false(repeat_happened(&r, &pace, SECONDS(210), WALL));
    assert_int_equal(repeat_due(&r), SECONDS(300)); /* 10, 30, 70, 100, 200 */

    r = (struct repeat){0};
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(100), WALL), REPEAT_FIRST);
    assert_true(repeat_over(&r, &pace, SECONDS(210)));
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(210), WALL), REPEAT_FIRST);
    assert_false(repeat_happened(&r, &pace, SECONDS(219), WALL)); /* the first wait again */
    assert_int_equal(repeat_due(&r), SECONDS(220));
}

static void test_resumed(void **unused)
{
    const struct repeat_pace pace = {10, 3600};
    struct repeat r;

    (void)unused;
    repeat_resume(&r, &pace, SECONDS(100), SECONDS(100));
    assert_false(repeat_happened(&r, &pace, SECONDS(109), WALL));
    repeat_resume(&r, &pace, SECONDS(100), SECONDS(111));
    assert_false(repeat_happened(&r, &pace, SECONDS(129), WALL));
    assert_int_equal(repeat_due(&r), SECONDS(130));
    repeat_resume(&r, &pace, SECONDS(100), SECONDS(100));
    assert_int_equal(repeat_happened(&r, &pace, SECONDS(112), WALL), REPEAT_AGAIN);
}

/* --- recipients and mail --- */

struct object {
    const struct section *section;
    const char *name, *values; /* "field=value|field=value" */
};

static struct config *config_of(const struct object *o, size_t n)
{
    struct config_edit edits[8];
    struct config *c;

    for (size_t i = 0; i < n; i++) {
        struct row *r = row_new(o[i].section, o[i].name);
        AUTO(strlist) struct strlist values = {0};

        strlist_split(&values, o[i].values, '|');
        for (size_t k = 0; k < values.n; k++) {
            char *equals = strchr(values.items[k], '=');
            struct err err = {0};

            *equals = '\0';
            if (!row_set(r, values.items[k], equals + 1, &err))
                fail_msg("%s %s: %s", o[i].name, values.items[k], err.text);
        }
        row_freeze(r);
        edits[i] = (struct config_edit){o[i].section, r->name, r};
    }
    c = config_edit(NULL, edits, n, 1);
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    return c;
}

static const struct object nobody[] = {
    {&section_system, "-", "hostname=gw.example.com|admin_address=root@admin.example"},
};
static const struct object some[] = {
    {&section_system,          "-",                    "hostname=gw.example.com|admin_address=root@admin.example"},
    {&section_alert_recipient, "all@ops.example",      "classes=all|severities=all"                              },
    {&section_alert_recipient, "tls@mail.example",
     "classes=message-delivery|severities=critical, warning"                                                     },
    {&section_alert_recipient, "critical@ops.example",
     "classes=system, updater|severities=critical"                                                               },
    {&section_alert_setup,     "-",                    "from=\"Ops\" <ops@example.com>|subject=brackets"         },
};

static const char *recipients(const struct config *cfg, enum alert_class class,
                              enum alert_severity severity, const char *key, bool again)
{
    static char out[300];
    struct alert a = {
        .class = class, .severity = severity, .key = key, .text = "x", .again = again};
    AUTO(strlist) struct strlist to = {0};
    AUTO(buf) struct buf text = BUF_INIT(sizeof(out));

    alert_recipients(cfg, &a, &to);
    strlist_join(&to, " ", &text);
    str_copy(out, sizeof(out), buf_str(&text));
    return out;
}

static void test_recipients(void **unused)
{
    struct config *cfg = config_of(nobody, countof(nobody));

    (void)unused;
    assert_string_equal(recipients(cfg, ALERT_SYSTEM, ALERT_INFO, "x", false),
                        "root@admin.example");
    assert_string_equal(recipients(cfg, ALERT_SYSTEM, ALERT_INFO, "tls admin.example", false),
                        "root@admin.example");
    assert_string_equal(recipients(cfg, ALERT_SYSTEM, ALERT_INFO, "tls admin.example", true), "");
    config_free(&cfg);
    cfg = config_of(some, countof(some));
    assert_string_equal(recipients(cfg, ALERT_SYSTEM, ALERT_INFO, "x", false), "all@ops.example");
    assert_string_equal(recipients(cfg, ALERT_SYSTEM, ALERT_CRITICAL, "x", false),
                        "all@ops.example critical@ops.example");
    assert_string_equal(recipients(cfg, ALERT_DELIVERY, ALERT_WARNING, "x", false),
                        "all@ops.example tls@mail.example");
    assert_string_equal(recipients(cfg, ALERT_DELIVERY, ALERT_INFO, "x", false), "all@ops.example");
    /* who lives there hears of it once */
    assert_string_equal(recipients(cfg, ALERT_DELIVERY, ALERT_WARNING, "dane mail.example", false),
                        "all@ops.example tls@mail.example");
    assert_string_equal(recipients(cfg, ALERT_DELIVERY, ALERT_WARNING, "dane MAIL.example", true),
                        "all@ops.example");
    config_free(&cfg);
}

static void test_mail(void **unused)
{
    struct config *cfg = config_of(nobody, countof(nobody));
    struct alert a = {
        .class = ALERT_DELIVERY,
        .severity = ALERT_WARNING,
        .key = "dane partner.example",
        .text = "DANE verification failed for all MX hosts of the domain \"partner.example\".\n"
                "Host mx.partner.example: no record matched",
        .at = WALL};
    AUTO(strlist) struct strlist to = {0};
    AUTO(buf) struct buf mail = BUF_INIT(20000);
    char subject[512];

    (void)unused;
    setenv("TZ", "UTC", 1);
    strlist_add(&to, "a@ops.example");
    strlist_add(&to, "b@ops.example");
    alert_mail(cfg, &a, &to, 7, "ABC-1", &mail);
    assert_string_equal(
        buf_str(&mail),
        "From: \"Postern Alert\" <alert@gw.example.com>\r\n"
        "To: <a@ops.example>,\r\n"
        " <b@ops.example>\r\n"
        "Date: Mon, 22 Dec 2025 00:00:00 +0000\r\n"
        "Message-ID: <alert-7@gw.example.com>\r\n"
        "Subject: Warning <Message Delivery> gw.example.com: DANE verification failed for all MX "
        "hosts of the "
        "domain \"par...\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "\r\n"
        "The Warning message is:\r\n"
        "\r\n"
        "DANE verification failed for all MX hosts of the domain \"partner.example\".\r\n"
        "Host mx.partner.example: no record matched\r\n"
        "\r\n"
        "Product: Postern Secure Mail Gateway\r\n"
        "Version: 0.1.0\r\n"
        "Serial Number: ABC-1\r\n"
        "Timestamp: 22 Dec 2025 00:00:00 +0000\r\n"
        "\r\n"
        "\"displayalerts\" in the console shows the last alerts, \"alertconfig\" who gets "
        "them.\r\n");
    config_free(&cfg);

    cfg = config_of(some, countof(some));
    a.severity = ALERT_INFO;
    a.class = ALERT_SYSTEM;
    a.held = 12;
    a.first = WALL - 60000000;
    a.latest = WALL - 1000000;
    a.text = "M\xc3\xbcnchen is reachable again";
    buf_reset(&mail);
    alert_mail(cfg, &a, &to, 8, "ABC-1", &mail);
    assert_non_null(strstr(buf_str(&mail), "From: \"Ops\" <ops@example.com>\r\n"));
    assert_non_null(
        strstr(buf_str(&mail),
               "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nThe Info message is:"));
    assert_non_null(strstr(
        buf_str(&mail), "\r\n\r\nLast message occurred 12 times between Sun, 21 Dec 2025 23:59:00 "
                        "+0000 and Sun, 21 Dec 2025 23:59:59 +0000.\r\n"));
    alert_subject(cfg, &a, subject, sizeof(subject));
    assert_string_equal(subject, "[Info]-[gw.example.com]: (<System>) M??nchen is reachable again");
    config_free(&cfg);
}

/* Whatever the text is, no line of the mail is longer than SMTP allows, and nothing of it is lost.
 */
static void test_long_lines(void **unused)
{
    struct config *cfg = config_of(nobody, countof(nobody));
    AUTO(strlist) struct strlist to = {0};
    AUTO(buf) struct buf mail = BUF_INIT(60000);
    static char text[5001];
    struct alert a = {.severity = ALERT_CRITICAL, .key = "x", .text = text, .at = WALL};
    size_t xs = 0;

    (void)unused;
    memset(text, 'X', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    text[100] = text[2500] = ' ';
    strlist_add(&to, "a@ops.example");
    alert_mail(cfg, &a, &to, 7, "", &mail);
    for (const char *p = strstr(buf_str(&mail), "\r\n\r\nThe"), *end; *p; p = end + 2) {
        end = strstr(p, "\r\n");
        assert_true(end - p <= 998);
        for (const char *c = p; c < end; c++)
            xs += *c == 'X';
    }
    assert_int_equal(xs, 4998);
    config_free(&cfg);
}

/* Policy is found by the domain: who is written Ops@Partner.Example in alertconfig must not get in
 * clear what partner.example has to get encrypted. */
static void test_recipient_domains(void **unused)
{
    struct message *m = message_new();

    (void)unused;
    message_add_rcpt(m, "Ops@Partner.EXAMPLE", NULL, 0);
    assert_string_equal(m->rcpts[0].address, "Ops@partner.example");
    message_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing_waits), cmocka_unit_test(test_no_suppression),
        cmocka_unit_test(test_counts),        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_resumed),       cmocka_unit_test(test_recipients),
        cmocka_unit_test(test_mail),          cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_recipient_domains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
