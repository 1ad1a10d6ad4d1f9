/* dns_raw.h - one question to one server, by UDP and, when the answer does not fit, by TCP. */
#ifndef POSTERN_DNS_RAW_H
#define POSTERN_DNS_RAW_H

#include "daemon/dns_packet.h"

struct dns_reply {
    unsigned char *p; /* the message */
    size_t n;
    struct dns_packet packet; /* opened */
    bool tcp;
    msec_t took;
};
/* YIELDS. server: "192.0.2.1", "192.0.2.1@5353". Free with dns_reply_free. */
struct dns_raw_options {
    struct addr source; /* family 0: the system's choice */
    bool tcp;           /* from the beginning */
};
bool dns_raw_ask(const char *server, const char *name, int type, const struct dns_raw_options *o, msec_t deadline,
                 struct dns_reply *out, struct err *err); /* o may be NULL */
void dns_reply_free(struct dns_reply *r);
bool dns_server_parse(const char *text, struct addr *out);

#endif
