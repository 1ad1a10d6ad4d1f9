/* route.h - where mail for a domain goes: SMTP routes, destination controls, MX hosts and their
 * addresses.
 *
 * The table look-ups are pure; route_resolve asks the DNS. Any thread. */
#ifndef POSTERN_ROUTE_H
#define POSTERN_ROUTE_H

#include <stdbool.h>

#include "daemon/dns.h"
#include "daemon/schedule.h"
#include "store/base/net.h"
#include "store/config.h"

/* The most specific entry for a domain: "example.com" is that domain alone, ".example.com" what is
 * below it, then ALL. NULL: no route, ordinary DNS. An entry whose host is USEDNS means the same.
 */
const struct smtp_route *route_find(const struct config *cfg, const char *domain);
bool route_uses_dns(const struct smtp_route *r); /* also for NULL */
bool route_discards(const struct smtp_route *r); /* /dev/null */

/* The outgoing SMTP Auth profile of the route of a domain, NULL: none. */
const struct smtpauth_profile *route_auth(const struct config *cfg, const char *domain);

struct hop { /* one host of a route, "HOST", "[HOST]", an address; then :PORT; then /pri=N */
    char host[256];
    unsigned port; /* 25 when not given */
    unsigned priority; /* 0, the highest, when not given */
    bool no_mx; /* in brackets, or an address */
};
bool hop_parse(const char *text, struct hop *out);

/* Destination controls with everything inherited filled in. */
struct controls {
    struct limits limits;
    bool per_address; /* the connection limit counts for each address of a mail exchanger */
    int tls; /* DEST_TLS_NONE ..., never _DEFAULT */
    int dane; /* DANE_OFF, DANE_OPPORTUNISTIC, DANE_MANDATORY */
    bool mta_sts;
    bool bounce_verification; /* envelope senders are tagged (bv.h) */
    int ip_preference; /* IP_PREFER_V6 ..., never IP_DEFAULT */
    const char *bounce_profile; /* NULL: the listener's */
    const char *entry; /* the name of the entry that applies */
};
void route_controls(const struct config *cfg, const char *domain, struct controls *out);

/* Name of the destination in the schedule: messages with the same key may share connections. The
 * domain itself, or for routed domains "ROUTE/ENTRY", so that a smart host's connections serve
 * every domain under the same controls. */
void route_key(const struct config *cfg, const char *domain, char *out, size_t size);

/* The same of mail that is redirected to a host, whatever the routes say (NULL: it is not). */
void route_key_via(const struct config *cfg, const char *via, const char *domain, char *out,
                   size_t size);

/* The profile of mail to the domain: of its destination entry, of the listener it came by, or Default; what it leaves to
 * Default is filled in. Its texts are cfg's. */
void route_bounce_profile(const struct config *cfg, const char *domain, const char *of_listener,
                          struct bounce_profile *out);

struct target_host {
    char host[256]; /* MX host or host of the route; the address when there is no name */
    unsigned port, preference;
    bool mx_secure; /* the DNS answer that named it was signed */
    struct dns_addrs found; /* what is known of its addresses, without the addresses; unvalidated also when the MX
                               answer that named it was */
    char route[256]; /* the host of the SMTP route that led to it, as it stands there; "" none */
    char why[120]; /* no address could be had: the reason */
};
struct target { /* one address to try */
    const struct target_host *of;
    struct addr addr; /* with port */
};
struct targets {
    struct target *items; /* in the order to try them */
    unsigned n;
    struct target_host **hosts; /* in the order of their preference; some may have no address */
    unsigned nhosts;
    bool routed; /* by an SMTP route other than USEDNS: nobody but the administrator vouches for the
                    hosts */
    bool redirected; /* to a host that is none of the route's */
    bool mx_secure; /* the MX answer of the domain was signed, or the answer that there is none */
    char expanded[256]; /* the domain after CNAMEs */
    unsigned ttl; /* seconds until the DNS may say something else */
};
enum route_result { ROUTE_OK, ROUTE_DISCARD, ROUTE_RETRY, ROUTE_FAIL };
struct route_problem { /* of ROUTE_RETRY and ROUTE_FAIL */
    const char *status; /* "5.1.2" */
    char text[480];
    bool dns; /* counts as a DNS bounce */
    bool bogus; /* an answer that DNSSEC refutes */
};
/* YIELDS. turn rotates hosts of equal priority, so that connections are spread over them. Without
 * ROUTE_OK there are no targets, but hosts that have no address, perhaps: free them in any case. */
enum route_result route_resolve(const struct config *cfg, const char *domain, unsigned turn,
                                msec_t deadline, struct targets *out,
                                struct route_problem *problem);
enum route_result route_resolve_via(const struct config *cfg, const char *via, const char *domain,
                                    unsigned turn, msec_t deadline, struct targets *out,
                                    struct route_problem *problem); /* see route_key_via */
void targets_free(struct targets *t);

/* The address a connection of this family is to start from: of several, the next in turn. false: the system chooses. */
bool route_source(const struct config *cfg, int family, struct addr *out);
bool route_has_source(const struct config *cfg, int family);

/* Would a connection to a (with port) come back to one of our own listeners? */
bool route_is_self(const struct config *cfg, const struct addr *a);

#endif
