/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line. */
#include <string.h>

#include <impost/x86_64/boot.h>

int impost_x86_write_cmdline(struct impost_memory *memory, const struct impost_x86_kernel *kernel,
			     const char *cmdline)
{
	uint64_t max = kernel->cmdline_max;
	size_t bytes = strlen(cmdline);

	if (max > IMPOST_X86_CMDLINE_MAX - 1)
		max = IMPOST_X86_CMDLINE_MAX - 1;
	if (bytes > max)
		return impost_error_set(impost_memory_context(memory), -E2BIG,
					"the command line has %zu bytes, the kernel takes %zu",
					bytes, (size_t)max);
	return impost_memory_write(memory, IMPOST_X86_CMDLINE_ADDR, cmdline, bytes + 1);
}
