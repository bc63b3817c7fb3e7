/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as the core sees it. */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <impost/backend.h>
#include <impost/memory.h>

struct impost_vm;

/* A map whose regions are slots of VM, or with VM NULL one that stands alone. */
int memory_create(struct impost_context *ctx, struct impost_vm *vm,
		  struct impost_memory **ret_memory);
void memory_destroy(struct impost_memory *memory);

/* The slot and length of the region that starts at GPA. -ENOENT: none does. */
int memory_slot(struct impost_memory *memory, uint64_t gpa, uint32_t *ret_slot,
		uint64_t *ret_bytes);

/* The same as impost_memory_ptr(), with no error text: for backends. */
int memory_lookup(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva);

/* The memory in SLOT is at HVA from now on. -ENOENT: no backend memory there. */
int memory_moved(struct impost_memory *memory, uint32_t slot, void *hva);

#endif
