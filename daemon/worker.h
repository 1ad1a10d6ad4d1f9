/* worker.h - a small thread pool for calls that block (LDAP, fsync of a directory, large verifications). */
#ifndef POSTERN_WORKER_H
#define POSTERN_WORKER_H

#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"

void workers_start(unsigned threads); /* 0: four */
void workers_stop(void);              /* what was posted is done first */

/* YIELDS. Runs fn(arg) on a worker thread and returns its result. Without a deadline, because arg must stay valid:
 * fn limits its own time; shutdown does not interrupt it. Outside a fiber, or without workers, it simply calls fn. */
bool worker_call(bool (*fn)(void *arg, struct err *err), void *arg, struct err *err);

/* Fire and forget; false when the queue (1024) is full. */
bool worker_post(void (*fn)(void *arg), void *arg);

#endif
