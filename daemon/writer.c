/* writer.c - the thread that owns a database connection and commits in groups.
 *
 * Nobody waits for a group to gather: while one is being made durable the next fills, and the
 * slower the disk, the larger the groups. A job that waits lies on its fiber's stack and is woken
 * by wait_done, the last thing that touches it. A job runs between SAVEPOINT and RELEASE unless it
 * is alone in its group.
 *
 * SQLite ends a whole transaction by itself when the disk is full or broken; then the jobs that
 * have run are lost with it and fail, and those behind them are tried in a transaction of their
 * own. */
#include "daemon/writer.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/alert.h"
#include "daemon/fiber.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define LAZY_MS 200
#define STATEMENTS 256 /* slots; a power of two, far more than there are statements */

struct job {
    struct job *next;
    writer_fn fn;
    void (*done)(void *arg, bool ok);
    void *arg;
    struct err err;
    struct wait wait;
    bool ok;
    bool alone; /* outside any transaction */
    bool lazy; /* nobody waits; ours to free */
    bool settled; /* done was called */
};

struct writer {
    char name[16];
    sqlite3 *db;
    bool (*sync)(void *arg, struct err *err);
    void *sync_arg;
    _Atomic(void (*)(void)) on_damage;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    struct job *first, **end;
    bool urgent; /* a job of the queue is waited for */
    struct timespec until; /* when the lazy ones of the queue have waited long enough */
    bool idle, stop;
    struct writer_stats stats;
    bool want_sync, trouble; /* the thread's own from here on */
    struct {
        const char *sql;
        sqlite3_stmt *stmt;
    } statements[STATEMENTS];
};

static _Thread_local struct writer *current; /* of the writer's thread */

/* ---- statements ---- */

sqlite3_stmt *writer_stmt(const char *sql, struct err *err)
{
    struct writer *w = current;
    size_t i = ((uintptr_t)sql >> 4 ^ (uintptr_t)sql) % STATEMENTS;

    assert(w);
    for (size_t tries = 0; w->statements[i].sql != sql; i = (i + 1) % STATEMENTS) {
        assert(tries++ < STATEMENTS);
        if (w->statements[i].sql)
            continue;
        if (sqlite3_prepare_v3(w->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &w->statements[i].stmt,
                               NULL) != SQLITE_OK) {
            err_set(err, E_IO, "%s: %s", sql, sqlite3_errmsg(w->db));
            return NULL;
        }
        w->statements[i].sql = sql;
        break;
    }
    sqlite3_reset(w->statements[i].stmt);
    sqlite3_clear_bindings(w->statements[i].stmt);
    return w->statements[i].stmt;
}

void writer_want_sync(void)
{
    assert(current);
    current->want_sync = true;
}

static bool run_sql(struct writer *w, const char *sql, struct err *err)
{
    sqlite3_stmt *s;

    if (!w->db) /* a group of jobs and its sync, no transaction */
        return true;
    s = writer_stmt(sql, err);
    if (!s)
        return false;
    sqlite3_step(s);
    if (sqlite3_reset(s) != SQLITE_OK)
        return err_set(err, E_IO, "%s: %s", sql, sqlite3_errmsg(w->db));
    return true;
}

static void roll_back(struct writer *w)
{
    if (w->db && !sqlite3_get_autocommit(w->db))
        run_sql(w, "ROLLBACK", NULL);
}

/* ---- groups ---- */

static void settle(struct job *j)
{
    if (j->done && !j->settled)
        j->done(j->arg, j->ok);
    j->settled = true;
}

static void finish(struct job *j)
{
    settle(j);
    if (j->lazy)
        free(j);
    else
        wait_done(&j->wait); /* j may be gone from here on */
}

static void report(const struct writer *w, const struct err *failure)
{
    char key[60];

    log_critical("writer %s: %s", w->name, failure->text);
    snprintf(key, sizeof(key), "writer %s", w->name);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                "The %s%s cannot be written: %s. Nothing that needs it is accepted until it can be.",
                w->name, w->db ? " database" : "", failure->text);
}

static void report_end(const struct writer *w)
{
    char key[60];

    log_info("writer %s: writing works again", w->name);
    snprintf(key, sizeof(key), "writer over %s", w->name);
    alert_raise(ALERT_SYSTEM, ALERT_INFO, key, "The %s%s can be written again.", w->name, w->db ? " database" : "");
}

/* Jobs first up to (not including) last have had their transaction: with failure, none of it is
 * kept. */
static void finish_group(struct writer *w, struct job *first, struct job *last,
                         const struct err *failure)
{
    unsigned n = 0, failed = 0;

    for (struct job *j = first; j != last; j = j->next) {
        if (failure && j->ok) {
            j->ok = false;
            j->err = *failure;
        }
        n++;
        failed += !j->ok;
    }
    pthread_mutex_lock(&w->lock);
    w->stats.groups += !failure;
    w->stats.jobs += n;
    w->stats.failed += failed;
    pthread_mutex_unlock(&w->lock);
    if (failure && !w->trouble)
        report(w, failure);
    else if (!failure && w->trouble)
        report_end(w);
    w->trouble = failure;
    while (first != last) {
        struct job *next = first->next;

        finish(first);
        first = next;
    }
}

static void look_for_damage(struct writer *w)
{
    int code = w->db ? sqlite3_errcode(w->db) & 0xff : SQLITE_OK;
    void (*fn)(void) = atomic_load(&w->on_damage);

    if (fn && (code == SQLITE_CORRUPT || code == SQLITE_NOTADB))
        fn();
}

/* False: SQLite has ended the transaction, or it must be ended. */
static bool run_job(struct writer *w, struct job *j, bool savepoint, struct err *failure)
{
    bool wanted_sync = w->want_sync;

    if (savepoint && !run_sql(w, "SAVEPOINT job", failure))
        return false;
    j->ok = j->fn(w->db, j->arg, &j->err);
    if (!j->ok)
        look_for_damage(w);
    if (w->db && sqlite3_get_autocommit(w->db)) {
        if (j->ok || !j->err.code)
            err_set(failure, E_IO, "transaction ended by the database: %s", sqlite3_errmsg(w->db));
        else
            *failure = j->err;
        return false;
    }
    if (!j->ok)
        w->want_sync = wanted_sync;
    if (savepoint && !j->ok && !run_sql(w, "ROLLBACK TO job", failure))
        return false;
    if (savepoint && !j->ok)
        settle(j); /* those behind it in the group see what it gives back */
    return !savepoint || run_sql(w, "RELEASE job", failure);
}

static bool commit(struct writer *w, struct err *failure)
{
    msec_t begin = clock_now(), took;

    if (w->want_sync && w->sync && !w->sync(w->sync_arg, failure)) {
        if (!failure->code)
            err_set(failure, E_IO, "making files durable failed");
        return false;
    }
    if (!run_sql(w, "COMMIT", failure))
        return false;
    took = clock_now() - begin;
    pthread_mutex_lock(&w->lock);
    w->stats.last_commit_ms = took;
    if (took > w->stats.max_commit_ms)
        w->stats.max_commit_ms = took;
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* Runs the jobs from first on in one transaction; returns those that are still to be run. */
static struct job *run_group(struct writer *w, struct job *first)
{
    struct err failure = {0};
    struct job *j = first, *end = first;
    bool ok, any = false, savepoints;

    while (end && !end->alone)
        end = end->next;
    savepoints = w->db && first->next != end;
    w->want_sync = false;
    ok = run_sql(w, "BEGIN IMMEDIATE", &failure);
    if (!ok) { /* none of them can run: all fail now, for one after the other would take as long as
                  the trouble */
        for (; j != end; j = j->next)
            j->ok = true;
    }
    while (ok && j != end) {
        ok = run_job(w, j, savepoints, &failure);
        any |= j->ok;
        j = j->next;
    }
    if (ok && any)
        ok = commit(w, &failure);
    if (!ok)
        look_for_damage(w);
    if (!ok || !any)
        roll_back(w);
    finish_group(w, first, j, ok ? NULL : &failure);
    return j;
}

static void run_alone(struct writer *w, struct job *j)
{
    j->ok = j->fn(w->db, j->arg, &j->err);
    if (!j->ok)
        look_for_damage(w);
    if (!sqlite3_get_autocommit(w->db)) { /* it left its own transaction open */
        if (j->ok)
            j->ok = err_set(&j->err, E_IO, "transaction was not ended");
        roll_back(w);
    }
    pthread_mutex_lock(&w->lock);
    w->stats.jobs++;
    w->stats.failed += !j->ok;
    pthread_mutex_unlock(&w->lock);
    finish(j);
}

/* ---- the queue ---- */

static void push(struct writer *w, struct job *j)
{
    bool wake;

    assert(current != w); /* a job must not wait for another */
    pthread_mutex_lock(&w->lock);
    wake = w->idle && !w->urgent && (!j->lazy || !w->first);
    if (j->lazy && !w->first) {
        clock_gettime(CLOCK_MONOTONIC, &w->until);
        w->until.tv_nsec += LAZY_MS * 1000000L;
        if (w->until.tv_nsec >= 1000000000L) {
            w->until.tv_sec++;
            w->until.tv_nsec -= 1000000000L;
        }
    }
    if (!j->lazy)
        w->urgent = true;
    *w->end = j;
    w->end = &j->next;
    pthread_mutex_unlock(&w->lock);
    if (wake)
        pthread_cond_signal(&w->work);
}

/* Everything that has gathered; NULL: stopped and drained. */
static struct job *take(struct writer *w)
{
    struct job *jobs;
    int late = 0;

    pthread_mutex_lock(&w->lock);
    w->idle = true;
    while (!w->urgent && !w->stop && !(w->first && late)) {
        if (w->first)
            late = pthread_cond_timedwait(&w->work, &w->lock, &w->until);
        else
            pthread_cond_wait(&w->work, &w->lock);
    }
    w->idle = false;
    jobs = w->first;
    w->first = NULL;
    w->end = &w->first;
    w->urgent = false;
    pthread_mutex_unlock(&w->lock);
    return jobs;
}

static void *writer_thread(void *arg)
{
    struct writer *w = arg;
    struct job *jobs;

    current = w;
    while ((jobs = take(w))) {
        while (jobs) {
            struct job *next = jobs->next;

            if (jobs->alone) {
                run_alone(w, jobs);
                jobs = next;
            } else {
                jobs = run_group(w, jobs);
            }
        }
    }
    return NULL;
}

static bool run_and_wait(struct writer *w, struct job *j, struct err *err)
{
    wait_init(&j->wait);
    push(w, j);
    wait_for_done(&j->wait, w->name);
    if (!j->ok && err)
        *err = j->err;
    return j->ok;
}

bool writer_txn(struct writer *w, writer_fn fn, void *arg, struct err *err)
{
    return writer_txn_then(w, fn, NULL, arg, err);
}

bool writer_txn_then(struct writer *w, writer_fn fn, void (*done)(void *arg, bool ok), void *arg,
                     struct err *err)
{
    struct job j = {.fn = fn, .done = done, .arg = arg};

    return run_and_wait(w, &j, err);
}

bool writer_call(struct writer *w, writer_fn fn, void *arg, struct err *err)
{
    struct job j = {.fn = fn, .arg = arg, .alone = true};

    return run_and_wait(w, &j, err);
}

void writer_post(struct writer *w, writer_fn fn, void (*done)(void *arg, bool ok), void *arg)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->fn = fn;
    j->done = done;
    j->arg = arg;
    j->lazy = true;
    push(w, j);
}

struct writer *writer_new(const char *name, sqlite3 *db, bool (*sync)(void *arg, struct err *err),
                          void *arg)
{
    struct writer *w = xcalloc(1, sizeof(*w));
    pthread_condattr_t attr;
    sigset_t all, old;
    int e;

    str_copy(w->name, sizeof(w->name), name);
    w->db = db;
    w->sync = sync;
    w->sync_arg = arg;
    w->end = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->work, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    e = pthread_create(&w->thread, NULL, writer_thread, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        log_critical("starting writer %s: %s", name, strerror(e));
        abort();
    }
    pthread_setname_np(w->thread, w->name);
    return w;
}

void writer_on_damage(struct writer *w, void (*fn)(void))
{
    atomic_store(&w->on_damage, fn);
}

void writer_free(struct writer **wp)
{
    struct writer *w = *wp;

    *wp = NULL;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->work);
    pthread_join(w->thread, NULL);
    for (size_t i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(w->statements[i].stmt);
    if (sqlite3_close_v2(w->db) != SQLITE_OK)
        log_warning("writer %s: the database did not close", w->name);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->work);
    free(w);
}

void writer_stats(struct writer *w, struct writer_stats *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->stats;
    pthread_mutex_unlock(&w->lock);
}
