/* SPDX-License-Identifier: Apache-2.0 */
/* Records by properties: descriptions and values at random, and encodings that are damaged. */
#include <criterion/criterion.h>

#include "random.h"

#define MODEL_CHECK(condition) cr_assert(condition)
#include "record_model.h"

#define ROUNDS 400

static uint64_t draw(void *source, uint64_t below)
{
	return random_number(source) % below;
}

/* The next description with a value: its encoding. */
static size_t next(struct model *m, uint8_t **ret_saved, uint8_t **ret_data)
{
	model_describe(m);
	*ret_saved = calloc(1, model_room(m->records));
	model_fill(m, m->records, *ret_saved);
	return model_encode(m->records, *ret_saved, ret_data);
}

Test(record_properties, what_was_encoded_is_decoded)
{
	uint64_t seed = 1;
	struct model m = {.draw = draw, .source = &seed};

	for (int round = 0; round < 10 * ROUNDS; round++) {
		uint8_t *saved, *data;
		size_t len = next(&m, &saved, &data);

		cr_expect(model_judge(m.records, data, len));
		model_show(m.records, data, len);
		model_free(m.records, saved);
		free(data);
	}
}

/* What differs between two values is what diff tells of: no more, and no less. */
Test(record_properties, diff_tells_of_one_change)
{
	uint64_t seed = 2;
	struct model m = {.draw = draw, .source = &seed};

	for (int round = 0; round < ROUNDS; round++) {
		const struct impost_record *record = m.records;
		uint8_t *saved, *other, *data, *changed;
		size_t len = next(&m, &saved, &data), changed_len, differences = 0;

		other = calloc(1, model_room(record));
		model_fill(&m, record, other);
		changed_len = model_encode(record, other, &changed);
		cr_expect(impost_record_diff(NULL, record, saved, other, model_count,
					     &differences) == 0);
		cr_expect((differences == 0) ==
			  (len == changed_len && memcmp(data, changed, len) == 0));
		model_free(record, saved);
		model_free(record, other);
		free(data);
		free(changed);
	}
}

Test(record_properties, every_truncation_is_refused)
{
	uint64_t seed = 3;
	struct model m = {.draw = draw, .source = &seed};

	for (int round = 0; round < ROUNDS / 4; round++) {
		uint8_t *saved, *data;
		size_t len = next(&m, &saved, &data);

		for (size_t cut = 0; cut < len; cut++) {
			/* Exactly as long as it is, for the sanitizers. */
			uint8_t *part = malloc(cut ? cut : 1);

			memcpy(part, data, cut);
			cr_expect(!model_judge(m.records, part, cut));
			model_show(m.records, part, cut);
			free(part);
		}
		data = realloc(data, len + 1);
		data[len] = 0;
		cr_expect(!model_judge(m.records, data, len + 1), "a byte more");
		model_free(m.records, saved);
		free(data);
	}
}

Test(record_properties, every_flipped_bit_is_refused_or_one_encoding)
{
	uint64_t seed = 4, taken = 0, refused = 0;
	struct model m = {.draw = draw, .source = &seed};

	for (int round = 0; round < ROUNDS / 8; round++) {
		uint8_t *saved, *data;
		size_t len = next(&m, &saved, &data);

		for (size_t bit = 0; bit < 8 * len; bit++) {
			data[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (model_judge(m.records, data, len))
				taken++;
			else
				refused++;
			model_show(m.records, data, len);
			data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		model_free(m.records, saved);
		free(data);
	}
	cr_expect(taken > 100 && refused > 1000, "%llu taken, %llu refused",
		  (unsigned long long)taken, (unsigned long long)refused);
}

/* Of the same description, a writer of one version and a reader of another. */
Test(record_properties, versions_meet)
{
	uint64_t seed = 5;
	struct model m = {.draw = draw, .source = &seed};

	for (int round = 0; round < 4 * ROUNDS; round++) {
		struct impost_record writer, reader;
		uint8_t *saved, *read, *data, *unused;
		uint32_t version = 0;
		size_t len, room;
		int err;

		next(&m, &saved, &unused);
		free(unused);
		writer = reader = m.records[0];
		writer.version = 1 + random_below(&seed, MODEL_VERSION);
		reader.version = 1 + random_below(&seed, MODEL_VERSION);
		writer.compatible = 1 + random_below(&seed, writer.version);
		reader.oldest = 1 + random_below(&seed, reader.version);
		reader.compatible = writer.compatible;
		len = model_encode(&writer, saved, &data);
		room = model_room(&reader);
		read = calloc(1, room);
		err = impost_record_decode(NULL, &reader, data, len, read, room, &version);
		/* A field that ended is missed by the older readers that know it. */
		if (writer.compatible > reader.version || writer.version < reader.oldest)
			cr_expect_eq(err, -IMPOST_EFORMAT);
		else if (writer.version <= reader.version)
			cr_expect_eq(err, 0);
		if (!err)
			cr_expect_eq(version, writer.version);
		model_free(&reader, read);
		model_free(&writer, saved);
		free(data);
	}
}
