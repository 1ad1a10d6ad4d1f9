/* test_fiber.c - fibers: switching, waiting from every side, deadlines, shutdown, the guard page.
 * Built a second time by test_fiber_ucontext.c, over the switch of the C library. */
#include "daemon/fiber.h"

#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/loop.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct loop *l;

static int setup(void **state)
{
    (void)state;
    clock_set_virtual(1000, 0);
    l = loop_new(0);
    loop_settle(l);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(&l);
    assert_int_equal(fiber_count(), 0);
    return 0;
}

static void until_all_ended(void)
{
    while (fiber_count() > 0)
        loop_turn(l, NEVER);
}

/* ---- switching ---- */

enum { MANY = 3000 };

static unsigned rounds_left[MANY];

static void rounds(void *arg)
{
    unsigned *left = arg;
    double x = 1.0 / (double)(left - rounds_left + 3);
    long a = left - rounds_left, b = a * 3, c = a * 5, d = a * 7;

    while (*left > 0) {
        double y = x * 3;

        --*left;
        fiber_yield();
        assert_true(y == x * 3); /* registers and stack are as they were */
        assert_true(b == a * 3 && c == a * 5 && d == a * 7);
        a++, b += 3, c += 5, d += 7;
    }
}

static void thousands_take_turns(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        rounds_left[i] = 1 + i % 20;
        assert_true(fiber_spawn(l, "rounds", rounds, &rounds_left[i]));
    }
    assert_int_equal(fiber_count(), MANY);
    loop_settle(l);
    assert_int_equal(fiber_count(), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(rounds_left[i], 0);
}

static void spawn_more(void *arg)
{
    unsigned *depth = arg;

    if (*depth > 0) {
        --*depth;
        assert_true(fiber_spawn(loop_self(), "child", spawn_more, depth));
    }
}

static void a_fiber_may_spawn_and_end(void **state)
{
    unsigned depth = 10000;
    (void)state;

    assert_true(fiber_spawn(l, "root", spawn_more, &depth));
    loop_settle(l);
    assert_int_equal(depth, 0);
    assert_int_equal(fiber_count(), 0);
}

static const double third = 1.0 / 3.0; /* by the compiler, to nearest */

static void rounding(void *arg)
{
    bool *ok = arg;

    volatile double one = 1, three = 3, before, after; /* volatile: computed where it stands */

    fesetround(FE_UPWARD);
    before = one / three;
    fiber_yield();
    after = one / three;
    *ok = fegetround() == FE_UPWARD && before == after && after > third;
    fesetround(FE_TONEAREST);
}

static void rounding_to_nearest(void *arg)
{
    bool *ok = arg;

    volatile double one = 1, three = 3, before = one / three, after;

    *ok = fegetround() == FE_TONEAREST && before == third;
    fiber_yield();
    after = one / three;
    *ok &= fegetround() == FE_TONEAREST && after == third;
}

static void the_rounding_mode_is_each_fibers_own(void **state)
{
    volatile double one = 1, three = 3, rounded;
    bool up = false, nearest = false;
    (void)state;

    fesetround(FE_UPWARD);
    rounded = one / three;
    fesetround(FE_TONEAREST);
    if (rounded == third)
        skip(); /* valgrind rounds as it likes */
    fiber_spawn(l, "up", rounding, &up);
    fiber_spawn(l, "nearest", rounding_to_nearest, &nearest);
    loop_settle(l);
    assert_true(up);
    assert_true(nearest);
}

static void the_number_of_fibers_is_limited(void **state)
{
    unsigned one = 1;
    (void)state;

    fiber_limit(2);
    rounds_left[0] = rounds_left[1] = 1;
    assert_true(fiber_spawn(l, "a", rounds, &rounds_left[0]));
    assert_true(fiber_spawn(l, "b", rounds, &rounds_left[1]));
    assert_false(fiber_spawn(l, "c", rounds, &one));
    loop_settle(l);
    assert_int_equal(one, 1); /* never ran */
    assert_true(fiber_spawn(l, "c", rounds, &one));
    loop_settle(l);
    assert_int_equal(one, 0);
    fiber_limit(20000);
}

/* ---- deadlines ---- */

struct sleeper {
    msec_t duration, woke;
    bool ok;
};

static void sleeper(void *arg)
{
    struct sleeper *s = arg;

    s->ok = fiber_sleep(s->duration);
    s->woke = clock_now();
}

static void sleeps_end_when_their_time_comes(void **state)
{
    static struct sleeper s[500];
    (void)state;

    for (int i = 0; i < 500; i++) {
        s[i] = (struct sleeper){.duration = 1 + i * 7 % 500};
        fiber_spawn(l, "sleeper", sleeper, &s[i]);
    }
    loop_settle(l);
    for (int i = 0; i <= 500; i++) {
        clock_advance(1);
        loop_settle(l);
    }
    for (int i = 0; i < 500; i++) {
        assert_true(s[i].ok);
        assert_int_equal(s[i].woke, 1000 + s[i].duration);
    }
}

struct waiter {
    struct wait wait;
    msec_t deadline;
    bool result, interruptible, interrupted, done;
};

static void waiter(void *arg)
{
    struct waiter *w = arg;

    fiber_interruptible(w->interruptible);
    w->result = wait_until(&w->wait, w->deadline, "test");
    w->interrupted = fiber_interrupted();
    w->done = true;
}

static void done_may_come_before_during_or_after(void **state)
{
    struct waiter before = {.deadline = NEVER}, during = {.deadline = 2000},
                  after = {.deadline = 1500}, past = {.deadline = 500},
                  past_done = {.deadline = 500};
    (void)state;

    wait_init(&before.wait);
    wait_init(&during.wait);
    wait_init(&after.wait);
    wait_init(&past.wait);
    wait_init(&past_done.wait);
    wait_done(&before.wait);
    wait_done(&past_done.wait);
    fiber_spawn(l, "before", waiter, &before);
    fiber_spawn(l, "during", waiter, &during);
    fiber_spawn(l, "after", waiter, &after);
    fiber_spawn(l, "past", waiter, &past);
    fiber_spawn(l, "past", waiter, &past_done);
    loop_settle(l);
    assert_true(before.done && before.result);
    assert_true(past_done.done && past_done.result);
    assert_true(past.done && !past.result);
    assert_false(during.done || after.done);
    wait_done(&during.wait);
    clock_advance(499);
    loop_settle(l);
    assert_true(during.done && during.result);
    assert_false(after.done);
    clock_advance(1);
    loop_settle(l);
    assert_true(after.done && !after.result && !after.interrupted);
    wait_done(&after.wait); /* too late, and harmless */
    loop_settle(l);
}

static void moving_deadlines(void *arg)
{
    struct waiter *w = arg;
    msec_t begin = clock_now();

    /* long, short, long: the timer that stays in the heap must end none of them too early or late
     */
    assert_false(wait_until(&w->wait, clock_in(100), "long"));
    assert_int_equal(clock_now(), begin + 100);
    assert_false(wait_until(&w->wait, clock_in(10), "short"));
    assert_int_equal(clock_now(), begin + 110);
    assert_false(wait_until(&w->wait, clock_in(1000), "long"));
    assert_int_equal(clock_now(), begin + 1110);
    assert_true(fiber_sleep(5));
    assert_int_equal(clock_now(), begin + 1115);
    w->done = true;
}

/* Waits that end before their deadline leave their timer behind: for longer ones and shorter ones.
 */
static void deadlines_left_behind(void *arg)
{
    struct waiter *w = arg;

    assert_true(wait_until(&w->wait, clock_in(100), "left behind")); /* done at 1010 */
    wait_init(&w->wait);
    assert_false(
        wait_until(&w->wait, clock_in(500), "longer")); /* 1510; the old timer goes off at 1100 */
    assert_int_equal(clock_now(), 1510);
    wait_init(&w->wait);
    assert_true(wait_until(&w->wait, clock_in(1000), "left behind")); /* done at 1520 */
    wait_init(&w->wait);
    assert_false(wait_until(&w->wait, clock_in(20), "shorter"));
    assert_int_equal(clock_now(), 1540);
    w->done = true;
}

static void deadlines_move(void **state)
{
    struct waiter w = {.done = false};
    (void)state;

    wait_init(&w.wait);
    fiber_spawn(l, "moving", moving_deadlines, &w);
    loop_settle(l);
    for (int i = 0; i < 1500; i++) {
        clock_advance(1);
        loop_settle(l);
    }
    assert_true(w.done);
}

static void timers_left_behind_disturb_nothing(void **state)
{
    struct waiter w = {.done = false};
    (void)state;

    wait_init(&w.wait);
    fiber_spawn(l, "left behind", deadlines_left_behind, &w);
    loop_settle(l);
    while (clock_now() < 1600) {
        clock_advance(1);
        if (clock_now() == 1010 || clock_now() == 1520)
            wait_done(&w.wait);
        loop_settle(l);
    }
    assert_true(w.done);
}

/* ---- storms from other threads ---- */

enum { THREADS = 3, FIBERS = 300, WAITS = 60 };

struct shared { /* as adapters share it: one reference each, whoever leaves last frees */
    struct wait wait;
    atomic_int refs;
    struct shared *next;
};

static pthread_mutex_t stock_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stock_more = PTHREAD_COND_INITIALIZER;
static struct shared *stock;
static bool stock_closed;
static atomic_uint fired, woken, timed_out;

static void shared_unref(struct shared *s)
{
    if (atomic_fetch_sub(&s->refs, 1) == 1)
        free(s);
}

static void *firing(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (;;) {
        struct shared *s;

        pthread_mutex_lock(&stock_lock);
        while (!stock && !stock_closed)
            pthread_cond_wait(&stock_more, &stock_lock);
        s = stock;
        if (s)
            stock = s->next;
        pthread_mutex_unlock(&stock_lock);
        if (!s)
            return NULL;
        if (rand_r(&seed) % 4 == 0)
            for (volatile int i = 0; i < 20000; i++)
                ; /* so that some deadlines come first */
        wait_done(&s->wait);
        atomic_fetch_add(&fired, 1);
        shared_unref(s);
    }
}

static void storming(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (int i = 0; i < WAITS; i++) {
        struct shared *s = xcalloc(1, sizeof(*s));

        wait_init(&s->wait);
        atomic_init(&s->refs, 2);
        pthread_mutex_lock(&stock_lock);
        s->next = stock;
        stock = s;
        pthread_mutex_unlock(&stock_lock);
        pthread_cond_signal(&stock_more);
        if (rand_r(&seed) % 8 == 0)
            fiber_yield();
        if (wait_until(&s->wait, rand_r(&seed) % 2 ? NEVER : clock_in(rand_r(&seed) % 3), "storm"))
            atomic_fetch_add(&woken, 1);
        else
            atomic_fetch_add(&timed_out, 1);
        shared_unref(s);
    }
}

static void storms_from_other_threads(void **state)
{
    pthread_t t[THREADS];
    (void)state;

    clock_set_real();
    fired = woken = timed_out = 0;
    stock_closed = false;
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, firing, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < FIBERS; i++)
        assert_true(fiber_spawn(l, "storm", storming, (void *)(i + 1)));
    until_all_ended();
    pthread_mutex_lock(&stock_lock);
    stock_closed = true;
    pthread_mutex_unlock(&stock_lock);
    pthread_cond_broadcast(&stock_more);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(fired, FIBERS * WAITS);
    assert_int_equal(woken + timed_out, FIBERS * WAITS);
    assert_true(timed_out > 0);
    assert_true(woken > 0);
}

static atomic_uint spawned;

static void count_one(void *arg)
{
    assert_ptr_equal(loop_self(), arg);
    atomic_fetch_add(&spawned, 1);
}

static void *spawning(void *arg)
{
    for (int i = 0; i < 2000; i++)
        assert_true(fiber_spawn(arg, "far", count_one, arg));
    return NULL;
}

static void fibers_are_spawned_from_other_threads(void **state)
{
    pthread_t t;
    (void)state;

    clock_set_real();
    spawned = 0;
    assert_int_equal(pthread_create(&t, NULL, spawning, l), 0);
    while (atomic_load(&spawned) < 2000)
        loop_turn(l, NEVER);
    pthread_join(t, NULL);
    until_all_ended();
}

static void *done_later(void *arg)
{
    for (volatile int i = 0; i < 100000; i++)
        ;
    wait_done(arg);
    return NULL;
}

static void a_thread_waits_too(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct wait w;
        pthread_t t;

        wait_init(&w);
        assert_int_equal(pthread_create(&t, NULL, done_later, &w), 0);
        assert_true(wait_until(&w, NEVER, "thread"));
        pthread_join(t, NULL);
        wait_init(&w);
        assert_false(
            wait_until(&w, clock_in(1000), "nobody")); /* the virtual clock is moved there */
        assert_int_equal(clock_now(), 1000 + (i + 1) * 1000);
    }
}

/* ---- descriptors ---- */

struct reader {
    int fd;
    uint32_t events;
    msec_t deadline;
    unsigned in_vain; /* reads that found nothing */
    bool done;
};

static void reader(void *arg)
{
    struct reader *r = arg;

    r->events = fiber_wait_fd(r->fd, EPOLLIN, r->deadline, "input");
    r->done = true;
}

static void fibers_wait_for_descriptors(void **state)
{
    struct reader r = {.deadline = 1100};
    int fd[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    r.fd = fd[0];
    fiber_spawn(l, "reader", reader, &r);
    loop_settle(l);
    assert_false(r.done);
    clock_advance(100);
    loop_settle(l);
    assert_true(r.done);
    assert_int_equal(r.events, 0);
    r = (struct reader){.fd = fd[0], .deadline = NEVER};
    fiber_spawn(l, "reader", reader, &r);
    loop_settle(l);
    assert_false(r.done);
    assert_int_equal(write(fd[1], "x", 1), 1);
    loop_settle(l);
    assert_true(r.done);
    assert_int_equal(r.events, EPOLLIN);
    assert_int_equal(fiber_wait_fd(fd[0], EPOLLIN, NEVER, "outside"), EPOLLIN);
    assert_int_equal(fiber_wait_fd(fd[1], EPOLLIN, clock_in(77), "outside"), 0);
    assert_int_equal(clock_now(), 1177);
    close(fd[0]);
    close(fd[1]);
}

/* An end that is reported together with the last data must not be waited for once more. */
static void read_all(void *arg)
{
    struct reader *r = arg;
    struct fiber_fd d;
    char c[100];

    fiber_fd_init(&d, r->fd);
    for (;;) {
        ssize_t n = fiber_fd_is_dry(&d) ? -1 : recv(r->fd, c, sizeof(c), MSG_DONTWAIT);

        if (n == 0)
            break;
        r->in_vain += n < 0 && !fiber_fd_is_dry(&d);
        if (n < (ssize_t)sizeof(c))
            fiber_fd_short_read(&d);
        if (n < 0 && !fiber_fd_wait(&d, EPOLLIN, clock_in(1000), "input"))
            break;
        r->events += n > 0 ? (uint32_t)n : 0;
    }
    fiber_fd_forget(&d);
    r->done = true;
}

static void a_short_read_does_not_hide_the_end(void **state)
{
    struct reader r = {.deadline = 0};
    int fd[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    r.fd = fd[0];
    fiber_spawn(l, "reader", read_all, &r);
    loop_settle(l);
    assert_int_equal(write(fd[1], "abc", 3), 3);
    loop_settle(l);
    assert_int_equal(write(fd[1], "defg", 4), 4);
    assert_false(r.done);
    close(fd[1]); /* data and end in one report */
    loop_settle(l);
    assert_true(r.done);
    assert_int_equal(r.events, 7);
    assert_int_equal(clock_now(), 1000); /* not by its deadline */
    assert_int_equal(r.in_vain, 1); /* the first, before the descriptor was registered */
    close(fd[0]);
}

/* ---- shutdown ---- */

static void shutdown_wakes_who_may_be_woken(void **state)
{
    struct waiter soft = {.deadline = NEVER, .interruptible = true}, hard = {.deadline = 1500},
                  late = {.deadline = NEVER, .interruptible = true};
    struct sleeper s = {.duration = 1000};
    (void)state;

    wait_init(&soft.wait);
    wait_init(&hard.wait);
    wait_init(&late.wait);
    fiber_spawn(l, "soft", waiter, &soft);
    fiber_spawn(l, "hard", waiter, &hard);
    fiber_spawn(l, "sleeper", sleeper, &s);
    loop_settle(l);
    assert_false(fiber_stopping());
    fibers_stop();
    assert_true(fiber_stopping());
    loop_settle(l);
    assert_true(soft.done && !soft.result && soft.interrupted);
    assert_false(s.ok);
    assert_int_equal(s.woke, 1000);
    assert_false(hard.done);
    fiber_spawn(l, "late", waiter, &late); /* waits that begin now end at once */
    loop_settle(l);
    assert_true(late.done && late.interrupted);
    wait_done(&hard.wait);
    loop_settle(l);
    assert_true(hard.done && hard.result && !hard.interrupted);
    fibers_stop_undo();
}

static void for_good(void *arg)
{
    struct waiter *w = arg;

    fiber_interruptible(true);
    wait_for_done(&w->wait, "for good");
    w->done = true;
    w->interrupted = !fiber_sleep(1); /* interruptible again */
}

static void shutdown_does_not_end_wait_for_done(void **state)
{
    struct waiter w = {.done = false};
    (void)state;

    wait_init(&w.wait);
    fiber_spawn(l, "for good", for_good, &w);
    loop_settle(l);
    fibers_stop();
    loop_settle(l);
    assert_false(w.done);
    wait_done(&w.wait);
    loop_settle(l);
    assert_true(w.done && w.interrupted);
    fibers_stop_undo();
}

static void the_end_of_the_grace_period_wakes_all_but_wait_for_done(void **state)
{
    struct waiter hard = {.deadline = 1500}, late = {.deadline = 1500}, bound = {.done = false};
    struct reader r = {.deadline = NEVER};
    int fd[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    r.fd = fd[0];
    wait_init(&hard.wait);
    wait_init(&late.wait);
    wait_init(&bound.wait);
    fiber_spawn(l, "hard", waiter, &hard);
    fiber_spawn(l, "reader", read_all, &r);
    fiber_spawn(l, "for good", for_good, &bound);
    loop_settle(l);
    fibers_stop();
    loop_settle(l);
    assert_false(hard.done || r.done || bound.done);
    fibers_abort();
    loop_settle(l);
    assert_true(hard.done && !hard.result && hard.interrupted);
    assert_true(r.done && r.events == 0);
    assert_false(bound.done);
    fiber_spawn(l, "late", waiter, &late);
    loop_settle(l);
    assert_true(late.done && late.interrupted);
    wait_done(&bound.wait);
    loop_settle(l);
    assert_true(bound.done && bound.interrupted);
    fibers_stop_undo();
    close(fd[0]);
    close(fd[1]);
}

/* ---- stacks ---- */

static void list_one(const struct fiber_info *info, void *arg)
{
    struct fiber_info *out = arg;

    if (!strcmp(info->name, "waiting 7"))
        *out = *info;
}

static void renamed(void *arg)
{
    fiber_rename("waiting %d", 7);
    waiter(arg);
}

static void fibers_are_listed(void **state)
{
    struct waiter w = {.deadline = NEVER};
    struct fiber_info info = {.name = ""};
    (void)state;

    wait_init(&w.wait);
    fiber_measure_stacks(true);
    fiber_spawn(l, "to be renamed", renamed, &w);
    fiber_measure_stacks(false);
    clock_advance(5);
    loop_settle(l);
    clock_advance(50);
    fiber_list(list_one, &info);
    assert_string_equal(info.name, "waiting 7");
    assert_string_equal(info.what, "test");
    assert_int_equal(info.since, 1005);
    assert_in_range(info.stack_used, 100, 60000);
    wait_done(&w.wait);
    loop_settle(l);
}

static atomic_bool other_listed;

static void list_far(const struct fiber_info *info, void *arg)
{
    if (!strcmp(info->name, "far away"))
        *(unsigned *)arg = info->loop;
}

static void lister(void *arg)
{
    fiber_list(list_far, arg);
    atomic_store(&other_listed, true);
}

static void waits_for_it(void *arg)
{
    (void)arg;
    while (!atomic_load(&other_listed))
        fiber_sleep(1);
}

static void fibers_of_other_loops_are_listed(void **state)
{
    unsigned where = 99;
    (void)state;

    clock_set_real();
    loops_start(2);
    assert_true(fiber_spawn(loops_get(1), "far away", waits_for_it, NULL));
    assert_true(fiber_spawn(loops_get(0), "lister", lister, &where));
    loop_stop(loops_get(0));
    loop_stop(loops_get(1));
    while (!atomic_load(&other_listed))
        loop_turn(l, 10); /* this loop answers too */
    loops_join();
    loops_free();
    assert_int_equal(where, 1);
}

static __attribute__((noinline)) unsigned deeper(unsigned n)
{
    volatile char frame[1024];

    frame[0] = (char)n;
    frame[1023] = 1;
    return n == 0 ? (unsigned)frame[0] : deeper(n - 1) + (unsigned)frame[1023];
}

/* The stack's mapping ends at the page boundary above its first frames. */
static void touches_the_edge(void *arg)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = *(size_t *)arg;
    char *top = (char *)(((uintptr_t)&page + page - 1) & ~(uintptr_t)(page - 1));

    *(volatile char *)(top - size) = 1;
    _exit(0);
}

static int status_of_touching(size_t below_top)
{
    int status;
    pid_t child = fork();

    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        fiber_spawn(l, "edge", touches_the_edge, &below_top);
        loop_settle(l);
        _exit(2);
    }
    waitpid(child, &status, 0);
    return status;
}

static void the_guard_page_catches_an_overflow(void **state)
{
#if defined(POSTERN_SANITIZED)
    const size_t size = 256 * 1024;
#else
    const size_t size = 64 * 1024;
#endif
    int status;
    (void)state;

    assert_int_equal(status_of_touching(size), 0); /* the last byte of the stack */
    status = status_of_touching(size + 1); /* the first below it */
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void goes_deep(void *arg)
{
    unsigned *used = arg;

    *used = deeper(30) ? fiber_stack_used() : 0;
}

static void stack_use_is_measured(void **state)
{
    unsigned used = 0;
    (void)state;

    fiber_measure_stacks(true);
    fiber_spawn(l, "deep", goes_deep, &used);
    fiber_measure_stacks(false);
    loop_settle(l);
    assert_true(used > 30 * 1024);
    assert_true(used < 256 * 1024);
}

static void deep_then_idle(void *arg)
{
    struct waiter *w = arg;
    char text[100];

    strcpy(text, "still here");
    deeper(30);
    fiber_trim_stack();
    wait_until(&w->wait, NEVER, "test");
    deeper(30);
    assert_string_equal(text, "still here");
    w->done = true;
}

static void a_trimmed_stack_keeps_what_is_in_use(void **state)
{
    struct waiter w = {.done = false};
    (void)state;

    wait_init(&w.wait);
    fiber_spawn(l, "deep", deep_then_idle, &w);
    loop_settle(l);
    clock_advance(20000); /* the loop trims idle fibers, too */
    loop_settle(l);
    wait_done(&w.wait);
    loop_settle(l);
    assert_true(w.done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(thousands_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fiber_may_spawn_and_end, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rounding_mode_is_each_fibers_own, setup, teardown),
        cmocka_unit_test_setup_teardown(the_number_of_fibers_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(sleeps_end_when_their_time_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(done_may_come_before_during_or_after, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_move, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_left_behind_disturb_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(storms_from_other_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(fibers_are_spawned_from_other_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(a_thread_waits_too, setup, teardown),
        cmocka_unit_test_setup_teardown(fibers_wait_for_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(a_short_read_does_not_hide_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_wakes_who_may_be_woken, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_does_not_end_wait_for_done, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_the_grace_period_wakes_all_but_wait_for_done,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(fibers_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(fibers_of_other_loops_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(the_guard_page_catches_an_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(stack_use_is_measured, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trimmed_stack_keeps_what_is_in_use, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
