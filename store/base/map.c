/* map.c - see map.h. Open addressing with linear probing; a removed key leaves a mark, so that removing while
 * walking with map_next is allowed. The hash is SipHash-1-3 under a key drawn once per process. */
#include "store/base/map.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/base/str.h"

struct map_slot {
    char *key; /* NULL: empty, or removed when value is the mark */
    void *value;
    uint64_t hash;
};

static char removed_mark;
static uint64_t key0, key1;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void draw_key(void)
{
    uint64_t k[2];

    if (getrandom(k, sizeof(k), 0) != sizeof(k))
        abort(); /* the kernel has random bytes once it runs */
    key0 = k[0];
    key1 = k[1];
}

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t hash_key(const char *key)
{
    size_t n = strlen(key), i;
    uint64_t v[4], m;

    pthread_once(&key_once, draw_key);
    v[0] = key0 ^ 0x736f6d6570736575u;
    v[1] = key1 ^ 0x646f72616e646f6du;
    v[2] = key0 ^ 0x6c7967656e657261u;
    v[3] = key1 ^ 0x7465646279746573u;
    for (i = 0; i + 8 <= n; i += 8) {
        memcpy(&m, key + i, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = 0;
    memcpy(&m, key + i, n - i);
    m |= (uint64_t)n << 56;
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t map_hash(const char *key)
{
    return hash_key(key);
}

static struct map_slot *find(const struct map *m, const char *key, uint64_t hash)
{
    if (!m->cap)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];

        if (s->key && s->hash == hash && strcmp(s->key, key) == 0)
            return s;
        if (!s->key && !s->value)
            return NULL;
    }
}

static void place(struct map *m, struct map_slot slot)
{
    size_t i = slot.hash & (m->cap - 1);

    while (m->slots[i].key)
        i = (i + 1) & (m->cap - 1);
    m->slots[i] = slot;
}

/* Room for one more: at most three quarters of the slots used or marked. Rehashing drops the marks. */
static void make_room(struct map *m)
{
    struct map_slot *old = m->slots;
    size_t cap = m->cap;

    if (m->cap && (m->used + 1) * 4 <= m->cap * 3)
        return;
    if (!m->cap)
        m->cap = 8;
    else if ((m->n + 1) * 2 > m->cap)
        m->cap *= 2;
    m->slots = xcalloc(m->cap, sizeof(*m->slots));
    for (size_t i = 0; i < cap; i++)
        if (old[i].key)
            place(m, old[i]);
    m->used = m->n;
    free(old);
}

void *map_get(const struct map *m, const char *key)
{
    struct map_slot *s = m->n ? find(m, key, hash_key(key)) : NULL;

    return s ? s->value : NULL;
}

void map_set(struct map *m, const char *key, void *value)
{
    uint64_t hash = hash_key(key);
    struct map_slot *s = find(m, key, hash);

    if (s) {
        s->value = value;
        return;
    }
    make_room(m);
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        s = &m->slots[i];
        if (!s->key)
            break;
    }
    if (!s->value)
        m->used++;
    *s = (struct map_slot){xstrdup(key), value, hash};
    m->n++;
}

void *map_remove(struct map *m, const char *key)
{
    struct map_slot *s = find(m, key, hash_key(key));
    void *value;

    if (!s)
        return NULL;
    value = s->value;
    free(s->key);
    *s = (struct map_slot){NULL, &removed_mark, 0};
    m->n--;
    return value;
}

void map_free(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        free(m->slots[i].key);
    free(m->slots);
    *m = (struct map){0};
}

bool map_next(const struct map *m, size_t *pos, const char **key, void **value)
{
    while (*pos < m->cap) {
        struct map_slot *s = &m->slots[(*pos)++];

        if (!s->key)
            continue;
        if (key)
            *key = s->key;
        if (value)
            *value = s->value;
        return true;
    }
    return false;
}
