/* attempt.h - what was known, decided and seen in each delivery attempt, kept in state.db for "why
 * did this mail go that way?" (tlsexplain).
 *
 * Two things are stored. A trail is the hosts that were tried and what happened at each: evidence,
 * verdict, session. It is made when connections are made, and stored once however often it repeats.
 * An attempt is a message, a time and the number of a trail: ten octets or so, because most
 * messages travel on connections that are open already. Storing is lazy and bounded; the last
 * second may be lost in a crash. A trail belongs to one fiber, the rest is for any thread. */
#ifndef POSTERN_ATTEMPT_H
#define POSTERN_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tls_policy.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/net.h"

#define TRAIL_MAX_HOSTS 20u /* more are counted only */
#define TRAIL_MAX_TEXT (16u << 10)

enum trail_end {
    TRAIL_USED, /* the message was handed to this session */
    TRAIL_REFUSED, /* the verdict: nothing goes to this host */
    TRAIL_UNREACHABLE, /* no connection, greeting or EHLO */
    TRAIL_INSECURE, /* not the TLS that the verdict demands */
    TRAIL_ROUTE, /* no host at all: why says what the DNS or the route said */
    TRAIL_DOWN, /* nothing was tried, because all hosts failed a moment ago: why says how */
};
struct trail_host { /* texts may be NULL; they are escaped or plain, never raw from the network */
    const char *host;
    const struct addr *addr; /* with port; NULL: never got so far */
    const char *entry; /* of the destination controls */
    const struct tls_evidence *evidence;
    const struct tls_verdict *verdict;
    enum trail_end end;
    bool reused; /* the connection was open already */
    bool encrypted;
    unsigned passed; /* checks that did, of those the verdict names */
    const char *protocol, *cipher;
    const char *matched; /* name or TLSA record that the certificate matched */
    const char *why; /* of every end but TRAIL_USED; of that one, a check that did not pass */
};
struct trail { /* private; all 0 is an empty one */
    struct buf text;
    unsigned hosts;
    uint64_t id;
    msec_t stored;
};
void trail_begin(struct trail *t); /* forgets what is in it */
void trail_add(struct trail *t, const struct trail_host *h);
void trail_free(struct trail *t);

struct attempt {
    uint64_t mid, dcid; /* dcid 0: no connection */
    const char *domain; /* of the recipients */
    unsigned delivered, deferred, bounced; /* recipients */
    int code; /* of the reply that decided, 0: none */
    const char
        *text; /* what was said about the deferred or bounced ones; NULL: nothing; may be raw */
};
void attempt_note(struct trail *t, const struct attempt *a); /* never waits */

/* YIELDS. The attempts for a message, or with mid 0 the newest ones for a domain, oldest first:
 * objects {mid, time, time_us, dcid, domain, delivered, deferred, bounced, code, text,
 * hosts:[{host, address, entry, level, dane, dane_state, sts_state, rule, use, must:[..],
 * look:[..], passed:[..], end, reused, encrypted, protocol, cipher, matched, why}]}. hosts is
 * missing when the trail is not kept any more. New; NULL and err. */
json_t *attempt_find(uint64_t mid, const char *domain, unsigned limit, struct err *err);

bool attempt_start(struct err *err); /* after state_start */
void attempt_stop(void); /* before state_stop */

#endif
