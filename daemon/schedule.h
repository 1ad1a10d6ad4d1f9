/* schedule.h - which message goes to which destination when: the queue's picture in memory, as
 * compact as it can be.
 *
 * Pure data and arithmetic: no clock, no descriptors, no locks (queue.c holds its mutex around
 * every call). A queued message is one struct queued with one item per destination its recipients
 * go to. An item is
 *
 *   deferred  in the heap until its time comes
 *   cold      due, but its message is only on disk
 *   ready     due and in memory, in its destination's list
 *   busy      with a delivery session
 *
 * and destinations that have ready items and may open another session stand in line for one (fair
 * turn).
 *
 * A destination that takes no connections is down (a circuit breaker): what is due for it waits where
 * it is, cold if possible, and takes no session. From time to time one session probes; between two
 * probes a few messages that have waited long are looked at, in case their time is up. Once a message
 * has gone through, the rest follows by more and more sessions.
 *
 * Destinations of which no host has answered yet may be many and all dead: together they have no more
 * than three quarters of the sessions. */
#ifndef POSTERN_SCHEDULE_H
#define POSTERN_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/clock.h"
#include "store/base/list.h"
#include "store/base/map.h"

struct message;

enum item_state { ITEM_NEW, ITEM_DEFERRED, ITEM_COLD, ITEM_READY, ITEM_BUSY, ITEM_DONE };

#define PARKED (NEVER - 1) /* due: not before the work queue is resumed */

struct item { /* the recipients of one message that go to one destination */
    struct list node; /* in ready or cold */
    struct dest *dest;
    struct queued *message;
    msec_t due;
    uint32_t heap; /* place in the heap + 1 */
    uint32_t attempts;
    uint16_t rcpts; /* how many are left; 65535 stands for more */
    uint8_t state;
};

struct queued {
    struct list age; /* in schedule.ages, the oldest first */
    uint64_t mid;
    usec_t received;
    struct message *m; /* NULL: on disk only */
    uint32_t segment; /* of the spool, for compaction */
    bool loaded; /* m was read back from disk */
    uint16_t nitems, left; /* left: items not done */
    struct item items[];
};

/* A delivery session without work, still connected. */
struct idle {
    struct list node;
    struct list among; /* in schedule.idle */
    struct item *item; /* set before wake */
    void (*wake)(struct idle *i); /* called with the lock held */
    unsigned loop; /* whose session it is */
};

struct limits { /* from the destination controls */
    unsigned sessions;
    unsigned messages_per_session;
    unsigned rcpts; /* per period; 0: no limit */
    unsigned rcpt_minutes;
};

struct dest {
    char *key; /* the domain, or the route's domain and its entry */
    struct list ready, cold, idle;
    struct list line; /* in schedule.line, .strange or .over, standing for a session */
    struct limits limits;
    bool limited; /* limits are filled in */
    bool proven; /* its host greeted us the last time (of a new one: set by the caller, who may know) */
    uint32_t nready, ncold, ndeferred, nbusy;
    uint32_t sessions, window;
    uint32_t credit; /* successes since the window grew */
    uint32_t calm; /* below it every success brings one more; what was too much halves it */
    uint32_t rate_used;
    msec_t rate_until; /* end of the period being counted */
    uint32_t failures; /* times in a row that no host took a connection, or did what it must */
    msec_t full_until; /* its hosts take no further connection before: no further session */
    msec_t down_until; /* no session tries before */
    bool held; /* ... nor is anything else done for what waits: it is down */
    bool asleep; /* held, and neither a probe nor a look at what has waited long is due */
    uint32_t look_after; /* ms that a message waits before it is looked at between two probes */
    unsigned looks; /* messages that may be looked at before the next sweep */
    bool told; /* schedule_failed has said so */
    msec_t down_since; /* 0: it is not down */
    msec_t worked_at; /* a message went through; 0: none yet */
    char *down_error; /* what the last connection met */
};

struct schedule {
    struct map dests;
    struct item **heap;
    size_t nheap, heap_cap;
    struct queued **index; /* by mid, open addressing */
    size_t nindex, index_cap;
    struct list line; /* proven destinations waiting for a session */
    struct list strange; /* the others; the two take turns */
    bool strange_first; /* whose turn it is */
    struct list over; /* ... that have their share: as many as are left for all others */
    struct list idle; /* sessions that wait for an item, the longest waiting first */
    uint32_t leaving; /* of them, sent home to make room and not yet gone */
    struct list ages; /* all messages in the order in which they came */
    uint32_t sessions, max_sessions;
    uint32_t strange_sessions; /* of them, with destinations that are not proven */
    uint64_t messages, rcpts, ncold, unattempted;
    uint64_t nasleep; /* of ncold: their destinations are asleep */
    uint64_t nparked; /* messages whose first item is */
    msec_t sweep_at;
    bool suspended;
};

void schedule_init(struct schedule *s, unsigned max_sessions);
void schedule_free(struct schedule *s); /* everything, messages included */

struct dest *schedule_dest(struct schedule *s, const char *key); /* found or made */
struct dest *schedule_find_dest(const struct schedule *s, const char *key);

/* Items are filled by the caller (dest, due, attempts, rcpts); due <= now goes to ready or cold at
 * once. */
struct queued *queued_new(uint64_t mid, unsigned nitems);
void schedule_add(struct schedule *s, struct queued *q, msec_t now);
struct queued *schedule_find(const struct schedule *s, uint64_t mid);

/* Moves what is due. Returns when to come again (NEVER: nothing waits for time). */
msec_t schedule_advance(struct schedule *s, msec_t now);

/* The next destination that shall have a session, counted as opened; NULL: none may. When there are
 * max_sessions and a destination waits, sessions that wait are woken without an item, to end. */
struct dest *schedule_open(struct schedule *s, msec_t now);
bool schedule_lines(const struct schedule *s); /* somebody stands in line who could have one */
void schedule_close(struct schedule *s, struct dest *d, msec_t now); /* a session ended */

/* For an open session: its next item, now busy; NULL: nothing to do, or over the rate. */
struct item *schedule_take(struct schedule *s, struct dest *d, msec_t now);
/* No item now, but the session stays connected: wake is called when there is one. */
void schedule_wait(struct schedule *s, struct dest *d, struct idle *i);
void schedule_unwait(struct idle *i);

/* What became of a busy item. left: recipients that remain. done: true when that was the message's
 * last one; the caller then owns q and frees it. */
void schedule_defer(struct schedule *s, struct item *i, unsigned left, msec_t due, msec_t now);
bool schedule_done(struct schedule *s, struct item *i);
/* As if never taken, but not before due: its hosts take no further connection now, so until then no
 * further session is opened. */
void schedule_postpone(struct schedule *s, struct item *i, msec_t due, msec_t now);

/* Cold items whose messages should be read, at most max, spread over the destinations; they count
 * as busy until schedule_warm (q->m is set now) or schedule_defer. A destination that has enough in
 * memory gets no more; with short_of_memory one that has anything gets nothing, the others little,
 * so that a few slow ones never keep the rest waiting. */
size_t schedule_cold(struct schedule *s, struct item **out, size_t max, bool short_of_memory,
                     msec_t now);
void schedule_warm(struct schedule *s, struct item *i, msec_t now);

/* delivernow in slices: of what is deferred for d (NULL: for all), at most max items become due. *at
 * is where to go on, SIZE_MAX at the beginning, 0 when all was looked at. Returns how many items. */
size_t schedule_now(struct schedule *s, struct dest *d, size_t *at, size_t max, msec_t now);

/* The same of what is PARKED, which schedule_now leaves alone. */
size_t schedule_unpark(struct schedule *s, size_t *at, size_t max, msec_t now);

/* Operations on the queue. Takes an item that no session has out of its place: it counts as busy
 * until schedule_return, _defer or _done. false: it is busy or done. */
bool schedule_claim(struct schedule *s, struct item *i);
/* Back to where it was, with so many recipients left (at least one). */
void schedule_return(struct schedule *s, struct item *i, unsigned left, msec_t now);
void schedule_move(struct schedule *s, struct item *i, struct dest *to); /* a busy one, elsewhere */

/* The oldest message, NULL: none. With d the oldest that has an item for d, looked for in slices:
 * *at is 0 at the beginning, SIZE_MAX at the end; call again until then, with the best so far. */
const struct queued *schedule_oldest(const struct schedule *s);
usec_t schedule_oldest_of(const struct schedule *s, const struct dest *d, size_t *at, size_t max,
                          usec_t best);

void schedule_suspend(struct schedule *s, bool on, msec_t now);

/* A message went through. waited: mostly for the peer, so that more sessions may help. true: the
 * destination had been down. */
bool schedule_worked(struct schedule *s, struct dest *d, bool waited, msec_t now);

/* One of its hosts has greeted: it is proven. true: it was not before, and others may have its place. */
bool schedule_reached(struct schedule *s, struct dest *d, msec_t now);

/* No host of it took a connection, and none is to be tried before the time given (how long that is,
 * is the caller's: schedule_retry). hold: a fault of the network, which any message would meet; false:
 * others may fare better, so each asks. text is copied. true: it is down from now on and was not
 * before. Where other sessions have just worked it is not down: it only gets fewer. */
bool schedule_failed(struct schedule *s, struct dest *d, bool hold, msec_t until, const char *text,
                     msec_t now);
/* The hosts of it are known to be down already: held until then, without a failure of its own. */
void schedule_hold(struct schedule *s, struct dest *d, msec_t until, const char *text, msec_t now);
/* How long after the n-th failure in a row: from first, doubled, to most. */
msec_t schedule_retry(uint32_t failures, msec_t first, msec_t most);
/* Whatever is down may be probed at once: something has changed. d: that one alone; NULL: all. */
void schedule_probe(struct schedule *s, struct dest *d, msec_t now);
bool schedule_holds(const struct dest *d, msec_t now); /* it is down, and its next probe is not due */
/* The next ready item of a destination that is down, now cold: it need not wait in memory. */
struct item *schedule_chill(struct schedule *s, struct dest *d, msec_t now);

#endif
