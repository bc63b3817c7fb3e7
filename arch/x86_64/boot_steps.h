/* SPDX-License-Identifier: Apache-2.0 */
/* What is being booted, and the steps that impost_x86_boot() takes in turn. */
#ifndef ARCH_X86_64_BOOT_STEPS_H
#define ARCH_X86_64_BOOT_STEPS_H

#include <impost/x86_64/boot.h>

/* What is being booted, through all steps. */
struct boot {
	struct impost_vm *vm;
	struct impost_context *ctx;
	struct impost_memory *memory;
	struct impost_vcpu *const *vcpus;
	uint32_t count;
	const struct impost_x86_boot_config *config;
	struct impost_x86_boot_result result;
	struct impost_x86_paging paging;
	uint64_t cr3;
};

/* Loads files and writes tables. */
int boot_fill_memory(struct boot *boot);

/* CPUID of every vCPU. */
int boot_set_cpuid(const struct boot *boot);

/* Boot MSRs of every vCPU. */
int boot_set_msrs(const struct boot *boot);

/* Registers, FPU and local APIC of the boot CPU. */
int boot_set_registers(const struct boot *boot);

/* The boot CPU runs, the others wait for SIPI (SDM vol. 3, 9.4.3), which needs a local APIC. */
int boot_set_runstates(const struct boot *boot);

#endif
