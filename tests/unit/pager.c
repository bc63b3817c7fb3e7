/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is asked for when it is touched, and brought by somebody else. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <impost/impost.h>

#include "pager.h"
#include "snapshot_machine.h"

#define PAGES 256u

/* Who is asked: notes which pages, and brings them if it is to. */
struct giver {
	pthread_mutex_t lock;
	pthread_cond_t asked;
	uint32_t asks[PAGES]; /* how often each page was asked for */
	uint32_t pages;	      /* in all */
	atomic_bool ended;
	struct pager *pager;
	bool gives;
	uint8_t page[PAGE];
};

static void note(void *opaque, const struct impost_range *ranges, uint32_t count)
{
	struct giver *giver = opaque;

	pthread_mutex_lock(&giver->lock);
	for (uint32_t i = 0; i < count; i++) {
		cr_expect(ranges[i].bytes == PAGE && ranges[i].gpa / PAGE < PAGES);
		giver->asks[ranges[i].gpa / PAGE]++;
		giver->pages++;
	}
	pthread_cond_broadcast(&giver->asked);
	pthread_mutex_unlock(&giver->lock);
	for (uint32_t i = 0; giver->gives && i < count; i++)
		pager_bring(giver->pager, ranges[i].gpa, giver->page, PAGE);
}

static void note_end(void *opaque)
{
	struct giver *giver = opaque;

	atomic_store(&giver->ended, true);
}

static void wait_for_asks(struct giver *giver, uint32_t pages)
{
	pthread_mutex_lock(&giver->lock);
	while (giver->pages < pages)
		pthread_cond_wait(&giver->asked, &giver->lock);
	pthread_mutex_unlock(&giver->lock);
}

/* Memory of PAGES pages, each of which has 1 in all bytes, and a pager of it. */
static struct impost_memory *make_memory(struct impost_context *ctx, uint32_t kind,
					 struct giver *giver)
{
	const struct impost_region region = {
		.size = sizeof(region), .kind = kind, .bytes = PAGES * PAGE};
	const struct pager_source source = {
		.fails = "memory cannot be given",
		.lost = "some of the memory is lost",
		.unit = PAGE,
		.ask = note,
		.end = note_end,
		.opaque = giver,
	};
	struct impost_memory *memory;

	*giver = (struct giver){.lock = PTHREAD_MUTEX_INITIALIZER,
				.asked = PTHREAD_COND_INITIALIZER};
	memset(giver->page, 7, PAGE);
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_memory_fill(memory, 0, 1, (PAGES / 2) * PAGE));
	expect_ok(ctx, pager_open(memory, &source, &giver->pager));
	return memory;
}

static void postpone(struct impost_context *ctx, struct giver *giver, uint64_t page, uint64_t count)
{
	const struct impost_range range = {page * PAGE, count * PAGE};

	expect_ok(ctx, pager_postpone(giver->pager, &range));
}

static void expect_byte(struct impost_memory *memory, uint64_t page, uint8_t byte)
{
	uint8_t read = 0;

	expect_ok(impost_memory_context(memory),
		  impost_memory_read(memory, page * PAGE + 5, &read, 1));
	cr_expect_eq(read, byte, "page %llu: %u, not %u", (unsigned long long)page, read, byte);
}

static const uint32_t kinds[] = {IMPOST_REGION_ANONYMOUS, IMPOST_REGION_MEMFD};

static struct impost_context *begin_test(void)
{
	if (!has_uffd())
		cr_skip_test("this process may not have a userfaultfd");
	return open_context();
}

/* What is postponed is asked for once, and is what was brought; the rest is as it was, and what
 * nobody has ever written is zero. */
Test(pager, what_is_touched_is_asked_for)
{
	struct impost_context *ctx = begin_test();

	for (int i = 0; i < 2; i++) {
		struct giver giver;
		struct impost_memory *memory = make_memory(ctx, kinds[i], &giver);
		struct impost_region region = {.size = sizeof(region)};

		giver.gives = true;
		postpone(ctx, &giver, 3, 2);
		postpone(ctx, &giver, 4, 4); /* 4 a second time */
		expect_ok(ctx, pager_begin(giver.pager));
		cr_expect_eq(pager_left(giver.pager), 5 * PAGE);
		expect_ok(ctx, impost_memory_get(memory, 0, &region));
		cr_expect(!(region.state & IMPOST_REGION_IS_DIRECT));
		for (uint64_t page = 0; page < 7; page++)
			expect_byte(memory, page, page < 3 ? 1 : 7);
		cr_expect_eq(((uint8_t *)region.hva)[200 * PAGE], 0);
		for (uint64_t page = 0; page < PAGES; page++)
			cr_expect_eq(giver.asks[page], page >= 3 && page < 7, "%u",
				     giver.asks[page]);
		pager_bring(giver.pager, 0, giver.page, PAGE); /* was not postponed */
		pager_bring(giver.pager, 7 * PAGE, NULL, PAGE);
		expect_ok(ctx, memory_settle(memory));
		expect_byte(memory, 0, 1);
		expect_byte(memory, 7, 0);
		pager_bring(giver.pager, 7 * PAGE, giver.page, PAGE); /* the first counts */
		expect_byte(memory, 7, 0);
		cr_expect_eq(pager_result(giver.pager), 0);
		impost_memory_destroy(memory);
		pager_unref(giver.pager);
		cr_expect(!atomic_load(&giver.ended));
	}
	impost_context_close(ctx);
}

static void *touch(void *opaque)
{
	struct impost_memory *memory = opaque;
	uint8_t byte;

	return (void *)(intptr_t)impost_memory_read(memory, 9 * PAGE, &byte, 1);
}

/* What is missing, and what of it was asked for, is told; and who waits hears that it is lost. */
Test(pager, what_is_lost)
{
	struct impost_context *ctx = begin_test();

	for (int i = 0; i < 4; i++) {
		struct giver giver;
		struct impost_memory *memory = make_memory(ctx, kinds[i % 2], &giver);
		struct impost_range range;
		pthread_t thread;
		uint64_t at = 0;
		uint8_t byte;
		void *result;

		postpone(ctx, &giver, 8, 4);
		postpone(ctx, &giver, 20, 2);
		expect_ok(ctx, pager_begin(giver.pager));
		cr_assert_eq(pthread_create(&thread, NULL, touch, memory), 0);
		wait_for_asks(&giver, 1);
		cr_expect(pager_missing(giver.pager, true, &at, &range));
		cr_expect(range.gpa == 9 * PAGE && range.bytes == PAGE);
		cr_expect(!pager_missing(giver.pager, true, &at, &range));
		at = 9 * PAGE;
		cr_expect(pager_missing(giver.pager, false, &at, &range));
		cr_expect(range.gpa == 9 * PAGE && range.bytes == 3 * PAGE);
		cr_expect(pager_missing(giver.pager, false, &at, &range));
		cr_expect(range.gpa == 20 * PAGE && range.bytes == 2 * PAGE);
		cr_expect(!pager_missing(giver.pager, false, &at, &range));
		pager_bring(giver.pager, 8 * PAGE, giver.page, PAGE);
		pager_fail(giver.pager, -EPIPE);
		cr_assert_eq(pthread_join(thread, &result), 0);
		cr_expect_eq((intptr_t)result, -EIO);
		cr_expect_eq(pager_result(giver.pager), -EIO);
		expect_error(ctx, memory_settle(memory), -EIO, "some of the memory is lost");
		pager_bring(giver.pager, 9 * PAGE, giver.page, PAGE);
		expect_error(ctx, impost_memory_read(memory, 9 * PAGE, &byte, 1), -EIO, "0x9000");
		expect_byte(memory, 8, 7);
		expect_byte(memory, 12, 1);
		if (i < 2) /* either may go first */
			pager_unref(giver.pager);
		impost_memory_destroy(memory);
		if (i >= 2)
			pager_unref(giver.pager);
	}
	impost_context_close(ctx);
}

/* The memory goes first: who was asked is told, and what it brings is for nobody. */
Test(pager, destroyed_while_it_is_missing)
{
	struct impost_context *ctx = begin_test();

	for (int i = 0; i < 2; i++) {
		struct belongings before = count_own();
		struct giver giver;
		struct impost_memory *memory = make_memory(ctx, kinds[i], &giver);

		postpone(ctx, &giver, 8, 4);
		expect_ok(ctx, pager_begin(giver.pager));
		impost_memory_destroy(memory);
		cr_expect(atomic_load(&giver.ended));
		pager_bring(giver.pager, 8 * PAGE, giver.page, PAGE);
		cr_expect_eq(pager_result(giver.pager), -EIO);
		pager_fail(giver.pager, -EPIPE);
		pager_unref(giver.pager);
		expect_same_own(before);
	}
	impost_context_close(ctx);
}

/* Advice to the kernel cuts what is one region into several mappings. */
Test(pager, cut_into_mappings)
{
	struct impost_context *ctx = begin_test();
	struct giver giver;
	struct impost_memory *memory = make_memory(ctx, IMPOST_REGION_ANONYMOUS, &giver);
	struct impost_region region = {.size = sizeof(region)};
	uint8_t *pages = calloc(PAGES, PAGE);

	expect_ok(ctx, impost_memory_get(memory, 0, &region));
	for (uint64_t page = 5; page < PAGES; page += 20)
		cr_assert(madvise((uint8_t *)region.hva + page * PAGE, 3 * PAGE, MADV_DONTDUMP) ==
			  0);
	postpone(ctx, &giver, 0, PAGES);
	expect_ok(ctx, pager_begin(giver.pager));
	for (uint64_t page = 0; page < PAGES; page++)
		pages[page * PAGE + 5] = (uint8_t)(page + 1);
	pager_bring(giver.pager, 0, pages, (PAGES - 60) * PAGE);
	pager_bring(giver.pager, (PAGES - 60) * PAGE, NULL, 60 * PAGE);
	expect_ok(ctx, memory_settle(memory));
	for (uint64_t page = 0; page < PAGES; page++)
		expect_byte(memory, page, page < PAGES - 60 ? (uint8_t)(page + 1) : 0);
	impost_memory_destroy(memory);
	pager_unref(giver.pager);
	free(pages);
	impost_context_close(ctx);
}

/* A region that was removed takes nothing any more, and is not waited for when its pages came. */
Test(pager, removed_while_it_is_missing)
{
	struct impost_context *ctx = begin_test();
	struct giver giver;
	struct impost_memory *memory = make_memory(ctx, IMPOST_REGION_ANONYMOUS, &giver);

	postpone(ctx, &giver, 8, 4);
	expect_ok(ctx, pager_begin(giver.pager));
	expect_ok(ctx, impost_memory_remove(memory, 0));
	for (uint64_t page = 8; page < 12; page++)
		pager_bring(giver.pager, page * PAGE, giver.page, PAGE);
	expect_ok(ctx, memory_settle(memory));
	impost_memory_destroy(memory);
	pager_unref(giver.pager);
	impost_context_close(ctx);
}

/* What cannot be: memory that is not there, and memory that userfaultfd does not know. */
Test(pager, what_cannot_be_postponed)
{
	struct impost_context *ctx = begin_test();
	static uint8_t own[2 * PAGE] __attribute__((aligned(4096)));
	const struct impost_region region = {.size = sizeof(region),
					     .gpa = PAGES * PAGE,
					     .kind = IMPOST_REGION_POINTER,
					     .hva = own,
					     .bytes = sizeof(own)};
	const struct impost_range ranges[] = {
		{(PAGES - 1) * PAGE, 2 * PAGE}, {(PAGES + 2) * PAGE, PAGE}, {PAGES * PAGE, PAGE}};
	const int errors[] = {-EFAULT, -EFAULT, -ENOTSUP};
	struct giver giver;
	struct impost_memory *memory = make_memory(ctx, IMPOST_REGION_ANONYMOUS, &giver);
	const struct pager_source source = {.fails = "memory cannot be given", .unit = PAGE};
	struct pager *pager;

	pager_stop(memory);
	pager_unref(giver.pager);
	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, pager_open(memory, &source, &pager));
	for (int i = 0; i < 3; i++)
		expect_error(ctx, pager_postpone(pager, &ranges[i]), errors[i],
			     i < 2 ? "region" : "memory cannot be given");
	cr_expect_eq(pager_left(pager), 0);
	expect_ok(ctx, pager_begin(pager)); /* nothing is missing */
	expect_ok(ctx, memory_settle(memory));
	impost_memory_destroy(memory);
	cr_expect_eq(pager_result(pager), 0);
	pager_unref(pager);
	impost_context_close(ctx);
}
