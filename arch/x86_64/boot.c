/* SPDX-License-Identifier: Apache-2.0 */
/* All of it: memory, tables and registers, so that running the first vCPU boots the kernel. */
#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/boot.h>

#define MSRS_MAX 32u

/* Levels of leaf 0xB and 0x1F that setup_cpuid fills in: threads and cores. */
#define TOPOLOGY_LEVELS 2u

/* What is being booted, through all steps. */
struct boot {
	struct impost_vm *vm;
	struct impost_context *ctx;
	struct impost_memory *memory;
	struct impost_vcpu *const *vcpus;
	uint32_t count;
	const struct impost_x86_boot_config *config;
	struct impost_x86_boot_result result;
	uint64_t cr3;
};

/* What the first release knew of a configuration: a host's may be shorter or longer than ours. */
#define LEAST_CONFIG (offsetof(struct impost_x86_boot_config, cmdline) + sizeof(const char *))

void impost_x86_boot_config_fill(struct impost_context *ctx, struct impost_x86_boot_config *config)
{
	const struct impost_x86_boot_config filled = {
		.size = config->size,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.cmdline = impost_context_get(ctx, "boot", "cmdline"),
	};
	size_t size = config->size;

	memset(config, 0, size);
	memcpy(config, &filled, size < sizeof(filled) ? size : sizeof(filled));
}

static int check_args(const struct boot *boot)
{
	const struct impost_x86_boot_config *config = boot->config;

	if (config->size < LEAST_CONFIG)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: the configuration's size is %u: fill it with "
					"impost_x86_boot_config_init()",
					config->size);
	if (config->kernel_fd < 0)
		return impost_error_set(boot->ctx, -EINVAL, "boot: no kernel is given");
	if (!boot->count)
		return impost_error_set(boot->ctx, -EINVAL, "boot: no vCPU is given");
	for (uint32_t i = 0; i < boot->count; i++) {
		if (!boot->vcpus[i])
			return impost_error_set(boot->ctx, -EINVAL, "boot: vCPU number %u is NULL",
						i);
		if (impost_vcpu_vm(boot->vcpus[i]) != boot->vm)
			return impost_error_set(boot->ctx, -EINVAL,
						"boot: vCPU number %u belongs to another VM", i);
	}
	if (impost_vcpu_id(boot->vcpus[0]) != 0)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: the first vCPU must be number 0, the boot CPU");
	return 0;
}

/* Loads files and writes tables. */
static int fill_memory(struct boot *boot)
{
	const struct impost_x86_boot_config *config = boot->config;
	struct impost_x86_boot_result *result = &boot->result;
	int err;

	err = impost_x86_load_kernel(boot->memory, config->kernel_fd, &result->kernel);
	if (err == 0 && config->initrd_fd >= 0)
		err = impost_x86_load_initrd(boot->memory, config->initrd_fd, &result->kernel,
					     &result->initrd);
	if (err == 0)
		err = impost_x86_write_zero_page(boot->memory, &result->kernel,
						 config->cmdline ? config->cmdline : "",
						 result->initrd.bytes ? &result->initrd : NULL);
	if (err == 0)
		err = impost_x86_write_gdt(boot->memory);
	if (err == 0)
		err = impost_x86_write_page_tables(boot->memory, &boot->cr3);
	return err;
}

/* --- CPUID --- */

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

static int set_all_cpuid(const struct boot *boot)
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

/* --- MSRs --- */

struct msr_list {
	uint32_t *indices;
	uint32_t count;
};

/* Gets the MSRs that the backend says it has. Free the indices, also after a failure. */
static int get_msr_list(const struct boot *boot, struct msr_list *ret_list)
{
	uint32_t capacity = 256;
	int err;

	do {
		free(ret_list->indices);
		ret_list->count = capacity;
		ret_list->indices = calloc(capacity, sizeof(*ret_list->indices));
		if (!ret_list->indices)
			return impost_error_set(boot->ctx, -ENOMEM,
						"boot: no memory for %u MSR indices", capacity);
		err = impost_vm_msr_list(boot->vm, ret_list->indices, capacity, &ret_list->count);
	} while (err == -ENOSPC && ret_list->count > capacity && (capacity = ret_list->count));
	return err;
}

static int is_listed(const struct msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->indices[i] == index)
			return 1;
	}
	return 0;
}

/*
 * Sets the boot MSRs of VCPU. One that the backend does not list (lists are incomplete: KVM's has
 * no MTRRs) is tried too, and may be refused: then it does not exist here.
 */
static int set_msrs(struct impost_vcpu *vcpu, const struct msr_list *list)
{
	struct impost_x86_msr msrs[MSRS_MAX];
	uint32_t count, done, at = 0;
	int err;

	err = impost_x86_setup_msrs(msrs, MSRS_MAX, &count);
	while (err == 0 && at < count) {
		done = 0;
		err = impost_vcpu_set_msrs(vcpu, msrs + at, count - at, &done);
		at += done;
		if (err < 0 && at < count && !is_listed(list, msrs[at].index)) {
			err = 0;
			at++;
		}
	}
	return err;
}

static int set_all_msrs(const struct boot *boot)
{
	struct msr_list list = {NULL, 0};
	int err;

	err = get_msr_list(boot, &list);
	for (uint32_t i = 0; err == 0 && i < boot->count; i++)
		err = set_msrs(boot->vcpus[i], &list);
	free(list.indices);
	return err;
}

/* --- the boot CPU --- */

static int set_fpu(const struct boot *boot, struct impost_vcpu *vcpu)
{
	uint32_t bytes = IMPOST_X86_XSAVE_MAX;
	struct impost_x86_xsave *xsave;
	int err;

	xsave = aligned_alloc(_Alignof(struct impost_x86_xsave), bytes);
	if (!xsave)
		return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for the FPU's state");
	err = impost_vcpu_get(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes, &bytes);
	if (err == 0) {
		impost_x86_setup_fpu(xsave);
		err = impost_vcpu_set(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes);
	}
	free(xsave);
	return err;
}

static int set_lapic(struct impost_vcpu *vcpu)
{
	struct impost_x86_lapic lapic;
	uint32_t bytes;
	int err;

	err = impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes);
	if (err < 0)
		return err;
	impost_x86_setup_lapic(&lapic);
	return impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, bytes);
}

static int set_boot_cpu(const struct boot *boot)
{
	struct impost_vcpu *vcpu = boot->vcpus[0];
	struct impost_x86_sregs sregs;
	struct impost_x86_regs regs;
	int err;

	err = impost_vcpu_get_sregs(vcpu, &sregs);
	if (err < 0)
		return err;
	impost_x86_setup_sregs(&sregs, boot->cr3);
	impost_x86_setup_regs(&regs, boot->result.kernel.entry, IMPOST_X86_ZERO_PAGE_ADDR);
	err = impost_vcpu_set_sregs(vcpu, &sregs);
	if (err == 0)
		err = impost_vcpu_set_regs(vcpu, &regs);
	if (err == 0)
		err = set_fpu(boot, vcpu);
	if (err == 0 && impost_vm_irqchip(boot->vm) != IMPOST_IRQCHIP_NONE)
		err = set_lapic(vcpu);
	return err;
}

/* The boot CPU runs, the others wait for SIPI (SDM vol. 3, 9.4.3), which needs a local APIC. */
static int set_runstates(const struct boot *boot)
{
	uint32_t count = impost_vm_irqchip(boot->vm) == IMPOST_IRQCHIP_NONE ? 1 : boot->count;
	int err = 0;

	for (uint32_t i = 0; i < count && err == 0; i++) {
		struct impost_x86_runstate runstate = {
			.size = sizeof(runstate),
			.state = i == 0 ? IMPOST_X86_RUNNING : IMPOST_X86_WAIT_FOR_SIPI,
		};

		err = impost_vcpu_set(boot->vcpus[i], IMPOST_SECTION_RUNSTATE, &runstate,
				      sizeof(runstate));
	}
	return err;
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
		.config = config,
	};
	int err;

	err = check_args(&boot);
	if (err == 0)
		err = fill_memory(&boot);
	if (err == 0)
		err = set_all_cpuid(&boot);
	if (err == 0)
		err = set_boot_cpu(&boot);
	if (err == 0)
		err = set_all_msrs(&boot);
	if (err == 0)
		err = set_runstates(&boot);
	if (err == 0 && ret_result)
		*ret_result = boot.result;
	return err;
}
