/* fiber.c - stacks, the ready queue, waiting: the only file that knows how fibers work.
 *
 * A fiber's struct lies at the top of its own stack, so an idle session costs one mapping.
 * Everything about a fiber is touched on its loop's thread alone, with two exceptions that any
 * thread uses: the state of a struct wait (moved by compare-and-swap) and the post inside the
 * fiber, with which another thread's wait_done sends it home. Fibers run from the loop's own stack
 * (sched_run) and switch back to it when they wait.
 *
 * What would surprise: a fiber's timer is left in the heap when a wait ends early and is only moved
 * when a wait ends before it; most waits of a session (five minutes, again and again) never touch
 * the heap. */
#include "daemon/fiber.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/fiber_switch.h"
#include "daemon/sched.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/str.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, top) 0U
#define VALGRIND_STACK_DEREGISTER(id) (void)(id)
#define VALGRIND_DISABLE_ERROR_REPORTING
#define VALGRIND_ENABLE_ERROR_REPORTING
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE (256 * 1024) /* red zones and instrumentation make frames larger */
#else
#define STACK_SIZE (64 * 1024)
#endif
#define CACHED_STACKS 128 /* per loop */
#define TRIM_AFTER SECONDS(4) /* a fiber that has waited so long gives its unused stack back */
#define TRIM_MARGIN 2048 /* below the frame that waits: what the switch itself pushes */
#define PAINT 0xA5

enum fiber_state { READY, RUNNING, WAITING, ENDED };
enum wake_reason { WOKEN, TIMED_OUT, INTERRUPTED };
enum wait_state { WAIT_IDLE, WAIT_FIBER, WAIT_THREAD, WAIT_DONE }; /* of struct wait */

struct fiber {
    struct context context;
    struct sched *sched;
    struct list all; /* in sched->all */
    struct fiber *next; /* in the ready queue */
    void (*fn)(void *arg);
    void *arg;
    struct wait *wait; /* what it waits for when that is a struct wait */
    struct post post; /* carries it home from another thread's wait_done */
    struct timer timer;
    msec_t deadline; /* of this wait */
    msec_t since;
    const char *what;
    uintptr_t parked_at; /* its stack is unused below here while it waits */
    uint32_t events, events_wanted; /* of a wait for a descriptor */
    enum fiber_state state;
    enum wake_reason reason;
    bool interruptible, sleeping, trimmed, painted;
    bool cut, on_fd; /* cut: it waits for no descriptor any more; on_fd: it does now */
    unsigned mark;
    bool bound; /* in wait_for_done: nothing ends this wait but what it waits for */
    unsigned valgrind_id;
    char *stack; /* lowest usable byte */
    void *fake_stack; /* AddressSanitizer's */
    void *tsan; /* ThreadSanitizer's */
    char name[48];
};

struct sched {
    struct loop *loop;
    struct context context; /* the loop's own stack, while a fiber runs */
    struct fiber *current;
    struct fiber *ready, **ready_end;
    struct list all;
    struct fiber *cache; /* of ended fibers, linked by next: struct and stack are used again */
    unsigned cached;
    struct timer trim;
    const void *own_stack; /* bounds of the loop's own stack, for AddressSanitizer */
    size_t own_size;
    void *fake_stack;
    void *tsan;
};

static _Thread_local struct sched *here; /* of the loop whose thread this is */

static atomic_uint limit = 20000, count;
static atomic_bool stopping, aborting, measuring;

struct fiber *fiber_self(void)
{
    return here ? here->current : NULL;
}

void fiber_set_mark(unsigned mark)
{
    struct fiber *f = fiber_self();

    if (f)
        f->mark = mark;
}

unsigned fiber_mark(void)
{
    struct fiber *f = fiber_self();

    return f ? f->mark : 0;
}

void fiber_limit(unsigned max)
{
    atomic_store(&limit, max);
}

unsigned fiber_count(void)
{
    return atomic_load(&count);
}

/* ---- stacks ---- */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static struct fiber *fiber_map(void)
{
    size_t guard = page_size();
    char *p = mmap(NULL, guard + STACK_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    struct fiber *f;

    if (p == MAP_FAILED)
        return NULL;
    if (mprotect(p, guard, PROT_NONE) < 0) {
        munmap(p, guard + STACK_SIZE);
        return NULL;
    }
    f = (struct fiber *)(void *)(p + guard + STACK_SIZE - ((sizeof(*f) + 63) & ~(size_t)63));
    f->stack = p + guard;
    f->valgrind_id = VALGRIND_STACK_REGISTER(f->stack, f);
    return f;
}

static void fiber_unmap(struct fiber *f)
{
    size_t guard = page_size();
    char *stack = f->stack;

    VALGRIND_STACK_DEREGISTER(f->valgrind_id);
    munmap(stack - guard, guard + STACK_SIZE);
}

static __attribute__((no_sanitize("address", "thread"))) void paint(struct fiber *f)
{
    for (volatile char *p = f->stack; p < (char *)f; p++)
        *p = (char)PAINT;
}

static __attribute__((no_sanitize("address", "thread"))) unsigned
painted_used(const struct fiber *f)
{
    const volatile unsigned char *p = (const unsigned char *)f->stack;

    if (!f->painted)
        return 0;
    VALGRIND_DISABLE_ERROR_REPORTING; /* it reads below the stack pointer */
    while (p < (const unsigned char *)f && *p == PAINT)
        p++;
    VALGRIND_ENABLE_ERROR_REPORTING;
    return (unsigned)((const unsigned char *)f - p);
}

void fiber_measure_stacks(bool on)
{
    atomic_store(&measuring, on);
}

unsigned fiber_stack_used(void)
{
    struct fiber *f = fiber_self();

    return f ? painted_used(f) : 0;
}

static void trim(struct fiber *f, uintptr_t from)
{
    uintptr_t low = (uintptr_t)f->stack, end = (from - TRIM_MARGIN) & ~(uintptr_t)(page_size() - 1);

    f->trimmed = true;
    if (!f->painted && end > low)
        madvise(f->stack, end - low, MADV_DONTNEED);
}

void fiber_trim_stack(void)
{
    struct fiber *f = fiber_self();

    if (f)
        trim(f, (uintptr_t)__builtin_frame_address(0));
}

/* ---- switching ---- */

static void make_ready(struct fiber *f, enum wake_reason reason)
{
    struct sched *s = f->sched;

    f->state = READY;
    f->reason = reason;
    f->next = NULL;
    *s->ready_end = f;
    s->ready_end = &f->next;
}

/* Leaves the fiber for the loop's stack; returns when somebody has made it ready. */
static void leave(struct fiber *f)
{
    struct sched *s = f->sched;

#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(f->state == ENDED ? NULL : &f->fake_stack, s->own_stack,
                                   s->own_size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(s->tsan, 0);
#endif
    context_switch(&f->context, &s->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(f->fake_stack, &s->own_stack, &s->own_size);
#endif
}

static void fiber_main(void *arg)
{
    struct fiber *f = arg;

#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &f->sched->own_stack, &f->sched->own_size);
#endif
    f->fn(f->arg);
    f->state = ENDED;
    leave(f);
    abort(); /* an ended fiber is never ready */
}

static void fiber_end(struct fiber *f)
{
    struct sched *s = f->sched;

    timer_cancel(&f->timer);
    list_remove(&f->all);
    if (list_empty(&s->all))
        timer_cancel(&s->trim);
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(f->tsan);
#endif
    if (s->cached < CACHED_STACKS) {
        s->cached++;
        f->next = s->cache;
        s->cache = f;
    } else {
        fiber_unmap(f);
    }
    atomic_fetch_sub(&count, 1);
}

static void resume(struct sched *s, struct fiber *f)
{
    s->current = f;
    f->state = RUNNING;
    f->trimmed = false;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&s->fake_stack, f->stack, (size_t)((char *)f - f->stack));
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(f->tsan, 0);
#endif
    context_switch(&s->context, &f->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(s->fake_stack, NULL, NULL);
#endif
    s->current = NULL;
    if (f->state == ENDED)
        fiber_end(f);
}

bool sched_run(struct sched *s)
{
    struct fiber *f = s->ready;

    if (!f)
        return false;
    s->ready = NULL; /* those made ready meanwhile have their turn after the descriptors */
    s->ready_end = &s->ready;
    while (f) {
        struct fiber *next = f->next;

        resume(s, f);
        f = next;
    }
    return true;
}

bool sched_has_ready(const struct sched *s)
{
    return s->ready;
}

bool sched_is_empty(const struct sched *s)
{
    return list_empty(&s->all);
}

/* ---- spawning ---- */

static void fiber_prepare(struct fiber *f, const char *name, void (*fn)(void *arg), void *arg)
{
    char *stack = f->stack;
    unsigned valgrind_id = f->valgrind_id;

#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, STACK_SIZE); /* fiber_main's frame never returned */
#endif
    memset(f, 0, offsetof(struct fiber, name));
    f->stack = stack;
    f->valgrind_id = valgrind_id;
    f->fn = fn;
    f->arg = arg;
    f->what = "";
    str_copy(f->name, sizeof(f->name), name);
    if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
        paint(f);
        f->painted = true;
    }
    context_make(&f->context, stack, f, fiber_main, f);
}

static void on_deadline(struct timer *t);

static void trim_idle(struct timer *t)
{
    struct sched *s = list_item(t, struct sched, trim);
    msec_t now = loop_now(s->loop);

    list_each (pos, &s->all) {
        struct fiber *f = list_item(pos, struct fiber, all);

        if (f->state == WAITING && !f->trimmed && now - f->since >= TRIM_AFTER)
            trim(f, f->parked_at);
    }
    timer_set(t, now + TRIM_AFTER);
}

static void fiber_start(struct sched *s, struct fiber *f)
{
    f->sched = s;
    f->since = loop_now(s->loop);
    f->timer.fn = on_deadline;
#if defined(__SANITIZE_THREAD__)
    f->tsan = __tsan_create_fiber(0);
    __tsan_set_fiber_name(f->tsan, f->name);
#endif
    if (list_empty(&s->all))
        timer_set(&s->trim, f->since + TRIM_AFTER);
    list_add_tail(&s->all, &f->all);
    make_ready(f, WOKEN);
}

static void start_posted(struct post *p)
{
    fiber_start(here, list_item(p, struct fiber, post));
}

bool fiber_spawn(struct loop *l, const char *name, void (*fn)(void *arg), void *arg)
{
    struct sched *s = loop_sched(l);
    struct fiber *f = NULL;

    if (atomic_fetch_add(&count, 1) >= atomic_load_explicit(&limit, memory_order_relaxed)) {
        atomic_fetch_sub(&count, 1);
        return false;
    }
    if (s == here && s->cache) {
        f = s->cache;
        s->cache = f->next;
        s->cached--;
    } else {
        f = fiber_map();
    }
    if (!f) {
        atomic_fetch_sub(&count, 1);
        return false;
    }
    fiber_prepare(f, name, fn, arg);
    if (s == here) {
        fiber_start(s, f);
    } else {
        f->post.fn = start_posted;
        loop_post_node(l, &f->post);
    }
    return true;
}

void fiber_rename(const char *fmt, ...)
{
    struct fiber *f = fiber_self();
    va_list ap;

    if (!f)
        return;
    va_start(ap, fmt);
    vsnprintf(f->name, sizeof(f->name), fmt, ap);
    va_end(ap);
}

struct sched *sched_new(struct loop *l)
{
    struct sched *s = xcalloc(1, sizeof(*s));

    s->loop = l;
    s->ready_end = &s->ready;
    list_init(&s->all);
    s->trim.fn = trim_idle;
    return s;
}

void sched_enter(struct sched *s)
{
    here = s;
#if defined(__SANITIZE_THREAD__)
    s->tsan = __tsan_get_current_fiber();
#endif
}

void sched_free(struct sched **sp)
{
    struct sched *s = *sp;

    *sp = NULL;
    while (!list_empty(&s->all))
        fiber_end(list_item(s->all.next, struct fiber, all));
    while (s->cache) {
        struct fiber *f = s->cache;

        s->cache = f->next;
        fiber_unmap(f);
    }
    if (here == s)
        here = NULL;
    free(s);
}

/* ---- waiting ---- */

static int wait_state(struct wait *w)
{
    return __atomic_load_n(&w->state, __ATOMIC_ACQUIRE);
}

static bool wait_move(struct wait *w, int from, int to)
{
    return __atomic_compare_exchange_n(&w->state, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* Ends the wait of a fiber from its own loop, unless its wait_done is already on the way: that post
 * then ends the wait, and until it came the struct wait may not go. */
static void end_wait(struct fiber *f, enum wake_reason reason)
{
    if (f->wait && !wait_move(f->wait, WAIT_FIBER, WAIT_IDLE))
        return;
    make_ready(f, reason);
}

static void on_deadline(struct timer *t)
{
    struct fiber *f = list_item(t, struct fiber, timer);

    if (f->state != WAITING || f->deadline == NEVER)
        return;
    if (f->deadline > loop_now(f->sched->loop))
        timer_set(t, f->deadline); /* left over from an earlier wait */
    else
        end_wait(f, TIMED_OUT);
}

/* Suspends the fiber until it is made ready. */
static __attribute__((noinline)) void park(struct fiber *f, msec_t deadline, const char *what)
{
    f->state = WAITING;
    f->what = what;
    f->since = loop_now(f->sched->loop);
    f->deadline = deadline;
    f->parked_at = (uintptr_t)__builtin_frame_address(0);
    if (deadline != NEVER && (!f->timer.pos || f->timer.at > deadline))
        timer_set(&f->timer, deadline);
    leave(f);
    f->what = "";
    f->since = loop_now(f->sched->loop);
}

/* Does shutdown, as far as it has come, end this fiber's waits? */
static bool is_interrupted(const struct fiber *f)
{
    if (f->interruptible || f->sleeping)
        return atomic_load_explicit(&stopping, memory_order_relaxed);
    return !f->bound && atomic_load_explicit(&aborting, memory_order_relaxed);
}

/* A wait that begins when shutdown has begun already, or after its deadline, ends before it begins.
 */
static bool may_wait(struct fiber *f, msec_t deadline)
{
    if (is_interrupted(f)) {
        f->reason = INTERRUPTED;
        return false;
    }
    if (deadline <= loop_now(f->sched->loop)) {
        f->reason = TIMED_OUT;
        return false;
    }
    return true;
}

/* Outside a fiber: the thread sleeps on the state itself. Under a virtual clock nothing else would
 * move it, so a wait with a deadline that is not over at once moves it there. */
static bool wait_thread(struct wait *w, msec_t deadline)
{
    if (!wait_move(w, WAIT_IDLE, WAIT_THREAD))
        return true;
    while (wait_state(w) != WAIT_DONE) {
        struct timespec ts, *timeout = NULL;

        if (deadline != NEVER) {
            msec_t left = deadline - clock_now();

            if (left > 0 && clock_is_virtual())
                clock_advance(left);
            if (left <= 0 || clock_is_virtual())
                return !wait_move(w, WAIT_THREAD, WAIT_IDLE);
            ts.tv_sec = left / 1000;
            ts.tv_nsec = left % 1000 * 1000000;
            timeout = &ts;
        }
        syscall(SYS_futex, &w->state, FUTEX_WAIT_PRIVATE, WAIT_THREAD, timeout, NULL, 0);
    }
    return true;
}

void wait_init(struct wait *w)
{
    w->fiber = NULL;
    w->state = WAIT_IDLE;
}

static void wake_posted(struct post *p)
{
    make_ready(list_item(p, struct fiber, post), WOKEN);
}

void wait_done(struct wait *w)
{
    int was = __atomic_exchange_n(&w->state, WAIT_DONE, __ATOMIC_ACQ_REL);

    /* From here on w may be gone, unless a fiber waits: that one stays until it is woken below. */
    if (was == WAIT_FIBER) {
        struct fiber *f = w->fiber;

        if (f->sched == here) {
            make_ready(f, WOKEN);
        } else {
            f->post.fn = wake_posted;
            loop_post_node(f->sched->loop, &f->post);
        }
    } else if (was == WAIT_THREAD) {
        /* An address that is no longer a wait is woken for nothing, which does no harm. */
        syscall(SYS_futex, &w->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
}

bool wait_until(struct wait *w, msec_t deadline, const char *what)
{
    struct fiber *f = fiber_self();

    if (wait_state(w) == WAIT_DONE)
        return true;
    if (!f)
        return wait_thread(w, deadline);
    if (!may_wait(f, deadline))
        return false;
    w->fiber = f;
    f->wait = w;
    if (wait_move(w, WAIT_IDLE, WAIT_FIBER))
        park(f, deadline, what);
    else
        f->reason = WOKEN; /* just done */
    f->wait = NULL;
    return f->reason == WOKEN;
}

void wait_for_done(struct wait *w, const char *what)
{
    struct fiber *f = fiber_self();
    bool interruptible = f && f->interruptible;

    if (f) {
        f->interruptible = false;
        f->bound = true;
    }
    wait_until(w, NEVER, what);
    if (f) {
        f->interruptible = interruptible;
        f->bound = false;
    }
}

bool fiber_sleep(msec_t duration)
{
    struct fiber *f = fiber_self();
    msec_t until = clock_in(duration);

    if (!f) {
        if (clock_is_virtual()) {
            clock_advance(duration);
        } else {
            struct timespec ts = {duration / 1000, duration % 1000 * 1000000};

            nanosleep(&ts, NULL);
        }
        return true;
    }
    f->sleeping = true;
    if (may_wait(f, until))
        park(f, until, "sleep");
    f->sleeping = false;
    return f->reason != INTERRUPTED;
}

void fiber_yield(void)
{
    struct fiber *f = fiber_self();

    if (!f)
        return;
    make_ready(f, WOKEN);
    leave(f);
}

/* ---- waiting for descriptors ---- */

static uint32_t poll_fd(int fd, uint32_t events, msec_t deadline)
{
    struct pollfd p = {.fd = fd, .events = (short)(events & (EPOLLIN | EPOLLOUT | EPOLLPRI))};

    for (;;) {
        msec_t left = deadline == NEVER ? NEVER : deadline - clock_now();
        int n;

        if (left < 0)
            left = 0;
        n = poll(&p, 1,
                 clock_is_virtual() ? (left == NEVER ? -1 : 0)
                 : left > INT_MAX   ? -1
                                    : (int)left);
        if (n > 0)
            return (uint32_t)p.revents; /* the poll and epoll bits are the same */
        if (n == 0 && clock_is_virtual() && left > 0)
            clock_advance(left);
        if (n == 0 || errno != EINTR)
            return 0;
    }
}

struct fd_wait {
    struct watch watch;
    struct fiber *fiber;
};

static void on_fd(struct watch *w, uint32_t events)
{
    struct fiber *f = list_item(w, struct fd_wait, watch)->fiber;

    if (f->state != WAITING)
        return; /* its deadline came in the same turn */
    f->events = events;
    make_ready(f, WOKEN);
}

uint32_t fiber_wait_fd(int fd, uint32_t events, msec_t deadline, const char *what)
{
    struct fiber *f = fiber_self();
    struct fd_wait d = {
        .watch = {.fd = fd, .events = events | EPOLLONESHOT, .fn = on_fd}
    };

    if (!f)
        return poll_fd(fd, events, deadline);
    f->events = 0;
    if (!may_wait(f, deadline))
        return 0;
    d.fiber = f;
    if (!watch_add(&d.watch))
        return EPOLLERR; /* the caller's next system call on it says why */
    park(f, deadline, what);
    watch_remove(&d.watch);
    return f->reason == WOKEN ? f->events : 0;
}

void fiber_fd_init(struct fiber_fd *d, int fd)
{
    *d = (struct fiber_fd){.watch.fd = fd};
}

static void on_fiber_fd(struct watch *w, uint32_t events)
{
    struct fiber_fd *d = list_item(w, struct fiber_fd, watch);
    struct fiber *f = d->waiting;

    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
        d->ending = true;
    if (events & ~(uint32_t)EPOLLOUT)
        d->dry = false;
    if (!f || f->state != WAITING)
        return;
    f->events |= events & (f->events_wanted | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (f->events)
        make_ready(f, WOKEN);
}

uint32_t fiber_fd_wait(struct fiber_fd *d, uint32_t events, msec_t deadline, const char *what)
{
    struct fiber *f = fiber_self();

    if (!f)
        return poll_fd(d->watch.fd, events, deadline);
    f->events = 0;
    if (f->cut) {
        f->reason = INTERRUPTED;
        return 0;
    }
    if (!may_wait(f, deadline))
        return 0;
    assert(!d->waiting && (!d->loop || d->loop == f->sched->loop));
    f->events_wanted = events;
    d->waiting = f;
    if (!d->loop) {
        d->watch.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;
        d->watch.fn = on_fiber_fd;
        if (!watch_add(&d->watch)) {
            d->waiting = NULL;
            return EPOLLERR;
        }
        d->loop = f->sched->loop;
    }
    f->on_fd = true;
    park(f, deadline, what);
    f->on_fd = false;
    d->waiting = NULL;
    return f->reason == WOKEN ? f->events : 0;
}

/* Only an event that comes after the read can mean more, and such an event is reported: the
 * descriptor is watched, and events are only taken while no fiber runs. */
void fiber_fd_short_read(struct fiber_fd *d)
{
    d->dry = d->loop && !d->ending;
}

bool fiber_fd_is_dry(const struct fiber_fd *d)
{
    return d->dry;
}

void fiber_fd_forget(struct fiber_fd *d)
{
    assert(!d->waiting);
    if (d->loop && d->loop == loop_self()) /* not: its loop is gone, and the registration with it */
        watch_remove(&d->watch);
    d->loop = NULL;
    d->dry = false;
}

/* ---- shutdown ---- */

bool fiber_stopping(void)
{
    return atomic_load(&stopping);
}

static void interrupt_all(void *unused)
{
    (void)unused;
    list_each (pos, &here->all) {
        struct fiber *f = list_item(pos, struct fiber, all);

        if (f->state == WAITING && is_interrupted(f))
            end_wait(f, INTERRUPTED);
    }
}

static void post_interrupt(struct loop *l, void *unused)
{
    (void)unused;
    loop_post(l, interrupt_all, NULL);
}

void fibers_stop(void)
{
    if (!atomic_exchange(&stopping, true))
        loop_each(post_interrupt, NULL);
}

void fibers_abort(void)
{
    atomic_store(&stopping, true);
    if (!atomic_exchange(&aborting, true))
        loop_each(post_interrupt, NULL);
}

void fibers_stop_undo(void)
{
    atomic_store(&stopping, false);
    atomic_store(&aborting, false);
}

void fiber_cut(struct fiber *f)
{
    assert(f->sched == here);
    f->cut = true;
    if (f->state == WAITING && f->on_fd)
        end_wait(f, INTERRUPTED);
}

void fiber_interruptible(bool on)
{
    struct fiber *f = fiber_self();

    if (f)
        f->interruptible = on;
}

bool fiber_interrupted(void)
{
    struct fiber *f = fiber_self();

    return f && f->reason == INTERRUPTED;
}

/* ---- listing ---- */

struct listing { /* shared by the asker and the loop it asks; either may leave first */
    struct wait wait;
    atomic_int refs;
    struct fiber_info *infos;
    size_t n;
};

static void listing_unref(struct listing *l)
{
    if (atomic_fetch_sub(&l->refs, 1) > 1)
        return;
    free(l->infos);
    free(l);
}

static void list_here(void *arg)
{
    struct listing *l = arg;
    size_t n = 0;

    list_each (pos, &here->all)
        n++;
    l->infos = xcalloc(n + 1, sizeof(*l->infos));
    list_each (pos, &here->all) {
        struct fiber *f = list_item(pos, struct fiber, all);
        struct fiber_info *info = &l->infos[l->n++];

        str_copy(info->name, sizeof(info->name), f->name);
        str_copy(info->what, sizeof(info->what), f->what);
        info->since = f->since;
        info->loop = loop_index(here->loop);
        info->stack_used = painted_used(f);
    }
    wait_done(&l->wait);
    listing_unref(l);
}

struct loop_list {
    struct loop *loops[64];
    size_t n;
};

static void add_loop(struct loop *l, void *arg)
{
    struct loop_list *list = arg;

    if (list->n < countof(list->loops))
        list->loops[list->n++] = l;
}

void fiber_list(void (*fn)(const struct fiber_info *info, void *arg), void *arg)
{
    struct loop_list list = {.n = 0};

    loop_each(add_loop, &list);
    for (size_t i = 0; i < list.n; i++) {
        struct listing *l = xcalloc(1, sizeof(*l));

        wait_init(&l->wait);
        atomic_init(&l->refs, 2);
        if (list.loops[i] == loop_self())
            list_here(l);
        else
            loop_post(list.loops[i], list_here, l);
        if (wait_until(&l->wait, clock_in(SECONDS(2)), "listing of fibers"))
            for (size_t k = 0; k < l->n; k++)
                fn(&l->infos[k], arg);
        listing_unref(l);
    }
}
