/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments of the 64-bit entry, once for the GDT and for the registers' hidden parts: they
 * must agree, or the guest changes when it reloads a segment.
 */
#ifndef ARCH_X86_64_SEGMENTS_H
#define ARCH_X86_64_SEGMENTS_H

#include <impost/x86_64/state.h>

/* Types (SDM vol. 3, table 3-1 and 3-2). */
#define TYPE_DATA     0x3u /* read, write, accessed */
#define TYPE_CODE     0xbu /* execute, read, accessed */
#define TYPE_TSS_BUSY 0xbu /* 64-bit; SDM vol. 3, 27.3.1.2 wants it busy at VM entry */

#define FLAT	      (IMPOST_X86_AR_S | IMPOST_X86_AR_P | IMPOST_X86_AR_G)

/* __BOOT_CS, __BOOT_DS (boot.rst, "64-bit BOOT PROTOCOL": flat, 4 GiB, 0x10 and 0x18). */
static const struct impost_x86_segment boot_cs = {
	.selector = 0x10,
	.limit = 0xffffffff,
	.access = TYPE_CODE | FLAT | IMPOST_X86_AR_L,
};
static const struct impost_x86_segment boot_ds = {
	.selector = 0x18,
	.limit = 0xffffffff,
	.access = TYPE_DATA | FLAT | IMPOST_X86_AR_DB,
};

/* The task state, at address 0, is never used before the kernel makes its own. */
static const struct impost_x86_segment boot_tr = {
	.selector = 0x20,
	.limit = 0x67, /* SDM vol. 3, 8.7: a 64-bit TSS has 104 bytes */
	.access = TYPE_TSS_BUSY | IMPOST_X86_AR_P,
};

/* Null, unused, code, data, and two for the TSS. */
#define GDT_ENTRIES 6u
#define GDT_LIMIT   (GDT_ENTRIES * 8u - 1u)

#endif
