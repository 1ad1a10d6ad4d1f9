/* dns_cache.c - see dns_cache.h. */
#include "daemon/dns_cache.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stats.h"
#include "store/base/list.h"
#include "store/base/map.h"

struct entry {
    struct list node; /* the newest first */
    struct dns_answer *answer;
    size_t bytes;
    char key[300]; /* "MX/example.com" */
};

static struct {
    pthread_mutex_t lock;
    struct map map;
    struct list used;
    struct dns_cache_totals totals;
} cache = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .used = LIST_INIT(cache.used),
    .totals = {.max_bytes = 8u << 20},
};

/* "15/example.com": lower case, no final dot. false: no name is that long. */
static bool key_of(const char *name, int type, char *key, size_t size)
{
    int n = snprintf(key, size, "%d/%s", type, name);

    if (n < 0 || (size_t)n >= size)
        return false;
    str_lower(key);
    if (key[n - 1] == '.' && key[n - 2] != '/')
        key[n - 1] = '\0';
    return true;
}

static void drop(struct entry *e)
{
    map_remove(&cache.map, e->key);
    list_remove(&e->node);
    cache.totals.entries--;
    cache.totals.bytes -= e->bytes;
    dns_answer_free(&e->answer);
    free(e);
}

static void shrink(void)
{
    while (cache.totals.bytes > cache.totals.max_bytes && !list_empty(&cache.used))
        drop(list_item(cache.used.prev, struct entry, node));
}

struct dns_answer *dns_cache_get(const char *name, int type)
{
    struct dns_answer *a = NULL;
    struct entry *e;
    char key[300];

    if (!key_of(name, type, key, sizeof(key)))
        return NULL;
    pthread_mutex_lock(&cache.lock);
    e = map_get(&cache.map, key);
    if (e && (clock_now() - e->answer->made) / 1000 >= (msec_t)e->answer->ttl) {
        drop(e);
        e = NULL;
        cache.totals.expired++;
        stats_add(STAT_CACHE_EXPIRED, 1);
    }
    if (e) {
        list_remove(&e->node);
        list_add_head(&cache.used, &e->node);
        a = dns_answer_ref(e->answer);
        cache.totals.hits++;
    } else {
        cache.totals.misses++;
    }
    pthread_mutex_unlock(&cache.lock);
    return a;
}

void dns_cache_put(const char *name, const struct dns_answer *a)
{
    struct entry *e, *old;
    char key[sizeof(e->key)];

    if (!a->ttl || (a->status != DNS_OK && a->status != DNS_NODATA && a->status != DNS_NXDOMAIN) ||
        !key_of(name, a->type, key, sizeof(key)))
        return;
    e = xcalloc(1, sizeof(*e));
    str_copy(e->key, sizeof(e->key), key);
    e->answer = dns_answer_ref((struct dns_answer *)a);
    e->bytes = sizeof(*e) + a->bytes + strlen(key) + 64; /* and its place in the map */
    pthread_mutex_lock(&cache.lock);
    old = map_get(&cache.map, key);
    if (old)
        drop(old);
    map_set(&cache.map, key, e);
    list_add_head(&cache.used, &e->node);
    cache.totals.entries++;
    cache.totals.bytes += e->bytes;
    shrink();
    pthread_mutex_unlock(&cache.lock);
}

static bool is_at_or_below(const char *name, const char *domain)
{
    size_t n = strlen(name), d = strlen(domain);

    return str_eq(domain, ".") || str_eq(name, domain) ||
           (n > d && name[n - d - 1] == '.' && str_eq(name + n - d, domain));
}

void dns_cache_flush(const char *name)
{
    char key[300] = "";

    if (name && !key_of(name, 0, key, sizeof(key)))
        return;
    pthread_mutex_lock(&cache.lock);
    list_each_safe (at, &cache.used) {
        struct entry *e = list_item(at, struct entry, node);

        if (!name || is_at_or_below(strchr(e->key, '/') + 1, key + 2))
            drop(e);
    }
    pthread_mutex_unlock(&cache.lock);
}

void dns_cache_limit(size_t bytes)
{
    pthread_mutex_lock(&cache.lock);
    cache.totals.max_bytes = bytes;
    shrink();
    pthread_mutex_unlock(&cache.lock);
}

void dns_cache_totals(struct dns_cache_totals *out)
{
    pthread_mutex_lock(&cache.lock);
    *out = cache.totals;
    pthread_mutex_unlock(&cache.lock);
}
