/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing an x86_64 guest up: kernels, tables and registers, against the neutral interface alone.
 * Each step is usable by itself; impost_x86_boot() puts them together. Functions on one object
 * follow that object's thread rules; error texts go to the context of the VM or map that is given.
 */
#ifndef IMPOST_X86_64_BOOT_H
#define IMPOST_X86_64_BOOT_H

#include <stddef.h>

#include <impost/memory.h>
#include <impost/vcpu.h>
#include <impost/vm.h>
#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/kernel.h>
#include <impost/x86_64/layout.h>
#include <impost/x86_64/registers.h>
#include <impost/x86_64/state.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- all of it --- */

/* What to boot. */
struct impost_x86_boot_config {
	uint32_t size;	   /* set by impost_x86_boot_config_init() */
	int32_t kernel_fd; /* the caller's; not closed */
	int32_t initrd_fd; /* -1: none */
	uint32_t reserved;
	const char *cmdline; /* NULL: "" */
};

/* What came of it. */
struct impost_x86_boot_result {
	struct impost_x86_kernel kernel;
	struct impost_x86_initrd initrd; /* bytes 0: none */
};

/*
 * Fills CONFIG with no kernel (-1), no initrd (-1), and `[boot] cmdline` of CTX. _fill wants its
 * `size` set and fills so much of it; _init sets it first.
 */
IMPOST_API void impost_x86_boot_config_fill(struct impost_context *ctx,
					    struct impost_x86_boot_config *config);
static inline void impost_x86_boot_config_init(struct impost_context *ctx,
					       struct impost_x86_boot_config *ret_config)
{
	ret_config->size = sizeof(*ret_config);
	impost_x86_boot_config_fill(ctx, ret_config);
}

/*
 * Sets COUNT vCPUs and the memory of VM up, so that running VCPUS[0], which must be vCPU 0, boots
 * the kernel; the others keep their reset state and wait for SIPI. In a VM with IMPOST_IRQCHIP_NONE
 * the others' run state is left alone: who emulates their local APICs starts them. Every vCPU gets
 * CPUID and the boot MSRs; one of these that the backend neither lists (impost_vm_msr_list()) nor
 * takes does not exist there and is left out. RAM must be there (impost_x86_add_ram()). RET_RESULT
 * may be NULL.
 *
 * -EINVAL: no kernel, no vCPU, a NULL one, one of another VM, or VCPUS[0] is not vCPU 0; else
 * errors are those of the steps. After a failure memory and vCPUs may be set up in part: call again
 * with what is right, or destroy the VM.
 */
IMPOST_API int impost_x86_boot(struct impost_vm *vm, struct impost_vcpu *const *vcpus,
			       uint32_t count, const struct impost_x86_boot_config *config,
			       struct impost_x86_boot_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
