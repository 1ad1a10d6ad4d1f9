/* deliver.c - one delivery session: take a message of the destination, find or open a connection,
 * hand the message over, settle what became of each recipient, take the next.
 *
 * Order that matters: a report to the sender is on disk before the recipient it is about is
 * forgotten; a recipient is forgotten only after the peer's 250. Between the two a crash repeats,
 * and never loses. */
#include "daemon/deliver.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/attempt.h"
#include "daemon/auth_outgoing.h"
#include "daemon/bv.h"
#include "daemon/conn.h"
#include "daemon/deststats.h"
#include "daemon/evidence.h"
#include "daemon/fiber.h"
#include "daemon/hosts.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/message.h"
#include "daemon/queue_run.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/settle.h"
#include "daemon/smtp_client.h"
#include "daemon/smtp_dial.h"
#include "daemon/smtp_pool.h"
#include "daemon/stats.h"
#include "daemon/tls_failures.h"
#include "store/base/str.h"

#define LINGER SECONDS(5) /* how long a connection waits for another message */
#define FULL_PAUSE SECONDS(1) /* before a connection with TLS is asked for again, when there are enough */
#define PROBE_PATIENCE SECONDS(15) /* for a host that was down */
#define LOST_PATIENCE SECONDS(5) /* for an address that has lost a race already */
#define DOWN_PREFIX 19u /* of note_down: before the text */
#define HOLD_SPREAD SECONDS(10) /* over which destinations of a host that was down come back */
#define RESOLVE_TIMEOUT SECONDS(60)
#define SLOW_PEER                                                                                  \
    20 /* a transaction of that many milliseconds waits for the peer more than for us */
#define TLS_STATUS "4.7.5" /* RFC 3463: cryptographic failure */
#define AUTH_STATUS "4.7.8" /* RFC 4954 section 6: authentication credentials invalid */
#define RCPTS_PER_TRANSACTION 50u /* at most CLIENT_MAX_RCPTS */

struct session {
    struct dest *dest;
    struct config *cfg; /* of the message in hand */
    struct controls controls;
    const struct bounce_profile *profile; /* ... or the last resort */
    char domain[256]; /* of the recipients in hand */
    const char *via; /* the host they are redirected to, of the message in hand; NULL: none */
    char counted[256]; /* the domain whose sessions in deststats.c this one is among; "" none */
    struct client *client;
    char tagged[SMTP_ADDRESS_MAX + 1]; /* the sender, tagged (bv.h) */
    char identity[IDENTITY_SIZE]; /* whom it has to be authenticated as */
    bool pooled; /* it was another session's */
    struct targets targets;
    unsigned next; /* target to try next */
    unsigned raced; /* targets before this one have lost a race */
    bool resolved;
    bool any_full; /* a host was passed over for its limit */
    unsigned any_down; /* so many because they are down */
    bool asked; /* one was connected to, or refused for its security */
    msec_t full_until, down_until; /* when the first of those may be worth coming back to */
    struct hosts_wait wait; /* what hosts.c said of the last of them */
    bool unreachable; /* no host took a connection */
    char trouble[480]; /* what the last host said or did */
    bool insecure; /* ... that is, it does not do the TLS it must */
    bool unauthenticated; /* ... it does not take our name and password */
    struct domain_evidence evidence; /* of the domain in hand, good until evidence.expires */
    struct tls_need need; /* of the last target tried: of the open connection, if there is one */
    uint64_t trust; /* authorities and revocation lists that need was made under */
    msec_t expires; /* until when that may be relied on; 0: nothing is known */
    bool announced; /* the MTA-STS policy was */
    unsigned tried, dane_failed, sts_failed; /* targets */
    struct trail trail; /* the hosts that led to the open connection, for the records */
    struct tls_evidence facts; /* of the last of them */
    struct smtp_reply refusal; /* its reply, code 0: none */
};

/* --- connections --- */

static void hang_up(struct session *s)
{
    if (!s->client)
        return;
    if (!s->client->closing)
        pool_keep_session(s->client);
    hosts_leave(&s->client->peer, true);
    client_free(&s->client); /* YIELDS */
}

static void note_trouble(struct session *s, const char *text)
{
    str_copy(s->trouble, sizeof(s->trouble), text);
}

/* --- what the mail needs, and which hosts give it --- */

static void forget_evidence(struct session *s)
{
    domain_evidence_free(&s->evidence);
    memset(&s->need, 0, sizeof(s->need));
    s->expires = 0;
}

static void forget_targets(struct session *s)
{
    forget_evidence(s);
    targets_free(&s->targets);
    s->resolved = false;
}

/* YIELDS. What holds for the domain of the recipients in hand, if it is not known already. */
static void know_domain(struct session *s, unsigned flags)
{
    if (s->expires && clock_now() < s->evidence.expires && str_eq(s->evidence.domain, s->domain) &&
        s->evidence.accepted == !!(flags & MSG_ACCEPTED))
        return;
    forget_evidence(s);
    evidence_of_domain(s->cfg, s->domain, &s->targets, flags, clock_in(RESOLVE_TIMEOUT),
                       &s->evidence);
    s->expires = s->evidence.expires;
}

static void know_need(struct session *s, const struct host_evidence *e)
{
    s->need = e->need;
    s->expires = e->expires;
    s->trust = e->trust;
}

/* A host that does not get the mail for want of security, and why. */
static void note_insecure(struct session *s, const char *host, const char *why,
                          const struct host_evidence *e)
{
    char reason[300];

    evidence_reason(e, reason, sizeof(reason));
    if (*why)
        snprintf(s->trouble, sizeof(s->trouble), "%.100s: %.200s; %.160s", host, why, reason);
    else
        snprintf(s->trouble, sizeof(s->trouble), "%.100s: %.300s", host, reason);
    s->refusal.code = 0;
    s->insecure = true; /* what other hosts of the domain suffer from is of less interest now */
}

/* What the log says of a policy before anything is tried. */
static void announce_sts(struct session *s, const struct host_evidence *e)
{
    enum sts_state state = e->facts.sts_state;
    enum tls_rule rule = e->need.verdict.rule;

    if (s->announced || (state != STS_MODE_ENFORCE && state != STS_MODE_TESTING))
        return;
    s->announced = true;
    if (rule == RULE_DANE_USABLE || rule == RULE_DANE_FAILED || rule == RULE_DANE_MANDATORY) {
        maillog_sts_skipped(s->domain);
        return;
    }
    maillog_sts_applying(s->domain);
    if (state == STS_MODE_ENFORCE)
        maillog_sts_enforcing();
}

/* ... and of its outcome on one host. */
static void log_sts(struct session *s, const struct host_evidence *e, const struct dialed *d)
{
    const struct tls_verdict *v = &e->need.verdict;

    if (!((v->must | v->look) & TLS_CHECK_MX))
        return;
    if (e->facts.sts_state ==
        STS_MODE_TESTING) { /* what would keep the mail is said, no more (RFC 8461 section 5) */
        if (d->verified.passed & TLS_CHECK_MX && e->facts.sts_lists_host)
            maillog_sts_success(s->domain);
        else if (d->event != TLS_EV_EHLO)
            maillog_sts_failed(s->domain);
        return;
    }
    if (d->verified.passed & TLS_CHECK_MX)
        maillog_sts_success(s->domain);
    else if (d->event == TLS_EV_DONE)
        maillog_sts_failed(s->domain);
    else if (v->must & TLS_CHECK_MX && d->insecure)
        maillog_sts_unreachable(s->domain);
}

/* One host more for the records. d: NULL for a connection that was open already, or none. */
static void record_host(struct session *s, const struct target *t, const struct host_evidence *e,
                        enum trail_end end, const struct dialed *d, const char *why)
{
    const struct client *c = end == TRAIL_USED ? s->client : NULL;
    unsigned checks = e->need.verdict.must | e->need.verdict.look;
    struct trail_host h = {.host = t->of->host,
                           .addr = &t->addr,
                           .entry = s->controls.entry,
                           .evidence = &e->facts,
                           .verdict = &e->need.verdict,
                           .end = end,
                           .why = why};
    struct tls_info info = {0};

    if (c && c->proof.encrypted) {
        conn_tls_info(c->conn, &info);
        h.encrypted = true;
        h.protocol = info.protocol;
        h.cipher = info.cipher;
        h.passed = c->proof.passed & checks;
        if (!d)
            h.why = "";
        else if (checks & ~h.passed)
            h.why = tls_verify_why(&d->verified, checks & ~h.passed);
    } else if (c && d && e->need.verdict.use == TLS_TRY) {
        h.why = d->event == TLS_EV_REFUSED  ? "STARTTLS was refused"
                : d->event == TLS_EV_BROKEN ? "the TLS handshake failed; sent over a new "
                                              "connection in clear"
                                            : "STARTTLS is not offered";
    }
    if (d)
        h.matched = d->verified.matched;
    h.reused = c && !d;
    s->facts = e->facts;
    trail_add(&s->trail, &h);
}

static void record_attempt(struct session *s, const struct batch *b)
{
    struct attempt a = {.mid = b->m->mid, .dcid = b->dcid, .domain = s->domain};

    for (unsigned i = 0; i < b->n; i++) {
        const struct rcpt_result *r = &b->results[i];

        a.delivered += r->outcome == OUTCOME_DONE;
        a.deferred += r->outcome == OUTCOME_RETRY;
        a.bounced += r->outcome == OUTCOME_FAILED;
        if (r->outcome != OUTCOME_DONE && !a.text) {
            a.code = r->code;
            a.text = r->text;
        }
    }
    attempt_note(&s->trail, &a);
}

static void record_no_host(struct session *s, enum trail_end end, const char *why)
{
    trail_add(&s->trail, &(struct trail_host){.entry = s->controls.entry, .end = end, .why = why});
}

/* YIELDS. A host that may not be tried at all. */
static void pass_over(struct session *s, const struct target *t, const struct host_evidence *e)
{
    enum tls_rule rule = e->need.verdict.rule;
    char reason[300];

    evidence_reason(e, reason, sizeof(reason));
    note_insecure(s, t->of->host, "", e);
    record_host(s, t, e, TRAIL_REFUSED, NULL, reason);
    s->dane_failed += rule == RULE_DANE_FAILED || rule == RULE_DANE_MANDATORY;
    s->sts_failed += rule == RULE_STS_MX;
    maillog_tls_refused(s->domain, t->of->host, tls_rule_word(rule), reason);
    if (rule == RULE_STS_MX)
        maillog_sts_failed(s->domain);
}

static unsigned session_limit(const struct session *s)
{
    return s->controls.per_address ? s->controls.limits.sessions : 0;
}

/* The addresses of the same host that follow t, for a race (RFC 8305): as far as they have to prove the same and
 * may have a connection. */
static void add_others(struct session *s, const struct target *t, const struct host_evidence *e,
                       struct dial *dial)
{
    for (unsigned i = s->next; i < s->targets.n && dial->n_others < countof(dial->others); i++) {
        const struct target *other = &s->targets.items[i];

        if (other->of != t->of ||
            (other->addr.family != t->addr.family && route_has_source(s->cfg, other->addr.family)) ||
            !evidence_same(s->cfg, &s->evidence, e, t, other) ||
            !hosts_takes(&other->addr, session_limit(s), clock_now()))
            break;
        dial->others[dial->n_others++] = &other->addr;
    }
}

/* How long what does not answer is left alone: the shorter of what bounceconfig says for hosts and for this mail. */
static void retry_timers(const struct session *s, msec_t *first, msec_t *most)
{
    const struct bounce_setup *b = CONFIG_SINGLE(s->cfg, bounce_setup);
    const struct bounce_profile *p = s->profile;

    *first = SECONDS((msec_t)(b && b->initial_host_retry < p->initial_retry ? b->initial_host_retry
                                                                            : p->initial_retry));
    *most = SECONDS(
        (msec_t)(b && b->max_host_retry < p->max_retry ? b->max_host_retry : p->max_retry));
}

static void note_no_answer(struct session *s, const struct addr *a, const struct dialed *d)
{
    msec_t first, most, now = clock_now(), until;
    char name[ADDR_TEXT];

    retry_timers(s, &first, &most);
    if (hosts_failed(a, d->why, first, most, now, &until))
        maillog_down("MX host", addr_text_port(a, name), d->why, (uint64_t)(until - now) / 1000);
}

static void note_answer(const struct addr *a)
{
    char name[ADDR_TEXT];
    msec_t lasted;

    if (hosts_worked(a, clock_now(), &lasted))
        maillog_up("MX host", addr_text_port(a, name), (uint64_t)lasted / 1000);
}

/* What the dial has shown of the addresses. One that has won a race stands where t stood; those that
 * were tried with it and lost come after it. No answer at all: they need not be tried one by one. */
static void settle_race(struct session *s, struct target *t, const struct dial *dial,
                        const struct dialed *d, bool greeted)
{
    if (d->ours || !d->local.family) { /* never connected */
        for (unsigned i = 0; i < dial->n_others && !d->ours; i++) {
            hosts_join(dial->others[i]);
            note_no_answer(s, dial->others[i], d);
        }
        s->next += dial->n_others;
    }
    if (d->ours) {
        hosts_leave(&t->addr, false);
        return;
    }
    for (unsigned i = s->next; d->local.family && i < s->next + dial->n_others; i++) {
        struct target *other = &s->targets.items[i], was = *t;

        if (!addr_eq(&other->addr, &d->peer))
            continue;
        hosts_join(&other->addr);
        hosts_leave(&t->addr, false);
        *t = *other;
        *other = was;
        s->raced = s->next + dial->n_others;
        break;
    }
    if (greeted)
        note_answer(&t->addr);
    else
        note_no_answer(s, &t->addr, d);
}

/* Mail that was redirected does not go to a host of the route: no name and password go with it. */
static const struct smtpauth_profile *profile_there(const struct session *s)
{
    return s->via ? NULL : route_auth(s->cfg, s->domain);
}

/* YIELDS. As the profile of the route says; true when there is none. false: why, and s->trouble. */
static bool log_in(struct session *s, char *why, size_t size)
{
    const struct smtpauth_profile *p = profile_there(s);

    if (!p || auth_outgoing(s->client, s->cfg, p, why, size)) /* YIELDS */
        return true;
    s->unauthenticated = true;
    memset(&s->refusal, 0, sizeof(s->refusal)); /* the sentence says what the reply was */
    str_copy(s->refusal.enhanced, sizeof(s->refusal.enhanced), AUTH_STATUS);
    snprintf(s->trouble, sizeof(s->trouble), "%.100s: %.370s", s->client->host, why);
    client_free(&s->client); /* YIELDS */
    return false;
}

static atomic_int dialing_tls; /* connections that are being made and will probably use TLS */

/* One more with TLS? Those that are being made count twice from the handshake on, so there are never too many. */
static bool tls_enter(const struct session *s, const struct host_evidence *e)
{
    const struct delivery *d = CONFIG_SINGLE(s->cfg, delivery);

    if (e->need.verdict.use == TLS_NEVER)
        return true;
    if (atomic_fetch_add(&dialing_tls, 1) + gauge_get(GAUGE_TLS_OUT) <
        (int64_t)(d ? d->max_tls_concurrency : 1000))
        return true;
    atomic_fetch_sub(&dialing_tls, 1);
    return false;
}

static void tls_entered(const struct host_evidence *e)
{
    if (e->need.verdict.use != TLS_NEVER)
        atomic_fetch_sub(&dialing_tls, 1);
}

/* YIELDS. Opens a session with one address, which hosts.c and tls_enter have counted, or with one of
 * the same host. false: s->trouble says why. */
static bool open_target(struct session *s, struct target *t, const struct host_evidence *e,
                        msec_t patience)
{
    const struct system *sys = CONFIG_SINGLE(s->cfg, system);
    const struct destination_setup *setup = CONFIG_SINGLE(s->cfg, destination_setup);
    const struct tls_verdict *v = &e->need.verdict;
    struct addr from = {0};
    struct dial dial = {.host = t->of->host,
                        .addr = &t->addr,
                        .helo = sys ? sys->hostname : "localhost",
                        .need = &e->need,
                        .names = e->names,
                        .dane = &e->dane,
                        .logged = true,
                        .patience = patience,
                        .resume = true};
    struct dialed *d = xcalloc(1, sizeof(*d));
    bool ok, greeted;

    if (route_source(s->cfg, t->addr.family, &from))
        dial.from = &from;
    if (!patience)
        add_others(s, t, e, &dial);
    ok = smtp_dial(&dial, d);
    tls_entered(e);
    s->client = d->client;
    s->asked = true;
    greeted = ok || d->insecure;
    settle_race(s, t, &dial, d, greeted);
    if (greeted)
        queue_dest_reached(s->dest);
    if (ok)
        ok = log_in(s, d->why, sizeof(d->why));
    if (greeted && !ok && !d->ours)
        hosts_leave(&t->addr, true);
    log_sts(s, e, d);
    record_host(s, t, e,
                ok            ? TRAIL_USED
                : d->insecure ? TRAIL_INSECURE
                              : TRAIL_UNREACHABLE,
                d, d->why);
    if (d->event == TLS_EV_BROKEN && v->rule == RULE_LEVEL_PREFERRED && setup &&
        setup->tls_failure_memory)
        tls_failures_note(t->of->host, &t->addr, d->why);
    if (!ok && d->insecure) {
        note_insecure(s, t->of->host, d->why, e);
        s->dane_failed += !!(v->must & TLS_CHECK_DANE);
        s->sts_failed += !!(v->must & TLS_CHECK_MX);
        if (v->use == TLS_MUST)
            alert_tls_required(s->cfg, s->domain, t->of->host, d->why);
    } else if (!ok && !s->insecure) {
        if (!s->unauthenticated) {
            note_trouble(s, d->why);
            s->refusal = d->refusal;
        }
    }
    free(d);
    return ok;
}

static void earlier(msec_t *when, msec_t other)
{
    if (!*when || other < *when)
        *when = other;
}

/* 0: as long as is reasonable. Somebody's mail waits for its next host meanwhile. */
static msec_t patience_for(const struct session *s, const struct target *t,
                           enum hosts_answer answer)
{
    if (answer == HOSTS_PROBE)
        return PROBE_PATIENCE;
    return t < s->targets.items + s->raced ? LOST_PATIENCE : 0;
}

/* YIELDS. A new connection to a target, if it may have one. */
static bool open_if_free(struct session *s, struct target *t, const struct host_evidence *e)
{
    msec_t now = clock_now();
    enum hosts_answer answer;

    if (!tls_enter(s, e)) {
        s->any_full = true;
        earlier(&s->full_until, now + FULL_PAUSE);
        return false;
    }
    answer = hosts_enter(&t->addr, session_limit(s), now, &s->wait);
    if (answer == HOSTS_GO || answer == HOSTS_PROBE)
        return open_target(s, t, e, patience_for(s, t, answer));
    tls_entered(e);
    if (answer == HOSTS_FULL) {
        s->any_full = true;
        earlier(&s->full_until, s->wait.until);
    } else {
        s->any_down++;
        earlier(&s->down_until, s->wait.until);
        record_host(s, t, e, TRAIL_DOWN, NULL, s->wait.why);
    }
    return false;
}

/* YIELDS. A connection to the next target that takes one: an open one that waits, or a new one. */
static bool connect_next(struct session *s, unsigned flags)
{
    struct host_evidence *e = xcalloc(1, sizeof(*e)); /* too large for the stack */
    bool ok = false;

    auth_identity(s->cfg, profile_there(s), s->identity);
    know_domain(s, flags);
    while (s->next < s->targets.n && !ok) {
        struct target *t = &s->targets.items[s->next++];

        evidence_of_host(s->cfg, &s->evidence, t, clock_in(RESOLVE_TIMEOUT), e);
        s->tried++;
        know_need(s, e);
        announce_sts(s, e);
        if (e->need.verdict.use == TLS_REFUSE) {
            s->asked = true;
            pass_over(s, t, e);
            host_evidence_free(e);
            continue;
        }
        s->client = pool_take(&t->addr, &e->need, s->identity);
        s->pooled = s->client != NULL;
        if (s->client && client_alive(s->client)) {
            ok = true;
            record_host(s, t, e, TRAIL_USED, NULL, "");
        } else {
            hang_up(s);
            ok = open_if_free(s, t, e);
        }
        host_evidence_free(e);
    }
    free(e);
    return ok;
}

/* YIELDS. May the open connection carry this message? As long as neither the domain nor anything
 * that was found out about it has changed, nothing is asked again. */
static bool still_serves(struct session *s, unsigned flags)
{
    struct route_problem ignored;
    bool ok = false;

    auth_identity(s->cfg, profile_there(s), s->identity);
    if (!client_alive(s->client) || !str_eq(s->client->identity, s->identity))
        return false;
    if (clock_now() < s->expires && str_eq(s->evidence.domain, s->domain) &&
        s->evidence.accepted == !!(flags & MSG_ACCEPTED) && s->trust == tls_verify_id())
        return tls_serves(&s->client->proof, &s->need);
    if (clock_now() >= s->expires) {
        forget_targets(s);
        s->resolved = route_resolve_via(s->cfg, s->via, s->domain, queue_dest_turn(s->dest),
                                        clock_in(RESOLVE_TIMEOUT), &s->targets, &ignored) == ROUTE_OK;
        s->raced = 0;
        s->next = s->targets.n; /* for now; the connection we have is one of them */
    }
    know_domain(s, flags);
    for (unsigned i = 0; i < s->targets.n && !ok; i++) {
        const struct target *t = &s->targets.items[i];
        struct host_evidence e;

        if (!addr_eq(&t->addr, &s->client->peer) || t->addr.port != s->client->peer.port)
            continue;
        evidence_of_host(s->cfg, &s->evidence, t, clock_in(RESOLVE_TIMEOUT), &e);
        ok = tls_serves(&s->client->proof, &e.need);
        if (ok && memcmp(&s->facts, &e.facts, sizeof(e.facts)) != 0) {
            trail_begin(&s->trail);
            record_host(s, t, &e, TRAIL_USED, NULL, "");
        }
        know_need(s, &e);
        host_evidence_free(&e);
        s->next = i + 1;
        break;
    }
    return ok && client_alive(s->client);
}

/* --- handing over --- */

static void decide_all(struct batch *b, enum outcome outcome, int code, const char *status,
                       const char *text)
{
    for (unsigned i = 0; i < b->n; i++)
        if (!b->results[i].text)
            rcpt_result_set(&b->results[i], outcome, code, status, text);
}

static void undecide(struct rcpt_result *r)
{
    free(r->text);
    memset(r, 0, sizeof(*r));
}

/* The envelope sender as it goes to this destination. Tagged only for who we relay for: the bounces of others do not come
 * here. */
static const char *sender_there(struct session *s, const struct message *m)
{
    if (!s->controls.bounce_verification || m->flags & MSG_ACCEPTED ||
        !bv_tag(m->sender, clock_wall(), s->tagged, sizeof(s->tagged)))
        return m->sender;
    return s->tagged;
}

/* YIELDS. One or more transactions over the open connection, for recipients without a result.
 * false: the connection is of no more use and something is left that another host may take. */
static bool hand_over(struct session *s, struct batch *b)
{
    unsigned *rids = xcalloc(RCPTS_PER_TRANSACTION, sizeof(*rids));
    unsigned *which = xcalloc(RCPTS_PER_TRANSACTION, sizeof(*which));
    struct rcpt_result *results = xcalloc(RCPTS_PER_TRANSACTION, sizeof(*results));
    const struct delivery *delivery = CONFIG_SINGLE(s->cfg, delivery);
    bool more = true, ok = true;

    b->dcid = s->client->dcid;
    str_copy(b->host, sizeof(b->host), s->client->host);
    addr_text(&s->client->peer, b->peer);
    if (client_lacks(s->client, b->m->flags) && s->next < s->targets.n) {
        note_trouble(s, client_lacks(s->client, b->m->flags)); /* another one may have it */
        more = false;
    }
    while (more && ok) {
        unsigned n = 0, done = 0, later = 0;
        struct err err = {0};

        for (unsigned i = 0; i < b->n && n < RCPTS_PER_TRANSACTION; i++)
            if (!b->results[i].text) {
                which[n] = i;
                rids[n++] = b->rids[i];
            }
        if (!n)
            break;
        maillog_delivery_start(s->client->dcid, b->m->mid, rids, n);
        memset(results, 0, n * sizeof(*results));
        s->client->possible_delivery = delivery && delivery->possible_delivery;
        ok = client_transaction(s->client, b->m, sender_there(s, b->m), rids, n, results,
                                &err);
        if (!ok)
            note_trouble(s, err.code ? err.text : s->client->reply.text);
        for (unsigned i = 0; i < n; i++) {
            struct rcpt_result *r = &results[i];

            /* The line broke, or the service is closing: the next host decides. */
            if (!ok && r->outcome == OUTCOME_RETRY && (r->code == 0 || r->code == 421)) {
                undecide(r);
                continue;
            }
            done += r->outcome == OUTCOME_DONE;
            later += r->outcome == OUTCOME_RETRY && r->code == 452;
            b->results[which[i]] = *r;
        }
        more = b->n > n || (done && later);
        for (unsigned i = 0; i < b->n && done && later && ok;
             i++) /* too many at a time: those again, at once */
            if (b->results[i].text && b->results[i].outcome == OUTCOME_RETRY &&
                b->results[i].code == 452)
                undecide(&b->results[i]);
        if (s->client->closing)
            break;
    }
    free(rids);
    free(which);
    free(results);
    for (unsigned i = 0; i < b->n; i++)
        if (!b->results[i].text)
            return false;
    return true;
}

/* YIELDS. connect_next, seen by the statistics. */
static bool connect_counted(struct session *s, unsigned flags)
{
    bool ok;

    deststats_change(s->domain, &(struct dest_change){.gauge = {[DEST_PENDING] = 1}});
    ok = connect_next(s, flags);
    deststats_change(s->domain, &(struct dest_change){.gauge = {[DEST_PENDING] = -1}});
    return ok;
}

static void alert_sts(struct session *s)
{
    char key[300];

    snprintf(key, sizeof(key), "mta-sts %s", s->domain);
    alert_raise(ALERT_DELIVERY, ALERT_WARNING, key,
                "No MX host of the domain \"%s\" meets its MTA-STS policy.\n%s", s->domain,
                s->trouble);
}

static void alert_dane(struct session *s, const char *why)
{
    char key[300];

    snprintf(key, sizeof(key), "dane %s", s->domain);
    alert_raise(ALERT_DELIVERY, ALERT_WARNING, key,
                "DANE verification failed for all MX hosts of the domain \"%s\".\n%s", s->domain,
                why);
}

/* YIELDS. Tries the hosts of the domain until every recipient has a result. false: none may be
 * tried now, because their limits are reached: nothing was decided for the rest. */
static bool attempt(struct session *s, struct batch *b)
{
    struct route_problem problem;
    bool reused = s->client != NULL;

    if (s->client && !still_serves(s, b->m->flags)) {
        hang_up(s);
        reused = false;
    }
    if (!s->client) { /* the last one ended, or the pool gave it away: from the first host again */
        forget_targets(s);
        trail_begin(&s->trail);
    }
    s->announced = false;
    s->tried = s->dane_failed = s->sts_failed = 0;
    s->any_full = s->unreachable = s->insecure = s->unauthenticated = s->asked = false;
    s->any_down = 0;
    s->full_until = s->down_until = 0;
    *s->trouble = '\0';
    memset(&s->refusal, 0, sizeof(s->refusal));
    for (;;) {
        msec_t begin;
        bool all;

        if (!s->client && !s->resolved) {
            targets_free(&s->targets);
            switch (route_resolve_via(s->cfg, s->via, s->domain, queue_dest_turn(s->dest),
                                      clock_in(RESOLVE_TIMEOUT), &s->targets, &problem)) {
            case ROUTE_OK:
                s->resolved = true;
                s->next = s->raced = 0;
                break;
            case ROUTE_DISCARD:
                record_no_host(s, TRAIL_ROUTE, "the SMTP route throws the mail away");
                decide_all(b, OUTCOME_DONE, 250, "2.0.0", "discarded");
                return true;
            case ROUTE_RETRY:
                record_no_host(s, TRAIL_ROUTE, problem.text);
                if (problem.bogus && s->controls.dane != DANE_OFF)
                    alert_dane(s, problem.text);
                s->unreachable = true; /* each further message would wait for the name servers again */
                note_trouble(s, problem.text);
                decide_all(b, OUTCOME_RETRY, 0, problem.status, problem.text);
                return true;
            case ROUTE_FAIL:
                record_no_host(s, TRAIL_ROUTE, problem.text);
                decide_all(b, OUTCOME_FAILED, problem.dns ? -2 : 0, problem.status, problem.text);
                return true;
            }
        }
        if (!s->client && !connect_counted(s, b->m->flags)) {
            /* What a route's host has to prove to one domain says nothing about the others. */
            s->unreachable = s->asked && !s->any_full && !(s->insecure && s->targets.routed);
            if (s->refusal.code && s->next && s->next <= s->targets.n) { /* who said that */
                const struct target *t = &s->targets.items[s->next - 1];

                str_copy(b->host, sizeof(b->host), t->of->host);
                addr_text(&t->addr, b->peer);
            }
            forget_targets(s); /* the next message asks again */
            if (s->any_full && !s->asked)
                return false;
            if (s->any_down && !s->asked) {
                b->held = true;
                note_trouble(s, s->wait.why);
            }
            if (s->dane_failed && s->dane_failed == s->tried)
                alert_dane(s, s->trouble);
            else if (s->sts_failed && s->sts_failed == s->tried)
                alert_sts(s);
            decide_all(b, OUTCOME_RETRY, s->refusal.code,
                       s->insecure              ? TLS_STATUS
                       : s->refusal.enhanced[0] ? s->refusal.enhanced
                                                : "4.4.0",
                       s->refusal.code ? s->refusal.text : s->trouble);
            return true;
        }
        begin = clock_now();
        all = hand_over(s, b);
        if (s->client->closing)
            hang_up(s);
        if (all) {
            queue_dest_worked(s->dest, clock_now() - begin >= SLOW_PEER);
            return true;
        }
        hang_up(s);
        if (reused) /* it had been idle; the host itself may be well */
            s->next = s->raced = 0;
        else if (s->pooled)
            s->next--;
        reused = s->pooled = false;
    }
}

/* --- one item --- */

static void batch_free(struct batch *b)
{
    for (unsigned i = 0; i < b->n; i++)
        free(b->results[i].text);
    free(b->results);
    free(b->rids);
    free(b->refusal);
    memset(b, 0, sizeof(*b));
}

/* May what a host has to prove, or has to have, depend on the domain? */
static bool domains_differ(const struct session *s)
{
    struct controls c;

    route_controls(s->cfg, s->domain, &c);
    return c.tls >= DEST_TLS_PREFERRED_VERIFY || config_count(s->cfg, &section_tls_exception);
}

/* The recipients of the item that go where the first of them goes: after a change of routes they
 * may part. Marks them. */
static void next_batch(struct session *s, const struct item *item, struct message *m, bool *tried,
                       struct batch *b)
{
    unsigned number = (unsigned)(item - item->message->items);
    char key[600], other[600];
    const char *domain, *same = NULL;

    memset(b, 0, sizeof(*b));
    b->m = m;
    b->rids = xcalloc(m->nrcpts, sizeof(*b->rids));
    for (unsigned i = 0; i < m->nrcpts; i++) {
        if (m->rcpts[i].item != number || m->rcpts[i].state != RCPT_QUEUED || tried[i])
            continue; /* what is another session's is not looked at */
        domain = address_domain(m->rcpts[i].address);
        if (!b->n) {
            str_copy(s->domain, sizeof(s->domain), domain);
            same = domain;
        } else if (!str_eq(domain, same)) {
            route_key_via(s->cfg, s->via, s->domain, key, sizeof(key));
            route_key_via(s->cfg, s->via, domain, other, sizeof(other));
            if (!str_eq(key, other) || domains_differ(s))
                continue;
            same = domain;
        }
        tried[i] = true;
        b->rids[b->n++] = i;
    }
    b->results = xcalloc(b->n ? b->n : 1, sizeof(*b->results));
}

/* For the statistics: whose mail this session is at work on; NULL: nobody's any more. */
static void work_on(struct session *s, const char *domain)
{
    if (domain && str_eq(domain, s->counted))
        return;
    if (*s->counted)
        deststats_change(s->counted, &(struct dest_change){.gauge = {[DEST_SESSIONS] = -1}});
    str_copy(s->counted, sizeof(s->counted), domain ? domain : "");
    if (domain)
        deststats_change(domain, &(struct dest_change){.gauge = {[DEST_SESSIONS] = 1}});
}

static void forget_hosts(struct session *s)
{
    hang_up(s);
    forget_targets(s);
}

/* RFC 8461 section 5.1: no permanent failure before a new policy was looked for. */
static bool deserves_a_last_look(const struct session *s)
{
    return s->controls.mta_sts && !s->via && route_uses_dns(route_find(s->cfg, s->domain));
}

static void give_up(struct batch *b)
{
    for (unsigned i = 0; i < b->n; i++)
        if (b->results[i].outcome == OUTCOME_RETRY) {
            b->results[i].outcome = OUTCOME_FAILED;
            str_copy(b->results[i].status, sizeof(b->results[i].status), "5.4.7");
        }
}

/* What made a destination unreachable, as the queue keeps it: a letter, the revision under which it
 * happened, the text. */
struct down {
    bool insecure; /* not the network, but the TLS it does not do */
    bool unauthenticated; /* it does not take our name and password */
    char text[480];
};

static void note_down(struct session *s, const struct batch *b, uint32_t attempts)
{
    char kind = s->insecure ? 'T' : s->unauthenticated ? 'A' : 'N';
    char text[sizeof(s->trouble) + 32];
    msec_t first, most;

    snprintf(text, sizeof(text), "%c %016" PRIx64 " %s", kind, config_revision(s->cfg), s->trouble);
    if (b->held) {
        msec_t left = s->down_until - clock_now(),
               spread = left / 4 < HOLD_SPREAD ? left / 4 : HOLD_SPREAD;

        queue_dest_hold(s->dest, s->down_until + clock_part(spread > 0 ? spread : 0), text);
        return;
    }
    if (kind == 'N')
        retry_timers(s, &first, &most);
    else /* each message asks (is_down), and finds it open again when it comes back */
        first = most = (msec_t)(settle_interval(s->profile, attempts + 1, false) / 1000 * 8 / 10);
    queue_dest_failed(s->dest, kind == 'N', first, most, text, s->trouble);
}

const char *deliver_down_text(const char *error)
{
    return strlen(error) > DOWN_PREFIX ? error + DOWN_PREFIX : "";
}

/* Is the destination not to be tried now for this message? What failed for want of TLS is tried
 * again under every new configuration, and at once for mail that DANE is not asked about. */
static bool is_down(struct session *s, const struct batch *b, struct down *d)
{
    char text[sizeof(d->text) + 32];
    uint64_t revision;

    if (!queue_dest_down(s->dest, text, sizeof(text)))
        return false;
    d->insecure = text[0] == 'T';
    d->unauthenticated = text[0] == 'A';
    revision = strtoull(text + 2, NULL, 16);
    str_copy(d->text, sizeof(d->text), deliver_down_text(text));
    if (d->unauthenticated)
        return revision == config_revision(s->cfg);
    return !d->insecure || (revision == config_revision(s->cfg) && !(b->m->flags & MSG_ACCEPTED));
}

/* Our own disk's fault must not cost the destination a connection and its good name. */
static __attribute__((noinline)) bool text_is_whole(struct batch *b, bool expired)
{
    const struct message *m = b->m;
    struct err err = {0};
    char key[40];

    if (body_check(m->body, &err))
        return true;
    decide_all(b, expired ? OUTCOME_FAILED : OUTCOME_RETRY, 0, "4.3.0", err.text);
    snprintf(key, sizeof(key), "body %" PRIu64, m->mid);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                "The text of message %" PRIu64 " from <%s> is damaged and cannot be delivered: %s. It is tried "
                "again, in case the disk recovers, until its time is up; then its sender is told.",
                m->mid, m->sender, err.text);
    return false;
}

/* YIELDS. Results for every recipient of the batch, by whatever way. false: the hosts take no
 * further connection now. */
static __attribute__((noinline)) bool decide_batch(struct session *s, struct batch *b, const struct settlement *t)
{
    const struct rcpt *first = &b->m->rcpts[b->rids[0]];
    char key[600];
    struct down d;
    bool stray, ok;

    if (!text_is_whole(b, t->now > t->expires))
        return true;
    s->profile = t->profile;
    b->expired = first->attempts && t->now > t->expires;
    if (b->expired && !deserves_a_last_look(s)) {
        decide_all(b, OUTCOME_FAILED, 0, "5.4.7",
                   first->last_error ? first->last_error : "the message is too old");
        return true;
    }
    route_key_via(s->cfg, s->via, s->domain, key, sizeof(key));
    stray = !str_eq(
        key, s->dest->key); /* routes have changed since it was queued: a session of its own */
    if (stray)
        forget_hosts(s);
    if (!stray && !s->client && !b->expired && is_down(s, b, &d)) {
        b->held = !d.insecure && !d.unauthenticated;
        b->expired = b->held && t->now > t->expires;
        if (b->expired)
            decide_all(b, OUTCOME_FAILED, 0, "5.4.7", d.text);
        if (b->held)
            decide_all(b, OUTCOME_RETRY, 0, "4.4.1", d.text);
        if (b->held && !b->expired)
            return true;
        decide_all(b, OUTCOME_RETRY, 0,
                   d.insecure          ? TLS_STATUS
                   : d.unauthenticated ? AUTH_STATUS
                                       : "4.4.0",
                   d.text);
        trail_begin(&s->trail);
        record_no_host(s, TRAIL_DOWN, d.text);
        record_attempt(s, b);
        return true;
    }
    ok = attempt(s, b);
    b->expired = b->expired || (b->held && t->now > t->expires);
    if (ok && b->expired)
        give_up(b);
    if (ok)
        record_attempt(s, b);
    if (ok && (s->unreachable || b->held) && !stray)
        note_down(s, b, first->attempts);
    if (stray)
        forget_hosts(s);
    return ok;
}

/* YIELDS. false: nothing could be tried, and the session had better end. */
static bool deliver_item(struct session *s, struct item *item)
{
    struct message *m = message_ref(item->message->m);
    bool *tried = xcalloc(m->nrcpts, sizeof(*tried)), ok = true, tried_any = false, changed = false;
    unsigned left = 0, *pending = NULL;
    struct config *now;
    usec_t next_try = 0;
    struct batch b;

    fiber_set_mark(m->flags & MSG_ALERT ? ALERT_MARK : 0);
    now = running_config();
    if (s->client && config_revision(now) != config_revision(s->cfg))
        forget_hosts(s); /* opened under other routes and other rules */
    config_free(&s->cfg);
    s->cfg = now;
    s->via = queue_redirected(m); /* the same for all of it, whatever is said meanwhile */
    for (next_batch(s, item, m, tried, &b); b.n && ok;
         batch_free(&b), next_batch(s, item, m, tried, &b)) {
        struct bounce_profile profile;
        struct settlement t = {
            .profile = &profile, .now = clock_wall(), .received = queue_received(item)};

        route_bounce_profile(s->cfg, s->domain, m->bounce_profile, &profile);
        work_on(s, s->domain);
        route_controls(s->cfg, s->domain, &s->controls);
        t.expires = t.received + (usec_t)t.profile->max_queue_seconds * 1000000;
        ok = decide_batch(s, &b, &t);
        if (!ok) {
            left += b.n;
            continue;
        }
        settle(&b, &t);
        tried_any |= !b.held;
        changed = true;
        if (t.left) {
            if (!pending)
                pending = xcalloc(m->nrcpts, sizeof(*pending));
            for (unsigned i = 0; i < b.n; i++)
                if (m->rcpts[b.rids[i]].state == RCPT_QUEUED)
                    pending[left++] = b.rids[i];
            if (!next_try || t.next_try < next_try)
                next_try = t.next_try;
        }
        settlement_free(&t);
    }
    batch_free(&b);
    if (!ok && !next_try) {
        msec_t pause = s->full_until - clock_now();

        pause = pause > 1 ? pause : 1;
        queue_postpone(item, pause + clock_part(pause), changed); /* not all of them together */
    } else if (left) {
        if (pending && tried_any)
            maillog_pending(m->mid, pending, left, next_try);
        queue_defer(item, left, next_try, tried_any);
    } else {
        queue_done(item);
    }
    free(pending);
    free(tried);
    message_free(&m);
    return ok;
}

/* --- the session --- */

/* YIELDS. The next item for an open connection that has nothing to do: meanwhile the pool may give
 * it away. */
static struct item *wait_for_item(struct session *s)
{
    struct waiting w;
    struct lent lent;
    struct item *item;

    pool_lend(&lent, s->client, &w);
    item = queue_wait(s->dest, &w, clock_in(LINGER));
    s->client = pool_back(&lent);
    return item;
}

void deliver_session(void *dest)
{
    struct session *s = xcalloc(1, sizeof(*s));
    struct item *item;

    s->dest = dest;
    while (!fiber_stopping()) {
        item = queue_take(s->dest);
        if (!item && s->client)
            item = wait_for_item(s);
        if (!item)
            break;
        if (!deliver_item(s, item))
            break;
        if (s->client && s->client->transactions >= s->controls.limits.messages_per_session)
            hang_up(s);
    }
    forget_hosts(s);
    work_on(s, NULL);
    trail_free(&s->trail);
    config_free(&s->cfg);
    queue_session_end(s->dest);
    free(s);
}
