/* ldap_client.h - one connection to an LDAP server: opened, secured, bound, asked; one operation at a time. It belongs to
 * the fiber that uses it. What a server sends is bounded and, where it is for people, escaped. Referrals and continuation
 * references are not followed: whom they name is not whom the administrator trusts with passwords. */
#ifndef POSTERN_LDAP_CLIENT_H
#define POSTERN_LDAP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ldap_wire.h"
#include "store/base/clock.h"
#include "store/base/net.h"
#include "store/config.h"

struct conn;
struct tls_context;

struct ldap_access { /* how the hosts of a server are reached, and as whom they are asked; made from the configuration */
    enum ldap_securities security;
    bool verify, fqdn, x509;  /* the host's certificate; fqdn, x509: the further looks of sslconfig */
    struct tls_context *tls;  /* NULL in clear */
    struct addr from;         /* family 0: the system's choice */
    enum ldap_binds auth;
    char *bind_dn, *bind_password;
};

struct ldap_client {
    struct conn *conn;
    int last_id;
    uint64_t trust; /* authorities its certificate was verified against; 0: was not */
};

struct ldap_result { /* what the server answered */
    int code; /* LDAP_R_... */
    char text[200]; /* its own words, escaped */
};
void ldap_result_print(const struct ldap_result *r, char out[300]); /* <LDAP Error "..." [0x31]> (its words) */

struct ldap_found {
    struct ldap_result result;
    unsigned entries, references; /* entries: 2 means two or more */
    char *dn; /* of the first, as the server wrote it */
    struct strlist values; /* of its attribute */
};
void ldap_found_free(struct ldap_found *f); /* cleanses the values, which may be passwords */

/* All YIELD, and fail by deadline at the latest: E_TIMEOUT, E_DNS, E_NET, E_TLS, E_CLOSED, E_PROTOCOL. After a failure the
 * connection is only good for ldap_close. */

/* Looks the host up, connects, secures. Does not bind. NULL: err has a phrase. */
struct ldap_client *ldap_open(const struct ldap_access *a, const char *host, unsigned port, msec_t deadline, struct err *err);
/* As the access says: the service user, EXTERNAL or anonymous. A refusal is E_DENIED with ldap_result_print's text. */
bool ldap_bind_service(struct ldap_client *c, const struct ldap_access *a, msec_t deadline, struct err *err);
/* password is not "": that would prove nothing (RFC 4513 section 5.1.2). */
bool ldap_bind_user(struct ldap_client *c, const char *dn, const char *password, msec_t deadline, struct ldap_result *r,
                    struct err *err);
bool ldap_ask(struct ldap_client *c, const struct ldap_search *s, msec_t deadline, struct ldap_found *out, struct err *err);
bool ldap_is_usable(struct ldap_client *c); /* open, and nothing unread: before it is used again */
void ldap_close(struct ldap_client **c); /* says goodbye if the socket takes it at once; never waits */

#endif
