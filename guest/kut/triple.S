/* Faults at its first instruction, with no IDT to take it. */
    .section .init, "ax"
    .code32
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
    .globl start
start:
    ud2

    .section .note.GNU-stack, "", @progbits
