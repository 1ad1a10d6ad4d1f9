/* ldap_pool.c - see ldap_pool.h.
 *
 * Everything that changes lies under one mutex. A connection is in one place at a time: with the
 * fiber that uses it, among the idle ones of its host, or handed to a fiber that waits; in each of
 * them it counts in host.open. */
#include "daemon/ldap_pool.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/config_db.h"
#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/ldap_cache.h"
#include "daemon/tls.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/ssl.h"

#define IDLE_LASTS SECONDS(60)
#define TEND_EVERY SECONDS(2)
#define BACKOFF_FIRST SECONDS(1)
#define BACKOFF_MAX SECONDS(60)
#define FAIR_WAIT SECONDS(1) /* who had less time to answer is not down for being late */
#define TROUBLES 2 /* failed operations in a row, on connections that could be made: then it is down */

enum purpose { FOR_SEARCH, FOR_BIND, PURPOSES };

struct pooled { /* an idle connection */
    struct list node;
    struct ldap_client *client;
    msec_t since;
};

enum grant { GRANT_NONE, GRANT_CLIENT, GRANT_SLOT, GRANT_DOWN };
/* On the stack of the fiber that waits; in no list after it was granted something. */
struct waiter {
    struct list node;
    struct wait wait;
    enum purpose purpose;
    enum grant grant;
    struct ldap_client *client;
};

struct host {
    char *name, *host; /* "[2001:db8::1]:389", "2001:db8::1" */
    unsigned port;
    struct list idle[PURPOSES]; /* used last at the end */
    /* While anybody waits nothing is idle that could serve, and all are open. */
    struct list waiting;
    unsigned open, nwaiting;
    enum { UNKNOWN, UP, DOWN } state;
    char why[300];
    usec_t since; /* of the state */
    msec_t retry_at, backoff;
    bool probing;
    unsigned troubles;
    uint64_t queries;
    int64_t took; /* a moving average of its answers' times, microseconds */
};

struct ldap_pool {
    atomic_int refs;
    char *name, *base;
    unsigned char hash[32]; /* of the rows it was made of */
    struct ldap_access access;
    bool balance;
    msec_t connect_timeout, query_timeout;
    unsigned max;
    struct ldap_cache *cache;
    struct host *hosts;
    size_t n;
    atomic_uint turn[PURPOSES]; /* of balance */
    bool running; /* in the configuration: it may raise alerts, and keeps connections */
    usec_t down_since; /* 0: not all of its hosts are */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map running; /* name -> struct ldap_pool */

/* ---- making and ending ---- */

static void host_init(struct host *h, const struct ldap_server *s, const char *text)
{
    unsigned deflt = s->port ? (unsigned)s->port : s->security == LDAP_LDAPS ? 636 : 389;
    const char *colon = strrchr(text, ':');
    char name[ADDR_TEXT];
    struct addr a;

    if (addr_parse_port(text, deflt, &a)) {
        h->host = xstrdup(addr_text(&a, name));
        h->port = a.port;
        h->name = xstrdup(addr_text_port(&a, name));
    } else {
        h->host = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
        h->port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : deflt;
        h->name = xasprintf("%s:%u", h->host, h->port);
    }
    for (unsigned i = 0; i < PURPOSES; i++)
        list_init(&h->idle[i]);
    list_init(&h->waiting);
}

/* YIELDS */
static bool make_context(struct ldap_access *a, const struct config *cfg, struct err *err)
{
    const struct ldap_setup *setup = CONFIG_SINGLE(cfg, ldap_setup);
    const struct ssl_settings *ssl = CONFIG_SINGLE(cfg, ssl_settings);
    const struct row *r =
        *setup->certificate ? config_row(cfg, &section_certificate, setup->certificate) : NULL;
    AUTO(buf) struct buf chain = BUF_INIT(512 << 10), key = BUF_INIT(64 << 10);
    struct tls_settings settings = {.min_version = ssl_version(ssl->other_min)};
    bool ok = true;

    if (r) {
        ok = reload_open_profile(r, &chain, &key, err) ||
             err_wrap(err, "certificate profile \"%s\" of ldapconfig setup", r->name);
        settings.cert_pem = buf_str(&chain);
        settings.key_pem = buf_str(&key);
    }
    if (ok)
        a->tls = tls_context_new(&settings, err);
    if (key.p)
        OPENSSL_cleanse(key.p, key.cap);
    a->fqdn = ssl->peer_cert_fqdn;
    a->x509 = ssl->peer_cert_x509;
    return a->tls;
}

/* YIELDS */
static bool make_access(struct ldap_access *a, const struct config *cfg,
                        const struct ldap_server *s, struct err *err)
{
    const struct ldap_setup *setup = CONFIG_SINGLE(cfg, ldap_setup);
    struct buf plain = BUF_INIT(1024);
    bool ok = true;

    a->security = s->security;
    a->verify = s->verify;
    a->auth = s->auth;
    a->bind_dn = xstrdup(s->bind_dn);
    if (*setup->source_address)
        addr_parse(setup->source_address, &a->from);
    if (a->auth == LDAP_BIND_PASSWORD && *s->bind_password)
        ok = config_db_secret(s->bind_password, &plain, err) ||
             err_wrap(err, "opening the bind passphrase");
    a->bind_password = xstrdup(buf_str(&plain));
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    buf_free(&plain);
    return ok && (a->security == LDAP_CLEAR || make_context(a, cfg, err));
}

static void hash_of(const struct config *cfg, const struct row *server, unsigned char out[32])
{
    const struct ldap_setup *setup = CONFIG_SINGLE(cfg, ldap_setup);
    const struct row *rows[] = {
        server, config_row(cfg, &section_ldap_setup, "-"),
        config_row(cfg, &section_ssl_settings, "-"),
        *setup->certificate ? config_row(cfg, &section_certificate, setup->certificate) : NULL};
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        abort();
    for (size_t i = 0; i < countof(rows); i++)
        if (rows[i])
            EVP_DigestUpdate(md, rows[i]->hash, sizeof(rows[i]->hash));
    EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
}

struct ldap_pool *ldap_pool_new(const struct config *cfg, const char *server, struct err *err)
{
    const struct row *r = config_row(cfg, &section_ldap_server, server);
    const struct ldap_server *s = r ? r->data : NULL;
    struct ldap_pool *p;

    if (!r) {
        err_set(err, E_NOT_FOUND, "There is no LDAP server configuration \"%s\".",
                str_printable(server));
        return NULL;
    }
    p = xcalloc(1, sizeof(*p));
    atomic_init(&p->refs, 1);
    p->name = xstrdup(r->name);
    p->base = xstrdup(str_ieq(s->base, "NONE") ? "" : s->base);
    hash_of(cfg, r, p->hash);
    p->balance = s->order == LDAP_BALANCE;
    p->connect_timeout = SECONDS(s->connect_timeout);
    p->query_timeout = SECONDS(s->query_timeout);
    p->max = (unsigned)s->max_connections;
    p->cache = ldap_cache_new(s->cache_size, SECONDS(s->cache_ttl));
    p->n = s->hosts.n;
    p->hosts = xcalloc(p->n ? p->n : 1, sizeof(*p->hosts));
    for (size_t i = 0; i < p->n; i++)
        host_init(&p->hosts[i], s, s->hosts.items[i]);
    if (!make_access(&p->access, cfg, s, err)) { /* YIELDS */
        err_wrap(err, "LDAP server %s", p->name);
        ldap_pool_free(&p);
    }
    return p;
}

struct ldap_pool *ldap_pool_ref(struct ldap_pool *p)
{
    atomic_fetch_add(&p->refs, 1);
    return p;
}

static void close_all(struct list *l)
{
    list_each_safe (pos, l) {
        struct pooled *i = list_item(pos, struct pooled, node);

        list_remove(&i->node);
        ldap_close(&i->client);
        free(i);
    }
}

void ldap_pool_free(struct ldap_pool **pp)
{
    struct ldap_pool *p = *pp;

    *pp = NULL;
    if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    for (size_t i = 0; i < p->n; i++) {
        for (unsigned k = 0; k < PURPOSES; k++)
            close_all(&p->hosts[i].idle[k]);
        free(p->hosts[i].name);
        free(p->hosts[i].host);
    }
    free(p->hosts);
    tls_context_free(&p->access.tls);
    if (p->access.bind_password)
        OPENSSL_cleanse(p->access.bind_password, strlen(p->access.bind_password));
    free(p->access.bind_password);
    free(p->access.bind_dn);
    ldap_cache_free(&p->cache);
    free(p->name);
    free(p->base);
    free(p);
}

const char *ldap_pool_name(const struct ldap_pool *p)
{
    return p->name;
}

const char *ldap_pool_base(const struct ldap_pool *p)
{
    return p->base;
}

msec_t ldap_pool_patience(const struct ldap_pool *p)
{
    return p->query_timeout;
}

struct ldap_cache *ldap_pool_cache(struct ldap_pool *p)
{
    return p->cache;
}

size_t ldap_pool_hosts(const struct ldap_pool *p)
{
    return p->n;
}

const char *ldap_pool_host(const struct ldap_pool *p, size_t host)
{
    return p->hosts[host].name;
}

/* ---- what a host is worth ---- */

/* Under the lock. Those it had were made before, and those who wait would wait in vain. */
static void drop_idle(struct host *h, struct list *dead)
{
    for (unsigned i = 0; i < PURPOSES; i++) {
        list_each_safe (pos, &h->idle[i]) {
            list_remove(pos);
            list_add_tail(dead, pos);
            h->open--;
        }
    }
}

static void grant(struct host *h, struct waiter *w, enum grant what)
{
    list_remove(&w->node);
    h->nwaiting--;
    w->grant = what;
    wait_done(&w->wait); /* it takes the lock before it leaves */
}

static void set_state(struct host *h, int state, const char *why)
{
    if ((int)h->state != state)
        h->since = clock_wall();
    h->state = state;
    str_copy(h->why, sizeof(h->why), why);
}

static bool all_down(const struct ldap_pool *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->hosts[i].state != DOWN)
            return false;
    return true;
}

/* Under the lock. "HOST: why; HOST: why" */
static void reasons(const struct ldap_pool *p, struct buf *out)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->hosts[i].state == DOWN)
            buf_printf(out, "%s%s: %s", out->n ? "; " : "", p->hosts[i].name, p->hosts[i].why);
}

static void tell_down(const struct ldap_pool *p, const char *why)
{
    char key[80];

    snprintf(key, sizeof(key), "ldap-down %s", p->name);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                "LDAP: no host of the server configuration %s can be used: %s. Users cannot prove "
                "who they are until one of them answers; they are told to try again later.",
                p->name, why);
}

static void tell_up(const struct ldap_pool *p, const struct host *h, usec_t down_since)
{
    char key[80], lasted[40];

    snprintf(key, sizeof(key), "ldap-up %s", p->name);
    clock_duration((clock_wall() - down_since) / 1000000, lasted);
    alert_raise(ALERT_SYSTEM, ALERT_INFO, key,
                "LDAP: the server configuration %s can be used again (%s), after %s.", p->name,
                h->name, lasted);
}

static void note_down(struct ldap_pool *p, struct host *h, const char *why)
{
    AUTO(buf) struct buf text = BUF_INIT(4000);
    bool news = false, alert = false;
    struct list dead;

    list_init(&dead);
    pthread_mutex_lock(&lock);
    if (h->state == DOWN && !h->probing) { /* one of several that found out at once */
        pthread_mutex_unlock(&lock);
        return;
    }
    if (p->running) {
        news = h->state != DOWN;
        alert = !p->down_since;
    }
    set_state(h, DOWN, why);
    h->backoff = h->backoff ? 2 * h->backoff : BACKOFF_FIRST;
    if (h->backoff > BACKOFF_MAX)
        h->backoff = BACKOFF_MAX;
    h->retry_at = clock_in(h->backoff);
    while (!list_empty(&h->waiting))
        grant(h, list_item(h->waiting.next, struct waiter, node), GRANT_DOWN);
    drop_idle(h, &dead);
    alert = alert && all_down(p);
    if (alert) {
        p->down_since = clock_wall();
        reasons(p, &text);
    }
    pthread_mutex_unlock(&lock);
    close_all(&dead);
    if (news)
        log_warning("ldap: server %s: host %s is not used: %s", p->name, h->name, why);
    if (alert)
        tell_down(p, buf_str(&text));
}

/* It has answered, after msec. */
static void note_answer(struct ldap_pool *p, struct host *h, msec_t msec)
{
    usec_t down_since = 0;
    bool news;

    pthread_mutex_lock(&lock);
    news = p->running && h->state == DOWN;
    set_state(h, UP, "");
    h->backoff = 0;
    h->troubles = 0;
    h->queries++;
    h->took = h->queries > 1 ? (h->took * 7 + msec * 1000) / 8 : msec * 1000;
    if (p->running) {
        down_since = p->down_since;
        p->down_since = 0;
    }
    pthread_mutex_unlock(&lock);
    if (news)
        log_info("ldap: server %s: host %s is back", p->name, h->name);
    if (down_since)
        tell_up(p, h, down_since);
}

/* An operation on a good connection came to nothing. */
static void note_trouble(struct ldap_pool *p, struct host *h, const char *why)
{
    bool down;

    pthread_mutex_lock(&lock);
    down = ++h->troubles >= TROUBLES;
    pthread_mutex_unlock(&lock);
    if (down)
        note_down(p, h, why);
}

/* ---- connections ---- */

/* YIELDS. Opens a connection that is counted already; one that fails is no longer. */
static struct ldap_client *connect_counted(struct ldap_pool *p, struct host *h,
                                           enum purpose purpose, msec_t deadline, struct err *err);

/* Takes a connection back. keep: it can be used again. */
static void give_back(struct ldap_pool *p, struct host *h, enum purpose purpose,
                      struct ldap_client *c, bool keep)
{
    struct waiter *w = NULL;

    if (c && keep)
        conn_detach(c->conn);
    pthread_mutex_lock(&lock);
    keep = c && keep && p->running && h->state != DOWN;
    if (!list_empty(&h->waiting))
        w = list_item(h->waiting.next, struct waiter, node);
    if (w && keep && w->purpose == purpose) {
        w->client = c;
        c = NULL;
        grant(h, w, GRANT_CLIENT);
    } else if (w) {
        grant(h, w, GRANT_SLOT);
    } else if (keep) {
        struct pooled *i = xcalloc(1, sizeof(*i));

        i->client = c;
        i->since = clock_now();
        list_add_tail(&h->idle[purpose], &i->node);
        c = NULL;
    } else {
        h->open--;
    }
    pthread_mutex_unlock(&lock);
    ldap_close(&c);
}

/* Under the lock. An idle connection, the one used last; those that cannot be used go to dead. */
static struct ldap_client *take_idle(struct host *h, enum purpose purpose, struct list *dead)
{
    while (!list_empty(&h->idle[purpose])) {
        struct pooled *i = list_item(h->idle[purpose].prev, struct pooled, node);
        struct ldap_client *c = i->client;

        list_remove(&i->node);
        if (ldap_is_usable(c)) {
            free(i);
            return c;
        }
        list_add_tail(dead, &i->node);
        h->open--;
    }
    return NULL;
}

/* Under the lock. Makes room for one more connection, if need be at the cost of the idle one that
 * was used the longest time ago. */
static bool take_slot(struct ldap_pool *p, struct host *h, struct list *dead)
{
    for (unsigned i = 0; i < PURPOSES && h->open >= p->max; i++) {
        struct list *oldest = h->idle[i].next;

        if (list_empty(&h->idle[i]))
            continue;
        list_remove(oldest);
        list_add_tail(dead, oldest);
        h->open--;
    }
    if (h->open >= p->max)
        return false;
    h->open++;
    return true;
}

/* YIELDS. With the lock held, which is given up. */
static enum grant wait_in_line(struct ldap_pool *p, struct host *h, struct waiter *w,
                               msec_t deadline, struct err *err)
{
    wait_init(&w->wait);
    list_add_tail(&h->waiting, &w->node);
    h->nwaiting++;
    pthread_mutex_unlock(&lock);
    wait_until(&w->wait, deadline, "a connection to an LDAP server");
    pthread_mutex_lock(&lock);
    if (w->grant == GRANT_NONE) {
        list_remove(&w->node);
        h->nwaiting--;
        err_set(err, fiber_interrupted() ? E_CLOSED : E_TIMEOUT,
                fiber_interrupted() ? "shutting down" : "all %u connections to it are busy",
                p->max);
    } else if (w->grant == GRANT_DOWN) {
        err_set(err, E_NET, "%s", h->why);
    }
    pthread_mutex_unlock(&lock);
    return w->grant;
}

struct lease { /* a connection in use */
    struct ldap_pool *pool;
    struct host *host;
    enum purpose purpose;
    struct ldap_client *client;
    bool reused; /* it may have died while nobody looked */
};

/* YIELDS */
static bool lease(struct lease *l, bool fresh, msec_t deadline, struct err *err)
{
    struct waiter w = {.purpose = l->purpose};
    struct host *h = l->host;
    enum grant got = GRANT_NONE;
    struct list dead;

    list_init(&dead);
    pthread_mutex_lock(&lock);
    if (!fresh)
        w.client = take_idle(h, l->purpose, &dead);
    if (w.client)
        got = GRANT_CLIENT;
    else if (list_empty(&h->waiting) && take_slot(l->pool, h, &dead))
        got = GRANT_SLOT;
    if (got != GRANT_NONE)
        pthread_mutex_unlock(&lock);
    else
        got = wait_in_line(l->pool, h, &w, deadline, err);
    close_all(&dead);
    l->client = w.client;
    l->reused = w.client;
    if (got == GRANT_SLOT)
        l->client = connect_counted(l->pool, h, l->purpose, deadline, err);
    return l->client;
}

static struct ldap_client *connect_counted(struct ldap_pool *p, struct host *h,
                                           enum purpose purpose, msec_t deadline, struct err *err)
{
    msec_t began = clock_now(), until = clock_in(p->connect_timeout);
    struct ldap_client *c;

    if (deadline < until)
        until = deadline;
    c = ldap_open(&p->access, h->host, h->port, until, err);
    if (c && purpose == FOR_SEARCH && !ldap_bind_service(c, &p->access, until, err))
        ldap_close(&c);
    if (c)
        return c;
    if (!fiber_interrupted() && (err->code != E_TIMEOUT || clock_now() - began >= FAIR_WAIT))
        note_down(p, h, err->text);
    give_back(p, h, purpose, NULL, false);
    return NULL;
}

/* ---- questions ---- */

struct question { /* one of the two */
    const struct ldap_search *search;
    struct ldap_found *found;
    const char *dn, *password;
    struct ldap_result *result;
};

/* YIELDS */
static bool put_question(const struct question *q, struct ldap_client *c, msec_t deadline,
                         struct err *err)
{
    if (!q->search)
        return ldap_bind_user(c, q->dn, q->password, deadline, q->result, err);
    if (ldap_ask(c, q->search, deadline, q->found, err))
        return true;
    ldap_found_free(q->found);
    return false;
}

/* The server is not able to answer now, whatever the question. */
static bool is_unwell(int code)
{
    return code == LDAP_R_BUSY || code == LDAP_R_UNAVAILABLE || code == LDAP_R_OPERATIONS_ERROR ||
           code == LDAP_R_OTHER;
}

static bool is_well(const struct question *q, struct err *err)
{
    const struct ldap_result *r = q->search ? &q->found->result : q->result;
    char text[300];

    if (!is_unwell(r->code))
        return true;
    ldap_result_print(r, text);
    if (q->search)
        ldap_found_free(q->found);
    return err_set(err, E_BUSY, "%s", text);
}

/* YIELDS. One host. */
static bool ask_host(struct ldap_pool *p, struct host *h, const struct question *q, msec_t deadline,
                     struct err *err)
{
    struct lease l = {.pool = p, .host = h, .purpose = q->search ? FOR_SEARCH : FOR_BIND};
    bool answered = false, again;
    msec_t began = 0;

    do {
        if (!lease(&l, l.reused, deadline, err))
            return false;
        began = clock_now();
        answered = put_question(q, l.client, deadline, err);
        again = !answered && l.reused && (err->code == E_CLOSED || err->code == E_NET) &&
                !fiber_interrupted();
        if (!answered)
            give_back(p, h, l.purpose, l.client, false);
    } while (again);
    if (answered && is_well(q, err)) {
        note_answer(p, h, clock_now() - began);
        give_back(p, h, l.purpose, l.client, true);
        return true;
    }
    if (answered)
        give_back(p, h, l.purpose, l.client, false);
    if (!fiber_interrupted() && err->code != E_LIMIT &&
        (err->code != E_TIMEOUT || clock_now() - began >= FAIR_WAIT))
        note_trouble(p, h, err->text);
    return false;
}

/* How many of the hosts from the i-th in turn on are up, or have not been tried yet? 0: the i-th is
 * down. */
static size_t open_from(struct ldap_pool *p, size_t first, size_t i)
{
    size_t n = 0;

    pthread_mutex_lock(&lock);
    for (size_t k = i; k < p->n && (k == i || n); k++)
        n += p->hosts[(first + k) % p->n].state != DOWN;
    pthread_mutex_unlock(&lock);
    return n;
}

/* One at a time, when it is due. */
static bool may_probe(struct host *h)
{
    bool may;

    pthread_mutex_lock(&lock);
    may = h->state == DOWN && !h->probing && clock_now() >= h->retry_at;
    h->probing = h->probing || may;
    pthread_mutex_unlock(&lock);
    return may;
}

static void probed(struct host *h)
{
    pthread_mutex_lock(&lock);
    h->probing = false;
    pthread_mutex_unlock(&lock);
}

/* What is said of all hosts together: of those that were asked, else why nobody was. */
static bool none_answers(struct ldap_pool *p, struct buf *whys, struct err *err)
{
    if (!whys->n) {
        pthread_mutex_lock(&lock);
        reasons(p, whys);
        pthread_mutex_unlock(&lock);
    }
    return err_set(err, err->code ? err->code : E_NET, "LDAP server %s: %s", p->name,
                   whys->n ? buf_str(whys) : "there was no time to ask");
}

/* YIELDS. First those that are not down, in turn, each with its share of the time. */
static bool ask_open(struct ldap_pool *p, size_t first, const struct question *q, msec_t deadline,
                     struct buf *whys, struct err *err)
{
    for (size_t i = 0; i < p->n && clock_now() < deadline && !fiber_stopping(); i++) {
        struct host *h = &p->hosts[(first + i) % p->n];
        size_t left = open_from(p, first, i);
        msec_t now = clock_now();

        if (!left)
            continue;
        if (ask_host(p, h, q, now + (deadline - now) / (msec_t)left, err))
            return true;
        buf_printf(whys, "%s%s: %s", whys->n ? "; " : "", h->name, err->text);
    }
    return false;
}

/* YIELDS. Then those that are, when they are due and nobody else is trying them. */
static bool ask_down(struct ldap_pool *p, size_t first, const struct question *q, msec_t deadline,
                     struct buf *whys, struct err *err)
{
    for (size_t i = 0; i < p->n && clock_now() < deadline && !fiber_stopping(); i++) {
        struct host *h = &p->hosts[(first + i) % p->n];
        bool ok;

        if (!may_probe(h))
            continue;
        ok = ask_host(p, h, q, deadline, err);
        probed(h);
        if (ok)
            return true;
        buf_printf(whys, "%s%s: %s", whys->n ? "; " : "", h->name, err->text);
    }
    return false;
}

/* YIELDS */
static bool ask(struct ldap_pool *p, int only, const struct question *q, msec_t deadline,
                struct err *err)
{
    AUTO(buf) struct buf whys = BUF_INIT(400);
    atomic_uint *turn = &p->turn[q->search ? FOR_SEARCH : FOR_BIND];
    size_t first = p->balance && p->n ? atomic_fetch_add(turn, 1) % p->n : 0;
    struct err why = {0};

    if (only >= 0)
        return ask_host(p, &p->hosts[only], q, deadline, err);
    if (ask_open(p, first, q, deadline, &whys, &why) ||
        ask_down(p, first, q, deadline, &whys, &why))
        return true;
    err->code = why.code;
    return none_answers(p, &whys, err);
}

bool ldap_pool_search(struct ldap_pool *p, int host, const struct ldap_search *s, msec_t deadline,
                      struct ldap_found *out, struct err *err)
{
    struct question q = {.search = s, .found = out};

    memset(out, 0, sizeof(*out));
    return ask(p, host, &q, deadline, err);
}

bool ldap_pool_bind(struct ldap_pool *p, int host, const char *dn, const char *password,
                    msec_t deadline, struct ldap_result *out, struct err *err)
{
    struct question q = {.dn = dn, .password = password, .result = out};

    memset(out, 0, sizeof(*out));
    return ask(p, host, &q, deadline, err);
}

bool ldap_pool_try(struct ldap_pool *p, size_t host, struct err *err)
{
    struct host *h = &p->hosts[host];
    msec_t until = clock_in(p->connect_timeout);
    struct ldap_client *c = ldap_open(&p->access, h->host, h->port, until, err);
    bool ok = c && ldap_bind_service(c, &p->access, until, err);

    ldap_close(&c);
    return ok;
}

/* ---- tending ---- */

struct probe {
    struct ldap_pool *pool;
    struct host *host;
};

/* YIELDS. A connection as for a search, which is kept. */
static void probe(void *arg)
{
    struct probe *job = arg;
    struct ldap_pool *p = job->pool;
    struct host *h = job->host;
    msec_t began = clock_now();
    struct err err = {0};
    struct lease l = {.pool = p, .host = h, .purpose = FOR_SEARCH};

    if (lease(&l, true, clock_in(p->connect_timeout), &err)) {
        note_answer(p, h, clock_now() - began);
        give_back(p, h, FOR_SEARCH, l.client, true);
    }
    probed(h);
    ldap_pool_free(&job->pool);
    free(job);
}

static void probe_host(struct ldap_pool *p, struct host *h)
{
    struct probe *job;

    if (!may_probe(h))
        return;
    job = xcalloc(1, sizeof(*job));
    job->pool = ldap_pool_ref(p);
    job->host = h;
    if (!loop_self() || !fiber_spawn(loop_self(), "ldap probe", probe, job))
        probe(job);
}

static void close_old(struct host *h)
{
    struct list dead;

    list_init(&dead);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < PURPOSES; i++) {
        list_each_safe (pos, &h->idle[i]) {
            if (clock_now() - list_item(pos, struct pooled, node)->since < IDLE_LASTS)
                break; /* those behind it were used later */
            list_remove(pos);
            list_add_tail(&dead, pos);
            h->open--;
        }
    }
    pthread_mutex_unlock(&lock);
    close_all(&dead);
}

/* References to all that run; the caller frees them and the array. */
static struct ldap_pool **all_running(size_t *n)
{
    struct ldap_pool **all;
    const char *name;
    size_t pos = 0;
    void *value;

    *n = 0;
    pthread_mutex_lock(&lock);
    all = xcalloc(running.n + 1, sizeof(*all));
    while (map_next(&running, &pos, &name, &value))
        all[(*n)++] = ldap_pool_ref(value);
    pthread_mutex_unlock(&lock);
    return all;
}

void ldap_pools_tend(void)
{
    size_t n;
    struct ldap_pool **all = all_running(&n);

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < all[i]->n; k++) {
            close_old(&all[i]->hosts[k]);
            probe_host(all[i], &all[i]->hosts[k]);
        }
        ldap_pool_free(&all[i]);
    }
    free(all);
}

static void tend_for_ever(void *unused)
{
    (void)unused;
    while (fiber_sleep(TEND_EVERY) && !fiber_stopping())
        ldap_pools_tend();
}

void ldap_pools_run(void)
{
    if (!fiber_spawn(loops_get(0), "ldap", tend_for_ever, NULL))
        log_critical("ldap: hosts that are down are not tried again: too many sessions");
}

/* ---- with the configuration ---- */

struct ldap_pool *running_ldap_pool(const char *server)
{
    struct ldap_pool *p;

    pthread_mutex_lock(&lock);
    p = map_get(&running, server);
    if (p)
        ldap_pool_ref(p);
    pthread_mutex_unlock(&lock);
    return p;
}

struct prepared {
    size_t n;
    struct ldap_pool *pools[];
};

static void discard(void *state)
{
    struct prepared *s = state;

    for (size_t i = 0; i < s->n; i++)
        ldap_pool_free(&s->pools[i]);
    free(s);
}

/* The running one when nothing that it was made of differs: its connections and answers stay. */
static struct ldap_pool *same_as_running(const struct config *cfg, const struct row *r)
{
    struct ldap_pool *p = running_ldap_pool(r->name);
    unsigned char hash[32];

    hash_of(cfg, r, hash);
    if (p && memcmp(p->hash, hash, sizeof(hash)) != 0)
        ldap_pool_free(&p);
    return p;
}

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    size_t n = config_count(cfg, &section_ldap_server);
    struct prepared *s = xcalloc(1, sizeof(*s) + n * sizeof(struct ldap_pool *));

    (void)old;
    for (size_t i = 0; i < n; i++) {
        const struct row *r = config_at(cfg, &section_ldap_server, i);
        struct ldap_pool *p = same_as_running(cfg, r);

        if (!p)
            p = ldap_pool_new(cfg, r->name, err); /* YIELDS */
        if (!p) {
            discard(s);
            return false;
        }
        s->pools[s->n++] = p;
    }
    *state = s;
    return true;
}

/* Queries that run keep it to their end; nothing new finds it. */
static void retire(struct ldap_pool *p)
{
    struct list dead;

    list_init(&dead);
    pthread_mutex_lock(&lock);
    p->running = false;
    for (size_t i = 0; i < p->n; i++)
        drop_idle(&p->hosts[i], &dead);
    pthread_mutex_unlock(&lock);
    close_all(&dead);
    ldap_pool_free(&p);
}

static void publish(void *state, const struct config *cfg)
{
    struct prepared *s = state;
    struct map old;
    const char *name;
    size_t pos = 0;
    void *value;

    (void)cfg;
    pthread_mutex_lock(&lock);
    old = running;
    running = (struct map){0};
    for (size_t i = 0; i < s->n; i++) {
        s->pools[i]->running = true;
        map_set(&running, s->pools[i]->name, s->pools[i]);
    }
    pthread_mutex_unlock(&lock);
    while (map_next(&old, &pos, &name, &value)) {
        struct ldap_pool *p = value;

        if (map_get(&running, name) == p)
            ldap_pool_free(&p); /* the new map has a reference of its own */
        else
            retire(p);
    }
    map_free(&old);
    free(s);
}

const struct reload_part reload_ldap = {"directories", prepare, publish, discard};

void ldap_pools_stop(void)
{
    const char *name;
    size_t pos = 0;
    void *value;

    while (map_next(&running, &pos, &name, &value))
        retire(value);
    map_free(&running);
}

/* ---- status ---- */

/* Under the lock. */
static json_t *describe_host(const struct host *h)
{
    static const char *const states[] = {[UNKNOWN] = "unknown", [UP] = "up", [DOWN] = "down"};
    json_t *o = json_object();
    char date[40];

    json_put_str(o, "host", h->name);
    json_put_str(o, "state", states[h->state]);
    json_put_str(o, "why", h->why);
    json_put_str(o, "since", h->since ? clock_rfc3339(h->since, date) : "");
    json_put_int(o, "connections", h->open);
    json_put_int(o, "waiting", h->nwaiting);
    json_put_int(o, "queries", (json_int_t)h->queries);
    json_put_int(o, "msec", (json_int_t)(h->took + 500) / 1000);
    return o;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(struct ldap_pool *const *)a)->name, (*(struct ldap_pool *const *)b)->name);
}

json_t *ldap_pools_status(void)
{
    json_t *list = json_array();
    size_t n;
    struct ldap_pool **all = all_running(&n);

    qsort(all, n, sizeof(*all), compare_names);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_object(), *cache = json_object(), *hosts = json_array();

        json_put_int(cache, "entries", (json_int_t)ldap_cache_count(all[i]->cache));
        json_put_int(cache, "max", (json_int_t)ldap_cache_max(all[i]->cache));
        pthread_mutex_lock(&lock);
        for (size_t k = 0; k < all[i]->n; k++)
            json_array_append_new(hosts, describe_host(&all[i]->hosts[k]));
        pthread_mutex_unlock(&lock);
        json_put_str(o, "name", all[i]->name);
        json_put(o, "cache", cache);
        json_put(o, "hosts", hosts);
        json_array_append_new(list, o);
        ldap_pool_free(&all[i]);
    }
    free(all);
    return list;
}

long ldap_pools_flush(const char *server)
{
    bool found = !server;
    long flushed = 0;
    size_t n;
    struct ldap_pool **all = all_running(&n);

    for (size_t i = 0; i < n; i++) {
        if (!server || str_eq(all[i]->name, server)) {
            flushed += (long)ldap_cache_flush(all[i]->cache);
            found = true;
        }
        ldap_pool_free(&all[i]);
    }
    free(all);
    return found ? flushed : -1;
}
