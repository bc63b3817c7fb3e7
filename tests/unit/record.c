/* SPDX-License-Identifier: Apache-2.0 */
/* Records: every kind of field there and back, what is refused and how, and versions that meet. */
#include <stdlib.h>

#include "core.h"

struct point {
	int16_t x;
	uint8_t y;
};

IMPOST_FIELDS(point_fields, IMPOST_FIELD_INT(struct point, x, 1, -7, "From the left"),
	      IMPOST_FIELD_UINT(struct point, y, 1, 3, "From the top", .max = 200), )
IMPOST_RECORD(point_record, "point", struct point, 1, 1, 1, point_fields, "A point")

struct all {
	uint32_t size;
	uint8_t flag;
	bool on;
	uint64_t wide;
	int64_t deep;
	char name[12];
	uint8_t mac[6];
	struct point corner;
	struct point *points;
	uint16_t npoints;
	uint16_t some[5];
	uint32_t nsome;
	char names[2][4];
	uint64_t nrest;
	uint8_t rest[];
};

IMPOST_FIELDS(all_fields, IMPOST_FIELD_SIZE(struct all, size),
	      IMPOST_FIELD_BOOL(struct all, flag, 1, 0, "A flag"),
	      IMPOST_FIELD_BOOL(struct all, on, 1, 1, "Another"),
	      IMPOST_FIELD_HEX_UINT(struct all, wide, 1, 0, "All bits"),
	      IMPOST_FIELD_INT(struct all, deep, 1, 0, "All of those too"),
	      IMPOST_FIELD_TEXT(struct all, name, 1, "A name"),
	      IMPOST_FIELD_BYTES(struct all, mac, 1, "An address"),
	      IMPOST_FIELD_RECORD(struct all, corner, 1, &point_record, "A point"),
	      IMPOST_FIELD_POINTER_TO(struct all, points, RECORD, npoints, 1000, 1, "Points",
				      .record = &point_record),
	      IMPOST_FIELD_ARRAY(struct all, some, UINT, 1, "Some numbers",
				 IMPOST_COUNTED(struct all, nsome)),
	      IMPOST_FIELD_ARRAY(struct all, names, TEXT, 1, "Two names"),
	      IMPOST_FIELD_TAIL_OF(struct all, rest, BYTES, nrest, 4096, 1, "The rest"), )
IMPOST_RECORD(all_record, "all", struct all, 1, 1, 1, all_fields, "Everything")

#define REST 5u

/* One of everything; free with impost_record_release() and free(). */
static struct all *make_all(void)
{
	struct all *all = calloc(1, sizeof(*all) + REST);

	*all = (struct all){
		.size = sizeof(*all) + REST,
		.flag = 1,
		.wide = UINT64_MAX,
		.deep = INT64_MIN,
		.name = "Gr\xc3\xbc\xc3\x9f"
			"e",
		.mac = {2, 0, 0, 0, 0, 255},
		.corner = {INT16_MIN, 200},
		.points = calloc(3, sizeof(struct point)),
		.npoints = 3,
		.some = {1, 65535},
		.nsome = 2,
		.names = {"abc", ""},
		.nrest = REST,
	};
	all->points[1] = (struct point){INT16_MAX, 1};
	memset(all->rest, 0x5a, REST);
	return all;
}

static void free_all(struct all *all)
{
	impost_record_release(&all_record, all);
	free(all);
}

/* Members of both, but for the pointer, and what it points to. */
static void expect_equal(const struct all *a, const struct all *b)
{
	cr_expect(a->size == b->size && a->flag == b->flag && a->on == b->on);
	cr_expect(a->wide == b->wide && a->deep == b->deep);
	cr_expect_arr_eq(a->name, b->name, sizeof(a->name));
	cr_expect_arr_eq(a->mac, b->mac, sizeof(a->mac));
	cr_expect(a->corner.x == b->corner.x && a->corner.y == b->corner.y);
	cr_assert(a->npoints == b->npoints && a->nrest == b->nrest && a->nsome == b->nsome);
	for (size_t i = 0; i < a->npoints; i++)
		cr_expect(a->points[i].x == b->points[i].x && a->points[i].y == b->points[i].y);
	cr_expect_arr_eq(a->some, b->some, sizeof(a->some));
	cr_expect_arr_eq(a->names, b->names, sizeof(a->names));
	cr_expect_arr_eq(a->rest, b->rest, a->nrest);
}

Test(record, every_kind_of_field_comes_back)
{
	struct impost_context *ctx = open_context();
	struct all *all = make_all(), *back;
	uint32_t version = 0;
	uint8_t data[512];
	size_t len, bytes;

	expect_ok(ctx, impost_record_verify(ctx, &all_record));
	expect_ok(ctx, impost_record_encode(ctx, &all_record, all, data, sizeof(data), &len));
	expect_ok(ctx, impost_record_measure(ctx, &all_record, data, len, &bytes));
	cr_expect_eq(bytes, sizeof(*all) + REST, "%zu bytes", bytes);
	back = malloc(bytes);
	expect_error(ctx,
		     impost_record_decode(ctx, &all_record, data, len, back, bytes - 1, &version),
		     -ENOSPC, "room for");
	cr_expect_eq(version, 0);
	expect_ok(ctx, impost_record_decode(ctx, &all_record, data, len, back, bytes, &version));
	cr_expect_eq(version, 1);
	cr_expect_eq(back->size, bytes);
	back->size = all->size;
	expect_equal(all, back);
	free_all(all);
	free_all(back);
	impost_context_close(ctx);
}

/* --- texts --- */

struct written {
	char text[8192];
	size_t len;
};

static int keep(void *opaque, const char *text, size_t len)
{
	struct written *written = opaque;

	cr_assert_lt(written->len + len, sizeof(written->text));
	memcpy(written->text + written->len, text, len);
	written->len += len;
	written->text[written->len] = '\0';
	return 0;
}

static int keep_difference(void *opaque, const char *path, const char *a, const char *b)
{
	struct written *written = opaque;

	written->len += (size_t)snprintf(written->text + written->len,
					 sizeof(written->text) - written->len, "%s: %s -> %s\n",
					 path, a ? a : "-", b ? b : "-");
	return 0;
}

#define expect_text(written, expected)                                                           \
	cr_expect(strcmp((written).text, expected) == 0, "it is:\n%s\nnot:\n%s", (written).text, \
		  expected)

Test(record, print_has_a_line_for_each_value)
{
	struct impost_context *ctx = open_context();
	struct all *all = make_all();
	struct written written = {.len = 0};

	expect_ok(ctx, impost_record_print(ctx, &all_record, all, keep, &written));
	expect_text(written, "version: 1\n"
			     "flag: true\n"
			     "on: false\n"
			     "wide: 0xffffffffffffffff\n"
			     "deep: -9223372036854775808\n"
			     "name: \"Grüße\"\n"
			     "mac: 02 00 00 00 00 ff\n"
			     "corner.x: -32768\n"
			     "corner.y: 200\n"
			     "points[0].x: 0\n"
			     "points[0].y: 0\n"
			     "points[1].x: 32767\n"
			     "points[1].y: 1\n"
			     "points[2].x: 0\n"
			     "points[2].y: 0\n"
			     "some[0]: 1\n"
			     "some[1]: 65535\n"
			     "names[0]: \"abc\"\n"
			     "names[1]: \"\"\n"
			     "rest: 5a 5a 5a 5a 5a\n");
	written.len = 0;
	expect_ok(ctx, impost_record_json(ctx, &all_record, all, keep, &written));
	expect_text(
		written,
		"{\"compat\":1,\"version\":1,\"contents\":{\"flag\":true,\"on\":false,\"wide\":1844"
		"6744073709551615,\"deep\":-9223372036854775808,\"name\":\"Grüße\",\"mac\":\"020"
		"0000000ff\",\"corner\":{\"x\":-32768,\"y\":200},\"points\":[{\"x\":0,\"y\":0},{\"x\":"
		"32767,\"y\":1},{\"x\":0,\"y\":0}],\"some\":[1,65535],\"names\":[\"abc\",\"\"],\"rest\""
		":\"5a5a5a5a5a\"}}");
	free_all(all);
	impost_context_close(ctx);
}

Test(record, diff_names_each_field_that_differs)
{
	struct impost_context *ctx = open_context();
	struct all *a = make_all(), *b = make_all();
	struct written written = {.len = 0};

	expect_ok(ctx, impost_record_diff(ctx, &all_record, a, a, keep_difference, &written));
	expect_text(written, "");
	b->wide = 1;
	b->npoints = 2;
	b->points[1].y = 9;
	b->nsome = 3;
	b->nrest = 4;
	strcpy(b->name, "\"\x7f\xc2\x9b");
	expect_ok(ctx, impost_record_diff(ctx, &all_record, a, b, keep_difference, &written));
	expect_text(written, "wide: 0xffffffffffffffff -> 0x0000000000000001\n"
			     "name: \"Grüße\" -> \"\\\"\\u007f\\u009b\"\n"
			     "points[1].y: 1 -> 9\n"
			     "points[2]: {\"x\":0,\"y\":0} -> -\n"
			     "some[2]: - -> 0\n"
			     "rest: 5a 5a 5a 5a 5a -> 5a 5a 5a 5a\n");
	free_all(a);
	free_all(b);
	impost_context_close(ctx);
}

Test(record, document_has_a_row_for_each_field)
{
	struct impost_context *ctx = open_context();
	struct written written = {.len = 0};

	expect_ok(ctx, impost_record_document(ctx, &all_record, keep, &written));
	expect_text(written, "### all\n"
			     "\n"
			     "Everything\n"
			     "\n"
			     "Version 1.\n"
			     "\n"
			     "| field | type | versions | without it | what it is |\n"
			     "|---|---|---|---|---|\n"
			     "| `flag` | bool | 1 |  | A flag |\n"
			     "| `on` | bool | 1 |  | Another |\n"
			     "| `wide` | uint64 | 1 |  | All bits |\n"
			     "| `deep` | int64 | 1 |  | All of those too |\n"
			     "| `name` | text of up to 11 bytes | 1 |  | A name |\n"
			     "| `mac` | 6 bytes | 1 |  | An address |\n"
			     "| `corner` | [point](#point) | 1 |  | A point |\n"
			     "| `points` | [point](#point); up to 1000 of them | 1 |  | Points |\n"
			     "| `some` | uint16; up to 5 of them | 1 |  | Some numbers |\n"
			     "| `names` | text of up to 3 bytes; 2 of them | 1 |  | Two names |\n"
			     "| `rest` | up to 4096 bytes | 1 |  | The rest |\n"
			     "\n"
			     "### point\n"
			     "\n"
			     "A point\n"
			     "\n"
			     "| field | type | versions | without it | what it is |\n"
			     "|---|---|---|---|---|\n"
			     "| `x` | int16 | 1 |  | From the left |\n"
			     "| `y` | uint8, at most 200 | 1 |  | From the top |\n"
			     "\n");
	impost_context_close(ctx);
}

/* --- what is refused --- */

/* Versions of one device, as releases of a host have it. */
struct v1 {
	uint32_t a;
	uint8_t gone;
};

struct v2 {
	uint32_t a;
	uint8_t gone;
	int32_t b;
	struct point added;
};

IMPOST_FIELDS(v1_fields, IMPOST_FIELD_UINT(struct v1, a, 1, 0, "The first", .max = 1000),
	      IMPOST_FIELD_UINT(struct v1, gone, 1, 0, "Not in version 2"), )
IMPOST_RECORD(v1_record, "v", struct v1, 1, 1, 1, v1_fields, "Version 1")

IMPOST_FIELDS(v2_fields, IMPOST_FIELD_UINT(struct v2, a, 1, 0, "The first", .max = 1000),
	      IMPOST_FIELD_UINT(struct v2, gone, 1, 77, "Not in version 2", .until = 1),
	      IMPOST_FIELD_INT(struct v2, b, 2, -5, "New in version 2"),
	      IMPOST_FIELD_RECORD(struct v2, added, 2, &point_record, "New in version 2"), )
/* Its readers must be of version 2: `gone` is not there for others. */
IMPOST_RECORD(v2_record, "v", struct v2, 2, 1, 2, v2_fields, "Version 2")

IMPOST_FIELDS(v2_add_fields, IMPOST_FIELD_UINT(struct v2, a, 1, 0, "The first", .max = 1000),
	      IMPOST_FIELD_UINT(struct v2, gone, 1, 0, "Still there"),
	      IMPOST_FIELD_INT(struct v2, b, 2, -5, "New in version 2"),
	      IMPOST_FIELD_RECORD(struct v2, added, 2, &point_record, "New in version 2"), )
IMPOST_RECORD(v2_add_record, "v", struct v2, 2, 2, 1, v2_add_fields, "That only adds")

Test(record, a_version_2_reader_takes_version_1_and_fills_in_what_it_lacks)
{
	struct impost_context *ctx = open_context();
	struct v1 old = {.a = 1000, .gone = 3};
	struct v2 now;
	uint32_t version = 0;
	uint8_t data[128];
	size_t len;

	expect_ok(ctx, impost_record_verify(ctx, &v2_record));
	expect_ok(ctx, impost_record_encode(ctx, &v1_record, &old, data, sizeof(data), &len));
	expect_ok(ctx,
		  impost_record_decode(ctx, &v2_record, data, len, &now, sizeof(now), &version));
	cr_expect(version == 1 && now.a == 1000 && now.gone == 3);
	cr_expect(now.b == -5 && now.added.x == -7 && now.added.y == 3);
	/* One that reads version 2 only says so. */
	expect_error(ctx,
		     impost_record_decode(ctx, &v2_add_record, data, len, &now, sizeof(now), NULL),
		     -IMPOST_EFORMAT, "the oldest that is read is 2");
	impost_context_close(ctx);
}

Test(record, a_version_1_reader_takes_a_version_2_that_lets_it)
{
	struct impost_context *ctx = open_context();
	struct v2 now = {.a = 5, .gone = 6, .b = INT32_MIN, .added = {1, 2}};
	struct v1 old = {.a = 1};
	uint32_t version = 0;
	uint8_t data[128];
	size_t len;

	expect_ok(ctx, impost_record_encode(ctx, &v2_add_record, &now, data, sizeof(data), &len));
	expect_ok(ctx,
		  impost_record_decode(ctx, &v1_record, data, len, &old, sizeof(old), &version));
	cr_expect(version == 2 && old.a == 5 && old.gone == 6);
	/* It can show all of it, though it does not know it. */
	struct written written = {.len = 0};
	expect_ok(ctx, impost_cbor_print(ctx, &v1_record, data, len, keep, &written));
	expect_text(written, "version: 2\na: 5\ngone: 6\nb: -2147483648\nadded.x: 1\nadded.y: 2\n");

	expect_ok(ctx, impost_record_encode(ctx, &v2_record, &now, data, sizeof(data), &len));
	expect_error(ctx, impost_record_decode(ctx, &v1_record, data, len, &old, sizeof(old), NULL),
		     -IMPOST_EFORMAT, "only readers of version 2 and later");
	cr_expect(old.a == 5 && old.gone == 6);
	/* Read again, it is as it was, without what version 2 has not. */
	expect_ok(ctx, impost_record_decode(ctx, &v2_record, data, len, &now, sizeof(now), NULL));
	cr_expect(now.b == INT32_MIN && now.gone == 77);
	impost_context_close(ctx);
}

static const struct {
	const char *data, *words;
	size_t len;
} wrong[] = {
#define WRONG(bytes, words_) {.data = (bytes), .words = (words_), .len = sizeof(bytes) - 1},
#include "record_wrong.def"
#undef WRONG
};

Test(record, what_is_no_record_is_refused_by_name)
{
	struct impost_context *ctx = open_context();
	struct v1 v1 = {.a = 1};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint32_t version = 9;

		expect_error(ctx,
			     impost_record_decode(ctx, &v1_record, wrong[i].data, wrong[i].len, &v1,
						  sizeof(v1), &version),
			     -IMPOST_EFORMAT, wrong[i].words);
		cr_expect(version == 9 && v1.a == 1);
		cr_expect(strncmp(impost_error(ctx), "record v", 8) == 0, "%s", impost_error(ctx));
	}
	impost_context_close(ctx);
}

/* Four thousand million elements, of which not one is there. */
Test(record, a_count_is_believed_only_if_there_are_bytes_for_it)
{
	static const char *const counts[] = {"\x9a\xff\xff\xff\xff",
					     "\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
					     "\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
					     "\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
					     "\xbb\xff\xff\xff\xff\xff\xff\xff\xff"};
	struct impost_context *ctx = open_context();

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		expect_error(ctx, impost_cbor_check(ctx, counts[i], strlen(counts[i])),
			     -IMPOST_EFORMAT, "longer than the input");
	impost_context_close(ctx);
}

Test(record, depth_is_bounded)
{
	struct impost_context *ctx = open_context();
	uint8_t data[100000];

	memset(data, 0x81, sizeof(data));
	expect_error(ctx, impost_cbor_check(ctx, data, sizeof(data)), -IMPOST_EFORMAT, "too deep");
	/* 24 arrays in each other are fine. */
	data[24] = 0;
	expect_ok(ctx, impost_cbor_check(ctx, data, 25));
	data[24] = 0x81;
	data[25] = 0;
	expect_error(ctx, impost_cbor_check(ctx, data, 26), -IMPOST_EFORMAT, "too deep");
	impost_context_close(ctx);
}

Test(record, what_could_not_be_read_again_is_not_written)
{
	struct impost_context *ctx = open_context();
	struct all *all = make_all();
	struct v1 v1 = {.a = 1001};
	uint8_t data[512];
	size_t len = 7;

#define expect_unwritten(words)                                                                  \
	expect_error(ctx, impost_record_encode(ctx, &all_record, all, data, sizeof(data), &len), \
		     -EINVAL, words)
	expect_error(ctx, impost_record_encode(ctx, &v1_record, &v1, data, sizeof(data), &len),
		     -EINVAL, "field a: 1001 is more than 1000");
	all->flag = 2;
	expect_unwritten("field flag: 2 is more than 1");
	all->flag = 0;
	memset(all->name, 'x', sizeof(all->name));
	expect_unwritten("field name: the text has no NUL in its 12 bytes");
	strcpy(all->name, "\xff");
	expect_unwritten("field name: the text is no UTF-8");
	strcpy(all->name, "");
	all->points[2].y = 201;
	expect_unwritten("field points[2].y: 201 is more than 200");
	all->points[2].y = 0;
	all->nsome = 6;
	expect_unwritten("field some: it has 6 elements: 5 at the most");
	all->nsome = 5;
	all->nrest = 4097;
	expect_unwritten("field rest: it has 4097 elements: 4096 at the most");
	all->nrest = 5;
	free(all->points);
	all->points = NULL;
	expect_unwritten("field points: it has 3 elements, but points to NULL");
	cr_expect_eq(len, 7);
	free_all(all);
	impost_context_close(ctx);
}

/* --- those that nobody described --- */

Test(record, undescribed_records_are_shown_and_compared_by_name)
{
	static const char a[] = "\xa3\x61"
				"a\x01\x61"
				"b\x82\x20\xf5\x62"
				"cc\x42\x01\x02";
	static const char b[] = "\xa3\x61"
				"a\x02\x61"
				"d\x60\x62"
				"cc\x42\x01\x03";
	struct impost_context *ctx = open_context();
	struct written written = {.len = 0};

	expect_ok(ctx, impost_cbor_print(ctx, NULL, a, sizeof(a) - 1, keep, &written));
	expect_text(written, "a: 1\nb[0]: -1\nb[1]: true\ncc: 01 02\n");
	written.len = 0;
	expect_ok(ctx, impost_cbor_json(ctx, NULL, a, sizeof(a) - 1, keep, &written));
	expect_text(written, "{\"a\":1,\"b\":[-1,true],\"cc\":\"0102\"}");
	written.len = 0;
	expect_ok(ctx, impost_cbor_diff(ctx, NULL, a, sizeof(a) - 1, b, sizeof(b) - 1,
					keep_difference, &written));
	expect_text(written, "a: 1 -> 2\nb: [-1,true] -> -\nd: - -> \"\"\ncc: 01 02 -> 01 03\n");
	expect_error(ctx, impost_cbor_print(ctx, NULL, a, 3, keep, &written), -IMPOST_EFORMAT,
		     "byte");
	impost_context_close(ctx);
}

static int stop(void *opaque, const char *text, size_t len)
{
	(void)text, (void)len;
	return ++*(int *)opaque == 3 ? 42 : 0;
}

Test(record, who_is_told_can_end_it)
{
	struct impost_context *ctx = open_context();
	struct all *all = make_all();
	int calls = 0;

	cr_expect_eq(impost_record_print(ctx, &all_record, all, stop, &calls), 42);
	cr_expect_eq(calls, 3);
	free_all(all);
	impost_context_close(ctx);
}

/* --- descriptions that are none --- */

/* A field of TYPE, with an offset of 0, in place and of no more but what follows. */
#define FIELD(type_, bytes_, count_, since_, ...)                                              \
	{                                                                                      \
		.name = "f", .doc = "d", .type = IMPOST_FIELD_TYPE_##type_, .bytes = (bytes_), \
		.count = (count_), .since = (since_), __VA_ARGS__                              \
	}
#define ARRAY(count_, ...) FIELD(UINT, 4, count_, 1, .flags = IMPOST_FIELD_IS_ARRAY, __VA_ARGS__)

Test(record, wrong_descriptions_are_refused_by_rule)
{
	static const struct {
		struct impost_field field;
		const char *words;
	} bad[] = {
		{{.doc = "d"}, "1 to 47 bytes"},
		{{.name = "", .doc = "d"}, "1 to 47 bytes"},
		{{.name = "a b", .doc = "d"}, "other characters"},
		{{.name = "a", .doc = ""}, "no doc"},
		{{.name = "a", .doc = "d", .since = 1}, "type is unknown"},
		{FIELD(UINT, 3, 1, 1, .max = 0), "not of 1, 2, 4 or 8"},
		{FIELD(UINT, 1, 1, 1, .max = 256), "more than its bytes"},
		{FIELD(UINT, 4, 1, 1, .max = 4, .fallback = 5), "fallback is more"},
		{FIELD(BOOL, 1, 1, 1, .fallback = 2), "neither 0 nor 1"},
		{FIELD(BOOL, 1, 1, 1, .max = 2), "no unsigned"},
		{FIELD(INT, 1, 1, 1, .fallback = 128), "cannot hold"},
		{FIELD(INT, 1, 1, 1, .fallback = (uint64_t)-129), "cannot hold"},
		{FIELD(TEXT, 4, 1, 1, .fallback = 1), "is no number"},
		{FIELD(TEXT, 0, 1, 1, .max = 0), "room for a NUL"},
		{FIELD(BYTES, 4, 1, 1, .max = 0), "not of 1 byte"},
		{FIELD(RECORD, 4, 1, 1, .max = 0), "nests no record"},
		{FIELD(RECORD, 4, 1, 1, .record = &all_record), "another size"},
		{FIELD(SIZE, 8, 1, 1, .max = 0), "a uint32_t"},
		{FIELD(UINT, 4, 1, 0, .max = 0), "`since`"},
		{FIELD(UINT, 4, 1, 3, .max = 0), "`since`"},
		{FIELD(UINT, 4, 1, 2, .until = 1), "`until`"},
		{FIELD(UINT, 4, 1, 1, .flags = 4), "flags"},
		{FIELD(UINT, 4, 1, 1, .where = 3), "nowhere"},
		{FIELD(UINT, 4, 2, 1, .max = 0), "no array"},
		{ARRAY(0, .max = 0), "no element"},
		{ARRAY(1, .count_bytes = 3), "counter is not"},
		{ARRAY(256, .count_bytes = 1), "cannot count"},
		{ARRAY(1, .where = IMPOST_FIELD_POINTER), "is an array with a counter"},
		{ARRAY(1, .where = IMPOST_FIELD_TAIL, .count_bytes = 4, .offset = 99), "its end"},
		{ARRAY(1, .offset = 13), "not in the struct whole"},
		{ARRAY(1, .count_bytes = 1, .count_offset = 3), "part of it"},
	};
	struct impost_context *ctx = open_context();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct impost_record record = v2_record;

		record.fields = &bad[i].field;
		record.nfields = 1;
		expect_error(ctx, impost_record_verify(ctx, &record), -EINVAL, bad[i].words);
	}
	impost_context_close(ctx);
}

Test(record, fields_that_lie_over_each_other_and_records_in_a_circle_are_refused)
{
	static struct impost_record circle;
	static const struct impost_field round[] = {{.name = "f",
						     .doc = "d",
						     .type = IMPOST_FIELD_TYPE_RECORD,
						     .bytes = 16,
						     .count = 1,
						     .since = 1,
						     .record = &circle}};
	static const struct impost_field twice[] = {IMPOST_FIELD_UINT(struct v2, a, 1, 0, "One"),
						    IMPOST_FIELD_UINT(struct v2, a, 1, 0, "Two")};
	struct impost_field over[] = {IMPOST_FIELD_UINT(struct v2, a, 1, 0, "One"),
				      IMPOST_FIELD_UINT(struct v2, b, 1, 0, "Two")};
	struct impost_context *ctx = open_context();
	struct impost_record record = v2_record;

	record.bytes = 16;
	record.fields = round;
	record.nfields = 1;
	circle = record;
	expect_error(ctx, impost_record_verify(ctx, &record), -EINVAL, "deeper than 8");
	record = v2_record;
	record.fields = twice;
	record.nfields = 2;
	expect_error(ctx, impost_record_verify(ctx, &record), -EINVAL, "same name");
	over[1].offset = 2;
	record.fields = over;
	expect_error(ctx, impost_record_verify(ctx, &record), -EINVAL, "lies over");
	expect_error(ctx, impost_record_verify(ctx, NULL), -EINVAL, "NULL");
	record.size = 8;
	expect_error(ctx, impost_record_verify(ctx, &record), -EINVAL, "IMPOST_RECORD");
	impost_context_close(ctx);
}
