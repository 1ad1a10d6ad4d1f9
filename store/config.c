/* config.c - see config.h. A snapshot holds one table per section, an array of rows sorted by name.
 * Tables and rows are shared between snapshots by reference count, so a change copies the pointers
 * of one section. */
#include "store/config.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

struct table {
    int refs;
    size_t n;
    struct row **rows;
};

struct config {
    int refs;
    uint64_t revision;
    unsigned char hash[32];
    struct table *tables[SECTIONS];
};

static void table_free(struct table *t)
{
    if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; i < t->n; i++)
        row_free(&t->rows[i]);
    free(t->rows);
    free(t);
}

struct config *config_new(void)
{
    struct config *c = xcalloc(1, sizeof(*c));

    c->refs = 1;
    for (size_t i = 0; i < SECTIONS; i++) {
        c->tables[i] = xcalloc(1, sizeof(struct table));
        c->tables[i]->refs = 1;
    }
    return c;
}

struct config *config_ref(const struct config *c)
{
    struct config *mine = (struct config *)c; /* constant but for the count */

    __atomic_fetch_add(&mine->refs, 1, __ATOMIC_RELAXED);
    return mine;
}

void config_free(struct config **c)
{
    struct config *config = *c;

    *c = NULL;
    if (!config || __atomic_sub_fetch(&config->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; i < SECTIONS; i++)
        table_free(config->tables[i]);
    free(config);
}

uint64_t config_revision(const struct config *c)
{
    return c->revision;
}

const unsigned char *config_hash(const struct config *c)
{
    return c->hash;
}

bool config_shares(const struct config *a, const struct config *b, const struct section *s)
{
    return a->tables[section_index(s)] == b->tables[section_index(s)];
}

static const struct table *table_of(const struct config *c, const struct section *s)
{
    return c->tables[section_index(s)];
}

static size_t lower_bound(const struct table *t, const char *name)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (strcmp(t->rows[mid]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t config_lower_bound(const struct config *c, const struct section *s, const char *name)
{
    return lower_bound(table_of(c, s), name);
}

const struct row *config_row(const struct config *c, const struct section *s, const char *name)
{
    const struct table *t = table_of(c, s);
    size_t i = lower_bound(t, name);

    return i < t->n && strcmp(t->rows[i]->name, name) == 0 ? t->rows[i] : NULL;
}

const void *config_data(const struct config *c, const struct section *s, const char *name)
{
    const struct row *r = config_row(c, s, name);

    return r ? r->data : NULL;
}

size_t config_count(const struct config *c, const struct section *s)
{
    return table_of(c, s)->n;
}

const struct row *config_at(const struct config *c, const struct section *s, size_t i)
{
    return table_of(c, s)->rows[i];
}

/* Owners are identifiers, so '/' ends them and '0', the next byte, comes behind all their children.
 */
size_t config_children(const struct config *c, const struct section *s, const char *owner,
                       size_t *first)
{
    const struct table *t = table_of(c, s);
    char *from = xasprintf("%s/", owner), *to = xasprintf("%s0", owner);
    size_t n;

    *first = lower_bound(t, from);
    n = lower_bound(t, to) - *first;
    free(from);
    free(to);
    return n;
}

static int by_position(const void *a, const void *b)
{
    const struct row *const *x = a, *const *y = b;
    const struct field *f = field_find((*x)->section, "position");
    uint64_t p = *(uint64_t *)row_slot(*x, f), q = *(uint64_t *)row_slot(*y, f);

    return p != q ? (p > q) - (p < q) : strcmp((*x)->name, (*y)->name);
}

const struct row **config_ordered(const struct config *c, const struct section *s,
                                  const char *owner, size_t *n)
{
    size_t first = 0;
    const struct row **rows;

    *n = owner ? config_children(c, s, owner, &first) : config_count(c, s);
    rows = xcalloc(*n + 1, sizeof(struct row *));
    for (size_t i = 0; i < *n; i++)
        rows[i] = config_at(c, s, first + i);
    if (s->ordered)
        qsort(rows, *n, sizeof(struct row *), by_position);
    return rows;
}

/* sum += or -= SHA-256(section, name, body hash), modulo 2^256. */
static void hash_row(unsigned char sum[32], const struct row *r, bool add)
{
    size_t ns = strlen(r->section->name), nn = strlen(r->name),
           n = ns + 1 + nn + 1 + sizeof(r->hash);
    unsigned char small[512], *text = n <= sizeof(small) ? small : xmalloc(n), h[32];
    unsigned carry = 0;

    memcpy(text, r->section->name, ns + 1);
    memcpy(text + ns + 1, r->name, nn + 1);
    memcpy(text + n - sizeof(r->hash), r->hash, sizeof(r->hash));
    SHA256(text, n, h);
    if (text != small)
        free(text);
    for (int i = 31; i >= 0; i--) {
        unsigned v = add ? (unsigned)sum[i] + h[i] + carry : (unsigned)sum[i] - h[i] - carry;

        sum[i] = (unsigned char)v;
        carry = v >> 8 & 1;
    }
}

static int by_section_and_name(const void *a, const void *b)
{
    const struct config_edit *x = a, *y = b;
    unsigned i = section_index(x->section), j = section_index(y->section);

    return i != j ? (i > j) - (i < j) : strcmp(x->name, y->name);
}

static struct table *edit_table(const struct table *old, const struct config_edit *edits, size_t n,
                                unsigned char sum[32])
{
    struct table *t = xcalloc(1, sizeof(*t));
    size_t i = 0;

    t->refs = 1;
    t->rows = xmalloc((old->n + n) * sizeof(struct row *));
    for (size_t k = 0; k < n; k++) {
        size_t to = lower_bound(old, edits[k].name);

        for (; i < to; i++)
            t->rows[t->n++] = row_ref(old->rows[i]);
        if (i < old->n && strcmp(old->rows[i]->name, edits[k].name) == 0)
            hash_row(sum, old->rows[i++], false);
        if (edits[k].row) {
            t->rows[t->n++] = row_ref(edits[k].row);
            hash_row(sum, edits[k].row, true);
        }
    }
    for (; i < old->n; i++)
        t->rows[t->n++] = row_ref(old->rows[i]);
    return t;
}

struct config *config_edit(const struct config *base, struct config_edit *edits, size_t n,
                           uint64_t revision)
{
    struct config *c = config_new();
    size_t to;

    if (base) {
        memcpy(c->hash, base->hash, sizeof(c->hash));
        for (size_t i = 0; i < SECTIONS; i++) {
            table_free(c->tables[i]);
            c->tables[i] = base->tables[i];
            __atomic_fetch_add(&c->tables[i]->refs, 1, __ATOMIC_RELAXED);
        }
    }
    c->revision = revision;
    if (n)
        qsort(edits, n, sizeof(*edits), by_section_and_name);
    for (size_t i = 0; i < n; i = to) {
        unsigned index = section_index(edits[i].section);
        struct table *old = c->tables[index];

        for (to = i; to < n && edits[to].section == edits[i].section; to++)
            ;
        c->tables[index] = edit_table(old, edits + i, to - i, c->hash);
        table_free(old);
    }
    return c;
}

static uintptr_t edit_index(const struct config_edits *e, const struct section *s, const char *name, char **key)
{
    *key = xasprintf("%s\x1f%s", s->name, name);
    return (uintptr_t)map_get(&e->index, *key);
}

void config_edits_put(struct config_edits *e, const struct section *s, const char *name, struct row *row)
{
    char *key;
    uintptr_t at = edit_index(e, s, name, &key);

    if (at) {
        row_free(&e->items[at - 1].row);
        e->items[at - 1].row = row;
    } else {
        if (e->n == e->cap) {
            e->cap = e->cap ? e->cap * 2 : 16;
            e->items = xrealloc(e->items, e->cap * sizeof(*e->items));
        }
        e->items[e->n++] = (struct config_edit){s, xstrdup(name), row};
        map_set(&e->index, key, (void *)(uintptr_t)e->n);
    }
    free(key);
}

const struct config_edit *config_edits_find(const struct config_edits *e, const struct section *s, const char *name)
{
    char *key;
    uintptr_t at = edit_index(e, s, name, &key);

    free(key);
    return at ? &e->items[at - 1] : NULL;
}

void config_edits_free(struct config_edits *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free((char *)e->items[i].name);
        row_free(&e->items[i].row);
    }
    free(e->items);
    map_free(&e->index);
    *e = (struct config_edits){0};
}
