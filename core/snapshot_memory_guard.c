/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory as it is at an instant, while the guest runs on: it is protected against writing, chunk by
 * chunk, until the chunk has been copied, by whoever comes first: the one who writes the snapshot,
 * or a thread that is told of each write that has to wait.
 *
 * A chunk is left, being copied, or copied. Who takes it from left to being copied, by one atomic
 * exchange, copies it, and only then ends its protection, which wakes those who wait. What the
 * thread copies goes into a queue for the writers. That is bounded: when as many chunks wait to be
 * written as there are buffers, the guest waits for the disk.
 *
 * Our thread must never wait for one that waits for it. So it takes no lock that is held by anybody
 * who touches guest memory; it looks at memory in a view, for which it does not wait.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bitmap.h"
#include "crew.h"
#include "guard.h"
#include "pages.h"
#include "snapshot_memory_plan.h"
#include "uffd.h"
#include "view.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif

#define BUFFERS	 256u /* 64 MiB */
#define FAULTS	 16u
#define FEATURES (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

enum { LEFT, COPYING, COPIED };

/* A chunk that has been copied. */
struct copied {
	struct copied *next;
	uint32_t region;
	uint64_t chunk, data, zero;
	uint8_t *content; /* CHUNK_BYTES */
};

struct guarded {
	uint8_t *hva;
	uint64_t bytes;
	atomic_uchar *state; /* of each chunk */
};

struct guard {
	struct memory_plan *plan;
	struct impost_memory *memory;
	int uffd, stop;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t freed;
	struct copied *queue, **end, *spare;
	uint32_t buffers; /* that there are */
	int err;	  /* the first of the thread's */
	char text[256];
	uint32_t count;
	struct guarded region[];
};

/* --- buffers --- */

static struct copied *new_buffer(void)
{
	struct copied *copied = calloc(1, sizeof(*copied));
	uint8_t *content = copied ? aligned_alloc(IMPOST_PAGE_SIZE, CHUNK_BYTES) : NULL;

	if (!content) {
		free(copied);
		return NULL;
	}
	copied->content = content;
	return copied;
}

static void free_list(struct copied *list)
{
	struct copied *next;

	for (; list; list = next) {
		next = list->next;
		free(list->content);
		free(list);
	}
}

/* A buffer; waits until there is one. NULL: there is no memory for the first, or writing has
 * failed. */
static struct copied *take_buffer(struct guard *guard)
{
	struct copied *copied = NULL;

	pthread_mutex_lock(&guard->lock);
	while (!guard->err && !copied) {
		copied = guard->spare;
		if (copied)
			guard->spare = copied->next;
		else if (guard->buffers < BUFFERS && (copied = new_buffer()))
			guard->buffers++;
		else if (guard->buffers == 0)
			break;
		else
			pthread_cond_wait(&guard->freed, &guard->lock);
	}
	pthread_mutex_unlock(&guard->lock);
	return copied;
}

static void give_buffer(struct guard *guard, struct copied *copied)
{
	pthread_mutex_lock(&guard->lock);
	copied->next = guard->spare;
	guard->spare = copied;
	pthread_cond_signal(&guard->freed);
	pthread_mutex_unlock(&guard->lock);
}

static void enqueue(struct guard *guard, struct copied *copied)
{
	pthread_mutex_lock(&guard->lock);
	copied->next = NULL;
	*guard->end = copied;
	guard->end = &copied->next;
	pthread_mutex_unlock(&guard->lock);
}

static struct copied *dequeue(struct guard *guard)
{
	struct copied *copied;

	pthread_mutex_lock(&guard->lock);
	copied = guard->queue;
	if (copied) {
		guard->queue = copied->next;
		if (!guard->queue)
			guard->end = &guard->queue;
	}
	pthread_mutex_unlock(&guard->lock);
	return copied;
}

/* Notes that saving fails with ERR, whose text this thread has just set; nobody waits for a buffer
 * any more. */
static void fail(struct guard *guard, int err)
{
	pthread_mutex_lock(&guard->lock);
	if (!guard->err) {
		guard->err = err;
		strncpy(guard->text, impost_error(guard->memory->ctx), sizeof(guard->text) - 1);
	}
	pthread_cond_broadcast(&guard->freed);
	pthread_mutex_unlock(&guard->lock);
}

/* What is copied from now on is of no use: the guest goes on. */
static void abandon(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	if (!guard->err)
		guard->err = -ECANCELED;
	pthread_cond_broadcast(&guard->freed);
	pthread_mutex_unlock(&guard->lock);
}

static int error_of(struct guard *guard)
{
	int err;

	pthread_mutex_lock(&guard->lock);
	err = guard->err;
	pthread_mutex_unlock(&guard->lock);
	return err;
}

/* --- chunks --- */

static uint64_t chunk_bytes(const struct guarded *guarded, uint64_t chunk)
{
	uint64_t left = guarded->bytes - chunk * CHUNK_BYTES;

	return left < CHUNK_BYTES ? left : CHUNK_BYTES;
}

/* Takes a chunk that nobody has taken. */
static bool claim(const struct guarded *guarded, uint64_t chunk)
{
	unsigned char left = LEFT;

	return atomic_compare_exchange_strong(&guarded->state[chunk], &left, COPYING);
}

/* The chunk has been copied, or cannot be: it may be written. */
static void let_go(struct guard *guard, uint32_t region, uint64_t chunk)
{
	const struct guarded *guarded = &guard->region[region];

	atomic_store(&guarded->state[chunk], COPIED);
	uffd_protect(guard->uffd, guarded->hva + chunk * CHUNK_BYTES, chunk_bytes(guarded, chunk),
		     0);
}

/* Copies what is to be written of a chunk, which is this thread's. */
static int copy(const struct guard *guard, struct copied *copied)
{
	const struct memory_plan *plan = guard->plan;
	uint64_t pages = plan_pages(plan, copied->region, copied->chunk);
	const uint8_t *at;
	struct impost_view view;
	int err = plan_find_zero(plan, copied->region, copied->chunk, 1, &copied->zero);

	copied->data = pages & ~copied->zero;
	if (err || !copied->data)
		return err;
	err = view_begin(guard->memory, &view);
	if (err)
		return err;
	err = plan_look(plan, &view, copied->region, copied->chunk, copied->data, true,
			copied->content, &at);
	view_end(&view);
	return err;
}

/* Somebody wants to write a chunk: it is copied, unless another does so, and queued. */
static int take_chunk(struct guard *guard, uint32_t region, uint64_t chunk)
{
	const struct guarded *guarded = &guard->region[region];
	struct copied *copied;
	int err = 0;

	if (!claim(guarded, chunk))
		return 0;
	if (!plan_pages(guard->plan, region, chunk)) {
		let_go(guard, region, chunk);
		return 0;
	}
	copied = take_buffer(guard);
	if (!copied) {
		err = error_of(guard);
		err = err ? err
			  : impost_error_set(guard->memory->ctx, -ENOMEM, "no memory for a chunk");
	} else {
		copied->region = region;
		copied->chunk = chunk;
		err = copy(guard, copied);
	}
	let_go(guard, region, chunk);
	if (copied && err)
		give_buffer(guard, copied);
	else if (copied)
		enqueue(guard, copied);
	return err;
}

/* --- the thread --- */

/* The fault at address AT of the host's. */
static int serve(struct guard *guard, uint64_t at)
{
	for (uint32_t i = 0; i < guard->count; i++) {
		const struct guarded *guarded = &guard->region[i];
		uint64_t offset = at - (uintptr_t)guarded->hva, chunk = offset / CHUNK_BYTES;
		int err;

		if (at < (uintptr_t)guarded->hva || offset >= guarded->bytes)
			continue;
		err = take_chunk(guard, i, chunk);
		/* It was told of before it was let go: this one may wait for nobody else. */
		if (atomic_load(&guarded->state[chunk]) == COPIED)
			uffd_wake(guard->uffd, guarded->hva + chunk * CHUNK_BYTES,
				  chunk_bytes(guarded, chunk));
		return err;
	}
	return 0;
}

static void *run(void *opaque)
{
	struct guard *guard = opaque;
	uint64_t at[FAULTS];
	int count = 0;

	while (count >= 0) {
		count = uffd_wait(guard->uffd, guard->stop, -1, at, FAULTS);
		for (int i = 0; i < count; i++) {
			int err = serve(guard, at[i]);

			if (err)
				fail(guard, err);
		}
	}
	if (count != -ECANCELED) {
		impost_error_set(guard->memory->ctx, count,
				 "userfaultfd fails while the memory is being saved: %s",
				 strerror(-count));
		fail(guard, count);
	}
	return NULL;
}

static void stop(struct guard *guard)
{
	if (!guard->started)
		return;
	eventfd_write(guard->stop, 1);
	pthread_join(guard->thread, NULL);
	guard->started = false;
}

/* --- protecting --- */

/* Ends the protection of what was not copied, too: who waits goes on. */
static void unprotect(const struct guard *guard)
{
	for (uint32_t i = 0; i < guard->count; i++)
		if (guard->region[i].hva)
			uffd_unregister(guard->uffd, guard->region[i].hva, guard->region[i].bytes);
}

/* Protects the chunks of a region that have something to be written: in as few calls as can be. */
static int protect_chunks(const struct guard *guard, uint32_t region)
{
	const struct guarded *guarded = &guard->region[region];
	const struct memory_plan *plan = guard->plan;
	const uint64_t chunks = plan->table->region[region].chunks;
	int err = 0;

	for (uint64_t first = 0, end; !err && first < chunks; first = end) {
		uint64_t bytes;

		for (end = first; end < chunks && plan_pages(plan, region, end);)
			end++;
		bytes = (end < chunks ? end * CHUNK_BYTES : guarded->bytes) - first * CHUNK_BYTES;
		if (end == first)
			end++;
		else
			err = uffd_protect(guard->uffd, guarded->hva + first * CHUNK_BYTES, bytes,
					   1);
	}
	return err;
}

/* Whether MAPPED is what the plan has as REGION: that one may have been removed, and another be
 * there, which is longer or shorter. */
static bool is_planned(const struct mapped *mapped, const struct table_region *region)
{
	return mapped->gpa == region->gpa && mapped_bytes(mapped) == region->bytes;
}

/* NULL, or why a region cannot be protected. */
static const char *add_region(struct guard *guard, struct guarded *guarded,
			      const struct mapped *mapped)
{
	const uint64_t pages = mapped_bytes(mapped) / IMPOST_PAGE_SIZE;

	if (region_page_bytes(mapped) > CHUNK_BYTES)
		return "some of its memory is of huge pages";
	guarded->bytes = mapped_bytes(mapped);
	guarded->state = calloc(bitmap_words(pages), 1);
	if (!guarded->state)
		return "there is no memory for it";
	if (uffd_register(guard->uffd, mapped->hva, guarded->bytes, UFFDIO_REGISTER_MODE_WP))
		return "some of its memory is of a kind that the host's kernel cannot protect so";
	guarded->hva = mapped->hva;
	return NULL;
}

static const char *add_regions(struct guard *guard)
{
	const char *why = NULL;
	struct impost_view view;

	if (view_begin(guard->memory, &view))
		return "there is no memory for it";
	for (uint32_t i = 0; !why && i < guard->count; i++) {
		const struct table_region *region = &guard->plan->table->region[i];
		const struct mapped *mapped = map_at(view.map, region->gpa);

		why = mapped && is_planned(mapped, region)
			      ? add_region(guard, &guard->region[i], mapped)
			      : "a region was removed";
	}
	view_end(&view);
	return why;
}

static const char *protect(const struct guard *guard, bool populate)
{
	for (uint32_t i = 0; i < guard->count; i++) {
		const struct guarded *guarded = &guard->region[i];

		if (populate && madvise(guarded->hva, guarded->bytes, MADV_POPULATE_READ))
			return "the host's kernel is too old";
		if (protect_chunks(guard, i))
			return "the host's kernel refuses to";
	}
	return NULL;
}

/* Opens what tells of writes; as on an older kernel, which protects those pages only that are
 * there, with *POPULATE. */
static const char *open_uffd(struct guard *guard, bool *populate)
{
	guard->uffd = *populate ? -EINVAL : uffd_open(FEATURES | UFFD_FEATURE_WP_UNPOPULATED);
	if (guard->uffd == -EINVAL) {
		*populate = true;
		guard->uffd = uffd_open(FEATURES);
	}
	if (guard->uffd == -EPERM || guard->uffd == -EACCES)
		return "this process may not use userfaultfd: root allows it by the mode of "
		       "/dev/userfaultfd";
	return guard->uffd < 0 ? "the host's kernel has no userfaultfd that can do it" : NULL;
}

static const char *start(struct guard *guard, bool populate)
{
	const char *why = open_uffd(guard, &populate);

	if (why)
		return why;
	guard->stop = eventfd(0, EFD_CLOEXEC);
	if (guard->stop < 0)
		return "there is no descriptor left for it";
	why = add_regions(guard);
	if (why)
		return why;
	/* First the thread: what is protected, somebody might write at once. */
	if (crew_start(&guard->thread, run, guard))
		return "no thread can be started";
	guard->started = true;
	return protect(guard, populate);
}

struct guard *guard_make(struct memory_plan *plan, bool populate, const char **ret_why)
{
	const uint32_t count = plan->table->count;
	struct guard *guard = calloc(1, sizeof(*guard) + count * sizeof(guard->region[0]));
	const char *why;

	if (!guard) {
		*ret_why = "there is no memory for it";
		return NULL;
	}
	guard->plan = plan;
	guard->memory = plan->memory;
	guard->count = count;
	guard->uffd = guard->stop = -1;
	guard->end = &guard->queue;
	pthread_mutex_init(&guard->lock, NULL);
	pthread_cond_init(&guard->freed, NULL);
	why = start(guard, populate);
	if (why) {
		*ret_why = why;
		guard_free(guard);
		return NULL;
	}
	atomic_store(&plan->memory->guard, guard);
	return guard;
}

/* --- writing --- */

static int write_copied(struct guard *guard, const struct copied *copied)
{
	return plan_write_chunk(guard->plan, copied->region, copied->chunk, copied->data,
				copied->zero, copied->content);
}

/* Writes what waits to be: it holds up the guest when there is too much of it. */
static int write_queue(struct guard *guard)
{
	struct copied *copied;
	int err = 0;

	while (!err && (copied = dequeue(guard))) {
		err = write_copied(guard, copied);
		give_buffer(guard, copied);
	}
	return err;
}

int guard_write(struct guard *guard, uint32_t region, uint64_t first, uint64_t count)
{
	const struct guarded *guarded = &guard->region[region];
	struct copied *own = new_buffer();
	int err = own ? 0 : impost_error_set(guard->memory->ctx, -ENOMEM, "no memory for a chunk");

	for (uint64_t chunk = first; !err && chunk < first + count; chunk++) {
		err = write_queue(guard);
		if (err || !plan_pages(guard->plan, region, chunk) || !claim(guarded, chunk))
			continue;
		own->region = region;
		own->chunk = chunk;
		err = copy(guard, own);
		let_go(guard, region, chunk);
		if (!err)
			err = write_copied(guard, own);
	}
	free_list(own);
	if (err)
		fail(guard, err); /* nobody writes any more: who waits for a buffer is to go on */
	return err;
}

/* Nobody asks for chunks any more, and those who did have what they wanted. */
static void retire(struct guard *guard)
{
	if (atomic_load(&guard->memory->guard) != guard)
		return;
	atomic_store(&guard->memory->guard, NULL);
	pthread_mutex_lock(&guard->memory->lock);
	memory_wait(guard->memory, readers_tick());
	pthread_mutex_unlock(&guard->memory->lock);
}

/* Every chunk has been claimed. Writes what is queued, until nobody copies, which may be who waits
 * for a buffer. */
static int write_last(struct guard *guard)
{
	int err = write_queue(guard);

	for (uint32_t i = 0; i < guard->count; i++)
		for (uint64_t chunk = 0; chunk < guard->plan->table->region[i].chunks; chunk++)
			while (!err && atomic_load(&guard->region[i].state[chunk]) == COPYING) {
				sched_yield();
				err = write_queue(guard);
			}
	return err ? err : write_queue(guard);
}

int guard_finish(struct guard *guard, int err)
{
	if (!err)
		err = write_last(guard);
	if (err)
		fail(guard, err);
	retire(guard);
	unprotect(guard);
	stop(guard);
	if (!err)
		err = write_queue(guard); /* of what was queued between its end and its copying's */
	if (!err && guard->err)
		err = impost_error_set(guard->memory->ctx, guard->err, "%s", guard->text);
	return err;
}

void guard_free(struct guard *guard)
{
	if (!guard)
		return;
	if (guard->uffd >= 0) {
		abandon(guard);
		retire(guard);
		unprotect(guard);
		stop(guard);
		close(guard->uffd);
	}
	if (guard->stop >= 0)
		close(guard->stop);
	free_list(guard->queue);
	free_list(guard->spare);
	for (uint32_t i = 0; i < guard->count; i++)
		free(guard->region[i].state);
	pthread_cond_destroy(&guard->freed);
	pthread_mutex_destroy(&guard->lock);
	free(guard);
}

/* --- content that is about to be thrown away --- */

void guard_save(struct impost_memory *memory, const struct mapped *mapped, uint64_t gpa,
		uint64_t bytes)
{
	struct guard *guard = atomic_load(&memory->guard);
	uint32_t region;

	if (!guard)
		return;
	region = memory_table_find(guard->plan->table, gpa);
	if (region == guard->count || !is_planned(mapped, &guard->plan->table->region[region]))
		return;
	for (uint64_t chunk = (gpa - mapped->gpa) / CHUNK_BYTES;
	     chunk * CHUNK_BYTES < gpa - mapped->gpa + bytes; chunk++) {
		int err = take_chunk(guard, region, chunk);

		if (err)
			fail(guard, err); /* of the save: what is discarded is the guest's affair */
		while (atomic_load(&guard->region[region].state[chunk]) == COPYING)
			sched_yield();
	}
}
