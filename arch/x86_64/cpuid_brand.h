/* SPDX-License-Identifier: Apache-2.0 */
/* The brand string: 48 bytes with a NUL in CPUID's leaves 0x80000002 to 0x80000004. */
#ifndef ARCH_X86_64_CPUID_BRAND_H
#define ARCH_X86_64_CPUID_BRAND_H

#include <impost/x86_64/cpuid.h>

#define BRAND_FIRST 0x80000002u
#define BRAND_LAST  0x80000004u
#define BRAND_BYTES 48u

struct brand {
	char text[BRAND_BYTES];
};

/* Chooses TEXT, if not NULL, or what ENTRIES have, or if that is blank what this CPU has. */
void brand_choose(struct brand *ret_brand, const char *text, const struct impost_x86_cpuid *entries,
		  uint32_t count);

/* Puts the part of BRAND that belongs into E there. */
void brand_put(const struct brand *brand, struct impost_x86_cpuid *e);

#endif
