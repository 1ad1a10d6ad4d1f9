/* engine.h - the process that does all the work: its start and its end, each in one place. */
#ifndef POSTERN_ENGINE_H
#define POSTERN_ENGINE_H

#include <sys/types.h>

struct engine {
    int parent_fd;         /* socket pair to the parent (ports.h) */
    unsigned restarts;     /* crashes so far */
    const char *last_exit; /* how the one before ended, NULL: this is the first */
    uid_t owner;           /* who started posternd: an administrator without being named in the configuration */
};

int engine_run(const struct engine *e); /* until SIGTERM; the exit status */

#endif
