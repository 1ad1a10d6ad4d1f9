/* in_fiber.h - a piece of a test on a fiber of its own, with workers beside it: it must come to its end, and the stack it
 * took is within bounds. */
#ifndef POSTERN_TESTS_IN_FIBER_H
#define POSTERN_TESTS_IN_FIBER_H

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/worker.h"
#include "tests/unit/cm.h"

struct in_fiber {
    void (*run)(void);
    unsigned stack; /* bytes, 0: it has not ended */
};

static inline void in_fiber_body(void *arg)
{
    struct in_fiber *f = arg;

    f->run();
    f->stack = fiber_stack_used();
    loop_stop(loop_self());
}

static inline void in_fiber(void (*run)(void), unsigned most_stack)
{
    struct loop *l = loop_new(0);
    struct in_fiber f = {.run = run};

    fiber_measure_stacks(true);
    workers_start(2);
    assert_true(fiber_spawn(l, "test", in_fiber_body, &f));
    loop_run(l);
    workers_stop();
    loop_free(&l);
    print_message("stack used: %u bytes\n", f.stack);
    assert_in_range(f.stack, 1, most_stack);
}

#endif
