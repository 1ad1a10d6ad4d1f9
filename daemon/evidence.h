/* evidence.h - gathers what tls_policy.c decides from: destination controls, DNS and its
 * signatures, TLSA records, the MTA-STS policy, exceptions, failed handshakes. Deliveries and
 * tlsexplain ask the same questions here. Any thread. */
#ifndef POSTERN_EVIDENCE_H
#define POSTERN_EVIDENCE_H

#include "daemon/dane.h"
#include "daemon/mta_sts.h"
#include "daemon/route.h"
#include "daemon/tls_verify.h"

#define EXCEPTION_NAME 65

struct domain_evidence { /* what holds for every host of a domain */
    char domain[256], expanded[256];
    struct tls_evidence facts; /* with nothing of a host yet */
    bool routed;
    bool accepted; /* the mail was accepted, not relayed for its sender: no DANE */
    struct sts sts;
    char exception[EXCEPTION_NAME]; /* STS_EXCEPTED: by this one */
    msec_t expires; /* until when it may be relied on */
};
struct host_evidence { /* one address of one host */
    struct tls_evidence facts;
    struct tls_need need; /* the verdict is need.verdict */
    struct tls_names names; /* borrowed from the domain's evidence and the target */
    struct dane dane;
    char exceptions[4][EXCEPTION_NAME]; /* by kind of exception: the one that applies, or "" */
    uint64_t trust; /* tls_verify_id() when it was gathered */
    msec_t expires; /* at most the domain's */
};

/* YIELDS. t: where route_resolve leads; flags: MSG_*. Free with the _free calls. */
void evidence_of_domain(const struct config *cfg, const char *domain, const struct targets *t,
                        unsigned flags, msec_t deadline, struct domain_evidence *out);
void evidence_of_host(const struct config *cfg, const struct domain_evidence *d,
                      const struct target *t, msec_t deadline, struct host_evidence *out);
/* Is what holds for t, as gathered in e, also what holds for this other address of the same host? Asks nobody: only
 * exceptions and failed handshakes go by the address. */
bool evidence_same(const struct config *cfg, const struct domain_evidence *d,
                   const struct host_evidence *e, const struct target *t,
                   const struct target *other);
void domain_evidence_free(struct domain_evidence *d);
void host_evidence_free(struct host_evidence *h);

/* Why a host is refused or must have TLS, in a sentence for people: the rule, and what was found.
 */
void evidence_reason(const struct host_evidence *h, char *out, size_t size);

#endif
