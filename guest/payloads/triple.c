/* An exception with no IDT: it cannot be delivered, nor can the #DF, and the processor shuts down. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } none = { 0, 0 };

    (void)boot_params;
    put_text("about to fault three times over\n");
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
    return 1;
}
