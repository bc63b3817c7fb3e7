/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies between guest memory and host buffers, in the one place that knows which memory may be
 * touched. A region that is MAPPED_DIRECT may be, always. Behind another is a file that somebody
 * could make shorter, where the touch of a page that is gone would be SIGBUS: it is copied by the
 * kernel instead, which says EFAULT.
 *
 * HVA is what map_span() gave for REGION, with BYTES that lie in it. Errors have a text on MEMORY's
 * context: -EACCES: the host may not write there either; -EIO: the file has no page there any more,
 * or none that can be read.
 */
#ifndef CORE_ACCESS_H
#define CORE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "map.h"

struct impost_memory;

/*
 * Whether an access could be made now. What is checked before a copy over several regions, so that
 * it is all or nothing, unless a file becomes shorter in the middle.
 */
int access_judge(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva,
		 uint64_t bytes, bool write);

static inline int access_check(struct impost_memory *memory, const struct mapped *region,
			       const uint8_t *hva, uint64_t bytes, bool write)
{
	const uint32_t need = MAPPED_DIRECT | (write ? MAPPED_WRITE : 0);

	return (region->access & need) == need ? 0
					       : access_judge(memory, region, hva, bytes, write);
}

/*
 * The same, and the pages are there afterwards: then the caller may touch them (atomics, single
 * accesses). That the file becomes shorter between the two is a race that is left: no call of the
 * kernel makes an atomic access on our behalf.
 */
int access_probe(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva,
		 uint64_t bytes, bool write);

/* Out of memory that may be touched; an aligned number in it is one access. */
static inline void access_copy_out(void *buf, const uint8_t *hva, uint64_t bytes)
{
	const void *at = hva;
	uint64_t value;

	if (bytes == 8 && (uintptr_t)hva % 8 == 0)
		value = __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
	else if (bytes == 4 && (uintptr_t)hva % 4 == 0)
		value = __atomic_load_n((const uint32_t *)at, __ATOMIC_RELAXED);
	else if (bytes == 2 && (uintptr_t)hva % 2 == 0)
		value = __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED);
	else {
		memcpy(buf, hva, bytes);
		return;
	}
	memcpy(buf, &value, bytes); /* little-endian: its first bytes */
}

/* Into it, likewise. */
static inline void access_copy_in(uint8_t *hva, const void *buf, uint64_t bytes)
{
	uint64_t value = 0;
	void *at = hva;

	memcpy(&value, buf, bytes < 8 ? bytes : 8);
	if (bytes == 8 && (uintptr_t)hva % 8 == 0)
		__atomic_store_n((uint64_t *)at, value, __ATOMIC_RELAXED);
	else if (bytes == 4 && (uintptr_t)hva % 4 == 0)
		__atomic_store_n((uint32_t *)at, (uint32_t)value, __ATOMIC_RELAXED);
	else if (bytes == 2 && (uintptr_t)hva % 2 == 0)
		__atomic_store_n((uint16_t *)at, (uint16_t)value, __ATOMIC_RELAXED);
	else
		memcpy(hva, buf, bytes);
}

/* Copies after access_probe(), directly: an aligned number, which is one access then, and what the
 * kernel will not copy. */
int access_probed(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		  void *buf, uint64_t bytes, bool write);

/* A copy of memory that may not be touched, of whatever length: by the kernel. */
int access_carefully(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		     void *buf, uint64_t bytes, bool write);

/* Copies, after access_check(). Of a region that is MAPPED_DIRECT, an aligned number of 2, 4 or 8
 * bytes is one access. After an error some of it may have been copied. */
static inline int access_read(struct impost_memory *memory, const struct mapped *region,
			      const uint8_t *hva, void *buf, uint64_t bytes)
{
	if (__builtin_expect(!(region->access & MAPPED_DIRECT), 0))
		return access_carefully(memory, region, (uint8_t *)(uintptr_t)hva, buf, bytes,
					false);
	access_copy_out(buf, hva, bytes);
	return 0;
}

static inline int access_write(struct impost_memory *memory, const struct mapped *region,
			       uint8_t *hva, const void *buf, uint64_t bytes)
{
	if (__builtin_expect(!(region->access & MAPPED_DIRECT), 0))
		return access_carefully(memory, region, hva, (void *)(uintptr_t)buf, bytes, true);
	access_copy_in(hva, buf, bytes);
	return 0;
}

int access_fill(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		uint8_t byte, uint64_t bytes);

/* Text and -EIO for memory in which the kernel met EFAULT at or behind HVA. */
int access_failed(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva);

#endif
