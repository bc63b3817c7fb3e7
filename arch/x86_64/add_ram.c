/* SPDX-License-Identifier: Apache-2.0 */
/* Laying out RAM around the hole below 4 GiB, where a PC has its devices. */
#include <inttypes.h>

#include <impost/x86_64/layout.h>

static uint64_t is_misaligned(uint64_t value)
{
	return value % IMPOST_PAGE_SIZE;
}

int impost_x86_split_ram(uint64_t bytes, uint64_t hole_start, uint64_t hole_end,
			 struct impost_x86_range ret_parts[2])
{
	uint64_t low = bytes < hole_start ? bytes : hole_start;

	if (!bytes || !hole_start || hole_end < hole_start)
		return -EINVAL;
	if (is_misaligned(bytes) || is_misaligned(hole_start) || is_misaligned(hole_end))
		return -EINVAL;
	if (bytes - low > UINT64_MAX - hole_end)
		return -EINVAL;
	ret_parts[0] = (struct impost_x86_range){0, low};
	ret_parts[1] = (struct impost_x86_range){hole_end, bytes - low};
	return 0;
}

static int add(struct impost_memory *memory, const struct impost_x86_range *part)
{
	struct impost_region region = {
		.size = sizeof(region),
		.kind = IMPOST_REGION_ANONYMOUS,
		.gpa = part->gpa,
		.bytes = part->bytes,
		.flags = IMPOST_REGION_NORESERVE,
	};

	return part->bytes ? impost_memory_add(memory, &region) : 0;
}

int impost_x86_add_ram(struct impost_memory *memory, uint64_t bytes)
{
	struct impost_x86_range parts[2];
	int err;

	if (!bytes || is_misaligned(bytes))
		return impost_error_set(impost_memory_context(memory), -EINVAL,
					"%" PRIu64 " bytes of RAM: must be a multiple of %u, not 0",
					bytes, IMPOST_PAGE_SIZE);
	if (impost_x86_split_ram(bytes, IMPOST_X86_HOLE_START, IMPOST_X86_HOLE_END, parts) < 0)
		return impost_error_set(impost_memory_context(memory), -EINVAL,
					"%" PRIu64 " bytes of RAM: with the hole below 4 GiB they "
					"would end above 2^64",
					bytes);
	err = add(memory, &parts[0]);
	if (err < 0)
		return err;
	err = add(memory, &parts[1]);
	if (err < 0)
		impost_memory_remove(memory, 0);
	return err;
}
