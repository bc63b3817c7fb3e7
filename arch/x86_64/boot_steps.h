/* SPDX-License-Identifier: Apache-2.0 */
/* What is being booted, and the steps that impost_x86_boot() takes in turn. */
#ifndef ARCH_X86_64_BOOT_STEPS_H
#define ARCH_X86_64_BOOT_STEPS_H

#include <impost/x86_64/boot.h>

/* The highest APIC id of xAPIC mode: 255 is everybody (SDM vol. 3, 11.12.1). */
#define XAPIC_ID_MAX 254u

/* CPUID entries, with room for those that the topology needs. */
struct cpuid_table {
	struct impost_x86_cpuid *entries;
	uint32_t count;
	uint32_t capacity;
};

/* What is being booted, through all steps. */
struct boot {
	struct impost_vm *vm;
	struct impost_context *ctx;
	struct impost_memory *memory;
	struct impost_vcpu *const *vcpus;
	uint32_t count;
	struct impost_x86_boot_config config; /* whole, whatever the host's is */
	struct impost_x86_topology topology;
	struct impost_x86_layout layout; /* the host's places and ours */
	struct cpuid_table cpuid;	 /* what the backend supports and the template leaves */
	const struct impost_x86_template *cpu_template; /* NULL: none */
	struct impost_x86_template *opened;		/* the same, if it is ours to free */
	struct impost_x86_kernel kernel;
	struct impost_x86_initrd initrd; /* bytes 0: none */
	struct impost_x86_paging paging;
	uint32_t *apic_ids;
	struct impost_x86_acpi_config acpi; /* the host's, with what the VM itself answers */
	uint32_t tables;		    /* IMPOST_X86_TABLE_* that were written */
	uint64_t cr3, rsdp, info;
};

/* Whether the vCPUs have local APICs, and whether these are in x2APIC mode. */
int boot_has_lapics(const struct boot *boot);
int boot_has_x2apics(const struct boot *boot);

/* Opens the CPU template, and makes the CPUID that all vCPUs start from. */
int boot_prepare_cpuid(struct boot *boot);

/* Reads and loads kernel and initrd; the RAM that the guest starts with is taken from here on. */
int boot_load(struct boot *boot);

/* Judges whether the CPU has what the kernel's entry and the RAM take. */
int boot_check_features(struct boot *boot);

/* Writes ACPI, MP and SMBIOS tables. */
int boot_write_tables(struct boot *boot);

/* Writes what the kernel's entry needs: GDT, page tables, and the block that tells the guest. */
int boot_write_entry(struct boot *boot);

/* CPUID of every vCPU. */
int boot_set_cpuid(struct boot *boot);

/* Registers, FPU and local APICs. */
int boot_set_registers(struct boot *boot);

/* MSRs of every vCPU: those of booting, the template's, MTRRs. */
int boot_set_msrs(struct boot *boot);

/* The boot CPU runs, the others wait for SIPI (SDM vol. 3, 9.4.3), which needs a local APIC. */
int boot_set_runstates(struct boot *boot);

#endif
