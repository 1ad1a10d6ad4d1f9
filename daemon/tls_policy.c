/* tls_policy.c - see tls_policy.h. */
#include "daemon/tls_policy.h"

#include <string.h>

static struct tls_verdict by_level(const struct tls_evidence *e)
{
    static const struct tls_verdict levels[] = {
        [DEST_TLS_DEFAULT] = {TLS_NEVER, .rule = RULE_LEVEL_NONE}, /* the default entry inherits nothing */
        [DEST_TLS_NONE] = {TLS_NEVER, .rule = RULE_LEVEL_NONE},
        [DEST_TLS_PREFERRED] = {TLS_TRY, .rule = RULE_LEVEL_PREFERRED},
        [DEST_TLS_REQUIRED] = {TLS_MUST, .rule = RULE_LEVEL_REQUIRED},
        [DEST_TLS_PREFERRED_VERIFY] = {TLS_TRY, .look = TLS_CHECK_VERIFY, .rule = RULE_LEVEL_PREFERRED_VERIFY},
        [DEST_TLS_REQUIRED_VERIFY] = {TLS_MUST, .must = TLS_CHECK_VERIFY, .rule = RULE_LEVEL_REQUIRED_VERIFY},
        [DEST_TLS_REQUIRED_HOSTED] = {TLS_MUST, .must = TLS_CHECK_HOSTED, .rule = RULE_LEVEL_REQUIRED_HOSTED},
    };

    return levels[e->level];
}

static struct tls_verdict refuse(enum tls_rule rule)
{
    return (struct tls_verdict){TLS_REFUSE, .rule = rule};
}

static void demand(struct tls_verdict *v, enum tls_rule rule)
{
    if (v->use == TLS_MUST)
        return;
    v->use = TLS_MUST;
    v->rule = rule;
}

/* true: DANE decides alone. */
static bool by_dane(const struct tls_evidence *e, struct tls_verdict *v)
{
    if (e->dane == DANE_OFF || e->dane == DANE_DEFAULT)
        return false;
    switch (e->dane_state) {
    case DANE_NOT_ASKED:
    case DANE_EXCEPTED:
        return false;
    case DANE_FAILED: /* RFC 7672 section 2.1.2: never conclude "no records" from an error */
        *v = refuse(RULE_DANE_FAILED);
        return true;
    case DANE_USABLE: /* proof of identity: satisfies every level; MTA-STS cannot override it (RFC 8461 section 2) */
        *v = (struct tls_verdict){TLS_MUST, .must = TLS_CHECK_DANE, .modern = true, .rule = RULE_DANE_USABLE};
        return true;
    default:
        break;
    }
    if (e->dane == DANE_MANDATORY) {
        *v = refuse(RULE_DANE_MANDATORY);
        return true;
    }
    if (e->dane_state == DANE_UNUSABLE) /* RFC 7672 section 2.2: TLS, and nothing to verify it with */
        demand(v, RULE_DANE_UNUSABLE);
    return false;
}

/* true: MTA-STS has the last word. */
static bool by_sts(const struct tls_evidence *e, struct tls_verdict *v)
{
    if (e->sts_state == STS_MODE_TESTING)
        v->look |= TLS_CHECK_MX;
    if (e->sts_state == STS_FAILED) {
        *v = refuse(RULE_STS_FAILED);
        return true;
    }
    if (e->sts_state != STS_MODE_ENFORCE)
        return false;
    if (!e->sts_lists_host) {
        *v = refuse(RULE_STS_MX);
        return true;
    }
    v->use = TLS_MUST;
    v->must |= TLS_CHECK_MX;
    v->modern = true;
    v->rule = RULE_STS_ENFORCE;
    return true;
}

struct tls_verdict tls_verdict(const struct tls_evidence *e)
{
    struct tls_verdict v = by_level(e);

    if (!by_dane(e, &v))
        by_sts(e, &v);
    if (e->demanded && v.use != TLS_REFUSE)
        demand(&v, RULE_DEMANDED);
    if (e->authenticates && v.use != TLS_REFUSE) { /* nobody but the host that was meant gets the password */
        v.use = TLS_MUST;
        v.must |= TLS_CHECK_ROUTE;
        v.modern = true;
        v.rule = RULE_AUTH;
    }
    /* "Never STARTTLS" and "never in clear" hold both: such a host gets nothing. */
    if (e->exempt)
        v = v.use == TLS_MUST || v.use == TLS_REFUSE
                ? refuse(RULE_EXEMPT)
                : (struct tls_verdict){TLS_NEVER, .rule = RULE_EXEMPT};
    if (e->failed_lately && v.rule == RULE_LEVEL_PREFERRED && !v.look)
        v = (struct tls_verdict){TLS_NEVER, .rule = RULE_MEMORY};
    if (v.use == TLS_NEVER)
        v.look = 0; /* there will be nothing to look at */
    if (v.use == TLS_TRY) {
        v.clear_when_refused = e->fallback == FALLBACK_BEFORE_220 || e->fallback == FALLBACK_BOTH;
        v.clear_when_broken = e->fallback == FALLBACK_AFTER_220 || e->fallback == FALLBACK_BOTH;
    }
    return v;
}

enum tls_step tls_next(const struct tls_verdict *v, enum tls_event event, unsigned passed)
{
    if (v->use == TLS_REFUSE)
        return TLS_STEP_NEXT;
    if (event == TLS_EV_DONE)
        return (passed & v->must) == v->must ? TLS_STEP_SEND : TLS_STEP_NEXT;
    if (v->use == TLS_NEVER)
        return TLS_STEP_SEND;
    switch (event) {
    case TLS_EV_EHLO:
        return TLS_STEP_STARTTLS;
    case TLS_EV_NOT_OFFERED:
        return v->use == TLS_MUST ? TLS_STEP_NEXT : TLS_STEP_SEND;
    case TLS_EV_REFUSED:
        return v->clear_when_refused ? TLS_STEP_SEND : TLS_STEP_NEXT;
    default: /* TLS_EV_BROKEN: whatever this connection says now, it is not to be trusted */
        return v->clear_when_broken ? TLS_STEP_RECONNECT : TLS_STEP_NEXT;
    }
}

bool tls_serves(const struct tls_proof *have, const struct tls_need *need)
{
    const struct tls_verdict *v = &need->verdict;
    unsigned compared = v->must | v->look;

    if (v->use == TLS_REFUSE)
        return false;
    if (v->use == TLS_NEVER)
        return true; /* a message that asks for none may travel encrypted */
    /* A clear session may have been opened because this peer does not offer TLS, but that was then: a message that
     * would try TLS opens its own. */
    if (!have->encrypted || have->config != need->config || (v->modern && !have->modern))
        return false;
    if ((have->passed & v->must) != v->must || (have->looked & v->look) != v->look)
        return false;
    for (unsigned i = 0; i < TLS_CHECKS; i++)
        if (compared & 1U << i && memcmp(have->keys[i], need->keys[i], TLS_KEY) != 0)
            return false;
    return true;
}

const char *tls_rule_word(enum tls_rule r)
{
    static const char *const words[] = {
#define X(id, word, sentence) word,
        TLS_RULES(X)
#undef X
    };

    return words[r];
}

const char *tls_rule_sentence(enum tls_rule r)
{
    static const char *const sentences[] = {
#define X(id, word, sentence) sentence,
        TLS_RULES(X)
#undef X
    };

    return sentences[r];
}

const char *dane_state_word(enum dane_state s)
{
    static const char *const words[] = {
        [DANE_NOT_ASKED] = "not-asked",         [DANE_EXCEPTED] = "excepted",
        [DANE_ROUTED] = "routed",               [DANE_INSECURE_MX] = "insecure-mx",
        [DANE_INSECURE_HOST] = "insecure-host", [DANE_NO_RECORDS] = "no-records",
        [DANE_UNUSABLE] = "unusable",           [DANE_USABLE] = "usable",
        [DANE_FAILED] = "failed",
    };

    return words[s];
}

const char *sts_state_word(enum sts_state s)
{
    static const char *const words[] = {
        [STS_NOT_ASKED] = "not-asked", [STS_EXCEPTED] = "excepted",        [STS_NO_RECORD] = "no-record",
        [STS_NO_POLICY] = "no-policy", [STS_FAILED] = "failed",            [STS_MODE_NONE] = "none",
        [STS_MODE_TESTING] = "testing", [STS_MODE_ENFORCE] = "enforce",
    };

    return words[s];
}

const char *tls_failure(enum tls_event event)
{
    if (event == TLS_EV_NOT_OFFERED)
        return "TLS required, STARTTLS unavailable, destination is TLS disabled";
    return "STARTTLS unexpected response";
}
