/* SPDX-License-Identifier: Apache-2.0 */
/* The segments of protected and long mode. */
#include "segments.h"

#include <stddef.h>

#include <impost/x86_64/boot.h>

/* Types (SDM vol. 3, table 3-1 and 3-2). */
#define TYPE_DATA     0x3u /* read, write, accessed */
#define TYPE_CODE     0xbu /* execute, read, accessed */
#define TYPE_TSS_BUSY 0xbu /* 32- or 64-bit; SDM vol. 3, 27.3.1.2 wants it busy at VM entry */

#define FLAT	      (IMPOST_X86_AR_S | IMPOST_X86_AR_P | IMPOST_X86_AR_G)

/* __BOOT_CS, __BOOT_DS (boot.rst, both protocols: flat, 4 GiB, 0x10 and 0x18). */
#define CODE(bits)                                                \
	{                                                         \
		.selector = 0x10, .limit = 0xffffffff,            \
		.access = TYPE_CODE | FLAT | IMPOST_X86_AR_##bits \
	}
#define DATA                                                  \
	{                                                     \
		.selector = 0x18, .limit = 0xffffffff,        \
		.access = TYPE_DATA | FLAT | IMPOST_X86_AR_DB \
	}
#define TASK(address)                                                        \
	{                                                                    \
		.selector = 0x20, .base = (address), .limit = TSS_BYTES - 1, \
		.access = TYPE_TSS_BUSY | IMPOST_X86_AR_P                    \
	}

/* A PVH kernel is promised a TSS at 0 (Xen, docs/misc/pvh). */
static const struct boot_segments protected_mode = {
	.code = CODE(DB), .data = DATA, .task = TASK(0)};
static const struct boot_segments long_mode = {
	.code = CODE(L), .data = DATA, .task = TASK(IMPOST_X86_TSS_ADDR)};

const struct boot_segments *boot_segments(uint32_t mode)
{
	switch (mode) {
	case IMPOST_X86_MODE_PROTECTED:
		return &protected_mode;
	case IMPOST_X86_MODE_LONG:
		return &long_mode;
	default:
		return NULL;
	}
}
