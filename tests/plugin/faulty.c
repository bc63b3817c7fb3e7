/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock, of which calls fail when a test says so (faulty.h): those that a backend may fail and
 * that others do not depend on to take back what they have done. Runs and kicks of vCPUs do not
 * fail: those are the host's own.
 */
#include "faulty.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <impost/backend.h>

#include "mock.h"

static struct faulty faulty = {.first = -1};

static bool fails(const char *operation)
{
	long number = atomic_fetch_add(&faulty.calls, 1);
	long first = atomic_load(&faulty.first);

	if (first < 0 || number < first || number > atomic_load(&faulty.last))
		return false;
	atomic_store(&faulty.operation, operation);
	return true;
}

/* Operation NAME with PARAMETERS, whose names are GIVEN. */
#define OPERATION(of, ops, name, parameters, given)                     \
	static int32_t of##_##name parameters                           \
	{                                                               \
		return fails(#of " " #name) ? -EIO : (ops)->name given; \
	}

#define VM_OPERATIONS(X)                                                                         \
	X(vcpu_create, (void *vm, uint32_t id, void **ret_vcpu), (vm, id, ret_vcpu))             \
	X(mem_add, (void *vm, const struct impost_slot *slot), (vm, slot))                       \
	X(dirty_start, (void *vm, uint32_t slot), (vm, slot))                                    \
	X(dirty_fetch, (void *vm, uint32_t slot, uint64_t *bitmap, uint64_t nwords),             \
	  (vm, slot, bitmap, nwords))                                                            \
	X(dirty_clear,                                                                           \
	  (void *vm, uint32_t slot, uint64_t first, uint64_t npages, const uint64_t *bitmap),    \
	  (vm, slot, first, npages, bitmap))                                                     \
	X(pause, (void *vm), (vm))                                                               \
	X(gsi_routes, (void *vm, const struct impost_gsi_route *routes, uint32_t count),         \
	  (vm, routes, count))                                                                   \
	X(cpuid_set, (void *vm, const struct impost_x86_cpuid *entries, uint32_t count),         \
	  (vm, entries, count))                                                                  \
	X(state_get, (void *vm, uint32_t section, void *buf, uint32_t capacity, uint32_t *size), \
	  (vm, section, buf, capacity, size))                                                    \
	X(state_set, (void *vm, uint32_t section, const void *buf, uint32_t bytes),              \
	  (vm, section, buf, bytes))

#define VCPU_OPERATIONS(X)                                                                         \
	X(complete, (void *vcpu, struct impost_exit *exit), (vcpu, exit))                          \
	X(state_get, (void *vcpu, uint32_t section, void *buf, uint32_t capacity, uint32_t *size), \
	  (vcpu, section, buf, capacity, size))                                                    \
	X(state_set, (void *vcpu, uint32_t section, const void *buf, uint32_t bytes),              \
	  (vcpu, section, buf, bytes))                                                             \
	X(cpuid_set, (void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count),         \
	  (vcpu, entries, count))                                                                  \
	X(cpuid_get,                                                                               \
	  (void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *count),      \
	  (vcpu, entries, capacity, count))

#define BACKEND_OPERATIONS(X)                                                                    \
	X(open, (const struct impost_open_args *args, void **ret_backend), (args, ret_backend))  \
	X(caps, (void *backend, struct impost_caps *caps), (backend, caps))                      \
	X(vm_create, (void *backend, const struct impost_vm_args *args, void **ret_vm),          \
	  (backend, args, ret_vm))                                                               \
	X(cpuid_supported,                                                                       \
	  (void *backend, struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *count), \
	  (backend, entries, capacity, count))                                                   \
	X(msr_list, (void *backend, uint32_t *indices, uint32_t capacity, uint32_t *count),      \
	  (backend, indices, capacity, count))                                                   \
	X(feature_msrs,                                                                          \
	  (void *backend, struct impost_x86_msr *msrs, uint32_t capacity, uint32_t *count),      \
	  (backend, msrs, capacity, count))

#define VM_OPERATION(name, parameters, given) \
	OPERATION(vm, impost_mock_ops.vm, name, parameters, given)
#define VCPU_OPERATION(name, parameters, given) \
	OPERATION(vcpu, impost_mock_ops.vcpu, name, parameters, given)
#define BACKEND_OPERATION(name, parameters, given) \
	OPERATION(backend, &impost_mock_ops, name, parameters, given)

VM_OPERATIONS(VM_OPERATION)
VCPU_OPERATIONS(VCPU_OPERATION)
BACKEND_OPERATIONS(BACKEND_OPERATION)

/* Of MSRs none is done before the one that fails. */
static int32_t vcpu_msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count,
			     uint32_t *ret_done)
{
	if (!fails("vcpu msrs_get"))
		return impost_mock_ops.vcpu->msrs_get(vcpu, msrs, count, ret_done);
	*ret_done = 0;
	return -EIO;
}

static int32_t vcpu_msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
			     uint32_t *ret_done)
{
	if (!fails("vcpu msrs_set"))
		return impost_mock_ops.vcpu->msrs_set(vcpu, msrs, count, ret_done);
	*ret_done = 0;
	return -EIO;
}

static const void *extension(void *vm, const char *name, void **ret_handle)
{
	if (strcmp(name, FAULTY_CONTROL) != 0)
		return impost_mock_ops.vm->extension(vm, name, ret_handle);
	*ret_handle = &faulty;
	return &faulty;
}

/* Filled before the descriptor is looked at: the mock's tables with the operations above. */
static struct impost_vm_ops vm_ops;
static struct impost_vcpu_ops vcpu_ops;
static struct impost_backend_ops backend_ops;

#define VM_ENTRY(name, parameters, given)      vm_ops.name = vm_##name;
#define VCPU_ENTRY(name, parameters, given)    vcpu_ops.name = vcpu_##name;
#define BACKEND_ENTRY(name, parameters, given) backend_ops.name = backend_##name;

__attribute__((constructor)) static void fill(void)
{
	vm_ops = *impost_mock_ops.vm;
	vcpu_ops = *impost_mock_ops.vcpu;
	backend_ops = impost_mock_ops;
	VM_OPERATIONS(VM_ENTRY)
	VCPU_OPERATIONS(VCPU_ENTRY)
	BACKEND_OPERATIONS(BACKEND_ENTRY)
	vcpu_ops.msrs_get = vcpu_msrs_get;
	vcpu_ops.msrs_set = vcpu_msrs_set;
	vm_ops.extension = extension;
	backend_ops.vm = &vm_ops;
	backend_ops.vcpu = &vcpu_ops;
}

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_BACKEND,
	.name = "mock",
	.version = "0",
	.summary = "the mock, whose calls fail when a test says so",
	.capabilities = "those of the mock",
	.ops = &backend_ops,
	.options = impost_mock_options,
	.noptions = IMPOST_MOCK_NOPTIONS,
};
