/* net.h - addresses, networks and domain names: parse, print, compare. Pure; any thread. */
#ifndef POSTERN_NET_H
#define POSTERN_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "store/base/err.h"

struct addr { /* an IPv4 or IPv6 address with a port in host order; family 0: none */
    int family;
    unsigned port;
    unsigned char ip[16]; /* IPv4 uses the first four */
};

#define ADDR_TEXT 64 /* room for any text form, brackets and port included */

bool addr_parse(const char *text, struct addr *out);               /* "192.0.2.1", "2001:db8::1", "[2001:db8::1]" */
bool addr_parse_port(const char *text, unsigned deflt, struct addr *out); /* "192.0.2.1:25", "[::1]:25" */
char *addr_text(const struct addr *a, char *out);                  /* without port */
char *addr_text_port(const struct addr *a, char *out);             /* "192.0.2.1:25", "[::1]:25" */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);
void addr_from_sockaddr(struct addr *a, const struct sockaddr_storage *ss); /* v4-mapped becomes IPv4 */
bool addr_eq(const struct addr *a, const struct addr *b);          /* without port */
bool addr_is_loopback(const struct addr *a);
bool addr_is_public(const struct addr *a); /* false: private, loopback, link-local, multicast, documentation... */

/* Networks as administrators write them: "10.1.1.0/24", "10.1.1.10-20", "10.2.3." (partial), "2001:db8::/32". */
struct net {
    struct addr lo, hi;
};
bool net_parse(const char *text, struct net *out, struct err *err);
bool net_has(const struct net *n, const struct addr *a);

/* Domain names. host_check: letters, digits, hyphens, underscores inside labels, 1-253 bytes, labels 1-63. */
bool host_check(const char *name, struct err *err);
bool host_is_fqdn(const char *name);                    /* host_check and at least two labels, no trailing dot */
bool domain_matches(const char *name, const char *pattern); /* "example.com" itself; ".example.com" what is below */
bool domain_to_ascii(const char *name, char *out, size_t size, struct err *err); /* IDNA A-labels, lower case */

#endif
