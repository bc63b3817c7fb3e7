/* SPDX-License-Identifier: Apache-2.0 */
/* Where guest RAM lies: the only walk over a map's regions in this folder. */
#include "ram.h"

#include <inttypes.h>
#include <stdio.h>

/* Gives region INDEX; returns 1, 0 when there is none, or an error. */
static int region_at(struct impost_memory *memory, uint32_t index, struct impost_region *ret_region)
{
	int err;

	*ret_region = (struct impost_region){.size = sizeof(*ret_region)};
	err = impost_memory_get(memory, index, ret_region);
	if (err == -ENOENT)
		return 0;
	return err < 0 ? err : 1;
}

int ram_next(struct impost_memory *memory, uint32_t *cursor, struct range *ret_run)
{
	struct range run = {0, 0};
	struct impost_region region;
	uint32_t index;
	int found;

	for (index = *cursor;; index++) {
		found = region_at(memory, index, &region);
		if (found < 0)
			return found;
		if (found && run.end && region.gpa != run.end)
			break;
		if (!found || (region.flags & IMPOST_REGION_READONLY)) {
			if (!found || run.end)
				break;
			continue;
		}
		if (!run.end)
			run.start = region.gpa;
		/* A region may end where the address space does. */
		if (__builtin_add_overflow(region.gpa, region.bytes, &run.end))
			run.end = UINT64_MAX;
	}
	*cursor = index;
	if (!run.end)
		return 0;
	*ret_run = run;
	return 1;
}

/* Writes the first runs of RAM into TEXT: as many as there is room for. */
static void describe(struct impost_memory *memory, char *text, size_t size)
{
	uint32_t cursor = 0;
	struct range run;
	size_t used = 0;
	int n;

	snprintf(text, size, "none");
	while (ram_next(memory, &cursor, &run) > 0) {
		n = snprintf(text + used, size - used, "%s0x%" PRIx64 " to 0x%" PRIx64,
			     used ? ", " : "", run.start, run.end - 1);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

int ram_check(struct impost_memory *memory, const char *what, struct range want)
{
	uint32_t cursor = 0;
	struct range run;
	char have[256];
	int found;

	while ((found = ram_next(memory, &cursor, &run)) > 0) {
		if (run.start <= want.start && want.end <= run.end)
			return 0;
	}
	if (found < 0)
		return found;
	describe(memory, have, sizeof(have));
	return impost_error_set(impost_memory_context(memory), -EFAULT,
				"%s needs guest memory from 0x%" PRIx64 " to 0x%" PRIx64
				", but the RAM is: %s; give the guest more memory",
				what, want.start, want.end - 1, have);
}
