/* The commit pipeline with parts of its own: what prepare refuses leaves no trace, what was written
 * but never published is published at the next start or taken back, abandoned candidates and
 * secrets go. */
#include "tests/unit/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_db.h"
#include "daemon/reload.h"
#include "store/text.h"
#include "tests/unit/home.h"

static struct home *home;
static int prepared, published, discarded;

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    (void)old;
    *state = &prepared;
    prepared++;
    (void)cfg;
    (void)err;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    assert_ptr_equal(state, &prepared);
    (void)cfg;
    published++;
}

static void discard(void *state)
{
    assert_ptr_equal(state, &prepared);
    discarded++;
}

static bool refuse_bad(const struct config *old, const struct config *cfg, void **state,
                       struct err *err)
{
    (void)old;
    (void)state;
    return !str_eq(CONFIG_SINGLE(cfg, system)->hostname, "bad.example") ||
           err_set(err, E_BUSY, "the port is taken");
}

static void nothing(void *state)
{
    (void)state;
}

static void publish_nothing(void *state, const struct config *cfg)
{
    (void)state;
    (void)cfg;
}

static const struct reload_part counting = {"counting", prepare, publish, discard},
                                refusing = {"refusing", refuse_bad, publish_nothing, nothing};
static const struct reload_part *const parts[] = {&counting, &refusing, NULL};

static void start(void)
{
    struct err err;

    prepared = published = discarded = 0;
    reload_use(parts);
    if (!config_db_start(home->dir, geteuid(), &err) || !config_db_activate(&err))
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    if (home_make(state) != 0)
        return -1;
    home = *state;
    sqlite3_close(home->db); /* config_db opens it */
    home->db = NULL;
    start();
    return 0;
}

static int tear_down(void **state)
{
    config_db_stop();
    return home_drop(state);
}

static bool stage(struct candidate *c, const char *statements, struct err *err)
{
    struct config_edits e = {0};
    struct check check = {0};
    bool ok =
        text_import(statements, strlen(statements), candidate_view(c), false, NULL, &e, err) &&
        candidate_stage(c, e.items, e.n, 0, &check, err);

    check_free(&check);
    config_edits_free(&e);
    return ok;
}

static bool commit(struct candidate *c, bool check_only, uint64_t *revision, struct err *err)
{
    struct db_audit who = {.actor = "tester", .uid = -1};
    struct commit k = {.comment = "why", .keep = true, .who = &who, .check_only = check_only};
    bool ok = commit_run(c, &k, err);

    *revision = k.revision;
    commit_clear(&k);
    return ok;
}

static const char *hostname(void)
{
    static char name[64];
    struct config *running = running_config();

    snprintf(name, sizeof(name), "%s", CONFIG_SINGLE(running, system)->hostname);
    config_free(&running);
    return name;
}

static void a_refused_prepare_leaves_no_trace(void **state)
{
    struct candidate *c = candidate_new("tester");
    struct config *before = running_config(), *after;
    struct err err = {0};
    uint64_t rev;

    (void)state;
    assert_true(stage(c, "sethostname bad.example", &err));
    assert_int_equal(published, 1); /* the start */
    assert_false(commit(c, false, &rev, &err));
    assert_int_equal(err.code, E_BUSY);
    assert_int_equal(discarded, 1); /* what the first part had prepared */
    assert_int_equal(candidate_count(c), 1);
    after = running_config();
    assert_ptr_equal(before, after);
    config_free(&after);

    assert_true(stage(c, "sethostname good.example", &err)); /* the candidate goes on living */
    assert_true(commit(c, true, &rev, &err));
    assert_int_equal(rev, 0);
    assert_int_equal(discarded, 2);
    assert_int_equal(candidate_count(c), 1);
    assert_true(commit(c, false, &rev, &err));
    assert_int_equal(rev, 2);
    assert_int_equal(published, 2);
    assert_string_equal(hostname(), "good.example");
    assert_true(commit(c, false, &rev, &err)); /* nothing to commit */
    assert_int_equal(rev, 0);
    config_free(&before);
    candidate_detach(&c);
}

/* As an engine leaves it that dies between write and publish. */
static void write_only(const char *statements)
{
    struct config *head = config_db_head(), *next;
    struct config_edits e = {0};
    struct changes c = {0};
    struct db_audit who = {.actor = "tester", .uid = -1, .action = "commit", .result = "ok"};
    struct db_revision r = {.rev = config_revision(head) + 1,
                            .kind = "commit",
                            .comment = "",
                            .keep = true,
                            .created = clock_wall(),
                            .via = "test"};
    struct err err;

    assert_true(text_import(statements, strlen(statements), head, false, NULL, &e, &err));
    next = config_edit(head, e.items, e.n, r.rev);
    config_diff(head, next, &c);
    r.tree_hash = config_hash(next);
    assert_true(config_db_write(&r, &c, 0, &who, &err));
    changes_free(&c);
    config_edits_free(&e);
    config_free(&head);
    config_free(&next);
    config_db_stop();
}

static void what_was_written_is_published_at_the_start(void **state)
{
    (void)state;
    write_only("sethostname good.example");
    start();
    assert_string_equal(hostname(), "good.example");
    assert_null(candidate_next(NULL));
}

static void what_cannot_be_published_is_taken_back(void **state)
{
    struct config *head;
    char before[64];
    json_t *list;
    struct candidate *c;
    struct err err;

    (void)state;
    snprintf(before, sizeof(before), "%s", hostname());
    write_only("sethostname bad.example");
    start();
    assert_string_equal(hostname(), before);
    head = config_db_head();
    assert_int_equal(config_revision(head), 3);
    config_free(&head);
    c = candidate_next(NULL); /* the change is not lost: its author finds it staged */
    assert_non_null(c);
    assert_string_equal(c->db.owner, "tester");
    assert_true(
        row_is(changes_find(&c->db.changes, &section_system, "-")->now, "hostname", "bad.example"));

    config_db_stop();
    home_reopen(home);
    assert_true(db_history(home->db, 0, 1, &list, &err));
    assert_string_equal(json_str(json_array_get(list, 0), "kind", ""), "auto-revert");
    assert_int_equal(json_int(json_array_get(list, 0), "restores", 0), 1);
    json_decref(list);
    sqlite3_close(home->db);
    home->db = NULL;
    start();
    assert_string_equal(hostname(), before);
}

static void abandoned_candidates_go_after_a_week(void **state)
{
    struct candidate *old = candidate_new("tester"), *c;
    struct err err;

    (void)state;
    assert_true(stage(old, "sethostname good.example", &err));
    candidate_detach(&old);
    clock_set_virtual(1000, clock_wall() + (usec_t)6 * 86400 * 1000000);
    c = candidate_new("somebody");
    candidate_detach(&c);
    assert_non_null(candidate_next(NULL));
    clock_set_virtual(1000, clock_wall() + (usec_t)86400 * 1000000);
    c = candidate_new("somebody");
    candidate_detach(&c);
    assert_null(candidate_next(NULL));
    config_db_stop();
    start();
    assert_null(candidate_next(NULL));
}

static bool count_secrets(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *st;

    if (!db_prune_secrets(db, err) ||
        sqlite3_prepare_v2(db, "SELECT count(*) FROM secret", -1, &st, NULL) != SQLITE_OK)
        return false;
    sqlite3_step(st);
    *(int *)arg = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return true;
}

static void secrets_nothing_names_go_after_a_day(void **state)
{
    struct buf plain = BUF_INIT(1 << 16);
    struct config *head = config_db_head();
    char *ref = NULL;
    struct err err;
    int n;

    (void)state;
    clock_set_virtual(1000, clock_wall());
    assert_true(config_db_seal("test", "abandoned", 9, &ref, &err));
    assert_true(config_db_call(count_secrets, &n, &err));
    assert_int_equal(n, 2); /* the demonstration certificate's, and this one */
    clock_set_virtual(1000, clock_wall() + (usec_t)2 * 86400 * 1000000);
    assert_true(config_db_call(count_secrets, &n, &err));
    assert_int_equal(n, 1);
    assert_true(config_db_secret(CONFIG_GET(head, certificate, "Demo")->private_key, &plain, &err));
    buf_free(&plain);
    config_free(&head);
    free(ref);
}

static void secrets_are_sealed_together(void **state)
{
    struct config_seal seals[] = {
        {"test", "one", 3, NULL},
        {"test", "two", 3, NULL},
        {"test", "one", 3, NULL}
    };
    struct err err = {0};

    (void)state;
    assert_true(config_db_seal_all(seals, 3, &err));
    assert_string_equal(seals[0].ref, seals[2].ref);
    for (int i = 0; i < 3; i++) {
        struct buf plain = BUF_INIT(100);

        assert_true(config_db_secret(seals[i].ref, &plain, &err));
        assert_string_equal(buf_str(&plain), seals[i].plain);
        buf_free(&plain);
        free(seals[i].ref);
    }
}

static bool refuse(sqlite3 *db, void *arg, struct err *err)
{
    (void)err;
    return sqlite3_exec(db, arg, NULL, NULL, NULL) == SQLITE_OK;
}

static void all_secrets_are_sealed_or_none(void **state)
{
    struct config_seal seals[] = {
        {"test", "fine",    4, NULL},
        {"bad",  "refused", 7, NULL}
    };
    struct err err = {0};
    int before, after;

    (void)state;
    assert_true(config_db_call(count_secrets, &before, &err));
    assert_true(config_db_call(refuse,
                               (void *)"CREATE TEMP TRIGGER no BEFORE INSERT ON secret WHEN "
                                       "new.kind = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
                               &err));
    assert_false(config_db_seal_all(seals, 2, &err));
    assert_null(seals[0].ref);
    assert_true(config_db_call(count_secrets, &after, &err));
    assert_int_equal(after, before);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_refused_prepare_leaves_no_trace),
        TEST(what_was_written_is_published_at_the_start),
        TEST(what_cannot_be_published_is_taken_back),
        TEST(abandoned_candidates_go_after_a_week),
        TEST(secrets_nothing_names_go_after_a_day),
        TEST(secrets_are_sealed_together),
        TEST(all_secrets_are_sealed_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
