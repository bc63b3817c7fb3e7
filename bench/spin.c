/* SPDX-License-Identifier: Apache-2.0 */
/* See spin.h. */
#include "spin.h"

#include <stdio.h>

#include "cases.h"

int spin_create(struct impost_context *ctx, int guest, uint32_t kick_by, uint64_t bytes,
		struct spin *spin)
{
	struct impost_vm_config config;
	struct impost_x86_boot_config boot;

	if (impost_vm_config_init(ctx, &config))
		return failed(ctx, "configuration");
	config.backend = "kvm";
	config.kick_by = kick_by;
	config.memory = bytes;
	impost_x86_boot_config_init(ctx, &boot);
	boot.kernel_fd = guest;
	if (impost_vm_create(ctx, &config, &spin->vm) ||
	    impost_x86_add_ram(impost_vm_memory(spin->vm), bytes) ||
	    impost_vcpu_create(spin->vm, 0, &spin->vcpu) ||
	    impost_x86_boot(spin->vm, &spin->vcpu, 1, &boot, NULL))
		return failed(ctx, "libimpost");
	return 0;
}

int spin_exits(struct impost_context *ctx, const struct spin *spin, uint64_t count)
{
	struct impost_exit exit;

	for (uint64_t i = 0; i < count; i++) {
		if (impost_vcpu_run(spin->vcpu, &exit))
			return failed(ctx, "impost_vcpu_run");
		if (exit.kind != IMPOST_EXIT_IO || exit.u.io.port != SPIN_PORT) {
			fprintf(stderr, "libimpost: exit %s\n", impost_exit_name(&exit));
			return -1;
		}
	}
	return 0;
}

void spin_destroy(struct spin *spin)
{
	impost_vcpu_destroy(spin->vcpu);
	impost_vm_destroy(spin->vm);
	*spin = (struct spin){.vm = NULL};
}
