/* The tables that the boot protocol points to (ACPI 6.5). */
#pragma once

#include <stdint.h>

#define ACPI_HEADER_LEN 36

/* The table with this signature, its checksum right, or NULL. */
const uint8_t *acpi_table(const uint8_t *boot_params, const char signature[4]);

/* The DSDT, which only the FADT points to; or NULL. */
const uint8_t *acpi_dsdt(const uint8_t *fadt);

uint32_t acpi_length(const uint8_t *table);
