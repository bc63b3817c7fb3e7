/* SPDX-License-Identifier: Apache-2.0 */
/* Turns what KVM_RUN left in kvm_run into a neutral exit. Nothing is copied: pointers lead into
 * kvm_run. */
#include <string.h>
#include <sys/ioctl.h>

#include "internal.h"

static void exit_msr(struct vcpu *v, struct impost_exit *exit)
{
	static const struct {
		uint32_t kernels, ours;
	} reasons[] = {
		{KVM_MSR_EXIT_REASON_FILTER, IMPOST_MSR_REASON_ASKED},
		{KVM_MSR_EXIT_REASON_UNKNOWN, IMPOST_MSR_REASON_UNKNOWN},
		{KVM_MSR_EXIT_REASON_INVAL, IMPOST_MSR_REASON_INVALID},
	};
	struct kvm_run *run = v->run;
	struct impost_exit_msr *msr = &exit->u.msr;

	exit->kind = run->exit_reason == KVM_EXIT_X86_RDMSR ? IMPOST_EXIT_RDMSR : IMPOST_EXIT_WRMSR;
	msr->index = run->msr.index;
	msr->reason = 0;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (run->msr.reason & reasons[i].kernels)
			msr->reason |= reasons[i].ours;
	run->msr.error = 0;
	msr->value = (uint64_t *)&run->msr.data;
	msr->refused = &run->msr.error;
	v->pending = 1;
}

static void exit_hypercall(struct vcpu *v, struct impost_exit *exit)
{
	struct kvm_run *run = v->run;
	struct impost_exit_hypercall *call = &exit->u.hypercall;

	exit->kind = IMPOST_EXIT_HYPERCALL;
	call->number = run->hypercall.nr;
	for (int i = 0; i < 6; i++)
		call->args[i] = run->hypercall.args[i];
	call->result = (uint64_t *)&run->hypercall.ret;
	call->long_mode = run->hypercall.longmode & 1;
	call->reserved = 0;
	v->pending = 1;
}

static void exit_hlt(struct vcpu *v, struct impost_exit *exit)
{
	(void)v;
	exit->kind = IMPOST_EXIT_HLT;
}

static void exit_window(struct vcpu *v, struct impost_exit *exit)
{
	(void)v;
	exit->kind = IMPOST_EXIT_IRQ_WINDOW;
}

static void exit_interrupted(struct vcpu *v, struct impost_exit *exit)
{
	(void)v;
	exit->kind = IMPOST_EXIT_INTR;
}

static void exit_shutdown(struct vcpu *v, struct impost_exit *exit)
{
	(void)v;
	exit->kind = IMPOST_EXIT_SHUTDOWN;
	exit->u.shutdown.reason = IMPOST_SHUTDOWN_TRIPLE_FAULT;
	exit->u.shutdown.code = 0;
}

static void exit_debug(struct vcpu *v, struct impost_exit *exit)
{
	const struct kvm_debug_exit_arch *arch = &v->run->debug.arch;

	exit->kind = IMPOST_EXIT_DEBUG;
	exit->u.debug = (struct impost_exit_debug){
		.rip = arch->pc, .dr6 = arch->dr6, .dr7 = arch->dr7, .vector = arch->exception};
}

/* Names of the kernel's exits, for those that have no neutral form. */
static const char *const names[] = {
	[KVM_EXIT_UNKNOWN] = "UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "EXCEPTION",
	[KVM_EXIT_SET_TPR] = "SET_TPR",
	[KVM_EXIT_TPR_ACCESS] = "TPR_ACCESS",
	[KVM_EXIT_NMI] = "NMI",
	[KVM_EXIT_WATCHDOG] = "WATCHDOG",
	[KVM_EXIT_SYSTEM_EVENT] = "SYSTEM_EVENT",
	[KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI",
	[KVM_EXIT_HYPERV] = "HYPERV",
	[KVM_EXIT_DIRTY_RING_FULL] = "DIRTY_RING_FULL",
	[KVM_EXIT_AP_RESET_HOLD] = "AP_RESET_HOLD",
	[KVM_EXIT_X86_BUS_LOCK] = "X86_BUS_LOCK",
	[KVM_EXIT_XEN] = "XEN",
	[KVM_EXIT_NOTIFY] = "NOTIFY",
	[39] = "MEMORY_FAULT", /* KVM_EXIT_MEMORY_FAULT, Linux 6.8 */
	[40] = "TDX",	       /* KVM_EXIT_TDX, Linux 6.16 */
};

static void exit_other(struct vcpu *v, struct impost_exit *exit)
{
	struct kvm_run *run = v->run;
	uint32_t number = run->exit_reason;
	const char *name = number < sizeof(names) / sizeof(names[0]) ? names[number] : NULL;

	exit->kind = IMPOST_EXIT_OTHER;
	exit->u.other = (struct impost_exit_other){
		.number = number,
		.name = name ? name : "unknown to this version of the kvm backend",
		.payload = run->padding,
		.payload_size = sizeof(run->padding),
	};
}

static void exit_system_event(struct vcpu *v, struct impost_exit *exit)
{
	static const struct {
		uint32_t kind, reason;
	} events[] = {
		[KVM_SYSTEM_EVENT_SHUTDOWN] = {IMPOST_EXIT_SHUTDOWN, IMPOST_SHUTDOWN_GUEST},
		[KVM_SYSTEM_EVENT_RESET] = {IMPOST_EXIT_RESET, IMPOST_SHUTDOWN_GUEST},
		[KVM_SYSTEM_EVENT_CRASH] = {IMPOST_EXIT_SHUTDOWN, IMPOST_SHUTDOWN_CRASH},
	};
	uint32_t type = v->run->system_event.type;

	if (type >= sizeof(events) / sizeof(events[0]) || !events[type].kind) {
		exit_other(v, exit);
		return;
	}
	exit->kind = events[type].kind;
	exit->u.shutdown.reason = events[type].reason;
	exit->u.shutdown.code = type;
}

static void exit_fail_entry(struct vcpu *v, struct impost_exit *exit)
{
	exit->kind = IMPOST_EXIT_FAIL_ENTRY;
	exit->u.failure = (struct impost_exit_failure){
		.reason = v->run->fail_entry.hardware_entry_failure_reason,
		.text = "the processor refused the guest's state at entry",
	};
}

/* The bytes at RIP, as many as there are on its page, from guest memory. 0 when they cannot be had.
 */
static uint32_t fetch_insn(const struct vcpu *v, uint8_t *insn, uint32_t size)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_translation t = {0};
	uint32_t n;
	void *hva;

	if (ioctl(v->fd, KVM_GET_REGS, &regs) || ioctl(v->fd, KVM_GET_SREGS, &sregs))
		return 0;
	t.linear_address = regs.rip + (sregs.cs.l ? 0 : sregs.cs.base);
	n = 4096 - (uint32_t)(t.linear_address % 4096);
	n = n < size ? n : size;
	if (ioctl(v->fd, KVM_TRANSLATE, &t) || !t.valid)
		return 0;
	if (!v->host->mem_lookup || v->host->mem_lookup(v->host->ctx, t.physical_address, n, &hva))
		return 0;
	memcpy(insn, hva, n);
	return n;
}

static void exit_internal_error(struct vcpu *v, struct impost_exit *exit)
{
	static const char *const texts[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at the same time that KVM cannot merge",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] =
			"an unexpected exit while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] =
			"an exit for a reason that KVM does not know",
	};
	struct kvm_run *run = v->run;
	struct impost_exit_failure *f = &exit->u.failure;
	uint32_t suberror = run->internal.suberror;
	const char *text = suberror < sizeof(texts) / sizeof(texts[0]) ? texts[suberror] : NULL;

	exit->kind = IMPOST_EXIT_INTERNAL_ERROR;
	*f = (struct impost_exit_failure){
		.reason = suberror,
		.text = text ? text : "an internal error of KVM that has no name here",
		.ndata = run->internal.ndata < 16 ? run->internal.ndata : 16,
		.data = (const uint64_t *)run->internal.data,
	};
	if (suberror == KVM_INTERNAL_ERROR_EMULATION && f->ndata >= 1 &&
	    (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		f->ninsn = run->emulation_failure.insn_size;
		if (f->ninsn > sizeof(run->emulation_failure.insn_bytes))
			f->ninsn = sizeof(run->emulation_failure.insn_bytes);
		memcpy(f->insn, run->emulation_failure.insn_bytes, f->ninsn);
	}
	if (!f->ninsn)
		f->ninsn = fetch_insn(v, f->insn, sizeof(f->insn));
}

typedef void (*translator)(struct vcpu *v, struct impost_exit *exit);

static const translator translators[] = {
	[KVM_EXIT_HYPERCALL] = exit_hypercall,
	[KVM_EXIT_DEBUG] = exit_debug,
	[KVM_EXIT_HLT] = exit_hlt,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = exit_window,
	[KVM_EXIT_SHUTDOWN] = exit_shutdown,
	[KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
	[KVM_EXIT_INTR] = exit_interrupted,
	[KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
	[KVM_EXIT_X86_RDMSR] = exit_msr,
	[KVM_EXIT_X86_WRMSR] = exit_msr,
};

void kvm_exit_translate(struct vcpu *v, struct impost_exit *exit)
{
	uint32_t reason = v->run->exit_reason;
	translator translate =
		reason < sizeof(translators) / sizeof(translators[0]) ? translators[reason] : NULL;

	exit->size = sizeof(*exit);
	if (KVM_LIKELY(translate))
		translate(v, exit);
	else
		exit_other(v, exit);
}
