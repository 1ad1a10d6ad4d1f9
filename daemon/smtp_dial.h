/* smtp_dial.h - opens a session with one host as a verdict demands: connection, greeting, EHLO,
 * STARTTLS, handshake, verification, EHLO again. Deliveries, daneverify and tlsverify all come
 * through here, so that a test never disagrees with a delivery. Belongs to the calling fiber. */
#ifndef POSTERN_SMTP_DIAL_H
#define POSTERN_SMTP_DIAL_H

#include <stdbool.h>

#include "daemon/conn.h"
#include "daemon/smtp_client.h"
#include "daemon/tls.h"
#include "daemon/tls_policy.h"
#include "daemon/tls_verify.h"

struct dane;
struct ssl_session_st;

enum dial_step {
    DIAL_CONNECTING, /* about to: peer */
    DIAL_CONNECTED, /* local */
    DIAL_NO_SESSION, /* no connection, no greeting, no EHLO: text says why */
    DIAL_OFFERED, /* STARTTLS is offered and will be said */
    DIAL_NOT_OFFERED, /* the verdict wanted TLS and STARTTLS is not offered */
    DIAL_REFUSED, /* STARTTLS got something other than 220: text */
    DIAL_BROKEN, /* 220, and no handshake: text */
    DIAL_ESTABLISHED, /* tls */
    DIAL_VERIFIED, /* every check that was asked for passed: text is what matched */
    DIAL_UNVERIFIED, /* text is why the first of them did not; required: it had to */
    DIAL_RECONNECTING, /* a new connection in clear: the verdict allows it */
};
struct dial_event {
    enum dial_step step;
    const struct addr *peer, *local;
    const struct tls_info *tls;
    const char *text;
    unsigned checks; /* asked for */
    bool required;
};

struct dial {
    const char *host; /* MX host, or host of the route */
    const struct addr *addr;
    const struct addr *others[CONN_RACE_MAX - 1]; /* of the same host, under the same verdict: the first
                                                     of all that answers is taken */
    unsigned n_others;
    const struct addr *from; /* NULL: any */
    const char *helo;
    const struct tls_need *need; /* the verdict, and the keys its checks compare with */
    struct tls_names names;
    const struct dane *dane; /* NULL unless the verdict checks it */
    bool logged; /* with a DCID and the lines of mail_logs; else nothing is written */
    msec_t patience; /* for the connection; 0: as long as is reasonable */
    msec_t deadline; /* for all of it and for what is said later; 0: the time-outs of the RFC alone */
    bool resume; /* offer a TLS session of an earlier connection that was verified the same way */
    void (*tell)(void *arg, const struct dial_event *e); /* NULL: nobody; must not wait */
    void *arg;
};

struct dialed {
    struct client *client; /* the caller's; NULL when the dial failed */
    struct tls_proof proof;
    struct tls_info tls; /* once a handshake was done, "" otherwise */
    struct tls_verified verified;
    enum tls_event event; /* the last thing that happened to TLS */
    bool
        insecure; /* failed for want of the TLS the verdict demands, or at it; not at the network */
    bool ours; /* failed for something on this side: no descriptor, no such source address, the end */
    char why[480]; /* when it failed: a sentence; of the peer's words only what is escaped */
    struct smtp_reply refusal; /* the reply that ended it, code 0: none */
    struct addr local; /* our end, family 0: never connected */
    struct addr peer; /* the address it was about: of several, the one that took the last connection */
    uint64_t dcid; /* of the last connection, 0 when not logged */
    char name[256]; /* room for names.ptr */
};

/* YIELDS. true: out->client may carry what the verdict is about. */
bool smtp_dial(const struct dial *d, struct dialed *out);

#endif
