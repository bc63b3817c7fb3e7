/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as the core sees it. */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>

#include <impost/backend.h>
#include <impost/memory.h>

#include "dirty.h"
#include "map.h"

struct guard;
struct impost_vm;
struct pager;

struct impost_memory {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct map *_Atomic map; /* to be loaded inside a section that looks at the memory */
	/* Who replaces the map. Recursive: mem_moved comes inside mem_remove. */
	pthread_mutex_t lock;
	struct map *older; /* maps that were replaced, and that a reader may still be looking at */
	struct tracker tracker;	     /* who reads dirty pages */
	struct guard *_Atomic guard; /* of a snapshot that is being written; see guard.h */
	struct pager *pager;	     /* that has restored it lazily, or does; see pager.h */
};

/* A map whose regions are slots of VM, or with VM NULL one that stands alone. */
int memory_create(struct impost_context *ctx, struct impost_vm *vm,
		  struct impost_memory **ret_memory);
void memory_destroy(struct impost_memory *memory);

/* -IMPOST_EFORKED, with a text, in a fork of the process that opened the context. */
int memory_check(struct impost_memory *memory);

/* --- replacing the map; with the lock held --- */

/* A map with room for COUNT regions; -ENOMEM is said here. */
struct map *memory_new_map(struct impost_memory *memory, uint32_t count);

/* MAP, filled in, takes the present map's place, which is freed when its readers have left. Returns
 * the epoch for memory_wait(). */
uint64_t memory_publish(struct impost_memory *memory, struct map *map);

/* Waits until nobody looks at what was published before EPOCH. */
void memory_wait(struct impost_memory *memory, uint64_t epoch);

/* -EDEADLK, with a text: the calling thread has a view, of whatever map. It would wait for itself,
 * or for a thread that waits for it: also for the lock. */
int memory_check_outside(struct impost_memory *memory, const char *what);

/* --- for backends and vm.c --- */

/* The slot and length of the region that starts at GPA. -ENOENT: none does. */
int memory_slot(struct impost_memory *memory, uint64_t gpa, uint32_t *ret_slot,
		uint64_t *ret_bytes);

/* The same as impost_memory_ptr(), with no text for -EFAULT: for backends. */
int memory_lookup(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva);

/* The memory in SLOT is at HVA from now on. -ENOENT: no backend memory there. */
int memory_moved(struct impost_memory *memory, uint32_t slot, void *hva);

#endif
