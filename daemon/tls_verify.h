/* tls_verify.h - does this peer's certificate prove what a verdict demands? One code for
 * deliveries, daneverify and tlsverify, so that a test never disagrees with a delivery. Belongs to
 * the fiber that owns the SSL object.
 *
 * The library builds chains and compares TLSA records; the names of the seeds' two methods are
 * compared here. A check that fails does not end the handshake: whoever asked looks at the result
 * before anything is sent. */
#ifndef POSTERN_TLS_VERIFY_H
#define POSTERN_TLS_VERIFY_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "daemon/tls_policy.h"
#include "store/base/str.h"

struct dane;

struct tls_names { /* reference names of one host; borrowed */
    const char *domain; /* of the recipients (next hop): "example.com" */
    const char *expanded; /* the same after CNAMEs; NULL or equal: none */
    const char *host; /* MX host or host of the route */
    const char *route; /* of a route: its host as the administrator wrote it, a name or an address;
                          NULL: none */
    const char *ptr; /* name of the address by reverse and forward DNS; NULL: none. Verify Hosted
                        Domains only */
    bool mx_secure; /* the domain's MX answer was signed: domain names count for DANE-TA (RFC 7672
                       section 3.2.2) */
    bool fqdn, x509; /* sslconfig: names must be fully qualified; signature algorithm, version and
                        name are looked at */
};

struct tls_verified {
    unsigned passed; /* TLS_CHECK_* bits */
    char why[TLS_CHECKS][200]; /* of each check that was asked for and failed: a phrase, escaped
                                * ("peer cert does not match domain example.com") */
    char matched[300]; /* name or TLSA record that matched, escaped; "" if none */
};

/* Before the handshake: authorities, TLSA records, SNI. checks: must | look of the verdict. modern:
 * TLS 1.2 at least. */
bool tls_verify_prepare(SSL *ssl, unsigned checks, bool modern, const struct tls_names *names,
                        const struct dane *dane, struct err *err);
/* After it. A resumed session counts as what it was verified as when it began; it must have been
 * kept under the same keys (tls_verify_key). */
void tls_verify_result(SSL *ssl, unsigned checks, const struct tls_names *names,
                       const struct dane *dane, struct tls_verified *out);
const char *tls_verify_why(const struct tls_verified *v,
                           unsigned missing); /* of the first of these checks */

/* What each of these checks compares with: keys of a proof (struct tls_need, tls_proof). */
void tls_verify_keys(unsigned checks, const struct tls_names *names, const struct dane *dane,
                     unsigned char keys[TLS_CHECKS][TLS_KEY]);

/* Stands for the authorities and the revocation lists: what was verified under another one is verified again. Any thread. */
uint64_t tls_verify_id(void);

/* Pure; does a name of a certificate cover a host name? Wildcards: the whole left-most label, one
 * label. */
bool tls_name_covers(const char *pattern, const char *name);

/* Pure; the seeds' two ways to match a name. sans: dNSNames of the certificate; cn: its common
 * name, "" if none. The name of the certificate that matched, NULL: none. */
const char *tls_match_verify(const struct strlist *sans, const char *cn,
                             const struct tls_names *names);
const char *tls_match_hosted(const struct strlist *sans, const char *cn,
                             const struct tls_names *names);

#endif
