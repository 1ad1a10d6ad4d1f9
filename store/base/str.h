/* str.h - small helpers over C strings; xmalloc and friends end the process when memory is out. */
#ifndef POSTERN_STR_H
#define POSTERN_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"

#define countof(a) (sizeof(a) / sizeof((a)[0]))

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void str_free(char **s);                         /* for AUTO(str): free and NULL */
bool str_eq(const char *a, const char *b);       /* both may be NULL */
bool str_ieq(const char *a, const char *b);      /* ASCII, case-insensitive */
int str_icmp(const char *a, const char *b);
bool str_starts(const char *s, const char *prefix);
bool str_istarts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
size_t str_copy(char *dst, size_t size, const char *src); /* cut at size - 1, always terminated */
void str_lower(char *s);                         /* ASCII, in place */
char *str_trim(char *s);                         /* in place; returns the first byte that is not blank */
bool str_is_utf8(const char *s, size_t n);       /* valid, no NUL, no surrogates */

/* One character of well-formed UTF-8 at the front: its length and code point; 0: none. */
size_t str_utf8_char(const char *p, size_t n, uint32_t *out);

bool slice_eq(struct slice s, const char *text);
bool slice_ieq(struct slice s, const char *text);
void slice_copy(struct slice s, char *dst, size_t size); /* as str_copy */
struct slice slice_of(const char *s);
char *slice_dup(struct slice s);

/* Appends text that came from outside so that it cannot disturb a terminal or a log: control characters
 * (C0, C1, DEL), bidi and zero-width controls, invalid UTF-8 and backslash are written \xNN or \u{N}.
 * The one place where untrusted text is escaped. */
void str_escape(struct buf *out, const char *p, size_t n);
/* The same for text in which something may have been escaped before, further from the terminal: a backslash stays. */
void str_escape_again(struct buf *out, const char *p, size_t n);
const char *str_printable(const char *s);        /* the same into a small ring of static per-thread buffers */

/* "a" or "an", as the noun is said: "an SMTP route", "a user". */
const char *str_article(const char *noun);

/* A list of strings that owns its items: value of the "list" field type, also for general use. */
struct strlist {
    char **items;
    size_t n, cap;
};
void strlist_add(struct strlist *l, const char *s);
void strlist_addn(struct strlist *l, const char *s, size_t n);
bool strlist_has(const struct strlist *l, const char *s);
void strlist_copy(struct strlist *dst, const struct strlist *src); /* dst is overwritten, not freed */
void strlist_sort(struct strlist *l);
void strlist_free(struct strlist *l);
void strlist_split(struct strlist *out, const char *s, char sep); /* trimmed, empty parts dropped */
void strlist_join(const struct strlist *l, const char *sep, struct buf *out);

#endif
