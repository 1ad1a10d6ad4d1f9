/* dns_answer.h - one answer of the DNS as the resolver delivered it, and what its rdata say. Pure:
 * rdata are octets from the network, and every length in them may lie. Immutable once made, shared
 * by reference count; any thread. */
#ifndef POSTERN_DNS_ANSWER_H
#define POSTERN_DNS_ANSWER_H

#include <stdatomic.h>
#include <stddef.h>

#include "daemon/dns.h"

enum dns_type {
    TYPE_A = 1,
    TYPE_NS = 2,
    TYPE_CNAME = 5,
    TYPE_SOA = 6,
    TYPE_PTR = 12,
    TYPE_MX = 15,
    TYPE_TXT = 16,
    TYPE_AAAA = 28,
    TYPE_SRV = 33,
    TYPE_DS = 43,
    TYPE_RRSIG = 46,
    TYPE_DNSKEY = 48,
    TYPE_TLSA = 52,
    TYPE_CAA = 257,
};

struct dns_rdata {
    const unsigned char *p;
    size_t n;
};

struct dns_answer {
    atomic_int refs;
    enum dns_status status;
    bool secure;
    bool unvalidated; /* whoever gave it did not validate: that it is not secure says nothing */
    int rcode;
    int type;
    char canonical[256]; /* of the records; the name asked for when there is no alias; without the
                            final dot */
    char why[200]; /* bogus, failed: the resolver's reason, escaped; else "" */
    unsigned ttl; /* of the moment when it was made */
    msec_t made;
    size_t bytes; /* of memory */
    unsigned n;
    struct dns_rdata *rdata;
};

#define DNS_MAX_RECORDS 4000u /* more do not fit into one message */

/* A copy of rdata is made. name is what was asked for; canonical NULL: the same. */
struct dns_answer *dns_answer_new(const char *name, const char *canonical, int type,
                                  enum dns_status status, const struct dns_rdata *rdata, size_t n);
struct dns_answer *dns_answer_ref(struct dns_answer *a);
void dns_answer_free(struct dns_answer **a); /* drops one reference */
unsigned dns_answer_ttl(const struct dns_answer *a); /* seconds that are left */

/* YIELDS. Any type, as dns.h asks (dns.c). Never NULL; drop the reference. */
struct dns_answer *dns_ask(const char *name, int type, msec_t deadline, bool *cached);

/* A name of uncompressed labels, in lower case, without the final dot; "" is the root. false: not a
 * name, or one that no host can have. *used, unless NULL, is its length. */
bool dns_wire_name(const unsigned char *p, size_t n, char *out, size_t size, size_t *used);

/* Records that are malformed are left out. out is overwritten; what it has of status, security,
 * canonical and ttl comes from a. */
void dns_answer_mx(const struct dns_answer *a, struct dns_mx *out);
void dns_answer_addresses(const struct dns_answer *a,
                          struct dns_addrs *out); /* adds to out, which must be valid */
void dns_answer_tlsa(const struct dns_answer *a, struct dns_tlsa *out);
void dns_answer_texts(const struct dns_answer *a, struct dns_texts *out);

/* "10 mail.example.com.", "3 1 1 0C72...", "\"v=STSv1; id=1;\""; of other types RFC 3597's "\# 4
 * C0000201". Escaped. */
void dns_rdata_text(int type, const struct dns_rdata *r, struct buf *out);
/* "MX", "TYPE65280"; in a ring of a few buffers per thread. */
const char *dns_type_name(int type);
const char *dns_rcode_name(int rcode); /* "SERVFAIL", "code 23" */
int dns_type_of(const char *name); /* any case, "TYPE65280"; -1: no such type */

#endif
