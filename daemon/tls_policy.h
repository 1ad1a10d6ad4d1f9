/* tls_policy.h - which security a delivery must have: pure functions from evidence to verdict, and
 * from what happened to what comes next. Nothing else in the daemon decides whether a message may
 * go in clear. Any thread.
 *
 * Later sources of evidence (DANE, MTA-STS, REQUIRETLS) are further members of struct tls_evidence;
 * a verdict is made per host, so that they may differ between the hosts of a domain. */
#ifndef POSTERN_TLS_POLICY_H
#define POSTERN_TLS_POLICY_H

#include <stdbool.h>

#include "store/config.h"

struct tls_evidence {
    int level; /* of the destination controls: DEST_TLS_NONE, DEST_TLS_PREFERRED, DEST_TLS_REQUIRED
                */
    int fallback; /* destconfig setup: FALLBACK_BEFORE_220, ... */
};

enum tls_use { TLS_NEVER, TLS_TRY, TLS_MUST };

struct tls_verdict {
    enum tls_use use;
    bool clear_when_refused; /* STARTTLS refused before its 220: this connection goes on in clear */
    bool clear_when_broken; /* the handshake failed after the 220: a new connection in clear */
};
struct tls_verdict tls_verdict(const struct tls_evidence *e);

/* Where a dialog stands when it has to decide. */
enum tls_event {
    TLS_EV_EHLO, /* the peer's extensions are known and STARTTLS is among them */
    TLS_EV_NOT_OFFERED, /* ... and it is not, or the peer knows no ESMTP at all */
    TLS_EV_REFUSED, /* it answered STARTTLS with something other than 220 */
    TLS_EV_BROKEN, /* after the 220: no handshake */
    TLS_EV_DONE, /* the session is encrypted */
};
enum tls_step {
    TLS_STEP_STARTTLS, /* say STARTTLS */
    TLS_STEP_SEND, /* this connection may carry the mail as it is */
    TLS_STEP_RECONNECT, /* not this connection: a new one to the same address, in clear */
    TLS_STEP_NEXT, /* nothing goes over to this host now; the next one */
};
enum tls_step tls_next(const struct tls_verdict *v, enum tls_event event);

/* May a session opened under one verdict carry mail that needs the other? encrypted: what the
 * session is. */
bool tls_serves(bool encrypted, const struct tls_verdict *need);

/* The line after "DCID n TLS failed: " for what ended a required session, as the mail log has it.
 */
const char *tls_failure(enum tls_event event);

#endif
