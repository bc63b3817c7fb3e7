/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments at each mode's entry, once for the GDT and for the registers' hidden parts: they
 * must agree, or the guest changes when it reloads a segment.
 */
#ifndef ARCH_X86_64_SEGMENTS_H
#define ARCH_X86_64_SEGMENTS_H

#include <impost/x86_64/state.h>

struct boot_segments {
	struct impost_x86_segment code, data, task;
};

/* Of the protected or long MODE: NULL if it is neither. */
const struct boot_segments *boot_segments(uint32_t mode);

/* Null, unused, code, data, and two for the TSS, of which only long mode uses the second. */
#define GDT_ENTRIES 6u
#define GDT_LIMIT   (GDT_ENTRIES * 8u - 1u)

/* SDM vol. 3, 8.2.1 and 8.7: 104 bytes, of which the last two say where the I/O map is. */
#define TSS_BYTES  104u
#define TSS_IO_MAP 102u

#endif
