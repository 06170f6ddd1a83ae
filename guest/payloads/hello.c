/* Says hello over the serial port and what it was given. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    put_text("hello from a guest without an operating system\n");
    put_text("command line: ");
    put_text(command_line(boot_params));
    put_text("\n");
    return 0;
}
