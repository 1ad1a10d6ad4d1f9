/* ldap_query.h - the questions of ldap_auth.h step by step, for ldap.test: the same code, with what was asked and found on
 * the way. */
#ifndef POSTERN_LDAP_QUERY_H
#define POSTERN_LDAP_QUERY_H

#include "daemon/ldap_auth.h"
#include "store/base/buf.h"

struct ldap_pool;

enum ldap_outcome { LDAP_MATCHED, LDAP_NO_MATCH, LDAP_SEVERAL, LDAP_REFUSED, LDAP_FAILED };

struct ldap_report { /* of one search, and of the password that was tried on what it found */
    enum ldap_outcome outcome; /* REFUSED: found, but the password was wrong */
    char filter[4000], base[1024], dn[1024]; /* escaped for people; "": there is none */
    char user[328]; /* of a certificate query: who it is; without control characters */
    struct err why; /* a sentence about the outcome; of MATCHED too */
};

/* One query on one host (-1: as configured), without the cache. All YIELD. */
struct ldap_asking {
    const struct ldap_query *query;
    struct ldap_pool *pool;
    int host;
    msec_t deadline;
};
enum ldap_verdict ldap_ask_password(const struct ldap_asking *a, const char *user, const char *password,
                                    struct ldap_report *out); /* password NULL: only who it is */
enum ldap_verdict ldap_ask_allowed(const struct ldap_asking *a, const char *user, struct ldap_report *out);
enum ldap_verdict ldap_ask_certificate(const struct ldap_asking *a, const struct ldap_certificate *who, struct ldap_report *out);

#endif
