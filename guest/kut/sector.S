/* A boot sector without a disk: says hello in real mode, and ends with 5. */
    .code16
    .globl start
start:
    cld
    /* Segments of zero, and a stack below the code. */
    movw %cs, %ax
    movw %ds, %bx
    orw %bx, %ax
    movw %ss, %bx
    orw %bx, %ax
    jnz 2f
    pushw $hello
    popw %si
    movw $0x3f8, %dx
1:  lodsb
    testb %al, %al
    jz 3f
    outb %al, %dx
    jmp 1b
3:  movb $5, %al
    outb %al, $0xf4
2:  cli
    hlt
    jmp 2b
hello:
    .asciz "hello from real mode\n"

    .section .note.GNU-stack, "", @progbits
