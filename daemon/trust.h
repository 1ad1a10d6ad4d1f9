/* trust.h - the authorities peers are verified against: the system list, the custom list, or both, as certconfig >
 * certauthority says. Built when a configuration is prepared; a change counts from the next handshake. Any thread.
 *
 * The system list is the bundle of Debian's package ca-certificates (SSL_CERT_FILE names another one). It is read when
 * the engine starts and kept until somebody asks for an update, so what is trusted never changes behind the
 * administrator's back. */
#ifndef POSTERN_TRUST_H
#define POSTERN_TRUST_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/clock.h"
#include "store/base/err.h"

X509_STORE *running_trust(void);    /* a reference for the caller (X509_STORE_free); never NULL, empty when both lists are off */
/* The names of the custom list's members, for a server that asks for certificates; the caller's (sk_X509_NAME_pop_free). NULL:
 * there are none, or too many to be sent in a handshake. */
STACK_OF(X509_NAME) *running_trust_names(void);
uint64_t running_trust_id(void);    /* changes with the lists: a session verified under another number is not reused */

/* The members of the lists with this subject, to check what they signed; new, freed with sk_X509_pop_free. NULL: none. */
STACK_OF(X509) *trust_by_subject(const X509_NAME *subject);

struct bundle { /* the system list as it was read; immutable, reference-counted */
    int refs;
    STACK_OF(X509) *certificates; /* in the order of the file, without repetitions */
    unsigned damaged;      /* certificates of the file that could not be read */
    char *path;
    char version[64];      /* of the package, "sha256:0123456789abcdef" when that is not known, "" when there is no list */
    usec_t updated;        /* when the file was written; 0: there is none */
    unsigned char digest[32]; /* of the certificates */
};
struct bundle *trust_system(void); /* the list in force; a reference for the caller. Never NULL */
void bundle_free(struct bundle **b); /* drops one reference */

/* YIELDS. Reads the bundle again; *changed: it differs and is in force now. Calls that prepare a commit exclude it, so the
 * caller runs on the loop of the control socket (commit.h). An unreadable bundle changes nothing. */
bool trust_update(bool *changed, struct err *err);

#endif
