/* ldap_cache.h - answers of a directory, remembered for a while. Questions are kept as a keyed hash under a key of this
 * process, so neither passwords nor names lie here; of a password's proof only that the same one proves again. Bounded: the
 * answer that was not asked for the longest time goes. Any thread. */
#ifndef POSTERN_LDAP_CACHE_H
#define POSTERN_LDAP_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/clock.h"
#include "store/base/str.h"

struct ldap_cache;
struct ldap_cache *ldap_cache_new(size_t max, msec_t ttl); /* either 0: remembers nothing */
void ldap_cache_free(struct ldap_cache **c);

struct ldap_question {
    char key[33];
};
void ldap_question_of(struct ldap_question *q, const struct slice *parts, size_t n); /* in this order */

/* user: of a certificate, "" else; cut at size. */
bool ldap_cache_get(struct ldap_cache *c, const struct ldap_question *q, bool *yes, char *user, size_t size);
/* For the cache's time or longest, whichever is shorter; a "no" for some seconds at most: who has just been given a
 * password wants to use it. */
void ldap_cache_put(struct ldap_cache *c, const struct ldap_question *q, bool yes, const char *user, msec_t longest);

size_t ldap_cache_flush(struct ldap_cache *c); /* how many were forgotten */
size_t ldap_cache_count(struct ldap_cache *c);
size_t ldap_cache_max(const struct ldap_cache *c);

#endif
