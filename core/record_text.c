/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of encoded records: lines, and JSON. */
#include "record_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* --- writing --- */

void out_put(struct out *out, const char *text, size_t len)
{
	if (!out->err && len)
		out->err = out->write(out->opaque, text, len);
}

void out_format(struct out *out, const char *fmt, ...)
{
	char text[OUT_FORMAT_MAX];
	va_list ap;
	int len;

	if (out->err)
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_put(out, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

void out_row(struct out *out, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out_format(out, "%s%02x", i ? " " : "", data[i]);
}

/* A JSON string (RFC 8259, 7), with escapes for all that terminals obey, C1 too. */
static void put_string(struct out *out, const uint8_t *text, size_t len)
{
	size_t done = 0;

	out_put(out, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		bool c1 = text[i] == 0xc2 && text[i + 1] < 0xa0;

		if (text[i] >= 0x20 && text[i] != 0x7f && text[i] != '"' && text[i] != '\\' && !c1)
			continue;
		out_put(out, (const char *)text + done, i - done);
		i += c1;
		if (text[i] == '"' || text[i] == '\\')
			out_format(out, "\\%c", text[i]);
		else
			out_format(out, "\\u%04x", text[i]);
		done = i + 1;
	}
	out_put(out, (const char *)text + done, len - done);
	out_put(out, "\"", 1);
}

static void put_number(struct out *out, const struct item *item, const struct impost_field *field)
{
	if (item->type == ITEM_NEGINT)
		out_format(out, "-%" PRIu64, item->number + 1);
	else if (field && field->flags & IMPOST_FIELD_HEX)
		out_format(out, "0x%0*" PRIx64, (int)(2 * field->bytes), item->number);
	else
		out_format(out, "%" PRIu64, item->number);
}

void out_leaf(struct out *out, const struct item *item, const struct impost_field *field)
{
	switch (item->type) {
	case ITEM_BOOL:
		out_format(out, "%s", item->number ? "true" : "false");
		break;
	case ITEM_TEXT:
		put_string(out, item->data, item->number);
		break;
	case ITEM_BYTES:
		if (item->number && item->number <= ROW_BYTES)
			out_row(out, item->data, item->number);
		else
			out_format(out, "%" PRIu64 " bytes", item->number);
		break;
	case ITEM_ARRAY:
		out_format(out, "%" PRIu64 " elements", item->number);
		break;
	case ITEM_MAP:
		out_format(out, "%" PRIu64 " fields", item->number);
		break;
	default:
		put_number(out, item, field);
	}
}

/* --- reading what was checked --- */

int text_begin(struct impost_context *ctx, const struct impost_record *record, const void *data,
	       size_t len, struct item_reader *ret_reader)
{
	int err = record ? record_check(ctx, record, 0) : 0;

	if (!err)
		err = impost_cbor_check(ctx, data, len);
	if (!err)
		item_begin(ret_reader, data, len);
	return err;
}

int impost_cbor_check(struct impost_context *ctx, const void *data, size_t len)
{
	struct item_reader reader;

	item_begin(&reader, data, len);
	if (item_skip(&reader, ITEM_DEPTH) == 0 && item_end(&reader) == 0)
		return 0;
	return impost_error_set(ctx, -IMPOST_EFORMAT, "no record: byte %zu: %s",
				(size_t)(reader.at - reader.start), reader.wrong);
}

static bool is_key(const struct item *key, const char *name)
{
	return key->number == strlen(name) && memcmp(key->data, name, key->number) == 0;
}

void key_name(const struct item *key, char name[KEY_NAME_MAX])
{
	size_t len = key->number < KEY_NAME_MAX ? key->number : KEY_NAME_MAX - 1;

	memcpy(name, key->data, len);
	for (size_t i = 0; i < len; i++)
		if (!name[i])
			name[i] = '?';
	name[len] = '\0';
	text_clean(name);
}

bool map_find(struct item_reader *reader, uint64_t count, const char *name)
{
	struct item key;

	for (uint64_t i = 0; i < count; i++) {
		if (item_next(reader, &key))
			return false;
		if (is_key(&key, name))
			return true;
		item_skip(reader, ITEM_DEPTH);
	}
	return false;
}

const struct impost_field *key_field(const struct impost_record *record, const struct item *key)
{
	for (uint32_t i = 0; record && i < record->nfields; i++)
		if (is_key(key, record_field(record, i)->name))
			return record_field(record, i);
	return NULL;
}

static bool envelope_number(struct item_reader *reader, const char *name, uint64_t *ret_number)
{
	struct item item;

	if (item_next(reader, &item) || item.type != ITEM_TEXT || !is_key(&item, name) ||
	    item_next(reader, &item) || item.type != ITEM_UINT)
		return false;
	*ret_number = item.number;
	return true;
}

bool envelope_open(struct item_reader *reader, struct envelope *ret_envelope)
{
	struct item_reader in = *reader;
	struct item item;

	if (item_next(&in, &item) || item.type != ITEM_MAP || item.number != 3 ||
	    !envelope_number(&in, RECORD_COMPAT, &ret_envelope->compat) ||
	    !envelope_number(&in, RECORD_VERSION, &ret_envelope->version) ||
	    item_next(&in, &item) || item.type != ITEM_TEXT || !is_key(&item, RECORD_CONTENTS))
		return false;
	*reader = in;
	return true;
}

/* --- lines and JSON --- */

/* One walk writes either. */
struct show {
	struct out *out;
	bool json;
};

static void show(struct show *s, struct item_reader *reader, const struct impost_record *record,
		 const struct impost_field *field, const struct where *where);

static void show_path(struct show *s, const struct where *where)
{
	char path[WHERE_MAX];

	where_format(where, path, sizeof(path));
	out_format(s->out, "%s: ", *path ? path : ".");
}

/* Long byte strings, in rows. */
static void show_rows(struct show *s, const struct item *item, const struct where *where)
{
	static const uint8_t zeros[ROW_BYTES];
	char path[WHERE_MAX];

	where_format(where, path, sizeof(path));
	for (uint64_t at = 0; !s->out->err && at < item->number; at += ROW_BYTES) {
		size_t len = item->number - at < ROW_BYTES ? item->number - at : ROW_BYTES;

		if (memcmp(item->data + at, zeros, len) == 0)
			continue;
		out_format(s->out, "%s[0x%04" PRIx64 "]: ", path, at);
		out_row(s->out, item->data + at, len);
		out_put(s->out, "\n", 1);
	}
}

static void show_leaf(struct show *s, const struct item *item, const struct impost_field *field,
		      const struct where *where)
{
	if (!s->json) {
		show_path(s, where);
		out_leaf(s->out, item, field);
		out_put(s->out, "\n", 1);
		if (item->type == ITEM_BYTES && item->number > ROW_BYTES)
			show_rows(s, item, where);
		return;
	}
	if (item->type != ITEM_BYTES) {
		/* Bases are for people. */
		out_leaf(s->out, item, NULL);
		return;
	}
	out_put(s->out, "\"", 1);
	for (uint64_t i = 0; i < item->number; i++)
		out_format(s->out, "%02x", item->data[i]);
	out_put(s->out, "\"", 1);
}

/* The value of KEY, at which READER is. */
static void show_entry(struct show *s, struct item_reader *reader, const struct item *key,
		       const struct impost_field *field, const struct where *up, bool first)
{
	char name[KEY_NAME_MAX];
	const struct where where = {.up = up, .name = name};

	key_name(key, name);
	if (s->json) {
		out_format(s->out, "%s", first ? "" : ",");
		put_string(s->out, key->data, key->number);
		out_put(s->out, ":", 1);
	}
	show(s, reader, field ? field->record : NULL, field, &where);
}

/* First what is described, in that order, then the rest. */
static void show_map(struct show *s, struct item_reader *reader, uint64_t count,
		     const struct impost_record *record, const struct where *where)
{
	bool first = true;

	for (uint32_t i = 0; record && i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		const struct item key = {.type = ITEM_TEXT,
					 .number = strlen(field->name),
					 .data = (const uint8_t *)field->name};
		struct item_reader at = *reader;

		if (!map_find(&at, count, field->name))
			continue;
		show_entry(s, &at, &key, field, where, first);
		first = false;
	}
	for (uint64_t i = 0; i < count; i++) {
		struct item key;

		if (item_next(reader, &key))
			return;
		if (key_field(record, &key)) {
			item_skip(reader, ITEM_DEPTH);
			continue;
		}
		show_entry(s, reader, &key, NULL, where, first);
		first = false;
	}
}

static void show_array(struct show *s, struct item_reader *reader, uint64_t count,
		       const struct impost_record *record, const struct impost_field *field,
		       const struct where *up)
{
	struct where where = {.up = up};

	for (; !s->out->err && where.index < count; where.index++) {
		if (s->json && where.index)
			out_put(s->out, ",", 1);
		show(s, reader, record, field, &where);
	}
}

static void show(struct show *s, struct item_reader *reader, const struct impost_record *record,
		 const struct impost_field *field, const struct where *where)
{
	struct item item;
	bool is_map;

	if (s->out->err || item_next(reader, &item))
		return;
	is_map = item.type == ITEM_MAP;
	if ((!is_map && item.type != ITEM_ARRAY) || (!s->json && !item.number)) {
		show_leaf(s, &item, field, where);
		return;
	}
	if (s->json)
		out_put(s->out, is_map ? "{" : "[", 1);
	if (is_map)
		show_map(s, reader, item.number, record, where);
	else
		show_array(s, reader, item.number, record, field, where);
	if (s->json)
		out_put(s->out, is_map ? "}" : "]", 1);
}

void out_json(struct out *out, struct item_reader *reader, const struct impost_record *record)
{
	struct show s = {.out = out, .json = true};

	show(&s, reader, record, NULL, NULL);
}

/* --- the calls --- */

static int write_text(struct impost_context *ctx, const struct impost_record *record,
		      const void *data, size_t len, bool json, impost_write_fn write, void *opaque)
{
	struct out out = {.write = write, .opaque = opaque};
	struct show s = {.out = &out, .json = json};
	struct envelope envelope;
	struct item_reader reader;
	bool enveloped;
	int err = text_begin(ctx, record, data, len, &reader);

	if (err)
		return err;
	enveloped = envelope_open(&reader, &envelope);
	if (enveloped && json)
		out_format(&out, "{\"compat\":%" PRIu64 ",\"version\":%" PRIu64 ",\"contents\":",
			   envelope.compat, envelope.version);
	else if (enveloped)
		out_format(&out, "version: %" PRIu64 "\n", envelope.version);
	show(&s, &reader, enveloped ? record : NULL, NULL, NULL);
	if (enveloped && json)
		out_put(&out, "}", 1);
	return out.err;
}

int impost_cbor_print(struct impost_context *ctx, const struct impost_record *record,
		      const void *data, size_t len, impost_write_fn write, void *opaque)
{
	return write_text(ctx, record, data, len, false, write, opaque);
}

int impost_cbor_json(struct impost_context *ctx, const struct impost_record *record,
		     const void *data, size_t len, impost_write_fn write, void *opaque)
{
	return write_text(ctx, record, data, len, true, write, opaque);
}

static int write_saved(struct impost_context *ctx, const struct impost_record *record,
		       const void *saved, bool json, impost_write_fn write, void *opaque)
{
	void *data;
	size_t len;
	int err = record_encode_new(ctx, record, saved, &data, &len);

	if (err)
		return err;
	err = write_text(ctx, record, data, len, json, write, opaque);
	free(data);
	return err;
}

int impost_record_print(struct impost_context *ctx, const struct impost_record *record,
			const void *saved, impost_write_fn write, void *opaque)
{
	return write_saved(ctx, record, saved, false, write, opaque);
}

int impost_record_json(struct impost_context *ctx, const struct impost_record *record,
		       const void *saved, impost_write_fn write, void *opaque)
{
	return write_saved(ctx, record, saved, true, write, opaque);
}
