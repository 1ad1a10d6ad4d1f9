/* certs.h - certificates made on the spot, so that no test carries one that expires. */
#ifndef POSTERN_TESTS_CERTS_H
#define POSTERN_TESTS_CERTS_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct test_cert {
    char *cert, *key; /* PEM */
};

static inline char *test_pem(BIO *b)
{
    char *p, *text;
    long n = BIO_get_mem_data(b, &p);

    text = malloc((size_t)n + 1);
    memcpy(text, p, (size_t)n);
    text[n] = '\0';
    BIO_free(b);
    return text;
}

/* Self-signed, ECDSA P-256 unless rsa_bits is given. names: "DNS:a.example,DNS:b.example" or NULL;
 * ca: with the CA flag. */
static inline struct test_cert test_cert_named(const char *cn, const char *names, int rsa_bits,
                                               int ca, long days)
{
    EVP_PKEY *key = rsa_bits ? EVP_RSA_gen((unsigned)rsa_bits) : EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    BIO *cert_out = BIO_new(BIO_s_mem()), *key_out = BIO_new(BIO_s_mem());

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), days * 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_set_pubkey(x, key);
    for (int i = 0; i < 2; i++) {
        const char *value = i ? names : ca ? "critical,CA:TRUE" : NULL;
        int use = value && !strncmp(value, "EKU:", 4); /* names: "EKU:serverAuth" instead */
        X509_EXTENSION *e =
            value ? X509V3_EXT_conf_nid(NULL, NULL,
                                        use ? NID_ext_key_usage
                                        : i ? NID_subject_alt_name
                                            : NID_basic_constraints,
                                        value + 4 * use)
                  : NULL;

        if (e)
            X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    X509_sign(x, key, EVP_sha256());
    PEM_write_bio_X509(cert_out, x);
    PEM_write_bio_PrivateKey(key_out, key, NULL, NULL, 0, NULL, NULL);
    X509_free(x);
    EVP_PKEY_free(key);
    return (struct test_cert){test_pem(cert_out), test_pem(key_out)};
}

static inline struct test_cert test_cert_new(const char *cn, int rsa_bits)
{
    return test_cert_named(cn, NULL, rsa_bits, 0, 1);
}

static inline void test_cert_free(struct test_cert *c)
{
    free(c->cert);
    free(c->key);
}

#endif
