/* row.c - see row.h. */
#include "store/row.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The key field repeats the name without its owner; this keeps the two the same. */
static void sync_key(struct row *r)
{
    const struct field *key = section_key(r->section);
    char **slot;

    if (!key)
        return;
    slot = row_slot(r, key);
    free(*slot);
    *slot = xstrdup(row_leaf(r));
}

/* The default of every field, made once per section would need a lock; parsing a dozen short words
 * is cheap. */
struct row *row_new(const struct section *s, const char *name)
{
    struct row *r = xcalloc(1, sizeof(*r));

    r->section = s;
    r->data = xcalloc(1, s->size);
    r->refs = 1;
    for (size_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        void *slot = row_slot(r, f);

        if (f->deflt)
            f->type->parse(f, f->deflt, slot, NULL);
        else if (f->type->equal == type_text.equal)
            *(char **)slot = xstrdup("");
    }
    if (s->single)
        name = "-";
    if (name)
        row_rename(r, name);
    return r;
}

struct row *row_copy(const struct row *r)
{
    struct row *copy = xcalloc(1, sizeof(*copy));

    copy->section = r->section;
    copy->name = r->name ? xstrdup(r->name) : NULL;
    copy->data = xcalloc(1, r->section->size);
    copy->refs = 1;
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        f->type->copy(row_slot(copy, f), row_slot(r, f));
    }
    return copy;
}

struct row *row_ref(struct row *r)
{
    if (r)
        __atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED);
    return r;
}

void row_free(struct row **r)
{
    struct row *row = *r;

    *r = NULL;
    if (!row || __atomic_sub_fetch(&row->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; i < row->section->nfields; i++) {
        const struct field *f = &row->section->fields[i];

        f->type->release(row_slot(row, f));
    }
    free(row->data);
    free(row->name);
    free(row);
}

static bool unknown_field(const struct section *s, const char *field, struct err *err)
{
    AUTO(buf) struct buf names = BUF_INIT(400);

    for (size_t i = 0; i < s->nfields; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", s->fields[i].name);
    return err_set(err, E_USAGE, "A %s has no field \"%s\"; it has: %s.", s->noun,
                   str_printable(field), buf_str(&names));
}

bool row_set(struct row *r, const char *field, const char *text, struct err *err)
{
    const struct field *f = field_find(r->section, field);
    const char *slash;
    char *name;

    if (!f)
        return unknown_field(r->section, field, err);
    if (!value_set(f, row_slot(r, f), text, err))
        return false;
    if (f->key) {
        slash = r->section->parent && r->name ? strchr(r->name, '/') : NULL;
        name = xasprintf("%.*s%s", slash ? (int)(slash + 1 - r->name) : 0, r->name ? r->name : "",
                         *(char **)row_slot(r, f));
        free(r->name);
        r->name = name;
    }
    return true;
}

#define TEXTS 16

struct ring { /* of one thread, and freed with it: worker threads come and go */
    char *texts[TEXTS];
    unsigned turn;
};
static pthread_key_t ring_key;
static pthread_once_t ring_once = PTHREAD_ONCE_INIT;

static void ring_free(void *arg)
{
    struct ring *ring = arg;

    for (size_t i = 0; i < TEXTS; i++)
        free(ring->texts[i]);
    free(ring);
}

static void ring_init(void)
{
    if (pthread_key_create(&ring_key, ring_free) != 0)
        abort();
}

const char *row_text(const struct row *r, const char *field)
{
    const struct field *f = field_find(r->section, field);
    struct ring *ring;
    char **place;

    pthread_once(&ring_once, ring_init);
    ring = pthread_getspecific(ring_key);
    if (!ring) {
        ring = xcalloc(1, sizeof(*ring));
        pthread_setspecific(ring_key, ring);
    }
    place = &ring->texts[ring->turn++ % TEXTS];
    free(*place);
    *place = f ? value_text(f, row_slot(r, f)) : xstrdup("");
    return *place;
}

bool row_names(const struct row *r, const struct field *f, const char *name)
{
    return f->type == &type_list ? strlist_has(row_slot(r, f), name)
                                 : str_eq(*(char **)row_slot(r, f), name);
}

bool row_is(const struct row *r, const char *field, const char *text)
{
    const struct field *f = field_find(r->section, field);
    char *now = f ? value_text(f, row_slot(r, f)) : NULL;
    bool same = str_eq(now, text);

    free(now);
    return same;
}

void *row_slot(const struct row *r, const struct field *f)
{
    return (char *)r->data + f->offset;
}

const char *row_leaf(const struct row *r)
{
    const char *slash = r->section->parent && r->name ? strchr(r->name, '/') : NULL;

    return slash ? slash + 1 : r->name ? r->name : "";
}

void row_rename(struct row *r, const char *name)
{
    char *copy = xstrdup(name);

    free(r->name);
    r->name = copy;
    sync_key(r);
}

char *row_title(const struct section *s, const char *name)
{
    const char *slash = s->parent ? strchr(name, '/') : NULL, *rest = strchr(s->command, ' ');

    if (s->single)
        return xstrdup(s->command);
    if (!slash || !rest)
        return xasprintf("%s %s", s->command, name);
    return xasprintf("%.*s %.*s%s %s", (int)(rest - s->command), s->command, (int)(slash - name),
                     name, rest, slash + 1);
}

char *row_canonical(const struct section *s, const char *name)
{
    const struct field *key = section_key(s);
    const char *slash = s->parent ? strchr(name, '/') : NULL, *leaf = slash ? slash + 1 : name;
    char *value = NULL, *out;

    if (!key)
        return xstrdup("-");
    if (!key->type->parse(key, leaf, &value, NULL))
        return xstrdup(name); /* its error is told where the value is checked */
    out = xasprintf("%.*s%s", (int)(leaf - name), name, value);
    free(value);
    return out;
}

json_t *row_to_json(const struct row *r)
{
    json_t *body = json_object();

    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        json_object_set_new_nocheck(body, f->name, f->type->to_json(f, row_slot(r, f)));
    }
    return body;
}

struct row *row_from_json(const struct section *s, const char *name, const json_t *body,
                          struct err *err)
{
    const struct field *key = section_key(s), *f;
    char *canonical, *row_key_name;
    struct row *r;
    const char *member;
    json_t *value;

    if (!json_is_object(body)) {
        err_set(err, E_INVALID, "%s %s: the body must be an object.", s->noun, str_printable(name));
        return NULL;
    }
    r = row_new(s, name);
    json_object_foreach((json_t *)body, member, value)
    {
        f = field_find(s, member);
        if (!f) {
            unknown_field(s, member, err);
        } else if (f->type->from_json(f, value, row_slot(r, f), err)) {
            continue;
        } else {
            err_wrap(err, "%s %s, %s", s->noun, str_printable(row_leaf(r)), f->name);
        }
        row_free(&r);
        return NULL;
    }
    canonical = row_canonical(s, name);
    row_key_name = key ? xstrdup(*(char **)row_slot(r, key)) : NULL;
    row_rename(r, canonical);
    if (key && json_object_get(body, key->name) && strcmp(row_key_name, row_leaf(r)) != 0) {
        err_set(err, E_INVALID, "%s %s: its %s is \"%s\"; the two must be the same.", s->noun,
                str_printable(row_leaf(r)), key->name, str_printable(row_key_name));
        row_free(&r);
    }
    free(canonical);
    free(row_key_name);
    return r;
}

void row_freeze(struct row *r)
{
    json_t *body = row_to_json(r);
    char *text = json_text(body);

    SHA256((const unsigned char *)text, strlen(text), r->hash);
    free(text);
    json_decref(body);
}

bool row_equal(const struct row *a, const struct row *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->section != b->section || !str_eq(a->name, b->name))
        return false;
    for (size_t i = 0; i < a->section->nfields; i++) {
        const struct field *f = &a->section->fields[i];

        if (!f->type->equal(row_slot(a, f), row_slot(b, f)))
            return false;
    }
    return true;
}
