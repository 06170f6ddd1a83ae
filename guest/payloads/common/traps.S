/* One stub a vector, each 16 bytes: where the processor pushes no error code the stub pushes 0, so
 * that struct trap always fits. */
    .code64
    .section .text.trap_stubs, "ax"
    .globl trap_stubs
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 60
    .balign 16
    /* Vectors with an error code: 8, 10-14, 17, 21, 29, 30. */
    .if vector > 31 || !((0x60227d00 >> vector) & 1)
    pushq $0
    .endif
    pushq $vector
    jmp trap_entry
    .set vector, vector + 1
    .endr

trap_entry:
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rbx
    pushq %rax
    cld
    movq %rsp, %rdi
    call on_trap
    popq %rax
    popq %rbx
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rbp
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    addq $16, %rsp
    iretq

    .section .note.GNU-stack, "", @progbits
