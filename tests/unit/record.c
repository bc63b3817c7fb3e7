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
