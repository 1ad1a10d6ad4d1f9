/* daemon/stats.c under a virtual clock: three versions of a counter, rates, the file. */
#include "daemon/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/buf.h"
#include "store/base/log.h"

static char home[] = "/tmp/postern-stats-XXXXXX";
static unsigned warnings;

static void count_warnings(enum log_level level, const char *text)
{
    (void)text;
    warnings += level == LOG_WARNING;
}

static int setup(void **unused)
{
    (void)unused;
    clock_set_virtual(SECONDS(1000), 1700000000000000);
    log_set_sink(count_warnings);
    return mkdtemp(home) ? 0 : -1;
}

static int teardown(void **unused)
{
    AUTO(buf) struct buf file = BUF_INIT(200);

    (void)unused;
    buf_printf(&file, "%s/counters", home);
    unlink(buf_str(&file));
    return rmdir(home);
}

static void start(void)
{
    assert_true(stats_start(home, NULL));
}

static void test_versions(void **unused)
{
    struct stats_value v;

    (void)unused;
    start();
    stats_add(STAT_INJ_MSGS, 3);
    stats_value(STAT_INJ_MSGS, &v);
    assert_int_equal(v.reset, 3);
    assert_int_equal(v.uptime, 3);
    assert_int_equal(v.lifetime, 3);
    assert_int_equal(stats_last_reset(), 0);
    stats_reset();
    assert_int_equal(stats_last_reset(), 1700000000000000);
    stats_add(STAT_INJ_MSGS, 4);
    stats_value(STAT_INJ_MSGS, &v);
    assert_int_equal(v.reset, 4);
    assert_int_equal(v.uptime, 7);
    assert_int_equal(v.lifetime, 7);
    assert_int_equal(stats_get(STAT_INJ_MSGS), 7);
    gauge_add(GAUGE_CONN_IN, 2);
    gauge_add(GAUGE_CONN_IN, -1);
    assert_int_equal(gauge_get(GAUGE_CONN_IN), 1);
    gauge_add(GAUGE_CONN_IN, -1);
    assert_string_equal(stats_name(STAT_FIVEXX_HARD_BOUNCED), "5xx_hard_bounced_recips");
    stats_stop();
}

/* The engine's second start: the process goes on here, so what was counted above counts twice. */
static void test_file(void **unused)
{
    struct stats_value v;

    (void)unused;
    start();
    stats_value(STAT_INJ_MSGS, &v);
    assert_int_equal(v.lifetime, 14);
    assert_int_equal(v.reset, 11);
    assert_int_equal(stats_last_reset(), 1700000000000000);
    stats_stop();
}

static void test_damaged_file(void **unused)
{
    AUTO(buf) struct buf name = BUF_INIT(200);
    struct stats_value v;
    FILE *f;

    (void)unused;
    buf_printf(&name, "%s/counters", home);
    f = fopen(buf_str(&name), "w");
    assert_non_null(f);
    fputs("inj_msgs 100 900\n\xff\xff garbage\nno_such_counter 5 5\n", f);
    fclose(f);
    warnings = 0;
    start();
    assert_int_equal(warnings, 1);
    stats_value(STAT_INJ_MSGS, &v);
    assert_int_equal(v.lifetime, 107);
    assert_int_equal(v.reset, 7); /* a reset that lies ahead is none */
    stats_stop();
}

static void test_rates(void **unused)
{
    (void)unused;
    start();
    stats_add(STAT_INJ_RECIPS, 100);
    clock_advance(SECONDS(5));
    stats_sample();
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 1), 6000);
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 5), 1200);
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 15), 400);
    for (int i = 0; i < 13; i++) {
        clock_advance(SECONDS(5));
        stats_sample();
    }
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 1), 0);
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 5), 1200);
    for (int i = 0; i < 200; i++) {
        clock_advance(SECONDS(5));
        stats_sample();
    }
    assert_int_equal(stats_rate(STAT_INJ_RECIPS, 15), 0);
    stats_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_damaged_file),
        cmocka_unit_test(test_rates),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
