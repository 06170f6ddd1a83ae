/* Sends back every byte it receives, until a 'q'; then says how many there were. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    uint64_t count = 0;
    uint8_t byte;

    (void)boot_params;
    put_text("echo: 'q' ends it\n");
    do {
        while (!(in8(COM1_LSR) & LSR_DATA_READY))
            __asm__ volatile("pause");
        byte = in8(COM1_RBR);
        wait_for_transmitter();
        out8(COM1, byte);
        count++;
    } while (byte != 'q');
    put_text("\n");
    put_decimal(count);
    put_text(" bytes\n");
    return 0;
}
