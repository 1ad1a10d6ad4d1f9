/* smtp_pool.c - see smtp_pool.h. */
#include "daemon/smtp_pool.h"

#include <inttypes.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/conn.h"
#include "daemon/hosts.h"
#include "daemon/loop.h"
#include "daemon/queue_run.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define MAX_SESSIONS 10000u
#define SESSION_KEY 520
#define SESSION_LASTS 3600 /* seconds */

static struct {
    pthread_mutex_t lock;
    struct lent *lent;
    struct map sessions; /* SSL_SESSION by "host/address:port" */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

void pool_lend(struct lent *l, struct client *c, struct waiting *w)
{
    l->client = c;
    l->waiting = w;
    l->loop = loop_index(loop_self());
    pthread_mutex_lock(&pool.lock);
    l->next = pool.lent;
    l->place = &pool.lent;
    if (l->next)
        l->next->place = &l->next;
    pool.lent = l;
    pthread_mutex_unlock(&pool.lock);
}

static void unlink_lent(struct lent *l)
{
    *l->place = l->next;
    if (l->next)
        l->next->place = l->place;
}

struct client *pool_back(struct lent *l)
{
    struct client *c;

    pthread_mutex_lock(&pool.lock);
    c = l->client;
    if (c)
        unlink_lent(l);
    pthread_mutex_unlock(&pool.lock);
    return c;
}

struct client *pool_take(const struct addr *to, const struct tls_need *need, const char *identity)
{
    unsigned loop = loop_index(loop_self());
    struct client *c = NULL;

    pthread_mutex_lock(&pool.lock);
    for (struct lent *l = pool.lent; l && !c; l = l->next) {
        if (l->loop != loop || !addr_eq(&l->client->peer, to) || l->client->peer.port != to->port ||
            !tls_serves(&l->client->proof, need) || !str_eq(l->client->identity, identity))
            continue;
        c = l->client;
        l->client = NULL;
        unlink_lent(l);
        queue_wake(l->waiting); /* under the lock: the lender cannot leave before pool_back */
    }
    pthread_mutex_unlock(&pool.lock);
    return c;
}

/* Whatever a session was checked against is in its key: one that was verified otherwise, or not at
 * all, is never found. */
static void session_key(const char *host, const struct addr *to, unsigned checks, uint64_t config,
                        unsigned char keys[TLS_CHECKS][TLS_KEY], char *key, size_t size)
{
    char text[ADDR_TEXT];
    size_t n = (size_t)snprintf(key, size, "%s/%s/%" PRIx64 "/%x", host, addr_text_port(to, text),
                                config, checks);

    for (unsigned i = 0; i < TLS_CHECKS; i++)
        for (unsigned k = 0; checks & 1U << i && k < TLS_KEY && n < size; k++)
            n += (size_t)snprintf(key + n, size - n, "%02x", keys[i][k]);
}

/* What was verified is looked at again now and then, whatever the peer's tickets say. */
static bool is_old(SSL_SESSION *s)
{
    return time(NULL) - (time_t)SSL_SESSION_get_time(s) >= SESSION_LASTS;
}

static void make_room(void)
{
    const char *key;
    size_t pos = 0;
    void *s;

    while (map_next(&pool.sessions, &pos, &key, &s))
        if (is_old(s))
            SSL_SESSION_free(map_remove(&pool.sessions, key));
}

struct ssl_session_st *pool_session(const char *host, const struct addr *to, unsigned checks,
                                    uint64_t config, const struct tls_need *need)
{
    struct tls_need copy = *need;
    char key[SESSION_KEY];
    SSL_SESSION *s;

    session_key(host, to, checks, config, copy.keys, key, sizeof(key));
    pthread_mutex_lock(&pool.lock);
    s = map_get(&pool.sessions, key);
    if (s && is_old(s)) {
        SSL_SESSION_free(map_remove(&pool.sessions, key));
        s = NULL;
    }
    if (s)
        SSL_SESSION_up_ref(s);
    pthread_mutex_unlock(&pool.lock);
    return s;
}

void pool_keep_session(struct client *c)
{
    SSL_SESSION *s, *old;
    char key[SESSION_KEY];

    /* The tickets of a resumed session are as young as the connection, not as what was verified:
     * the one it began with stays, until it is old. */
    if (!c->proof.encrypted || SSL_session_reused(conn_ssl(c->conn)))
        return;
    s = conn_take_session(c->conn);
    if (!s)
        return;
    session_key(c->host, &c->peer, c->proof.looked, c->proof.config, c->proof.keys, key,
                sizeof(key));
    pthread_mutex_lock(&pool.lock);
    old = map_remove(&pool.sessions, key);
    if (pool.sessions.n >= MAX_SESSIONS)
        make_room();
    if (pool.sessions.n < MAX_SESSIONS) {
        map_set(&pool.sessions, key, s);
        s = NULL;
    }
    pthread_mutex_unlock(&pool.lock);
    SSL_SESSION_free(old);
    SSL_SESSION_free(s);
}

void smtp_pool_stop(void)
{
    const char *key;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&pool.lock);
    while (map_next(&pool.sessions, &pos, &key, &value))
        SSL_SESSION_free(value);
    map_free(&pool.sessions);
    pthread_mutex_unlock(&pool.lock);
    hosts_forget();
}
