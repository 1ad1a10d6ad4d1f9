/* tls.h - OpenSSL contexts for our listeners and our deliveries; the only file besides conn.c and the certificate
 * code that touches SSL objects. A context is immutable and reference-counted: a new configuration makes a new
 * one, sessions keep the one they began with. Any thread. */
#ifndef POSTERN_TLS_H
#define POSTERN_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"

struct tls_context;

/* At the top of main, before anything uses OpenSSL: gives its record buffers memory of their own (tls_memory.c),
 * without which an idle session costs twice as much. Called too late it does nothing. */
void tls_memory_start(void);

struct tls_certificate {
    const char *cert_pem, *key_pem; /* leaf first, then intermediates */
};
struct tls_settings { /* PEM texts are borrowed for the call */
    const struct tls_certificate *more; /* servers: chosen by host name and key type, see tls_sni.h */
    size_t n_more;
    const char *cert_pem;  /* leaf first, then intermediates; NULL: no certificate (client only) */
    const char *key_pem;   /* NULL with cert_pem NULL */
    int min_version, max_version; /* TLS1_2_VERSION...; 0: TLS 1.2 and the newest */
    const char *ciphers, *groups; /* as sslconfig has them (store/ssl.h); NULL: the defaults there */
    bool server;
};

/* A client's handshake succeeds whatever certificate it is shown: tls_verify.c looks at it before anything is sent.
 * NULL and err when the key does not match, a PEM text is broken, ... The text names the field. */
struct tls_context *tls_context_new(const struct tls_settings *s, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *c);
void tls_context_free(struct tls_context **c); /* drops one reference */
SSL_CTX *tls_context_ssl(struct tls_context *c);

struct tls_info { /* of an established session */
    char protocol[16], cipher[64]; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    bool resumed;
    long verify_result;            /* X509_V_OK ... */
    char peer_subject[128];        /* escaped; "" when there is no certificate */
};

void tls_info_of(SSL *ssl, struct tls_info *out);

/* The texts of the OpenSSL error queue of this thread in one line; empties the queue. */
void tls_errors(char *out, size_t size);

#endif
