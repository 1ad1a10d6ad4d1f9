/* limits.h - how many connections and how fast: over all listeners, per listener, per sending host,
 * recipients per hour and host, invalid ones, and recipients per envelope sender. One mutex in limits.c; any thread. */
#ifndef POSTERN_LIMITS_H
#define POSTERN_LIMITS_H

#include <stdbool.h>

#include "store/base/net.h"

struct limits_listener; /* one per listener name, for ever: it outlives reloads */
struct limits_host; /* a sending host on one listener */

struct limits_listener *limits_listener(const char *name);

enum limits_verdict { LIMITS_OK, LIMITS_ALL, LIMITS_LISTENER };
enum limits_verdict limits_connect(struct limits_listener *l, unsigned max_all,
                                   unsigned max_listener);
void limits_disconnect(struct limits_listener *l);
unsigned limits_connections(const struct limits_listener *l); /* NULL: over all listeners */

/* An IPv6 host is its /64 network: whoever has one address there has them all. NULL: max are open
 * already. */
struct limits_host *limits_host_enter(struct limits_listener *l, const struct addr *a,
                                      unsigned max);
void limits_host_leave(struct limits_host *h);
/* Counts one recipient; false (not counted): max have been taken in this hour. max 0: unlimited. */
bool limits_rcpt(struct limits_host *h, unsigned max);

/* Invalid recipients: counted within the hour that the first one began. True: there were more than max, then or now, so
 * the host is to be sent away for the rest of the hour. max 0: never. limits_harvests asks without counting. */
bool limits_invalid(struct limits_host *h, unsigned max);
bool limits_harvests(struct limits_host *h, unsigned max);

/* Counts a recipient of an envelope sender on a listener; false (not counted): max have been taken within the interval that
 * its first one began. What is remembered has a fixed size: under a flood of senders those whose interval ends
 * first are forgotten. max 0, or the null sender (bounces come from everywhere): unlimited. */
bool limits_sender(const struct limits_listener *l, const char *sender, unsigned max,
                   unsigned minutes);

bool limits_tls_enter(unsigned max);
void limits_tls_leave(void);

#endif
