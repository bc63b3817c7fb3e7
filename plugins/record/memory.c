/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's memory: who wrote which page, and what has changed there. A shadow copy has what a
 * reader of the cassette would have, so that of a page only what differs is written.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "record.h"

/* Pages of one memory item: with every other word changed they stay below CASSETTE_MEMORY_MAX. */
#define PAGES_OF_ITEM 128u

/* Equal bytes between two changes that are not worth a piece of its own. */
#define GAP   16u

#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t bitmap_words(const struct slot *slot)
{
	return (slot->pages + 63) / 64;
}

/* --- slots --- */

void memory_free(struct slot *slot)
{
	if (slot->shadow)
		munmap(slot->shadow, slot->s.bytes);
	free(slot->pending);
	free(slot->host_log);
	free(slot);
}

struct slot *memory_slot(struct record_vm *rec, const struct impost_slot *args)
{
	const struct record *record = rec->vm->layer->data;
	struct slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		return NULL;
	slot->s = *args;
	slot->pages = args->bytes / PAGE;
	slot->writable = !(args->flags & (IMPOST_SLOT_READONLY | IMPOST_SLOT_ROM_DROP));
	if (!slot->writable || record->memory == MEMORY_NONE)
		return slot;
	slot->pending = calloc(bitmap_words(slot), sizeof(*slot->pending));
	slot->shadow = mmap(NULL, args->bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slot->shadow == MAP_FAILED)
		slot->shadow = NULL;
	if (!slot->pending || !slot->shadow) {
		memory_free(slot);
		return NULL;
	}
	return slot;
}

void memory_join(struct record_vm *rec, struct slot *slot)
{
	struct slot **at = &rec->slots;

	while (*at && (*at)->s.gpa < slot->s.gpa)
		at = &(*at)->next;
	slot->next = *at;
	*at = slot;
}

struct slot *memory_find(struct record_vm *rec, uint32_t number)
{
	struct slot *slot = rec->slots;

	while (slot && slot->s.slot != number)
		slot = slot->next;
	return slot;
}

void memory_leave(struct record_vm *rec, struct slot *slot)
{
	struct slot **at = &rec->slots;

	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
	memory_free(slot);
}

/* --- contents --- */

/* Whether the memory of SLOT is there. The host's own is until the call that removes it has
 * returned.
 */
static bool is_there(const struct slot *slot)
{
	return !(slot->going && slot->provided);
}

/* Whether it is, and its changes are looked for. */
static bool is_watched(const struct slot *slot)
{
	return slot->pending && is_there(slot);
}

/* A page as it is at this moment: the guest may be writing it. */
static void load_page(uint64_t to[WORDS], const void *from)
{
	const uint64_t *words = from;

	for (size_t i = 0; i < WORDS; i++)
		to[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
}

static const void *page_at(const struct slot *slot, uint64_t page)
{
	return (const uint8_t *)slot->s.hva + page * PAGE;
}

void memory_copy(struct slot *slot)
{
	static const uint64_t zero[WORDS];
	uint64_t now[WORDS];

	/* What is zero in the shadow, and stays so, costs no memory. */
	for (uint64_t page = 0; slot->shadow && is_there(slot) && page < slot->pages; page++) {
		load_page(now, page_at(slot, page));
		if (memcmp(now, zero, PAGE) != 0)
			memcpy(slot->shadow + page * PAGE, now, PAGE);
	}
}

void memory_compare(struct record_vm *rec)
{
	uint64_t now[WORDS];

	for (struct slot *slot = rec->slots; slot; slot = slot->next)
		for (uint64_t page = 0; is_watched(slot) && page < slot->pages; page++) {
			load_page(now, page_at(slot, page));
			if (memcmp(now, slot->shadow + page * PAGE, PAGE) != 0)
				slot->pending[page / 64] |= UINT64_C(1) << (page % 64);
		}
}

/* --- what below logs --- */

/* Clears in below's log what BITMAP has of SLOT, from its first word that is not 0 to its last. */
static int32_t clear_below(struct record_vm *rec, const struct slot *slot, const uint64_t *bitmap)
{
	const struct layer *layer = rec->vm->layer;
	uint64_t first = 0, end = bitmap_words(slot), pages;

	while (first < end && !bitmap[first])
		first++;
	while (end > first && !bitmap[end - 1])
		end--;
	if (first == end)
		return 0;
	pages = (end * 64 < slot->pages ? end * 64 : slot->pages) - first * 64;
	return layer->ops->vm->dirty_clear(rec->vm->below, slot->s.slot, first * 64, pages,
					   bitmap + first);
}

int32_t memory_fetch(struct record_vm *rec, struct slot *slot)
{
	const struct layer *layer = rec->vm->layer;
	const struct record *record = layer->data;
	uint64_t words = bitmap_words(slot);
	uint64_t *bitmap;
	int32_t err;

	if (record->memory != MEMORY_EXITS || !slot->writable || slot->going)
		return 0;
	bitmap = calloc(words, sizeof(*bitmap));
	if (!bitmap)
		return impost_host_error(rec->vm->host, -ENOMEM, "record: no memory for a bitmap");
	err = layer->ops->vm->dirty_fetch(rec->vm->below, slot->s.slot, bitmap, words);
	if (!err && record->manual)
		err = clear_below(rec, slot, bitmap);
	for (uint64_t i = 0; !err && i < words; i++) {
		slot->pending[i] |= bitmap[i];
		if (slot->host_log)
			slot->host_log[i] |= bitmap[i];
	}
	free(bitmap);
	return err;
}

/* --- pieces --- */

/* The change of a page from byte FROM to byte TO. */
static void put_change(struct cassette_pieces *pieces, uint64_t gpa, const uint8_t *now,
		       size_t from, size_t to)
{
	size_t len = to - from;

	if (len >= GAP && now[from] == 0 && !memcmp(now + from, now + from + 1, len - 1))
		cassette_pieces_zero(pieces, gpa + from, len);
	else
		cassette_pieces_data(pieces, gpa + from, now + from, len);
}

/* Writes what has changed in PAGE to the pieces and to the shadow. */
static void put_page(struct record_vm *rec, struct slot *slot, uint64_t page)
{
	uint64_t gpa = slot->s.gpa + page * PAGE, now[WORDS], *was;
	size_t from = 0, to = 0; /* of the change under way; none if they are equal */
	const uint8_t *bytes = (const uint8_t *)now;
	bool changed = false;

	load_page(now, page_at(slot, page));
	was = (uint64_t *)(void *)(slot->shadow + page * PAGE);
	for (size_t i = 0; i < WORDS; i++) {
		size_t at = i * sizeof(uint64_t);

		if (now[i] == was[i])
			continue;
		if (from != to && at - to >= GAP) {
			put_change(&rec->pieces, gpa, bytes, from, to);
			from = to;
		}
		if (from == to)
			from = at;
		to = at + sizeof(uint64_t);
		was[i] = now[i];
		changed = true;
	}
	if (from != to)
		put_change(&rec->pieces, gpa, bytes, from, to);
	/* Written, and as it was: who looks at the dirty log shall see that. */
	if (!changed && slot->host_log)
		cassette_pieces_zero(&rec->pieces, gpa, 0);
}

/* Makes the pieces of the next PAGES_OF_ITEM pages that are pending. */
static void make_item(struct record_vm *rec)
{
	uint32_t left = PAGES_OF_ITEM;

	cassette_pieces_begin(&rec->pieces);
	for (struct slot *slot = rec->slots; slot; slot = slot->next)
		for (uint64_t i = 0; is_watched(slot) && i < bitmap_words(slot); i++)
			for (; slot->pending[i] && left; left--) {
				uint64_t bit = (uint64_t)__builtin_ctzll(slot->pending[i]);

				put_page(rec, slot, i * 64 + bit);
				slot->pending[i] &= slot->pending[i] - 1;
			}
}

static uint64_t count_pending(const struct record_vm *rec)
{
	uint64_t count = 0;

	for (const struct slot *slot = rec->slots; slot; slot = slot->next)
		for (uint64_t i = 0; is_watched(slot) && i < bitmap_words(slot); i++)
			count += (uint64_t)__builtin_popcountll(slot->pending[i]);
	return count;
}

uint32_t memory_items(struct record_vm *rec)
{
	uint64_t pages = count_pending(rec);

	if (!pages)
		return 0;
	make_item(rec);
	if (pages <= PAGES_OF_ITEM)
		return rec->pieces.count != 0;
	return (uint32_t)((pages + PAGES_OF_ITEM - 1) / PAGES_OF_ITEM);
}

int memory_write(struct record_vm *rec, uint32_t items)
{
	int err = 0;

	for (uint32_t i = 0; i < items; i++) {
		int failed;

		if (i)
			make_item(rec);
		failed = cassette_write_memory(rec->writer, &rec->pieces);
		err = err ? err : failed;
	}
	return err;
}

int memory_sums(struct record_vm *rec, uint32_t lane, enum cassette_when when)
{
	struct cassette_memory *memory;
	struct cassette_sum *sums;
	size_t count = 0, nsums;
	int err;

	for (const struct slot *slot = rec->slots; slot; slot = slot->next)
		count++;
	memory = calloc(count + 1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	count = 0;
	for (const struct slot *slot = rec->slots; slot; slot = slot->next)
		if (is_there(slot))
			memory[count++] =
				(struct cassette_memory){slot->s.gpa, slot->s.bytes, slot->s.hva};
	err = cassette_sum(memory, count, &sums, &nsums);
	free(memory);
	if (err)
		return err;
	err = cassette_write_sums(rec->writer, lane, when, sums, nsums);
	free(sums);
	return err;
}

/* --- the dirty log that the host sees --- */

static int32_t start_log(struct record_vm *rec, struct slot *slot)
{
	int32_t err;

	if (slot->host_log)
		return impost_host_error(rec->vm->host, -EEXIST, "slot %u has a dirty log already",
					 slot->s.slot);
	err = memory_fetch(rec, slot);
	if (err)
		return err;
	slot->host_log = calloc(bitmap_words(slot), sizeof(*slot->host_log));
	if (!slot->host_log)
		return impost_host_error(rec->vm->host, -ENOMEM, "no memory for a dirty log");
	return 0;
}

static int32_t fetch_log(struct record_vm *rec, struct slot *slot, uint64_t *bitmap,
			 uint64_t nwords)
{
	uint64_t words = bitmap_words(slot);
	int32_t err;

	if (nwords < words)
		return impost_host_error(rec->vm->host, -ENOSPC,
					 "the dirty log of slot %u has %llu words", slot->s.slot,
					 (unsigned long long)words);
	err = memory_fetch(rec, slot);
	for (uint64_t i = 0; !err && i < words; i++) {
		bitmap[i] |= slot->host_log[i];
		slot->host_log[i] = 0;
	}
	return err;
}

static int32_t stop_log(struct slot *slot)
{
	free(slot->host_log);
	slot->host_log = NULL;
	return 0;
}

int32_t memory_dirty(struct layer_call *call)
{
	/* Each of them begins with the slot's number. */
	uint32_t number = LAYER_ARGS(call, vm, dirty_stop)->slot;
	struct record_vm *rec = call->vm->data;
	const struct layer_args_vm_dirty_fetch *fetch = call->args;
	struct slot *slot;
	int32_t err;

	pthread_mutex_lock(&rec->lock);
	slot = memory_find(rec, number);
	if (!slot)
		err = impost_host_error(call->vm->host, -ENOENT, "there is no memory slot %u",
					number);
	else if (call->op == layer_op_vm_dirty_start)
		err = start_log(rec, slot);
	else if (!slot->host_log)
		err = impost_host_error(call->vm->host, -ENOENT,
					"slot %u has no dirty log: start one", number);
	else if (call->op == layer_op_vm_dirty_stop)
		err = stop_log(slot);
	else if (call->op == layer_op_vm_dirty_fetch)
		err = fetch_log(rec, slot, fetch->bitmap, fetch->nwords);
	else
		err = impost_host_error(call->vm->host, -ENOTSUP,
					"record: fetching clears the dirty log");
	pthread_mutex_unlock(&rec->lock);
	return err;
}
