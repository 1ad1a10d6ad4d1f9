/* listeners.h - the sockets that accept mail. All loops accept from one descriptor per listener (EPOLLEXCLUSIVE wakes one of
 * them) and each connection becomes a fiber of the loop that has the fewest. */
#ifndef POSTERN_LISTENERS_H
#define POSTERN_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/err.h"

/* Asks the privileged parent for a listening socket (ports.c). -1 and err. */
int supervisor_bind(const char *address, unsigned port, unsigned backlog, struct err *err);

/* A suspended listener answers 421 to new connections and to MAIL, and ends sessions that are between two messages.
 * NULL: all, and what was said of single ones is forgotten. Any thread; names need not exist (yet). */
void listeners_suspend(const char *name, bool suspend);
bool listeners_suspended(const char *name); /* NULL: are all? */

void listeners_abort(void); /* ends the sessions that suspended listeners still have, wherever they are */

/* true: this listener's port is not to be had, why says the reason; it is tried again by itself. Any thread. */
bool listeners_missing(const char *name, char *why, size_t size);
/* At the start a port that is taken keeps only its own listener waiting, unless on: then the configuration cannot be
 * activated, as in a commit. */
void listeners_strict_start(bool on);

unsigned listeners_connections(void);
void listeners_stop(void); /* no new connections; those that are open go on */

#endif
