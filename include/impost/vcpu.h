/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU. One thread at a time may be inside any call on a vCPU: another one gets -EBUSY.
 * impost_vcpu_kick() is the exception. In a fork of the process that made it every call returns
 * -IMPOST_EFORKED.
 */
#ifndef IMPOST_VCPU_H
#define IMPOST_VCPU_H

#include <impost/exit.h>
#include <impost/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes vCPU ID, which is its APIC id. VM must outlive it. -EEXIST: there is one already, or was,
 * and the backend takes no id twice; -EINVAL: an id higher than the backend has; -ENOSPC: the VM
 * was made for fewer; -ENOMEM; others: what the hypervisor says, which may make the VM's interrupt
 * controllers only now, or when one of its interrupts or their state needs them. All can be tried
 * again.
 */
IMPOST_API int impost_vcpu_create(struct impost_vm *vm, uint32_t id, struct impost_vcpu **ret_vcpu);

/* Ends it. NULL is fine. -EBUSY: a thread is inside a call, or a loop is under way. Held or not. */
IMPOST_API int impost_vcpu_destroy(struct impost_vcpu *vcpu);

IMPOST_API uint32_t impost_vcpu_id(const struct impost_vcpu *vcpu);
IMPOST_API struct impost_vm *impost_vcpu_vm(const struct impost_vcpu *vcpu);

/*
 * Runs the guest until something needs the host, and returns 0 and one exit. The host's answer to a
 * read, which it writes through the pointer in the exit, is taken by the next run or complete; the
 * pointers hold until then. With IMPOST_KICK_MASK the first run on a thread blocks the VM's kick
 * signal for that thread, and signals that are blocked then, and only those, do not end runs there:
 * set the thread's mask before. While the VM is held (impost_vm_hold()) it waits, and the guest
 * does not run. -EBUSY: another thread is inside; -IMPOST_EMOVED: the VM was migrated (migrate.h),
 * and goes on elsewhere: for good, and for who waits too; -EINVAL: with IMPOST_KICK_HANDLER, where
 * the backend sends the signal, it has no handler or is blocked; others: what the hypervisor says.
 * No exit was taken then.
 */
IMPOST_API int impost_vcpu_run(struct impost_vcpu *vcpu, struct impost_exit *ret_exit);

/*
 * Finishes pending I/O without running the guest. ret_exit->kind is IMPOST_EXIT_NONE when nothing
 * is pending any more; else it is an access that the same instruction needs next: answer it and
 * call again. Reading state requires it. -ENOTSUP: the backend cannot.
 */
IMPOST_API int impost_vcpu_complete(struct impost_vcpu *vcpu, struct impost_exit *ret_exit);

/*
 * Makes run return INTR: the run under way, or else the next one, at once. Cannot be lost. Any
 * thread, and a signal handler too. Where the hypervisor needs it, the kick signal of struct
 * impost_vm_config is sent to the thread inside run; its `kick_by` says what that signal does.
 */
IMPOST_API int impost_vcpu_kick(struct impost_vcpu *vcpu);

/*
 * Handlers for impost_vcpu_loop(). Each returns 0 to go on, 1 to leave the loop, or a negative
 * error to leave it with that error. NULL members have the default that is told beside them.
 */
struct impost_handlers {
	uint32_t size; /* set by the caller to sizeof(struct impost_handlers) */
	uint32_t reserved;
	int (*io)(void *opaque, struct impost_vcpu *vcpu,
		  struct impost_exit *exit); /* reads give ones */
	int (*mmio)(void *opaque, struct impost_vcpu *vcpu,
		    struct impost_exit *exit); /* reads give ones */
	int (*msr)(void *opaque, struct impost_vcpu *vcpu,
		   struct impost_exit *exit); /* refused: #GP */
	int (*hypercall)(void *opaque, struct impost_vcpu *vcpu,
			 struct impost_exit *exit); /* -ENOSYS as result */
	int (*intr)(void *opaque, struct impost_vcpu *vcpu,
		    struct impost_exit *exit); /* leaves the loop */
	int (*other)(void *opaque, struct impost_vcpu *vcpu,
		     struct impost_exit *exit); /* any other: leaves */
};

/*
 * Runs the vCPU and hands each exit to its handler, until one leaves the loop. Returns 0 with the
 * exit that ended it, or a negative error: a handler's or run's. On backends with io-callbacks,
 * accesses that need an answer in the middle of a run come to the same handlers: there the vCPU is
 * inside a call, so that others on it get -EBUSY, and a handler that leaves is heeded when the run
 * is over, which a kick makes soon; *ret_exit then has the kind of that access and nothing else. If
 * that run ends with an exit of its own, its handler is called before, and may leave as well: then
 * *ret_exit is that exit. -EBUSY: a loop of this vCPU is under way; a handler is inside it.
 * -EINVAL: handlers or ret_exit is NULL, or handlers' `size` is not set; -E2BIG: as error.h has it.
 */
IMPOST_API int impost_vcpu_loop(struct impost_vcpu *vcpu, const struct impost_handlers *handlers,
				void *opaque, struct impost_exit *ret_exit);

/* --- interrupts and debugging; capabilities nmi, irq-inject, irq-window, guest-debug, translate
 * --- */

/* Injects an NMI. */
IMPOST_API int impost_vcpu_nmi(struct impost_vcpu *vcpu);

/*
 * Injects external interrupt VECTOR, 0 to 255, in a VM with no irqchip: the guest takes it as soon
 * as it can. -EBUSY: one is waiting already. -ENOTSUP: the irqchip leaves no room for it.
 */
IMPOST_API int impost_vcpu_irq_inject(struct impost_vcpu *vcpu, uint32_t vector);

/* Asks (ON is not 0), or ceases to ask, for IRQ_WINDOW when the vCPU can take an interrupt. */
IMPOST_API int impost_vcpu_irq_window(struct impost_vcpu *vcpu, uint32_t on);

/* Sets what the host debugs: exits are DEBUG. -E2BIG: as error.h has it. */
IMPOST_API int impost_vcpu_guest_debug(struct impost_vcpu *vcpu,
				       const struct impost_guest_debug *debug);

/* Linear to physical address. -EFAULT: not mapped. */
IMPOST_API int impost_vcpu_translate(struct impost_vcpu *vcpu, uint64_t gva, uint64_t *ret_gpa);

/* --- state --- */

/*
 * Gets and sets a section (enum impost_vcpu_section); rules and errors as for impost_vm_get().
 * -EBUSY: I/O is pending: call impost_vcpu_complete() first.
 */
IMPOST_API int impost_vcpu_get(struct impost_vcpu *vcpu, uint32_t section, void *buf,
			       uint32_t capacity, uint32_t *ret_size);
IMPOST_API int impost_vcpu_set(struct impost_vcpu *vcpu, uint32_t section, const void *buf,
			       uint32_t bytes);

/* The two that everybody needs, typed. `size` members are filled in. */
IMPOST_API int impost_vcpu_get_regs(struct impost_vcpu *vcpu, struct impost_x86_regs *ret_regs);
IMPOST_API int impost_vcpu_set_regs(struct impost_vcpu *vcpu, const struct impost_x86_regs *regs);
IMPOST_API int impost_vcpu_get_sregs(struct impost_vcpu *vcpu, struct impost_x86_sregs *ret_sregs);
IMPOST_API int impost_vcpu_set_sregs(struct impost_vcpu *vcpu,
				     const struct impost_x86_sregs *sregs);

/*
 * Gets (index given, value filled in) and sets COUNT MSRs in order. -IMPOST_ESTATE, -ENOENT or
 * -EINVAL: one was refused; the text names it, those before it are done. RET_DONE, which may be
 * NULL, is how many were, also on failure.
 */
IMPOST_API int impost_vcpu_get_msrs(struct impost_vcpu *vcpu, struct impost_x86_msr *msrs,
				    uint32_t count, uint32_t *ret_done);
IMPOST_API int impost_vcpu_set_msrs(struct impost_vcpu *vcpu, const struct impost_x86_msr *msrs,
				    uint32_t count, uint32_t *ret_done);

/*
 * Sets and gets CPUID. Set: before the first run (-EBUSY later), on a backend with cpuid-per-vm for
 * the whole VM. -EINVAL: an entry's `reserved` is not 0, or ENTRIES are NULL; else what the backend
 * says of them. Get: -ENOSPC: *ret_count is what is needed.
 */
IMPOST_API int impost_vcpu_set_cpuid(struct impost_vcpu *vcpu,
				     const struct impost_x86_cpuid *entries, uint32_t count);
IMPOST_API int impost_vcpu_get_cpuid(struct impost_vcpu *vcpu, struct impost_x86_cpuid *entries,
				     uint32_t capacity, uint32_t *ret_count);

#ifdef __cplusplus
}
#endif

#endif
