/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's state as the core sees it: decoded, and the steps that take and load it. */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stdbool.h>

#include <impost/state.h>
#include <impost/vcpu.h>

#include "context.h"

/* --- decoded sections: the saved forms of state_records.c --- */

/* Most of what one vCPU can have of each. */
#define STATE_CPUID_MAX	  1024u
#define STATE_MSRS_MAX	  4096u
#define STATE_OPAQUE_MAX  (UINT32_C(1) << 20) /* bytes */
#define STATE_OPAQUES_MAX 16u
#define STATE_XSAVE_MAX	  (UINT32_C(64) << 10)
#define STATE_ROUTES_MAX  65536u
#define STATE_VCPUS_MAX	  4096u
#define STATE_SLOTS_MAX	  65536u

struct state_machine {
	char backend[16];
	char library[32];
	uint32_t cpus; /* that the VM was made for */
	uint32_t irqchip;
	uint64_t memory;
	uint32_t host_tsc_khz;
	uint32_t nvcpus, nregions, nroutes;
	uint64_t realtime_ns; /* CLOCK_REALTIME when it was taken */
	uint32_t *vcpus;      /* APIC ids, rising */
	struct impost_state_region *regions;
	struct impost_gsi_route *routes;
};

/* One of the items that a backend puts into an opaque section, one after the other. */
struct state_opaque {
	char backend[24], what[24];
	uint32_t version;
	uint32_t nbytes;
	uint8_t *data;
};

struct state_vm {
	uint32_t npic, nioapic, npit, nclock; /* 0 or 1 */
	uint32_t nopaque;
	struct impost_x86_pic pic[1];
	struct impost_x86_ioapic ioapic[1];
	struct impost_x86_pit pit[1];
	struct impost_x86_clock clock[1];
	struct state_opaque *opaque;
};

struct state_xsave {
	uint64_t xcr0;
	uint32_t ncomponents;
	uint32_t nbytes;
	struct impost_x86_xcomponent component[IMPOST_X86_XCOMPONENTS];
	uint8_t *area;
};

/* What the guest reads when the VM's clock is as the section "vm" has it. */
struct state_tsc {
	uint64_t value;
	uint32_t khz;
	uint32_t reserved;
};

/*
 * MSRs and CPUID are encoded as numbers, and not as records: there are hundreds, and the keys of
 * each would take more time than all else. *_words counts these numbers; state_count_words() and
 * state_count_entries() keep them and the counts of entries one.
 */
#define STATE_MSR_WORDS	  (sizeof(struct impost_x86_msr) / sizeof(uint64_t))
#define STATE_CPUID_WORDS (sizeof(struct impost_x86_cpuid) / sizeof(uint32_t))

struct state_msrs {
	char backend[24];
	uint32_t count;
	uint32_t nwords;
	union {
		struct impost_x86_msr *msrs;
		uint64_t *words;
	};
};

struct state_vcpu {
	uint32_t id;
	uint32_t nxsave, ndebugregs, nlapic, nevents, nrunstate, ntsc; /* 0 or 1 */
	uint32_t nopaque, ncpuid, nmsrs;
	uint32_t ncpuid_words, nmsr_words;
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct state_xsave xsave[1];
	struct impost_x86_debugregs debugregs[1];
	struct impost_x86_lapic lapic[1];
	struct impost_x86_events events[1];
	struct impost_x86_runstate runstate[1];
	struct state_tsc tsc[1];
	struct state_opaque *opaque;
	union {
		struct impost_x86_cpuid *cpuid;
		uint32_t *cpuid_words;
	};
	union {
		struct impost_x86_msr *msrs;
		uint64_t *msr_words;
	};
	struct state_msrs hypervisor;
};

void state_count_words(struct state_vcpu *v);
/* NULL, or what is wrong with the words. */
const char *state_count_entries(struct state_vcpu *v);

/* What a VM is, decoded. */
struct state_parts {
	struct state_machine machine;
	struct state_vm vm;
	struct state_vcpu *vcpus; /* machine.nvcpus of them, in that order */
};

void state_parts_free(struct state_parts *parts);
void state_machine_free(struct state_machine *machine);
void state_vm_free(struct state_vm *vm);
void state_vcpu_free(struct state_vcpu *vcpu);

extern const struct impost_record *const state_machine_record;
extern const struct impost_record *const state_vm_record;
extern const struct impost_record *const state_vcpu_record;
/* Of a vCPU, without CPUID and MSRs: to be shown. */
extern const struct impost_record *const state_registers_record;

/* --- the state --- */

enum state_kind {
	STATE_MACHINE,
	STATE_VM,
	STATE_VCPU,
	STATE_DEVICE,
	STATE_HOST,
};

struct state_section {
	char name[IMPOST_STATE_NAME_MAX];
	enum state_kind kind;
	uint32_t id;   /* of a vCPU */
	uint8_t *data; /* the encoded record */
	size_t len;
	/* What it says, as far as this library has a description: state_machine, _vm, _vcpu. */
	void *decoded;
};

struct impost_state {
	struct impost_context *ctx;
	struct state_section *sections; /* in order */
	uint32_t count;
};

/* The section of that kind, and of vCPU ID; NULL if there is none. */
const struct state_section *state_section(const struct impost_state *state, enum state_kind kind,
					  uint32_t id);
const struct state_machine *state_machine(const struct impost_state *state);

/* Whether the sections that there must be are there, and go together. -IMPOST_EFORMAT. */
int state_whole(const struct impost_state *state);

/* Fails with -IMPOST_EFORMAT if WHAT is said of section NAME. */
int state_wrong(struct impost_context *ctx, const char *name, const char *what);

/* impost_state_check() on a backend that is open. */
int state_check_on(const struct impost_state *state, const struct backend *backend,
		   impost_state_mismatch_fn tell, void *opaque);

/* --- taking and loading --- */

struct devices_load;

struct state_work {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu **vcpus; /* `nvcpus` of them, by rising id, and NULL */
	uint32_t nvcpus;
	struct state_parts *parts; /* to fill, or to load from */
	void *scratch;		   /* STATE_SCRATCH bytes */
	/* Devices: the state that they go into, or what was prepared of them; NULL: leave them. */
	struct impost_state *into;
	struct devices_load *devices;
};

/* All items of an opaque section have room in it together. */
#define STATE_SCRATCH (STATE_OPAQUE_MAX + 4096u)

/* A step; INDEX is the vCPU's place in `vcpus`, or 0. */
typedef int (*state_step_fn)(struct state_work *work, uint32_t index);

#define STATE_OF_VM   0u
#define STATE_OF_VCPU 1u

struct state_step {
	const char *name;
	uint32_t object; /* STATE_OF_* */
	uint32_t take_at, load_at;
	state_step_fn take, load;
	const char *reason, *source;
};

/* Fills ORDER, of room for STATE_STEPS, with the steps of taking, or of loading, in order; returns
 * how many these are. */
#define STATE_STEPS 32u
uint32_t state_order(bool load, const struct state_step *order[STATE_STEPS]);

/* Makes a work for VM: its vCPUs and buffers. state_work_end() frees them. */
int state_work_begin(struct state_work *work, struct impost_vm *vm, struct state_parts *parts);
void state_work_end(struct state_work *work);

/* Does all steps of taking, or of loading. */
int state_run_steps(struct state_work *work, bool load);

/* Does all steps of loading, each as well as it can be: what one cannot keeps no other from it. */
void state_put_back(struct state_work *work);

/* Fills PARTS, which is zeroed, from VM: machine and all steps, without devices if INTO is NULL. On
 * failure PARTS is to be freed all the same. */
int state_take_parts(struct impost_vm *vm, struct state_parts *parts, struct impost_state *into);

/* state_load.c: as impost_state_load(), into a VM that is destroyed if it fails: nothing is put
 * back then, and what is there need not be read before. */
int state_load_fresh(const struct impost_state *state, struct impost_vm *vm);

/* --- MSRs --- */

#define STATE_MSR_LEAVE	     1u
#define STATE_MSR_FIRST	     2u
#define STATE_MSR_LATE	     4u
#define STATE_MSR_HYPERVISOR 8u
#define STATE_MSR_FIXED	     16u

/* How MSR INDEX is treated: STATE_MSR_*; 0: as any. And whether V's guest has not used MSR, or has
 * not been given it, so that it can be done without. */
uint32_t state_msr_treatment(uint32_t index);
bool state_msr_idle(const struct state_vcpu *v, const struct impost_x86_msr *msr);

/* "IA32_EFER", or "MSR 0x..." for one without a name. */
#define STATE_MSR_NAME 48u
const char *state_msr_name(uint32_t index, char name[STATE_MSR_NAME]);

#endif
