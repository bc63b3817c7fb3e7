// SPDX-License-Identifier: Apache-2.0
/* impost inspect of a cassette: what was recorded of whom, how many calls, and how it ends. */
#include "tape.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <cassette.h>

#include "json.h"

struct lane_count {
	uint32_t lane;
	uint64_t calls;
};

struct tape {
	const struct invocation *invocation;
	const char *path;
	struct cassette_reader *reader;
	uint64_t ops[CASSETTE_OPS];
	struct lane_count *lanes;
	size_t nlanes, room;
	uint64_t calls, pieces, bytes;
	bool whole;
	char why[512]; /* if it is not */
	struct json_object *host;
};

bool tape_is_one(const char *path)
{
	struct cassette_reader *reader;
	char why[256];

	if (cassette_reader_open(path, &reader, why, sizeof(why)))
		return false;
	cassette_reader_close(reader);
	return true;
}

/* --- counting --- */

/* The VM's comes first. */
static int by_lane(const void *a, const void *b)
{
	uint32_t x = ((const struct lane_count *)a)->lane + 1;
	uint32_t y = ((const struct lane_count *)b)->lane + 1;

	return x < y ? -1 : x > y;
}

/* Makes one row of each lane's. */
static void join_lanes(struct tape *tape)
{
	size_t n = 0;

	if (tape->nlanes)
		qsort(tape->lanes, tape->nlanes, sizeof(*tape->lanes), by_lane);
	for (size_t i = 0; i < tape->nlanes; i++)
		if (n && tape->lanes[n - 1].lane == tape->lanes[i].lane)
			tape->lanes[n - 1].calls += tape->lanes[i].calls;
		else
			tape->lanes[n++] = tape->lanes[i];
	tape->nlanes = n;
}

/* A file may have as many lanes as calls: they are joined when there are many rows, not looked for.
 */
static int count_lane(struct tape *tape, uint32_t id)
{
	struct lane_count *grown;

	if (tape->nlanes == tape->room) {
		size_t room = tape->room ? 2 * tape->room : 1024;

		join_lanes(tape);
		if (tape->nlanes >= tape->room / 2) {
			grown = realloc(tape->lanes, room * sizeof(*grown));
			if (!grown)
				return -ENOMEM;
			tape->lanes = grown;
			tape->room = room;
		}
	}
	tape->lanes[tape->nlanes++] = (struct lane_count){.lane = id, .calls = 1};
	return 0;
}

static int count_piece(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	struct tape *tape = opaque;

	(void)gpa;
	tape->pieces++;
	tape->bytes += data ? len : 0;
	return 0;
}

static int count_call(struct tape *tape, const struct cassette_item *item)
{
	int err = count_lane(tape, item->lane);

	tape->calls++;
	tape->ops[item->op]++;
	return err ? err : cassette_reader_memory(tape->reader, count_piece, tape);
}

/* A file that breaks off is counted as far as it goes. -ENOMEM. */
static int count_all(struct tape *tape)
{
	const struct cassette_item *item;
	int err;

	for (;;) {
		err = cassette_reader_peek(tape->reader, &item);
		if (!err && item->kind == CASSETTE_CALL)
			err = count_call(tape, item);
		if (err || item->kind == CASSETTE_END || item->kind == CASSETTE_CUT)
			break;
		cassette_reader_next(tape->reader);
	}
	join_lanes(tape);
	tape->whole = !err && item->kind == CASSETTE_END;
	if (!tape->whole)
		snprintf(tape->why, sizeof(tape->why), "%s",
			 err ? cassette_reader_why(tape->reader) : item->why);
	return err == -ENOMEM ? err : 0;
}

static int take_host(void *opaque, const char *section, const char *key, const char *text)
{
	struct tape *tape = opaque;
	char name[160];

	snprintf(name, sizeof(name), "%s.%s", section, key);
	json_add_string(tape->host, name, text);
	return 0;
}

/* --- showing --- */

static void lane_name(uint32_t lane, char *name, size_t size)
{
	if (lane == CASSETTE_LANE_VM)
		snprintf(name, size, "vm");
	else
		snprintf(name, size, "vcpu %" PRIu32, lane);
}

static struct json_object *describe(struct tape *tape)
{
	const struct cassette_header *header = cassette_reader_header(tape->reader);
	struct json_object *object = json_object_new_object(), *ops = json_object_new_object();
	struct json_object *lanes = json_object_new_object();
	char name[32];

	json_add_string(object, "path", tape->path);
	json_add_string(object, "backend", header->backend);
	json_add_string(object, "backend_version", header->version);
	json_object_object_add(object, "host", json_object_get(tape->host));
	json_add_uint(object, "calls", tape->calls);
	for (uint32_t i = 0; i < CASSETTE_OPS; i++)
		if (tape->ops[i])
			json_add_uint(ops, cassette_op_name((enum cassette_op)i), tape->ops[i]);
	json_object_object_add(object, "ops", ops);
	for (size_t i = 0; i < tape->nlanes; i++) {
		lane_name(tape->lanes[i].lane, name, sizeof(name));
		json_add_uint(lanes, name, tape->lanes[i].calls);
	}
	json_object_object_add(object, "lanes", lanes);
	json_add_uint(object, "memory_pieces", tape->pieces);
	json_add_uint(object, "memory_bytes", tape->bytes);
	json_add_bool(object, "whole", tape->whole);
	json_add_string(object, "why", tape->why);
	return object;
}

/* "name" and the text of VALUE, which may come from anybody. */
static void print_row(const char *name, const char *value)
{
	printf("%-12s", name);
	put_text(stdout, value, 0);
	printf("\n");
}

static void print_counts(const struct tape *tape)
{
	char name[32], text[128];

	for (size_t i = 0; i < tape->nlanes; i++) {
		lane_name(tape->lanes[i].lane, name, sizeof(name));
		snprintf(text, sizeof(text), "%" PRIu64 " calls", tape->lanes[i].calls);
		print_row(name, text);
	}
	for (uint32_t i = 0; i < CASSETTE_OPS; i++) {
		if (!tape->ops[i])
			continue;
		snprintf(text, sizeof(text), "%-12s %" PRIu64,
			 cassette_op_name((enum cassette_op)i), tape->ops[i]);
		print_row("", text);
	}
	snprintf(text, sizeof(text), "%" PRIu64 " bytes in %" PRIu64 " pieces", tape->bytes,
		 tape->pieces);
	print_row("memory", text);
}

static void print_text(const struct tape *tape)
{
	const struct cassette_header *header = cassette_reader_header(tape->reader);
	char text[512];

	print_row("cassette", tape->path);
	snprintf(text, sizeof(text), "%s %s", header->backend, header->version);
	print_row("backend", text);
	json_object_object_foreach(tape->host, key, value)
	{
		snprintf(text, sizeof(text), "%s = %s", key,
			 value ? json_object_get_string(value) : "");
		print_row("host", text);
	}
	print_counts(tape);
	print_row("end", tape->whole ? "as it should be" : tape->why);
}

static int show(struct tape *tape)
{
	char why[256];
	int err = count_all(tape);

	if (err) {
		complain("no memory");
		return STATUS_HOST;
	}
	/* Where the file breaks off before they end, those that are there are shown. */
	(void)cassette_read_host(tape->path, take_host, tape, why, sizeof(why));
	if (invocation_has(tape->invocation, OPTION_JSON))
		json_print("cassette", describe(tape));
	else
		print_text(tape);
	return finish_output(STATUS_OK);
}

int tape_show(const struct invocation *invocation, const char *path)
{
	struct tape tape = {.invocation = invocation, .path = path};
	char why[256];
	int status;

	if (cassette_reader_open(path, &tape.reader, why, sizeof(why))) {
		complain("cannot read %s: %s", path, why);
		return STATUS_HOST;
	}
	tape.host = json_object_new_object();
	status = show(&tape);
	json_object_put(tape.host);
	free(tape.lanes);
	cassette_reader_close(tape.reader);
	return status;
}
