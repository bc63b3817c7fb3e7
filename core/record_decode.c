/* SPDX-License-Identifier: Apache-2.0 */
/* Records: from CBOR, which may be anybody's, to a struct. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cbor.h"
#include "record.h"
#include "text.h"

struct decoder {
	struct impost_context *ctx;
	const struct impost_record *record; /* the outermost */
	struct item_reader in;
	uint32_t version; /* of what is read */
	uint8_t *saved;	  /* moves when the tail is met */
	size_t bytes;
	struct nested_orders orders;
};

static int decode_fields(struct decoder *d, const struct impost_record *record,
			 const struct field_order *order, uint8_t *base, const struct where *up,
			 uint32_t depth);

/* --- errors --- */

/* What the reader found. */
static int malformed(struct decoder *d, const struct where *where)
{
	return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where, "byte %zu: %s",
			   (size_t)(d->in.at - d->in.start), d->in.wrong);
}

static int no_memory(struct decoder *d)
{
	return impost_error_set(d->ctx, -ENOMEM, "no memory for record %s", d->record->name);
}

/* The next item, which must be of TYPE. */
static int expect(struct decoder *d, enum item_type type, const struct where *where,
		  struct item *ret_item)
{
	if (item_next(&d->in, ret_item))
		return malformed(d, where);
	if (ret_item->type != type)
		return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where, "it is %s, not %s",
				   item_type_name(ret_item->type), item_type_name(type));
	return 0;
}

/* --- values --- */

static int decode_uint(struct decoder *d, const struct impost_field *field, uint8_t *at,
		       const struct where *where)
{
	bool is_bool = field->type == IMPOST_FIELD_TYPE_BOOL;
	uint64_t max = field->max ? field->max : member_max(field->bytes);
	struct item item;
	int err = 0;

	if (is_bool || !item_take_uint(&d->in, &item.number))
		err = expect(d, is_bool ? ITEM_BOOL : ITEM_UINT, where, &item);
	if (!err && item.number > max)
		err = record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where,
				  "%" PRIu64 " is more than %" PRIu64, item.number, max);
	if (!err)
		member_store(at, field->bytes, item.number);
	return err;
}

static int decode_int(struct decoder *d, const struct impost_field *field, uint8_t *at,
		      const struct where *where)
{
	struct item item;

	if (item_next(&d->in, &item))
		return malformed(d, where);
	if (item.type != ITEM_NEGINT && item.type != ITEM_UINT)
		return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where,
				   "it is %s, not an integer", item_type_name(item.type));
	if (item.number > member_max(field->bytes) >> 1)
		return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where,
				   "the integer does not fit in %u bytes", field->bytes);
	member_store(at, field->bytes, item.type == ITEM_UINT ? item.number : ~item.number);
	return 0;
}

static int decode_text(struct decoder *d, const struct impost_field *field, uint8_t *at,
		       const struct where *where)
{
	struct item item;
	int err = expect(d, ITEM_TEXT, where, &item);

	if (err)
		return err;
	if (item.number >= field->bytes || memchr(item.data, '\0', item.number))
		return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where,
				   "a text of %" PRIu64 " bytes: it must be shorter than %u, "
				   "without a NUL",
				   item.number, field->bytes);
	memcpy(at, item.data, item.number);
	return 0;
}

static int decode_value(struct decoder *d, const struct impost_field *field,
			const struct field_order *order, uint8_t *at, const struct where *where,
			uint32_t depth)
{
	switch (field->type) {
	case IMPOST_FIELD_TYPE_UINT:
	case IMPOST_FIELD_TYPE_BOOL:
		return decode_uint(d, field, at, where);
	case IMPOST_FIELD_TYPE_INT:
		return decode_int(d, field, at, where);
	case IMPOST_FIELD_TYPE_TEXT:
		return decode_text(d, field, at, where);
	case IMPOST_FIELD_TYPE_RECORD:
		return decode_fields(d, field->record, order, at, where, depth + 1);
	default:
		return record_fail(d->ctx, -EINVAL, d->record, where, "its type %u is unknown",
				   field->type);
	}
}

/* --- arrays --- */

/* Room for COUNT elements of FIELD, zeroed, in the struct at *BASE, which a tail moves. */
static int make_room(struct decoder *d, const struct impost_field *field, uint8_t **base,
		     uint64_t count, uint8_t **ret_elements)
{
	size_t bytes = count * field->bytes;
	void *made;

	if (field->where == IMPOST_FIELD_POINTER && count) {
		made = calloc(count, field->bytes);
		if (!made)
			return no_memory(d);
		memcpy(*base + field->offset, &made, sizeof(made));
	}
	if (field->where == IMPOST_FIELD_TAIL && field->offset + bytes > d->bytes) {
		made = realloc(d->saved, field->offset + bytes);
		if (!made)
			return no_memory(d);
		d->saved = *base = made;
		memset(d->saved + d->bytes, 0, field->offset + bytes - d->bytes);
		d->bytes = field->offset + bytes;
	}
	if (field->count_bytes)
		member_store(*base + field->count_offset, field->count_bytes, count);
	*ret_elements = field_elements(field, *base);
	return 0;
}

static int check_count(struct decoder *d, const struct impost_field *field, uint64_t count,
		       const struct where *where)
{
	if (field->count_bytes ? count <= field->count : count == field->count)
		return 0;
	return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, where,
			   "it has %" PRIu64 " elements, not %u%s", count, field->count,
			   field->count_bytes ? " at the most" : "");
}

/* As many of COUNT elements at AT as can be taken without a second look; returns how many. */
static uint64_t decode_numbers(struct decoder *d, const struct impost_field *field, uint8_t *at,
			       uint64_t count)
{
	uint64_t max = field->max ? field->max : member_max(field->bytes), done = 0, number;
	const uint8_t *before = d->in.at;

	for (; done < count && item_take_uint(&d->in, &number); done++, at += field->bytes) {
		if (number > max) {
			d->in.at = before;
			break;
		}
		before = d->in.at;
		member_store(at, field->bytes, number);
	}
	return done;
}

/* Elements, or bytes, of FIELD. *BASE moves with the tail. */
static int decode_array(struct decoder *d, const struct impost_field *field,
			const struct field_order *order, uint8_t **base, const struct where *where,
			uint32_t depth)
{
	bool is_bytes = field->type == IMPOST_FIELD_TYPE_BYTES;
	struct where element = {.up = where};
	struct item item;
	uint8_t *at = NULL;
	int err = expect(d, is_bytes ? ITEM_BYTES : ITEM_ARRAY, where, &item);

	if (!err)
		err = check_count(d, field, item.number, where);
	if (!err)
		err = make_room(d, field, base, item.number, &at);
	if (err)
		return err;
	if (is_bytes && item.number)
		memcpy(at, item.data, item.number);
	if (field->type == IMPOST_FIELD_TYPE_UINT)
		element.index = decode_numbers(d, field, at, item.number);
	for (; !is_bytes && !err && element.index < item.number; element.index++)
		err = decode_value(d, field, order, at + element.index * field->bytes, &element,
				   depth);
	return err;
}

static int decode_field(struct decoder *d, const struct impost_field *field, uint8_t **base,
			const struct where *up, uint32_t depth)
{
	const struct where where = {.up = up, .name = field->name};
	const struct field_order *order = NULL;
	int err = 0;

	if (field->type == IMPOST_FIELD_TYPE_RECORD)
		err = nested_order(d->ctx, &d->orders, field->record, depth + 1, &order);
	if (err)
		return err;
	if (field->type == IMPOST_FIELD_TYPE_BYTES || (field->flags & IMPOST_FIELD_IS_ARRAY))
		return decode_array(d, field, order, base, &where, depth);
	return decode_value(d, field, order, *base + field->offset, &where, depth);
}

/* --- fields --- */

/* A struct's own `size`, which is its first field if it has one. */
static void set_size(const struct impost_record *record, uint8_t *base, size_t bytes)
{
	const struct impost_field *first = record_field(record, 0);

	if (record->nfields && first->type == IMPOST_FIELD_TYPE_SIZE)
		member_store(base + first->offset, first->bytes, bytes);
}

static void fall_back(const struct impost_field *field, uint8_t *base, uint32_t depth);

static void fall_back_record(const struct impost_record *record, uint8_t *base, uint32_t depth)
{
	for (uint32_t i = 0; depth < IMPOST_RECORD_DEPTH && i < record->nfields; i++)
		fall_back(record_field(record, i), base, depth);
	set_size(record, base, record->bytes);
}

/* What FIELD becomes when the record is of a version without it: its struct is zeroed. */
static void fall_back(const struct impost_field *field, uint8_t *base, uint32_t depth)
{
	uint8_t *at = base + field->offset;

	if (field->where != IMPOST_FIELD_IN_PLACE || field->count_bytes)
		return;
	for (uint32_t i = 0; i < field->count; i++, at += field->bytes) {
		if (field->type == IMPOST_FIELD_TYPE_UINT || field->type == IMPOST_FIELD_TYPE_INT ||
		    field->type == IMPOST_FIELD_TYPE_BOOL)
			member_store(at, field->bytes, field->fallback);
		if (field->type == IMPOST_FIELD_TYPE_RECORD)
			fall_back_record(field->record, at, depth + 1);
	}
}

/* The fields of ORDER before number END, which the map has not. */
static int passed(struct decoder *d, const struct impost_record *record,
		  const struct field_order *order, uint32_t *next, uint32_t end, uint8_t *base,
		  const struct where *up, uint32_t depth)
{
	for (; *next < end; ++*next) {
		const struct impost_field *field = record_field(record, order->index[*next]);
		const struct where where = {.up = up, .name = field->name};

		if (field_present(field, d->version))
			return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, &where,
					   "it is missing, though version %u has it", d->version);
		fall_back(field, base, depth);
	}
	return 0;
}

/* The first field of ORDER from NEXT on whose key is not less than KEY; *ret_equal: it is KEY. */
static uint32_t seek(const struct impost_record *record, const struct field_order *order,
		     uint32_t next, const struct item *key, bool *ret_equal)
{
	int sign = 1;

	for (; next < order->count; next++) {
		sign = item_compare_keys(record_field(record, order->index[next])->name,
					 order->length[next], key->data, key->number);
		if (sign >= 0)
			break;
	}
	*ret_equal = sign == 0;
	return next;
}

/* Whether the next key is the one that is expected, that of field NEXT. It is greater than what
 * came before, for those that are not were passed. */
static bool take_next(struct decoder *d, const struct impost_record *record,
		      const struct field_order *order, uint32_t next, struct item *ret_key)
{
	const struct impost_field *field;

	if (next == order->count)
		return false;
	field = record_field(record, order->index[next]);
	return field_present(field, d->version) &&
	       item_take_key(&d->in, field->name, order->length[next], ret_key);
}

/* A key that the description has not, or not in this version: newer writers may know more. */
static int decode_unknown(struct decoder *d, const struct item *key, const struct where *up,
			  uint32_t depth)
{
	char name[64];
	const struct where where = {.up = up, .name = name};

	if (d->version > d->record->version)
		return item_skip(&d->in, ITEM_DEPTH - 2 * (depth + 1)) ? malformed(d, up) : 0;
	snprintf(name, sizeof(name), "%.*s", key->number < 48 ? (int)key->number : 48,
		 (const char *)key->data);
	return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, &where,
			   "version %u has no such field", d->version);
}

/*
 * The map of RECORD's fields into the struct at BASE. Both the map and ORDER are sorted, so they
 * are gone through side by side. The outermost struct moves when its tail is met: d->saved.
 */
static int decode_fields(struct decoder *d, const struct impost_record *record,
			 const struct field_order *order, uint8_t *base, const struct where *up,
			 uint32_t depth)
{
	struct item map, key = {.data = NULL};
	uint32_t next = 0, found;
	bool known;
	int err = expect(d, ITEM_MAP, up, &map);

	for (uint64_t i = 0; !err && i < map.number; i++) {
		if (take_next(d, record, order, next, &key)) {
			err = decode_field(d, record_field(record, order->index[next++]), &base, up,
					   depth);
			continue;
		}
		if (item_next_key(&d->in, &key, &key))
			return malformed(d, up);
		found = seek(record, order, next, &key, &known);
		err = passed(d, record, order, &next, found, base, up, depth);
		if (err)
			return err;
		if (known && field_present(record_field(record, order->index[next]), d->version))
			err = decode_field(d, record_field(record, order->index[next++]), &base, up,
					   depth);
		else
			err = decode_unknown(d, &key, up, depth);
	}
	if (!err)
		err = passed(d, record, order, &next, order->count, base, up, depth);
	if (!err)
		set_size(record, base, depth ? record->bytes : d->bytes);
	return err;
}

/* --- the whole --- */

/* One of the envelope's keys, which stands next. */
static int envelope_key(struct decoder *d, const char *name)
{
	struct item key;

	if (item_next(&d->in, &key))
		return malformed(d, NULL);
	if (key.type != ITEM_TEXT || key.number != strlen(name) ||
	    memcmp(key.data, name, key.number) != 0)
		return record_fail(d->ctx, -IMPOST_EFORMAT, d->record, NULL,
				   "there is no \"%s\" where a record has it", name);
	return 0;
}

static int envelope_number(struct decoder *d, const char *name, uint32_t *ret_number)
{
	const struct where where = {.name = name};
	struct item item;
	int err = envelope_key(d, name);

	if (!err)
		err = expect(d, ITEM_UINT, &where, &item);
	if (!err && (item.number == 0 || item.number > UINT32_MAX))
		err = record_fail(d->ctx, -IMPOST_EFORMAT, d->record, &where,
				  "%" PRIu64 " is no version", item.number);
	if (!err)
		*ret_number = (uint32_t)item.number;
	return err;
}

static int check_version(struct decoder *d, uint32_t version, uint32_t compatible)
{
	const struct impost_record *record = d->record;

	if (compatible > version)
		return record_fail(d->ctx, -IMPOST_EFORMAT, record, NULL,
				   "version %u says that only readers of version %u read it",
				   version, compatible);
	if (version < record->oldest)
		return record_fail(d->ctx, -IMPOST_EFORMAT, record, NULL,
				   "it is of version %u, and the oldest that is read is %u",
				   version, record->oldest);
	if (compatible > record->version)
		return record_fail(d->ctx, -IMPOST_EFORMAT, record, NULL,
				   "it is of version %u, which only readers of version %u and "
				   "later read; this is one of version %u",
				   version, compatible, record->version);
	/* What is written in a version that is known says of it what its description says. */
	if (version == record->version && compatible != record->compatible)
		return record_fail(d->ctx, -IMPOST_EFORMAT, record, NULL,
				   "version %u is for readers of version %u and later, not %u",
				   version, record->compatible, compatible);
	return 0;
}

static int decode_envelope(struct decoder *d)
{
	uint32_t version, compatible;
	struct item map;
	int err = expect(d, ITEM_MAP, NULL, &map);

	if (!err && map.number != 3)
		err = record_fail(d->ctx, -IMPOST_EFORMAT, d->record, NULL,
				  "a map of %" PRIu64 " keys, not of the 3 that a record has",
				  map.number);
	if (!err)
		err = envelope_number(d, RECORD_COMPAT, &compatible);
	if (!err)
		err = envelope_number(d, RECORD_VERSION, &version);
	if (!err)
		err = envelope_key(d, RECORD_CONTENTS);
	if (!err)
		err = check_version(d, version, compatible);
	if (!err)
		d->version = version;
	return err;
}

static int decode(struct decoder *d)
{
	const struct field_order *order;
	int err = decode_envelope(d);

	if (!err)
		err = nested_order(d->ctx, &d->orders, d->record, 0, &order);
	if (err)
		return err;
	err = decode_fields(d, d->record, order, d->saved, NULL, 0);
	return !err && item_end(&d->in) ? malformed(d, NULL) : err;
}

int record_decode_new(struct impost_context *ctx, const struct impost_record *record,
		      const void *data, size_t len, void **ret_saved, size_t *ret_bytes,
		      uint32_t *ret_version)
{
	struct decoder d; /* of which the orders are long, and nothing before they are made */
	int err = record_check(ctx, record, 0);

	if (err)
		return err;
	d.ctx = ctx;
	d.record = record;
	memset(d.orders.of, 0, sizeof(d.orders.of));
	d.bytes = record->bytes;
	d.saved = calloc(1, d.bytes ? d.bytes : 1);
	if (!d.saved)
		return no_memory(&d);
	item_begin(&d.in, data, len);
	err = decode(&d);
	if (err) {
		record_free(record, d.saved);
		return err;
	}
	*ret_saved = d.saved;
	*ret_bytes = d.bytes;
	if (ret_version)
		*ret_version = d.version;
	return 0;
}

int impost_record_decode(struct impost_context *ctx, const struct impost_record *record,
			 const void *data, size_t len, void *ret_saved, size_t capacity,
			 uint32_t *ret_version)
{
	uint32_t version;
	size_t bytes;
	void *saved;
	int err = record_decode_new(ctx, record, data, len, &saved, &bytes, &version);

	if (err)
		return err;
	if (bytes > capacity) {
		record_free(record, saved);
		return record_fail(ctx, -ENOSPC, record, NULL,
				   "it takes %zu bytes decoded, and there is room for %zu", bytes,
				   capacity);
	}
	memcpy(ret_saved, saved, bytes);
	free(saved); /* what it points to is the caller's */
	if (ret_version)
		*ret_version = version;
	return 0;
}

int impost_record_measure(struct impost_context *ctx, const struct impost_record *record,
			  const void *data, size_t len, size_t *ret_bytes)
{
	void *saved;
	int err = record_decode_new(ctx, record, data, len, &saved, ret_bytes, NULL);

	if (!err)
		record_free(record, saved);
	return err;
}
