/* SPDX-License-Identifier: Apache-2.0 */
/* Exits as named values, and back, with all that their pointers lead to. */
#include <stdlib.h>
#include <string.h>

#include <impost/error.h>

#include "values.h"

/* --- into values --- */

static void put_access(struct cassette_values *v, uint32_t size, uint32_t dir, uint32_t count,
		       const void *data)
{
	cassette_put_uint(v, "size", size);
	if (count != 1)
		cassette_put_uint(v, "count", count);
	if (dir == IMPOST_EXIT_WRITE)
		cassette_put_bytes(v, "data", data, (size_t)size * count);
}

static void put_msr(struct cassette_values *v, const struct impost_exit *exit)
{
	cassette_put_uint(v, "index", exit->u.msr.index);
	cassette_put_uint(v, "reason", exit->u.msr.reason);
	if (exit->kind == IMPOST_EXIT_WRMSR)
		cassette_put_uint(v, "value", *exit->u.msr.value);
}

static void put_array(struct cassette_values *v, const char *name, const uint64_t *numbers,
		      uint32_t count)
{
	struct item_writer writer = cassette_values_open(v, name);

	cassette_item_put(&writer, ITEM_ARRAY, count, NULL);
	for (uint32_t i = 0; i < count; i++)
		cassette_item_put(&writer, ITEM_UINT, numbers[i], NULL);
	cassette_values_close(v, &writer);
}

static void put_hypercall(struct cassette_values *v, const struct impost_exit_hypercall *call)
{
	cassette_put_uint(v, "number", call->number);
	put_array(v, "args", call->args, 6);
	cassette_put_bool(v, "long", call->long_mode);
}

static void put_debug(struct cassette_values *v, const struct impost_exit_debug *debug)
{
	cassette_put_uint(v, "rip", debug->rip);
	cassette_put_uint(v, "dr6", debug->dr6);
	cassette_put_uint(v, "dr7", debug->dr7);
	cassette_put_uint(v, "vector", debug->vector);
}

static void put_failure(struct cassette_values *v, const struct impost_exit_failure *failure)
{
	cassette_put_uint(v, "reason", failure->reason);
	cassette_put_text(v, "text", failure->text);
	if (failure->ndata)
		put_array(v, "numbers", failure->data, failure->ndata);
	if (failure->ninsn)
		cassette_put_bytes(v, "insn", failure->insn, failure->ninsn);
}

static void put_other(struct cassette_values *v, const struct impost_exit_other *other)
{
	cassette_put_uint(v, "number", other->number);
	cassette_put_text(v, "name", other->name);
	cassette_put_bytes(v, "payload", other->payload, other->payload_size);
}

void cassette_results_exit(struct cassette_values *v, const struct impost_exit *exit)
{
	cassette_put_uint(v, "exit", exit->kind);
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		cassette_put_uint(v, "port", exit->u.io.port);
		put_access(v, exit->u.io.size, exit->u.io.dir, exit->u.io.count, exit->u.io.data);
		break;
	case IMPOST_EXIT_MMIO:
		cassette_put_uint(v, "gpa", exit->u.mmio.gpa);
		put_access(v, exit->u.mmio.size, exit->u.mmio.dir, exit->u.mmio.count,
			   exit->u.mmio.data);
		break;
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		put_msr(v, exit);
		break;
	case IMPOST_EXIT_HYPERCALL:
		put_hypercall(v, &exit->u.hypercall);
		break;
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		cassette_put_uint(v, "reason", exit->u.shutdown.reason);
		cassette_put_uint(v, "code", exit->u.shutdown.code);
		break;
	case IMPOST_EXIT_DEBUG:
		put_debug(v, &exit->u.debug);
		break;
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		put_failure(v, &exit->u.failure);
		break;
	case IMPOST_EXIT_OTHER:
		put_other(v, &exit->u.other);
		break;
	default:
		break;
	}
}

/* --- and back --- */

void cassette_exit_room_free(struct cassette_exit_room *room)
{
	free(room->data);
	free(room->text);
	*room = (struct cassette_exit_room){0};
}

/* Room for BYTES, all zero. NULL: no memory. */
static void *make_room(struct cassette_exit_room *room, size_t bytes)
{
	size_t words = bytes / sizeof(uint64_t) + 1;

	if (words > room->capacity) {
		uint64_t *data = realloc(room->data, words * sizeof(*data));

		if (!data)
			return NULL;
		room->data = data;
		room->capacity = words;
	}
	memset(room->data, 0, words * sizeof(*room->data));
	return room->data;
}

/* What an access is in both address spaces. */
struct access {
	uint64_t size, count, dir;
	void *data;
};

static int take_access(struct cassette_span results, struct cassette_exit_room *room,
		       uint64_t max_size, struct access *ret_access)
{
	struct access access = {.count = 1, .dir = IMPOST_EXIT_READ};
	struct item data = {0};

	if (!cassette_item_find_uint(results, "size", max_size, &access.size) || !access.size)
		return -IMPOST_EFORMAT;
	cassette_item_find_uint(results, "count", CASSETTE_ITEM_MAX / 8, &access.count);
	if (!access.count)
		return -IMPOST_EFORMAT;
	if (cassette_item_find_typed(results, "data", ITEM_BYTES, &data)) {
		access.dir = IMPOST_EXIT_WRITE;
		if (data.number != access.size * access.count)
			return -IMPOST_EFORMAT;
	}
	access.data = make_room(room, access.size * access.count);
	if (!access.data)
		return -ENOMEM;
	if (access.dir == IMPOST_EXIT_WRITE)
		memcpy(access.data, data.data, data.number);
	*ret_access = access;
	return 0;
}

static int take_io(struct cassette_span results, struct cassette_exit_room *room,
		   struct impost_exit *exit)
{
	struct access access;
	uint64_t port;
	int err;

	if (!cassette_item_find_uint(results, "port", UINT16_MAX, &port))
		return -IMPOST_EFORMAT;
	err = take_access(results, room, 4, &access);
	if (err)
		return err;
	if (access.size == 3)
		return -IMPOST_EFORMAT;
	exit->u.io = (struct impost_exit_io){
		.port = (uint16_t)port,
		.size = (uint8_t)access.size,
		.dir = (uint8_t)access.dir,
		.count = (uint32_t)access.count,
		.data = access.data,
	};
	return 0;
}

static int take_mmio(struct cassette_span results, struct cassette_exit_room *room,
		     struct impost_exit *exit)
{
	struct access access;
	uint64_t gpa;
	int err;

	if (!cassette_item_find_uint(results, "gpa", UINT64_MAX, &gpa))
		return -IMPOST_EFORMAT;
	err = take_access(results, room, 8, &access);
	if (err)
		return err;
	exit->u.mmio = (struct impost_exit_mmio){
		.gpa = gpa,
		.size = (uint8_t)access.size,
		.dir = (uint8_t)access.dir,
		.count = (uint32_t)access.count,
		.data = access.data,
	};
	return 0;
}

static int take_msr(struct cassette_span results, struct cassette_exit_room *room,
		    struct impost_exit *exit)
{
	uint64_t index, reason, value = 0;

	if (!cassette_item_find_uint(results, "index", UINT32_MAX, &index) ||
	    !cassette_item_find_uint(results, "reason", UINT32_MAX, &reason))
		return -IMPOST_EFORMAT;
	if (exit->kind == IMPOST_EXIT_WRMSR &&
	    !cassette_item_find_uint(results, "value", UINT64_MAX, &value))
		return -IMPOST_EFORMAT;
	room->value = value;
	room->refused = 0;
	exit->u.msr = (struct impost_exit_msr){
		.index = (uint32_t)index,
		.reason = (uint32_t)reason,
		.value = &room->value,
		.refused = &room->refused,
	};
	return 0;
}

/* COUNT numbers of READER. */
static bool take_array(struct item_reader *reader, uint64_t *ret_numbers, uint64_t count)
{
	struct item item;

	for (uint64_t i = 0; i < count; i++) {
		if (!cassette_item_take(reader, ITEM_UINT, &item))
			return false;
		ret_numbers[i] = item.number;
	}
	return true;
}

static int take_hypercall(struct cassette_span results, struct cassette_exit_room *room,
			  struct impost_exit *exit)
{
	struct impost_exit_hypercall *call = &exit->u.hypercall;
	struct item_reader reader;
	struct item mode;
	uint64_t count;

	if (!cassette_item_find_uint(results, "number", UINT64_MAX, &call->number) ||
	    !cassette_item_find_typed(results, "long", ITEM_BOOL, &mode) ||
	    !cassette_item_find_array(results, "args", &reader, &count) || count != 6 ||
	    !take_array(&reader, call->args, count))
		return -IMPOST_EFORMAT;
	call->long_mode = (uint32_t)mode.number;
	room->value = 0;
	call->result = &room->value;
	return 0;
}

static int take_shutdown(struct cassette_span results, struct impost_exit *exit)
{
	uint64_t reason, code;

	if (!cassette_item_find_uint(results, "reason", UINT32_MAX, &reason) ||
	    !cassette_item_find_uint(results, "code", UINT32_MAX, &code))
		return -IMPOST_EFORMAT;
	exit->u.shutdown = (struct impost_exit_shutdown){(uint32_t)reason, (uint32_t)code};
	return 0;
}

static int take_debug(struct cassette_span results, struct impost_exit *exit)
{
	struct impost_exit_debug *debug = &exit->u.debug;
	uint64_t vector;

	if (!cassette_item_find_uint(results, "rip", UINT64_MAX, &debug->rip) ||
	    !cassette_item_find_uint(results, "dr6", UINT64_MAX, &debug->dr6) ||
	    !cassette_item_find_uint(results, "dr7", UINT64_MAX, &debug->dr7) ||
	    !cassette_item_find_uint(results, "vector", UINT32_MAX, &vector))
		return -IMPOST_EFORMAT;
	debug->vector = (uint32_t)vector;
	return 0;
}

/* The text of KEY, which the room keeps. */
static int take_text(struct cassette_span results, const char *key, struct cassette_exit_room *room)
{
	struct item item;
	char *text;

	if (!cassette_item_find_typed(results, key, ITEM_TEXT, &item))
		return -IMPOST_EFORMAT;
	text = malloc(item.number + 1);
	if (!text)
		return -ENOMEM;
	cassette_item_copy_text(&item, text);
	free(room->text);
	room->text = text;
	return 0;
}

static int take_failure_data(struct cassette_span results, struct cassette_exit_room *room,
			     struct impost_exit_failure *failure)
{
	struct item_reader reader;
	uint64_t count;
	uint64_t *data;

	if (!cassette_item_find_array(results, "numbers", &reader, &count))
		return 0;
	data = make_room(room, count * sizeof(*data));
	if (!data)
		return -ENOMEM;
	if (!take_array(&reader, data, count))
		return -IMPOST_EFORMAT;
	failure->data = data;
	failure->ndata = (uint32_t)count;
	return 0;
}

static int take_failure(struct cassette_span results, struct cassette_exit_room *room,
			struct impost_exit *exit)
{
	struct impost_exit_failure *failure = &exit->u.failure;
	struct item insn;
	int err;

	if (!cassette_item_find_uint(results, "reason", UINT64_MAX, &failure->reason))
		return -IMPOST_EFORMAT;
	if (cassette_item_find_typed(results, "insn", ITEM_BYTES, &insn)) {
		if (insn.number > sizeof(failure->insn))
			return -IMPOST_EFORMAT;
		memcpy(failure->insn, insn.data, insn.number);
		failure->ninsn = (uint32_t)insn.number;
	}
	err = take_failure_data(results, room, failure);
	if (!err)
		err = take_text(results, "text", room);
	failure->text = room->text;
	return err;
}

static int take_other(struct cassette_span results, struct cassette_exit_room *room,
		      struct impost_exit *exit)
{
	struct impost_exit_other *other = &exit->u.other;
	struct item payload;
	void *data;
	int err;

	if (!cassette_item_find_uint(results, "number", UINT64_MAX, &other->number) ||
	    !cassette_item_find_typed(results, "payload", ITEM_BYTES, &payload))
		return -IMPOST_EFORMAT;
	data = make_room(room, payload.number);
	if (!data)
		return -ENOMEM;
	if (payload.number)
		memcpy(data, payload.data, payload.number);
	err = take_text(results, "name", room);
	other->name = room->text;
	other->payload = data;
	other->payload_size = payload.number;
	return err;
}

static int take_particulars(struct cassette_span results, struct cassette_exit_room *room,
			    struct impost_exit *exit)
{
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		return take_io(results, room, exit);
	case IMPOST_EXIT_MMIO:
		return take_mmio(results, room, exit);
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		return take_msr(results, room, exit);
	case IMPOST_EXIT_HYPERCALL:
		return take_hypercall(results, room, exit);
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		return take_shutdown(results, exit);
	case IMPOST_EXIT_DEBUG:
		return take_debug(results, exit);
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		return take_failure(results, room, exit);
	case IMPOST_EXIT_OTHER:
		return take_other(results, room, exit);
	default:
		return 0;
	}
}

int cassette_take_exit(struct cassette_span results, struct cassette_exit_room *room,
		       struct impost_exit *ret_exit)
{
	struct impost_exit exit = {.size = sizeof(exit)};
	uint64_t kind;
	int err;

	if (!cassette_item_find_uint(results, "exit", IMPOST_EXIT_KINDS - 1, &kind))
		return -IMPOST_EFORMAT;
	exit.kind = (uint32_t)kind;
	err = take_particulars(results, room, &exit);
	if (!err)
		*ret_exit = exit;
	return err;
}
