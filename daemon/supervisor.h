/* supervisor.h - the privileged parent: prepares the home, starts the engine as an unprivileged user, binds ports for it
 * (ports.h), starts it again when it crashes, and passes the wish to end on. One thread, no network. */
#ifndef POSTERN_SUPERVISOR_H
#define POSTERN_SUPERVISOR_H

#include <stdbool.h>

struct supervisor {
    const char *program; /* argv[0], for messages */
    const char *user;    /* --user; NULL: see choose_user in supervisor.c */
    bool detach;         /* --daemon: the caller returns once the engine serves */
};

int supervisor_run(const struct supervisor *s); /* the exit status */

#endif
