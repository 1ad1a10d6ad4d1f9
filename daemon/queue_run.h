/* queue_run.h - what the delivery sessions (deliver.c) and the console's handlers (control_queue.c)
 * ask of the queue. Any thread; each call takes the queue's lock for a moment. */
#ifndef POSTERN_QUEUE_RUN_H
#define POSTERN_QUEUE_RUN_H

#include "daemon/fiber.h"
#include "daemon/queue.h"
#include "daemon/schedule.h"

/* --- for a session of one destination --- */

struct item *queue_take(struct dest *d); /* its next item; NULL: nothing to do now */

/* A session that has nothing to do but is still connected. queue_wait YIELDS until there is an
 * item, or until the time is up, the pool gave the connection away (queue_wake), or the daemon
 * stops: NULL. */
struct waiting {
    struct idle idle;
    struct wait wait;
};
struct item *queue_wait(struct dest *d, struct waiting *w, msec_t deadline);
void queue_wake(struct waiting *w);

/* What became of an item; all its recipients' states are in the message. */
void queue_done(struct item *i); /* nothing of it is left */
void queue_defer(struct item *i, unsigned left, usec_t next_try);
void queue_postpone(struct item *i, msec_t delay); /* was not tried after all */
void queue_session_end(struct dest *d);

void queue_dest_worked(struct dest *d, bool waited);
void queue_dest_failed(struct dest *d, msec_t down_for, const char *text);
bool queue_dest_down(struct dest *d, char *text,
                     size_t size); /* true: no use connecting yet, and why */
unsigned queue_dest_turn(struct dest *d);

/* --- for the console --- */

typedef bool (*queue_visitor)(const struct message *m, uint64_t bytes,
                              void *arg); /* false: enough */

/* YIELDS. Messages above a MID in the order of MIDs, at most max rows read. *last is the MID it
 * came to, 0: the end. */
bool queue_visit(uint64_t after, unsigned max, queue_visitor fn, void *arg, uint64_t *last,
                 struct err *err);

struct queue_dest_state { /* of a destination of the schedule (route_key) */
    usec_t oldest;        /* message; 0: none */
    msec_t down_for;      /* no connection is tried for so long; 0: it is not known to be down */
    char down_error[480]; /* ... because of this */
};
void queue_dest_state(const char *key, struct queue_dest_state *out);

uint64_t queue_deliver_now(const char *domain); /* NULL: all; how many recipients are due now */
bool queue_suspend(bool on, struct err *err); /* YIELDS; delivery; outlives a restart */
bool queue_suspended(void);
unsigned queue_sessions(void); /* open delivery sessions */
bool queue_keep_value(const char *name, uint64_t value, struct err *err); /* YIELDS; 0 forgets it */
uint64_t queue_kept_value(const char *name); /* as it was at the start */

#endif
