/*
 * A 64-bit program in a file that says it is 32-bit, as kvm-unit-tests' guests are: a multiboot header
 * with no flags, entered in 32-bit protected mode with paging off and %ebx = multiboot information.
 */
    .set MAGIC, 0x1badb002
    .set FLAGS, 0

    .section .init, "ax"
    .code32
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .globl start
start:
    movl %eax, loader_magic
    movl %ebx, information
    movl $stack_top, %esp
    call enter_long_mode
    ljmpl $0x8, $in_long_mode

/* Paging and long mode with the tables below; the GDT at the same time. */
enter_long_mode:
    lgdt gdt_register
    movl %cr4, %eax
    orl $0x20, %eax             /* PAE */
    movl %eax, %cr4
    movl $level_4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER */
    rdmsr
    orl $0x100, %eax            /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax       /* PG, PE */
    movl %eax, %cr0
    ret

    .code64
in_long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %ebp, %ebp
    movl information(%rip), %edi
    movl loader_magic(%rip), %esi
    call contract
    movl %eax, %edi
    call guest_exit

/* What a further CPU runs at its start, copied to page 0: SIPI vector 0. */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt - trampoline
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $further_protected
trampoline_gdt:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .code32
further_protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $1, %eax
    lock xaddl %eax, further_started
    /* A stack each, for the one call. */
    shll $8, %eax
    leal further_stacks + 0x100(%eax), %esp
    call enter_long_mode
    ljmpl $0x8, $further_long
    .code64
further_long:
    lock incl online(%rip)
1:  cli
    hlt
    jmp 1b

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 0x08: 64-bit code */
    .quad 0x00cf93000000ffff    /* 0x10: data */
    .quad 0x00cf9b000000ffff    /* 0x18: 32-bit code */
gdt_end:
gdt_register:
    .word gdt_end - gdt - 1
    .long gdt

/* The low 4 GiB one to one, in pages of 2 MiB. */
    .balign 0x1000
level_2:
    .set page, 0
    .rept 2048
    .quad page << 21 | 0x83
    .set page, page + 1
    .endr
level_3:
    .quad level_2 + 0x0003, level_2 + 0x1003, level_2 + 0x2003, level_2 + 0x3003
    .balign 0x1000
level_4:
    .quad level_3 + 3
    .balign 0x1000

    .globl online
online:
    .long 1
further_started:
    .long 0
loader_magic:
    .long 0
information:
    .long 0

    .bss
    .balign 16
    .skip 0x4000
stack_top:
further_stacks:
    .skip 0x100 * 255

    .section .note.GNU-stack, "", @progbits
