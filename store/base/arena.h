/* arena.h - memory with one life: what is allocated here is released together, never one by one.
 * Not thread safe. Allocations are aligned for any type and zeroed. */
#ifndef POSTERN_ARENA_H
#define POSTERN_ARENA_H

#include <stddef.h>

#include "store/base/buf.h"

struct arena_block;
struct arena {
    struct arena_block *blocks;
    size_t used; /* bytes handed out, for limits */
};

void *arena_alloc(struct arena *a, size_t n);
char *arena_strdup(struct arena *a, const char *s);
char *arena_slice(struct arena *a, struct slice s); /* NUL-terminated copy */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *a); /* everything; the arena may be used again */

#endif
