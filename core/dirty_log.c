/* SPDX-License-Identifier: Apache-2.0 */
/* Where dirty pages come from: the hypervisor's log, and the host's marks. */
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "dirty.h"
#include "memory.h"
#include "vm.h"

/* Words that the host's marks are taken by: 64 MiB of memory. */
#define SOME 256u

#define CALL(memory, op, ...) \
	VM_CALL((memory)->vm, (memory)->vm->ops, (memory)->vm->handle, op, ##__VA_ARGS__)

static bool has(const struct impost_memory *memory, enum impost_cap cap)
{
	return impost_caps_has(&memory->vm->caps, cap);
}

/* Backends may set what they like beyond a region's end: nobody shall see it. */
static void cut(const struct tracked *tracked)
{
	if (tracked->pages % 64)
		tracked->log[tracked->words - 1] &= UINT64_MAX >> (64 - tracked->pages % 64);
}

/* ORs COUNT words from number FIRST on into what each reader of the log has to take. */
static void give_log(const struct tracked *tracked, uint64_t first, uint64_t count)
{
	for (struct pending *pending = tracked->pending; pending; pending = pending->next) {
		if (pending->dirty->flags & IMPOST_DIRTY_HOST_ONLY)
			continue;
		for (uint64_t i = first; i < first + count; i++)
			pending->bits[i] |= tracked->log[i];
	}
	memset(tracked->log + first, 0, count * sizeof(*tracked->log));
}

/*
 * A log that starts full says nothing yet. Where fetching does not clear, the pages count as
 * fetched, so that they are protected when they are taken; elsewhere they are fetched and dropped.
 */
static int forget_first(struct impost_memory *memory, const struct tracked *tracked)
{
	int err;

	if (!has(memory, IMPOST_CAP_DIRTY_INITIALLY_SET))
		return 0;
	if (has(memory, IMPOST_CAP_DIRTY_MANUAL)) {
		memset(tracked->log, 0xff, tracked->words * sizeof(*tracked->log));
		cut(tracked);
		return 0;
	}
	err = CALL(memory, dirty_fetch, tracked->slot, tracked->log, tracked->words);
	memset(tracked->log, 0, tracked->words * sizeof(*tracked->log));
	return err;
}

int log_start(struct impost_memory *memory, struct tracked *tracked)
{
	int err;

	if (!tracked->guest_writes)
		return 0;
	tracked->log = calloc(2 * tracked->words, sizeof(*tracked->log));
	if (!tracked->log)
		return impost_error_set(memory->ctx, -ENOMEM, "no memory for a dirty bitmap");
	err = CALL(memory, dirty_start, tracked->slot);
	if (err) {
		free(tracked->log);
		tracked->log = NULL;
		return err;
	}
	err = forget_first(memory, tracked);
	if (err)
		log_stop(memory, tracked);
	return err;
}

int log_stop(struct impost_memory *memory, struct tracked *tracked)
{
	if (!tracked->log)
		return 0;
	free(tracked->log);
	tracked->log = NULL;
	return CALL(memory, dirty_stop, tracked->slot);
}

/* Counts what the log has now and had not before the fetch. */
static uint64_t count_new(const struct tracked *tracked)
{
	const uint64_t *before = tracked->log + tracked->words;
	uint64_t count = 0;

	for (uint64_t i = 0; i < tracked->words; i++) {
		uint64_t bits = tracked->log[i] & ~before[i];

		if (!bits)
			continue;
		count += (uint64_t)__builtin_popcountll(bits);
		for (struct pending *pending = tracked->pending; pending; pending = pending->next)
			if (!(pending->dirty->flags & IMPOST_DIRTY_HOST_ONLY))
				pending_found(pending, i, bits);
	}
	return count;
}

int log_fetch(struct impost_memory *memory, struct tracked *tracked)
{
	int err;

	if (!tracked->log)
		return 0;
	/* Where fetching clears, it is all zero, and so is what is behind it. */
	if (has(memory, IMPOST_CAP_DIRTY_MANUAL))
		memcpy(tracked->log + tracked->words, tracked->log,
		       tracked->words * sizeof(*tracked->log));
	err = CALL(memory, dirty_fetch, tracked->slot, tracked->log, tracked->words);
	cut(tracked);
	memory->tracker.counts.from_log += count_new(tracked);
	if (!has(memory, IMPOST_CAP_DIRTY_MANUAL))
		give_log(tracked, 0, tracked->words);
	return err;
}

int log_protect(struct impost_memory *memory, struct tracked *tracked, uint64_t first,
		uint64_t pages)
{
	uint64_t word = first / 64, words = bitmap_words(pages), i = 0;
	int err;

	while (tracked->log && i < words && !tracked->log[word + i])
		i++;
	if (!tracked->log || i == words)
		return 0;
	err = CALL(memory, dirty_clear, tracked->slot, first, pages, tracked->log + word);
	if (err)
		return err;
	memory->tracker.counts.protects++;
	give_log(tracked, word, words);
	return 0;
}

void host_fetch(struct impost_memory *memory, struct tracked *tracked)
{
	uint64_t taken[SOME], count;

	for (uint64_t at = 0; at < tracked->words; at += SOME) {
		uint64_t words = tracked->words - at < SOME ? tracked->words - at : SOME;

		memset(taken, 0, sizeof(taken));
		count = bitmap_take(tracked->host + at, words, taken);
		memory->tracker.counts.from_host += count;
		for (struct pending *p = tracked->pending; count && p; p = p->next)
			for (uint64_t i = 0; i < words; i++) {
				p->bits[at + i] |= taken[i];
				pending_found(p, at + i, taken[i]);
			}
	}
}
