/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation id, for those who set it up. */
#ifndef ARCH_X86_64_VMGENID_ID_H
#define ARCH_X86_64_VMGENID_ID_H

#include <stdint.h>

struct impost_memory;

/* Writes a new id to MEMORY at GPA. */
int vmgenid_write(struct impost_memory *memory, uint64_t gpa);

#endif
