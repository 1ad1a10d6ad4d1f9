/* authorities.h - lists of certificate authorities in PEM: reading them within bounds, naming their members. The texts come
 * from files of strangers. Pure; any thread. */
#ifndef POSTERN_AUTHORITIES_H
#define POSTERN_AUTHORITIES_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/err.h"

#define AUTHORITIES_MAX 1000u /* in the custom list */

struct authorities {
    X509 **items; /* in the order of the text, each once */
    size_t n, cap;
    unsigned repeated, damaged; /* left out */
};

/* At most max of them, else E_LIMIT. strict: one that is damaged is an error that gives its number in the text; otherwise it is
 * left out. A text without any certificate is an error either way. On false out is empty. */
bool authorities_read(const char *pem, size_t n, size_t max, bool strict, struct authorities *out, struct err *err);
void authorities_free(struct authorities *a);

/* A name for the list, made of the subject: "ISRG-Root-X1"; fit for check_profile_name, never "". */
#define AUTHORITY_NAME 65
void authority_name(const X509 *x, char out[AUTHORITY_NAME]);
void authority_fingerprint(const X509 *x, char out[65]); /* SHA-256, lower-case hexadecimal */
void authority_pem(X509 *x, struct buf *out);            /* appended */
bool authority_is_ca(X509 *x);
char *authority_dn(const X509_NAME *name);               /* "C=US,O=Example,CN=Example CA", escaped; the caller frees it */

/* FQDN validation: a common name or DNS name, where the certificate has them, must be a fully qualified domain name, and it
 * must have one. The sentence names what is not. */
bool authority_check_fqdn(const X509 *x, struct err *err);

#endif
