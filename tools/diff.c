// SPDX-License-Identifier: Apache-2.0
/* impost diff: in what two snapshots differ, by the names of registers and by ranges of memory. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "row.h"
#include "snapshots.h"

/* Bytes of memory that are read at a time. */
#define CHUNK (1u << 20)

/* Two snapshots that are compared. */
struct comparison {
	const struct invocation *invocation;
	struct impost_snapshot *snapshots[2];
	struct json_object *differences, *memory; /* NULL: text */
	uint64_t count;
	/* Memory that differs, and was not told yet: ranges grow. */
	struct impost_range range;
	uint8_t *bytes[2];
};

/* --- state --- */

static void on_difference(void *opaque, const char *section, const char *path, const char *a,
			  const char *b)
{
	const struct comparison *comparison = opaque;

	ROW_TELL(comparison->differences, stdout, {"section", section, 10, " ", false},
		 {"path", path, 28, " ", true}, {"a", a, 18, " ", false}, {"b", b, 0, "", false});
}

static int compare_state(struct comparison *comparison)
{
	int count = impost_state_diff(impost_snapshot_state(comparison->snapshots[0]),
				      impost_snapshot_state(comparison->snapshots[1]),
				      on_difference, comparison);

	if (count > 0)
		comparison->count += (uint64_t)count;
	return count < 0 ? count : 0;
}

/* --- memory --- */

/* Tells of the range that was found last. */
static void tell_range(struct comparison *comparison)
{
	const struct impost_range *range = &comparison->range;
	struct json_object *object;

	if (!range->bytes)
		return;
	comparison->count++;
	if (comparison->memory) {
		object = json_object_new_object();
		json_add_uint(object, "gpa", range->gpa);
		json_add_uint(object, "bytes", range->bytes);
		json_object_array_add(comparison->memory, object);
	} else {
		printf("%-10s 0x%" PRIx64 "-0x%" PRIx64 " (%" PRIu64 " page%s)\n", "memory",
		       range->gpa, range->gpa + range->bytes - 1, range->bytes / IMPOST_PAGE_SIZE,
		       range->bytes == IMPOST_PAGE_SIZE ? "" : "s");
	}
	comparison->range.bytes = 0;
}

static void add_range(struct comparison *comparison, uint64_t gpa, uint64_t bytes)
{
	struct impost_range *range = &comparison->range;

	if (range->bytes && range->gpa + range->bytes == gpa) {
		range->bytes += bytes;
		return;
	}
	tell_range(comparison);
	*range = (struct impost_range){.gpa = gpa, .bytes = bytes};
}

static void compare_pages(struct comparison *comparison, uint64_t gpa, uint64_t bytes)
{
	const uint8_t *a = comparison->bytes[0], *b = comparison->bytes[1];

	if (memcmp(a, b, bytes) == 0)
		return;
	for (uint64_t at = 0; at < bytes; at += IMPOST_PAGE_SIZE)
		if (memcmp(a + at, b + at, IMPOST_PAGE_SIZE) != 0)
			add_range(comparison, gpa + at, IMPOST_PAGE_SIZE);
}

/* GPA up to END, which both have. */
static int compare_range(struct comparison *comparison, uint64_t gpa, uint64_t end)
{
	int err = 0;

	for (uint64_t bytes; err == 0 && gpa < end; gpa += bytes) {
		bytes = end - gpa < CHUNK ? end - gpa : CHUNK;
		for (int i = 0; err == 0 && i < 2; i++)
			err = impost_snapshot_read(comparison->snapshots[i], gpa,
						   comparison->bytes[i], bytes);
		if (err == 0)
			compare_pages(comparison, gpa, bytes);
	}
	return err;
}

/* A walk through the regions of one snapshot. */
struct walk {
	struct impost_snapshot *snapshot;
	uint32_t index;
	uint64_t gpa, end; /* what is left of the region; gpa == end: no more */
};

static void next_region(struct walk *walk)
{
	struct impost_snapshot_region region = {.size = sizeof(region)};

	walk->gpa = walk->end = 0;
	if (impost_snapshot_region(walk->snapshot, walk->index++, &region) == 0) {
		walk->gpa = region.gpa;
		walk->end = region.gpa + region.bytes;
	}
}

static void skip_to(struct walk *walk, uint64_t gpa)
{
	walk->gpa = gpa;
	if (gpa == walk->end)
		next_region(walk);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* One step: what both have is compared, what one of them has alone is told. */
static int step(struct comparison *comparison, struct walk *a, struct walk *b)
{
	bool has_a = a->gpa < a->end, has_b = b->gpa < b->end;
	struct walk *first = !has_b || (has_a && a->gpa < b->gpa) ? a : b;
	struct walk *other = first == a ? b : a;
	uint64_t end = first->end;
	int err = 0;

	if (has_a && has_b && a->gpa == b->gpa) {
		end = least(a->end, b->end);
		err = compare_range(comparison, a->gpa, end);
		skip_to(other, end);
	} else {
		if (has_a && has_b)
			end = least(first->end, other->gpa);
		add_range(comparison, first->gpa, end - first->gpa);
	}
	skip_to(first, end);
	return err;
}

static int compare_memory(struct comparison *comparison)
{
	struct walk a = {.snapshot = comparison->snapshots[0]};
	struct walk b = {.snapshot = comparison->snapshots[1]};
	int err = 0;

	for (int i = 0; i < 2; i++) {
		comparison->bytes[i] = malloc(CHUNK);
		if (!comparison->bytes[i])
			return impost_error_set(comparison->invocation->ctx, -ENOMEM,
						"no memory to compare memory in");
	}
	next_region(&a);
	next_region(&b);
	while (err == 0 && (a.gpa < a.end || b.gpa < b.end))
		err = step(comparison, &a, &b);
	if (err == 0)
		tell_range(comparison);
	return err;
}

/* --- the command --- */

static int open_both(struct comparison *comparison)
{
	int status = STATUS_OK;

	for (int i = 0; status == STATUS_OK && i < 2; i++)
		status = snapshots_open(comparison->invocation, comparison->invocation->operands[i],
					0, &comparison->snapshots[i]);
	return status;
}

static void close_both(struct comparison *comparison)
{
	for (int i = 0; i < 2; i++) {
		impost_snapshot_close(comparison->snapshots[i]);
		free(comparison->bytes[i]);
	}
}

static void print_json(struct comparison *comparison)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "state", comparison->differences);
	json_object_object_add(object, "memory", comparison->memory);
	json_print("differences", object);
}

static int compare(struct comparison *comparison)
{
	int err;

	if (invocation_has(comparison->invocation, OPTION_JSON)) {
		comparison->differences = json_object_new_array();
		comparison->memory = json_object_new_array();
	}
	err = compare_state(comparison);
	if (err == 0)
		err = compare_memory(comparison);
	if (err < 0) {
		json_object_put(comparison->differences);
		json_object_put(comparison->memory);
		return complain_error(comparison->invocation, err);
	}
	if (comparison->differences)
		print_json(comparison);
	return finish_output(comparison->count ? STATUS_FAILED : STATUS_OK);
}

int command_diff(const struct invocation *invocation)
{
	struct comparison comparison = {.invocation = invocation};
	int status = open_both(&comparison);

	if (status == STATUS_OK)
		status = compare(&comparison);
	close_both(&comparison);
	return status;
}
