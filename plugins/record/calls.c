/* SPDX-License-Identifier: Apache-2.0 */
/* How each operation's arguments and results become a cassette's. */
#include "record.h"

#define ARGS(scope, name) \
	static void args_##scope##_##name(const struct layer_call *call, struct cassette_values *v)

#define RESULTS(scope, name)                                                             \
	static void results_##scope##_##name(const struct layer_call *call, int32_t err, \
					     struct cassette_values *v)

/* A backend that fails before it has looked at any leaves *ret_done as it was; and one that says
 * that it gave more than there is room for is the core's to judge. */
static uint32_t done(uint32_t ret_done, uint32_t count)
{
	return ret_done < count ? ret_done : count;
}

/* With an error it is the room that it takes. */
static uint32_t size_of(uint32_t ret_size, uint32_t capacity, int32_t err)
{
	return err ? ret_size : done(ret_size, capacity);
}

ARGS(backend, vm_create)
{
	cassette_args_vm_create(v, LAYER_ARGS(call, backend, vm_create)->args);
}

ARGS(vm, vcpu_create)
{
	cassette_args_vcpu_create(v, LAYER_ARGS(call, vm, vcpu_create)->id);
}

ARGS(vm, mem_add)
{
	cassette_args_slot(v, LAYER_ARGS(call, vm, mem_add)->slot);
}

ARGS(vm, mem_provide)
{
	cassette_args_slot(v, LAYER_ARGS(call, vm, mem_provide)->slot);
}

ARGS(vm, mem_remove)
{
	cassette_args_mem_remove(v, LAYER_ARGS(call, vm, mem_remove)->slot);
}

RESULTS(vm, event)
{
	if (!err)
		cassette_results_exit(v, LAYER_ARGS(call, vm, event)->ret_exit);
}

ARGS(vm, io_claim)
{
	const struct layer_args_vm_io_claim *a = call->args;

	cassette_args_io_range(v, a->space, a->first, a->last);
}

ARGS(vm, io_release)
{
	const struct layer_args_vm_io_release *a = call->args;

	cassette_args_io_range(v, a->space, a->first, a->last);
}

ARGS(vm, irq_line)
{
	const struct layer_args_vm_irq_line *a = call->args;

	cassette_args_irq_line(v, a->gsi, a->level);
}

ARGS(vm, msi)
{
	const struct layer_args_vm_msi *a = call->args;

	cassette_args_msi(v, a->address, a->data);
}

ARGS(vm, gsi_routes)
{
	const struct layer_args_vm_gsi_routes *a = call->args;

	cassette_args_gsi_routes(v, a->routes, a->nroutes);
}

ARGS(vm, msr_exits)
{
	const struct layer_args_vm_msr_exits *a = call->args;

	cassette_args_msr_exits(v, a->ranges, a->nranges, a->unknown);
}

ARGS(vm, cpuid_set)
{
	const struct layer_args_vm_cpuid_set *a = call->args;

	cassette_args_cpuid(v, a->entries, a->count);
}

ARGS(vm, state_get)
{
	cassette_args_state_get(v, LAYER_ARGS(call, vm, state_get)->section);
}

RESULTS(vm, state_get)
{
	const struct layer_args_vm_state_get *a = call->args;

	cassette_results_state_get(v, err, a->buf, size_of(*a->ret_size, a->capacity, err));
}

ARGS(vm, state_set)
{
	const struct layer_args_vm_state_set *a = call->args;

	cassette_args_state_set(v, a->section, a->buf, a->bytes);
}

static const struct impost_exit *pending(const struct layer_call *call)
{
	const struct record_vcpu *vcpu = call->vcpu->data;

	return vcpu->pending ? &vcpu->exit : NULL;
}

ARGS(vcpu, run)
{
	cassette_args_run(v, pending(call));
}

RESULTS(vcpu, run)
{
	if (!err)
		cassette_results_exit(v, LAYER_ARGS(call, vcpu, run)->ret_exit);
}

ARGS(vcpu, complete)
{
	cassette_args_run(v, pending(call));
}

RESULTS(vcpu, complete)
{
	if (!err)
		cassette_results_exit(v, LAYER_ARGS(call, vcpu, complete)->ret_exit);
}

ARGS(vcpu, irq_inject)
{
	cassette_args_irq_inject(v, LAYER_ARGS(call, vcpu, irq_inject)->vector);
}

ARGS(vcpu, irq_window)
{
	cassette_args_irq_window(v, LAYER_ARGS(call, vcpu, irq_window)->on);
}

ARGS(vcpu, guest_debug)
{
	cassette_args_guest_debug(v, LAYER_ARGS(call, vcpu, guest_debug)->debug);
}

ARGS(vcpu, translate)
{
	cassette_args_translate(v, LAYER_ARGS(call, vcpu, translate)->gva);
}

RESULTS(vcpu, translate)
{
	if (!err)
		cassette_results_translate(v, *LAYER_ARGS(call, vcpu, translate)->ret_gpa);
}

ARGS(vcpu, state_get)
{
	cassette_args_state_get(v, LAYER_ARGS(call, vcpu, state_get)->section);
}

RESULTS(vcpu, state_get)
{
	const struct layer_args_vcpu_state_get *a = call->args;

	cassette_results_state_get(v, err, a->buf, size_of(*a->ret_size, a->capacity, err));
}

ARGS(vcpu, state_set)
{
	const struct layer_args_vcpu_state_set *a = call->args;

	cassette_args_state_set(v, a->section, a->buf, a->bytes);
}

ARGS(vcpu, msrs_get)
{
	const struct layer_args_vcpu_msrs_get *a = call->args;

	cassette_args_msrs_get(v, a->msrs, a->count);
}

RESULTS(vcpu, msrs_get)
{
	const struct layer_args_vcpu_msrs_get *a = call->args;

	cassette_results_msrs_get(v, a->msrs, err ? done(*a->ret_done, a->count) : a->count);
}

ARGS(vcpu, msrs_set)
{
	const struct layer_args_vcpu_msrs_set *a = call->args;

	cassette_args_msrs_set(v, a->msrs, a->count);
}

RESULTS(vcpu, msrs_set)
{
	const struct layer_args_vcpu_msrs_set *a = call->args;

	cassette_results_msrs_set(v, err ? done(*a->ret_done, a->count) : a->count);
}

ARGS(vcpu, cpuid_set)
{
	const struct layer_args_vcpu_cpuid_set *a = call->args;

	cassette_args_cpuid(v, a->entries, a->count);
}

RESULTS(vcpu, cpuid_get)
{
	const struct layer_args_vcpu_cpuid_get *a = call->args;

	cassette_results_cpuid_get(v, err, a->entries, size_of(*a->ret_count, a->capacity, err));
}

#define CALL(scope, name, OP, args_fn, results_fn) \
	[layer_op_##scope##_##name] = {CASSETTE_##OP, args_fn, results_fn}
#define WITH_BOTH(scope, name, OP) \
	CALL(scope, name, OP, args_##scope##_##name, results_##scope##_##name)
#define WITH_ARGS(scope, name, OP)    CALL(scope, name, OP, args_##scope##_##name, NULL)
#define WITH_RESULTS(scope, name, OP) CALL(scope, name, OP, NULL, results_##scope##_##name)
#define WITH_NONE(scope, name, OP)    CALL(scope, name, OP, NULL, NULL)

/* Rows that are not here have no name. */
static const struct call calls[LAYER_OPS] = {
	WITH_ARGS(backend, vm_create, VM_CREATE),
	WITH_NONE(vm, destroy, VM_DESTROY),
	WITH_ARGS(vm, vcpu_create, VCPU_CREATE),
	WITH_ARGS(vm, mem_add, MEM_ADD),
	WITH_ARGS(vm, mem_provide, MEM_PROVIDE),
	WITH_ARGS(vm, mem_remove, MEM_REMOVE),
	WITH_NONE(vm, pause, PAUSE),
	WITH_NONE(vm, resume, RESUME),
	WITH_RESULTS(vm, event, EVENT),
	WITH_NONE(vm, event_fd, EVENT_FD),
	WITH_ARGS(vm, io_claim, IO_CLAIM),
	WITH_ARGS(vm, io_release, IO_RELEASE),
	WITH_ARGS(vm, irq_line, IRQ_LINE),
	WITH_ARGS(vm, msi, MSI),
	WITH_ARGS(vm, gsi_routes, GSI_ROUTES),
	WITH_ARGS(vm, msr_exits, MSR_EXITS),
	WITH_ARGS(vm, cpuid_set, VM_CPUID_SET),
	WITH_BOTH(vm, state_get, VM_STATE_GET),
	WITH_ARGS(vm, state_set, VM_STATE_SET),
	WITH_NONE(vcpu, destroy, VCPU_DESTROY),
	WITH_BOTH(vcpu, run, RUN),
	WITH_BOTH(vcpu, complete, COMPLETE),
	WITH_NONE(vcpu, nmi, NMI),
	WITH_ARGS(vcpu, irq_inject, IRQ_INJECT),
	WITH_ARGS(vcpu, irq_window, IRQ_WINDOW),
	WITH_ARGS(vcpu, guest_debug, GUEST_DEBUG),
	WITH_BOTH(vcpu, translate, TRANSLATE),
	WITH_BOTH(vcpu, state_get, STATE_GET),
	WITH_ARGS(vcpu, state_set, STATE_SET),
	WITH_BOTH(vcpu, msrs_get, MSRS_GET),
	WITH_BOTH(vcpu, msrs_set, MSRS_SET),
	WITH_ARGS(vcpu, cpuid_set, CPUID_SET),
	WITH_RESULTS(vcpu, cpuid_get, CPUID_GET),
};

/* vm_create is the first of its enum: its row alone may have operation 0. */
static_assert(CASSETTE_VM_CREATE == 0, "a row of zeros is none");

const struct call *record_call(uint32_t op)
{
	return calls[op].op || op == layer_op_backend_vm_create ? &calls[op] : NULL;
}
