/* Spins with interrupts off: only a look from outside finds this. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    put_text("spinning with interrupts off\n");
    __asm__ volatile("cli\n"
                     "1: jmp 1b");
    __builtin_unreachable();
}
