/* The other processors: started by INIT and SIPI (SDM vol. 3, 9.4.4) into 64-bit code. */
#pragma once

#include <stdint.h>

#define CPUS_DATA_SELECTOR 0x18

/*
 * Starts every processor that the MADT lists beside this one at `entry`, in 64-bit mode with this one's page
 * tables, interrupts off, data segments not loaded and no stack. Gives how many the MADT lists, this one
 * among them; 0 without a MADT.
 */
uint32_t cpus_start(const uint8_t *boot_params, void (*entry)(void));

/* This processor's local APIC id. */
uint32_t cpus_self(void);
