/* SPDX-License-Identifier: Apache-2.0 */
/* What booting puts into memory: the kernel, its initrd, and what they are told. */
#include "boot_steps.h"

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
		err = impost_x86_write_page_tables(boot->memory, &boot->cr3);
	return err;
}
