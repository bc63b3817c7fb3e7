/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID and MSRs by name, and CPUID made right for one vCPU of a VM, with the topology that it
 * tells. Nothing here needs a VM; every function may be called from any thread.
 */
#ifndef IMPOST_X86_64_CPUID_H
#define IMPOST_X86_64_CPUID_H

#include <stdint.h>

#include <impost/error.h>
#include <impost/x86_64/state.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- topology --- */

/*
 * sockets * dies * cores * threads CPUs: dies of each socket, cores of each die, threads of each
 * core. This struct never grows, and is given whole: a further level would come as another struct.
 */
struct impost_x86_topology {
	uint32_t size; /* sizeof(struct impost_x86_topology) */
	uint32_t sockets, dies, cores, threads;
	uint32_t reserved; /* 0 */
};

/* Bits that an APIC id may have. The counts of leaf 0xB have 16 bits (SDM vol. 2, CPUID). */
#define IMPOST_X86_APIC_ID_BITS 15u

/* One socket of CPUS cores with a thread each. */
IMPOST_API void impost_x86_topology_flat(struct impost_x86_topology *ret_topology, uint32_t cpus);

/*
 * Whether TOPOLOGY can be that of a VM with CPUS vCPUs. CTX, for error texts, may be NULL. -EINVAL:
 * it is NULL, its size is not that of the struct, a number is 0, the product is not CPUS, or APIC
 * ids would need more than IMPOST_X86_APIC_ID_BITS bits; the text says which.
 */
IMPOST_API int impost_x86_topology_check(struct impost_context *ctx,
					 const struct impost_x86_topology *topology, uint32_t cpus);

/*
 * Reads "SOCKETS:DIES:CORES:THREADS", four decimal numbers. CTX, for error texts, may be NULL.
 * -EINVAL: TEXT is NULL or not that, a number is 0, or APIC ids would need more bits than there
 * are.
 */
IMPOST_API int impost_x86_topology_parse(struct impost_context *ctx, const char *text,
					 struct impost_x86_topology *ret_topology);

/*
 * The APIC id of CPU number INDEX of a TOPOLOGY that impost_x86_topology_check() takes, threads
 * varying fastest: the id to give to impost_vcpu_create(). Each level has as many bits as its
 * largest number needs (SDM vol. 3, 9.9.1), so where a count is no power of two ids are left out.
 */
IMPOST_API uint32_t impost_x86_apic_id(const struct impost_x86_topology *topology, uint32_t index);

/* --- CPUID entries --- */

/* Registers of a CPUID result. */
#define IMPOST_X86_EAX 0u
#define IMPOST_X86_EBX 1u
#define IMPOST_X86_ECX 2u
#define IMPOST_X86_EDX 3u

/* The entry of ENTRIES that answers for LEAF and SUBLEAF, which does not matter where the leaf has
 * none; NULL if there is none. */
IMPOST_API const struct impost_x86_cpuid *impost_x86_cpuid_find(
	const struct impost_x86_cpuid *entries, uint32_t count, uint32_t leaf, uint32_t subleaf);

/* Register REG (IMPOST_X86_EAX to _EDX) of ENTRY, to be read or changed; NULL if there is no such
 * register. */
IMPOST_API uint32_t *impost_x86_cpuid_register(struct impost_x86_cpuid *entry, uint32_t reg);

/* What impost_x86_setup_cpuid() is to make. */
struct impost_x86_cpuid_config {
	uint32_t size;	   /* sizeof(struct impost_x86_cpuid_config) */
	uint32_t irqchip;  /* the VM's: IMPOST_IRQCHIP_NONE, _LAPIC or _FULL (vm.h) */
	uint32_t apic_id;  /* the vCPU's: impost_x86_apic_id() */
	uint32_t reserved; /* 0 */
	const struct impost_x86_topology *topology; /* of all vCPUs */
	/* at most 47 characters; NULL: the backend's, or where it has none that of the CPU below */
	const char *brand;
	/* of leaf 0x40000000, at most 12 characters; NULL: the backend's, or "ImpostImpost" */
	const char *signature;
};

/* As many entries may be added by impost_x86_setup_cpuid(). */
#define IMPOST_X86_CPUID_ADDED 24u

/*
 * Makes what a backend supports (impost_vm_cpuid_supported()) into what one vCPU shall see, in
 * place: ENTRIES has *COUNT entries and room for CAPACITY; *COUNT + IMPOST_X86_CPUID_ADDED is
 * always enough. The result is sorted by leaf and sub-leaf and has no entry twice (the first
 * counts).
 *
 * APIC id and topology: leaves 1, 4 and 0x8000001D (L1 and L2 are a core's, L3 a die's), 0xB, 0x1F
 * (where it was, or there are several dies: then leaf 0 goes as far), and on AMD 0x80000001
 * (CmpLegacy), 0x80000008, 0x8000001E (a die is a node; where TOPOEXT was, or there are several
 * threads or dies: then TOPOEXT is set) and 0x80000026 (where it was). Further: the hypervisor bit
 * and leaf 0x40000000; without local APICs no APIC, x2APIC or TSC deadline; OSXSAVE, OSPKE and
 * AESKLE 0, as they follow CR4; AMD's copies of leaf 1 in 0x80000001; the brand string. All else
 * stays as it was.
 *
 * CTX, for error texts, may be NULL. -EINVAL: the configuration's size, reserved, irqchip, topology
 * (as impost_x86_topology_check(), but for the number of CPUs), an APIC id that the topology does
 * not have, or a text that is empty, too long or not printable ASCII; -E2BIG: as error.h has it;
 * -ENOSPC: CAPACITY; -ENOMEM. After a failure ENTRIES and *COUNT are as before.
 */
IMPOST_API int impost_x86_setup_cpuid(struct impost_context *ctx,
				      const struct impost_x86_cpuid_config *config,
				      struct impost_x86_cpuid *entries, uint32_t capacity,
				      uint32_t *count);

/* --- CPUID by name, from cpuid.def --- */

/* What a field is: this says what may be done with it so that a guest still runs on a host. */

/* a bit: 1 if the guest may use something. May be cleared */
#define IMPOST_X86_FIELD_FEATURE 1u
/* a bit: 1 if something is missing or different. May be set */
#define IMPOST_X86_FIELD_INVERTED 2u
/* a number: how much there is. May be made less */
#define IMPOST_X86_FIELD_LIMIT 3u
/* names or describes the CPU: free */
#define IMPOST_X86_FIELD_VALUE 4u
/* set for each vCPU by impost_x86_setup_cpuid(), or by the hypervisor while the guest runs, or what
 * follows from other fields when impost_x86_template_apply() clears some */
#define IMPOST_X86_FIELD_MANAGED 5u

/* Sub-leaf of a field that is there in every sub-leaf of its leaf. */
#define IMPOST_X86_CPUID_EACH UINT32_MAX

/* Bits of a CPUID register. */
struct impost_x86_cpuid_field {
	uint32_t leaf;
	uint32_t subleaf;   /* or IMPOST_X86_CPUID_EACH; 0 where the leaf has none */
	uint32_t flags;	    /* IMPOST_X86_CPUID_SUBLEAF: the leaf has sub-leaves */
	uint32_t reg;	    /* IMPOST_X86_EAX to _EDX */
	uint32_t high, low; /* bits */
	uint32_t kind;	    /* IMPOST_X86_FIELD_* */
	uint32_t reserved;
	const char *name;	/* unique whatever the case: letters, digits and '_' */
	const char *linux_flag; /* in /proc/cpuinfo where the field is set; NULL: none */
	const char *meaning;
};

/* Field number INDEX, in order of leaf, sub-leaf, register and bit; NULL: there are no more. */
IMPOST_API const struct impost_x86_cpuid_field *impost_x86_cpuid_field(uint32_t index);

/* The field called NAME, whatever the case; NULL if there is none. */
IMPOST_API const struct impost_x86_cpuid_field *impost_x86_cpuid_field_find(const char *name);

/* The field that has bit BIT of register REG of LEAF and SUBLEAF; NULL if none has. SUBLEAF does
 * not matter where the leaf has none. */
IMPOST_API const struct impost_x86_cpuid_field *impost_x86_cpuid_field_at(uint32_t leaf,
									  uint32_t subleaf,
									  uint32_t reg,
									  uint32_t bit);

/* FIELD of ENTRIES, shifted down; sub-leaf 0's if each has it; 0 where the leaf is missing. */
IMPOST_API uint32_t impost_x86_cpuid_get_field(const struct impost_x86_cpuid *entries,
					       uint32_t count,
					       const struct impost_x86_cpuid_field *field);

/* --- MSRs by name, from msrs.def --- */

/* IMPOST_X86_MSR_IA32_EFER and so on: the index of each MSR. */
#define IMPOST_X86_MSR(index, NAME, KIND, meaning) IMPOST_X86_MSR_##NAME = index,
/* Some are beyond what ISO C lets an enumeration hold. */
__extension__ enum impost_x86_msr_index {
#include <impost/x86_64/msrs.def>
};

#define IMPOST_X86_MSR_FEATURE 1u /* tells what there is, like CPUID */
#define IMPOST_X86_MSR_STATE   2u /* changes while the guest runs */

/* An MSR. */
struct impost_x86_msr_info {
	uint32_t index;	  /* that RDMSR takes */
	uint32_t kind;	  /* IMPOST_X86_MSR_FEATURE or _STATE */
	const char *name; /* as the SDM has it; unique whatever the case */
	const char *meaning;
};

/* Bits of an MSR. */
struct impost_x86_msr_field {
	uint32_t index; /* of the MSR */
	uint32_t kind;	/* IMPOST_X86_FIELD_* */
	uint32_t high, low;
	const char *name; /* "IA32_ARCH_CAPABILITIES.RDCL_NO"; unique whatever the case */
	const char *meaning;
};

/* MSR number NUMBER, in order of index; NULL: there are no more. */
IMPOST_API const struct impost_x86_msr_info *impost_x86_msr_info(uint32_t number);
/* The MSR with INDEX; NULL if it has no name here. */
IMPOST_API const struct impost_x86_msr_info *impost_x86_msr_info_at(uint32_t index);
/* The MSR called NAME, whatever the case; NULL if there is none. */
IMPOST_API const struct impost_x86_msr_info *impost_x86_msr_info_find(const char *name);

/* MSR field number NUMBER, in order of MSR and bit; NULL: there are no more. */
IMPOST_API const struct impost_x86_msr_field *impost_x86_msr_field(uint32_t number);
/* The field that has bit BIT of MSR INDEX; NULL if none has. */
IMPOST_API const struct impost_x86_msr_field *impost_x86_msr_field_at(uint32_t index, uint32_t bit);
/* The field called NAME, with its MSR's, whatever the case; NULL if there is none. */
IMPOST_API const struct impost_x86_msr_field *impost_x86_msr_field_find(const char *name);

#ifdef __cplusplus
}
#endif

#endif
