/* ssl.h - cipher strings and key exchange groups, as OpenSSL understands them: the same code refuses them at the prompt and
 * puts them into the contexts of running connections. Any thread. */
#ifndef POSTERN_SSL_H
#define POSTERN_SSL_H

#include <openssl/types.h>
#include <stdbool.h>

#include "store/base/err.h"
#include "store/base/str.h"

#define SSL_DEFAULT_CIPHERS "DEFAULT:!aNULL:!eNULL:!EXPORT:!RC4:!3DES:!DES:!MD5:!PSK:!SRP:!SEED:!IDEA"
#define SSL_DEFAULT_GROUPS "?X25519MLKEM768:X25519:P-256:P-384:P-521"
#define SSL_CIPHERS_HELP                                                                           \
    "An OpenSSL cipher string, elements joined by colons. TLS v1.3 suites are named in full "      \
    "(TLS_AES_256_GCM_SHA384); without any all of them are used. Anonymous ciphers never are."
#define SSL_GROUPS_HELP                                                                            \
    "Names of curves and groups joined by colons, the preferred ones first. \"?\" before a name: " \
    "if there is such a group."

/* Puts a cipher string into a context. Every element must mean something to OpenSSL, or have meant something once (SSLv2,
 * EXPORT): a misspelt exclusion would let in what it should keep out. */
bool ssl_set_ciphers(SSL_CTX *ctx, const char *ciphers, struct err *err);
bool ssl_set_groups(SSL_CTX *ctx, const char *groups, struct err *err);

/* The version as OpenSSL numbers it, of an index of choices_tls_versions. */
int ssl_version(int choice);

/* TLS 1.0 and 1.1 sign with MD5 and SHA-1, which OpenSSL refuses from its security level 1 on. This lets them in and keeps what
 * else that level demands of keys and ciphers. */
void ssl_allow_old_versions(SSL_CTX *ctx);

/* Does the string name ciphers for TLS 1.2 and older (old), for TLS 1.3 (new)? */
void ssl_ciphers_for(const char *ciphers, bool *old, bool *new);

/* The ciphers a string selects between two versions (as ssl_version gives them), a line of OpenSSL's description each. */
bool ssl_describe(const char *ciphers, int min, int max, struct strlist *lines, struct err *err);

#endif
