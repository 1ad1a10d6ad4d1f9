/* tls_failures.h - hosts whose TLS handshake broke, for an hour (destconfig > setup,
 * tls_failure_memory). What that means is tls_policy.c's to say. Kept in memory, bounded; any
 * thread. */
#ifndef POSTERN_TLS_FAILURES_H
#define POSTERN_TLS_FAILURES_H

#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/net.h"

struct tls_failure {
    char host[256]; /* and address: "mx.example.com [192.0.2.1]:25" */
    char reason[200];
    msec_t until;
    usec_t at;
};

void tls_failures_note(const char *host, const struct addr *addr, const char *reason);
bool tls_failures_has(const char *host, const struct addr *addr);
unsigned tls_failures_list(struct tls_failure **out); /* sorted by host; the caller frees *out */
unsigned tls_failures_clear(const char *host); /* NULL: all. How many were forgotten */

#endif
