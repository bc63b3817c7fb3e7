/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts: lines, messages, routes, eventfds, NMIs and injection by the host. */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "internal.h"

#define PIC_PINS 8

static void routed_set(struct vm *vm, const uint64_t *bits)
{
	for (size_t i = 0; i < KVM_GSIS / 64; i++)
		atomic_store(&vm->gsi_routed[i], bits[i]);
}

/* The kernel's own table at the start: GSIs 0 to 23 are the I/O APIC's pins; none with a split
 * irqchip. */
void kvm_routes_default(struct vm *vm)
{
	uint64_t bits[KVM_GSIS / 64] = {0};

	if (vm->irqchip == IMPOST_IRQCHIP_FULL)
		bits[0] = (UINT64_C(1) << KVM_IOAPIC_NUM_PINS) - 1;
	routed_set(vm, bits);
}

static int32_t need_lapics(struct vm *vm, const char *what)
{
	if (vm->irqchip != IMPOST_IRQCHIP_NONE)
		return kvm_irqchip_need(vm);
	return impost_host_error(vm->host, -ENOTSUP,
				 "%s: this VM has no interrupt controller in the kernel "
				 "(irqchip = none)",
				 what);
}

int32_t kvm_irq_line(void *handle, uint32_t gsi, uint32_t level)
{
	struct vm *vm = handle;
	struct kvm_irq_level line = {.irq = gsi, .level = level};
	int32_t r = need_lapics(vm, "interrupt line");

	if (r)
		return r;
	if (level > 1)
		return impost_host_error(vm->host, -EINVAL, "level %u of line %u: 0 or 1 is known",
					 level, gsi);
	/* The kernel says nothing about a line that leads nowhere. */
	if (gsi >= KVM_GSIS || !(atomic_load(&vm->gsi_routed[gsi / 64]) >> (gsi % 64) & 1))
		return impost_host_error(vm->host, -EINVAL, "interrupt line %u leads nowhere", gsi);
	return KVM_IOCTL(vm->host, vm->fd, KVM_IRQ_LINE, &line);
}

int32_t kvm_msi(void *handle, uint64_t address, uint32_t data)
{
	struct vm *vm = handle;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};
	int32_t r = need_lapics(vm, "message-signalled interrupt");

	if (r)
		return r;
	r = ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
	/* Above 0: delivered; 0: blocked; -1, which looks like EPERM: no local APIC takes it. */
	if (r > 0)
		return 0;
	if (r == 0 || errno == EPERM)
		return impost_host_error(vm->host, -EAGAIN, "message 0x%x to 0x%llx: %s", data,
					 (unsigned long long)address,
					 r ? "no local APIC takes it" : "the guest blocks it");
	return kvm_error(vm->host, errno, "KVM_SIGNAL_MSI");
}

static int32_t route_bad(const struct vm *vm, uint32_t n, const struct impost_gsi_route *route)
{
	return impost_host_error(vm->host, -EINVAL,
				 "route %u: GSI %u to pin %u of controller type %u: GSIs go to %u, "
				 "PIC pins to %u, I/O APIC pins to %u",
				 n, route->gsi, route->pin, route->type,
				 vm->backend->caps.max_gsis - 1, PIC_PINS - 1,
				 KVM_IOAPIC_NUM_PINS - 1);
}

/* One route in the kernel's form; false: it cannot be. */
static bool route_convert(const struct vm *vm, const struct impost_gsi_route *route,
			  struct kvm_irq_routing_entry *entry)
{
	static const struct {
		uint32_t chip, pins;
	} chips[] = {
		[IMPOST_ROUTE_PIC_MASTER] = {KVM_IRQCHIP_PIC_MASTER, PIC_PINS},
		[IMPOST_ROUTE_PIC_SLAVE] = {KVM_IRQCHIP_PIC_SLAVE, PIC_PINS},
		[IMPOST_ROUTE_IOAPIC] = {KVM_IRQCHIP_IOAPIC, KVM_IOAPIC_NUM_PINS},
	};

	*entry = (struct kvm_irq_routing_entry){.gsi = route->gsi};
	if (route->gsi >= vm->backend->caps.max_gsis)
		return false;
	if (route->type == IMPOST_ROUTE_MSI) {
		entry->type = KVM_IRQ_ROUTING_MSI;
		entry->u.msi.address_lo = (uint32_t)route->msi_address;
		entry->u.msi.address_hi = (uint32_t)(route->msi_address >> 32);
		entry->u.msi.data = route->msi_data;
		return true;
	}
	if (!route->type || route->type >= sizeof(chips) / sizeof(chips[0]) ||
	    route->pin >= chips[route->type].pins)
		return false;
	entry->type = KVM_IRQ_ROUTING_IRQCHIP;
	entry->u.irqchip.irqchip = chips[route->type].chip;
	entry->u.irqchip.pin = route->pin;
	return true;
}

int32_t kvm_gsi_routes(void *handle, const struct impost_gsi_route *routes, uint32_t nroutes)
{
	struct vm *vm = handle;
	uint64_t routed[KVM_GSIS / 64] = {0};
	struct kvm_irq_routing *table;
	int32_t r = need_lapics(vm, "interrupt routes");

	if (r)
		return r;
	if (nroutes > vm->backend->caps.max_gsis)
		return impost_host_error(vm->host, -EINVAL, "%u routes: KVM takes %u here", nroutes,
					 vm->backend->caps.max_gsis);
	table = calloc(1, sizeof(*table) + nroutes * sizeof(table->entries[0]));
	if (!table)
		return kvm_error(vm->host, ENOMEM, "setting interrupt routes");
	table->nr = nroutes;
	for (uint32_t i = 0; i < nroutes && !r; i++) {
		if (route_convert(vm, &routes[i], &table->entries[i]))
			routed[routes[i].gsi / 64] |= UINT64_C(1) << (routes[i].gsi % 64);
		else
			r = route_bad(vm, i, &routes[i]);
	}
	pthread_mutex_lock(&vm->lock);
	if (!r)
		r = KVM_IOCTL(vm->host, vm->fd, KVM_SET_GSI_ROUTING, table);
	if (!r)
		routed_set(vm, routed);
	pthread_mutex_unlock(&vm->lock);
	free(table);
	return r;
}

int32_t kvm_irqfd(void *handle, const struct impost_irqfd *irqfd)
{
	struct vm *vm = handle;
	struct kvm_irqfd arg = {
		.fd = (uint32_t)irqfd->fd,
		.gsi = irqfd->gsi,
		.flags = irqfd->remove ? KVM_IRQFD_FLAG_DEASSIGN : 0,
	};
	int32_t r = need_lapics(vm, "irqfd");

	if (r)
		return r;
	if (irqfd->gsi >= vm->backend->caps.max_gsis)
		return impost_host_error(vm->host, -EINVAL, "irqfd: GSI %u: they go to %u",
					 irqfd->gsi, vm->backend->caps.max_gsis - 1);
	if (irqfd->resample_fd >= 0 && !irqfd->remove) {
		arg.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		arg.resamplefd = (uint32_t)irqfd->resample_fd;
	}
	return KVM_IOCTL(vm->host, vm->fd, KVM_IRQFD, &arg);
}

int32_t kvm_ioeventfd(void *handle, const struct impost_ioeventfd *io)
{
	struct vm *vm = handle;
	struct kvm_ioeventfd arg = {
		.addr = io->address, .len = io->bytes, .fd = io->fd, .datamatch = io->match};

	if (io->space != IMPOST_SPACE_PIO && io->space != IMPOST_SPACE_MMIO)
		return impost_host_error(vm->host, -EINVAL, "ioeventfd: unknown address space %u",
					 io->space);
	if (io->space == IMPOST_SPACE_PIO)
		arg.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (io->has_match)
		arg.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (io->remove)
		arg.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return KVM_IOCTL(vm->host, vm->fd, KVM_IOEVENTFD, &arg);
}

int32_t kvm_nmi(void *handle)
{
	struct vcpu *v = handle;

	return KVM_IOCTL_VALUE(v->host, v->fd, KVM_NMI, 0);
}

static int32_t interrupt(const struct vcpu *v, uint32_t vector)
{
	struct kvm_interrupt irq = {.irq = vector};
	int32_t r = KVM_IOCTL(v->host, v->fd, KVM_INTERRUPT, &irq);

	return r == -EEXIST ? impost_host_error(v->host, -EBUSY,
						"an external interrupt is waiting already")
			    : r;
}

/*
 * Without an in-kernel APIC the kernel begins delivery whatever RFLAGS.IF says, so the vector is
 * held here until kvm_run says that the vCPU can take it (SDM vol. 3, 27.3.1.4: entry would fail
 * with IF clear).
 */
int32_t kvm_vector_offer(struct vcpu *v)
{
	int32_t r;

	if (!v->run->ready_for_interrupt_injection) {
		v->run->request_interrupt_window = 1;
		return 0;
	}
	r = interrupt(v, (uint32_t)v->vector);
	if (r)
		return r;
	v->vector = KVM_NO_VECTOR;
	v->run->ready_for_interrupt_injection = 0;
	v->run->request_interrupt_window = v->window;
	return 0;
}

static int32_t need_no_pic(const struct vcpu *v, const char *what)
{
	if (v->vm->irqchip != IMPOST_IRQCHIP_FULL)
		return 0;
	return impost_host_error(v->host, -ENOTSUP,
				 "%s: this VM's interrupt controllers are in the kernel "
				 "(irqchip = full)",
				 what);
}

int32_t kvm_irq_inject(void *handle, uint32_t vector)
{
	struct vcpu *v = handle;
	int32_t r = need_no_pic(v, "interrupt injection");

	if (r)
		return r;
	if (vector > 255)
		return impost_host_error(v->host, -EINVAL, "vector %u: they go to 255", vector);
	/* The local APIC's ExtINT: the kernel holds it. */
	if (v->vm->irqchip == IMPOST_IRQCHIP_LAPIC)
		return interrupt(v, vector);
	if (v->vector != KVM_NO_VECTOR)
		return impost_host_error(v->host, -EBUSY, "vector %d is waiting already",
					 v->vector);
	v->vector = (int32_t)vector;
	/* So that the next run looks at it. */
	v->thread = KVM_NO_THREAD;
	return 0;
}

/* --- the vector that waits, as state: the kernel does not know of it --- */

void kvm_vector_get(const struct vcpu *v, struct impost_x86_events *e)
{
	e->flags |= IMPOST_X86_EVENTS_WAITING;
	e->waiting = v->vector != KVM_NO_VECTOR;
	e->waiting_vector = e->waiting ? (uint8_t)v->vector : 0;
}

int32_t kvm_vector_check(const struct vcpu *v, const struct impost_x86_events *e)
{
	if (!(e->flags & IMPOST_X86_EVENTS_WAITING) || !e->waiting)
		return 0;
	if (e->waiting > 1)
		return impost_host_error(v->host, -IMPOST_ESTATE, "events: waiting is 0 or 1");
	if (v->vm->irqchip == IMPOST_IRQCHIP_NONE)
		return 0;
	return impost_host_error(v->host, -ENOTSUP,
				 "events: vector %u waits, and this VM's local APIC is in the "
				 "kernel, where none can (irqchip is not none)",
				 e->waiting_vector);
}

void kvm_vector_set(struct vcpu *v, const struct impost_x86_events *e)
{
	if (!(e->flags & IMPOST_X86_EVENTS_WAITING))
		return;
	v->vector = e->waiting ? (int32_t)e->waiting_vector : KVM_NO_VECTOR;
	v->run->request_interrupt_window = v->window || e->waiting;
	/* So that the next run looks at it. */
	v->thread = KVM_NO_THREAD;
}

int32_t kvm_irq_window(void *handle, uint32_t on)
{
	struct vcpu *v = handle;
	int32_t r = need_no_pic(v, "interrupt window");

	if (r)
		return r;
	v->window = on != 0;
	/* A vector that waits needs the window, whether the host asks for one or not. */
	v->run->request_interrupt_window = v->window || v->vector != KVM_NO_VECTOR;
	return 0;
}
