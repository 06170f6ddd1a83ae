/*
 * Every processor reads MSR 0x666 and writes MSR 0x667 as often as the last word of the command line says, each
 * from one place in the code. What was read is summed and printed with those places: who answers the accesses
 * can hold it against what was answered. An access that gets #GP ends the run in a triple fault.
 */
#include "cpus.h"
#include "guest.h"

extern const uint8_t read_at[], write_at[];
void ap_entry(void);

volatile uint64_t rounds, sum, finished;

/* Without a stack, because the other processors have none: R15 says where to go on. */
__asm__(".section .text.work, \"ax\"\n"
        "ap_entry:\n"
        "    movw $0x18, %ax\n"
        "    movw %ax, %ds\n"
        "    movw %ax, %es\n"
        "    movw %ax, %ss\n"
        "    leaq parked(%rip), %r15\n"
        "work:\n"
        "    movq rounds(%rip), %rsi\n"
        "    xorl %edi, %edi\n"
        "1:  movl $0x666, %ecx\n"
        "read_at:\n"
        "    rdmsr\n"
        "    shlq $32, %rdx\n"
        "    orq %rdx, %rax\n"
        "    addq %rax, %rdi\n"
        "    movl $0x667, %ecx\n"
        "    movl %esi, %eax\n"
        "    xorl %edx, %edx\n"
        "write_at:\n"
        "    wrmsr\n"
        "    decq %rsi\n"
        "    jnz 1b\n"
        "    lock addq %rdi, sum(%rip)\n"
        "    lock incq finished(%rip)\n"
        "    jmpq *%r15\n"
        "parked:\n"
        "    cli\n"
        "    hlt\n"
        "    jmp parked\n"
        ".text\n");
_Static_assert(CPUS_DATA_SELECTOR == 0x18, "movw $0x18");

int guest_main(const uint8_t *boot_params)
{
    uint64_t wanted;
    uint32_t cpus;

    if (!last_number(boot_params, &wanted) || !wanted) {
        put_text("msrloop needs a number of rounds, and a policy that answers MSRs 0x666 and 0x667\n");
        return 0;
    }
    rounds = wanted;
    cpus = cpus_start(boot_params, ap_entry);
    if (!cpus) {
        put_text("no MADT\n");
        return 1;
    }
    __asm__ volatile("leaq 1f(%%rip), %%r15\n\tjmp work\n1:"
                     :
                     :
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r15", "cc", "memory");
    while (finished != cpus)
        __asm__ volatile("pause");
    put_decimal(cpus);
    put_text(" CPUs read at ");
    put_hex((uintptr_t)read_at);
    put_text(" and wrote at ");
    put_hex((uintptr_t)write_at);
    put_text(": the values read sum up to ");
    put_decimal(sum);
    put_text("\n");
    return 0;
}
