/* event.c - see event.h. */
#include "shell/event.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int signals = -1;

static void add_deadly(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

void event_deadly(bool on)
{
    sigset_t set;

    add_deadly(&set);
    sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

void event_init(void)
{
    static const int ignored[] = {SIGTSTP, SIGTTIN, SIGTTOU, SIGQUIT};
    sigset_t set;

    add_deadly(&set);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
        signal(ignored[i], SIG_IGN);
    if (signals < 0)
        signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool take_signal(enum event *out)
{
    struct signalfd_siginfo info;

    if (signals < 0 || read(signals, &info, sizeof(info)) != sizeof(info))
        return false;
    *out = info.ssi_signo == SIGINT     ? EVENT_INTERRUPT
           : info.ssi_signo == SIGWINCH ? EVENT_RESIZE
                                        : EVENT_HANGUP;
    return true;
}

enum event event_wait(int tty, int socket, msec_t deadline)
{
    struct pollfd fds[4] = {
        {.fd = signals, .events = POLLIN},
        {.fd = tty,     .events = POLLIN},
        {.fd = socket,  .events = POLLIN},
        {.fd = tty < 0 ? STDOUT_FILENO : -1} /* a pipe that nobody reads any more */
    };
    enum event signal_event;

    for (;;) {
        msec_t left = deadline == NEVER ? -1 : deadline - clock_now();
        int n = poll(fds, 4,
                     left < 0       ? (deadline == NEVER ? -1 : 0)
                     : left > 60000 ? 60000
                                    : (int)left);

        if (take_signal(&signal_event))
            return signal_event;
        if (n < 0 && errno != EINTR)
            return EVENT_HANGUP;
        if (n > 0 && fds[3].revents & (POLLERR | POLLHUP)) { /* "tail mail_logs" has nothing to write, and would never learn */
            raise(SIGPIPE);
            return EVENT_HANGUP;
        }
        if (n > 0 && fds[1].revents)
            return fds[1].revents & POLLIN ? EVENT_TTY : EVENT_HANGUP;
        if (n > 0 && fds[2].revents)
            return EVENT_SOCKET;
        if (n == 0 && deadline != NEVER && clock_now() >= deadline)
            return EVENT_TIME;
    }
}
