/* control_verify.c - dane.verify and tls.verify: what daneverify and tlsverify print, line by line.
 * The questions, the decision, the session and the comparison are those of a delivery (dane.c,
 * tls_policy.c, smtp_dial.c); here they are only put into words. */
#include "daemon/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/evidence.h"
#include "daemon/exceptions.h"
#include "daemon/job.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/smtp_client.h"
#include "daemon/smtp_dial.h"
#include "store/base/str.h"

#define ASK_WITHIN SECONDS(60)
#define SMTP_PORT 25

struct test {
    struct job *job;
    struct config *cfg;
    char domain[256];
    bool detail; /* daneverify: more lines than the format has */
    bool all; /* daneverify: every MX host, not the first that is proven */
    /* of the host in hand */
    const struct target *target;
    const struct dane *dane;
    bool told_subject;
};

static const char *state_word(enum dns_security s)
{
    return s == DNS_SECURE ? "SECURE" : "INSECURE";
}

static const char *kind_of(const struct addr *a)
{
    return a->family == AF_INET6 ? "AAAA" : "A";
}

/* A test without a name or with one that cannot exist does not begin. */
static bool take_domain(const json_t *args, const char *key, char out[256], struct err *err)
{
    const char *given = json_str(args, key, "");

    if (!*given)
        return err_set(err, E_USAGE, "A domain is needed, for example: example.com.");
    if (!domain_to_ascii(given, out, 256, err) || !host_check(out, err))
        return false;
    return true;
}

/* YIELDS. One session with the target in hand. */
static bool dial(struct test *t, const struct tls_need *need, const struct tls_names *names,
                 void (*tell)(void *arg, const struct dial_event *e))
{
    const struct system *sys = CONFIG_SINGLE(t->cfg, system);
    struct addr from;
    struct dial d = {.host = t->target->of->host,
                     .addr = &t->target->addr,
                     .helo = sys ? sys->hostname : "localhost",
                     .need = need,
                     .names = *names,
                     .dane = t->dane,
                     .tell = tell,
                     .arg = t};
    struct dialed *out = xcalloc(1, sizeof(*out));
    bool ok;

    if (route_source(t->cfg, t->target->addr.family, &from))
        d.from = &from;
    ok = smtp_dial(&d, out);
    client_free(&out->client);
    free(out);
    return ok;
}

/* What a verdict for these facts needs. */
static void need_for(const struct tls_evidence *facts, const struct tls_names *names,
                     const struct dane *dane, struct tls_need *out)
{
    memset(out, 0, sizeof(*out));
    out->verdict = tls_verdict(facts);
    out->config = running_tls_client_id();
    tls_verify_keys(out->verdict.must, names, dane, out->keys);
}

static void say_connection(struct test *t, const struct dial_event *e)
{
    char peer[ADDR_TEXT], local[ADDR_TEXT];
    json_t *record = json_object();

    addr_text(e->peer, peer);
    json_put_str(record, "address", peer);
    if (e->step == DIAL_CONNECTING) {
        json_put_int(record, "port", e->peer->port);
        job_say(t->job, "connecting", record, "Connecting to %s on port %u.", peer, e->peer->port);
    } else {
        addr_text(e->local, local);
        json_put_str(record, "interface", local);
        job_say(t->job, "connected", record, "Connected to %s from interface %s.", peer, local);
    }
}

static void say_established(struct test *t, const struct dial_event *e)
{
    json_t *record = json_object();

    json_put_str(record, "protocol", e->tls->protocol);
    json_put_str(record, "cipher", e->tls->cipher);
    job_say(t->job, "tls", record, "TLS connection established: protocol %s, cipher %s.",
            e->tls->protocol, e->tls->cipher);
}

static json_t *result_record(bool success, const char *why)
{
    json_t *record = json_object();

    json_put(record, "success", json_boolean(success));
    if (why && *why)
        json_put_str(record, "why", why);
    return record;
}

/* What went wrong, without what the line says already and without its full stop: the line brings
 * its own. */
static const char *phrase(const char *text, char out[480])
{
    const char *reason = str_starts(text, "connecting to ") ? strstr(text, ": ") : NULL;
    size_t n = str_copy(out, 480, reason ? reason + 2 : text);

    if (n && out[n - 1] == '.')
        out[n - 1] = '\0';
    return out;
}

/* --- daneverify --- */

static void say_records(struct test *t, const struct dane *d)
{
    struct dns_tlsa answer;
    char name[300], text[160];

    if (!t->detail || !d->asked)
        return;
    snprintf(name, sizeof(name), "_%u._tcp.%s", t->target->of->port, d->base);
    if (dns_tlsa(name, clock_in(ASK_WITHIN), &answer, NULL)) {
        job_say(t->job, "detail", NULL, "  TLSA records are at %s, to be kept for %u seconds.",
                name, d->ttl);
        for (unsigned i = 0; i < answer.n; i++) {
            const char *why = tlsa_unusable(&answer.records[i]);

            tlsa_format(&answer.records[i], text, sizeof(text));
            job_say(t->job, "detail", NULL, "  %s (%s%s)", text, why ? "unusable: " : "usable",
                    why ? why : "");
        }
    }
    dns_tlsa_free(&answer);
}

static void say_tlsa(struct test *t, const struct dane *d)
{
    const char *host = t->target->of->host;
    json_t *record = json_object();

    json_put_str(record, "host", host);
    json_put_str(record, "state", dane_state_word(d->state));
    if (d->state == DANE_FAILED && d->status == DNS_BOGUS && d->asked)
        job_say(t->job, "tlsa", record, "BOGUS TLSA record found for MX(%s) in %s", host,
                t->domain);
    else if (d->state == DANE_FAILED)
        job_say(t->job, "tlsa", record, "TLSA record of MX(%s) in %s cannot be had: %s", host,
                t->domain, d->why);
    else if (d->asked && d->status == DNS_OK)
        job_say(t->job, "tlsa", record, "%s TLSA record found for MX(%s) in %s",
                state_word(d->security), host, t->domain);
    else
        job_say(t->job, "tlsa", record, "No TLSA record (%s) found for MX(%s) in %s",
                d->status == DNS_NXDOMAIN ? "NXDOMAIN" : "NODATA", host, t->domain);
    say_records(t, d);
    if (d->state == DANE_UNUSABLE)
        job_say(t->job, "tlsa", NULL, "No TLSA record of MX(%s) in %s can be used for SMTP: %s",
                host, t->domain, d->why);
}

/* The steps both tests put into the same words, but for what each calls a missing STARTTLS. */
static void say_step(struct test *t, const struct dial_event *e, const char *not_offered)
{
    char peer[ADDR_TEXT], why[480];

    addr_text(e->peer, peer);
    switch (e->step) {
    case DIAL_CONNECTING:
    case DIAL_CONNECTED:
        say_connection(t, e);
        break;
    case DIAL_NO_SESSION:
        job_say(t->job, "failure", NULL, "Failed to connect to %s: %s.", peer,
                phrase(e->text, why));
        break;
    case DIAL_OFFERED:
        job_say(t->job, "checking", NULL, "Checking TLS connection.");
        break;
    case DIAL_NOT_OFFERED:
        job_say(t->job, "checking", NULL, "Checking TLS connection.");
        job_say(t->job, "failure", NULL, "TLS connection to %s failed: %s.", peer, not_offered);
        break;
    case DIAL_REFUSED:
    case DIAL_BROKEN:
        job_say(t->job, "failure", NULL, "TLS connection to %s failed: %s.", peer,
                phrase(e->text, why));
        break;
    case DIAL_ESTABLISHED:
        say_established(t, e);
        break;
    case DIAL_VERIFIED:
    case DIAL_UNVERIFIED:
    case DIAL_RECONNECTING: /* neither verdict allows it */
        break;
    }
}

static void tell_dane(void *arg, const struct dial_event *e)
{
    struct test *t = arg;

    say_step(t, e, "STARTTLS is not offered");
    switch (e->step) {
    case DIAL_CONNECTED:
        say_tlsa(t, t->dane);
        break;
    case DIAL_VERIFIED:
        job_say(t->job, "certificate", result_record(true, NULL),
                "Certificate verification successful");
        if (t->detail)
            job_say(t->job, "detail", NULL, "  The certificate (%s) matches %s",
                    e->tls->peer_subject, e->text);
        break;
    case DIAL_UNVERIFIED:
        job_say(t->job, "certificate", result_record(false, e->text),
                "Certificate verification failed: %s", e->text);
        if (t->detail)
            job_say(t->job, "detail", NULL, "  The certificate is that of %s",
                    e->tls->peer_subject);
        break;
    default:
        break;
    }
}

static void say_address(struct test *t, const struct target *a, bool first)
{
    const struct target_host *h = a->of;
    json_t *record = json_object();
    char text[ADDR_TEXT];

    addr_text(&a->addr, text);
    json_put_str(record, "host", h->host);
    json_put_str(record, "address", text);
    json_put_str(record, "security", h->found.security == DNS_SECURE ? "secure" : "insecure");
    if (!first)
        job_say(t->job, "next", NULL, "Trying next %s record (%s) for MX(%s) in %s",
                kind_of(&a->addr), text, h->host, t->domain);
    job_say(t->job, "address", record, "%s %s record (%s) found for MX(%s) in %s",
            state_word(h->found.security), kind_of(&a->addr), text, h->host, t->domain);
}

static void say_no_address(struct test *t, const struct target_host *h)
{
    if (h->found.status == DNS_BOGUS)
        job_say(t->job, "address", NULL, "BOGUS A record found for MX(%s) in %s", h->host,
                t->domain);
    else if (*h->why)
        job_say(t->job, "address", NULL, "A record of MX(%s) in %s cannot be had: %s", h->host,
                t->domain, h->why);
    else if (h->found.status == DNS_OK)
        job_say(t->job, "address", NULL,
                "MX(%s) in %s has no other addresses than the hosts before it", h->host, t->domain);
    else
        job_say(t->job, "address", NULL, "No A record (%s) found for MX(%s) in %s",
                h->found.status == DNS_NXDOMAIN ? "NXDOMAIN" : "NODATA", h->host, t->domain);
}

/* An exception keeps deliveries from what is tested here. */
static void say_exception(struct test *t, int kind, const char *what)
{
    const struct target *a = t->target;
    const struct tls_exception *x =
        exception_for(t->cfg, kind, a->of->host, &a->addr, clock_wall());

    if (x)
        job_say(t->job, "note", NULL, "The exception %s applies to MX(%s): %s", x->name,
                a->of->host, what);
}

/* YIELDS. Is one address of a host proven by the host's TLSA records? */
static bool try_address(struct test *t, const struct dane *dane, const struct targets *all)
{
    struct tls_evidence facts = {
        .level = DEST_TLS_REQUIRED, .dane = DANE_MANDATORY, .dane_state = dane->state};
    struct tls_names names = {.domain = t->domain,
                              .expanded = all->expanded,
                              .host = t->target->of->host,
                              .mx_secure = t->target->of->mx_secure};
    struct tls_need need;

    need_for(&facts, &names, dane, &need);
    if (need.verdict.use == TLS_REFUSE) {
        if (dane->state != DANE_INSECURE_HOST)
            say_tlsa(t, dane);
        return false;
    }
    t->dane = dane;
    if (!dial(t, &need, &names, tell_dane))
        return false;
    job_say(t->job, "tls", result_record(true, NULL), "TLS connection succeeded %s.", t->domain);
    return true;
}

/* YIELDS. One MX host: its addresses until one is proven. */
static bool try_host(struct test *t, const struct target_host *h, const struct targets *all)
{
    struct dane dane = {0};
    bool proven = false, asked = false;

    for (unsigned i = 0; i < all->n && !proven && !job_over(t->job); i++) {
        if (all->items[i].of != h)
            continue;
        t->target = &all->items[i];
        say_address(t, t->target, !asked);
        if (!asked) {
            say_exception(t, EXCEPTION_NO_DANE, "deliveries do not use its TLSA records.");
            say_exception(t, EXCEPTION_NO_TLS, "deliveries do not say STARTTLS to it.");
            /* An unsigned MX answer ends it for a delivery; what is below is looked at all the
             * same. */
            dane_look_up(h->host, h->port, true, &h->found, clock_in(ASK_WITHIN),
                         &dane); /* YIELDS */
        }
        asked = true;
        proven = try_address(t, &dane, all); /* YIELDS */
        if (dane.state != DANE_USABLE && dane.state != DANE_INSECURE_HOST)
            break; /* says it for every address */
    }
    if (!asked)
        say_no_address(t, h);
    dane_free(&dane);
    return proven;
}

static void say_mx(struct test *t, const struct target_host *h, bool implicit)
{
    json_t *record = json_object();

    json_put_str(record, "host", h->host);
    json_put_int(record, "preference", h->preference);
    json_put_str(record, "security", h->mx_secure ? "secure" : "insecure");
    if (implicit) {
        job_say(t->job, "mx", record, "No MX record (%s) found for %s. The domain itself is tried.",
                h->mx_secure ? "SECURE" : "INSECURE", t->domain);
        return;
    }
    job_say(t->job, "mx", record, "%s MX record(%s) found for %s",
            h->mx_secure ? "SECURE" : "INSECURE", h->host, t->domain);
    if (!h->mx_secure)
        job_say(t->job, "mx", NULL, "INSECURE MX record(%s) found. The command will still proceed.",
                h->host);
}

/* YIELDS. false: there is nothing to try; it was said why. */
static bool find_hosts(struct test *t, struct targets *out, bool *implicit)
{
    struct route_problem problem;
    struct dns_mx mx;
    struct err err = {0};
    bool ok = false;

    if (!dns_mx(t->domain, clock_in(ASK_WITHIN), &mx, &err)) {
        if (mx.status == DNS_BOGUS)
            job_say(t->job, "mx", NULL, "BOGUS MX record found for %s", t->domain);
        else
            job_say(t->job, "mx", NULL, "MX record of %s cannot be had: %s", t->domain, err.text);
    } else if (!route_uses_dns(route_find(t->cfg, t->domain))) {
        job_say(t->job, "mx", NULL,
                "An SMTP route leads mail for %s elsewhere: DANE is used only with USEDNS.",
                t->domain);
    } else if (route_resolve(t->cfg, t->domain, 0, clock_in(ASK_WITHIN), out, &problem) !=
                   ROUTE_OK &&
               !out->nhosts) {
        job_say(t->job, "mx", NULL, "Mail for %s cannot be delivered: %s", t->domain, problem.text);
    } else {
        *implicit = !mx.n;
        ok = true;
    }
    dns_mx_free(&mx);
    return ok;
}

static bool dane_verify(struct job *job, const json_t *args, json_t *data, struct err *err)
{
    struct test t = {.job = job,
                     .detail = json_bool_of(args, "detail", false),
                     .all = json_bool_of(args, "all", false)};
    struct targets found = {0};
    bool implicit = false, proven = false, unsigned_mx = false;
    unsigned good = 0;

    if (!take_domain(args, "domain", t.domain, err))
        return false;
    t.cfg = running_config();
    if (find_hosts(&t, &found, &implicit)) {
        for (unsigned i = 0; i < found.nhosts && !job_over(job) && (t.all || !proven); i++) {
            if (i)
                job_say(job, "next", NULL, "Trying next MX record in %s", t.domain);
            say_mx(&t, found.hosts[i], implicit);
            proven = try_host(&t, found.hosts[i], &found); /* YIELDS */
            good += proven;
            unsigned_mx |= proven && !found.hosts[i]->mx_secure;
        }
        if (t.all)
            proven = good == found.nhosts;
    }
    if (unsigned_mx) /* anybody could have named those hosts: deliveries do not call that DANE */
        job_say(job, "note", NULL,
                "The TLSA records prove the host, but an INSECURE MX record named it: DANE does "
                "not apply to %s.",
                t.domain);
    proven = proven && !unsigned_mx;
    job_say(job, "result", result_record(proven, NULL), "DANE %s for %s",
            proven ? "SUCCESS" : "FAILED", t.domain);
    job_say(job, "end", NULL, "DANE verification completed.");
    json_put_str(data, "domain", t.domain);
    json_put(data, "success", json_boolean(proven));
    targets_free(&found);
    config_free(&t.cfg);
    return true;
}

/* --- tlsverify --- */

static void say_subject(struct test *t, const struct dial_event *e)
{
    const char *cn = strstr(e->tls->peer_subject, "CN=");
    char name[128];

    if (t->told_subject)
        return;
    t->told_subject = true;
    job_say(t->job, "certificate", NULL, "Verifying peer certificate.");
    if (!cn) {
        job_say(t->job, "certificate", NULL, "Verifying certificate without a common name.");
        return;
    }
    str_copy(name, sizeof(name), cn + 3);
    name[strcspn(name, ",+")] = '\0';
    job_say(t->job, "certificate", NULL, "Verifying certificate common name %s.", name);
}

static void tell_tls(void *arg, const struct dial_event *e)
{
    struct test *t = arg;
    char peer[ADDR_TEXT], why[480];

    addr_text(e->peer, peer);
    say_step(t, e, "STARTTLS not supported");
    switch (e->step) {
    case DIAL_VERIFIED:
        say_subject(t, e);
        job_say(t->job, "certificate", NULL, "TLS certificate match %s", e->text);
        job_say(t->job, "certificate", result_record(true, NULL), "TLS certificate verified.");
        break;
    case DIAL_UNVERIFIED:
        say_subject(t, e);
        job_say(t->job, "certificate", result_record(false, e->text),
                "Certificate verification failed: %s.", phrase(e->text, why));
        if (str_starts(e->text, "peer cert does not match domain"))
            job_say(t->job, "hint", NULL,
                    "The certificate may be right for the host: \"Required - Verify Hosted "
                    "Domains\" accepts its name.");
        job_say(t->job, "failure", NULL, "TLS connection to %s failed: verify error.", peer);
        break;
    default:
        break;
    }
}

/* "host", "host:port", "[2001:db8::1]:port". */
static bool take_host(const json_t *args, char host[256], unsigned *port, struct err *err)
{
    const char *given = json_str(args, "host", ""), *colon;
    struct addr literal;
    char *end;
    unsigned long n;

    *port = SMTP_PORT;
    if (addr_parse_port(given, SMTP_PORT, &literal)) {
        *port = literal.port;
        addr_text(&literal, host);
        return true;
    }
    colon = strrchr(given, ':');
    if (colon) {
        n = strtoul(colon + 1, &end, 10);
        if (*end || end == colon + 1 || n < 1 || n > 65535)
            return err_set(err, E_INVALID, "The port \"%s\" must be an integer from 1 to 65535.",
                           str_printable(colon + 1));
        *port = (unsigned)n;
    }
    {
        char *name = xstrndup(given, colon ? (size_t)(colon - given) : strlen(given));
        bool ok = domain_to_ascii(name, host, 256, err) && host_check(host, err);

        free(name);
        return ok;
    }
}

/* YIELDS. The addresses of a host that was named; of the domain's MX hosts when it is the domain
 * itself. */
static bool find_addresses(struct test *t, const char *host, unsigned port, struct targets *out,
                           struct target_host *h, struct err *err)
{
    struct route_problem problem;
    struct dns_addrs addrs = {0};
    struct addr literal;
    bool ok;

    if (str_ieq(host, t->domain) && port == SMTP_PORT) {
        if (route_resolve(t->cfg, t->domain, 0, clock_in(ASK_WITHIN), out, &problem) == ROUTE_OK &&
            out->n)
            return true;
        return err_set(err, E_DNS, "%s",
                       *problem.text ? problem.text : "there is no host to connect to");
    }
    str_copy(h->host, sizeof(h->host), host);
    h->port = port;
    if (addr_parse(host, &literal)) {
        addrs.addrs = xcalloc(1, sizeof(literal));
        addrs.addrs[addrs.n++] = literal;
        ok = true;
    } else {
        ok = dns_addresses(host, true, true, clock_in(ASK_WITHIN), &addrs, err);
        if (ok && !addrs.n)
            ok = err_set(err, E_DNS, "%s has no address", host);
    }
    out->items = xcalloc(addrs.n ? addrs.n : 1, sizeof(*out->items));
    for (unsigned i = 0; ok && i < addrs.n; i++) {
        out->items[out->n].of = h;
        out->items[out->n].addr = addrs.addrs[i];
        out->items[out->n++].addr.port = port;
    }
    dns_addrs_free(&addrs);
    return ok;
}

/* YIELDS. */
static bool try_target(struct test *t, const struct target *target, const struct targets *all)
{
    const struct ssl_settings *ssl = CONFIG_SINGLE(t->cfg, ssl_settings);
    struct tls_evidence facts = {.level = DEST_TLS_REQUIRED_VERIFY};
    struct tls_names names = {.domain = t->domain,
                              .expanded = all->expanded,
                              .host = target->of->host,
                              .fqdn = ssl && ssl->peer_cert_fqdn,
                              .x509 = ssl && ssl->peer_cert_x509};
    char peer[ADDR_TEXT];
    struct tls_need need;

    t->target = target;
    t->told_subject = false;
    need_for(&facts, &names, NULL, &need);
    if (!dial(t, &need, &names, tell_tls))
        return false;
    job_say(t->job, "tls", result_record(true, NULL), "TLS connection to %s succeeded.",
            addr_text(&target->addr, peer));
    return true;
}

static bool tls_verify(struct job *job, const json_t *args, json_t *data, struct err *err)
{
    struct test t = {.job = job};
    struct targets found = {0};
    struct target_host named = {0};
    struct err why = {0};
    char host[256];
    unsigned port;
    bool verified = false;

    if (!take_domain(args, "domain", t.domain, err) || !take_host(args, host, &port, err))
        return false;
    t.cfg = running_config();
    if (!find_addresses(&t, host, port, &found, &named, &why))
        job_say(job, "failure", NULL, "Failed to connect to %s: %s.", host, why.text);
    for (unsigned i = 0; i < found.n && !verified && !job_over(job); i++)
        verified = try_target(&t, &found.items[i], &found); /* YIELDS */
    job_say(job, "blank", NULL, "%s", "");
    if (verified)
        job_say(job, "result", result_record(true, NULL), "TLS successfully connected to %s.",
                t.target->of->host);
    else
        job_say(job, "result", result_record(false, NULL), "Failed to connect to [%s].", host);
    job_say(job, "end", NULL, "TLS verification completed.");
    json_put_str(data, "domain", t.domain);
    json_put(data, "success", json_boolean(verified));
    targets_free(&found);
    config_free(&t.cfg);
    return true;
}

/* --- operations --- */

static bool run_dane_verify(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    control_audit(c, "daneverify", str_printable(json_str(args, "domain", "")), "ok",
                  NULL); /* YIELDS */
    return job_run(c, "daneverify", dane_verify, args, data, err);
}

static bool run_tls_verify(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    /* as telnet: it reaches whatever the gateway reaches */
    control_audit(c, "tlsverify", str_printable(json_str(args, "host", "")), "ok",
                  str_printable(json_str(args, "domain", ""))); /* YIELDS */
    return job_run(c, "tlsverify", tls_verify, args, data, err);
}

const struct control_op control_verify_ops[] = {
    {"dane.verify", ROLE_OPERATOR, run_dane_verify},
    {"tls.verify",  ROLE_OPERATOR, run_tls_verify },
    {NULL,          0,             NULL           },
};
