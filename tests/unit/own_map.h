/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of guest memory without a VM share: a context and an empty map, for each test. */
#ifndef TESTS_UNIT_OWN_MAP_H
#define TESTS_UNIT_OWN_MAP_H

#include "core.h"

static struct impost_context *ctx;
static struct impost_memory *memory;

static void begin(void)
{
	ctx = open_context();
	expect_ok(ctx, impost_memory_create(ctx, &memory));
}

static void end(void)
{
	impost_memory_destroy(memory);
	cr_expect(impost_context_close(ctx) == 0);
}

#endif
