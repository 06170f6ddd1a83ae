/*
 * Lists the functions of PCI bus 0, found by configuration mechanism 1 (PCI 3.0, 3.2.2.3.2), and drives
 * an edu device when there is one: its registers, DMA both ways, INTx through the IOAPIC, and MSI.
 * Interrupts stay off; what arrived is read from the local APIC's IRR.
 */
#include "acpi.h"
#include "guest.h"

#define POST_PORT 0x80
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000
#define COMMAND 0x04
#define COMMAND_MEMORY 0x2
#define COMMAND_MASTER 0x4
#define CLASS 0x08
#define HEADER_TYPE 0x0c
#define MULTIFUNCTION 0x00800000
#define BAR0 0x10
#define CAPABILITIES 0x34
#define INTERRUPT 0x3c
#define CAP_MSI 0x05
#define MSI_ENABLE 0x00010000
#define ABSENT 0xffffffff

#define EDU 0x11e81234
#define EDU_ID 0x010000ed
#define EDU_BUFFER 0x40000
#define EDU_DMA_RUN 0x1
#define EDU_DMA_TO_MEMORY 0x2
#define TRANSFER 64

#define IOAPIC 0xfec00000
#define IOAPIC_DATA 0x10
#define IOAPIC_REDIRECTION 0x10
#define REDIRECTION_LEVEL 0x8000
#define LAPIC 0xfee00000
#define LAPIC_ID 0x20
#define LAPIC_SVR 0xf0
#define LAPIC_IRR 0x200
#define SVR_ENABLE 0x1ff
#define FIRST_VECTOR 0x31

#define FADT_PM_TMR 76
#define PM_TMR_MASK 0xffffff
#define PM_TMR_HZ 3579545
#define PATIENCE_SECONDS 5

static uint16_t timer;
/* A vector stays in the IRR, so each is used once. */
static uint32_t vector = FIRST_VECTOR;
static uint8_t sent[TRANSFER], received[TRANSFER];

static uint32_t config_read(uint32_t function, uint32_t reg)
{
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | function << 8 | reg);
    return in32(CONFIG_DATA);
}

static void config_write(uint32_t function, uint32_t reg, uint32_t value)
{
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | function << 8 | reg);
    out32(CONFIG_DATA, value);
}

static volatile uint32_t *at(uint64_t address)
{
    return (volatile uint32_t *)(uintptr_t)address;
}

/* Until `*word & mask` is `wanted`, or the patience is at an end. */
static int until(volatile uint32_t *word, uint32_t mask, uint32_t wanted)
{
    uint64_t left = (uint64_t)PM_TMR_HZ * PATIENCE_SECONDS;
    uint32_t last = in32(timer);

    while ((*word & mask) != wanted) {
        uint32_t now = in32(timer);
        uint32_t passed = (now - last) & PM_TMR_MASK;

        if (passed > left)
            return 0;
        left -= passed;
        last = now;
    }
    return 1;
}

/* Whether the current vector has arrived; the next one is current then. */
static int arrived(void)
{
    uint32_t bit = 1u << vector % 32;
    volatile uint32_t *irr = at(LAPIC + LAPIC_IRR + vector++ / 32 * 0x10);

    return until(irr, bit, bit);
}

static int judge(const char *what, int good)
{
    put_text("edu: ");
    put_text(what);
    put_text(good ? " works\n" : " FAILS\n");
    return good ? 0 : 1;
}

static int transfer(volatile uint32_t *edu, uint64_t from, uint64_t to, uint32_t direction)
{
    edu[0x80 / 4] = (uint32_t)from;
    edu[0x88 / 4] = (uint32_t)to;
    edu[0x90 / 4] = TRANSFER;
    edu[0x98 / 4] = EDU_DMA_RUN | direction;
    return until(&edu[0x98 / 4], EDU_DMA_RUN, 0);
}

static int dma(volatile uint32_t *edu)
{
    for (unsigned i = 0; i < TRANSFER; i++)
        sent[i] = (uint8_t)(i * 7 + 1);
    if (!transfer(edu, (uint64_t)sent, EDU_BUFFER, 0) ||
        !transfer(edu, EDU_BUFFER, (uint64_t)received, EDU_DMA_TO_MEMORY))
        return 0;
    /* The device has written it, which the compiler does not know. */
    __asm__ volatile("" : : : "memory");
    for (unsigned i = 0; i < TRANSFER; i++)
        if (received[i] != sent[i])
            return 0;
    return 1;
}

static int intx(volatile uint32_t *edu, uint32_t function)
{
    uint32_t gsi = config_read(function, INTERRUPT) & 0xff;
    uint32_t entry = IOAPIC_REDIRECTION + 2 * gsi;
    int good;

    *at(IOAPIC) = entry + 1;
    *at(IOAPIC + IOAPIC_DATA) = *at(LAPIC + LAPIC_ID);
    *at(IOAPIC) = entry;
    *at(IOAPIC + IOAPIC_DATA) = REDIRECTION_LEVEL | vector;
    edu[0x60 / 4] = 0x10;
    good = arrived() && edu[0x24 / 4] == 0x10;
    edu[0x64 / 4] = 0x10;
    return good;
}

static int msi(volatile uint32_t *edu, uint32_t function)
{
    uint32_t cap = config_read(function, CAPABILITIES) & 0xfc;

    while (cap && (config_read(function, cap) & 0xff) != CAP_MSI)
        cap = config_read(function, cap) >> 8 & 0xfc;
    if (!cap)
        return 0;
    config_write(function, cap + 4, LAPIC | *at(LAPIC + LAPIC_ID) >> 12);
    config_write(function, cap + 8, 0);
    config_write(function, cap + 12, vector);
    config_write(function, cap, config_read(function, cap) | MSI_ENABLE);
    edu[0x60 / 4] = 0x20;
    return arrived();
}

static int drive(uint32_t function)
{
    volatile uint32_t *edu = at(config_read(function, BAR0) & ~0xfu);
    int failed;

    config_write(function, COMMAND,
                 (config_read(function, COMMAND) & 0xffff) | COMMAND_MEMORY | COMMAND_MASTER);
    *at(LAPIC + LAPIC_SVR) = SVR_ENABLE;
    edu[0x04 / 4] = 0x12345678;
    failed = judge("liveness", edu[0] == EDU_ID && edu[0x04 / 4] == ~0x12345678u);
    edu[0x08 / 4] = 10;
    failed |= judge("factorial", until(&edu[0x20 / 4], 1, 0) && edu[0x08 / 4] == 3628800);
    failed |= judge("DMA", dma(edu));
    failed |= judge("INTx", intx(edu, function));
    failed |= judge("MSI", msi(edu, function));
    return failed;
}

static int show(uint32_t function)
{
    uint32_t id = config_read(function, 0);

    /* As firmware does: the code says how far it came. */
    out8(POST_PORT, (uint8_t)function);
    put_text("device ");
    put_decimal(function >> 3);
    put_text(" function ");
    put_decimal(function & 7);
    put_text(": ");
    put_hex(id & 0xffff);
    put_char(' ');
    put_hex(id >> 16);
    put_text(" class ");
    put_hex(config_read(function, CLASS) >> 8);
    put_char('\n');
    return id == EDU ? drive(function) : 0;
}

int guest_main(const uint8_t *boot_params)
{
    const uint8_t *fadt = acpi_table(boot_params, "FACP");
    int failed = 0;

    if (!fadt) {
        put_text("no FADT\n");
        return 1;
    }
    timer = (uint16_t)load32(fadt + FADT_PM_TMR);
    for (uint32_t device = 0; device < 32; device++) {
        uint32_t first = device << 3;

        if (config_read(first, 0) == ABSENT)
            continue;
        failed |= show(first);
        for (uint32_t f = 1; f < 8 && config_read(first, HEADER_TYPE) & MULTIFUNCTION; f++)
            if (config_read(first + f, 0) != ABSENT)
                failed |= show(first + f);
    }
    return failed;
}
