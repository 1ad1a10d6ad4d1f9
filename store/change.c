/* change.c - see change.h. */
#include "store/change.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static char *index_key(const struct section *s, const char *name)
{
    return xasprintf("%s\x1f%s", s->name, name);
}

const struct change *changes_find(const struct changes *c, const struct section *s,
                                  const char *name)
{
    char *key = index_key(s, name);
    uintptr_t at = (uintptr_t)map_get(&c->index, key);

    free(key);
    return at ? &c->items[at - 1] : NULL;
}

void changes_put(struct changes *c, const struct section *s, const char *name,
                 const struct row *base, struct row *now)
{
    char *key = index_key(s, name);
    uintptr_t at = (uintptr_t)map_get(&c->index, key);
    struct change *item;

    if (at) {
        item = &c->items[at - 1];
        row_free(&item->now); /* the base stays the one the first edit saw */
        item->now = row_ref(now);
    } else {
        if (c->n == c->cap) {
            c->cap = c->cap ? c->cap * 2 : 8;
            c->items = xrealloc(c->items, c->cap * sizeof(*c->items));
        }
        item = &c->items[c->n++];
        *item = (struct change){s, xstrdup(name), row_ref((struct row *)base), row_ref(now)};
        map_set(&c->index, key, (void *)(uintptr_t)c->n);
    }
    free(key);
    if (row_equal(item->base, item->now))
        changes_drop(c, s, name);
}

void changes_drop(struct changes *c, const struct section *s, const char *name)
{
    char *key = index_key(s, name);
    uintptr_t at = (uintptr_t)map_remove(&c->index, key);
    struct change *item, *last;

    free(key);
    if (!at)
        return;
    item = &c->items[at - 1];
    last = &c->items[--c->n];
    free(item->name);
    row_free(&item->base);
    row_free(&item->now);
    if (item == last)
        return;
    *item = *last;
    key = index_key(item->section, item->name);
    map_set(&c->index, key, (void *)at);
    free(key);
}

void changes_free(struct changes *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].name);
        row_free(&c->items[i].base);
        row_free(&c->items[i].now);
    }
    free(c->items);
    map_free(&c->index);
    *c = (struct changes){0};
}

struct config *changes_apply(const struct config *base, const struct changes *c, uint64_t revision)
{
    struct config_edit *edits = xcalloc(c->n, sizeof(*edits));
    struct config *out;

    for (size_t i = 0; i < c->n; i++)
        edits[i] = (struct config_edit){c->items[i].section, c->items[i].name, c->items[i].now};
    out = config_edit(base, edits, c->n, revision);
    free(edits);
    return out;
}

void config_diff(const struct config *a, const struct config *b, struct changes *out)
{
    for (size_t k = 0; k < SECTIONS; k++) {
        const struct section *s = section_at(k);
        size_t n = config_count(a, s), m = config_count(b, s), i = 0, j = 0;

        if (config_shares(a, b, s))
            continue;
        while (i < n || j < m) {
            const struct row *x = i < n ? config_at(a, s, i) : NULL,
                             *y = j < m ? config_at(b, s, j) : NULL;
            int order;

            assert(x || y);
            order = x == y ? 0 : !x ? 1 : !y ? -1 : strcmp(x->name, y->name);

            if (order < 0)
                y = NULL;
            else if (order > 0)
                x = NULL;
            i += order <= 0;
            j += order >= 0;
            if (!row_equal(x, y))
                changes_put(out, s, x ? x->name : y->name, x, (struct row *)y);
        }
    }
}

/* --- merge --- */

static char *shown(const struct field *f, const struct row *r)
{
    if (!r)
        return NULL;
    return f->secret ? xstrdup("(secret)") : value_text(f, row_slot(r, f));
}

static void conflict_add(struct conflicts *c, const struct change *mine, const struct field *f,
                         const struct row *theirs)
{
    struct conflict *item;

    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 8;
        c->items = xrealloc(c->items, c->cap * sizeof(*c->items));
    }
    item = &c->items[c->n++];
    *item = (struct conflict){.section = mine->section, .name = xstrdup(mine->name), .field = f};
    if (f) {
        item->was = shown(f, mine->base);
        item->theirs = shown(f, theirs);
        item->mine = shown(f, mine->now);
    } else {
        item->was = xstrdup(mine->base ? "present" : "absent");
        item->theirs = xstrdup(!theirs ? "deleted" : mine->base ? "changed" : "created");
        item->mine = xstrdup(!mine->now ? "deleted" : mine->base ? "changed" : "created");
    }
}

void conflicts_free(struct conflicts *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].name);
        free(c->items[i].was);
        free(c->items[i].theirs);
        free(c->items[i].mine);
    }
    free(c->items);
    *c = (struct conflicts){0};
}

/* Fields of one object that both sides have. Without a common base (both created it) every
 * difference is a conflict. */
static struct row *merge_fields(const struct change *mine, const struct row *theirs,
                                struct conflicts *conflicts)
{
    struct row *merged = row_copy(theirs);

    for (size_t i = 0; i < mine->section->nfields; i++) {
        const struct field *f = &mine->section->fields[i];
        const void *was = mine->base ? row_slot(mine->base, f) : NULL, *my = row_slot(mine->now, f);
        void *slot = row_slot(merged, f);

        if (f->type->equal(my, slot) || (was && f->type->equal(my, was)))
            continue;
        if (!was || !f->type->equal(slot, was)) {
            conflict_add(conflicts, mine, f, theirs);
            continue;
        }
        f->type->release(slot);
        f->type->copy(slot, my);
    }
    row_freeze(merged);
    return merged;
}

bool changes_merge(const struct config *head, const struct changes *mine, struct changes *out,
                   struct conflicts *conflicts)
{
    size_t before = conflicts->n;

    out->base_revision = config_revision(head);
    for (size_t i = 0; i < mine->n; i++) {
        const struct change *m = &mine->items[i];
        const struct row *theirs = config_row(head, m->section, m->name);

        if (row_equal(theirs, m->now)) {
            continue; /* already so */
        } else if (row_equal(theirs, m->base)) {
            changes_put(out, m->section, m->name, theirs, m->now);
        } else if (!theirs || !m->now) {
            conflict_add(conflicts, m, NULL, theirs);
        } else {
            struct row *merged = merge_fields(m, theirs, conflicts);

            changes_put(out, m->section, m->name, theirs, merged);
            row_free(&merged);
        }
    }
    return conflicts->n == before;
}
