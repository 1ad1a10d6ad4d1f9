/* ldap_filter.h - search filters of LDAP (RFC 4515) with macros: "(&(uid={u})(cacemergency>={t}))". A template is parsed
 * once, without values; then values are put in as values, so whatever they hold never becomes syntax. Pure; any thread.
 *
 * A macro without a value matches nothing, under "not" as well: an item that uses it counts as false wherever "true" would
 * find more entries, and as true where "false" would. Blanks between the parts of a filter are accepted, as directories'
 * own tools do; inside a value they count. */
#ifndef POSTERN_LDAP_FILTER_H
#define POSTERN_LDAP_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/arena.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum ldap_macro {
    MACRO_USER,        /* {u} user name, without the domain */
    MACRO_DOMAIN,      /* {d} */
    MACRO_ADDRESS,     /* {a} user@domain */
    MACRO_TIME,        /* {t} now, "20261128133000Z" */
    MACRO_CN,          /* {cn} of a certificate: common name, */
    MACRO_SERIAL,      /* {sn} serial number, */
    MACRO_EMAIL,       /* {e} mail address, */
    MACRO_UPN,         /* {upn} principal name, */
    MACRO_SUBJECT,     /* {dn} distinguished name, */
    MACRO_ISSUER,      /* {i} the same of its issuer, */
    MACRO_FINGERPRINT, /* {fp} SHA-256 fingerprint */
    MACROS
};
#define MACRO_BIT(m) (1U << (m))
#define MACRO_USER_BITS (MACRO_BIT(MACRO_USER) | MACRO_BIT(MACRO_DOMAIN) | MACRO_BIT(MACRO_ADDRESS))
#define MACRO_CERTIFICATE_BITS (~0U << MACRO_CN & (MACRO_BIT(MACROS) - 1))

const char *ldap_macro_name(enum ldap_macro m);                  /* "u", "cn" */
bool ldap_macro_find(const char *name, enum ldap_macro *out);    /* "cn"; any case */

struct ldap_values { /* borrowed; NULL and "" alike: no value */
    const char *of[MACROS];
};
void ldap_time_value(usec_t now, char out[16]); /* of {t}: GeneralizedTime in UTC */

struct ldap_template;
/* NULL: err has a sentence that says where and what. The text is at most 100,000 bytes. */
struct ldap_template *ldap_template_parse(const char *text, struct err *err);
void ldap_template_free(struct ldap_template **t);
unsigned ldap_template_macros(const struct ldap_template *t); /* MACRO_BITs it uses */

enum ldap_op { LDAP_AND, LDAP_OR, LDAP_NOT, LDAP_EQUAL, LDAP_SUBSTRINGS, LDAP_GREATER, LDAP_LESS, LDAP_PRESENT, LDAP_APPROX, LDAP_MATCH };
struct ldap_node { /* of a filter that is to be sent */
    enum ldap_op op;
    const struct ldap_node *child, *next; /* of AND (at least one), OR (at least one), NOT (one) */
    struct slice attribute;               /* of items; LDAP_MATCH: may be empty */
    struct slice rule;                    /* LDAP_MATCH: OID or name of the matching rule, may be empty */
    bool dn;                              /* LDAP_MATCH: ":dn" */
    /* Items: the value in parts[0]. LDAP_SUBSTRINGS: the first is the beginning and the last the end, both may be empty
     * (none); those between are not. */
    const struct slice *parts;
    size_t n;
};

/* In the arena. NULL: it can match nothing, because *lacking has no value. */
const struct ldap_node *ldap_template_fill(const struct ldap_template *t, const struct ldap_values *values, struct arena *arena,
                                           enum ldap_macro *lacking);

/* RFC 4515 text, values escaped: what the directory is asked, for people. */
void ldap_filter_print(const struct ldap_node *f, struct buf *out);

/* A name of an attribute: letters, digits and hyphens, or an OID; with ";option"s. */
bool ldap_attribute_check(const char *name, struct err *err);

#endif
