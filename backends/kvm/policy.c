/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest is told and what it may touch: CPUID, and MSRs that exit. */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "amx.h"
#include "internal.h"

#define LEAF_FEATURES	0x1u
#define LEAF_XSAVE	0xdu
#define LEAF_BRAND	0x80000002u /* to 0x80000004 */
#define LEAF_AMD_CACHES 0x80000005u
#define LEAF_ADDRESSES	0x80000008u

#define TSC_DEADLINE	(1u << 24) /* CPUID.01H:ECX */

/* --- CPUID --- */

union cpuid_table {
	struct kvm_cpuid2 head;
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     KVM_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

static union cpuid_table *table_new(const struct impost_host *host)
{
	union cpuid_table *table = calloc(1, sizeof(*table));

	if (!table)
		kvm_error(host, ENOMEM, "CPUID");
	return table;
}

static void entry_from_kernel(const struct kvm_cpuid_entry2 *e, struct impost_x86_cpuid *ret)
{
	*ret = (struct impost_x86_cpuid){
		.leaf = e->function,
		.subleaf = e->index,
		.flags = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? IMPOST_X86_CPUID_SUBLEAF : 0,
		.eax = e->eax,
		.ebx = e->ebx,
		.ecx = e->ecx,
		.edx = e->edx,
	};
}

static void entry_to_kernel(const struct impost_x86_cpuid *e, struct kvm_cpuid_entry2 *ret)
{
	*ret = (struct kvm_cpuid_entry2){
		.function = e->leaf,
		.index = e->subleaf,
		.flags = e->flags & IMPOST_X86_CPUID_SUBLEAF ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = e->eax,
		.ebx = e->ebx,
		.ecx = e->ecx,
		.edx = e->edx,
	};
}

/* Hands a table out, by the rule for arrays: the count also when there is not room enough. */
static int32_t table_give(const struct impost_host *host, const union cpuid_table *table,
			  struct impost_x86_cpuid *entries, uint32_t capacity, uint32_t *ret_count)
{
	uint32_t n = table->head.nent;

	*ret_count = n;
	if (n > capacity)
		return impost_host_error(host, -ENOSPC, "there are %u CPUID entries, not %u", n,
					 capacity);
	for (uint32_t i = 0; i < n; i++)
		entry_from_kernel(&table->head.entries[i], &entries[i]);
	return 0;
}

/*
 * The brand string and AMD's first-level caches, which some kernels (Linux 6.1) leave blank: they
 * are this CPU's. Whoever looks for them elsewhere would find another CPU's where what KVM said is
 * played back.
 */
static void fill_blanks(union cpuid_table *table)
{
	for (uint32_t i = 0; i < table->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->head.entries[i];

		if (e->function >= LEAF_BRAND && e->function <= LEAF_AMD_CACHES && !e->eax &&
		    !e->ebx && !e->ecx && !e->edx)
			__get_cpuid(e->function, &e->eax, &e->ebx, &e->ecx, &e->edx);
	}
}

/* What the kernel supports, asked now. */
static int32_t ask_supported(const struct backend *b, struct impost_x86_cpuid *entries,
			     uint32_t capacity, uint32_t *ret_count)
{
	union cpuid_table *table = table_new(b->host);
	int32_t r;

	if (!table)
		return -ENOMEM;
	table->head.nent = KVM_CPUID_ENTRIES;
	r = KVM_IOCTL(b->host, b->fd, KVM_GET_SUPPORTED_CPUID, table);
	if (!r) {
		fill_blanks(table);
		r = table_give(b->host, table, entries, capacity, ret_count);
	}
	free(table);
	return r;
}

/* As it was at open: the kernel takes a third of a millisecond to work it out. */
int32_t kvm_cpuid_supported(void *backend, struct impost_x86_cpuid *entries, uint32_t capacity,
			    uint32_t *ret_count)
{
	const struct backend *b = backend;

	if (b->cpuid)
		return table_give(b->host, b->cpuid, entries, capacity, ret_count);
	return ask_supported(b, entries, capacity, ret_count);
}

/*
 * As it was set: that is what another host must have. The kernel's own answer follows what the
 * guest does (OSXSAVE), and where the processor cannot hide a bit it has that too, set or not.
 */
int32_t kvm_cpuid_get(void *handle, struct impost_x86_cpuid *entries, uint32_t capacity,
		      uint32_t *ret_count)
{
	const struct vcpu *v = handle;

	if (v->cpuid)
		return table_give(v->host, v->cpuid, entries, capacity, ret_count);
	*ret_count = 0;
	return 0;
}

int32_t kvm_cpuid_set(void *handle, const struct impost_x86_cpuid *entries, uint32_t count)
{
	struct vcpu *v = handle;
	union cpuid_table *table;
	uint64_t xcr0 = 0;
	int32_t r;

	if (v->ran)
		return impost_host_error(v->host, -EBUSY,
					 "vCPU %u has run: its CPUID cannot change any more",
					 v->id);
	if (count > KVM_CPUID_ENTRIES)
		return impost_host_error(v->host, -EINVAL, "%u CPUID entries: KVM takes %u", count,
					 KVM_CPUID_ENTRIES);
	table = table_new(v->host);
	if (!table)
		return -ENOMEM;
	table->head.nent = count;
	for (uint32_t i = 0; i < count; i++) {
		entry_to_kernel(&entries[i], &table->head.entries[i]);
		if (entries[i].leaf == LEAF_XSAVE && entries[i].subleaf == 0)
			xcr0 = (uint64_t)entries[i].edx << 32 | entries[i].eax;
	}
	r = KVM_IOCTL(v->host, v->fd, KVM_SET_CPUID2, table);
	if (r) {
		free(table);
		return r;
	}
	free(v->cpuid);
	v->cpuid = table;
	v->xcr0_allowed = xcr0;
	return 0;
}

void kvm_cpuid_probe(struct backend *b)
{
	union cpuid_table *table = calloc(1, sizeof(*table));

	if (!table)
		return;
	table->head.nent = KVM_CPUID_ENTRIES;
	if (ioctl(b->fd, KVM_GET_SUPPORTED_CPUID, table)) {
		free(table);
		return;
	}
	for (uint32_t i = 0; i < table->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->head.entries[i];

		if (e->function == LEAF_ADDRESSES)
			b->caps.phys_bits = e->eax & 0xff;
		/* Kernels as late as 6.1 tell of the timer by a capability alone (api.rst,
		 * KVM_GET_SUPPORTED_CPUID). */
		if (e->function == LEAF_FEATURES &&
		    kvm_extension(b->fd, KVM_CAP_TSC_DEADLINE_TIMER))
			e->ecx |= TSC_DEADLINE;
	}
	fill_blanks(table);
	if (!b->amx || !kvm_amx_granted(table->head.entries, table->head.nent))
		kvm_amx_hide(table->head.entries, table->head.nent);
	b->cpuid = table;
}

/* --- MSRs that exit --- */

/* x2APIC's registers: the kernel never filters them (Documentation/virt/kvm/api.rst,
 * KVM_X86_SET_MSR_FILTER). */
#define X2APIC_FIRST 0x800u
#define X2APIC_LAST  0x8ffu

/* MSRs in one range of the kernel's, which hangs a bitmap on each. */
#define FILTER_MSRS (KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8u)

static int32_t range_check(const struct vm *vm, const struct impost_msr_range *r)
{
	uint64_t end = (uint64_t)r->first + r->count;

	if (!r->count || end > UINT64_C(1) << 32 || !r->flags ||
	    (r->flags & ~(IMPOST_MSR_EXIT_READ | IMPOST_MSR_EXIT_WRITE)))
		return impost_host_error(vm->host, -EINVAL,
					 "%u MSRs from 0x%x, flags 0x%x: empty, wrapping or "
					 "unknown",
					 r->count, r->first, r->flags);
	if (r->first <= X2APIC_LAST && end > X2APIC_FIRST)
		return impost_host_error(
			vm->host, -ENOTSUP,
			"%u MSRs from 0x%x: KVM lets none of 0x%x to 0x%x (x2APIC) "
			"exit",
			r->count, r->first, X2APIC_FIRST, X2APIC_LAST);
	return 0;
}

/* Adds a range to the filter, cut into pieces of the kernel's size. A clear bit denies, and so
 * exits. */
static int32_t range_add(const struct vm *vm, const struct impost_msr_range *r,
			 struct kvm_msr_filter *filter, uint32_t *n, uint8_t *clear)
{
	for (uint32_t done = 0; done < r->count;) {
		uint32_t piece = r->count - done < FILTER_MSRS ? r->count - done : FILTER_MSRS;
		struct kvm_msr_filter_range *range = &filter->ranges[*n];

		if (*n == KVM_MSR_FILTER_MAX_RANGES)
			return impost_host_error(vm->host, -ENOSPC,
						 "KVM filters %u ranges of %u MSRs each at most",
						 KVM_MSR_FILTER_MAX_RANGES, FILTER_MSRS);
		if (r->flags & IMPOST_MSR_EXIT_READ)
			range->flags |= KVM_MSR_FILTER_READ;
		if (r->flags & IMPOST_MSR_EXIT_WRITE)
			range->flags |= KVM_MSR_FILTER_WRITE;
		range->base = r->first + done;
		range->nmsrs = piece;
		range->bitmap = clear;
		done += piece;
		++*n;
	}
	return 0;
}

static int32_t set_reasons(const struct vm *vm, uint32_t reasons)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {reasons}};

	return kvm_ioctl(vm->host, vm->fd, KVM_ENABLE_CAP,
			 "KVM_ENABLE_CAP KVM_CAP_X86_USER_SPACE_MSR", &cap);
}

/* Sets both halves of the policy, or none. The lock is held. */
static int32_t msr_policy(struct vm *vm, const struct kvm_msr_filter *filter, uint32_t reasons)
{
	int32_t r = set_reasons(vm, reasons);

	if (r)
		return r;
	r = KVM_IOCTL(vm->host, vm->fd, KVM_X86_SET_MSR_FILTER, filter);
	if (r) {
		struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
					     .args = {vm->msr_reasons}};

		ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
		return r;
	}
	vm->msr_reasons = reasons;
	return 0;
}

int32_t kvm_msr_exits(void *handle, const struct impost_msr_range *ranges, uint32_t nranges,
		      uint32_t unknown)
{
	struct vm *vm = handle;
	uint8_t clear[KVM_MSR_FILTER_MAX_BITMAP_SIZE] = {0};
	struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
	uint32_t n = 0, reasons = 0;
	int32_t r = 0;

	for (uint32_t i = 0; i < nranges && !r; i++) {
		r = range_check(vm, &ranges[i]);
		if (!r)
			r = range_add(vm, &ranges[i], &filter, &n, clear);
	}
	if (r)
		return r;
	if (nranges)
		reasons |= KVM_MSR_EXIT_REASON_FILTER;
	if (unknown)
		reasons |= KVM_MSR_EXIT_REASON_UNKNOWN;
	pthread_mutex_lock(&vm->lock);
	r = msr_policy(vm, &filter, reasons);
	pthread_mutex_unlock(&vm->lock);
	return r;
}
