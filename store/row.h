/* row.h - one object of a section, read and written through its fields. Reference-counted; a row that is part of a
 * snapshot is never changed (row_copy first). The struct of config.h is at row->data. */
#ifndef POSTERN_ROW_H
#define POSTERN_ROW_H

#include "store/base/json.h"
#include "store/value.h"

struct row {
    const struct section *section;
    char *name;   /* key: "InboundMail", "InboundMail/RELAYLIST", "-" for single sections; a new object of an owner
                   * starts as "InboundMail/" and gets the rest when its key field is set */
    void *data;   /* struct listener *, ... */
    int refs;     /* atomic */
    unsigned char hash[32]; /* SHA-256 of the canonical JSON body, valid once frozen */
};

struct row *row_new(const struct section *s, const char *name); /* with defaults; name may be NULL until set */
struct row *row_copy(const struct row *r);  /* a changeable copy */
struct row *row_ref(struct row *r);
void row_free(struct row **r);              /* drops one reference */

bool row_set(struct row *r, const char *field, const char *text, struct err *err); /* unknown field: E_USAGE with the names */
const char *row_text(const struct row *r, const char *field); /* text form; small ring of per-thread buffers */
bool row_is(const struct row *r, const char *field, const char *text);
bool row_names(const struct row *r, const struct field *f, const char *name); /* is that what f, a text or a list, holds? */
void *row_slot(const struct row *r, const struct field *f);
const char *row_leaf(const struct row *r);  /* the name without "OWNER/" */
void row_rename(struct row *r, const char *name);
/* The name as the store spells it ("Example.COM" is "example.com"); the caller frees it. */
char *row_canonical(const struct section *s, const char *name);

/* How messages name an object: "listenerconfig InboundMail hostaccess policy ACCEPTED"; the caller frees it. */
char *row_title(const struct section *s, const char *name);

json_t *row_to_json(const struct row *r);   /* new; canonical: all fields in schema order */
/* Unknown members are refused (E_USAGE), missing ones take the default; the name becomes canonical. The rules of the
 * fields are check_row_fields' (check.h): a stored object must load even when a later release is stricter. */
struct row *row_from_json(const struct section *s, const char *name, const json_t *body, struct err *err);
void row_freeze(struct row *r);             /* computes hash */
bool row_equal(const struct row *a, const struct row *b);

#endif
