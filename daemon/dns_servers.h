/* dns_servers.h - which DNS servers are asked, and whether what they say is validated: the part of name resolution that is built
 * from the configuration (dnsconfig) and changes with the health of the servers.
 *
 * Servers are checked now and then, and at once when questions fail. One that does not answer, or that takes away what
 * validation needs, is not asked while there is another one, of a lower priority if need be; it comes back when it has
 * recovered. Validation that has once been proven is never given up for servers that have changed their mind. Any thread. */
#ifndef POSTERN_DNS_SERVERS_H
#define POSTERN_DNS_SERVERS_H

#include "daemon/dns_resolver.h"
#include "store/config.h"

void dns_servers_start(const char *home);
void dns_servers_stop(void);

/* YIELDS, for a short while after a change of the configuration: until it is known whether to validate. A reference, or NULL.
 * *seen is for dns_servers_recheck. */
struct resolver *dns_servers_resolver(unsigned *seen);
/* YIELDS. A question failed: looks at the servers again. true: there is another resolver now, ask it. */
bool dns_servers_recheck(unsigned seen, msec_t deadline);
void dns_servers_flush(void); /* YIELDS. What the resolver has learnt is forgotten */
bool dns_servers_validate(void);
msec_t dns_servers_reverse_timeout(void); /* 0: names of clients are not looked up */

struct dns_server_info {
    const char *address;
    unsigned priority;
    bool used, up, dnssec, checked;
    msec_t took;  /* its last answer */
    usec_t since; /* of this state */
    const char *why;
};
struct dns_anchor_info {
    const char *domain, *kind; /* "built-in", "configured" */
    const char *text;          /* "20326 VALID" */
    usec_t checked;            /* RFC 5011: the last time that worked; 0: never, or not kept up */
};
void dns_servers_list(void (*fn)(void *arg, const struct dns_server_info *s), void *arg);
void dns_anchors_list(void (*fn)(void *arg, const struct dns_anchor_info *a), void *arg);
const char *dns_servers_source(void); /* "root", "own", "system" */

#endif
