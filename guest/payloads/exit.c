/* Ends with the status that is the last word of its command line, or 0. */
#include "guest.h"

int guest_main(const uint8_t *boot_params)
{
    uint64_t status = 0;

    last_number(boot_params, &status);
    return (int)status;
}
