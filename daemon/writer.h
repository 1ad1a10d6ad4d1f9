/* writer.h - a thread that owns one SQLite connection and commits in groups.
 *
 * Jobs gather while the previous group is being made durable; the next group runs them all in one transaction,
 * each in its own savepoint, so one that fails undoes only itself. Before COMMIT the group's sync hook is
 * called (the spool syncs its segments there). When the COMMIT is on disk the jobs' fibers wake.
 * There are two writers: the queue's (mail) and the configuration's, so that neither waits for the other. */
#ifndef POSTERN_WRITER_H
#define POSTERN_WRITER_H

#include <sqlite3.h>
#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"

struct writer;

/* db is used by the writer's thread alone from now on. sync may be NULL; it runs on the writer thread before each
 * COMMIT that follows at least one job that asked for it; false makes the whole group fail with err. */
struct writer *writer_new(const char *name, sqlite3 *db, bool (*sync)(void *arg, struct err *err),
                          void *arg);
void writer_free(struct writer **w); /* drains, then joins and closes db */

typedef bool (*writer_fn)(sqlite3 *db, void *arg, struct err *err);

/* YIELDS. Runs fn in the next group commit; true when that commit is on disk. Outside a fiber it blocks. */
bool writer_txn(struct writer *w, writer_fn fn, void *arg, struct err *err);

/* As writer_txn, but outside any transaction, alone, between groups: for work that brings its own (configuration
 * commits, pragmas, backup). */
bool writer_call(struct writer *w, writer_fn fn, void *arg, struct err *err);

/* Lazy: no one waits; runs in a group that happens anyway or after at most 200 ms. done (may be NULL) runs on the
 * writer thread after the commit (ok) or failure. arg belongs to fn/done. */
void writer_post(struct writer *w, writer_fn fn, void (*done)(void *arg, bool ok), void *arg);

/* Wakes up waiting jobs with E_IO from now on (disk trouble) / normal again; counters for status and bench. */
struct writer_stats {
    unsigned long long groups, jobs, failed;
    msec_t last_commit_ms, max_commit_ms;
};
void writer_stats(struct writer *w, struct writer_stats *out);

#endif
