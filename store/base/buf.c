/* buf.c - see buf.h. */
#include "store/base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

char *buf_reserve(struct buf *b, size_t n)
{
    size_t want, cap;

    if (n > b->max || b->n > b->max - n || b->max == SIZE_MAX) {
        b->full = true;
        return NULL;
    }
    want = b->n + n + 1; /* and the NUL */
    if (want > b->cap) {
        cap = b->cap ? b->cap : 64;
        while (cap < want)
            cap = cap > SIZE_MAX / 2 ? want : cap * 2;
        if (cap > b->max + 1)
            cap = b->max + 1;
        b->p = xrealloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    char *to;

    if (n == 0)
        return;
    to = buf_reserve(b, n);
    if (!to)
        return;
    memcpy(to, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void buf_str_add(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    char small[256], *to;
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(small, sizeof(small), fmt, ap);
    if (n < 0) {
        b->full = true;
    } else if ((size_t)n < sizeof(small)) {
        buf_add(b, small, (size_t)n);
    } else if ((to = buf_reserve(b, (size_t)n)) != NULL) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->n) {
        b->n = 0;
    } else if (n > 0) {
        memmove(b->p, b->p + n, b->n - n);
        b->n -= n;
    }
    if (b->p)
        b->p[b->n] = '\0';
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->full = false;
    if (b->p)
        b->p[0] = '\0';
}

void buf_free(struct buf *b)
{
    free(b->p);
    b->p = NULL;
    b->n = b->cap = 0;
    b->full = false;
}

const char *buf_str(const struct buf *b)
{
    if (!b->p)
        return "";
    b->p[b->n] = '\0'; /* buf_reserve users only move n */
    return b->p;
}

char *buf_take(struct buf *b)
{
    char *p = b->p ? b->p : xstrdup("");

    p[b->n] = '\0';
    b->p = NULL;
    b->n = b->cap = 0;
    b->full = false;
    return p;
}
