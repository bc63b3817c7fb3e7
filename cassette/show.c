/* SPDX-License-Identifier: Apache-2.0 */
/* Named values as text for people, and what differs between two maps of them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "item.h"

/* Cut as snprintf does; `len` counts on. */
struct text {
	char *at;
	size_t size, len;
};

static void add(struct text *text, const char *fmt, ...) IMPOST_PRINTF(2, 3);
static void add(struct text *text, const char *fmt, ...)
{
	size_t used = text->len < text->size ? text->len : text->size;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text->size ? text->at + used : NULL, text->size - used, fmt, ap);
	va_end(ap);
	if (len > 0)
		text->len += (size_t)len;
}

static void add_number(struct text *text, uint64_t number)
{
	add(text, number < 10 ? "%" PRIu64 : "0x%" PRIx64, number);
}

/* Bytes shown of a string, and elements of an array. */
#define SHOWN	   16u
#define SHOWN_TEXT 128u

static void add_bytes(struct text *text, const struct item *item)
{
	uint64_t shown = item->number < SHOWN ? item->number : SHOWN;

	add(text, "%" PRIu64 " byte%s", item->number, item->number == 1 ? "" : "s");
	for (uint64_t i = 0; i < shown; i++)
		add(text, " %02x", item->data[i]);
	if (shown < item->number)
		add(text, " ...");
}

static void add_quoted(struct text *text, const struct item *item)
{
	add(text, "\"");
	for (uint64_t i = 0; i < item->number && i < SHOWN_TEXT; i++)
		add(text, "%c", item->data[i] >= ' ' && item->data[i] < 0x7f ? item->data[i] : '?');
	add(text, "\"");
}

/* An item that holds no others. */
static void add_single(struct text *text, const struct item *item)
{
	switch (item->type) {
	case ITEM_UINT:
		add_number(text, item->number);
		break;
	case ITEM_NEGINT:
		add(text, "-1 - %" PRIu64, item->number);
		break;
	case ITEM_BOOL:
		add(text, item->number ? "yes" : "no");
		break;
	case ITEM_BYTES:
		add_bytes(text, item);
		break;
	case ITEM_TEXT:
		add_quoted(text, item);
		break;
	default:
		add(text, "%" PRIu64 " values", item->number);
	}
}

/* An array's elements. What is in these is shown too, if they are arrays of single items. */
static void add_array(struct text *text, struct item_reader *reader, uint64_t count, bool inner)
{
	struct cassette_span skipped;
	struct item item;
	size_t required;

	add(text, "[");
	for (uint64_t i = 0; i < count; i++) {
		struct item_reader element = *reader;

		if (i == SHOWN)
			add(text, ", ... %" PRIu64 " in all", count);
		if (!cassette_item_skip(reader, &skipped) ||
		    cassette_item_read(&element, &item, &required) != ITEM_READ)
			break;
		if (i >= SHOWN)
			continue;
		add(text, "%s", i ? ", " : "");
		if (item.type == ITEM_ARRAY && !inner)
			add_array(text, &element, item.number, true);
		else
			add_single(text, &item);
	}
	add(text, "]");
}

static void add_value(struct text *text, struct cassette_span value)
{
	struct item_reader reader = cassette_item_begin(value);
	struct item item;
	size_t required;

	if (cassette_item_read(&reader, &item, &required) != ITEM_READ)
		add(text, "?");
	else if (item.type == ITEM_ARRAY)
		add_array(text, &reader, item.number, false);
	else
		add_single(text, &item);
}

/* The next key and value of a map. */
static bool take_pair(struct item_reader *reader, struct item *ret_key,
		      struct cassette_span *ret_value)
{
	return cassette_item_take(reader, ITEM_TEXT, ret_key) &&
	       cassette_item_skip(reader, ret_value);
}

static uint64_t begin_map(struct cassette_span map, struct item_reader *ret_reader)
{
	struct item head = {0};

	*ret_reader = cassette_item_begin(map);
	return map.len && cassette_item_take(ret_reader, ITEM_MAP, &head) ? head.number : 0;
}

static void add_key(struct text *text, const struct item *key)
{
	for (uint64_t i = 0; i < key->number && i < SHOWN_TEXT; i++)
		add(text, "%c", key->data[i] >= ' ' && key->data[i] < 0x7f ? key->data[i] : '?');
}

size_t cassette_show(struct cassette_span map, char *text, size_t size)
{
	struct text out = {text, size, 0};
	struct cassette_span value;
	struct item_reader reader;
	uint64_t count = begin_map(map, &reader);
	struct item key;

	if (size)
		text[0] = '\0';
	for (uint64_t i = 0; i < count && take_pair(&reader, &key, &value); i++) {
		add(&out, "%s", i ? ", " : "");
		add_key(&out, &key);
		add(&out, " ");
		add_value(&out, value);
	}
	return out.len;
}

/* Where two strings of bytes differ, if both are that and long. */
static bool add_offset(struct text *text, struct cassette_span a, struct cassette_span b)
{
	struct item_reader a_reader = cassette_item_begin(a), b_reader = cassette_item_begin(b);
	struct item was, is;
	uint64_t at = 0;

	if (!cassette_item_take(&a_reader, ITEM_BYTES, &was) ||
	    !cassette_item_take(&b_reader, ITEM_BYTES, &is) || was.number != is.number ||
	    was.number <= SHOWN)
		return false;
	while (at < was.number && was.data[at] == is.data[at])
		at++;
	was.data += at;
	is.data += at;
	was.number = is.number = was.number - at < 8 ? was.number - at : 8;
	add(text, "from byte 0x%" PRIx64 " on recorded ", at);
	add_bytes(text, &was);
	add(text, ", now ");
	add_bytes(text, &is);
	return true;
}

static bool same(struct cassette_span a, struct cassette_span b)
{
	return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len));
}

/* Which element is the first to differ, of arrays of one length. */
static bool add_element(struct text *text, struct cassette_span a, struct cassette_span b)
{
	struct item_reader a_reader = cassette_item_begin(a), b_reader = cassette_item_begin(b);
	struct cassette_span was = {0}, is = {0};
	struct item a_head, b_head;

	if (!cassette_item_take(&a_reader, ITEM_ARRAY, &a_head) ||
	    !cassette_item_take(&b_reader, ITEM_ARRAY, &b_head) || a_head.number != b_head.number)
		return false;
	for (uint64_t i = 0; i < a_head.number; i++) {
		if (!cassette_item_skip(&a_reader, &was) || !cassette_item_skip(&b_reader, &is))
			return false;
		if (same(was, is))
			continue;
		add(text, "number %" PRIu64 " of %" PRIu64 " recorded ", i + 1, a_head.number);
		add_value(text, was);
		add(text, ", now ");
		add_value(text, is);
		return true;
	}
	return false;
}

/* KEY has the value WAS in one map and IS in the other, or no bytes: it is not there. */
static void add_difference(struct text *text, const struct item *key, struct cassette_span was,
			   struct cassette_span is)
{
	if (same(was, is))
		return;
	add(text, "%s", text->len ? "; " : "");
	add_key(text, key);
	add(text, ": ");
	if (was.len && is.len && (add_offset(text, was, is) || add_element(text, was, is)))
		return;
	add(text, "recorded ");
	if (was.len)
		add_value(text, was);
	else
		add(text, "nothing");
	add(text, ", now ");
	if (is.len)
		add_value(text, is);
	else
		add(text, "nothing");
}

static bool find_key(struct cassette_span map, const struct item *key,
		     struct cassette_span *ret_value)
{
	struct item_reader reader;
	uint64_t count = begin_map(map, &reader);
	struct cassette_span value;
	struct item other;

	for (uint64_t i = 0; i < count && take_pair(&reader, &other, &value); i++)
		if (other.number == key->number && !memcmp(other.data, key->data, key->number)) {
			*ret_value = value;
			return true;
		}
	return false;
}

size_t cassette_difference(struct cassette_span recorded, struct cassette_span present, char *text,
			   size_t size)
{
	struct text out = {text, size, 0};
	struct cassette_span was, is;
	struct item_reader reader;
	struct item key;
	uint64_t count;

	if (size)
		text[0] = '\0';
	count = begin_map(recorded, &reader);
	for (uint64_t i = 0; i < count && take_pair(&reader, &key, &was); i++) {
		is = (struct cassette_span){0};
		find_key(present, &key, &is);
		add_difference(&out, &key, was, is);
	}
	count = begin_map(present, &reader);
	for (uint64_t i = 0; i < count && take_pair(&reader, &key, &is); i++)
		if (!find_key(recorded, &key, &was))
			add_difference(&out, &key, (struct cassette_span){0}, is);
	return out.len;
}
