/* SPDX-License-Identifier: Apache-2.0 */
/* CBOR items one by one, in deterministic form. */
#include "cbor.h"

#include <cbor/encoding.h>
#include <cbor/streaming.h>
#include <string.h>

#include <impost/error.h>

#include "record.h" /* member_load() */
#include "text.h"

const char *item_type_name(enum item_type type)
{
	static const char *const names[] = {
		[ITEM_UINT] = "an unsigned integer",
		[ITEM_NEGINT] = "a negative integer",
		[ITEM_BOOL] = "a boolean",
		[ITEM_BYTES] = "a byte string",
		[ITEM_TEXT] = "a text",
		[ITEM_ARRAY] = "an array",
		[ITEM_MAP] = "a map",
	};

	return names[type];
}

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

/* What is CBOR but not ours: `ours` stays false. */
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

void item_begin(struct item_reader *reader, const void *data, size_t len)
{
	*reader =
		(struct item_reader){.start = data, .at = data, .end = (const uint8_t *)data + len};
}

static int wrong(struct item_reader *reader, const char *what)
{
	reader->wrong = what;
	return -IMPOST_EFORMAT;
}

/* Bytes that the shortest head with NUMBER takes (RFC 8949, 3 and 4.2.1). */
static size_t shortest(uint64_t number)
{
	if (number < 24)
		return 1;
	if (number <= UINT8_MAX)
		return 2;
	if (number <= UINT16_MAX)
		return 3;
	return number <= UINT32_MAX ? 5 : 9;
}

/* What keeps ITEM, whose head takes HEAD bytes and which LEFT bytes follow, from being ours. */
static const char *judge(const struct item *item, size_t head, size_t left)
{
	if (item->type != ITEM_BOOL && head != shortest(item->number))
		return "a head that is not the shortest";
	switch (item->type) {
	case ITEM_NEGINT:
		return item->number > INT64_MAX ? "a negative integer of more than 64 bits" : NULL;
	case ITEM_TEXT:
		return text_is_utf8(item->data, item->number) ? NULL : "a text that is no UTF-8";
	case ITEM_ARRAY:
		return item->number > left ? "an array that is longer than the input" : NULL;
	case ITEM_MAP:
		return item->number > left / 2 ? "a map that is longer than the input" : NULL;
	default:
		return NULL;
	}
}

int item_next(struct item_reader *reader, struct item *ret_item)
{
	size_t left = (size_t)(reader->end - reader->at), head;
	struct cbor_decoder_result result;
	struct told told = {.ours = false};
	const char *what;

	if (!left)
		return wrong(reader, "the end of the input");
	result = cbor_stream_decode(reader->at, left, &callbacks, &told);
	if (result.status == CBOR_DECODER_NEDATA)
		return wrong(reader, "an item that is longer than the input");
	if (result.status != CBOR_DECODER_FINISHED)
		return wrong(reader, "a byte that begins no CBOR item");
	if (!told.ours)
		return wrong(reader,
			     "an item that there is not in a record (indefinite, tag, float, "
			     "null or undefined)");
	head = result.read;
	if (told.item.type == ITEM_BYTES || told.item.type == ITEM_TEXT)
		head -= told.item.number;
	what = judge(&told.item, head, left - result.read);
	if (what)
		return wrong(reader, what);
	reader->at += result.read;
	*ret_item = told.item;
	return 0;
}

bool item_take_long_uint(struct item_reader *reader, uint64_t *ret_number)
{
	uint32_t bytes = 1u << (*reader->at & 3);
	uint64_t number = 0;

	/* 24 to 27: the number is in the next 1, 2, 4 or 8 bytes. */
	if (*reader->at < 24 || *reader->at > 27 || (size_t)(reader->end - reader->at) <= bytes)
		return false;
	for (uint32_t i = 1; i <= bytes; i++)
		number = number << 8 | reader->at[i];
	if (shortest(number) != 1 + bytes)
		return false;
	reader->at += 1 + bytes;
	*ret_number = number;
	return true;
}

int item_compare_keys(const void *a, size_t a_len, const void *b, size_t b_len)
{
	/* Their encodings are compared, which begin with the length. */
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	return memcmp(a, b, a_len);
}

int item_next_key(struct item_reader *reader, const struct item *previous, struct item *ret_key)
{
	const uint8_t *before = reader->at;
	struct item key;
	int err = item_next(reader, &key);

	if (!err && key.type != ITEM_TEXT)
		err = wrong(reader, "a key that is no text");
	else if (!err && previous->data &&
		 item_compare_keys(key.data, key.number, previous->data, previous->number) <= 0)
		err = wrong(reader, "a key that is there twice, or not in the order of "
				    "deterministic CBOR");
	if (err) {
		reader->at = before;
		return err;
	}
	*ret_key = key;
	return 0;
}

/* The head of a text of LEN bytes, if it is of one byte (RFC 8949, 3.1: major type 3). */
#define SHORT_TEXT     24u
#define TEXT_HEAD(len) ((uint8_t)(3u << 5 | (len)))

bool item_take_key(struct item_reader *reader, const char *key, size_t len, struct item *ret_key)
{
	if (len >= SHORT_TEXT || (size_t)(reader->end - reader->at) <= len ||
	    reader->at[0] != TEXT_HEAD(len) || memcmp(reader->at + 1, key, len) != 0)
		return false;
	*ret_key = (struct item){.type = ITEM_TEXT, .number = len, .data = reader->at + 1};
	reader->at += 1 + len;
	return true;
}

int item_skip(struct item_reader *reader, uint32_t depth)
{
	struct item item, key = {.data = NULL};
	int err = item_next(reader, &item);

	if (err || (item.type != ITEM_ARRAY && item.type != ITEM_MAP))
		return err;
	if (!depth)
		return wrong(reader, "arrays and maps that are too deep in each other");
	for (uint64_t i = 0; !err && i < item.number; i++) {
		if (item.type == ITEM_MAP)
			err = item_next_key(reader, &key, &key);
		if (!err)
			err = item_skip(reader, depth - 1);
	}
	return err;
}

int item_end(struct item_reader *reader)
{
	return reader->at == reader->end ? 0 : wrong(reader, "bytes after the end");
}

/* --- writing --- */

static void put(struct item_writer *writer, const void *data, size_t len)
{
	if (len && writer->len <= writer->capacity && len <= writer->capacity - writer->len)
		memcpy(writer->buf + writer->len, data, len);
	writer->len += len;
}

#define HEAD_MAX 9u

static size_t put_long_head(enum item_type type, uint64_t number, uint8_t *head)
{
	switch (type) {
	case ITEM_UINT:
		return cbor_encode_uint(number, head, HEAD_MAX);
	case ITEM_NEGINT:
		return cbor_encode_negint(number, head, HEAD_MAX);
	case ITEM_BYTES:
		return cbor_encode_bytestring_start(number, head, HEAD_MAX);
	case ITEM_TEXT:
		return cbor_encode_string_start(number, head, HEAD_MAX);
	case ITEM_ARRAY:
		return cbor_encode_array_start(number, head, HEAD_MAX);
	case ITEM_MAP:
		return cbor_encode_map_start(number, head, HEAD_MAX);
	case ITEM_BOOL:
		break;
	}
	return 0;
}

/* Writes the head of an item at HEAD, which has HEAD_MAX bytes, and returns how many it takes.
 * Nearly all are one byte, the major type and the number (RFC 8949, 3). */
static inline size_t put_head(enum item_type type, uint64_t number, uint8_t *head)
{
	static const uint8_t majors[] = {
		[ITEM_UINT] = 0u << 5,	[ITEM_NEGINT] = 1u << 5, [ITEM_BOOL] = 7u << 5 | 20,
		[ITEM_BYTES] = 2u << 5, [ITEM_TEXT] = 3u << 5,	 [ITEM_ARRAY] = 4u << 5,
		[ITEM_MAP] = 5u << 5,
	};

	if (number >= ITEM_SHORT_NUMBER)
		return put_long_head(type, number, head);
	head[0] = (uint8_t)(majors[type] | number);
	return 1;
}

void item_put(struct item_writer *writer, enum item_type type, uint64_t number, const void *data)
{
	uint8_t head[HEAD_MAX];

	if (writer->len < writer->capacity && writer->capacity - writer->len >= HEAD_MAX)
		writer->len += put_head(type, number, writer->buf + writer->len);
	else
		put(writer, head, put_head(type, number, head));
	if (type == ITEM_BYTES || type == ITEM_TEXT)
		put(writer, data, number);
}

void item_put_uints(struct item_writer *writer, const void *from, uint32_t bytes, uint64_t count)
{
	const uint8_t *at = from;
	uint8_t *to;

	/* With room for all, nothing is counted but the bytes that were written. */
	if (writer->len > writer->capacity || (writer->capacity - writer->len) / HEAD_MAX < count) {
		for (; count; count--, at += bytes)
			item_put(writer, ITEM_UINT, member_load(at, bytes), NULL);
		return;
	}
	to = writer->buf + writer->len;
	for (; count; count--, at += bytes)
		to += put_head(ITEM_UINT, member_load(at, bytes), to);
	writer->len = (size_t)(to - writer->buf);
}

void item_put_text(struct item_writer *writer, const char *text)
{
	item_put(writer, ITEM_TEXT, strlen(text), text);
}
