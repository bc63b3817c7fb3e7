/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that comes from a snapshot's files when it is touched, chunk by chunk, verified. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pager.h"
#include "snapshot_memory_layers.h"

/* A copy of a layer, with what it points to. */
struct kept {
	struct snapshot_hash hash;
	void *bytes;
};

struct files {
	struct impost_context *ctx;
	uint8_t *scratch; /* of a chunk */
	uint32_t nlayers;
	struct memory_layer layers[MOST_LAYERS];
	struct kept kept[MOST_LAYERS];
};

static int read_chunks(void *opaque, uint32_t region, uint64_t offset, uint8_t *to, uint64_t bytes,
		       uint64_t *ret_data)
{
	const struct files *files = opaque;
	int err = 0;

	for (uint64_t done = 0; !err && done < bytes; done += CHUNK_BYTES)
		err = layers_read_chunk(files->ctx, files->layers, files->nlayers, region,
					(offset + done) / CHUNK_BYTES, to + done, files->scratch,
					ret_data);
	return err;
}

static void release(void *opaque)
{
	struct files *files = opaque;

	for (uint32_t i = 0; i < files->nlayers; i++) {
		if (files->layers[i].fd >= 0)
			close(files->layers[i].fd);
		memory_table_free((struct memory_table *)(uintptr_t)files->layers[i].table);
		free(files->kept[i].bytes);
		explicit_bzero(&files->kept[i].hash, sizeof(files->kept[i].hash)); /* the key */
		free((char *)(uintptr_t)files->layers[i].name);
	}
	free(files->scratch);
	free(files);
}

static int keep_layer(struct files *files, const struct memory_layer *layer)
{
	struct memory_layer *copy = &files->layers[files->nlayers];
	struct kept *kept = &files->kept[files->nlayers];
	struct memory_table *table = NULL;
	int err;

	*kept = (struct kept){.hash = *layer->hash, .bytes = malloc(layer->table->bytes)};
	*copy = (struct memory_layer){
		.fd = fcntl(layer->fd, F_DUPFD_CLOEXEC, 0),
		.offset = layer->offset,
		.hash = &kept->hash,
		.name = strdup(layer->name),
	};
	err = copy->fd < 0 ? -errno : 0;
	files->nlayers++;
	if (err)
		return impost_error_set(files->ctx, err, "no descriptor for %s: %s", layer->name,
					strerror(-err));
	if (!kept->bytes || !copy->name)
		return impost_error_set(files->ctx, -ENOMEM, "no memory for the table of %s",
					layer->name);
	memcpy(kept->bytes, layer->table->head, layer->table->bytes);
	err = memory_table_decode(files->ctx, kept->bytes, layer->table->bytes,
				  layer->table->area_bytes, layer->table->diff, &table);
	copy->table = table;
	return err;
}

int pager_start_layers(struct impost_memory *memory, const struct memory_layer *layers, uint32_t n,
		       bool prefetch)
{
	struct files *files = calloc(1, sizeof(*files));
	struct pager_source source = {
		.fails = "memory cannot be restored lazily",
		.lost = "some of the memory, which was restored lazily, could not be read from "
			"the snapshot",
		.unit = CHUNK_BYTES,
		.read = read_chunks,
		.release = release,
		.opaque = files,
	};
	int err = 0;

	if (!files)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a pager");
	files->ctx = memory->ctx;
	files->scratch = aligned_alloc(IMPOST_PAGE_SIZE, CHUNK_BYTES);
	if (!files->scratch)
		err = impost_error_set(memory->ctx, -ENOMEM, "no memory for a pager");
	for (uint32_t i = 0; !err && i < n; i++)
		err = keep_layer(files, &layers[i]);
	if (err) {
		release(files);
		return err;
	}
	return pager_start(memory, &source, prefetch);
}
