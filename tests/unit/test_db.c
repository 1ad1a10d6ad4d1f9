/* The configuration database: revisions, candidates, history, pruning, the audit chain, foreign and
 * newer files, migrations, the database of an earlier release (schema/migrations/1.sql). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/db.h"
#include "store/factory.h"
#include "store/text.h"
#include "tests/unit/home.h"

static const struct db_audit who = {.actor = "alice",
                                    .uid = 1000,
                                    .role = "administrator",
                                    .peer = "local",
                                    .session = 3,
                                    .action = "commit",
                                    .object = "revision",
                                    .result = "ok"};

static struct config *write_config(struct home *h, const struct config *old, struct config *cfg,
                                   uint64_t candidate)
{
    struct config *nothing = config_new();
    struct changes c = {0};
    struct db_revision r = {.rev = config_revision(cfg),
                            .kind = "commit",
                            .comment = "why",
                            .keep = true,
                            .created = clock_wall(),
                            .tree_hash = config_hash(cfg),
                            .via = "test"};
    struct err err;

    config_diff(old ? old : nothing, cfg, &c);
    r.n_changed = (unsigned)c.n;
    if (!db_write_revision(h->db, &r, &c, candidate, &who, &err))
        fail_msg("%s", err.text);
    assert_true(db_set_active(h->db, r.rev, &err));
    changes_free(&c);
    config_free(&nothing);
    return cfg;
}

static struct config *factory(void)
{
    return factory_config(&(struct factory){
        .home = "/h", .hostname = "gw.example.com", .demo_cert = "a\n", .demo_key = "sealed:1:2"});
}

static struct config *edit(const struct config *base, const char *statements)
{
    struct config_edits e = {0};
    struct err err;
    struct config *c;

    if (!text_import(statements, strlen(statements), base, false, NULL, &e, &err))
        fail_msg("%s", err.text);
    c = config_edit(base, e.items, e.n, config_revision(base) + 1);
    config_edits_free(&e);
    return c;
}

static void assert_revision(struct home *h, uint64_t rev, const struct config *want)
{
    struct config *got;
    struct err err;

    if (!db_snapshot(h->db, rev, &got, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(config_hash(got), config_hash(want), 32);
    config_free(&got);
}

static void revisions(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0);
    struct config *b = write_config(h, a, edit(a, "destconfig set a.example use_tls=on"), 0);
    struct config *c =
        write_config(h, b, edit(b, "destconfig delete a.example; sethostname b.example"), 0);
    struct config *d = write_config(h, c, edit(c, "destconfig set a.example use_tls=require"), 0),
                  *none;
    uint64_t head, rows;
    bool applying;
    struct err err;
    json_t *list;

    home_reopen(h);
    assert_revision(h, 1, a);
    assert_revision(h, 2, b);
    assert_revision(h, 3, c);
    assert_revision(h, 4, d);
    assert_true(db_head(h->db, &head, &applying, &err));
    assert_int_equal(head, 4);
    assert_false(applying);
    assert_false(db_snapshot(h->db, 5, &none, &err));
    assert_int_equal(err.code, E_NOT_FOUND);
    assert_true(db_history(h->db, 4, 2, &list, &err));
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_int(json_array_get(list, 0), "revision", 0), 3);
    assert_string_equal(json_str(json_array_get(list, 0), "comment", ""), "why");
    json_decref(list);
    assert_true(db_audit_verify(h->db, &rows, &err));
    assert_int_equal(rows, 4);

    assert_true(
        db_prune(h->db, 2, &err)); /* what only old revisions knew is gone, the rest stays */
    assert_false(db_snapshot(h->db, 2, &none, &err));
    assert_revision(h, 3, c);
    assert_revision(h, 4, d);
    config_free(&a), config_free(&b), config_free(&c), config_free(&d);
}

static void a_stale_write_is_refused(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0);
    struct changes none = {0};
    struct db_revision r = {.rev = 5,
                            .kind = "commit",
                            .comment = "",
                            .created = 1,
                            .tree_hash = config_hash(a),
                            .via = "test"};
    struct err err;
    uint64_t rows;

    assert_false(db_write_revision(h->db, &r, &none, 0, &who, &err));
    assert_int_equal(err.code, E_CONFLICT);
    assert_true(db_audit_verify(h->db, &rows, &err));
    assert_int_equal(rows, 1); /* nothing of it was written */
    config_free(&a);
}

static struct db_candidate loaded[4];
static size_t nloaded;

static void take(void *arg, struct db_candidate *c)
{
    (void)arg;
    loaded[nloaded++] = *c;
}

static void candidates(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0),
                  *b = edit(a, "destconfig set a.example use_tls=on; sethostname c.example; "
                               "listenerconfig delete InboundMail"),
                  *c;
    struct db_candidate cand = {.owner = strdup("alice"), .created = 5, .touched = 6};
    struct config_edit touched[3];
    struct err err;

    config_diff(a, b, &cand.changes);
    cand.changes.base_revision = 1;
    for (size_t i = 0; i < 3; i++)
        touched[i] =
            (struct config_edit){cand.changes.items[i].section, cand.changes.items[i].name, NULL};
    assert_true(db_put_candidate(h->db, &cand, touched, 3, &err));
    assert_int_not_equal(cand.id, 0);
    changes_drop(&cand.changes, &section_destination, "a.example");
    assert_true(db_put_candidate(
        h->db, &cand, &(struct config_edit){&section_destination, "a.example", NULL}, 1, &err));
    home_reopen(h);
    nloaded = 0;
    assert_true(db_candidates(h->db, take, NULL, &err));
    assert_int_equal(nloaded, 1);
    assert_string_equal(loaded[0].owner, "alice");
    assert_int_equal(loaded[0].changes.n, 2);
    assert_null(changes_find(&loaded[0].changes, &section_listener, "InboundMail")->now);
    assert_true(row_is(changes_find(&loaded[0].changes, &section_system, "-")->now, "hostname",
                       "c.example"));
    assert_int_equal(loaded[0].changes.base_revision, 1);
    c = changes_apply(a, &loaded[0].changes, 2);
    write_config(h, a, c, loaded[0].id); /* the commit takes it along */
    nloaded = 0;
    db_candidate_clear(&loaded[0]);
    assert_true(db_candidates(h->db, take, NULL, &err));
    assert_int_equal(nloaded, 0);
    db_candidate_clear(&cand);
    config_free(&a), config_free(&b), config_free(&c);
}

static void audit_chain(void **state)
{
    struct home *h = *state;
    struct err err;
    uint64_t rows;

    for (int i = 0; i < 5; i++)
        assert_true(db_audit(h->db, &who, &err));
    assert_true(db_audit_verify(h->db, &rows, &err));
    assert_int_equal(rows, 5);
    assert_int_not_equal(
        sqlite3_exec(h->db, "UPDATE audit.audit SET actor='bob' WHERE id=2", NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_not_equal(
        sqlite3_exec(h->db, "DELETE FROM audit.audit WHERE id=5", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_exec(h->db, "DROP TRIGGER audit.audit_no_update; DROP TRIGGER audit.audit_no_delete",
                 NULL, NULL, NULL);
    assert_int_equal(sqlite3_exec(h->db, "BEGIN; UPDATE audit.audit SET actor='bob' WHERE id=2",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_false(db_audit_verify(h->db, &rows, &err));
    assert_non_null(strstr(err.text, "audit row 2"));
    assert_int_equal(sqlite3_exec(h->db, "ROLLBACK; BEGIN; DELETE FROM audit.audit WHERE id=3",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_false(db_audit_verify(h->db, &rows, &err));
    assert_non_null(strstr(err.text, "audit row 4"));
    sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
}

static void other_files_are_refused(void **state)
{
    struct home *h = *state;
    struct err err;
    sqlite3 *db;

    assert_int_equal(sqlite3_exec(h->db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    assert_false(db_open(h->dir, &db, &err)); /* locked by the open one */
    sqlite3_close(h->db);
    h->db = NULL;
    assert_false(db_open(h->dir, &db, &err));
    assert_non_null(
        strstr(err.text, "has layout 99, this release knows 1: it was written by a newer release"));
    {
        char path[200];
        sqlite3 *raw;

        snprintf(path, sizeof(path), "%s/config.db", h->dir);
        assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
        sqlite3_exec(raw, "PRAGMA application_id=7", NULL, NULL, NULL);
        sqlite3_close(raw);
    }
    assert_false(db_open(h->dir, &db, &err));
    assert_non_null(strstr(err.text, "not a configuration database"));
}

static void newer_bodies_are_refused(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0), *none;
    struct err err;

    sqlite3_exec(h->db, "UPDATE revision SET schema_ver=99", NULL, NULL, NULL);
    assert_false(db_snapshot(h->db, 1, &none, &err));
    assert_non_null(strstr(err.text, "newer release (schema 99"));
    config_free(&a);
}

/* --- migrations --- */

static void layout_steps(void **state)
{
    static const struct db_layout_step steps[] = {
        {1, "SELECT this is not run"},
        {2, "CREATE TABLE two(x)"   },
        {3, "CREATE TABLE three(x)" },
        {0, NULL                    }
    };
    static const struct db_layout_step broken[] = {
        {4, "CREATE TABLE four(x)"},
        {5, "CREATE TABLE"        },
        {0, NULL                  }
    };
    struct home *h = *state;
    struct err err;

    assert_true(db_migrate_layout(h->db, steps, 3, &err));
    assert_int_equal(sqlite3_exec(h->db,
                                  "INSERT INTO two SELECT user_version FROM pragma_user_version; "
                                  "INSERT INTO three VALUES(1)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_true(db_migrate_layout(h->db, steps, 3, &err)); /* never twice */
    assert_false(db_migrate_layout(h->db, broken, 5, &err));
    assert_non_null(strstr(err.text, "migrating to layout 5"));
    assert_true(db_migrate_layout(h->db, steps, 4, &err)); /* the step before it stands */
    assert_false(db_migrate_layout(h->db, steps, 3, &err));
    assert_true(
        home_contains(h, "config.db.before-1", "CREATE TABLE revision")); /* the file as it was */
    assert_false(home_contains(h, "config.db.before-1", "CREATE TABLE two"));
}

static bool add_suffix(const char *class, json_t *body, struct err *err)
{
    if (str_eq(class, "bad"))
        return err_set(err, E_INVALID, "no");
    json_put_str(body, "name", "x2");
    return true;
}

static bool rename_field(const char *class, json_t *body, struct err *err)
{
    (void)class;
    (void)err;
    json_put_str(body, "label", json_str(body, "name", ""));
    json_object_del(body, "name");
    return true;
}

static void body_steps(void **state)
{
    static const struct db_body_step steps[] = {
        {2, add_suffix  },
        {3, rename_field},
        {0, NULL        }
    };
    json_t *body = json_pack("{s:s}", "name", "x");
    struct err err;

    (void)state;
    assert_true(db_migrate_body("good", body, 3, steps, &err));
    assert_string_equal(json_str(body, "name", ""), "x"); /* what is of the version already stays */
    assert_true(db_migrate_body("good", body, 1, steps, &err));
    assert_string_equal(json_str(body, "label", ""), "x2");
    assert_false(db_migrate_body("bad", body, 1, steps, &err));
    assert_string_equal(err.text, "migrating bad to schema 2: no");
    json_decref(body);
}

/* A head of an earlier schema is written once more, so that later revisions do not mix the two. */
static void head_is_rewritten(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0), *b, *none;
    bool written, applying;
    struct err err;
    uint64_t head;

    assert_true(db_migrate_head(h->db, a, &written, &err));
    assert_false(written);
    sqlite3_exec(h->db, "UPDATE revision SET schema_ver=0", NULL, NULL, NULL);
    assert_true(db_snapshot(h->db, 1, &b, &err));
    assert_true(db_migrate_head(h->db, b, &written, &err));
    assert_true(written);
    assert_true(db_head(h->db, &head, &applying, &err));
    assert_int_equal(head, 2);
    assert_revision(h, 2, a);
    config_free(&b);
    assert_true(db_snapshot(h->db, 2, &b, &err));
    assert_true(db_migrate_head(h->db, b, &written, &err));
    assert_false(written);
    config_free(&a), config_free(&b);
    (void)none;
}

/* The dump of a database that release 0.1.0 wrote. Every later release opens it; what it says is
 * checked by name. */
static void database_of_0_1_0(void **state)
{
    struct home *h = *state;
    FILE *f = fopen("schema/migrations/1.sql", "r");
    char *sql = calloc(1, 1 << 20), *message = NULL, path[200];
    struct config *cfg;
    struct err err;
    bool applying;
    uint64_t head;
    sqlite3 *raw;

    assert_non_null(f);
    assert_int_not_equal(fread(sql, 1, (1 << 20) - 1, f), 0);
    fclose(f);
    sqlite3_close(h->db);
    h->db = NULL;
    snprintf(path, sizeof(path), "%s/config.db", h->dir);
    unlink(path);
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    if (sqlite3_exec(raw, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(raw);
    free(sql);
    if (!db_open(h->dir, &h->db, &err))
        fail_msg("%s", err.text);
    assert_true(db_head(h->db, &head, &applying, &err));
    assert_int_equal(head, 3);
    if (!db_snapshot(h->db, head, &cfg, &err))
        fail_msg("%s", err.text);
    assert_string_equal(CONFIG_SINGLE(cfg, system)->hostname, "gw.example.com");
    assert_int_equal(CONFIG_GET(cfg, destination, "partner.example")->use_tls, DEST_TLS_REQUIRED);
    assert_int_equal(CONFIG_GET(cfg, listener, "InboundMail")->port, 2525);
    assert_int_equal(CONFIG_GET(cfg, sender_group, "OutboundMail/RELAYLIST")->hosts.n, 2);
    config_free(&cfg);
    assert_true(db_snapshot(h->db, 1, &cfg, &err));
    assert_null(config_row(cfg, &section_destination, "partner.example"));
    config_free(&cfg);
    nloaded = 0;
    assert_true(db_candidates(h->db, take, NULL, &err));
    assert_int_equal(nloaded, 1);
    assert_true(row_is(changes_find(&loaded[0].changes, &section_smtp_route, "ALL")->now, "hosts",
                       "relay.example"));
    db_candidate_clear(&loaded[0]);
}

/* One typed view per section over what is active. */
static void views(void **state)
{
    struct home *h = *state;
    struct config *a = write_config(h, NULL, factory(), 0);
    sqlite3_stmt *st;

    /* People read a copy with the sqlite3 program, which trusts the file; our own connection does
     * not. */
    assert_int_equal(sqlite3_prepare_v2(h->db, "SELECT port FROM v_listener", -1, &st, NULL),
                     SQLITE_ERROR);
    sqlite3_exec(h->db, "PRAGMA trusted_schema=ON", NULL, NULL, NULL);
    assert_int_equal(
        sqlite3_prepare_v2(
            h->db, "SELECT port, typeof(port), tls FROM v_listener WHERE object='InboundMail'", -1,
            &st, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(st, 0), 2525);
    assert_string_equal((const char *)sqlite3_column_text(st, 1), "integer");
    assert_string_equal((const char *)sqlite3_column_text(st, 2), "off");
    sqlite3_finalize(st);
    for (size_t i = 0; i < section_count(); i++) {
        char *sql = xasprintf("SELECT * FROM v_%s", section_at(i)->name);

        if (sqlite3_prepare_v2(h->db, sql, -1, &st, NULL) != SQLITE_OK ||
            sqlite3_step(st) < SQLITE_ROW)
            fail_msg("%s: %s", sql, sqlite3_errmsg(h->db));
        assert_int_equal(sqlite3_column_count(st), section_at(i)->nfields + 1);
        sqlite3_finalize(st);
        free(sql);
    }
    config_free(&a);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_make, home_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(revisions),
        TEST(a_stale_write_is_refused),
        TEST(candidates),
        TEST(audit_chain),
        TEST(other_files_are_refused),
        TEST(newer_bodies_are_refused),
        TEST(layout_steps),
        TEST(body_steps),
        TEST(head_is_rewritten),
        TEST(database_of_0_1_0),
        TEST(views),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
