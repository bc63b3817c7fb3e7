/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between two encoded records, field by field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record_text.h"

struct diff {
	struct impost_context *ctx;
	impost_difference_fn fn;
	void *opaque;
	int err; /* what fn returned */
};

static void diff_items(struct diff *d, struct item_reader *a, struct item_reader *b,
		       const struct impost_record *record, const struct impost_field *field,
		       const struct where *where);

/* --- texts of values --- */

struct text {
	char *bytes;
	size_t len;
};

static int append(void *opaque, const char *bytes, size_t len)
{
	struct text *text = opaque;
	char *grown = realloc(text->bytes, text->len + len + 1);

	if (!grown)
		return -ENOMEM;
	memcpy(grown + text->len, bytes, len);
	text->bytes = grown;
	text->len += len;
	grown[text->len] = '\0';
	return 0;
}

/* The item at READER, which may be NULL, in one line; arrays and maps as JSON. */
static int value_text(struct item_reader *reader, const struct impost_record *record,
		      const struct impost_field *field, struct text *text)
{
	struct out out = {.write = append, .opaque = text};
	struct item_reader at;
	struct item item;

	if (!reader)
		return 0;
	at = *reader;
	if (item_next(reader, &item))
		return -IMPOST_EFORMAT;
	if ((item.type == ITEM_ARRAY || item.type == ITEM_MAP) && item.number) {
		out_json(&out, &at, record);
		*reader = at;
	} else {
		out_leaf(&out, &item, field);
	}
	return out.err;
}

static void tell(struct diff *d, const struct where *where, const char *a, const char *b)
{
	char path[WHERE_MAX];

	where_format(where, path, sizeof(path));
	if (!d->err)
		d->err = d->fn(d->opaque, *path ? path : ".", a, b);
}

/* Tells of two items as they are, of which one may be NULL, and goes past them. */
static void tell_items(struct diff *d, struct item_reader *a, struct item_reader *b,
		       const struct impost_record *record, const struct impost_field *field,
		       const struct where *where)
{
	struct text texts[2] = {{NULL, 0}, {NULL, 0}};
	int err = value_text(a, record, field, &texts[0]);

	if (!err)
		err = value_text(b, record, field, &texts[1]);
	if (!err)
		tell(d, where, texts[0].bytes, texts[1].bytes);
	else if (!d->err)
		d->err = impost_error_set(d->ctx, err, "no memory for a difference");
	free(texts[0].bytes);
	free(texts[1].bytes);
}

/* --- byte strings, by row --- */

static size_t row_length(const struct item *item, uint64_t at)
{
	if (at >= item->number)
		return 0;
	return item->number - at < ROW_BYTES ? item->number - at : ROW_BYTES;
}

static void diff_row(struct diff *d, const struct item *a, const struct item *b, uint64_t at,
		     const char *path)
{
	size_t a_len = row_length(a, at), b_len = row_length(b, at);
	char name[WHERE_MAX + 24], texts[2][ROW_BYTES * 3 + 1];
	const struct where where = {.name = name};

	if (a_len == b_len && memcmp(a->data + at, b->data + at, a_len) == 0)
		return;
	snprintf(name, sizeof(name), "%s[0x%04llx]", path, (unsigned long long)at);
	for (size_t i = 0; i < a_len; i++)
		snprintf(texts[0] + 3 * i, 4, "%02x ", a->data[at + i]);
	for (size_t i = 0; i < b_len; i++)
		snprintf(texts[1] + 3 * i, 4, "%02x ", b->data[at + i]);
	for (int side = 0; side < 2; side++) {
		size_t len = side ? b_len : a_len;

		texts[side][len ? 3 * len - 1 : 0] = '\0';
	}
	tell(d, &where, a_len ? texts[0] : NULL, b_len ? texts[1] : NULL);
}

static void diff_bytes(struct diff *d, const struct item *a, const struct item *b,
		       const struct where *where)
{
	uint64_t most = a->number > b->number ? a->number : b->number;
	char path[WHERE_MAX];

	where_format(where, path, sizeof(path));
	for (uint64_t at = 0; !d->err && at < most; at += ROW_BYTES)
		diff_row(d, a, b, at, path);
}

/* --- maps and arrays --- */

/* One key, which either side may lack. */
static void diff_entry(struct diff *d, struct item_reader *a, struct item_reader *b,
		       const struct impost_field *field, const char *name, const struct where *up)
{
	const struct where where = {.up = up, .name = name};
	const struct impost_record *record = field ? field->record : NULL;

	if (a && b)
		diff_items(d, a, b, record, field, &where);
	else if (a || b)
		tell_items(d, a, b, record, field, &where);
}

/* What is described, in that order. */
static void diff_described(struct diff *d, const struct item_reader *a, uint64_t na,
			   const struct item_reader *b, uint64_t nb,
			   const struct impost_record *record, const struct where *where)
{
	for (uint32_t i = 0; record && i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);
		struct item_reader in_a = *a, in_b = *b;
		bool has_a = map_find(&in_a, na, field->name);
		bool has_b = map_find(&in_b, nb, field->name);

		diff_entry(d, has_a ? &in_a : NULL, has_b ? &in_b : NULL, field, field->name,
			   where);
	}
}

/* The pairs of a map that are left. */
struct pairs {
	struct item_reader *reader;
	const struct impost_record *record;
	uint64_t left;
	struct item key; /* `data` NULL: there is none */
};

/* Goes on to the next pair that the description has not told of. */
static void advance(struct pairs *pairs)
{
	for (; pairs->left > 0; item_skip(pairs->reader, ITEM_DEPTH)) {
		pairs->left--;
		if (item_next(pairs->reader, &pairs->key))
			break;
		if (!key_field(pairs->record, &pairs->key))
			return;
	}
	pairs->key.data = NULL;
}

/* The rest: both sides are sorted by key. */
static void diff_rest(struct diff *d, struct pairs *a, struct pairs *b, const struct where *where)
{
	advance(a);
	advance(b);
	while (a->key.data || b->key.data) {
		char name[KEY_NAME_MAX];
		int order = !a->key.data   ? 1
			    : !b->key.data ? -1
					   : item_compare_keys(a->key.data, a->key.number,
							       b->key.data, b->key.number);

		key_name(order <= 0 ? &a->key : &b->key, name);
		diff_entry(d, order <= 0 ? a->reader : NULL, order >= 0 ? b->reader : NULL, NULL,
			   name, where);
		if (order <= 0)
			advance(a);
		if (order >= 0)
			advance(b);
	}
}

static void diff_maps(struct diff *d, struct item_reader *a, uint64_t na, struct item_reader *b,
		      uint64_t nb, const struct impost_record *record, const struct where *where)
{
	struct pairs rest_a = {.reader = a, .record = record, .left = na};
	struct pairs rest_b = {.reader = b, .record = record, .left = nb};

	diff_described(d, a, na, b, nb, record, where);
	diff_rest(d, &rest_a, &rest_b, where);
}

static void diff_arrays(struct diff *d, struct item_reader *a, uint64_t na, struct item_reader *b,
			uint64_t nb, const struct impost_record *record,
			const struct impost_field *field, const struct where *up)
{
	struct where where = {.up = up};

	for (; where.index < na || where.index < nb; where.index++) {
		if (where.index < na && where.index < nb)
			diff_items(d, a, b, record, field, &where);
		else
			tell_items(d, where.index < na ? a : NULL, where.index < nb ? b : NULL,
				   record, field, &where);
	}
}

/* Goes past the item at READER; *ret_len: bytes that it takes. */
static const uint8_t *extent(struct item_reader *reader, size_t *ret_len)
{
	const uint8_t *start = reader->at;

	item_skip(reader, ITEM_DEPTH);
	*ret_len = (size_t)(reader->at - start);
	return start;
}

/* Compares the items at A and B, and goes past them. */
static void diff_items(struct diff *d, struct item_reader *a, struct item_reader *b,
		       const struct impost_record *record, const struct impost_field *field,
		       const struct where *where)
{
	struct item_reader at_a = *a, at_b = *b, in_a = *a, in_b = *b;
	struct item item_a, item_b;
	size_t a_len, b_len;
	const uint8_t *a_bytes = extent(a, &a_len), *b_bytes = extent(b, &b_len);

	if (d->err || (a_len == b_len && memcmp(a_bytes, b_bytes, a_len) == 0))
		return;
	if (item_next(&in_a, &item_a) || item_next(&in_b, &item_b))
		return;
	if (item_a.type == item_b.type && item_a.type == ITEM_MAP)
		diff_maps(d, &in_a, item_a.number, &in_b, item_b.number, record, where);
	else if (item_a.type == item_b.type && item_a.type == ITEM_ARRAY)
		diff_arrays(d, &in_a, item_a.number, &in_b, item_b.number, record, field, where);
	else if (item_a.type == item_b.type && item_a.type == ITEM_BYTES &&
		 (item_a.number > ROW_BYTES || item_b.number > ROW_BYTES))
		diff_bytes(d, &item_a, &item_b, where);
	else
		tell_items(d, &at_a, &at_b, record, field, where);
}

/* --- the calls --- */

static void diff_number(struct diff *d, const char *name, uint64_t a, uint64_t b)
{
	const struct where where = {.name = name};
	char texts[2][24];

	if (a == b)
		return;
	snprintf(texts[0], sizeof(texts[0]), "%llu", (unsigned long long)a);
	snprintf(texts[1], sizeof(texts[1]), "%llu", (unsigned long long)b);
	tell(d, &where, texts[0], texts[1]);
}

int impost_cbor_diff(struct impost_context *ctx, const struct impost_record *record, const void *a,
		     size_t a_len, const void *b, size_t b_len, impost_difference_fn fn,
		     void *opaque)
{
	struct diff d = {.ctx = ctx, .fn = fn, .opaque = opaque};
	struct item_reader in_a, in_b, at_a, at_b;
	struct envelope env_a, env_b;
	int err = text_begin(ctx, record, a, a_len, &in_a);

	if (!err)
		err = text_begin(ctx, record, b, b_len, &in_b);
	if (err)
		return err;
	at_a = in_a;
	at_b = in_b;
	if (envelope_open(&in_a, &env_a) && envelope_open(&in_b, &env_b)) {
		diff_number(&d, RECORD_VERSION, env_a.version, env_b.version);
		diff_number(&d, RECORD_COMPAT, env_a.compat, env_b.compat);
		diff_items(&d, &in_a, &in_b, record, NULL, NULL);
	} else {
		diff_items(&d, &at_a, &at_b, NULL, NULL, NULL);
	}
	return d.err;
}

int impost_record_diff(struct impost_context *ctx, const struct impost_record *record,
		       const void *a, const void *b, impost_difference_fn fn, void *opaque)
{
	void *data[2] = {NULL, NULL};
	size_t len[2];
	int err = record_encode_new(ctx, record, a, &data[0], &len[0]);

	if (!err)
		err = record_encode_new(ctx, record, b, &data[1], &len[1]);
	if (!err)
		err = impost_cbor_diff(ctx, record, data[0], len[0], data[1], len[1], fn, opaque);
	free(data[0]);
	free(data[1]);
	return err;
}
