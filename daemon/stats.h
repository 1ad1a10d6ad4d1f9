/* stats.h - counters and rates as status shows them. Counting is a relaxed atomic add on a per-loop
 * line; any thread. */
#ifndef POSTERN_STATS_H
#define POSTERN_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/clock.h"
#include "store/base/err.h"

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
    X(TLS_FAILED_OUT, "tls_failed_out", "Failed Outbound TLS Handshakes")                          \
    X(DNS_REQUESTS, "dns_requests", "DNS Requests")                                                \
    X(NET_REQUESTS, "net_requests", "Network Requests")                                            \
    X(CACHE_HITS, "cache_hits", "Cache Hits")                                                      \
    X(CACHE_MISSES, "cache_misses", "Cache Misses")                                                \
    X(CACHE_EXCEPTIONS, "cache_exceptions", "Cache Exceptions")                                    \
    X(CACHE_EXPIRED, "cache_expired", "Cache Expired")                                             \
    X(DNS_SECURE, "dns_secure", "Secure Answers")                                                  \
    X(DNS_INSECURE, "dns_insecure", "Insecure Answers")                                            \
    X(DNS_BOGUS, "dns_bogus", "Bogus Answers")                                                     \
    X(DNS_SERVFAIL, "dns_servfail", "Server Failures")                                             \
    X(DNS_TIMEOUT, "dns_timeout", "Time-outs")                                                     \
    X(AUTH_IN, "auth_in", "Successful SMTP Authentications")                                       \
    X(AUTH_FAILED_IN, "auth_failed_in", "Failed SMTP Authentications")
enum counter {
#define X(id, json, words) STAT_##id,
    STATS_COUNTERS(X)
#undef X
        STAT_COUNT
};

enum gauge { GAUGE_CONN_IN, GAUGE_CONN_OUT, GAUGE_TLS_OUT, GAUGE_COUNT };

void stats_add(enum counter s, uint64_t n);
void gauge_add(enum gauge g, int n);
uint64_t stats_get(enum counter s); /* lifetime: what was saved plus since start */
int64_t gauge_get(enum gauge g);

struct stats_value {
    uint64_t reset, uptime, lifetime; /* since the last reset, since the start, ever */
};
void stats_value(enum counter s, struct stats_value *out);
const char *stats_name(enum counter s); /* "inj_msgs" */
uint64_t stats_rate(enum counter s,
                    unsigned minutes); /* events per hour, over the last 1, 5 or 15 minutes */
void stats_reset(void);
usec_t stats_since(void); /* start of the engine */
usec_t stats_last_reset(void); /* 0: never */

/* Reads HOME/counters; stats_stop writes it. A damaged file is logged and replaced: counters are never a reason not to
 * carry mail. */
bool stats_start(const char *home, struct err *err);
void stats_run(void); /* once there are loops: samples the rates every few seconds, writes the file every minute */
void stats_stop(void);
void stats_sample(void); /* what the timer calls; for tests */

#endif
