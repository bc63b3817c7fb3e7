/* SPDX-License-Identifier: Apache-2.0 */
/* Memory slots, what the guest reads and writes through them, and their dirty logs. */
#include <cassette.h>

#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct mock_slot *find_slot(struct mock_vm *vm, uint32_t slot)
{
	struct mock_slot *s;

	for (s = vm->slots; s; s = s->next)
		if (s->s.slot == slot)
			return s;
	return NULL;
}

static struct mock_slot *slot_at(struct mock_vm *vm, uint64_t gpa)
{
	struct mock_slot *s;

	for (s = vm->slots; s; s = s->next)
		if (gpa - s->s.gpa < s->s.bytes)
			return s;
	return NULL;
}

/* The slot, or NULL with the error text. The lock is held. */
static struct mock_slot *need_slot(struct mock_vm *vm, uint32_t slot)
{
	struct mock_slot *s = find_slot(vm, slot);

	if (!s)
		mock_error(vm, -ENOENT, "there is no memory slot %u", slot);
	return s;
}

/* Of a cassette they are what the recorded hypervisor's were. */
static uint32_t max_slots(const struct mock_vm *vm)
{
	const struct mock_backend *b = vm->backend;

	return b->header ? b->header->caps.max_slots : MOCK_MAX_SLOTS;
}

static uint32_t phys_bits(const struct mock_vm *vm)
{
	const struct mock_backend *b = vm->backend;

	return !b->header			? MOCK_PHYS_BITS
	       : b->header->caps.phys_bits < 64 ? b->header->caps.phys_bits
						: 0;
}

static int32_t check_slot(struct mock_vm *vm, const struct impost_slot *slot)
{
	const struct mock_slot *s;
	uint32_t bits = phys_bits(vm);

	if (slot->slot >= max_slots(vm))
		return mock_error(vm, -EINVAL, "memory slot %u: there are %u", slot->slot,
				  max_slots(vm));
	if (!slot->bytes || slot->bytes % MOCK_PAGE || slot->gpa % MOCK_PAGE ||
	    slot->gpa + slot->bytes < slot->gpa)
		return mock_error(vm, -EINVAL,
				  "memory slot %u: gpa and size must be whole pages of 4096 bytes",
				  slot->slot);
	if (bits && (slot->gpa + slot->bytes - 1) >> bits)
		return mock_error(vm, -EINVAL, "memory slot %u ends above the %u address bits",
				  slot->slot, bits);
	for (s = vm->slots; s; s = s->next) {
		if (s->s.slot == slot->slot)
			return mock_error(vm, -EEXIST, "memory slot %u is taken", slot->slot);
		if (slot->gpa < s->s.gpa + s->s.bytes && s->s.gpa < slot->gpa + slot->bytes)
			return mock_error(vm, -EEXIST, "memory slot %u overlaps slot %u",
					  slot->slot, s->s.slot);
	}
	return 0;
}

static int32_t add_slot(struct mock_vm *vm, const struct impost_slot *slot, bool provided)
{
	struct mock_slot *s = calloc(1, sizeof(*s));
	int32_t err;

	if (!s)
		return mock_error(vm, -ENOMEM, "out of memory");
	s->s = *slot;
	s->provided = provided;
	pthread_mutex_lock(&vm->lock);
	err = check_slot(vm, slot);
	if (!err) {
		s->next = vm->slots;
		vm->slots = s;
		atomic_fetch_add(&vm->slots_generation, 1);
	}
	pthread_mutex_unlock(&vm->lock);
	if (err)
		free(s);
	return err;
}

int32_t mock_mem_add(void *vm, const struct impost_slot *slot)
{
	if (!slot->hva || (uintptr_t)slot->hva % MOCK_PAGE)
		return mock_error((struct mock_vm *)vm, -EINVAL,
				  "memory slot %u: the host address is not page-aligned",
				  slot->slot);
	return add_slot(vm, slot, false);
}

int32_t mock_mem_provide(void *vm, const struct impost_slot *slot, void **ret_hva)
{
	bool moves = ((const struct mock_vm *)vm)->backend->memory_moves;
	struct impost_slot own = *slot;
	int32_t err;

	/* Only memory that is shared can stand at two addresses, which it does while it moves. */
	own.hva = mmap(NULL, slot->bytes, PROT_READ | PROT_WRITE,
		       (moves ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (own.hva == MAP_FAILED)
		return mock_error((struct mock_vm *)vm, -errno,
				  "memory slot %u: cannot map %llu bytes: %s", slot->slot,
				  (unsigned long long)slot->bytes, strerror(errno));
	err = add_slot(vm, &own, true);
	if (err)
		munmap(own.hva, slot->bytes);
	else
		*ret_hva = own.hva;
	return err;
}

static void free_slot(struct mock_slot *s)
{
	if (s->provided)
		munmap(s->s.hva, s->s.bytes);
	free(s->dirty);
	free(s);
}

int32_t mock_mem_remove(void *handle, uint32_t slot)
{
	struct mock_vm *vm = handle;
	struct mock_slot **link, *s = NULL;

	pthread_mutex_lock(&vm->lock);
	for (link = &vm->slots; *link; link = &(*link)->next)
		if ((*link)->s.slot == slot) {
			s = *link;
			*link = s->next;
			atomic_fetch_add(&vm->slots_generation, 1);
			break;
		}
	pthread_mutex_unlock(&vm->lock);
	if (!s)
		return mock_error(vm, -ENOENT, "there is no memory slot %u", slot);
	free_slot(s);
	return 0;
}

/* Sets where the slot that is provided at GPA is in the host, if it is at OLD now. */
static bool set_hva(struct mock_vm *vm, uint64_t gpa, void *old, void *hva)
{
	struct mock_slot *s;
	bool found;

	pthread_mutex_lock(&vm->lock);
	s = slot_at(vm, gpa);
	found = s && s->provided && s->s.hva == old;
	if (found)
		s->s.hva = hva;
	pthread_mutex_unlock(&vm->lock);
	return found;
}

/* The slot that is provided at GPA, as it is now. */
static bool provided_at(struct mock_vm *vm, uint64_t gpa, struct impost_slot *ret_slot)
{
	const struct mock_slot *s;
	bool found;

	pthread_mutex_lock(&vm->lock);
	s = slot_at(vm, gpa);
	found = s && s->provided;
	if (found)
		*ret_slot = s->s;
	pthread_mutex_unlock(&vm->lock);
	return found;
}

/* The memory is at both addresses until nobody looks at the old one any more: mem_moved sees to
 * that. So what others write meanwhile is not lost. */
int32_t mock_mem_move(void *handle, uint64_t gpa)
{
	struct mock_vm *vm = handle;
	struct impost_slot slot;
	void *hva;
	int32_t err;

	if (!vm->backend->memory_moves)
		return mock_error(vm, -ENOTSUP, "memory moves only with memory_moves = yes");
	if (!atomic_load(&vm->paused))
		return mock_error(vm, -EBUSY, "memory moves only while the VM is paused");
	if (!provided_at(vm, gpa, &slot))
		return mock_error(vm, -ENOENT, "the mock has provided no memory at %#llx",
				  (unsigned long long)gpa);
	hva = mremap(slot.hva, 0, slot.bytes, MREMAP_MAYMOVE);
	if (hva == MAP_FAILED)
		return mock_error(vm, -errno, "mapping memory slot %u again: %s", slot.slot,
				  strerror(errno));
	if (!set_hva(vm, gpa, slot.hva, hva)) {
		munmap(hva, slot.bytes);
		return mock_error(vm, -ENOENT, "memory slot %u is being removed", slot.slot);
	}
	err = vm->host->mem_moved(vm->host->ctx, slot.slot, hva);
	/* If the slot was removed meanwhile, what it had last went with it. */
	munmap(err && set_hva(vm, gpa, hva, slot.hva) ? hva : slot.hva, slot.bytes);
	return err;
}

void mock_mem_free(struct mock_vm *vm)
{
	while (vm->slots) {
		struct mock_slot *s = vm->slots;

		vm->slots = s->next;
		free_slot(s);
	}
}

/* --- the guest's accesses ---
 *
 * Under the VM's lock, so that a slot that was taken away is not looked at any more. Others access
 * the memory at the same time, as they do a running guest's: aligned words are never torn. */

/* The widest access at ADDRESS, of BYTES at the most: 8, 4, 2 or 1. */
static unsigned width_at(const void *address, uint32_t bytes)
{
	unsigned width = 8;

	while ((uintptr_t)address % width || width > bytes)
		width /= 2;
	return width;
}

/* One access of WIDTH, which the address is a multiple of. */
static void load_one(void *to, const void *from, unsigned width)
{
	uint64_t value;

	switch (width) {
	case 8:
		value = __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED);
		break;
	case 4:
		value = __atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED);
		break;
	case 2:
		value = __atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED);
		break;
	default:
		value = __atomic_load_n((const uint8_t *)from, __ATOMIC_RELAXED);
	}
	memcpy(to, &value, width); /* little-endian */
}

static void store_one(void *to, const void *from, unsigned width)
{
	uint64_t value = 0;

	memcpy(&value, from, width);
	switch (width) {
	case 8:
		__atomic_store_n((uint64_t *)to, value, __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((uint32_t *)to, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((uint16_t *)to, (uint16_t)value, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n((uint8_t *)to, (uint8_t)value, __ATOMIC_RELAXED);
	}
}

static void load(void *to, const void *from, uint32_t bytes)
{
	for (uint32_t done = 0, width; done < bytes; done += width) {
		width = width_at((const char *)from + done, bytes - done);
		load_one((char *)to + done, (const char *)from + done, width);
	}
}

static void store(void *to, const void *from, uint32_t bytes)
{
	for (uint32_t done = 0, width; done < bytes; done += width) {
		width = width_at((char *)to + done, bytes - done);
		store_one((char *)to + done, (const char *)from + done, width);
	}
}

/* Since Linux 5.14 (madvise(2)). */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

/*
 * The slot that has GPA, if its page is there: the host's memory may be a file that has become
 * shorter, whose touch is SIGBUS. Older kernels cannot tell; the page counts as there.
 */
static struct mock_slot *slot_to_touch(struct mock_vm *vm, uint64_t gpa, int how)
{
	struct mock_slot *s = slot_at(vm, gpa);
	char *page;

	if (!s)
		return NULL;
	page = (char *)s->s.hva + (gpa - s->s.gpa) / MOCK_PAGE * MOCK_PAGE;
	return madvise(page, MOCK_PAGE, how) && errno == EFAULT ? NULL : s;
}

bool mock_mem_read(struct mock_vm *vm, uint64_t gpa, unsigned bytes, uint64_t *ret_value)
{
	uint64_t value = 0;
	struct mock_slot *s;

	pthread_mutex_lock(&vm->lock);
	s = slot_to_touch(vm, gpa, MADV_POPULATE_READ);
	if (s)
		load(&value, (const char *)s->s.hva + (gpa - s->s.gpa), bytes);
	pthread_mutex_unlock(&vm->lock);
	if (s)
		*ret_value = value;
	return s;
}

static void mark(struct mock_slot *s, uint64_t first, uint64_t last)
{
	uint64_t page;

	for (page = first; s->dirty && page <= last; page++)
		s->dirty[page / 64] |= UINT64_C(1) << (page % 64);
}

static void write_slot(struct mock_slot *s, uint64_t gpa, const uint8_t *data, uint32_t bytes)
{
	store((char *)s->s.hva + (gpa - s->s.gpa), data, bytes);
	mark(s, (gpa - s->s.gpa) / MOCK_PAGE, (gpa - s->s.gpa) / MOCK_PAGE);
}

enum mock_write mock_mem_write(struct mock_vm *vm, uint64_t gpa, const uint8_t *data,
			       uint32_t bytes, uint32_t *ret_done)
{
	enum mock_write how = MOCK_WRITE_DONE;
	uint64_t room = MOCK_PAGE - gpa % MOCK_PAGE;
	struct mock_slot *s;

	*ret_done = bytes < room ? bytes : (uint32_t)room;
	pthread_mutex_lock(&vm->lock);
	s = slot_at(vm, gpa);
	if (s && s->s.flags & IMPOST_SLOT_READONLY) {
		how = MOCK_WRITE_MMIO;
	} else if (!s || !(s->s.flags & IMPOST_SLOT_ROM_DROP)) {
		s = slot_to_touch(vm, gpa, MADV_POPULATE_WRITE);
		if (s)
			write_slot(s, gpa, data, *ret_done);
		else
			how = MOCK_WRITE_NOWHERE;
	}
	pthread_mutex_unlock(&vm->lock);
	return how;
}

/* --- a cassette's writes --- */

/* As store(), for what is mostly whole pages: DATA NULL is zeroes. */
static void store_span(uint8_t *to, const uint8_t *data, uint32_t bytes)
{
	static const uint8_t zeroes[8];
	uint32_t done = 0;

	while (done < bytes && ((uintptr_t)(to + done) % 8 || bytes - done < 8)) {
		store(to + done, data ? data + done : zeroes, 1);
		done++;
	}
	for (; bytes - done >= 8; done += 8) {
		uint64_t word = 0;

		if (data)
			memcpy(&word, data + done, sizeof(word));
		__atomic_store_n((uint64_t *)(void *)(to + done), word, __ATOMIC_RELAXED);
	}
	for (; done < bytes; done++)
		store(to + done, data ? data + done : zeroes, 1);
}

/* What is asked of the kernel at once. */
#define PLAY_WINDOW (16 * (uint64_t)MOCK_PAGE)

/* The slot that is to be written at GPA. *TOUCHED is the window that is known to be there: guests
 * write pages in rows, and asking for each would take longer than writing it. */
static struct mock_slot *slot_to_play(struct mock_vm *vm, uint64_t gpa, uint64_t *touched)
{
	uint64_t window = gpa / PLAY_WINDOW, begin = window * PLAY_WINDOW;
	struct mock_slot *s = slot_at(vm, gpa);

	if (!s || window == *touched)
		return s;
	if (begin < s->s.gpa || s->s.gpa + s->s.bytes - begin < PLAY_WINDOW ||
	    madvise((char *)s->s.hva + (begin - s->s.gpa), PLAY_WINDOW, MADV_POPULATE_WRITE))
		return slot_to_touch(vm, gpa, MADV_POPULATE_WRITE);
	*touched = window;
	return s;
}

bool mock_mem_play(struct mock_vm *vm, uint64_t gpa, const void *data, uint64_t len,
		   uint64_t *touched)
{
	struct mock_slot *s;
	uint64_t done = 0;

	pthread_mutex_lock(&vm->lock);
	do {
		uint64_t at = gpa + done, room = MOCK_PAGE - at % MOCK_PAGE;
		uint32_t bytes = (uint32_t)(len - done < room ? len - done : room);

		s = slot_to_play(vm, at, touched);
		if (!s)
			break;
		store_span((uint8_t *)s->s.hva + (at - s->s.gpa),
			   data ? (const uint8_t *)data + done : NULL, bytes);
		mark(s, (at - s->s.gpa) / MOCK_PAGE, (at - s->s.gpa) / MOCK_PAGE);
		done += bytes;
	} while (done < len);
	pthread_mutex_unlock(&vm->lock);
	return s;
}

int32_t mock_mem_list(struct mock_vm *vm, struct cassette_memory **ret_memory, size_t *ret_count)
{
	struct cassette_memory *memory;
	struct mock_slot *s;
	size_t count = 0;
	int32_t err = 0;

	pthread_mutex_lock(&vm->lock);
	for (s = vm->slots; s; s = s->next)
		count++;
	memory = calloc(count + 1, sizeof(*memory));
	if (!memory)
		err = -ENOMEM;
	count = 0;
	for (s = vm->slots; s && !err; s = s->next) {
		memory[count++] = (struct cassette_memory){s->s.gpa, s->s.bytes, s->s.hva};
		if (!slot_to_touch(vm, s->s.gpa + s->s.bytes - 1, MADV_POPULATE_READ))
			err = -EFAULT;
	}
	pthread_mutex_unlock(&vm->lock);
	if (err) {
		free(memory);
		return err;
	}
	*ret_memory = memory;
	*ret_count = count;
	return 0;
}

/* --- dirty log --- */

int32_t mock_mark_dirty(void *handle, uint64_t gpa, uint64_t bytes)
{
	struct mock_vm *vm = handle;
	struct mock_slot *s;

	if (!bytes)
		return 0;
	if (gpa + bytes - 1 < gpa)
		return mock_error(vm, -EINVAL, "mark_dirty: the range wraps around");
	pthread_mutex_lock(&vm->lock);
	for (s = vm->slots; s; s = s->next) {
		uint64_t first = gpa > s->s.gpa ? gpa : s->s.gpa;
		uint64_t last = gpa + bytes - 1;

		if (last > s->s.gpa + s->s.bytes - 1)
			last = s->s.gpa + s->s.bytes - 1;
		if (first <= last)
			mark(s, (first - s->s.gpa) / MOCK_PAGE, (last - s->s.gpa) / MOCK_PAGE);
	}
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static uint64_t dirty_words(const struct mock_slot *s)
{
	return (s->s.bytes / MOCK_PAGE + 63) / 64;
}

int32_t mock_dirty_start(void *handle, uint32_t slot)
{
	struct mock_vm *vm = handle;
	struct mock_slot *s;
	int32_t err = 0;

	pthread_mutex_lock(&vm->lock);
	s = need_slot(vm, slot);
	if (!s)
		err = -ENOENT;
	else if (s->dirty)
		err = mock_error(vm, -EEXIST, "slot %u has a dirty log already", slot);
	else {
		s->dirty = calloc(dirty_words(s), sizeof(*s->dirty));
		if (!s->dirty)
			err = mock_error(vm, -ENOMEM, "out of memory");
		else if (vm->backend->dirty_initially_set)
			mark(s, 0, s->s.bytes / MOCK_PAGE - 1);
	}
	pthread_mutex_unlock(&vm->lock);
	return err;
}

/* The slot with its log, or NULL with the error text and *RET_ERR. The lock is held. */
static struct mock_slot *need_log(struct mock_vm *vm, uint32_t slot, int32_t *ret_err)
{
	struct mock_slot *s = need_slot(vm, slot);

	*ret_err = s ? 0 : -ENOENT;
	if (s && !s->dirty) {
		*ret_err = mock_error(vm, -ENOENT, "slot %u has no dirty log: start one", slot);
		return NULL;
	}
	return s;
}

int32_t mock_dirty_stop(void *handle, uint32_t slot)
{
	struct mock_vm *vm = handle;
	struct mock_slot *s;
	int32_t err;

	pthread_mutex_lock(&vm->lock);
	s = need_log(vm, slot, &err);
	if (s) {
		free(s->dirty);
		s->dirty = NULL;
	}
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int32_t mock_dirty_fetch(void *handle, uint32_t slot, uint64_t *bitmap, uint64_t nwords)
{
	struct mock_vm *vm = handle;
	struct mock_slot *s;
	uint64_t i;
	int32_t err;

	pthread_mutex_lock(&vm->lock);
	s = need_log(vm, slot, &err);
	if (s && nwords < dirty_words(s))
		err = mock_error(vm, -ENOSPC, "the dirty log of slot %u has %llu words", slot,
				 (unsigned long long)dirty_words(s));
	for (i = 0; !err && i < dirty_words(s); i++) {
		bitmap[i] |= s->dirty[i];
		if (!vm->backend->dirty_manual)
			s->dirty[i] = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int32_t mock_dirty_clear(void *handle, uint32_t slot, uint64_t first, uint64_t npages,
			 const uint64_t *bitmap)
{
	struct mock_vm *vm = handle;
	struct mock_slot *s;
	uint64_t i, pages;
	int32_t err;

	pthread_mutex_lock(&vm->lock);
	s = need_log(vm, slot, &err);
	pages = s ? s->s.bytes / MOCK_PAGE : 0;
	if (s && (first % 64 || first > pages || npages > pages - first))
		err = mock_error(vm, -EINVAL,
				 "dirty_clear: slot %u has %llu pages, and the first to clear is a "
				 "multiple of 64",
				 slot, (unsigned long long)pages);
	for (i = 0; !err && i < npages; i++)
		if (bitmap[i / 64] >> (i % 64) & 1)
			s->dirty[(first + i) / 64] &= ~(UINT64_C(1) << ((first + i) % 64));
	pthread_mutex_unlock(&vm->lock);
	return err;
}
