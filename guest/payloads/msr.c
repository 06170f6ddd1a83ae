/*
 * Reads and writes an MSR and says what came of it. Without an argument it is one that no processor
 * has, and anything but #GP(0) for both is a failure; `-a 0x10` names another.
 */
#include "guest.h"
#include "traps.h"

#define NO_SUCH_MSR 0xdeadbeef

static volatile int trapped;
static volatile uint64_t trap_error;

/* rdmsr and wrmsr are two bytes long; the next instruction is where to go on. */
#define MSR_INSTRUCTION_LEN 2

void on_trap(struct trap *trap)
{
    if (trap->vector != TRAP_GP) {
        put_text("unexpected exception ");
        put_decimal(trap->vector);
        put_text(" at ");
        put_hex(trap->rip);
        put_text("\n");
        guest_exit(1);
    }
    trapped = 1;
    trap_error = trap->error;
    trap->rip += MSR_INSTRUCTION_LEN;
}

static void report(const char *instruction, uint32_t index)
{
    put_text(instruction);
    put_text(" ");
    put_hex(index);
    if (trapped) {
        put_text(": #GP(");
        put_decimal(trap_error);
        put_text(")");
    }
}

int guest_main(const uint8_t *boot_params)
{
    uint32_t index = NO_SUCH_MSR, low = 0, high = 0;
    uint64_t named;
    int strict = 1, refused;

    if (last_number(boot_params, &named)) {
        index = (uint32_t)named;
        strict = 0;
    }
    traps_install();

    __asm__ volatile("rdmsr" : "+a"(low), "=d"(high) : "c"(index) : "memory");
    report("rdmsr", index);
    refused = trapped && trap_error == 0;
    if (!trapped) {
        put_text(": ");
        put_hex((uint64_t)high << 32 | low);
    }
    put_text("\n");

    trapped = 0;
    __asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(index) : "memory");
    report("wrmsr", index);
    refused = refused && trapped && trap_error == 0;
    put_text(trapped ? "\n" : ": taken\n");

    return strict && !refused;
}
