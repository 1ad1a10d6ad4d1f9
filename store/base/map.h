/* map.h - hash map from a string to a pointer. Keys are copied; values are borrowed. Keyed SipHash, so
 * names chosen by a peer cannot make it slow. Not thread safe. */
#ifndef POSTERN_MAP_H
#define POSTERN_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t n, cap;
    size_t used; /* slots that hold a key or the mark of a removed one */
};

void *map_get(const struct map *m, const char *key);
void map_set(struct map *m, const char *key, void *value); /* value not NULL */
void *map_remove(struct map *m, const char *key);          /* the old value or NULL */
void map_free(struct map *m);                              /* the values are the caller's */
uint64_t map_hash(const char *key); /* under the key of this process: for tables of other shapes */
/* *pos = 0 first; keys may be removed meanwhile, not added. */
bool map_next(const struct map *m, size_t *pos, const char **key, void **value);

#endif
