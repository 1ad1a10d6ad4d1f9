/* test_crl.c - when revocation lists are fetched, what is made of what comes, and what it means for
 * certificates: under a virtual clock, with a web server and a trust store that are functions. */
#include "daemon/crl.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/crl_source.h"
#include "daemon/fiber.h"
#include "daemon/http.h"
#include "daemon/reload.h"
#include "daemon/trust.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "tests/unit/cm.h"

#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* --- the rest of the daemon ------------------------------------------------------------------- */

static struct buf said = BUF_INIT(65536);
static struct loop *loop;
static usec_t start;

static long minutes_since_start(void)
{
    return (long)((clock_wall() - start) / MINUTE);
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(4000);
    va_list ap;

    (void)severity;
    assert_int_equal(class, ALERT_SYSTEM);
    assert_true(str_starts(key, "crl "));
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    buf_printf(&said, "%ld: %.*s\n", minutes_since_start(), (int)strcspn(buf_str(&text), "\n"),
               buf_str(&text));
}

static struct { /* the web server */
    const char *url;
    struct buf *body; /* NULL: 404 */
} web[4];
static struct buf asked = BUF_INIT(65536);

bool http_get(const struct http_request *r, struct http_answer *out, struct err *err)
{
    assert_true(r->plain && r->max_bytes >= CRL_MAX_DER && r->total > 0);
    buf_printf(&asked, "%ld %s\n", minutes_since_start(), r->url);
    *out = (struct http_answer){.body = BUF_INIT(r->max_bytes), .status = 200};
    for (size_t i = 0; i < countof(web) && web[i].url; i++)
        if (str_eq(web[i].url, r->url) && web[i].body) {
            buf_add(&out->body, web[i].body->p, web[i].body->n);
            return true;
        }
    return err_set(err, E_PROTOCOL, "the server answered with status 404");
}

static uint64_t settings = 1;

uint64_t http_settings_id(void)
{
    return settings;
}

static X509 *authority; /* the whole trust store */
static bool trusted = true;

STACK_OF(X509) * trust_by_subject(const X509_NAME *subject)
{
    STACK_OF(X509) *all = NULL;

    if (trusted && !X509_NAME_cmp(X509_get_subject_name(authority), subject)) {
        all = sk_X509_new_null();
        X509_up_ref(authority);
        sk_X509_push(all, authority);
    }
    return all;
}

/* --- certificates and lists ------------------------------------------------------------------- */

static EVP_PKEY *key;

static X509 *certificate(const char *cn, X509 *issuer, long serial)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    return x;
}

static int number;

/* from, until: hours from now; serial 0: nobody is revoked */
static struct buf list_of(X509 *issuer, long serial, int from, int until)
{
    X509_CRL *crl = X509_CRL_new();
    time_t now = (time_t)(clock_wall() / SECOND);
    ASN1_TIME *t = ASN1_TIME_adj(NULL, now, 0, from * 3600L);
    ASN1_INTEGER *n = ASN1_INTEGER_new();
    struct buf out = BUF_INIT(10000);
    unsigned char *der = NULL;
    int length;

    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer));
    X509_CRL_set1_lastUpdate(crl, t);
    ASN1_TIME_adj(t, now, 0, until * 3600L);
    X509_CRL_set1_nextUpdate(crl, t);
    ASN1_INTEGER_set(n, ++number);
    X509_CRL_add1_ext_i2d(crl, NID_crl_number, n, 0, 0);
    if (serial) {
        X509_REVOKED *r = X509_REVOKED_new();

        ASN1_INTEGER_set(n, serial);
        X509_REVOKED_set_serialNumber(r, n);
        X509_REVOKED_set_revocationDate(r, ASN1_TIME_adj(t, now, 0, 0));
        X509_CRL_add0_revoked(crl, r);
    }
    X509_CRL_sign(crl, key, EVP_sha256());
    length = i2d_X509_CRL(crl, &der);
    buf_add(&out, der, (size_t)length);
    OPENSSL_free(der);
    ASN1_INTEGER_free(n);
    ASN1_TIME_free(t);
    X509_CRL_free(crl);
    return out;
}

/* --- configurations --------------------------------------------------------------------------- */

static void put(struct config_edits *e, const struct section *s, const char *name,
                const char *const values[])
{
    struct row *r = row_new(s, name);

    for (size_t i = 0; values && values[i]; i += 2)
        assert_true(row_set(r, values[i], values[i + 1], NULL));
    row_freeze(r);
    config_edits_put(e, s, name, r);
}

#define VALUES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* one, two: settings of the sources of these names; NULL: there is none */
static void commit(const char *const setup[], const char *const one[], const char *const two[])
{
    struct config_edits e = {0};
    struct config *c;

    put(&e, &section_crl_setup, "-", setup);
    if (one)
        put(&e, &section_crl_source, "one", one);
    if (two)
        put(&e, &section_crl_source, "two", two);
    c = config_edit(NULL, e.items, e.n, 1);
    reload_crl.publish(NULL, c);
    config_free(&c);
    config_edits_free(&e);
}

/* As the fiber looks, a minute at a time. */
static void pass(usec_t time)
{
    for (usec_t end = clock_wall() + time; clock_wall() < end;) {
        clock_advance(MINUTES(1));
        crl_look(clock_wall());
        loop_settle(loop);
    }
}

static void look(void)
{
    crl_look(clock_wall());
    loop_settle(loop);
    crl_look(clock_wall());
    loop_settle(loop);
}

static enum crl_state state_now;

static void note_state(const struct crl_info *i, void *name)
{
    if (str_eq(i->name, name))
        state_now = i->state;
}

static const char *state_of(const char *name)
{
    state_now = CRL_DISABLED;
    crl_each(note_state, (void *)name);
    return crl_state_word(state_now);
}

static char why[200];

static bool chain_ok(X509 *leaf, X509 *middle)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool ok;

    sk_X509_push(chain, leaf);
    if (middle)
        sk_X509_push(chain, middle);
    sk_X509_push(chain, authority);
    ok = crl_chain_ok(CRL_OUTBOUND, chain, why, sizeof(why));
    sk_X509_free(chain);
    return ok;
}

static void set_clock(const char *date)
{
    struct tm tm = {0};

    strptime(date, "%Y-%m-%d %H:%M", &tm);
    start = (usec_t)timegm(&tm) * SECOND;
    clock_set_virtual(1000000, start);
}

static int begin(void **state)
{
    struct err err;
    (void)state;

    buf_reset(&said);
    buf_reset(&asked);
    memset(web, 0, sizeof(web));
    settings++;
    trusted = true;
    set_clock("2026-11-28 12:00");
    return !crl_start(&err);
}

static int end(void **state)
{
    AUTO(str) char *dir = home_file("crl");
    struct dirent *e;
    DIR *d = opendir(dir);
    (void)state;

    crl_stop();
    while (d && (e = readdir(d))) {
        AUTO(str) char *path = xasprintf("%s/%s", dir, e->d_name);

        unlink(path);
    }
    if (d)
        closedir(d);
    return 0;
}

/* --- the tests -------------------------------------------------------------------------------- */

static void is_next(ctype_choice schedule, const char *time, const char *now, const char *want)
{
    struct tm tm = {.tm_isdst = -1};
    time_t t;
    char got[40];

    strptime(now, "%Y-%m-%d %H:%M", &tm);
    t = (time_t)(crl_next_time(schedule, time, (usec_t)mktime(&tm) * SECOND) / SECOND);
    localtime_r(&t, &tm);
    strftime(got, sizeof(got), "%Y-%m-%d %H:%M", &tm);
    if (!str_eq(got, want))
        fail_msg("after %s at %s: %s, not %s", now, time, got, want);
}

static void the_schedule_is_local_time(void **state)
{
    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    is_next(CRL_DAILY, "01:00", "2026-11-28 00:59", "2026-11-28 01:00");
    is_next(CRL_DAILY, "01:00", "2026-11-28 01:00", "2026-11-29 01:00");
    is_next(CRL_DAILY, "01:00", "2026-12-31 23:00", "2027-01-01 01:00");
    is_next(CRL_WEEKLY, "23:59", "2026-11-28 12:00", "2026-11-29 23:59"); /* a Sunday */
    is_next(CRL_WEEKLY, "00:00", "2026-11-29 00:00", "2026-12-06 00:00");
    is_next(CRL_MONTHLY, "04:30", "2026-11-28 12:00", "2026-12-01 04:30");
    is_next(CRL_MONTHLY, "04:30", "2026-12-01 04:30", "2027-01-01 04:30");
    is_next(CRL_MONTHLY, "04:30", "2028-01-31 12:00", "2028-02-01 04:30");
    is_next(CRL_HOURLY, "99:15", "2026-11-28 12:14", "2026-11-28 12:15");
    is_next(CRL_HOURLY, "00:15", "2026-11-28 12:15", "2026-11-28 13:15");
    /* 02:30 does not exist on 2026-03-29, and exists twice on 2026-10-25. */
    is_next(CRL_DAILY, "02:30", "2026-03-29 00:10", "2026-03-29 03:30");
    is_next(CRL_DAILY, "02:30", "2026-03-29 03:30", "2026-03-30 02:30");
    is_next(CRL_DAILY, "02:30", "2026-10-24 12:00", "2026-10-25 02:30");
    is_next(CRL_DAILY, "03:30", "2026-10-25 01:00", "2026-10-25 03:30");
    setenv("TZ", "Australia/Lord_Howe", 1); /* half an hour */
    tzset();
    is_next(CRL_DAILY, "02:15", "2026-10-04 00:00", "2026-10-04 02:45");
    setenv("TZ", "Asia/Kathmandu", 1); /* 5:45 */
    tzset();
    is_next(CRL_HOURLY, "00:15", "2026-11-28 12:14", "2026-11-28 12:15");
    setenv("TZ", "UTC", 1);
    tzset();
    for (usec_t t = 0; t < 400 * DAY; t += 37 * MINUTE) /* always later, never later than due */
        for (int s = 0; s < 4; s++) {
            usec_t next = crl_next_time(s, "02:30", start + t) - start - t;

            assert_true(next > 0 && next <= (s == CRL_HOURLY   ? HOUR
                                             : s == CRL_DAILY  ? DAY
                                             : s == CRL_WEEKLY ? 7 * DAY
                                                               : 31 * DAY));
        }
}

static void a_list_comes_with_the_commit_and_then_by_schedule(void **state)
{
    struct buf first = list_of(authority, 0, 0, 96);
    (void)state;

    web[0].url = "http://x/a.crl";
    web[0].body = &first;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl", "time", "14:00"), NULL);
    assert_string_equal(state_of("one"), "missing");
    look();
    assert_string_equal(state_of("one"), "current");
    pass(26 * HOUR);
    assert_string_equal(buf_str(&asked),
                        "0 http://x/a.crl\n120 http://x/a.crl\n1560 http://x/a.crl\n");
    assert_string_equal(buf_str(&said), "");
    commit(VALUES("outbound", "yes"),
           VALUES("url", "http://x/a.crl", "time", "14:00", "auto_update", "no"), NULL);
    look(); /* changed: once more */
    buf_reset(&asked);
    pass(48 * HOUR);
    assert_string_equal(buf_str(&asked), "");
    buf_free(&first);
}

static void failures_are_repeated_ever_more_slowly_and_told(void **state)
{
    struct buf good = list_of(authority, 0, 0, 240);
    (void)state;

    web[0].url = "http://x/a.crl";
    web[0].body = &good;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl", "time", "13:00"), NULL);
    look();
    web[0].body = NULL;
    buf_reset(&asked);
    pass(5 * HOUR);
    assert_string_equal(
        buf_str(&asked),
        "60 http://x/a.crl\n65 http://x/a.crl\n75 http://x/a.crl\n95 http://x/a.crl\n"
        "135 http://x/a.crl\n195 http://x/a.crl\n255 http://x/a.crl\n");
    assert_true(
        str_starts(buf_str(&said), "65: CRL source \"one\": update failed")); /* two in a row */
    assert_string_equal(state_of("one"), "current"); /* the last good one */
    web[0].body = &good;
    buf_reset(&said);
    pass(HOUR);
    assert_string_equal(buf_str(&said), "315: CRL source \"one\" was updated again.\n");
    buf_free(&good);
}

static void settings_that_change_are_tried_at_once(void **state)
{
    struct buf good = list_of(authority, 0, 0, 240);
    (void)state;

    web[0].url = "http://x/a.crl";
    web[0].body = &good;
    trusted = false;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    look();
    assert_string_equal(state_of("one"), "missing");
    assert_non_null(strstr(buf_str(&said), "update failed"));
    trusted = true;
    look();
    assert_string_equal(state_of("one"), "missing"); /* it waits */
    settings++;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    look();
    assert_string_equal(state_of("one"), "current");
    trusted = false;
    crl_trust_changed();
    assert_string_equal(state_of("one"), "missing");
    trusted = true;
    crl_trust_changed();
    assert_string_equal(state_of("one"), "current");
    buf_free(&good);
}

static void revoked_certificates_are_refused_wherever_they_stand(void **state)
{
    X509 *leaf = certificate("leaf", authority, 5), *other = certificate("other", authority, 6),
         *middle = certificate("middle", authority, 5), *below = certificate("below", middle, 7);
    struct buf list = list_of(authority, 5, 0, 24);
    uint64_t id;
    (void)state;

    assert_true(running_crl_id() == 0);
    assert_true(chain_ok(leaf, NULL));
    web[0].url = "http://x/a.crl";
    web[0].body = &list;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    id = running_crl_id();
    assert_true(id != 0 && chain_ok(leaf, NULL)); /* nothing has come yet */
    look();
    assert_true(running_crl_id() != id);
    assert_false(chain_ok(leaf, NULL));
    assert_string_equal(why, "certificate revoked on 2026-11-28");
    assert_true(chain_ok(other, NULL));
    assert_string_equal(why, "");
    assert_false(chain_ok(below, middle));
    assert_string_equal(why, "certificate of the authority CN=middle revoked on 2026-11-28");
    id = running_crl_id();
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    look();
    assert_true(running_crl_id() == id); /* nothing changed */
    commit(VALUES("inbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    assert_true(running_crl_id() != id && chain_ok(leaf, NULL));
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl", "enabled", "no"), NULL);
    assert_true(chain_ok(leaf, NULL));
    X509_free(leaf);
    X509_free(other);
    X509_free(middle);
    X509_free(below);
    buf_free(&list);
}

static void what_an_outdated_list_means_is_a_setting(void **state)
{
    X509 *leaf = certificate("leaf", authority, 5), *other = certificate("other", authority, 6),
         *stranger = certificate("a stranger", leaf, 5);
    struct buf list = list_of(authority, 5, 0, 2), next;
    uint64_t id;
    (void)state;

    web[0].url = "http://x/a.crl";
    web[0].body = &list;
    commit(VALUES("outbound", "yes", "stale", "refuse"), VALUES("url", "http://x/a.crl"), NULL);
    assert_false(chain_ok(other, NULL));
    assert_string_equal(why, "revocation list \"one\" could not be fetched yet");
    assert_false(chain_ok(stranger, NULL)); /* who knows whose list it is */
    look();
    assert_true(chain_ok(other, NULL) && chain_ok(stranger, NULL));
    id = running_crl_id();
    pass(2 * HOUR);
    assert_true(running_crl_id() != id);
    assert_false(chain_ok(other, NULL));
    assert_string_equal(why, "revocation list \"one\" is outdated since 2026-11-28");
    assert_false(chain_ok(leaf, NULL));
    assert_true(str_starts(why, "certificate revoked"));
    assert_true(chain_ok(stranger, NULL)); /* not its business */
    assert_non_null(
        strstr(buf_str(&said), "120: The certificate revocation list \"one\" is outdated."));
    assert_non_null(strstr(buf_str(&asked), "120 http://x/a.crl\n")); /* unasked for */
    commit(VALUES("outbound", "yes", "stale", "accept"), VALUES("url", "http://x/a.crl"), NULL);
    assert_true(chain_ok(other, NULL));
    assert_false(chain_ok(leaf, NULL));
    next = list_of(authority, 0, 0, 24); /* it is forgiven */
    web[0].body = &next;
    pass(HOUR);
    assert_string_equal(state_of("one"), "current");
    assert_true(chain_ok(leaf, NULL));
    trusted = false;
    crl_trust_changed();
    commit(VALUES("outbound", "yes", "stale", "refuse"), VALUES("url", "http://x/a.crl"), NULL);
    assert_false(chain_ok(other, NULL));
    assert_string_equal(why, "the issuer of revocation list \"one\" is no longer trusted");
    X509_free(leaf);
    X509_free(other);
    X509_free(stranger);
    buf_free(&list);
    buf_free(&next);
}

static void the_better_one_of_two_lists_counts(void **state)
{
    struct buf stale = list_of(authority, 0, -10, -1), fresh = list_of(authority, 5, 0, 24),
               junk = BUF_INIT(100);
    X509 *leaf = certificate("leaf", authority, 5);
    (void)state;

    buf_str_add(&junk, "<html>");
    web[0].url = "http://x/a.crl";
    web[1].url = "http://x/b.crl";
    web[0].body = &stale;
    web[1].body = &fresh;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl", "url2", "http://x/b.crl"),
           NULL);
    look();
    assert_string_equal(state_of("one"), "current");
    assert_false(chain_ok(leaf, NULL));
    assert_string_equal(buf_str(&said), "");
    web[0].body = &junk;
    web[1].body = NULL;
    pass(DAY);
    assert_non_null(strstr(buf_str(&said), "update failed from primary and secondary URL"));
    assert_false(chain_ok(leaf, NULL));
    X509_free(leaf);
    buf_free(&stale);
    buf_free(&fresh);
    buf_free(&junk);
}

static void lists_are_kept_for_the_next_start(void **state)
{
    struct buf list = list_of(authority, 5, 0, 48);
    X509 *leaf = certificate("leaf", authority, 5);
    AUTO(str) char *path = home_file("crl/one.crl"), *half = home_file("crl/.new-one");
    struct stat st;
    FILE *f;
    (void)state;

    web[0].url = "http://x/a.crl";
    web[0].body = &list;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    look();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    crl_stop();
    f = fopen(half, "w");
    fclose(f);
    web[0].body = NULL;
    buf_reset(&asked);
    assert_true(crl_start(NULL));
    assert_int_equal(access(half, F_OK), -1);
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    assert_false(chain_ok(leaf, NULL)); /* before anything else happens */
    crl_stop();
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"), NULL);
    assert_string_equal(state_of("one"), "missing");
    look();
    assert_non_null(strstr(buf_str(&asked), "a.crl")); /* fetched at once */
    crl_tidy();
    assert_int_equal(access(path, F_OK), 0);
    commit(VALUES("outbound", "yes"), NULL, VALUES("url", "http://x/a.crl"));
    crl_tidy();
    assert_int_equal(access(path, F_OK), -1);
    X509_free(leaf);
    buf_free(&list);
}

static void sources_do_not_hinder_each_other(void **state)
{
    struct buf list = list_of(authority, 5, 0, 48);
    bool unchanged;
    struct err err = {0};
    (void)state;

    web[0].url = "http://x/b.crl";
    web[0].body = &list;
    commit(VALUES("outbound", "yes"), VALUES("url", "http://x/a.crl"),
           VALUES("url", "http://x/b.crl"));
    look();
    assert_string_equal(state_of("one"), "missing");
    assert_string_equal(state_of("two"), "current");
    assert_true(crl_update("two", &unchanged, &err));
    assert_true(unchanged);
    assert_false(crl_update("one", &unchanged, &err));
    assert_non_null(strstr(err.text, "status 404"));
    assert_false(crl_update("three", &unchanged, &err));
    assert_int_equal(err.code, E_NOT_FOUND);
    buf_free(&list);
}

static int set_up(void **state)
{
    static char home[] = "/tmp/postern-unit.XXXXXX";
    struct err err;
    (void)state;

    log_set_level(LOG_CRITICAL);
    setenv("TZ", "UTC", 1);
    tzset();
    if (!mkdtemp(home) || !home_set(home, &err))
        return -1;
    loop = loop_new(0);
    loop_settle(loop); /* this thread is its thread from now on */
    key = EVP_EC_gen("P-256");
    authority = certificate("Unit CA", NULL, 1);
    return 0;
}

static int tear_down(void **state)
{
    AUTO(str) char *dir = home_file("crl");
    (void)state;

    rmdir(dir);
    rmdir(home_dir());
    X509_free(authority);
    EVP_PKEY_free(key);
    loop_free(&loop);
    buf_free(&said);
    buf_free(&asked);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_schedule_is_local_time),
        TEST(a_list_comes_with_the_commit_and_then_by_schedule),
        TEST(failures_are_repeated_ever_more_slowly_and_told),
        TEST(settings_that_change_are_tried_at_once),
        TEST(revoked_certificates_are_refused_wherever_they_stand),
        TEST(what_an_outdated_list_means_is_a_setting),
        TEST(the_better_one_of_two_lists_counts),
        TEST(lists_are_kept_for_the_next_start),
        TEST(sources_do_not_hinder_each_other),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
