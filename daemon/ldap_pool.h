/* ldap_pool.h - the servers of ldapconfig while they run: which of a server's hosts is asked, how many connections each
 * has, who waits for one, which hosts are down.
 *
 * A connection is used by one query at a time and by any loop's fibers, one after the other. Those on which users prove
 * their passwords never run a search: what they are bound as is the user. A host that cannot be reached is skipped; it is
 * tried again after growing intervals, a minute at most, by one at a time. Any thread; one mutex, held for moments. */
#ifndef POSTERN_LDAP_POOL_H
#define POSTERN_LDAP_POOL_H

#include "daemon/ldap_client.h"
#include "daemon/reload.h"
#include "store/base/json.h"

struct ldap_pool; /* one server with its settings; reference-counted */
struct ldap_cache;

/* YIELDS. Of a server in cfg, with its secrets and certificates opened; nothing is connected. NULL: err. */
struct ldap_pool *ldap_pool_new(const struct config *cfg, const char *server, struct err *err);
struct ldap_pool *ldap_pool_ref(struct ldap_pool *p);
void ldap_pool_free(struct ldap_pool **p); /* drops one reference */

struct ldap_pool *running_ldap_pool(const char *server); /* a reference for the caller; NULL: there is none */
extern const struct reload_part reload_ldap;

const char *ldap_pool_name(const struct ldap_pool *p);
const char *ldap_pool_base(const struct ldap_pool *p);
msec_t ldap_pool_patience(const struct ldap_pool *p); /* how long a query may take in all: query_timeout */
struct ldap_cache *ldap_pool_cache(struct ldap_pool *p);
size_t ldap_pool_hosts(const struct ldap_pool *p);
const char *ldap_pool_host(const struct ldap_pool *p, size_t host); /* "ldap1.example.com:389" */

/* YIELD. On the hosts in their order until one answers; host: that one alone (ldap.test), -1: any. false: none did in
 * time; err says of each why. True: the server answered, whatever it did. A server that answers "busy" or "unavailable"
 * counts as none. */
bool ldap_pool_search(struct ldap_pool *p, int host, const struct ldap_search *s, msec_t deadline, struct ldap_found *out,
                      struct err *err);
bool ldap_pool_bind(struct ldap_pool *p, int host, const char *dn, const char *password, msec_t deadline,
                    struct ldap_result *out, struct err *err);
/* YIELDS. A new connection to one host, bound as the service user, and closed again (ldap.check). */
bool ldap_pool_try(struct ldap_pool *p, size_t host, struct err *err);

void ldap_pools_run(void);  /* once there are loops: tries what is down, closes what is idle */
void ldap_pools_stop(void); /* when no fiber is left */
void ldap_pools_tend(void); /* YIELDS. What ldap_pools_run does now and then, for tests */

/* For ldap.status; new. ldap_pools_flush: the cached answers of one server (NULL: of all); how many; -1: no such server. */
json_t *ldap_pools_status(void);
long ldap_pools_flush(const char *server);

#endif
