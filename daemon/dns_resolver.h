/* dns_resolver.h - one libunbound context, with a thread that takes its answers. A new configuration, a change of the servers
 * in use or a flush makes a new one; the old one ends with its last query. Any thread. */
#ifndef POSTERN_DNS_RESOLVER_H
#define POSTERN_DNS_RESOLVER_H

#include <unbound.h>

#include "daemon/dns_answer.h"

struct dns_zone { /* servers of one domain */
    char *name;
    bool cache; /* they are asked to resolve, not for what they have */
    struct strlist servers;
};
struct dns_plan { /* what a resolver is made from */
    struct strlist servers; /* asked about everything; none: the root servers */
    struct dns_zone *zones;
    unsigned nzones;
    struct strlist anchors;   /* "example.com. DS 1 13 2 AB..." */
    char root_key[512];       /* a file kept up by RFC 5011; "": none */
    struct strlist untrusted; /* domains */
    bool validate;
    bool all; /* everything is validated, not only what is below anchors of one's own */
    unsigned min_ttl, max_ttl, cache_mib;
};
void dns_plan_text(const struct dns_plan *p, struct buf *out); /* as unbound.conf(5) has it */
void dns_plan_free(struct dns_plan *p);

struct resolver;
struct resolver *resolver_new(const struct dns_plan *p, struct err *err); /* YIELDS */
struct resolver *resolver_ref(struct resolver *r);
void resolver_free(struct resolver **r); /* drops one reference */
void resolvers_wait(void);               /* at the end: for two seconds, for answers that are on their way */

struct query;
struct query *query_begin(struct resolver *r, const char *name, int type); /* takes the reference to r, which may be NULL */
bool query_wait(struct query *q, msec_t deadline);                         /* YIELDS. false: not yet */
void query_drop(struct query **q);                                        /* nobody wants its answer any more */
struct dns_answer *query_end(struct query **q, msec_t deadline);          /* YIELDS. Never NULL */

#endif
