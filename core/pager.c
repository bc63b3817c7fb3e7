/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that comes when it is touched. */
#include "pager.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "context.h"
#include "crew.h"
#include "memory.h"
#include "pages.h"
#include "snapshot_memory_table.h"
#include "uffd.h"
#include "vm.h"

#define FAULTS	 16u
#define FEATURES (UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS)

/* The largest pages that are brought whole. */
#define MOST_PAGE IMPOST_PAGE_2M

/* What is known of a unit. */
enum { MISSING, ASKED, THERE };

/* A region, and which of its units are there: the source's, or huge pages where these are larger.
 */
struct paged {
	uint64_t gpa, bytes;
	uint8_t *hva;
	uint64_t unit; /* bytes */
	bool huge;
	bool watched;  /* userfaultfd tells of what is touched */
	uint64_t next; /* prefetching goes on here */
	uint8_t *state;
	bool gone; /* it was removed: others' memory may lie there; guarded by the pager's lock */
};

struct pager {
	struct impost_memory *memory;
	struct impost_context *ctx;
	struct pager_source source;
	int uffd;
	int woken; /* an eventfd: look at what has changed */
	atomic_bool quit;
	pthread_t thread;
	bool started;
	bool prefetch;
	uint8_t *buffer; /* for what is read: of MOST_PAGE; NULL: nothing is */
	atomic_uint references;
	_Atomic uint64_t left;
	_Atomic int err;
	pthread_mutex_t lock; /* what follows, and the states of units where they are asked for */
	pthread_cond_t ended;
	bool done;    /* the thread does nothing with the memory any more */
	int hopeless; /* an error: nothing will be brought */
	uint32_t count;
	struct paged region[];
};

/* --- units --- */

static uint64_t unit_bytes(const struct paged *paged, uint64_t unit)
{
	uint64_t left = paged->bytes - unit * paged->unit;

	return left < paged->unit ? left : paged->unit;
}

static uint64_t units_of(const struct paged *paged)
{
	return (paged->bytes + paged->unit - 1) / paged->unit;
}

static bool is_gone(struct pager *pager, const struct paged *paged)
{
	bool gone;

	pthread_mutex_lock(&pager->lock);
	gone = paged->gone;
	pthread_mutex_unlock(&pager->lock);
	return gone;
}

/* The region with GPA that is still there. NULL: none. The lock is held. */
static struct paged *find_region(struct pager *pager, uint64_t gpa)
{
	for (uint32_t i = 0; i < pager->count; i++) {
		struct paged *paged = &pager->region[i];

		if (!paged->gone && gpa >= paged->gpa && gpa - paged->gpa < paged->bytes)
			return paged;
	}
	return NULL;
}

/* --- what cannot be brought --- */

/* Nobody is to see what COUNT units that cannot be brought have instead: who touches them is
 * refused. A process can have so many mappings: where these would be more, all of the region is
 * refused. The lock is held. */
static void forbid(const struct paged *paged, uint64_t unit, uint64_t count)
{
	uint64_t last = unit + count - 1;

	if (!paged->gone &&
	    mprotect(paged->hva + unit * paged->unit,
		     (last - unit) * paged->unit + unit_bytes(paged, last), PROT_NONE))
		mprotect(paged->hva, paged->bytes, PROT_NONE);
}

static void note_error(struct pager *pager, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&pager->err, &none, err);
}

/* Before anybody can touch what is forbidden. A hypervisor that emulates an instruction reads ones
 * where it finds no memory, and goes on: no vCPU is to run then. */
static void lose(const struct pager *pager)
{
	if (pager->memory->vm)
		vm_lose(pager->memory->vm);
}

static void give_up(struct pager *pager, const struct paged *paged, uint64_t unit, int err)
{
	context_log(pager->ctx, IMPOST_LOG_ERROR,
		    "restoring memory at 0x%" PRIx64 ": %s; the guest cannot go on without it",
		    paged->gpa + unit * paged->unit, impost_error(pager->ctx));
	lose(pager);
	pthread_mutex_lock(&pager->lock);
	forbid(paged, unit, 1);
	pthread_mutex_unlock(&pager->lock);
	note_error(pager, err);
}

/* The units from *UNIT on that are in none but STATES, a bit for each, up to LIMIT; *UNIT becomes
 * the first of them. 0: there are none. */
static uint64_t next_units(const struct paged *paged, unsigned states, uint64_t limit,
			   uint64_t *unit)
{
	uint64_t end;

	while (*unit < limit && !(1u << paged->state[*unit] & states))
		++*unit;
	for (end = *unit; end < limit && 1u << paged->state[end] & states; end++)
		;
	return end - *unit;
}

#define NOT_THERE (1u << MISSING | 1u << ASKED)

/* What is not there will never be. */
static void give_up_rest(struct pager *pager, int err)
{
	context_log(pager->ctx, IMPOST_LOG_ERROR,
		    "%s: %s; the guest cannot go on without the %" PRIu64 " bytes that are missing",
		    pager->source.lost, strerror(-err), atomic_load(&pager->left));
	lose(pager);
	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; i < pager->count; i++) {
		struct paged *paged = &pager->region[i];
		uint64_t unit = 0, count;

		while ((count = next_units(paged, NOT_THERE, units_of(paged), &unit))) {
			forbid(paged, unit, count);
			memset(paged->state + unit, THERE, count);
		}
	}
	note_error(pager, err);
	atomic_store(&pager->left, 0);
	pthread_mutex_unlock(&pager->lock);
}

/* Of what is asked for nothing more can be filled in, for ERR: the thread, which is the one to lose
 * the VM, is told. The lock is held. */
static void give_all_up(struct pager *pager, int err)
{
	note_error(pager, err);
	pager->hopeless = err;
	eventfd_write(pager->woken, 1);
}

/* --- what is read --- */

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

/* Reads a unit into the buffer; *RET_DATA: which pages of its last chunk. */
static int read_unit(const struct pager *pager, uint32_t at, uint64_t unit, uint64_t *ret_data)
{
	const struct paged *paged = &pager->region[at];
	const uint64_t bytes = unit_bytes(paged, unit);

	if (paged->huge)
		memset(pager->buffer, 0, bytes);
	return pager->source.read(pager->source.opaque, at, unit * paged->unit, pager->buffer,
				  bytes, ret_data);
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

/* Brings a unit, unless it is there. -ENOENT: its region was removed, and nobody asks for it. */
static void read_in(struct pager *pager, uint32_t at, uint64_t unit)
{
	struct paged *paged = &pager->region[at];
	uint8_t *to = paged->hva + unit * paged->unit;
	uint64_t bytes = unit_bytes(paged, unit), data = 0;

	if (paged->state[unit] != THERE) {
		int err = is_gone(pager, paged) ? -ENOENT : read_unit(pager, at, unit, &data);

		/* Before the one who waits goes on, and asks. */
		atomic_fetch_sub(&pager->left, bytes);
		if (!err)
			err = fill_unit(pager, paged, unit, data);
		if (err && err != -ENOENT)
			give_up(pager, paged, unit, err);
		paged->state[unit] = THERE;
	}
	uffd_wake(pager->uffd, to, bytes);
}

/* Brings the next unit that is not there. */
static void read_next(struct pager *pager)
{
	for (uint32_t i = 0; i < pager->count; i++) {
		struct paged *paged = &pager->region[i];

		for (; paged->next * paged->unit < paged->bytes; paged->next++)
			if (paged->state[paged->next] != THERE) {
				read_in(pager, i, paged->next);
				return;
			}
	}
}

/* --- what is asked for --- */

/* What has been touched, and is to be asked for at once. */
struct wanted {
	struct impost_range ranges[FAULTS];
	uint32_t count;
};

/* A unit was touched. What is there may lack its page all the same, which nobody has ever written:
 * it is zero. The lock is held. */
static void want(struct pager *pager, struct paged *paged, uint64_t unit, struct wanted *wanted)
{
	uint8_t *to = paged->hva + unit * paged->unit;
	const uint64_t bytes = unit_bytes(paged, unit);
	const struct impost_range range = {paged->gpa + unit * paged->unit, bytes};
	int err;

	if (paged->state[unit] == MISSING) {
		paged->state[unit] = ASKED;
		wanted->ranges[wanted->count++] = range;
	}
	if (paged->state[unit] == ASKED)
		return;
	err = paged->gone ? 0 : uffd_zero(pager->uffd, to, bytes);
	if (err) {
		forbid(paged, unit, 1);
		give_all_up(pager, err);
		return;
	}
	uffd_wake(pager->uffd, to, bytes);
}

/* --- the thread --- */

static void serve(struct pager *pager, uint64_t address, struct wanted *wanted)
{
	for (uint32_t i = 0; i < pager->count; i++) {
		struct paged *paged = &pager->region[i];
		uint64_t offset = address - (uintptr_t)paged->hva;

		if (address < (uintptr_t)paged->hva || offset >= paged->bytes || !paged->watched)
			continue;
		if (pager->source.read) {
			read_in(pager, i, offset / paged->unit);
			continue;
		}
		pthread_mutex_lock(&pager->lock);
		want(pager, paged, offset / paged->unit, wanted);
		pthread_mutex_unlock(&pager->lock);
	}
}

static void serve_all(struct pager *pager, const uint64_t *at, int count)
{
	struct wanted wanted = {.count = 0};

	for (int i = 0; i < count; i++)
		serve(pager, at[i], &wanted);
	if (wanted.count > 0)
		pager->source.ask(pager->source.opaque, wanted.ranges, wanted.count);
}

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
		if (pager->region[i].watched && pager->region[i].gpa == region->gpa &&
		    pager->region[i].hva == region->hva)
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

/* The lock is held, or there is no other thread. */
static void close_source(struct pager *pager)
{
	if (pager->source.release)
		pager->source.release(pager->source.opaque);
	pager->source.release = NULL;
	if (pager->uffd >= 0)
		close(pager->uffd);
	pager->uffd = -1;
}

/* Closing wakes who waits for what will not come. */
static void announce(struct pager *pager)
{
	pthread_mutex_lock(&pager->lock);
	close_source(pager);
	pager->done = true;
	pthread_cond_broadcast(&pager->ended);
	pthread_mutex_unlock(&pager->lock);
}

/* Somebody has written to `woken`. Returns what is to be said of it: an error ends the thread. */
static int look_again(struct pager *pager)
{
	eventfd_t value;
	int err;

	if (atomic_load(&pager->quit))
		return -ECANCELED;
	eventfd_read(pager->woken, &value);
	/* Somebody waits for all of it. */
	pager->prefetch = pager->source.read != NULL;
	pthread_mutex_lock(&pager->lock);
	err = pager->hopeless;
	pthread_mutex_unlock(&pager->lock);
	return err;
}

static void *run(void *opaque)
{
	struct pager *pager = opaque;
	uint64_t at[FAULTS];
	int count = 0;

	while (count >= 0 && atomic_load(&pager->left) > 0) {
		count = uffd_wait(pager->uffd, pager->woken, pager->prefetch ? 0 : -1, at, FAULTS);
		serve_all(pager, at, count);
		if (count == -ECANCELED)
			count = look_again(pager);
		else if (count == 0 && pager->prefetch)
			read_next(pager);
	}
	if (count < 0 && atomic_load(&pager->quit))
		return NULL;
	if (count < 0 && atomic_load(&pager->left) > 0)
		give_up_rest(pager, count);
	else if (atomic_load(&pager->err))
		lose(pager);
	/* First: who holds the lock that is taken now may wait for one who waits for this. */
	announce(pager);
	if (!atomic_load(&pager->err))
		set_direct(pager, true);
	return NULL;
}

/* --- the beginning --- */

/* Has userfaultfd tell of PAGED, which is MAPPED of the map. */
static int watch(struct pager *pager, struct paged *paged, const struct mapped *mapped)
{
	const bool chunks = pager->source.unit > IMPOST_PAGE_SIZE;
	int err;

	if (!can_page(mapped) || region_page_bytes(mapped) > (chunks ? MOST_PAGE : paged->unit) ||
	    paged->unit % region_page_bytes(mapped))
		return impost_error_set(pager->ctx, -ENOTSUP,
					"%s: only anonymous memory and memfds can be, of pages of "
					"%s at the most: [memory] has other",
					pager->source.fails, chunks ? "2 MiB" : "4 KiB");
	err = uffd_register(pager->uffd, paged->hva, paged->bytes, UFFDIO_REGISTER_MODE_MISSING);
	if (err)
		return impost_error_set(pager->ctx, -ENOTSUP,
					"%s: the host's kernel cannot do it for this kind of "
					"memory: %s",
					pager->source.fails, strerror(-err));
	paged->watched = true;
	return 0;
}

static int keep_region(struct pager *pager, const struct mapped *region, uint8_t state)
{
	struct paged *paged = &pager->region[pager->count];
	const uint64_t page = region_page_bytes(region), unit = pager->source.unit;
	const bool whole = pager->source.read && page > unit;

	*paged = (struct paged){
		.gpa = region->gpa,
		.bytes = mapped_bytes(region),
		.hva = region->hva,
		.unit = whole ? page : unit,
		.huge = page > IMPOST_PAGE_SIZE,
	};
	paged->state = malloc(units_of(paged));
	if (!paged->state)
		return impost_error_set(pager->ctx, -ENOMEM, "no memory for a pager");
	memset(paged->state, state, units_of(paged));
	pager->count++;
	if (state == THERE)
		return 0;
	atomic_fetch_add(&pager->left, paged->bytes);
	return watch(pager, paged, region);
}

static int no_uffd(struct impost_context *ctx, const char *fails, int err)
{
	return impost_error_set(ctx, -ENOTSUP,
				"%s: this process cannot have a userfaultfd (%s); root allows it "
				"by the mode of /dev/userfaultfd",
				fails, strerror(-err));
}

int pager_probe(struct impost_context *ctx, const char *fails)
{
	int fd = uffd_open(FEATURES);

	if (fd < 0)
		return no_uffd(ctx, fails, fd);
	close(fd);
	return 0;
}

bool pager_takes(struct impost_memory *memory, uint64_t unit)
{
	bool takes = true;

	pthread_mutex_lock(&memory->lock);
	for (uint32_t i = 0; takes && i < memory->map->count; i++)
		takes = can_page(&memory->map->region[i]) &&
			unit % region_page_bytes(&memory->map->region[i]) == 0;
	pthread_mutex_unlock(&memory->lock);
	return takes;
}

static int open_uffd(struct pager *pager)
{
	pager->uffd = uffd_open(FEATURES);
	if (pager->uffd < 0)
		return no_uffd(pager->ctx, pager->source.fails, pager->uffd);
	pager->woken = eventfd(0, EFD_CLOEXEC);
	if (pager->woken < 0)
		return impost_error_set(pager->ctx, -errno, "no descriptor for a pager: %s",
					strerror(errno));
	return 0;
}

static void pager_free(struct pager *pager)
{
	close_source(pager);
	if (pager->woken >= 0)
		close(pager->woken);
	for (uint32_t i = 0; i < pager->count; i++)
		free(pager->region[i].state);
	pthread_cond_destroy(&pager->ended);
	pthread_mutex_destroy(&pager->lock);
	free(pager->buffer);
	free(pager);
}

/* A pager by which all of MEMORY's units are in STATE. */
static int make(struct impost_memory *memory, const struct pager_source *source, uint8_t state,
		struct pager **ret_pager)
{
	const struct map *map = memory->map;
	struct pager *pager = calloc(1, sizeof(*pager) + map->count * sizeof(pager->region[0]));
	int err;

	if (!pager) {
		if (source->release)
			source->release(source->opaque);
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a pager");
	}
	pager->memory = memory;
	pager->ctx = memory->ctx;
	pager->source = *source;
	pager->uffd = pager->woken = -1;
	pager->references = 1;
	pthread_mutex_init(&pager->lock, NULL);
	pthread_cond_init(&pager->ended, NULL);
	err = open_uffd(pager);
	if (!err && source->read) {
		pager->buffer = aligned_alloc(IMPOST_PAGE_SIZE, MOST_PAGE);
		if (!pager->buffer)
			err = impost_error_set(memory->ctx, -ENOMEM, "no memory for a pager");
	}
	for (uint32_t i = 0; !err && i < map->count; i++)
		err = keep_region(pager, &map->region[i], state);
	if (err)
		pager_free(pager);
	else
		*ret_pager = pager;
	return err;
}

int pager_begin(struct pager *pager)
{
	int err = set_direct(pager, false);

	if (err)
		return err;
	err = -crew_start(&pager->thread, run, pager);
	if (err)
		return impost_error_set(pager->ctx, err, "no thread can be started: %s",
					strerror(-err));
	pager->started = true;
	return 0;
}

int pager_start(struct impost_memory *memory, const struct pager_source *source, bool prefetch)
{
	struct pager *pager;
	int err = make(memory, source, MISSING, &pager);

	if (err)
		return err;
	pager->prefetch = prefetch;
	err = pager_begin(pager);
	if (err)
		pager_free(pager);
	else
		memory->pager = pager;
	return err;
}

/* --- the end --- */

void pager_unref(struct pager *pager)
{
	if (pager && atomic_fetch_sub(&pager->references, 1) == 1)
		pager_free(pager);
}

void pager_stop(struct impost_memory *memory)
{
	struct pager *pager = memory->pager;

	memory->pager = NULL;
	if (!pager)
		return;
	/* A fork has no such thread. */
	if (pager->started && !context_forked(pager->ctx)) {
		pthread_mutex_lock(&pager->lock);
		if (!pager->done && pager->source.end)
			pager->source.end(pager->source.opaque);
		pthread_mutex_unlock(&pager->lock);
		atomic_store(&pager->quit, true);
		eventfd_write(pager->woken, 1);
		pthread_join(pager->thread, NULL);
	}
	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; i < pager->count; i++)
		pager->region[i].gone = true;
	pager->started = false;
	pthread_mutex_unlock(&pager->lock);
	if (!context_forked(pager->ctx))
		announce(pager);
	pager_unref(pager);
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

/* --- for a source that is asked --- */

int pager_open(struct impost_memory *memory, const struct pager_source *source,
	       struct pager **ret_pager)
{
	int err = make(memory, source, THERE, ret_pager);

	if (err)
		return err;
	atomic_fetch_add(&(*ret_pager)->references, 1);
	memory->pager = *ret_pager;
	return 0;
}

int pager_postpone(struct pager *pager, const struct impost_range *range)
{
	struct paged *paged = find_region(pager, range->gpa);
	const struct mapped *mapped = map_at(pager->memory->map, range->gpa);
	uint64_t unit;
	int err;

	if (!paged || !mapped || range->bytes > paged->bytes - (range->gpa - paged->gpa))
		return impost_error_set(pager->ctx, -EFAULT,
					"0x%" PRIx64 ", %" PRIu64 " bytes: not in one region",
					range->gpa, range->bytes);
	/* First: nobody is to make a large page of what is there around what is not. */
	err = paged->watched ? 0 : watch(pager, paged, mapped);
	if (!err)
		err = pages_drop(pager->memory, mapped, range->gpa, range->bytes);
	if (err)
		return err;
	unit = (range->gpa - paged->gpa) / paged->unit;
	for (uint64_t end = unit + range->bytes / paged->unit; unit < end; unit++)
		if (paged->state[unit] == THERE) {
			paged->state[unit] = MISSING;
			atomic_fetch_add(&pager->left, paged->unit);
		}
	return 0;
}

/* Fills COUNT units from UNIT on, with DATA or zeros. The lock is held. They are counted before who
 * waits for them goes on, and asks; where that fails, who waits does so until the VM is lost. */
static void fill_units(struct pager *pager, struct paged *paged, uint64_t unit, uint64_t count,
		       const uint8_t *data)
{
	uint8_t *to = paged->hva + unit * paged->unit;
	const uint64_t bytes = count * paged->unit;
	const bool asked = memchr(paged->state + unit, ASKED, count) != NULL;
	int err = 0;

	memset(paged->state + unit, THERE, count);
	atomic_fetch_sub(&pager->left, bytes);
	if (!paged->gone)
		err = data ? uffd_copy(pager->uffd, to, data, bytes, paged->unit)
			   : uffd_zero(pager->uffd, to, bytes);
	if (err) {
		memset(paged->state + unit, MISSING, count);
		atomic_fetch_add(&pager->left, bytes);
		give_all_up(pager, err);
		return;
	}
	if (asked) /* a page that was there already wakes nobody */
		uffd_wake(pager->uffd, to, bytes);
}

/* As pager_bring(), of what lies in PAGED from its unit UNIT on. */
static void bring_units(struct pager *pager, struct paged *paged, uint64_t unit, uint64_t end,
			const uint8_t *data)
{
	const uint64_t first = unit;
	uint64_t count;

	while ((count = next_units(paged, NOT_THERE, end, &unit)))
		fill_units(pager, paged, unit, count,
			   data ? data + (unit - first) * paged->unit : NULL);
}

void pager_bring(struct pager *pager, uint64_t gpa, const uint8_t *data, uint64_t bytes)
{
	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; !pager->done && i < pager->count; i++) {
		struct paged *paged = &pager->region[i];
		const uint64_t offset = gpa - paged->gpa;

		if (gpa >= paged->gpa && offset < paged->bytes && bytes <= paged->bytes - offset)
			bring_units(pager, paged, offset / paged->unit,
				    (offset + bytes) / paged->unit, data);
	}
	if (atomic_load(&pager->left) == 0 && !pager->done)
		eventfd_write(pager->woken, 1);
	pthread_mutex_unlock(&pager->lock);
}

/* The first such pages in PAGED that lie at or after GPA. */
static bool missing_in(const struct paged *paged, unsigned states, uint64_t gpa,
		       struct impost_range *ret_range)
{
	uint64_t unit = gpa > paged->gpa ? (gpa - paged->gpa) / paged->unit : 0, count;

	count = next_units(paged, states, units_of(paged), &unit);
	if (count == 0)
		return false;
	*ret_range = (struct impost_range){paged->gpa + unit * paged->unit, count * paged->unit};
	return true;
}

bool pager_missing(struct pager *pager, bool asked, uint64_t *gpa, struct impost_range *ret_range)
{
	const unsigned states = asked ? 1u << ASKED : NOT_THERE;
	bool found = false;

	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; !found && i < pager->count; i++) {
		const struct paged *paged = &pager->region[i];

		if (paged->gpa + (paged->bytes - 1) >= *gpa)
			found = missing_in(paged, states, *gpa, ret_range);
	}
	pthread_mutex_unlock(&pager->lock);
	if (found)
		*gpa = ret_range->gpa + ret_range->bytes;
	return found;
}

uint64_t pager_left(const struct pager *pager)
{
	return atomic_load(&pager->left);
}

void pager_fail(struct pager *pager, int err)
{
	pthread_mutex_lock(&pager->lock);
	pager->hopeless = err;
	if (pager->started && !pager->done)
		eventfd_write(pager->woken, 1);
	while (pager->started && !pager->done)
		pthread_cond_wait(&pager->ended, &pager->lock);
	pthread_mutex_unlock(&pager->lock);
}

int pager_error(const struct pager *pager)
{
	return atomic_load(&pager->err);
}

int pager_result(struct pager *pager)
{
	return atomic_load(&pager->err) || atomic_load(&pager->left) > 0 ? -EIO : 0;
}

/* --- asking --- */

/* Until UNTIL, of the monotonic clock; NULL: whatever it takes. */
static int settle(struct impost_memory *memory, const struct timespec *until)
{
	struct pager *pager = memory->pager;
	int late = 0;

	/* A fork has no such thread; what is called next refuses it. */
	if (!pager || context_forked(memory->ctx))
		return 0;
	pthread_mutex_lock(&pager->lock);
	if (!pager->done)
		eventfd_write(pager->woken, 1);
	while (!pager->done && !late)
		late = until ? pthread_cond_clockwait(&pager->ended, &pager->lock, CLOCK_MONOTONIC,
						      until)
			     : pthread_cond_wait(&pager->ended, &pager->lock);
	late = !pager->done;
	pthread_mutex_unlock(&pager->lock);
	if (late)
		return -ETIMEDOUT;
	if (!atomic_load(&pager->err))
		return 0;
	return impost_error_set(memory->ctx, -EIO, "%s: %s", pager->source.lost,
				strerror(-atomic_load(&pager->err)));
}

int memory_settle(struct impost_memory *memory)
{
	return settle(memory, NULL);
}

int memory_settle_within(struct impost_memory *memory, uint32_t timeout_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	return settle(memory, &until);
}

void memory_paging(const struct impost_memory *memory, uint64_t *ret_left, int *ret_err)
{
	struct pager *pager = memory->pager;

	*ret_left = pager ? atomic_load(&pager->left) : 0;
	*ret_err = pager ? atomic_load(&pager->err) : 0;
}
