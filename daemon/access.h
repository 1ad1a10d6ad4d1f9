/* access.h - who may connect (host access table) and for whom mail is taken (recipient access
 * table), compiled from the configuration so that 100,000 entries cost a search in memory. Tables
 * are immutable; a session takes the running ones once and keeps them, and the snapshot they belong
 * to, to its end. Any thread.
 *
 * Never an open relay: only a sender whose policy says RELAY may send anywhere. Everyone else, on
 * listeners of either kind, reaches only recipients the RAT accepts; and an entry "user@" of the
 * RAT holds for the domains the RAT knows, not for the rest of the world. */
#ifndef POSTERN_ACCESS_H
#define POSTERN_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/smtp_parse.h"
#include "store/base/net.h"
#include "store/config.h"

struct access;
struct access_table; /* of one listener */

struct mail_flow { /* a policy with what it inherits from the listener */
    enum behaviors behavior; /* never BEHAVIOR_CONTINUE */
    enum tls_modes tls;
    uint64_t max_message_size;
    unsigned max_concurrency, max_msgs_per_session, max_rcpts_per_msg;
    unsigned max_rcpts_per_hour; /* 0: unlimited */
    unsigned max_rcpts_per_sender, sender_minutes; /* 0: unlimited */
    bool verify_client; /* the client's certificate */
    enum auth_modes auth;
    bool auth_needs_tls; /* to be offered */
    bool untagged_bounces; /* are accepted (bv.h) */
    const struct strlist *tls_senders; /* envelope senders that need TLS; of the snapshot */
    enum line_endings line_endings;
    const char *banner_host; /* "": ours */
    /* Replies of the administrator; text "": the standard one. With $Hostname, $RemoteIP, $Group,
     * $HATEntry. */
    struct flow_response {
        unsigned code;
        const char *text;
    } accept, reject, limit, dhap;
    unsigned dhap_limit; /* invalid recipients per hour, 0: unlimited */
    enum dhap_actions dhap_action;
};

/* Compiles cfg (a reference is taken); what has not changed since old (may be NULL) is shared with
 * it. */
struct access *access_new(const struct config *cfg, const struct access *old);
struct access *access_ref(struct access *a);
void access_free(struct access **a); /* drops a reference */
struct access *
access_running(void); /* what reload_access published, with a reference; NULL before that */

const struct config *access_config(const struct access *a);
const struct access_table *access_table(const struct access *a,
                                        const char *listener); /* NULL: no such listener */
const struct listener *access_listener(const struct access_table *t);

struct access_match {
    const struct mail_flow *flow;
    const char *group; /* "None": no group lists the sender */
    const char *policy; /* "": the listener's own parameters */
    const char *entry; /* what matched: "10.1.1.0/24", ".example.com", "ALL" */
};
/* true: the verified host name may decide, so it is worth looking up. */
bool access_needs_name(const struct access_table *t, const struct addr *a);
/* host: the verified name of a, or "". */
void access_sender(const struct access_table *t, const struct addr *a, const char *host,
                   struct access_match *out);

struct access_rcpt { /* what the recipient access table says */
    bool accept;
    bool bypass; /* receiving control: limits of recipients per hour and per sender */
    unsigned code; /* of the reply; 0: the standard one */
    const char *text; /* likewise; "": the standard one. Lives as long as the access tables */
};
/* Does the listener take mail for this recipient from anyone? An address needs a domain here. */
bool access_rcpt(const struct access_table *t, const struct smtp_path *to);
void access_rcpt_rule(const struct access_table *t, const struct smtp_path *to,
                      struct access_rcpt *out);

#endif
