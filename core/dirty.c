/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking: readers, and what they are given. */
#include <impost/dirty.h>

#include <inttypes.h>
#include <stdlib.h>

#include "bitmap.h"
#include "clock.h"
#include "context.h"
#include "dirty.h"
#include "memory.h"
#include "text.h"
#include "vm.h"

#define LEAST_CONFIG ABI_UP_TO(struct impost_dirty_config, flags)
#define LEAST_STATS  ABI_UP_TO(struct impost_dirty_stats, all_rate)

/* Pages that are protected again at a time: 64 MiB. The more there are, the longer it takes until
 * the last is copied, and the likelier it was written again by then; the fewer, the more system
 * calls. */
#define CHUNK 16384u

static bool wants_log(const struct impost_dirty *dirty)
{
	return dirty->memory->vm && !(dirty->flags & IMPOST_DIRTY_HOST_ONLY);
}

/* --- tracking on and off; with the memory's lock --- */

/* Publishes the present map's regions in MAP, with marks (ON) or without, and waits until nobody
 * looks at the old one. */
static void publish(struct impost_memory *memory, struct map *map, bool on)
{
	const struct tracker *tracker = &memory->tracker;

	map_copy(map, memory->map);
	for (uint32_t i = 0; i < map->count; i++)
		map->region[i].dirty = on ? tracker->region[i]->host : NULL;
	memory_wait(memory, memory_publish(memory, map));
}

/* Stops all logs; says what the first said that could not. */
static int stop_logs(struct impost_memory *memory)
{
	const struct tracker *tracker = &memory->tracker;
	int err = 0;

	for (uint32_t i = 0; i < tracker->count; i++) {
		int one = log_stop(memory, tracker->region[i]);

		err = err ? err : one;
	}
	return err;
}

/* All or none. */
static int start_logs(struct impost_memory *memory)
{
	const struct tracker *tracker = &memory->tracker;
	int err = 0;

	for (uint32_t i = 0; !err && i < tracker->count; i++)
		err = log_start(memory, tracker->region[i]);
	if (err)
		stop_logs(memory);
	return err;
}

/* --- a reader's life --- */

/* Pulls what was written, as far as DIRTY asks for it, for all readers. With the tracker's lock. */
static int sync_all(const struct impost_dirty *dirty)
{
	struct impost_memory *memory = dirty->memory;
	const struct tracker *tracker = &memory->tracker;
	int err = 0;

	for (uint32_t i = 0; !err && i < tracker->count; i++) {
		struct tracked *tracked = tracker->region[i];

		if (tracked->leaving)
			continue;
		host_fetch(memory, tracked);
		if (wants_log(dirty))
			err = log_fetch(memory, tracked);
	}
	return err;
}

static void leave(struct impost_dirty *dirty)
{
	const struct tracker *tracker = &dirty->memory->tracker;

	for (uint32_t i = 0; i < tracker->count; i++)
		tracked_remove_reader(tracker->region[i], dirty);
}

/*
 * What was written before belongs to the readers that were there before: so it is pulled now.
 * Protecting it again can wait where the new one begins with everything: it has those pages anyway.
 */
static int begin_view(struct impost_dirty *dirty)
{
	const struct tracker *tracker = &dirty->memory->tracker;
	bool all = dirty->flags & IMPOST_DIRTY_ALL;
	int err = sync_all(dirty);

	for (uint32_t i = 0; !err && i < tracker->count; i++) {
		struct tracked *tracked = tracker->region[i];

		if (wants_log(dirty) && !all)
			err = log_protect(dirty->memory, tracked, 0, tracked->pages);
		tracked_fill(tracked, tracked_pending(tracked, dirty), all);
	}
	return err;
}

/* The totals, as far as DIRTY asks for them. */
static struct dirty_counts counts_of(const struct impost_dirty *dirty)
{
	struct dirty_counts counts = dirty->memory->tracker.counts;

	if (!wants_log(dirty))
		counts.from_log = counts.protects = 0;
	return counts;
}

static void count_in(struct impost_dirty *dirty)
{
	struct tracker *tracker = &dirty->memory->tracker;

	dirty->begin = counts_of(dirty);
	dirty->begin_ns = dirty->sync_ns = clock_now_ns();
	dirty->next = tracker->readers;
	tracker->readers = dirty;
	tracker->nreaders++;
	tracker->nlogging += wants_log(dirty);
}

/* With both locks. */
static int join(struct impost_dirty *dirty)
{
	struct impost_memory *memory = dirty->memory;
	const struct tracker *tracker = &memory->tracker;
	bool starts = wants_log(dirty) && tracker->nlogging == 0;
	int err = 0;

	for (uint32_t i = 0; !err && i < tracker->count; i++)
		err = tracked_add_reader(tracker->region[i], dirty);
	if (!err && starts)
		err = start_logs(memory);
	if (!err) {
		err = begin_view(dirty);
		if (err && starts)
			stop_logs(memory);
	}
	if (err)
		leave(dirty);
	else
		count_in(dirty);
	return err;
}

/* With the memory's lock. */
static int join_first(struct impost_dirty *dirty)
{
	struct impost_memory *memory = dirty->memory;
	struct tracker *tracker = &memory->tracker;
	bool first = tracker->nreaders == 0;
	struct map *map = first ? memory_new_map(memory, memory->map->count) : NULL;
	int err = first && !map ? -ENOMEM : 0;

	if (!err && first)
		err = tracker_start(memory);
	if (err) {
		map_free(map);
		return err;
	}
	pthread_mutex_lock(&tracker->lock);
	err = join(dirty);
	pthread_mutex_unlock(&tracker->lock);
	if (!first)
		return err;
	if (err) {
		tracker_stop(memory);
		map_free(map);
	} else {
		publish(memory, map, true);
	}
	return err;
}

static int check_config(struct impost_memory *memory, const struct impost_dirty_config *config)
{
	struct impost_vm *vm = memory->vm;

	if (config->flags & ~(IMPOST_DIRTY_ALL | IMPOST_DIRTY_HOST_ONLY))
		return impost_error_set(memory->ctx, -EINVAL, "dirty tracking: unknown flags 0x%x",
					config->flags);
	if (vm && !(config->flags & IMPOST_DIRTY_HOST_ONLY) &&
	    !impost_caps_has(&vm->caps, IMPOST_CAP_DIRTY_LOG))
		return impost_error_set(memory->ctx, -ENOTSUP,
					"backend %s has no dirty-log: what the guest writes would "
					"not be seen; IMPOST_DIRTY_HOST_ONLY tracks the host alone",
					vm->plugin->name);
	return 0;
}

static int check_create(struct impost_memory *memory, struct impost_dirty_config *ret_config,
			const struct impost_dirty_config *config)
{
	int err = memory_check(memory);

	*ret_config = (struct impost_dirty_config){.size = sizeof(*ret_config)};
	if (!err && config)
		err = abi_take(memory->ctx, "impost_dirty_config", ret_config, sizeof(*ret_config),
			       config, LEAST_CONFIG);
	if (!err)
		err = check_config(memory, ret_config);
	return err ? err : memory_check_outside(memory, "impost_dirty_create");
}

int impost_dirty_create(struct impost_memory *memory, const struct impost_dirty_config *config,
			struct impost_dirty **ret_dirty)
{
	struct impost_dirty_config copy;
	struct impost_dirty *dirty;
	int err = check_create(memory, &copy, config);

	if (err)
		return err;
	dirty = calloc(1, sizeof(*dirty));
	if (!dirty)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a dirty reader");
	dirty->memory = memory;
	dirty->flags = copy.flags;
	pthread_mutex_lock(&memory->lock);
	err = join_first(dirty);
	pthread_mutex_unlock(&memory->lock);
	if (err)
		free(dirty);
	else
		*ret_dirty = dirty;
	return err;
}

/* With both locks. */
static int part(struct impost_dirty *dirty)
{
	struct tracker *tracker = &dirty->memory->tracker;
	struct impost_dirty **at = &tracker->readers;

	while (*at != dirty)
		at = &(*at)->next;
	*at = dirty->next;
	leave(dirty);
	tracker->nreaders--;
	if (!wants_log(dirty))
		return 0;
	tracker->nlogging--;
	return tracker->nlogging == 0 ? stop_logs(dirty->memory) : 0;
}

/* With the memory's lock. *RET_GONE: whether the reader is. */
static int part_last(struct impost_dirty *dirty, bool *ret_gone)
{
	struct impost_memory *memory = dirty->memory;
	struct tracker *tracker = &memory->tracker;
	bool last = tracker->nreaders == 1;
	struct map *map = last ? memory_new_map(memory, memory->map->count) : NULL;
	int err;

	if (last && !map)
		return -ENOMEM;
	pthread_mutex_lock(&tracker->lock);
	err = part(dirty);
	pthread_mutex_unlock(&tracker->lock);
	*ret_gone = true;
	if (last) {
		publish(memory, map, false);
		tracker_stop(memory);
	}
	return err;
}

int impost_dirty_destroy(struct impost_dirty *dirty)
{
	struct impost_memory *memory;
	bool gone = false;
	int err;

	if (!dirty)
		return 0;
	memory = dirty->memory;
	err = memory_check(memory);
	if (!err)
		err = memory_check_outside(memory, "impost_dirty_destroy");
	if (err)
		return err;
	pthread_mutex_lock(&memory->lock);
	err = part_last(dirty, &gone);
	pthread_mutex_unlock(&memory->lock);
	if (gone)
		free(dirty);
	return err;
}

struct impost_memory *impost_dirty_memory(const struct impost_dirty *dirty)
{
	return dirty->memory;
}

/* --- pulling --- */

static void end_interval(struct impost_dirty *dirty)
{
	const struct tracker *tracker = &dirty->memory->tracker;
	uint64_t now = clock_now_ns(), pages = 0;

	for (uint32_t i = 0; i < tracker->count; i++)
		pages += tracked_end_interval(tracker->region[i],
					      tracked_pending(tracker->region[i], dirty));
	dirty->last_ns = now - dirty->sync_ns;
	dirty->last_pages = pages;
	dirty->all_pages += pages;
	dirty->sync_ns = now;
	dirty->syncs++;
}

int impost_dirty_sync(struct impost_dirty *dirty)
{
	struct impost_memory *memory = dirty->memory;
	int err = memory_check(memory);

	if (err)
		return err;
	pthread_mutex_lock(&memory->tracker.lock);
	err = sync_all(dirty);
	if (!err)
		end_interval(dirty);
	pthread_mutex_unlock(&memory->tracker.lock);
	return err;
}

/* --- handing out; with the tracker's lock --- */

/* A call of take. */
struct taking {
	struct impost_dirty *dirty;
	struct impost_range *ranges;
	uint64_t count, capacity;
	uint64_t page; /* up to this one pages were handed out */
	bool ends;     /* there is no room for the next */
};

/* Whether what comes at PAGE would need room that is not there. */
static bool is_full(const struct taking *taking, uint64_t page)
{
	const struct impost_range *last;

	if (taking->count < taking->capacity)
		return false;
	last = &taking->ranges[taking->count - 1];
	return last->gpa / IMPOST_PAGE_SIZE + last->bytes / IMPOST_PAGE_SIZE != page;
}

/* The ranges of TRACKED's pages from number *AT to the end of their chunk; *AT becomes the first
 * page that is left. */
static int take_chunk(struct taking *taking, struct tracked *tracked, const struct pending *pending,
		      uint64_t *at)
{
	uint64_t first = *at - *at % 64, left = tracked->pages - first, next = *at % 64;
	struct impost_bitmap bitmap = {
		.size = sizeof(bitmap),
		.words = pending->bits + first / 64,
		.pages = left < CHUNK ? left : CHUNK,
		.gpa = tracked->gpa + first * IMPOST_PAGE_SIZE,
		.page_bytes = IMPOST_PAGE_SIZE,
	};
	int err = 0;

	if (wants_log(taking->dirty))
		err = log_protect(taking->dirty->memory, tracked, first, bitmap.pages);
	if (!err)
		err = impost_bitmap_ranges(&bitmap, &next, taking->ranges, taking->capacity,
					   &taking->count);
	*at = first + next;
	taking->ends = next < bitmap.pages;
	return err;
}

static int take_region(struct taking *taking, struct tracked *tracked)
{
	const struct pending *pending = tracked_pending(tracked, taking->dirty);
	uint64_t first = tracked->gpa / IMPOST_PAGE_SIZE;
	uint64_t at = taking->page > first ? taking->page - first : 0;
	int err = 0;

	while (!err && !taking->ends && at < tracked->pages) {
		taking->ends = is_full(taking, first + at);
		if (!taking->ends)
			err = take_chunk(taking, tracked, pending, &at);
	}
	taking->page = first + at;
	return err;
}

/* Clears bits FIRST to END - 1. */
static void clear_bits(uint64_t *bits, uint64_t first, uint64_t end)
{
	while (first < end) {
		uint64_t most = 64 - first % 64, count = end - first < most ? end - first : most;

		bits[first / 64] &= ~((UINT64_MAX >> (64 - count)) << (first % 64));
		first += count;
	}
}

/* What was handed out, from the cursor to PAGE, leaves the view. */
static void take_away(const struct impost_dirty *dirty, uint64_t page)
{
	const struct tracker *tracker = &dirty->memory->tracker;

	for (uint32_t i = tracker_find(tracker, dirty->cursor); i < tracker->count; i++) {
		const struct tracked *tracked = tracker->region[i];
		uint64_t first = tracked->gpa / IMPOST_PAGE_SIZE;

		if (first >= page)
			break;
		if (!tracked->leaving)
			clear_bits(tracked_pending(tracked, dirty)->bits,
				   dirty->cursor > first ? dirty->cursor - first : 0,
				   page - first < tracked->pages ? page - first : tracked->pages);
	}
}

static int take(struct taking *taking)
{
	struct impost_dirty *dirty = taking->dirty;
	const struct tracker *tracker = &dirty->memory->tracker;
	int err = 0;

	for (uint32_t i = tracker_find(tracker, dirty->cursor);
	     !err && !taking->ends && i < tracker->count; i++)
		if (!tracker->region[i]->leaving)
			err = take_region(taking, tracker->region[i]);
	if (err)
		return err;
	take_away(dirty, taking->page);
	for (uint64_t i = 0; i < taking->count; i++)
		dirty->taken += taking->ranges[i].bytes / IMPOST_PAGE_SIZE;
	dirty->cursor = taking->page;
	if (taking->count < taking->capacity) {
		dirty->cursor = 0;
		dirty->passes++;
	}
	return 0;
}

int impost_dirty_take(struct impost_dirty *dirty, struct impost_range *ranges, uint64_t capacity,
		      uint64_t *ret_count)
{
	struct impost_memory *memory = dirty->memory;
	struct taking taking = {.dirty = dirty, .ranges = ranges, .capacity = capacity};
	int err = memory_check(memory);

	if (err)
		return err;
	if (!ranges || capacity == 0)
		return impost_error_set(memory->ctx, -EINVAL,
					"impost_dirty_take: room for one range is needed at least");
	pthread_mutex_lock(&memory->tracker.lock);
	taking.page = dirty->cursor;
	err = take(&taking);
	pthread_mutex_unlock(&memory->tracker.lock);
	if (!err)
		*ret_count = taking.count;
	return err;
}

void dirty_give_back(struct impost_dirty *dirty, uint64_t gpa, uint64_t pages,
		     const uint64_t *words)
{
	const struct tracker *tracker = &dirty->memory->tracker;
	uint32_t at;

	pthread_mutex_lock(&dirty->memory->tracker.lock);
	at = tracker_find(tracker, gpa / IMPOST_PAGE_SIZE);
	if (at < tracker->count && tracker->region[at]->gpa == gpa &&
	    tracker->region[at]->pages == pages && !tracker->region[at]->leaving) {
		struct pending *pending = tracked_pending(tracker->region[at], dirty);

		for (uint64_t i = 0; i < tracker->region[at]->words; i++)
			pending->bits[i] |= words[i];
		dirty->taken -= impost_bitmap_count(words, pages);
	}
	pthread_mutex_unlock(&dirty->memory->tracker.lock);
}

/* --- counting --- */

/* Pages that DIRTY has to take of TRACKED: what it was given, and what it will be given when that
 * is protected again. */
static uint64_t count_pending(const struct impost_dirty *dirty, const struct tracked *tracked)
{
	const struct pending *pending = tracked_pending(tracked, dirty);
	uint64_t count = 0;

	if (!tracked->log || !wants_log(dirty))
		return impost_bitmap_count(pending->bits, tracked->pages);
	for (uint64_t i = 0; i < tracked->words; i++)
		count += (uint64_t)__builtin_popcountll(pending->bits[i] | tracked->log[i]);
	return count;
}

/* Pages per second, however many there are. */
static uint64_t rate(uint64_t pages, uint64_t ns)
{
	return ns ? (uint64_t)((double)pages * 1e9 / (double)ns) : 0;
}

static void fill_stats(const struct impost_dirty *dirty, struct impost_dirty_stats *stats)
{
	const struct tracker *tracker = &dirty->memory->tracker;
	const struct dirty_counts counts = counts_of(dirty);

	*stats = (struct impost_dirty_stats){
		.readers = tracker->nreaders,
		.taken = dirty->taken,
		.syncs = dirty->syncs,
		.passes = dirty->passes,
		.from_log = counts.from_log - dirty->begin.from_log,
		.from_host = counts.from_host - dirty->begin.from_host,
		.protects = counts.protects - dirty->begin.protects,
		.last_ns = dirty->last_ns,
		.last_pages = dirty->last_pages,
		.last_rate = rate(dirty->last_pages, dirty->last_ns),
		.all_ns = dirty->sync_ns - dirty->begin_ns,
		.all_pages = dirty->all_pages,
	};
	stats->all_rate = rate(stats->all_pages, stats->all_ns);
	for (uint32_t i = 0; i < tracker->count; i++)
		if (!tracker->region[i]->leaving)
			stats->pending += count_pending(dirty, tracker->region[i]);
}

int impost_dirty_stats(struct impost_dirty *dirty, struct impost_dirty_stats *ret_stats)
{
	struct impost_memory *memory = dirty->memory;
	struct impost_dirty_stats stats;
	int err = memory_check(memory);

	if (!err)
		err = abi_check(memory->ctx, "impost_dirty_stats", ret_stats, LEAST_STATS);
	if (err)
		return err;
	pthread_mutex_lock(&memory->tracker.lock);
	fill_stats(dirty, &stats);
	pthread_mutex_unlock(&memory->tracker.lock);
	abi_give(ret_stats, &stats, sizeof(stats));
	return 0;
}

int impost_dirty_region(struct impost_dirty *dirty, uint64_t gpa, uint64_t *ret_pages)
{
	struct impost_memory *memory = dirty->memory;
	const struct tracker *tracker = &memory->tracker;
	uint64_t pages = 0;
	uint32_t i;
	int err = memory_check(memory);

	if (err)
		return err;
	pthread_mutex_lock(&memory->tracker.lock);
	i = tracker_find(tracker, gpa / IMPOST_PAGE_SIZE);
	err = i < tracker->count && tracker->region[i]->gpa == gpa && !tracker->region[i]->leaving
		      ? 0
		      : -ENOENT;
	if (!err)
		pages = count_pending(dirty, tracker->region[i]);
	pthread_mutex_unlock(&memory->tracker.lock);
	if (err)
		return impost_error_set(memory->ctx, err, "no region starts at 0x%" PRIx64, gpa);
	*ret_pages = pages;
	return 0;
}
