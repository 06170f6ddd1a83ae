// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the DMA API makes of memory that devices cannot be given: stacks and vmalloc memory, whose
 * pages virt_to_page() does not find. The device is edu (QEMU docs/specs/edu.rst).
 *
 * do=single       dma_map_single() of kmalloc memory, of vmalloc memory, of a local variable
 * do=scatterlist  a local variable in a scatterlist, and edu told to read it
 */
#include "experiment.h"

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define LENGTH 64
#define SECRET 0x5a

#define EDU_SOURCE 0x80
#define EDU_DESTINATION 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define EDU_RUN 1
#define EDU_TO_MEMORY 2
#define EDU_BUFFER 0x40000

static struct pci_dev *find_edu(void)
{
	struct pci_dev *edu = pci_get_device(0x1234, 0x11e8, NULL);

	if (!edu) {
		pr_err("there is no edu on the PCI bus\n");
		return NULL;
	}
	if (pci_enable_device(edu) ||
	    dma_set_mask_and_coherent(&edu->dev, DMA_BIT_MASK(64))) {
		pr_err("edu cannot be used\n");
		pci_dev_put(edu);
		return NULL;
	}
	pci_set_master(edu);
	return edu;
}

static void leave_edu(struct pci_dev *edu)
{
	pci_clear_master(edu);
	pci_disable_device(edu);
	pci_dev_put(edu);
}

static void map_single(struct device *dev, const char *what, void *buffer)
{
	dma_addr_t at = dma_map_single(dev, buffer, LENGTH, DMA_TO_DEVICE);

	if (dma_mapping_error(dev, at)) {
		pr_info("dma_map_single of %s at %px: rejected\n", what, buffer);
		return;
	}
	pr_info("dma_map_single of %s at %px: accepted, bus address %pad\n", what, buffer, &at);
	dma_unmap_single(dev, at, LENGTH, DMA_TO_DEVICE);
}

static int single(void)
{
	struct pci_dev *edu = find_edu();
	u8 *slab = kzalloc(LENGTH, GFP_KERNEL);
	u8 *virtual = vzalloc(LENGTH);
	u8 local[LENGTH] = {};

	if (edu && slab && virtual) {
		map_single(&edu->dev, "kmalloc memory", slab);
		map_single(&edu->dev, "vmalloc memory", virtual);
		map_single(&edu->dev, "a local variable", local);
	}
	if (edu)
		leave_edu(edu);
	kfree(slab);
	vfree(virtual);
	return 0;
}

/* One transfer, which begins 100 ms after the command. */
static void transfer(void __iomem *regs, u64 source, u64 destination, u32 command)
{
	writeq(source, regs + EDU_SOURCE);
	writeq(destination, regs + EDU_DESTINATION);
	writeq(LENGTH, regs + EDU_COUNT);
	writel(command | EDU_RUN, regs + EDU_COMMAND);
	while (readl(regs + EDU_COMMAND) & EDU_RUN)
		msleep(20);
}

/* Has edu read `at`, and asks it what it read. */
static void use(struct pci_dev *edu, dma_addr_t at)
{
	void __iomem *regs = pci_iomap(edu, 0, 0);
	u8 *back = kzalloc(LENGTH, GFP_KERNEL);
	unsigned int i, right = 0;
	dma_addr_t to;

	if (!regs || !back)
		goto out;
	pr_info("telling edu to read bus address %pad\n", &at);
	transfer(regs, at, EDU_BUFFER, 0);
	to = dma_map_single(&edu->dev, back, LENGTH, DMA_FROM_DEVICE);
	if (!dma_mapping_error(&edu->dev, to)) {
		transfer(regs, EDU_BUFFER, to, EDU_TO_MEMORY);
		dma_unmap_single(&edu->dev, to, LENGTH, DMA_FROM_DEVICE);
	}
	for (i = 0; i < LENGTH; i++)
		right += back[i] == SECRET;
	pr_info("edu saw %u of the buffer's %u bytes\n", right, LENGTH);
out:
	kfree(back);
	if (regs)
		pci_iounmap(edu, regs);
}

static int scatterlist(void)
{
	struct pci_dev *edu = find_edu();
	struct scatterlist list;
	u8 local[LENGTH];
	phys_addr_t real;
	dma_addr_t at;

	if (!edu)
		return 0;
	memset(local, SECRET, sizeof(local));
	real = is_vmalloc_addr(local) ?
		page_to_phys(vmalloc_to_page(local)) + offset_in_page(local) : virt_to_phys(local);
	pr_info("the local variable at %px is at physical address %pap\n", local, &real);
	sg_init_one(&list, local, LENGTH);
	if (dma_map_sg(&edu->dev, &list, 1, DMA_TO_DEVICE) == 1) {
		at = sg_dma_address(&list);
		pr_info("dma_map_sg of it: accepted, bus address %pad, the right one: %s\n", &at,
			yes_no(at == real));
		use(edu, at);
		dma_unmap_sg(&edu->dev, &list, 1, DMA_TO_DEVICE);
	} else {
		pr_info("dma_map_sg of it: rejected\n");
	}
	leave_edu(edu);
	return 0;
}

static const struct experiment experiments[] = {
	{ "single", single },
	{ "scatterlist", scatterlist },
};

EXPERIMENTS(experiments, "DMA to memory that devices cannot be given");
