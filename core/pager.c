/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that comes when it is touched. */
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "context.h"
#include "crew.h"
#include "memory.h"
#include "pages.h"
#include "snapshot_memory_layers.h"
#include "uffd.h"

#define FAULTS	 16u
#define FEATURES (UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS)

/* The largest pages that are brought whole. */
#define MOST_PAGE IMPOST_PAGE_2M

/* A region, and which of its units are there: chunks, or huge pages where these are larger. */
struct paged {
	uint64_t gpa, bytes;
	uint8_t *hva;
	uint64_t unit; /* bytes */
	bool huge;
	uint64_t next; /* prefetching goes on here */
	bool *there;
	bool gone; /* it was removed: others' memory may lie there; guarded by the pager's lock */
};

/* A copy of a layer, with what it points to. */
struct kept {
	struct snapshot_hash hash;
	void *bytes;
};

struct pager {
	struct impost_memory *memory;
	struct impost_context *ctx;
	int uffd;
	int woken; /* an eventfd: prefetch from now on or, with `quit`, end */
	atomic_bool quit;
	pthread_t thread;
	bool started;
	bool prefetch;
	uint8_t *buffer; /* of MOST_PAGE, and a chunk */
	_Atomic uint64_t left;
	_Atomic int err;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t ended;
	bool done;
	uint32_t nlayers;
	struct memory_layer layers[MOST_LAYERS];
	struct kept kept[MOST_LAYERS];
	uint32_t count;
	struct paged region[];
};

/* --- bringing --- */

static uint64_t unit_bytes(const struct paged *paged, uint64_t unit)
{
	uint64_t left = paged->bytes - unit * paged->unit;

	return left < paged->unit ? left : paged->unit;
}

static bool is_gone(struct pager *pager, const struct paged *paged)
{
	bool gone;

	pthread_mutex_lock(&pager->lock);
	gone = paged->gone;
	pthread_mutex_unlock(&pager->lock);
	return gone;
}

/* Fills what has been read of a chunk in, DATA in BUFFER, and the rest with zeros. */
static int fill_chunk(const struct pager *pager, uint8_t *to, uint64_t bytes, uint64_t data,
		      const uint8_t *buffer)
{
	const uint64_t all = bytes == CHUNK_BYTES ? UINT64_MAX
						  : (UINT64_C(1) << bytes / IMPOST_PAGE_SIZE) - 1;
	uint64_t first = 0, count;
	int err = 0;

	for (; !err && (count = next_run(data, &first)); first += count)
		err = uffd_copy(pager->uffd, to + first * IMPOST_PAGE_SIZE,
				buffer + first * IMPOST_PAGE_SIZE, count * IMPOST_PAGE_SIZE,
				IMPOST_PAGE_SIZE);
	first = 0;
	for (; !err && (count = next_run(all & ~data, &first)); first += count)
		err = uffd_zero(pager->uffd, to + first * IMPOST_PAGE_SIZE,
				count * IMPOST_PAGE_SIZE);
	return err;
}

/* Reads the chunks of a unit into the buffer; *RET_DATA: which pages of the last one. */
static int read_unit(const struct pager *pager, uint32_t at, uint64_t unit, uint64_t *ret_data)
{
	const struct paged *paged = &pager->region[at];
	const uint64_t first = unit * paged->unit / CHUNK_BYTES;
	const uint64_t bytes = unit_bytes(paged, unit);
	int err = 0;

	if (paged->huge)
		memset(pager->buffer, 0, bytes);
	for (uint64_t done = 0; !err && done < bytes; done += CHUNK_BYTES)
		err = layers_read_chunk(pager->ctx, pager->layers, pager->nlayers, at,
					first + done / CHUNK_BYTES, pager->buffer + done,
					pager->buffer + MOST_PAGE, ret_data);
	return err;
}

/* Fills what has been read of a unit in. -ENOENT: its region is not there any more. */
static int fill_unit(struct pager *pager, const struct paged *paged, uint64_t unit, uint64_t data)
{
	uint8_t *to = paged->hva + unit * paged->unit;
	uint64_t bytes = unit_bytes(paged, unit);
	int err = -ENOENT;

	pthread_mutex_lock(&pager->lock);
	if (!paged->gone)
		err = paged->huge ? uffd_copy(pager->uffd, to, pager->buffer, bytes, paged->unit)
				  : fill_chunk(pager, to, bytes, data, pager->buffer);
	pthread_mutex_unlock(&pager->lock);
	return err ? impost_error_set(pager->ctx, err, "%s", strerror(-err)) : 0;
}

/* Nobody is to see what a unit that cannot be brought has instead: who touches it is refused. */
static void forbid(struct pager *pager, const struct paged *paged, uint64_t unit)
{
	pthread_mutex_lock(&pager->lock);
	if (!paged->gone)
		mprotect(paged->hva + unit * paged->unit, unit_bytes(paged, unit), PROT_NONE);
	pthread_mutex_unlock(&pager->lock);
}

static void note_error(struct pager *pager, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&pager->err, &none, err);
}

static void give_up(struct pager *pager, const struct paged *paged, uint64_t unit, int err)
{
	context_log(pager->ctx, IMPOST_LOG_ERROR,
		    "restoring memory at 0x%" PRIx64 ": %s; the guest cannot use it",
		    paged->gpa + unit * paged->unit, impost_error(pager->ctx));
	forbid(pager, paged, unit);
	note_error(pager, err);
}

/* Nobody tells of what is touched any more: what is not there will never be. */
static void give_up_rest(struct pager *pager, int err)
{
	context_log(pager->ctx, IMPOST_LOG_ERROR,
		    "restoring memory: userfaultfd fails: %s; the guest cannot use the %" PRIu64
		    " bytes that are missing",
		    strerror(-err), atomic_load(&pager->left));
	for (uint32_t i = 0; i < pager->count; i++) {
		const struct paged *paged = &pager->region[i];

		for (uint64_t unit = 0; unit * paged->unit < paged->bytes; unit++)
			if (!paged->there[unit])
				forbid(pager, paged, unit);
	}
	note_error(pager, err);
	atomic_store(&pager->left, 0);
}

/* Brings a unit, unless it is there. -ENOENT: its region was removed, and nobody asks for it. */
static void bring(struct pager *pager, uint32_t at, uint64_t unit)
{
	struct paged *paged = &pager->region[at];
	uint8_t *to = paged->hva + unit * paged->unit;
	uint64_t bytes = unit_bytes(paged, unit), data = 0;

	if (!paged->there[unit]) {
		int err = is_gone(pager, paged) ? -ENOENT : read_unit(pager, at, unit, &data);

		/* Before the one who waits goes on, and asks. */
		atomic_fetch_sub(&pager->left, bytes);
		if (!err)
			err = fill_unit(pager, paged, unit, data);
		if (err && err != -ENOENT)
			give_up(pager, paged, unit, err);
		paged->there[unit] = true;
	}
	uffd_wake(pager->uffd, to, bytes);
}

static void serve(struct pager *pager, uint64_t address)
{
	for (uint32_t i = 0; i < pager->count; i++) {
		const struct paged *paged = &pager->region[i];
		uint64_t offset = address - (uintptr_t)paged->hva;

		if (address >= (uintptr_t)paged->hva && offset < paged->bytes)
			bring(pager, i, offset / paged->unit);
	}
}

/* Brings the next unit that is not there. */
static void bring_next(struct pager *pager)
{
	for (uint32_t i = 0; i < pager->count; i++) {
		struct paged *paged = &pager->region[i];

		for (; paged->next * paged->unit < paged->bytes; paged->next++)
			if (!paged->there[paged->next]) {
				bring(pager, i, paged->next);
				return;
			}
	}
}

/* --- the end --- */

/* Memory of which pages can be missing: userfaultfd(2) knows no other. */
static bool can_page(const struct mapped *region)
{
	return region->kind == IMPOST_REGION_ANONYMOUS || region->kind == IMPOST_REGION_MEMFD;
}

/* Whether REGION of the map is one that the pager has. It may have been removed, and another be
 * where it was: but anonymous memory and memfds are MAPPED_DIRECT whoever made them. */
static bool is_paged(const struct pager *pager, const struct mapped *region)
{
	for (uint32_t i = 0; i < pager->count; i++)
		if (pager->region[i].gpa == region->gpa && pager->region[i].hva == region->hva)
			return can_page(region);
	return false;
}

/* Publishes the regions as MAPPED_DIRECT, or not. Nobody waits for readers here: one of them may
 * wait for us. */
static int set_direct(struct pager *pager, bool direct)
{
	struct impost_memory *memory = pager->memory;
	struct map *map;

	pthread_mutex_lock(&memory->lock);
	map = memory_new_map(memory, memory->map->count);
	if (map) {
		map_copy(map, memory->map);
		for (uint32_t i = 0; i < map->count; i++)
			if (is_paged(pager, &map->region[i]))
				map->region[i].access =
					direct ? map->region[i].access | MAPPED_DIRECT
					       : map->region[i].access & ~MAPPED_DIRECT;
		memory_publish(memory, map);
	}
	pthread_mutex_unlock(&memory->lock);
	return map ? 0 : -ENOMEM;
}

static void close_files(struct pager *pager)
{
	for (uint32_t i = 0; i < pager->nlayers; i++) {
		if (pager->layers[i].fd >= 0)
			close(pager->layers[i].fd);
		memory_table_free((struct memory_table *)(uintptr_t)pager->layers[i].table);
		free(pager->kept[i].bytes);
		explicit_bzero(&pager->kept[i].hash, sizeof(pager->kept[i].hash)); /* the key */
		free((char *)(uintptr_t)pager->layers[i].name);
	}
	pager->nlayers = 0;
	if (pager->uffd >= 0)
		close(pager->uffd);
	pager->uffd = -1;
}

static void announce(struct pager *pager)
{
	pthread_mutex_lock(&pager->lock);
	pager->done = true;
	pthread_cond_broadcast(&pager->ended);
	pthread_mutex_unlock(&pager->lock);
}

static void *run(void *opaque)
{
	struct pager *pager = opaque;
	uint64_t at[FAULTS];
	int count = 0;

	while (count >= 0 && atomic_load(&pager->left) > 0) {
		count = uffd_wait(pager->uffd, pager->woken, pager->prefetch ? 0 : -1, at, FAULTS);
		for (int i = 0; i < count; i++)
			serve(pager, at[i]);
		if (count == -ECANCELED && !atomic_load(&pager->quit)) {
			eventfd_t value;

			/* Somebody waits for all of it. */
			eventfd_read(pager->woken, &value);
			count = 0;
			pager->prefetch = true;
		} else if (count == 0 && pager->prefetch) {
			bring_next(pager);
		}
	}
	if (count == -ECANCELED)
		return NULL;
	if (count < 0)
		give_up_rest(pager, count);
	close_files(pager);
	/* First: who holds the lock that is taken now may wait for one who waits for this. */
	announce(pager);
	if (!atomic_load(&pager->err))
		set_direct(pager, true);
	return NULL;
}

/* --- the beginning --- */

static int keep_layer(struct pager *pager, const struct memory_layer *layer)
{
	struct memory_layer *copy = &pager->layers[pager->nlayers];
	struct kept *kept = &pager->kept[pager->nlayers];
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
	pager->nlayers++;
	if (err)
		return impost_error_set(pager->ctx, err, "no descriptor for %s: %s", layer->name,
					strerror(-err));
	if (!kept->bytes || !copy->name)
		return impost_error_set(pager->ctx, -ENOMEM, "no memory for the table of %s",
					layer->name);
	memcpy(kept->bytes, layer->table->head, layer->table->bytes);
	err = memory_table_decode(pager->ctx, kept->bytes, layer->table->bytes,
				  layer->table->area_bytes, layer->table->diff, &table);
	copy->table = table;
	return err;
}

static int keep_region(struct pager *pager, const struct mapped *region)
{
	struct paged *paged = &pager->region[pager->count];
	uint64_t page = region_page_bytes(region);
	int err;

	*paged = (struct paged){
		.gpa = region->gpa,
		.bytes = mapped_bytes(region),
		.hva = region->hva,
		.unit = page > CHUNK_BYTES ? page : CHUNK_BYTES,
		.huge = page > IMPOST_PAGE_SIZE,
	};
	paged->there = calloc((paged->bytes + paged->unit - 1) / paged->unit, 1);
	if (!paged->there)
		return impost_error_set(pager->ctx, -ENOMEM, "no memory for a pager");
	pager->count++;
	if (!can_page(region) || page > MOST_PAGE)
		return impost_error_set(
			pager->ctx, -ENOTSUP,
			"memory can be restored lazily into anonymous memory and "
			"memfds, of pages of 2 MiB at the most: [memory] has other");
	err = uffd_register(pager->uffd, paged->hva, paged->bytes, UFFDIO_REGISTER_MODE_MISSING);
	if (err)
		return impost_error_set(pager->ctx, -ENOTSUP,
					"memory cannot be restored lazily: the host's kernel "
					"cannot do it for this kind of memory: %s",
					strerror(-err));
	atomic_fetch_add(&pager->left, paged->bytes);
	return 0;
}

static int open_uffd(struct pager *pager)
{
	pager->uffd = uffd_open(FEATURES);
	if (pager->uffd < 0)
		return impost_error_set(pager->ctx, -ENOTSUP,
					"memory cannot be restored lazily: this process cannot "
					"have a userfaultfd (%s); root allows it by the mode of "
					"/dev/userfaultfd",
					strerror(-pager->uffd));
	pager->woken = eventfd(0, EFD_CLOEXEC);
	if (pager->woken < 0)
		return impost_error_set(pager->ctx, -errno, "no descriptor for a pager: %s",
					strerror(errno));
	return 0;
}

static int begin(struct pager *pager, const struct memory_layer *layers, uint32_t n)
{
	const struct map *map = pager->memory->map;
	int err = open_uffd(pager);

	for (uint32_t i = 0; !err && i < n; i++)
		err = keep_layer(pager, &layers[i]);
	for (uint32_t i = 0; !err && i < map->count; i++)
		err = keep_region(pager, &map->region[i]);
	if (!err)
		err = set_direct(pager, false);
	if (!err) {
		err = -crew_start(&pager->thread, run, pager);
		if (err)
			impost_error_set(pager->ctx, err, "no thread can be started: %s",
					 strerror(-err));
	}
	pager->started = !err;
	return err;
}

static void pager_free(struct pager *pager)
{
	close_files(pager);
	if (pager->woken >= 0)
		close(pager->woken);
	for (uint32_t i = 0; i < pager->count; i++)
		free(pager->region[i].there);
	pthread_cond_destroy(&pager->ended);
	pthread_mutex_destroy(&pager->lock);
	free(pager->buffer);
	free(pager);
}

int pager_start(struct impost_memory *memory, const struct memory_layer *layers, uint32_t n,
		bool prefetch)
{
	const uint32_t count = memory->map->count;
	struct pager *pager = calloc(1, sizeof(*pager) + count * sizeof(pager->region[0]));
	uint8_t *buffer = aligned_alloc(IMPOST_PAGE_SIZE, MOST_PAGE + CHUNK_BYTES);
	int err;

	if (!pager || !buffer) {
		free(pager);
		free(buffer);
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a pager");
	}
	pager->memory = memory;
	pager->ctx = memory->ctx;
	pager->buffer = buffer;
	pager->prefetch = prefetch;
	pager->uffd = pager->woken = -1;
	pthread_mutex_init(&pager->lock, NULL);
	pthread_cond_init(&pager->ended, NULL);
	err = begin(pager, layers, n);
	if (err)
		pager_free(pager);
	else
		memory->pager = pager;
	return err;
}

void pager_stop(struct impost_memory *memory)
{
	struct pager *pager = memory->pager;

	memory->pager = NULL;
	if (!pager)
		return;
	/* A fork has no such thread. */
	if (pager->started && !context_forked(pager->ctx)) {
		atomic_store(&pager->quit, true);
		eventfd_write(pager->woken, 1);
		pthread_join(pager->thread, NULL);
	}
	pager_free(pager);
}

void pager_forget(struct impost_memory *memory, uint64_t gpa)
{
	struct pager *pager = memory->pager;

	if (!pager)
		return;
	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; i < pager->count; i++)
		if (pager->region[i].gpa == gpa)
			pager->region[i].gone = true;
	pthread_mutex_unlock(&pager->lock);
}

/* --- asking --- */

int memory_settle(struct impost_memory *memory)
{
	struct pager *pager = memory->pager;

	/* A fork has no such thread; what is called next refuses it. */
	if (!pager || context_forked(memory->ctx))
		return 0;
	pthread_mutex_lock(&pager->lock);
	if (!pager->done)
		eventfd_write(pager->woken, 1);
	while (!pager->done)
		pthread_cond_wait(&pager->ended, &pager->lock);
	pthread_mutex_unlock(&pager->lock);
	if (!atomic_load(&pager->err))
		return 0;
	return impost_error_set(memory->ctx, -EIO,
				"some of the memory, which was restored lazily, could not be read "
				"from the snapshot: %s",
				strerror(-atomic_load(&pager->err)));
}

void memory_paging(const struct impost_memory *memory, uint64_t *ret_left, int *ret_err)
{
	struct pager *pager = memory->pager;

	*ret_left = pager ? atomic_load(&pager->left) : 0;
	*ret_err = pager ? atomic_load(&pager->err) : 0;
}
