/*
 * Entry by the 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"):
 * long mode, the low 4 GiB mapped one to one, interrupts off, %rsi = struct boot_params.
 * There is no stack yet.
 */
    .code64
    .section .text.start, "ax"
    .globl _start
_start:
    cli
    cld
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    movq %rsi, %rdi
    call guest_main
    movl %eax, %edi
    call guest_exit

    .bss
    .balign 16
    .skip 0x4000
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
