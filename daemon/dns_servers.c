/* dns_servers.c - see dns_servers.h. One fiber checks; what it finds and what a commit brings meet
 * under one lock. */
#include "daemon/dns_servers.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/dns_cache.h"
#include "daemon/dns_raw.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "store/base/log.h"

#define MAX_SERVERS 12u
#define CHECK SECONDS(2) /* of one server */
#define DECIDE SECONDS(3) /* questions wait so long for the first check after a change */
#define BETWEEN_CHECKS 500 /* that failed questions ask for */
#define STALE_DAYS 15
#define SYSTEM_ANCHOR "/usr/share/dns/root.key"

/* Of the Internet's root, for systems without the package that has them: IANA's KSK-2017 and
 * KSK-2024. */
#define BUILTIN_ANCHOR                                                                             \
    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n"         \
    ". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n"

struct server {
    char address[ADDR_TEXT + 8];
    unsigned priority;
    bool used, up, dnssec, checked;
    msec_t took, at; /* of the last check */
    usec_t since;
    char why[120];
};

struct servers { /* a configuration's */
    struct server items[MAX_SERVERS];
    unsigned n;
};

static struct {
    pthread_mutex_t lock;
    char root_key[440];
    struct config *cfg;
    struct resolver *current;
    struct servers servers;
    char today[12]; /* negative anchors are applied for that day */
    bool validates; /* the current resolver does */
    bool decided; /* questions need not wait */
    bool proven; /* validation has worked, or was demanded: never without from here on */
    bool told; /* that it does not work */
    msec_t configured;
    unsigned generation; /* of the configuration */
    unsigned changes; /* of current */
    unsigned rounds; /* of checks that ended */
    msec_t checked; /* when the last one ended */
    struct wait bell; /* ends the pause between checks */
    bool waiting, running, again;
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- from the configuration --- */

static const struct dns_setup *setup_of(const struct config *cfg)
{
    static struct dns_setup factory;
    const struct dns_setup *s = cfg ? CONFIG_SINGLE(cfg, dns_setup) : NULL;

    if (s)
        return s;
    if (!factory.max_ttl) /* a home made before there were these settings */
        factory = (struct dns_setup){.source = DNS_SOURCE_SYSTEM,
                                     .reverse_timeout = 20,
                                     .max_ttl = 86400,
                                     .cache_size = 32,
                                     .health_interval = 60};
    return &factory;
}

static void add_server(struct servers *s, const char *address, unsigned priority)
{
    struct server *one = &s->items[s->n];

    if (s->n == MAX_SERVERS)
        return;
    memset(one, 0, sizeof(*one));
    str_copy(one->address, sizeof(one->address), address);
    one->priority = priority;
    one->up = one->dnssec = true; /* until it is known better */
    one->since = clock_wall();
    s->n++;
}

/* Those of /etc/resolv.conf, in their order. */
static void system_servers(struct servers *out)
{
    FILE *f = fopen("/etc/resolv.conf", "re");
    char line[512], address[64], ip[ADDR_TEXT];
    struct addr a;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, " nameserver %63s", address) == 1 && addr_parse(address, &a))
            add_server(out, addr_text(&a, ip), out->n);
    if (f)
        fclose(f);
}

static void servers_of(const struct config *cfg, struct servers *out)
{
    int source = setup_of(cfg)->source;

    out->n = 0;
    if (source == DNS_SOURCE_ROOT)
        return;
    for (size_t i = 0; source == DNS_SOURCE_OWN && i < config_count(cfg, &section_dns_server);
         i++) {
        const struct dns_server *s = config_at(cfg, &section_dns_server, i)->data;

        add_server(out, s->address, (unsigned)s->priority);
    }
    if (!out->n)
        system_servers(out);
}

static bool has_root_anchor(const struct config *cfg)
{
    return cfg && CONFIG_GET(cfg, dns_anchor, ".") != NULL;
}

static void today(char out[12])
{
    time_t now = (time_t)(clock_wall() / 1000000);
    struct tm tm;

    strftime(out, 12, "%Y-%m-%d", gmtime_r(&now, &tm));
}

static const char *with_dot(const char *domain, char out[260])
{
    snprintf(out, 260, "%s%s", domain, str_eq(domain, ".") ? "" : ".");
    return out;
}

static void plan_of(const struct config *cfg, const struct servers *servers, bool validate,
                    const char *root_key, struct dns_plan *p)
{
    const struct dns_setup *s = setup_of(cfg);
    char day[12], name[260];

    today(day);
    memset(p, 0, sizeof(*p));
    p->min_ttl = (unsigned)s->min_ttl;
    p->max_ttl = (unsigned)s->max_ttl;
    p->cache_mib = (unsigned)s->cache_size;
    for (unsigned i = 0; i < servers->n; i++)
        if (servers->items[i].used)
            strlist_add(&p->servers, servers->items[i].address);
    if (validate && !has_root_anchor(cfg))
        str_copy(p->root_key, sizeof(p->root_key), root_key);
    p->validate = p->all = validate;
    if (!cfg)
        return;
    for (size_t i = 0; i < config_count(cfg, &section_dns_anchor); i++) {
        const struct dns_anchor *a = config_at(cfg, &section_dns_anchor, i)->data;

        for (size_t k = 0; k < a->records.n; k++) {
            char *line = xasprintf("%s %s", with_dot(a->domain, name), a->records.items[k]);

            strlist_add(&p->anchors, line);
            free(line);
        }
    }
    p->validate |=
        p->anchors.n && s->validation != DNS_VALIDATE_OFF; /* zones of one's own, at least */
    for (size_t i = 0; i < config_count(cfg, &section_dns_untrusted); i++) {
        const struct dns_untrusted *u = config_at(cfg, &section_dns_untrusted, i)->data;

        if (strcmp(day, u->expires) <= 0)
            strlist_add(&p->untrusted, with_dot(u->domain, name));
    }
    p->nzones = (unsigned)config_count(cfg, &section_dns_domain);
    p->zones = xcalloc(p->nzones + 1, sizeof(*p->zones));
    for (unsigned i = 0; i < p->nzones; i++) {
        const struct dns_domain *d = config_at(cfg, &section_dns_domain, i)->data;

        p->zones[i].name = xstrdup(with_dot(d->domain, name));
        p->zones[i].cache = d->kind == DNS_DOMAIN_CACHE;
        strlist_copy(&p->zones[i].servers, &d->servers);
        if (str_eq(d->domain, ".")) /* it says all there is to say */
            strlist_free(&p->servers);
    }
}

/* YIELDS. A resolver for these servers. */
static struct resolver *make(const struct config *cfg, const struct servers *servers, bool validate,
                             struct err *err)
{
    struct dns_plan plan;
    struct resolver *r;

    plan_of(cfg, servers, validate, dns.root_key, &plan);
    r = resolver_new(&plan, err);
    dns_plan_free(&plan);
    return r;
}

/* --- which servers --- */

/* Those that are all right, of the best priority that has one; else those that answer at all; else
 * the first ones. */
static void choose(struct servers *s, bool want_dnssec)
{
    for (int mercy = 0; mercy < 3; mercy++) {
        unsigned best = UINT32_MAX, n = 0;

        for (unsigned i = 0; i < s->n; i++) {
            struct server *one = &s->items[i];

            one->used = mercy == 2 || (one->up && (mercy == 1 || !want_dnssec || one->dnssec));
            if (one->used && one->priority < best)
                best = one->priority;
        }
        for (unsigned i = 0; i < s->n; i++) {
            s->items[i].used &= s->items[i].priority == best;
            n += s->items[i].used;
        }
        if (n)
            return;
    }
}

static bool same_use(const struct servers *a, const struct servers *b)
{
    bool same = a->n == b->n;

    for (unsigned i = 0; same && i < a->n; i++)
        same = a->items[i].used == b->items[i].used &&
               str_eq(a->items[i].address, b->items[i].address);
    return same;
}

static bool same_servers(const struct servers *a, const struct servers *b)
{
    bool same = a->n == b->n;

    for (unsigned i = 0; same && i < a->n; i++)
        same = a->items[i].priority == b->items[i].priority &&
               str_eq(a->items[i].address, b->items[i].address);
    return same;
}

/* --- checks --- */

/* Signatures in the answer to what is certainly signed, and a proof in the answer to what is
 * certainly not there. Both are asked of the root, the Internet's or a private one, so no name of
 * somebody else's is needed. */
static bool passes_signatures(const struct dns_reply *reply, int proof)
{
    struct dns_packet m = reply->packet;
    struct dns_record *r = xcalloc(1, sizeof(*r));
    bool signature = false, found = !proof;

    while (dns_packet_next(&m, r)) {
        signature |= r->type == TYPE_RRSIG;
        found |= proof && (r->type == 47 || r->type == 50); /* NSEC, NSEC3 */
    }
    free(r);
    return signature && found;
}

/* YIELDS */
static void check_server(struct server *s)
{
    static const struct {
        int type;
        bool denial;
    } questions[] = {
        {TYPE_DNSKEY, false},
        {TYPE_TLSA,   true },
    };
    struct err err = {0};

    s->dnssec = true;
    s->at = clock_now();
    s->why[0] = '\0';
    for (size_t i = 0; i < countof(questions); i++) {
        struct dns_reply reply;

        s->up =
            dns_raw_ask(s->address, ".", questions[i].type, NULL, clock_in(CHECK), &reply, &err);
        if (!s->up) {
            str_copy(s->why, sizeof(s->why), err.text);
            break;
        }
        s->took = reply.took;
        if (reply.packet.rcode == 2 || reply.packet.rcode == 5) {
            s->up = false;
            str_copy(s->why, sizeof(s->why),
                     reply.packet.rcode == 2 ? "it answers SERVFAIL" : "it answers REFUSED");
        } else if (!passes_signatures(&reply, questions[i].denial)) {
            s->dnssec = false;
            str_copy(s->why, sizeof(s->why),
                     questions[i].denial ? "it takes away the proofs of absence"
                                         : "it takes away the signatures");
        }
        dns_reply_free(&reply);
        if (!s->up || !s->dnssec)
            break;
    }
    s->checked = true;
}

static void tell(const struct server *was, const struct server *is, bool want_dnssec)
{
    char key[ADDR_TEXT + 24];
    bool good = is->up && (is->dnssec || !want_dnssec),
         before = was->up && (was->dnssec || !want_dnssec);

    if (good == before && (good || str_eq(was->why, is->why)))
        return;
    snprintf(key, sizeof(key), "dns server %s", is->address);
    if (good) {
        log_info("dns: the server %s is back", is->address);
        alert_raise(ALERT_SYSTEM, ALERT_INFO, key, "The DNS server %s is all right again.",
                    is->address);
        return;
    }
    log_warning("dns: the server %s %s: %s", is->address,
                is->used ? "is in trouble and stays in use, for there is no better one"
                         : "is taken out of use",
                str_printable(is->why));
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key, "The DNS server %s %s: %s.", is->address,
                is->used ? "is in trouble; it stays in use, for there is no better one"
                         : "is taken out of use",
                is->why);
}

static bool has_been_told(void)
{
    bool was;

    pthread_mutex_lock(&dns.lock);
    was = dns.told;
    dns.told = true;
    pthread_mutex_unlock(&dns.lock);
    return was;
}

/* YIELDS. May answers be validated? Asked of a resolver that does. */
static enum dns_status try_validation(struct resolver *r, char *why, size_t size)
{
    struct query *q = query_begin(resolver_ref(r), ".", TYPE_NS);
    struct dns_answer *a = query_end(&q, clock_in(SECONDS(5)));
    enum dns_status status = a->status;

    if (status == DNS_OK && !a->secure) {
        status = DNS_BOGUS;
        str_copy(why, size, "the root is not signed there");
    } else {
        str_copy(why, size, a->why);
    }
    dns_answer_free(&a);
    return status;
}

struct found { /* by one round, for one configuration */
    unsigned generation;
    struct config *cfg;
    struct servers servers;
    bool validates, decided, proven;
    char day[12];
};

/* Takes the reference to r. false: the configuration has changed meanwhile. */
static bool put(const struct found *f, struct resolver **r)
{
    struct resolver *old = NULL;
    bool same;

    pthread_mutex_lock(&dns.lock);
    same = f->generation == dns.generation;
    if (same) {
        dns.servers = f->servers;
        dns.validates = f->validates;
        dns.decided = f->decided;
        dns.proven = f->proven;
        str_copy(dns.today, sizeof(dns.today), f->day);
        if (*r) {
            old = dns.current;
            dns.current = *r;
            *r = NULL;
            dns.changes++;
        }
    }
    pthread_mutex_unlock(&dns.lock);
    resolver_free(&old);
    resolver_free(r);
    return same;
}

/* Is there anybody who needs validation? */
static bool wants_dane(void)
{
    struct config *cfg = running_config();
    bool wanted = false;

    for (size_t i = 0; cfg && !wanted && i < config_count(cfg, &section_destination); i++) {
        const struct destination *d = config_at(cfg, &section_destination, i)->data;

        wanted = d->dane == DANE_OPPORTUNISTIC || d->dane == DANE_MANDATORY;
    }
    config_free(&cfg);
    return wanted;
}

/* YIELDS. Of those who have not yet shown whether they can be validated. NULL: they did not answer.
 */
static struct resolver *prove(struct found *f)
{
    struct err err = {0};
    struct resolver *r = make(f->cfg, &f->servers, true, &err);
    enum dns_status status = DNS_SERVFAIL;
    char why[200];

    str_copy(why, sizeof(why), err.text);
    if (r)
        status = try_validation(r, why, sizeof(why));
    f->decided = true;
    if (status == DNS_OK) {
        f->validates = f->proven = true;
        log_info("dns: answers are validated with %s", dns.root_key);
        return r;
    }
    resolver_free(&r);
    if (status != DNS_BOGUS && status != DNS_NODATA && status != DNS_NXDOMAIN)
        return NULL;
    if (!has_been_told())
        log_warning("dns: answers are not validated: %s", why);
    if (wants_dane()) /* said again after growing intervals */
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, "dns validation",
                    "Answers of the DNS are not validated, so DANE cannot be used: %s. Use DNS "
                    "servers that pass on DNSSEC (dnsconfig).",
                    why);
    if (!f->validates)
        return NULL;
    f->validates = false;
    return make(f->cfg, &f->servers, false, &err);
}

static void warn_of_ends(const struct config *cfg)
{
    char soon[12], key[300];
    time_t then = (time_t)(clock_wall() / 1000000) + 3 * 86400;
    struct tm tm;

    strftime(soon, sizeof(soon), "%Y-%m-%d", gmtime_r(&then, &tm));
    for (size_t i = 0; cfg && i < config_count(cfg, &section_dns_untrusted); i++) {
        const struct dns_untrusted *u = config_at(cfg, &section_dns_untrusted, i)->data;

        if (strcmp(u->expires, soon) > 0)
            continue;
        snprintf(key, sizeof(key), "dns insecure %s", u->domain);
        alert_raise(
            ALERT_SYSTEM, ALERT_WARNING, key,
            "The negative trust anchor for %s (%s) ends on %s; after that day its answers are "
            "validated again.",
            u->domain, u->reason, u->expires);
    }
}

static void newest_check(void *arg, const struct dns_anchor_info *a)
{
    usec_t *newest = arg;

    if (a->checked > *newest)
        *newest = a->checked;
}

/* A key that comes is trusted after 30 days (RFC 5011 section 2.4.1): who does not look for longer
 * may miss a rollover. */
static void warn_of_old_anchor(void)
{
    usec_t newest = 0;

    dns_anchors_list(newest_check, &newest);
    if (newest && clock_wall() - newest > STALE_DAYS * (usec_t)86400000000)
        alert_raise(
            ALERT_SYSTEM, ALERT_WARNING, "dns root anchor",
            "The trust anchor of the root has not been confirmed for %d days. See dnsstatus.",
            (int)((clock_wall() - newest) / 86400000000));
}

/* YIELDS. Who was silent a moment ago is not waited for again, however many questions fail. */
static void check_servers(struct servers *s, msec_t interval)
{
    for (unsigned i = 0; i < s->n; i++) {
        struct server *one = &s->items[i];
        bool up = one->up, dnssec = one->dnssec;

        if (one->checked && !up && clock_now() < one->at + interval)
            continue;
        check_server(one);
        if (up != one->up || dnssec != one->dnssec)
            one->since = clock_wall();
    }
}

struct round { /* too large for a fiber's stack */
    struct found found;
    struct servers before, fresh;
};

/* YIELDS */
static void check_round(void)
{
    struct round *w = xcalloc(1, sizeof(*w));
    struct found *f = &w->found;
    struct resolver *r = NULL;
    bool want, was_validating, new_day, first;
    struct err err = {0};

    pthread_mutex_lock(&dns.lock);
    first = dns.checked < dns.configured || !dns.rounds;
    f->generation = dns.generation;
    f->cfg = dns.cfg ? config_ref(dns.cfg) : NULL;
    f->servers = dns.servers;
    f->validates = was_validating = dns.validates;
    f->proven = dns.proven;
    f->decided = true;
    today(f->day);
    new_day = !str_eq(f->day, dns.today);
    pthread_mutex_unlock(&dns.lock);
    servers_of(f->cfg, &w->fresh); /* /etc/resolv.conf may have changed */
    w->before = f->servers;
    if (!same_servers(&w->fresh, &f->servers))
        f->servers = w->fresh;
    want = setup_of(f->cfg)->validation != DNS_VALIDATE_OFF;
    check_servers(&f->servers, SECONDS(setup_of(f->cfg)->health_interval));
    choose(&f->servers, want);
    if (want && !f->proven)
        r = prove(f);
    if (!r && (!same_use(&w->before, &f->servers) || f->validates != was_validating || new_day))
        r = make(f->cfg, &f->servers, f->validates, &err);
    if (err.code)
        log_critical("dns: %s; the old servers stay in use", err.text);
    if (put(f, &r) && same_servers(&w->before, &f->servers))
        for (unsigned i = 0; i < f->servers.n; i++)
            tell(&w->before.items[i], &f->servers.items[i], want && (f->proven || f->validates));
    if (new_day || first) {
        warn_of_ends(f->cfg);
        warn_of_old_anchor();
    }
    config_free(&f->cfg);
    free(w);
}

static void check_fiber(void *unused)
{
    bool go = true;

    (void)unused;
    fiber_interruptible(true);
    while (go) {
        msec_t pause;

        check_round();
        pthread_mutex_lock(&dns.lock);
        dns.rounds++;
        dns.checked = clock_now();
        pause = dns.again ? 0 : SECONDS(setup_of(dns.cfg)->health_interval);
        dns.again = false;
        wait_init(&dns.bell);
        dns.waiting = pause > 0;
        pthread_mutex_unlock(&dns.lock);
        if (pause)
            wait_until(&dns.bell, clock_in(pause), "the next check of the DNS servers");
        pthread_mutex_lock(&dns.lock);
        dns.waiting = false;
        pthread_mutex_unlock(&dns.lock);
        go = !fiber_stopping();
    }
}

static void ring(void) /* with the lock */
{
    if (dns.waiting) {
        dns.waiting = false;
        wait_done(&dns.bell);
    } else {
        dns.again = true;
    }
}

/* --- for questions --- */

struct resolver *dns_servers_resolver(unsigned *seen)
{
    struct resolver *r;

    for (;;) {
        bool wait;

        pthread_mutex_lock(&dns.lock);
        wait = !dns.decided && dns.running && clock_now() < dns.configured + DECIDE;
        r = wait ? NULL : resolver_ref(dns.current);
        *seen = dns.changes;
        pthread_mutex_unlock(&dns.lock);
        if (!wait || !fiber_self() || !fiber_sleep(10))
            return r;
    }
}

bool dns_servers_recheck(unsigned seen, msec_t deadline)
{
    msec_t until = clock_in(CHECK * MAX_SERVERS);
    bool changed, go, rung = false;
    unsigned target;

    pthread_mutex_lock(&dns.lock);
    changed = dns.changes != seen;
    go = !changed && dns.running && dns.servers.n > 1 && fiber_self();
    target =
        dns.rounds + (dns.waiting ? 1 : 2); /* a check that runs began before the question failed */
    pthread_mutex_unlock(&dns.lock);
    if (until > deadline)
        until = deadline;
    while (go && clock_now() < until) {
        pthread_mutex_lock(&dns.lock);
        if (!rung && clock_now() >= dns.checked + BETWEEN_CHECKS) {
            rung = true;
            ring();
        }
        changed = dns.changes != seen;
        go = !changed && (int)(dns.rounds - target) < 0;
        pthread_mutex_unlock(&dns.lock);
        if (go && !fiber_sleep(20))
            break;
    }
    return changed;
}

void dns_servers_flush(void)
{
    struct found *f = xcalloc(1, sizeof(*f));
    struct resolver *r;
    struct err err = {0};

    pthread_mutex_lock(&dns.lock);
    f->generation = dns.generation;
    f->cfg = dns.cfg ? config_ref(dns.cfg) : NULL;
    f->servers = dns.servers;
    f->validates = dns.validates;
    pthread_mutex_unlock(&dns.lock);
    r = make(f->cfg, &f->servers, f->validates, &err); /* YIELDS */
    pthread_mutex_lock(&dns.lock);
    f->decided = dns.decided;
    f->proven = dns.proven;
    str_copy(f->day, sizeof(f->day), dns.today);
    pthread_mutex_unlock(&dns.lock);
    if (r)
        put(f, &r);
    else
        log_critical("dns: %s; what was learnt stays", err.text);
    config_free(&f->cfg);
    free(f);
}

bool dns_servers_validate(void)
{
    bool v;

    pthread_mutex_lock(&dns.lock);
    v = dns.validates && dns.proven;
    pthread_mutex_unlock(&dns.lock);
    return v;
}

msec_t dns_servers_reverse_timeout(void)
{
    msec_t t;

    pthread_mutex_lock(&dns.lock);
    t = SECONDS(setup_of(dns.cfg)->reverse_timeout);
    pthread_mutex_unlock(&dns.lock);
    return t;
}

/* --- status --- */

const char *dns_servers_source(void)
{
    int source;

    pthread_mutex_lock(&dns.lock);
    source = setup_of(dns.cfg)->source;
    pthread_mutex_unlock(&dns.lock);
    return choices_dns_sources[source].word;
}

void dns_servers_list(void (*fn)(void *arg, const struct dns_server_info *s), void *arg)
{
    struct servers *s = xcalloc(1, sizeof(*s));

    pthread_mutex_lock(&dns.lock);
    *s = dns.servers;
    pthread_mutex_unlock(&dns.lock);
    for (unsigned i = 0; i < s->n; i++) {
        const struct server *one = &s->items[i];

        fn(arg,
           &(struct dns_server_info){one->address, one->priority, one->used, one->up, one->dnssec,
                                     one->checked, one->took, one->since, one->why});
    }
    free(s);
}

/* The file of RFC 5011: comments tell the states of the keys and when they were last confirmed. */
static void list_root_key(void (*fn)(void *arg, const struct dns_anchor_info *a), void *arg)
{
    FILE *f = fopen(dns.root_key, "re");
    char line[2000], text[64];
    long long last = 0;

    while (f && fgets(line, sizeof(line), f)) {
        const char *id = strstr(line, "id = "), *state = strstr(line, ";;state="), *open, *ds;
        char word[20] = "configured";
        int tag = 0;

        if (sscanf(line, ";;last_success: %lld", &last) == 1 || *line == ';')
            continue;
        if (id)
            tag = (int)strtol(id + 5, NULL, 10);
        else if ((id = strstr(line, "keytag ")))
            tag = (int)strtol(id + 7, NULL, 10);
        else if ((ds = strstr(line, " DS ")))
            tag = (int)strtol(ds + 4, NULL, 10);
        open = state ? strchr(state, '[') : NULL;
        if (open)
            sscanf(open + 1, " %19[A-Z]", word);
        if (!tag)
            continue;
        snprintf(text, sizeof(text), "%d %s", tag, word);
        fn(arg, &(struct dns_anchor_info){".", "RFC 5011", text, (usec_t)last * 1000000});
    }
    if (f)
        fclose(f);
}

/* "20326" of "DS 20326 8 2 ..." and of "DNSKEY 257 3 8 ..." (RFC 4034 appendix B) */
static unsigned key_tag(const char *record)
{
    unsigned char rdata[2048];
    unsigned flags, algorithm, sum = 0;
    int at = 0, n;

    if (str_istarts(record, "DS "))
        return (unsigned)strtoul(record + 3, NULL, 10);
    if (sscanf(record, "%*s %u 3 %u %n", &flags, &algorithm, &at) != 2 || !at ||
        strlen(record + at) > 2600)
        return 0;
    rdata[0] = (unsigned char)(flags >> 8);
    rdata[1] = (unsigned char)flags;
    rdata[2] = 3;
    rdata[3] = (unsigned char)algorithm;
    n = EVP_DecodeBlock(rdata + 4, (const unsigned char *)record + at, (int)strlen(record + at));
    for (const char *end = record + strlen(record); n > 0 && end[-1] == '='; end--)
        n--;
    for (int i = 0; i < n + 4; i++)
        sum += i & 1 ? rdata[i] : (unsigned)rdata[i] << 8;
    return n < 0 ? 0 : (sum + (sum >> 16)) & 0xffff;
}

void dns_anchors_list(void (*fn)(void *arg, const struct dns_anchor_info *a), void *arg)
{
    struct config *cfg = running_config();

    if (!has_root_anchor(cfg))
        list_root_key(fn, arg);
    for (size_t i = 0; cfg && i < config_count(cfg, &section_dns_anchor); i++) {
        const struct dns_anchor *a = config_at(cfg, &section_dns_anchor, i)->data;

        for (size_t k = 0; k < a->records.n; k++) {
            char text[64];

            snprintf(text, sizeof(text), "%u", key_tag(a->records.items[k]));
            fn(arg, &(struct dns_anchor_info){a->domain, "configured", text, 0});
        }
    }
    config_free(&cfg);
}

/* --- changes of the configuration --- */

static bool differs(const struct config *old, const struct config *cfg)
{
    static const struct section *const sections[] = {&section_dns_setup, &section_dns_server,
                                                     &section_dns_domain, &section_dns_anchor,
                                                     &section_dns_untrusted};

    for (size_t i = 0; i < countof(sections); i++)
        if (!old || !config_shares(old, cfg, sections[i]))
            return true;
    return false;
}

struct prepared {
    struct found found;
    struct resolver *resolver;
};

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    struct prepared *p;
    int validation = setup_of(cfg)->validation;
    bool demanded;

    *state = NULL;
    if (!*dns.root_key || (old && !differs(old, cfg)))
        return true;
    p = xcalloc(1, sizeof(*p));
    servers_of(cfg, &p->found.servers);
    choose(&p->found.servers, false);
    demanded = validation == DNS_VALIDATE_REQUIRE ||
               (validation == DNS_VALIDATE_AUTO && has_root_anchor(cfg));
    p->found.validates = validation != DNS_VALIDATE_OFF;
    p->found.proven = demanded;
    p->found.decided = demanded || !p->found.validates;
    p->resolver = make(cfg, &p->found.servers, p->found.validates, err); /* YIELDS */
    if (!p->resolver) {
        free(p);
        return false;
    }
    *state = p;
    return true;
}

static void discard(void *state)
{
    struct prepared *p = state;

    if (p)
        resolver_free(&p->resolver);
    free(p);
}

static void publish(void *state, const struct config *cfg)
{
    struct prepared *p = state;
    struct config *old;
    bool start;

    if (!p)
        return;
    dns_cache_limit((size_t)setup_of(cfg)->cache_size
                    << 18); /* a quarter; the rest is the resolver's */
    today(p->found.day);
    pthread_mutex_lock(&dns.lock);
    old = dns.cfg;
    dns.cfg = config_ref(cfg);
    p->found.generation = ++dns.generation;
    dns.configured = clock_now();
    dns.told = false;
    start = !dns.running && loops_count();
    dns.running |= start;
    ring();
    pthread_mutex_unlock(&dns.lock);
    put(&p->found, &p->resolver);
    dns_cache_flush(NULL);
    config_free(&old);
    free(p);
    if (start)
        fiber_spawn(loops_get(0), "dns servers", check_fiber, NULL);
}

const struct reload_part reload_dns = {"name resolution", prepare, publish, discard};

/* --- start and end --- */

/* HOME/root.key begins as a copy of the distribution's and is kept up from then on. */
static void seed_root_key(void)
{
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);
    FILE *f;
    char line[2000];
    int fd;

    if (access(dns.root_key, F_OK) == 0)
        return;
    f = fopen(SYSTEM_ANCHOR, "re");
    while (f && fgets(line, sizeof(line), f))
        buf_str_add(&text, line);
    if (f)
        fclose(f);
    if (!text.n)
        buf_str_add(&text, BUILTIN_ANCHOR);
    fd = open(dns.root_key, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, buf_str(&text), text.n) != (ssize_t)text.n)
        log_warning("dns: writing %s: %s", dns.root_key, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void dns_servers_start(const char *home)
{
    snprintf(dns.root_key, sizeof(dns.root_key), "%s/root.key", home);
    seed_root_key();
}

void dns_servers_stop(void)
{
    struct resolver *old;
    struct config *cfg;

    pthread_mutex_lock(&dns.lock);
    old = dns.current;
    dns.current = NULL;
    cfg = dns.cfg;
    dns.cfg = NULL;
    dns.generation++;
    pthread_mutex_unlock(&dns.lock);
    resolver_free(&old);
    config_free(&cfg);
    dns_cache_flush(NULL);
    resolvers_wait();
}
