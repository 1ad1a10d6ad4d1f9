/* pkcs12.h - certificates with their keys in PKCS#12 files (RFC 7292), in and out. Any thread, but slow on purpose
 * (keys are derived from pass phrases): on a worker.
 *
 * Files come from outside: their size, the number of their bags and the work their iteration counts ask for are bounded.
 * Old ciphers (RC2, 3DES) are read with OpenSSL's legacy provider in a library context of its own, so that nothing
 * else in the process can use them. */
#ifndef POSTERN_PKCS12_H
#define POSTERN_PKCS12_H

#include "store/cert_file.h"

struct X509_algor_st;

/* Reads the key number which (from 1; 0: the only one), its certificate and its chain. With several keys and no number:
 * false, E_CONFLICT, and out->keys names them. E_DENIED: wrong pass phrase. Free out in any case. */
bool pkcs12_read(const void *der, size_t n, const char *pass, unsigned which, struct cert_file *out, struct err *err);

/* Adds the rounds of key derivation an encryption asks for; false: more than CERT_FILE_ROUNDS, or it cannot be read.
 * *old: the cipher is one of another century. */
bool pkcs12_rounds(const struct X509_algor_st *a, uint64_t *rounds, bool *old, struct err *err);

/* name: the friendly name. old: 3DES and SHA-1, for programs that do not read AES. */
bool pkcs12_write(const char *certificate, const char *intermediates, const char *private_key, const char *name,
                  const char *pass, bool old, struct buf *out, struct err *err);

#endif
