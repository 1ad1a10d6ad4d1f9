/* fiber_x86_64.S - switching stacks, System V ABI: what a called function must keep is pushed on the old
 * stack and popped from the new one: rbx, rbp, r12 to r15, the rounding modes of SSE and x87. */
#if defined(__x86_64__) && !defined(POSTERN_UCONTEXT)
    .text

/* void context_switch(struct context *from, struct context *to) */
    .globl context_switch
    .type context_switch, @function
    .p2align 4
context_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx       /* a jump: the return predictor would guess the other fiber's caller */
    jmpq *%rcx
    .cfi_endproc
    .size context_switch, . - context_switch

/* void context_make(struct context *c, void *low, void *top, void (*fn)(void *), void *arg)
 * Builds the frame that context_switch pops: fn in rbx, arg in r12, then context_begin. */
    .globl context_make
    .type context_make, @function
    .p2align 4
context_make:
    .cfi_startproc
    leaq -80(%rdx), %rax
    movq $0, (%rax)
    stmxcsr (%rax)
    fnstcw 4(%rax)
    movq $0, 8(%rax)        /* r15 */
    movq $0, 16(%rax)       /* r14 */
    movq $0, 24(%rax)       /* r13 */
    movq %r8, 32(%rax)      /* r12: arg */
    movq %rcx, 40(%rax)     /* rbx: fn */
    movq $0, 48(%rax)       /* rbp: the outermost frame */
    leaq context_begin(%rip), %rcx
    movq %rcx, 56(%rax)     /* where to */
    movq $0, 64(%rax)       /* where a return address would lie */
    movq $0, 72(%rax)
    movq %rax, (%rdi)
    ret
    .cfi_endproc
    .size context_make, . - context_make

    .type context_begin, @function
context_begin:
    .cfi_startproc
    .cfi_undefined rip      /* debuggers stop here */
    movq %r12, %rdi
    callq *%rbx
    ud2                     /* fn must not return */
    .cfi_endproc
    .size context_begin, . - context_begin
#endif
    .section .note.GNU-stack, "", %progbits
