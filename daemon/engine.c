/* engine.c - see engine.h. The list below is the whole order of start; the end runs it backwards. */
#include "daemon/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/logfile.h"
#include "daemon/ports.h"
#include "daemon/sandbox.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/base/version.h"

static bool start_logs(struct err *err)
{
    return logfile_start(home_log_dir(), "0", err);
}

static const struct step {
    const char *name; /* in "starting ...: what went wrong" */
    bool (*start)(struct err *err);
    void (*stop)(void); /* NULL: nothing to do */
} steps[] = {
    {"the system call filter", sandbox_engine_calls, NULL        },
    {"the logs",               start_logs,           logfile_stop},
};

static void stop_steps(size_t n)
{
    while (n-- > 0)
        if (steps[n].stop)
            steps[n].stop();
}

static bool start_steps(struct err *err)
{
    for (size_t i = 0; i < countof(steps); i++) {
        if (!steps[i].start(err)) {
            err_wrap(err, "starting %s", steps[i].name);
            stop_steps(i);
            return false;
        }
    }
    return true;
}

/* The parent may have died before we asked to die with it. */
static bool parent_is_gone(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

int engine_run(const struct engine *e)
{
    struct err err = {0};
    sigset_t set;
    int sig;

    /* Every thread inherits the mask; this one waits for the signal. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    ports_attach(e->parent_fd);
    if (chdir("/") != 0 || !start_steps(&err)) {
        log_critical("%s", err.code ? err.text : strerror(errno));
        return 1;
    }
    if (parent_is_gone(e->parent_fd)) {
        stop_steps(countof(steps));
        return 1;
    }
    log_info("Postern %s serves %s as uid %u", POSTERN_VERSION, home_dir(), (unsigned)getuid());
    if (e->last_exit)
        log_critical("the engine before this one ended: %s; restarts so far: %u", e->last_exit,
                     e->restarts);
    ports_ready();
    sigwait(&set, &sig);
    log_info("stopping");
    stop_steps(countof(steps));
    return 0;
}
