/* fiber.h - stackful fibers: every session is one and stays on its loop for life.
 *
 * Calls marked YIELDS in any header may switch to other fibers of the same loop. About YIELDS: hold no mutex
 * across it; read errno and the OpenSSL error queue before it; after it look again at what other sessions may
 * have changed; give it a deadline; keep frames small (stacks are 64 KiB with a guard page).
 * Outside a fiber (unit tests, fuzzers) the same calls poll and block, so a session runs without a daemon. */
#ifndef POSTERN_FIBER_H
#define POSTERN_FIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/loop.h"
#include "store/base/clock.h"

struct fiber;

/* Any thread. name is copied (shown in listings, at most 47 bytes). fn runs on loop l; the fiber ends when fn
 * returns. Counts against fiber_limit(); returns false, and fn never runs, when that is reached. */
bool fiber_spawn(struct loop *l, const char *name, void (*fn)(void *arg), void *arg);
void fiber_rename(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* the current fiber */
struct fiber *fiber_self(void); /* NULL outside a fiber */
/* A mark of the current fiber, about all that it does from here on; 0 at its start and outside a fiber. */
void fiber_set_mark(unsigned mark);
unsigned fiber_mark(void);
void fiber_limit(unsigned max); /* fibers of the whole process; default 20000 */

/* A one-shot event. wait_done may come before, during or after wait_until, from any thread. The struct must
 * outlive both sides: share it by reference count when either may leave first. */
struct wait { /* private to fiber.c */
    struct fiber *fiber;
    int state;
};
void wait_init(struct wait *w);
void wait_done(struct wait *w);
/* YIELDS; false: deadline or interrupted. what is not copied: use literals. */
bool wait_until(struct wait *w, msec_t deadline, const char *what);
/* YIELDS; nothing but wait_done ends it, not even shutdown: for what lies on the waiter's stack. */
void wait_for_done(struct wait *w, const char *what);

bool fiber_sleep(msec_t duration);                             /* YIELDS; false: interrupted (sleeps always may be) */
void fiber_yield(void);                                        /* YIELDS; lets others run */
/* YIELDS; waits for EPOLLIN/EPOLLOUT on fd; returns the events, 0 at the deadline or when interrupted. Two
 * epoll_ctl calls each: for now and then. */
uint32_t fiber_wait_fd(int fd, uint32_t events, msec_t deadline, const char *what);

/* A descriptor waited for again and again (conn): registered at the first wait, edge triggered, once. Wait only
 * after the descriptor said EAGAIN, or when fiber_fd_is_dry() says that it would. */
struct fiber_fd {
    struct watch watch;
    struct loop *loop;     /* where it is registered, or NULL */
    struct fiber *waiting;
    bool dry;              /* read empty, and nothing reported since */
    bool ending;           /* end, error or urgent data was reported: no short cut any more */
};
void fiber_fd_init(struct fiber_fd *d, int fd);
uint32_t fiber_fd_wait(struct fiber_fd *d, uint32_t events, msec_t deadline, const char *what); /* YIELDS */
void fiber_fd_short_read(struct fiber_fd *d); /* a read just returned less than asked for, or EAGAIN */
bool fiber_fd_is_dry(const struct fiber_fd *d);
void fiber_fd_forget(struct fiber_fd *d);     /* before close, or before another loop's fiber takes it over */

/* Shutdown. fiber_stopping() is true once daemon shutdown has begun. Fibers that wait "interruptibly"
 * (between SMTP commands, idle pool connections, sleeps) are woken and see false/0 with fiber_interrupted()
 * true; others finish what they do until the grace period ends. */
bool fiber_stopping(void);
void fibers_stop(void);                  /* any thread: begin shutdown on every loop */
void fibers_abort(void);                 /* any thread: the grace period is over, every wait ends but wait_for_done */
void fibers_stop_undo(void);             /* for tests: as if fibers_stop had not been called */
/* Of this loop, and not at its end: its dialogs are of no use any more. A wait for a descriptor ends as if interrupted,
 * now and from now on; whatever else it waits for, which others may share, it waits for. */
void fiber_cut(struct fiber *f);
void fiber_interruptible(bool on);       /* default off; for the waits of the current fiber from here on */
bool fiber_interrupted(void);            /* did the last wait end because of fibers_stop? */

/* Listing for the control message debug.fibers. */
struct fiber_info {
    char name[48];
    char what[48];    /* what it waits for, "" when ready */
    msec_t since;     /* since when */
    unsigned loop;
    unsigned stack_used; /* high-water mark in bytes, when fiber_measure_stacks(true) was called; else 0 */
};
void fiber_list(void (*fn)(const struct fiber_info *info, void *arg), void *arg); /* YIELDS: visits every loop */
unsigned fiber_count(void);
void fiber_measure_stacks(bool on);      /* paints new stacks; for the bench and for tests */
unsigned fiber_stack_used(void);         /* of the current fiber: as stack_used above */
/* Gives the unused part of the stack back to the system. Fibers that have waited for some seconds are trimmed
 * anyway; call it only where much stack was used and a long wait is certain. */
void fiber_trim_stack(void);

#endif
