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
