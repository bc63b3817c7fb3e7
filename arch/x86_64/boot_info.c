/* SPDX-License-Identifier: Apache-2.0 */
/* Judging what the guest is to be told, before it is written. */
#include "boot_info.h"
#include "structure.h"

#include <inttypes.h>
#include <string.h>

/* What the first release knew: a caller's may be shorter or longer than ours. */
#define LEAST_INFO   (offsetof(struct impost_x86_boot_info, rsdp) + sizeof(uint64_t))

#define LIMIT_32_BIT UINT64_C(0x100000000)

/* Takes INFO over, with its default, and judges what both ways need. */
static int take_info(struct impost_context *ctx, const struct impost_x86_boot_info *info,
		     struct impost_x86_boot_info *taken)
{
	int err = structure_take(ctx, "impost_x86_boot_info", taken, sizeof(*taken), info,
				 LEAST_INFO);

	if (err < 0)
		return err;
	if (!taken->kernel || !taken->e820 || !taken->e820_count)
		return impost_error_set(ctx, -EINVAL, "boot info without %s",
					taken->kernel ? "an e820 map" : "a kernel");
	if (taken->e820_count > IMPOST_X86_E820_MAX)
		return impost_error_set(ctx, -ENOSPC,
					"the e820 map has %u entries, the guest has room for %u",
					taken->e820_count, IMPOST_X86_E820_MAX);
	if (!taken->cmdline)
		taken->cmdline = "";
	return 0;
}

int boot_info_write(struct impost_memory *memory, const struct impost_x86_boot_info *info,
		    const struct boot_info_block *way)
{
	struct impost_context *ctx = impost_memory_context(memory);
	_Alignas(uint64_t) uint8_t block[BOOT_INFO_BLOCK_MAX];
	struct impost_x86_boot_info whole;
	size_t bytes;
	int err;

	err = take_info(ctx, info, &whole);
	if (err == 0)
		err = way->check(ctx, &whole);
	if (err < 0)
		return err;
	/* Is there memory for the block? Else the command line would be written alone. */
	err = impost_memory_read(memory, way->gpa, block, sizeof(block));
	if (err < 0)
		return err;
	memset(block, 0, sizeof(block));
	bytes = way->fill(block, &whole);
	err = impost_x86_write_cmdline(memory, whole.kernel, whole.cmdline);
	return err < 0 ? err : impost_memory_write(memory, way->gpa, block, bytes);
}

int boot_info_check_initrd(struct impost_context *ctx, const struct impost_x86_boot_info *info)
{
	const struct impost_x86_initrd *initrd = info->initrd;

	if (!initrd || (initrd->gpa < LIMIT_32_BIT && initrd->bytes <= LIMIT_32_BIT - initrd->gpa))
		return 0;
	return impost_error_set(ctx, -EINVAL,
				"the initrd, %" PRIu64 " bytes at 0x%" PRIx64
				", must end below 4 GiB for the protocol %s",
				initrd->bytes, initrd->gpa,
				impost_x86_protocol_name(info->kernel->protocol));
}
