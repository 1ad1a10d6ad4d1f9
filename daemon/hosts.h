/* hosts.h - what is known of the addresses that mail goes to, whichever domains lead there: how many
 * connections each has, how many more it may get, and whether it answers at all.
 *
 * An address begins with a few connections at a time and gets more with every one that it greets (slow
 * start: they double with each round).
 * When it has refused or left unanswered several in a row while it had no other, it is down: nobody
 * connects to it but one probe, after an interval that doubles from failure to failure. So a dead
 * host that serves ten thousand domains costs a handful of time-outs and not ten thousand. What is
 * known is not kept over a restart: it costs as much to find out again.
 *
 * No clock: now is given. Any thread; one mutex in hosts.c, held for moments. */
#ifndef POSTERN_HOSTS_H
#define POSTERN_HOSTS_H

#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/net.h"

#define HOSTS_MAX 50000u /* addresses that are remembered for their failures alone */
#define HOSTS_STRIKES 3u /* failures in a row that make an address down */

enum hosts_answer {
    HOSTS_GO,    /* counted: hosts_worked or hosts_failed or hosts_leave must follow */
    HOSTS_PROBE, /* the same; it has been down, and whether it still is depends on this one */
    HOSTS_FULL,  /* it has as many as it may have */
    HOSTS_DOWN,
};
struct hosts_wait { /* of HOSTS_FULL and HOSTS_DOWN */
    msec_t until;   /* when it may be worth coming back */
    char why[240];  /* HOSTS_DOWN: what the last connection met */
};
/* limit: of the destination controls, 0: none. w may be NULL. */
enum hosts_answer hosts_enter(const struct addr *a, unsigned limit, msec_t now,
                              struct hosts_wait *w);
bool hosts_takes(const struct addr *a, unsigned limit, msec_t now); /* would it be HOSTS_GO? */
/* Counts a connection that came about without hosts_enter (a race of addresses, conn_connect_first). */
void hosts_join(const struct addr *a);

/* The connection was greeted; it counts until hosts_leave. true: the address had been down, for
 * *lasted milliseconds. */
bool hosts_worked(const struct addr *a, msec_t now, msec_t *lasted);
/* No connection, or no greeting: it does not count any more. The next probe comes after first
 * milliseconds, doubled with every failure, most at last. true: it is down from now on, until *until. */
bool hosts_failed(const struct addr *a, const char *why, msec_t first, msec_t most, msec_t now,
                  msec_t *until);
void hosts_leave(const struct addr *a, bool greeted); /* false: nothing was found out */

void hosts_probe(void); /* every address that is down may be probed at once */

struct hosts_info {
    unsigned open;
    msec_t down_since, probe_at; /* 0: it is not down */
    char why[240];
};
bool hosts_show(const struct addr *a, struct hosts_info *out); /* false: nothing is known */

void hosts_forget(void); /* everything */

#endif
