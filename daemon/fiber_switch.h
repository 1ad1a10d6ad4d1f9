/* fiber_switch.h - the one thing that differs between machines: leaving one stack for another.
 *
 * x86-64 and arm64 have a few lines of assembler (fiber_x86_64.S, fiber_aarch64.S); elsewhere, and
 * with -DPOSTERN_UCONTEXT, fiber_ucontext.c does it with two system calls a switch. */
#ifndef POSTERN_FIBER_SWITCH_H
#define POSTERN_FIBER_SWITCH_H

#if !defined(POSTERN_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define POSTERN_UCONTEXT
#endif

#ifdef POSTERN_UCONTEXT
#include <ucontext.h>

struct context {
    ucontext_t uc;
};
#else
struct context {
    void *sp; /* callee-saved registers lie there */
};
#endif

/* Prepares a context: the first switch to it calls fn(arg), which must never return, on the stack
 * [low, top); top is a multiple of 16. */
void context_make(struct context *c, void *low, void *top, void (*fn)(void *arg), void *arg);
void context_switch(struct context *from, struct context *to);

#endif
