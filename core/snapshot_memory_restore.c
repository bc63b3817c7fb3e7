/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory made from the files of a snapshot: mapped, copied, or brought when it is touched. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <impost/range.h>

#include "crew.h"
#include "pager.h"
#include "region.h"
#include "snapshot_memory_layers.h"
#include "view.h"

/* Parts of a diff that are mapped over what is below them are at least this long, and no more than
 * so many: a process can have some 65,000 mappings (vm.max_map_count), and each costs a system call
 * here and a step in every fault. The others are read. */
#define LEAST_MAPPED (UINT64_C(64) << 10)
#define MOST_MAPPED  2048u

struct restoring {
	struct impost_memory *memory;
	struct impost_context *ctx;
	const struct memory_layer *layers;
	uint32_t n;
	const struct memory_restore *want;
	uint32_t mapped; /* parts so far */
	uint64_t batches;
	uint64_t file_offset; /* where the next region of [memory]'s file begins */
};

static int no_memory(const struct restoring *restoring)
{
	return impost_error_set(restoring->ctx, -ENOMEM, "no memory to restore memory with");
}

/* --- mapping --- */

/* The lowest layer that has REGION: all of it is there or, in those above, in them. */
static const struct memory_layer *lowest(const struct restoring *restoring,
					 const struct table_region *region)
{
	uint32_t i = 0;

	while (i + 1 < restoring->n && layer_region(&restoring->layers[i + 1], region))
		i++;
	return &restoring->layers[i];
}

/* Puts what RANGE, of REGION, has in LAYER's file where it belongs: by a mapping, or by reading. */
static int lay_over(struct restoring *restoring, const struct memory_layer *layer,
		    const struct table_region *region, uint8_t *hva,
		    const struct impost_range *range)
{
	uint64_t at = range->gpa - region->gpa, offset = layer_offset(layer, region, at);

	if (range->bytes < LEAST_MAPPED || restoring->mapped >= MOST_MAPPED)
		return layer_read(restoring->ctx, layer, hva + at, range->bytes, offset);
	restoring->mapped++;
	if (mmap(hva + at, range->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, layer->fd,
		 (off_t)offset) == MAP_FAILED)
		return impost_error_set(restoring->ctx, -errno, "%s cannot be mapped: %s",
					layer->name, strerror(errno));
	return 0;
}

/* Makes RANGE zero, which is not so below. */
static int lay_zero(struct restoring *restoring, const struct table_region *region, uint8_t *hva,
		    const struct impost_range *range)
{
	uint8_t *at = hva + (range->gpa - region->gpa);

	if (range->bytes < LEAST_MAPPED || restoring->mapped >= MOST_MAPPED) {
		memset(at, 0, range->bytes);
		return 0;
	}
	restoring->mapped++;
	if (mmap(at, range->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS,
		 -1, 0) == MAP_FAILED)
		return impost_error_set(restoring->ctx, -errno, "no memory can be mapped: %s",
					strerror(errno));
	return 0;
}

/* Lays the pages of WORDS over what is there: of LAYER, or zeros if that is NULL. */
static int lay_words(struct restoring *restoring, const struct memory_layer *layer,
		     const struct table_region *region, uint8_t *hva, const uint64_t *words)
{
	const struct impost_bitmap bitmap = {
		.size = sizeof(bitmap),
		.words = words,
		.pages = region->pages,
		.gpa = region->gpa,
		.page_bytes = IMPOST_PAGE_SIZE,
	};
	struct impost_range ranges[128];
	uint64_t next = 0, count;
	int err = 0;

	while (!err && next < bitmap.pages) {
		count = 0;
		err = impost_bitmap_ranges(&bitmap, &next, ranges, 128, &count);
		for (uint64_t i = 0; !err && i < count; i++)
			err = layer ? lay_over(restoring, layer, layer_region(layer, region), hva,
					       &ranges[i])
				    : lay_zero(restoring, region, hva, &ranges[i]);
	}
	return err;
}

/* Sets WORDS to the pages of REGION that come from layer WHICH or, with WHICH the number of layers,
 * that are zero and not so in BASE's file. */
static bool choose_pages(const struct restoring *restoring, const struct table_region *region,
			 const struct table_region *base, uint32_t which, uint64_t *words)
{
	uint64_t from[MOST_LAYERS], any = 0;

	for (uint64_t chunk = 0; chunk < region->chunks; chunk++) {
		layers_resolve(restoring->layers, restoring->n, region, chunk, from);
		if (which < restoring->n) {
			words[chunk] = from[which];
		} else {
			words[chunk] = base->data[chunk];
			for (uint32_t i = 0; i < restoring->n; i++)
				words[chunk] &= ~from[i];
		}
		any |= words[chunk];
	}
	return any;
}

/* What layers have above BASE, over it: REGION is at HVA. */
static int map_above(struct restoring *restoring, const struct memory_layer *base,
		     const struct table_region *region, uint8_t *hva)
{
	const uint32_t number = (uint32_t)(base - restoring->layers);
	uint64_t *words = calloc(region->chunks, sizeof(*words));
	int err = words ? 0 : no_memory(restoring);

	for (uint32_t i = 0; !err && i < number; i++)
		if (choose_pages(restoring, region, NULL, i, words))
			err = lay_words(restoring, &restoring->layers[i], region, hva, words);
	if (!err &&
	    choose_pages(restoring, region, layer_region(base, region), restoring->n, words))
		err = lay_words(restoring, NULL, region, hva, words);
	free(words);
	return err;
}

static int map_region(struct restoring *restoring, const struct table_region *region)
{
	const struct memory_layer *base = lowest(restoring, region);
	const struct impost_region add = {
		.size = sizeof(add),
		.kind = IMPOST_REGION_FD,
		.gpa = region->gpa,
		.bytes = region->bytes,
		.flags = region->flags | IMPOST_REGION_TRUST_FILE,
		.fd = base->fd,
		.fd_offset = layer_offset(base, layer_region(base, region), 0),
	};
	const struct mapped *mapped;
	int err = impost_memory_add(restoring->memory, &add);

	if (err || base == restoring->layers)
		return err;
	mapped = map_at(restoring->memory->map, region->gpa);
	mapped->backing->mixed = true;
	return map_above(restoring, base, region, mapped->hva);
}

/* --- memory as the configuration has it --- */

static int add_region(struct restoring *restoring, const struct table_region *region)
{
	const bool lazy = restoring->want->how == MEMORY_RESTORE_LAZY;

	return region_add_configured(restoring->memory, region->gpa, region->bytes, region->flags,
				     lazy ? IMPOST_REGION_PREFAULT : 0, &restoring->file_offset);
}

static int zero_pages(const struct restoring *restoring, const struct mapped *mapped, uint8_t *hva,
		      uint64_t pages)
{
	uint64_t first = 0, count;
	int err = 0;

	for (; !err && (count = next_run(pages, &first)); first += count)
		err = access_fill(restoring->memory, mapped, hva + first * IMPOST_PAGE_SIZE, 0,
				  count * IMPOST_PAGE_SIZE);
	return err;
}

static int write_pages(const struct restoring *restoring, const struct mapped *mapped, uint8_t *hva,
		       uint64_t pages, const uint8_t *from)
{
	uint64_t first = 0, count;
	int err = 0;

	for (; !err && (count = next_run(pages, &first)); first += count) {
		uint64_t offset = first * IMPOST_PAGE_SIZE;

		err = access_write(restoring->memory, mapped, hva + offset, from + offset,
				   count * IMPOST_PAGE_SIZE);
	}
	return err;
}

/* Reads chunk CHUNK of region number AT, which is MAPPED's: where that may be touched, straight
 * into its place. */
static int copy_chunk(const struct restoring *restoring, const struct mapped *mapped, uint32_t at,
		      uint64_t chunk, uint8_t *buffer)
{
	const struct table_region *region = &restoring->layers[0].table->region[at];
	const bool direct = mapped->access & MAPPED_DIRECT;
	uint64_t len, data = 0;
	uint8_t *hva = map_span(mapped, region->gpa + chunk * CHUNK_BYTES, CHUNK_BYTES, &len);
	int err = layers_read_chunk(restoring->ctx, restoring->layers, restoring->n, at, chunk,
				    direct ? hva : buffer + CHUNK_BYTES, buffer, &data);

	if (!err && !direct)
		err = write_pages(restoring, mapped, hva, data, buffer + CHUNK_BYTES);
	if (!err && !region_is_fresh(mapped))
		err = zero_pages(restoring, mapped, hva, chunk_pages(region, chunk) & ~data);
	return err;
}

static int copy_batch(void *opaque, uint64_t batch)
{
	const struct restoring *restoring = opaque;
	const struct table_region *region = restoring->layers[0].table->region;
	uint8_t *buffer = aligned_alloc(64, 2 * CHUNK_BYTES);
	struct impost_view view;
	uint32_t at = 0;
	int err;

	if (!buffer)
		return no_memory(restoring);
	err = view_begin(restoring->memory, &view);
	if (err) {
		free(buffer);
		return err;
	}
	for (; batch >= batches_of(&region[at]); at++)
		batch -= batches_of(&region[at]);
	for (uint64_t chunk = batch * BATCH;
	     !err && chunk < region[at].chunks && chunk < (batch + 1) * BATCH; chunk++)
		err = copy_chunk(restoring, map_at(view.map, region[at].gpa), at, chunk, buffer);
	view_end(&view);
	free(buffer);
	return err;
}

static int tell(void *opaque, uint64_t done)
{
	const struct restoring *restoring = opaque;
	const uint64_t bytes = BATCH * CHUNK_BYTES;

	if (restoring->want->progress &&
	    restoring->want->progress(restoring->want->opaque, done * bytes,
				      restoring->batches * bytes))
		return impost_error_set(restoring->ctx, -ECANCELED, "restoring was cancelled");
	return 0;
}

/* Tells those who must be told that all of the memory was written. */
static int mark(const struct restoring *restoring)
{
	const struct memory_table *table = restoring->layers[0].table;
	struct impost_view view;
	int err = view_begin(restoring->memory, &view);

	if (err)
		return err;
	for (uint32_t i = 0; !err && i < table->count; i++) {
		const struct table_region *region = &table->region[i];

		view_mark(map_at(view.map, region->gpa), region->gpa, region->bytes);
		err = view_tell(&view, region->gpa, region->bytes);
	}
	view_end(&view);
	return err;
}

static int copy_all(struct restoring *restoring)
{
	const struct memory_table *table = restoring->layers[0].table;
	struct crew crew = {
		.ctx = restoring->ctx,
		.threads = restoring->want->threads,
		.work = copy_batch,
		.told = tell,
		.opaque = restoring,
	};
	int err;

	for (uint32_t i = 0; i < table->count; i++)
		restoring->batches += batches_of(&table->region[i]);
	crew.parts = restoring->batches;
	err = crew_run(&crew);
	return err ? err : mark(restoring);
}

/* --- the whole --- */

static int restore(struct restoring *restoring)
{
	const struct memory_table *table = restoring->layers[0].table;
	const bool map = restoring->want->how == MEMORY_RESTORE_MAP;
	int err = 0;

	if (map && restoring->want->verify)
		err = memory_layers_verify(restoring->ctx, restoring->layers, restoring->n,
					   restoring->want->threads, restoring->want->progress,
					   restoring->want->opaque);
	for (uint32_t i = 0; !err && i < table->count; i++)
		err = map ? map_region(restoring, &table->region[i])
			  : add_region(restoring, &table->region[i]);
	if (err || map)
		return err;
	return restoring->want->how == MEMORY_RESTORE_LAZY
		       ? pager_start_layers(restoring->memory, restoring->layers, restoring->n,
					    !restoring->want->no_prefetch)
		       : copy_all(restoring);
}

/* Takes back what was added; the error's text stays. */
static void remove_all(struct impost_memory *memory)
{
	while (memory->map->count > 0 && !impost_memory_remove(memory, memory->map->region[0].gpa))
		;
}

int memory_layers_restore(struct impost_memory *memory, const struct memory_layer *layers,
			  uint32_t n, const struct memory_restore *want)
{
	struct restoring restoring = {
		.memory = memory,
		.ctx = memory->ctx,
		.layers = layers,
		.n = n,
		.want = want,
	};
	int err = memory_check(memory);

	if (!err)
		err = memory_check_outside(memory, "restoring memory");
	if (!err && memory->map->count > 0)
		err = impost_error_set(memory->ctx, -EEXIST,
				       "memory that is to be restored has regions already");
	if (err)
		return err;
	err = restore(&restoring);
	if (err)
		remove_all(memory);
	return err;
}
