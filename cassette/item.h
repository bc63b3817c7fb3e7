/* SPDX-License-Identifier: Apache-2.0 */
/* CBOR items (RFC 8949) one by one: the few kinds that cassettes are made of. */
#ifndef CASSETTE_ITEM_H
#define CASSETTE_ITEM_H

#include "cassette.h"

/* Arrays and maps in each other at the most. */
#define ITEM_DEPTH 6u

enum item_type {
	ITEM_UINT,
	ITEM_NEGINT,
	ITEM_BOOL,
	ITEM_BYTES,
	ITEM_TEXT,
	ITEM_ARRAY,
	ITEM_MAP,
};

struct item {
	enum item_type type;
	/* UINT, BOOL: the value; NEGINT: -1 - the value; BYTES, TEXT: bytes at `data`; ARRAY, MAP:
	 * elements, or pairs, that follow. */
	uint64_t number;
	const uint8_t *data;
};

struct item_reader {
	const uint8_t *at, *end;
};

enum item_status {
	ITEM_READ,
	ITEM_SHORT, /* it goes on behind the end */
	ITEM_WRONG, /* none that cassettes have */
};

/* The next item's head, with a string's contents. Of SHORT, *ret_required is the bytes it needs at
 * least. */
enum item_status cassette_item_read(struct item_reader *reader, struct item *ret_item,
				    size_t *ret_required);

/* The same within what is whole. False: there is none of TYPE here. */
bool cassette_item_take(struct item_reader *reader, enum item_type type, struct item *ret_item);

/* Goes past one item with all that is in it; *ret_span is what it was. False: it is not whole. */
bool cassette_item_skip(struct item_reader *reader, struct cassette_span *ret_span);

struct item_reader cassette_item_begin(struct cassette_span span);

/*
 * The value of KEY in MAP, which is read from the front each time: maps are small. False: no such
 * key, or no map.
 */
bool cassette_item_find(struct cassette_span map, const char *key, struct cassette_span *ret_value);
/* The same, of a type. */
bool cassette_item_find_typed(struct cassette_span map, const char *key, enum item_type type,
			      struct item *ret_item);
/* A number that is MAX at the most. */
bool cassette_item_find_uint(struct cassette_span map, const char *key, uint64_t max,
			     uint64_t *ret_number);
/* Copies a text to TEXT, which has room for it and a NUL: lines and tabs stay, nothing else that a
 * terminal heeds. */
void cassette_item_copy_text(const struct item *item, char *text);
/* The array of KEY, whose COUNT elements are for READER; no more than there are bytes for. */
bool cassette_item_find_array(struct cassette_span map, const char *key,
			      struct item_reader *ret_reader, uint64_t *ret_count);

/* A buffer that grows. Zeroed to begin with. */
struct item_writer {
	uint8_t *bytes;
	size_t len, capacity;
	bool failed;
};

void cassette_item_put(struct item_writer *writer, enum item_type type, uint64_t number,
		       const void *data);
void cassette_item_put_text(struct item_writer *writer, const char *text);
void cassette_item_put_raw(struct item_writer *writer, const void *data, size_t len);
/* LEN bytes that the writer has already, from AT on. */
void cassette_item_put_within(struct item_writer *writer, size_t at, size_t len);
/* An error code, a negative number or 0. */
void cassette_item_put_error(struct item_writer *writer, int32_t error);

#endif
