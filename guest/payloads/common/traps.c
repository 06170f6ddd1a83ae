#include "traps.h"

#include "guest.h"

/* Exceptions, and interrupts up to 0x3b. */
#define VECTORS 60
#define STUB_LEN 16
#define CODE_SELECTOR 0x10
#define DATA_SELECTOR 0x18
#define TASK_SELECTOR 0x20
/* Gate: present, ring 0, interrupt gate (SDM vol. 3, figure 6-8). */
#define GATE 0x8e
#define DESCRIPTOR_CODE64 0x00af9b000000ffff
#define DESCRIPTOR_DATA 0x00cf93000000ffff
/* Present, ring 0, available 64-bit TSS (SDM vol. 3, figure 7-4). */
#define DESCRIPTOR_TSS 0x89
#define SEPARATE_STACK 0x2000
#define IST 1

extern const uint8_t trap_stubs[];

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

struct __attribute__((packed)) task_state {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
};

struct __attribute__((packed)) table_register {
    uint16_t limit;
    uint64_t base;
};

static struct gate idt[VECTORS];
static struct task_state task;
static uint64_t gdt[6];
static uint8_t separate_stack[SEPARATE_STACK] __attribute__((aligned(16)));

static void make_gdt(void)
{
    uint64_t base = (uint64_t)&task;
    uint64_t limit = sizeof task - 1;

    gdt[CODE_SELECTOR / 8] = DESCRIPTOR_CODE64;
    gdt[DATA_SELECTOR / 8] = DESCRIPTOR_DATA;
    gdt[TASK_SELECTOR / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 |
                             (uint64_t)DESCRIPTOR_TSS << 40 | (base >> 24 & 0xff) << 56;
    gdt[TASK_SELECTOR / 8 + 1] = base >> 32;
}

void traps_install(void)
{
    struct table_register gdtr = { sizeof gdt - 1, (uint64_t)gdt };
    struct table_register idtr = { sizeof idt - 1, (uint64_t)idt };

    for (unsigned vector = 0; vector < VECTORS; vector++) {
        uint64_t stub = (uint64_t)trap_stubs + vector * STUB_LEN;

        idt[vector] = (struct gate){
            .offset_low = (uint16_t)stub,
            .selector = CODE_SELECTOR,
            .type = GATE,
            .offset_middle = (uint16_t)(stub >> 16),
            .offset_high = (uint32_t)(stub >> 32),
        };
    }
    task.ist[IST - 1] = (uint64_t)separate_stack + SEPARATE_STACK;
    task.io_map = sizeof task;
    make_gdt();
    __asm__ volatile("lgdt %0" : : "m"(gdtr) : "memory");
    __asm__ volatile("ltr %w0" : : "r"(TASK_SELECTOR) : "memory");
    __asm__ volatile("lidt %0" : : "m"(idtr) : "memory");
}

void traps_separate_stack(unsigned vector, int on)
{
    if (vector < VECTORS)
        idt[vector].ist = on ? IST : 0;
}

int on_separate_stack(uint64_t address)
{
    uint64_t base = (uint64_t)separate_stack;

    return address >= base && address < base + SEPARATE_STACK;
}
