/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory in the files of a chain: found, read and verified. */
#include "snapshot_memory_layers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/error.h>

#include "crew.h"
#include "pages.h"

const struct table_region *layer_region(const struct memory_layer *layer,
					const struct table_region *region)
{
	uint32_t at = memory_table_find(layer->table, region->gpa);
	const struct table_region *found = &layer->table->region[at];

	return at < layer->table->count && found->gpa == region->gpa &&
			       found->bytes == region->bytes
		       ? found
		       : NULL;
}

void layers_resolve(const struct memory_layer *layers, uint32_t n,
		    const struct table_region *region, uint64_t chunk, uint64_t *ret_from)
{
	uint64_t left = chunk_pages(region, chunk);

	for (uint32_t i = 0; i < n; i++) {
		const struct table_region *here = left ? layer_region(&layers[i], region) : NULL;

		ret_from[i] = here ? left & here->data[chunk] : 0;
		if (here)
			left &= here->zero ? ~(here->data[chunk] | here->zero[chunk]) : 0;
	}
}

/* --- checks --- */

/* Whether each page of a chunk is in some layer. */
static bool is_somewhere(const struct memory_layer *layers, uint32_t n,
			 const struct table_region *region, uint64_t chunk)
{
	uint64_t left = chunk_pages(region, chunk);

	for (uint32_t i = 0; left && i < n; i++) {
		const struct table_region *here = layer_region(&layers[i], region);

		if (!here)
			return false;
		left &= here->zero ? ~(here->data[chunk] | here->zero[chunk]) : 0;
	}
	return !left;
}

int memory_layers_check(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n)
{
	if (n == 0 || n > MOST_LAYERS)
		return impost_error_set(ctx, -IMPOST_EFORMAT,
					"a chain of %u snapshots: %u can be read at the most", n,
					MOST_LAYERS);
	for (uint32_t i = 0; i < n; i++)
		if (layers[i].table->diff != (i + 1 < n))
			return impost_error_set(ctx, -IMPOST_EFORMAT, "%s %s", layers[i].name,
						i + 1 < n ? "has a base, and its memory is full"
							  : "has no base, and needs one");
	/* One that is full has everything: whatever its size, there is nothing to look at. */
	for (uint32_t at = 0; n > 1 && at < layers[0].table->count; at++) {
		const struct table_region *region = &layers[0].table->region[at];

		for (uint64_t chunk = 0; chunk < region->chunks; chunk++)
			if (!is_somewhere(layers, n, region, chunk))
				return impost_error_set(
					ctx, -IMPOST_EFORMAT,
					"%s has not all of the memory at 0x%" PRIx64
					", and the snapshots below it have no such region",
					layers[0].name, region->gpa + chunk * CHUNK_BYTES);
	}
	return 0;
}

/* --- reading --- */

int layer_read(struct impost_context *ctx, const struct memory_layer *layer, void *buf,
	       uint64_t bytes, uint64_t offset)
{
	uint8_t *at = buf;

	while (bytes > 0) {
		ssize_t n = pread(layer->fd, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return impost_error_set(ctx, -errno, "%s cannot be read at %" PRIu64 ": %s",
						layer->name, offset, strerror(errno));
		if (n == 0)
			return impost_error_set(ctx, -ENODATA,
						"%s has become shorter: it ends before %" PRIu64,
						layer->name, offset);
		at += n;
		bytes -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Reads all that LAYER has of a chunk to where it belongs in TO, and verifies it. */
static int read_verified(struct impost_context *ctx, const struct memory_layer *layer,
			 const struct table_region *region, uint64_t chunk, uint8_t *to)
{
	uint8_t digest[SNAPSHOT_DIGEST];
	struct snapshot_hashing hashing;
	uint64_t first = 0, count;
	int err = 0;

	snapshot_hashing_begin(&hashing, layer->hash);
	for (; !err && (count = next_run(region->data[chunk], &first)); first += count) {
		uint64_t from = first * IMPOST_PAGE_SIZE, bytes = count * IMPOST_PAGE_SIZE;

		err = layer_read(ctx, layer, to + from, bytes,
				 layer_offset(layer, region, chunk * CHUNK_BYTES + from));
		if (!err)
			snapshot_hashing_add(&hashing, to + from, bytes);
	}
	snapshot_hashing_end(&hashing, digest);
	if (err || memcmp(digest, region->digest[chunk], sizeof(digest)) == 0)
		return err;
	return impost_error_set(ctx, -EBADMSG,
				"%s: the memory at 0x%" PRIx64
				" is not what was saved: its checksum is another",
				layer->name, region->gpa + chunk * CHUNK_BYTES);
}

static void copy_pages(uint8_t *to, const uint8_t *from, uint64_t pages)
{
	for (uint64_t first = 0, count; (count = next_run(pages, &first)); first += count)
		memcpy(to + first * IMPOST_PAGE_SIZE, from + first * IMPOST_PAGE_SIZE,
		       count * IMPOST_PAGE_SIZE);
}

int layers_read_chunk(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		      uint32_t at, uint64_t chunk, uint8_t *to, uint8_t *scratch,
		      uint64_t *ret_data)
{
	const struct table_region *region = &layers[0].table->region[at];
	uint64_t from[MOST_LAYERS], all = 0;
	int err = 0;

	layers_resolve(layers, n, region, chunk, from);
	for (uint32_t i = 0; !err && i < n; i++) {
		const struct table_region *here = from[i] ? layer_region(&layers[i], region) : NULL;
		bool whole = here && here->data[chunk] == from[i];

		if (!here)
			continue;
		err = read_verified(ctx, &layers[i], here, chunk, whole ? to : scratch);
		if (!err && !whole)
			copy_pages(to, scratch, from[i]);
		all |= from[i];
	}
	if (!err)
		*ret_data = all;
	return err;
}

int memory_layers_read(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		       uint64_t gpa, void *buf, uint64_t bytes)
{
	const struct memory_table *table = layers[0].table;
	uint8_t *chunks = aligned_alloc(64, 2 * CHUNK_BYTES), *to = buf;
	int err = chunks ? 0 : impost_error_set(ctx, -ENOMEM, "no memory for a chunk");

	while (!err && bytes > 0) {
		uint32_t at = memory_table_find(table, gpa);
		const struct table_region *region = &table->region[at];
		uint64_t offset, len, data;

		if (at == table->count || gpa < region->gpa) {
			err = impost_error_set(ctx, -EFAULT, "%s has no memory at 0x%" PRIx64,
					       layers[0].name, gpa);
			break;
		}
		offset = (gpa - region->gpa) % CHUNK_BYTES;
		len = region->bytes - (gpa - region->gpa);
		len = len < CHUNK_BYTES - offset ? len : CHUNK_BYTES - offset;
		len = len < bytes ? len : bytes;
		memset(chunks, 0, CHUNK_BYTES);
		err = layers_read_chunk(ctx, layers, n, at, (gpa - region->gpa) / CHUNK_BYTES,
					chunks, chunks + CHUNK_BYTES, &data);
		if (!err)
			memcpy(to, chunks + offset, len);
		to += len;
		gpa += len;
		bytes -= len;
	}
	free(chunks);
	return err;
}

/* --- verifying --- */

struct verifying {
	struct impost_context *ctx;
	const struct memory_layer *layers;
	uint32_t n;
	memory_progress_fn *progress;
	void *opaque;
	uint64_t batches;
};

/* The layer and the region that batch *BATCH is of; it becomes the number in that region. */
static const struct memory_layer *find_batch(const struct verifying *verifying, uint64_t *batch,
					     const struct table_region **ret_region)
{
	for (uint32_t i = 0; i < verifying->n; i++)
		for (uint32_t at = 0; at < verifying->layers[i].table->count; at++) {
			const struct table_region *region = &verifying->layers[i].table->region[at];

			if (*batch < batches_of(region)) {
				*ret_region = region;
				return &verifying->layers[i];
			}
			*batch -= batches_of(region);
		}
	return NULL;
}

/* Whether nothing of the file was ever written there. */
static bool is_hole(const struct memory_layer *layer, uint64_t offset, uint64_t bytes)
{
	off_t data = lseek(layer->fd, (off_t)offset, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= offset + bytes;
}

static bool pages_are_zero(const uint8_t *at, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (!page_is_zero(at + i * IMPOST_PAGE_SIZE))
			return false;
	return true;
}

/* No digest is of pages that are not in the area, but a region is mapped with them: so they must
 * be zero, or whoever has no key could put there what the guest is to read. */
static int verify_gaps(struct impost_context *ctx, const struct memory_layer *layer,
		       const struct table_region *region, uint64_t chunk, uint8_t *buffer)
{
	const uint64_t pages = chunk_pages(region, chunk) & ~region->data[chunk];
	uint64_t first = 0, count;

	for (; (count = next_run(pages, &first)); first += count) {
		uint64_t at = chunk * CHUNK_BYTES + first * IMPOST_PAGE_SIZE;
		uint64_t offset = layer_offset(layer, region, at), bytes = count * IMPOST_PAGE_SIZE;
		int err;

		if (is_hole(layer, offset, bytes))
			continue;
		err = layer_read(ctx, layer, buffer, bytes, offset);
		if (err)
			return err;
		if (!pages_are_zero(buffer, count))
			return impost_error_set(ctx, -EBADMSG,
						"%s has something where it says nothing: for the "
						"memory at 0x%" PRIx64,
						layer->name, region->gpa + at);
	}
	return 0;
}

static int verify_chunk(struct impost_context *ctx, const struct memory_layer *layer,
			const struct table_region *region, uint64_t chunk, uint8_t *buffer)
{
	int err = region->data[chunk] ? read_verified(ctx, layer, region, chunk, buffer) : 0;

	return err ? err : verify_gaps(ctx, layer, region, chunk, buffer);
}

static int verify_batch(void *opaque, uint64_t batch)
{
	const struct verifying *verifying = opaque;
	const struct table_region *region = NULL;
	const struct memory_layer *layer = find_batch(verifying, &batch, &region);
	uint8_t *buffer = aligned_alloc(64, CHUNK_BYTES);
	int err = buffer ? 0 : impost_error_set(verifying->ctx, -ENOMEM, "no memory for a chunk");

	for (uint64_t chunk = batch * BATCH;
	     !err && layer && chunk < region->chunks && chunk < (batch + 1) * BATCH; chunk++)
		err = verify_chunk(verifying->ctx, layer, region, chunk, buffer);
	free(buffer);
	return err;
}

static int tell(void *opaque, uint64_t done)
{
	const struct verifying *verifying = opaque;

	if (verifying->progress &&
	    verifying->progress(verifying->opaque, done * BATCH * CHUNK_BYTES,
				verifying->batches * BATCH * CHUNK_BYTES))
		return impost_error_set(verifying->ctx, -ECANCELED, "verifying was cancelled");
	return 0;
}

int memory_layers_verify(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
			 uint32_t threads, memory_progress_fn *progress, void *opaque)
{
	struct verifying verifying = {ctx, layers, n, progress, opaque, 0};
	struct crew crew = {
		.ctx = ctx,
		.threads = threads,
		.work = verify_batch,
		.told = tell,
		.opaque = &verifying,
	};

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t at = 0; at < layers[i].table->count; at++)
			verifying.batches += batches_of(&layers[i].table->region[at]);
	crew.parts = verifying.batches;
	return crew_run(&crew);
}
