/* SPDX-License-Identifier: Apache-2.0 */
/* An aligned number is one access, by whichever call, in each kind of memory. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core.h"

#define BYTES 0x2000u
#define AT    UINT64_C(0x11ff8) /* the last number of its region */

static struct impost_context *ctx;
static struct impost_memory *memory;
static struct impost_view view;
static atomic_uint torn_stop;
static uint32_t rounds; /* reads of each way against each way of writing */

/* One number, read and written: all its bytes alike, or it was torn. */
struct torn {
	uint32_t bytes, way;
};

static uint64_t all_alike(uint64_t byte, uint32_t bytes)
{
	return byte * UINT64_C(0x0101010101010101) >> (64 - 8 * bytes);
}

/* A number written by WAY: inline, out of line, by an atomic operation; and as the copies that are
 * one access in direct memory only. */
#define WAYS	   5u
#define TYPED_WAYS 3u
static int write_by(struct impost_view *at, uint32_t way, uint32_t bytes, uint64_t value)
{
	switch (way) {
	case 0:
		return bytes == 8   ? impost_view_write_u64(at, AT, value)
		       : bytes == 4 ? impost_view_write_u32(at, AT, (uint32_t)value)
				    : impost_view_write_u16(at, AT, (uint16_t)value);
	case 1:
		return impost_view_store_any(at, AT, &value, bytes);
	case 2:
		return impost_view_atomic(at, AT, bytes, IMPOST_ATOMIC_STORE, IMPOST_ORDER_RELAXED,
					  value, NULL);
	case 3:
		return impost_memory_write(memory, AT, &value, bytes);
	default:
		return impost_view_write(at, AT, &value, bytes);
	}
}

static int read_by(struct impost_view *at, uint32_t way, uint32_t bytes, uint64_t *value)
{
	uint16_t value16 = 0;
	uint32_t value32 = 0;
	int err;

	*value = 0;
	switch (way) {
	case 0:
		if (bytes == 8)
			return impost_view_read_u64(at, AT, value);
		err = bytes == 4 ? impost_view_read_u32(at, AT, &value32)
				 : impost_view_read_u16(at, AT, &value16);
		*value = bytes == 4 ? value32 : value16;
		return err;
	case 1:
		return impost_view_load_any(at, AT, value, bytes);
	case 2:
		return impost_view_atomic(at, AT, bytes, IMPOST_ATOMIC_LOAD, IMPOST_ORDER_ACQUIRE,
					  0, value);
	case 3:
		return impost_memory_read(memory, AT, value, bytes);
	default:
		return impost_view_read(at, AT, value, bytes);
	}
}

static void *write_torn(void *arg)
{
	const struct torn *torn = arg;
	struct impost_view own;
	uint64_t wrong = 0;

	for (uint64_t i = 0; !torn_stop; i++) {
		if (i % 64 == 0)
			wrong += impost_view_begin(memory, &own) != 0;
		wrong += write_by(&own, torn->way, torn->bytes,
				  all_alike(i & 1 ? 0xff : 0, torn->bytes)) != 0;
		if (i % 64 == 63)
			impost_view_end(&own);
	}
	impost_view_end(&own);
	return wrong ? arg : NULL;
}

/* How many ways are one access there. */
static uint32_t ways(void)
{
	struct impost_region got = {.size = sizeof(got)};

	cr_assert(impost_memory_get(memory, 0, &got) == 0);
	return got.state & IMPOST_REGION_IS_DIRECT ? WAYS : TYPED_WAYS;
}

static void read_torn(const struct torn *torn, uint32_t way)
{
	uint64_t value, zeros = 0, ones = 0;

	for (uint32_t i = 0; i < rounds || ((!zeros || !ones) && i < 1000 * rounds); i++) {
		cr_assert(read_by(&view, way, torn->bytes, &value) == 0);
		zeros += value == 0;
		ones += value == all_alike(0xff, torn->bytes);
		cr_assert(value == 0 || value == all_alike(0xff, torn->bytes),
			  "%" PRIx64 " of %u bytes, way %u against %u", value, torn->bytes,
			  torn->way, way);
	}
	cr_assert(zeros && ones, "the writer was not seen");
}

/* Each way of writing against each way of reading, for numbers of BYTES. */
static void expect_untorn(uint32_t bytes)
{
	for (uint32_t way = 0; way < ways(); way++) {
		struct torn torn = {bytes, way};
		pthread_t thread;
		void *wrong;

		torn_stop = 0;
		cr_assert(pthread_create(&thread, NULL, write_torn, &torn) == 0);
		for (uint32_t reads = 0; reads < ways(); reads++)
			read_torn(&torn, reads);
		torn_stop = 1;
		pthread_join(thread, &wrong);
		cr_expect(!wrong);
	}
}

static void expect_untorn_in(struct impost_region *region, uint32_t state)
{
	struct impost_region got = {.size = sizeof(got)};

	region->size = sizeof(*region);
	region->gpa = AT + 8 - BYTES;
	region->bytes = BYTES;
	ctx = open_context();
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, impost_memory_add(memory, region));
	expect_ok(ctx, impost_memory_get(memory, 0, &got));
	cr_assert_eq(got.state, state);
	rounds = state & IMPOST_REGION_IS_DIRECT ? 20000 : 1000; /* else each is a system call */
	expect_ok(ctx, impost_view_begin(memory, &view));
	for (uint32_t bytes = 2; bytes <= 8; bytes *= 2) {
		expect_ok(ctx, impost_view_write_u64(&view, AT, 0));
		expect_untorn(bytes);
	}
	impost_view_end(&view);
	expect_ok(ctx, impost_memory_destroy(memory));
	cr_expect(impost_context_close(ctx) == 0);
}

#define DIRECT (IMPOST_REGION_IS_DIRECT | IMPOST_REGION_IS_WRITABLE)

Test(untorn, anonymous)
{
	struct impost_region region = {.kind = IMPOST_REGION_ANONYMOUS};

	expect_untorn_in(&region, DIRECT);
}

Test(untorn, memfd)
{
	struct impost_region region = {.kind = IMPOST_REGION_MEMFD};

	expect_untorn_in(&region, DIRECT);
}

Test(untorn, pointer)
{
	struct impost_region region = {.kind = IMPOST_REGION_POINTER};

	region.hva = aligned_alloc(IMPOST_PAGE_SIZE, BYTES);
	cr_assert(region.hva);
	memset(region.hva, 0, BYTES);
	expect_untorn_in(&region, DIRECT);
	free(region.hva);
}

/* Of a file that may become shorter, which is asked after at each access. */
static void expect_untorn_in_file(uint32_t flags)
{
	struct impost_region region = {.kind = IMPOST_REGION_FD, .flags = flags};

	region.fd = memfd_create("untorn", MFD_CLOEXEC);
	cr_assert(region.fd >= 0 && ftruncate(region.fd, BYTES) == 0);
	expect_untorn_in(&region, IMPOST_REGION_IS_WRITABLE);
	close(region.fd);
}

Test(untorn, file_that_may_become_shorter)
{
	expect_untorn_in_file(IMPOST_REGION_SHARED);
}

Test(untorn, private_file_that_may_become_shorter)
{
	expect_untorn_in_file(0);
}
