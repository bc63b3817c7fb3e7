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

/* Adds PART, made as LIKE says; one of a file is what lies behind BEFORE bytes of RAM there. */
static int add(struct impost_memory *memory, const struct impost_region *like,
	       const struct impost_x86_range *part, uint64_t before)
{
	struct impost_region region = *like;

	region.gpa = part->gpa;
	region.bytes = part->bytes;
	if (region.kind == IMPOST_REGION_FILE)
		region.fd_offset = before;
	return part->bytes ? impost_memory_add(memory, &region) : 0;
}

/* Adds PARTS, the first made as FIRST says, the second as LIKE. */
static int add_parts(struct impost_memory *memory, const struct impost_region *first,
		     const struct impost_region *like, const struct impost_x86_range parts[2])
{
	int err = add(memory, first, &parts[0], 0);

	if (err < 0)
		return err;
	err = add(memory, like, &parts[1], parts[0].bytes);
	if (err < 0)
		impost_memory_remove(memory, parts[0].gpa);
	return err;
}

/*
 * Adds two parts with all their pages. The first is only reserved until the second is there: more
 * than the host has is refused before a page was touched, and with the sum of both.
 */
static int add_prefaulted(struct impost_memory *memory, const struct impost_region *like,
			  const struct impost_x86_range parts[2])
{
	struct impost_region reserved = *like;
	int err;

	reserved.flags &= ~(IMPOST_REGION_PREFAULT | IMPOST_REGION_NORESERVE);
	err = add_parts(memory, &reserved, like, parts);
	if (err < 0)
		return err;
	err = impost_memory_remove(memory, parts[0].gpa);
	if (err == 0)
		err = add(memory, like, &parts[0], 0);
	if (err < 0)
		impost_memory_remove(memory, parts[1].gpa);
	return err;
}

int impost_x86_add_ram(struct impost_memory *memory, uint64_t bytes)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct impost_region like = {.size = sizeof(like)};
	struct impost_x86_range parts[2];
	int err;

	if (!bytes || is_misaligned(bytes))
		return impost_error_set(ctx, -EINVAL,
					"%" PRIu64 " bytes of RAM: must be a multiple of %u, not 0",
					bytes, IMPOST_PAGE_SIZE);
	if (impost_x86_split_ram(bytes, IMPOST_X86_HOLE_START, IMPOST_X86_HOLE_END, parts) < 0)
		return impost_error_set(ctx, -EINVAL,
					"%" PRIu64 " bytes of RAM: with the hole below 4 GiB they "
					"would end above 2^64",
					bytes);
	err = impost_region_fill(ctx, &like);
	if (err < 0)
		return err;
	like.flags |= IMPOST_REGION_NORESERVE;
	return like.flags & IMPOST_REGION_PREFAULT && parts[1].bytes
		       ? add_prefaulted(memory, &like, parts)
		       : add_parts(memory, &like, &like, parts);
}
