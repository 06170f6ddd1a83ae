/* Switches the machine off as an ACPI system does: the sleep type of _S5 from the DSDT, written to
 * PM1a_CNT, whose port is in the FADT (ACPI 6.5, 4.8.3.2.1 and 7.4.2). */
#include "acpi.h"
#include "guest.h"

#define FADT_SMI_CMD 48
#define FADT_ACPI_ENABLE 52
#define FADT_PM1A_CNT 64
#define SCI_EN 0x0001
#define SLP_TYP_SHIFT 10
#define SLP_EN 0x2000

/* AML (ACPI 6.5, 20.2): Name (_S5, Package () {type, ...}). */
#define AML_ZERO 0x00
#define AML_ONE 0x01
#define AML_BYTE 0x0a
#define AML_PACKAGE 0x12
#define NAME_LEN 4

/* Bytes from the name to the package's first element, when its length takes one byte. */
#define TO_ELEMENT (NAME_LEN + 3)

/* The first element of the package named _S5, or -1. */
static int sleep_type(const uint8_t *dsdt)
{
    const uint8_t *end = dsdt + acpi_length(dsdt);
    const uint8_t *at = dsdt + ACPI_HEADER_LEN;

    while (at + TO_ELEMENT < end && !(at[0] == '_' && at[1] == 'S' && at[2] == '5' &&
                                      at[3] == '_' && at[4] == AML_PACKAGE))
        at++;
    if (at + TO_ELEMENT >= end)
        return -1;
    /* The length's first byte says in its top bits how many more there are. */
    at += TO_ELEMENT + (at[NAME_LEN + 1] >> 6);
    if (at + 1 >= end)
        return -1;
    if (*at == AML_ZERO || *at == AML_ONE)
        return *at;
    return *at == AML_BYTE ? at[1] : -1;
}

static int give_up(const char *why)
{
    put_text(why);
    put_text("\n");
    return 1;
}

int guest_main(const uint8_t *boot_params)
{
    const uint8_t *fadt = acpi_table(boot_params, "FACP");
    const uint8_t *dsdt = fadt ? acpi_dsdt(fadt) : NULL;
    uint16_t control;
    uint16_t value;
    int type;

    if (!dsdt)
        return give_up("no FADT or no DSDT");
    type = sleep_type(dsdt);
    if (type < 0)
        return give_up("no _S5 in the DSDT");
    control = (uint16_t)load32(fadt + FADT_PM1A_CNT);
    put_text("PM1a_CNT at port ");
    put_hex(control);
    put_text(", sleep type ");
    put_decimal((uint64_t)type);
    put_text("\n");

    if (!(in16(control) & SCI_EN) && load32(fadt + FADT_SMI_CMD))
        out8((uint16_t)load32(fadt + FADT_SMI_CMD), fadt[FADT_ACPI_ENABLE]);
    value = (uint16_t)(in16(control) & SCI_EN) | (uint16_t)(type << SLP_TYP_SHIFT);
    out16(control, value);
    out16(control, value | SLP_EN);
    return give_up("still here");
}
