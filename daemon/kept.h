/* kept.h - what was set aside because something was damaged: *.damaged* beside the databases, lost-* in the spool. People
 * may want to look at it, or to save messages from it; nobody needs it for ever. It is kept for as many days and bytes as
 * resourceconfig says, the newest longest. */
#ifndef POSTERN_KEPT_H
#define POSTERN_KEPT_H

#include <stdint.h>

#include "store/base/clock.h"

struct kept_files {
    unsigned files;
    uint64_t bytes; /* of the disk */
    usec_t oldest; /* when it was set aside, by the wall clock; 0: there is none */
};

/* Looks below home at what there is, and removes what is older than so many days, then the oldest while it is more than
 * most bytes (0: no bound). An alert says what was removed. Blocks for as long as the disk takes; one thread at a time. */
void kept_tidy(const char *home, unsigned days, uint64_t most);

void kept_files(struct kept_files *out); /* as the last look found them; any thread */

#endif
