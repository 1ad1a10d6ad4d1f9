/* stats.h - counters and rates as status shows them. Counting is a relaxed atomic add on a per-loop line; any thread. */
#ifndef POSTERN_STATS_H
#define POSTERN_STATS_H

#include <stdint.h>

/* name, XML/JSON name, words of "status" */
#define STATS_COUNTERS(X)                                                                          \
    X(INJ_MSGS, "inj_msgs", "Messages Received")                                                   \
    X(INJ_RECIPS, "inj_recips", "Recipients Received")                                             \
    X(GEN_BOUNCE_RECIPS, "gen_bounce_recips", "Gen. Bounce Recipients")                            \
    X(REJECTED_RECIPS, "rejected_recips", "Rejected Recipients")                                   \
    X(DROPPED_MSGS, "dropped_msgs", "Dropped Messages")                                            \
    X(SOFT_BOUNCED_EVTS, "soft_bounced_evts", "Soft Bounced Events")                               \
    X(COMPLETED_RECIPS, "completed_recips", "Completed Recipients")                                \
    X(HARD_BOUNCED_RECIPS, "hard_bounced_recips", "Hard Bounced Recipients")                       \
    X(DNS_HARD_BOUNCED, "dns_hard_bounced_recips", "DNS Hard Bounces")                             \
    X(FIVEXX_HARD_BOUNCED, "5xx_hard_bounced_recips", "5XX Hard Bounces")                          \
    X(EXPIRED_HARD_BOUNCED, "expired_hard_bounced_recips", "Expired Hard Bounces")                 \
    X(OTHER_HARD_BOUNCED, "other_hard_bounced_recips", "Other Hard Bounces")                       \
    X(DELIVERED_RECIPS, "delivered_recips", "Delivered Recipients")                                \
    X(DELETED_RECIPS, "deleted_recips", "Deleted Recipients")                                      \
    X(CONNS_IN, "conns_in_total", "Inbound Connections")                                           \
    X(CONNS_OUT, "conns_out_total", "Outbound Connections")                                        \
    X(TLS_IN, "tls_in", "Inbound TLS Connections")                                                 \
    X(TLS_OUT, "tls_out", "Outbound TLS Connections")                                              \
    X(TLS_FAILED_IN, "tls_failed_in", "Failed Inbound TLS Handshakes")                             \
    X(TLS_FAILED_OUT, "tls_failed_out", "Failed Outbound TLS Handshakes")
enum stat {
#define X(id, json, words) STAT_##id,
    STATS_COUNTERS(X)
#undef X
    STAT_COUNT
};

enum gauge { GAUGE_CONN_IN, GAUGE_CONN_OUT, GAUGE_COUNT };

void stats_add(enum stat s, uint64_t n);
void gauge_add(enum gauge g, int n);
uint64_t stats_get(enum stat s);  /* lifetime: what was saved plus since start */
int64_t gauge_get(enum gauge g);

#endif
