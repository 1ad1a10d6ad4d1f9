/* The schedule under virtual time: who is next, what waits, what is counted. */
#include "daemon/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/queue.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct schedule s;

static int set_up(void **state)
{
    (void)state;
    schedule_init(&s, 100);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    schedule_free(&s);
    return 0;
}

static struct dest *dest(const char *key, unsigned sessions)
{
    struct dest *d = schedule_dest(&s, key);

    d->limits.sessions = sessions;
    d->proven = true;
    return d;
}

/* A message for n destinations, in memory unless cold. */
static struct queued *add(uint64_t mid, struct dest **d, unsigned n, msec_t due, msec_t now,
                          bool cold)
{
    struct queued *q = queued_new(mid, n);

    for (unsigned i = 0; i < n; i++) {
        q->items[i].dest = d[i];
        q->items[i].rcpts = 1;
        q->items[i].due = due;
    }
    if (!cold)
        q->m = message_new();
    schedule_add(&s, q, now);
    return q;
}

static void finish(struct item *i)
{
    struct queued *q = i->message;

    if (!schedule_done(&s, i))
        return;
    message_free(&q->m);
    free(q);
}

static void one_message(void **state)
{
    struct dest *d = dest("example.com", 10);
    struct queued *q = add(7, &d, 1, 0, 1000, false);
    struct item *i;

    (void)state;
    assert_ptr_equal(schedule_find(&s, 7), q);
    assert_null(schedule_find(&s, 8));
    assert_ptr_equal(schedule_open(&s, 1000), d);
    assert_null(schedule_open(&s, 1000)); /* one message, one session */
    i = schedule_take(&s, d, 1000);
    assert_ptr_equal(i, &q->items[0]);
    assert_null(schedule_take(&s, d, 1000));
    assert_int_equal(s.messages, 1);
    assert_int_equal(s.unattempted, 1);
    finish(i);
    assert_int_equal(s.messages, 0);
    assert_int_equal(s.rcpts, 0);
    assert_int_equal(s.unattempted, 0);
    assert_null(schedule_find(&s, 7));
    schedule_close(&s, d, 1000);
    assert_null(schedule_find_dest(&s, "example.com")); /* forgotten with its last session */
}

static void limits_of_sessions(void **state)
{
    struct dest *d = dest("a.example", 3), *e = dest("b.example", 50), *f;

    (void)state;
    d->window = e->window = 8;
    for (uint64_t mid = 1; mid <= 20; mid++)
        add(mid, &d, 1, 0, 0, false);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(schedule_open(&s, 0), d);
    assert_null(schedule_open(&s, 0));
    schedule_close(&s, d, 0);
    assert_ptr_equal(schedule_open(&s, 0), d); /* somebody left */
    assert_null(schedule_open(&s, 0));
    s.max_sessions = 5;
    for (uint64_t mid = 21; mid <= 40; mid++)
        add(mid, &e, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), e);
    assert_null(schedule_open(&s, 0)); /* the fifth is for a third one */
    f = dest("c.example", 50);
    add(41, &f, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), f);
    add(42, &f, 1, 0, 0, false);
    assert_null(schedule_open(&s, 0)); /* five in all */
}

/* Slow destinations take what they get and give nothing back: there is always something left. */
static void slow_ones_leave_sessions(void **state)
{
    struct dest *slow[4], *other;
    char name[32];
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "slow%u.example", i);
        slow[i] = dest(name, 100);
        slow[i]->window = 100;
        for (uint64_t mid = 1; mid <= 200; mid++)
            add(i * 1000 + mid, &slow[i], 1, 0, 0, false);
    }
    while (schedule_open(&s, 0))
        n++;
    assert_in_range(n, 76, 84); /* of 100: four of five equal shares */
    for (unsigned i = 0; i < 4; i++)
        assert_in_range(slow[i]->sessions, 18, 22);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(name, sizeof(name), "other%u.example", i);
        other = dest(name, 100);
        add(9000 + i, &other, 1, 0, 0, false);
        assert_ptr_equal(schedule_open(&s, 0), other);
        finish(schedule_take(&s, other, 0));
        schedule_close(&s, other, 0);
    }
    /* What was passed over is not forgotten: alone, a destination may have half of all. */
    for (unsigned i = 1; i < 4; i++) {
        slow[i]->limits.sessions = 1;
        while (slow[i]->sessions)
            schedule_close(&s, slow[i], 0);
    }
    for (n = 0; schedule_open(&s, 0);)
        assert_true(++n < 100);
    assert_in_range(slow[0]->sessions, 48, 50);
}

static void destinations_take_turns(void **state)
{
    struct dest *d[3] = {dest("a.example", 50), dest("b.example", 50), dest("c.example", 50)};
    unsigned opened[3] = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        d[i]->window = 8;
    for (uint64_t mid = 1; mid <= 200; mid++) /* the first has by far the most */
        add(mid, &d[0], 1, 0, 0, false);
    for (uint64_t mid = 1001; mid <= 1010; mid++)
        add(mid, &d[1], 1, 0, 0, false);
    for (uint64_t mid = 2001; mid <= 2010; mid++)
        add(mid, &d[2], 1, 0, 0, false);
    s.max_sessions = 12; /* a share of three for each, and as many are left */
    for (struct dest *o; (o = schedule_open(&s, 0));)
        for (int i = 0; i < 3; i++)
            opened[i] += o == d[i];
    for (int i = 0; i < 3; i++)
        assert_int_equal(opened[i], 3);
}

static void windows_open_for_slow_peers_only(void **state)
{
    struct dest *d = dest("a.example", 20);
    unsigned n = 0, before;

    (void)state;
    for (uint64_t mid = 1; mid <= 1000; mid++)
        add(mid, &d, 1, 0, 0, false);
    while (schedule_open(&s, 0))
        n++;
    assert_true(n > 1 && n < 20); /* it starts small */
    before = d->window;
    assert_false(schedule_worked(&s, d, false, 0));
    assert_int_equal(d->window, before + 1); /* the first successes count, whoever is waited for */
    assert_ptr_equal(schedule_open(&s, 0), d);
    for (int i = 0; i < 500; i++)
        schedule_worked(&s, d, false, 0);
    before = d->window;
    assert_int_equal(before, 8);
    for (int i = 0; i < 500; i++)
        schedule_worked(&s, d, false, 0);
    assert_int_equal(d->window, before);
    for (int i = 0; i < 500; i++)
        schedule_worked(&s, d, true, 0);
    assert_int_equal(d->window, 20); /* and never over the limit */
    schedule_failed(&s, d, false, 100, "refused", 0);
    assert_int_equal(d->window, 10);
}

static void time_brings_them_back(void **state)
{
    struct dest *d = dest("a.example", 50);
    static const int due[] = {500, 100, 900, 300, 700, 200, 800, 400, 600};
    struct item *i;

    (void)state;
    for (size_t k = 0; k < countof(due); k++)
        add((uint64_t)due[k], &d, 1, due[k], 0, false);
    assert_null(schedule_open(&s, 0));
    assert_int_equal(schedule_advance(&s, 0), 100);
    for (int t = 100; t <= 900; t += 100) {
        assert_int_equal(schedule_advance(&s, t - 1), t);
        assert_null(schedule_take(&s, d, t - 1));
        schedule_advance(&s, t);
        i = schedule_take(&s, d, t);
        assert_non_null(i);
        assert_int_equal(i->message->mid, t);
        finish(i);
    }
    assert_int_equal(schedule_advance(&s, 2000), NEVER);
}

static void deferred_items_keep_count(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct queued *q = queued_new(1, 2);
    struct item *a, *b;

    (void)state;
    for (int i = 0; i < 2; i++)
        q->items[i] = (struct item){.dest = d[i], .rcpts = 3, .message = q};
    list_init(&q->items[0].node);
    list_init(&q->items[1].node);
    q->m = message_new();
    schedule_add(&s, q, 0);
    assert_int_equal(s.rcpts, 6);
    assert_int_equal(s.unattempted, 6);
    a = schedule_take(&s, d[0], 0);
    b = schedule_take(&s, d[1], 0);
    schedule_defer(&s, a, 1, 60000, 0); /* two of its three went through */
    assert_int_equal(s.rcpts, 4);
    assert_int_equal(s.unattempted, 3);
    assert_int_equal(a->attempts, 1);
    finish(b);
    assert_int_equal(s.rcpts, 1);
    assert_int_equal(s.messages, 1);
    assert_int_equal(schedule_advance(&s, 0), 60000);
    schedule_advance(&s, 60000);
    a = schedule_take(&s, d[0], 60000);
    assert_non_null(a);
    finish(a);
    assert_int_equal(s.rcpts, 0);
    assert_int_equal(s.unattempted, 0);
}

static unsigned woken;
static struct idle *woken_idle;

static void note_wake(struct idle *i)
{
    woken++;
    woken_idle = i;
}

static void waiting_sessions_come_first(void **state)
{
    struct dest *d = dest("a.example", 5);
    struct idle one = {.wake = note_wake}, two = {.wake = note_wake};
    struct queued *q;

    (void)state;
    woken = 0;
    add(1, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), d);
    finish(schedule_take(&s, d, 0));
    schedule_wait(&s, d, &one);
    schedule_wait(&s, d, &two);
    q = add(2, &d, 1, 0, 0, false);
    assert_int_equal(woken, 1);
    assert_ptr_equal(woken_idle->item, &q->items[0]);
    assert_null(schedule_open(&s, 0)); /* no further session for it */
    schedule_unwait(&one);
    schedule_unwait(&two);
    add(3, &d, 1, 0, 0, false);
    assert_int_equal(woken, 1);
    assert_ptr_equal(schedule_open(&s, 0), d);
    finish(&q->items[0]);
}

static void cold_ones_are_loaded_by_turns(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct item *items[16];
    unsigned of_b = 0;
    size_t n;

    (void)state;
    for (uint64_t mid = 1; mid <= 100; mid++)
        add(mid, &d[0], 1, 0, 0, true);
    for (uint64_t mid = 101; mid <= 104; mid++)
        add(mid, &d[1], 1, 0, 0, true);
    assert_null(schedule_open(&s, 0)); /* nothing can be delivered from disk alone */
    assert_int_equal(s.ncold, 104);
    n = schedule_cold(&s, items, 16, false, 0);
    assert_true(n >= 8 && n <= 16);
    for (size_t i = 0; i < n; i++) {
        of_b += items[i]->dest == d[1];
        items[i]->message->m = message_new();
        schedule_warm(&s, items[i], 0);
    }
    assert_int_equal(of_b, 4); /* the small one is not kept waiting */
    assert_int_equal(s.ncold, 104 - n);
    assert_non_null(schedule_open(&s, 0));
}

static void slow_ones_do_not_fill_the_memory(void **state)
{
    struct dest *d[2] = {dest("slow.example", 5), dest("quick.example", 5)};
    struct item *items[64];
    size_t n, total = 0;

    (void)state;
    for (uint64_t mid = 1; mid <= 1000; mid++)
        add(mid, &d[0], 1, 0, 0, true);
    for (int round = 0; round < 50; round++) {
        n = schedule_cold(&s, items, 64, false, 0);
        for (size_t i = 0; i < n; i++) {
            items[i]->message->m = message_new();
            schedule_warm(&s, items[i], 0);
        }
        total += n;
    }
    assert_in_range(total, 100, 200); /* nobody takes them, so no more are read */
    for (uint64_t mid = 2001; mid <= 2020; mid++)
        add(mid, &d[1], 1, 0, 0, true);
    n = schedule_cold(&s, items, 64, true, 0);
    assert_in_range(n, 1, 4);
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(items[i]->dest, d[1]);
}

static void rates_hold(void **state)
{
    struct dest *d = dest("a.example", 50);
    unsigned taken = 0;
    msec_t next;

    (void)state;
    d->limits.rcpts = 10;
    d->limits.rcpt_minutes = 2;
    for (uint64_t mid = 1; mid <= 25; mid++)
        add(mid, &d, 1, 0, 0, false);
    assert_non_null(schedule_open(&s, 0));
    for (struct item *i; (i = schedule_take(&s, d, 0)); taken++)
        finish(i);
    assert_int_equal(taken, 10);
    schedule_close(&s, d, 0);
    assert_null(schedule_open(&s, 0));
    next = schedule_advance(&s, 0);
    assert_true(next <= MINUTES(2));
    for (msec_t t = 0; t < MINUTES(2); t = next) /* it asks to be called often enough */
        next = schedule_advance(&s, t);
    schedule_advance(&s, next);
    assert_ptr_equal(schedule_open(&s, next), d);
    for (taken = 0;; taken++) {
        struct item *i = schedule_take(&s, d, next);

        if (!i)
            break;
        finish(i);
    }
    assert_int_equal(taken, 10);
}

static size_t all_now(struct dest *d, msec_t now)
{
    size_t at = SIZE_MAX, n = 0;

    while (at)
        n += schedule_now(&s, d, &at, 3, now);
    return n;
}

static void now_means_now(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};

    (void)state;
    for (uint64_t mid = 1; mid <= 50; mid++)
        add(mid, &d[mid % 2], 1, (msec_t)(100000 - mid * 7 % 13), 0, mid % 3 == 0);
    assert_int_equal(all_now(d[0], 5), 25);
    assert_int_equal(d[0]->ndeferred, 0);
    assert_int_equal(d[0]->nready + d[0]->ncold, 25);
    assert_int_equal(d[1]->ndeferred, 25);
    assert_true(schedule_advance(&s, 5) >= 100000 - 13); /* the heap is whole */
    assert_int_equal(all_now(NULL, 5), 25);
    assert_int_equal(s.nheap, 0);
}

/* What is parked stays whatever the time and delivernow say, until it is told to go. */
static void parked(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct item *i;
    size_t at = SIZE_MAX, n = 0;
    struct queued *q;

    (void)state;
    for (uint64_t mid = 1; mid <= 20; mid++)
        add(mid, d, 1 + mid % 2, mid % 4 < 2 ? PARKED : 100, 0, false);
    assert_int_equal(s.nparked, 10);
    assert_int_equal(schedule_advance(&s, 1000000), NEVER);
    all_now(NULL, 5);
    assert_int_equal(s.nparked, 10);
    q = schedule_find(&s, 1);
    i = q->items;
    assert_true(schedule_claim(&s, i)); /* as "deleterecipients" does */
    assert_int_equal(s.nparked, 9);
    schedule_return(&s, i, 1, 1000001);
    assert_int_equal(s.nparked, 10);
    while (at)
        n += schedule_unpark(&s, &at, 3, 1000002);
    assert_int_equal(n, 15);
    assert_int_equal(s.nparked, 0);
    assert_int_equal(s.nheap, 0);
}

/* Whatever state an item is in: taken out, given back, the counts are as before. */
static void claimed_and_returned(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct queued *q[40];
    struct item *busy;
    uint64_t rcpts;

    (void)state;
    for (unsigned n = 0; n < 40; n++)
        q[n] = add(n + 1, &d[n % 2], 1, n % 3 ? (msec_t)(1000 + n * 37 % 500) : 0, 1, n % 4 == 0);
    rcpts = s.rcpts;
    schedule_open(&s, 1);
    busy = schedule_take(&s, d[0], 1);
    assert_false(schedule_claim(&s, busy));
    for (unsigned n = 0; n < 40; n++)
        assert_int_equal(schedule_claim(&s, &q[n]->items[0]), &q[n]->items[0] != busy);
    assert_int_equal(s.nheap, 0);
    assert_int_equal(d[0]->nready + d[0]->ncold + d[0]->ndeferred, 0);
    assert_int_equal(d[0]->nbusy, 20);
    assert_null(schedule_take(&s, d[0], 1));
    for (unsigned n = 0; n < 40; n++)
        if (&q[n]->items[0] != busy)
            schedule_return(&s, &q[n]->items[0], 1, 1);
    assert_int_equal(s.rcpts, rcpts);
    assert_int_equal(s.unattempted, rcpts);
    assert_int_equal(d[0]->nbusy, 1);
    for (msec_t last = 0; s.nheap;) { /* the heap is whole */
        msec_t due = s.heap[0]->due;

        assert_true(due >= last);
        last = due;
        schedule_claim(&s, s.heap[0]);
    }
}

/* Taken out of the middle of the heap: the rest keeps its order. */
static void heap_keeps_its_order(void **state)
{
    struct dest *d = dest("a.example", 5);
    struct queued *q[300];
    unsigned seed = 7, left = 0;

    (void)state;
    for (unsigned n = 0; n < 300; n++) {
        seed = seed * 1103515245 + 12345;
        q[n] = add(n + 1, &d, 1, (msec_t)(10 + seed / 65536 % 1000), 1, true);
    }
    for (unsigned n = 0; n < 300; n += 2)
        assert_true(schedule_claim(&s, &q[n]->items[0]));
    for (msec_t last = 0; s.nheap; left++) {
        msec_t due = s.heap[0]->due;

        assert_true(due >= last);
        last = due;
        schedule_claim(&s, s.heap[0]);
    }
    assert_int_equal(left, 150);
}

static void assert_heap(void)
{
    for (size_t k = 1; k < s.nheap; k++) {
        assert_true(s.heap[(k - 1) / 2]->due <= s.heap[k]->due);
        assert_int_equal(s.heap[k]->heap, k + 1);
    }
}

/* What takes the place of an item may have to go up, and then its parent comes down to that place. */
static void heap_moves_both_ways(void **state)
{
    static const msec_t due[] = {11, 110, 12, 111, 112, 13, 14};
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct queued *q[7];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned n = 0; n < 7; n++)
            q[n] = add(100 * round + n + 1, &d[due[n] == 110 || due[n] == 111], 1, due[n], 1, true);
        assert_ptr_equal(s.heap[3], &q[3]->items[0]);
        if (round) {
            assert_int_equal(all_now(d[1], 5), 2); /* none is passed over */
        } else {
            assert_true(schedule_claim(&s, &q[3]->items[0]));
        }
        assert_heap();
        while (s.nheap)
            assert_true(schedule_claim(&s, s.heap[0]));
    }
}

static void fewer_recipients_and_another_destination(void **state)
{
    struct dest *a = dest("a.example", 5), *b = dest("b.example", 5);
    struct queued *q = add(1, &a, 1, 0, 1, true);

    (void)state;
    q->items[0].rcpts = 5;
    s.rcpts = s.unattempted = 5;
    assert_true(schedule_claim(&s, &q->items[0]));
    schedule_move(&s, &q->items[0], b);
    schedule_return(&s, &q->items[0], 2, 1);
    assert_int_equal(s.rcpts, 2);
    assert_int_equal(s.unattempted, 2);
    assert_int_equal(b->ncold, 1);
    assert_null(schedule_find_dest(&s, "a.example")); /* forgotten with its last item */
}

static void oldest_first(void **state)
{
    struct dest *d[2] = {dest("a.example", 5), dest("b.example", 5)};
    struct queued *q[100];
    usec_t best = 0;
    size_t at = 0;
    unsigned slices = 0;

    (void)state;
    assert_null(schedule_oldest(&s));
    for (unsigned n = 0; n < 100; n++) {
        q[n] = add(n + 1, &d[n % 10 == 7], 1, 1000, 1, true);
        q[n]->received = 5000 + (usec_t)n;
    }
    assert_ptr_equal(schedule_oldest(&s), q[0]);
    schedule_claim(&s, &q[0]->items[0]);
    finish(&q[0]->items[0]);
    assert_ptr_equal(schedule_oldest(&s), q[1]);
    for (; at != SIZE_MAX; slices++)
        best = schedule_oldest_of(&s, d[1], &at, 50, best);
    assert_int_equal(best, 5007);
    assert_true(slices > 3);
}

/* At the limit, idle sessions make room: the longest idle first, and no more than are waited for. */
static void idle_sessions_make_room(void **state)
{
    struct dest *a = dest("a.example", 5), *b = dest("b.example", 5), *c;
    struct idle one = {.wake = note_wake}, two = {.wake = note_wake};

    (void)state;
    woken = 0;
    s.max_sessions = 2;
    add(1, &a, 1, 0, 0, false);
    add(2, &b, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), a);
    assert_ptr_equal(schedule_open(&s, 0), b);
    finish(schedule_take(&s, b, 0));
    schedule_wait(&s, b, &two);
    finish(schedule_take(&s, a, 0));
    schedule_wait(&s, a, &one);
    assert_null(schedule_open(&s, 0));
    assert_int_equal(woken, 0); /* nobody waits for room */
    c = dest("c.example", 5);
    add(3, &c, 1, 0, 0, false);
    assert_null(schedule_open(&s, 0));
    assert_int_equal(woken, 1);
    assert_ptr_equal(woken_idle, &two);
    assert_null(two.item);
    assert_null(schedule_open(&s, 0));
    assert_int_equal(woken, 1); /* one is on its way out, and one is waited for */
    schedule_unwait(&two);
    schedule_close(&s, b, 0);
    assert_ptr_equal(schedule_open(&s, 0), c);
    finish(schedule_take(&s, c, 0));
    assert_null(schedule_open(&s, 0));
    assert_int_equal(woken, 1);
    schedule_unwait(&one);
}

static void suspended_means_nothing_moves(void **state)
{
    struct dest *d = dest("a.example", 5);
    struct idle idle = {.wake = note_wake};
    struct item *cold[4];

    (void)state;
    woken = 0;
    add(1, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), d);
    finish(schedule_take(&s, d, 0));
    schedule_wait(&s, d, &idle);
    schedule_suspend(&s, true, 0);
    assert_int_equal(woken, 1); /* sent home */
    assert_null(idle.item);
    schedule_close(&s, d, 0);
    d = dest("a.example", 5);
    add(2, &d, 1, 0, 0, false);
    add(3, &d, 1, 0, 0, true);
    assert_null(schedule_open(&s, 0));
    assert_null(schedule_take(&s, d, 0));
    assert_int_equal(schedule_cold(&s, cold, 4, false, 0), 0);
    schedule_suspend(&s, false, 0);
    assert_ptr_equal(schedule_open(&s, 0), d);
    assert_non_null(schedule_take(&s, d, 0));
    assert_int_equal(schedule_cold(&s, cold, 4, false, 0), 1);
}

static void postponed_items_count_no_attempt(void **state)
{
    struct dest *d = dest("a.example", 5);
    struct item *i;

    (void)state;
    add(1, &d, 1, 0, 0, false);
    i = schedule_take(&s, d, 0);
    schedule_postpone(&s, i, 1000, 0);
    assert_null(schedule_take(&s, d, 0));
    assert_int_equal(s.unattempted, 1);
    assert_int_equal(schedule_advance(&s, 0), 1000);
    schedule_advance(&s, 1000);
    assert_ptr_equal(schedule_take(&s, d, 1000), i);
    assert_int_equal(i->attempts, 0);
}

/* Many messages, added, deferred and finished in a random order against a plain model of what must
 * be there. */
static void many(void **state)
{
    enum { N = 20000 };
    struct dest *d = dest("a.example", 1000);
    static struct queued *all[N];
    uint32_t x = 12345;
    unsigned alive = 0;
    msec_t now = 0;

    (void)state;
    memset(all, 0, sizeof(all));
    for (int step = 0; step < 200000; step++) {
        unsigned k;

        x = x * 1664525u + 1013904223u;
        k = x >> 8;
        if (k % 3 == 0 && !all[k % N]) {
            all[k % N] = add(k % N + 1, &d, 1, now + k % 5000, now, false);
            alive++;
        } else if (k % 3 == 1) {
            struct item *i = schedule_take(&s, d, now);

            if (i && k % 2) {
                all[i->message->mid - 1] = NULL;
                alive--;
                finish(i);
            } else if (i) {
                schedule_defer(&s, i, 1, now + k % 7000, now);
            }
        } else {
            now += k % 10;
            schedule_advance(&s, now);
        }
        assert_int_equal(s.messages, alive);
    }
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(schedule_find(&s, i + 1), all[i]);
    assert_int_equal(d->nready + d->ndeferred + d->nbusy + d->ncold, alive);
    for (size_t i = 1; i < s.nheap; i++)
        assert_true(s.heap[(i - 1) / 2]->due <= s.heap[i]->due);
}

static void entries_are_small(void **state)
{
    (void)state;
    /* with the index at its emptiest (24 bytes), the heap's pointer and malloc's header */
    assert_true(sizeof(struct queued) + sizeof(struct item) + 24 + 8 + 16 < 300);
}

/* --- destinations that are down --- */

/* One session takes an item, finds nobody there and ends. */
static void probe_fails(struct dest *d, msec_t until, msec_t now, bool told)
{
    struct item *i;

    assert_ptr_equal(schedule_open(&s, now), d);
    i = schedule_take(&s, d, now);
    assert_non_null(i);
    schedule_defer(&s, i, 1, now + MINUTES(60), now);
    assert_int_equal(schedule_failed(&s, d, true, until, "refused", now), told);
    assert_null(schedule_take(&s, d, now)); /* the session gets nothing more */
    schedule_close(&s, d, now);
}

/* The sweep comes every second. */
static void pass(msec_t from, msec_t to)
{
    for (msec_t t = from; t <= to;) {
        msec_t next = schedule_advance(&s, t);

        t = next > t && next <= to ? next : t < to ? to : to + 1;
    }
}

/* Of destinations that have not answered yet there may be any number, and none may ever answer. */
static void strangers_leave_a_quarter(void **state)
{
    struct dest *d[12], *known, *next;
    char name[32];
    unsigned n = 0;

    (void)state;
    s.max_sessions = 8;
    for (unsigned i = 0; i < countof(d); i++) {
        snprintf(name, sizeof(name), "strange%u.example", i);
        d[i] = dest(name, 1);
        d[i]->proven = false;
        add(i + 1, &d[i], 1, 0, 0, false);
    }
    while (schedule_open(&s, 0))
        n++;
    assert_int_equal(n, 6);
    known = dest("known.example", 8);
    for (uint64_t mid = 100; mid < 110; mid++)
        add(mid, &known, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), known);
    assert_null(schedule_open(&s, 0)); /* it has its share: as many as are left */
    assert_true(schedule_reached(&s, d[0], 0)); /* one of them answers: there is room for the next */
    assert_ptr_equal(schedule_open(&s, 0), d[6]);
    assert_null(schedule_open(&s, 0));
    /* One whose turn had not come is heard of elsewhere; one that works no more is a stranger again. */
    schedule_close(&s, known, 0);
    assert_true(schedule_reached(&s, d[7], 0));
    assert_false(schedule_reached(&s, d[7], 0));
    next = schedule_open(&s, 0);
    assert_true(next == d[7] || next == known);
    schedule_failed(&s, d[0], true, 5000, "no answer", 0);
    assert_int_equal(s.strange_sessions, 7); /* six and this one */
    for (unsigned i = 0; i < 7; i++)
        schedule_close(&s, d[i], 0);
    assert_int_equal(s.strange_sessions, 0);
}

static void down_is_probed_by_one(void **state)
{
    struct dest *d = dest("a.example", 50);
    msec_t now = 1000;

    (void)state;
    for (uint64_t mid = 1; mid <= 40; mid++)
        add(mid, &d, 1, now, now, false);
    probe_fails(d, now + 20000, now, true);
    assert_true(schedule_holds(d, now));
    assert_null(schedule_open(&s, now)); /* 39 are ready, and none of them gets a session */
    pass(now, now + 19000);
    assert_null(schedule_open(&s, now + 19000));
    now += 20000;
    pass(now - 1000, now);
    probe_fails(d, now + 25000, now, false); /* one probe, and nothing is said again */
    assert_null(schedule_open(&s, now));
    assert_int_equal(d->down_since, 1000);
    now += 25000;
    pass(now - 25000, now);
    assert_ptr_equal(schedule_open(&s, now), d);
    assert_null(schedule_open(&s, now)); /* as long as it is not decided, it stays the only one */
    finish(schedule_take(&s, d, now));
    assert_true(schedule_worked(&s, d, false, now));
    assert_int_equal(d->down_since, 0);
    assert_int_equal(d->window, 2); /* and then by and by */
    assert_ptr_equal(schedule_open(&s, now), d);
    assert_null(schedule_open(&s, now));
    finish(schedule_take(&s, d, now));
    assert_false(schedule_worked(&s, d, false, now));
    assert_ptr_equal(schedule_open(&s, now), d);
    assert_null(schedule_open(&s, now));
    for (int i = 0; i < 20; i++)
        schedule_worked(&s, d, false, now);
    assert_int_equal(d->window, 8);
}

static void retry_grows(void **state)
{
    (void)state;
    assert_int_equal(schedule_retry(1, SECONDS(60), SECONDS(3600)), SECONDS(60));
    assert_int_equal(schedule_retry(2, SECONDS(60), SECONDS(3600)), SECONDS(120));
    assert_int_equal(schedule_retry(7, SECONDS(60), SECONDS(3600)), SECONDS(3600));
    assert_int_equal(schedule_retry(4000000000, SECONDS(60), SECONDS(3600)), SECONDS(3600));
    assert_int_equal(schedule_retry(1, SECONDS(60), SECONDS(30)), SECONDS(30));
}

static void sessions_in_flight_count_once(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    d->window = 8;
    for (uint64_t mid = 1; mid <= 40; mid++)
        add(mid, &d, 1, 0, 0, false);
    while (schedule_open(&s, 1000))
        assert_non_null(schedule_take(&s, d, 1000));
    assert_int_equal(d->sessions, 8);
    assert_true(schedule_failed(&s, d, true, 61000, "first", 1000));
    for (int i = 1; i < 8; i++)
        assert_false(schedule_failed(&s, d, true, 90000, "later", 1001));
    assert_int_equal(d->failures, 1);
    assert_int_equal(d->down_until, 61000);
    assert_string_equal(d->down_error, "first");
}

static void one_refusal_among_successes(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    d->window = 8;
    for (uint64_t mid = 1; mid <= 40; mid++)
        add(mid, &d, 1, 0, 0, false);
    while (schedule_open(&s, 1000))
        assert_non_null(schedule_take(&s, d, 1000));
    schedule_worked(&s, d, true, 1000);
    assert_false(schedule_failed(&s, d, true, 61000, "too many connections", 2000));
    assert_false(schedule_holds(d, 2000)); /* fewer, but not down */
    assert_int_equal(d->window, 4);
    assert_true(schedule_failed(&s, d, true, 80000, "refused", 20000)); /* that was long ago */
    assert_true(schedule_holds(d, 20000));
}

static void what_waits_is_looked_at(void **state)
{
    struct dest *d = dest("a.example", 50);
    struct item *items[256], *i;
    msec_t now = 1000;
    unsigned looked = 0;
    size_t n;

    (void)state;
    for (uint64_t mid = 1; mid <= 300; mid++)
        add(mid, &d, 1, now, now, mid > 1);
    probe_fails(d, now + MINUTES(60), now, true);
    assert_int_equal(s.nasleep, 299);
    assert_int_equal(schedule_cold(&s, items, 256, false, now), 0);
    pass(now, now + 25000);
    assert_int_equal(s.nasleep, 299); /* nothing to be read yet */
    pass(now + 25000, now + 31000);
    now += 31000;
    assert_int_equal(s.nasleep, 0);
    for (unsigned k = 0; k < 10; k++) {
        n = schedule_cold(&s, items, 256, false, now);
        for (size_t m = 0; m < n; m++) {
            items[m]->message->m = message_new();
            schedule_warm(&s, items[m], now);
        }
        if (schedule_open(&s, now)) {
            assert_null(schedule_open(&s, now)); /* one session does it */
            while ((i = schedule_take(&s, d, now))) {
                looked++;
                i->due = now + MINUTES(5);
                schedule_return(&s, i, 1, now);
            }
            schedule_close(&s, d, now);
        }
    }
    assert_int_equal(looked, 100); /* a second; the rest in the next ones */
    assert_int_equal(d->ndeferred, 101);
    assert_int_equal(s.unattempted, 299);
}

static void down_takes_no_memory(void **state)
{
    struct dest *d[2] = {dest("down.example", 50), dest("up.example", 50)};
    msec_t now = 1000;
    struct queued *q;
    struct item *i, *cold[8];

    (void)state;
    for (uint64_t mid = 1; mid <= 5; mid++)
        add(mid, d, 1, now, now, false);
    probe_fails(d[0], now + 20000, now, true);
    assert_int_equal(d[0]->nready, 4);
    for (unsigned n = 0; (i = schedule_chill(&s, d[0], now)); n++)
        assert_int_equal(i->state, ITEM_COLD);
    assert_int_equal(d[0]->nready, 0);
    q = add(9, d, 2, now, now, false); /* for both */
    assert_int_equal(q->items[0].state, ITEM_COLD);
    assert_int_equal(q->items[1].state, ITEM_READY);
    assert_ptr_equal(schedule_open(&s, now), d[1]);
    assert_null(schedule_chill(&s, d[1], now)); /* of those that are well nothing is taken away */
    pass(now, now + 20000);
    now += 20000;
    assert_int_equal(schedule_cold(&s, cold, 8, false, now), 1); /* for the probe */
    assert_int_equal(schedule_cold(&s, cold + 1, 7, false, now), 0);
    cold[0]->message->m = cold[0]->message->m ? cold[0]->message->m : message_new();
    schedule_warm(&s, cold[0], now);
    assert_ptr_equal(schedule_open(&s, now), d[0]);
    assert_ptr_equal(schedule_take(&s, d[0], now), cold[0]);
    schedule_worked(&s, d[0], false, now);
    assert_int_equal(s.nasleep, 0);
    assert_int_equal(schedule_cold(&s, cold, 8, false, now), 3); /* a share of eight */
    schedule_hold(&s, d[0], now + 5000, "down again", now);
    assert_int_equal(s.nasleep, d[0]->ncold);
    while (d[0]->ncold) /* deleted by an operator */
        assert_true(schedule_claim(&s, list_item(d[0]->cold.next, struct item, node)));
    assert_int_equal(s.nasleep, 0);
}

/* Hosts with as many connections as they may have are not asked again for each message. */
/* Between two probes one session looks, and only so often. */
static void looks_are_few(void **state)
{
    struct dest *d = dest("a.example", 50);
    struct item *i;
    msec_t now = 1000;
    unsigned n = 0;

    (void)state;
    d->window = 8;
    for (uint64_t mid = 1; mid <= 150; mid++)
        add(mid, &d, 1, now, now, false);
    probe_fails(d, now + SECONDS(10), now, true);
    assert_int_equal(d->window, 1);
    assert_int_equal(d->look_after, SECONDS(10)); /* no longer than until the next probe */
    schedule_failed(&s, d, true, now + SECONDS(5), "again", now); /* an earlier one: not sooner */
    assert_int_equal(d->down_until, now + SECONDS(10));
    now += SECONDS(10);
    pass(now - SECONDS(1), now);
    probe_fails(d, now + MINUTES(60), now, false); /* the rest has waited for as long, but not since now */
    d->look_after = SECONDS(10);
    pass(now, now + SECONDS(1));
    now += SECONDS(1);
    assert_ptr_equal(schedule_open(&s, now), d);
    assert_null(schedule_open(&s, now));
    for (; (i = schedule_take(&s, d, now)); n++) {
        i->due = now + MINUTES(5);
        schedule_return(&s, i, 1, now);
    }
    assert_int_equal(n, 100);
    schedule_close(&s, d, now);
    assert_null(schedule_open(&s, now));
    assert_int_equal(schedule_now(&s, d, &(size_t){SIZE_MAX}, 1, now), 1); /* as part of delivernow */
    assert_true(schedule_holds(d, now)); /* whether it probes is schedule_probe's to say */
}

static void the_only_session_failed(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    for (uint64_t mid = 1; mid <= 5; mid++)
        add(mid, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 1000), d);
    finish(schedule_take(&s, d, 1000));
    schedule_worked(&s, d, false, 1000);
    assert_true(schedule_failed(&s, d, true, 61000, "refused", 1001)); /* nobody else is there */
    assert_true(schedule_holds(d, 1001));
}

static void windows_that_grow_open_sessions(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    d->window = 8;
    for (uint64_t mid = 1; mid <= 100; mid++)
        add(mid, &d, 1, 0, 0, false);
    while (schedule_open(&s, 0))
        ;
    for (int i = 0; i < 8; i++) { /* twice as many with each round, while nothing was too much */
        schedule_worked(&s, d, true, 0);
        assert_ptr_equal(schedule_open(&s, 0), d); /* at once, not with the next message */
    }
    assert_int_equal(d->window, 16);
    schedule_failed(&s, d, false, 100, "too many connections", 1);
    assert_int_equal(d->window, 8);
    for (int i = 0; i < 7; i++)
        schedule_worked(&s, d, true, 2);
    assert_int_equal(d->window, 8);
    schedule_worked(&s, d, true, 2);
    assert_int_equal(d->window, 9); /* from there on by one a round */
    s.max_sessions = s.sessions + 1;
    d = dest("one.example", 50);
    add(200, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), d); /* the last one, for who has none */
}

static void full_ones_are_not_asked_in_a_circle(void **state)
{
    struct dest *d = dest("a.example", 50);
    struct item *i;

    (void)state;
    for (uint64_t mid = 1; mid <= 40; mid++)
        add(mid, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 1000), d);
    assert_ptr_equal(schedule_open(&s, 1000), d); /* one that works, one that is turned away */
    i = schedule_take(&s, d, 1000);
    schedule_postpone(&s, i, 2000, 1000);
    schedule_close(&s, d, 1000);
    assert_null(schedule_open(&s, 1000));
    finish(schedule_take(&s, d, 1000)); /* the other one goes on */
    schedule_worked(&s, d, true, 1500);
    assert_null(schedule_open(&s, 1999));
    assert_true(schedule_claim(&s, i)); /* it is deleted meanwhile: the others are not forgotten */
    finish(i);
    pass(1999, 3000);
    assert_ptr_equal(schedule_open(&s, 3000), d);
}

static void probed_when_told(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    for (uint64_t mid = 1; mid <= 5; mid++)
        add(mid, &d, 1, 0, 0, false);
    probe_fails(d, MINUTES(60), 1000, true);
    schedule_probe(&s, NULL, 2000); /* delivernow, a commit */
    assert_ptr_equal(schedule_open(&s, 2000), d);
    assert_null(schedule_open(&s, 2000));
    schedule_close(&s, d, 2000);
    schedule_hold(&s, d, 9000, "its host is down", 2000);
    assert_null(schedule_open(&s, 2000));
    pass(2000, 9000);
    assert_ptr_equal(schedule_open(&s, 9000), d);
    assert_int_equal(d->failures, 1); /* holding is no failure */
}

static void down_is_forgotten(void **state)
{
    struct dest *d = dest("a.example", 50);

    (void)state;
    add(1, &d, 1, 0, 0, false);
    assert_ptr_equal(schedule_open(&s, 0), d);
    finish(schedule_take(&s, d, 0)); /* its time was up */
    schedule_failed(&s, d, true, 60000, "refused", 0);
    schedule_close(&s, d, 0);
    assert_non_null(schedule_find_dest(&s, "a.example"));
    pass(0, MINUTES(60));
    assert_non_null(schedule_find_dest(&s, "a.example"));
    pass(MINUTES(60), MINUTES(62));
    assert_null(schedule_find_dest(&s, "a.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(limits_of_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(destinations_take_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(windows_open_for_slow_peers_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_brings_them_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deferred_items_keep_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waiting_sessions_come_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cold_ones_are_loaded_by_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_ones_do_not_fill_the_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rates_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(now_means_now, set_up, tear_down),
        cmocka_unit_test_setup_teardown(claimed_and_returned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heap_keeps_its_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heap_moves_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fewer_recipients_and_another_destination, set_up, tear_down),
        cmocka_unit_test_setup_teardown(oldest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(idle_sessions_make_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(suspended_means_nothing_moves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(postponed_items_count_no_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_ones_leave_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_leave_a_quarter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(down_is_probed_by_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retry_grows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sessions_in_flight_count_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_refusal_among_successes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_looked_at, set_up, tear_down),
        cmocka_unit_test_setup_teardown(down_takes_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(looks_are_few, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_only_session_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(windows_that_grow_open_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_ones_are_not_asked_in_a_circle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(probed_when_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(down_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many, set_up, tear_down),
        cmocka_unit_test(entries_are_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
