/* x509_lib.h - what the files of certificates (x509*.c, pkcs12.c, authorities.c) share; nobody else
 * includes it. */
#ifndef POSTERN_X509_LIB_H
#define POSTERN_X509_LIB_H

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"

#define DAY 86400

void x509_clear(X509 **x);
void req_clear(X509_REQ **r);
void pkey_clear(EVP_PKEY **k);
void bio_clear(BIO **b);

#define AUTO_X509 __attribute__((cleanup(x509_clear))) X509 *
#define AUTO_REQ __attribute__((cleanup(req_clear))) X509_REQ *
#define AUTO_PKEY __attribute__((cleanup(pkey_clear))) EVP_PKEY *
#define AUTO_BIO __attribute__((cleanup(bio_clear))) BIO *

/* OpenSSL's default callback would ask on the terminal. */
int no_pass_phrase(char *buf, int size, int rwflag, void *u);
BIO *bio_of(const char *pem);
struct x509_facts;
void facts_of(X509 *x, struct x509_facts *out);
/* The reason OpenSSL gives, in its words, and an empty queue behind it. */
bool openssl_failed(struct err *err, const char *doing);

X509 *pem_first(const char *pem,
                struct err *err); /* the first certificate; new, or NULL with a sentence */
EVP_PKEY *pem_key(const char *pem, struct err *err); /* new, or NULL with a sentence */
/* Reads up to max certificates; -1 and err when one is broken or there are more. */
int pem_all(const char *pem, X509 **out, int max, struct err *err);
bool pem_add(struct buf *out, X509 *x); /* false: does not fit */
bool pem_add_key(struct buf *out, EVP_PKEY *k, struct err *err);

char *name_line(const X509_NAME *name); /* "C=US,O=Example,CN=mail"; escaped; the caller frees it */
char *name_short(const X509_NAME *name); /* the common name, or what stands for it; escaped; the
                                            caller frees it */
bool key_is_usable(EVP_PKEY *k, struct err *err); /* a kind and size TLS can use */
bool is_signed_by(X509 *child, X509 *issuer);
usec_t time_of(const ASN1_TIME *t);
/* Sorts chain[] behind leaf; the count of those that found their place is returned, the rest
 * follows them. */
int sort_chain(X509 *leaf, X509 **chain, int n);

#endif
