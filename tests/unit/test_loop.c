/* test_loop.c - timers, descriptors, posts. */
#include "daemon/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "store/base/list.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct loop *l;

/* ---- timers ---- */

struct alarm {
    struct timer timer;
    unsigned fired;
    struct alarm *cancels;
};

static msec_t last_fired;

static void on_alarm(struct timer *t)
{
    struct alarm *a = list_item(t, struct alarm, timer);

    assert_int_equal(t->pos, 0);
    assert_true(t->at >= last_fired);
    assert_true(t->at <= clock_now());
    last_fired = t->at;
    a->fired++;
    if (a->cancels)
        timer_cancel(&a->cancels->timer);
}

static void timers_fire_in_order_and_once(void **state)
{
    enum { N = 2000 };
    static struct alarm a[N];
    unsigned seed = 1;
    (void)state;

    clock_set_virtual(1000, 0);
    loop_settle(l);
    memset(a, 0, sizeof(a));
    last_fired = 0;
    for (int i = 0; i < N; i++) {
        a[i].timer.fn = on_alarm;
        timer_set(&a[i].timer, 1001 + rand_r(&seed) % 5000);
    }
    for (int i = 0; i < N; i++) { /* move some, both ways; take some out */
        if (i % 3 == 0)
            timer_set(&a[i].timer, 1001 + rand_r(&seed) % 5000);
        if (i % 5 == 0)
            timer_cancel(&a[i].timer);
    }
    for (int step = 0; step < 50; step++) {
        clock_advance(100);
        loop_settle(l);
        for (int i = 0; i < N; i++)
            assert_int_equal(a[i].fired, i % 5 && a[i].timer.at <= clock_now());
    }
    loop_settle(l);
    for (int i = 0; i < N; i++)
        assert_int_equal(a[i].timer.pos, 0);
}

static void a_timer_may_cancel_one_that_is_due(void **state)
{
    struct alarm a = {.timer.fn = on_alarm}, b = {.timer.fn = on_alarm};
    (void)state;

    clock_set_virtual(1000, 0);
    loop_settle(l);
    last_fired = 0;
    a.cancels = &b;
    timer_set(&a.timer, 1010);
    timer_set(&b.timer, 1011);
    clock_advance(100);
    loop_settle(l);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    timer_cancel(&a.timer); /* not set: nothing happens */
}

static void on_quit(struct timer *t)
{
    (void)t;
    loop_stop(l);
}

static void run_ends_when_stopped_and_sleeps_until_then(void **state)
{
    struct timer t = {.fn = on_quit};
    struct timespec begin, end;
    (void)state;

    clock_set_real();
    loop_turn(l, 0);
    timer_set(&t, clock_in(30));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    loop_run(l);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    assert_true(clock_now() >= t.at);
    assert_true((end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec < 20000000);
}

/* ---- descriptors ---- */

struct eye {
    struct watch watch;
    uint32_t seen;
    unsigned calls;
    struct eye *removes;
};

static void on_seen(struct watch *w, uint32_t events)
{
    struct eye *e = list_item(w, struct eye, watch);

    e->seen |= events;
    e->calls++;
    if (e->removes) {
        watch_remove(&e->removes->watch);
        e->removes = NULL;
    }
}

static void descriptors_are_reported(void **state)
{
    struct eye e = {
        .watch = {.events = EPOLLIN, .fn = on_seen}
    };
    int fd[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    e.watch.fd = fd[0];
    assert_true(watch_add(&e.watch));
    assert_false(watch_add(&e.watch)); /* twice */
    loop_settle(l);
    assert_int_equal(e.calls, 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    assert_true(loop_turn(l, 0));
    assert_int_equal(e.seen, EPOLLIN);
    assert_true(loop_turn(l, 0)); /* level triggered */
    assert_int_equal(e.calls, 2);
    watch_change(&e.watch, EPOLLOUT);
    e.seen = 0;
    assert_true(loop_turn(l, 0));
    assert_int_equal(e.seen, EPOLLOUT);
    watch_remove(&e.watch);
    assert_false(loop_turn(l, 0));
    close(fd[0]);
    close(fd[1]);
}

static void a_watch_removed_in_the_same_turn_is_silent(void **state)
{
    struct eye e[2];
    int fd[2];
    (void)state;

    memset(e, 0, sizeof(e));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    for (int i = 0; i < 2; i++) {
        e[i].watch = (struct watch){fd[i], EPOLLOUT, on_seen};
        e[i].removes = &e[!i]; /* whichever is first removes the other */
        assert_true(watch_add(&e[i].watch));
    }
    assert_true(loop_turn(l, 0));
    assert_int_equal(e[0].calls + e[1].calls, 1);
    watch_remove(&e[e[1].calls].watch);
    close(fd[0]);
    close(fd[1]);
}

/* ---- posts ---- */

enum { POSTERS = 4, POSTS = 20000 };

static unsigned next_of[POSTERS], posted_total;
static atomic_bool go;

struct letter {
    unsigned from, n;
};

static void on_post(void *arg)
{
    struct letter *p = arg;

    assert_ptr_equal(loop_self(), l);
    assert_int_equal(next_of[p->from], p->n); /* in the order of one thread's posts */
    next_of[p->from]++;
    posted_total++;
    free(p);
}

static void *poster(void *arg)
{
    while (!atomic_load(&go))
        ;
    for (unsigned i = 0; i < POSTS; i++) {
        struct letter *p = xmalloc(sizeof(*p));

        *p = (struct letter){(unsigned)(uintptr_t)arg, i};
        loop_post(l, on_post, p);
    }
    return NULL;
}

static void posts_arrive_once_in_order_and_wake_the_loop(void **state)
{
    pthread_t t[POSTERS];
    (void)state;

    clock_set_real();
    for (uintptr_t i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, poster, (void *)i), 0);
    atomic_store(&go, true);
    while (posted_total < POSTERS * POSTS)
        loop_turn(l, NEVER); /* a lost wake-up would hang here */
    for (int i = 0; i < POSTERS; i++)
        pthread_join(t[i], NULL);
    assert_false(loop_turn(l, 0));
}

static atomic_uint visited;

static void visit(void *arg)
{
    assert_ptr_equal(loop_self(), arg);
    atomic_fetch_add(&visited, 1u << loop_index(arg));
}

static void the_daemons_loops_start_and_end(void **state)
{
    (void)state;
    loops_start(3);
    assert_int_equal(loops_count(), 3);
    assert_ptr_not_equal(loops_next(), loops_next());
    for (unsigned i = 0; i < 3; i++) {
        loop_post(loops_get(i), visit, loops_get(i));
        if (i < 2)
            loop_stop(loops_get(i));
    }
    while (!(atomic_load(&visited) & 4))
        ;
    loop_stop_now(loops_get(2));
    loops_join();
    loops_free();
    assert_int_equal(visited, 7);
    assert_int_equal(loops_count(), 0);
}

static int setup(void **state)
{
    (void)state;
    l = loop_new(0);
    loop_turn(l, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(&l);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_order_and_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_may_cancel_one_that_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(run_ends_when_stopped_and_sleeps_until_then, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(descriptors_are_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_removed_in_the_same_turn_is_silent, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(posts_arrive_once_in_order_and_wake_the_loop, setup,
                                        teardown),
        cmocka_unit_test(the_daemons_loops_start_and_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
