/* SPDX-License-Identifier: Apache-2.0 */
/* AMX's tile data: see amx.h. */
#include "amx.h"

#include <cpuid.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* asm/prctl.h of kernels since 5.17 */
#define REQ_XCOMP_GUEST_PERM 0x1025

/* SDM vol. 2, CPUID. */
#define LEAF_FEATURES  0x7u
#define LEAF_XSAVE     0xdu
#define LEAF_TILES     0x1du
#define LEAF_TMUL      0x1eu
#define EDX_AMX	       (1u << 22 | 1u << 24 | 1u << 25) /* BF16, TILE, INT8 */
#define EDX_AMX_TILE   (1u << 24)
#define SUB1_EAX_AMX   (1u << 21) /* FP16 */
#define SUB1_EDX_AMX   (1u << 8)  /* COMPLEX */
#define XTILECFG       17u
#define XTILEDATA      18u
#define XCR0_AMX       (1u << XTILECFG | 1u << XTILEDATA)
#define XSAVE_LEAST    576u /* legacy region and header (SDM vol. 1, 13.4) */
#define ECX_SUPERVISOR 1u   /* a component of IA32_XSS, not of XCR0 */

static void ask(void)
{
	uint32_t eax, ebx, ecx, edx;

	if (__get_cpuid_count(LEAF_FEATURES, 0, &eax, &ebx, &ecx, &edx) && (edx & EDX_AMX_TILE))
		syscall(SYS_arch_prctl, REQ_XCOMP_GUEST_PERM, XTILEDATA);
}

void kvm_amx_ask(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, ask);
}

bool kvm_amx_granted(const struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].function == LEAF_XSAVE && entries[i].index == 0)
			return (entries[i].eax & XCR0_AMX) == XCR0_AMX;
	return false;
}

static void clear(struct kvm_cpuid_entry2 *entry)
{
	entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
}

/* Bytes that XSAVE needs for all components of XCR0 that ENTRIES have. */
static uint32_t xsave_bytes(const struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	uint32_t bytes = XSAVE_LEAST;

	for (uint32_t i = 0; i < count; i++) {
		const struct kvm_cpuid_entry2 *e = &entries[i];

		if (e->function == LEAF_XSAVE && e->index >= 2 && !(e->ecx & ECX_SUPERVISOR) &&
		    e->ebx + e->eax > bytes)
			bytes = e->ebx + e->eax;
	}
	return bytes;
}

static void hide_state(struct kvm_cpuid_entry2 *entry)
{
	if (entry->index == 0)
		entry->eax &= ~XCR0_AMX;
	else if (entry->index == XTILECFG || entry->index == XTILEDATA)
		clear(entry);
}

static void hide_features(struct kvm_cpuid_entry2 *entry)
{
	if (entry->index == 0)
		entry->edx &= ~EDX_AMX;
	if (entry->index == 1) {
		entry->eax &= ~SUB1_EAX_AMX;
		entry->edx &= ~SUB1_EDX_AMX;
	}
}

void kvm_amx_hide(struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	bool had = kvm_amx_granted(entries, count);

	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].function == LEAF_FEATURES)
			hide_features(&entries[i]);
		else if (entries[i].function == LEAF_XSAVE)
			hide_state(&entries[i]);
		else if (entries[i].function == LEAF_TILES || entries[i].function == LEAF_TMUL)
			clear(&entries[i]);
	}
	for (uint32_t i = 0; had && i < count; i++)
		if (entries[i].function == LEAF_XSAVE && entries[i].index == 0)
			entries[i].ecx = xsave_bytes(entries, count);
}
