/* Resets the machine through PIIX3's reset control register (82371SB, section 2.4.2). */
#include "guest.h"

#define RCR 0xcf9
#define RCR_HARD 0x02
#define RCR_RESET 0x04

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    put_text("resetting\n");
    out8(RCR, RCR_HARD);
    out8(RCR, RCR_HARD | RCR_RESET);
    put_text("still here\n");
    return 1;
}
