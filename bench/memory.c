/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures guest memory, as it is asked (cases.h).
 *
 *   bench-memory      the cases are in memory_access.c, _pages.c, _dirty.c and _swap.c
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>

int make_regions(struct impost_context *ctx, uint32_t count, uint64_t bytes,
		 struct impost_memory **ret_memory)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .bytes = bytes,
				       .flags = IMPOST_REGION_NORESERVE};
	struct impost_memory *memory;
	int err = impost_memory_create(ctx, &memory);

	if (err)
		return fprintf(stderr, "a map: %s\n", impost_error(ctx)), err;
	for (uint32_t i = 0; i < count && !err; i++) {
		region.gpa = i * bytes;
		err = impost_memory_add(memory, &region);
	}
	if (err) {
		fprintf(stderr, "a region: %s\n", impost_error(ctx));
		impost_memory_destroy(memory);
		return err;
	}
	*ret_memory = memory;
	return 0;
}

int main(void)
{
	static const struct bench_case *const lists[] = {access_cases, page_cases, dirty_cases,
							 swap_cases};
	struct impost_context *ctx;
	int err;

	if (impost_context_open(NULL, NULL, &ctx))
		return EXIT_FAILURE;
	err = take_cases(ctx, lists, sizeof(lists) / sizeof(lists[0]));
	access_cases_end();
	page_cases_end();
	dirty_cases_end();
	impost_context_close(ctx);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
