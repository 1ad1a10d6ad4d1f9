/* change.h - a candidate: changed objects over a base revision; overlay, diff, three-way merge. Pure. */
#ifndef POSTERN_CHANGE_H
#define POSTERN_CHANGE_H

#include "store/base/map.h"
#include "store/config.h"

struct change {            /* one object */
    const struct section *section;
    char *name;
    struct row *base;      /* as it was in the base revision; NULL: absent */
    struct row *now;       /* NULL: deleted */
};

struct changes {           /* a change list; at most one entry per object */
    struct change *items;
    size_t n, cap;
    struct map index;      /* "section\x1fname" -> position + 1 */
    uint64_t base_revision;
};

/* Takes references to the rows. The base of an object that is in the list already stays; an edit that leads back to the
 * base takes the object out of the list. Pointers to items are valid until the next put or drop. */
void changes_put(struct changes *c, const struct section *s, const char *name, const struct row *base, struct row *now);
void changes_drop(struct changes *c, const struct section *s, const char *name);
const struct change *changes_find(const struct changes *c, const struct section *s, const char *name);
void changes_free(struct changes *c);

/* A new snapshot: base with the changes on top. */
struct config *changes_apply(const struct config *base, const struct changes *c, uint64_t revision);

/* Differences between two snapshots as a change list (base = a's, now = b's). Costs by what differs. */
void config_diff(const struct config *a, const struct config *b, struct changes *out);

struct conflict {
    const struct section *section;
    char *name;
    const struct field *field; /* NULL: one side deleted the object */
    char *was, *theirs, *mine; /* text forms, secrets masked */
};
struct conflicts {
    struct conflict *items;
    size_t n, cap;
};
void conflicts_free(struct conflicts *c);

/* Field-by-field three-way merge onto head. mine carries its own base rows. What is already so is dropped; disjoint edits
 * combine; the rest is listed. true: no conflict, out is ready to apply to head. */
bool changes_merge(const struct config *head, const struct changes *mine, struct changes *out, struct conflicts *conflicts);

#endif
