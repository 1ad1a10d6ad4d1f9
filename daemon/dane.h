/* dane.h - TLSA records of mail hosts: where to look, which are usable (RFC 7672 sections 2 and 3,
 * RFC 7671). What the records mean for a delivery is tls_policy.c's business; comparing them with a
 * certificate is OpenSSL's (tls_verify.c). Any thread. */
#ifndef POSTERN_DANE_H
#define POSTERN_DANE_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/dns.h"
#include "daemon/tls_policy.h"

struct dane {
    enum dane_state state;
    char base[256]; /* TLSA base domain: also the name sent as SNI and the first reference name */
    unsigned n; /* usable records, at most DANE_MAX_RECORDS */
    struct tlsa *records;
    unsigned unusable; /* records left out */
    bool asked; /* for TLSA; then the answer that decided: */
    enum dns_status status;
    enum dns_security security;
    unsigned ttl; /* seconds the finding may be kept: the least of the chain of answers */
    char why[200]; /* DANE_FAILED, DANE_UNUSABLE: a sentence, escaped */
};
#define DANE_MAX_RECORDS 100u

/* YIELDS. What the DNS says about host on port. mx_secure: the MX answer that named it was signed
 * (or there was a configured next hop); addrs: the answer for its addresses, with their security
 * and the name they were found under. TLSA is asked for at the expanded name first, then at the
 * original one (RFC 7672 section 2.2.3). */
void dane_look_up(const char *host, unsigned port, bool mx_secure, const struct dns_addrs *addrs,
                  msec_t deadline, struct dane *out);
void dane_free(struct dane *d);

/* Pure. NULL: usable for SMTP; else why not, as a phrase: "usage 1 (PKIX-EE) is not for SMTP". */
const char *tlsa_unusable(const struct tlsa *t);
void tlsa_format(const struct tlsa *t, char *out, size_t size); /* "3 1 1 0c72ac70b745ac19..." */

#endif
