// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Where kernel stacks lie, and what happens below their end.
 *
 * do=place     says where this task's stack and thread_info are, and whether freed stacks come back
 * do=overflow  recurses past the end of a kernel thread's stack
 */
#include "experiment.h"

#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/vmalloc.h>

/* Threads that are started one after another, to see whose stack they get. */
#define THREADS 16

static int tell_stack(void *to)
{
	WRITE_ONCE(*(void **)to, task_stack_page(current));
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int reuse(void)
{
	void *stacks[THREADS];
	int i, j, different = 0;

	for (i = 0; i < THREADS; i++) {
		struct task_struct *thread;

		stacks[i] = NULL;
		thread = kthread_run(tell_stack, &stacks[i], "trapline_stack");
		if (IS_ERR(thread))
			return PTR_ERR(thread);
		while (!READ_ONCE(stacks[i]))
			schedule_timeout_uninterruptible(1);
		kthread_stop(thread);
		/* The task goes after one grace period, a stack that no CPU caches after another. */
		rcu_barrier();
		rcu_barrier();
		for (j = 0; j < i && stacks[j] != stacks[i]; j++)
			;
		different += j == i;
	}
	pr_info("%d threads, one after another, had %d different stacks\n", THREADS, different);
	return 0;
}

/* Pages that are mapped from `at` upwards, in vmalloc space. */
static unsigned int mapped_pages(const void *at)
{
	unsigned int pages = 0;

	while (pages < 64 && vmalloc_to_page(at + pages * PAGE_SIZE))
		pages++;
	return pages;
}

static int place(void)
{
	void *stack = task_stack_page(current);
	char here;

	pr_info("the stack begins at %px, a local variable of it is at %px\n", stack, &here);
	pr_info("stack in vmalloc space: %s\n", yes_no(is_vmalloc_addr(stack)));
	pr_info("stack in the direct map: %s\n", yes_no(virt_addr_valid(stack)));
	pr_info("thread_info at %px, task_struct at %px, in it: %s\n", task_thread_info(current),
		current, yes_no((void *)task_thread_info(current) == (void *)current));
	pr_info("THREAD_SIZE is %lu\n", THREAD_SIZE);
	if (is_vmalloc_addr(stack)) {
		pr_info("mapped from the stack's begin: %lu bytes\n",
			mapped_pages(stack) * PAGE_SIZE);
		pr_info("page below the stack mapped: %s\n",
			yes_no(vmalloc_to_page(stack - PAGE_SIZE)));
	}
	return reuse();
}

/*
 * The contrast needs a stack whose neighbour below is ours, else what it shows is luck: blocks of a
 * stack's size are taken, one of two that lie side by side is given back, and the next thread gets
 * it, for the page allocator hands out what it got back last.
 */
#define BLOCKS 128
#define UNTOUCHED 0xa5
#define OVERFLOW 0x5a

static void *blocks[BLOCKS];

static bool is_ours(const void *block)
{
	int i;

	for (i = 0; i < BLOCKS; i++)
		if (blocks[i] == block)
			return block;
	return false;
}

static void give_back(int i)
{
	free_pages((unsigned long)blocks[i], THREAD_SIZE_ORDER);
	blocks[i] = NULL;
}

/* Recurses until its frames reach down to `end`. */
static noinline void go_down(unsigned long end)
{
	volatile u8 frame[256];
	unsigned int i;

	for (i = 0; i < sizeof(frame); i++)
		frame[i] = OVERFLOW;
	if ((unsigned long)frame > end)
		go_down(end);
	/* Something to do after the call, or it would be a jump and no recursion. */
	barrier();
}

struct descent {
	struct completion done;
	bool made;
};

static int descend(void *to)
{
	struct descent *descent = to;
	u8 *stack = task_stack_page(current);
	u8 *below = stack - THREAD_SIZE;
	size_t i, changed = 0;

	if (is_vmalloc_addr(stack)) {
		pr_info("overflowing the stack at %px, below which a page is mapped: %s\n", stack,
			yes_no(vmalloc_to_page(stack - PAGE_SIZE)));
	} else if (is_ours(below)) {
		memset(below, UNTOUCHED, THREAD_SIZE);
		pr_info("overflowing the stack at %px, below which the memory is this module's\n",
			stack);
	} else {
		goto out;
	}
	descent->made = true;
	go_down((unsigned long)stack - 2048);
	if (!is_vmalloc_addr(stack)) {
		for (i = 0; i < THREAD_SIZE; i++)
			changed += below[i] != UNTOUCHED;
		pr_info("%zu bytes of the module's memory below the stack were overwritten\n",
			changed);
	}
	pr_info("the overflow went unnoticed\n");
out:
	complete(&descent->done);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* Starts a thread that overflows its stack; says whether it could. */
static int try_descent(void)
{
	struct descent descent = { .made = false };
	struct task_struct *thread;

	init_completion(&descent.done);
	thread = kthread_run(descend, &descent, "trapline_stack");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	wait_for_completion(&descent.done);
	kthread_stop(thread);
	return descent.made;
}

static int overflow(void)
{
	int i, made = 0;

	if (IS_ENABLED(CONFIG_VMAP_STACK))
		return min(try_descent(), 0);
	for (i = 0; i < BLOCKS; i++)
		blocks[i] = (void *)__get_free_pages(GFP_KERNEL, THREAD_SIZE_ORDER);
	for (i = 0; i < BLOCKS && !made; i++) {
		if (!blocks[i] || !is_ours(blocks[i] - THREAD_SIZE))
			continue;
		give_back(i);
		made = try_descent();
	}
	for (i = 0; i < BLOCKS; i++)
		if (blocks[i])
			give_back(i);
	if (!made)
		pr_info("skip: no thread got a stack above this module's memory\n");
	return min(made, 0);
}

static const struct experiment experiments[] = {
	{ "place", place },
	{ "overflow", overflow },
};

EXPERIMENTS(experiments, "Kernel stacks: where they lie, and past their end");
