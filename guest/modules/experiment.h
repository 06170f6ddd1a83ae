/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the experiments share. Each prints facts, one a line and with its module's name before it;
 * `trapline test` judges them (src/check). Addresses are printed as they are: these are throw-away guests.
 */
#ifndef TRAPLINE_EXPERIMENT_H
#define TRAPLINE_EXPERIMENT_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/printk.h>
#include <linux/string.h>

/* Which experiment of its module insmod is to run: insmod trapline_stack.ko do=place */
static char *action = "";
module_param_named(do, action, charp, 0);

/* One experiment: its name for `do=`, and what runs it. */
struct experiment {
	const char *name;
	int (*run)(void);
};

static inline const char *yes_no(bool fact)
{
	return fact ? "yes" : "no";
}

static inline int run_experiment(const struct experiment *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (!strcmp(list[i].name, action))
			return list[i].run();
	pr_err("there is no experiment \"%s\"\n", action);
	return -EINVAL;
}

/* Nothing stays: what an experiment took it gives back before its module is ready. */
#define EXPERIMENTS(list, about)					\
	static int __init start(void)					\
	{								\
		return run_experiment(list, ARRAY_SIZE(list));		\
	}								\
	static void __exit stop(void)					\
	{								\
	}								\
	module_init(start);						\
	module_exit(stop);						\
	MODULE_DESCRIPTION(about);					\
	MODULE_LICENSE("Dual MIT/GPL")

#endif
