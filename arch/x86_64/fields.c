/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID's fields by name and by place, and the entries that hold them. */
#include <stddef.h>
#include <strings.h>

#include <impost/x86_64/cpuid.h>

/* The words of the sub-leaf column. */
#define EACH IMPOST_X86_CPUID_EACH
#define ANY  (UINT32_MAX - 1)

/* clang-format off */
#define IMPOST_X86_CPUID_FIELD(leaf, sub, reg, high, low, NAME, KIND, flag, meaning) \
	{leaf, (sub) == ANY ? 0 : (sub), (sub) == ANY ? 0 : IMPOST_X86_CPUID_SUBLEAF, \
	 IMPOST_X86_##reg, high, low, IMPOST_X86_FIELD_##KIND, 0, #NAME, flag, meaning},
static const struct impost_x86_cpuid_field fields[] = {
#include <impost/x86_64/cpuid.def>
};
/* clang-format on */

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

const struct impost_x86_cpuid_field *impost_x86_cpuid_field(uint32_t index)
{
	return index < FIELDS ? &fields[index] : NULL;
}

const struct impost_x86_cpuid_field *impost_x86_cpuid_field_find(const char *name)
{
	for (size_t i = 0; i < FIELDS; i++) {
		if (!strcasecmp(fields[i].name, name))
			return &fields[i];
	}
	return NULL;
}

static int is_in(const struct impost_x86_cpuid_field *field, uint32_t leaf, uint32_t subleaf)
{
	if (field->leaf != leaf)
		return 0;
	return !(field->flags & IMPOST_X86_CPUID_SUBLEAF) || field->subleaf == EACH ||
	       field->subleaf == subleaf;
}

/* The number of the first field of LEAF or a higher one: the table is in order of leaves. */
static size_t first_of(uint32_t leaf)
{
	size_t low = 0, high = FIELDS;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (fields[middle].leaf < leaf)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct impost_x86_cpuid_field *impost_x86_cpuid_field_at(uint32_t leaf, uint32_t subleaf,
							       uint32_t reg, uint32_t bit)
{
	for (size_t i = first_of(leaf); i < FIELDS && fields[i].leaf == leaf; i++) {
		const struct impost_x86_cpuid_field *field = &fields[i];

		if (is_in(field, leaf, subleaf) && field->reg == reg && field->low <= bit &&
		    bit <= field->high)
			return field;
	}
	return NULL;
}

const struct impost_x86_cpuid *impost_x86_cpuid_find(const struct impost_x86_cpuid *entries,
						     uint32_t count, uint32_t leaf,
						     uint32_t subleaf)
{
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].leaf == leaf && (!(entries[i].flags & IMPOST_X86_CPUID_SUBLEAF) ||
						entries[i].subleaf == subleaf))
			return &entries[i];
	}
	return NULL;
}

uint32_t *impost_x86_cpuid_register(struct impost_x86_cpuid *entry, uint32_t reg)
{
	switch (reg) {
	case IMPOST_X86_EAX:
		return &entry->eax;
	case IMPOST_X86_EBX:
		return &entry->ebx;
	case IMPOST_X86_ECX:
		return &entry->ecx;
	case IMPOST_X86_EDX:
		return &entry->edx;
	default:
		return NULL;
	}
}

uint32_t impost_x86_cpuid_get_field(const struct impost_x86_cpuid *entries, uint32_t count,
				    const struct impost_x86_cpuid_field *field)
{
	uint32_t subleaf = field->subleaf == EACH ? 0 : field->subleaf;
	const struct impost_x86_cpuid *found;
	struct impost_x86_cpuid entry;

	found = impost_x86_cpuid_find(entries, count, field->leaf, subleaf);
	if (!found)
		return 0;
	entry = *found;
	return *impost_x86_cpuid_register(&entry, field->reg) >> field->low &
	       UINT32_MAX >> (31 - (field->high - field->low));
}
