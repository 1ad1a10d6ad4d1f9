/* dns.c - see dns.h. A resolver is one libunbound context with a thread that takes its answers; a
 * new configuration makes a new one, and the old one ends with its last query. The thread only
 * wakes the fibers that asked. */
#include "daemon/dns.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unbound.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/worker.h"
#include "store/base/log.h"

enum { TYPE_A = 1, TYPE_NS = 2, TYPE_PTR = 12, TYPE_MX = 15, TYPE_AAAA = 28 };

#define PROBE_AGAIN MINUTES(10)
#define SYSTEM_ANCHOR "/usr/share/dns/root.key"

struct resolver {
    atomic_int refs;
    struct ub_ctx *ctx;
    int end_fd; /* readable: the last reference is gone */
    pthread_t thread;
    bool validates;
};

/* Shared by the fiber that waits and the callback that answers: one reference each, for either may
 * leave first. */
struct query {
    atomic_int refs;
    struct wait wait;
    struct resolver *resolver;
    struct ub_result *result;
    int rc;
};

static struct {
    pthread_mutex_t lock;
    struct resolver *current;
    struct strlist servers;
    char anchor[512]; /* "" : no validation */
    unsigned generation;
    bool probed; /* validation is being looked into for these servers */
    atomic_int running; /* threads of resolvers */
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- resolvers --- */

static void *resolver_thread(void *arg)
{
    struct resolver *r = arg;
    uint64_t end;
    struct pollfd fds[2] = {
        {.fd = ub_fd(r->ctx), .events = POLLIN},
        {.fd = r->end_fd,     .events = POLLIN},
    };
    uint64_t ended = 0;

    while (!ended) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            ub_process(r->ctx);
        if (fds[1].revents && read(r->end_fd, &ended, sizeof(ended)) < 0)
            ended = 0;
    }
    (void)!read(r->end_fd, &end, sizeof(end)); /* whoever wrote it is done with r */
    ub_ctx_delete(r->ctx);
    close(r->end_fd);
    free(r);
    atomic_fetch_sub(&dns.running, 1);
    return NULL;
}

static void resolver_free(struct resolver **rp)
{
    struct resolver *r = *rp;
    uint64_t one = 1;

    *rp = NULL;
    if (r && atomic_fetch_sub(&r->refs, 1) == 1 && write(r->end_fd, &one, sizeof(one)) < 0)
        log_critical("dns: cannot end a resolver"); /* an eventfd takes a 1 always */
}

static bool option(struct ub_ctx *ctx, const char *name, const char *value)
{
    int rc = ub_ctx_set_option(ctx, name, value);

    if (rc)
        log_warning("dns: setting %s %s: %s", name, value, ub_strerror(rc));
    return !rc;
}

/* The library reads files and builds tables when it is first asked, on the stack of who asks: more
 * than a fiber has. */
static bool first_question(void *ctx, struct err *err)
{
    struct ub_result *result = NULL;
    int rc = ub_resolve(ctx, "localhost", TYPE_A, 1, &result); /* answered by the library itself */

    if (result)
        ub_resolve_free(result);
    return !rc || err_set(err, E_DNS, "the resolver cannot be started: %s", ub_strerror(rc));
}

static struct resolver *resolver_new(const struct strlist *servers, const char *anchor,
                                     struct err *err)
{
    struct resolver *r = xcalloc(1, sizeof(*r));
    int rc = 0;

    r->refs = 1;
    r->validates = *anchor;
    r->end_fd = eventfd(0, EFD_CLOEXEC);
    r->ctx = ub_ctx_create();
    if (!r->ctx || r->end_fd < 0) {
        err_set(err, E_DNS, "the resolver cannot be made");
        goto fail;
    }
    option(r->ctx, "do-not-query-localhost:", "no"); /* a resolver on this machine is usual */
    option(r->ctx,
           "unblock-lan-zones:", "yes"); /* reverse names of private networks exist inside */
    option(r->ctx, "insecure-lan-zones:", "yes");
    for (size_t i = 0; i < servers->n && !rc; i++) {
        rc = ub_ctx_set_fwd(r->ctx, servers->items[i]);
        if (rc)
            err_set(err, E_INVALID, "the resolver %s: %s", servers->items[i], ub_strerror(rc));
    }
    if (rc)
        goto fail;
    if (!servers->n && ub_ctx_resolvconf(r->ctx, NULL))
        log_warning("dns: /etc/resolv.conf is unreadable; asking the root servers");
    ub_ctx_hosts(r->ctx, NULL); /* a missing file means no names */
    if (*anchor) {
        rc = ub_ctx_add_ta_file(r->ctx, anchor);
        if (rc) {
            err_set(err, E_DNS, "the trust anchor %s: %s", anchor, ub_strerror(rc));
            goto fail;
        }
    }
    ub_ctx_async(r->ctx, 1); /* a thread, not a process */
    if (!worker_call(first_question, r->ctx, err)) /* YIELDS */
        goto fail;
    atomic_fetch_add(&dns.running, 1);
    if (pthread_create(&r->thread, NULL, resolver_thread, r)) {
        atomic_fetch_sub(&dns.running, 1);
        err_set(err, E_DNS, "no thread for the resolver");
        goto fail;
    }
    pthread_detach(r->thread);
    return r;

fail:
    if (r->ctx)
        ub_ctx_delete(r->ctx);
    if (r->end_fd >= 0)
        close(r->end_fd);
    free(r);
    return NULL;
}

static struct resolver *current_resolver(void)
{
    struct resolver *r;

    pthread_mutex_lock(&dns.lock);
    r = dns.current;
    if (r)
        atomic_fetch_add(&r->refs, 1);
    pthread_mutex_unlock(&dns.lock);
    return r;
}

/* --- one query --- */

static void query_unref(struct query **qp)
{
    struct query *q = *qp;

    *qp = NULL;
    if (atomic_fetch_sub(&q->refs, 1) > 1)
        return;
    if (q->result)
        ub_resolve_free(q->result);
    resolver_free(&q->resolver);
    free(q);
}

static void on_answer(void *arg, int rc, struct ub_result *result) /* on the resolver's thread */
{
    struct query *q = arg;

    q->rc = rc;
    q->result = result;
    wait_done(&q->wait);
    query_unref(&q);
}

static enum dns_status status_of(const struct ub_result *r)
{
    if (r->bogus)
        return DNS_BOGUS;
    if (r->nxdomain)
        return DNS_NXDOMAIN;
    if (r->rcode)
        return DNS_SERVFAIL;
    return r->havedata ? DNS_OK : DNS_NODATA;
}

/* YIELDS. Takes the reference to r. *out is NULL unless there is an answer; free with
 * ub_resolve_free. */
static enum dns_status ask(struct resolver *r, const char *name, int type, msec_t deadline,
                           struct ub_result **out, struct err *err)
{
    enum dns_status status = DNS_SERVFAIL;
    struct query *q;
    int rc;

    *out = NULL;
    if (!r) {
        err_set(err, E_DNS, "%s: the resolver is not running", name);
        return DNS_SERVFAIL;
    }
    q = xcalloc(1, sizeof(*q));
    q->refs = 2;
    q->resolver = r;
    wait_init(&q->wait);
    rc = ub_resolve_async(r->ctx, name, type, 1, q, on_answer, NULL);
    if (rc)
        on_answer(q, rc, NULL); /* the library never will */
    if (!wait_until(&q->wait, deadline, "DNS")) {
        err_set(err, E_DNS, "%s: no answer in time", name);
        status = DNS_TIMEOUT;
    } else if (q->rc || !q->result) {
        err_set(err, E_DNS, "%s: %s", name, ub_strerror(q->rc));
    } else {
        status = status_of(q->result);
        if (status == DNS_BOGUS)
            err_set(err, E_DNS, "%s: %s", name,
                    q->result->why_bogus ? q->result->why_bogus : "the answer is bogus");
        else if (status == DNS_SERVFAIL)
            err_set(err, E_DNS, "%s: the name server failed (code %d)", name, q->result->rcode);
        *out = q->result;
        q->result = NULL;
    }
    query_unref(&q);
    return status;
}

static bool is_answer(enum dns_status s)
{
    return s == DNS_OK || s == DNS_NODATA || s == DNS_NXDOMAIN;
}

const char *dns_status_name(enum dns_status s)
{
    static const char *const names[] = {"OK", "NoData", "NXDomain", "ServFail", "Timeout", "Bogus"};

    return names[s];
}

/* --- start and configuration --- */

/* Validation is only worth having when the resolvers pass on signatures; otherwise every name would
 * be bogus. So a validating resolver first has to prove itself on the root. */
static void probe_validation(void *arg)
{
    unsigned generation = (unsigned)(uintptr_t)arg;
    bool told = false, done = false;

    fiber_interruptible(true);
    while (!done) {
        struct strlist servers = {0};
        struct resolver *r, *old = NULL;
        struct ub_result *result = NULL;
        struct err err = {0};
        bool secure = false;

        pthread_mutex_lock(&dns.lock);
        strlist_copy(&servers, &dns.servers);
        done = generation != dns.generation;
        pthread_mutex_unlock(&dns.lock);
        r = done ? NULL : resolver_new(&servers, dns.anchor, &err);
        strlist_free(&servers);
        if (r) {
            atomic_fetch_add(&r->refs, 1);
            ask(r, ".", TYPE_NS, clock_in(SECONDS(20)), &result, &err);
            secure = result && result->secure;
        }
        if (result)
            ub_resolve_free(result);
        if (secure) {
            pthread_mutex_lock(&dns.lock);
            if (generation == dns.generation) {
                old = dns.current;
                dns.current = r;
                r = NULL;
            }
            pthread_mutex_unlock(&dns.lock);
            resolver_free(&old);
            log_info("dns: answers are validated with %s", dns.anchor);
            done = true;
        } else if (!done && !told) {
            log_warning("dns: answers are not validated: %s",
                        err.code ? err.text : "the resolvers do not deliver signatures");
            told = true;
        }
        resolver_free(&r);
        if (!done && !fiber_sleep(PROBE_AGAIN))
            done = true;
    }
}

static bool same_servers(const struct strlist *a, const struct strlist *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!str_eq(a->items[i], b->items[i]))
            return false;
    return true;
}

void dns_configure(const struct strlist *resolvers)
{
    struct resolver *fresh = NULL, *old = NULL;
    struct err err = {0};
    unsigned generation;
    bool probe;

    pthread_mutex_lock(&dns.lock);
    probe = dns.current && same_servers(resolvers, &dns.servers);
    pthread_mutex_unlock(&dns.lock);
    if (!probe) {
        fresh = resolver_new(resolvers, "", &err);
        if (!fresh) {
            log_critical("dns: %s; the old resolvers stay in use", err.text);
            return;
        }
    }
    pthread_mutex_lock(&dns.lock);
    if (fresh) {
        strlist_free(&dns.servers);
        strlist_copy(&dns.servers, resolvers);
        old = dns.current;
        dns.current = fresh;
        dns.generation++;
        dns.probed = false;
    }
    generation = dns.generation;
    probe = *dns.anchor && !dns.probed && loops_count();
    dns.probed |= probe;
    pthread_mutex_unlock(&dns.lock);
    resolver_free(&old);
    if (probe)
        fiber_spawn(loops_get(0), "dns validation", probe_validation,
                    (void *)(uintptr_t)generation);
}

bool dns_start(const char *home, struct err *err)
{
    char path[sizeof(dns.anchor)];

    snprintf(path, sizeof(path), "%s/root.key", home);
    if (access(path, R_OK))
        str_copy(path, sizeof(path), SYSTEM_ANCHOR);
    str_copy(dns.anchor, sizeof(dns.anchor), access(path, R_OK) ? "" : path);
    dns_configure(&(struct strlist){0});
    return dns.current ? true : err_set(err, E_DNS, "the resolver cannot be started");
}

void dns_stop(void)
{
    struct resolver *old;

    pthread_mutex_lock(&dns.lock);
    old = dns.current;
    dns.current = NULL;
    dns.generation++;
    strlist_free(&dns.servers);
    pthread_mutex_unlock(&dns.lock);
    resolver_free(&old);
    for (int i = 0; i < 200 && atomic_load(&dns.running); i++)
        poll(NULL, 0, 10); /* at most two seconds for answers that are on their way */
}

/* --- what callers ask --- */

/* A name of uncompressed labels as libunbound delivers it in rdata. "" is the root. */
static bool wire_name(const unsigned char *p, size_t n, char *out, size_t size)
{
    size_t used = 0, at = 0;

    while (at < n && p[at]) {
        size_t label = p[at++];

        if (label > 63 || at + label > n || used + label + 2 > size)
            return false;
        for (size_t i = 0; i < label; i++) {
            unsigned char c = p[at + i];

            if (c <= ' ' || c >= 127 || c == '.' || c == '\\') /* no host is called so */
                return false;
            out[used++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        out[used++] = '.';
        at += label;
    }
    out[used ? used - 1 : 0] = '\0';
    return at < n;
}

static int by_preference(const void *a, const void *b)
{
    const struct mx *x = a, *y = b;

    return x->preference < y->preference ? -1 : x->preference > y->preference;
}

/* RFC 5321 section 5.1: hosts of equal preference in random order. */
static void shuffle(struct mx *hosts, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        uint32_t r = 0;
        unsigned k;
        struct mx t;

        if (getrandom(&r, sizeof(r), 0) < 0)
            return;
        k = r % i;
        t = hosts[i - 1];
        hosts[i - 1] = hosts[k];
        hosts[k] = t;
    }
}

bool dns_mx(const char *domain, msec_t deadline, struct dns_mx *out, struct err *err)
{
    struct ub_result *r;
    unsigned n = 0;

    memset(out, 0, sizeof(*out));
    out->status = ask(current_resolver(), domain, TYPE_MX, deadline, &r, err);
    if (r && out->status == DNS_OK) {
        out->security = r->secure ? DNS_SECURE : DNS_INSECURE;
        while (r->data[n])
            n++;
        out->hosts = xcalloc(n ? n : 1, sizeof(struct mx));
        for (unsigned i = 0; i < n; i++) {
            const unsigned char *p = (const unsigned char *)r->data[i];
            struct mx *mx = &out->hosts[out->n];

            if (r->len[i] < 3 ||
                !wire_name(p + 2, (size_t)r->len[i] - 2, mx->host, sizeof(mx->host)))
                continue;
            mx->preference = (unsigned)p[0] << 8 | p[1];
            if (!*mx->host) {
                out->null_mx = n == 1;
                continue;
            }
            out->n++;
        }
        shuffle(out->hosts, out->n);
        qsort(out->hosts, out->n, sizeof(struct mx), by_preference);
        if (!out->n && !out->null_mx)
            out->status = DNS_NODATA; /* nothing in it is a host */
    } else if (r) {
        out->security = r->secure ? DNS_SECURE : DNS_INSECURE;
    }
    if (r)
        ub_resolve_free(r);
    return is_answer(out->status);
}

static void add_addresses(struct dns_addrs *out, const struct ub_result *r, int family, int size)
{
    unsigned n = 0;

    while (r->data[n])
        n++;
    out->addrs = xrealloc(out->addrs, (out->n + n + 1) * sizeof(struct addr));
    for (unsigned i = 0; i < n; i++) {
        struct addr *a = &out->addrs[out->n];

        if (r->len[i] != size)
            continue;
        memset(a, 0, sizeof(*a));
        a->family = family;
        memcpy(a->ip, r->data[i], (size_t)size);
        out->n++;
    }
}

bool dns_addresses(const char *host, bool v4, bool v6, msec_t deadline, struct dns_addrs *out,
                   struct err *err)
{
    static const struct {
        int type, family, size;
    } kinds[] = {
        {TYPE_A,    AF_INET,  4 },
        {TYPE_AAAA, AF_INET6, 16},
    };
    enum dns_status status[2] = {DNS_NODATA, DNS_NODATA};
    bool secure = true;

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < 2; i++) {
        struct ub_result *r;

        if (!(i ? v6 : v4))
            continue;
        status[i] = ask(current_resolver(), host, kinds[i].type, deadline, &r, err);
        if (!r)
            continue;
        if (status[i] == DNS_OK)
            add_addresses(out, r, kinds[i].family, kinds[i].size);
        secure &= r->secure;
        ub_resolve_free(r);
    }
    out->security = secure ? DNS_SECURE : DNS_INSECURE;
    if (out->n)
        out->status = DNS_OK;
    else if (!is_answer(status[0]) || !is_answer(status[1]))
        out->status = is_answer(status[0]) ? status[1] : status[0];
    else
        out->status =
            status[0] == DNS_NXDOMAIN || status[1] == DNS_NXDOMAIN ? DNS_NXDOMAIN : DNS_NODATA;
    return is_answer(out->status);
}

bool dns_reverse(const struct addr *a, msec_t deadline, char *host, size_t size, bool *verified)
{
    struct dns_addrs back = {0};
    char name[80], *p = name;
    struct ub_result *r;
    bool found = false;

    *verified = false;
    if (a->family == AF_INET) {
        snprintf(name, sizeof(name), "%u.%u.%u.%u.in-addr.arpa", a->ip[3], a->ip[2], a->ip[1],
                 a->ip[0]);
    } else {
        for (int i = 15; i >= 0; i--)
            p += snprintf(p, 5, "%x.%x.", a->ip[i] & 15u, (unsigned)a->ip[i] >> 4);
        snprintf(p, sizeof(name) - (size_t)(p - name), "ip6.arpa");
    }
    if (ask(current_resolver(), name, TYPE_PTR, deadline, &r, NULL) == DNS_OK)
        for (int i = 0; r->data[i] && !found; i++)
            found = wire_name((const unsigned char *)r->data[i], (size_t)r->len[i], host, size) &&
                    *host;
    if (r)
        ub_resolve_free(r);
    if (!found)
        return false;
    if (dns_addresses(host, a->family == AF_INET, a->family == AF_INET6, deadline, &back, NULL))
        for (unsigned i = 0; i < back.n; i++)
            *verified |= addr_eq(&back.addrs[i], a);
    dns_addrs_free(&back);
    return true;
}

void dns_mx_free(struct dns_mx *m)
{
    free(m->hosts);
    memset(m, 0, sizeof(*m));
}

void dns_addrs_free(struct dns_addrs *a)
{
    free(a->addrs);
    memset(a, 0, sizeof(*a));
}
