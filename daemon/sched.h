/* sched.h - what loop.c and fiber.c ask of each other; nobody else includes it. */
#ifndef POSTERN_SCHED_H
#define POSTERN_SCHED_H

#include <stdbool.h>

#include "daemon/loop.h"

/* The fibers of one loop. Called on the loop's thread. */
struct sched;
struct sched *sched_new(struct loop *l);
void sched_free(struct sched **s);
void sched_enter(struct sched *s); /* the calling thread runs these fibers from now on */
bool sched_run(struct sched *s); /* every ready fiber once; false: there was none */
bool sched_has_ready(const struct sched *s);
bool sched_is_empty(const struct sched *s);
struct sched *loop_sched(struct loop *l);

/* A post whose memory the poster provides: it must stay until fn runs. Any thread. */
struct post {
    struct post *next;
    void (*fn)(struct post *p);
};
void loop_post_node(struct loop *l, struct post *p);

/* Visits every loop of the process under the registry's lock. Any thread. */
void loop_each(void (*fn)(struct loop *l, void *arg), void *arg);

/* For a descriptor about to be closed: forgets what this turn has still to report about it. */
void watch_forget(struct watch *w);

#endif
