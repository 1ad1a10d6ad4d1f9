/* ports.h - listening sockets from the parent, the only process that may bind ports below 1024.
 * The engine's side; any thread. Both sides speak datagrams over a socket pair, see ports.c. */
#ifndef POSTERN_PORTS_H
#define POSTERN_PORTS_H

#include <stdbool.h>
#include <stddef.h>

/* The engine's end of the socket pair; -1 (the default): no parent, sockets are bound here. */
void ports_attach(int fd);

/* supervisor_bind() is declared in listeners.h. It returns a listening TCP socket (non-blocking, close-on-exec), or -1
 * and a sentence for the administrator: E_BUSY when the port is taken, E_DENIED without the privilege, E_INVALID when
 * the machine has no such address. It waits for the round trip to the parent, well below a millisecond. */

void ports_ready(void); /* tells the parent that the engine serves */

/* The parent's side: answers one request that stands in text[n]. Returns true when the request was "ready". */
bool ports_serve(int fd, const char *text, size_t n);

#endif
