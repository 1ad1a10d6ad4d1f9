/* dns_packet.h - questions and answers as they travel (RFC 1035 section 4), for asking one server past the resolver: health
 * checks and "dig @SERVER". Pure: reading never leaves the message, however its lengths and pointers lie. Any thread. */
#ifndef POSTERN_DNS_PACKET_H
#define POSTERN_DNS_PACKET_H

#include <stdint.h>

#include "daemon/dns_answer.h"

#define DNS_PACKET_MAX 65535

/* Recursion desired, DO and CD set, room for 1232 bytes. Returns the length; 0: not a name. */
size_t dns_packet_question(unsigned char *out, size_t size, unsigned id, const char *name, int type);

enum dns_section { DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL };
struct dns_packet { /* what is read of a message */
    const unsigned char *p;
    size_t n, at;
    unsigned id, flags, rcode; /* rcode without its extension */
    unsigned questions, left[3];
};
struct dns_record {
    enum dns_section section;
    char name[256];
    int type, class;
    unsigned ttl;
    struct dns_rdata rdata;        /* as it stands there */
    unsigned char expanded[1024];  /* of types with names in it: rdata points here, names in full */
};
/* false: not an answer to this question. */
bool dns_packet_open(struct dns_packet *m, const unsigned char *p, size_t n, unsigned id, const char *name, int type);
bool dns_packet_next(struct dns_packet *m, struct dns_record *r); /* false: end, or what follows is damaged */
bool dns_packet_truncated(const struct dns_packet *m);
/* Extended DNS error (RFC 8914) of an OPT record: "9 (DNSKEY missing): text", escaped. false: none. */
bool dns_packet_error(const struct dns_record *opt, char *out, size_t size);

#endif
