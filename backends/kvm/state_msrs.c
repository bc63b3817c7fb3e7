/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs: which have state, and getting and setting them. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <impost/x86_64/cpuid.h>

#include "internal.h"

/* Neutral and kernel's entry are the same, so arrays are copied whole. */
static_assert(sizeof(struct impost_x86_msr) == sizeof(struct kvm_msr_entry) &&
		      offsetof(struct impost_x86_msr, index) ==
			      offsetof(struct kvm_msr_entry, index) &&
		      offsetof(struct impost_x86_msr, value) ==
			      offsetof(struct kvm_msr_entry, data),
	      "MSR entries are handed through");

/* MSRs done in one system call, enough for all that a vCPU has; they lie on the stack. */
#define BATCH 256u

union batch {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + BATCH * sizeof(struct kvm_msr_entry)];
};

/* The memory type ranges have state, but the kernel's list leaves them out (SDM vol. 3, 12.11.2).
 */
static const struct {
	uint32_t first, count;
} not_listed[] = {
	{IMPOST_X86_MSR_IA32_MTRR_PHYSBASE0, 16}, /* to PHYSMASK7 */
	{IMPOST_X86_MSR_IA32_MTRR_FIX64K_00000, 1},
	{IMPOST_X86_MSR_IA32_MTRR_FIX16K_80000, 2}, /* and A0000 */
	{IMPOST_X86_MSR_IA32_MTRR_FIX4K_C0000, 8},  /* to F8000 */
	{IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE, 1},
};

/*
 * Nor does it list the banks of the machine-check architecture, four MSRs each from IA32_MC0_CTL on
 * (SDM vol. 3, 16.3.2), of which every vCPU has as many as KVM_CAP_MCE says, unless
 * KVM_X86_SETUP_MCE says otherwise.
 */
#define BANK_MSRS  4u
#define MOST_BANKS 32u

struct list {
	uint32_t *indices;
	uint32_t capacity;
	uint32_t count;
};

static void list_add(struct list *list, const struct kvm_msr_list *known, uint32_t index)
{
	for (uint32_t i = 0; known && i < known->nmsrs; i++)
		if (known->indices[i] == index)
			return;
	if (list->count < list->capacity)
		list->indices[list->count] = index;
	list->count++;
}

int32_t kvm_kernel_msrs(const struct backend *b, unsigned long request, const char *name,
			struct kvm_msr_list **ret_known)
{
	struct kvm_msr_list probe = {0}, *known;
	int32_t r;

	/* Fails with E2BIG, and says how many there are. */
	if (ioctl(b->fd, request, &probe) && errno != E2BIG)
		return kvm_error(b->host, errno, name);
	known = calloc(1, sizeof(*known) + probe.nmsrs * sizeof(known->indices[0]));
	if (!known)
		return kvm_error(b->host, ENOMEM, "listing MSRs");
	known->nmsrs = probe.nmsrs;
	r = kvm_ioctl(b->host, b->fd, request, name, known);
	if (r) {
		free(known);
		return r;
	}
	*ret_known = known;
	return 0;
}

/* Everything, as far as there is room. */
static void list_all(struct list *list, const struct kvm_msr_list *known, uint32_t banks)
{
	list->count = 0;
	for (uint32_t i = 0; i < known->nmsrs; i++)
		list_add(list, NULL, known->indices[i]);
	for (size_t k = 0; k < sizeof(not_listed) / sizeof(not_listed[0]); k++)
		for (uint32_t i = 0; i < not_listed[k].count; i++)
			list_add(list, known, not_listed[k].first + i);
	for (uint32_t i = 0; i < banks * BANK_MSRS; i++)
		list_add(list, known, IMPOST_X86_MSR_IA32_MC0_CTL + i);
}

int32_t kvm_msr_list(void *backend, uint32_t *indices, uint32_t capacity, uint32_t *ret_count)
{
	const struct backend *b = backend;
	struct kvm_msr_list *known = NULL;
	uint32_t banks = kvm_extension(b->fd, KVM_CAP_MCE);
	struct list list = {.capacity = 0};
	int32_t r = KVM_MSR_LIST(b, KVM_GET_MSR_INDEX_LIST, &known);

	if (!known)
		return r;
	if (banks > MOST_BANKS)
		banks = MOST_BANKS;
	/* Once to count, so that too small a buffer is left as it was, and once to fill. */
	list_all(&list, known, banks);
	if (list.count <= capacity) {
		list = (struct list){.indices = indices, .capacity = capacity};
		list_all(&list, known, banks);
	}
	free(known);
	*ret_count = list.count;
	if (list.count > capacity)
		return impost_host_error(b->host, -ENOSPC, "there are %u MSRs, not %u", list.count,
					 capacity);
	return 0;
}

static int32_t get_refused(const struct vcpu *v, const struct impost_x86_msr *msr)
{
	return impost_host_error(v->host, -ENOENT, "KVM_GET_MSRS: there is no MSR 0x%x here",
				 msr->index);
}

static int32_t set_refused(const struct vcpu *v, const struct impost_x86_msr *msr)
{
	union batch one = {.head = {.nmsrs = 1}};

	one.head.entries[0].index = msr->index;
	if (ioctl(v->fd, KVM_GET_MSRS, &one) != 1)
		return impost_host_error(v->host, -ENOENT,
					 "KVM_SET_MSRS: there is no MSR 0x%x here", msr->index);
	return impost_host_error(v->host, -IMPOST_ESTATE,
				 "KVM_SET_MSRS: MSR 0x%x does not take the value 0x%llx",
				 msr->index, (unsigned long long)msr->value);
}

/* One of the two directions. */
struct transfer {
	unsigned long request;
	const char *name;
	int32_t (*refused)(const struct vcpu *v, const struct impost_x86_msr *msr);
};

static const struct transfer getting = {KVM_GET_MSRS, "KVM_GET_MSRS", get_refused};
static const struct transfer setting = {KVM_SET_MSRS, "KVM_SET_MSRS", set_refused};

/* Does COUNT MSRs from FROM, in batches; TO, if not NULL, gets the values. The kernel stops at the
 * first MSR that it refuses, and says how many it did. */
static int32_t transfer(const struct vcpu *v, const struct transfer *t,
			const struct impost_x86_msr *from, struct impost_x86_msr *to,
			uint32_t count, uint32_t *ret_done)
{
	union batch batch;
	int32_t r = kvm_vcpu_settled(v);
	uint32_t done = 0, n, got;

	for (; !r && done < count; done += got) {
		n = count - done < BATCH ? count - done : BATCH;
		batch.head = (struct kvm_msrs){.nmsrs = n};
		memcpy(batch.head.entries, from + done, n * sizeof(*from));
		r = kvm_ioctl(v->host, v->fd, t->request, t->name, &batch);
		got = r < 0 ? 0 : (uint32_t)r;
		for (uint32_t i = 0; to && i < got; i++)
			to[done + i].value = batch.head.entries[i].data;
		if (r >= 0)
			r = got < n ? t->refused(v, &from[done + got]) : 0;
	}
	*ret_done = done;
	return r;
}

int32_t kvm_msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count, uint32_t *ret_done)
{
	return transfer(vcpu, &getting, msrs, msrs, count, ret_done);
}

/* Eight memory types, of which there are 0, 1 and 4 to 7 (SDM vol. 3, 12.12.2). */
static bool pat_broken(const struct impost_x86_msr *msr)
{
	bool broken = false;

	for (unsigned shift = 0; shift < 64; shift += 8) {
		const uint8_t type = (uint8_t)(msr->value >> shift);

		broken |= type > 7 || type == 2 || type == 3;
	}
	return msr->index == IMPOST_X86_MSR_IA32_PAT && broken;
}

/* Not every module of the kernel's asks what PAT is set to: it is asked here. */
int32_t kvm_msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
		     uint32_t *ret_done)
{
	const struct vcpu *v = vcpu;
	uint32_t fine = 0;
	int32_t r;

	while (fine < count && !pat_broken(&msrs[fine]))
		fine++;
	r = transfer(v, &setting, msrs, NULL, fine, ret_done);
	return r || fine == count ? r : set_refused(v, &msrs[fine]);
}
