/* logpush.h - a log subscription's lines sent to syslog (RFC 3164): another host over UDP, TCP or TLS (RFC 5425), or
 * this machine's own /dev/log. Belongs to the thread that writes logs; nothing here waits: what
 * cannot be sent gathers up to a bound, then lines are lost and counted. */
#ifndef POSTERN_LOGPUSH_H
#define POSTERN_LOGPUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/clock.h"
#include "store/base/log.h"

struct logpush_to {
    bool on;
    bool tcp; /* lines end in LF; else one datagram a line */
    bool tls; /* over TCP, each line with its length in front; the host must have a certificate for its name or address
                 from the authorities of trust.h */
    char host[256]; /* a name or an address; "": /dev/log */
    unsigned port;
    unsigned facility; /* its number: 2 is mail */
};

bool logpush_same(const struct logpush_to *a, const struct logpush_to *b);

struct logpush;

struct logpush *logpush_new(const struct logpush_to *to, const char *tag);
void logpush_free(struct logpush **p); /* what gathered is lost */
void logpush_line(struct logpush *p, usec_t when, enum log_level level, const char *text, size_t n);
/* Connects, sends. Returns when it wants to be called again (NEVER: with the next line). lost: lines
 * that were lost since the last call. */
msec_t logpush_work(struct logpush *p, uint64_t *lost);
/* Why TLS with the host failed; NULL: it did not since this was asked last. Valid until the next call of any of them. */
const char *logpush_problem(struct logpush *p);

#endif
