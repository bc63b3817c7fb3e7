/* SPDX-License-Identifier: Apache-2.0 */
/* Laying out RAM around the hole below 4 GiB, where a PC has its devices. */
#include <inttypes.h>

#include <impost/x86_64/boot.h>

static int add(struct impost_memory *memory, uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {
		.size = sizeof(region),
		.kind = IMPOST_REGION_ANONYMOUS,
		.gpa = gpa,
		.bytes = bytes,
	};

	return impost_memory_add(memory, &region);
}

int impost_x86_add_ram(struct impost_memory *memory, uint64_t bytes)
{
	uint64_t low = bytes < IMPOST_X86_HOLE_START ? bytes : IMPOST_X86_HOLE_START;
	int err;

	if (!bytes || bytes % IMPOST_PAGE_SIZE)
		return impost_error_set(impost_memory_context(memory), -EINVAL,
					"%" PRIu64 " bytes of RAM: must be a multiple of %u, not 0",
					bytes, IMPOST_PAGE_SIZE);
	err = add(memory, 0, low);
	if (err < 0 || bytes == low)
		return err;
	err = add(memory, IMPOST_X86_HOLE_END, bytes - low);
	if (err < 0)
		impost_memory_remove(memory, 0);
	return err;
}
