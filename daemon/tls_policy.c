/* tls_policy.c - see tls_policy.h. */
#include "daemon/tls_policy.h"

struct tls_verdict tls_verdict(const struct tls_evidence *e)
{
    struct tls_verdict v = {.use = TLS_NEVER};

    if (e->level == DEST_TLS_REQUIRED) {
        v.use = TLS_MUST;
    } else if (e->level == DEST_TLS_PREFERRED) {
        v.use = TLS_TRY;
        v.clear_when_refused = e->fallback == FALLBACK_BEFORE_220 || e->fallback == FALLBACK_BOTH;
        v.clear_when_broken = e->fallback == FALLBACK_AFTER_220 || e->fallback == FALLBACK_BOTH;
    }
    return v;
}

enum tls_step tls_next(const struct tls_verdict *v, enum tls_event event)
{
    if (event == TLS_EV_DONE)
        return TLS_STEP_SEND;
    if (v->use == TLS_NEVER)
        return TLS_STEP_SEND;
    switch (event) {
    case TLS_EV_EHLO:
        return TLS_STEP_STARTTLS;
    case TLS_EV_NOT_OFFERED:
        return v->use == TLS_MUST ? TLS_STEP_NEXT : TLS_STEP_SEND;
    case TLS_EV_REFUSED:
        return v->use == TLS_TRY && v->clear_when_refused ? TLS_STEP_SEND : TLS_STEP_NEXT;
    default: /* TLS_EV_BROKEN: whatever this connection says now, it is not to be trusted */
        return v->use == TLS_TRY && v->clear_when_broken ? TLS_STEP_RECONNECT : TLS_STEP_NEXT;
    }
}

bool tls_serves(bool encrypted, const struct tls_verdict *need)
{
    /* A clear session may have been opened because this peer does not offer TLS, but that was then:
     * a message that would try TLS opens its own. A message that asks for none may travel
     * encrypted. */
    return encrypted || need->use == TLS_NEVER;
}

const char *tls_failure(enum tls_event event)
{
    if (event == TLS_EV_NOT_OFFERED)
        return "TLS required, STARTTLS unavailable, destination is TLS disabled";
    return "STARTTLS unexpected response";
}
