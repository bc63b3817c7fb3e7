/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures guest memory: reads the name of a case from each line of its input, takes it once, and
 * answers with a line of numbers. bench/run asks this program and its peers in turns.
 *
 *   bench-memory      the cases are in memory_access.c, _pages.c, _dirty.c and _swap.c
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int failed(struct impost_context *ctx, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, impost_error(ctx));
	return -1;
}

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

static const struct memory_case *find_case(const char *name)
{
	static const struct memory_case *const lists[] = {access_cases, page_cases, dirty_cases,
							  swap_cases};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (const struct memory_case *at = lists[i]; at->name; at++)
			if (strcmp(at->name, name) == 0)
				return at;
	fprintf(stderr, "bench-memory: what is %s?\n", name);
	return NULL;
}

static int answer(struct impost_context *ctx, const char *name)
{
	const struct memory_case *at = find_case(name);
	double numbers[MAX_NUMBERS] = {0};

	if (!at || at->take(ctx, at->arg, numbers))
		return -1;
	for (uint32_t i = 0; i < MAX_NUMBERS; i++)
		printf("%.3f%c", numbers[i], i == MAX_NUMBERS - 1 ? '\n' : ' ');
	return fflush(stdout) ? -1 : 0;
}

int main(void)
{
	struct impost_context *ctx;
	char line[64];
	int err = 0;

	if (impost_context_open(NULL, NULL, &ctx))
		return EXIT_FAILURE;
	while (!err && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		err = answer(ctx, line);
	}
	access_cases_end();
	page_cases_end();
	dirty_cases_end();
	impost_context_close(ctx);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
