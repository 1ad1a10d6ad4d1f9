/* smtp_dial.c - see smtp_dial.h. What may follow what is tls_next's to say; here it is done, told
 * and logged. */
#include "daemon/smtp_dial.h"

#include <stdio.h>
#include <string.h>

#include "daemon/conn.h"
#include "daemon/dane.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/maillog.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/smtp_pool.h"
#include "daemon/stats.h"

#define PTR_TIMEOUT SECONDS(10)
#define CONNECT_TIMEOUT SECONDS(30) /* the kernel has asked five times by then */

struct dialing {
    const struct dial *d;
    struct dialed *out;
    const struct addr *addr; /* that is talked to */
    struct tls_verdict verdict; /* the same, or in clear after a reconnection */
    unsigned checks; /* of the verdict */
    struct err err;
};

static void tell(struct dialing *g, enum dial_step step, const char *text)
{
    struct dial_event e = {.step = step,
                           .peer = g->addr,
                           .local = &g->out->local,
                           .tls = &g->out->tls,
                           .text = text,
                           .checks = g->checks,
                           .required = g->verdict.use == TLS_MUST};

    if (g->d->tell)
        g->d->tell(g->d->arg, &e);
}

/* ---- before and after a handshake ---- */

static bool prepare(struct ssl_st *ssl, void *arg, struct err *err)
{
    struct dialing *g = arg;

    return tls_verify_prepare(ssl, g->checks, g->verdict.modern, &g->d->names, g->d->dane, err);
}

/* YIELDS. Which checks the certificate passed. Verify Hosted Domains may need the name of the
 * address, which is only asked for when nothing else fits. */
static void verify(struct dialing *g)
{
    struct dialed *out = g->out;
    struct tls_names names = g->d->names;
    SSL *ssl = conn_ssl(out->client->conn);
    bool confirmed = false;

    tls_verify_result(ssl, g->checks, &names, g->d->dane, &out->verified);
    if (!(g->checks & ~out->verified.passed & TLS_CHECK_HOSTED) ||
        SSL_get_verify_result(ssl) != X509_V_OK)
        return;
    if (!dns_reverse(g->addr, clock_in(PTR_TIMEOUT), out->name, sizeof(out->name), &confirmed) ||
        !confirmed)
        return;
    names.ptr = out->name;
    tls_verify_result(ssl, g->checks, &names, g->d->dane, &out->verified);
}

static void note_proof(struct dialing *g, uint64_t config)
{
    struct tls_proof *p = &g->out->proof;

    p->encrypted = true;
    p->modern = SSL_version(conn_ssl(g->out->client->conn)) >= TLS1_2_VERSION;
    p->looked = g->checks;
    p->passed = g->out->verified.passed;
    p->config = config;
    memcpy(p->keys, g->d->need->keys, sizeof(p->keys));
    g->out->client->proof = *p;
}

/* What the handshake has brought, to the log and to whoever listens. */
static void report(struct dialing *g, enum tls_step step)
{
    const struct dialed *out = g->out;
    unsigned missing = g->checks & ~out->verified.passed;
    const char *why = tls_verify_why(
        &out->verified, missing & g->verdict.must ? missing & g->verdict.must : missing);

    if (g->checks)
        tell(g, missing ? DIAL_UNVERIFIED : DIAL_VERIFIED, missing ? why : out->verified.matched);
    if (!g->d->logged)
        return;
    if (step != TLS_STEP_SEND) {
        maillog_dcid_tls_unverified(out->dcid, why, true);
        return;
    }
    maillog_dcid_tls(out->dcid, out->tls.protocol, out->tls.cipher,
                     g->verdict.must & TLS_CHECK_DANE ? g->d->names.domain : NULL);
    if (missing)
        maillog_dcid_tls_unverified(out->dcid, why, false);
    else if (g->verdict.look)
        maillog_dcid_tls_verified(out->dcid, out->verified.matched);
}

/* ---- STARTTLS ---- */

static enum tls_step not_offered(struct dialing *g)
{
    enum tls_step step = tls_next(&g->verdict, TLS_EV_NOT_OFFERED, 0);

    g->out->event = TLS_EV_NOT_OFFERED;
    if (g->verdict.use == TLS_NEVER)
        return step;
    tell(g, DIAL_NOT_OFFERED, tls_failure(TLS_EV_NOT_OFFERED));
    if (step == TLS_STEP_SEND)
        return step;
    err_set(&g->err, E_TLS, "%s", tls_failure(TLS_EV_NOT_OFFERED));
    if (g->d->logged) {
        maillog_dcid_starttls_unsupported(g->out->dcid);
        maillog_dcid_tls_failed(g->out->dcid, tls_failure(TLS_EV_NOT_OFFERED));
    }
    return step;
}

static enum tls_step no_handshake(struct dialing *g)
{
    struct client *c = g->out->client;
    enum tls_event event = c->reply.code == 220 ? TLS_EV_BROKEN : TLS_EV_REFUSED;
    const char *text = event == TLS_EV_BROKEN ? g->err.text : tls_failure(event);
    enum tls_step step = tls_next(&g->verdict, event, 0);

    g->out->event = event;
    if (g->d->logged) {
        stats_add(STAT_TLS_FAILED_OUT, 1);
        maillog_dcid_tls_failed(g->out->dcid, text);
    }
    tell(g, event == TLS_EV_BROKEN ? DIAL_BROKEN : DIAL_REFUSED,
         event == TLS_EV_BROKEN || !c->reply.code ? g->err.text : str_printable(c->reply.text));
    /* A peer that refused by hanging up leaves no connection to go on with. */
    return step == TLS_STEP_SEND && c->closing ? TLS_STEP_NEXT : step;
}

/* Whose certificate we want to see. */
static const char *server_name(const struct dialing *g)
{
    if (g->verdict.must & TLS_CHECK_DANE)
        return g->d->dane->base;
    if (g->verdict.must & TLS_CHECK_ROUTE && g->d->names.route)
        return g->d->names.route;
    return g->out->client->host;
}

/* YIELDS. What the verdict wants of a fresh session; says what comes next. */
static enum tls_step secure(struct dialing *g)
{
    struct dialed *out = g->out;
    struct client *c = out->client;
    struct tls_context *ctx;
    SSL_SESSION *old = NULL;
    enum tls_step step;
    uint64_t config;
    bool ok;

    if (!(c->caps & CAP_STARTTLS))
        return not_offered(g);
    out->event = TLS_EV_EHLO;
    step = tls_next(&g->verdict, TLS_EV_EHLO, 0);
    if (step != TLS_STEP_STARTTLS)
        return step;
    tell(g, DIAL_OFFERED, "");
    ctx = running_tls_client(&config);
    if (!ctx) {
        err_set(&g->err, E_TLS, "there are no TLS settings for deliveries");
        return TLS_STEP_NEXT;
    }
    if (g->d->resume)
        old = pool_session(c->host, &c->peer, g->checks, config, g->d->need);
    conn_offer_session(c->conn, old);
    SSL_SESSION_free(old);
    ok = client_starttls(c, ctx, server_name(g), prepare, g, &g->err);
    tls_context_free(&ctx);
    if (!ok)
        return no_handshake(g);
    out->event = TLS_EV_DONE;
    conn_tls_info(c->conn, &out->tls);
    tell(g, DIAL_ESTABLISHED, "");
    if (g->d->logged)
        stats_add(STAT_TLS_OUT, 1);
    verify(g); /* YIELDS */
    note_proof(g, config);
    step = tls_next(&g->verdict, TLS_EV_DONE, out->verified.passed);
    if (step != TLS_STEP_SEND)
        err_set(&g->err, E_TLS, "%s",
                tls_verify_why(&out->verified, g->verdict.must & ~out->verified.passed));
    report(g, step);
    return step;
}

/* ---- the dialog ---- */

static void log_no_session(struct dialing *g)
{
    const struct dialed *out = g->out;
    char details[sizeof(out->refusal.text) + 16];

    tell(g, DIAL_NO_SESSION, g->err.text);
    if (!g->d->logged)
        return;
    if (out->refusal.code)
        snprintf(details, sizeof(details), "%d-'%s'", out->refusal.code, out->refusal.text);
    else
        str_copy(details, sizeof(details), g->err.code == E_TIMEOUT ? "timeout" : g->err.text);
    maillog_connection_error(out->dcid, g->d->names.domain, out->local.family ? &out->local : NULL,
                             g->addr, details,
                             out->refusal.code ? "unexpected SMTP response" : "network error");
}

static bool hello(struct dialing *g)
{
    if (client_hello(g->out->client, g->d->helo, &g->err))
        return true;
    g->out->refusal = g->out->client->reply;
    log_no_session(g);
    return false;
}

/* YIELDS. Once one of the addresses has answered it is the one, for a second connection too. */
static bool connect_any(struct dialing *g)
{
    const struct dial *d = g->d;
    struct dialed *out = g->out;
    const struct addr *to[CONN_RACE_MAX] = {g->addr};
    unsigned n = 1, which = 0;

    for (unsigned i = 0; i < d->n_others && g->addr == d->addr; i++)
        to[n++] = d->others[i];
    out->client = client_connect(d->host, to, n, d->from, out->dcid,
                                 d->patience ? d->patience : CONNECT_TIMEOUT,
                                 d->deadline ? d->deadline : NEVER, &which, &out->local,
                                 &out->refusal, &g->err);
    if (out->local.family) /* one was there, even if it did not greet us */
        g->addr = to[which];
    out->peer = *g->addr;
    return out->client;
}

/* YIELDS. One connection. */
static enum tls_step once(struct dialing *g)
{
    const struct dial *d = g->d;
    struct dialed *out = g->out;
    enum tls_step step;

    memset(&g->err, 0, sizeof(g->err));
    g->checks = g->verdict.must | g->verdict.look;
    out->refusal.code = 0;
    out->dcid = d->logged ? queue_next_dcid() : 0;
    tell(g, DIAL_CONNECTING, "");
    if (!connect_any(g)) {
        log_no_session(g);
        return TLS_STEP_NEXT;
    }
    tell(g, DIAL_CONNECTED, "");
    if (!hello(g))
        return TLS_STEP_NEXT;
    step = secure(g);
    if (step == TLS_STEP_SEND && out->proof.encrypted && !hello(g))
        return TLS_STEP_NEXT;
    if (step == TLS_STEP_SEND)
        return step;
    out->insecure = true;
    if (d->logged && g->verdict.use == TLS_MUST)
        maillog_dcid_tls_required(out->dcid);
    return step;
}

bool smtp_dial(const struct dial *d, struct dialed *out)
{
    struct dialing g = {.d = d, .out = out, .addr = d->addr, .verdict = d->need->verdict};
    enum tls_step step;

    memset(out, 0, sizeof(*out));
    step = once(&g);
    if (step == TLS_STEP_RECONNECT) {
        client_free(&out->client);
        memset(out, 0, sizeof(*out));
        g.verdict = (struct tls_verdict){TLS_NEVER, .rule = d->need->verdict.rule};
        tell(&g, DIAL_RECONNECTING, "");
        step = once(&g);
        out->event = TLS_EV_BROKEN; /* that is why */
    }
    if (step == TLS_STEP_SEND)
        return true;
    str_copy(out->why, sizeof(out->why), g.err.text);
    out->ours = g.err.code == E_IO || fiber_stopping();
    client_free(&out->client);
    return false;
}
