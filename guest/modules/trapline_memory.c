// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Addresses that mean less than they seem to.
 *
 * do=physical  virt_to_phys() of linear and of vmalloc addresses
 * do=user      user memory through copy_from_user(), and read directly under SMAP
 */
#include "experiment.h"

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

static int physical(void)
{
	void *slab = kmalloc(PAGE_SIZE, GFP_KERNEL);
	void *virtual = vmalloc(PAGE_SIZE);
	phys_addr_t said, real;

	if (!slab || !virtual)
		goto out;
	said = virt_to_phys(slab);
	real = page_to_phys(virt_to_page(slab));
	pr_info("kmalloc memory at %px: virt_to_phys says %pap, its page is at %pap, and back it is %px\n",
		slab, &said, &real, phys_to_virt(said));
	pr_info("virt_to_phys of kmalloc memory right: %s\n",
		yes_no(said == real && phys_to_virt(said) == slab));

	real = page_to_phys(vmalloc_to_page(virtual));
	pr_info("vmalloc memory at %px: its page is at %pap\n", virtual, &real);
	said = virt_to_phys(virtual);
	pr_info("virt_to_phys of vmalloc memory says %pap\n", &said);
	pr_info("virt_to_phys of vmalloc memory right: %s; within the processor's %u address bits: %s\n",
		yes_no(said == real), boot_cpu_data.x86_phys_bits,
		yes_no(!(said >> boot_cpu_data.x86_phys_bits)));
out:
	kfree(slab);
	vfree(virtual);
	return 0;
}

#define WORDS "written by a program"

static int user(void)
{
	char words[sizeof(WORDS)] = "";
	unsigned long at;

	/* In the address space of insmod. */
	at = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(at))
		return at;
	if (copy_to_user((void __user *)at, WORDS, sizeof(WORDS)) ||
	    copy_from_user(words, (void __user *)at, sizeof(words)))
		goto out;
	pr_info("copy_from_user of %lx: \"%s\"\n", at, words);
	if (!boot_cpu_has(X86_FEATURE_SMAP)) {
		pr_info("skip: this processor has no SMAP\n");
		goto out;
	}
	pr_info("reading %lx directly\n", at);
	words[0] = *(volatile char *)at;
	pr_info("reading it directly: '%c'\n", words[0]);
out:
	vm_munmap(at, PAGE_SIZE);
	return 0;
}

static const struct experiment experiments[] = {
	{ "physical", physical },
	{ "user", user },
};

EXPERIMENTS(experiments, "Physical addresses, and user memory");
