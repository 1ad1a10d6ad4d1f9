/* fiber_ucontext.c - switching stacks with the C library, where there is no assembler for the
 * machine. */
#include "daemon/fiber_switch.h"

#ifdef POSTERN_UCONTEXT
#include <stddef.h>
#include <stdint.h>

/* makecontext passes ints; pointers travel in two halves. */
static void start(unsigned fn_hi, unsigned fn_lo, unsigned arg_hi, unsigned arg_lo)
{
    void (*fn)(void *) = (void (*)(void *))(uintptr_t)((uint64_t)fn_hi << 32 | fn_lo);

    fn((void *)(uintptr_t)((uint64_t)arg_hi << 32 | arg_lo));
}

void context_make(struct context *c, void *low, void *top, void (*fn)(void *arg), void *arg)
{
    uint64_t f = (uintptr_t)fn, a = (uintptr_t)arg;

    getcontext(&c->uc);
    c->uc.uc_stack.ss_sp = low;
    c->uc.uc_stack.ss_size = (size_t)((char *)top - (char *)low);
    c->uc.uc_link = NULL;
    makecontext(&c->uc, (void (*)(void))(void *)start, 4, (unsigned)(f >> 32), (unsigned)f,
                (unsigned)(a >> 32), (unsigned)a);
}

void context_switch(struct context *from, struct context *to)
{
    swapcontext(&from->uc, &to->uc);
}
#endif
