/* The cache of MTA-STS policies, on virtual time, with a DNS and a web server made of variables:
 * when it asks, what it keeps, what it forgets. */
#include "daemon/mta_sts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/http.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/state.h"
#include "store/config.h"
#include "store/factory.h"
#include "store/row.h"
#include "tests/unit/cm.h"

#define HOUR MINUTES(60)
#define DAY (24 * HOUR)
#define ENFORCE "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
#define TESTING "version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 604800\n"
#define NONE "version: STSv1\nmode: none\nmax_age: 604800\n"

/* --- the world outside --- */

static struct {
    const char *record; /* NULL: none */
    bool dns_fails;
    unsigned ttl;
    unsigned asked;
    const char *body; /* NULL: the web server fails */
    unsigned fetched;
    char url[400];
    struct wait *gate; /* the web server answers when it opens */
    unsigned alerts;
    uint64_t settings;
} world;

bool dns_txt(const char *name, msec_t deadline, struct dns_texts *out, struct err *err)
{
    assert_true(str_starts(name, "_mta-sts."));
    assert_true(deadline <= clock_in(SECONDS(10)));
    world.asked++;
    *out = (struct dns_texts){.ttl = world.ttl};
    if (world.dns_fails) {
        out->status = DNS_SERVFAIL;
        return err_set(err, E_DNS, "%s: the name server failed", name);
    }
    if (world.record)
        strlist_add(&out->texts, world.record);
    return true;
}

void dns_texts_free(struct dns_texts *t)
{
    strlist_free(&t->texts);
}

const char *dns_status_name(enum dns_status s)
{
    return s == DNS_SERVFAIL ? "ServFail" : "other";
}

bool http_get(const struct http_request *r, struct http_answer *out, struct err *err)
{
    world.fetched++;
    str_copy(world.url, sizeof(world.url), r->url);
    assert_string_equal(r->type, "text/plain");
    *out = (struct http_answer){.body = BUF_INIT(r->max_bytes)};
    if (world.gate && !wait_until(world.gate, r->deadline, "gate"))
        return err_set(err, E_TIMEOUT, "connection timeout");
    if (!world.body)
        return err_set(err, E_NET, "connection refused");
    buf_str_add(&out->body, world.body);
    return true;
}

uint64_t http_settings_id(void)
{
    return world.settings;
}

bool http_uses_proxy(void)
{
    return false;
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    (void)fmt;
    assert_int_equal(class, ALERT_DELIVERY);
    assert_int_equal(severity, ALERT_WARNING);
    assert_true(str_starts(key, "mta-sts"));
    world.alerts++;
}

/* Lines of the mail log, each as one letter. */
static char lines[10000];

static void line(char c)
{
    size_t n = strlen(lines);

    if (n < sizeof(lines) - 1) {
        lines[n] = c;
        lines[n + 1] = '\0';
    }
}

void maillog_sts_record_error(const char *domain)
{
    (void)domain;
    line('E');
}

void maillog_sts_record(const char *domain)
{
    (void)domain;
    line('r');
}

void maillog_sts_fetched(const char *domain)
{
    (void)domain;
    line('f');
}

void maillog_sts_fetch_failed(const char *domain)
{
    (void)domain;
    line('x');
}

void maillog_sts_paused(void)
{
    line('P');
}

void maillog_dns_failure(const char *name, const char *type, const char *what)
{
    assert_string_equal(name, "_mta-sts.example.com");
    assert_string_equal(type, "TXT");
    assert_string_equal(what, "ServFail");
    line('D');
}

bool maillog_wants_debug(void)
{
    return false;
}

void maillog_debug(const char *fmt, ...)
{
    line(str_starts(fmt, "Fetch ")                      ? '?'
         : str_starts(fmt, "Valid ")                    ? 'c'
         : str_starts(fmt, "MTA-STS Cache entry added") ? '+'
                                                        : '-');
}

/* --- helpers --- */

static char home[64];

static void start(void)
{
    struct err err = {0};

    assert_true(state_start(home, &err));
    assert_true(mta_sts_start(&err));
}

static void stop(void)
{
    mta_sts_stop();
    state_stop();
}

static int setup(void **state)
{
    (void)state;
    clock_set_virtual(SECONDS(1000000), INT64_C(1800000000000000));
    memset(&world, 0, sizeof(world));
    world.record = "v=STSv1; id=1;";
    world.body = ENFORCE;
    *lines = '\0';
    snprintf(home, sizeof(home), "/tmp/postern-unit.XXXXXX");
    if (!mkdtemp(home))
        return -1;
    start();
    return 0;
}

static int teardown(void **state)
{
    DIR *d = opendir(home);
    struct dirent *e;
    char path[400];

    (void)state;
    stop();
    while (d && (e = readdir(d))) {
        snprintf(path, sizeof(path), "%s/%s", home, e->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(home);
    return 0;
}

/* What a delivery would see; the policy's id behind the state's word. */
static const char *look(const char *domain)
{
    static char text[300];
    struct sts s;

    mta_sts_look_up(domain, clock_in(SECONDS(60)), &s);
    snprintf(text, sizeof(text), "%s%s%s%s", sts_state_word(s.state), s.policy ? " " : "",
             s.policy ? s.policy->id : "", s.cached ? " cached" : "");
    assert_true((s.policy != NULL) == (s.state >= STS_MODE_NONE));
    assert_true(s.policy || *s.why);
    sts_free(&s);
    return text;
}

#define LOOK(expected) assert_string_equal(look("example.com"), expected)
#define LINES(expected)                                                                            \
    do {                                                                                           \
        assert_string_equal(lines, expected);                                                      \
        *lines = '\0';                                                                             \
    } while (0)

/* --- tests --- */

static void a_policy_is_fetched_once(void **state)
{
    (void)state;
    LOOK("enforce 1");
    LINES("r?f+");
    assert_string_equal(world.url, "https://mta-sts.example.com/.well-known/mta-sts.txt");
    LOOK("enforce 1 cached");
    LINES("rc");
    assert_string_equal(look("EXAMPLE.com."), "enforce 1 cached");
    clock_advance(6 * DAY);
    LOOK("enforce 1 cached");
    assert_int_equal(world.fetched, 1);
    clock_advance(DAY); /* its time is over */
    LOOK("enforce 1");
    assert_int_equal(world.fetched, 2);
}

static void what_is_no_domain_has_no_policy(void **state)
{
    (void)state;
    assert_string_equal(look("[192.0.2.1]"), "no-record");
    assert_string_equal(look("192.0.2.1"), "no-record");
    assert_string_equal(look(""), "no-record");
    assert_int_equal(world.asked + world.fetched, 0);
    assert_string_equal(look("b\xc3\xbc"
                             "cher.example"),
                        "enforce 1");
    assert_string_equal(world.url, "https://mta-sts.xn--bcher-kva.example/.well-known/mta-sts.txt");
}

static void without_a_record_nothing_is_fetched(void **state)
{
    (void)state;
    world.record = NULL;
    LOOK("no-record");
    world.record = "v=STSv1; id=";
    LOOK("no-record");
    LINES("E-E");
    assert_int_equal(world.fetched, 0);
}

static void answers_of_the_dns_hold_for_their_ttl_and_a_minute_at_most(void **state)
{
    (void)state;
    world.ttl = 20;
    LOOK("enforce 1");
    LOOK("enforce 1 cached");
    assert_int_equal(world.asked, 1);
    clock_advance(SECONDS(20));
    world.ttl = 86400;
    LOOK("enforce 1 cached");
    assert_int_equal(world.asked, 2);
    world.record = "v=STSv1; id=2;";
    clock_advance(SECONDS(60));
    LOOK("enforce 2");
}

/* dnsflush: the record is asked for again, the policy stays. */
static void answers_of_the_dns_are_forgotten_by_name(void **state)
{
    static const struct {
        const char *flush;
        bool asks;
    } cases[] = {
        {"other.example",        false},
        {"ple",                  false},
        {"x.example.com",        false},
        {"Example.com",          true },
        {"_mta-sts.example.com", true },
        {"com",                  true },
        {".",                    true },
        {NULL,                   true },
    };

    (void)state;
    world.ttl = 60;
    LOOK("enforce 1");
    for (size_t i = 0; i < countof(cases); i++) {
        unsigned before = world.asked;

        mta_sts_flush_records(cases[i].flush);
        LOOK("enforce 1 cached");
        assert_int_equal(world.asked - before, cases[i].asks);
    }
}

static void another_id_fetches_again(void **state)
{
    (void)state;
    LOOK("enforce 1");
    world.record = "v=STSv1; id=2;";
    world.body = TESTING;
    LOOK("testing 2");
    LOOK("testing 2 cached");
    assert_int_equal(world.fetched, 2);
    world.record = "v=STSv1; id=3;";
    world.body = NONE;
    LOOK("none 3");
    LOOK("none 3 cached");
}

static void a_failure_keeps_the_policy_that_is_in_date(void **state)
{
    (void)state;
    LOOK("enforce 1");
    world.record = "v=STSv1; id=2;";
    world.body = NULL;
    *lines = '\0';
    LOOK("enforce 1");
    LINES("r?-x");
    assert_int_equal(world.alerts, 1); /* it cannot be renewed */
    LOOK("enforce 1 cached"); /* not asked again for five minutes */
    assert_int_equal(world.fetched, 2);
    clock_advance(MINUTES(5));
    world.body =
        "version: STSv1\nmode: enforce\nnmx: mx.example.com\nmax_age: 604800\n"; /* invalid is
                                                                                    failed */
    LOOK("enforce 1");
    assert_int_equal(world.fetched, 3);
    clock_advance(MINUTES(10));
    world.body = TESTING;
    LOOK("testing 2");
    world.body = NULL;
    world.record = "v=STSv1; id=3;";
    LOOK("testing 2");
    clock_advance(8 * DAY);
    LOOK("no-policy");
}

static void a_vanished_record_keeps_the_policy_until_it_ends(void **state)
{
    (void)state;
    LOOK("enforce 1");
    world.record = NULL;
    *lines = '\0';
    LOOK("enforce 1 cached");
    LINES("Ec");
    world.dns_fails = true;
    LOOK("enforce 1 cached");
    LINES("Dc");
    clock_advance(7 * DAY);
    world.dns_fails = false;
    LOOK("no-record");
    assert_int_equal(world.fetched, 1);
}

static void publish(const char *lookup_error)
{
    struct config *factory = factory_config(&(struct factory){
        .home = "/h", .hostname = "gw.example.com", .demo_cert = "", .demo_key = ""});
    struct row *r = row_new(&section_mta_sts_setup, "-");
    struct config_edit edit = {&section_mta_sts_setup, "-", r};
    struct config *cfg;

    assert_true(row_set(r, "lookup_error", lookup_error, NULL));
    cfg = config_edit(factory, &edit, 1, 2);
    reload_publish(cfg);
    config_free(&cfg);
    config_free(&factory);
    row_free(&r);
}

static void a_failed_record_lookup_is_remembered_for_a_minute(void **state)
{
    (void)state;
    publish("ignore");
    world.dns_fails = true;
    LOOK("no-record");
    LOOK("no-record");
    assert_int_equal(world.asked, 1);
    LINES("D");
    publish("defer");
    LOOK("failed");
    clock_advance(SECONDS(60));
    LOOK("failed");
    assert_int_equal(world.asked, 2);
    world.dns_fails = false;
    LOOK("failed");
    clock_advance(SECONDS(60));
    LOOK("enforce 1");
    publish("ignore");
}

static void the_pause_grows_to_a_day_for_each_id(void **state)
{
    static const unsigned minutes[] = {5, 10, 20, 40, 80, 160, 320, 640, 1440, 1440};

    (void)state;
    world.body = NULL;
    LOOK("no-policy");
    for (size_t i = 0; i < countof(minutes); i++) {
        clock_advance(MINUTES(minutes[i]) - 1);
        LOOK("no-policy");
        assert_int_equal(world.fetched, i + 1);
        clock_advance(1);
        LOOK("no-policy");
        assert_int_equal(world.fetched, i + 2);
        assert_int_equal(strchr(lines, 'P') != NULL, i >= 7); /* the ninth failure makes it a day */
    }
    assert_int_equal(world.alerts, 0);
    world.record = "v=STSv1; id=2;"; /* somebody has looked at it */
    LOOK("no-policy");
    assert_int_equal(world.fetched, countof(minutes) + 2);
    clock_advance(MINUTES(5));
    world.body = ENFORCE;
    LOOK("enforce 2");
}

static void other_settings_end_the_pause(void **state)
{
    (void)state;
    world.body = NULL;
    LOOK("no-policy");
    LOOK("no-policy");
    assert_int_equal(world.fetched, 1);
    world.settings++; /* the proxy is right now */
    world.body = ENFORCE;
    LOOK("enforce 1");
}

static void alerts_are_few_when_the_trouble_is_ours(void **state)
{
    char name[40];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "d%u.example", i);
        look(name);
    }
    world.body = NULL;
    for (int i = 0; i < 30 * 4; i++) {
        clock_advance(MINUTES(15));
        mta_sts_refresh_due();
    }
    assert_in_range(world.fetched, 400, 2000);
    assert_in_range(world.alerts, 20, 120); /* of hundreds */
}

static void policies_survive_a_restart(void **state)
{
    (void)state;
    LOOK("enforce 1");
    stop();
    clock_advance(DAY);
    world.body = NULL;
    world.dns_fails = true; /* nobody is there to ask */
    start();
    LOOK("enforce 1 cached");
    stop();
    clock_advance(6 * DAY);
    start();
    LOOK("no-record");
    assert_int_equal(world.fetched, 1);
}

static void what_was_fetched_in_the_future_is_from_now(void **state)
{
    (void)state;
    clock_advance(30 * DAY);
    LOOK("enforce 1");
    stop();
    clock_set_virtual(SECONDS(2000000), INT64_C(1800000000000000)); /* thirty days back */
    start();
    clock_advance(7 * DAY - 1);
    LOOK("enforce 1 cached");
    clock_advance(1);
    LOOK("enforce 1");
    assert_int_equal(world.fetched, 2);
}

/* How long until the next refresh, in hours. */
static int64_t refreshed_after(void)
{
    unsigned before = world.fetched;

    for (int64_t hours = 0; hours < 500; hours++) {
        mta_sts_refresh_due();
        if (world.fetched > before)
            return hours;
        clock_advance(HOUR);
    }
    return -1;
}

static void policies_are_renewed_daily(void **state)
{
    (void)state;
    LOOK("enforce 1");
    for (int i = 0; i < 20; i++) {
        int64_t hours = refreshed_after();

        assert_in_range(hours, 22, 27);
    }
    LOOK("enforce 1 cached"); /* weeks later: it never ended */
    world.record = "v=STSv1; id=2;";
    assert_in_range(refreshed_after(), 21, 27);
    LOOK("enforce 2 cached");
    world.record = NULL; /* the policy is still there: it keeps its id */
    assert_in_range(refreshed_after(), 21, 27);
    LOOK("enforce 2 cached");
    assert_int_equal(world.alerts, 0);
}

static void short_policies_are_renewed_before_they_end(void **state)
{
    (void)state;
    world.body = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 36000\n";
    LOOK("enforce 1");
    for (int i = 0; i < 20; i++)
        assert_in_range(refreshed_after(), 6, 8);
    LOOK("enforce 1 cached");
}

static void a_failed_renewal_raises_an_alert_and_is_tried_again(void **state)
{
    (void)state;
    LOOK("enforce 1");
    world.body = NULL;
    assert_in_range(refreshed_after(), 22, 27);
    assert_int_equal(world.alerts, 1);
    assert_in_range(refreshed_after(), 1, 2);
    assert_in_range(refreshed_after(), 1, 3);
    assert_int_equal(world.alerts, 3);
    LOOK("enforce 1 cached");
    world.body = TESTING;
    assert_in_range(refreshed_after(), 2, 4);
    LOOK("testing 1 cached");
    assert_in_range(refreshed_after(), 21, 27);
    assert_int_equal(world.alerts, 3);
}

static void mode_none_is_neither_renewed_nor_alerted_about(void **state)
{
    (void)state;
    world.body = NONE;
    LOOK("none 1");
    world.record = "v=STSv1; id=2;";
    world.body = NULL;
    LOOK("none 1");
    assert_int_equal(world.fetched, 2);
    assert_int_equal(world.alerts, 0);
    assert_int_equal(refreshed_after(), -1);
}

static void unused_domains_are_dropped(void **state)
{
    unsigned before;

    (void)state;
    world.body = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 31557600\n";
    LOOK("enforce 1");
    for (int i = 0; i < 181 * 4; i++) {
        clock_advance(6 * HOUR);
        mta_sts_refresh_due();
    }
    before = world.fetched;
    assert_in_range(before, 150, 200);
    clock_advance(2 * DAY);
    mta_sts_refresh_due();
    assert_int_equal(world.fetched, before);
    world.dns_fails = true;
    LOOK("no-record");
    stop();
    start();
    LOOK("no-record");
}

static void a_policy_without_lifetime_serves_a_burst(void **state)
{
    (void)state;
    world.body = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 0\n";
    LOOK("enforce 1");
    for (int i = 0; i < 59; i++) {
        LOOK("enforce 1 cached");
        clock_advance(SECONDS(1));
    }
    assert_int_equal(world.fetched, 1);
    clock_advance(SECONDS(1));
    LOOK("enforce 1");
    assert_int_equal(refreshed_after(), -1);
}

/* --- many at once --- */

static unsigned got_policy, got_none;

static void one_message(void *arg)
{
    struct sts s;

    mta_sts_look_up("example.com", *(msec_t *)arg, &s);
    got_policy += s.state == STS_MODE_ENFORCE;
    got_none += s.state == STS_NO_POLICY;
    sts_free(&s);
}

static void many_messages_cause_one_fetch(void **state)
{
    struct loop *l = loop_new(0);
    msec_t soon, late;
    struct wait gate;

    (void)state;
    loop_settle(l);
    wait_init(&gate);
    world.gate = &gate;
    got_policy = got_none = 0;
    soon = clock_in(SECONDS(5));
    late = clock_in(SECONDS(50));
    for (int i = 0; i < 100; i++)
        fiber_spawn(l, "message", one_message, i < 10 ? &soon : &late);
    loop_settle(l);
    assert_int_equal(got_policy + got_none, 0);
    clock_advance(SECONDS(6));
    loop_settle(l);
    assert_int_equal(got_none, 10); /* they had no time */
    wait_done(&gate);
    loop_settle(l);
    assert_int_equal(got_policy, 90);
    assert_int_equal(world.fetched, 1);
    loop_free(&l);
    assert_int_equal(fiber_count(), 0);
}

static void a_gateway_that_stops_draws_no_conclusions(void **state)
{
    struct loop *l = loop_new(0);
    struct wait gate;
    msec_t late;

    (void)state;
    loop_settle(l);
    wait_init(&gate);
    world.gate = &gate;
    got_policy = got_none = 0;
    late = clock_in(SECONDS(50));
    fiber_spawn(l, "message", one_message, &late);
    loop_settle(l);
    fibers_stop();
    loop_settle(l);
    fibers_stop_undo();
    assert_int_equal(fiber_count(), 0);
    assert_int_equal(got_policy + got_none, 0); /* neither: the mail waits */
    loop_free(&l);
    world.gate = NULL;
    LOOK("enforce 1"); /* and the domain's web server is not to blame */
}

/* --- for the console --- */

static bool add_name(const struct sts_info *i, void *arg)
{
    buf_printf(arg, "%s:%s%s ", i->domain, i->policy ? sts_state_word(i->policy->mode) : "-",
               *i->failed_id ? "!" : "");
    return true;
}

static void list_is(const char *after, const char *expected)
{
    AUTO(buf) struct buf b = BUF_INIT(1000);

    mta_sts_list(after, add_name, &b);
    assert_string_equal(buf_str(&b), expected);
}

static void the_cache_can_be_listed_refreshed_and_flushed(void **state)
{
    struct err err = {0};

    (void)state;
    world.ttl = 60;
    look("b.example");
    look("a.example");
    world.body = NULL;
    look("c.example");
    world.record = NULL;
    LOOK("no-record");
    list_is(NULL, "a.example:enforce b.example:enforce c.example:-! ");
    list_is("a.example", "b.example:enforce c.example:-! ");
    world.record = "v=STSv1; id=2;";
    assert_false(mta_sts_refresh("a.example", clock_in(1000), &err));
    assert_string_equal(err.text, "connection refused");
    world.body = TESTING;
    world.alerts = 0;
    assert_true(mta_sts_refresh("A.example", clock_in(1000), &err));
    assert_string_equal(look("a.example"), "testing 2 cached");
    assert_true(mta_sts_refresh("c.example", clock_in(1000), &err)); /* whatever pause there is */
    assert_int_equal(mta_sts_flush("B.example"), 1);
    assert_int_equal(mta_sts_flush("b.example"), 0);
    assert_int_equal(mta_sts_flush("nobody.example"), 0);
    list_is(NULL, "a.example:testing c.example:testing ");
    stop();
    start();
    list_is(NULL, "a.example:testing c.example:testing ");
    clock_advance(8 * DAY);
    stop();
    start();
    list_is(NULL, "");
    look("a.example");
    look("c.example");
    assert_int_equal(mta_sts_flush(NULL), 2);
    list_is(NULL, "");
    stop();
    start();
    list_is(NULL, "");
    world.record = NULL;
    assert_false(mta_sts_refresh("a.example", clock_in(1000), &err));
    assert_int_equal(err.code, E_NOT_FOUND);
}

static bool count(const struct sts_info *i, void *arg)
{
    ++*(unsigned *)arg;
    (void)i;
    return true;
}

static void the_cache_is_bounded(void **state)
{
    char name[40];
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 50100; i++) {
        snprintf(name, sizeof(name), "d%u.example", i);
        assert_string_equal(look(name), "enforce 1");
        *lines = '\0';
        if (i == 50000) /* used: it outlives its neighbours */
            assert_string_equal(look("d5.example"), "enforce 1 cached");
    }
    mta_sts_list(NULL, count, &n);
    assert_int_equal(n, 50000);
    world.record = NULL;
    assert_string_equal(look("d5.example"), "enforce 1 cached");
    assert_string_equal(look("d50099.example"), "enforce 1 cached");
    world.dns_fails = true;
    stop();
    start();
    n = 0;
    mta_sts_list(NULL, count, &n);
    assert_int_equal(n, 50000);
}

/* Of a hostile sender whose bounces we deliver, say. */
static void long_policies_do_not_drive_out_others(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(STS_MAX_POLICY);
    char name[40];

    (void)state;
    assert_string_equal(look("example.com"), "enforce 1");
    buf_str_add(&text, ENFORCE);
    while (text.n + 6 <= STS_MAX_POLICY)
        buf_str_add(&text, "mx: a\n");
    world.body = buf_str(&text);
    for (int i = 0; i < 700; i++) {
        snprintf(name, sizeof(name), "d%d.example.net", i);
        assert_string_equal(look(name), "enforce 1");
    }
    world.fetched = 0;
    world.body = NULL;
    assert_string_equal(look("example.com"), "enforce 1 cached");
    assert_string_equal(look("d699.example.net"), "enforce 1 cached");
    assert_string_equal(look("d0.example.net"), "no-policy"); /* memory is bounded all the same */
}

static void domains_without_policy_are_bounded(void **state)
{
    char name[40];

    (void)state;
    world.body = NULL;
    world.ttl = 60;
    for (unsigned i = 0; i < 20010; i++) {
        snprintf(name, sizeof(name), "d%u.example", i);
        assert_string_equal(look(name), "no-policy");
        *lines = '\0';
    }
    assert_int_equal(world.asked, 20010);
    look("d20009.example");
    assert_int_equal(world.asked, 20010);
    look("d1.example");
    assert_int_equal(world.asked, 20011);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_policy_is_fetched_once),
        TEST(what_is_no_domain_has_no_policy),
        TEST(without_a_record_nothing_is_fetched),
        TEST(answers_of_the_dns_hold_for_their_ttl_and_a_minute_at_most),
        TEST(answers_of_the_dns_are_forgotten_by_name),
        TEST(another_id_fetches_again),
        TEST(a_failure_keeps_the_policy_that_is_in_date),
        TEST(a_vanished_record_keeps_the_policy_until_it_ends),
        TEST(a_failed_record_lookup_is_remembered_for_a_minute),
        TEST(the_pause_grows_to_a_day_for_each_id),
        TEST(other_settings_end_the_pause),
        TEST(alerts_are_few_when_the_trouble_is_ours),
        TEST(policies_survive_a_restart),
        TEST(what_was_fetched_in_the_future_is_from_now),
        TEST(policies_are_renewed_daily),
        TEST(short_policies_are_renewed_before_they_end),
        TEST(a_failed_renewal_raises_an_alert_and_is_tried_again),
        TEST(mode_none_is_neither_renewed_nor_alerted_about),
        TEST(unused_domains_are_dropped),
        TEST(a_policy_without_lifetime_serves_a_burst),
        TEST(many_messages_cause_one_fetch),
        TEST(a_gateway_that_stops_draws_no_conclusions),
        TEST(the_cache_can_be_listed_refreshed_and_flushed),
        TEST(the_cache_is_bounded),
        TEST(long_policies_do_not_drive_out_others),
        TEST(domains_without_policy_are_bounded),
    };

    return cmocka_run_group_tests_name("mta_sts", tests, NULL, NULL);
}
