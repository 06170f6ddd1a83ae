/*
 * Reads and writes MSRs as a table in memory says, a batch at a time, and rings when a batch is done.
 * The last word of the command line is where the table lies; without one there is nothing to do.
 */
#include "guest.h"
#include "traps.h"

/* Written and read by src/probe/ops.rs. */
struct op {
    uint32_t kind, index;
    uint64_t value;
    uint32_t status, reserved;
};

struct table {
    uint64_t count;
    struct op ops[];
};

#define OP_WRITE 1
#define STATUS_TRAPPED 0x100
#define DOORBELL 0xee

/* rdmsr and wrmsr are two bytes long; the next instruction is where to go on. */
#define MSR_INSTRUCTION_LEN 2

static volatile uint32_t status;

void on_trap(struct trap *trap)
{
    status = STATUS_TRAPPED | (uint32_t)trap->vector;
    trap->rip += MSR_INSTRUCTION_LEN;
}

static void perform(struct op *op)
{
    uint32_t low = (uint32_t)op->value, high = (uint32_t)(op->value >> 32);

    status = 0;
    if (op->kind == OP_WRITE) {
        __asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(op->index) : "memory");
    } else {
        low = high = 0;
        __asm__ volatile("rdmsr" : "+a"(low), "+d"(high) : "c"(op->index) : "memory");
        op->value = (uint64_t)high << 32 | low;
    }
    op->status = status;
}

int guest_main(const uint8_t *boot_params)
{
    uint64_t at;

    if (!last_number(boot_params, &at)) {
        put_text("msrops works for trapline msr matrix\n");
        return 0;
    }
    traps_install();
    for (;;) {
        struct table *table = (struct table *)at;

        out8(DOORBELL, 0);
        for (uint64_t n = 0; n < table->count; n++)
            perform(&table->ops[n]);
    }
}
