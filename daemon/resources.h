/* resources.h - watches what the gateway lives on (queue, disks, memory, descriptors; resourceconfig) and decides
 * whether senders are slowed down or refused (conserve.h), before anything breaks; administrators hear of it first.
 * Any thread. */
#ifndef POSTERN_RESOURCES_H
#define POSTERN_RESOURCES_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"

bool resources_start(struct err *err); /* until the fibers are stopped */

/* Is mail accepted, with so many messages queued? false: E_LIMIT, "Queue full" or "Server resources low - try again
 * later", for a reply 452. Cheap. */
bool resources_accept(uint64_t queued, struct err *err);

/* May a new connection with this descriptor begin a session? false: 421. Cheap. */
bool resources_connection(int fd);

void resources_pause(void); /* YIELDS: as long as a message is slowed down at the moment; mostly not at all */

/* The degree of conserve.h, and in text why ("" when it is 0). */
unsigned resources_conservation(char *text, size_t size);

#endif
