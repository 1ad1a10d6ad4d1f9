/* tls_verify.h - does this peer's certificate prove what a verdict demands? One code for deliveries, daneverify and
 * tlsverify, so that a test never disagrees with a delivery. Belongs to the fiber that owns the SSL object. */
#ifndef POSTERN_TLS_VERIFY_H
#define POSTERN_TLS_VERIFY_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "daemon/tls_policy.h"
#include "store/base/str.h"

struct dane;

struct tls_names { /* reference names of one host; borrowed */
    const char *domain;   /* of the recipients (next hop): "example.com" */
    const char *expanded; /* the same after CNAMEs; NULL or equal: none */
    const char *host;     /* MX host or host of the route */
    const char *ptr;      /* name of the address by reverse and forward DNS; NULL: none. Verify Hosted Domains only */
    bool mx_secure;       /* the domain's MX answer was signed: domain names count for DANE-TA (RFC 7672 section 3.2.2) */
};

/* Before the handshake: TLSA records, SNI and what else the checks need. checks: must | look of the verdict. */
bool tls_verify_prepare(SSL *ssl, unsigned checks, const struct tls_names *names, const struct dane *dane,
                        struct err *err);
/* After it: the checks that passed. why: for one that did not, a phrase fit for the log, escaped
 * ("peer cert does not match domain example.com"). matched: the name or TLSA record that did ("" if none). */
unsigned tls_verify_result(SSL *ssl, unsigned checks, const struct tls_names *names, const struct dane *dane,
                           char *why, size_t why_size, char *matched, size_t matched_size);

/* Pure; the seeds' two ways to match a name. sans: dNSNames of the certificate; cn: its common name, "" if none. */
const char *tls_match_verify(const struct strlist *sans, const char *cn, const struct tls_names *names); /* NULL: no match */
const char *tls_match_hosted(const struct strlist *sans, const char *cn, const struct tls_names *names);

#endif
