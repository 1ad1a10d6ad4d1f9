/* evidence.c - see evidence.h. */
#include "daemon/evidence.h"

#include <stdio.h>
#include <string.h>

#include "daemon/exceptions.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/tls_failures.h"

#define LEAST SECONDS(5) /* what lives shorter is not asked for again with every message */
#define STS_LASTS                                                                                  \
    SECONDS(60) /* the record's id is looked at again after that, on an open connection too */

/* ---- exceptions ---- */

/* Notes the name of the exception that applies to one of these. */
static bool excepted(const struct config *cfg, int kind, const char *domain, const char *host,
                     const struct addr *addr, char name[EXCEPTION_NAME])
{
    const struct tls_exception *x = exception_for(cfg, kind, host, addr, clock_wall());

    if (!x && domain)
        x = exception_for(cfg, kind, domain, NULL, clock_wall());
    str_copy(name, EXCEPTION_NAME, x ? x->name : "");
    return x;
}

/* ---- a domain ---- */

static void until(msec_t *expires, msec_t lasts)
{
    msec_t then = clock_in(lasts < LEAST ? LEAST : lasts);

    if (then < *expires)
        *expires = then;
}

static void ask_sts(const struct config *cfg, struct domain_evidence *out, msec_t deadline)
{
    if (excepted(cfg, EXCEPTION_NO_MTA_STS, out->domain, NULL, NULL, out->exception)) {
        out->facts.sts_state = STS_EXCEPTED;
        return;
    }
    mta_sts_look_up(out->domain, deadline, &out->sts); /* YIELDS */
    out->facts.sts_state = out->sts.state;
    until(&out->expires, STS_LASTS);
}

void evidence_of_domain(const struct config *cfg, const char *domain, const struct targets *t,
                        unsigned flags, msec_t deadline, struct domain_evidence *out)
{
    const struct destination_setup *setup = CONFIG_SINGLE(cfg, destination_setup);
    struct controls controls;

    memset(out, 0, sizeof(*out));
    route_controls(cfg, domain, &controls);
    str_copy(out->domain, sizeof(out->domain), domain);
    str_copy(out->expanded, sizeof(out->expanded), t->expanded);
    out->routed = t->routed;
    out->accepted = flags & MSG_ACCEPTED;
    out->expires = NEVER;
    out->facts =
        (struct tls_evidence){.level = controls.tls,
                              .fallback = setup ? setup->preferred_fallback : FALLBACK_BEFORE_220,
                              .dane = controls.dane,
                              .authenticates =
                                  t->routed && !t->redirected && route_auth(cfg, domain)};
    /* Nobody but the administrator vouches for where a route leads, and address literals have no
     * domain. */
    if (controls.mta_sts && !t->routed && *domain && *domain != '[')
        ask_sts(cfg, out, deadline);
    if (controls.dane != DANE_OFF || controls.mta_sts)
        until(&out->expires, SECONDS((msec_t)t->ttl));
}

void domain_evidence_free(struct domain_evidence *d)
{
    sts_free(&d->sts);
    memset(d, 0, sizeof(*d));
}

/* ---- a host ---- */

static void ask_dane(const struct config *cfg, const struct domain_evidence *d,
                     const struct target *t, msec_t deadline, struct host_evidence *out)
{
    struct tls_evidence *f = &out->facts;

    if (f->dane == DANE_OFF || d->accepted)
        return; /* DANE_NOT_ASKED */
    if (excepted(cfg, EXCEPTION_NO_DANE, NULL, t->of->host, &t->addr,
                 out->exceptions[EXCEPTION_NO_DANE])) {
        f->dane_state = DANE_EXCEPTED;
        return;
    }
    if (d->routed) {
        f->dane_state = DANE_ROUTED;
        return;
    }
    dane_look_up(t->of->host, t->addr.port, t->of->mx_secure, &t->of->found, deadline,
                 &out->dane); /* YIELDS */
    f->dane_state = out->dane.state;
    until(&out->expires, SECONDS((msec_t)out->dane.ttl));
}

static void name_references(const struct config *cfg, const struct domain_evidence *d,
                            const struct target *t, struct tls_names *out)
{
    const struct ssl_settings *ssl = CONFIG_SINGLE(cfg, ssl_settings);

    out->domain = d->domain;
    out->expanded = d->expanded;
    out->host = t->of->host;
    out->route = *t->of->route ? t->of->route : NULL;
    out->mx_secure = t->of->mx_secure;
    out->fqdn = ssl && ssl->peer_cert_fqdn;
    out->x509 = ssl && ssl->peer_cert_x509;
}

static bool fails_lately(const struct config *cfg, const struct target *t)
{
    const struct destination_setup *setup = CONFIG_SINGLE(cfg, destination_setup);

    return setup && setup->tls_failure_memory && tls_failures_has(t->of->host, &t->addr);
}

void evidence_of_host(const struct config *cfg, const struct domain_evidence *d,
                      const struct target *t, msec_t deadline, struct host_evidence *out)
{
    const char *host = t->of->host;

    memset(out, 0, sizeof(*out));
    out->facts = d->facts;
    out->expires = d->expires;
    out->trust = tls_verify_id();
    name_references(cfg, d, t, &out->names);
    ask_dane(cfg, d, t, deadline, out); /* YIELDS */
    if (d->sts.policy)
        out->facts.sts_lists_host = sts_lists(d->sts.policy, host);
    out->facts.exempt = excepted(cfg, EXCEPTION_NO_TLS, d->domain, host, &t->addr,
                                 out->exceptions[EXCEPTION_NO_TLS]);
    out->facts.demanded =
        excepted(cfg, EXCEPTION_TLS, d->domain, host, &t->addr, out->exceptions[EXCEPTION_TLS]);
    out->facts.failed_lately = fails_lately(cfg, t);
    out->need.verdict = tls_verdict(&out->facts);
    out->need.config = running_tls_client_id();
    if (out->need.verdict.must | out->need.verdict.look)
        tls_verify_keys(out->need.verdict.must | out->need.verdict.look, &out->names, &out->dane,
                        out->need.keys);
}

bool evidence_same(const struct config *cfg, const struct domain_evidence *d,
                   const struct host_evidence *e, const struct target *t,
                   const struct target *other)
{
    const char *host = t->of->host;
    char name[EXCEPTION_NAME];

    if (other->of != t->of || other->addr.port != t->addr.port ||
        fails_lately(cfg, other) != e->facts.failed_lately)
        return false;
    if (!config_count(cfg, &section_tls_exception))
        return true;
    excepted(cfg, EXCEPTION_NO_DANE, NULL, host, &other->addr, name);
    if (e->facts.dane_state != DANE_NOT_ASKED && !str_eq(name, e->exceptions[EXCEPTION_NO_DANE]))
        return false;
    return excepted(cfg, EXCEPTION_NO_TLS, d->domain, host, &other->addr, name) == e->facts.exempt &&
           excepted(cfg, EXCEPTION_TLS, d->domain, host, &other->addr, name) == e->facts.demanded;
}

void host_evidence_free(struct host_evidence *h)
{
    dane_free(&h->dane);
    memset(h, 0, sizeof(*h));
}

void evidence_reason(const struct host_evidence *h, char *out, size_t size)
{
    enum tls_rule rule = h->need.verdict.rule;
    const char *found =
        rule == RULE_DANE_FAILED || rule == RULE_DANE_UNUSABLE || rule == RULE_DANE_MANDATORY
            ? h->dane.why
            : "";

    if (*found)
        snprintf(out, size, "%s: %s", tls_rule_sentence(rule), found);
    else
        str_copy(out, size, tls_rule_sentence(rule));
}
