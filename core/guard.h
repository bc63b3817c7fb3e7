/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is being saved while the guest runs, and those who throw its content away. */
#ifndef CORE_GUARD_H
#define CORE_GUARD_H

#include <stdint.h>

struct impost_memory;
struct mapped;

/*
 * To be called in a view, before BYTES at GPA of REGION are discarded: what a snapshot that is
 * being written still needs of them is copied first. A write would wait for that by itself; giving
 * pages back to the host does not.
 */
void guard_save(struct impost_memory *memory, const struct mapped *region, uint64_t gpa,
		uint64_t bytes);

#endif
