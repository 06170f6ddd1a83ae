/* Exceptions: an IDT of the payload's own, and stacks that are not the one in use. */
#pragma once

#include <stdint.h>

#define TRAP_UD 6
#define TRAP_DF 8
#define TRAP_GP 13
#define TRAP_PF 14

/* What the processor and the stubs in traps.S leave on the stack (SDM vol. 3, 6.14.2). */
struct trap {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* Defined by the payload. To return from it is to resume at trap->rip with the registers as they are
 * in the trap. */
void on_trap(struct trap *trap);

/* Loads GDT, task register and IDT. */
void traps_install(void);

/* Takes `vector` on the separate stack from now on (IST), or on the current one. */
void traps_separate_stack(unsigned vector, int on);

/* Whether an address lies on the separate stack. */
int on_separate_stack(uint64_t address);

static inline uint64_t fault_address(void)
{
    uint64_t value;
    __asm__ volatile("movq %%cr2, %0" : "=r"(value));
    return value;
}
