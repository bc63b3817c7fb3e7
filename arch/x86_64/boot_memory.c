/* SPDX-License-Identifier: Apache-2.0 */
/* What booting puts into memory: the kernel, its initrd, and what they are told. */
#include "boot_steps.h"

/* Writes the page tables where neither the kernel nor its initrd is. */
static int write_page_tables(struct boot *boot)
{
	const struct impost_x86_kernel *kernel = &boot->result.kernel;
	const struct impost_x86_initrd *initrd = &boot->result.initrd;
	struct impost_x86_layout layout;
	int err;

	impost_x86_layout_init(&layout);
	err = impost_x86_layout_claim(boot->ctx, &layout, "kernel", kernel->start,
				      kernel->end - kernel->start, 0);
	if (err == 0 && initrd->bytes)
		err = impost_x86_layout_claim(boot->ctx, &layout, "initrd", initrd->gpa,
					      initrd->bytes, 0);
	if (err == 0)
		err = impost_x86_paging_for(boot->memory, NULL, 0, &boot->paging);
	if (err == 0)
		err = impost_x86_write_page_tables(boot->memory, &layout, &boot->paging,
						   &boot->cr3);
	return err;
}

int boot_fill_memory(struct boot *boot)
{
	const struct impost_x86_boot_config *config = boot->config;
	struct impost_x86_boot_result *result = &boot->result;
	int err;

	err = impost_x86_load_kernel(boot->memory, config->kernel_fd, &result->kernel);
	if (err == 0 && config->initrd_fd >= 0)
		err = impost_x86_load_initrd(boot->memory, config->initrd_fd, &result->kernel,
					     &result->initrd);
	if (err == 0)
		err = impost_x86_write_zero_page(boot->memory, &result->kernel,
						 config->cmdline ? config->cmdline : "",
						 result->initrd.bytes ? &result->initrd : NULL);
	if (err == 0)
		err = impost_x86_write_gdt(boot->memory, IMPOST_X86_MODE_LONG);
	if (err == 0)
		err = write_page_tables(boot);
	return err;
}
