/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID of every vCPU: what the backend supports, made right for each. */
#include <stdlib.h>
#include <string.h>

#include "boot_steps.h"

struct cpuid_table {
	struct impost_x86_cpuid *entries;
	uint32_t count;
	uint32_t capacity;
};

/* Gets what the backend supports. Free the entries, also after a failure. */
static int get_supported(const struct boot *boot, struct cpuid_table *ret_table)
{
	struct cpuid_table *table = ret_table;
	uint32_t capacity = 128;
	int err;

	do {
		free(table->entries);
		table->count = capacity;
		table->entries = calloc(capacity, sizeof(*table->entries));
		if (!table->entries)
			return impost_error_set(boot->ctx, -ENOMEM,
						"boot: no memory for %u CPUID entries", capacity);
		err = impost_vm_cpuid_supported(boot->vm, table->entries, capacity, &table->count);
	} while (err == -ENOSPC && table->count > capacity && (capacity = table->count));
	return err;
}

/* Sets the CPUID of vCPU number INDEX, or of the VM, made in SCRATCH from what is supported. */
static int set_cpuid(const struct boot *boot, uint32_t index, const struct cpuid_table *supported,
		     struct cpuid_table *scratch)
{
	struct impost_vcpu *vcpu = boot->vcpus[index];
	struct impost_x86_topology topology;
	const struct impost_x86_cpuid_config config = {
		.size = sizeof(config),
		.irqchip = impost_vm_irqchip(boot->vm),
		.apic_id = impost_vcpu_id(vcpu),
		.topology = &topology,
	};
	int err;

	impost_x86_topology_flat(&topology, boot->count);
	memcpy(scratch->entries, supported->entries, supported->count * sizeof(*scratch->entries));
	scratch->count = supported->count;
	err = impost_x86_setup_cpuid(boot->ctx, &config, scratch->entries, scratch->capacity,
				     &scratch->count);
	if (err < 0)
		return err;
	if (impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM))
		return impost_vm_set_cpuid(boot->vm, scratch->entries, scratch->count);
	return impost_vcpu_set_cpuid(vcpu, scratch->entries, scratch->count);
}

int boot_set_cpuid(const struct boot *boot)
{
	int per_vm = impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM);
	struct cpuid_table supported = {.count = 0}, scratch = {.count = 0};
	uint32_t times = per_vm ? 1 : boot->count;
	int err;

	err = get_supported(boot, &supported);
	if (err == 0) {
		scratch.capacity = supported.count + IMPOST_X86_CPUID_ADDED;
		scratch.entries = calloc(scratch.capacity, sizeof(*scratch.entries));
		if (!scratch.entries)
			err = impost_error_set(boot->ctx, -ENOMEM,
					       "boot: no memory for %u CPUID entries",
					       scratch.capacity);
	}
	for (uint32_t i = 0; err == 0 && i < times; i++)
		err = set_cpuid(boot, i, &supported, &scratch);
	free(scratch.entries);
	free(supported.entries);
	return err;
}
