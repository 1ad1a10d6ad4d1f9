/* ldap_cache.c - see ldap_cache.h. */
#include "daemon/ldap_cache.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/list.h"
#include "store/base/map.h"

#define NO_LASTS SECONDS(10)

struct entry {
    struct list node; /* asked for last at the end */
    struct ldap_question question;
    msec_t until;
    bool yes;
    char user[];
};
struct ldap_cache {
    pthread_mutex_t lock;
    struct map entries;
    struct list order;
    size_t max;
    msec_t ttl;
};

static unsigned char process_key[32];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
    if (RAND_priv_bytes(process_key, sizeof(process_key)) != 1)
        abort();
}

void ldap_question_of(struct ldap_question *q, const struct slice *parts, size_t n)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t size = 0, at = 0;
    unsigned char *all;

    pthread_once(&key_once, make_key);
    for (size_t i = 0; i < n; i++)
        size += sizeof(uint64_t) + parts[i].n;
    all = xmalloc(size + 1);
    for (size_t i = 0; i < n; i++) { /* with their lengths: "ab","c" is not "a","bc" */
        uint64_t length = parts[i].n;

        memcpy(all + at, &length, sizeof(length));
        at += sizeof(length);
        if (length)
            memcpy(all + at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    if (!HMAC(EVP_sha256(), process_key, sizeof(process_key), all, size, digest, NULL))
        abort();
    OPENSSL_cleanse(all, size);
    free(all);
    for (unsigned i = 0; i < 16; i++)
        snprintf(q->key + (size_t)2 * i, 3, "%02x", digest[i]);
}

struct ldap_cache *ldap_cache_new(size_t max, msec_t ttl)
{
    struct ldap_cache *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->lock, NULL);
    list_init(&c->order);
    c->max = ttl ? max : 0;
    c->ttl = ttl;
    return c;
}

static void forget(struct ldap_cache *c, struct entry *e)
{
    map_remove(&c->entries, e->question.key);
    list_remove(&e->node);
    free(e);
}

static size_t forget_all(struct ldap_cache *c)
{
    size_t n = c->entries.n;

    list_each_safe (pos, &c->order)
        forget(c, list_item(pos, struct entry, node));
    map_free(&c->entries);
    return n;
}

void ldap_cache_free(struct ldap_cache **cp)
{
    struct ldap_cache *c = *cp;

    *cp = NULL;
    if (!c)
        return;
    forget_all(c);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

bool ldap_cache_get(struct ldap_cache *c, const struct ldap_question *q, bool *yes, char *user,
                    size_t size)
{
    struct entry *e;

    if (!c->max)
        return false;
    pthread_mutex_lock(&c->lock);
    e = map_get(&c->entries, q->key);
    if (e && clock_now() >= e->until) {
        forget(c, e);
        e = NULL;
    }
    if (e) {
        *yes = e->yes;
        str_copy(user, size, e->user);
        list_remove(&e->node);
        list_add_tail(&c->order, &e->node);
    }
    pthread_mutex_unlock(&c->lock);
    return e;
}

void ldap_cache_put(struct ldap_cache *c, const struct ldap_question *q, bool yes, const char *user,
                    msec_t longest)
{
    msec_t lasts = yes || c->ttl < NO_LASTS ? c->ttl : NO_LASTS;
    size_t n = strlen(user) + 1;
    struct entry *e, *old;

    if (!c->max)
        return;
    e = xcalloc(1, sizeof(*e) + n);
    e->question = *q;
    e->until = clock_in(longest < lasts ? longest : lasts);
    e->yes = yes;
    memcpy(e->user, user, n);
    pthread_mutex_lock(&c->lock);
    old = map_get(&c->entries, q->key);
    if (old)
        forget(c, old);
    if (c->entries.n >= c->max)
        forget(c, list_item(c->order.next, struct entry, node));
    map_set(&c->entries, q->key, e);
    list_add_tail(&c->order, &e->node);
    pthread_mutex_unlock(&c->lock);
}

size_t ldap_cache_flush(struct ldap_cache *c)
{
    size_t n;

    pthread_mutex_lock(&c->lock);
    n = forget_all(c);
    pthread_mutex_unlock(&c->lock);
    return n;
}

size_t ldap_cache_count(struct ldap_cache *c)
{
    size_t n;

    pthread_mutex_lock(&c->lock);
    n = c->entries.n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

size_t ldap_cache_max(const struct ldap_cache *c)
{
    return c->max;
}
