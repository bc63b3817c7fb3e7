/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID of every vCPU: what the backend supports, made right for each. */
#include <stdlib.h>
#include <string.h>

#include "boot_steps.h"

/* Levels of leaf 0xB and 0x1F that setup_cpuid fills in: threads and cores. */
#define TOPOLOGY_LEVELS 2u

struct cpuid_table {
	struct impost_x86_cpuid *entries;
	uint32_t count;
};

/*
 * Sees to it that LEAF, if TABLE has it, has an entry for each level of the topology: hypervisors
 * give the first only, as they cannot know the guest's.
 */
static void add_levels(struct cpuid_table *table, uint32_t leaf, uint32_t max)
{
	uint32_t have = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		if (table->entries[i].leaf == leaf && table->entries[i].subleaf < TOPOLOGY_LEVELS)
			have |= 1u << table->entries[i].subleaf;
	}
	for (uint32_t level = 0; have & 1 && level < TOPOLOGY_LEVELS; level++) {
		if (!(have >> level & 1) && table->count < max)
			table->entries[table->count++] = (struct impost_x86_cpuid){
				.leaf = leaf,
				.subleaf = level,
				.flags = IMPOST_X86_CPUID_SUBLEAF,
			};
	}
}

/* Gets what the backend supports. Free the entries, also after a failure. */
static int get_supported(const struct boot *boot, struct cpuid_table *ret_table)
{
	uint32_t capacity = 128, max = impost_vm_caps(boot->vm)->max_cpuid;
	struct cpuid_table *table = ret_table;
	int err;

	do {
		free(table->entries);
		table->count = capacity;
		table->entries =
			calloc(capacity + (size_t)2 * TOPOLOGY_LEVELS, sizeof(*table->entries));
		if (!table->entries)
			return impost_error_set(boot->ctx, -ENOMEM,
						"boot: no memory for %u CPUID entries", capacity);
		err = impost_vm_cpuid_supported(boot->vm, table->entries, capacity, &table->count);
	} while (err == -ENOSPC && table->count > capacity && (capacity = table->count));
	if (err < 0)
		return err;
	if (!max || max > capacity + 2 * TOPOLOGY_LEVELS)
		max = capacity + 2 * TOPOLOGY_LEVELS;
	add_levels(table, 0x0b, max);
	add_levels(table, 0x1f, max);
	return 0;
}

/* Sets the CPUID of vCPU number INDEX, or of the VM. */
static int set_cpuid(const struct boot *boot, uint32_t index, const struct cpuid_table *supported,
		     struct impost_x86_cpuid *scratch)
{
	struct impost_vcpu *vcpu = boot->vcpus[index];

	memcpy(scratch, supported->entries, supported->count * sizeof(*scratch));
	impost_x86_setup_cpuid(scratch, supported->count, impost_vcpu_id(vcpu), boot->count,
			       impost_vm_irqchip(boot->vm));
	if (impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM))
		return impost_vm_set_cpuid(boot->vm, scratch, supported->count);
	return impost_vcpu_set_cpuid(vcpu, scratch, supported->count);
}

int boot_set_cpuid(const struct boot *boot)
{
	int per_vm = impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM);
	uint32_t times = per_vm ? 1 : boot->count;
	struct cpuid_table supported = {NULL, 0};
	struct impost_x86_cpuid *scratch = NULL;
	int err;

	err = get_supported(boot, &supported);
	if (err == 0) {
		scratch = calloc(supported.count ? supported.count : 1, sizeof(*scratch));
		if (!scratch)
			err = impost_error_set(boot->ctx, -ENOMEM,
					       "boot: no memory for %u CPUID entries",
					       supported.count);
	}
	for (uint32_t i = 0; err == 0 && i < times; i++)
		err = set_cpuid(boot, i, &supported, scratch);
	free(scratch);
	free(supported.entries);
	return err;
}
