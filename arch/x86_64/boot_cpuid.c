/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID of every vCPU: what the backend supports and the template leaves, made right for each. */
#include <stdlib.h>
#include <string.h>

#include "boot_steps.h"

static int no_memory(const struct boot *boot, uint32_t count)
{
	return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for %u CPUID entries", count);
}

/* Gets what the backend supports, with room behind it as far as the backend takes more. */
static int get_supported(struct boot *boot)
{
	uint32_t capacity = 128, max = impost_vm_caps(boot->vm)->max_cpuid;
	struct cpuid_table *table = &boot->cpuid;
	int err;

	do {
		free(table->entries);
		table->count = capacity;
		table->entries =
			calloc((size_t)capacity + IMPOST_X86_CPUID_ADDED, sizeof(*table->entries));
		if (!table->entries)
			return no_memory(boot, capacity);
		err = impost_vm_cpuid_supported(boot->vm, table->entries, capacity, &table->count);
	} while (err == -ENOSPC && table->count > capacity && (capacity = table->count));
	table->capacity = capacity + IMPOST_X86_CPUID_ADDED;
	if (max && table->capacity > max)
		table->capacity = max > table->count ? max : table->count;
	return err;
}

static int open_template(struct boot *boot)
{
	int err = 0;

	boot->cpu_template = boot->config.cpu_template;
	if (!boot->cpu_template && boot->config.template_name) {
		err = impost_x86_template_open(boot->ctx, boot->config.template_name,
					       boot->cpuid.entries, boot->cpuid.count,
					       &boot->opened);
		boot->cpu_template = boot->opened;
	}
	return err;
}

int boot_prepare_cpuid(struct boot *boot)
{
	int err;

	err = get_supported(boot);
	if (err == 0)
		err = open_template(boot);
	if (err == 0 && boot->cpu_template)
		err = impost_x86_template_apply(boot->ctx, boot->cpu_template, boot->cpuid.entries,
						boot->cpuid.capacity, &boot->cpuid.count, NULL,
						NULL);
	return err;
}

/* Sets the CPUID of vCPU number INDEX, or of the VM. */
static int set_one(struct boot *boot, uint32_t index, struct impost_x86_cpuid *scratch)
{
	const struct impost_x86_cpuid_config config = {
		.size = sizeof(config),
		.irqchip = impost_vm_irqchip(boot->vm),
		.apic_id = boot->apic_ids[index],
		.topology = &boot->topology,
		.brand = boot->config.brand,
	};
	uint32_t count = boot->cpuid.count;
	int err;

	memcpy(scratch, boot->cpuid.entries, count * sizeof(*scratch));
	err = impost_x86_setup_cpuid(boot->ctx, &config, scratch, boot->cpuid.capacity, &count);
	if (err < 0)
		return err;
	if (impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM))
		return impost_vm_set_cpuid(boot->vm, scratch, count);
	return impost_vcpu_set_cpuid(boot->vcpus[index], scratch, count);
}

int boot_set_cpuid(struct boot *boot)
{
	int per_vm = impost_caps_has(impost_vm_caps(boot->vm), IMPOST_CAP_CPUID_PER_VM);
	uint32_t times = per_vm ? 1 : boot->count;
	struct impost_x86_cpuid *scratch;
	int err = 0;

	scratch = calloc(boot->cpuid.capacity ? boot->cpuid.capacity : 1, sizeof(*scratch));
	if (!scratch)
		return no_memory(boot, boot->cpuid.capacity);
	for (uint32_t i = 0; err == 0 && i < times; i++)
		err = set_one(boot, i, scratch);
	free(scratch);
	return err;
}
