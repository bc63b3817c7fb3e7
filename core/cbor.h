/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR items one by one (RFC 8949), in the form that record.h describes, on a bounded buffer.
 * libcbor's streaming calls read heads; what is deterministic is judged here. Numbers, of which
 * there are many, are read here too, and heads are written here: each has one form only.
 */
#ifndef CORE_CBOR_H
#define CORE_CBOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays and maps in each other at the most: a record's envelope and contents, and for each record
 * that is nested an array and a map. Others than records may use it too. */
#define ITEM_DEPTH 24u

enum item_type {
	ITEM_UINT,
	ITEM_NEGINT,
	ITEM_BOOL,
	ITEM_BYTES,
	ITEM_TEXT,
	ITEM_ARRAY,
	ITEM_MAP,
};

/* Names for messages: "a byte string". */
const char *item_type_name(enum item_type type);

struct item {
	enum item_type type;
	/* UINT, BOOL: the value; NEGINT: -1 - the value, of 63 bits; BYTES, TEXT: bytes at `data`;
	 * ARRAY, MAP: elements, or pairs, that follow: no more than there are bytes for. */
	uint64_t number;
	const uint8_t *data;
};

struct item_reader {
	const uint8_t *start, *at, *end;
	const char *wrong; /* what is, when a call has failed */
};

void item_begin(struct item_reader *reader, const void *data, size_t len);

/* The next item's head, with a string's contents. -IMPOST_EFORMAT: none of ours. */
int item_next(struct item_reader *reader, struct item *ret_item);

/* A map's next key, which must be greater than PREVIOUS, whose `data` is NULL for the first. */
int item_next_key(struct item_reader *reader, const struct item *previous, struct item *ret_key);

/* Goes past the next item if it is the text KEY of LEN bytes, which is true of most keys; *ret_key
 * is it then. Nothing needs to be judged that equals what is known to be right. */
bool item_take_key(struct item_reader *reader, const char *key, size_t len, struct item *ret_key);

/* Unsigned integers below are their own head (RFC 8949, 3.1): nearly all are, zeros and bits. */
#define ITEM_SHORT_NUMBER 24u

/* item_take_uint() of one whose head has bytes of its own. */
bool item_take_long_uint(struct item_reader *reader, uint64_t *ret_number);

/* Goes past the next item if it is an unsigned integer in its shortest form: what else it may be,
 * and what is wrong with it, item_next() tells. */
static inline bool item_take_uint(struct item_reader *reader, uint64_t *ret_number)
{
	if (reader->at == reader->end)
		return false;
	if (*reader->at >= ITEM_SHORT_NUMBER)
		return item_take_long_uint(reader, ret_number);
	*ret_number = *reader->at++;
	return true;
}

/* The order of keys: negative, 0 or positive as A is less than, equal to, or greater than B. */
int item_compare_keys(const void *a, size_t a_len, const void *b, size_t b_len);

/* Goes past the next item with all that is in it, which may be DEPTH arrays and maps deep. */
int item_skip(struct item_reader *reader, uint32_t depth);

/* Fails for anything that is left. */
int item_end(struct item_reader *reader);

/* Writes while there is room, and counts on when there is none. */
struct item_writer {
	uint8_t *buf;
	size_t capacity, len;
};

void item_put(struct item_writer *writer, enum item_type type, uint64_t number, const void *data);

/* COUNT unsigned integers of BYTES, 1, 2, 4 or 8, each, at FROM, one behind the other. */
void item_put_uints(struct item_writer *writer, const void *from, uint32_t bytes, uint64_t count);

void item_put_text(struct item_writer *writer, const char *text);

#endif
