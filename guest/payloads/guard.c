/*
 * A stack that is mapped page by page with a hole below it, as CONFIG_VMAP_STACK gives every kernel
 * thread. It is overflown twice:
 *
 * 1. #PF is taken on a separate stack: the fault itself is caught.
 * 2. #PF is taken on the stack that has just overflown, so its frame faults in turn and the processor
 *    makes that a #DF (SDM vol. 3, table 6-5), which is caught on the separate stack. This is the
 *    way Linux finds an overflown kernel stack.
 */
#include "guest.h"
#include "traps.h"

#define PAGE 0x1000
#define LARGE_PAGE 0x200000
#define ENTRIES 512
#define PRESENT 0x001
#define WRITABLE 0x002
#define LARGE 0x080
#define PAGE_FAULT_WRITE 0x2
#define PAGE_FAULT_PRESENT 0x1

/* The second GiB: nothing else is mapped there. */
#define HOLE 0x40000000
#define STACK_PAGES 4
#define STACK (HOLE + PAGE)
#define STACK_TOP (STACK + STACK_PAGES * PAGE)

#define TABLE __attribute__((aligned(PAGE)))

static uint64_t pml4[ENTRIES] TABLE, pdpt[ENTRIES] TABLE, low_gib[ENTRIES] TABLE;
static uint64_t stack_directory[ENTRIES] TABLE, stack_table[ENTRIES] TABLE;
static uint8_t stack_memory[STACK_PAGES][PAGE] TABLE;

/* Set before each overflow: what is expected, and where to go on. */
static unsigned expected;
static uint64_t resume_rip, resume_rsp;
static int failures;

static void map(void)
{
    for (uint64_t i = 0; i < ENTRIES; i++)
        low_gib[i] = i * LARGE_PAGE | PRESENT | WRITABLE | LARGE;
    /* Entry 0 stays empty: the hole. */
    for (unsigned i = 0; i < STACK_PAGES; i++)
        stack_table[1 + i] = (uint64_t)stack_memory[i] | PRESENT | WRITABLE;
    stack_directory[0] = (uint64_t)stack_table | PRESENT | WRITABLE;
    pdpt[0] = (uint64_t)low_gib | PRESENT | WRITABLE;
    pdpt[1] = (uint64_t)stack_directory | PRESENT | WRITABLE;
    pml4[0] = (uint64_t)pdpt | PRESENT | WRITABLE;
    __asm__ volatile("movq %0, %%cr3" : : "r"(pml4) : "memory");
}

static void say(const char *what, uint64_t value)
{
    put_text(what);
    put_hex(value);
}

static void check(const char *rule, int holds)
{
    if (holds)
        return;
    failures++;
    put_text("  not so: ");
    put_text(rule);
    put_text("\n");
}

void on_trap(struct trap *trap)
{
    uint64_t address = fault_address();

    put_text(trap->vector == TRAP_PF ? "#PF" : trap->vector == TRAP_DF ? "#DF" : "exception");
    say(" at address ", address);
    say(", rsp ", trap->rsp);
    put_text(", ");
    put_decimal(STACK - address);
    say(" bytes into the guard page; caught on the stack at ", (uint64_t)trap);
    put_text("\n");

    if (trap->vector != expected) {
        say("unexpected vector ", trap->vector);
        say(" at ", trap->rip);
        put_text("\n");
        guest_exit(1);
    }
    check("the fault lies in the hole", address >= HOLE && address < STACK);
    check("rsp is at the end of the stack", trap->rsp >= HOLE && trap->rsp < STACK + PAGE);
    check("it is caught on the separate stack", on_separate_stack((uint64_t)trap));
    if (expected == TRAP_PF)
        check("it is a write to a page that is not there",
              (trap->error & (PAGE_FAULT_WRITE | PAGE_FAULT_PRESENT)) == PAGE_FAULT_WRITE);
    else
        check("the error code of #DF is zero", trap->error == 0);
    /* A #DF is an abort and has no return; the stack is left for the one that works. */
    trap->rip = resume_rip;
    trap->rsp = resume_rsp;
}

/* Never reached: it keeps the recursion from being endless in the compiler's eyes. */
static volatile uint64_t deepest = UINT64_MAX;

/* No tail call: each level holds a frame, and the frame is used after the call. */
static __attribute__((noinline)) uint64_t recurse(uint64_t depth)
{
    volatile uint64_t frame[16];

    frame[depth % 16] = depth;
    if (depth == deepest)
        return 0;
    return recurse(depth + 1) + frame[depth % 16];
}

/* Runs recurse() on the guarded stack until a trap brings it back. */
static __attribute__((noinline)) void overflow(unsigned vector)
{
    expected = vector;
    __asm__ volatile("pushq %%rbp\n\t"
                     "pushq %%rbx\n\t"
                     "movq %%rsp, %[rsp]\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rax, %[rip]\n\t"
                     "movq %[top], %%rsp\n\t"
                     "xorl %%edi, %%edi\n\t"
                     "call *%[recurse]\n\t"
                     "1:\n\t"
                     "popq %%rbx\n\t"
                     "popq %%rbp"
                     : [rsp] "=m"(resume_rsp), [rip] "=m"(resume_rip)
                     : [top] "r"((uint64_t)STACK_TOP), [recurse] "r"(recurse)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
                       "r14", "r15", "memory", "cc");
}

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    traps_install();
    map();
    say("stack ", STACK);
    say("-", STACK_TOP - 1);
    put_text(", one hole below it\n");

    traps_separate_stack(TRAP_DF, 1);
    traps_separate_stack(TRAP_PF, 1);
    overflow(TRAP_PF);
    traps_separate_stack(TRAP_PF, 0);
    overflow(TRAP_DF);

    put_text(failures ? "the guard page failed\n" : "both overflows were caught\n");
    return failures != 0;
}
