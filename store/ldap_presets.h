/* ldap_presets.h - what a directory of each kind usually looks like: the defaults of ldapconfig's questions. Constant; any
 * thread. */
#ifndef POSTERN_LDAP_PRESETS_H
#define POSTERN_LDAP_PRESETS_H

#include "store/schema.h"

struct ldap_preset {
    enum ldap_types type;
    unsigned port;          /* offered for the field "port": 0 is 389, with LDAPS 636 */
    unsigned ldaps_port;    /* the same when security is "ldaps" */
    const char *base;       /* an example to offer: "dc=example,dc=com" */
    const char *bind_dn;    /* an example of a bind username */
    const char *smtpauth_filter; /* query string of an smtpauth query */
    const char *allowance;  /* an example of an allowance query string; not a default */
    const char *certauth_filter; /* query string of a certauth query with the fields below */
    const char *certauth_fields; /* "cn, sn" */
    const char *user_attribute;  /* of certauth queries: "uid" */
    const char *password_attribute; /* of method "attribute"; Active Directory gives no password to anybody: use bind */
};

const struct ldap_preset *ldap_preset(enum ldap_types type); /* never NULL */

#endif
