/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: routes, and the log of what was sent. The mock has no controller logic: a line that
 * rises wakes every vCPU, a message those that its destination names.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define ISA_LINES   16u
#define IOAPIC_PINS IMPOST_X86_IOAPIC_PINS
#define PIC_PINS    8u
#define LOG_MAX	    (1u << 20)

int32_t mock_irq_log(struct mock_vm *vm, const struct impost_mock_irq *irq)
{
	int32_t err = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->nirqs == LOG_MAX)
		err = -ENOSPC;
	else if (!(vm->nirqs & (vm->nirqs + 1))) { /* full: room is 2^n - 1 */
		size_t room = ((size_t)vm->nirqs + 1) * 2 - 1;
		struct impost_mock_irq *irqs = realloc(vm->irqs, room * sizeof(*irqs));

		if (irqs)
			vm->irqs = irqs;
		else
			err = -ENOMEM;
	}
	if (!err)
		vm->irqs[vm->nirqs++] = *irq;
	pthread_mutex_unlock(&vm->lock);
	return err;
}

/* --- routes --- */

int32_t mock_irq_default_routes(struct mock_vm *vm)
{
	uint32_t gsi;

	if (vm->irqchip != IMPOST_IRQCHIP_FULL)
		return 0;
	vm->routes = calloc(ISA_LINES + IOAPIC_PINS, sizeof(*vm->routes));
	if (!vm->routes)
		return mock_error(vm, -ENOMEM, "out of memory");
	for (gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < ISA_LINES)
			vm->routes[vm->nroutes++] = (struct impost_gsi_route){
				.gsi = gsi,
				.type = gsi < PIC_PINS ? IMPOST_ROUTE_PIC_MASTER
						       : IMPOST_ROUTE_PIC_SLAVE,
				.pin = gsi % PIC_PINS,
			};
		vm->routes[vm->nroutes++] = (struct impost_gsi_route){
			.gsi = gsi, .type = IMPOST_ROUTE_IOAPIC, .pin = gsi};
	}
	return 0;
}

static int32_t check_route(struct mock_vm *vm, const struct impost_gsi_route *r)
{
	bool msi = r->type == IMPOST_ROUTE_MSI;
	uint32_t pins = r->type == IMPOST_ROUTE_IOAPIC ? IOAPIC_PINS : PIC_PINS;

	if (r->gsi >= MOCK_MAX_GSIS)
		return mock_error(vm, -EINVAL, "GSI %u: they end at %u", r->gsi, MOCK_MAX_GSIS - 1);
	if (r->type < IMPOST_ROUTE_PIC_MASTER || r->type > IMPOST_ROUTE_MSI)
		return mock_error(vm, -EINVAL, "GSI %u: route type %u is not known", r->gsi,
				  r->type);
	if (!msi && vm->irqchip != IMPOST_IRQCHIP_FULL)
		return mock_error(vm, -EINVAL, "GSI %u: the VM has no controller with pins",
				  r->gsi);
	if (!msi && r->pin >= pins)
		return mock_error(vm, -EINVAL, "GSI %u: pin %u, but the controller has %u", r->gsi,
				  r->pin, pins);
	return 0;
}

int32_t mock_gsi_routes(void *handle, const struct impost_gsi_route *routes, uint32_t nroutes)
{
	struct mock_vm *vm = handle;
	struct impost_gsi_route *copy;
	uint32_t i;

	if (vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(vm, -ENOTSUP, "the VM has no interrupt controller to route to");
	for (i = 0; i < nroutes; i++) {
		int32_t err = check_route(vm, &routes[i]);

		if (err)
			return err;
	}
	copy = calloc((size_t)nroutes + 1, sizeof(*copy));
	if (!copy)
		return mock_error(vm, -ENOMEM, "out of memory");
	if (nroutes)
		memcpy(copy, routes, nroutes * sizeof(*copy));
	pthread_mutex_lock(&vm->lock);
	free(vm->routes);
	vm->routes = copy;
	vm->nroutes = nroutes;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

/* --- sending --- */

/*
 * Wakes the vCPUs that a message's destination names (SDM vol. 3, 11.11.1): a physical one by APIC
 * id, 0xff being all; a logical one, whose map is the guest's business, all.
 */
static void wake_destination(struct mock_vm *vm, uint64_t address)
{
	uint32_t id = (uint32_t)(address >> 12 & 0xff) | (uint32_t)(address >> 32 & ~0xffu);
	bool all = (address & 4) || (id & 0xff) == 0xff;
	struct mock_vcpu *v;

	for (v = vm->vcpus; v; v = v->next)
		if (all || v->id == id)
			mock_vcpu_interrupt(v);
}

/* Follows the routes of GSI, with the lock held. False: there is none. */
static bool follow_routes(struct mock_vm *vm, uint32_t gsi, uint32_t level)
{
	bool found = false;
	uint32_t i;

	for (i = 0; i < vm->nroutes; i++) {
		const struct impost_gsi_route *r = &vm->routes[i];

		if (r->gsi != gsi)
			continue;
		found = true;
		if (level)
			wake_destination(vm, r->type == IMPOST_ROUTE_MSI ? r->msi_address : 4);
	}
	return found;
}

static bool has_route(struct mock_vm *vm, uint32_t gsi)
{
	bool found;

	pthread_mutex_lock(&vm->lock);
	found = follow_routes(vm, gsi, 0);
	pthread_mutex_unlock(&vm->lock);
	return found;
}

int32_t mock_irq_raise(struct mock_vm *vm, const struct impost_mock_irq *irq)
{
	int32_t err;

	if (!has_route(vm, irq->gsi))
		return -EINVAL;
	err = mock_irq_log(vm, irq);
	if (err)
		return err;
	pthread_mutex_lock(&vm->lock);
	follow_routes(vm, irq->gsi, irq->level);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int32_t mock_irq_line(void *handle, uint32_t gsi, uint32_t level)
{
	struct mock_vm *vm = handle;
	struct impost_mock_irq irq = {.kind = IMPOST_MOCK_IRQ_LINE, .gsi = gsi, .level = level};
	int32_t err;

	if (vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(vm, -ENOTSUP, "line %u: the VM has no interrupt controller", gsi);
	if (level > 1)
		return mock_error(vm, -EINVAL, "line %u: level %u is neither 0 nor 1", gsi, level);
	err = mock_irq_raise(vm, &irq);
	return err ? mock_error(vm, err, "interrupt line %u: %s", gsi,
				err == -EINVAL ? "no route leads from it" : "the log is full")
		   : 0;
}

int32_t mock_msi(void *handle, uint64_t address, uint32_t data)
{
	struct mock_vm *vm = handle;
	struct impost_mock_irq irq = {
		.kind = IMPOST_MOCK_IRQ_MSI, .address = address, .data = data};
	int32_t err;

	if (vm->irqchip == IMPOST_IRQCHIP_NONE)
		return mock_error(vm, -ENOTSUP, "the VM has no local APIC to take a message");
	if ((address & UINT64_C(0xfff00000)) != 0xfee00000)
		return mock_error(vm, -EINVAL,
				  "message address %#llx: bits 31:20 must be 0xfee (SDM vol. 3, "
				  "11.11.1)",
				  (unsigned long long)address);
	err = mock_irq_log(vm, &irq);
	if (err)
		return mock_error(vm, err, "the interrupt log is full");
	pthread_mutex_lock(&vm->lock);
	wake_destination(vm, address);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}
