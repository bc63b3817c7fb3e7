/* SPDX-License-Identifier: Apache-2.0 */
/* The brand string of a vCPU: the configuration's, the backend's, or that of the CPU below. */
#include <cpuid.h>
#include <string.h>

#include "cpuid_brand.h"

/* Characters in a register, and in a leaf. */
#define REG_BYTES  4u
#define LEAF_BYTES 16u

static size_t offset(uint32_t leaf, uint32_t reg)
{
	return (leaf - BRAND_FIRST) * LEAF_BYTES + reg * REG_BYTES;
}

static void take(struct brand *brand, struct impost_x86_cpuid e)
{
	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++)
		memcpy(brand->text + offset(e.leaf, reg), impost_x86_cpuid_register(&e, reg),
		       REG_BYTES);
}

static void from_entries(struct brand *brand, const struct impost_x86_cpuid *entries,
			 uint32_t count)
{
	for (uint32_t leaf = BRAND_FIRST; leaf <= BRAND_LAST; leaf++) {
		const struct impost_x86_cpuid *e = impost_x86_cpuid_find(entries, count, leaf, 0);

		if (e)
			take(brand, *e);
	}
}

static void from_here(struct brand *brand)
{
	for (uint32_t leaf = BRAND_FIRST; leaf <= BRAND_LAST; leaf++) {
		struct impost_x86_cpuid e = {.leaf = leaf};

		__get_cpuid(leaf, &e.eax, &e.ebx, &e.ecx, &e.edx);
		take(brand, e);
	}
}

static int is_blank(const struct brand *brand)
{
	return brand->text[strspn(brand->text, " ")] == '\0';
}

void brand_choose(struct brand *ret_brand, const char *text, const struct impost_x86_cpuid *entries,
		  uint32_t count)
{
	struct brand brand = {{0}};

	if (text) {
		memcpy(brand.text, text, strlen(text));
	} else {
		from_entries(&brand, entries, count);
		brand.text[BRAND_BYTES - 1] = '\0';
		if (is_blank(&brand))
			from_here(&brand);
		brand.text[BRAND_BYTES - 1] = '\0';
	}
	*ret_brand = brand;
}

void brand_put(const struct brand *brand, struct impost_x86_cpuid *e)
{
	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++)
		memcpy(impost_x86_cpuid_register(e, reg), brand->text + offset(e->leaf, reg),
		       REG_BYTES);
}
