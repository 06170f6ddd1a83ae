// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A TSC that jumps: do=jump writes it, a tenth of a second ahead each time, while the clocksource
 * watchdog compares it with another clock. Further, and the watchdog would blame itself: it leaves out
 * what seems to have taken more than a second.
 */
#include "experiment.h"

#include <linux/delay.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#define JUMPS 12

/*
 * kvm-clock is read by adding TSC ticks to what KVM wrote last, so it jumps along, until KVM writes
 * anew: it does so when the guest names the page again (Documentation/virt/kvm/x86/msr.rst).
 */
static void have_kvm_clock_written(void)
{
	u64 page;

	if (!rdmsrl_safe(MSR_KVM_SYSTEM_TIME_NEW, &page) && (page & 1))
		wrmsrl(MSR_KVM_SYSTEM_TIME_NEW, page);
}

static int jump(void)
{
	unsigned int i;

	pr_info("the TSC runs at %u kHz\n", tsc_khz);
	for (i = 0; i < JUMPS; i++) {
		unsigned long flags;

		local_irq_save(flags);
		wrmsrl(MSR_IA32_TSC, rdtsc() + (u64)tsc_khz * 100);
		have_kvm_clock_written();
		local_irq_restore(flags);
		/* Half a second is how often the watchdog looks. */
		msleep(300);
	}
	pr_info("the TSC was set a tenth of a second ahead %d times\n", JUMPS);
	return 0;
}

static const struct experiment experiments[] = {
	{ "jump", jump },
};

EXPERIMENTS(experiments, "A TSC that jumps");
