/* SPDX-License-Identifier: Apache-2.0 */
/* What booting puts into memory: the kernel, its initrd, and what they are told. */
#include "boot_steps.h"

/* Writes the page tables where neither the kernel nor its initrd is. */
static int write_page_tables(struct boot *boot, struct impost_x86_layout *layout)
{
	int err;

	err = impost_x86_paging_for(boot->memory, NULL, 0, &boot->paging);
	if (err < 0)
		return err;
	return impost_x86_write_page_tables(boot->memory, layout, &boot->paging, &boot->cr3);
}

static int write_zero_page(const struct boot *boot, const struct impost_x86_layout *layout)
{
	struct impost_x86_e820 e820[IMPOST_X86_E820_MAX];
	struct impost_x86_boot_info info = {
		.size = sizeof(info),
		.e820 = e820,
		.kernel = &boot->result.kernel,
		.initrd = boot->result.initrd.bytes ? &boot->result.initrd : NULL,
		.cmdline = boot->config->cmdline,
	};
	int err;

	err = impost_x86_e820(boot->memory, layout, e820, IMPOST_X86_E820_MAX, &info.e820_count);
	return err < 0 ? err : impost_x86_write_zero_page(boot->memory, &info);
}

int boot_fill_memory(struct boot *boot)
{
	const struct impost_x86_boot_config *config = boot->config;
	struct impost_x86_boot_result *result = &boot->result;
	const struct impost_x86_kernel_want want = {
		.size = sizeof(want),
		.protocol = IMPOST_X86_PROTOCOL_LINUX64,
	};
	struct impost_x86_layout layout;
	int err;

	impost_x86_layout_init(&layout);
	err = impost_x86_kernel_read(boot->ctx, config->kernel_fd, &want, &result->kernel);
	if (err == 0)
		err = impost_x86_kernel_load(boot->memory, &layout, config->kernel_fd,
					     &result->kernel);
	if (err == 0 && config->initrd_fd >= 0)
		err = impost_x86_load_initrd(boot->memory, &layout, config->initrd_fd,
					     &result->kernel, &result->initrd);
	if (err == 0)
		err = write_zero_page(boot, &layout);
	if (err == 0)
		err = impost_x86_write_gdt(boot->memory, IMPOST_X86_MODE_LONG);
	if (err == 0)
		err = write_page_tables(boot, &layout);
	return err;
}
