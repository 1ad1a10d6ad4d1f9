/* dns_cache.h - answers that were given, by name and type, until their time is up: asking libunbound again would cost a walk
 * through its thread. Failures are not kept. Bounded in bytes, the one that was not used longest goes first. Any thread. */
#ifndef POSTERN_DNS_CACHE_H
#define POSTERN_DNS_CACHE_H

#include "daemon/dns_answer.h"

struct dns_cache_totals {
    size_t entries, bytes, max_bytes;
    uint64_t hits, misses, expired;
};

struct dns_answer *dns_cache_get(const char *name, int type); /* a reference, or NULL */
void dns_cache_put(const char *name, const struct dns_answer *a);
void dns_cache_flush(const char *name); /* that name and what is below it; NULL: everything */
void dns_cache_limit(size_t bytes);
void dns_cache_totals(struct dns_cache_totals *out);

#endif
