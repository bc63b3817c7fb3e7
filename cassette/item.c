/* SPDX-License-Identifier: Apache-2.0 */
/* CBOR items one by one: libcbor's streaming calls read and write the heads. */
#include "item.h"

#include <cbor/encoding.h>
#include <cbor/streaming.h>
#include <stdlib.h>
#include <string.h>

/* --- libcbor's callbacks: each tells of one head --- */

struct told {
	struct item item;
	bool ours;
};

static void tell(void *context, enum item_type type, uint64_t number, const uint8_t *data)
{
	struct told *told = context;

	told->item = (struct item){.type = type, .number = number, .data = data};
	told->ours = true;
}

#define TELL_NUMBER(name, type, item)                       \
	static void name(void *context, type value)         \
	{                                                   \
		tell(context, item, (uint64_t)value, NULL); \
	}
TELL_NUMBER(tell_uint8, uint8_t, ITEM_UINT)
TELL_NUMBER(tell_uint16, uint16_t, ITEM_UINT)
TELL_NUMBER(tell_uint32, uint32_t, ITEM_UINT)
TELL_NUMBER(tell_uint64, uint64_t, ITEM_UINT)
TELL_NUMBER(tell_negint8, uint8_t, ITEM_NEGINT)
TELL_NUMBER(tell_negint16, uint16_t, ITEM_NEGINT)
TELL_NUMBER(tell_negint32, uint32_t, ITEM_NEGINT)
TELL_NUMBER(tell_negint64, uint64_t, ITEM_NEGINT)
TELL_NUMBER(tell_bool, bool, ITEM_BOOL)
TELL_NUMBER(tell_array, size_t, ITEM_ARRAY)
TELL_NUMBER(tell_map, size_t, ITEM_MAP)

static void tell_bytes(void *context, cbor_data data, size_t len)
{
	tell(context, ITEM_BYTES, len, data);
}

static void tell_text(void *context, cbor_data data, size_t len)
{
	tell(context, ITEM_TEXT, len, data);
}

/* What is CBOR but stands in no cassette: `ours` stays false. */
static void refuse(void *context)
{
	(void)context;
}

static void refuse_float(void *context, float value)
{
	(void)context, (void)value;
}

static void refuse_double(void *context, double value)
{
	(void)context, (void)value;
}

static void refuse_tag(void *context, uint64_t value)
{
	(void)context, (void)value;
}

static const struct cbor_callbacks callbacks = {
	.uint8 = tell_uint8,
	.uint16 = tell_uint16,
	.uint32 = tell_uint32,
	.uint64 = tell_uint64,
	.negint8 = tell_negint8,
	.negint16 = tell_negint16,
	.negint32 = tell_negint32,
	.negint64 = tell_negint64,
	.byte_string_start = refuse,
	.byte_string = tell_bytes,
	.string = tell_text,
	.string_start = refuse,
	.indef_array_start = refuse,
	.array_start = tell_array,
	.indef_map_start = refuse,
	.map_start = tell_map,
	.tag = refuse_tag,
	.float2 = refuse_float,
	.float4 = refuse_float,
	.float8 = refuse_double,
	.undefined = refuse,
	.null = refuse,
	.boolean = tell_bool,
	.indef_break = refuse,
};

/* --- reading --- */

enum item_status cassette_item_read(struct item_reader *reader, struct item *ret_item,
				    size_t *ret_required)
{
	size_t left = (size_t)(reader->end - reader->at);
	struct cbor_decoder_result result;
	struct told told = {.ours = false};

	*ret_required = 1;
	if (!left)
		return ITEM_SHORT;
	result = cbor_stream_decode(reader->at, left, &callbacks, &told);
	if (result.status == CBOR_DECODER_NEDATA) {
		/* libcbor adds the head to a string's length, which may be the longest there is. */
		*ret_required = result.required > left ? result.required : SIZE_MAX;
		return ITEM_SHORT;
	}
	if (result.status != CBOR_DECODER_FINISHED || !told.ours)
		return ITEM_WRONG;
	reader->at += result.read;
	*ret_item = told.item;
	return ITEM_READ;
}

bool cassette_item_take(struct item_reader *reader, enum item_type type, struct item *ret_item)
{
	struct item_reader ahead = *reader;
	struct item item;
	size_t required;

	if (cassette_item_read(&ahead, &item, &required) != ITEM_READ || item.type != type)
		return false;
	*reader = ahead;
	*ret_item = item;
	return true;
}

/* Items that follow the head ITEM as its own. UINT64_MAX: more than there can be. */
static uint64_t follows(const struct item *item)
{
	if (item->type == ITEM_ARRAY)
		return item->number;
	if (item->type == ITEM_MAP)
		return item->number > UINT64_MAX / 2 ? UINT64_MAX : 2 * item->number;
	return 0;
}

bool cassette_item_skip(struct item_reader *reader, struct cassette_span *ret_span)
{
	struct item_reader at = *reader;
	uint64_t left[ITEM_DEPTH + 1] = {1};
	uint32_t depth = 0;
	struct item item;
	size_t required;

	while (depth || left[0]) {
		if (cassette_item_read(&at, &item, &required) != ITEM_READ)
			return false;
		left[depth]--;
		if (follows(&item)) {
			if (depth == ITEM_DEPTH)
				return false;
			left[++depth] = follows(&item);
		}
		while (depth && !left[depth])
			depth--;
	}
	*ret_span = (struct cassette_span){reader->at, (size_t)(at.at - reader->at)};
	*reader = at;
	return true;
}

struct item_reader cassette_item_begin(struct cassette_span span)
{
	/* Not even 0 may be added to NULL. */
	return (struct item_reader){span.data, span.len ? span.data + span.len : span.data};
}

bool cassette_item_find(struct cassette_span map, const char *key, struct cassette_span *ret_value)
{
	struct item_reader reader = cassette_item_begin(map);
	struct cassette_span value;
	struct item head, name;

	if (!map.len || !cassette_item_take(&reader, ITEM_MAP, &head))
		return false;
	for (uint64_t i = 0; i < head.number; i++) {
		if (!cassette_item_take(&reader, ITEM_TEXT, &name) ||
		    !cassette_item_skip(&reader, &value))
			return false;
		if (name.number == strlen(key) && !memcmp(name.data, key, name.number)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

bool cassette_item_find_typed(struct cassette_span map, const char *key, enum item_type type,
			      struct item *ret_item)
{
	struct cassette_span value;
	struct item_reader reader;

	if (!cassette_item_find(map, key, &value))
		return false;
	reader = cassette_item_begin(value);
	return cassette_item_take(&reader, type, ret_item);
}

bool cassette_item_find_uint(struct cassette_span map, const char *key, uint64_t max,
			     uint64_t *ret_number)
{
	struct item item;

	if (!cassette_item_find_typed(map, key, ITEM_UINT, &item) || item.number > max)
		return false;
	*ret_number = item.number;
	return true;
}

bool cassette_item_find_array(struct cassette_span map, const char *key,
			      struct item_reader *ret_reader, uint64_t *ret_count)
{
	struct cassette_span value;
	struct item_reader reader;
	struct item head;

	if (!cassette_item_find(map, key, &value))
		return false;
	reader = cassette_item_begin(value);
	/* Found, it is whole: each element has a byte at the least. */
	if (!cassette_item_take(&reader, ITEM_ARRAY, &head))
		return false;
	*ret_reader = reader;
	*ret_count = head.number;
	return true;
}

void cassette_item_copy_text(const struct item *item, char *text)
{
	for (uint64_t i = 0; i < item->number; i++) {
		uint8_t c = item->data[i];

		text[i] = (c >= ' ' && c != 0x7f) || c == '\n' || c == '\t' ? (char)c : '?';
	}
	text[item->number] = '\0';
}

/* --- writing --- */

static bool grow(struct item_writer *writer, size_t len)
{
	size_t capacity = writer->capacity ? writer->capacity : 256;
	uint8_t *bytes;

	if (writer->failed)
		return false;
	if (len <= writer->capacity - writer->len)
		return true;
	while (capacity - writer->len < len)
		capacity *= 2;
	bytes = realloc(writer->bytes, capacity);
	if (!bytes) {
		writer->failed = true;
		return false;
	}
	writer->bytes = bytes;
	writer->capacity = capacity;
	return true;
}

void cassette_item_put_raw(struct item_writer *writer, const void *data, size_t len)
{
	if (!len || !grow(writer, len))
		return;
	memcpy(writer->bytes + writer->len, data, len);
	writer->len += len;
}

void cassette_item_put_within(struct item_writer *writer, size_t at, size_t len)
{
	if (!len || !grow(writer, len))
		return;
	memcpy(writer->bytes + writer->len, writer->bytes + at, len);
	writer->len += len;
}

#define HEAD_MAX 9u

static size_t put_head(enum item_type type, uint64_t number, uint8_t *head)
{
	switch (type) {
	case ITEM_UINT:
		return cbor_encode_uint(number, head, HEAD_MAX);
	case ITEM_NEGINT:
		return cbor_encode_negint(number, head, HEAD_MAX);
	case ITEM_BOOL:
		return cbor_encode_bool(number != 0, head, HEAD_MAX);
	case ITEM_BYTES:
		return cbor_encode_bytestring_start(number, head, HEAD_MAX);
	case ITEM_TEXT:
		return cbor_encode_string_start(number, head, HEAD_MAX);
	case ITEM_ARRAY:
		return cbor_encode_array_start(number, head, HEAD_MAX);
	case ITEM_MAP:
		return cbor_encode_map_start(number, head, HEAD_MAX);
	}
	return 0;
}

void cassette_item_put(struct item_writer *writer, enum item_type type, uint64_t number,
		       const void *data)
{
	uint8_t head[HEAD_MAX] = {0};

	cassette_item_put_raw(writer, head, put_head(type, number, head));
	if (type == ITEM_BYTES || type == ITEM_TEXT)
		cassette_item_put_raw(writer, data, number);
}

void cassette_item_put_text(struct item_writer *writer, const char *text)
{
	cassette_item_put(writer, ITEM_TEXT, strlen(text), text);
}

void cassette_item_put_error(struct item_writer *writer, int32_t error)
{
	if (error < 0)
		cassette_item_put(writer, ITEM_NEGINT, (uint64_t)(-1 - (int64_t)error), NULL);
	else
		cassette_item_put(writer, ITEM_UINT, (uint64_t)error, NULL);
}
