/* buf.h - a growing byte buffer with a maximum, and a borrowed run of bytes.
 *
 * A struct buf is made with its maximum; what would exceed it sets .full and appends nothing, so a writer may
 * append on and look once at the end. Memory is released by buf_free or by AUTO(buf). The bytes are
 * always followed by a NUL that does not count. Not thread safe. */
#ifndef POSTERN_BUF_H
#define POSTERN_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct slice { /* borrowed, not NUL-terminated */
    const char *p;
    size_t n;
};

struct buf {
    char *p;        /* NULL until something is appended; buf_str() is never NULL */
    size_t n, cap;  /* bytes used, bytes allocated */
    size_t max;     /* never holds more than this */
    bool full;      /* something did not fit */
};

#define BUF_INIT(maximum) {.max = (maximum)}

void buf_add(struct buf *b, const void *p, size_t n);
void buf_str_add(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
char *buf_reserve(struct buf *b, size_t n); /* room for n bytes behind the end (NULL: over max); then b->n += used */
void buf_drop(struct buf *b, size_t n);     /* removes n bytes from the front */
void buf_reset(struct buf *b);              /* empty, memory kept */
void buf_free(struct buf *b);               /* empty, memory released; may be used again */
const char *buf_str(const struct buf *b);   /* NUL-terminated, valid until the next change */
char *buf_take(struct buf *b);              /* hands the NUL-terminated bytes to the caller, who frees them */

/* Runs thing_free(&variable) at the end of the scope: AUTO(buf) struct buf b = BUF_INIT(100); */
#define AUTO(thing) __attribute__((cleanup(thing##_free)))

#endif
