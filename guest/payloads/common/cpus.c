#include "cpus.h"

#include "acpi.h"
#include "guest.h"

#define MADT_ENTRIES 44
#define MADT_LAPIC 0
#define MADT_ENABLED 0x1

#define LAPIC 0xfee00000
#define LAPIC_ID 0x20
#define LAPIC_SVR 0xf0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define SVR_ENABLE 0x1ff
#define ICR_PENDING 0x1000
#define ICR_INIT 0x4500
#define ICR_SIPI 0x4600

/* A page below 1 MiB that the boot structures leave alone; its number is the SIPI's vector. */
#define TRAMPOLINE 0x98000
#define SIPI_VECTOR (TRAMPOLINE >> 12)

#define CODE_SELECTOR 0x10
#define DESCRIPTOR_CODE64 0x00af9b000000ffff
#define DESCRIPTOR_DATA 0x00cf93000000ffff

/* What the trampoline reads, from the middle of its page. */
#define HANDOVER 0x800
struct __attribute__((packed)) handover {
    uint32_t cr3;
    uint16_t gdt_limit;
    uint32_t gdt_base;
    uint32_t entry;
    uint16_t selector;
    uint64_t gdt[4];
};

extern uint8_t trampoline[], trampoline_end[];

/*
 * Copied to TRAMPOLINE and entered there with CS = TRAMPOLINE >> 4, IP = 0; its numbers are offsets in
 * struct handover. PAE, CR3 and EFER.LME are set in real mode, so that one write to CR0 leads straight
 * into long mode (SDM vol. 3, 10.8.5).
 */
__asm__(".section .text16, \"ax\"\n"
        ".code16\n"
        "trampoline:\n"
        "    cli\n"
        "    movw %cs, %ax\n"
        "    movw %ax, %ds\n"
        "    movl %cr4, %eax\n"
        "    orl $0x20, %eax\n"
        "    movl %eax, %cr4\n"
        "    movl 0x800, %eax\n"
        "    movl %eax, %cr3\n"
        "    movl $0xc0000080, %ecx\n"
        "    rdmsr\n"
        "    orl $0x100, %eax\n"
        "    wrmsr\n"
        "    lgdtl 0x804\n"
        "    movl %cr0, %eax\n"
        "    andl $0x9fffffff, %eax\n"
        "    orl $0x80000001, %eax\n"
        "    movl %eax, %cr0\n"
        "    ljmpl *(0x80a)\n"
        "trampoline_end:\n"
        ".code64\n"
        ".text\n");
_Static_assert(offsetof(struct handover, gdt_limit) == 0x4, "lgdtl 0x804");
_Static_assert(offsetof(struct handover, entry) == 0xa, "ljmpl *(0x80a)");

static uint32_t lapic_read(uint32_t at)
{
    return *(volatile uint32_t *)(uintptr_t)(LAPIC + at);
}

static void lapic_write(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(LAPIC + at) = value;
}

static void send(uint32_t apic_id, uint32_t command)
{
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR_LOW, command);
    while (lapic_read(LAPIC_ICR_LOW) & ICR_PENDING)
        __asm__ volatile("pause");
}

/* KVM's INIT takes no time, so the 10 ms that real processors want are not waited for. */
static void start(uint32_t apic_id)
{
    send(apic_id, ICR_INIT);
    send(apic_id, ICR_SIPI | SIPI_VECTOR);
}

static void prepare_trampoline(void (*entry)(void))
{
    struct handover *handover = (struct handover *)(TRAMPOLINE + HANDOVER);
    uint8_t *to = (uint8_t *)TRAMPOLINE;
    uint64_t cr3;

    for (const uint8_t *from = trampoline; from < trampoline_end; from++)
        *to++ = *from;
    __asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
    *handover = (struct handover){
        .cr3 = (uint32_t)cr3,
        .gdt_limit = sizeof handover->gdt - 1,
        .gdt_base = TRAMPOLINE + HANDOVER + offsetof(struct handover, gdt),
        .entry = (uint32_t)(uintptr_t)entry,
        .selector = CODE_SELECTOR,
        .gdt = { 0, 0, DESCRIPTOR_CODE64, DESCRIPTOR_DATA },
    };
    /* The processors that read it come into being by writes the compiler knows nothing of. */
    __asm__ volatile("" : : : "memory");
}

uint32_t cpus_self(void)
{
    return lapic_read(LAPIC_ID) >> 24;
}

uint32_t cpus_start(const uint8_t *boot_params, void (*entry)(void))
{
    const uint8_t *madt = acpi_table(boot_params, "APIC");
    uint32_t self, listed = 0;

    if (!madt)
        return 0;
    prepare_trampoline(entry);
    lapic_write(LAPIC_SVR, SVR_ENABLE);
    self = cpus_self();
    for (uint32_t at = MADT_ENTRIES; at + 2 <= acpi_length(madt) && madt[at + 1]; at += madt[at + 1]) {
        const uint8_t *found = madt + at;

        if (found[0] != MADT_LAPIC || !(load32(found + 4) & MADT_ENABLED))
            continue;
        listed++;
        if (found[3] != self)
            start(found[3]);
    }
    return listed;
}
