/* smtp_pool.h - what deliveries share: open sessions that wait for work, and TLS sessions to resume.
 * Any thread; one mutex, held for moments.
 *
 * A session keeps its connection while it waits for the next message of its own destination;
 * meanwhile a session of another destination that goes to the same address under a verdict the
 * connection satisfies may take it over. Only sessions of the same loop can: a connection stays
 * with its loop. */
#ifndef POSTERN_SMTP_POOL_H
#define POSTERN_SMTP_POOL_H

#include <stdbool.h>

#include "daemon/smtp_client.h"
#include "daemon/tls_policy.h"

struct waiting;
struct ssl_session_st;

struct lent { /* the lender's; lives while it waits */
    struct lent *next, **place;
    struct client *client; /* NULL: taken */
    struct waiting *waiting; /* of the lender */
    unsigned loop;
};
void pool_lend(struct lent *l, struct client *c, struct waiting *w);
struct client *pool_back(struct lent *l); /* NULL: somebody has taken it */
/* identity: whom it has to be authenticated as (auth_outgoing.h). NULL: none */
struct client *pool_take(const struct addr *to, const struct tls_need *need, const char *identity);

/* TLS sessions by name, address, settings and what they were verified against: the keys of these
 * checks. A reference for the caller, who frees it with SSL_SESSION_free. */
struct ssl_session_st *pool_session(const char *host, const struct addr *to, unsigned checks,
                                    uint64_t config, const struct tls_need *need);
void pool_keep_session(struct client *c); /* the newest one the peer gave it, if any, in a full handshake */

void smtp_pool_stop(void);

#endif
