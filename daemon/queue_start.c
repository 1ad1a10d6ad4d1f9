/* queue_start.c - see queue_inside.h. The queue is opened (and repaired, if it must be) when the daemon starts,
 * and read when there is a configuration: rows of queue.db first, then what only the ledger has. */
#include "daemon/queue_inside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/deststats.h"
#include "daemon/ledger.h"
#include "daemon/listeners.h"
#include "daemon/logfile.h"
#include "daemon/message.h"
#include "daemon/queue_repair.h"
#include "daemon/queue_salvage.h"
#include "daemon/route.h"
#include "daemon/smtp_pool.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define SCHEMA_FILE "schema/queue.sql"

__asm__(".section .rodata\n"
        ".global queue_schema\n"
        "queue_schema:\n"
        ".incbin \"" SCHEMA_FILE "\"\n"
        ".byte 0\n"
        ".previous\n");

extern const char queue_schema[];

static bool sql(sqlite3 *db, const char *text, struct err *err)
{
    char *message = NULL;

    if (sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK)
        return true;
    err_set(err, E_IO, "queue.db: %s", message ? message : sqlite3_errmsg(db));
    sqlite3_free(message);
    return false;
}

static bool database_error(sqlite3 *db, struct err *err)
{
    q.damaged = q.damaged || queue_damaged(db);
    return err_set(err, E_IO, "queue.db: %s", sqlite3_errmsg(db));
}

static sqlite3 *open_database(const char *path, struct err *err)
{
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        err_set(err, E_IO, "opening %s: %s", path, db ? sqlite3_errmsg(db) : "no memory");
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_extended_result_codes(db, 1);
    /* EXCLUSIVE first: WAL then needs no shared memory. One commit is one sync of the log. */
    if (!sql(
            db,
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;"
            "PRAGMA wal_autocheckpoint = 4000;",
            err) ||
        !sql(db, queue_schema, err)) {
        q.damaged = queue_damaged(db);
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

static bool read_note(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *s;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT text FROM note WHERE name = 'paused_by'", -1, &s, NULL) != SQLITE_OK)
        return database_error(db, err);
    q.paused_by[0] = '\0';
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        str_copy(q.paused_by, sizeof(q.paused_by), (const char *)sqlite3_column_text(s, 0));
    else if (rc != SQLITE_DONE)
        database_error(db, err);
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool read_values(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *s;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT name, value FROM value", -1, &s, NULL) != SQLITE_OK)
        return database_error(db, err);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(s, 0);
        uint64_t value = (uint64_t)sqlite3_column_int64(s, 1), *copy;

        for (int k = 0; k < ID_KINDS; k++)
            if (str_eq(name, queue_id_names[k]))
                atomic_store(&q.ids[k], value);
        clock_jumps_read(&q.jumps, name, (usec_t)value);
        copy = xmalloc(sizeof(*copy));
        *copy = value;
        free(map_remove(&q.kept, name));
        map_set(&q.kept, name, copy);
    }
    if (rc != SQLITE_DONE)
        database_error(db, err);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE && read_note(db, err);
}

static bool open_and_read(struct err *err)
{
    q.damaged = false;
    q.jumps.n = 0;
    q.db = open_database(q.path, err);
    if (q.db && read_values(q.db, err))
        return true;
    sqlite3_close(q.db);
    q.db = NULL;
    return false;
}

static bool repair(struct err *err)
{
    *err = (struct err){0};
    return queue_repair(q.path, &q.missing, err);
}

bool queue_start(const char *home, struct err *err)
{
    char *spool = xasprintf("%s/spool", home);
    const char *name;
    size_t pos = 0;
    void *value;
    bool ok;

    q.path = xasprintf("%s/queue.db", home);
    schedule_init(&q.schedule, 1);
    ok = spool_open(spool, err) && queue_repair_finish(q.path, err) &&
         ((!queue_repair_wanted(q.path) && !queue_log_damaged(q.path)) || repair(err)) &&
         (open_and_read(err) || (q.damaged && repair(err) && open_and_read(err)));
    free(spool);
    if (!ok)
        return false;
    q.schedule.suspended = queue_kept_value("suspended") != 0;
    q.park_from = queue_kept_value("park_from");
    while (map_next(&q.kept, &pos, &name, &value)) /* see control_queue.c */
        if (str_starts(name, "listener/") && *(uint64_t *)value)
            listeners_suspend(name[9] ? name + 9 : NULL, true);
    return true;
}

/* --- what queue.db has --- */

/* The clock may have been set since the row was written. A retry that is further away than the profile lets any be
 * was to be under a clock that was set back: it is due. */
static void mend_times(const struct config *cfg, struct message *m, usec_t wall)
{
    m->received = clock_jumps_apply(&q.jumps, m->mid, m->received);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        struct bounce_profile p;
        usec_t most;

        if (r->state != RCPT_QUEUED || r->next_try <= wall)
            continue;
        route_bounce_profile(cfg, address_domain(r->address), m->bounce_profile, &p);
        most = (usec_t)p.max_retry * 1000000;
        if (r->next_try > wall + most + most / 10 + 60 * (usec_t)1000000)
            r->next_try = wall;
    }
}

/* A row whose last recipient is done, but which was still to be deleted when the last engine ended. */
static void forget_later(uint64_t mid, struct slice place)
{
    struct body *body = body_decode(place.p, place.n, NULL);
    struct change *c;

    if (!body)
        return;
    c = xcalloc(1, sizeof(*c));
    c->mid = mid;
    c->gone = body;
    changes_add(c);
}

/* Every row becomes an entry of the schedule. A damaged one is told and left alone. false: a page
 * cannot be read, or the disk. */
static bool load_entries(sqlite3 *db, const struct config *cfg, struct err *err)
{
    msec_t now = clock_now();
    usec_t wall = clock_wall();
    uint64_t damaged = 0;
    sqlite3_stmt *s;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT mid, body, envelope, state FROM message ORDER BY mid", -1,
                           &s, NULL) != SQLITE_OK)
        return database_error(db, err);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        uint64_t mid = (uint64_t)sqlite3_column_int64(s, 0);
        struct slice place = row_column(s, 1);
        struct err one = {0};
        struct message *m = NULL;
        struct queued *e = NULL;

        if (spool_account(place.p, place.n, &one))
            m = message_decode(mid, row_column(s, 2), row_column(s, 3), &one);
        if (m) {
            mend_times(cfg, m, wall);
            e = entry_make(cfg, m, now, wall);
        }
        if (e) {
            e->segment = spool_segment_of(place.p, place.n);
            schedule_add(&q.schedule, e, now);
        } else if (m) {
            forget_later(mid, place);
        } else {
            damaged++;
            log_critical("queue: message %" PRIu64 " cannot be delivered: %s", mid, one.text);
        }
        if (mid > atomic_load(&q.ids[ID_MID]))
            atomic_store(&q.ids[ID_MID], mid);
        message_free(&m);
    }
    if (rc != SQLITE_DONE) {
        database_error(db, err);
        sqlite3_finalize(s);
        return false;
    }
    sqlite3_finalize(s);
    if (damaged) {
        q.unreadable = true;
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "queue damaged",
                    "%" PRIu64 " messages cannot be delivered, because their envelopes or bodies cannot be "
                    "read; they stay in queue.db, and the system log has their MIDs. All others are delivered.",
                    damaged);
    }
    if (q.schedule.messages)
        log_info("queue: %" PRIu64 " messages, %" PRIu64 " recipients", q.schedule.messages,
                 q.schedule.rcpts);
    if (damaged)
        log_critical("queue: %" PRIu64 " messages are damaged and stay in queue.db", damaged);
    return true;
}

/* The database is repaired, and everything that was read of it is read again. */
static bool load_again(const struct config *cfg, struct err *err)
{
    bool suspended = q.schedule.suspended;

    sqlite3_close(q.db);
    q.db = NULL;
    schedule_free(&q.schedule);
    schedule_init(&q.schedule, 1);
    q.schedule.suspended = suspended;
    deststats_forget();
    changes_stop();
    spool_forget_accounts();
    return repair(err) && open_and_read(err) && load_entries(q.db, cfg, err);
}

/* --- what the ledger has and queue.db has not --- */

struct recovery {
    const struct config *cfg;
    uint64_t passed; /* known to be in queue.db, or to have been */
    struct ledger_mark mark; /* the last record */
    bool add; /* the second time through: only then is passed known */
    uint64_t added, damaged, last; /* last: of one segment */
    struct change *rows, **end;
    struct body **bad; /* of damaged messages: their bytes count until all others are counted */
    size_t nbad;
};

static bool recover_message(struct recovery *r, const struct ledger_record *rec, struct err *err)
{
    struct message *m = message_decode(rec->mid, rec->envelope, (struct slice){NULL, 0}, err);
    struct queued *e = NULL;
    struct change *row;

    /* Its bytes count before they are looked at: nothing else may keep the segment yet. */
    if (m && spool_account(rec->place.p, rec->place.n, err))
        m->body = body_decode(rec->place.p, rec->place.n, err);
    row = m && m->body && body_check(m->body, err) ? change_row(m, err) : NULL; /* as it was */
    if (row) {
        mend_times(r->cfg, m, clock_wall());
        e = entry_make(r->cfg, m, clock_now(), clock_wall());
    }
    if (row && !e) {
        change_free(row);
        row = NULL;
    }
    if (row) {
        e->segment = body_segment(m->body);
        schedule_add(&q.schedule, e, clock_now());
        *r->end = row;
        r->end = &row->next;
        if (rec->mid > atomic_load(&q.ids[ID_MID]))
            atomic_store(&q.ids[ID_MID], rec->mid);
    }
    if (!row && m && m->body) {
        r->bad = xrealloc(r->bad, (r->nbad + 1) * sizeof(struct body *));
        r->bad[r->nbad++] = body_ref(m->body);
    }
    message_free(&m);
    return row;
}

static bool read_record(void *arg, uint32_t number, const struct ledger_record *rec)
{
    struct recovery *r = arg;
    struct err err = {0};

    r->last = rec->seq;
    if (rec->passed > r->passed && !r->add)
        r->passed = rec->passed;
    if (rec->seq > r->mark.seq)
        r->mark = (struct ledger_mark){rec->seq, number};
    if (!r->add || rec->seq <= r->passed || schedule_find(&q.schedule, rec->mid))
        return true;
    if (recover_message(r, rec, &err)) {
        r->added++;
    } else {
        r->damaged++;
        log_critical("queue: message %" PRIu64 " was being stored when the engine ended, and cannot be read: %s",
                     rec->mid, err.text);
    }
    return true;
}

static uint64_t read_segment(void *arg, uint32_t number, struct slice area)
{
    struct recovery *r = arg;
    uint64_t lost;

    r->last = 0;
    lost = ledger_scan(number, area, read_record, r);
    if (lost && r->add)
        log_critical("queue: %" PRIu64 " bytes of the ledger in segment %08" PRIx32
                     " are damaged, or were never completely written",
                     lost, number);
    return r->last;
}

/* Twice: a queue.db that was repaired may not know how far it had come, and the records do. */
static void read_ledger(const struct config *cfg, struct recovery *r)
{
    uint32_t from = (uint32_t)queue_kept_value("ledger_segment");

    r->cfg = cfg;
    r->end = &r->rows;
    r->passed = queue_kept_value("ledger");
    r->mark = (struct ledger_mark){r->passed, from};
    spool_ledger_read(from, read_segment, r);
    r->add = true;
    if (r->mark.seq > r->passed) /* not after an orderly end */
        spool_ledger_read(from, read_segment, r);
    changes_add_rows(r->rows, &r->mark);
    for (size_t i = 0; i < r->nbad; i++) {
        if (!q.unreadable) /* else a row that nobody could read may need the segment */
            body_remove_pieces(r->bad[i]);
        body_free(&r->bad[i]);
    }
    free(r->bad);
    if (r->added)
        log_info("queue: %" PRIu64 " messages more, from the ledger", r->added);
    if (r->damaged)
        log_critical("queue: %" PRIu64 " messages of the ledger cannot be read; none of them was acknowledged, "
                     "unless the disk has lost what it had taken",
                     r->damaged);
}

/* --- ready --- */

static void changes_failed(void)
{
    pthread_mutex_lock(&q.lock);
    queue_kick_clock();
    pthread_mutex_unlock(&q.lock);
}

/* On the writer's thread. What cannot be read is not better tomorrow; a new start repairs it, and what
 * was acknowledged is on disk. */
static void found_damaged(void)
{
    queue_repair_want(q.path);
    log_critical("queue: %s is damaged; the engine ends, and the next one repairs it", q.path);
    logfile_flush();
    _exit(70);
}

/* Those that were before every message that is left. */
static void forget_jumps(void)
{
    const struct queued *oldest = schedule_oldest(&q.schedule);
    unsigned n = q.jumps.n;

    clock_jumps_forget(&q.jumps, oldest ? oldest->mid : UINT64_MAX);
    if (q.jumps.n != n)
        changes_add(change_jumps(&q.jumps));
}

/* With the first configuration: destinations have limits and routes only now. */
bool queue_load(const struct config *cfg, struct err *err)
{
    struct recovery recovered = {0};

    if (q.writer)
        return true;
    if (!q.db)
        return err_set(err, E_IO, "the queue is not open");
    if (!load_entries(q.db, cfg, err) && !(q.damaged && load_again(cfg, err)))
        return false;
    read_ledger(cfg, &recovered);
    forget_jumps();
    if (!q.kept.n && spool_bodies()) { /* it was there before: somebody took it away */
        q.missing = true;
        log_critical("queue: queue.db is new, but there are bodies in the spool; they are kept as lost-*");
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "queue missing",
                    "The queue's database was missing at the start and is new, but there are bodies of messages "
                    "in the spool. They are kept there as lost-*; without the database nobody knows where they go.");
    }
    if (q.missing)
        spool_keep_lost();
    spool_ready(!q.unreadable);
    q.failures = spool_failures();
    q.writer = writer_new("queue", q.db, spool_sync, &q.failures);
    writer_on_damage(q.writer, found_damaged);
    q.db = NULL; /* the writer's now */
    changes_start(q.writer, recovered.passed, changes_failed);
    spool_ledger_passed(recovered.passed);
    ledger_start(&recovered.mark);
    /* A full disk must not keep what is queued from being delivered; they are reserved later. */
    ids_reserved(NULL, writer_txn(q.writer, ids_reserve, NULL, NULL));
    return true;
}

void queue_stop(void)
{
    struct flush f = {0};
    unsigned unwritten;
    const char *key;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&q.lock);
    q.running = false;
    pthread_mutex_unlock(&q.lock);
    ledger_stop();
    if (q.writer) {
        writer_txn_then(q.writer, queue_write_changes, changes_written, &f, NULL);
        writer_txn(q.writer, ids_final, NULL, NULL);
        writer_free(&q.writer);
    }
    sqlite3_close(q.db);
    q.db = NULL;
    unwritten = changes_stop();
    if (unwritten)
        log_critical("queue: what became of %u messages could not be written; they may be delivered again",
                     unwritten);
    smtp_pool_stop();
    schedule_free(&q.schedule);
    spool_close();
    free(q.path);
    q.path = NULL;
    while (map_next(&q.kept, &pos, &key, &value))
        free(value);
    map_free(&q.kept);
    pos = 0;
    while (map_next(&q.turns, &pos, &key, &value))
        free(value);
    map_free(&q.turns);
}
