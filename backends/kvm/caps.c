/* SPDX-License-Identifier: Apache-2.0 */
/* Says what this kernel's KVM can do, from KVM_CHECK_EXTENSION. */
#include <cpuid.h>
#include <string.h>

#include "internal.h"

/* A capability of ours that is there if all bits of MASK are set in what the extension returns. */
static const struct {
	enum impost_cap cap;
	uint32_t extension;
	uint32_t mask; /* 0: anything but 0 will do */
} by_extension[] = {
	{IMPOST_CAP_MEM_READONLY, KVM_CAP_READONLY_MEM, 0},
	{IMPOST_CAP_IRQCHIP_LAPIC, KVM_CAP_SPLIT_IRQCHIP, 0},
	{IMPOST_CAP_IRQCHIP_FULL, KVM_CAP_PIT2, 0},
	{IMPOST_CAP_IRQ_LINE, KVM_CAP_IRQCHIP, 0},
	{IMPOST_CAP_MSI, KVM_CAP_SIGNAL_MSI, 0},
	{IMPOST_CAP_NMI, KVM_CAP_USER_NMI, 0},
	{IMPOST_CAP_GSI_ROUTES, KVM_CAP_IRQ_ROUTING, 0},
	{IMPOST_CAP_IRQFD, KVM_CAP_IRQFD, 0},
	{IMPOST_CAP_IRQFD_RESAMPLE, KVM_CAP_IRQFD_RESAMPLE, 0},
	{IMPOST_CAP_IOEVENTFD, KVM_CAP_IOEVENTFD, 0},
	/* Came together with KVM_CAP_X86_USER_SPACE_MSR, in Linux 5.10. */
	{IMPOST_CAP_MSR_EXITS, KVM_CAP_X86_MSR_FILTER, 0},
	{IMPOST_CAP_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG, 0},
	{IMPOST_CAP_XSAVE, KVM_CAP_XCRS, 0},
	{IMPOST_CAP_DEBUGREGS, KVM_CAP_DEBUGREGS, 0},
	{IMPOST_CAP_EVENTS, KVM_CAP_VCPU_EVENTS, 0},
	{IMPOST_CAP_EVENT_PAYLOAD, KVM_CAP_EXCEPTION_PAYLOAD, 0},
	{IMPOST_CAP_SREGS_PDPTRS, KVM_CAP_SREGS2, 0},
	{IMPOST_CAP_NESTED, KVM_CAP_NESTED_STATE, 0},
	{IMPOST_CAP_SMM, KVM_CAP_X86_SMM, 0},
	{IMPOST_CAP_CLOCK, KVM_CAP_ADJUST_CLOCK, 0},
	/*
	 * KVM_VCPU_TSC_OFFSET is the one vCPU attribute that x86 has (Linux 5.16). That is the
	 * kernel's word. Its vendor module's can be another, but to hear that takes a vCPU:
	 * state_time.c.
	 */
	{IMPOST_CAP_TSC_OFFSET, KVM_CAP_VCPU_ATTRIBUTES, 0},
	{IMPOST_CAP_TSC_SCALING, KVM_CAP_TSC_CONTROL, 0},
};

/* What every KVM that check_device() in open.c lets through can do. */
static const enum impost_cap always[] = {
	IMPOST_CAP_EXECUTES,   IMPOST_CAP_MEM_HOST,   IMPOST_CAP_MEM_PINNABLE,
	IMPOST_CAP_MEM_ALIAS,  IMPOST_CAP_DIRTY_LOG,  IMPOST_CAP_IRQCHIP_NONE,
	IMPOST_CAP_IRQ_INJECT, IMPOST_CAP_IRQ_WINDOW, IMPOST_CAP_CPUID_PER_VCPU,
	IMPOST_CAP_TRANSLATE,  IMPOST_CAP_COMPLETE,
};

/* The host's TSC rate where the processor or the hypervisor below tells it; 0 where it does not. */
static uint32_t host_tsc_khz(void)
{
	uint32_t eax, ebx, ecx, edx, highest;

	/* SDM vol. 2, CPUID leaf 0x15: crystal (Hz) * EBX / EAX. */
	if (__get_cpuid(0x15, &eax, &ebx, &ecx, &edx) && eax && ebx && ecx)
		return (uint32_t)((uint64_t)ecx * ebx / eax / 1000);
	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 31)))
		return 0;
	/* Leaf 0x40000010, EAX: kHz; the hypervisors' own agreement, VMware's first. */
	__cpuid(0x40000000, highest, ebx, ecx, edx);
	if (highest < 0x40000010 || highest > 0x4000ffff)
		return 0;
	__cpuid(0x40000010, eax, ebx, ecx, edx);
	return eax;
}

static void limits_fill(struct backend *b)
{
	struct impost_caps *caps = &b->caps;
	uint32_t recommended = kvm_extension(b->fd, KVM_CAP_NR_VCPUS);
	uint32_t vcpus = kvm_extension(b->fd, KVM_CAP_MAX_VCPUS);
	uint32_t ids = kvm_extension(b->fd, KVM_CAP_MAX_VCPU_ID);
	uint32_t gsis = kvm_extension(b->fd, KVM_CAP_IRQ_ROUTING);

	/* Old kernels say less: Documentation/virt/kvm/api.rst, KVM_CREATE_VCPU. */
	caps->max_vcpus = vcpus ? vcpus : recommended ? recommended : 4;
	caps->max_vcpu_id = (ids ? ids : caps->max_vcpus) - 1;
	caps->max_slots = kvm_extension(b->fd, KVM_CAP_NR_MEMSLOTS);
	if (!caps->max_slots)
		caps->max_slots = 32;
	caps->max_gsis = gsis < KVM_GSIS ? gsis : KVM_GSIS;
	caps->max_cpuid = KVM_CPUID_ENTRIES;
	caps->tsc_khz = host_tsc_khz();
}

void kvm_caps_fill(struct backend *b)
{
	struct impost_caps *caps = &b->caps;

	caps->size = sizeof(*caps);
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		impost_caps_add(caps, always[i]);
	for (size_t i = 0; i < sizeof(by_extension) / sizeof(by_extension[0]); i++) {
		uint32_t has = kvm_extension(b->fd, by_extension[i].extension);

		if (has && (has & by_extension[i].mask) == by_extension[i].mask)
			impost_caps_add(caps, by_extension[i].cap);
	}
	limits_fill(b);
	if (kvm_extension(b->fd, KVM_CAP_X2APIC_API) && caps->max_vcpu_id > 254)
		impost_caps_add(caps, IMPOST_CAP_X2APIC_IDS);
	/* KVM_CAP_ADJUST_CLOCK is 1, or a set of flags, of which 1 is none. */
	b->clock_flags = kvm_extension(b->fd, KVM_CAP_ADJUST_CLOCK) & ~1u;
	b->nested_bytes = kvm_extension(b->fd, KVM_CAP_NESTED_STATE);
	kvm_cpuid_probe(b);
}

int32_t kvm_caps(void *backend, struct impost_caps *ret_caps)
{
	const struct backend *b = backend;
	uint32_t room = ret_caps->size;

	memcpy(ret_caps, &b->caps, room < sizeof(b->caps) ? room : sizeof(b->caps));
	return 0;
}
