/*
 * Reads and writes ports and addresses that nothing answers, at every width, by plain and by string
 * instructions. A floating bus reads as ones; writes are lost; nothing else may happen.
 */
#include "guest.h"

#define COUNT 8

/* Free on this board, and the very last ones. */
static const uint16_t ports[] = { 0x0e00, 0x1234, 0x9000, 0xfff8 };
/* In the hole below 4 GiB: a plain place, and one just below a page boundary, for accesses across. */
static const uint64_t addresses[] = { 0xd0000000, 0xd0000ffc };

static int failures;

static void expect(const char *what, uint64_t at, uint64_t value, uint64_t ones)
{
    if (value == ones)
        return;
    failures++;
    put_text(what);
    put_text(" ");
    put_hex(at);
    put_text(" reads ");
    put_hex(value);
    put_text("\n");
}

/* COUNT reads by one `rep ins`, then COUNT writes by one `rep outs`. */
#define STRINGS(name, suffix, type)                                                             \
    static void name(uint16_t port)                                                             \
    {                                                                                           \
        type buffer[COUNT] = { 0 };                                                             \
        void *to = buffer;                                                                      \
        const void *from = buffer;                                                              \
        uint64_t count = COUNT;                                                                 \
                                                                                                \
        __asm__ volatile("rep ins" suffix : "+D"(to), "+c"(count) : "d"(port) : "memory");      \
        expect("end of rep ins" suffix, port, (uint64_t)to, (uint64_t)(buffer + COUNT));        \
        for (unsigned i = 0; i < COUNT; i++)                                                    \
            expect("rep ins" suffix, port, buffer[i], (type)~0u);                               \
        count = COUNT;                                                                          \
        __asm__ volatile("rep outs" suffix : "+S"(from), "+c"(count) : "d"(port) : "memory");   \
        expect("end of rep outs" suffix, port, (uint64_t)from, (uint64_t)(buffer + COUNT));     \
    }

STRINGS(byte_strings, "b", uint8_t)
STRINGS(word_strings, "w", uint16_t)
STRINGS(dword_strings, "l", uint32_t)

static void try_port(uint16_t port)
{
    out8(port, 0x5a);
    out16(port, 0x5aa5);
    out32(port, 0x5aa5c33c);
    expect("inb", port, in8(port), 0xff);
    expect("inw", port, in16(port), 0xffff);
    expect("inl", port, in32(port), 0xffffffff);
    byte_strings(port);
    word_strings(port);
    dword_strings(port);
}

#define MEMORY(name, suffix, type)                                                              \
    static void name(uint64_t at)                                                               \
    {                                                                                           \
        type value = 0;                                                                         \
                                                                                                \
        __asm__ volatile("mov" suffix " %1, %0" : "=m"(*(volatile type *)at) : "r"(value));     \
        __asm__ volatile("mov" suffix " %1, %0" : "=r"(value) : "m"(*(volatile type *)at));     \
        expect("mov" suffix, at, value, (type)~0ull);                                           \
    }

MEMORY(byte_memory, "b", uint8_t)
MEMORY(word_memory, "w", uint16_t)
MEMORY(dword_memory, "l", uint32_t)
MEMORY(qword_memory, "q", uint64_t)

static void try_memory(uint64_t at)
{
    uint8_t buffer[COUNT] = { 0 };
    void *to = buffer;
    const void *from = (const void *)at;
    uint64_t count = COUNT;

    byte_memory(at);
    word_memory(at);
    dword_memory(at);
    qword_memory(at);
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    for (unsigned i = 0; i < COUNT; i++)
        expect("rep movsb", at, buffer[i], 0xff);
}

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    for (unsigned i = 0; i < sizeof ports / sizeof *ports; i++)
        try_port(ports[i]);
    for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++)
        try_memory(addresses[i]);
    put_text(failures ? "something answers where nothing is\n" : "all ones everywhere\n");
    return failures != 0;
}
