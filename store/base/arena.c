/* arena.c - see arena.h. Blocks grow from 1 KiB to 64 KiB, so a small session's arena stays small. */
#include "store/base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_block *b = a->blocks;
    size_t align = alignof(max_align_t), size;
    void *p;

    if (n > SIZE_MAX / 2)
        xmalloc(SIZE_MAX); /* ends the process */
    n = (n + align - 1) / align * align;
    if (!b || b->size - b->used < n) {
        size = b ? b->size * 2 : 1024;
        if (size > 65536)
            size = 65536;
        if (size < n)
            size = n;
        b = xmalloc(sizeof(*b) + size);
        b->size = size;
        b->used = 0;
        b->next = a->blocks;
        a->blocks = b;
    }
    p = b->data + b->used;
    b->used += n;
    a->used += n;
    memset(p, 0, n);
    return p;
}

char *arena_slice(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_slice(a, slice_of(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    p = arena_alloc(a, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void arena_free(struct arena *a)
{
    struct arena_block *b, *next;

    for (b = a->blocks; b; b = next) {
        next = b->next;
        free(b);
    }
    a->blocks = NULL;
    a->used = 0;
}
