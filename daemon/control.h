/* control.h (daemon) - the control socket's server: one fiber per connection, identity by peer uid (SO_PEERCRED).
 * Handlers are tables of struct control_op, one table per control_*.c, listed in control.c. */
#ifndef POSTERN_DAEMON_CONTROL_H
#define POSTERN_DAEMON_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/json.h"
#include "store/control.h"

struct candidate;
struct control; /* one connection */
struct db_audit;

struct control_op {
    const char *name;   /* "config.get" */
    enum role role;     /* least role that may call it */
    /* YIELDS. Fills data (an empty object) or sets err. */
    bool (*run)(struct control *c, const json_t *args, json_t *data, struct err *err);
};

bool control_start(const char *path, struct err *err);
void control_stop(void);
void control_serve(int fd); /* YIELDS; one connection to its end, on the calling fiber or thread. Owns fd */

bool control_more(struct control *c, json_t *data); /* YIELDS; steals data; false: peer gone or cancelled */
bool control_cancelled(struct control *c);          /* looks at the socket without waiting */
void control_envelope(struct control *c, const char *key, json_t *value); /* extra member of the final answer: conflicts... */
const char *control_user(struct control *c);
const char *control_peer(struct control *c);        /* "192.0.2.10" or "local" */
enum role control_role(struct control *c);
uint64_t control_session(struct control *c);
/* One thing that lasts from request to request; end(thing) runs when another one takes its place (NULL: none) and at the
 * end of the connection. */
void control_keep(struct control *c, void *thing, void (*end)(void *thing));
void *control_kept(struct control *c);
pid_t control_pid(struct control *c);
struct candidate **control_candidate(struct control *c);
const char *control_role_name(enum role role);
void control_greet(struct control *c, const char *via, const char *peer, bool interactive); /* hello was said */
struct control *control_next(struct control *after); /* NULL: the first. Not across a YIELD */
bool control_greeted(struct control *c);             /* said hello */
json_t *control_describe(struct control *c);         /* for session.who; new */
/* The counters first to last (enum counter): {"inj_msgs": {"reset", "uptime", "lifetime"}}; new. */
json_t *control_counters(unsigned first, unsigned last);
void control_status(json_t *data); /* everything "status" says (store/control.h); any thread */
struct db_audit control_who(struct control *c);      /* an audit row with this connection's columns; texts borrowed */
void control_audit(struct control *c, const char *action, const char *object, const char *result,
                   const char *detail);              /* YIELDS */
void control_notify_others(struct control *not_this, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void control_notify_all(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* any thread */

extern const struct control_op control_host_ops[], control_message_ops[];
extern const struct control_op control_crl_ops[];
extern const struct control_op control_config_ops[], control_text_ops[], control_queue_ops[], control_status_ops[],
    control_log_ops[], control_cert_ops[], control_trust_ops[], control_tlsa_ops[], control_sts_ops[], control_debug_ops[],
    control_alert_ops[], control_dest_ops[], control_tls_ops[], control_dns_ops[]; /* each ends with {NULL} */
extern const struct control_op control_verify_ops[], control_explain_ops[];
extern const struct control_op control_auth_ops[], control_ldap_ops[];
extern const struct control_op control_access_ops[];

#endif
