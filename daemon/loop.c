/* loop.c - the event loop: epoll, a heap of timers, posts from other threads, and between them the
 * fibers.
 *
 * A turn is: sleep until something is due, report descriptors, run posts, run timers, run every
 * fiber that is ready once. The clock is read once per turn. Posts are a lock-free stack that the
 * loop takes whole and turns round; its eventfd is written only when the loop sleeps, and never
 * read: it is watched edge triggered. All but loop_stop, loop_post and loop_each belongs to the
 * loop's own thread. */
#include "daemon/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/sched.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define BATCH 256 /* events taken by one epoll_wait */
#define MAX_LOOPS 8 /* of loops_start: beyond that the writer is the limit */
#define VIRTUAL_NAP 2 /* ms between looks at a virtual clock, which nothing else announces */

enum { RUNNING, STOP_WHEN_EMPTY, STOP_NOW };

struct loop {
    unsigned index;
    int ep, wake;
    msec_t now;
    struct sched *sched;
    struct timer **heap;
    unsigned timers, heap_cap;
    struct epoll_event events[BATCH];
    int n_events, at_event; /* events[at_event..] are not reported yet */
    _Atomic(struct post *) posts;
    atomic_bool sleeping;
    atomic_int stop;
    struct loop *next; /* in the registry */
};

static _Thread_local struct loop *self;

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *registry;

struct loop *loop_new(unsigned index)
{
    struct loop *l = xcalloc(1, sizeof(*l));
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    l->index = index;
    l->ep = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->ep < 0 || l->wake < 0 || epoll_ctl(l->ep, EPOLL_CTL_ADD, l->wake, &ev) < 0) {
        log_critical("loop %u: %s", index, strerror(errno)); /* at start-up, or never */
        abort();
    }
    l->now = clock_now();
    l->sched = sched_new(l);
    pthread_mutex_lock(&registry_lock);
    l->next = registry;
    registry = l;
    pthread_mutex_unlock(&registry_lock);
    return l;
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp, *was = self;

    if (!l)
        return;
    *lp = NULL;
    pthread_mutex_lock(&registry_lock);
    for (struct loop **p = &registry; *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    self = l; /* timers of fibers that never ended are taken back by sched_free */
    sched_free(&l->sched);
    self = was == l ? NULL : was;
    close(l->ep);
    close(l->wake);
    free(l->heap);
    free(l);
}

void loop_each(void (*fn)(struct loop *l, void *arg), void *arg)
{
    pthread_mutex_lock(&registry_lock);
    for (struct loop *l = registry; l; l = l->next)
        fn(l, arg);
    pthread_mutex_unlock(&registry_lock);
}

struct loop *loop_self(void)
{
    return self;
}

unsigned loop_index(const struct loop *l)
{
    return l->index;
}

msec_t loop_now(const struct loop *l)
{
    return l->now;
}

struct sched *loop_sched(struct loop *l)
{
    return l->sched;
}

/* ---- posts ---- */

struct posted_call {
    struct post post;
    void (*fn)(void *arg);
    void *arg;
};

static void wake_up(struct loop *l)
{
    uint64_t one = 1;

    /* All orders here are sequential: the loop says "sleeping" and then looks at the posts, we post
     * and then look whether it sleeps, so one of the two sees the other. */
    if (atomic_load(&l->sleeping) && atomic_exchange(&l->sleeping, false))
        while (write(l->wake, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
}

void loop_post_node(struct loop *l, struct post *p)
{
    struct post *head = atomic_load_explicit(&l->posts, memory_order_relaxed);

    do
        p->next = head;
    while (!atomic_compare_exchange_weak(&l->posts, &head, p));
    wake_up(l);
}

static void run_posted_call(struct post *p)
{
    struct posted_call *c = (struct posted_call *)(void *)p; /* its first member */

    c->fn(c->arg);
    free(c);
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct posted_call *c = xmalloc(sizeof(*c));

    *c = (struct posted_call){.post.fn = run_posted_call, .fn = fn, .arg = arg};
    loop_post_node(l, &c->post);
}

static bool run_posts(struct loop *l)
{
    struct post *p, *in_order = NULL;

    if (!atomic_load_explicit(&l->posts, memory_order_relaxed))
        return false;
    p = atomic_exchange(&l->posts, NULL);
    while (p) {
        struct post *next = p->next;

        p->next = in_order;
        in_order = p;
        p = next;
    }
    while (in_order) {
        p = in_order;
        in_order = p->next;
        p->fn(p);
    }
    return true;
}

/* ---- timers: a binary heap; a timer knows its place, so that it can be moved and taken out ----
 */

static void heap_put(struct loop *l, unsigned i, struct timer *t)
{
    l->heap[i] = t;
    t->pos = i + 1;
}

static void heap_up(struct loop *l, unsigned i, struct timer *t)
{
    while (i > 0 && t->at < l->heap[(i - 1) / 2]->at) {
        heap_put(l, i, l->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(l, i, t);
}

static void heap_down(struct loop *l, unsigned i, struct timer *t)
{
    for (unsigned child; (child = 2 * i + 1) < l->timers; i = child) {
        if (child + 1 < l->timers && l->heap[child + 1]->at < l->heap[child]->at)
            child++;
        if (t->at <= l->heap[child]->at)
            break;
        heap_put(l, i, l->heap[child]);
    }
    heap_put(l, i, t);
}

void timer_set(struct timer *t, msec_t at)
{
    struct loop *l = self;

    assert(l);
    if (!t->pos) {
        if (l->timers == l->heap_cap) {
            l->heap_cap = l->heap_cap ? 2 * l->heap_cap : 64;
            l->heap = xrealloc(l->heap, l->heap_cap * sizeof(*l->heap));
        }
        t->at = at;
        heap_up(l, l->timers++, t);
    } else if (at < t->at) {
        t->at = at;
        heap_up(l, t->pos - 1, t);
    } else {
        t->at = at;
        heap_down(l, t->pos - 1, t);
    }
}

void timer_cancel(struct timer *t)
{
    struct loop *l = self;
    struct timer *last;
    unsigned i;

    if (!t->pos)
        return;
    assert(l && l->heap[t->pos - 1] == t);
    i = t->pos - 1;
    t->pos = 0;
    last = l->heap[--l->timers];
    if (last == t)
        return;
    if (last->at < t->at)
        heap_up(l, i, last);
    else
        heap_down(l, i, last);
}

static bool run_timers(struct loop *l)
{
    bool any = false;

    while (l->timers && l->heap[0]->at <= l->now) {
        struct timer *t = l->heap[0];

        timer_cancel(t);
        t->fn(t);
        any = true;
    }
    return any;
}

/* ---- descriptors ---- */

static bool watch_control(struct watch *w, int op)
{
    struct epoll_event ev = {.events = w->events, .data.ptr = w};

    assert(self);
    return epoll_ctl(self->ep, op, w->fd, &ev) == 0;
}

bool watch_add(struct watch *w)
{
    return watch_control(w, EPOLL_CTL_ADD);
}

void watch_change(struct watch *w, uint32_t events)
{
    if (w->events == events)
        return;
    w->events = events;
    watch_control(w, EPOLL_CTL_MOD);
}

void watch_forget(struct watch *w)
{
    assert(self);
    for (int i = self->at_event; i < self->n_events; i++)
        if (self->events[i].data.ptr == w)
            self->events[i].data.ptr = NULL;
}

void watch_remove(struct watch *w)
{
    watch_forget(w);
    watch_control(w, EPOLL_CTL_DEL);
}

static bool run_events(struct loop *l)
{
    bool any = l->n_events > 0;

    while (l->at_event < l->n_events) {
        struct epoll_event *ev = &l->events[l->at_event++];
        struct watch *w = ev->data.ptr;

        if (w) /* NULL: the eventfd, or a watch removed by an earlier callback of this batch */
            w->fn(w, ev->events);
    }
    return any;
}

/* ---- turns ---- */

static void loop_enter(struct loop *l)
{
    if (self == l)
        return;
    self = l;
    sched_enter(l->sched);
}

/* How long this turn may sleep, in ms for epoll_wait; -1: until an event. */
static int nap(struct loop *l, msec_t longest)
{
    msec_t wait = longest;

    if (sched_has_ready(l->sched))
        return 0;
    if (clock_is_virtual()) {
        if (l->timers && wait > VIRTUAL_NAP)
            wait = VIRTUAL_NAP;
    } else if (l->timers) {
        msec_t due = l->heap[0]->at - clock_now();

        if (due < wait)
            wait = due > 0 ? due : 0;
    }
    if (wait == NEVER)
        return -1;
    return wait > 3600000 ? 3600000 : (int)wait;
}

bool loop_turn(struct loop *l, msec_t longest)
{
    int wait;
    bool any;

    loop_enter(l);
    wait = nap(l, longest);
    if (wait) {
        atomic_store(&l->sleeping, true);
        if (atomic_load(&l->posts) || atomic_load(&l->stop) == STOP_NOW)
            wait = 0;
    }
    l->at_event = 0;
    l->n_events = epoll_wait(l->ep, l->events, BATCH, wait);
    atomic_store_explicit(&l->sleeping, false, memory_order_relaxed);
    l->now = clock_now();
    any = run_events(l);
    any |= run_posts(l);
    any |= run_timers(l);
    any |= sched_run(l->sched);
    return any;
}

void loop_settle(struct loop *l)
{
    while (loop_turn(l, 0))
        ;
}

static bool is_over(struct loop *l)
{
    int stop = atomic_load_explicit(&l->stop, memory_order_relaxed);

    return stop == STOP_NOW ||
           (stop == STOP_WHEN_EMPTY && sched_is_empty(l->sched) && !atomic_load(&l->posts));
}

void loop_run(struct loop *l)
{
    while (!is_over(l))
        loop_turn(l, NEVER);
    self = NULL;
}

static void nothing(void *arg)
{
    (void)arg;
}

void loop_stop(struct loop *l)
{
    int running = RUNNING;

    atomic_compare_exchange_strong(&l->stop, &running, STOP_WHEN_EMPTY);
    loop_post(l, nothing, NULL); /* a sleeping loop looks again */
}

void loop_stop_now(struct loop *l)
{
    atomic_store(&l->stop, STOP_NOW);
    wake_up(l);
}

/* ---- the daemon's loops ---- */

static struct loop *loops[MAX_LOOPS];
static pthread_t threads[MAX_LOOPS];
static unsigned n_loops;

static void *loop_thread(void *arg)
{
    loop_run(arg);
    return NULL;
}

void loops_start(unsigned count)
{
    sigset_t all, old;
    char name[16];

    assert(!n_loops);
    if (!count)
        count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1)
        count = 1;
    if (count > MAX_LOOPS)
        count = MAX_LOOPS;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 0; i < count; i++) {
        int e;

        loops[i] = loop_new(i);
        e = pthread_create(&threads[i], NULL, loop_thread, loops[i]);
        if (e) {
            log_critical("starting loop %u: %s", i, strerror(e));
            abort();
        }
        snprintf(name, sizeof(name), "loop-%u", i);
        pthread_setname_np(threads[i], name);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    n_loops = count;
}

unsigned loops_count(void)
{
    return n_loops;
}

struct loop *loops_get(unsigned index)
{
    assert(index < n_loops);
    return loops[index];
}

struct loop *loops_next(void)
{
    static atomic_uint turn;

    assert(n_loops);
    return loops[atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % n_loops];
}

void loops_join(void)
{
    for (unsigned i = 0; i < n_loops; i++)
        pthread_join(threads[i], NULL);
}

void loops_free(void)
{
    for (unsigned i = 0; i < n_loops; i++)
        loop_free(&loops[i]);
    n_loops = 0;
}
