/* What logs are about: the line of numbers, the times at which files are rolled over, the rules of their settings. */
#include "daemon/statuslog.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/logfile.h"
#include "store/base/str.h"
#include "store/rules.h"
#include "tests/unit/cm.h"

static void line_of_numbers(void **state)
{
    struct buf out = BUF_INIT(8000);
    static const char answer[] = "{\"gauges\":{\"cpu_utilization\":13,\"kbytes_used\":3948,\"log_available\":1649267441664},"
                                "\"counters\":{\"inj_msgs\":{\"reset\":7,\"uptime\":8,\"lifetime\":9}},"
                                "\"ids\":{\"message_id\":16981659}}";
    json_t *status = json_parse(answer, strlen(answer), NULL);
    const char *text;

    (void)state;
    assert_non_null(status);
    statuslog_line(status, &out);
    text = buf_str(&out);
    assert_memory_equal(text, "Status: CPULd 13 DskIO 0 RAMUtil 0 QKUsd 3948 ", 46);
    assert_non_null(strstr(text, " CrtMID 16981659 "));
    assert_non_null(strstr(text, " InjMsg 7 ")); /* since the last reset */
    assert_non_null(strstr(text, " FltrHrdBnc 0 "));
    assert_non_null(strstr(text, " LogAvail 1T"));
    assert_null(strchr(text, '\n'));
    json_decref(status);
    buf_free(&out);
}

static usec_t at(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    tm.tm_isdst = -1;
    return (usec_t)mktime(&tm) * 1000000;
}

static void times_on_the_wall(void **state)
{
    static const struct {
        const char *set, *from, *next;
    } cases[] = {
        {"00:00",     "2026-11-28 13:00:00", "2026-11-29 00:00:00"},
        {"13:00",     "2026-11-28 13:00:00", "2026-11-29 13:00:00"},
        {"13:01",     "2026-11-28 13:00:59", "2026-11-28 13:01:00"},
        {"Mon 03:30", "2026-11-28 13:00:00", "2026-11-30 03:30:00"}, /* a Saturday */
        {"Sat 12:00", "2026-11-28 13:00:00", "2026-12-05 12:00:00"},
        {"Sun 00:00", "2026-11-28 13:00:00", "2026-11-29 00:00:00"},
        {"23:59",     "2026-12-31 23:59:30", "2027-01-01 23:59:00"},
        {"02:30",     "2026-03-28 12:00:00", "2026-03-29 03:30:00"}, /* an hour that is left out: the one behind it */
    };

    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    for (size_t i = 0; i < countof(cases); i++) {
        struct logfile_subscription s = {.name = "x"};

        assert_true(rollover_time(cases[i].set, &s.roll_at, &s.roll_day));
        if (logfile_next_wall(&s, at(cases[i].from)) != at(cases[i].next))
            fail_msg("%s after %s", cases[i].set, cases[i].from);
    }
    unsetenv("TZ");
    tzset();
}

static void rules(void **state)
{
    static const char *const bad[] = {"24:00", "1:00", "12:60", "Mon", "Mon 1", "Foo 12:00", "12:00 ", "12-00", "Mon  2:00"};
    unsigned minute, day;

    (void)state;
    for (size_t i = 0; i < countof(bad); i++)
        assert_false(rollover_time(bad[i], &minute, &day));
    assert_true(rollover_time("sun 23:59", &minute, &day));
    assert_int_equal(minute, 23 * 60 + 59 + 1);
    assert_int_equal(day, 7);
    assert_true(check_syslog_host(NULL, "", NULL));
    assert_true(check_syslog_host(NULL, "2001:db8::1", NULL));
    assert_true(check_syslog_host(NULL, "loghost", NULL));
    assert_false(check_syslog_host(NULL, "a b", NULL));
    assert_true(check_header_name(NULL, "X-Mailer", NULL));
    assert_false(check_header_name(NULL, "X-Mailer:", NULL));
    assert_false(check_header_name(NULL, "X Mailer", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_of_numbers),
        cmocka_unit_test(times_on_the_wall),
        cmocka_unit_test(rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
