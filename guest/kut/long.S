/* A flat 64-bit program, entered at `start`: ends with 6 when boot_params has its signature. */
    .code64
    .ascii "not code"
    .globl start
start:
    movl $1, %eax
    cmpl $0x53726448, 0x202(%rsi)   /* "HdrS" */
    jne 1f
    movl $6, %eax
1:  outl %eax, $0xf4
    cli
    hlt
    jmp 1b

    .section .note.GNU-stack, "", @progbits
