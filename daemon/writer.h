/* writer.h - a thread that owns one SQLite connection and commits in groups.
 *
 * Jobs gather while the previous group is being made durable; the next group runs them all in one transaction,
 * each in its own savepoint, so one that fails undoes only itself. Before COMMIT the group's sync hook is
 * called (the spool syncs its segments there). When the COMMIT is on disk the jobs' fibers wake.
 * There are three writers: the ledger's, which has no database (what makes mail durable), the queue's, and the
 * configuration's, so that none waits for another. */
#ifndef POSTERN_WRITER_H
#define POSTERN_WRITER_H

#include <sqlite3.h>
#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"

struct writer;

/* db is used by the writer's thread alone from now on, and closed by writer_free; NULL: jobs get none, and a group is
 * made durable by sync alone. sync may be NULL; it runs on
 * the writer's thread before each COMMIT of a group in which a job that succeeded called writer_want_sync();
 * false makes the whole group fail with err. */
struct writer *writer_new(const char *name, sqlite3 *db, bool (*sync)(void *arg, struct err *err),
                          void *arg);
/* fn runs on the writer's thread when a job finds the database damaged (SQLITE_CORRUPT, SQLITE_NOTADB). */
void writer_on_damage(struct writer *w, void (*fn)(void));
void writer_free(struct writer **w); /* drains, then joins and closes db */

typedef bool (*writer_fn)(sqlite3 *db, void *arg, struct err *err);

/* YIELDS. Runs fn in the next group commit; true when that commit is on disk. Outside a fiber it blocks. Shutdown
 * does not interrupt it. What fn wrote is undone when it returns false. When the group fails, the error is E_IO
 * (or the sync hook's) although fn itself succeeded. */
bool writer_txn(struct writer *w, writer_fn fn, void *arg, struct err *err);

/* The same; done runs on the writer's thread before any later job does: as soon as fn has failed and is undone, else
 * after the commit or its failure. */
bool writer_txn_then(struct writer *w, writer_fn fn, void (*done)(void *arg, bool ok), void *arg,
                     struct err *err);

/* As writer_txn, but outside any transaction, alone, between groups: for work that brings its own (configuration
 * commits, pragmas, backup). */
bool writer_call(struct writer *w, writer_fn fn, void *arg, struct err *err);

/* Lazy: no one waits; runs in a group that happens anyway or after at most 200 ms. done (may be NULL) runs on the
 * writer thread as for writer_txn_then. arg belongs to fn/done. */
void writer_post(struct writer *w, writer_fn fn, void (*done)(void *arg, bool ok), void *arg);

/* For jobs, on the writer's thread. writer_stmt: a statement prepared once for the life of the writer, reset and
 * with its bindings cleared; sql must be a literal: its address is the key. NULL: err says why (E_IO). */
void writer_want_sync(void);
sqlite3_stmt *writer_stmt(const char *sql, struct err *err);

struct writer_stats { /* since the start; failed counts jobs, whatever the reason */
    unsigned long long groups, jobs, failed;
    msec_t last_commit_ms, max_commit_ms;
};
void writer_stats(struct writer *w, struct writer_stats *out);

#endif
