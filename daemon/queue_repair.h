/* queue_repair.h - a damaged queue.db is replaced by a new one with what could be read of it; the old files stay beside
 * it as queue.db.damaged-DATE. At the start, before anybody else has the database; queue_repair_want on any thread. */
#ifndef POSTERN_QUEUE_REPAIR_H
#define POSTERN_QUEUE_REPAIR_H

#include <sqlite3.h>

#include "store/base/err.h"

bool queue_damaged(sqlite3 *db); /* what the last call on it failed with says so */

void queue_repair_want(const char *path); /* at the next start: it was found damaged while in use */
bool queue_repair_wanted(const char *path);

/* First of all: completes a repair that a crash cut off. */
bool queue_repair_finish(const char *path, struct err *err);

/* Logs and raises an alert: how many messages were saved, which MIDs may be missing. *missing: some may be. */
bool queue_repair(const char *path, bool *missing, struct err *err);

#endif
