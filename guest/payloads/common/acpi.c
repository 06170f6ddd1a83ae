#include "acpi.h"

#include "guest.h"

#define RSDP_LEN 36
#define RSDP_XSDT 24
#define FADT_DSDT 40
#define FADT_X_DSDT 140

static int sums_to_zero(const uint8_t *bytes, uint32_t length)
{
    uint8_t sum = 0;

    while (length--)
        sum += *bytes++;
    return sum == 0;
}

uint32_t acpi_length(const uint8_t *table)
{
    return load32(table + 4);
}

static int is_table(const uint8_t *table, const char signature[4])
{
    for (unsigned i = 0; i < 4; i++)
        if (table[i] != (uint8_t)signature[i])
            return 0;
    return acpi_length(table) >= ACPI_HEADER_LEN && sums_to_zero(table, acpi_length(table));
}

const uint8_t *acpi_table(const uint8_t *boot_params, const char signature[4])
{
    const uint8_t *rsdp = (const uint8_t *)load64(boot_params + BP_ACPI_RSDP_ADDR);
    const uint8_t *xsdt;

    if (!rsdp || !sums_to_zero(rsdp, RSDP_LEN))
        return NULL;
    xsdt = (const uint8_t *)load64(rsdp + RSDP_XSDT);
    if (!xsdt || !is_table(xsdt, "XSDT"))
        return NULL;
    for (uint32_t at = ACPI_HEADER_LEN; at + 8 <= acpi_length(xsdt); at += 8) {
        const uint8_t *table = (const uint8_t *)load64(xsdt + at);

        if (is_table(table, signature))
            return table;
    }
    return NULL;
}

const uint8_t *acpi_dsdt(const uint8_t *fadt)
{
    uint64_t at = 0;

    if (acpi_length(fadt) >= FADT_X_DSDT + 8)
        at = load64(fadt + FADT_X_DSDT);
    if (!at)
        at = load32(fadt + FADT_DSDT);
    return at && is_table((const uint8_t *)at, "DSDT") ? (const uint8_t *)at : NULL;
}
