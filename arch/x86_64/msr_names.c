/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs and their fields by name and by number. */
#include <stddef.h>
#include <strings.h>

#include <impost/x86_64/cpuid.h>

/* clang-format off */
#define IMPOST_X86_MSR(index, NAME, KIND, meaning) {index, IMPOST_X86_MSR_##KIND, #NAME, meaning},
static const struct impost_x86_msr_info msrs[] = {
#include <impost/x86_64/msrs.def>
};

#define IMPOST_X86_MSR_FIELD(MSR, high, low, NAME, KIND, meaning) \
	{IMPOST_X86_MSR_##MSR, IMPOST_X86_FIELD_##KIND, high, low, #MSR "." #NAME, meaning},
static const struct impost_x86_msr_field fields[] = {
#include <impost/x86_64/msrs.def>
};
/* clang-format on */

#define MSRS   (sizeof(msrs) / sizeof(msrs[0]))
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

const struct impost_x86_msr_info *impost_x86_msr_info(uint32_t number)
{
	return number < MSRS ? &msrs[number] : NULL;
}

const struct impost_x86_msr_info *impost_x86_msr_info_at(uint32_t index)
{
	size_t from = 0, to = MSRS; /* they are in order of index */

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (msrs[middle].index == index)
			return &msrs[middle];
		if (msrs[middle].index < index)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

const struct impost_x86_msr_info *impost_x86_msr_info_find(const char *name)
{
	for (size_t i = 0; i < MSRS; i++) {
		if (!strcasecmp(msrs[i].name, name))
			return &msrs[i];
	}
	return NULL;
}

const struct impost_x86_msr_field *impost_x86_msr_field(uint32_t number)
{
	return number < FIELDS ? &fields[number] : NULL;
}

const struct impost_x86_msr_field *impost_x86_msr_field_at(uint32_t index, uint32_t bit)
{
	for (size_t i = 0; i < FIELDS; i++) {
		if (fields[i].index == index && fields[i].low <= bit && bit <= fields[i].high)
			return &fields[i];
	}
	return NULL;
}

const struct impost_x86_msr_field *impost_x86_msr_field_find(const char *name)
{
	for (size_t i = 0; i < FIELDS; i++) {
		if (!strcasecmp(fields[i].name, name))
			return &fields[i];
	}
	return NULL;
}
