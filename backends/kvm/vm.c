/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and ends VMs. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"

/*
 * Four pages that VMX without unrestricted guest needs, and that no guest may use: by convention
 * right below the BIOS at the top of 4 GiB (kernel, Documentation/virt/kvm/api.rst,
 * KVM_SET_TSS_ADDR).
 */
#define TSS_ADDRESS	     UINT64_C(0xfffbd000)
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfffbc000)

static int32_t enable(const struct vm *vm, uint32_t extension, const char *name, uint64_t arg)
{
	struct kvm_enable_cap cap = {.cap = extension, .args = {arg}};

	return kvm_ioctl(vm->host, vm->fd, KVM_ENABLE_CAP, name, &cap);
}
#define ENABLE(vm, extension, arg) enable(vm, extension, "KVM_ENABLE_CAP " #extension, arg)

/* Finer reporting that the kernel has but leaves off until asked. */
static int32_t enable_reporting(const struct vm *vm)
{
	static const struct {
		uint32_t extension;
		const char *name;
		uint64_t wanted; /* of the bits that the kernel offers */
	} extras[] = {
		{KVM_CAP_EXCEPTION_PAYLOAD, "KVM_ENABLE_CAP KVM_CAP_EXCEPTION_PAYLOAD", 1},
		{KVM_CAP_X86_TRIPLE_FAULT_EVENT, "KVM_ENABLE_CAP KVM_CAP_X86_TRIPLE_FAULT_EVENT",
		 1},
	};

	for (size_t i = 0; i < sizeof(extras) / sizeof(extras[0]); i++) {
		uint64_t has = kvm_extension(vm->backend->fd, extras[i].extension);
		int32_t r = 0;

		if (has & extras[i].wanted)
			r = enable(vm, extras[i].extension, extras[i].name, has & extras[i].wanted);
		if (r < 0)
			return r;
	}
	return 0;
}

static int32_t create_full(struct vm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int32_t r = KVM_IOCTL_VALUE(vm->host, vm->fd, KVM_CREATE_IRQCHIP, 0);

	/* -EEXIST, of either: an earlier call came as far, and then failed. */
	return r < 0 && r != -EEXIST ? r : KVM_IOCTL(vm->host, vm->fd, KVM_CREATE_PIT2, &pit);
}

static int32_t create_irqchip(struct vm *vm)
{
	int32_t r = 0;

	if (vm->irqchip == IMPOST_IRQCHIP_FULL)
		r = create_full(vm);
	else if (vm->irqchip == IMPOST_IRQCHIP_LAPIC)
		r = ENABLE(vm, KVM_CAP_SPLIT_IRQCHIP, KVM_SPLIT_PINS);
	if (r == -EEXIST)
		r = 0;
	if (r < 0 || vm->irqchip == IMPOST_IRQCHIP_NONE)
		return r;
	/* 32-bit ids in routes, messages and the APIC page; else those above 254 are cut. */
	if (kvm_extension(vm->backend->fd, KVM_CAP_X2APIC_API))
		r = ENABLE(vm, KVM_CAP_X2APIC_API,
			   KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	if (r >= 0)
		kvm_routes_default(vm);
	return r;
}

/*
 * Not with the VM: since Linux 6.17 an interrupt controller that is made begins a grace period of
 * SRCU that lasts a tick of the kernel's, and a slot of memory that is set before its end waits for
 * it. Hosts add memory first, and vCPUs, which need the controllers to be there, after that.
 */
int32_t kvm_irqchip_need(struct vm *vm)
{
	int32_t r = 0;

	if (atomic_load(&vm->has_irqchip))
		return 0;
	pthread_mutex_lock(&vm->lock);
	if (!atomic_load(&vm->has_irqchip))
		r = create_irqchip(vm);
	if (r >= 0)
		atomic_store(&vm->has_irqchip, true);
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? r : 0;
}

static int32_t set_addresses(const struct vm *vm)
{
	uint64_t identity = IDENTITY_MAP_ADDRESS;
	int32_t r = 0;

	if (kvm_extension(vm->backend->fd, KVM_CAP_SET_IDENTITY_MAP_ADDR))
		r = KVM_IOCTL(vm->host, vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r >= 0 && kvm_extension(vm->backend->fd, KVM_CAP_SET_TSS_ADDR))
		r = KVM_IOCTL_VALUE(vm->host, vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
	return r;
}

static int32_t create_fd(struct vm *vm)
{
	int32_t fd = KVM_IOCTL_VALUE(vm->host, vm->backend->fd, KVM_CREATE_VM, 0);

	if (fd == -EBUSY)
		return impost_host_error(vm->host, fd,
					 "KVM_CREATE_VM: busy: another hypervisor has the "
					 "processor's virtualisation: stop it");
	if (fd < 0)
		return fd;
	vm->fd = fd;
	return 0;
}

static void vm_destroy(void *handle)
{
	struct vm *vm = handle;

	if (!vm)
		return;
	if (vm->fd >= 0)
		close(vm->fd);
	pthread_mutex_destroy(&vm->lock);
	for (uint32_t i = 0; i < vm->nslots; i++)
		free(vm->slots[i].log);
	free(vm->slots);
	free(vm);
}

static int32_t check_args(const struct backend *b, const struct impost_vm_args *args,
			  uint32_t *ret_irqchip)
{
	static const enum impost_cap needs[] = {
		[IMPOST_IRQCHIP_NONE] = IMPOST_CAP_IRQCHIP_NONE,
		[IMPOST_IRQCHIP_LAPIC] = IMPOST_CAP_IRQCHIP_LAPIC,
		[IMPOST_IRQCHIP_FULL] = IMPOST_CAP_IRQCHIP_FULL,
	};
	uint32_t irqchip = args->irqchip ? args->irqchip : b->caps.irqchip;

	if (irqchip > IMPOST_IRQCHIP_FULL)
		return impost_host_error(args->host, -EINVAL, "irqchip %u is not known", irqchip);
	if (!impost_caps_has(&b->caps, needs[irqchip]))
		return impost_host_error(args->host, -ENOTSUP,
					 "this kernel's KVM has no irqchip of kind %u", irqchip);
	if (!args->max_vcpus || args->max_vcpus > b->caps.max_vcpus)
		return impost_host_error(args->host, -EINVAL, "%u vCPUs: KVM has 1 to %u here",
					 args->max_vcpus, b->caps.max_vcpus);
	if (!args->kick_signal || args->kick_signal > 64)
		return impost_host_error(args->host, -EINVAL, "kick signal %u: there is none such",
					 args->kick_signal);
	if (args->kick_by > IMPOST_KICK_HANDLER)
		return impost_host_error(args->host, -EINVAL, "kick_by %u is not known",
					 args->kick_by);
	*ret_irqchip = irqchip;
	return 0;
}

int32_t kvm_vm_create(void *backend, const struct impost_vm_args *args, void **ret_vm)
{
	struct vm *vm;
	uint32_t irqchip = 0;
	int32_t r = check_args(backend, args, &irqchip);

	if (r)
		return r;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return kvm_error(args->host, ENOMEM, "making a VM");
	vm->backend = backend;
	vm->host = args->host;
	vm->fd = -1;
	vm->pid = getpid();
	vm->irqchip = irqchip;
	vm->max_vcpus = args->max_vcpus;
	vm->kick_signal = args->kick_signal;
	vm->kick_by = args->kick_by;
	pthread_mutex_init(&vm->lock, NULL);
	r = create_fd(vm);
	if (r >= 0)
		r = set_addresses(vm);
	if (r >= 0)
		r = enable_reporting(vm);
	if (r >= 0)
		r = kvm_dirty_enable(vm);
	if (r < 0) {
		vm_destroy(vm);
		return r;
	}
	vm->xsave_bytes = kvm_extension(vm->fd, KVM_CAP_XSAVE2);
	*ret_vm = vm;
	return 0;
}

const struct impost_vm_ops kvm_vm_ops = {
	.size = sizeof(kvm_vm_ops),
	.destroy = vm_destroy,
	.vcpu_create = kvm_vcpu_create,
	.mem_add = kvm_mem_add,
	.mem_remove = kvm_mem_remove,
	.dirty_start = kvm_dirty_start,
	.dirty_stop = kvm_dirty_stop,
	.dirty_fetch = kvm_dirty_fetch,
	.dirty_clear = kvm_dirty_clear,
	.irq_line = kvm_irq_line,
	.msi = kvm_msi,
	.gsi_routes = kvm_gsi_routes,
	.irqfd = kvm_irqfd,
	.ioeventfd = kvm_ioeventfd,
	.msr_exits = kvm_msr_exits,
	.state_get = kvm_vm_state_get,
	.state_set = kvm_vm_state_set,
};
