/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and ends vCPUs; host debugging and address translation. */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static int32_t take_place(struct vm *vm)
{
	int32_t r = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->nvcpus == vm->max_vcpus)
		r = impost_host_error(vm->host, -ENOSPC, "the VM was made for %u vCPUs",
				      vm->max_vcpus);
	else
		vm->nvcpus++;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static void leave_place(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->nvcpus--;
	pthread_mutex_unlock(&vm->lock);
}

static int32_t create_fd(struct vcpu *v)
{
	int32_t fd = KVM_IOCTL_VALUE(v->host, v->vm->fd, KVM_CREATE_VCPU, v->id);

	if (fd == -EEXIST)
		return impost_host_error(v->host, fd,
					 "there is, or was, a vCPU %u: KVM uses an id only once in "
					 "a VM",
					 v->id);
	if (fd < 0)
		return fd;
	v->fd = fd;
	return 0;
}

static int32_t map_run(struct vcpu *v)
{
	void *run =
		mmap(NULL, v->vm->backend->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);

	if (run == MAP_FAILED)
		return kvm_error(v->host, errno, "mapping kvm_run");
	v->run = run;
	return 0;
}

/* A new vCPU has the host's rate, and there is no older way to ask for that (KVM_GET_TSC_KHZ). */
static void note_tsc_rate(const struct vcpu *v)
{
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0UL);

	if (khz > 0)
		v->vm->host_tsc_khz = (uint32_t)khz;
}

static void vcpu_destroy(void *handle)
{
	struct vcpu *v = handle;

	if (!v)
		return;
	kvm_ring_unmap(v);
	if (v->run)
		munmap(v->run, v->vm->backend->run_bytes);
	if (v->fd >= 0)
		close(v->fd);
	leave_place(v->vm);
	free(v->cpuid);
	free(v);
}

int32_t kvm_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct vm *vm = handle;
	struct vcpu *v;
	int32_t r;

	if (id > vm->backend->caps.max_vcpu_id)
		return impost_host_error(vm->host, -EINVAL, "vCPU id %u: KVM has 0 to %u here", id,
					 vm->backend->caps.max_vcpu_id);
	v = aligned_alloc(64, (sizeof(*v) + 63) / 64 * 64);
	if (!v)
		return kvm_error(vm->host, ENOMEM, "making a vCPU");
	*v = (struct vcpu){.fd = -1,
			   .vm = vm,
			   .host = vm->host,
			   .id = id,
			   .vector = KVM_NO_VECTOR,
			   .thread = KVM_NO_THREAD};
	r = kvm_irqchip_need(vm);
	if (!r)
		r = take_place(vm);
	if (r) {
		free(v);
		return r;
	}
	r = create_fd(v);
	if (!r)
		r = map_run(v);
	if (!r)
		r = kvm_ring_map(v);
	if (r) {
		vcpu_destroy(v);
		return r;
	}
	note_tsc_rate(v);
	*ret_vcpu = v;
	return 0;
}

static int32_t guest_debug(void *handle, const struct impost_guest_debug *debug)
{
	static const struct {
		uint32_t ours, kernels;
	} flags[] = {
		{IMPOST_DEBUG_SINGLE_STEP, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP},
		{IMPOST_DEBUG_SW_BREAK, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP},
		{IMPOST_DEBUG_HW_BREAK, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP},
	};
	struct vcpu *v = handle;
	struct kvm_guest_debug d = {0};
	uint32_t known = 0;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		known |= flags[i].ours;
		if (debug->flags & flags[i].ours)
			d.control |= flags[i].kernels;
	}
	if (debug->flags & ~known)
		return impost_host_error(v->host, -EINVAL, "unknown debug flags 0x%x",
					 debug->flags & ~known);
	if (debug->flags & IMPOST_DEBUG_HW_BREAK) {
		for (int i = 0; i < 4; i++)
			d.arch.debugreg[i] = debug->dr[i];
		d.arch.debugreg[7] = debug->dr7;
	}
	return KVM_IOCTL(v->host, v->fd, KVM_SET_GUEST_DEBUG, &d);
}

static int32_t translate(void *handle, uint64_t gva, uint64_t *ret_gpa)
{
	struct vcpu *v = handle;
	struct kvm_translation t = {.linear_address = gva};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_TRANSLATE, &t);

	if (r < 0)
		return r;
	if (!t.valid)
		return impost_host_error(v->host, -EFAULT, "linear address 0x%llx is not mapped",
					 (unsigned long long)gva);
	*ret_gpa = t.physical_address;
	return 0;
}

const struct impost_vcpu_ops kvm_vcpu_ops = {
	.size = sizeof(kvm_vcpu_ops),
	.destroy = vcpu_destroy,
	.run = kvm_run,
	.complete = kvm_complete,
	.kick = kvm_kick,
	.nmi = kvm_nmi,
	.irq_inject = kvm_irq_inject,
	.irq_window = kvm_irq_window,
	.guest_debug = guest_debug,
	.translate = translate,
	.state_get = kvm_vcpu_state_get,
	.state_set = kvm_vcpu_state_set,
	.msrs_get = kvm_msrs_get,
	.msrs_set = kvm_msrs_set,
	.cpuid_set = kvm_cpuid_set,
	.cpuid_get = kvm_cpuid_get,
};
