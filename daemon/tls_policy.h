/* tls_policy.h - which security a delivery must have: pure functions from evidence to verdict, and from what happened
 * to what comes next. Nothing else in the daemon decides whether a message may go in clear. Any thread.
 *
 * A verdict is made per host, so the hosts of a domain may differ (RFC 7672 section 2.2.1). The destination's level is
 * a floor; a DANE match is proof of identity and satisfies every level; an MTA-STS pass adds verification of the MX host
 * (RFC 8461 section 4) to what the level asks for. doc/tls-policy.md has the whole table, printed from here. */
#ifndef POSTERN_TLS_POLICY_H
#define POSTERN_TLS_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/config.h"

enum dane_state { /* what the DNS said about one host (RFC 7672 section 2.2); found by dane.c */
    DANE_NOT_ASKED,     /* the destination does not use DANE, or the mail was accepted rather than relayed */
    DANE_EXCEPTED,      /* tlsexceptions names the host */
    DANE_ROUTED,        /* an SMTP route that is not USEDNS: nobody vouches for the name */
    DANE_INSECURE_MX,   /* the MX answer is not signed: what TLSA says of that host proves nothing about the domain */
    DANE_INSECURE_HOST, /* the addresses are not signed: TLSA is not asked for (RFC 7672 section 2.2.2) */
    DANE_NO_RECORDS,    /* securely none, or the TLSA answer is not signed */
    DANE_UNUSABLE,      /* records, but none that can be used for SMTP (usage 0 and 1, unknown selectors, ...) */
    DANE_USABLE,
    DANE_FAILED,        /* bogus, SERVFAIL or no answer for MX, address or TLSA: nothing may be concluded */
};
enum sts_state { /* what is known of the domain's MTA-STS policy (RFC 8461); found by mta_sts.c */
    STS_NOT_ASKED,      /* the destination does not use it, or a route leads elsewhere */
    STS_EXCEPTED,       /* tlsexceptions names the domain */
    STS_NO_RECORD,      /* no TXT record, or none that is valid */
    STS_NO_POLICY,      /* a record, but the policy could not be had and none is cached */
    STS_FAILED,         /* no answer about the record, none cached, and stspolicies > setup says that mail waits then */
    STS_MODE_NONE,
    STS_MODE_TESTING,
    STS_MODE_ENFORCE,
};

struct tls_evidence {
    int level;    /* of the destination controls, nothing inherited any more: DEST_TLS_NONE ... */
    int fallback; /* destconfig > setup: FALLBACK_BEFORE_220 ... */
    int dane;     /* DANE_OFF, DANE_OPPORTUNISTIC, DANE_MANDATORY */
    int authenticates; /* 1: the SMTP route has an outgoing SMTP Auth profile, so a password goes over (no bool: records of
                        * evidence are compared as they are) */
    enum dane_state dane_state;
    enum sts_state sts_state;
    bool sts_lists_host;  /* the policy's mx patterns cover this host */
    bool exempt;          /* on the STARTTLS exemption list */
    bool demanded;        /* on the STARTTLS required list */
    bool failed_lately;   /* tls_failure_memory: its last handshake failed less than an hour ago */
};

enum tls_use {
    TLS_NEVER,  /* do not say STARTTLS */
    TLS_TRY,    /* say it when it is offered */
    TLS_MUST,   /* nothing in clear */
    TLS_REFUSE, /* nothing to this host at all: on to the next one, else the mail waits */
};

enum { /* what is looked at in the peer's certificate; bits */
    TLS_CHECK_DANE = 1,   /* the host's usable TLSA records (RFC 7672) */
    TLS_CHECK_MX = 2,     /* WebPKI chain and the MX host as DNS-ID (RFC 8461 section 4.2) */
    TLS_CHECK_VERIFY = 4, /* levels 4 and 5: chain, and common name or names as Verify has it */
    TLS_CHECK_HOSTED = 8, /* level 6: chain, and the reference names of Verify Hosted Domains */
    TLS_CHECK_ROUTE = 16, /* chain, and the host of the SMTP route as the administrator wrote it */
};
#define TLS_CHECKS 5u /* as many bits */

/* Which rule decided; X(id, word, sentence). The words stand in tlsexplain, records and logs; they do not change. */
#define TLS_RULES(X)                                                                               \
    X(LEVEL_NONE, "level-none", "the destination's TLS setting is No")                             \
    X(LEVEL_PREFERRED, "level-preferred", "the destination's TLS setting is Preferred")            \
    X(LEVEL_REQUIRED, "level-required", "the destination's TLS setting is Required")               \
    X(LEVEL_PREFERRED_VERIFY, "level-preferred-verify",                                            \
      "the destination's TLS setting is Preferred - Verify")                                       \
    X(LEVEL_REQUIRED_VERIFY, "level-required-verify",                                              \
      "the destination's TLS setting is Required - Verify")                                        \
    X(LEVEL_REQUIRED_HOSTED, "level-required-hosted",                                              \
      "the destination's TLS setting is Required - Verify Hosted Domains")                         \
    X(DANE_USABLE, "dane", "the host publishes usable TLSA records")                               \
    X(DANE_UNUSABLE, "dane-unusable", "the host publishes only unusable TLSA records")             \
    X(DANE_FAILED, "dane-failed", "its DNSSEC answers are bogus or missing")                       \
    X(DANE_MANDATORY, "dane-mandatory", "DANE is mandatory and the host does not support it")      \
    X(STS_ENFORCE, "sts-enforce", "the domain's MTA-STS policy is enforced")                       \
    X(STS_MX, "sts-mx", "the host is not in the domain's MTA-STS policy")                          \
    X(STS_FAILED, "sts-failed", "the domain's MTA-STS record cannot be looked up")                 \
    X(EXEMPT, "exempt", "it is on the STARTTLS exemption list")                                    \
    X(DEMANDED, "demanded", "it is on the STARTTLS required list")                                 \
    X(AUTH, "auth", "the SMTP route authenticates, which it does over verified TLS only")          \
    X(MEMORY, "failure-memory", "its TLS handshake failed less than an hour ago")
enum tls_rule {
#define X(id, word, sentence) RULE_##id,
    TLS_RULES(X)
#undef X
        TLS_RULE_COUNT
};

struct tls_verdict {
    enum tls_use use;
    unsigned must;   /* checks that have to pass, or nothing is sent over this connection */
    unsigned look;   /* checks whose result is logged and counted, whatever it is: level 4, MTA-STS testing mode */
    bool modern;     /* TLS 1.2 at least, whatever sslconfig allows (RFC 7672 section 8, RFC 8461 section 7.2) */
    bool clear_when_refused; /* STARTTLS refused before its 220: this connection goes on in clear */
    bool clear_when_broken;  /* the handshake failed after the 220: a new connection in clear */
    enum tls_rule rule;
};
struct tls_verdict tls_verdict(const struct tls_evidence *e);

const char *tls_rule_word(enum tls_rule r);
const char *tls_rule_sentence(enum tls_rule r);
const char *dane_state_word(enum dane_state s); /* "insecure-mx" ... in records and JSON */
const char *sts_state_word(enum sts_state s);

/* Where a dialog stands when it has to decide. */
enum tls_event {
    TLS_EV_EHLO,        /* the peer's extensions are known and STARTTLS is among them */
    TLS_EV_NOT_OFFERED, /* ... and it is not, or the peer knows no ESMTP at all */
    TLS_EV_REFUSED,     /* it answered STARTTLS with something other than 220 */
    TLS_EV_BROKEN,      /* after the 220: no handshake */
    TLS_EV_DONE,        /* the session is encrypted; passed says which checks did */
};
enum tls_step {
    TLS_STEP_STARTTLS,  /* say STARTTLS */
    TLS_STEP_SEND,      /* this connection may carry the mail as it is */
    TLS_STEP_RECONNECT, /* not this connection: a new one to the same address, in clear */
    TLS_STEP_NEXT,      /* nothing goes over to this host now; the next one */
};
enum tls_step tls_next(const struct tls_verdict *v, enum tls_event event, unsigned passed);

/* What an open session has shown, and what mail needs that wants to use it. The keys stand for all that a check compared
 * with: authorities, reference names, TLSA records (tls_verify_keys). config stands for the settings and the client
 * certificate that both ends of the session were made with. */
#define TLS_KEY 16u
struct tls_proof {
    bool encrypted, modern;  /* modern: TLS 1.2 at least */
    unsigned looked, passed; /* TLS_CHECK_* */
    uint64_t config;
    unsigned char keys[TLS_CHECKS][TLS_KEY]; /* of the checks looked at */
};
struct tls_need {
    struct tls_verdict verdict;
    uint64_t config;
    unsigned char keys[TLS_CHECKS][TLS_KEY]; /* of must and look */
};
bool tls_serves(const struct tls_proof *have, const struct tls_need *need);

/* The line after "DCID n TLS failed: " for what ended a required session, as the mail log has it. */
const char *tls_failure(enum tls_event event);

#endif
