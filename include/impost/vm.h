/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM: made from a context, by the first backend of its list that can run here. Unless a call
 * says otherwise, any thread may make it, several at once. In a fork of the process that made the
 * VM every call returns -IMPOST_EFORKED. Calls whose capability (caps.def) the backend lacks return
 * -ENOTSUP. A VM that was migrated (migrate.h) can be looked at and destroyed: what would make it
 * run on (hold, release, resume, and its vCPUs' runs) returns -IMPOST_EMOVED for good.
 */
#ifndef IMPOST_VM_H
#define IMPOST_VM_H

#include <stddef.h>

#include <impost/backend.h>
#include <impost/context.h>
#include <impost/memory.h>

struct impost_vm;
struct impost_vcpu;

/* What a VM is to be. */
struct impost_vm_config {
	uint32_t size;	      /* set by impost_vm_config_init() */
	uint32_t cpus;	      /* vCPUs at the most: not 0 */
	uint64_t memory;      /* bytes of RAM that arch will lay out: not 0; a multiple of 4096 */
	uint32_t irqchip;     /* IMPOST_IRQCHIP_* */
	uint32_t kick_signal; /* see impost_vcpu_kick() */
	uint32_t kick_by;     /* IMPOST_KICK_* */
	uint32_t reserved;
	const char *backend; /* names separated by commas: the first that works here; NULL:
				`[impost] backend` */
	const char *layers;  /* layers over it, as `[impost] layers` of impost.ini(5) has them, the
				first nearest to the host; paths are taken from the current folder;
				"": none; NULL: `[impost] layers` */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills CONFIG from CTX's configuration (`[vm]`), with defaults for the rest: 1 vCPU, 256 MiB,
 * irqchip default, kick signal SIGRTMIN+2 with IMPOST_KICK_MASK. _fill wants its `size` set and
 * fills so much of it, which is less or more than the library knows where the host was built for
 * another release of it; _init sets it first. -EINVAL: config is NULL, or too short.
 */
IMPOST_API int impost_vm_config_fill(struct impost_context *ctx, struct impost_vm_config *config);
static inline int impost_vm_config_init(struct impost_context *ctx,
					struct impost_vm_config *ret_config)
{
	if (ret_config)
		ret_config->size = sizeof(*ret_config);
	return impost_vm_config_fill(ctx, ret_config);
}

/*
 * Makes a VM without memory or vCPUs. CONFIG NULL: as impost_vm_config_init() fills it. CTX must
 * outlive it. A backend that cannot be opened is passed over; not so one that is given a wrong
 * option (-EINVAL), and what fails after a backend was opened fails the call. -EINVAL: a bad value
 * (0 CPUs, memory of 0 or not whole pages, an empty list of backends), more CPUs than the backend
 * has; -E2BIG: as error.h has it; -IMPOST_EPLUGIN: no backend of the list can run here (the text
 * has the reason of each); -IMPOST_ECONFIG: the list of layers is wrong, or there is no such layer;
 * -IMPOST_EABI: a layer claims what is not below it; -ENOTSUP: the backend has no such irqchip;
 * -ENOMEM; or what a layer's open or the backend's vm_create says.
 */
IMPOST_API int impost_vm_create(struct impost_context *ctx, const struct impost_vm_config *config,
				struct impost_vm **ret_vm);

/* Ends the VM and frees its memory map. NULL is fine. -EBUSY: it has vCPUs still, or its memory
 * readers of dirty pages (dirty.h). No other thread may use it. */
IMPOST_API int impost_vm_destroy(struct impost_vm *vm);

/* The context, memory map (the VM's own: do not destroy), backend's name and capabilities. Never
 * NULL. */
IMPOST_API struct impost_context *impost_vm_context(const struct impost_vm *vm);
IMPOST_API struct impost_memory *impost_vm_memory(struct impost_vm *vm);
IMPOST_API const char *impost_vm_backend(const struct impost_vm *vm);
IMPOST_API const struct impost_caps *impost_vm_caps(const struct impost_vm *vm);

/* The layers over the backend, with their values, separated by ", ", the first nearest to the host;
 * "": there are none. The VM's. What impost_vm_caps() gives is what they leave of the backend's. */
IMPOST_API const char *impost_vm_layers(const struct impost_vm *vm);

/* What the VM was made with: strings are the VM's. */
IMPOST_API const struct impost_vm_config *impost_vm_config(const struct impost_vm *vm);

/* The VM's vCPU number INDEX, from 0, in order of APIC id; NULL: there are no more. */
IMPOST_API struct impost_vcpu *impost_vm_vcpu(struct impost_vm *vm, uint32_t index);

/* The irqchip that the VM has: IMPOST_IRQCHIP_NONE, _LAPIC or _FULL. */
IMPOST_API uint32_t impost_vm_irqchip(const struct impost_vm *vm);

/*
 * Backend number INDEX (from 0) of those in the list before the one that was taken, and why it was
 * not. Strings are the VM's. -ENOENT: no more.
 */
IMPOST_API int impost_vm_passed_over(const struct impost_vm *vm, uint32_t index,
				     const char **ret_name, const char **ret_reason);

/* --- interrupts --- */

/* Sets interrupt line GSI to LEVEL, 0 or 1. irq-line. -EINVAL: no such line. */
IMPOST_API int impost_vm_irq_line(struct impost_vm *vm, uint32_t gsi, uint32_t level);

/* Sends a message-signalled interrupt. msi. -EAGAIN: the guest blocks it. */
IMPOST_API int impost_vm_msi(struct impost_vm *vm, uint64_t address, uint32_t data);

/* Replaces the interrupt routing table by COUNT routes. gsi-routes. -EINVAL: a GSI or pin out of
 * range. */
IMPOST_API int impost_vm_set_gsi_routes(struct impost_vm *vm, const struct impost_gsi_route *routes,
					uint32_t count);

/* Ties an eventfd to an interrupt line, or unties it. irqfd, irqfd-resample. The host keeps the
 * descriptors. -E2BIG: as error.h has it. */
IMPOST_API int impost_vm_irqfd(struct impost_vm *vm, const struct impost_irqfd *irqfd);

/* Ties an eventfd to guest writes, or unties it. ioeventfd. The host keeps the descriptor. -E2BIG:
 * as error.h has it. */
IMPOST_API int impost_vm_ioeventfd(struct impost_vm *vm, const struct impost_ioeventfd *ioeventfd);

/* --- policy and the rest --- */

/* Which MSRs exit to the host; see msr_exits in backend.h. Any UNKNOWN but 0 is 1. msr-exits. */
IMPOST_API int impost_vm_set_msr_exits(struct impost_vm *vm, const struct impost_msr_range *ranges,
				       uint32_t count, uint32_t unknown);

/* Claims, or gives back, an I/O range; nothing to do, and 0, on a backend without io-claims. */
IMPOST_API int impost_vm_io_claim(struct impost_vm *vm, uint32_t space, uint64_t first,
				  uint64_t last);
IMPOST_API int impost_vm_io_release(struct impost_vm *vm, uint32_t space, uint64_t first,
				    uint64_t last);

/* Pauses and resumes the whole VM in the hypervisor, under the hands of the threads that run it: a
 * run returns INTR meanwhile. vm-pause. See impost_vm_hold() for what every backend has. */
IMPOST_API int impost_vm_pause(struct impost_vm *vm);
IMPOST_API int impost_vm_resume(struct impost_vm *vm);

/*
 * Holds the VM: returns when no vCPU is inside the hypervisor, every exit that needs an answer has
 * come back to run or complete, and pending I/O is finished. From then on, and until
 * impost_vm_release(), state and memory stay as they are unless the host changes them: any thread
 * may get and set the state of any vCPU, and impost_vcpu_run() waits inside instead of running the
 * guest. All vCPUs are kicked at once; the host sees no INTR of that. A run that waits still
 * returns
 *
 *  - an access that the last one makes necessary (see impost_vcpu_complete()), to be answered;
 *  - INTR after a kick of the host's, or a signal; the next run waits again.
 *
 * With vm-pause the VM is paused in the hypervisor too, and impost_vm_resume() does not change
 * that. vCPUs that are made meanwhile are held as well, and any may be destroyed with no thread
 * inside. Any thread may hold and another one release, but a thread that has an exit in hand waits
 * for itself: hold is not for handlers of impost_vcpu_loop(), nor between a run and the next. An
 * exit whose thread will not run that vCPU again is finished by impost_vcpu_complete().
 *
 * TIMEOUT_MS: milliseconds to wait for all that; IMPOST_HOLD_NO_LIMIT: without limit. On failure
 * the VM is as before, and runs on. A migration's own holds do not count here: the VM is held until
 * neither it nor the host holds it any more. -EALREADY: the host holds it, or another of its
 * threads is about to hold or release it; -ETIMEDOUT: the text names a vCPU that did not come, and
 * why; -IMPOST_EMOVED; or what the backend's kick or pause says.
 */
#define IMPOST_HOLD_NO_LIMIT UINT32_MAX
IMPOST_API int impost_vm_hold(struct impost_vm *vm, uint32_t timeout_ms);

/* Lets a VM that is held run on. Any thread. -EINVAL: the host does not hold it; -IMPOST_EMOVED.
 * What the backend's resume says: it is held still. */
IMPOST_API int impost_vm_release(struct impost_vm *vm);

/* Takes the VM's next event. vm-events. -EAGAIN: none. */
IMPOST_API int impost_vm_event(struct impost_vm *vm, struct impost_exit *ret_exit);
IMPOST_API int impost_vm_event_fd(struct impost_vm *vm, int *ret_fd);

/* What CPUID a guest may be given, and which MSRs have state. -ENOSPC: *ret_count is what is
 * needed. */
IMPOST_API int impost_vm_cpuid_supported(struct impost_vm *vm, struct impost_x86_cpuid *entries,
					 uint32_t capacity, uint32_t *ret_count);
IMPOST_API int impost_vm_msr_list(struct impost_vm *vm, uint32_t *indices, uint32_t capacity,
				  uint32_t *ret_count);

/* CPUID of all vCPUs at once. cpuid-per-vm. Errors: impost_vcpu_set_cpuid(). */
IMPOST_API int impost_vm_set_cpuid(struct impost_vm *vm, const struct impost_x86_cpuid *entries,
				   uint32_t count);

/*
 * Gets and sets a section of the VM's state (enum impost_vm_section). The struct's `size` member is
 * set by get, and on set must not exceed BYTES. -EINVAL: unknown section, or a length that cannot
 * be; -ENOSPC: *ret_size is what is needed; -ENOTSUP, -ENOENT, -IMPOST_ESTATE: see backend.h.
 */
IMPOST_API int impost_vm_get(struct impost_vm *vm, uint32_t section, void *buf, uint32_t capacity,
			     uint32_t *ret_size);
IMPOST_API int impost_vm_set(struct impost_vm *vm, uint32_t section, const void *buf,
			     uint32_t bytes);

/* The hypervisor's own dirty log of the region that starts at GPA; see dirty_* in backend.h for
 * what each does. dirty.h has what hosts want mostly. -EBUSY: a reader of dirty.h has the log. */
IMPOST_API int impost_vm_dirty_start(struct impost_vm *vm, uint64_t gpa);
IMPOST_API int impost_vm_dirty_stop(struct impost_vm *vm, uint64_t gpa);
IMPOST_API int impost_vm_dirty_fetch(struct impost_vm *vm, uint64_t gpa, uint64_t *bitmap,
				     uint64_t nwords);
IMPOST_API int impost_vm_dirty_clear(struct impost_vm *vm, uint64_t gpa, uint64_t first,
				     uint64_t npages, const uint64_t *bitmap);

/*
 * An interface of one backend only, by name, such as mock.h's; *ret_handle is what its functions
 * take. -ENOENT: this backend has none of that name.
 */
IMPOST_API int impost_vm_extension(struct impost_vm *vm, const char *name, const void **ret_table,
				   void **ret_handle);

#ifdef __cplusplus
}
#endif

#endif
