/* listeners.h - the sockets that accept mail. Each loop accepts on its own (SO_REUSEPORT where the parent can bind it so,
 * else a shared descriptor with EPOLLEXCLUSIVE) and starts one fiber per connection. */
#ifndef POSTERN_LISTENERS_H
#define POSTERN_LISTENERS_H

#include <stdbool.h>

#include "store/base/err.h"

/* Asks the privileged parent for a listening socket (supervisor.c implements it; engine side). YIELDS. -1 and err. */
int supervisor_bind(const char *address, unsigned port, unsigned backlog, struct err *err);

void listeners_suspend(const char *name, bool suspend); /* NULL: all; a suspended listener answers 421 */
bool listeners_suspended(const char *name);
unsigned listeners_connections(void);
void listeners_stop(void);

#endif
