/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID: what the mock's CPU has, and what each vCPU was given. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define B(field) UINT32_C(1) << BIT_##field
#define S4(s) \
	((uint32_t)(s)[0] | (uint32_t)(s)[1] << 8 | (uint32_t)(s)[2] << 16 | (uint32_t)(s)[3] << 24)
#define SUB IMPOST_X86_CPUID_SUBLEAF

/* clang-format off */
/* Number of each field's lowest bit in its register. */
enum {
#define IMPOST_X86_CPUID_FIELD(leaf, sub, reg, high, low, NAME, KIND, flag, meaning) BIT_##NAME = low,
#include <impost/x86_64/cpuid.def>
};

#define CPUID(leaf, sub, flags, a, b, c, d) {leaf, sub, flags, a, b, c, d, 0},
static const struct impost_x86_cpuid supported[] = {
#include "cpuid.def"
};
/* clang-format on */

static int32_t out(const struct mock_vm *vm, const struct impost_x86_cpuid *from, uint32_t have,
		   struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *ret_count)
{
	*ret_count = have;
	if (have > capacity)
		return vm ? mock_error(vm, -ENOSPC, "there are %u CPUID entries", have) : -ENOSPC;
	if (have)
		memcpy(entries, from, have * sizeof(*entries));
	return 0;
}

int32_t mock_cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			     uint32_t *ret_count)
{
	const struct mock_backend *b = backend;
	int32_t err = out(NULL, supported, ARRAY_LEN(supported), entries, capacity, ret_count);

	return err ? impost_host_error(&b->host, err, "there are %zu CPUID entries",
				       ARRAY_LEN(supported))
		   : 0;
}

/* Two entries that answer for one question. */
static bool doubled(const struct impost_x86_cpuid *a, const struct impost_x86_cpuid *b)
{
	bool any = !(a->flags & SUB) || !(b->flags & SUB);

	return a->leaf == b->leaf && (any || a->subleaf == b->subleaf);
}

static int32_t copy_in(const struct mock_vm *vm, const struct impost_x86_cpuid *entries,
		       uint32_t count, struct impost_x86_cpuid **ret_copy)
{
	struct impost_x86_cpuid *copy;
	uint32_t i, k;

	if (count > MOCK_MAX_CPUID)
		return mock_error(vm, -EINVAL, "%u CPUID entries: the mock takes %u", count,
				  MOCK_MAX_CPUID);
	for (i = 0; i < count; i++) {
		if (entries[i].flags & ~SUB)
			return mock_error(vm, -EINVAL, "CPUID leaf %#x: unknown flags %#x",
					  entries[i].leaf, entries[i].flags);
		for (k = 0; k < i; k++)
			if (doubled(&entries[i], &entries[k]))
				return mock_error(vm, -EINVAL,
						  "CPUID leaf %#x, sub-leaf %u, is there twice",
						  entries[i].leaf, entries[i].subleaf);
	}
	copy = calloc((size_t)count + 1, sizeof(*copy));
	if (!copy)
		return mock_error(vm, -ENOMEM, "out of memory");
	if (count)
		memcpy(copy, entries, count * sizeof(*copy));
	*ret_copy = copy;
	return 0;
}

int32_t mock_cpuid_set(void *handle, const struct impost_x86_cpuid *entries, uint32_t count)
{
	struct mock_vcpu *v = handle;
	struct impost_x86_cpuid *copy;
	int32_t err;

	if (v->vm->backend->cpuid_per_vm)
		return mock_error(v->vm, -ENOTSUP, "CPUID is set for the VM here (cpuid = vm)");
	if (v->has_run)
		return mock_error(v->vm, -EBUSY, "CPUID of vCPU %u: it has run", v->id);
	err = copy_in(v->vm, entries, count, &copy);
	if (err)
		return err;
	free(v->cpuid);
	v->cpuid = copy;
	v->ncpuid = count;
	v->checked = false;
	return 0;
}

/* The VM's CPUID is every vCPU's, but for the APIC id, which is each one's own. */
int32_t mock_vm_cpuid_set(void *handle, const struct impost_x86_cpuid *entries, uint32_t count)
{
	struct mock_vm *vm = handle;
	struct impost_x86_cpuid *copy, *old = NULL;
	int32_t err;

	if (!vm->backend->cpuid_per_vm)
		return mock_error(vm, -ENOTSUP, "CPUID is set on each vCPU here (cpuid = vcpu)");
	err = copy_in(vm, entries, count, &copy);
	if (err)
		return err;
	pthread_mutex_lock(&vm->lock);
	if (vm->has_run) {
		err = mock_error(vm, -EBUSY, "CPUID of the VM: a vCPU has run");
		old = copy;
	} else {
		old = vm->cpuid;
		vm->cpuid = copy;
		vm->ncpuid = count;
	}
	pthread_mutex_unlock(&vm->lock);
	free(old);
	return err;
}

/* APIC ids stand in leaf 1 (EBX 31:24) and in leaves 0xb and 0x1f (EDX). */
static void put_apic_id(struct impost_x86_cpuid *entries, uint32_t count, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (entries[i].leaf == 1)
			entries[i].ebx = (entries[i].ebx & 0xffffff) | id << 24;
		if (entries[i].leaf == 0xb || entries[i].leaf == 0x1f)
			entries[i].edx = id;
	}
}

int32_t mock_cpuid_get(void *handle, struct impost_x86_cpuid *entries, uint32_t capacity,
		       uint32_t *ret_count)
{
	struct mock_vcpu *v = handle;
	struct mock_vm *vm = v->vm;
	int32_t err;

	if (!vm->backend->cpuid_per_vm)
		return out(vm, v->cpuid, v->ncpuid, entries, capacity, ret_count);
	pthread_mutex_lock(&vm->lock);
	err = out(vm, vm->cpuid, vm->ncpuid, entries, capacity, ret_count);
	pthread_mutex_unlock(&vm->lock);
	if (!err)
		put_apic_id(entries, *ret_count, v->id);
	return err;
}

static int32_t copy_supported(const struct mock_vm *vm, struct impost_x86_cpuid **ret_copy,
			      uint32_t *ret_count)
{
	*ret_count = ARRAY_LEN(supported);
	return copy_in(vm, supported, ARRAY_LEN(supported), ret_copy);
}

int32_t mock_cpuid_default_vm(struct mock_vm *vm)
{
	return copy_supported(vm, &vm->cpuid, &vm->ncpuid);
}

int32_t mock_cpuid_default(struct mock_vcpu *v)
{
	int32_t err = copy_supported(v->vm, &v->cpuid, &v->ncpuid);

	if (!err)
		put_apic_id(v->cpuid, v->ncpuid, v->id);
	return err;
}

/* --- what the guest's CPU can do, by its CPUID --- */

/* LEAF, sub-leaf 0, as V's guest sees it; all zero if it has none. */
static struct impost_x86_cpuid leaf_of(const struct mock_vcpu *v, uint32_t leaf)
{
	struct mock_vm *vm = v->vm;
	bool per_vm = vm->backend->cpuid_per_vm;
	struct impost_x86_cpuid found = {.leaf = leaf};
	const struct impost_x86_cpuid *entries;
	uint32_t count, i;

	if (per_vm)
		pthread_mutex_lock(&vm->lock);
	entries = per_vm ? vm->cpuid : v->cpuid;
	count = per_vm ? vm->ncpuid : v->ncpuid;
	for (i = 0; i < count; i++)
		if (entries[i].leaf == leaf && (!(entries[i].flags & SUB) || !entries[i].subleaf)) {
			found = entries[i];
			break;
		}
	if (per_vm)
		pthread_mutex_unlock(&vm->lock);
	return found;
}

/* Address width as leaf 0x80000008 says; else as 36, what PAE had (SDM vol. 3, 4.1.4). */
uint32_t mock_cpuid_phys_bits(const struct mock_vcpu *v)
{
	uint32_t bits = leaf_of(v, 0x80000008).eax & 0xff;

	return bits < 32 || bits > 52 ? 36 : bits;
}

bool mock_cpuid_has_la57(const struct mock_vcpu *v)
{
	return leaf_of(v, 7).ecx & (B(LA57));
}

bool mock_cpuid_has_1g_pages(const struct mock_vcpu *v)
{
	return leaf_of(v, 0x80000001).edx & (B(PAGE1GB));
}
