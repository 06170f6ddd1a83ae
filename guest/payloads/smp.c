/*
 * Starts every processor the MADT lists. Each marks its own APIC id; the first one counts them.
 */
#include "acpi.h"
#include "cpus.h"
#include "guest.h"

#define FADT_PM_TMR 76
#define PM_TMR_MASK 0xffffff
#define PM_TMR_HZ 3579545
#define PATIENCE_SECONDS 10

#define APIC_IDS 256

void ap_entry(void);

volatile uint32_t started[APIC_IDS / 32];

__asm__(".section .text.ap_entry, \"ax\"\n"
        "ap_entry:\n"
        "    movw $0x18, %ax\n"
        "    movw %ax, %ds\n"
        "    movw %ax, %es\n"
        "    movw %ax, %ss\n"
        "    movl $1, %eax\n"
        "    cpuid\n"
        "    shrl $24, %ebx\n"
        "    lock btsl %ebx, started(%rip)\n"
        "1:  cli\n"
        "    hlt\n"
        "    jmp 1b\n"
        ".text\n");

static uint32_t count_started(void)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < APIC_IDS; i++)
        count += started[i / 32] >> (i % 32) & 1;
    return count;
}

/* Until `wanted` processors run, or PATIENCE_SECONDS of the PM timer have passed. */
static uint32_t wait_for(uint32_t wanted, uint16_t timer)
{
    uint64_t left = (uint64_t)PM_TMR_HZ * PATIENCE_SECONDS;
    uint32_t last = in32(timer);
    uint32_t count;

    while ((count = count_started()) < wanted) {
        uint32_t now = in32(timer);
        uint32_t passed = (now - last) & PM_TMR_MASK;

        if (passed > left)
            break;
        left -= passed;
        last = now;
    }
    return count;
}

int guest_main(const uint8_t *boot_params)
{
    const uint8_t *fadt = acpi_table(boot_params, "FACP");
    uint32_t self = cpus_self(), listed, running;

    if (!fadt) {
        put_text("no FADT\n");
        return 1;
    }
    started[self / 32] |= 1u << (self % 32);
    listed = cpus_start(boot_params, ap_entry);
    if (!listed) {
        put_text("no MADT\n");
        return 1;
    }
    running = wait_for(listed, (uint16_t)load32(fadt + FADT_PM_TMR));
    put_decimal(running);
    put_text(" of ");
    put_decimal(listed);
    put_text(" CPUs\n");
    return running != listed;
}
