/* fiber_aarch64.S - switching stacks, AAPCS64: what a called function must keep is stored on the old stack
 * and loaded from the new one: x19 to x30, d8 to d15, the rounding mode. */
#if defined(__aarch64__) && !defined(POSTERN_UCONTEXT)
    .text

/* void context_switch(struct context *from, struct context *to) */
    .globl context_switch
    .type context_switch, %function
    .p2align 4
context_switch:
    .cfi_startproc
    sub sp, sp, #176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mrs x9, fpcr
    str x9, [sp, #160]
    mov x9, sp
    str x9, [x0]
    ldr x9, [x1]
    mov sp, x9
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldr x9, [sp, #160]
    msr fpcr, x9
    add sp, sp, #176
    ret
    .cfi_endproc
    .size context_switch, . - context_switch

/* void context_make(struct context *c, void *low, void *top, void (*fn)(void *), void *arg)
 * Builds the frame that context_switch loads: fn in x19, arg in x20, then context_begin. */
    .globl context_make
    .type context_make, %function
    .p2align 4
context_make:
    .cfi_startproc
    sub x9, x2, #176
    stp x3, x4, [x9, #0]
    stp xzr, xzr, [x9, #16]
    stp xzr, xzr, [x9, #32]
    stp xzr, xzr, [x9, #48]
    stp xzr, xzr, [x9, #64]
    adr x10, context_begin
    stp xzr, x10, [x9, #80]
    stp xzr, xzr, [x9, #96]
    stp xzr, xzr, [x9, #112]
    stp xzr, xzr, [x9, #128]
    stp xzr, xzr, [x9, #144]
    mrs x10, fpcr
    stp x10, xzr, [x9, #160]
    str x9, [x0]
    ret
    .cfi_endproc
    .size context_make, . - context_make

    .type context_begin, %function
context_begin:
    .cfi_startproc
    .cfi_undefined x30      /* debuggers stop here */
    mov x0, x20
    blr x19
    brk #0                  /* fn must not return */
    .cfi_endproc
    .size context_begin, . - context_begin
#endif
    .section .note.GNU-stack, "", %progbits
