/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a snapshot's memory: straight from the guest's pages to the file, by several threads,
 * with holes where they are zero.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/pages.h>

#include "crew.h"
#include "pages.h"
#include "snapshot_memory_layers.h"
#include "snapshot_memory_plan.h"
#include "view.h"

/* --- zero pages --- */

/* Sets, in WORDS for the chunks from FIRST on, the pages of a range that is all zero. */
static void note_zero(const struct table_region *region, uint64_t first, uint64_t *words,
		      const struct impost_range *range)
{
	uint64_t page = (range->gpa - region->gpa) / IMPOST_PAGE_SIZE - first * CHUNK_PAGES;
	uint64_t end = page + range->bytes / IMPOST_PAGE_SIZE;

	for (; page < end; page++)
		words[page / 64] |= UINT64_C(1) << page % 64;
}

/* COUNT chunks, of which all pages are asked for. */
static int find_zero_chunks(const struct memory_plan *plan, const struct table_region *region,
			    uint64_t first, uint64_t count, uint64_t *words)
{
	struct impost_range left = {.gpa = region->gpa + first * CHUNK_BYTES,
				    .bytes = count * CHUNK_BYTES};
	struct impost_range ranges[128];
	int err = 0;

	if (left.bytes > region->bytes - first * CHUNK_BYTES)
		left.bytes = region->bytes - first * CHUNK_BYTES;
	while (!err && left.bytes > 0) {
		uint64_t found = 0;

		err = impost_pages_zero(plan->memory, &left, ranges, 128, &found);
		for (uint64_t i = 0; !err && i < found; i++)
			note_zero(region, first, words, &ranges[i]);
	}
	return err;
}

/* A chunk of which some pages are asked for, which somebody wrote: so they are there. */
static int find_zero_pages(const struct memory_plan *plan, uint32_t at, uint64_t chunk,
			   uint64_t pages, uint64_t *word)
{
	uint8_t *buffer = aligned_alloc(64, CHUNK_BYTES);
	const uint8_t *content = NULL;
	struct impost_view view;
	int err;

	if (!buffer)
		return impost_error_set(plan->ctx, -ENOMEM, "no memory for a chunk");
	err = view_begin(plan->memory, &view);
	if (err) {
		free(buffer);
		return err;
	}
	err = plan_look(plan, &view, at, chunk, pages, false, buffer, &content);
	for (uint64_t left = err ? 0 : pages; left; left &= left - 1) {
		uint64_t page = (uint64_t)__builtin_ctzll(left);

		if (page_is_zero(content + page * IMPOST_PAGE_SIZE))
			*word |= UINT64_C(1) << page;
	}
	view_end(&view);
	free(buffer);
	return err;
}

int plan_find_zero(const struct memory_plan *plan, uint32_t at, uint64_t first, uint64_t count,
		   uint64_t *ret_zero)
{
	const struct table_region *region = &plan->table->region[at];
	int err = 0;

	memset(ret_zero, 0, count * sizeof(*ret_zero));
	for (uint64_t i = 0, end; !err && i < count; i = end) {
		uint64_t pages = plan_pages(plan, at, first + i);

		for (end = i; end < count && plan_pages(plan, at, first + end) ==
						     chunk_pages(region, first + end);)
			end++;
		if (end > i) {
			err = find_zero_chunks(plan, region, first + i, end - i, ret_zero + i);
			continue;
		}
		end = i + 1;
		if (pages)
			err = find_zero_pages(plan, at, first + i, pages, &ret_zero[i]);
	}
	return err;
}

/* --- what chunks hold --- */

int plan_look(const struct memory_plan *plan, const struct impost_view *view, uint32_t at,
	      uint64_t chunk, uint64_t pages, bool copy, uint8_t *buffer, const uint8_t **ret_at)
{
	const struct table_region *region = &plan->table->region[at];
	const uint64_t gpa = region->gpa + chunk * CHUNK_BYTES;
	const struct mapped *mapped = map_at(view->map, gpa);
	uint64_t first = 0, count;
	const uint8_t *hva;
	uint64_t len;
	int err = 0;

	if (!mapped || mapped->gpa != region->gpa || mapped_bytes(mapped) != region->bytes)
		return impost_error_set(plan->ctx, -EFAULT,
					"the region at 0x%" PRIx64
					" was removed while it was being saved",
					region->gpa);
	hva = map_span(mapped, gpa, CHUNK_BYTES, &len);
	if (!copy && mapped->access & MAPPED_DIRECT) {
		*ret_at = hva;
		return 0;
	}
	for (; !err && (count = next_run(pages, &first)); first += count) {
		uint64_t offset = first * IMPOST_PAGE_SIZE;

		err = access_read(plan->memory, mapped, hva + offset, buffer + offset,
				  count * IMPOST_PAGE_SIZE);
	}
	*ret_at = buffer;
	return err;
}

static int write_all(const struct memory_plan *plan, const uint8_t *at, uint64_t bytes,
		     uint64_t offset)
{
	while (bytes > 0) {
		ssize_t n = pwrite(plan->fd, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return impost_error_set(plan->ctx, n < 0 ? -errno : -EIO,
						"%" PRIu64
						" bytes of memory cannot be written to the "
						"snapshot at %" PRIu64 ": %s",
						bytes, offset,
						n < 0 ? strerror(errno) : "nothing is written");
		at += n;
		bytes -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int plan_write_chunk(struct memory_plan *plan, uint32_t region, uint64_t chunk, uint64_t data,
		     uint64_t zero, const uint8_t *at)
{
	const struct table_region *to = &plan->table->region[region];
	const uint64_t offset = plan->offset + to->area_offset + chunk * CHUNK_BYTES;
	struct snapshot_hashing hashing;
	uint64_t first = 0, count;
	int err = 0;

	to->data[chunk] = data;
	if (to->zero)
		to->zero[chunk] = zero;
	if (!data)
		return 0;
	snapshot_hashing_begin(&hashing, &plan->hash);
	for (; !err && (count = next_run(data, &first)); first += count) {
		uint64_t from = first * IMPOST_PAGE_SIZE, bytes = count * IMPOST_PAGE_SIZE;

		snapshot_hashing_add(&hashing, at + from, bytes);
		err = write_all(plan, at + from, bytes, offset + from);
	}
	snapshot_hashing_end(&hashing, to->digest[chunk]);
	return err;
}

/* --- batches --- */

/* Of memory that nobody writes. */
static int write_still(struct memory_plan *plan, uint32_t region, uint64_t first, uint64_t count,
		       uint8_t *buffer)
{
	uint64_t zero[BATCH];
	int err = plan_find_zero(plan, region, first, count, zero);

	for (uint64_t i = 0; !err && i < count; i++) {
		uint64_t pages = plan_pages(plan, region, first + i);
		const uint8_t *at = NULL;
		struct impost_view view;

		if (pages == zero[i]) {
			err = plan_write_chunk(plan, region, first + i, 0, zero[i], NULL);
			continue;
		}
		err = view_begin(plan->memory, &view);
		if (err)
			return err;
		err = plan_look(plan, &view, region, first + i, pages & ~zero[i], false, buffer,
				&at);
		if (!err)
			err = plan_write_chunk(plan, region, first + i, pages & ~zero[i], zero[i],
					       at);
		view_end(&view);
	}
	return err;
}

/* Of layers: pages that are data there can be zero all the same. */
static int write_layers(struct memory_plan *plan, uint32_t region, uint64_t first, uint64_t count,
			uint8_t *buffer)
{
	uint64_t data = 0;
	int err = 0;

	for (uint64_t chunk = first; !err && chunk < first + count; chunk++) {
		err = layers_read_chunk(plan->ctx, plan->layers, plan->nlayers, region, chunk,
					buffer, buffer + CHUNK_BYTES, &data);
		for (uint64_t left = err ? 0 : data; left; left &= left - 1) {
			uint64_t page = (uint64_t)__builtin_ctzll(left);

			if (page_is_zero(buffer + page * IMPOST_PAGE_SIZE))
				data &= ~(UINT64_C(1) << page);
		}
		if (!err)
			err = plan_write_chunk(plan, region, chunk, data, 0, buffer);
	}
	return err;
}

static uint64_t count_batches(const struct memory_table *table)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < table->count; i++)
		count += batches_of(&table->region[i]);
	return count;
}

static int write_batch(void *opaque, uint64_t batch)
{
	struct memory_plan *plan = opaque;
	uint32_t region = 0;
	uint64_t first, count;
	uint8_t *buffer;
	int err;

	for (; batch >= batches_of(&plan->table->region[region]); region++)
		batch -= batches_of(&plan->table->region[region]);
	first = batch * BATCH;
	count = plan->table->region[region].chunks - first;
	count = count < BATCH ? count : BATCH;
	if (plan->guard)
		return guard_write(plan->guard, region, first, count);
	buffer = aligned_alloc(64, 2 * CHUNK_BYTES);
	if (!buffer)
		return impost_error_set(plan->ctx, -ENOMEM, "no memory for a chunk");
	err = plan->memory ? write_still(plan, region, first, count, buffer)
			   : write_layers(plan, region, first, count, buffer);
	free(buffer);
	return err;
}

static int tell(void *opaque, uint64_t batch)
{
	const struct memory_plan *plan = opaque;
	uint64_t bytes = 0, done = batch * BATCH * CHUNK_BYTES;

	for (uint32_t i = 0; i < plan->table->count; i++)
		bytes += plan->table->region[i].bytes;
	if (batch == count_batches(plan->table) || done > bytes)
		done = bytes;
	if (plan->progress && plan->progress(plan->opaque, done, bytes))
		return impost_error_set(plan->ctx, -ECANCELED, "saving was cancelled");
	return 0;
}

int memory_plan_write(struct memory_plan *plan, int fd, uint64_t offset)
{
	const struct crew crew = {
		.ctx = plan->ctx,
		.threads = plan->threads,
		.parts = count_batches(plan->table),
		.work = write_batch,
		.told = tell,
		.opaque = plan,
	};
	int err;

	plan->fd = fd;
	plan->offset = offset;
	err = crew_run(&crew);
	return plan->guard ? guard_finish(plan->guard, err) : err;
}
