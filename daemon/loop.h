/* loop.h - one epoll loop per thread: descriptors, timers, posts from other threads.
 *
 * Everything here but loop_stop and loop_post is called on the loop's own thread. Callback style ends here: sessions are
 * fibers (fiber.h) and use conn.h, dns.h and friends, which look like blocking calls. */
#ifndef POSTERN_LOOP_H
#define POSTERN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/clock.h"

struct loop;

struct loop *loop_new(unsigned index);
void loop_run(struct loop *l);      /* until loop_stop; the calling thread becomes the loop's thread */
void loop_stop(struct loop *l);     /* any thread: loop_run returns when no fiber is left */
void loop_stop_now(struct loop *l); /* any thread: it returns at once, whatever its fibers are doing */
void loop_free(struct loop **l);    /* what fibers that have not ended own is lost */
struct loop *loop_self(void);       /* the loop of this thread, NULL elsewhere */
unsigned loop_index(const struct loop *l);
msec_t loop_now(const struct loop *l); /* the time when this turn began: no system call */

/* For tests and for programs that drive a loop themselves; the calling thread becomes the loop's thread.
 * loop_turn: one turn, which sleeps at most `longest` (real) milliseconds; false when nothing happened.
 * loop_settle: turns, without sleeping, until nothing is left to do; under a virtual clock a test says
 * loop_settle(l); clock_advance(SECONDS(5)); loop_settle(l). */
bool loop_turn(struct loop *l, msec_t longest);
void loop_settle(struct loop *l);

/* Any thread. fn(arg) runs soon on the loop's thread, in the order of the posts of one thread. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

struct timer {
    msec_t at;
    void (*fn)(struct timer *t);
    unsigned pos; /* place in the heap + 1; 0: not set */
};
void timer_set(struct timer *t, msec_t at); /* on loop_self(); setting again moves it */
void timer_cancel(struct timer *t);

struct watch { /* one descriptor */
    int fd;
    uint32_t events; /* EPOLLIN | EPOLLOUT ...; level triggered unless EPOLLET is given */
    void (*fn)(struct watch *w, uint32_t events);
};
bool watch_add(struct watch *w); /* false (errno): the descriptor cannot be watched, or too many are */
void watch_change(struct watch *w, uint32_t events);
void watch_remove(struct watch *w);

/* The daemon's loops: made once, spread over the cores (capped). */
void loops_start(unsigned count);     /* 0: one per core, at most 8 */
unsigned loops_count(void);
struct loop *loops_get(unsigned index);
struct loop *loops_next(void);        /* round robin, any thread */
void loops_join(void);
void loops_free(void); /* after every thread that may still post to them has ended */

#endif
