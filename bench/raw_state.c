/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a VM on plain ioctls: what getting it costs whoever does it. See raw.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "raw.h"

#define CPUID_ENTRIES 256
#define CHIPS	      3

struct raw_state {
	struct kvm_cpuid2 *cpuid;
	struct kvm_msrs *msrs; /* those that this KVM reads */
	struct kvm_xsave *xsave;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	uint64_t tsc_offset;
	struct kvm_irqchip chip[CHIPS];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

static int failed(const char *what)
{
	perror(what);
	return -1;
}

/* MSRs that the kernel lists, or has without listing them, and other ioctls have, or that are
 * commands: what libimpost does not read as MSRs either. */
static int is_left(uint32_t index)
{
	static const uint32_t left[] = {0x10, 0x1b, 0x49, 0x10b, 0xc0000080, 0x4b564d07};

	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		if (left[i] == index)
			return 1;
	return 0;
}

/* Those that the kernel's list leaves out: memory type ranges (SDM vol. 3, 12.11.2), and banks of
 * machine checks (SDM vol. 3, 16.3.2). */
static const struct {
	uint32_t first, count;
} unlisted[] = {{0x200, 16}, {0x250, 1}, {0x258, 2}, {0x268, 8}, {0x2ff, 1}, {0x400, 128}};
#define UNLISTED 156

/* Adds MSR INDEX to those that are read, if KVM reads it. */
static void add_msr(const struct raw_vm *raw, struct raw_state *state, uint32_t index)
{
	struct kvm_msrs *one = calloc(1, sizeof(*one) + sizeof(struct kvm_msr_entry));

	if (!one)
		return;
	one->nmsrs = 1;
	one->entries[0].index = index;
	if (!is_left(index) && ioctl(raw->vcpu, KVM_GET_MSRS, one) == 1)
		state->msrs->entries[state->msrs->nmsrs++].index = index;
	free(one);
}

static int list_msrs(const struct raw_vm *raw, struct raw_state *state)
{
	struct kvm_msr_list none = {.nmsrs = 0}, *list;

	if (ioctl(raw->kvm, KVM_GET_MSR_INDEX_LIST, &none) >= 0 || errno != E2BIG)
		return failed("KVM_GET_MSR_INDEX_LIST");
	list = calloc(1, sizeof(*list) + none.nmsrs * sizeof(list->indices[0]));
	state->msrs = calloc(1, sizeof(*state->msrs) +
					(none.nmsrs + UNLISTED) * sizeof(struct kvm_msr_entry));
	if (!list || !state->msrs) {
		free(list);
		return failed("calloc");
	}
	list->nmsrs = none.nmsrs;
	if (ioctl(raw->kvm, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		free(list);
		return failed("KVM_GET_MSR_INDEX_LIST");
	}
	for (uint32_t i = 0; i < list->nmsrs; i++)
		add_msr(raw, state, list->indices[i]);
	for (size_t i = 0; i < sizeof(unlisted) / sizeof(unlisted[0]); i++)
		for (uint32_t k = 0; k < unlisted[i].count; k++)
			add_msr(raw, state, unlisted[i].first + k);
	free(list);
	return 0;
}

void raw_state_free(struct raw_state *state)
{
	if (!state)
		return;
	free(state->cpuid);
	free(state->msrs);
	free(state->xsave);
	free(state);
}

struct raw_state *raw_state_new(const struct raw_vm *raw)
{
	struct raw_state *state = calloc(1, sizeof(*state));
	int bytes = ioctl(raw->vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	if (!state) {
		failed("calloc");
		return NULL;
	}
	state->cpuid =
		calloc(1, sizeof(*state->cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
	state->xsave = calloc(1, bytes > (int)sizeof(*state->xsave) ? (size_t)bytes
								    : sizeof(*state->xsave));
	if (!state->cpuid || !state->xsave || list_msrs(raw, state)) {
		raw_state_free(state);
		return NULL;
	}
	return state;
}

static int get_vcpu(const struct raw_vm *raw, struct raw_state *state)
{
	struct kvm_device_attr offset = {.group = KVM_VCPU_TSC_CTRL,
					 .attr = KVM_VCPU_TSC_OFFSET,
					 .addr = (uintptr_t)&state->tsc_offset};
	const struct {
		unsigned long request;
		void *data;
		const char *name;
	} calls[] = {
		{KVM_GET_MP_STATE, &state->mp, "KVM_GET_MP_STATE"},
		{KVM_GET_VCPU_EVENTS, &state->events, "KVM_GET_VCPU_EVENTS"},
		{KVM_GET_REGS, &state->regs, "KVM_GET_REGS"},
		{KVM_GET_SREGS2, &state->sregs, "KVM_GET_SREGS2"},
		{KVM_GET_XSAVE2, state->xsave, "KVM_GET_XSAVE2"},
		{KVM_GET_XCRS, &state->xcrs, "KVM_GET_XCRS"},
		{KVM_GET_DEBUGREGS, &state->debugregs, "KVM_GET_DEBUGREGS"},
		{KVM_GET_LAPIC, &state->lapic, "KVM_GET_LAPIC"},
		{KVM_GET_MSRS, state->msrs, "KVM_GET_MSRS"},
		{KVM_GET_CPUID2, state->cpuid, "KVM_GET_CPUID2"},
		{KVM_GET_TSC_KHZ, NULL, "KVM_GET_TSC_KHZ"},
		{KVM_GET_DEVICE_ATTR, &offset, "KVM_GET_DEVICE_ATTR"},
	};

	state->cpuid->nent = CPUID_ENTRIES;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (ioctl(raw->vcpu, calls[i].request, calls[i].data) < 0)
			return failed(calls[i].name);
	return 0;
}

int raw_state_get(const struct raw_vm *raw, struct raw_state *state)
{
	if (get_vcpu(raw, state))
		return -1;
	for (uint32_t i = 0; i < CHIPS; i++) {
		state->chip[i].chip_id = i;
		if (ioctl(raw->vm, KVM_GET_IRQCHIP, &state->chip[i]) < 0)
			return failed("KVM_GET_IRQCHIP");
	}
	if (ioctl(raw->vm, KVM_GET_PIT2, &state->pit) < 0)
		return failed("KVM_GET_PIT2");
	if (ioctl(raw->vm, KVM_GET_CLOCK, &state->clock) < 0)
		return failed("KVM_GET_CLOCK");
	return 0;
}
