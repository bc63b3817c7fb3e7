/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of dirty tracking: which pages each reader must be told of, and which it may be. Random
 * writes by host and guest, regions that come and go, and readers that do, are made in the model
 * and in the library, and what is taken is compared.
 *
 * Memory outside the model's regions is not looked at: the guest's page tables are there.
 */
#ifndef TESTS_DIRTY_MODEL_H
#define TESTS_DIRTY_MODEL_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define MODEL_BASE    UINT64_C(0x20000000)
#define MODEL_PAGES   33464u
#define MODEL_READERS 4u
#define MODEL_BATCH   32u

/* Regions that may be there: some adjoin, one is longer than what is protected again at a time. */
static const struct model_place {
	uint32_t first, pages; /* from MODEL_BASE on */
	uint32_t flags;	       /* IMPOST_REGION_* */
} model_places[] = {
	{0, 131, 0},
	{131, 1, 0},
	{132, 64, 0},
	{199, 200, IMPOST_REGION_READONLY},
	{399, 33000, IMPOST_REGION_NORESERVE},
	{33399, 65, 0},
};
#define MODEL_PLACES (sizeof(model_places) / sizeof(model_places[0]))

/* A page, as a reader has it. */
#define MODEL_MUST 1u /* written, then pulled by a sync: it has to be told */
#define MODEL_NEW  2u /* written since the reader's last sync */
#define MODEL_MAY  4u /* it can be told */
#define MODEL_LATE 8u /* it was NEW when it was told: until the next sync it can be told again */

struct model_reader {
	struct impost_dirty *dirty; /* NULL: there is none */
	uint32_t flags;
	uint8_t page[MODEL_PAGES];
};

struct model {
	struct impost_context *ctx;
	struct impost_memory *memory;
	/* Has the guest write one byte at each of COUNT addresses. NULL: there is no guest. */
	void (*guest_writes)(void *arg, const uint64_t *gpa, uint32_t count);
	void *arg;
	bool rom;      /* there can be read-only regions */
	bool backend;  /* there can be memory of the backend */
	uint64_t seed; /* not 0 */
	bool present[MODEL_PLACES];
	struct model_reader reader[MODEL_READERS];
	uint64_t told; /* pages, by all readers */
};

#define MODEL_OK(model, expr)                                                                \
	do {                                                                                 \
		int err_ = (expr);                                                           \
		cr_assert(err_ == 0, "%s: %d, %s", #expr, err_, impost_error((model)->ctx)); \
	} while (0)

static inline uint32_t model_random(struct model *model, uint32_t below)
{
	model->seed ^= model->seed << 13;
	model->seed ^= model->seed >> 7;
	model->seed ^= model->seed << 17;
	return (uint32_t)((model->seed >> 32) % below);
}

static inline uint64_t model_gpa(uint32_t page)
{
	return MODEL_BASE + (uint64_t)page * IMPOST_PAGE_SIZE;
}

/* The region that PAGE is in now; -1: none. */
static inline int model_place_of(const struct model *model, uint32_t page)
{
	for (size_t i = 0; i < MODEL_PLACES; i++)
		if (model->present[i] && page - model_places[i].first < model_places[i].pages)
			return (int)i;
	return -1;
}

/* --- what happens --- */

static inline void model_written(struct model *model, uint32_t page, bool by_guest)
{
	for (uint32_t i = 0; i < MODEL_READERS; i++)
		if (!by_guest || !(model->reader[i].flags & IMPOST_DIRTY_HOST_ONLY))
			model->reader[i].page[page] |= MODEL_NEW | MODEL_MAY;
}

/* Bytes at a random place of a random region, as many as lie in regions one after the other. */
static inline bool model_pick(struct model *model, uint64_t most, uint64_t *ret_gpa,
			      uint64_t *ret_bytes)
{
	uint32_t place = model_random(model, MODEL_PLACES), page, end;

	if (!model->present[place])
		return false;
	page = model_places[place].first + model_random(model, model_places[place].pages);
	for (end = page; end < MODEL_PAGES && model_place_of(model, end) >= 0 &&
			 (end - page) * (uint64_t)IMPOST_PAGE_SIZE < most;)
		end++;
	*ret_gpa = model_gpa(page) + model_random(model, IMPOST_PAGE_SIZE);
	*ret_bytes = 1 + model_random(model, (uint32_t)most);
	if (*ret_bytes > model_gpa(end) - *ret_gpa)
		*ret_bytes = model_gpa(end) - *ret_gpa;
	return true;
}

static inline void model_load(struct model *model, uint64_t gpa, const void *buf, uint64_t bytes)
{
	char name[] = "/tmp/impost-dirty-XXXXXX";
	int fd = mkstemp(name);

	cr_assert(fd >= 0 && write(fd, buf, bytes) == (ssize_t)bytes);
	unlink(name);
	MODEL_OK(model, impost_memory_load_fd(model->memory, gpa, fd, 0, bytes, 0, NULL));
	close(fd);
}

/* In one view: a number after a read of the same region, which the inline calls are quick at. */
static inline uint64_t model_number(struct model *model, uint64_t gpa, uint64_t bytes)
{
	uint64_t size = bytes >= 8 ? 8 : bytes >= 4 ? 4 : bytes >= 2 ? 2 : 1;
	struct impost_view view;
	uint8_t byte;

	MODEL_OK(model, impost_view_begin(model->memory, &view));
	MODEL_OK(model, impost_view_read_u8(&view, gpa, &byte));
	switch (size) {
	case 8:
		MODEL_OK(model, impost_view_write_le64(&view, gpa, model->seed));
		break;
	case 4:
		MODEL_OK(model, impost_view_write_be32(&view, gpa, (uint32_t)model->seed));
		break;
	case 2:
		MODEL_OK(model, impost_view_write_u16(&view, gpa, (uint16_t)model->seed));
		break;
	default:
		MODEL_OK(model, impost_view_write_u8(&view, gpa, byte));
	}
	impost_view_end(&view);
	return size;
}

/* Atomic operations that write: bytes of one number at *GPA, which becomes a multiple of them. */
static inline uint64_t model_atomic(struct model *model, uint64_t *gpa)
{
	uint32_t bytes = 1u << model_random(model, 4);
	struct impost_view view;
	uint64_t old, seen;

	*gpa -= *gpa % bytes;
	MODEL_OK(model, impost_view_begin(model->memory, &view));
	MODEL_OK(model, impost_view_atomic(&view, *gpa, bytes,
					   IMPOST_ATOMIC_STORE + model_random(model, 6),
					   IMPOST_ORDER_RELAXED, model->seed, NULL));
	MODEL_OK(model, impost_view_atomic(&view, *gpa, bytes, IMPOST_ATOMIC_LOAD,
					   IMPOST_ORDER_ACQUIRE, 0, &old));
	MODEL_OK(model, impost_view_compare_exchange(&view, *gpa, bytes, IMPOST_ORDER_SEQ_CST, old,
						     old + 1, &seen));
	impost_view_end(&view);
	cr_assert(seen == old);
	return bytes;
}

/* Through pointers, and told afterwards. */
static inline void model_pointer(struct model *model, uint64_t gpa, uint64_t bytes)
{
	struct impost_view view;
	uint64_t len;
	void *hva;

	MODEL_OK(model, impost_view_begin(model->memory, &view));
	for (uint64_t done = 0; done < bytes; done += len) {
		MODEL_OK(model, impost_view_span(&view, gpa + done, bytes - done, &hva, &len));
		memset(hva, 3, len);
	}
	MODEL_OK(model, impost_view_mark_dirty(&view, gpa, bytes));
	impost_view_end(&view);
}

/* Copies and fills in a view; as far as there is memory, which is BYTES. */
static inline void model_in_view(struct model *model, uint64_t gpa, const void *buf, uint64_t bytes)
{
	struct impost_view view;
	uint64_t done = bytes;

	MODEL_OK(model, impost_view_begin(model->memory, &view));
	switch (model_random(model, 3)) {
	case 0:
		MODEL_OK(model, impost_view_write(&view, gpa, buf, bytes));
		break;
	case 1:
		MODEL_OK(model, impost_view_fill(&view, gpa, 4, bytes));
		break;
	default:
		MODEL_OK(model, impost_view_write_some(&view, gpa, buf, bytes, &done));
	}
	impost_view_end(&view);
	cr_assert(done == bytes);
}

/* Whole pages given back, where that can be: bytes, or 0. */
static inline uint64_t model_discard(struct model *model, uint64_t *gpa, uint64_t bytes)
{
	uint64_t end = *gpa + bytes;
	int err;

	*gpa -= *gpa % IMPOST_PAGE_SIZE;
	end += -end % IMPOST_PAGE_SIZE;
	err = impost_pages_discard(model->memory, *gpa, end - *gpa, 0);
	cr_assert(err == 0 || err == -EACCES || err == -ENOTSUP, "%s", impost_error(model->ctx));
	return err ? 0 : end - *gpa;
}

static inline uint64_t model_write(struct model *model, uint64_t *gpa, uint64_t bytes)
{
	static const uint8_t buf[80 * IMPOST_PAGE_SIZE] = {7};

	switch (model_random(model, 10)) {
	case 0:
		MODEL_OK(model, impost_memory_write(model->memory, *gpa, buf, bytes));
		return bytes;
	case 1:
		MODEL_OK(model, impost_memory_fill(model->memory, *gpa, 9, bytes));
		return bytes;
	case 2:
		model_load(model, *gpa, buf, bytes);
		return bytes;
	case 3:
		model_pointer(model, *gpa, bytes);
		return bytes;
	case 4:
		return model_discard(model, gpa, bytes);
	case 5:
	case 6:
		model_in_view(model, *gpa, buf, bytes);
		return bytes;
	case 7:
		return model_atomic(model, gpa);
	default:
		return model_number(model, *gpa, bytes);
	}
}

static inline void model_host_writes(struct model *model)
{
	uint64_t gpa, bytes, at;

	if (!model_pick(model, (model_random(model, 4) ? 3 : 80) * IMPOST_PAGE_SIZE, &gpa, &bytes))
		return;
	bytes = model_write(model, &gpa, bytes);
	for (at = gpa - gpa % IMPOST_PAGE_SIZE; at < gpa + bytes; at += IMPOST_PAGE_SIZE)
		model_written(model, (uint32_t)((at - MODEL_BASE) / IMPOST_PAGE_SIZE), false);
}

static inline void model_guest_writes(struct model *model)
{
	uint32_t count = 1 + model_random(model, MODEL_BATCH), n = 0;
	uint64_t gpa[MODEL_BATCH], bytes;

	if (!model->guest_writes)
		return;
	for (uint32_t i = 0; i < count; i++) {
		if (!model_pick(model, IMPOST_PAGE_SIZE, &gpa[n], &bytes))
			continue;
		uint32_t page = (uint32_t)((gpa[n] - MODEL_BASE) / IMPOST_PAGE_SIZE);

		if (model->rom &&
		    model_places[model_place_of(model, page)].flags & IMPOST_REGION_READONLY)
			continue;
		model_written(model, page, true);
		n++;
	}
	if (n)
		model->guest_writes(model->arg, gpa, n);
}

/* --- regions and readers --- */

static inline void model_toggle_region(struct model *model, uint32_t i)
{
	const struct model_place *place = &model_places[i];
	struct impost_region region = {
		.size = sizeof(region),
		.gpa = model_gpa(place->first),
		.bytes = (uint64_t)place->pages * IMPOST_PAGE_SIZE,
		.flags = model->rom ? place->flags : place->flags & ~IMPOST_REGION_READONLY,
	};

	if (model->backend && i == 2) /* memory of the backend: removed in another order */
		region.kind = IMPOST_REGION_BACKEND;
	if (model->present[i])
		MODEL_OK(model, impost_memory_remove(model->memory, region.gpa));
	else
		MODEL_OK(model, impost_memory_add(model->memory, &region));
	model->present[i] = !model->present[i];
	for (uint32_t r = 0; r < MODEL_READERS; r++)
		memset(model->reader[r].page + place->first,
		       model->present[i] ? MODEL_MUST | MODEL_MAY : 0, place->pages);
}

static inline void model_open(struct model *model, uint32_t number)
{
	static const uint32_t choice[] = {0, 0, IMPOST_DIRTY_ALL, IMPOST_DIRTY_HOST_ONLY,
					  IMPOST_DIRTY_HOST_ONLY | IMPOST_DIRTY_ALL};
	struct model_reader *reader = &model->reader[number];
	struct impost_dirty_config config = {
		.size = sizeof(config),
		.flags = choice[model_random(model, sizeof(choice) / sizeof(choice[0]))],
	};

	MODEL_OK(model, impost_dirty_create(model->memory, &config, &reader->dirty));
	reader->flags = config.flags;
	for (uint32_t page = 0; page < MODEL_PAGES; page++)
		reader->page[page] = config.flags & IMPOST_DIRTY_ALL &&
						     model_place_of(model, page) >= 0
					     ? MODEL_MUST | MODEL_MAY
					     : 0;
}

static inline void model_close(struct model *model, uint32_t number)
{
	MODEL_OK(model, impost_dirty_destroy(model->reader[number].dirty));
	model->reader[number].dirty = NULL;
}

/* --- passes --- */

static inline void model_sync(struct model *model, struct model_reader *reader)
{
	MODEL_OK(model, impost_dirty_sync(reader->dirty));
	for (uint32_t page = 0; page < MODEL_PAGES; page++)
		if (reader->page[page] & MODEL_NEW)
			reader->page[page] = MODEL_MUST | MODEL_MAY;
		else
			reader->page[page] = (uint8_t)(reader->page[page] & ~MODEL_LATE);
}

/* A page was told. What was written after the last sync is in what would be copied now; whether it
 * is told again, and once or twice where host and log both have it, is the hypervisor's. */
static inline void model_page_told(struct model *model, struct model_reader *reader, uint64_t gpa)
{
	uint64_t page = (gpa - MODEL_BASE) / IMPOST_PAGE_SIZE;

	if (gpa < MODEL_BASE || page >= MODEL_PAGES)
		return;
	cr_assert(model_place_of(model, (uint32_t)page) >= 0,
		  "page %u is told of, where no memory is", (uint32_t)page);
	cr_assert(reader->page[page] & MODEL_MAY, "page %u was not written", (uint32_t)page);
	reader->page[page] = reader->page[page] & (MODEL_NEW | MODEL_LATE) ? MODEL_LATE | MODEL_MAY
									   : 0;
	model->told++;
}

/* One take: returns whether the pass goes on. *NEXT: an address that ranges must not be below. */
static inline bool model_take(struct model *model, struct model_reader *reader, uint64_t *next)
{
	static struct impost_range ranges[600];
	uint64_t capacity = 1 + model_random(model, model_random(model, 2) ? 4 : 600);
	uint64_t count = UINT64_MAX;

	MODEL_OK(model, impost_dirty_take(reader->dirty, ranges, capacity, &count));
	cr_assert(count <= capacity);
	for (uint64_t i = 0; i < count; i++) {
		const struct impost_range *range = &ranges[i];

		cr_assert(range->bytes > 0 && range->gpa % IMPOST_PAGE_SIZE == 0 &&
			  range->bytes % IMPOST_PAGE_SIZE == 0);
		/* In order, and, within a call, as long as can be. */
		cr_assert(i == 0 ? range->gpa >= *next : range->gpa > *next);
		*next = range->gpa + range->bytes;
		for (uint64_t gpa = range->gpa; gpa < *next; gpa += IMPOST_PAGE_SIZE)
			model_page_told(model, reader, gpa);
	}
	return count == capacity;
}

/* What stats and counts say after a sync. */
static inline void model_check_counts(struct model *model, const struct model_reader *reader)
{
	for (uint32_t i = 0; i < MODEL_PLACES; i++) {
		uint64_t pages = UINT64_MAX, must = 0;
		int err = impost_dirty_region(reader->dirty, model_gpa(model_places[i].first),
					      &pages);

		cr_assert(err == (model->present[i] ? 0 : -ENOENT));
		for (uint32_t p = 0; p < model_places[i].pages; p++)
			must += reader->page[model_places[i].first + p] & MODEL_MUST;
		cr_assert(err ? pages == UINT64_MAX : pages == must, "%u: %lu pages, not %lu", i,
			  (unsigned long)pages, (unsigned long)must);
	}
}

/* A whole pass, in which nobody writes: what had to be told was told. */
static inline void model_pass(struct model *model, struct model_reader *reader)
{
	uint64_t next = 0;

	model_sync(model, reader);
	while (model_take(model, reader, &next))
		;
	for (uint32_t page = 0; page < MODEL_PAGES; page++)
		cr_assert(!(reader->page[page] & MODEL_MUST), "page %u is missing", page);
}

/* The same of a reader that is not in the middle of a pass: it is exact. */
static inline void model_exact_pass(struct model *model, struct model_reader *reader)
{
	uint64_t next = 0;

	model_sync(model, reader);
	for (uint32_t page = 0; page < MODEL_PAGES; page++)
		cr_assert(reader->page[page] == 0 ||
			  reader->page[page] == (MODEL_MUST | MODEL_MAY));
	model_check_counts(model, reader);
	while (model_take(model, reader, &next))
		;
	for (uint32_t page = 0; page < MODEL_PAGES; page++)
		cr_assert(reader->page[page] == 0, "page %u is missing", page);
	model_check_counts(model, reader);
}

/* --- walks --- */

/* Writes, changes of regions, readers that come and go; true: nothing but writes. */
static inline void model_change(struct model *model)
{
	uint32_t number = model_random(model, MODEL_READERS);

	switch (model_random(model, 20)) {
	case 0:
		if (model->reader[number].dirty)
			model_close(model, number);
		break;
	case 1:
	case 2:
		if (!model->reader[number].dirty)
			model_open(model, number);
		break;
	case 3:
	case 4:
		model_toggle_region(model, model_random(model, MODEL_PLACES));
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		model_guest_writes(model);
		break;
	default:
		model_host_writes(model);
	}
}

/* After every step one reader's pass is exactly the model's. */
static inline void model_walk(struct model *model, uint32_t steps)
{
	for (uint32_t step = 0; step < steps; step++) {
		struct model_reader *reader = &model->reader[model_random(model, MODEL_READERS)];

		model_change(model);
		if (reader->dirty)
			model_exact_pass(model, reader);
	}
}

/* Syncs and takes in any order, with changes between them: nothing is lost, and nothing told that
 * was not written. */
static inline void model_loose_walk(struct model *model, uint32_t steps)
{
	uint64_t next[MODEL_READERS] = {0};

	for (uint32_t step = 0; step < steps; step++) {
		uint32_t i = model_random(model, MODEL_READERS);
		struct model_reader *reader = &model->reader[i];

		model_change(model);
		for (uint32_t r = 0; r < MODEL_READERS; r++)
			if (!model->reader[r].dirty)
				next[r] = 0;
		if (!reader->dirty)
			continue;
		if (model_random(model, 3) == 0)
			model_sync(model, reader);
		else if (!model_take(model, reader, &next[i]))
			next[i] = 0;
	}
	for (uint32_t i = 0; i < MODEL_READERS; i++) {
		if (!model->reader[i].dirty)
			continue;
		while (next[i] && model_take(model, &model->reader[i], &next[i]))
			;
		model_pass(model, &model->reader[i]);
	}
}

/* Regions and one reader to begin with. */
static inline void model_begin(struct model *model)
{
	for (uint32_t i = 0; i < MODEL_PLACES; i += 2)
		model_toggle_region(model, i);
	model_open(model, 0);
}

static inline void model_end(struct model *model)
{
	cr_assert(model->told > 0);
	for (uint32_t i = 0; i < MODEL_READERS; i++)
		model_close(model, i);
	for (uint32_t i = 0; i < MODEL_PLACES; i++)
		if (model->present[i])
			model_toggle_region(model, i);
}

#endif
