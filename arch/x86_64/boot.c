/* SPDX-License-Identifier: Apache-2.0 */
/* All of it: memory, tables and registers, so that running the first vCPU boots the kernel. */
#include <string.h>

#include "boot_steps.h"

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
		err = boot_fill_memory(&boot);
	if (err == 0)
		err = boot_set_cpuid(&boot);
	if (err == 0)
		err = boot_set_registers(&boot);
	if (err == 0)
		err = boot_set_msrs(&boot);
	if (err == 0)
		err = boot_set_runstates(&boot);
	if (err == 0 && ret_result)
		*ret_result = boot.result;
	return err;
}
