/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a chain have of guest memory, chunk by chunk. */
#ifndef CORE_SNAPSHOT_MEMORY_LAYERS_H
#define CORE_SNAPSHOT_MEMORY_LAYERS_H

#include "snapshot_memory_table.h"

/* A chain longer than this is refused. */
#define MOST_LAYERS 64u

/* The region of LAYER's that is REGION of the newest's; NULL: it was not there then. */
const struct table_region *layer_region(const struct memory_layer *layer,
					const struct table_region *region);

/* Which pages of a chunk come from which layer: a word for each. What is in none is zero. */
void layers_resolve(const struct memory_layer *layers, uint32_t n,
		    const struct table_region *region, uint64_t chunk, uint64_t *ret_from);

/*
 * Reads chunk CHUNK of region number REGION of the newest layer's, verifies it, and puts those of
 * its pages that are data, *RET_DATA, in their places at TO. SCRATCH has room for a chunk. Errors
 * as of memory_layers_verify().
 */
int layers_read_chunk(struct impost_context *ctx, const struct memory_layer *layers, uint32_t n,
		      uint32_t region, uint64_t chunk, uint8_t *to, uint8_t *scratch,
		      uint64_t *ret_data);

/* Reads BYTES of LAYER's file at OFFSET. -ENODATA: it ends before; or what pread(2) says. */
int layer_read(struct impost_context *ctx, const struct memory_layer *layer, void *buf,
	       uint64_t bytes, uint64_t offset);

/* Where in LAYER's file the page at OFFSET of REGION, one of its own, is. */
static inline uint64_t layer_offset(const struct memory_layer *layer,
				    const struct table_region *region, uint64_t offset)
{
	return layer->offset + region->area_offset + offset;
}

#endif
