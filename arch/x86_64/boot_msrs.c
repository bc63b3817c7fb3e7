/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs of every vCPU, as far as the backend has them. */
#include <stdlib.h>

#include "boot_steps.h"

#define IA32_MTRRCAP 0xfeu /* SDM vol. 3, 12.11.1 */
#define MTRR_PAIRS   0xffu
#define MSRS_MAX     (32u + IMPOST_X86_MTRRS(MTRR_PAIRS))

struct msr_list {
	uint32_t *indices;
	uint32_t count;
};

/* Gets the MSRs that the backend says it has. Free the indices, also after a failure. */
static int get_msr_list(const struct boot *boot, struct msr_list *ret_list)
{
	uint32_t capacity = 256;
	int err;

	do {
		free(ret_list->indices);
		ret_list->count = capacity;
		ret_list->indices = calloc(capacity, sizeof(*ret_list->indices));
		if (!ret_list->indices)
			return impost_error_set(boot->ctx, -ENOMEM,
						"boot: no memory for %u MSR indices", capacity);
		err = impost_vm_msr_list(boot->vm, ret_list->indices, capacity, &ret_list->count);
	} while (err == -ENOSPC && ret_list->count > capacity && (capacity = ret_list->count));
	return err;
}

static int is_listed(const struct msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->indices[i] == index)
			return 1;
	}
	return 0;
}

/* Adds the MTRRs that VCPU has to the *COUNT that are in MSRS. */
static int add_mtrrs(struct impost_vcpu *vcpu, struct impost_x86_msr msrs[MSRS_MAX],
		     uint32_t *count)
{
	struct impost_x86_mtrr_config config = {
		.size = sizeof(config),
		.phys_bits = impost_vm_caps(impost_vcpu_vm(vcpu))->phys_bits,
		.hole_start = IMPOST_X86_HOLE_START,
		.hole_end = IMPOST_X86_HOLE_END,
	};
	struct impost_x86_msr cap = {.index = IA32_MTRRCAP};
	uint32_t done, mtrrs;
	int err;

	if (!config.phys_bits || impost_vcpu_get_msrs(vcpu, &cap, 1, &done) < 0)
		return 0;
	config.variable = (uint32_t)(cap.value & MTRR_PAIRS);
	err = impost_x86_setup_mtrrs(&config, msrs + *count, MSRS_MAX - *count, &mtrrs);
	if (err < 0)
		return impost_error_set(impost_vm_context(impost_vcpu_vm(vcpu)), err,
					"boot: %u variable-range MTRRs do not suffice for the hole",
					config.variable);
	*count += mtrrs;
	return 0;
}

/*
 * Sets the boot MSRs of VCPU. One that the backend does not list (lists are incomplete: KVM's has
 * no MTRRs) is tried too, and may be refused: then it does not exist here.
 */
static int set_msrs(struct impost_vcpu *vcpu, const struct msr_list *list)
{
	struct impost_x86_msr msrs[MSRS_MAX];
	uint32_t count, done, at = 0;
	int err;

	err = impost_x86_setup_msrs(msrs, MSRS_MAX, &count);
	if (err == 0)
		err = add_mtrrs(vcpu, msrs, &count);
	while (err == 0 && at < count) {
		done = 0;
		err = impost_vcpu_set_msrs(vcpu, msrs + at, count - at, &done);
		at += done;
		if (err < 0 && at < count && !is_listed(list, msrs[at].index)) {
			err = 0;
			at++;
		}
	}
	return err;
}

int boot_set_msrs(const struct boot *boot)
{
	struct msr_list list = {NULL, 0};
	int err;

	err = get_msr_list(boot, &list);
	for (uint32_t i = 0; err == 0 && i < boot->count; i++)
		err = set_msrs(boot->vcpus[i], &list);
	free(list.indices);
	return err;
}
