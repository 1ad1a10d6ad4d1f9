/* limits.c - see limits.h. A host is remembered while it is connected, or while an hour of counted
 * recipients runs; the table is swept when it has doubled, so its size follows what is in use. When
 * it is full, others are forgotten for those that come: whoever has networks without end must not
 * have memory without end. */
#include "daemon/limits.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define SWEEP_LEAST 1024
#define HOSTS_MAX 200000u /* not connected, some 250 bytes each */

struct limits_listener {
    unsigned id, connections;
};

struct limits_host {
    char key[48];
    unsigned connections, rcpts, invalid;
    msec_t hour_end; /* rcpts were counted since an hour before; 0: none were */
    msec_t invalid_end; /* the same of invalid ones */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map listeners, hosts; /* all of the following under lock */
static unsigned connections, tls_sessions, next_id;
static size_t sweep_at = SWEEP_LEAST;

struct limits_listener *limits_listener(const char *name)
{
    struct limits_listener *l;

    pthread_mutex_lock(&lock);
    l = map_get(&listeners, name);
    if (!l) {
        l = xcalloc(1, sizeof(*l));
        l->id = ++next_id;
        map_set(&listeners, name, l);
    }
    pthread_mutex_unlock(&lock);
    return l;
}

enum limits_verdict limits_connect(struct limits_listener *l, unsigned max_all,
                                   unsigned max_listener)
{
    enum limits_verdict v = LIMITS_OK;

    pthread_mutex_lock(&lock);
    if (connections >= max_all) {
        v = LIMITS_ALL;
    } else if (l->connections >= max_listener) {
        v = LIMITS_LISTENER;
    } else {
        connections++;
        l->connections++;
    }
    pthread_mutex_unlock(&lock);
    return v;
}

void limits_disconnect(struct limits_listener *l)
{
    pthread_mutex_lock(&lock);
    connections--;
    l->connections--;
    pthread_mutex_unlock(&lock);
}

unsigned limits_connections(const struct limits_listener *l)
{
    unsigned n;

    pthread_mutex_lock(&lock);
    n = l ? l->connections : connections;
    pthread_mutex_unlock(&lock);
    return n;
}

static bool is_idle(const struct limits_host *h, msec_t now)
{
    return h->connections == 0 && h->hour_end <= now && h->invalid_end <= now;
}

static void forget(struct limits_host *h)
{
    map_remove(&hosts, h->key);
    free(h);
}

static void sweep(void)
{
    msec_t now = clock_now();
    const char *key;
    size_t pos = 0;
    void *value;

    if (hosts.n < sweep_at)
        return;
    while (map_next(&hosts, &pos, &key, &value))
        if (is_idle(value, now))
            forget(value);
    sweep_at = hosts.n * 2 < SWEEP_LEAST ? SWEEP_LEAST : hosts.n * 2;
}

/* Forgets one that is not connected, wherever the last look has ended. */
static void make_room(void)
{
    static size_t at;
    const char *key;
    void *value;

    for (int turn = 0; turn < 2 && hosts.n >= HOSTS_MAX; turn++, at = 0) {
        while (map_next(&hosts, &at, &key, &value)) {
            struct limits_host *h = value;

            if (h->connections)
                continue;
            forget(h);
            return;
        }
    }
}

static void host_key(const struct limits_listener *l, const struct addr *a, char *key, size_t size)
{
    unsigned n = a->family == AF_INET ? 4 : 8;
    int at = snprintf(key, size, "%u/%u/", l->id, n);

    for (unsigned i = 0; i < n; i++)
        at += snprintf(key + at, size - (size_t)at, "%02x", a->ip[i]);
}

struct limits_host *limits_host_enter(struct limits_listener *l, const struct addr *a, unsigned max)
{
    struct limits_host *h;
    char key[sizeof(h->key)];

    host_key(l, a, key, sizeof(key));
    pthread_mutex_lock(&lock);
    h = map_get(&hosts, key);
    if (h && h->connections >= max) {
        h = NULL;
    } else {
        if (!h) {
            sweep();
            make_room();
            h = xcalloc(1, sizeof(*h));
            str_copy(h->key, sizeof(h->key), key);
            map_set(&hosts, key, h);
        }
        h->connections++;
    }
    pthread_mutex_unlock(&lock);
    return h;
}

void limits_host_leave(struct limits_host *h)
{
    pthread_mutex_lock(&lock);
    h->connections--;
    if (is_idle(h, clock_now()))
        forget(h);
    pthread_mutex_unlock(&lock);
}

bool limits_rcpt(struct limits_host *h, unsigned max)
{
    msec_t now;
    bool ok;

    if (!max)
        return true;
    now = clock_now();
    pthread_mutex_lock(&lock);
    if (h->hour_end <= now) {
        h->hour_end = now + MINUTES(60);
        h->rcpts = 0;
    }
    ok = h->rcpts < max;
    h->rcpts += ok;
    pthread_mutex_unlock(&lock);
    return ok;
}

static bool harvests(const struct limits_host *h, unsigned max, msec_t now)
{
    return max && h->invalid_end > now && h->invalid > max;
}

bool limits_invalid(struct limits_host *h, unsigned max)
{
    msec_t now;
    bool over;

    if (!max)
        return false;
    now = clock_now();
    pthread_mutex_lock(&lock);
    if (h->invalid_end <= now) {
        h->invalid_end = now + MINUTES(60);
        h->invalid = 0;
    }
    if (h->invalid < UINT_MAX)
        h->invalid++;
    over = harvests(h, max, now);
    pthread_mutex_unlock(&lock);
    return over;
}

bool limits_harvests(struct limits_host *h, unsigned max)
{
    bool over;

    if (!max)
        return false;
    pthread_mutex_lock(&lock);
    over = harvests(h, max, clock_now());
    pthread_mutex_unlock(&lock);
    return over;
}

/* --- envelope senders ------------------------------------------------------------------------- */

/* A table of fixed size: a sender has a place in one row, found by its hash. */
#define SENDER_ROWS 32768u
#define SENDER_PLACES 8

struct sender {
    uint64_t hash;
    msec_t end; /* of the interval; 0: free */
    unsigned rcpts;
};

static struct sender (*senders)[SENDER_PLACES]; /* made when the first is counted; under lock */

static uint64_t sender_hash(const struct limits_listener *l, const char *sender)
{
    char key[320];
    int n = snprintf(key, sizeof(key), "%u/", l->id);

    str_copy(key + n, sizeof(key) - (size_t)n, sender);
    str_lower(key);
    return map_hash(key);
}

/* Its place, or that of whoever is to be forgotten for it. */
static struct sender *sender_place(uint64_t hash, msec_t now)
{
    struct sender *row = senders[hash % SENDER_ROWS], *oldest = row;

    for (int i = 0; i < SENDER_PLACES; i++) {
        if (row[i].hash == hash && row[i].end > now)
            return &row[i];
        if (row[i].end < oldest->end)
            oldest = &row[i];
    }
    *oldest = (struct sender){.hash = hash};
    return oldest;
}

bool limits_sender(const struct limits_listener *l, const char *sender, unsigned max,
                   unsigned minutes)
{
    struct sender *place;
    uint64_t hash;
    msec_t now;
    bool ok;

    if (!max || !*sender)
        return true;
    hash = sender_hash(l, sender);
    now = clock_now();
    pthread_mutex_lock(&lock);
    if (!senders)
        senders = xcalloc(SENDER_ROWS, sizeof(*senders));
    place = sender_place(hash, now);
    if (!place->end)
        place->end = now + MINUTES(minutes);
    ok = place->rcpts < max;
    place->rcpts += ok;
    pthread_mutex_unlock(&lock);
    return ok;
}

bool limits_tls_enter(unsigned max)
{
    bool ok;

    pthread_mutex_lock(&lock);
    ok = tls_sessions < max;
    tls_sessions += ok;
    pthread_mutex_unlock(&lock);
    return ok;
}

void limits_tls_leave(void)
{
    pthread_mutex_lock(&lock);
    tls_sessions--;
    pthread_mutex_unlock(&lock);
}
