// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A processor that does nothing else any more.
 *
 * do=soft  this CPU spins with preemption off: interrupts come, nobody else runs
 * do=hard  the last CPU spins with interrupts off, and the others live
 * do=hang  this CPU spins with interrupts off, for ever
 *
 * The first two give up after a while, and say that nobody noticed.
 */
#include "experiment.h"

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/preempt.h>
#include <linux/smp.h>

#define PATIENCE_MS 60000

/* Delays, and no clock: where interrupts are off for long, clocks may not go on. */
static void spin(void)
{
	unsigned int ms;

	for (ms = 0; ms < PATIENCE_MS; ms++)
		mdelay(1);
}

static int soft(void)
{
	pr_info("spinning on CPU %d with preemption off\n", raw_smp_processor_id());
	preempt_disable();
	spin();
	preempt_enable();
	pr_info("nobody noticed\n");
	return 0;
}

static int spin_hard(void *started)
{
	unsigned long flags;

	complete(started);
	pr_info("spinning on CPU %d with interrupts off\n", raw_smp_processor_id());
	/* What was said has to leave before nobody can say it. */
	msleep(100);
	local_irq_save(flags);
	spin();
	local_irq_restore(flags);
	pr_info("nobody noticed\n");
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int hard(void)
{
	DECLARE_COMPLETION_ONSTACK(started);
	struct task_struct *thread;

	thread = kthread_create(spin_hard, &started, "trapline_lockup");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	kthread_bind(thread, cpumask_last(cpu_online_mask));
	wake_up_process(thread);
	/* A thread that is stopped before it ran never runs. */
	wait_for_completion(&started);
	return kthread_stop(thread);
}

static int hang(void)
{
	pr_info("spinning on CPU %d with interrupts off, for ever\n", raw_smp_processor_id());
	msleep(100);
	local_irq_disable();
	while (PATIENCE_MS)
		cpu_relax();
	return 0;
}

static const struct experiment experiments[] = {
	{ "soft", soft },
	{ "hard", hard },
	{ "hang", hang },
};

EXPERIMENTS(experiments, "Lockups");
