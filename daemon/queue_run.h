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
/* The host it was redirected to, NULL: none; lives as long as the message. */
const char *queue_redirected(const struct message *m);
/* When its message came, by the clock as it goes now: after a jump not what the message itself says. */
usec_t queue_received(const struct item *i);
/* tried: false when the destination was known to be down, which is no attempt */
void queue_defer(struct item *i, unsigned left, usec_t next_try, bool tried);
/* Was not tried after all, or not all of it. changed: states of recipients are, and go to disk. */
void queue_postpone(struct item *i, msec_t delay, bool changed);
void queue_session_end(struct dest *d);

void queue_dest_reached(struct dest *d); /* a host of it has greeted */
void queue_dest_worked(struct dest *d, bool waited);
/* No host took a connection. The interval to the next probe is first, doubled up to most. hold: as
 * in schedule_failed. kind and text: what queue_dest_down gives back. */
void queue_dest_failed(struct dest *d, bool hold, msec_t first, msec_t most, const char *text,
                       const char *why);
void queue_dest_hold(struct dest *d, msec_t until, const char *text); /* as in schedule_hold */
bool queue_dest_down(struct dest *d, char *text,
                     size_t size); /* true: no use connecting yet, and why */
unsigned queue_dest_turn(struct dest *d);

/* --- for the console --- */

typedef bool (*queue_visitor)(const struct message *m, uint64_t bytes,
                              void *arg); /* false: enough */

/* YIELDS. Messages above a MID in the order of MIDs, as many as can be read in some milliseconds, at
 * most max. *last is the MID it came to, 0: the end. */
bool queue_visit(uint64_t after, unsigned max, queue_visitor fn, void *arg, uint64_t *last,
                 struct err *err);

struct queue_dest_state { /* of a destination of the schedule (route_key) */
    usec_t oldest;        /* message; 0: none */
    bool down;
    msec_t down_for;      /* no connection is tried for so long; 0: the next message probes */
    usec_t down_since;    /* by the wall clock */
    unsigned failures, sessions, window; /* the last two: now, and how many it may have */
    uint64_t waiting; /* items that are due */
    char down_error[480]; /* ... because of this */
};
void queue_dest_state(const char *key, struct queue_dest_state *out);

/* What an operation on the queue is about: its recipients that are still to be delivered. */
enum queue_by { QUEUE_ALL, QUEUE_BY_HOST, QUEUE_BY_SENDER };
struct queue_pick {
    enum queue_by by;
    const char *value; /* QUEUE_BY_HOST: a domain in A-labels; QUEUE_BY_SENDER: "" is the null path */
    uint64_t mid; /* and of this message only; 0: of any */
    uint64_t until; /* the last MID; 0: no last */
};

/* Recipients of one message that were taken out of the schedule: no delivery has them until they are
 * given back. The caller fills verdict in. */
struct claim {
    struct message *m;
    struct queued *e;
    unsigned *rids; /* those that were picked */
    unsigned n;
    bool *items; /* which items of e are taken: e->nitems */
    enum rcpt_state verdict; /* RCPT_QUEUED: they stay */
    bool finished; /* that was its last recipient */
    bool unread; /* its row is damaged: left alone */
};
struct claims {
    struct claim *list;
    size_t n;
    uint64_t *busy; /* MIDs of which something picked is being delivered at the moment */
    size_t nbusy;
};

/* YIELDS. Reads messages above after, as many as can be read in some milliseconds, and takes what is
 * picked among them, at most max. *last as for queue_visit. What it took is given back by one of the
 * next three; what those change is on disk after queue_written, or the next queue_claim. */
bool queue_claim(const struct queue_pick *pick, uint64_t after, unsigned max, struct claims *out,
                 uint64_t *last, struct err *err);
void queue_release(struct claims *c); /* as if nothing had happened */
void queue_conclude(struct claims *c); /* the verdicts are in force */
/* From now on the messages go to this host ("HOST", "[HOST]:PORT", as in a route), "": no longer. */
void queue_redirect(struct claims *c, const char *host);
/* YIELDS. false: the disk does not take it; it is tried again, but a restart would forget it. */
bool queue_written(struct err *err);

/* YIELDS. A message as it is now, with its body (which may be gone when it is read: E_IO); NULL: it
 * is not in the queue. */
struct message *queue_get(uint64_t mid, struct err *err);
uint64_t queue_oldest(void); /* MID; 0: the queue is empty */
usec_t queue_longest_hold(void); /* of the schedule's lock by an operation on the queue, since the start */

/* What an attempt made of a recipient: state, attempts, next_try and warnings of now are taken. Sessions of other
 * recipients of the message may be writing all their states to disk. */
void queue_set_rcpt(struct rcpt *r, const struct rcpt *now);

/* A recipient's last error changes: others may be reading it. text is taken over. */
void queue_set_error(struct rcpt *r, char *text);

uint64_t queue_deliver_now(const char *domain); /* NULL: all; how many items are due now */
bool queue_suspend(bool on, struct err *err); /* YIELDS; delivery; outlives a restart */
bool queue_suspended(void);
/* YIELDS. The work queue: while it is paused, mail that comes is queued and not tried, until it is resumed. Outlives a
 * restart, and so does by: who pauses it and why, less than QUEUE_PAUSED_BY bytes; NULL resumes. A queue that is paused
 * takes the new reason. */
#define QUEUE_PAUSED_BY 400
bool queue_pause(const char *by, struct err *err);
bool queue_paused(char by[QUEUE_PAUSED_BY]); /* by may be NULL; "" if nobody knows */
uint64_t queue_parked(void); /* messages that wait for it */
unsigned queue_sessions(void); /* open delivery sessions */
bool queue_keep_value(const char *name, uint64_t value, struct err *err); /* YIELDS; 0 forgets it */
uint64_t queue_kept_value(const char *name); /* as it was at the start */

#endif
