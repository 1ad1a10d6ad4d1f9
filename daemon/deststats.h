/* deststats.h - counters by recipient domain, for hoststatus, tophosts and hostrate: since the
 * start of the engine, for the domains heard of last. A domain with mail in the queue is never
 * forgotten; when the table is full of those, further ones are not counted. Any thread; every call
 * takes one lock for a moment. */
#ifndef POSTERN_DESTSTATS_H
#define POSTERN_DESTSTATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/clock.h"

#define DESTSTATS_DOMAINS 50000u

#define DEST_COUNTERS(X)                                                                           \
    X(SOFT, "soft_bounced_evts")                                                                   \
    X(HARD_DNS, "dns_hard_bounced_recips")                                                         \
    X(HARD_5XX, "5xx_hard_bounced_recips")                                                         \
    X(HARD_EXPIRED, "expired_hard_bounced_recips")                                                 \
    X(HARD_OTHER, "other_hard_bounced_recips")                                                     \
    X(DELIVERED, "delivered_recips")                                                               \
    X(DELETED, "deleted_recips")
enum dest_counter {
#define X(id, json) DEST_##id,
    DEST_COUNTERS(X)
#undef X
        DEST_COUNTER_COUNT
};
enum dest_gauge { /* what is now */
                  DEST_ACTIVE, /* recipients in the queue */
                  DEST_ATTEMPTED, /* those that were tried before */
                  DEST_SESSIONS, /* deliveries at work on it, connected or not */
                  DEST_PENDING, /* those that are connecting */
                  DEST_GAUGE_COUNT
};
enum dest_reach {
    DEST_UNKNOWN,
    DEST_UP,
    DEST_DOWN
}; /* at the last attempt; in a change: DEST_UNKNOWN leaves it */

struct dest_change {
    unsigned count[DEST_COUNTER_COUNT];
    int gauge[DEST_GAUGE_COUNT];
    enum dest_reach reach;
    usec_t at; /* of an attempt; 0: none */
    const char *error; /* the reply of a 5XX bounce, as it came; NULL: none */
    const char *address; /* ... and who said it */
};
void deststats_change(const char *domain, const struct dest_change *c);

/* Gathers the changes of the recipients of a message and passes them on by domain: usually there is
 * one. Starts as {0}; tally_end when all is said. domain is borrowed until then. */
struct tally {
    const char *domain;
    struct dest_change change;
};
struct dest_change *tally_of(struct tally *t, const char *domain);
void tally_end(struct tally *t);

struct dest_stats {
    char domain[256];
    uint64_t count[DEST_COUNTER_COUNT];
    uint64_t gauge[DEST_GAUGE_COUNT];
    enum dest_reach reach;
    usec_t last; /* attempt; 0: none */
    char error[256]; /* the last 5XX reply, escaped; "" none */
    char address[64];
    usec_t error_at;
};
uint64_t dest_hard(const struct dest_stats *d); /* hard bounces of all kinds */
bool deststats_get(const char *domain,
                   struct dest_stats *out); /* false: nothing is known; all zero */

enum dest_order { DEST_BY_ACTIVE, DEST_BY_SESSIONS, DEST_BY_DELIVERED, DEST_BY_HARD, DEST_BY_SOFT };
size_t deststats_top(enum dest_order order, struct dest_stats *out,
                     size_t max); /* the largest first */

void deststats_forget(void); /* everything: for tests */

#endif
