/* connstats.c - see connstats.h. */
#include "daemon/connstats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/map.h"
#include "store/base/str.h"

struct conn_host {
    struct conn_count count;
    char key[100];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map hosts;

struct conn_host *connstats_enter(const char *listener, const struct addr *peer, const char *name)
{
    struct conn_host *h;
    char key[sizeof(h->key)], address[ADDR_TEXT];

    snprintf(key, sizeof(key), "%s/%.39s", addr_text(peer, address), listener);
    pthread_mutex_lock(&lock);
    h = map_get(&hosts, key);
    if (!h) {
        h = xcalloc(1, sizeof(*h));
        str_copy(h->key, sizeof(h->key), key);
        str_copy(h->count.listener, sizeof(h->count.listener), listener);
        h->count.addr = *peer;
        map_set(&hosts, key, h);
    }
    if (name)
        str_copy(h->count.name, sizeof(h->count.name), name);
    h->count.connections++;
    pthread_mutex_unlock(&lock);
    return h;
}

void connstats_leave(struct conn_host *h)
{
    pthread_mutex_lock(&lock);
    if (!--h->count.connections) {
        map_remove(&hosts, h->key);
        free(h);
    }
    pthread_mutex_unlock(&lock);
}

/* Equals stand in the order of their addresses, so that a list does not jump about. */
static bool before(const struct conn_host *a, const struct conn_host *b)
{
    return a->count.connections != b->count.connections
               ? a->count.connections > b->count.connections
               : strcmp(a->key, b->key) < 0;
}

size_t connstats_top(struct conn_count *out, size_t max)
{
    const struct conn_host **best = xcalloc(max + 1, sizeof(*best));
    size_t n = 0, pos = 0;
    const char *key;
    void *value;

    pthread_mutex_lock(&lock);
    while (map_next(&hosts, &pos, &key, &value)) {
        const struct conn_host *h = value;
        size_t at = n;

        if (n == max && (!max || !before(h, best[n - 1])))
            continue;
        if (n == max)
            at--;
        else
            n++;
        for (; at && before(h, best[at - 1]); at--)
            best[at] = best[at - 1];
        best[at] = h;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = best[i]->count;
    pthread_mutex_unlock(&lock);
    free(best);
    return n;
}
