/* SPDX-License-Identifier: Apache-2.0 */
/* The AML encoder: golden bytes, lengths at every border, a model, and what it refuses. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <impost/context.h>
#include <impost/x86_64/aml.h>

static struct impost_context *open_context(void)
{
	struct impost_context *ctx;

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	return ctx;
}

static struct impost_aml *create(struct impost_context *ctx)
{
	struct impost_aml *aml;

	cr_assert_eq(impost_aml_create(ctx, NULL, 0, &aml), 0);
	return aml;
}

static void destroy(struct impost_context *ctx, struct impost_aml *aml)
{
	impost_aml_destroy(aml);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* Finishes AML and asserts that it is the COUNT bytes at WANT. */
static void assert_bytes(struct impost_context *ctx, struct impost_aml *aml, const void *want,
			 size_t count, const char *what)
{
	const uint8_t *got;
	const void *data;
	size_t bytes;

	cr_assert_eq(impost_aml_finish(aml, &data, &bytes), 0, "%s: %s", what, impost_error(ctx));
	got = data;
	for (size_t i = 0; i < bytes && i < count; i++)
		cr_assert_eq(got[i], ((const uint8_t *)want)[i], "%s: byte %zu is %02x, not %02x",
			     what, i, got[i], ((const uint8_t *)want)[i]);
	cr_assert_eq(bytes, count, "%s: %zu bytes, not %zu", what, bytes, count);
}

/* --- golden --- */

static void put_integers(struct impost_aml *aml)
{
	static const uint64_t values[] = {0, 1, 2, 0xff, 0x100, 0xffff, 0x10000, 0xffffffff};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		impost_aml_integer(aml, values[i]);
	impost_aml_integer(aml, UINT64_C(0x100000000));
	impost_aml_integer(aml, UINT64_MAX);
}

static void put_constants(struct impost_aml *aml)
{
	impost_aml_constant(aml, 1, 1);
	impost_aml_constant(aml, 0xffff, 2);
	impost_aml_constant(aml, 0, 4);
	impost_aml_constant(aml, UINT64_MAX, 8);
}

static void put_names(struct impost_aml *aml)
{
	impost_aml_ref(aml, "A");
	impost_aml_ref(aml, "\\");
	impost_aml_ref(aml, "\\_SB");
	impost_aml_ref(aml, "^^PCI0.S00");
	impost_aml_ref(aml, "\\_SB.PCI0.COM1");
}

static void put_data(struct impost_aml *aml)
{
	impost_aml_string(aml, "a~ ");
	impost_aml_eisaid(aml, "PNP0A08");
	impost_aml_hid(aml, "PNP0501");
	impost_aml_hid(aml, "ACPI0013");
	impost_aml_buffer(aml, "\x01\x02", 2);
	impost_aml_uuid(aml, "33db4D5B-1ff7-401c-9657-7441c03dd766");
}

static void put_package(struct impost_aml *aml)
{
	impost_aml_package(aml);
	impost_aml_integer(aml, 0xffff);
	impost_aml_package(aml);
	impost_aml_end(aml);
	impost_aml_ref(aml, "LNKA");
	impost_aml_end(aml);
}

static void put_ged(struct impost_aml *aml)
{
	impost_aml_method(aml, "_EVT", 1, 1);
	impost_aml_if(aml);
	impost_aml_op(aml, IMPOST_AML_EQUAL);
	impost_aml_arg(aml, 0);
	impost_aml_integer(aml, 5);
	impost_aml_op(aml, IMPOST_AML_NOTIFY);
	impost_aml_ref(aml, "VGEN");
	impost_aml_integer(aml, 0x80);
	impost_aml_end(aml);
	impost_aml_else(aml);
	impost_aml_op(aml, IMPOST_AML_STORE);
	impost_aml_integer(aml, 0);
	impost_aml_local(aml, 7);
	impost_aml_end(aml);
	impost_aml_op(aml, IMPOST_AML_RETURN);
	impost_aml_integer(aml, 0);
	impost_aml_end(aml);
}

static void put_fields(struct impost_aml *aml)
{
	impost_aml_region(aml, "PRST", IMPOST_AML_SYSTEM_IO, 0xcd8, 12);
	impost_aml_field(aml, "PRST", IMPOST_AML_BYTE_ACCESS | IMPOST_AML_WRITE_AS_ZEROS);
	impost_aml_field_unit(aml, NULL, 32);
	impost_aml_field_unit(aml, "CPEN", 1);
	impost_aml_field_unit(aml, "X", 0x3f);
	impost_aml_field_unit(aml, "Y", 0x40);
	impost_aml_field_unit(aml, "Z", 0xfffffff);
	impost_aml_end(aml);
}

static void put_small_resources(struct impost_aml *aml)
{
	static const uint32_t gsis[] = {4, 0x105};

	impost_aml_resources(aml);
	impost_aml_io(aml, 0x3f8, 0x3f8, 1, 8);
	impost_aml_memory32(aml, 0xfed00000, 0x400, 0);
	impost_aml_interrupt(aml, gsis, 2, IMPOST_AML_IRQ_EDGE | IMPOST_AML_IRQ_SHARED);
	impost_aml_end(aml);
}

static void put_windows(struct impost_aml *aml)
{
	struct impost_aml_window window = {
		.size = sizeof(window), .bits = 16, .type = IMPOST_AML_WINDOW_BUS, .max = 0xff};

	impost_aml_resources(aml);
	impost_aml_window(aml, &window);
	window = (struct impost_aml_window){.size = sizeof(window),
					    .bits = 32,
					    .type = IMPOST_AML_WINDOW_MEMORY,
					    .flags = IMPOST_AML_MEMORY_WRITABLE,
					    .min = 0xc0000000,
					    .max = 0xfebfffff};
	impost_aml_window(aml, &window);
	window = (struct impost_aml_window){.size = sizeof(window),
					    .bits = 64,
					    .type = IMPOST_AML_WINDOW_IO,
					    .flags = IMPOST_AML_IO_ENTIRE,
					    .consumer = 1,
					    .min = 0x1000,
					    .max = 0x1fff,
					    .translation = UINT64_C(0x8000000000)};
	impost_aml_window(aml, &window);
	impost_aml_end(aml);
}

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static const struct {
	const char *rule; /* ACPI 6.5 */
	void (*put)(struct impost_aml *aml);
	const uint8_t *want;
	size_t count;
} goldens[] = {
	{"20.2.3 ComputationalData, in the shortest form", put_integers,
	 BYTES("\x00\x01\x0a\x02\x0a\xff\x0b\x00\x01\x0b\xff\xff\x0c\x00\x00\x01\x00"
	       "\x0c\xff\xff\xff\xff\x0e\x00\x00\x00\x00\x01\x00\x00\x00\xff")},
	{"20.2.3 constants of a given width", put_constants,
	 BYTES("\x0a\x01\x0b\xff\xff\x0c\x00\x00\x00\x00\x0e\xff\xff\xff\xff\xff\xff\xff\xff")},
	{"20.2.2 NameString: NullName, NameSeg, DualNamePath, MultiNamePath", put_names,
	 BYTES("A___\\\x00\\_SB_^^\x2ePCI0S00_\\\x2f\x03_SB_PCI0COM1")},
	{"20.2.3 String; 19.6.36 EISAID; 20.2.5.4 DefBuffer; 19.6.142 ToUUID", put_data,
	 BYTES("\x0d"
	       "a~ \x00\x0c\x41\xd0\x0a\x08\x0c\x41\xd0\x05\x01\x0d"
	       "ACPI0013\x00\x11\x05\x0a\x02\x01\x02\x11\x13\x0a\x10"
	       "\x5b\x4d\xdb\x33\xf7\x1f\x1c\x40\x96\x57\x74\x41\xc0\x3d\xd7\x66")},
	{"20.2.5.4 DefPackage", put_package, BYTES("\x12\x0c\x03\x0b\xff\xff\x12\x02\x00LNKA")},
	{"20.2.5.2 DefMethod; 20.2.5.3 DefIfElse, DefNotify, DefReturn", put_ged,
	 BYTES("\x14\x1a_EVT\x09\xa0\x0c\x93\x68\x0a\x05\x86VGEN\x0a\x80\xa1\x04\x70\x00\x67"
	       "\xa4\x00")},
	{"20.2.5.2 DefOpRegion, DefField, FieldList", put_fields,
	 BYTES("\x5b\x80PRST\x01\x0b\xd8\x0c\x0a\x0c\x5b\x81\x20PRST\x41\x00\x20"
	       "CPEN\x01X___\x3fY___\x40\x04Z___\xcf\xff\xff\xff")},
	{"6.4.2.5 IO, 6.4.3.4 Memory32Fixed, 6.4.3.6 Interrupt, 6.4.2.9 end tag: all is 0 in sum",
	 put_small_resources,
	 BYTES("\x11\x26\x0a\x23\x47\x01\xf8\x03\xf8\x03\x01\x08"
	       "\x86\x09\x00\x00\x00\x00\xd0\xfe\x00\x04\x00\x00"
	       "\x89\x0a\x00\x0b\x02\x04\x00\x00\x00\x05\x01\x00\x00\x79\x35")},
	{"6.4.3.5 address spaces: QWord 0x8a, DWord 0x87, Word 0x88", put_windows,
	 BYTES("\x11\x4e\x05\x0a\x5a"
	       "\x88\x0d\x00\x02\x0c\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x01"
	       "\x87\x17\x00\x00\x0c\x01\x00\x00\x00\x00\x00\x00\x00\xc0\xff\xff\xbf\xfe"
	       "\x00\x00\x00\x00\x00\x00\xc0\x3e"
	       "\x8a\x2b\x00\x01\x0d\x03\x00\x00\x00\x00\x00\x00\x00\x00"
	       "\x00\x10\x00\x00\x00\x00\x00\x00\xff\x1f\x00\x00\x00\x00\x00\x00"
	       "\x00\x00\x00\x00\x80\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x79\x3c")},
};

#define GOLDENS (sizeof(goldens) / sizeof(goldens[0]))

Test(aml, golden)
{
	struct impost_context *ctx = open_context();

	for (size_t i = 0; i < GOLDENS; i++) {
		struct impost_aml *aml = create(ctx);

		goldens[i].put(aml);
		assert_bytes(ctx, aml, goldens[i].want, goldens[i].count, goldens[i].rule);
		impost_aml_destroy(aml);
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* Every capacity but the right one is too little, and nothing is written behind it. */
Test(aml, bounded_buffers)
{
	struct impost_context *ctx = open_context();
	uint8_t buf[256];

	for (size_t i = 0; i < GOLDENS; i++) {
		for (size_t capacity = 0; capacity <= goldens[i].count; capacity++) {
			struct impost_aml *aml;
			int err;

			memset(buf, 0xa5, sizeof(buf));
			cr_assert_eq(impost_aml_create(ctx, buf, capacity, &aml), 0);
			goldens[i].put(aml);
			err = impost_aml_finish(aml, NULL, NULL);
			if (capacity < goldens[i].count)
				cr_assert_eq(err, -ENOSPC, "%s: %d", goldens[i].rule, err);
			else
				assert_bytes(ctx, aml, goldens[i].want, goldens[i].count,
					     goldens[i].rule);
			for (size_t k = capacity; k < sizeof(buf); k++)
				cr_assert_eq(buf[k], 0xa5);
			impost_aml_destroy(aml);
		}
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* --- PkgLength (20.2.4) --- */

/* The bytes of a PkgLength and the number that it tells. */
static uint32_t read_pkg_length(const uint8_t *from, size_t *ret_value)
{
	uint32_t more = from[0] >> 6;

	*ret_value = from[0] & (more ? 0xf : 0x3f);
	for (uint32_t i = 1; i <= more; i++)
		*ret_value |= (size_t)from[i] << (8 * i - 4);
	return more + 1;
}

Test(aml, lengths_at_the_borders)
{
	/* The length counts itself: 62 bytes inside are 63, the most that one byte tells. */
	static const struct {
		size_t inside;
		uint32_t bytes;
	} borders[] = {{4, 1},	     {61, 1},	   {62, 1},	 {63, 2},     {64, 2},
		       {4092, 2},    {4093, 2},	   {4094, 3},	 {4095, 3},   {4096, 3},
		       {1048571, 3}, {1048572, 3}, {1048573, 4}, {1048576, 4}};
	struct impost_context *ctx = open_context();
	uint8_t *terms = calloc(1, 1 << 21);

	cr_assert_not_null(terms);
	for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
		struct impost_aml *aml = create(ctx);
		size_t bytes, length;
		const void *data;

		impost_aml_scope(aml, "_SB_");
		impost_aml_terms(aml, terms, borders[i].inside - 4);
		impost_aml_end(aml);
		cr_assert_eq(impost_aml_finish(aml, &data, &bytes), 0);
		cr_assert_eq(read_pkg_length((const uint8_t *)data + 1, &length), borders[i].bytes,
			     "%zu bytes inside", borders[i].inside);
		cr_assert_eq(length, borders[i].inside + borders[i].bytes);
		cr_assert_eq(bytes, 1 + length);
		cr_assert_eq(memcmp((const char *)data + 1 + borders[i].bytes, "_SB_", 4), 0);
		impost_aml_destroy(aml);
	}
	free(terms);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* 28 bits: a term of 2^28 - 1 bytes can be, none of 2^28. */
Test(aml, the_longest_term)
{
	const size_t longest = (1u << 28) - 1, bytes = 1u << 29;
	struct impost_context *ctx = open_context();
	uint8_t *buf = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	const uint8_t *zeros =
		mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct impost_aml *aml;
	size_t length;

	cr_assert_neq((void *)buf, MAP_FAILED);
	cr_assert_neq((const void *)zeros, MAP_FAILED);
	cr_assert_eq(impost_aml_create(ctx, buf, bytes, &aml), 0);
	impost_aml_scope(aml, "_SB_");
	impost_aml_terms(aml, zeros, longest - 4 - 4);
	impost_aml_end(aml);
	cr_assert_eq(impost_aml_finish(aml, NULL, &length), 0, "%s", impost_error(ctx));
	cr_assert_eq(length, 1 + longest);
	cr_assert_eq(memcmp(buf, "\x10\xcf\xff\xff\xff_SB_", 9), 0);
	impost_aml_destroy(aml);

	cr_assert_eq(impost_aml_create(ctx, buf, bytes, &aml), 0);
	impost_aml_scope(aml, "_SB_");
	impost_aml_terms(aml, zeros, longest - 4 - 3);
	impost_aml_end(aml);
	cr_assert_eq(impost_aml_finish(aml, NULL, NULL), -ENOSPC);
	cr_assert(strstr(impost_error(ctx), "268435455"), "%s", impost_error(ctx));
	munmap(buf, bytes);
	munmap((void *)(uintptr_t)zeros, bytes);
	destroy(ctx, aml);
}

/* --- a model: terms built from the inside out --- */

#define MODEL_MAX (1u << 18)

struct model {
	uint8_t bytes[MODEL_MAX];
	size_t count;
};

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % below;
}

static void model_put(struct model *model, const void *data, size_t count)
{
	cr_assert_leq(count, sizeof(model->bytes) - model->count);
	memcpy(model->bytes + model->count, data, count);
	model->count += count;
}

/* Appends OP with CONTENT behind a length that is as short as it can be. */
static void model_wrap(struct model *model, const void *op, size_t op_bytes,
		       const struct model *content)
{
	uint8_t length[4];
	size_t bytes = 1, total;

	for (;; bytes++) {
		total = content->count + bytes;
		if (total < (bytes == 1 ? 64 : (size_t)1 << (8 * bytes - 4)))
			break;
	}
	length[0] = (uint8_t)(bytes == 1 ? total : ((bytes - 1) << 6 | (total & 0xf)));
	for (size_t i = 1; i < bytes; i++)
		length[i] = (uint8_t)(total >> (8 * i - 4));
	model_put(model, op, op_bytes);
	model_put(model, length, bytes);
	model_put(model, content->bytes, content->count);
}

/* Writes random terms to both. */
static void random_terms(struct impost_aml *aml, struct model *model, uint32_t depth)
{
	uint32_t count = depth > 20 ? 0 : draw(depth > 5 ? 2 : 5);

	for (uint32_t i = 0; i < count; i++) {
		struct model *inside = calloc(1, sizeof(*inside));
		uint8_t filler[5000] = {0};
		uint32_t bytes = draw(3) ? draw(70) : draw(sizeof(filler));

		cr_assert_not_null(inside);
		switch (draw(4)) {
		case 0:
			impost_aml_terms(aml, filler, bytes);
			model_put(model, filler, bytes);
			break;
		case 1:
			impost_aml_device(aml, "^DEV0");
			model_put(inside, "^DEV0", 5);
			random_terms(aml, inside, depth + 1);
			impost_aml_end(aml);
			model_wrap(model, "\x5b\x82", 2, inside);
			break;
		case 2:
			impost_aml_scope(aml, "\\_SB.DEV0");
			model_put(inside, "\\\x2e_SB_DEV0", 10);
			random_terms(aml, inside, depth + 1);
			impost_aml_end(aml);
			model_wrap(model, "\x10", 1, inside);
			break;
		default:
			impost_aml_while(aml);
			impost_aml_integer(aml, 1);
			model_put(inside, "\x01", 1);
			random_terms(aml, inside, depth + 1);
			impost_aml_end(aml);
			model_wrap(model, "\xa2", 1, inside);
		}
		free(inside);
	}
}

Test(aml, random_terms_are_as_built_from_the_inside)
{
	struct impost_context *ctx = open_context();
	static struct model model;

	for (seed = 1; seed < 400; seed++) {
		struct impost_aml *aml = create(ctx);
		uint64_t start = seed;
		char what[64];

		model.count = 0;
		random_terms(aml, &model, 0);
		seed = start;
		snprintf(what, sizeof(what), "seed %llu", (unsigned long long)seed);
		assert_bytes(ctx, aml, model.bytes, model.count, what);
		impost_aml_destroy(aml);
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* --- what is refused --- */

static void open_too_deep(struct impost_aml *aml)
{
	for (uint32_t i = 0; i <= IMPOST_AML_DEPTH_MAX; i++)
		impost_aml_scope(aml, "_SB");
}

static void open_package_of_256(struct impost_aml *aml)
{
	impost_aml_package(aml);
	for (int i = 0; i < 256; i++)
		impost_aml_integer(aml, 0);
	impost_aml_end(aml);
}

static void put_segments(struct impost_aml *aml, int count)
{
	char path[5 * 257];

	for (int i = 0; i < count; i++)
		memcpy(path + 5 * i, "ABCD.", 5);
	path[5 * count - 1] = '\0';
	impost_aml_ref(aml, path);
}

static void put_sizeless_window(struct impost_aml *aml)
{
	const struct impost_aml_window window = {.bits = 64};

	impost_aml_resources(aml);
	impost_aml_window(aml, &window);
}

static void put_newer_window(struct impost_aml *aml)
{
	const struct {
		struct impost_aml_window known;
		uint64_t later;
	} window = {{.size = sizeof(window), .bits = 64}, 1};

	impost_aml_resources(aml);
	impost_aml_window(aml, &window.known);
	impost_aml_end(aml);
}

static void put_window(struct impost_aml *aml, struct impost_aml_window window)
{
	window.size = sizeof(window);
	impost_aml_resources(aml);
	impost_aml_window(aml, &window);
	impost_aml_end(aml);
}

static void put_in_resources(struct impost_aml *aml, int which)
{
	static const uint32_t gsi = 4;

	impost_aml_resources(aml);
	switch (which) {
	case 0:
		impost_aml_io(aml, 0x10, 0xf, 1, 1);
		break;
	case 1:
		impost_aml_io(aml, 0, 0xffff, 1, 2);
		break;
	case 2:
		impost_aml_memory32(aml, 0xfffff000, 0x1001, 1);
		break;
	case 3:
		impost_aml_interrupt(aml, &gsi, 0, 0);
		break;
	case 4:
		impost_aml_interrupt(aml, &gsi, 1, 1);
		break;
	default:
		impost_aml_integer(aml, 0);
	}
	impost_aml_end(aml);
}

static void put_unit(struct impost_aml *aml, const char *name, uint32_t bits)
{
	impost_aml_field(aml, "REGN", IMPOST_AML_BYTE_ACCESS);
	impost_aml_field_unit(aml, name, bits);
	impost_aml_end(aml);
}

/* Asserts that CALL, in a fresh encoder, fails with -ERR and a text that has WORDS. */
#define assert_refused(call, err, words)                                           \
	do {                                                                       \
		struct impost_aml *aml = create(ctx);                              \
		const void *data = &seed;                                          \
		size_t bytes = 77;                                                 \
		int got_;                                                          \
		call;                                                              \
		impost_aml_integer(aml, 0); /* the first error stays */            \
		got_ = impost_aml_finish(aml, &data, &bytes);                      \
		cr_assert_eq(got_, -(err), "%s: %d", #call, got_);                 \
		cr_assert(strstr(impost_error(ctx), words), "\"%s\" lacks \"%s\"", \
			  impost_error(ctx), words);                               \
		cr_assert(data == &seed && bytes == 77);                           \
		impost_aml_destroy(aml);                                           \
	} while (0)

Test(aml, refuses_names)
{
	static const char *const bad[] = {"",	 ".",	 "A.",	  ".A",	  "ABCDE",  "0AB",
					  "a",	 "A..B", "\\.",	  "A\\",  "\\^A",   "^\\A",
					  "A B", "A-B",	 "\\\\A", "^A^B", "A.B.C.", "_SB.\xc4"};
	struct impost_context *ctx = open_context();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_refused(impost_aml_ref(aml, bad[i]), EINVAL, "is no ACPI name");
		assert_refused(impost_aml_device(aml, bad[i]), EINVAL, "is no ACPI name");
	}
	assert_refused(impost_aml_name(aml, NULL), EINVAL, "a name is NULL");
	assert_refused(put_segments(aml, 256), EINVAL, "is no ACPI name");
	assert_refused(put_unit(aml, "", 1), EINVAL, "field unit");
	assert_refused(put_unit(aml, "A.B", 1), EINVAL, "field unit");
	assert_refused(put_unit(aml, "A", 1u << 28), EINVAL, "268435456 bits");
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(aml, refuses_data_and_operators)
{
	struct impost_context *ctx = open_context();

	assert_refused(impost_aml_constant(aml, 256, 1), EINVAL, "0x100 is no constant of 1");
	assert_refused(impost_aml_constant(aml, 0, 3), EINVAL, "of 3 bytes");
	assert_refused(impost_aml_string(aml, "a\n"), EINVAL, "0x0a");
	assert_refused(impost_aml_string(aml, "\x80"), EINVAL, "0x80");
	assert_refused(impost_aml_string(aml, NULL), EINVAL, "NULL");
	assert_refused(impost_aml_eisaid(aml, "PNP050"), EINVAL, "EISA id");
	assert_refused(impost_aml_eisaid(aml, "pnp0501"), EINVAL, "EISA id");
	assert_refused(impost_aml_eisaid(aml, "PNP050a"), EINVAL, "EISA id");
	assert_refused(impost_aml_eisaid(aml, NULL), EINVAL, "EISA id");
	assert_refused(impost_aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd76"), EINVAL, "UUID");
	assert_refused(impost_aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd76g"), EINVAL,
		       "UUID");
	assert_refused(impost_aml_uuid(aml, "33db4d5b+1ff7-401c-9657-7441c03dd766"), EINVAL,
		       "UUID");
	assert_refused(impost_aml_buffer(aml, NULL, 1), EINVAL, "NULL");
	assert_refused(impost_aml_terms(aml, NULL, 1), EINVAL, "NULL");
	assert_refused(impost_aml_local(aml, 8), EINVAL, "Local8");
	assert_refused(impost_aml_arg(aml, 7), EINVAL, "Arg7");
	assert_refused(impost_aml_op(aml, 0x71), EINVAL, "0x71");
	assert_refused(impost_aml_op(aml, 0x170), EINVAL, "0x170");
	assert_refused(impost_aml_method(aml, "METH", 8, 0), EINVAL, "8 arguments");
	assert_refused(impost_aml_region(aml, "REGN", 256, 0, 1), EINVAL, "0x100");
	assert_refused(impost_aml_region(aml, NULL, 256, 0, 1), EINVAL, "a name is NULL");
	assert_refused(impost_aml_field(aml, NULL, 0x80), EINVAL, "a name is NULL");
	assert_refused(impost_aml_field(aml, "REGN", 5), EINVAL, "flags 0x5");
	assert_refused(impost_aml_field(aml, "REGN", 0x60), EINVAL, "flags 0x60");
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(aml, refuses_resources)
{
	struct impost_context *ctx = open_context();

	assert_refused(put_in_resources(aml, 0), EINVAL, "I/O ports from 0x10 to 0xf");
	assert_refused(put_in_resources(aml, 1), EINVAL, "I/O ports");
	assert_refused(put_in_resources(aml, 2), EINVAL, "below 4 GiB");
	assert_refused(put_in_resources(aml, 3), EINVAL, "0 interrupts");
	assert_refused(put_in_resources(aml, 4), EINVAL, "flags 0x1");
	assert_refused(put_in_resources(aml, 5), EINVAL, "where a resource template is open");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 8}), EINVAL, "16, 32");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 64, .reserved = 1}),
		       EINVAL, "reserved is 0");
	assert_refused(put_sizeless_window(aml), EINVAL, "window's size is 0");
	assert_refused(put_newer_window(aml), E2BIG, "does not know");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 16}), EINVAL, "memory");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 32, .type = 3}), EINVAL,
		       "type");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 32, .flags = 8}), EINVAL,
		       "flags");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 32, .min = 1}), EINVAL,
		       "before it begins");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 32, .max = 1ull << 32}),
		       EINVAL, "does not fit");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 32, .max = UINT32_MAX}),
		       EINVAL, "length");
	assert_refused(put_window(aml, (struct impost_aml_window){.bits = 64, .max = UINT64_MAX}),
		       EINVAL, "length");
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(aml, refuses_places)
{
	struct impost_context *ctx = open_context();

	assert_refused(impost_aml_io(aml, 0, 0, 1, 1), EINVAL, "where terms are open");
	assert_refused(impost_aml_field_unit(aml, "A", 1), EINVAL, "where terms are open");
	assert_refused((impost_aml_package(aml), impost_aml_local(aml, 0)), EINVAL,
		       "where a package is open");
	assert_refused((impost_aml_package(aml), impost_aml_device(aml, "A")), EINVAL, "Device");
	assert_refused((impost_aml_field(aml, "A", 0), impost_aml_integer(aml, 0)), EINVAL,
		       "where a field list is open");
	assert_refused(impost_aml_end(aml), EINVAL, "no term is open");
	assert_refused(impost_aml_scope(aml, "_SB"), EINVAL, "1 terms are still open");
	assert_refused(open_too_deep(aml), ENOSPC, "more than 32");
	assert_refused(open_package_of_256(aml), ENOSPC, "256 elements");
	cr_assert_eq(impost_aml_create(ctx, NULL, 0, NULL), -EINVAL);
	impost_aml_destroy(NULL);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* Without a context there is the error, and no text. */
Test(aml, needs_no_context)
{
	struct impost_aml *aml = create(NULL);

	impost_aml_ref(aml, "a");
	cr_assert_eq(impost_aml_finish(aml, NULL, NULL), -EINVAL);
	impost_aml_destroy(aml);
}
