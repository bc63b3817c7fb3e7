/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptions and values drawn at random, for tests of records by properties, and for fuzzing.
 * The includer defines MODEL_CHECK(condition).
 */
#ifndef TESTS_UNIT_RECORD_MODEL_H
#define TESTS_UNIT_RECORD_MODEL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/record.h>

#define MODEL_RECORDS  12
#define MODEL_FIELDS   6 /* of a record */
#define MODEL_VERSION  4
#define MODEL_DEPTH    3
#define MODEL_TAIL_MAX 64

struct model {
	uint64_t (*draw)(void *source, uint64_t below); /* 0 to BELOW - 1 */
	void *source;
	unsigned nrecords;
	struct impost_record records[MODEL_RECORDS]; /* [0] is the outermost */
	struct impost_field fields[MODEL_RECORDS][MODEL_FIELDS];
	char names[MODEL_RECORDS][MODEL_FIELDS][8];
};

static inline uint32_t model_draw(struct model *m, uint32_t below)
{
	return (uint32_t)m->draw(m->source, below);
}

static inline uint64_t model_max(uint32_t bytes)
{
	return bytes < 8 ? (UINT64_C(1) << 8 * bytes) - 1 : UINT64_MAX;
}

static inline bool model_is_number(const struct impost_field *field)
{
	return field->type <= IMPOST_FIELD_TYPE_BOOL;
}

/* A value that FIELD can have. */
static inline uint64_t model_value(struct model *m, const struct impost_field *field)
{
	uint64_t max = field->max ? field->max : model_max(field->bytes), value;

	if (field->type == IMPOST_FIELD_TYPE_BOOL)
		return m->draw(m->source, 2);
	/* Small ones and the largest ones are where encodings change. */
	value = m->draw(m->source, UINT64_C(1) << (1 + model_draw(m, 63)));
	if (model_draw(m, 4) == 0)
		value = max - value;
	return max == UINT64_MAX ? value : value % (max + 1);
}

static inline struct impost_record *model_record(struct model *m, uint32_t depth);

static inline void model_choose_type(struct model *m, struct impost_field *field, uint32_t depth)
{
	bool nests = depth + 1 < MODEL_DEPTH && m->nrecords < MODEL_RECORDS;

	field->type = 1 + model_draw(m, nests ? 6 : 5);
	field->bytes = 1;
	if (model_is_number(field))
		field->bytes = 1u << model_draw(m, 4);
	if (field->type == IMPOST_FIELD_TYPE_TEXT)
		field->bytes = 1 + model_draw(m, 30);
	if (field->type == IMPOST_FIELD_TYPE_RECORD) {
		field->record = model_record(m, depth + 1);
		field->bytes = field->record->bytes;
	}
	if (field->type == IMPOST_FIELD_TYPE_UINT && model_draw(m, 2))
		field->max = 1 + model_value(m, field) / 2;
	if (field->type == IMPOST_FIELD_TYPE_UINT || field->type == IMPOST_FIELD_TYPE_BOOL)
		field->fallback = model_value(m, field);
	if (field->type == IMPOST_FIELD_TYPE_INT)
		field->fallback = 0 - (uint64_t)model_draw(m, 100);
}

/* Where it is, and the counter; *AT is the end of the struct so far. */
static inline void model_choose_place(struct model *m, struct impost_field *field, uint32_t *at,
				      bool may_be_tail)
{
	field->count = 1;
	if (field->type == IMPOST_FIELD_TYPE_BYTES || model_draw(m, 2)) {
		field->flags = IMPOST_FIELD_IS_ARRAY;
		field->count = 1 + model_draw(m, 6);
		field->where = model_draw(m, may_be_tail ? 3 : 2);
	}
	if (field->where == IMPOST_FIELD_TAIL)
		field->count = 1 + model_draw(m, MODEL_TAIL_MAX);
	if (field->type == IMPOST_FIELD_TYPE_RECORD && field->flags)
		field->count = 1 + model_draw(m, 2);
	if (field->where || (field->flags && model_draw(m, 2))) {
		field->count_bytes = 1u << model_draw(m, 4);
		field->count_offset = *at;
		*at += field->count_bytes;
	}
	field->offset = *at;
	if (field->where == IMPOST_FIELD_IN_PLACE)
		*at += field->bytes * field->count;
	if (field->where == IMPOST_FIELD_POINTER)
		*at += (uint32_t)sizeof(void *);
	if (model_draw(m, 2))
		field->flags |= IMPOST_FIELD_HEX;
}

static inline struct impost_record *model_record(struct model *m, uint32_t depth)
{
	unsigned number = m->nrecords++;
	struct impost_record *record = &m->records[number];
	uint32_t nfields = model_draw(m, MODEL_FIELDS + 1), at = 0;

	for (uint32_t i = 0; i < nfields; i++) {
		struct impost_field *field = &m->fields[number][i];

		snprintf(m->names[number][i], sizeof(m->names[number][i]), "%.*s%c",
			 (int)model_draw(m, 5), "zyxw", 'a' + (char)((i * 5) % 7));
		*field = (struct impost_field){.name = m->names[number][i], .doc = "drawn"};
		field->since = 1 + model_draw(m, MODEL_VERSION);
		if (model_draw(m, 4) == 0)
			field->until = field->since + model_draw(m, MODEL_VERSION);
		model_choose_type(m, field, depth);
		model_choose_place(m, field, &at, depth == 0 && i == nfields - 1);
	}
	*record = (struct impost_record){
		.size = sizeof(*record),
		.field_bytes = sizeof(struct impost_field),
		.version = MODEL_VERSION,
		.oldest = 1,
		.compatible = 1,
		.bytes = at,
		.name = "drawn",
		.doc = "drawn",
		.fields = m->fields[number],
		.nfields = nfields,
	};
	return record;
}

/* Draws a description: m->records[0]. */
static inline void model_describe(struct model *m)
{
	m->nrecords = 0;
	model_record(m, 0);
	MODEL_CHECK(impost_record_verify(NULL, &m->records[0]) == 0);
}

static inline void model_fill(struct model *m, const struct impost_record *record, uint8_t *base);

static inline void model_fill_element(struct model *m, const struct impost_field *field,
				      uint8_t *at)
{
	uint64_t value;

	if (model_is_number(field)) {
		value = model_value(m, field);
		memcpy(at, &value, field->bytes);
	} else if (field->type == IMPOST_FIELD_TYPE_RECORD) {
		model_fill(m, field->record, at);
	} else if (field->type == IMPOST_FIELD_TYPE_BYTES) {
		*at = (uint8_t)model_draw(m, 256);
	} else {
		snprintf((char *)at, field->bytes, "%.*s", (int)model_draw(m, field->bytes),
			 "text \xc3\xbc \x7f \" \\ \xe2\x82\xac and more");
		/* Not in the middle of a character. */
		for (char *end = (char *)at; *end; end++)
			if (*end & 0x80)
				*end = '?';
	}
}

/* Fills the zeroed struct at BASE, with room for the longest tail. */
static inline void model_fill(struct model *m, const struct impost_record *record, uint8_t *base)
{
	for (uint32_t i = 0; i < record->nfields; i++) {
		const struct impost_field *field = &record->fields[i];
		uint64_t count = field->count;
		uint8_t *at = base + field->offset;

		if (field->count_bytes) {
			count = model_draw(m, field->count + 1);
			memcpy(base + field->count_offset, &count, field->count_bytes);
		}
		if (field->where == IMPOST_FIELD_POINTER) {
			at = count ? calloc(count, field->bytes ? field->bytes : 1) : NULL;
			memcpy(base + field->offset, &at, sizeof(at));
		}
		for (uint64_t n = 0; n < count; n++, at += field->bytes)
			model_fill_element(m, field, at);
	}
}

/* Encodes SAVED; *ret_data is freed with free(3). */
static inline size_t model_encode(const struct impost_record *record, const void *saved,
				  uint8_t **ret_data)
{
	size_t len = 0, asked = 0;

	MODEL_CHECK(impost_record_encode(NULL, record, saved, NULL, 0, &asked) == -ENOSPC);
	*ret_data = malloc(asked);
	MODEL_CHECK(impost_record_encode(NULL, record, saved, *ret_data, asked, &len) == 0);
	MODEL_CHECK(asked == len);
	return len;
}

/* Bytes of a struct with the longest tail. */
static inline size_t model_room(const struct impost_record *record)
{
	size_t bytes = record->bytes + 1;

	for (uint32_t i = 0; i < record->nfields; i++)
		if (record->fields[i].where == IMPOST_FIELD_TAIL)
			bytes += (size_t)record->fields[i].count * record->fields[i].bytes;
	return bytes;
}

static inline void model_free(const struct impost_record *record, uint8_t *saved)
{
	impost_record_release(record, saved);
	free(saved);
}

static inline int model_swallow(void *opaque, const char *text, size_t len)
{
	*(size_t *)opaque += len;
	return text == NULL;
}

static inline int model_count(void *opaque, const char *path, const char *a, const char *b)
{
	*(size_t *)opaque += 1;
	return path == NULL || (a == NULL && b == NULL);
}

/*
 * Decodes DATA, whatever it is. It is refused and nothing is touched; or it has one encoding, which
 * is DATA, if it is of the description's version; and if it is of another, what is written of it
 * is read back the same.
 */
static inline bool model_judge(const struct impost_record *record, const uint8_t *data, size_t len)
{
	size_t room = model_room(record), encoded, differences = 0;
	uint8_t *saved = malloc(room), *again = malloc(room), *bytes, *twice;
	uint32_t version = 0;
	int err;

	memset(saved, 0xa5, room);
	err = impost_record_decode(NULL, record, data, len, saved, room, &version);
	if (err) {
		MODEL_CHECK(err == -IMPOST_EFORMAT && version == 0);
		for (size_t i = 0; i < room; i++)
			MODEL_CHECK(saved[i] == 0xa5);
		free(saved);
		free(again);
		return false;
	}
	MODEL_CHECK(impost_cbor_check(NULL, data, len) == 0);
	encoded = model_encode(record, saved, &bytes);
	if (version == record->version)
		MODEL_CHECK(encoded == len && memcmp(bytes, data, len) == 0);
	MODEL_CHECK(impost_record_decode(NULL, record, bytes, encoded, again, room, NULL) == 0);
	MODEL_CHECK(model_encode(record, again, &twice) == encoded);
	MODEL_CHECK(memcmp(bytes, twice, encoded) == 0);
	MODEL_CHECK(impost_record_diff(NULL, record, saved, again, model_count, &differences) == 0);
	MODEL_CHECK(differences == 0);
	model_free(record, saved);
	model_free(record, again);
	free(bytes);
	free(twice);
	return true;
}

/* Whatever DATA is, it can be shown, or is refused, and differs from itself in nothing. */
static inline void model_show(const struct impost_record *record, const uint8_t *data, size_t len)
{
	size_t written = 0, differences = 0;
	int err = impost_cbor_check(NULL, data, len);

	MODEL_CHECK(err == 0 || err == -IMPOST_EFORMAT);
	MODEL_CHECK(impost_cbor_print(NULL, record, data, len, model_swallow, &written) == err);
	MODEL_CHECK(impost_cbor_json(NULL, NULL, data, len, model_swallow, &written) == err);
	MODEL_CHECK(err ? written == 0 : written > 0);
	MODEL_CHECK(impost_cbor_diff(NULL, record, data, len, data, len, model_count,
				     &differences) == err);
	MODEL_CHECK(differences == 0);
}

#endif
