/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of bench-memory: look-ups, copies and objects, and the plain accesses they are held to. */
#include "memory.h"

#include <stdio.h>
#include <string.h>

#include "timing.h"

/* Host memory with its bounds: the least that a checked access can be. */
struct bounded {
	uint8_t *hva;
	uint64_t bytes;
};

enum place { IN_FIRST, IN_LAST, IN_TURNS, ACROSS_FIRST, ACROSS_LAST };

/* One for all copies, away from where in their pages those begin and end: a CPU holds loads back
 * that agree with a store under way in the last 12 bits of their addresses. */
static struct {
	uint8_t before[1024];
	uint8_t bytes[COPY_BYTES];
} __attribute__((aligned(4096))) copied;

enum find { FIND_BASES, FIND_ANY, FIND_ANY_FAR };

static struct impost_memory *find_memory, *far_memory, *copy_memory;

void access_cases_end(void)
{
	impost_memory_destroy(find_memory);
	impost_memory_destroy(far_memory);
	impost_memory_destroy(copy_memory);
}

static int make_copy_memory(struct impost_context *ctx)
{
	return copy_memory ? 0 : make_regions(ctx, COPY_REGIONS, COPY_REGION, &copy_memory);
}

/* A view of the memory that copies and objects are in. */
static int begin_copies(struct impost_context *ctx, struct impost_view *ret_view)
{
	if (make_copy_memory(ctx))
		return -1;
	return impost_view_begin(copy_memory, ret_view) ? failed(ctx, "a view") : 0;
}

/* --- look-ups --- */

/* The addresses to look up; returns how many. */
static uint32_t find_addresses(int random, uint64_t *addresses)
{
	uint64_t state = 1;
	uint32_t count = random ? FIND_RANDOM : FIND_REGIONS;

	for (uint32_t i = 0; i < count; i++)
		addresses[i] = random ? random_below(&state, FIND_REGIONS * FIND_BYTES)
				      : i * FIND_BYTES;
	return count;
}

/* The memory to look up in: the regions, and for FIND_ANY_FAR a page far from them. */
static struct impost_memory *find_in(struct impost_context *ctx, enum find find)
{
	const struct impost_region far = {.size = sizeof(far),
					  .kind = IMPOST_REGION_ANONYMOUS,
					  .gpa = FIND_FAR,
					  .bytes = IMPOST_PAGE_SIZE};
	struct impost_memory **memory = find == FIND_ANY_FAR ? &far_memory : &find_memory;

	if (*memory || make_regions(ctx, FIND_REGIONS, FIND_BYTES, memory))
		return *memory;
	if (find == FIND_ANY_FAR && impost_memory_add(*memory, &far)) {
		failed(ctx, "a region");
		impost_memory_destroy(*memory);
		*memory = NULL;
	}
	return *memory;
}

static int take_find(struct impost_context *ctx, uint32_t find, double ret[MAX_NUMBERS])
{
	static uint64_t addresses[FIND_RANDOM];
	uint32_t count = find_addresses(find != FIND_BASES, addresses);
	struct impost_memory *memory = find_in(ctx, find);
	struct impost_view view;
	double start;
	int err = 0;

	if (!memory)
		return -1;
	if (impost_view_begin(memory, &view))
		return failed(ctx, "a view");
	start = now_ns();
	for (uint32_t turn = 0; turn < FIND_TURNS; turn++)
		for (uint32_t i = 0; i < count; i++) {
			void *hva = NULL;

			err |= impost_view_ptr(&view, opaque(addresses[i]), 1, &hva);
			opaque((uintptr_t)hva);
		}
	ret[0] = (now_ns() - start) / (FIND_TURNS * count);
	impost_view_end(&view);
	return err ? failed(ctx, "a look-up") : 0;
}

/* --- copies --- */

static uint32_t copy_addresses(enum place place, uint64_t addresses[COPY_REGIONS])
{
	const uint64_t half = COPY_BYTES / 2, last = (COPY_REGIONS - 1) * COPY_REGION;
	const uint64_t one[] = {[IN_FIRST] = 0,
				[IN_LAST] = last,
				[ACROSS_FIRST] = COPY_REGION - half,
				[ACROSS_LAST] = last - half};

	if (place != IN_TURNS) {
		addresses[0] = one[place];
		return 1;
	}
	for (uint32_t i = 0; i < COPY_REGIONS; i++)
		addresses[i] = i * COPY_REGION;
	return COPY_REGIONS;
}

/* A place, and whether it is written. */
static int take_copy(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	uint64_t addresses[COPY_REGIONS];
	uint32_t count = copy_addresses(arg / 2, addresses), writes = arg % 2;
	struct impost_view view;
	uint8_t *buf = copied.bytes;
	double start;
	int err = 0;

	if (begin_copies(ctx, &view))
		return -1;
	memset(buf, 0x5a, COPY_BYTES);
	opaque((uintptr_t)buf);
	start = now_ns();
	for (uint32_t turn = 0; turn < COPIES / count; turn++)
		for (uint32_t i = 0; i < count; i++) {
			uint64_t gpa = opaque(addresses[i]), bytes = opaque(COPY_BYTES);

			err |= writes ? impost_view_write(&view, gpa, buf, bytes)
				      : impost_view_read(&view, gpa, buf, bytes);
			opaque((uintptr_t)buf);
		}
	ret[0] = (now_ns() - start) / COPIES;
	impost_view_end(&view);
	return err ? failed(ctx, "a copy") : 0;
}

/* The host addresses of both halves of each copy. */
static int host_halves(struct impost_context *ctx, const uint64_t *addresses, uint32_t count,
		       void *halves[][2])
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t half = 0; half < 2; half++)
			if (impost_memory_ptr(copy_memory,
					      addresses[i] + half * (uint64_t)(COPY_BYTES / 2),
					      COPY_BYTES / 2, &halves[i][half]))
				return failed(ctx, "memory");
	return 0;
}

/* What the copies cost with host pointers: one memcpy in a region, two across a border. */
static int take_memcpy(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	enum place place = arg / 2;
	uint64_t addresses[COPY_REGIONS];
	void *halves[COPY_REGIONS][2];
	uint32_t count = copy_addresses(place, addresses);
	uint64_t part = place >= ACROSS_FIRST ? COPY_BYTES / 2 : COPY_BYTES;
	uint32_t parts = COPY_BYTES / (uint32_t)part, writes = arg % 2;
	uint8_t *buf = copied.bytes;
	double start;

	if (make_copy_memory(ctx) || host_halves(ctx, addresses, count, halves))
		return -1;
	memset(buf, 0x5a, COPY_BYTES);
	opaque((uintptr_t)buf);
	start = now_ns();
	for (uint32_t turn = 0; turn < COPIES / count; turn++)
		for (uint32_t i = 0; i < count; i++)
			for (uint32_t half = 0; half < parts; half++) {
				uint8_t *at = (uint8_t *)opaque((uintptr_t)halves[i][half]);
				uint8_t *mine = buf + half * part;

				memcpy(writes ? at : mine, writes ? mine : at, opaque(part));
				opaque((uintptr_t)buf);
			}
	ret[0] = (now_ns() - start) / COPIES;
	return 0;
}

/* --- objects --- */

static int take_object_read(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_view view;
	double start;
	int err = 0;

	(void)arg;
	if (begin_copies(ctx, &view))
		return -1;
	start = now_ns();
	for (uint32_t turn = 0; turn < OBJECT_TURNS; turn++)
		for (uint64_t i = 0; i < OBJECTS; i++) {
			uint64_t value = 0;

			err |= impost_view_read_u64(&view, opaque(i * 8), &value);
			opaque(value);
		}
	ret[0] = (now_ns() - start) / (OBJECT_TURNS * OBJECTS);
	impost_view_end(&view);
	return err ? failed(ctx, "an object") : 0;
}

static int take_object_write(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_view view;
	double start;
	int err = 0;

	(void)arg;
	if (begin_copies(ctx, &view))
		return -1;
	start = now_ns();
	for (uint32_t turn = 0; turn < OBJECT_TURNS; turn++)
		for (uint64_t i = 0; i < OBJECTS; i++)
			err |= impost_view_write_u64(&view, opaque(i * 8), i);
	ret[0] = (now_ns() - start) / (OBJECT_TURNS * OBJECTS);
	impost_view_end(&view);
	return err ? failed(ctx, "an object") : 0;
}

/* A word of MEMORY; NULL: out of its bounds. */
static inline uint64_t *bounded_at(const struct bounded *memory, uint64_t offset)
{
	if (offset >= memory->bytes || sizeof(uint64_t) > memory->bytes - offset)
		return NULL;
	return (uint64_t *)(void *)(memory->hva + offset);
}

static int take_bounded(struct impost_context *ctx, uint32_t writes, double ret[MAX_NUMBERS])
{
	struct bounded memory = {.bytes = COPY_REGION};
	uint64_t missed = 0;
	void *hva = NULL;
	double start;

	if (make_copy_memory(ctx) || impost_memory_ptr(copy_memory, 0, COPY_REGION, &hva))
		return failed(ctx, "memory");
	memory.hva = hva;
	opaque((uintptr_t)&memory);
	start = now_ns();
	for (uint32_t turn = 0; turn < OBJECT_TURNS; turn++)
		for (uint64_t i = 0; i < OBJECTS; i++) {
			uint64_t *at = bounded_at(&memory, opaque(i * 8));

			if (!at)
				missed++;
			else if (writes)
				__atomic_store_n(at, i, __ATOMIC_RELAXED);
			else
				opaque(__atomic_load_n(at, __ATOMIC_RELAXED));
		}
	ret[0] = (now_ns() - start) / (OBJECT_TURNS * OBJECTS);
	return missed ? -1 : 0;
}

/* --- calls that are views of their own --- */

static int take_one_shot(struct impost_context *ctx, uint32_t writes, double ret[MAX_NUMBERS])
{
	double start;
	int err = 0;

	if (make_copy_memory(ctx))
		return -1;
	start = now_ns();
	for (uint32_t turn = 0; turn < OBJECT_TURNS; turn++)
		for (uint64_t i = 0; i < OBJECTS; i++) {
			uint64_t value = i;

			if (writes)
				err |= impost_memory_write(copy_memory, opaque(i * 8), &value,
							   sizeof(value));
			else
				err |= impost_memory_read(copy_memory, opaque(i * 8), &value,
							  sizeof(value));
			opaque(value);
		}
	ret[0] = (now_ns() - start) / (OBJECT_TURNS * OBJECTS);
	return err ? failed(ctx, "an object") : 0;
}

#define COPY_CASES(name, place)                                    \
	{"copy-read-" name, take_copy, (place)*2u},                \
		{"copy-write-" name, take_copy, (place)*2u + 1u},  \
		{"memcpy-read-" name, take_memcpy, (place)*2u},    \
	{                                                          \
		"memcpy-write-" name, take_memcpy, (place)*2u + 1u \
	}

const struct bench_case access_cases[] = {
	{"find-bases", take_find, FIND_BASES},
	{"find-random", take_find, FIND_ANY},
	{"find-far", take_find, FIND_ANY_FAR},
	COPY_CASES("in-first", IN_FIRST),
	COPY_CASES("in-last", IN_LAST),
	COPY_CASES("in-turns", IN_TURNS),
	COPY_CASES("across-first", ACROSS_FIRST),
	COPY_CASES("across-last", ACROSS_LAST),
	{"object-read", take_object_read, 0},
	{"object-write", take_object_write, 0},
	{"bounded-read", take_bounded, 0},
	{"bounded-write", take_bounded, 1},
	{"one-shot-read", take_one_shot, 0},
	{"one-shot-write", take_one_shot, 1},
	{NULL, NULL, 0},
};
