/* SPDX-License-Identifier: Apache-2.0 */
/* See cases.h. */
#include "cases.h"

#include <stdio.h>
#include <string.h>

int failed(struct impost_context *ctx, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, impost_error(ctx));
	return -1;
}

static const struct bench_case *find_case(const struct bench_case *const *lists, uint32_t count,
					  const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		for (const struct bench_case *at = lists[i]; at->name; at++)
			if (strcmp(at->name, name) == 0)
				return at;
	fprintf(stderr, "there is no case %s\n", name);
	return NULL;
}

static int answer(struct impost_context *ctx, const struct bench_case *at)
{
	double numbers[MAX_NUMBERS] = {0};

	if (!at || at->take(ctx, at->arg, numbers))
		return -1;
	for (uint32_t i = 0; i < MAX_NUMBERS; i++)
		printf("%.3f%c", numbers[i], i == MAX_NUMBERS - 1 ? '\n' : ' ');
	return fflush(stdout) ? -1 : 0;
}

int take_cases(struct impost_context *ctx, const struct bench_case *const *lists, uint32_t count)
{
	char line[64];
	int err = 0;

	while (!err && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		err = answer(ctx, find_case(lists, count, line));
	}
	return err;
}
