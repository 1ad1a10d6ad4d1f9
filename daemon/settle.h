/* settle.h - what follows from the answers: each recipient of an attempt is delivered, tried again later or given up,
 * its sender is told where that is due, and it is logged and counted. */
#ifndef POSTERN_SETTLE_H
#define POSTERN_SETTLE_H

#include "daemon/bounce.h"
#include "daemon/deststats.h"
#include "daemon/smtp_client.h"
#include "store/base/clock.h"
#include "store/base/net.h"

/* Recipients of one message for one next hop, and what became of them. */
struct batch {
    struct message *m;
    unsigned n;
    unsigned *rids;
    struct rcpt_result *results;
    uint64_t dcid;
    char host[256], peer[ADDR_TEXT];
    char *refusal; /* the last 5XX reply, for the statistics; NULL: none */
    bool expired;
    bool held; /* not tried: the destination is down */
};

struct settlement {
    const struct bounce_profile *profile;
    usec_t now, received, expires; /* of the message */
    usec_t next_try; /* of what is left */
    unsigned left; /* recipients */
    struct bounce_rcpt *failed, *relayed, *delayed; /* reports to send */
    unsigned nfailed, nrelayed, ndelayed;
    struct rcpt *after; /* of each recipient, until what its sender is told is on disk */
    struct tally tally;
};

/* YIELDS (reports are queued). Writes the results into the message, when the reports are on disk: sessions of its
 * other destinations write what they find there. t comes with profile, now, received and
 * expires, and says what is left. Recipients whose report could not be queued stay. */
void settle(struct batch *b, struct settlement *t);
void settlement_free(struct settlement *t);

/* How long after so many attempts the next one is. refused: by a reply, not by the network. */
usec_t settle_interval(const struct bounce_profile *p, uint32_t attempts, bool refused);

#endif
