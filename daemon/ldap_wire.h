/* ldap_wire.h - messages of LDAPv3 (RFC 4511), there and back. Requests are written with liblber; answers are looked at where
 * they lie, with every length checked against what encloses it: nothing is allocated for what a server says. Pure; any
 * thread. */
#ifndef POSTERN_LDAP_WIRE_H
#define POSTERN_LDAP_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/base/str.h"
#include "store/ldap_filter.h"

#define LDAP_MESSAGE_MAX (512u << 10) /* bytes of an answer: we ask for one attribute of two entries */

/* Appended to out, which the caller cleanses where it held a password. id: 1 to 2147483647. */
void ldap_put_bind(struct buf *out, int id, const char *dn, const char *password); /* simple; both "": anonymous */
void ldap_put_bind_external(struct buf *out, int id);                              /* SASL EXTERNAL (RFC 4422 appendix A) */
void ldap_put_starttls(struct buf *out, int id);
void ldap_put_unbind(struct buf *out, int id);

struct ldap_search {
    const char *base; /* "": the root */
    bool base_only;   /* the base object alone; else the whole subtree */
    const struct ldap_node *filter;
    const char *attribute; /* to return; NULL: none */
    unsigned size_limit, time_limit; /* entries, seconds */
};
void ldap_put_search(struct buf *out, int id, const struct ldap_search *s);

/* How long the message at the beginning of in is. 0: more is needed to tell, or to have it whole. false: it is none, or
 * longer than LDAP_MESSAGE_MAX. */
bool ldap_frame(struct slice in, size_t *length, struct err *err);

enum ldap_answer { LDAP_BIND_ANSWER, LDAP_ENTRY, LDAP_REFERENCE, LDAP_SEARCH_DONE, LDAP_EXTENDED, LDAP_OTHER_ANSWER };
struct ldap_message { /* slices lie in the message */
    int id;           /* 0: unasked */
    enum ldap_answer kind;
    int code;         /* result of BIND_ANSWER, SEARCH_DONE, EXTENDED */
    struct slice dn;  /* of an ENTRY; else matchedDN */
    struct slice text; /* diagnostic message of a result, as the server wrote it */
    struct slice oid; /* EXTENDED: responseName or empty */
    struct slice attributes; /* ENTRY */
};
bool ldap_parse(struct slice message, struct ldap_message *out, struct err *err);

/* The values of an entry's attribute, at most max of them; of its only attribute when none has that name (servers may know
 * it by another one). Those with octets 0 are left out. */
void ldap_entry_values(const struct ldap_message *entry, const char *attribute, size_t max, struct strlist *out);

#define LDAP_NOTICE_OF_DISCONNECTION "1.3.6.1.4.1.1466.20036"

enum { /* results that decide something; RFC 4511 section 4.1.9 */
    LDAP_R_SUCCESS = 0,
    LDAP_R_OPERATIONS_ERROR = 1,
    LDAP_R_TIME_LIMIT = 3,
    LDAP_R_SIZE_LIMIT = 4,
    LDAP_R_REFERRAL = 10,
    LDAP_R_ADMIN_LIMIT = 11,
    LDAP_R_CONSTRAINT = 19,
    LDAP_R_NO_SUCH_OBJECT = 32,
    LDAP_R_INAPPROPRIATE_AUTH = 48,
    LDAP_R_INVALID_CREDENTIALS = 49,
    LDAP_R_INSUFFICIENT_ACCESS = 50,
    LDAP_R_BUSY = 51,
    LDAP_R_UNAVAILABLE = 52,
    LDAP_R_UNWILLING = 53,
    LDAP_R_OTHER = 80,
};
const char *ldap_result_name(int code); /* "invalidCredentials"; "unknown" */
void ldap_result_text(int code, char out[80]); /* <LDAP Error "invalidCredentials" [0x31]> */

#endif
