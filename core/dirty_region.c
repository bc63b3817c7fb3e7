/* SPDX-License-Identifier: Apache-2.0 */
/* Regions that are tracked: their bitmaps, and how they come and go. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "dirty.h"
#include "memory.h"

static int no_memory(const struct impost_memory *memory)
{
	return impost_error_set(memory->ctx, -ENOMEM, "no memory for dirty bitmaps");
}

/* --- one --- */

struct tracked *tracked_new(struct impost_memory *memory, const struct mapped *region)
{
	struct tracked *tracked = calloc(1, sizeof(*tracked));
	uint64_t pages = mapped_bytes(region) / IMPOST_PAGE_SIZE;
	_Atomic uint64_t *host = calloc(bitmap_words(pages), sizeof(*host));

	if (!tracked || !host) {
		free(tracked);
		free(host);
		no_memory(memory);
		return NULL;
	}
	tracked->gpa = region->gpa;
	tracked->pages = pages;
	tracked->words = bitmap_words(pages);
	tracked->slot = region->slot;
	tracked->guest_writes = memory->vm && !(region->flags & IMPOST_REGION_READONLY);
	tracked->host = host;
	return tracked;
}

void tracked_free(struct tracked *tracked)
{
	struct pending *pending;

	if (!tracked)
		return;
	while ((pending = tracked->pending)) {
		tracked->pending = pending->next;
		free(pending);
	}
	free(tracked->host);
	free(tracked->log);
	free(tracked);
}

struct pending *tracked_pending(const struct tracked *tracked, const struct impost_dirty *dirty)
{
	struct pending *pending = tracked->pending;

	while (pending && pending->dirty != dirty)
		pending = pending->next;
	return pending;
}

int tracked_add_reader(struct tracked *tracked, struct impost_dirty *dirty)
{
	struct pending *pending =
		calloc(1, sizeof(*pending) + 2 * tracked->words * sizeof(pending->bits[0]));

	if (!pending)
		return no_memory(dirty->memory);
	pending->dirty = dirty;
	pending->found = pending->bits + tracked->words;
	pending->next = tracked->pending;
	tracked->pending = pending;
	return 0;
}

void tracked_remove_reader(struct tracked *tracked, const struct impost_dirty *dirty)
{
	struct pending **at = &tracked->pending, *pending;

	while (*at && (*at)->dirty != dirty)
		at = &(*at)->next;
	pending = *at;
	if (pending)
		*at = pending->next;
	free(pending);
}

uint64_t tracked_end_interval(const struct tracked *tracked, struct pending *pending)
{
	uint64_t pages = pending->nfound;

	if (pages)
		memset(pending->found, 0, tracked->words * sizeof(pending->found[0]));
	pending->nfound = 0;
	return pages;
}

void tracked_fill(const struct tracked *tracked, struct pending *pending, bool all)
{
	memset(pending->bits, all ? 0xff : 0, tracked->words * sizeof(pending->bits[0]));
	if (all && tracked->pages % 64)
		pending->bits[tracked->words - 1] = UINT64_MAX >> (64 - tracked->pages % 64);
	tracked_end_interval(tracked, pending);
}

/* --- all --- */

uint32_t tracker_find(const struct tracker *tracker, uint64_t page)
{
	uint32_t low = 0, high = tracker->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct tracked *tracked = tracker->region[middle];

		if (tracked->gpa / IMPOST_PAGE_SIZE + tracked->pages <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Makes room for one more. */
static int grow(struct impost_memory *memory)
{
	struct tracker *tracker = &memory->tracker;
	uint32_t room = tracker->room ? 2 * tracker->room : 16;
	struct tracked **region;

	if (tracker->count < tracker->room)
		return 0;
	region = realloc(tracker->region, room * sizeof(struct tracked *));
	if (!region)
		return no_memory(memory);
	tracker->region = region;
	tracker->room = room;
	return 0;
}

/* There is room. */
static void insert(struct tracker *tracker, struct tracked *tracked)
{
	uint32_t at = tracker_find(tracker, tracked->gpa / IMPOST_PAGE_SIZE);

	memmove(tracker->region + at + 1, tracker->region + at,
		(tracker->count - at) * sizeof(struct tracked *));
	tracker->region[at] = tracked;
	tracker->count++;
}

int tracker_start(struct impost_memory *memory)
{
	const struct map *map = memory->map;
	int err = 0;

	for (uint32_t i = 0; !err && i < map->count; i++) {
		struct tracked *tracked = tracked_new(memory, &map->region[i]);

		err = tracked ? grow(memory) : -ENOMEM;
		if (err)
			tracked_free(tracked);
		else
			insert(&memory->tracker, tracked);
	}
	if (err)
		tracker_stop(memory);
	return err;
}

void tracker_stop(struct impost_memory *memory)
{
	struct tracker *tracker = &memory->tracker;

	while (tracker->count > 0)
		tracked_free(tracker->region[--tracker->count]);
	free(tracker->region);
	tracker->region = NULL;
	tracker->room = 0;
}

/* --- regions that come --- */

/* Bitmaps of those who read, in which every page is dirty, and the log. */
static int attach(struct impost_memory *memory, struct tracked *tracked)
{
	const struct tracker *tracker = &memory->tracker;
	int err = grow(memory);

	for (struct impost_dirty *dirty = tracker->readers; !err && dirty; dirty = dirty->next) {
		err = tracked_add_reader(tracked, dirty);
		if (!err)
			tracked_fill(tracked, tracked->pending, true);
	}
	if (!err && tracker->nlogging > 0)
		err = log_start(memory, tracked);
	return err;
}

int dirty_attach(struct impost_memory *memory, struct mapped *region, struct tracked **ret_tracked)
{
	struct tracker *tracker = &memory->tracker;
	struct tracked *tracked;
	int err;

	*ret_tracked = NULL;
	if (tracker->nreaders == 0)
		return 0;
	tracked = tracked_new(memory, region);
	if (!tracked)
		return -ENOMEM;
	pthread_mutex_lock(&tracker->lock);
	err = attach(memory, tracked);
	pthread_mutex_unlock(&tracker->lock);
	if (err) {
		tracked_free(tracked);
		return err;
	}
	region->dirty = tracked->host;
	*ret_tracked = tracked;
	return 0;
}

void dirty_attached(struct impost_memory *memory, struct tracked *tracked)
{
	if (!tracked)
		return;
	pthread_mutex_lock(&memory->tracker.lock);
	insert(&memory->tracker, tracked);
	pthread_mutex_unlock(&memory->tracker.lock);
}

/* --- regions that go --- */

/* The number of the one at GPA; tracker->count: it is not tracked. */
static uint32_t at(const struct tracker *tracker, uint64_t gpa)
{
	uint32_t i = tracker_find(tracker, gpa / IMPOST_PAGE_SIZE);

	return i < tracker->count && tracker->region[i]->gpa == gpa ? i : tracker->count;
}

static void set_leaving(struct tracker *tracker, uint64_t gpa, bool leaving)
{
	uint32_t i;

	pthread_mutex_lock(&tracker->lock);
	i = at(tracker, gpa);
	if (i < tracker->count)
		tracker->region[i]->leaving = leaving;
	pthread_mutex_unlock(&tracker->lock);
}

void dirty_leaving(struct impost_memory *memory, uint64_t gpa)
{
	set_leaving(&memory->tracker, gpa, true);
}

void dirty_stays(struct impost_memory *memory, uint64_t gpa)
{
	set_leaving(&memory->tracker, gpa, false);
}

void dirty_left(struct impost_memory *memory, uint64_t gpa)
{
	struct tracker *tracker = &memory->tracker;
	struct tracked *gone = NULL;
	uint32_t i;

	pthread_mutex_lock(&tracker->lock);
	i = at(tracker, gpa);
	if (i < tracker->count) {
		gone = tracker->region[i];
		tracker->count--;
		memmove(tracker->region + i, tracker->region + i + 1,
			(tracker->count - i) * sizeof(struct tracked *));
	}
	pthread_mutex_unlock(&tracker->lock);
	tracked_free(gone);
}

int dirty_busy(struct impost_memory *memory, bool logging, const char *what)
{
	struct tracker *tracker = &memory->tracker;
	uint32_t readers;

	pthread_mutex_lock(&tracker->lock);
	readers = logging ? tracker->nlogging : tracker->nreaders;
	pthread_mutex_unlock(&tracker->lock);
	if (readers == 0)
		return 0;
	return impost_error_set(memory->ctx, -EBUSY,
				"%s: there %s still %u reader%s of dirty pages (impost_dirty): "
				"destroy %s first",
				what, readers == 1 ? "is" : "are", readers, readers == 1 ? "" : "s",
				readers == 1 ? "it" : "them");
}
