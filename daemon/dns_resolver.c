/* dns_resolver.c - see dns_resolver.h. The thread of a resolver only wakes the fibers that asked.
 */
#include "daemon/dns_resolver.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/worker.h"
#include "store/base/log.h"

struct resolver {
    atomic_int refs;
    struct ub_ctx *ctx;
    int end_fd; /* readable: the last reference is gone */
    bool validates;
    pthread_t thread;
};

/* Shared by the fiber that waits and the callback that answers: one reference each, for either may
 * leave first. */
struct query {
    atomic_int refs;
    struct wait wait;
    struct resolver *resolver;
    struct ub_result *result;
    int rc, type;
    char name[256];
};

static atomic_int running; /* threads */

/* --- plans --- */

static void add_servers(struct buf *out, const char *word, const struct strlist *servers)
{
    for (size_t i = 0; i < servers->n; i++)
        buf_printf(out, "  %s: %s\n", word, servers->items[i]);
}

static unsigned at_least(unsigned n, unsigned least)
{
    return n < least ? least : n;
}

void dns_plan_text(const struct dns_plan *p, struct buf *out)
{
    buf_printf(out,
               "server:\n"
               "  module-config: \"%siterator\"\n"
               "  do-not-query-localhost: no\n" /* a resolver on this machine is usual */
               "  unblock-lan-zones: yes\n" /* reverse names of private networks exist inside */
               "  insecure-lan-zones: yes\n"
               "  outgoing-range: 256\n"
               "  outgoing-num-tcp: 32\n"
               "  cache-min-ttl: %u\n"
               "  cache-max-ttl: %u\n"
               "  msg-cache-size: %um\n"
               "  rrset-cache-size: %um\n",
               p->validate ? "validator " : "", p->min_ttl, p->max_ttl,
               at_least(p->cache_mib / 4, 1), at_least(p->cache_mib / 2, 1));
    if (p->validate) {
        if (*p->root_key)
            buf_printf(out, "  auto-trust-anchor-file: \"%s\"\n", p->root_key);
        for (size_t i = 0; i < p->anchors.n; i++)
            buf_printf(out, "  trust-anchor: \"%s\"\n", p->anchors.items[i]);
        for (size_t i = 0; i < p->untrusted.n; i++)
            buf_printf(out, "  domain-insecure: \"%s\"\n", p->untrusted.items[i]);
    }
    for (unsigned i = 0; i < p->nzones; i++) {
        const struct dns_zone *z = &p->zones[i];

        buf_printf(out, "%s:\n  name: \"%s\"\n", z->cache ? "forward-zone" : "stub-zone", z->name);
        add_servers(out, z->cache ? "forward-addr" : "stub-addr", &z->servers);
    }
    if (p->servers.n) {
        buf_str_add(out, "forward-zone:\n  name: \".\"\n");
        add_servers(out, "forward-addr", &p->servers);
    }
}

void dns_plan_free(struct dns_plan *p)
{
    strlist_free(&p->servers);
    for (unsigned i = 0; i < p->nzones; i++) {
        free(p->zones[i].name);
        strlist_free(&p->zones[i].servers);
    }
    free(p->zones);
    strlist_free(&p->anchors);
    strlist_free(&p->untrusted);
    memset(p, 0, sizeof(*p));
}

/* --- resolvers --- */

static void *resolver_thread(void *arg)
{
    struct resolver *r = arg;
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
    ub_ctx_delete(r->ctx);
    close(r->end_fd);
    free(r);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

struct resolver *resolver_ref(struct resolver *r)
{
    if (r)
        atomic_fetch_add(&r->refs, 1);
    return r;
}

void resolver_free(struct resolver **rp)
{
    struct resolver *r = *rp;
    uint64_t one = 1;

    *rp = NULL;
    if (r && atomic_fetch_sub(&r->refs, 1) == 1 && write(r->end_fd, &one, sizeof(one)) < 0)
        log_critical("dns: cannot end a resolver"); /* an eventfd takes a 1 always */
}

struct making {
    struct ub_ctx *ctx;
    const struct dns_plan *plan;
};

/* The library's parser is not made for two threads at once. */
static pthread_mutex_t parser = PTHREAD_MUTEX_INITIALIZER;

static bool read_plan(const struct making *m, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(4u << 20);
    int fd = memfd_create("dns", MFD_CLOEXEC), rc = UB_READFILE;
    char path[40];

    dns_plan_text(m->plan, &text);
    if (fd >= 0 && !text.full && write(fd, buf_str(&text), text.n) == (ssize_t)text.n) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        pthread_mutex_lock(&parser);
        rc = ub_ctx_config(m->ctx, path);
        pthread_mutex_unlock(&parser);
    }
    if (fd >= 0)
        close(fd);
    return !rc || err_set(err, E_INVALID, "the resolver's settings: %s", ub_strerror(rc));
}

/* The library reads files and builds tables when it is first asked, on the stack of who asks: more
 * than a fiber has. */
static bool make_context(void *arg, struct err *err)
{
    struct making *m = arg;
    struct ub_result *result = NULL;
    int rc;

    m->ctx = ub_ctx_create();
    if (!m->ctx)
        return err_set(err, E_DNS, "the resolver cannot be made");
    if (!read_plan(m, err))
        return false;
    ub_ctx_hosts(m->ctx, NULL); /* a missing file means no names */
    ub_ctx_async(m->ctx, 1); /* a thread, not a process */
    rc = ub_resolve(m->ctx, "localhost", TYPE_A, 1, &result); /* answered by the library itself */
    if (result)
        ub_resolve_free(result);
    return !rc || err_set(err, E_INVALID, "the resolver does not start with these settings: %s",
                          ub_strerror(rc));
}

struct resolver *resolver_new(const struct dns_plan *p, struct err *err)
{
    struct resolver *r = xcalloc(1, sizeof(*r));
    struct making m = {NULL, p};

    r->refs = 1;
    r->validates = p->all;
    r->end_fd = eventfd(0, EFD_CLOEXEC);
    if (r->end_fd < 0) {
        err_errno(err, errno, "making a resolver");
        goto fail;
    }
    if (!worker_call(make_context, &m, err)) /* YIELDS */
        goto fail;
    r->ctx = m.ctx;
    atomic_fetch_add(&running, 1);
    if (pthread_create(&r->thread, NULL, resolver_thread, r)) {
        atomic_fetch_sub(&running, 1);
        err_set(err, E_DNS, "no thread for the resolver");
        goto fail;
    }
    pthread_detach(r->thread);
    return r;

fail:
    if (m.ctx)
        ub_ctx_delete(m.ctx);
    if (r->end_fd >= 0)
        close(r->end_fd);
    free(r);
    return NULL;
}

void resolvers_wait(void)
{
    for (int i = 0; i < 200 && atomic_load(&running); i++)
        poll(NULL, 0, 10);
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

static struct dns_answer *failure(const struct query *q, enum dns_status status, const char *why)
{
    struct dns_answer *a = dns_answer_new(q->name, NULL, q->type, status, NULL, 0);

    str_copy(a->why, sizeof(a->why), str_printable(why));
    return a;
}

static struct dns_answer *answer_of(const struct query *q)
{
    const struct ub_result *r = q->result;
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
        return failure(q, status, r->why_bogus ? r->why_bogus : "validation failed");
    if (status == DNS_SERVFAIL) {
        snprintf(why, sizeof(why), "the name server failed (%s)", dns_rcode_name(r->rcode));
        a = failure(q, status, why);
        a->rcode = r->rcode;
        return a;
    }
    while (status == DNS_OK && r->data[n] && n < DNS_MAX_RECORDS)
        n++;
    rdata = xcalloc(n + 1, sizeof(*rdata));
    for (size_t i = 0; i < n; i++)
        rdata[i] = (struct dns_rdata){(const unsigned char *)r->data[i], (size_t)r->len[i]};
    a = dns_answer_new(q->name, r->canonname, q->type, status, rdata, n);
    free(rdata);
    a->secure = r->secure;
    a->unvalidated = !q->resolver->validates;
    a->rcode = r->rcode;
    a->ttl = r->ttl > 0 ? (unsigned)r->ttl : 0;
    return a;
}

struct query *query_begin(struct resolver *r, const char *name, int type)
{
    struct query *q = xcalloc(1, sizeof(*q));
    int rc = UB_INITFAIL;

    q->refs = 2;
    q->resolver = r;
    q->type = type;
    str_copy(q->name, sizeof(q->name), name);
    wait_init(&q->wait);
    if (r)
        rc = ub_resolve_async(r->ctx, name, type, 1, q, on_answer, NULL);
    if (rc)
        on_answer(q, rc, NULL); /* the library never will */
    return q;
}

bool query_wait(struct query *q, msec_t deadline)
{
    return wait_until(&q->wait, deadline, "DNS");
}

void query_drop(struct query **q)
{
    query_unref(q);
}

struct dns_answer *query_end(struct query **qp, msec_t deadline)
{
    struct query *q = *qp;
    struct dns_answer *a;

    if (!wait_until(&q->wait, deadline, "DNS"))
        a = failure(q, DNS_TIMEOUT, "no answer in time");
    else if (q->rc == UB_SYNTAX) /* a label or the name is too long: nobody can have it */
        a = dns_answer_new(q->name, NULL, q->type, DNS_NXDOMAIN, NULL, 0);
    else if (q->rc || !q->result)
        a = failure(q, DNS_SERVFAIL,
                    q->resolver ? ub_strerror(q->rc) : "the resolver is not running");
    else
        a = answer_of(q);
    query_unref(qp);
    return a;
}
