/* http.h - HTTPS fetches (MTA-STS policies, revocation lists): libcurl on a thread
 * of its own, behind a call that looks blocking. What is asked for comes from strangers' DNS, so it
 * is bounded on every side: https (where a request allows it, http) and GET only, no redirects, cookies, credentials or
 * compression, TLS 1.2 at least and verified, public addresses only, limits on bytes and on the time to connect,
 * between bytes and in all (updateconfig). Any thread. */
#ifndef POSTERN_HTTP_H
#define POSTERN_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"

struct http_request {
    const char *url; /* "https://HOST[:PORT]/PATH"; http:// where plain */
    const char *type; /* the media type demanded, without parameters; NULL: any */
    size_t max_bytes; /* of the body */
    msec_t deadline; /* updateconfig's total time counts as well */
    msec_t total; /* ... but this one instead, where nobody waits for it and it may be long; 0: updateconfig's */
    bool plain; /* "http://..." is fetched, too: what comes proves itself */
};
struct http_answer {
    struct buf body; /* the caller frees it with buf_free, in every case */
    long status; /* of HTTP; 0: none came */
};

/* YIELDS. true: status 200 and the whole body. else E_DNS, E_NET, E_TIMEOUT, E_TLS (no or no
 * verified session), E_LIMIT (too long), E_PROTOCOL (any other status, wrong type, not HTTP),
 * E_DENIED (not a public address), E_CLOSED (the daemon stops): err's sentence is escaped. */
bool http_get(const struct http_request *r, struct http_answer *out, struct err *err);
bool http_uses_proxy(void);
/* Changes when what decides about the success of a fetch does: updateconfig, the authorities. */
uint64_t http_settings_id(void);

bool http_start(struct err *err);
void http_stop(void);

#endif
