/* queue_bulk.h - what an administrator does with many queued messages at once: delete, bounce,
 * redirect.
 *
 * The queue is walked in slices in the order of MIDs, up to the newest message there was at the
 * beginning. Deliveries and new mail go on between two slices and beside them. What a session has in
 * hand is not taken from it: such messages are tried again for a moment, then left and counted. */
#ifndef POSTERN_QUEUE_BULK_H
#define POSTERN_QUEUE_BULK_H

#include "daemon/queue_run.h"

enum bulk_kind { BULK_DELETE, BULK_BOUNCE, BULK_REDIRECT };

struct bulk_result {
    uint64_t messages, recipients; /* done, and on disk */
    uint64_t reports; /* bounces sent */
    uint64_t busy; /* messages left because they are being delivered */
    uint64_t failed; /* messages left because their bounce could not be queued */
    uint64_t at; /* MID the walk has come to, of end */
    uint64_t end;
    bool stopped; /* go_on said so, or the daemon ends */
};

struct bulk {
    enum bulk_kind kind;
    struct queue_pick pick;
    const char *host; /* BULK_REDIRECT: "" takes the redirection back */
    bool (*go_on)(void *arg, const struct bulk_result *so_far); /* YIELDS; after each slice */
    void *arg;
};

/* YIELDS. false: the queue's disk does not work; out says what was done before. */
bool queue_bulk(const struct bulk *b, struct bulk_result *out, struct err *err);

#endif
