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

#include "daemon/dns_answer.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/worker.h"
#include "store/base/log.h"

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

static bool is_answer(enum dns_status s)
{
    return s == DNS_OK || s == DNS_NODATA || s == DNS_NXDOMAIN;
}

const char *dns_status_name(enum dns_status s)
{
    static const char *const names[] = {"OK", "NoData", "NXDomain", "ServFail", "Timeout", "Bogus"};

    return names[s];
}

static const char *rcode_name(int rcode)
{
    static const char *const names[] = {"NOERROR",  "FORMERR", "SERVFAIL",
                                        "NXDOMAIN", "NOTIMP",  "REFUSED"};
    static _Thread_local char number[16];

    if (rcode >= 0 && (size_t)rcode < countof(names))
        return names[rcode];
    snprintf(number, sizeof(number), "code %d", rcode);
    return number;
}

/* "example.org (MX): bogus: validation failure <...>: signature expired" */
static bool set_error(const struct dns_answer *a, const char *name, struct err *err)
{
    if (is_answer(a->status))
        return true;
    return err_set(err, a->status == DNS_TIMEOUT ? E_TIMEOUT : E_DNS, "%s (%s): %s%s",
                   str_printable(name), dns_type_name(a->type),
                   a->status == DNS_BOGUS ? "bogus: " : "", a->why);
}

static struct dns_answer *failure(const char *name, int type, enum dns_status status,
                                  const char *why)
{
    struct dns_answer *a = dns_answer_new(name, NULL, type, status, NULL, 0);

    str_copy(a->why, sizeof(a->why), str_printable(why));
    return a;
}

static struct dns_answer *answer_of(const char *name, int type, const struct ub_result *r)
{
    enum dns_status status = r->bogus      ? DNS_BOGUS
                             : r->nxdomain ? DNS_NXDOMAIN
                             : r->rcode    ? DNS_SERVFAIL
                             : r->havedata ? DNS_OK
                                           : DNS_NODATA;
    struct dns_rdata *rdata;
    struct dns_answer *a;
    size_t n = 0;
    char why[64];

    if (status == DNS_BOGUS)
        return failure(name, type, status, r->why_bogus ? r->why_bogus : "validation failed");
    if (status == DNS_SERVFAIL) {
        snprintf(why, sizeof(why), "the name server failed (%s)", rcode_name(r->rcode));
        a = failure(name, type, status, why);
        a->rcode = r->rcode;
        return a;
    }
    while (status == DNS_OK && r->data[n] && n < DNS_MAX_RECORDS)
        n++;
    rdata = xcalloc(n + 1, sizeof(*rdata));
    for (size_t i = 0; i < n; i++)
        rdata[i] = (struct dns_rdata){(const unsigned char *)r->data[i], (size_t)r->len[i]};
    a = dns_answer_new(name, r->canonname, type, status, rdata, n);
    free(rdata);
    a->secure = r->secure;
    a->rcode = r->rcode;
    a->ttl = r->ttl > 0 ? (unsigned)r->ttl : 0;
    return a;
}

/* Takes the reference to r. */
static struct query *ask_begin(struct resolver *r, const char *name, int type)
{
    struct query *q = xcalloc(1, sizeof(*q));
    int rc = UB_INITFAIL;

    q->refs = 2;
    q->resolver = r;
    wait_init(&q->wait);
    if (r)
        rc = ub_resolve_async(r->ctx, name, type, 1, q, on_answer, NULL);
    if (rc)
        on_answer(q, rc, NULL); /* the library never will */
    return q;
}

/* YIELDS. Never NULL; the caller drops its reference. */
static struct dns_answer *ask_end(struct query **qp, const char *name, int type, msec_t deadline)
{
    struct query *q = *qp;
    struct dns_answer *a;

    if (!wait_until(&q->wait, deadline, "DNS"))
        a = failure(name, type, DNS_TIMEOUT, "no answer in time");
    else if (q->rc == UB_SYNTAX) /* a label or the name is too long: nobody can have it */
        a = dns_answer_new(name, NULL, type, DNS_NXDOMAIN, NULL, 0);
    else if (q->rc || !q->result)
        a = failure(name, type, DNS_SERVFAIL,
                    q->resolver ? ub_strerror(q->rc) : "the resolver is not running");
    else
        a = answer_of(name, type, q->result);
    query_unref(qp);
    return a;
}

/* The lines of mail_logs at level Debug. */
static void debug_question(const char *name, int type)
{
    if (maillog_wants_debug())
        maillog_debug("DNS query: Q('%s', '%s')", name, dns_type_name(type));
}

static void debug_answer(const char *name, const struct dns_answer *a)
{
    AUTO(buf) struct buf data = BUF_INIT(600);
    const char *state = a->status == DNS_BOGUS ? "bogus" : a->secure ? "secure" : "insecure";

    if (!maillog_wants_debug())
        return;
    for (unsigned i = 0; i < a->n && !data.full; i++) {
        AUTO(buf) struct buf text = BUF_INIT(500);
        char *space;

        dns_rdata_text(a->type, &a->rdata[i], &text);
        if (i)
            buf_str_add(&data, ", ");
        space = a->type == TYPE_MX ? strchr(buf_str(&text), ' ') : NULL;
        if (space)
            buf_printf(&data, "(%.*s, '%s')", (int)(space - buf_str(&text)), buf_str(&text),
                       space + 1);
        else
            buf_printf(&data, "'%s'", buf_str(&text));
    }
    if (a->status == DNS_BOGUS || a->status == DNS_SERVFAIL || a->status == DNS_TIMEOUT) {
        maillog_debug("DNS failure for domain %s type %s: %s: %s", name, dns_type_name(a->type),
                      dns_status_name(a->status), a->why);
        return;
    }
    maillog_debug("DNSSEC Response data([%s], %s, %d, %u)", buf_str(&data), state, a->rcode,
                  a->ttl);
    if (a->status == DNS_OK)
        maillog_debug("DNS encache (%s, %s, [(%" PRId64 ", 0, '%s', %s)])", name,
                      dns_type_name(a->type), (int64_t)(clock_wall() / 1000000 + a->ttl),
                      a->secure ? "SECURE" : "INSECURE", buf_str(&data));
    else
        maillog_debug("Received %s for domain %s type %s",
                      a->status == DNS_NODATA ? "NODATA" : "NXDOMAIN", name,
                      dns_type_name(a->type));
}

/* YIELDS. Never NULL; the caller drops its reference. err, unless NULL, has why there is no answer.
 */
static struct dns_answer *ask(const char *name, int type, msec_t deadline, struct err *err)
{
    struct query *q = ask_begin(current_resolver(), name, type);
    struct dns_answer *a;

    debug_question(name, type);
    a = ask_end(&q, name, type, deadline);
    debug_answer(name, a);
    set_error(a, name, err);
    return a;
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
        struct err err = {0};
        bool secure = false;

        pthread_mutex_lock(&dns.lock);
        strlist_copy(&servers, &dns.servers);
        done = generation != dns.generation;
        pthread_mutex_unlock(&dns.lock);
        r = done ? NULL : resolver_new(&servers, dns.anchor, &err);
        strlist_free(&servers);
        if (r) {
            struct dns_answer *a;
            struct query *q;

            atomic_fetch_add(&r->refs, 1);
            q = ask_begin(r, ".", TYPE_NS);
            a = ask_end(&q, ".", TYPE_NS, clock_in(SECONDS(20)));
            secure = a->secure;
            set_error(a, ".", &err);
            dns_answer_free(&a);
        }
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

bool dns_mx(const char *domain, msec_t deadline, struct dns_mx *out, struct err *err)
{
    struct dns_answer *a = ask(domain, TYPE_MX, deadline, err);

    dns_answer_mx(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_tlsa(const char *name, msec_t deadline, struct dns_tlsa *out, struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_TLSA, deadline, err);

    dns_answer_tlsa(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_txt(const char *name, msec_t deadline, struct dns_texts *out, struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_TXT, deadline, err);

    dns_answer_texts(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_cname(const char *name, msec_t deadline, char target[256], enum dns_security *security,
               struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_CNAME, deadline, err);
    bool ok = is_answer(a->status);

    *target = '\0';
    *security = a->secure ? DNS_SECURE : DNS_INSECURE;
    if (a->status == DNS_OK &&
        (!a->n || !dns_wire_name(a->rdata[0].p, a->rdata[0].n, target, 256, NULL) || !*target)) {
        *target = '\0';
        ok = err_set(err, E_DNS, "%s: its alias is no host name", str_printable(name));
    }
    dns_answer_free(&a);
    return ok;
}

/* One family that answers is enough, and its security counts; the other one may fail, even its
 * denial (RFC 7672 section 2.2.2: what is bogus of one family does not spoil the other). */
static void merge_addresses(struct dns_answer *const a[2], struct dns_addrs *out)
{
    bool secure = true, found = false;
    const struct dns_answer *first = NULL, *failed = NULL;

    out->status = DNS_NODATA;
    for (int i = 0; i < 2; i++)
        found |= a[i] && a[i]->status == DNS_OK;
    for (int i = 0; i < 2; i++) {
        if (!a[i])
            continue;
        if (!is_answer(a[i]->status)) {
            failed = a[i];
            continue;
        }
        if (found && a[i]->status != DNS_OK)
            continue;
        if (a[i]->status == DNS_NXDOMAIN)
            out->status = DNS_NXDOMAIN;
        dns_answer_addresses(a[i], out);
        secure &= a[i]->secure;
        out->ttl = !first || a[i]->ttl < out->ttl ? a[i]->ttl : out->ttl;
        first = first ? first : a[i];
    }
    if (out->n)
        out->status = DNS_OK;
    else if (failed)
        out->status = failed->status;
    out->security = first && secure && is_answer(out->status) ? DNS_SECURE : DNS_INSECURE;
    if (first || failed)
        str_copy(out->canonical, sizeof(out->canonical), (first ? first : failed)->canonical);
}

bool dns_addresses(const char *host, bool v4, bool v6, msec_t deadline, struct dns_addrs *out,
                   struct err *err)
{
    static const int type[2] = {TYPE_A, TYPE_AAAA};
    struct query *q[2] = {NULL, NULL};
    struct dns_answer *a[2] = {NULL, NULL};

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < 2; i++)
        if (i ? v6 : v4) {
            debug_question(host, type[i]);
            q[i] = ask_begin(current_resolver(), host, type[i]); /* both at once */
        }
    for (int i = 0; i < 2; i++)
        if (q[i]) {
            a[i] = ask_end(&q[i], host, type[i], deadline);
            debug_answer(host, a[i]);
        }
    merge_addresses(a, out);
    for (int i = 0; i < 2; i++) {
        if (a[i] && !is_answer(out->status))
            set_error(a[i], host, err);
        dns_answer_free(&a[i]);
    }
    return is_answer(out->status);
}

bool dns_reverse(const struct addr *a, msec_t deadline, char *host, size_t size, bool *verified)
{
    struct dns_addrs back = {0};
    char name[80], *p = name;
    struct dns_answer *answer;
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
    answer = ask(name, TYPE_PTR, deadline, NULL);
    for (unsigned i = 0; i < answer->n && !found; i++)
        found = dns_wire_name(answer->rdata[i].p, answer->rdata[i].n, host, size, NULL) && *host;
    dns_answer_free(&answer);
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

void dns_tlsa_free(struct dns_tlsa *t)
{
    for (unsigned i = 0; i < t->n; i++)
        free(t->records[i].data);
    free(t->records);
    memset(t, 0, sizeof(*t));
}

void dns_texts_free(struct dns_texts *t)
{
    strlist_free(&t->texts);
    memset(t, 0, sizeof(*t));
}
