/* event.h - what the console waits for: keys, signals, the daemon, time. Signals are blocked and read from a descriptor, so
 * no library call is ever interrupted half way. One thread. */
#ifndef POSTERN_EVENT_H
#define POSTERN_EVENT_H

#include <stdbool.h>

#include "store/base/clock.h"

enum event {
    EVENT_TIME,      /* the deadline has come */
    EVENT_TTY,       /* tty can be read */
    EVENT_SOCKET,    /* socket can be read */
    EVENT_INTERRUPT, /* Ctrl-C */
    EVENT_RESIZE,
    EVENT_HANGUP,    /* the terminal is gone, or somebody ends the process */
};

/* Blocks SIGINT, SIGTERM, SIGHUP and SIGWINCH, ignores the stop signals and SIGQUIT. */
void event_init(void);
/* Around a read that blocks outside event_wait: the signals end the process, as they do other programs. */
void event_deadly(bool on);
/* Waits for the first of them; tty and socket may be -1. Signals go before the rest. Without a tty it also watches standard
 * output: when that is a pipe whose reader has gone, SIGPIPE ends the process, as writing to it would. */
enum event event_wait(int tty, int socket, msec_t deadline);

#endif
