/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a VM, but for its memory: an ordered list of named sections, each one record in CBOR
 * (record.h; docs/state-format.md has every field). It is taken from a VM that does not run, kept
 * or sent as bytes, judged against a backend before anything is made, and loaded into a VM of the
 * same shape, on the same backend or another.
 *
 * Sections, in this order:
 *	"machine"		what the VM is: backend, vCPUs, memory regions, interrupt routes
 *	"vm"			PIC, I/O APIC, PIT, clock
 *	"vcpu.N"		vCPU with APIC id N: registers, MSRs, CPUID
 *	"device.NAME.INSTANCE"	a device of the host's (device.h)
 *	"host.NAME"		whatever else the host adds
 * States of the x86_64/state.h are neutral, and what has no neutral form is marked with its
 * backend.
 *
 * Unless a call says otherwise, it may be made by any thread, several at once on one state as long
 * as none changes it (add, free). A library that was built without state (-Dstate=disabled) returns
 * -ENOTSUP.
 */
#ifndef IMPOST_STATE_H
#define IMPOST_STATE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/record.h>
#include <impost/vm.h>

struct impost_state;

/* Bytes of a section's name, with its NUL; and how many sections a state may have. */
#define IMPOST_STATE_NAME_MAX	  48u
#define IMPOST_STATE_SECTIONS_MAX 4096u

/* A region of guest memory, as the state has it. */
struct impost_state_region {
	uint64_t gpa;	/* multiple of IMPOST_PAGE_SIZE */
	uint64_t bytes; /* multiple of IMPOST_PAGE_SIZE, not 0 */
	uint32_t flags; /* IMPOST_REGION_READONLY or 0 */
	uint32_t reserved;
};

/*
 * Told of each thing that keeps a state from being loaded: its KIND ("backend", "capability",
 * "vcpus", "memory", "irqchip", "cpuid", "xcr0", "msr", "tsc", "opaque"), its NAME (of the CPUID
 * field, the MSR, the capability, ...) and the REASON in words. Strings hold for the call.
 */
typedef void (*impost_state_mismatch_fn)(void *opaque, const char *kind, const char *name,
					 const char *reason);

/* Told of each difference: SECTION, the PATH of what differs in it, and what A and B have there;
 * "-" where one has nothing. Strings hold for the call. */
typedef void (*impost_state_difference_fn)(void *opaque, const char *section, const char *path,
					   const char *a, const char *b);

#ifdef __cplusplus
extern "C" {
#endif

/* --- making and freeing --- */

/*
 * Takes the state of VM, which is held (impost_vm_hold()), or whose vCPUs no thread runs. Pending
 * I/O of a vCPU is completed first. Nothing in the VM changes but by that. Free it with
 * impost_state_free().
 *
 * -EBUSY: a thread is inside a vCPU, or a vCPU's instruction needs a further answer of the host
 * (impost_vcpu_complete()); -EINVAL: ret_state is NULL; -ENOMEM; or what a backend, or a device's
 * record, says.
 */
IMPOST_API int impost_state_take(struct impost_vm *vm, struct impost_state **ret_state);

/* Makes an empty state, for a reader of files or streams to add sections to. CTX gets the texts of
 * errors and must outlive it. -EINVAL: ret_state is NULL; -ENOMEM. */
IMPOST_API int impost_state_create(struct impost_context *ctx, struct impost_state **ret_state);

/*
 * Adds section NAME of LEN bytes at DATA, which is copied. The bytes are judged here: those that
 * this library describes are decoded, of others the CBOR is checked. -EINVAL: an argument is NULL,
 * or NAME is empty, too long or none of those above; -EEXIST: it is there; -ENOSPC: there are
 * IMPOST_STATE_SECTIONS_MAX; -IMPOST_EFORMAT: the bytes are none of such a section's; -ENOMEM. On
 * failure STATE is as it was.
 */
IMPOST_API int impost_state_add(struct impost_state *state, const char *name, const void *data,
				size_t len);

/* NULL is fine. */
IMPOST_API void impost_state_free(struct impost_state *state);

/* --- what is in it --- */

/* Section number INDEX, from 0; and the one called NAME. What is returned is the state's. Any
 * ret_* may be NULL. -ENOENT: there is none. */
IMPOST_API int impost_state_at(const struct impost_state *state, uint32_t index,
			       const char **ret_name, const void **ret_data, size_t *ret_len);
IMPOST_API int impost_state_find(const struct impost_state *state, const char *name,
				 const void **ret_data, size_t *ret_len);

/*
 * Changes CONFIG, which the caller has filled (impost_vm_config_init()), into that of the VM that
 * the state was taken from: cpus, memory, irqchip. -EINVAL: CONFIG is none; -IMPOST_EFORMAT: the
 * state has no section "machine".
 */
IMPOST_API int impost_state_config(const struct impost_state *state,
				   struct impost_vm_config *config);

/* The backend that it was taken on; "" without a section "machine". The string is the state's. */
IMPOST_API const char *impost_state_backend(const struct impost_state *state);

/* Region number INDEX of guest memory, in order of address; and the APIC id of vCPU number INDEX,
 * in order of id. -ENOENT: no more; -EINVAL: ret is NULL. */
IMPOST_API int impost_state_region(const struct impost_state *state, uint32_t index,
				   struct impost_state_region *ret_region);
IMPOST_API int impost_state_vcpu(const struct impost_state *state, uint32_t index,
				 uint32_t *ret_id);

/* --- judging and loading --- */

/*
 * Pre-flight: whether a VM of STATE can be had on backend BACKEND of this host; NULL: on the first
 * of `[impost] backend` that can run here. The backend is opened and closed again; no VM of STATE
 * is made, and another only where nothing but a vCPU tells the rate of the host's TSC: an empty
 * one, for a moment. What only loading shows is a value that the hypervisor does not let an MSR
 * have. MISMATCH, which may be NULL, is told of each thing that is in the way. Returns their
 * number, 0 if there is none; or a negative error: -IMPOST_EFORMAT: a section is missing, or two do
 * not go together; -IMPOST_EPLUGIN and others: the backend cannot be opened; -ENOMEM.
 */
IMPOST_API int impost_state_check(const struct impost_state *state, const char *backend,
				  impost_state_mismatch_fn mismatch, void *opaque);

/*
 * Loads STATE into VM, which has the regions and the vCPUs of the state, has its devices
 * registered, and does not run. Registers, controllers and clocks are set in the order of
 * docs/state-format.md, devices last. Guest memory is not touched.
 *
 * -EINVAL: VM's regions, vCPUs or irqchip are not those of the state, or a device of the state is
 * not registered; -EBUSY: a thread is inside a vCPU, or CPUID cannot be changed any more because a
 * vCPU ran; -ENOTSUP, -IMPOST_ESTATE, -ENOENT: the backend refuses something, which the text names;
 * -IMPOST_EFORMAT: a section is missing, or two do not go together; or what a device says. After a
 * failure the VM has the state that it had, as far as its backend takes that back.
 */
IMPOST_API int impost_state_load(const struct impost_state *state, struct impost_vm *vm);

/* --- showing --- */

/* Writes it as text, with names for MSRs and CPUID fields, or as one JSON object, with a member for
 * each section. Returns what WRITE returned, if not 0; -EINVAL: an argument is NULL; -ENOMEM. */
IMPOST_API int impost_state_print(const struct impost_state *state, impost_write_fn write,
				  void *opaque);
IMPOST_API int impost_state_json(const struct impost_state *state, impost_write_fn write,
				 void *opaque);

/* Tells DIFFERENCE, which may be NULL, of everything in which A and B differ: registers and devices
 * by field, MSRs by name, CPUID by field name. Returns the number of differences; -EINVAL: A or B
 * is NULL; -ENOMEM. */
IMPOST_API int impost_state_diff(const struct impost_state *a, const struct impost_state *b,
				 impost_state_difference_fn difference, void *opaque);

/* Writes the reference of the state's format, docs/state-format.md, from the tables that it is
 * encoded by. Returns what WRITE returned, if not 0. */
IMPOST_API int impost_state_document(impost_write_fn write, void *opaque);

#ifdef __cplusplus
}
#endif

#endif
