/* SPDX-License-Identifier: Apache-2.0 */
/* Claiming places, and finding free ones in RAM. */
#include "places.h"
#include "structure.h"

#include <inttypes.h>
#include <string.h>

/* What the first release knew of its struct: a caller's may be shorter or longer than ours. */
#define LEAST_WANT (offsetof(struct impost_x86_want, what) + sizeof(const char *))

/* Words for an error text, or NULL: nothing is wrong with PLACE. */
static const char *wrong_with(uint64_t gpa, uint64_t bytes, uint32_t type)
{
	if (!bytes)
		return "0 bytes";
	if (bytes > UINT64_MAX - gpa)
		return "a range that wraps around";
	switch (type) {
	case 0:
	case IMPOST_X86_E820_RESERVED:
	case IMPOST_X86_E820_ACPI:
	case IMPOST_X86_E820_NVS:
	case IMPOST_X86_E820_UNUSABLE:
	case IMPOST_X86_E820_PMEM:
		return NULL;
	case IMPOST_X86_E820_RAM:
		return "the type RAM, which a region of the memory map makes, not a place";
	default:
		return "an unknown e820 type";
	}
}

static int check_claim(struct impost_context *ctx, const struct impost_x86_layout *layout,
		       const char *what, uint64_t gpa, uint64_t bytes, uint32_t type)
{
	size_t length = what ? strlen(what) : 0, max = sizeof(layout->place[0].what) - 1;
	const char *wrong = wrong_with(gpa, bytes, type);
	int err;

	if (!length || length > max)
		return impost_error_set(ctx, -EINVAL,
					"a place at 0x%" PRIx64
					" has a name of %zu bytes: 1 to %zu can be",
					gpa, length, max);
	if (!layout)
		return impost_error_set(ctx, -EINVAL, "no layout to place the %s in", what);
	err = places_check(ctx, layout);
	if (err < 0)
		return err;
	if (wrong)
		return impost_error_set(ctx, -EINVAL,
					"the %s cannot be placed at 0x%" PRIx64 " (0x%" PRIx64
					" bytes, e820 type %u): it has %s",
					what, gpa, bytes, type, wrong);
	return 0;
}

/* Finds where a place at GPA belongs in LAYOUT, or refuses it for what is there. */
static int find_slot(struct impost_context *ctx, const struct impost_x86_layout *layout,
		     const char *what, uint64_t gpa, uint64_t bytes, uint32_t *ret_slot)
{
	uint32_t slot = 0;

	for (; slot < layout->count; slot++) {
		const struct impost_x86_place *other = &layout->place[slot];

		if (gpa < other->gpa + other->bytes && other->gpa < gpa + bytes)
			return impost_error_set(ctx, -EEXIST,
						"the %s (0x%" PRIx64 " to 0x%" PRIx64
						") would lie over the %s (0x%" PRIx64
						" to 0x%" PRIx64 ")",
						what, gpa, gpa + bytes - 1, other->what, other->gpa,
						other->gpa + other->bytes - 1);
		if (other->gpa > gpa)
			break;
	}
	*ret_slot = slot;
	return 0;
}

int impost_x86_layout_claim(struct impost_context *ctx, struct impost_x86_layout *layout,
			    const char *what, uint64_t gpa, uint64_t bytes, uint32_t type)
{
	struct impost_x86_place place = {.gpa = gpa, .bytes = bytes, .type = type};
	uint32_t slot = 0;
	int err;

	err = check_claim(ctx, layout, what, gpa, bytes, type);
	if (err == 0)
		err = find_slot(ctx, layout, what, gpa, bytes, &slot);
	if (err < 0)
		return err;
	if (layout->count == IMPOST_X86_PLACES_MAX)
		return impost_error_set(ctx, -ENOSPC,
					"there is no room for the %s beside %u places", what,
					IMPOST_X86_PLACES_MAX);
	memcpy(place.what, what, strlen(what));
	memmove(&layout->place[slot + 1], &layout->place[slot],
		(layout->count - slot) * sizeof(place));
	layout->place[slot] = place;
	layout->count++;
	return 0;
}

/* --- finding a place --- */

/* The best place so far, and the most room that any gap had. */
struct search {
	uint64_t bytes;
	uint64_t align;
	struct range allowed;
	uint64_t gpa;
	uint64_t room;
	int found;
};

/* Considers the gap from START to below END. Gaps come in order of address. */
static void consider(struct search *search, uint64_t start, uint64_t end)
{
	uint64_t gpa;

	start = start > search->allowed.start ? start : search->allowed.start;
	end = end < search->allowed.end ? end : search->allowed.end;
	if (start > UINT64_MAX - (search->align - 1))
		return;
	start = (start + search->align - 1) & ~(search->align - 1);
	if (start >= end)
		return;
	if (end - start > search->room)
		search->room = end - start;
	if (end - start < search->bytes)
		return;
	gpa = (end - search->bytes) & ~(search->align - 1);
	search->gpa = gpa;
	search->found = 1;
}

/* Considers all that LAYOUT leaves of a run of RAM. */
static void consider_run(struct search *search, const struct impost_x86_layout *layout,
			 struct range run)
{
	struct range taken;
	uint64_t free = 0; /* behind what was taken so far */
	uint32_t type;

	while (places_next(layout, PLACES_ALL, free, &taken, &type) && taken.start < run.end) {
		if (taken.start > run.start)
			consider(search, free > run.start ? free : run.start, taken.start);
		free = taken.end;
	}
	consider(search, free > run.start ? free : run.start, run.end);
}

/* Takes over what is wanted, with its defaults, and judges it. */
static int take_want(struct impost_context *ctx, const struct impost_x86_layout *layout,
		     const struct impost_x86_want *from, struct impost_x86_want *want)
{
	int err = structure_take(ctx, "impost_x86_want", want, sizeof(*want), from, LEAST_WANT);

	if (err == 0)
		err = check_claim(ctx, layout, want->what, 0, want->bytes, want->type);
	if (err < 0)
		return err;
	if (!want->align)
		want->align = IMPOST_PAGE_SIZE;
	if (!want->max)
		want->max = UINT64_MAX;
	if (want->align & (want->align - 1))
		return impost_error_set(ctx, -EINVAL,
					"the %s asks for an alignment of 0x%" PRIx64
					", which is no power of two",
					want->what, want->align);
	return 0;
}

/* Finds the best place for WANT. */
static int search_ram(struct impost_memory *memory, const struct impost_x86_layout *layout,
		      const struct impost_x86_want *want, struct search *search)
{
	uint32_t cursor = 0;
	struct range run;
	int found;

	*search = (struct search){
		.bytes = want->bytes,
		.align = want->align,
		.allowed = {want->min, want->max < UINT64_MAX ? want->max + 1 : UINT64_MAX},
	};
	while ((found = ram_next(memory, &cursor, &run)) > 0)
		consider_run(search, layout, run);
	return found;
}

int impost_x86_layout_place(struct impost_memory *memory, struct impost_x86_layout *layout,
			    const struct impost_x86_want *want, uint64_t *ret_gpa)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct impost_x86_want whole;
	struct search search;
	int err;

	err = take_want(ctx, layout, want, &whole);
	if (err < 0)
		return err;
	err = search_ram(memory, layout, &whole, &search);
	if (err < 0)
		return err;
	if (!search.found)
		return impost_error_set(ctx, -EFBIG,
					"the %s needs %" PRIu64 " bytes of RAM from 0x%" PRIx64
					" to 0x%" PRIx64 "; beside what is taken there are %" PRIu64
					" in one piece: give the guest more memory",
					whole.what, whole.bytes, whole.min, whole.max, search.room);
	err = impost_x86_layout_claim(ctx, layout, whole.what, search.gpa, whole.bytes, whole.type);
	if (err == 0)
		*ret_gpa = search.gpa;
	return err;
}
