/* connstats.h - who is connected: open inbound connections by address and listener, for topin. An
 * entry lives as long as it has a connection, so there are never more than connections. Any thread;
 * every call takes one lock for a moment. */
#ifndef POSTERN_CONNSTATS_H
#define POSTERN_CONNSTATS_H

#include <stddef.h>

#include "store/base/net.h"

struct conn_host;

/* One connection more. name: of the address, verified; NULL: not known. */
struct conn_host *connstats_enter(const char *listener, const struct addr *peer, const char *name);
void connstats_leave(struct conn_host *h);

struct conn_count {
    char name[256]; /* "" when nobody looked it up, or it proved nothing */
    struct addr addr;
    char listener[40];
    unsigned connections;
};
size_t connstats_top(struct conn_count *out, size_t max); /* the most connections first */

#endif
