/* value.h - the field types: parse, format, compare; one struct type each. Pure; any thread.
 *
 * type     C type in the struct      text form
 * text     char * (never NULL)       as is
 * host     char *                    host name or address, lower case
 * domain   char *                    "example.com", ".example.com", "default", "ALL" as .choices-like words allow
 * uint     uint64_t                  "4500"; .zero word for 0
 * port     uint64_t                  1-65535
 * size     uint64_t bytes            "20M", "100k", "512"
 * duration uint64_t seconds          "5m", "1h", "30", "3d"
 * boolean  bool                      yes/no (also y, n, on, off, true, false, 1, 0 when parsed)
 * choice   int, index into .choices  the word; parse accepts word or text, any case
 * list     struct strlist            items joined with ", "
 * pem      char *                    PEM text, many lines
 * secret   char *                    "" or a sealed reference "sealed:ID:FP"; parse never sees plain text (see secret.h)
 */
#ifndef POSTERN_VALUE_H
#define POSTERN_VALUE_H

#include "store/base/buf.h"
#include "store/base/json.h"
#include "store/base/str.h"
#include "store/schema.h"

struct type {
    const char *name, *sql; /* "port", "INTEGER" */
    bool (*parse)(const struct field *f, const char *text, void *slot, struct err *err);
    void (*format)(const struct field *f, const void *slot, struct buf *out);
    json_t *(*to_json)(const struct field *f, const void *slot); /* new */
    /* The type's own form, or a string with the text form. */
    bool (*from_json)(const struct field *f, const json_t *j, void *slot, struct err *err);
    bool (*equal)(const void *a, const void *b);
    void (*copy)(void *dst, const void *src);
    void (*release)(void *slot);
};

extern const struct type type_text, type_host, type_domain, type_uint, type_port, type_size, type_duration,
    type_boolean, type_choice, type_list, type_pem, type_secret;

typedef char *ctype_text, *ctype_host, *ctype_domain, *ctype_pem, *ctype_secret;
typedef uint64_t ctype_uint, ctype_port, ctype_size, ctype_duration;
typedef bool ctype_boolean;
typedef int ctype_choice;
typedef struct strlist ctype_list;

/* Parses into slot (released first) and runs the field's own rules: required, range, length, .check. The sentence
 * is for the administrator: "The value must be an integer from 1 to 5." */
bool value_set(const struct field *f, void *slot, const char *text, struct err *err);

/* The field's own rules alone, on a value that is there already. */
bool value_check(const struct field *f, const void *slot, struct err *err);

/* The text form of a list with the items of change added (op '+'; those there already stay once when it is set) or taken
 * out (op '-'). */
void list_change(const struct strlist *now, const char *change, char op, struct buf *out);

/* Text form as a new string; the caller frees it. */
char *value_text(const struct field *f, const void *slot);

/* Batch form of a value: quoted when needed, re-enterable. */
void value_batch(const struct field *f, const void *slot, struct buf *out);
/* The same of any text: bare when it is one plain word, else in double quotes with \n \t \" \\. */
void value_quote(const char *text, struct buf *out);

#endif
