/* route.c - see route.h. */
#include "daemon/route.h"

#include <ifaddrs.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dns.h"
#include "daemon/maillog.h"
#include "store/base/str.h"

#define SMTP_PORT 25
#define MAX_TARGETS 32u /* addresses tried for one message; the rest is as unlikely to help */
#define MAX_HOSTS 64u /* MX hosts looked up */
#define MAX_TTL 3600u /* seconds an answer counts, however long it may be kept */

/* --- tables --- */

/* The object named domain, or ".parent" for its nearest listed parent, or last. */
static const void *most_specific(const struct config *cfg, const struct section *s,
                                 const char *domain, const char *last)
{
    const void *found = *domain ? config_data(cfg, s, domain) : NULL;
    char literal[ADDR_TEXT + 8];

    if (!found && str_starts(domain, "[IPv6:")) { /* an entry has no tag: "[2001:db8::1]" */
        snprintf(literal, sizeof(literal), "[%s", domain + 6);
        found = config_data(cfg, s, literal);
    }
    for (const char *dot = strchr(domain, '.'); dot && !found; dot = strchr(dot + 1, '.'))
        found = config_data(cfg, s, dot); /* ".example.com" */
    return found ? found : config_data(cfg, s, last);
}

const struct smtp_route *route_find(const struct config *cfg, const char *domain)
{
    return config_count(cfg, &section_smtp_route)
               ? most_specific(cfg, &section_smtp_route, domain, "ALL")
               : NULL;
}

bool route_uses_dns(const struct smtp_route *r)
{
    return !r || (r->hosts.n == 1 && str_ieq(r->hosts.items[0], "USEDNS"));
}

bool route_discards(const struct smtp_route *r)
{
    return r && r->hosts.n == 1 && str_eq(r->hosts.items[0], "/dev/null");
}

const struct smtpauth_profile *route_auth(const struct config *cfg, const char *domain)
{
    const struct smtp_route *r = route_find(cfg, domain);
    const struct smtpauth_profile *p = r && !route_uses_dns(r) && *r->auth_profile
                                           ? CONFIG_GET(cfg, smtpauth_profile, r->auth_profile)
                                           : NULL;

    return p && p->kind == SMTPAUTH_OUTGOING ? p : NULL;
}

static bool parse_number(const char *s, unsigned max, unsigned *out)
{
    unsigned v = 0;

    if (!*s || strlen(s) > 5)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (unsigned)(*s - '0');
    }
    *out = v;
    return v <= max;
}

bool hop_parse(const char *text, struct hop *out)
{
    char copy[400], *pri, *port = NULL, *end, *name = copy;
    struct addr a;

    memset(out, 0, sizeof(*out));
    out->port = SMTP_PORT;
    if (strlen(text) >= sizeof(copy))
        return false;
    str_copy(copy, sizeof(copy), text);
    pri = strstr(copy, "/pri=");
    if (pri) {
        *pri = '\0';
        if (!parse_number(pri + 5, 65535, &out->priority))
            return false;
    }
    if (*copy == '[') {
        end = strchr(copy, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        port = end[1] ? end + 2 : NULL;
        *end = '\0';
        name = copy + 1;
        out->no_mx = true;
    } else if (!addr_parse(copy, &a)) { /* not a bare IPv6 address */
        end = strrchr(copy, ':');
        if (end) {
            *end = '\0';
            port = end + 1;
        }
    }
    if (port && (!parse_number(port, 65535, &out->port) || !out->port))
        return false;
    if (addr_parse(name, &a))
        out->no_mx = true;
    else if (!host_check(name, NULL))
        return false;
    str_copy(out->host, sizeof(out->host), name);
    return true;
}

static unsigned inherit(uint64_t own, uint64_t deflt, unsigned last)
{
    return (unsigned)(own ? own : deflt ? deflt : last);
}

void route_controls(const struct config *cfg, const char *domain, struct controls *out)
{
    static const struct destination nothing = {.domain = (char *)"default",
                                               .bounce_profile = (char *)"default"};
    const struct destination *base = CONFIG_GET(cfg, destination, "default");
    const struct destination *d = most_specific(cfg, &section_destination, domain, "default");

    if (!base)
        base = &nothing;
    if (!d)
        d = base;
    out->limits.sessions = inherit(d->concurrency_limit, base->concurrency_limit, 500);
    out->limits.messages_per_session =
        inherit(d->max_messages_per_connection, base->max_messages_per_connection, 50);
    out->limits.rcpts = inherit(d->recipient_limit, base->recipient_limit, 0);
    out->limits.rcpt_minutes = inherit(d->recipient_minutes, base->recipient_minutes, 60);
    out->per_address = d->limit_type == LIMIT_MXIP;
    out->tls = d->use_tls != DEST_TLS_DEFAULT ? d->use_tls : base->use_tls;
    if (out->tls == DEST_TLS_DEFAULT)
        out->tls = DEST_TLS_NONE;
    out->dane = d->dane;
    out->mta_sts = d->mta_sts == STS_ON;
    /* "No" here is the last word about TLS, unless this very entry asks for more. */
    if (d->dane == DANE_DEFAULT)
        out->dane =
            d->use_tls == DEST_TLS_NONE || base->dane == DANE_DEFAULT ? DANE_OFF : base->dane;
    if (d->mta_sts == STS_DEFAULT)
        out->mta_sts = d->use_tls != DEST_TLS_NONE && base->mta_sts == STS_ON;
    if (d == base) {
        out->dane = base->dane == DANE_DEFAULT ? DANE_OFF : base->dane;
        out->mta_sts = base->mta_sts == STS_ON;
    }
    out->bounce_verification =
        (d->bounce_verification ? d->bounce_verification : base->bounce_verification) == SWITCH_ON;
    out->ip_preference = d->ip_sort_pref != IP_DEFAULT ? d->ip_sort_pref : base->ip_sort_pref;
    if (out->ip_preference == IP_DEFAULT)
        out->ip_preference = IP_PREFER_V6;
    out->bounce_profile = !str_eq(d->bounce_profile, "default")      ? d->bounce_profile
                          : !str_eq(base->bounce_profile, "default") ? base->bounce_profile
                                                                     : NULL;
    out->entry = d->domain;
}

void route_key(const struct config *cfg, const char *domain, char *out, size_t size)
{
    const struct smtp_route *r = route_find(cfg, domain);
    struct controls c;

    if (route_uses_dns(r)) {
        str_copy(out, size, domain);
        return;
    }
    route_controls(cfg, domain, &c);
    snprintf(out, size, "%s/%s", r->domain, c.entry);
}

void route_key_via(const struct config *cfg, const char *via, const char *domain, char *out,
                   size_t size)
{
    struct controls c;

    if (!via) {
        route_key(cfg, domain, out, size);
        return;
    }
    route_controls(cfg, domain, &c);
    snprintf(out, size, "=%.300s/%s", via, c.entry);
}

static const struct bounce_profile last_resort = {.name = (char *)"",
                                                  .max_retries = 100,
                                                  .max_queue_seconds = 259200,
                                                  .initial_retry = 60,
                                                  .max_retry = 3600,
                                                  .send_bounces = ANSWER_YES,
                                                  .dsn_format = ANSWER_YES,
                                                  .failure_subject = (char *)"Delivery Status Notification (Failure)",
                                                  .template = (char *)"",
                                                  .parse_status = ANSWER_YES,
                                                  .delay_warnings = ANSWER_NO,
                                                  .delay_subject = (char *)"Delivery Status Notification (Delay)",
                                                  .alternate = (char *)""};

void route_bounce_profile(const struct config *cfg, const char *domain, const char *of_listener,
                          struct bounce_profile *out)
{
    const struct bounce_profile *p = NULL, *base = CONFIG_GET(cfg, bounce_profile, "Default");
    struct controls c;

    if (!base)
        base = &last_resort;
    route_controls(cfg, domain, &c);
    if (c.bounce_profile)
        p = CONFIG_GET(cfg, bounce_profile, c.bounce_profile);
    if (!p && *of_listener)
        p = CONFIG_GET(cfg, bounce_profile, of_listener);
    *out = p ? *p : *base;
    if (out->send_bounces == ANSWER_DEFAULT)
        out->send_bounces = base->send_bounces;
    if (out->dsn_format == ANSWER_DEFAULT)
        out->dsn_format = base->dsn_format;
    if (out->parse_status == ANSWER_DEFAULT)
        out->parse_status = base->parse_status;
    if (str_eq(out->alternate, "default"))
        out->alternate = base->alternate;
    if (out->delay_warnings == ANSWER_DEFAULT) { /* what is asked after it was not */
        out->delay_warnings = base->delay_warnings;
        out->delay_interval = base->delay_interval;
        out->delay_count = base->delay_count;
        out->delay_subject = base->delay_subject;
    }
}

bool route_is_self(const struct config *cfg, const struct addr *a)
{
    struct ifaddrs *list = NULL;
    bool self = false;

    for (size_t i = 0; i < config_count(cfg, &section_listener) && !self; i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;
        struct addr own;

        if (l->port != a->port || !addr_parse(l->address, &own))
            continue;
        if (addr_eq(&own, a)) {
            self = true;
        } else if (str_eq(l->address, "0.0.0.0") || str_eq(l->address, "::")) {
            if (!list && getifaddrs(&list))
                list = NULL;
            for (struct ifaddrs *it = list; it && !self; it = it->ifa_next) {
                struct sockaddr_storage ss = {0};

                if (!it->ifa_addr ||
                    (it->ifa_addr->sa_family != AF_INET && it->ifa_addr->sa_family != AF_INET6))
                    continue;
                memcpy(&ss, it->ifa_addr,
                       it->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                          : sizeof(struct sockaddr_in6));
                addr_from_sockaddr(&own, &ss);
                self = addr_eq(&own, a);
            }
        }
    }
    if (list)
        freeifaddrs(list);
    return self;
}

/* --- resolution --- */

struct search {
    const struct config *cfg;
    const struct controls *controls;
    struct targets *out;
    msec_t deadline;
    bool bogus; /* an answer was */
    bool temporary; /* something may be found later */
    bool looped; /* we are one of the hosts ourselves */
    struct err err; /* the last temporary failure */
};

static struct target_host *new_host(struct search *s, const char *host, unsigned port,
                                    unsigned preference, bool mx_secure)
{
    struct targets *t = s->out;
    struct target_host *h;

    if (!t->hosts)
        t->hosts = xcalloc(MAX_HOSTS, sizeof(*t->hosts));
    if (t->nhosts == MAX_HOSTS)
        return NULL;
    h = t->hosts[t->nhosts++] = xcalloc(1, sizeof(*h));
    str_copy(h->host, sizeof(h->host), host);
    h->port = port;
    h->preference = preference;
    h->mx_secure = mx_secure;
    return h;
}

/* Two names of one address may differ in what their host has to prove. */
static bool names_matter(const struct controls *c)
{
    return c->dane != DANE_OFF || c->mta_sts || c->tls >= DEST_TLS_PREFERRED_VERIFY;
}

static bool add_target(struct search *s, const struct target_host *h, const struct addr *a)
{
    struct targets *t = s->out;
    struct target *item;
    struct addr with_port = *a;

    with_port.port = h->port;
    if (route_is_self(s->cfg, &with_port)) {
        s->looped = true;
        return false;
    }
    if (t->n == MAX_TARGETS)
        return true;
    for (unsigned i = 0; i < t->n; i++)
        if (addr_eq(&t->items[i].addr, a) && t->items[i].addr.port == h->port &&
            (t->items[i].of == h || !names_matter(s->controls)))
            return true; /* listed already */
    if (!t->items)
        t->items = xcalloc(MAX_TARGETS, sizeof(*t->items));
    item = &t->items[t->n++];
    item->of = h;
    item->addr = with_port;
    return true;
}

static void note_ttl(struct targets *t, unsigned ttl)
{
    if (ttl < t->ttl)
        t->ttl = ttl;
}

/* YIELDS. The addresses of one host, the preferred family first. mx: the answer that led to it,
 * NULL for a host of a route. false: one of them is our own. */
static bool add_host(struct search *s, const char *host, unsigned port, unsigned preference,
                     const struct dns_mx *mx)
{
    struct target_host *h = new_host(s, host, port, preference, mx && mx->security == DNS_SECURE);
    int pref = s->controls->ip_preference;
    int first = pref == IP_PREFER_V4 || pref == IP_REQUIRE_V4 ? AF_INET : AF_INET6;
    bool own = false;
    struct dns_addrs a;
    struct addr literal;
    struct err err = {0};

    if (!h)
        return true;
    if (addr_parse(host, &literal))
        return add_target(s, h, &literal);
    if (!dns_addresses(host, pref != IP_REQUIRE_V6, pref != IP_REQUIRE_V4, s->deadline, &a, &err)) {
        s->temporary = true;
        s->bogus = s->bogus || a.status == DNS_BOGUS;
        s->err = err;
        str_copy(h->why, sizeof(h->why), err.text);
        maillog_dns_failure(host, "A", dns_status_name(a.status));
    }
    for (int round = 0; round < 2; round++)
        for (unsigned i = 0; i < a.n; i++)
            if ((a.addrs[i].family == first) == !round)
                own |= !add_target(s, h, &a.addrs[i]);
    h->found = a;
    h->found.n = 0;
    h->found.addrs = NULL;
    h->found.unvalidated |= mx && mx->unvalidated;
    note_ttl(s->out, a.ttl);
    dns_addrs_free(&a);
    return !own;
}

static bool is_own_name(const struct config *cfg, const char *host)
{
    const struct system *sys = CONFIG_SINGLE(cfg, system);

    return sys && str_ieq(sys->hostname, host);
}

/* YIELDS. MX hosts of a name, or the name's own addresses (RFC 5321 section 5.1). ROUTE_OK: look at
 * s. */
static enum route_result add_domain(struct search *s, const char *domain, unsigned port,
                                    struct route_problem *problem)
{
    struct dns_mx mx;

    if (!dns_mx(domain, s->deadline, &mx, &s->err)) {
        s->temporary = true;
        s->bogus = mx.status == DNS_BOGUS;
        maillog_dns_failure(domain, "MX", dns_status_name(mx.status));
        dns_mx_free(&mx);
        return ROUTE_OK;
    }
    if (mx.null_mx) { /* RFC 7505 section 3 */
        problem->status = "5.1.10";
        snprintf(problem->text, sizeof(problem->text), "%s accepts no mail (null MX)", domain);
        dns_mx_free(&mx);
        return ROUTE_FAIL;
    }
    if (mx.status == DNS_NXDOMAIN) {
        problem->status = "5.1.2";
        snprintf(problem->text, sizeof(problem->text),
                 "DNS Hard Error looking up %s (MX):  NXDomain", domain);
        dns_mx_free(&mx);
        return ROUTE_FAIL;
    }
    note_ttl(s->out, mx.ttl);
    s->out->mx_secure = mx.security == DNS_SECURE;
    str_copy(s->out->expanded, sizeof(s->out->expanded), mx.canonical);
    if (!mx.n) { /* RFC 5321 section 5.1: the domain itself */
        add_host(s, domain, port, 0, &mx);
        dns_mx_free(&mx);
        if (!s->out->n && !s->temporary && !s->looped) {
            problem->status = "5.1.2";
            snprintf(problem->text, sizeof(problem->text),
                     "DNS Hard Error looking up %s (A):  NoData", domain);
            return ROUTE_FAIL;
        }
        return ROUTE_OK;
    }
    for (unsigned i = 0; i < mx.n && i < MAX_HOSTS && s->out->n < MAX_TARGETS; i++) {
        unsigned before = s->out->n;

        /* We are in the list: hosts of our preference and behind would only bring the mail back. */
        if (is_own_name(s->cfg, mx.hosts[i].host) ||
            !add_host(s, mx.hosts[i].host, port, mx.hosts[i].preference, &mx)) {
            s->looped = true;
            s->out->n = before;
            for (; i && mx.hosts[i - 1].preference == mx.hosts[i].preference; i--)
                for (; s->out->n &&
                       str_eq(s->out->items[s->out->n - 1].of->host, mx.hosts[i - 1].host);)
                    s->out->n--;
            break;
        }
    }
    dns_mx_free(&mx);
    return ROUTE_OK;
}

/* Hosts in the order of their priority; among equal ones turn says who is first. */
static unsigned order_hops(const struct strlist *hosts, unsigned turn, struct hop *out,
                           unsigned max)
{
    unsigned n = 0;

    for (size_t i = 0; i < hosts->n && n < max; i++)
        n += hop_parse(hosts->items[i], &out[n]);
    for (unsigned i = 1; i < n; i++) /* few; and equal ones must keep their order */
        for (unsigned k = i; k && out[k].priority < out[k - 1].priority; k--) {
            struct hop t = out[k];

            out[k] = out[k - 1];
            out[k - 1] = t;
        }
    for (unsigned a = 0, b; a < n; a = b) {
        for (b = a + 1; b < n && out[b].priority == out[a].priority;)
            b++;
        for (unsigned r = turn % (b - a); r; r--) {
            struct hop t = out[a];

            memmove(&out[a], &out[a + 1], (b - a - 1) * sizeof(*out));
            out[b - 1] = t;
        }
    }
    return n;
}

static enum route_result add_route(struct search *s, const struct smtp_route *r, unsigned turn)
{
    struct hop *hops = xcalloc(MAX_TARGETS, sizeof(*hops));
    unsigned n = order_hops(&r->hosts, turn, hops, MAX_TARGETS);
    struct route_problem ignored;

    for (unsigned i = 0; i < n; i++) {
        unsigned before = s->out->nhosts;

        if (hops[i].no_mx)
            add_host(s, hops[i].host, hops[i].port, hops[i].priority, NULL);
        else
            add_domain(s, hops[i].host, hops[i].port, &ignored);
        for (; before < s->out->nhosts; before++)
            str_copy(s->out->hosts[before]->route, sizeof(s->out->hosts[before]->route),
                     hops[i].host);
    }
    free(hops);
    if (!s->out->n && !s->looped)
        s->temporary = true; /* the administrator's mistake or a name server's: the mail waits */
    return ROUTE_OK;
}

enum route_result route_resolve(const struct config *cfg, const char *domain, unsigned turn,
                                msec_t deadline, struct targets *out, struct route_problem *problem)
{
    return route_resolve_via(cfg, NULL, domain, turn, deadline, out, problem); /* YIELDS */
}

enum route_result route_resolve_via(const struct config *cfg, const char *via, const char *domain,
                                    unsigned turn, msec_t deadline, struct targets *out,
                                    struct route_problem *problem)
{
    char *hop = (char *)(uintptr_t)via;
    const struct smtp_route direct = {.domain = (char *)"ALL", .hosts = {.items = &hop, .n = 1}};
    const struct smtp_route *r = via ? &direct : route_find(cfg, domain);
    struct controls controls;
    struct search s = {.cfg = cfg, .controls = &controls, .out = out, .deadline = deadline};
    enum route_result result = ROUTE_OK;
    char literal[ADDR_TEXT];
    struct addr a;

    memset(out, 0, sizeof(*out));
    out->ttl = MAX_TTL;
    out->redirected = via != NULL;
    memset(problem, 0, sizeof(*problem));
    route_controls(cfg, domain, &controls);
    if (route_discards(r))
        return ROUTE_DISCARD;
    if (!route_uses_dns(r)) {
        out->routed = true;
        result = add_route(&s, r, turn);
    } else if (*domain == '[') { /* RFC 5321 section 4.1.3 */
        const char *in = str_istarts(domain, "[IPv6:") ? domain + 6 : domain + 1;
        size_t n = strcspn(in, "]");

        if (n < sizeof(literal))
            str_copy(literal, n + 1, in);
        if (n < sizeof(literal) && addr_parse(literal, &a))
            add_target(&s, new_host(&s, domain, SMTP_PORT, 0, false), &a);
    } else if (*domain) {
        result = add_domain(&s, domain, SMTP_PORT, problem);
    }
    if (result == ROUTE_OK && out->n)
        return ROUTE_OK;
    out->n = 0; /* the hosts say what is wrong with them */
    problem->dns = true;
    problem->bogus = s.bogus;
    if (result == ROUTE_FAIL)
        return ROUTE_FAIL;
    if (s.temporary) {
        problem->status = "4.4.3";
        snprintf(problem->text, sizeof(problem->text), "DNS Soft Error looking up %.250s: %.200s",
                 domain, s.err.code ? s.err.text : "no address found");
        return ROUTE_RETRY;
    }
    if (s.looped && via) { /* the administrator's mistake: the mail waits for another host */
        problem->dns = false;
        problem->status = "4.4.6";
        snprintf(problem->text, sizeof(problem->text), "%.250s, where the mail is redirected to, is this gateway",
                 via);
        return ROUTE_RETRY;
    }
    if (s.looped) {
        problem->dns = false;
        problem->status = "5.4.6";
        snprintf(problem->text, sizeof(problem->text), "mail for %.250s loops back to this gateway",
                 domain);
        return ROUTE_FAIL;
    }
    problem->status = "5.1.2";
    snprintf(problem->text, sizeof(problem->text), "no mail exchanger of %.250s has an address",
             domain);
    return ROUTE_FAIL;
}

void targets_free(struct targets *t)
{
    for (unsigned i = 0; i < t->nhosts; i++)
        free(t->hosts[i]);
    free(t->hosts);
    free(t->items);
    memset(t, 0, sizeof(*t));
}

static unsigned sources(const struct config *cfg, int family, unsigned pick, struct addr *out)
{
    const struct delivery *d = CONFIG_SINGLE(cfg, delivery);
    unsigned n = 0;
    struct addr a;

    for (size_t i = 0; d && i < d->source_address.n; i++)
        if (addr_parse(d->source_address.items[i], &a) && a.family == family && n++ == pick)
            *out = a;
    return n;
}

bool route_has_source(const struct config *cfg, int family)
{
    struct addr unused;

    return sources(cfg, family, 0, &unused) > 0;
}

bool route_source(const struct config *cfg, int family, struct addr *out)
{
    static atomic_uint turn;
    unsigned n = sources(cfg, family, 0, out);

    if (n > 1)
        sources(cfg, family, atomic_fetch_add(&turn, 1) % n, out);
    return n > 0;
}
