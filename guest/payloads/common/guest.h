/* What every payload shares: ports, the serial console, the way out, and boot_params. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define DEBUG_EXIT_PORT 0xf4
#define COM1 0x3f8
#define COM1_RBR COM1
#define COM1_LSR (COM1 + 5)
#define LSR_DATA_READY 0x01
#define LSR_THR_EMPTY 0x20

/* Offsets in struct boot_params (Documentation/arch/x86/zero-page.rst). */
#define BP_ACPI_RSDP_ADDR 0x070
#define BP_EXT_CMD_LINE_PTR 0x0c8
#define BP_CMD_LINE_PTR 0x228

/* A payload's body: its value is the status it ends with. */
int guest_main(const uint8_t *boot_params);

/* Reports a status through the debug-exit port; halts for good where there is none. */
_Noreturn void guest_exit(int status);

void put_char(char c);
void put_text(const char *text);
/* Sixteen digits or as many as are needed, without leading zeros, after "0x". */
void put_hex(uint64_t value);
void put_decimal(uint64_t value);

/* The kernel command line, never NULL. */
const char *command_line(const uint8_t *boot_params);

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/* Waits until the transmitter has room, as 16550 drivers do; returns then. */
void wait_for_transmitter(void);

/* The last word of the command line as a number, decimal or 0x...; or 0 where it is none. */
int last_number(const uint8_t *boot_params, uint64_t *value);

/* Firmware structures have no alignment to rely on. */
static inline uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}
