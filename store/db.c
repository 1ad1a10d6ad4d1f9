/* db.c - see db.h. SQL stands in the functions that use it; run() and bind() keep the C around it
 * short. */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/embed.h"
#include "store/base/log.h"
#include "store/failpoint.h"
#include "store/views.h"

#define APPLICATION_ID 0x50535443 /* "PSTC": never write into somebody else's file */
#define LAYOUT 1
#define SCOPE "machine"

EMBED(config_sql, "schema/config.sql");
EMBED(audit_sql, "schema/audit.sql");

/* No release had another layout yet. */
const struct db_layout_step db_layout_steps[] = {
    {0, NULL}
};

/* The servers of deliveryconfig became those of dnsconfig, which are objects of their own. */
static bool drop_resolvers(const char *class, json_t *body, struct err *err)
{
    (void)err;
    if (str_eq(class, "delivery")) {
        if (json_array_size(json_object_get(body, "resolvers")))
            log_warning("config: the DNS servers of deliveryconfig are not used any more; enter "
                        "them in dnsconfig");
        json_object_del(body, "resolvers");
    }
    return true;
}

const struct db_body_step db_body_steps[] = {
    {2, drop_resolvers},
    {0, NULL          }
};

static bool sql_error(sqlite3 *db, struct err *err, const char *what)
{
    return err_set(err, E_IO, "configuration database, %s: %s", what, sqlite3_errmsg(db));
}

static bool script(sqlite3 *db, const char *sql, struct err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           sql_error(db, err, "running a script");
}

/* One letter for each parameter: i int64_t, u uint64_t where 0 is NULL, s text or NULL, h SHA-256
 * or NULL. */
static void bind_list(sqlite3_stmt *st, const char *types, va_list ap)
{
    sqlite3_reset(st);
    for (int i = 1; *types; types++, i++) {
        const char *s;
        const void *h;
        uint64_t u;

        switch (*types) {
        case 'i':
            sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
            break;
        case 'u':
            u = va_arg(ap, uint64_t);
            if (u)
                sqlite3_bind_int64(st, i, (sqlite3_int64)u);
            else
                sqlite3_bind_null(st, i);
            break;
        case 's':
            s = va_arg(ap, const char *);
            sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
            break;
        default:
            h = va_arg(ap, const void *);
            if (h)
                sqlite3_bind_blob(st, i, h, 32, SQLITE_TRANSIENT);
            else
                sqlite3_bind_null(st, i);
        }
    }
}

static void bind(sqlite3_stmt *st, const char *types, ...)
{
    va_list ap;

    va_start(ap, types);
    bind_list(st, types, ap);
    va_end(ap);
}

static void stmt_free(sqlite3_stmt **st)
{
    sqlite3_finalize(*st);
    *st = NULL;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql, struct err *err)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        sql_error(db, err, sql);
    return st;
}

static bool step_done(sqlite3 *db, sqlite3_stmt *st, struct err *err)
{
    return sqlite3_step(st) == SQLITE_DONE || sql_error(db, err, sqlite3_sql(st));
}

static bool run(sqlite3 *db, struct err *err, const char *sql, const char *types, ...)
{
    AUTO(stmt) sqlite3_stmt *st = prepare(db, sql, err);
    va_list ap;

    if (!st)
        return false;
    va_start(ap, types);
    bind_list(st, types, ap);
    va_end(ap);
    return step_done(db, st, err);
}

static bool get_int(sqlite3 *db, int64_t *out, struct err *err, const char *sql)
{
    AUTO(stmt) sqlite3_stmt *st = prepare(db, sql, err);

    *out = 0;
    if (!st)
        return false;
    switch (sqlite3_step(st)) {
    case SQLITE_ROW:
        *out = sqlite3_column_int64(st, 0);
        return true;
    case SQLITE_DONE:
        return true;
    default:
        return sql_error(db, err, sql);
    }
}

/* Not IMMEDIATE, which would lock the audit file too and make every transaction one over two files.
 * Nobody else has the database open, so nothing is lost by locking at the first write. */
static bool begin(sqlite3 *db, struct err *err)
{
    return script(db, "BEGIN", err);
}

/* COMMIT when ok, else ROLLBACK; returns whether it is on disk. */
static bool end(sqlite3 *db, bool ok, struct err *err)
{
    if (ok && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return true;
    if (ok)
        sql_error(db, err, "COMMIT");
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

/* --- open, migrate --- */

static bool touch(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(err, errno, "opening %s", path);
    close(fd);
    return true;
}

static const char settings[] =
    "PRAGMA main.locking_mode=EXCLUSIVE; PRAGMA audit.locking_mode=EXCLUSIVE;"
    "PRAGMA main.journal_mode=DELETE; PRAGMA audit.journal_mode=DELETE;"
    "PRAGMA main.synchronous=EXTRA; PRAGMA audit.synchronous=EXTRA;"
    "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
    "PRAGMA main.secure_delete=ON; PRAGMA audit.secure_delete=ON; PRAGMA temp_store=MEMORY;"
    "PRAGMA cache_size=-64000";

static bool backup(sqlite3 *db, int version, struct err *err)
{
    char *path = xasprintf("%s.before-%d", sqlite3_db_filename(db, "main"), version);
    sqlite3 *copy = NULL;
    sqlite3_backup *b;
    bool ok = touch(path, err);

    if (ok && sqlite3_open(path, &copy) == SQLITE_OK &&
        (b = sqlite3_backup_init(copy, "main", db, "main"))) {
        sqlite3_backup_step(b, -1);
        ok = sqlite3_backup_finish(b) == SQLITE_OK;
    } else {
        ok = false;
    }
    if (!ok)
        err_set(err, E_IO, "saving the configuration database to %s before it is migrated failed",
                path);
    sqlite3_close(copy);
    free(path);
    return ok;
}

bool db_migrate_layout(sqlite3 *db, const struct db_layout_step *steps, int newest, struct err *err)
{
    int64_t version;

    if (!get_int(db, &version, err, "PRAGMA main.user_version"))
        return false;
    if (version > newest)
        return err_set(
            err, E_INVALID,
            "The configuration database has layout %d, this release knows %d: it was written by a "
            "newer release. Install that release again, or restore a backup made by this one.",
            (int)version, newest);
    if (version < newest && !backup(db, (int)version, err))
        return false;
    for (; steps->to; steps++) {
        char pragma[60];
        bool ok;

        if (steps->to <= version)
            continue;
        snprintf(pragma, sizeof(pragma), "PRAGMA main.user_version=%d", steps->to);
        if (!begin(db, err))
            return false;
        ok = script(db, steps->sql, err) && script(db, pragma, err);
        if (!end(db, ok, err))
            return err_wrap(err, "migrating to layout %d", steps->to);
        version = steps->to;
    }
    return version == newest ||
           err_set(err, E_INVALID,
                   "the configuration database has layout %d, which cannot be migrated",
                   (int)version);
}

bool db_migrate_body(const char *class, json_t *body, int from, const struct db_body_step *steps,
                     struct err *err)
{
    for (; steps->to; steps++)
        if (steps->to > from && !steps->up(class, body, err))
            return err_wrap(err, "migrating %s to schema %d", class, steps->to);
    return true;
}

static bool make_tables(sqlite3 *db, struct err *err)
{
    AUTO(buf) struct buf pragmas = BUF_INIT(200);
    bool ok;

    buf_printf(&pragmas, "PRAGMA main.application_id=%d; PRAGMA main.user_version=%d",
               APPLICATION_ID, LAYOUT);
    if (!begin(db, err))
        return false;
    ok = script(db, config_sql, err) && script(db, buf_str(&pragmas), err);
    return end(db, ok, err);
}

static bool make_audit(sqlite3 *db, struct err *err)
{
    int64_t tables;

    if (!get_int(db, &tables, err, "SELECT count(*) FROM audit.sqlite_schema"))
        return false;
    return tables || (begin(db, err) && end(db, script(db, audit_sql, err), err));
}

/* The views of schema/views.sql, made again when the schema changed; people read a copy of the file
 * with them. */
static bool make_views(sqlite3 *db, struct err *err)
{
    AUTO(buf) struct buf sql = BUF_INIT((size_t)4 << 20);
    AUTO(buf) struct buf have = BUF_INIT((size_t)4 << 20);
    AUTO(stmt)
    sqlite3_stmt *st =
        prepare(db, "SELECT sql FROM sqlite_schema WHERE type='view' ORDER BY rowid", err);

    if (!st)
        return false;
    while (sqlite3_step(st) == SQLITE_ROW)
        buf_printf(&have, "%s;\n", (const char *)sqlite3_column_text(st, 0));
    stmt_free(&st);
    views_sql(&sql, false);
    if (str_eq(buf_str(&sql), buf_str(&have)))
        return true;
    buf_reset(&sql);
    views_sql(&sql, true);
    return begin(db, err) && end(db, script(db, buf_str(&sql), err), err);
}

static bool attach(sqlite3 *db, const char *audit, struct err *err)
{
    return run(db, err, "ATTACH ?1 AS audit", "s", audit);
}

static bool set_up(sqlite3 *db, const char *audit, struct err *err)
{
    int64_t id, version, tables;

    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, 2000);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    if (!get_int(db, &tables, err, "SELECT count(*) FROM sqlite_schema") ||
        !get_int(db, &id, err, "PRAGMA application_id") ||
        !get_int(db, &version, err, "PRAGMA user_version"))
        return err_wrap(err, "is another posternd running, or is the file damaged?");
    if (tables && id != APPLICATION_ID)
        return err_set(err, E_INVALID, "the file is not a configuration database of Postern");
    if (!attach(db, audit, err) || !script(db, settings, err))
        return false;
    if (!tables ? !make_tables(db, err) : !db_migrate_layout(db, db_layout_steps, LAYOUT, err))
        return false;
    if (!make_audit(db, err) || !make_views(db, err))
        return false;
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return true;
}

bool db_open(const char *home, sqlite3 **db, struct err *err)
{
    char *path = xasprintf("%s/config.db", home), *audit = xasprintf("%s/audit.db", home);
    bool ok = touch(path, err) && touch(audit, err);

    *db = NULL;
    if (ok &&
        sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        ok =
            err_set(err, E_IO, "opening %s: %s", path, *db ? sqlite3_errmsg(*db) : "out of memory");
    if (ok && !set_up(*db, audit, err))
        ok = err_wrap(err, "opening %s", path);
    if (!ok) {
        sqlite3_close(*db);
        *db = NULL;
    }
    free(path);
    free(audit);
    return ok;
}

/* --- audit --- */

static void audit_text(struct buf *b, const char *s)
{
    buf_printf(b, "%zu:%s\n", s ? strlen(s) : 0, s ? s : "");
}

static void audit_hash(const void *prev, int64_t ts, const struct db_audit *r,
                       unsigned char out[32])
{
    AUTO(buf) struct buf b = BUF_INIT((size_t)1 << 20);

    buf_add(&b, prev, 32);
    buf_printf(&b, "%lld\n%lld\n%llu\n", (long long)ts, (long long)r->uid,
               (unsigned long long)r->session);
    audit_text(&b, r->actor);
    audit_text(&b, r->role);
    audit_text(&b, r->peer);
    audit_text(&b, r->action);
    audit_text(&b, r->object);
    audit_text(&b, r->result);
    audit_text(&b, r->detail);
    SHA256((const unsigned char *)buf_str(&b), b.n, out);
}

/* Within the caller's transaction. */
static bool add_audit(sqlite3 *db, const struct db_audit *r, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st = prepare(db, "SELECT hash FROM audit.audit ORDER BY id DESC LIMIT 1", err);
    unsigned char prev[32] = {0}, hash[32];
    usec_t now = clock_wall();

    if (!st)
        return false;
    if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_bytes(st, 0) == 32)
        memcpy(prev, sqlite3_column_blob(st, 0), 32);
    stmt_free(&st);
    audit_hash(prev, now, r, hash);
    return run(
        db, err,
        "INSERT INTO "
        "audit.audit(ts_us,actor,uid,role,peer,session,action,object,result,detail,prev_hash,hash)"
        " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
        "isississsshh", (int64_t)now, r->actor, r->uid, r->role, r->peer, (int64_t)r->session,
        r->action, r->object, r->result, r->detail, prev, hash);
}

bool db_audit(sqlite3 *db, const struct db_audit *row, struct err *err)
{
    return begin(db, err) && end(db, add_audit(db, row, err), err);
}

bool db_audit_verify(sqlite3 *db, uint64_t *rows, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st = prepare(
        db,
        "SELECT ts_us,actor,uid,role,peer,session,action,object,result,detail,prev_hash,hash,id "
        "FROM audit.audit ORDER BY id",
        err);
    unsigned char prev[32] = {0}, hash[32];

    *rows = 0;
    if (!st)
        return false;
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *text[12];
        struct db_audit r;

        for (int i = 0; i < 12; i++)
            text[i] = i == 0 || i == 2 || i == 5 || i >= 10
                          ? NULL
                          : (const char *)sqlite3_column_text(st, i);
        r = (struct db_audit){text[1],
                              sqlite3_column_int64(st, 2),
                              text[3],
                              text[4],
                              (uint64_t)sqlite3_column_int64(st, 5),
                              text[6],
                              text[7],
                              text[8],
                              text[9]};
        audit_hash(prev, sqlite3_column_int64(st, 0), &r, hash);
        if (sqlite3_column_bytes(st, 10) != 32 || sqlite3_column_bytes(st, 11) != 32 ||
            memcmp(sqlite3_column_blob(st, 10), prev, 32) != 0 ||
            memcmp(sqlite3_column_blob(st, 11), hash, 32) != 0)
            return err_set(err, E_INVALID,
                           "audit row %lld was changed or a row before it is missing",
                           (long long)sqlite3_column_int64(st, 12));
        memcpy(prev, hash, 32);
        (*rows)++;
    }
    return true;
}

/* --- revisions --- */

static bool put_blob(sqlite3 *db, sqlite3_stmt *st, const struct row *r, struct err *err)
{
    json_t *body = row_to_json(r);
    char *text = json_text(body);
    bool ok;

    bind(st, "hs", r->hash, text);
    ok = step_done(db, st, err);
    free(text);
    json_decref(body);
    return ok;
}

static const char blob_insert[] = "INSERT OR IGNORE INTO blob(hash,body) VALUES(?1,?2)";

static bool write_entries(sqlite3 *db, const struct changes *c, uint64_t rev, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *close_old = prepare(db,
                                      "UPDATE entry SET to_rev=?1 WHERE scope='" SCOPE
                                      "' AND class=?2 AND name=?3 AND to_rev IS NULL",
                                      err);
    AUTO(stmt) sqlite3_stmt *blob = prepare(db, blob_insert, err);
    AUTO(stmt)
    sqlite3_stmt *entry = prepare(
        db, "INSERT INTO entry(scope,class,name,from_rev,hash) VALUES('" SCOPE "',?1,?2,?3,?4)",
        err);

    if (!close_old || !blob || !entry)
        return false;
    for (size_t i = 0; i < c->n; i++) {
        const struct change *item = &c->items[i];

        if (item->base) {
            bind(close_old, "iss", (int64_t)rev, item->section->name, item->name);
            if (!step_done(db, close_old, err))
                return false;
        }
        if (!item->now)
            continue;
        bind(entry, "ssih", item->section->name, item->name, (int64_t)rev, item->now->hash);
        if (!put_blob(db, blob, item->now, err) || !step_done(db, entry, err))
            return false;
    }
    return true;
}

static bool write_revision(sqlite3 *db, const struct db_revision *r, const struct changes *c,
                           uint64_t candidate, const struct db_audit *who, struct err *err)
{
    uint64_t head;
    bool applying;

    if (!db_head(db, &head, &applying, err))
        return false;
    if (head + 1 != r->rev)
        return err_set(err, E_CONFLICT, "the head is revision %llu", (unsigned long long)head);
    return run(db, err,
               "UPDATE revision SET state='superseded' WHERE state IN('applying','active')", "") &&
           run(db, err,
               "INSERT INTO "
               "revision(rev,kind,restores,author,author_uid,via,peer,comment,keep,schema_ver,"
               "created_us,state,"
               "n_new,n_changed,n_deleted,tree_hash) "
               "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,'applying',?12,?13,?14,?15)",
               "isusisssiiiiiih", (int64_t)r->rev, r->kind, r->restores, who->actor, who->uid,
               r->via, who->peer, r->comment, (int64_t)r->keep, (int64_t)SCHEMA_VERSION,
               (int64_t)r->created, (int64_t)r->n_new, (int64_t)r->n_changed, (int64_t)r->n_deleted,
               r->tree_hash) &&
           write_entries(db, c, r->rev, err) &&
           (!candidate ||
            run(db, err, "DELETE FROM candidate WHERE id=?1", "i", (int64_t)candidate)) &&
           add_audit(db, who, err);
}

bool db_write_revision(sqlite3 *db, const struct db_revision *r, const struct changes *c,
                       uint64_t candidate, const struct db_audit *who, struct err *err)
{
    bool ok;

    if (!begin(db, err))
        return false;
    failpoint("in_write");
    ok = write_revision(db, r, c, candidate, who, err);
    failpoint("before_commit");
    return end(db, ok, err);
}

bool db_set_active(sqlite3 *db, uint64_t rev, struct err *err)
{
    return run(db, err, "UPDATE revision SET state='active' WHERE rev=?1 AND state='applying'", "i",
               (int64_t)rev);
}

bool db_head(sqlite3 *db, uint64_t *rev, bool *applying, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st =
        prepare(db, "SELECT rev,state FROM revision WHERE state IN('applying','active')", err);
    int rc;

    *rev = 0;
    *applying = false;
    if (!st)
        return false;
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *rev = (uint64_t)sqlite3_column_int64(st, 0);
        *applying = str_eq((const char *)sqlite3_column_text(st, 1), "applying");
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE || sql_error(db, err, "reading the head");
}

/* hash: of the stored body, or NULL. */
static struct row *read_row(const char *class, const char *name, const char *body, size_t n,
                            const void *hash, int from, struct err *err)
{
    json_t *j = json_parse(body, n, err);
    const struct section *s = section_find(class);
    struct row *r = NULL;

    if (j && !s)
        err_set(err, E_INVALID, "this release knows no section %s", class);
    if (j && s && db_migrate_body(class, j, from, db_body_steps, err))
        r = row_from_json(s, name, j, err);
    json_decref(j);
    if (r && hash && from == SCHEMA_VERSION)
        memcpy(r->hash, hash,
               sizeof(r->hash)); /* most of the time it takes to load is saved here */
    else if (r)
        row_freeze(r);
    else
        err_wrap(err, "reading %s %s", class, name);
    return r;
}

static bool schema_of(sqlite3 *db, uint64_t rev, int *version, struct err *err)
{
    AUTO(stmt) sqlite3_stmt *st = prepare(db, "SELECT schema_ver FROM revision WHERE rev=?1", err);

    if (!st)
        return false;
    bind(st, "i", (int64_t)rev);
    if (sqlite3_step(st) != SQLITE_ROW)
        return err_set(err, E_NOT_FOUND, "There is no revision %llu; it was pruned or never made.",
                       (unsigned long long)rev);
    *version = sqlite3_column_int(st, 0);
    if (*version > SCHEMA_VERSION)
        return err_set(
            err, E_INVALID,
            "Revision %llu was written by a newer release (schema %d, this one knows %d).",
            (unsigned long long)rev, *version, SCHEMA_VERSION);
    return true;
}

/* A section that has one object and came with a later release than the revision has its defaults. */
static struct config *with_singles(const struct config *stored, uint64_t rev)
{
    struct config_edit edits[SECTIONS];
    struct config *all;
    size_t n = 0;

    for (size_t i = 0; i < SECTIONS; i++) {
        const struct section *s = section_at(i);

        if (!s->single || config_row(stored, s, "-") || !config_count(stored, &section_system))
            continue;
        edits[n] = (struct config_edit){s, "-", row_new(s, "-")};
        row_freeze(edits[n++].row);
    }
    all = n ? config_edit(stored, edits, n, rev) : config_ref(stored);
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    return all;
}

bool db_snapshot(sqlite3 *db, uint64_t rev, struct config **out, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st =
        prepare(db,
                "SELECT class,name,body,hash FROM entry JOIN blob USING(hash) WHERE scope='" SCOPE
                "' AND from_rev<=?1 AND (to_rev IS NULL OR to_rev>?1)",
                err);
    struct config_edit *edits = NULL;
    size_t n = 0, cap = 0;
    bool ok = true;
    int version = SCHEMA_VERSION, rc;

    *out = NULL;
    if (!st || !schema_of(db, rev, &version, err))
        return false;
    bind(st, "i", (int64_t)rev);
    while (ok && (rc = sqlite3_step(st)) != SQLITE_DONE) {
        struct row *r = rc != SQLITE_ROW ? NULL
                                         : read_row((const char *)sqlite3_column_text(st, 0),
                                                    (const char *)sqlite3_column_text(st, 1),
                                                    (const char *)sqlite3_column_text(st, 2),
                                                    (size_t)sqlite3_column_bytes(st, 2),
                                                    sqlite3_column_blob(st, 3), version, err);

        if (rc != SQLITE_ROW)
            sql_error(db, err, "reading a revision");
        ok = r;
        if (!ok)
            break;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            edits = xrealloc(edits, cap * sizeof(*edits));
        }
        edits[n++] = (struct config_edit){r->section, r->name, r};
    }
    if (ok) {
        struct config *stored = config_edit(NULL, edits, n, rev);

        *out = with_singles(stored, rev);
        config_free(&stored);
    }
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    free(edits);
    return ok;
}

bool db_migrate_head(sqlite3 *db, const struct config *head, bool *written, struct err *err)
{
    struct db_audit who = {.actor = "posternd", .uid = -1, .action = "migrate", .result = "ok"};
    struct db_revision r = {.rev = config_revision(head) + 1,
                            .kind = "migrate",
                            .comment = "The settings of an earlier release",
                            .keep = true,
                            .created = clock_wall(),
                            .tree_hash = config_hash(head),
                            .via = "posternd"};
    struct changes all = {0};
    size_t cap = 0;
    int version;
    bool ok;

    *written = false;
    if (!schema_of(db, config_revision(head), &version, err))
        return false;
    if (version == SCHEMA_VERSION)
        return true;
    for (size_t i = 0; i < section_count(); i++)
        cap += config_count(head, section_at(i));
    all.items = xcalloc(cap, sizeof(*all.items));
    for (size_t i = 0; i < section_count(); i++)
        for (size_t k = 0; k < config_count(head, section_at(i)); k++) {
            struct row *row = (struct row *)config_at(head, section_at(i), k);

            all.items[all.n++] = (struct change){section_at(i), row->name, row, row};
        }
    r.n_changed = (unsigned)all.n;
    ok = db_write_revision(db, &r, &all, 0, &who, err) && db_set_active(db, r.rev, err);
    free(all.items); /* the rest is the snapshot's */
    *written = ok;
    return ok ||
           err_wrap(err, "writing the settings of an earlier release in the form of this one");
}

static void put_text(json_t *o, const char *key, sqlite3_stmt *st, int column)
{
    json_put_str(o, key, (const char *)sqlite3_column_text(st, column));
}

bool db_history(sqlite3 *db, uint64_t before, unsigned limit, json_t **out, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st = prepare(db,
                               "SELECT "
                               "rev,created_us,author,comment,kind,restores,keep,n_new,n_changed,n_"
                               "deleted,via,peer FROM revision"
                               " WHERE ?1 IS NULL OR rev<?1 ORDER BY rev DESC LIMIT ?2",
                               err);

    if (!st)
        return false;
    bind(st, "ui", before, (int64_t)limit);
    *out = json_array();
    while (sqlite3_step(st) == SQLITE_ROW) {
        json_t *o = json_object();
        char date[40];

        json_put_int(o, "revision", sqlite3_column_int64(st, 0));
        json_put_str(o, "time", clock_rfc3339(sqlite3_column_int64(st, 1), date));
        json_put_int(o, "time_us", sqlite3_column_int64(st, 1));
        put_text(o, "author", st, 2);
        put_text(o, "comment", st, 3);
        put_text(o, "kind", st, 4);
        json_put(o, "restores",
                 sqlite3_column_type(st, 5) == SQLITE_NULL
                     ? NULL
                     : json_integer(sqlite3_column_int64(st, 5)));
        json_put(o, "keep", json_boolean(sqlite3_column_int(st, 6)));
        json_put_int(o, "new", sqlite3_column_int64(st, 7));
        json_put_int(o, "changed", sqlite3_column_int64(st, 8));
        json_put_int(o, "deleted", sqlite3_column_int64(st, 9));
        put_text(o, "via", st, 10);
        put_text(o, "peer", st, 11);
        json_array_append_new(*out, o);
    }
    return true;
}

/* A day, because a secret is sealed before the change that names it is stored. There are few of
 * them, and their references are in few bodies. */
bool db_prune_secrets(sqlite3 *db, struct err *err)
{
    return run(
        db, err,
        "DELETE FROM secret WHERE created_us<?1 AND NOT EXISTS(SELECT 1 FROM blob WHERE body "
        "LIKE '%sealed:%' AND instr(body,'sealed:'||secret.id||':'))",
        "i", (int64_t)clock_wall() - (int64_t)86400 * 1000000);
}

static bool prune(sqlite3 *db, int64_t oldest, struct err *err)
{
    return run(db, err, "DELETE FROM entry WHERE to_rev<=?1", "i", oldest) &&
           run(db, err, "DELETE FROM revision WHERE rev<?1", "i", oldest) &&
           run(db, err,
               "DELETE FROM blob WHERE hash NOT IN(SELECT hash FROM entry) AND hash NOT IN"
               "(SELECT base_hash FROM change WHERE base_hash NOT NULL UNION SELECT new_hash FROM "
               "change WHERE new_hash NOT NULL)",
               "") &&
           db_prune_secrets(db, err);
}

bool db_prune(sqlite3 *db, unsigned keep, struct err *err)
{
    int64_t revisions, newest;

    if (!get_int(db, &revisions, err, "SELECT count(*) FROM revision") ||
        !get_int(db, &newest, err, "SELECT max(rev) FROM revision"))
        return false;
    if (revisions <= (int64_t)keep)
        return true;
    return begin(db, err) && end(db, prune(db, newest - (int64_t)keep + 1, err), err);
}

/* --- candidates --- */

static bool put_changes(sqlite3 *db, const struct db_candidate *c,
                        const struct config_edit *touched, size_t n, struct err *err)
{
    AUTO(stmt) sqlite3_stmt *blob = prepare(db, blob_insert, err);
    AUTO(stmt)
    sqlite3_stmt *put = prepare(
        db,
        "INSERT INTO change(cand,scope,class,name,base_hash,new_hash,schema_ver) VALUES(?1,'" SCOPE
        "',?2,?3,?4,?5,?6) ON CONFLICT DO UPDATE SET base_hash=excluded.base_hash,"
        "new_hash=excluded.new_hash,schema_ver=excluded.schema_ver",
        err);
    AUTO(stmt)
    sqlite3_stmt *drop = prepare(
        db, "DELETE FROM change WHERE cand=?1 AND scope='" SCOPE "' AND class=?2 AND name=?3", err);

    if (!blob || !put || !drop)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct config_edit *t = &touched[i];
        const struct change *item = changes_find(&c->changes, t->section, t->name);

        if (!item) {
            bind(drop, "iss", (int64_t)c->id, t->section->name, t->name);
            if (!step_done(db, drop, err))
                return false;
            continue;
        }
        bind(put, "isshhi", (int64_t)c->id, t->section->name, t->name,
             item->base ? item->base->hash : NULL, item->now ? item->now->hash : NULL,
             (int64_t)SCHEMA_VERSION);
        if ((item->base && !put_blob(db, blob, item->base, err)) ||
            (item->now && !put_blob(db, blob, item->now, err)) || !step_done(db, put, err))
            return false;
    }
    return true;
}

static bool put_candidate(sqlite3 *db, struct db_candidate *c, const struct config_edit *touched,
                          size_t n, struct err *err)
{
    if (!c->id) {
        if (!run(db, err,
                 "INSERT INTO candidate(owner,base_rev,restores,created_us,touched_us) "
                 "VALUES(?1,?2,?3,?4,?5)",
                 "siuii", c->owner, (int64_t)c->changes.base_revision, c->restores,
                 (int64_t)c->created, (int64_t)c->touched))
            return false;
        c->id = (uint64_t)sqlite3_last_insert_rowid(db);
    } else if (!run(db, err,
                    "UPDATE candidate SET base_rev=?2,restores=?3,touched_us=?4 WHERE id=?1",
                    "iiui", (int64_t)c->id, (int64_t)c->changes.base_revision, c->restores,
                    (int64_t)c->touched)) {
        return false;
    }
    return put_changes(db, c, touched, n, err);
}

bool db_put_candidate(sqlite3 *db, struct db_candidate *c, const struct config_edit *touched,
                      size_t n, struct err *err)
{
    uint64_t before = c->id;
    bool ok;

    if (!begin(db, err))
        return false;
    ok = put_candidate(db, c, touched, n, err);
    failpoint("in_stage");
    ok = end(db, ok, err);
    if (!ok)
        c->id = before;
    return ok;
}

bool db_delete_candidate(sqlite3 *db, uint64_t id, struct err *err)
{
    return run(db, err, "DELETE FROM candidate WHERE id=?1", "i", (int64_t)id);
}

void db_candidate_clear(struct db_candidate *c)
{
    free(c->owner);
    changes_free(&c->changes);
    *c = (struct db_candidate){0};
}

static bool read_changes(sqlite3 *db, struct db_candidate *c, struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st =
        prepare(db,
                "SELECT class,name,b.body,n.body,schema_ver FROM change LEFT JOIN blob b ON "
                "b.hash=base_hash LEFT JOIN blob n ON n.hash=new_hash WHERE cand=?1",
                err);
    bool ok = st;

    if (st)
        bind(st, "i", (int64_t)c->id);
    while (ok && sqlite3_step(st) == SQLITE_ROW) {
        const char *class = (const char *)sqlite3_column_text(st, 0),
                   *name = (const char *)sqlite3_column_text(st, 1);
        const struct section *s = section_find(class);
        struct row *rows[2] = {NULL, NULL};

        for (int i = 0; ok && i < 2; i++) {
            if (sqlite3_column_type(st, 2 + i) == SQLITE_NULL)
                continue;
            rows[i] = read_row(class, name, (const char *)sqlite3_column_text(st, 2 + i),
                               (size_t)sqlite3_column_bytes(st, 2 + i), NULL,
                               sqlite3_column_int(st, 4), err);
            ok = rows[i];
        }
        if (ok && s)
            changes_put(&c->changes, s, name, rows[0], rows[1]);
        row_free(&rows[0]);
        row_free(&rows[1]);
    }
    return ok;
}

bool db_candidates(sqlite3 *db, void (*fn)(void *arg, struct db_candidate *c), void *arg,
                   struct err *err)
{
    AUTO(stmt)
    sqlite3_stmt *st = prepare(
        db, "SELECT id,owner,base_rev,restores,created_us,touched_us FROM candidate ORDER BY id",
        err);

    if (!st)
        return false;
    while (sqlite3_step(st) == SQLITE_ROW) {
        struct db_candidate c = {.id = (uint64_t)sqlite3_column_int64(st, 0),
                                 .owner = xstrdup((const char *)sqlite3_column_text(st, 1)),
                                 .restores = (uint64_t)sqlite3_column_int64(st, 3),
                                 .created = sqlite3_column_int64(st, 4),
                                 .touched = sqlite3_column_int64(st, 5)};
        struct err why;

        c.changes.base_revision = (uint64_t)sqlite3_column_int64(st, 2);
        if (read_changes(db, &c, &why)) {
            fn(arg, &c);
        } else {
            log_warning("the uncommitted changes %llu of %s cannot be read and stay unused: %s",
                        (unsigned long long)c.id, c.owner, why.text);
            db_candidate_clear(&c);
        }
    }
    return true;
}
