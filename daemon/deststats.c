/* deststats.c - see deststats.h. A map from the domain to its numbers, and a list of them, the one
 * heard of last in front. */
#include "daemon/deststats.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/list.h"
#include "store/base/map.h"
#include "store/base/str.h"

struct entry {
    struct list node; /* in recent */
    uint64_t count[DEST_COUNTER_COUNT];
    int64_t gauge[DEST_GAUGE_COUNT];
    usec_t last, error_at;
    char *error; /* NULL: none */
    char address[64];
    enum dest_reach reach;
    char domain[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map domains;
static struct list recent = LIST_INIT(recent);

static void drop(struct entry *e)
{
    map_remove(&domains, e->domain);
    list_remove(&e->node);
    free(e->error);
    free(e);
}

static bool in_use(const struct entry *e)
{
    return e->gauge[DEST_ACTIVE] > 0 || e->gauge[DEST_SESSIONS] > 0;
}

/* Makes room: the one not heard of for the longest time that has no mail. Those that are passed
 * over go to the front, so that looking at them is paid once. */
static bool make_room(void)
{
    for (unsigned tries = 0; tries < 64; tries++) {
        struct entry *e = list_item(recent.prev, struct entry, node);

        if (!in_use(e)) {
            drop(e);
            return true;
        }
        list_remove(&e->node);
        list_add_head(&recent, &e->node);
    }
    return false;
}

static struct entry *entry_of(const char *domain)
{
    struct entry *e = map_get(&domains, domain);
    size_t n = strlen(domain) + 1;

    if (e) {
        list_remove(&e->node);
    } else {
        if (domains.n >= DESTSTATS_DOMAINS && !make_room())
            return NULL;
        e = xcalloc(1, sizeof(*e) + n);
        memcpy(e->domain, domain, n);
        map_set(&domains, domain, e);
    }
    list_add_head(&recent, &e->node);
    return e;
}

static void note_error(struct entry *e, const struct dest_change *c)
{
    AUTO(buf) struct buf shown = BUF_INIT(255);

    str_escape(&shown, c->error, strlen(c->error) < 200 ? strlen(c->error) : 200);
    free(e->error);
    e->error = xstrdup(buf_str(&shown));
    e->error_at = c->at;
    str_copy(e->address, sizeof(e->address), c->address ? c->address : "");
}

void deststats_change(const char *domain, const struct dest_change *c)
{
    struct entry *e;

    pthread_mutex_lock(&lock);
    e = entry_of(domain);
    for (unsigned i = 0; e && i < DEST_COUNTER_COUNT; i++)
        e->count[i] += c->count[i];
    for (unsigned i = 0; e && i < DEST_GAUGE_COUNT; i++) {
        e->gauge[i] += c->gauge[i];
        if (e->gauge[i] < 0) /* came before the table had room for it */
            e->gauge[i] = 0;
    }
    if (e && c->reach != DEST_UNKNOWN)
        e->reach = c->reach;
    if (e && c->at)
        e->last = c->at;
    if (e && c->error)
        note_error(e, c);
    pthread_mutex_unlock(&lock);
}

struct dest_change *tally_of(struct tally *t, const char *domain)
{
    if (t->domain && !str_eq(t->domain, domain))
        tally_end(t);
    t->domain = domain;
    return &t->change;
}

void tally_end(struct tally *t)
{
    if (t->domain)
        deststats_change(t->domain, &t->change);
    *t = (struct tally){0};
}

/* --- looking --- */

uint64_t dest_hard(const struct dest_stats *d)
{
    return d->count[DEST_HARD_DNS] + d->count[DEST_HARD_5XX] + d->count[DEST_HARD_EXPIRED] +
           d->count[DEST_HARD_OTHER];
}

static void copy(const struct entry *e, struct dest_stats *out)
{
    memset(out, 0, sizeof(*out));
    str_copy(out->domain, sizeof(out->domain), e->domain);
    memcpy(out->count, e->count, sizeof(out->count));
    for (unsigned i = 0; i < DEST_GAUGE_COUNT; i++)
        out->gauge[i] = (uint64_t)e->gauge[i];
    out->reach = e->reach;
    out->last = e->last;
    out->error_at = e->error_at;
    str_copy(out->error, sizeof(out->error), e->error ? e->error : "");
    str_copy(out->address, sizeof(out->address), e->address);
}

bool deststats_get(const char *domain, struct dest_stats *out)
{
    const struct entry *e;

    memset(out, 0, sizeof(*out));
    str_copy(out->domain, sizeof(out->domain), domain);
    pthread_mutex_lock(&lock);
    e = map_get(&domains, domain);
    if (e)
        copy(e, out);
    pthread_mutex_unlock(&lock);
    return e != NULL;
}

static uint64_t rank(const struct entry *e, enum dest_order order)
{
    switch (order) {
    case DEST_BY_ACTIVE:
        return (uint64_t)e->gauge[DEST_ACTIVE];
    case DEST_BY_SESSIONS:
        return (uint64_t)e->gauge[DEST_SESSIONS];
    case DEST_BY_DELIVERED:
        return e->count[DEST_DELIVERED];
    case DEST_BY_HARD:
        return e->count[DEST_HARD_DNS] + e->count[DEST_HARD_5XX] + e->count[DEST_HARD_EXPIRED] +
               e->count[DEST_HARD_OTHER];
    case DEST_BY_SOFT:
        break;
    }
    return e->count[DEST_SOFT];
}

/* Is a to stand before b? Equals stand in the order of their names, so that a list does not jump
 * about. */
static bool before(const struct entry *a, const struct entry *b, enum dest_order order)
{
    uint64_t x = rank(a, order), y = rank(b, order);

    return x != y ? x > y : strcmp(a->domain, b->domain) < 0;
}

size_t deststats_top(enum dest_order order, struct dest_stats *out, size_t max)
{
    const struct entry **best = xcalloc(max + 1, sizeof(*best));
    size_t n = 0;

    pthread_mutex_lock(&lock);
    list_each (pos, &recent) {
        const struct entry *e = list_item(pos, struct entry, node);
        size_t at = n;

        if (n == max && (!max || !before(e, best[n - 1], order)))
            continue;
        if (n == max)
            at--;
        else
            n++;
        for (; at && before(e, best[at - 1], order); at--)
            best[at] = best[at - 1];
        best[at] = e;
    }
    for (size_t i = 0; i < n; i++)
        copy(best[i], &out[i]);
    pthread_mutex_unlock(&lock);
    free(best);
    return n;
}

void deststats_forget(void)
{
    pthread_mutex_lock(&lock);
    while (!list_empty(&recent))
        drop(list_item(recent.next, struct entry, node));
    map_free(&domains);
    pthread_mutex_unlock(&lock);
}
