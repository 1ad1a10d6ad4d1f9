/* reload.h - turning a new snapshot into a running daemon: prepare (may fail), publish (cannot fail).
 * A session takes the running state once (running_get) and keeps it to its end. */
#ifndef POSTERN_RELOAD_H
#define POSTERN_RELOAD_H

#include "store/config.h"

struct tls_context;

struct reload_part { /* a subsystem that builds something from the configuration */
    const char *name; /* in messages: "listeners" */
    /* prepare and discard are NULL where a commit needs nothing built beforehand. */
    /* Builds the new state; must not disturb what runs. old is NULL at start. May YIELD. *state is passed on. */
    bool (*prepare)(const struct config *old, const struct config *cfg, void **state, struct err *err);
    void (*publish)(void *state, const struct config *cfg); /* takes effect now; cannot fail */
    void (*discard)(void *state);                           /* prepared but not used */
};
/* where they live */
extern const struct reload_part reload_access, reload_bv, reload_certs, reload_crl, reload_dns;
extern const struct reload_part reload_expiry, reload_http, reload_ldap, reload_listeners;
extern const struct reload_part reload_logs, reload_queue, reload_resources, reload_tls, reload_trust;

/* Which parts there are, in the order of publishing; once, at the start (engine.c). The array ends with NULL. */
void reload_use(const struct reload_part *const *parts);

bool reload_prepare(const struct config *cfg, struct err *err); /* all parts or none; one at a time (commit mutex) */
void reload_publish(const struct config *cfg);                  /* after the write: swaps everything in */
void reload_discard(void);

/* The published snapshot with one reference for the caller. Any thread, cheap. */
struct config *running_config(void); /* release with config_free */

/* Contexts built by reload_tls; a reference for the caller or NULL.
 * server: of the listener of that name; client: for deliveries with the certificate of destconfig > setup; *id
 * stands for the settings and the certificate in it: what was made with another one is not used again. Any thread. */
struct tls_context *running_tls_server(const char *listener);
struct tls_context *running_tls_client(uint64_t *id);
uint64_t running_tls_client_id(void);

/* Certificate, leaf first, and key of a profile of certconfig. The caller frees both and cleanses key. YIELDS */
bool reload_open_profile(const struct row *r, struct buf *chain, struct buf *key, struct err *err);

#endif
