/* Records of delivery attempts: what goes in comes out, what repeats is stored once, and all of it
 * is bounded. */
#include "daemon/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/state.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"
#include "tests/unit/home.h"

#define NOW 1795300000000000ll
#define DAY (86400ll * 1000)

static void begin(struct home *h)
{
    struct err err = {0};

    if (!state_start(h->dir, &err) || !attempt_start(&err))
        fail_msg("%s", err.text);
}

static void end(void)
{
    attempt_stop();
    state_stop();
}

static int set_up(void **state)
{
    if (home_make(state))
        return -1;
    clock_set_virtual(1000, NOW);
    begin(*state);
    return 0;
}

static int tear_down(void **state)
{
    end();
    clock_set_real();
    return home_drop(state);
}

static json_int_t found_number;

static bool ask_number(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *s;

    (void)err;
    assert_int_equal(sqlite3_prepare_v2(db, arg, -1, &s, NULL), SQLITE_OK);
    found_number = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    return sqlite3_finalize(s) == SQLITE_OK;
}

static json_int_t number(const char *sql)
{
    struct err err = {0};

    assert_true(state_txn(ask_number, (void *)sql, &err));
    return found_number;
}

static json_t *find(uint64_t mid, const char *domain, unsigned limit)
{
    struct err err = {0};
    json_t *found = attempt_find(mid, domain, limit, &err);

    if (!found)
        fail_msg("%s", err.text);
    return found;
}

static struct trail one_host(const char *host)
{
    struct trail t = {0};
    struct tls_evidence e = {.level = DEST_TLS_PREFERRED,
                             .dane = DANE_OPPORTUNISTIC,
                             .dane_state = DANE_USABLE,
                             .sts_state = STS_MODE_ENFORCE};
    struct tls_verdict v = tls_verdict(&e);
    struct addr a;

    assert_true(addr_parse_port("192.0.2.1:25", 25, &a));
    trail_begin(&t);
    trail_add(&t, &(struct trail_host){.host = host,
                                       .addr = &a,
                                       .entry = "DEFAULT",
                                       .evidence = &e,
                                       .verdict = &v,
                                       .encrypted = true,
                                       .passed = TLS_CHECK_DANE,
                                       .protocol = "TLSv1.3",
                                       .cipher = "TLS_AES_256_GCM_SHA384",
                                       .matched = "3 1 1 00"});
    return t;
}

static void note(struct trail *t, uint64_t mid, const char *domain)
{
    attempt_note(t,
                 &(struct attempt){.mid = mid, .dcid = mid + 5, .domain = domain, .delivered = 1});
}

static void expect(const json_t *found, const char *text)
{
    char *is = json_text(found);

    assert_string_equal(is, text);
    free(is);
}

static void what_goes_in_comes_out(void **state)
{
    struct trail t = one_host("mx1.example");
    struct tls_evidence e = {.level = DEST_TLS_REQUIRED_HOSTED, .exempt = true};
    struct tls_verdict v = tls_verdict(&e);
    json_t *found;

    (void)state;
    note(&t, 7, "a.example");
    clock_advance(1500);
    trail_begin(&t);
    trail_add(&t, &(struct trail_host){.host = "mx2.example",
                                       .evidence = &e,
                                       .verdict = &v,
                                       .end = TRAIL_REFUSED,
                                       .why = "why not"});
    attempt_note(&t, &(struct attempt){.mid = 7,
                                       .domain = "a.example",
                                       .delivered = 1,
                                       .deferred = 2,
                                       .bounced = 3,
                                       .code = 451,
                                       .text = "later \x1b[2J"});
    found = find(7, NULL, 10);
    expect(found, "[{\"mid\":7,\"time\":\"2026-11-21T22:26:40Z\",\"time_us\":1795300000000000,"
                  "\"dcid\":12,\"domain\":"
                  "\"a.example\",\"delivered\":1,\"deferred\":0,\"bounced\":0,\"hosts\":[{\"host\":"
                  "\"mx1.example\",\"address\":"
                  "\"192.0.2.1:25\",\"entry\":\"DEFAULT\",\"level\":\"on\",\"dane\":"
                  "\"opportunistic\",\"dane_state\":\"usable\","
                  "\"sts_state\":\"enforce\",\"rule\":\"dane\",\"use\":\"must\",\"must\":[\"dane\"]"
                  ",\"passed\":[\"dane\"],"
                  "\"end\":\"used\",\"encrypted\":true,\"protocol\":\"TLSv1.3\",\"cipher\":\"TLS_"
                  "AES_256_GCM_SHA384\","
                  "\"matched\":\"3 1 1 00\"}]},"
                  "{\"mid\":7,\"time\":\"2026-11-21T22:26:41Z\",\"time_us\":1795300001500000,"
                  "\"domain\":\"a.example\","
                  "\"delivered\":1,\"deferred\":2,\"bounced\":3,\"code\":451,\"text\":\"later "
                  "\\\\x1B[2J\",\"hosts\":[{\"host\":"
                  "\"mx2.example\",\"level\":\"require_hosted_verify\",\"exempt\":true,\"rule\":"
                  "\"exempt\",\"use\":\"refuse\","
                  "\"end\":\"refused\",\"why\":\"why not\"}]}]");
    json_decref(found);
    trail_free(&t);
}

static void what_repeats_is_stored_once(void **state)
{
    struct trail t = one_host("mx.example"), same = one_host("mx.example");
    json_t *found;

    (void)state;
    for (uint64_t mid = 1; mid <= 4500; mid++)
        note(mid % 2 ? &t : &same, mid, mid % 3 ? "a.example" : "b.example");
    found = find(4321, NULL, 10);
    assert_int_equal(json_array_size(found), 1);
    assert_int_equal(json_int(json_array_get(found, 0), "dcid", 0), 4326);
    assert_string_equal(json_str(json_array_get(found, 0), "domain", ""), "a.example");
    json_decref(found);
    assert_int_equal(number("SELECT count(*) FROM attempt_trail"), 1);
    assert_int_equal(number("SELECT count(*) FROM attempt_block"), 5);
    assert_true(number("SELECT sum(length(records)) FROM attempt_block") < 4500 * 16);
    trail_free(&t);
    trail_free(&same);
}

static void newest_of_a_domain(void **state)
{
    struct trail t = one_host("mx.example");
    json_t *found;

    (void)state;
    for (uint64_t mid = 1; mid <= 2500; mid++)
        note(&t, mid, mid % 1000 ? "many.example" : "few.example");
    found = find(0, "few.example", 5);
    assert_int_equal(json_array_size(found), 2);
    assert_int_equal(json_int(json_array_get(found, 0), "mid", 0), 1000);
    assert_int_equal(json_int(json_array_get(found, 1), "mid", 0), 2000);
    json_decref(found);
    found = find(0, "many.example", 3);
    assert_int_equal(json_array_size(found), 3);
    assert_int_equal(json_int(json_array_get(found, 0), "mid", 0), 2498);
    assert_int_equal(json_int(json_array_get(found, 2), "mid", 0), 2500);
    json_decref(found);
    found = find(0, "none.example", 3);
    assert_int_equal(json_array_size(found), 0);
    json_decref(found);
    trail_free(&t);
}

static void records_survive_a_restart(void **state)
{
    struct trail t = one_host("mx.example");
    json_t *found;

    note(&t, 1, "a.example");
    end();
    begin(*state);
    t.id = 0; /* a trail belongs to a session, and sessions end before */
    note(&t, 2, "a.example");
    found = find(0, "a.example", 10);
    assert_int_equal(json_array_size(found), 2);
    for (size_t i = 0; i < 2; i++)
        assert_non_null(json_object_get(json_array_get(found, i), "hosts"));
    json_decref(found);
    assert_int_equal(number("SELECT count(*) FROM attempt_block"), 2);
    trail_free(&t);
}

/* A session that stays open for days must not name a trail that has been cleared away. */
static void long_sessions_store_their_trail_again(void **state)
{
    struct trail t = one_host("mx.example");

    (void)state;
    for (int hours = 0; hours < 5; hours++) {
        note(&t, 1, "a.example");
        clock_advance(MINUTES(61));
    }
    json_decref(find(1, NULL, 1));
    assert_int_equal(number("SELECT count(*) FROM attempt_trail"), 5);
    trail_free(&t);
}

static void old_records_go(void **state)
{
    struct trail t = one_host("mx.example");
    json_t *found;

    (void)state;
    for (uint64_t mid = 1; mid <= 1000; mid++)
        note(&t, mid, "old.example");
    clock_advance(29 * DAY);
    for (uint64_t mid = 1001; mid <= 2001; mid++)
        note(&t, mid, "new.example");
    json_decref(find(1, NULL, 1));
    assert_int_equal(number("SELECT count(*) FROM attempt_block"), 3);
    clock_advance(2 * DAY);
    for (uint64_t mid = 2001; mid <= 3002; mid++)
        note(&t, mid, "new.example");
    found = find(1, NULL, 1);
    assert_int_equal(json_array_size(found), 0);
    json_decref(found);
    found = find(2500, NULL, 1);
    assert_non_null(json_object_get(json_array_get(found, 0), "hosts"));
    json_decref(found);
    assert_int_equal(number("SELECT count(*) FROM attempt_trail"), 2);
    trail_free(&t);
}

static void trails_are_bounded(void **state)
{
    struct trail t = {0};
    char why[2001];
    json_t *found;

    (void)state;
    memset(why, 'x', 2000);
    why[2000] = '\0';
    trail_begin(&t);
    for (int i = 0; i < 30; i++)
        trail_add(&t, &(struct trail_host){
                          .host = "mx.example", .end = TRAIL_UNREACHABLE, .why = "no answer"});
    note(&t, 1, "many.example");
    trail_begin(&t);
    for (int i = 0; i < 30; i++)
        trail_add(&t,
                  &(struct trail_host){.host = "mx.example", .end = TRAIL_UNREACHABLE, .why = why});
    assert_true(t.text.n < TRAIL_MAX_TEXT);
    note(&t, 2, "long.example");
    found = find(1, NULL, 1);
    assert_int_equal(json_array_size(json_object_get(json_array_get(found, 0), "hosts")),
                     TRAIL_MAX_HOSTS);
    json_decref(found);
    found = find(2, NULL, 1);
    assert_int_equal(json_array_size(json_object_get(json_array_get(found, 0), "hosts")), 7);
    json_decref(found);
    for (unsigned i = 0; i < 5000; i++) { /* 78 MiB of trails that all differ */
        trail_begin(&t);
        snprintf(why, 20, "%u", i);
        why[strlen(why)] = 'x';
        for (int k = 0; k < 8; k++)
            trail_add(&t, &(struct trail_host){
                              .host = "mx.example", .end = TRAIL_UNREACHABLE, .why = why});
        note(&t, i, "long.example");
        if (i % 1000 == 0)
            json_decref(find(1, NULL, 1));
    }
    json_decref(find(1, NULL, 1));
    assert_true(number("SELECT sum(length(hosts)) FROM attempt_trail") <= 64 << 20);
    found = find(4999, NULL, 1);
    assert_int_equal(json_array_size(json_object_get(json_array_get(found, 0), "hosts")), 7);
    json_decref(found);
    trail_free(&t);
}

static bool damage(sqlite3 *db, void *arg, struct err *err)
{
    (void)err;
    return sqlite3_exec(db, arg, NULL, NULL, NULL) == SQLITE_OK;
}

static void damaged_rows_are_passed_over(void **state)
{
    struct trail t = one_host("mx.example");
    json_t *found;

    (void)state;
    note(&t, 5, "a.example");
    json_decref(find(5, NULL, 1));
    assert_true(state_txn(damage, (void *)"UPDATE attempt_trail SET hosts = '[{\"host\":'", NULL));
    assert_true(state_txn(
        damage,
        (void *)"INSERT INTO attempt_block VALUES (99, 1, 0, 100, x'ffffffffffffffffffffffff'),"
                " (98, 1, 0, 100, x'0a00000affffffff7f41'), (97, 1, 0, 100, x'')",
        NULL));
    found = find(5, NULL, 10);
    assert_int_equal(json_array_size(found), 1);
    assert_null(json_object_get(json_array_get(found, 0), "hosts"));
    json_decref(found);
    trail_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_goes_in_comes_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_repeats_is_stored_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(newest_of_a_domain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_survive_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_sessions_store_their_trail_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_records_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(trails_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_rows_are_passed_over, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
