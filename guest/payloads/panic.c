/* Panics as Linux does with panic=-1: says so on the console, and resets at once. */
#include "guest.h"

#define RCR 0xcf9
#define RCR_HARD 0x02
#define RCR_RESET 0x04

int guest_main(const uint8_t *boot_params)
{
    (void)boot_params;
    put_text("Kernel panic - not syncing: a payload that panics\n");
    out8(RCR, RCR_HARD);
    out8(RCR, RCR_HARD | RCR_RESET);
    return 1;
}
