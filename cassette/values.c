/* SPDX-License-Identifier: Apache-2.0 */
/* Named values of a call: gathered one by one, then one map in deterministic form. */
#include <stdlib.h>
#include <string.h>

#include "values.h"

static const struct {
	const char *name;
	bool vm;
} ops[] = {
#define LANE_VM			      true
#define LANE_VCPU		      false
#define CASSETTE_OP(NAME, name, lane) [CASSETTE_##NAME] = {name, LANE_##lane},
#include "ops.def"
#undef CASSETTE_OP
};

const char *cassette_op_name(enum cassette_op op)
{
	return op < CASSETTE_OPS ? ops[op].name : "?";
}

bool cassette_op_is_vm(enum cassette_op op)
{
	return op < CASSETTE_OPS && ops[op].vm;
}

void cassette_values_begin(struct cassette_values *values)
{
	values->len = 0;
	values->count = 0;
	values->failed = false;
}

void cassette_values_free(struct cassette_values *values)
{
	free(values->bytes);
	*values = (struct cassette_values){0};
}

struct item_writer cassette_values_open(struct cassette_values *values, const char *name)
{
	/* Names are constants of these files: a call has fewer than there is room for. */
	if (values->count < CASSETTE_NAMES_MAX) {
		values->value[values->count].name = name;
		values->value[values->count].at = values->len;
	} else {
		values->failed = true;
	}
	return (struct item_writer){values->bytes, values->len, values->capacity, values->failed};
}

void cassette_values_close(struct cassette_values *values, const struct item_writer *writer)
{
	values->bytes = writer->bytes;
	values->capacity = writer->capacity;
	values->failed = writer->failed;
	if (values->failed)
		return;
	values->value[values->count].len = writer->len - values->len;
	values->len = writer->len;
	values->count++;
}

static void put(struct cassette_values *values, const char *name, enum item_type type,
		uint64_t number, const void *data)
{
	struct item_writer writer = cassette_values_open(values, name);

	cassette_item_put(&writer, type, number, data);
	cassette_values_close(values, &writer);
}

void cassette_put_uint(struct cassette_values *values, const char *name, uint64_t value)
{
	put(values, name, ITEM_UINT, value, NULL);
}

void cassette_put_bool(struct cassette_values *values, const char *name, bool value)
{
	put(values, name, ITEM_BOOL, value, NULL);
}

void cassette_put_bytes(struct cassette_values *values, const char *name, const void *data,
			size_t len)
{
	put(values, name, ITEM_BYTES, len, data);
}

void cassette_put_text(struct cassette_values *values, const char *name, const char *text)
{
	put(values, name, ITEM_TEXT, strlen(text), text);
}

/* The order of deterministic CBOR (RFC 8949, 4.2.1): the encodings' order, length first. */
static int compare_names(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);

	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	return memcmp(a, b, a_len);
}

/* ORDER becomes the values' places by name: there are few. */
static void sort(const struct cassette_values *values, uint32_t order[CASSETTE_NAMES_MAX])
{
	for (uint32_t i = 0; i < values->count; i++) {
		uint32_t at = i;

		for (; at &&
		       compare_names(values->value[order[at - 1]].name, values->value[i].name) > 0;
		     at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
}

int cassette_values_end(struct cassette_values *values, struct cassette_span *ret_map)
{
	struct item_writer writer = {values->bytes, values->len, values->capacity, values->failed};
	uint32_t order[CASSETTE_NAMES_MAX];
	size_t start = values->len;

	if (values->failed)
		return -ENOMEM;
	if (!values->count) {
		*ret_map = (struct cassette_span){NULL, 0};
		return 0;
	}
	sort(values, order);
	cassette_item_put(&writer, ITEM_MAP, values->count, NULL);
	for (uint32_t i = 0; i < values->count; i++) {
		size_t at = values->value[order[i]].at, len = values->value[order[i]].len;

		cassette_item_put_text(&writer, values->value[order[i]].name);
		cassette_item_put_within(&writer, at, len);
	}
	values->bytes = writer.bytes;
	values->capacity = writer.capacity;
	if (writer.failed)
		return -ENOMEM;
	*ret_map = (struct cassette_span){writer.bytes + start, writer.len - start};
	return 0;
}
