/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of operations that the core is given: they pass on to those of the object, which are
 * the mock's own, or those of a VM that plays a cassette. Objects begin with a pointer to them.
 */
#include "internal.h"

static const struct impost_vm_ops *of_vm(void *vm)
{
	return *(const struct impost_vm_ops **)vm;
}

static const struct impost_vcpu_ops *of_vcpu(void *vcpu)
{
	return *(const struct impost_vcpu_ops **)vcpu;
}

/* clang-format off */
#define OPS1(of, op, A) \
	static int32_t of##_##op(void *h, A a) { return of_##of(h)->op(h, a); }
#define OPS2(of, op, A, B) \
	static int32_t of##_##op(void *h, A a, B b) { return of_##of(h)->op(h, a, b); }
#define OPS3(of, op, A, B, C) \
	static int32_t of##_##op(void *h, A a, B b, C c) { return of_##of(h)->op(h, a, b, c); }
#define OPS4(of, op, A, B, C, D) \
	static int32_t of##_##op(void *h, A a, B b, C c, D d) { return of_##of(h)->op(h, a, b, c, d); }
#define OPS0(of, op) \
	static int32_t of##_##op(void *h) { return of_##of(h)->op(h); }

OPS2(vm, vcpu_create, uint32_t, void **)
OPS1(vm, mem_add, const struct impost_slot *)
OPS2(vm, mem_provide, const struct impost_slot *, void **)
OPS1(vm, mem_remove, uint32_t)
OPS2(vm, mark_dirty, uint64_t, uint64_t)
OPS1(vm, dirty_start, uint32_t)
OPS1(vm, dirty_stop, uint32_t)
OPS3(vm, dirty_fetch, uint32_t, uint64_t *, uint64_t)
OPS4(vm, dirty_clear, uint32_t, uint64_t, uint64_t, const uint64_t *)
OPS0(vm, pause)
OPS0(vm, resume)
OPS1(vm, event, struct impost_exit *)
OPS1(vm, event_fd, int32_t *)
OPS3(vm, io_claim, uint32_t, uint64_t, uint64_t)
OPS3(vm, io_release, uint32_t, uint64_t, uint64_t)
OPS2(vm, irq_line, uint32_t, uint32_t)
OPS2(vm, msi, uint64_t, uint32_t)
OPS2(vm, gsi_routes, const struct impost_gsi_route *, uint32_t)
OPS1(vm, irqfd, const struct impost_irqfd *)
OPS1(vm, ioeventfd, const struct impost_ioeventfd *)
OPS3(vm, msr_exits, const struct impost_msr_range *, uint32_t, uint32_t)
OPS2(vm, cpuid_set, const struct impost_x86_cpuid *, uint32_t)
OPS4(vm, state_get, uint32_t, void *, uint32_t, uint32_t *)
OPS3(vm, state_set, uint32_t, const void *, uint32_t)

OPS1(vcpu, run, struct impost_exit *)
OPS1(vcpu, complete, struct impost_exit *)
OPS0(vcpu, kick)
OPS0(vcpu, nmi)
OPS1(vcpu, irq_inject, uint32_t)
OPS1(vcpu, irq_window, uint32_t)
OPS1(vcpu, guest_debug, const struct impost_guest_debug *)
OPS2(vcpu, translate, uint64_t, uint64_t *)
OPS4(vcpu, state_get, uint32_t, void *, uint32_t, uint32_t *)
OPS3(vcpu, state_set, uint32_t, const void *, uint32_t)
OPS3(vcpu, msrs_get, struct impost_x86_msr *, uint32_t, uint32_t *)
OPS3(vcpu, msrs_set, const struct impost_x86_msr *, uint32_t, uint32_t *)
OPS2(vcpu, cpuid_set, const struct impost_x86_cpuid *, uint32_t)
OPS3(vcpu, cpuid_get, struct impost_x86_cpuid *, uint32_t, uint32_t *)
/* clang-format on */

static void vm_destroy(void *vm)
{
	of_vm(vm)->destroy(vm);
}

static const void *vm_extension(void *vm, const char *name, void **ret_handle)
{
	return of_vm(vm)->extension(vm, name, ret_handle);
}

static void vcpu_destroy(void *vcpu)
{
	of_vcpu(vcpu)->destroy(vcpu);
}

const struct impost_vm_ops mock_vm_ops = {
	.size = sizeof(mock_vm_ops),
	.destroy = vm_destroy,
	.vcpu_create = vm_vcpu_create,
	.mem_add = vm_mem_add,
	.mem_provide = vm_mem_provide,
	.mem_remove = vm_mem_remove,
	.mark_dirty = vm_mark_dirty,
	.dirty_start = vm_dirty_start,
	.dirty_stop = vm_dirty_stop,
	.dirty_fetch = vm_dirty_fetch,
	.dirty_clear = vm_dirty_clear,
	.pause = vm_pause,
	.resume = vm_resume,
	.event = vm_event,
	.event_fd = vm_event_fd,
	.io_claim = vm_io_claim,
	.io_release = vm_io_release,
	.irq_line = vm_irq_line,
	.msi = vm_msi,
	.gsi_routes = vm_gsi_routes,
	.irqfd = vm_irqfd,
	.ioeventfd = vm_ioeventfd,
	.msr_exits = vm_msr_exits,
	.cpuid_set = vm_cpuid_set,
	.state_get = vm_state_get,
	.state_set = vm_state_set,
	.extension = vm_extension,
};

const struct impost_vcpu_ops mock_vcpu_ops = {
	.size = sizeof(mock_vcpu_ops),
	.destroy = vcpu_destroy,
	.run = vcpu_run,
	.complete = vcpu_complete,
	.kick = vcpu_kick,
	.nmi = vcpu_nmi,
	.irq_inject = vcpu_irq_inject,
	.irq_window = vcpu_irq_window,
	.guest_debug = vcpu_guest_debug,
	.translate = vcpu_translate,
	.state_get = vcpu_state_get,
	.state_set = vcpu_state_set,
	.msrs_get = vcpu_msrs_get,
	.msrs_set = vcpu_msrs_set,
	.cpuid_set = vcpu_cpuid_set,
	.cpuid_get = vcpu_cpuid_get,
};
