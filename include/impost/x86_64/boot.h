/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing an x86_64 guest up. Each step is a public function of its own, in the headers that this
 * one includes, and usable by itself; impost_x86_boot() puts them together.
 */
#ifndef IMPOST_X86_64_BOOT_H
#define IMPOST_X86_64_BOOT_H

#include <stddef.h>

#include <impost/vcpu.h>
#include <impost/vm.h>
#include <impost/x86_64/acpi.h>
#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/kernel.h>
#include <impost/x86_64/layout.h>
#include <impost/x86_64/mptable.h>
#include <impost/x86_64/registers.h>
#include <impost/x86_64/smbios.h>
#include <impost/x86_64/template.h>

/* Tables that tell the guest of its machine. */
#define IMPOST_X86_TABLE_ACPI	1u
#define IMPOST_X86_TABLE_MP	2u
#define IMPOST_X86_TABLE_SMBIOS 4u

/*
 * What to boot, and as what. All but kernel_fd may be left as impost_x86_boot_config_init() fills
 * it. What is pointed to is the caller's, and is needed during the call only.
 */
struct impost_x86_boot_config {
	uint32_t size;		/* set by impost_x86_boot_config_init() */
	int32_t kernel_fd;	/* not closed */
	int32_t initrd_fd;	/* not closed; -1: none */
	uint32_t protocol;	/* IMPOST_X86_PROTOCOL_*: `[boot] protocol` */
	uint32_t mode;		/* IMPOST_X86_MODE_*, of a flat binary: `[boot] mode`; 0: long */
	uint32_t paging_levels; /* at entry in long mode: 4 or 5; 0: as many as RAM needs */
	uint64_t address;	/* of a flat binary: `[boot] address`; 0: the mode's own */
	const char *cmdline;	/* `[boot] cmdline`; NULL: "" */

	/* A template, or the name or file of one (impost_x86_template_open()): `[cpu] template`.
	 * Both NULL: the guest sees what the backend offers. */
	const struct impost_x86_template *cpu_template;
	const char *template_name;
	const char *brand; /* `[cpu] brand`; NULL: the backend's or the host's */

	/* NULL: as impost_x86_boot_topology() has it. */
	const struct impost_x86_topology *topology;

	/*
	 * What ACPI and SMBIOS tell beyond vCPUs and memory. Members that are 0 or NULL and that
	 * the VM itself answers are filled in: CPUs, APIC ids, interrupt controllers, the I/O
	 * APIC's id, which is the lowest that no CPU has, processors, RAM.
	 *
	 * Without `acpi` the host's devices are not known, and there are no ACPI tables where an MP
	 * table can tell of the CPUs: a guest then finds what else a PC has by itself. Where it
	 * cannot, and there are local APICs, tables are written that name CPUs and interrupt
	 * controllers and nothing else: no device, and no register to reset or switch off with.
	 */
	const struct impost_x86_acpi_config *acpi;
	const struct impost_x86_smbios_config *smbios;

	/*
	 * What the host has taken already, ECAM windows or ROMs, say; all that is placed is added.
	 * It is as it was after a failure. NULL: nothing is.
	 */
	struct impost_x86_layout *layout;
	uint32_t without; /* IMPOST_X86_TABLE_*: these are not written */
	uint32_t reserved;
};

/* What came of it. */
struct impost_x86_boot_result {
	uint32_t size;	   /* set by the caller to sizeof(struct impost_x86_boot_result) */
	uint32_t protocol; /* IMPOST_X86_PROTOCOL_*, as it was found out */
	uint32_t mode;	   /* IMPOST_X86_MODE_* at entry */
	uint32_t tables;   /* IMPOST_X86_TABLE_* that were written */
	uint64_t entry;	   /* gpa of the first instruction */
	uint64_t kernel_start;
	uint64_t kernel_end;
	uint64_t initrd_gpa;
	uint64_t initrd_bytes; /* 0: none */
	uint64_t cr3;	       /* of the page tables; 0: none */
	uint64_t rsdp;	       /* gpa; 0: no ACPI tables */
	uint64_t info; /* gpa of zero page or start info; 0: none, a flat binary in real mode */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills CONFIG with no kernel (-1), no initrd (-1), and what CTX has in `[boot]` and `[cpu]`.
 * Strings are CTX's. _fill wants its `size` set and fills so much of it; _init sets it first.
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
 * The topology of CPUS vCPUs: what `[cpu] topology` of CTX says, else one socket of CPUS cores with
 * a thread each. A host creates vCPU number I with the id impost_x86_apic_id(&topology, I).
 * -EINVAL: `[cpu] topology` is no topology, or one of another number of CPUs.
 */
IMPOST_API int impost_x86_boot_topology(struct impost_context *ctx, uint32_t cpus,
					struct impost_x86_topology *ret_topology);

/*
 * Sets the memory of VM and all its COUNT vCPUs up, so that running VCPUS[0] boots the kernel. The
 * others wait for SIPI; in a VM with IMPOST_IRQCHIP_NONE their run state is left alone: who
 * emulates their local APICs starts them. With an APIC id above 254 all local APICs are switched to
 * x2APIC mode. The vCPUs are in order of the topology, and their ids its APIC ids. RAM must be
 * there (impost_x86_add_ram()). RET_RESULT may be NULL.
 *
 * Every vCPU gets CPUID, the boot MSRs, those of the template, and MTRRs if it has them; an MSR
 * that the backend neither lists (impost_vm_msr_list()) nor takes does not exist there and is left
 * out, unless it is the template's. Where things go, and which registers hold what: docs/boot.md.
 * The MP table is written where it can be right: with an I/O APIC, and no APIC id above 254.
 *
 * -EINVAL: a `size` that cannot be, no kernel, no vCPU, a NULL one, one of another VM, or whose id
 * is not the topology's; command line or initrd for a flat binary in real mode, which nothing could
 * tell of them; an `acpi` of another number of CPUs. -E2BIG: as error.h has it, of any struct here.
 * -ENOTSUP: 5 levels of page tables where CPUID has no LA57; a template that cannot be had, or that
 * leaves a CPU which cannot enter the kernel (LM, PAE and MSR for long mode) or reach all RAM
 * (PHYS_ADDR_BITS). -EEXIST: two things would lie at one address; the text names both. Else errors
 * are those of the steps.
 *
 * Files, tables and what the template says of CPUID are judged before a vCPU is touched: after one
 * of these errors the VM is good for another call, though memory may have been written. When a vCPU
 * refuses something, an MSR of the template perhaps, others may be set up already: call again with
 * what is right, or destroy the VM.
 */
IMPOST_API int impost_x86_boot(struct impost_vm *vm, struct impost_vcpu *const *vcpus,
			       uint32_t count, const struct impost_x86_boot_config *config,
			       struct impost_x86_boot_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
