/* SPDX-License-Identifier: Apache-2.0 */
/* What [memory] of the configuration says the guest's RAM is made of. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "region.h"
#include "text.h"

#define LEAST_REGION ABI_UP_TO(struct impost_region, reserved2)

/* Words of the configuration and what they stand for. */
struct word {
	const char *word;
	uint64_t value;
};

static const struct word backings[] = {
	{"anonymous", IMPOST_REGION_ANONYMOUS},
	{"memfd", IMPOST_REGION_MEMFD},
	{"file", IMPOST_REGION_FILE},
	{NULL, 0},
};
static const struct word pages[] = {
	{"4K", IMPOST_PAGE_SIZE},
	{"2M", IMPOST_PAGE_2M},
	{"1G", IMPOST_PAGE_1G},
	{NULL, 0},
};
static const struct word policies[] = {
	{"default", IMPOST_NUMA_DEFAULT},
	{"preferred", IMPOST_NUMA_PREFERRED},
	{"bind", IMPOST_NUMA_BIND},
	{"interleave", IMPOST_NUMA_INTERLEAVE},
	{NULL, 0},
};

bool config_parse_nodes(const char *text, uint64_t *ret_nodes)
{
	uint64_t nodes = 0;

	for (;; text++) {
		char *end;
		unsigned long first, last;

		if (text[0] < '0' || text[0] > '9')
			return false;
		first = last = strtoul(text, &end, 10);
		if (end[0] == '-' && end[1] >= '0' && end[1] <= '9')
			last = strtoul(end + 1, &end, 10);
		if (first > last || last > 63 || (end[0] && end[0] != ','))
			return false;
		nodes |= (UINT64_MAX >> (63 - (last - first))) << first;
		text = end;
		if (!end[0])
			break;
	}
	*ret_nodes = nodes;
	return true;
}

/* The value of KEY, which has been checked to be one of WORDS; 0 where it has none. */
static uint64_t value_of(struct impost_context *ctx, const char *key, const struct word *words)
{
	const char *text = config_get(ctx, "memory", key);

	while (text && words->word && strcmp(words->word, text) != 0)
		words++;
	return text ? words->value : 0;
}

static void fill_locked(struct impost_context *ctx, struct impost_region *region)
{
	const char *nodes = config_get(ctx, "memory", "numa_nodes");

	*region = (struct impost_region){
		.kind = (uint32_t)value_of(ctx, "backing", backings),
		.page_bytes = value_of(ctx, "pages", pages),
		.fd = -1,
		.numa_policy = (uint32_t)value_of(ctx, "numa_policy", policies),
		.path = config_get(ctx, "memory", "path"),
	};
	if (nodes)
		config_parse_nodes(nodes, &region->numa_nodes);
	if (config_bool(ctx, "memory", "shared"))
		region->flags |= IMPOST_REGION_SHARED;
	if (config_bool(ctx, "memory", "prefault"))
		region->flags |= IMPOST_REGION_PREFAULT;
}

/* Keys that need others; the tool's options of the same meaning are named, too. */
static int check_filled(struct impost_context *ctx, const struct impost_region *region)
{
	bool file = region->kind == IMPOST_REGION_FILE;

	if (file && !region->path)
		return impost_error_set(ctx, -EINVAL,
					"[memory] backing = file: of which file? Set path "
					"(--memory-path) too");
	if (!file && region->path)
		return impost_error_set(
			ctx, -EINVAL,
			"[memory] path (--memory-path) is for backing = file alone: "
			"set that (--memory-backing file) too");
	if (region->kind == IMPOST_REGION_ANONYMOUS && region->flags & IMPOST_REGION_SHARED)
		return impost_error_set(
			ctx, -EINVAL,
			"[memory] shared (--memory-shared): anonymous memory cannot "
			"be shared: set backing = memfd or file (--memory-backing) "
			"too");
	if (region->numa_policy && !region->numa_nodes)
		return impost_error_set(ctx, -EINVAL,
					"[memory] numa_policy (--numa-policy): on which nodes? Set "
					"numa_nodes (--numa-nodes) too");
	if (!region->numa_policy && region->numa_nodes)
		return impost_error_set(ctx, -EINVAL,
					"[memory] numa_nodes (--numa-nodes) and no policy: set "
					"numa_policy (--numa-policy) too");
	return 0;
}

int impost_region_fill(struct impost_context *ctx, struct impost_region *region)
{
	int err = context_forked(ctx) ? context_refuse_fork(ctx) : 0;
	struct impost_region filled;

	if (!err)
		err = abi_check(ctx, "impost_region", region, LEAST_REGION);
	if (err)
		return err;
	pthread_mutex_lock(&ctx->lock);
	fill_locked(ctx, &filled);
	pthread_mutex_unlock(&ctx->lock);
	err = check_filled(ctx, &filled);
	if (!err)
		abi_give(region, &filled, sizeof(filled));
	return err;
}

int region_add_configured(struct impost_memory *memory, uint64_t gpa, uint64_t bytes,
			  uint32_t flags, uint32_t without, uint64_t *file_offset)
{
	struct impost_region add = {.size = sizeof(add), .kind = IMPOST_REGION_ANONYMOUS};
	const bool ram = !(flags & IMPOST_REGION_READONLY);
	int err = ram ? impost_region_fill(memory->ctx, &add) : 0;

	if (err)
		return err;
	add.gpa = gpa;
	add.bytes = bytes;
	add.flags = (add.flags & ~without) | flags;
	if (add.kind == IMPOST_REGION_FILE)
		add.fd_offset = *file_offset;
	err = impost_memory_add(memory, &add);
	if (!err && add.kind == IMPOST_REGION_FILE)
		*file_offset += bytes;
	return err;
}
