#include "guest.h"

void wait_for_transmitter(void)
{
    while (!(in8(COM1_LSR) & LSR_THR_EMPTY))
        __asm__ volatile("pause");
}

void put_char(char c)
{
    if (c == '\n')
        put_char('\r');
    wait_for_transmitter();
    out8(COM1, (uint8_t)c);
}

void put_text(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_number(uint64_t value, unsigned base)
{
    char digits[20];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        put_char(digits[--n]);
}

void put_hex(uint64_t value)
{
    put_text("0x");
    put_number(value, 16);
}

void put_decimal(uint64_t value)
{
    put_number(value, 10);
}

const char *command_line(const uint8_t *boot_params)
{
    uint64_t low = load32(boot_params + BP_CMD_LINE_PTR);
    uint64_t high = load32(boot_params + BP_EXT_CMD_LINE_PTR);
    const char *text = (const char *)(high << 32 | low);

    return text ? text : "";
}

int last_number(const uint8_t *boot_params, uint64_t *value)
{
    const char *word = command_line(boot_params);
    unsigned base = 10;
    uint64_t sum = 0;

    for (const char *at = word; *at; at++)
        if (*at == ' ')
            word = at + 1;
    if (word[0] == '0' && word[1] == 'x') {
        base = 16;
        word += 2;
    }
    if (!*word)
        return 0;
    for (; *word; word++) {
        unsigned digit = (unsigned)*word - '0';

        if (digit > 9)
            digit = (unsigned)(*word | 0x20) - 'a' + 10;
        if (digit >= base)
            return 0;
        sum = sum * base + digit;
    }
    *value = sum;
    return 1;
}

_Noreturn void guest_exit(int status)
{
    out32(DEBUG_EXIT_PORT, (uint32_t)status);
    for (;;)
        __asm__ volatile("cli; hlt");
}
