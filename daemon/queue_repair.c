/* queue_repair.c - see queue_repair.h.
 *
 * The new database is written as queue.db.new. Then the old files get their second names, and a
 * mark (queue.db.swap) says that from here on the new one counts: whoever finds the mark removes
 * the old log, which would be played into the wrong file, puts the new database in place and
 * removes the mark. A crash anywhere leaves either the old files or the mark. */
#include "daemon/queue_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/message.h"
#include "daemon/queue_salvage.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define ID_JUMP                                                                                    \
    1000000u /* identifiers that may have been handed out since the last one we know of */
#define GAPS_TOLD 20u

extern const char queue_schema[]; /* queue.c */

bool queue_damaged(sqlite3 *db)
{
    int code = sqlite3_errcode(db) & 0xff;

    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

static char *name_of(const char *path, const char *suffix)
{
    return xasprintf("%s%s", path, suffix);
}

static bool exists(const char *path, const char *suffix)
{
    char *name = name_of(path, suffix);
    bool there = access(name, F_OK) == 0;

    free(name);
    return there;
}

static bool make_mark(const char *path, const char *suffix)
{
    char *name = name_of(path, suffix);
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    free(name);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void remove_file(const char *path, const char *suffix)
{
    char *name = name_of(path, suffix);

    unlink(name);
    free(name);
}

static bool sync_directory(const char *path)
{
    char *copy = xstrdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    free(copy);
    return ok;
}

void queue_repair_want(const char *path)
{
    make_mark(path, ".check");
}

bool queue_repair_wanted(const char *path)
{
    return exists(path, ".check");
}

bool queue_repair_finish(const char *path, struct err *err)
{
    char *fresh = name_of(path, ".new");
    bool ok = true;

    if (exists(path, ".swap")) {
        if (access(fresh, F_OK) == 0) {
            remove_file(path, "-wal");
            remove_file(path, "-shm");
            ok = sync_directory(path) && rename(fresh, path) == 0 && sync_directory(path);
        }
        if (ok) {
            remove_file(path, ".check");
            remove_file(path, ".swap");
        } else {
            err_errno(err, errno, "putting the repaired database %s in place", path);
        }
    } else {
        unlink(fresh);
    }
    free(fresh);
    return ok;
}

struct repair {
    sqlite3 *db; /* the new one */
    sqlite3_stmt *insert;
    uint64_t last_mid, saved, unreadable;
    unsigned ngaps;
    struct buf gaps;
    struct err err;
};

static bool exec(sqlite3 *db, const char *sql, struct err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           err_set(err, E_IO, "queue.db.new: %s", sqlite3_errmsg(db));
}

static bool save_row(void *arg, uint64_t mid, struct slice body, struct slice envelope,
                     struct slice state)
{
    struct message *m = message_decode(mid, envelope, state, NULL);
    struct repair *r = arg;
    int rc;

    if (!m && state.n) { /* its recipients are tried from the beginning */
        state = (struct slice){NULL, 0};
        m = message_decode(mid, envelope, state, NULL);
    }
    if (!m) {
        r->unreadable++;
        log_critical("queue: repair: the envelope of message %" PRIu64 " is damaged", mid);
        return true;
    }
    message_free(&m);
    sqlite3_reset(r->insert);
    sqlite3_bind_int64(r->insert, 1, (sqlite3_int64)mid);
    sqlite3_bind_blob(r->insert, 2, body.p, (int)body.n, SQLITE_STATIC);
    sqlite3_bind_blob(r->insert, 3, envelope.p, (int)envelope.n, SQLITE_STATIC);
    if (state.p)
        sqlite3_bind_blob(r->insert, 4, state.p, (int)state.n, SQLITE_STATIC);
    else
        sqlite3_bind_null(r->insert, 4);
    rc = sqlite3_step(r->insert);
    if (rc != SQLITE_DONE)
        return err_set(&r->err, E_IO, "queue.db.new: %s", sqlite3_errmsg(r->db));
    r->saved++;
    if (mid > r->last_mid)
        r->last_mid = mid;
    return true;
}

static void note_gap(void *arg, uint32_t page, uint64_t first, uint64_t last)
{
    struct repair *r = arg;
    char text[120];

    if (last > INT64_MAX)
        snprintf(text, sizeof(text), "MID %" PRIu64 " and above", first);
    else
        snprintf(text, sizeof(text), "MID %" PRIu64 " to %" PRIu64, first, last);
    log_critical("queue: repair: page %" PRIu32
                 " is damaged; what is not found elsewhere of %s is missing",
                 page, text);
    if (r->ngaps < GAPS_TOLD)
        buf_printf(&r->gaps, "%s%s", r->ngaps ? "; " : "", text);
    else if (r->ngaps == GAPS_TOLD)
        buf_str_add(&r->gaps, "; and others");
    r->ngaps++;
}

/* Rows of two columns, as many as can be read. */
static void copy_rows(sqlite3 *old, const char *select, sqlite3 *db, const char *insert)
{
    sqlite3_stmt *get = NULL, *put = NULL;

    if (sqlite3_prepare_v2(old, select, -1, &get, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, insert, -1, &put, NULL) == SQLITE_OK)
        while (sqlite3_step(get) == SQLITE_ROW) {
            sqlite3_reset(put);
            sqlite3_bind_value(put, 1, sqlite3_column_value(get, 0));
            sqlite3_bind_value(put, 2, sqlite3_column_value(get, 1));
            sqlite3_step(put);
        }
    sqlite3_finalize(get);
    sqlite3_finalize(put);
}

/* Settings, notes and counters, if they can be read; the log, which may have newer ones, is not looked at. */
static void save_values(const char *path, struct repair *r)
{
    static const char *const ids[] = {"mid", "icid", "dcid"};
    char *uri = xasprintf("file:%s?immutable=1", path), sql[200];
    sqlite3 *old = NULL;

    if (sqlite3_open_v2(uri, &old, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) == SQLITE_OK) {
        copy_rows(old, "SELECT name, value FROM value", r->db, "INSERT OR REPLACE INTO value VALUES (?1, ?2)");
        copy_rows(old, "SELECT name, text FROM note", r->db, "INSERT OR REPLACE INTO note VALUES (?1, ?2)");
    }
    sqlite3_close(old);
    free(uri);
    for (size_t i = 0; i < countof(ids); i++) {
        snprintf(sql, sizeof(sql),
                 "INSERT INTO value VALUES ('%s', %" PRIu64 ") ON CONFLICT (name) DO UPDATE SET "
                 "value = max(value, excluded.value - %u) + %u",
                 ids[i], r->last_mid + ID_JUMP, ID_JUMP, ID_JUMP);
        exec(r->db, sql, &r->err);
    }
}

static bool write_new(const char *path, const char *fresh, struct repair *r, struct salvage *found,
                      struct err *err)
{
    bool ok;

    unlink(fresh);
    ok = sqlite3_open_v2(fresh, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) ==
             SQLITE_OK &&
         exec(r->db, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; BEGIN", err) &&
         exec(r->db, queue_schema, err) &&
         sqlite3_prepare_v2(r->db, "INSERT INTO message VALUES (?1, ?2, ?3, ?4)", -1, &r->insert,
                            NULL) == SQLITE_OK;
    if (!ok && !err->code)
        err_set(err, E_IO, "%s: %s", fresh, sqlite3_errmsg(r->db));
    ok = ok && queue_salvage(path, save_row, note_gap, r, found, err);
    if (!ok && r->err.code)
        *err = r->err;
    sqlite3_finalize(r->insert);
    if (ok)
        save_values(path, r);
    ok = ok && exec(r->db, "COMMIT", err);
    if (sqlite3_close(r->db) != SQLITE_OK && ok)
        ok = err_set(err, E_IO, "closing %s", fresh);
    return ok;
}

/* The old files get another name; they keep the one they have until the mark is there. */
static bool set_aside(const char *path, char kept[400], struct err *err)
{
    static const char *const suffixes[] = {"", "-wal"};
    time_t now = (time_t)(clock_wall() / 1000000);
    char date[24], from[400], to[420];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%S", &tm);
    snprintf(kept, 400, "%.360s.damaged-%s", path, date);
    for (size_t i = 0; i < countof(suffixes); i++) {
        snprintf(from, sizeof(from), "%.390s%s", path, suffixes[i]);
        snprintf(to, sizeof(to), "%s%s", kept, suffixes[i]);
        if (link(from, to) != 0 && errno != EEXIST && errno != ENOENT)
            return err_errno(err, errno, "keeping %s as %s", from, to);
    }
    return true;
}

static void tell(const struct repair *r, const struct salvage *found, const char *kept)
{
    char lost[600];

    snprintf(lost, sizeof(lost),
             r->ngaps             ? "These may be missing, where they were still queued: %s."
             : found->bad_frames ? "A part of its log was damaged: some of the last ones may be missing.%s"
                                 : "None is missing.%s",
             r->ngaps ? buf_str((struct buf *)&r->gaps) : "");
    if (found->bad_frames)
        log_critical("queue: repair: %" PRIu64 " pages of the log are damaged", found->bad_frames);
    log_critical("queue: repair: %" PRIu64 " messages saved from %" PRIu64 " pages, %" PRIu64
                 " pages and %" PRIu64 " envelopes are damaged%s; the old file is %s",
                 r->saved, found->pages, found->bad_pages, r->unreadable,
                 found->searched ? ", some may be delivered again" : "", kept);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "queue repaired",
                "The queue's database was damaged and has been written anew: %" PRIu64
                " messages were saved and are delivered. %s%s The old file is kept as %s, bodies "
                "without an "
                "envelope as lost-* in the spool.",
                r->saved, lost, found->searched ? " Some may be delivered again." : "", kept);
}

bool queue_repair(const char *path, bool *missing, struct err *err)
{
    struct repair r = {.gaps = BUF_INIT(8192)};
    struct salvage found = {0};
    char *fresh = name_of(path, ".new"), kept[400];
    bool ok;

    log_critical("queue: %s is damaged; what can be read is written to a new one", path);
    ok = write_new(path, fresh, &r, &found, err) && set_aside(path, kept, err);
    if (ok && (!make_mark(path, ".swap") || !sync_directory(path)))
        ok = err_errno(err, errno, "marking %s as repaired", path);
    ok = ok && queue_repair_finish(path, err);
    *missing = r.ngaps || r.unreadable || found.bad_frames;
    if (ok)
        tell(&r, &found, kept);
    free(fresh);
    buf_free(&r.gaps);
    return ok || err_wrap(err, "repairing %s", path);
}
