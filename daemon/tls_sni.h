/* tls_sni.h - several certificates behind one listener: which of them a client is shown.
 *
 * A client that names a host (SNI, RFC 6066 section 3) is shown the certificates that cover the name, exactly or by a
 * wildcard for one label; when RSA and ECDSA certificates do, the signature algorithms of the client decide. A client that names
 * none, or one that no certificate covers, gets the first certificate and those of other key types for the same host: never
 * an alert, for the peer will most likely not look at the name. A ticket is good only for the certificates it was made under.
 * Belongs to tls.c; any thread. */
#ifndef POSTERN_TLS_SNI_H
#define POSTERN_TLS_SNI_H

#include "daemon/tls.h"

#define TLS_MAX_CERTIFICATES 64u

/* ctx has its first certificate already. rules: the settings a ticket must not outlive. */
bool tls_sni_attach(SSL_CTX *ctx, const unsigned char rules[32], const struct tls_certificate *more, size_t n, struct err *err);

/* Of tls.c: the certificate and chain, then the key that belongs to it. */
bool tls_load_certificates(SSL_CTX *ctx, const char *pem, struct err *err);
bool tls_load_key(SSL_CTX *ctx, const char *pem, struct err *err);

#endif
