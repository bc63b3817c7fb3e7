/* SPDX-License-Identifier: Apache-2.0 */
/* All of it: memory, tables and registers, so that running the first vCPU boots the kernel. */
#include <stdlib.h>
#include <string.h>

#include "boot_steps.h"
#include "places.h"
#include "structure.h"

/* What the first release knew of its structs: a host's may be shorter or longer than ours. */
#define LEAST_CONFIG (offsetof(struct impost_x86_boot_config, without) + sizeof(uint32_t))
#define LEAST_RESULT (offsetof(struct impost_x86_boot_result, info) + sizeof(uint64_t))

#define WITHOUT_ALL  (IMPOST_X86_TABLE_ACPI | IMPOST_X86_TABLE_MP | IMPOST_X86_TABLE_SMBIOS)

/* --- configuration --- */

/* A value of CTX's that is one of a protocol's or a mode's names; 0: none. */
static uint32_t named(struct impost_context *ctx, const char *key,
		      int (*from_name)(const char *name, uint32_t *ret_value))
{
	const char *name = impost_context_get(ctx, "boot", key);
	uint32_t value = 0;

	if (name)
		from_name(name, &value);
	return value;
}

void impost_x86_boot_config_fill(struct impost_context *ctx, struct impost_x86_boot_config *config)
{
	struct impost_x86_boot_config filled = {
		.size = config->size,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.protocol = named(ctx, "protocol", impost_x86_protocol_from_name),
		.mode = named(ctx, "mode", impost_x86_mode_from_name),
		.cmdline = impost_context_get(ctx, "boot", "cmdline"),
		.template_name = impost_context_get(ctx, "cpu", "template"),
		.brand = impost_context_get(ctx, "cpu", "brand"),
	};
	size_t size = config->size;

	if (impost_context_get(ctx, "boot", "address"))
		impost_context_get_number(ctx, "boot", "address", &filled.address);
	memset(config, 0, size);
	memcpy(config, &filled, size < sizeof(filled) ? size : sizeof(filled));
}

int impost_x86_boot_topology(struct impost_context *ctx, uint32_t cpus,
			     struct impost_x86_topology *ret_topology)
{
	const char *text = impost_context_get(ctx, "cpu", "topology");
	struct impost_x86_topology topology;
	int err = 0;

	if (text)
		err = impost_x86_topology_parse(ctx, text, &topology);
	else
		impost_x86_topology_flat(&topology, cpus);
	if (err == 0)
		err = impost_x86_topology_check(ctx, &topology, cpus);
	if (err == 0)
		*ret_topology = topology;
	return err;
}

/* --- what is given --- */

static int take_config(struct boot *boot, const struct impost_x86_boot_config *config)
{
	int err = structure_take(boot->ctx, "impost_x86_boot_config", &boot->config,
				 sizeof(boot->config), config, LEAST_CONFIG);

	if (err < 0)
		return err;
	err = structure_check_reserved(boot->ctx, "impost_x86_boot_config", boot->config.reserved);
	if (err < 0)
		return err;
	if (boot->config.kernel_fd < 0)
		return impost_error_set(boot->ctx, -EINVAL, "boot: no kernel is given");
	if (boot->config.without & ~WITHOUT_ALL)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: without = %#x: there are no such tables",
					boot->config.without);
	if (boot->config.paging_levels && boot->config.paging_levels != 4 &&
	    boot->config.paging_levels != 5)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: %u levels of page tables: in long mode there are 4 "
					"or 5",
					boot->config.paging_levels);
	err = places_check(boot->ctx, boot->config.layout);
	if (err == 0)
		places_copy(boot->config.layout, &boot->layout);
	return err;
}

/* The vCPUs are those of the topology: their ids are its APIC ids. */
static int check_vcpu(const struct boot *boot, uint32_t index)
{
	const struct impost_x86_topology *t = &boot->topology;
	const struct impost_vcpu *vcpu = boot->vcpus[index];
	uint32_t id = impost_x86_apic_id(t, index);

	if (!vcpu)
		return impost_error_set(boot->ctx, -EINVAL, "boot: vCPU number %u is NULL", index);
	if (impost_vcpu_vm(vcpu) != boot->vm)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: vCPU number %u belongs to another VM", index);
	if (impost_vcpu_id(vcpu) != id)
		return impost_error_set(
			boot->ctx, -EINVAL,
			"boot: vCPU number %u has id %u, but in topology %u:%u:%u:%u its APIC id "
			"is %u: create it with the id that impost_x86_apic_id() gives",
			index, impost_vcpu_id(vcpu), t->sockets, t->dies, t->cores, t->threads, id);
	boot->apic_ids[index] = id;
	return 0;
}

static int check_vcpus(struct boot *boot)
{
	int err;

	if (!boot->count || !boot->vcpus)
		return impost_error_set(boot->ctx, -EINVAL, "boot: no vCPU is given");
	if (boot->config.topology) {
		boot->topology = *boot->config.topology;
		err = impost_x86_topology_check(boot->ctx, &boot->topology, boot->count);
	} else {
		err = impost_x86_boot_topology(boot->ctx, boot->count, &boot->topology);
	}
	if (err < 0)
		return err;
	boot->apic_ids = calloc(boot->count, sizeof(*boot->apic_ids));
	if (!boot->apic_ids)
		return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for %u APIC ids",
					boot->count);
	for (uint32_t i = 0; err == 0 && i < boot->count; i++)
		err = check_vcpu(boot, i);
	return err;
}

int boot_has_lapics(const struct boot *boot)
{
	return impost_vm_irqchip(boot->vm) != IMPOST_IRQCHIP_NONE;
}

int boot_has_x2apics(const struct boot *boot)
{
	return boot_has_lapics(boot) && boot->apic_ids[boot->count - 1] > XAPIC_ID_MAX;
}

/* --- all of it --- */

/* Files and tables come first: what is wrong with them is known before a vCPU is touched. */
static int (*const steps[])(struct boot *boot) = {
	boot_prepare_cpuid, /* before page tables, whose pages are as large as it says */
	boot_load,	    boot_check_features,
	boot_write_tables,  boot_write_entry, /* after all that the memory map tells of */
	boot_set_cpuid, /* before other state: hypervisors freeze it there, or judge by it */
	boot_set_registers, boot_set_msrs, /* after the registers: APIC base and EFER are both */
	boot_set_runstates,
};

static void give_result(const struct boot *boot, struct impost_x86_boot_result *ret_result)
{
	struct impost_x86_boot_result result = {
		.protocol = boot->kernel.protocol,
		.mode = boot->kernel.mode,
		.tables = boot->tables,
		.entry = boot->kernel.entry,
		.kernel_start = boot->kernel.start,
		.kernel_end = boot->kernel.end,
		.initrd_gpa = boot->initrd.gpa,
		.initrd_bytes = boot->initrd.bytes,
		.cr3 = boot->cr3,
		.rsdp = boot->rsdp,
		.info = boot->info,
	};

	structure_give(ret_result, &result, sizeof(result));
}

/* The places, whatever else a host's layout has that is longer than ours. */
static void give_layout(const struct boot *boot, struct impost_x86_layout *ret_layout)
{
	ret_layout->count = boot->layout.count;
	memcpy(ret_layout->place, boot->layout.place,
	       boot->layout.count * sizeof(boot->layout.place[0]));
}

static void boot_end(struct boot *boot)
{
	impost_x86_template_free(boot->opened);
	free(boot->cpuid.entries);
	free(boot->apic_ids);
}

int impost_x86_boot(struct impost_vm *vm, struct impost_vcpu *const *vcpus, uint32_t count,
		    const struct impost_x86_boot_config *config,
		    struct impost_x86_boot_result *ret_result)
{
	struct boot boot = {
		.vm = vm,
		.ctx = impost_vm_context(vm),
		.memory = impost_vm_memory(vm),
		.vcpus = vcpus,
		.count = count,
	};
	int err = 0;

	if (ret_result)
		err = structure_check_size(boot.ctx, "impost_x86_boot_result", ret_result,
					   LEAST_RESULT);
	if (err == 0)
		err = take_config(&boot, config);
	if (err == 0)
		err = check_vcpus(&boot);
	for (size_t i = 0; err == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
		err = steps[i](&boot);
	if (err == 0 && ret_result)
		give_result(&boot, ret_result);
	if (err == 0 && boot.config.layout)
		give_layout(&boot, boot.config.layout);
	boot_end(&boot);
	return err;
}
