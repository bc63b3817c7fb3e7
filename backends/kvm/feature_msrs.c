/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs that tell of features, as guests have them here, before there is a guest. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <impost/x86_64/cpuid.h>

#include "internal.h"

/*
 * What no ioctl tells of /dev/kvm. The memory type ranges are the same in every guest: 8 variable
 * ones, the fixed ones, and write-combining (SDM vol. 3, 12.11.1), which the kernel lets nobody
 * change. The machine check banks are KVM_CAP_MCE, without further features unless
 * KVM_X86_SETUP_MCE, which this backend does not call, gives some.
 */
#define MTRRCAP	       0x508u
#define OF_THE_BACKEND 2u

static uint32_t add(struct impost_x86_msr *msrs, uint32_t count, uint32_t index, uint64_t value)
{
	for (uint32_t i = 0; i < count; i++)
		if (msrs[i].index == index)
			return count;
	msrs[count] = (struct impost_x86_msr){.index = index, .value = value};
	return count + 1;
}

/* Those of KNOWN whose values the kernel tells: of some in its list it does not. */
static uint32_t ask(const struct backend *b, const struct kvm_msr_list *known,
		    struct impost_x86_msr *msrs)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < known->nmsrs; i++) {
		union {
			struct kvm_msrs head;
			uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
		} one = {.head = {.nmsrs = 1}};

		one.head.entries[0].index = known->indices[i];
		if (ioctl(b->fd, KVM_GET_MSRS, &one) == 1)
			count = add(msrs, count, known->indices[i], one.head.entries[0].data);
	}
	return count;
}

static int32_t give(const struct backend *b, const struct impost_x86_msr *have, uint32_t count,
		    struct impost_x86_msr *msrs, uint32_t capacity, uint32_t *ret_count)
{
	*ret_count = count;
	if (count > capacity)
		return impost_host_error(b->host, -ENOSPC, "there are %u MSRs of features, not %u",
					 count, capacity);
	if (count)
		memcpy(msrs, have, count * sizeof(*msrs));
	return 0;
}

int32_t kvm_feature_msrs(void *backend, struct impost_x86_msr *msrs, uint32_t capacity,
			 uint32_t *ret_count)
{
	const struct backend *b = backend;
	struct kvm_msr_list none = {.nmsrs = 0}, *known = NULL;
	uint32_t banks = kvm_extension(b->fd, KVM_CAP_MCE), count;
	struct impost_x86_msr *have;
	int32_t r = 0;

	if (kvm_extension(b->fd, KVM_CAP_GET_MSR_FEATURES))
		r = KVM_MSR_LIST(b, KVM_GET_MSR_FEATURE_INDEX_LIST, &known);
	if (r)
		return r;
	have = calloc((known ? known->nmsrs : 0) + OF_THE_BACKEND, sizeof(*have));
	if (!have) {
		free(known);
		return kvm_error(b->host, ENOMEM, "MSRs of features");
	}
	count = ask(b, known ? known : &none, have);
	count = add(have, count, IMPOST_X86_MSR_IA32_MTRRCAP, MTRRCAP);
	if (banks)
		count = add(have, count, IMPOST_X86_MSR_IA32_MCG_CAP, banks);
	r = give(b, have, count, msrs, capacity, ret_count);
	free(have);
	free(known);
	return r;
}
