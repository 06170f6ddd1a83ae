/* Halts with interrupts off: the processor sleeps for good. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    put_text("halting with interrupts off\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}
