/* SPDX-License-Identifier: Apache-2.0 */
/* The pure functions that fill register sections: golden values, each with its rule. */
#include "x86_64.h"

#include <stdlib.h>

/* Each protocol's entry in each of its modes, with only these registers not 0. */
static const struct {
	uint32_t protocol, mode;
	uint64_t entry, rip, rsp, rsi, rbx;
} entries[] = {
	/* boot.rst: RSI or ESI holds the base of struct boot_params; EBP, EDI and EBX are 0 */
	{IMPOST_X86_PROTOCOL_LINUX64, IMPOST_X86_MODE_LONG, 0x1000200, 0x1000200, 0x8ff0, 0x7000,
	 0},
	{IMPOST_X86_PROTOCOL_LINUX32, IMPOST_X86_MODE_PROTECTED, 0x1000000, 0x1000000, 0x8ff0,
	 0x7000, 0},
	/* Xen, docs/misc/pvh: EBX holds the address of struct hvm_start_info */
	{IMPOST_X86_PROTOCOL_PVH, IMPOST_X86_MODE_PROTECTED, 0x1000350, 0x1000350, 0x8ff0, 0,
	 0x7000},
	{IMPOST_X86_PROTOCOL_FLAT, IMPOST_X86_MODE_PROTECTED, 0x100000, 0x100000, 0x8ff0, 0,
	 0x7000},
	{IMPOST_X86_PROTOCOL_FLAT, IMPOST_X86_MODE_LONG, 0x100000, 0x100000, 0x8ff0, 0, 0x7000},
	{IMPOST_X86_PROTOCOL_FLAT, IMPOST_X86_MODE_REAL, 0x10000, 0, 0xfffe, 0, 0},
};

Test(regs, golden)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		const struct impost_x86_kernel kernel = {.size = sizeof(kernel),
							 .protocol = entries[i].protocol,
							 .mode = entries[i].mode,
							 .entry = entries[i].entry};
		struct impost_x86_regs regs, want = {.size = sizeof(want)};

		memset(&regs, PATTERN, sizeof(regs));
		impost_x86_setup_regs(&regs, &kernel, 0x7000);
		want.rip = entries[i].rip;
		want.rsp = entries[i].rsp;
		want.rsi = entries[i].rsi;
		want.rbx = entries[i].rbx;
		want.rflags = 2; /* SDM vol. 1, 3.4.3: bit 1 is 1; interrupts off */
		cr_assert_arr_eq(&regs, &want, sizeof(regs), "row %zu", i);
	}
}

/* An XSAVE section with AREA bytes, filled with a pattern. */
static struct impost_x86_xsave *xsave_make(uint32_t area, uint64_t xcr0)
{
	struct impost_x86_xsave *xsave = aligned_alloc(64, sizeof(*xsave) + 4096);

	cr_assert_not_null(xsave);
	memset(xsave, PATTERN, sizeof(*xsave) + 4096);
	xsave->size = (uint32_t)sizeof(*xsave) + area;
	xsave->area_size = area;
	xsave->xcr0 = xcr0;
	return xsave;
}

static uint64_t area_at(const struct impost_x86_xsave *xsave, uint32_t offset, uint32_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, xsave->area + offset, bytes);
	return value;
}

Test(fpu, golden)
{
	struct impost_x86_xsave *xsave = xsave_make(832, 7);

	impost_x86_setup_fpu(xsave);
	cr_assert_eq(area_at(xsave, 0, 2), 0x37fu);	  /* FCW: SDM vol. 1, 8.1.5 */
	cr_assert_eq(area_at(xsave, 2, 2), 0u);		  /* FSW */
	cr_assert_eq(area_at(xsave, 4, 1), 0u);		  /* abridged FTW: all empty */
	cr_assert_eq(area_at(xsave, 24, 4), 0x1f80u);	  /* MXCSR */
	cr_assert_eq(area_at(xsave, 28, 4), 0xa5a5a5a5u); /* MXCSR_MASK: the CPU's */
	cr_assert_eq(area_at(xsave, 512, 8), 3u);	  /* XSTATE_BV: x87 and SSE */
	for (uint32_t i = 32; i < 832; i++)
		cr_assert(i == 512 || xsave->area[i] == 0, "byte %u", i);
	cr_assert_eq(xsave->area[832], PATTERN);
	cr_assert_eq(xsave->xcr0, 7u);
	cr_assert_eq(xsave->component[0].id, 0xa5a5a5a5u);
	free(xsave);
}

/* XSTATE_BV never has a component that XCR0 lacks: not without XSAVE, and not at reset. */
Test(fpu, only_what_xcr0_has_is_marked)
{
	static const uint64_t xcr0[] = {0, 1, 3, 7}, marked[] = {0, 1, 3, 3};

	for (size_t i = 0; i < 4; i++) {
		struct impost_x86_xsave *xsave = xsave_make(576, xcr0[i]);

		impost_x86_setup_fpu(xsave);
		cr_assert_eq(area_at(xsave, 0, 2), 0x37fu);
		cr_assert_eq(area_at(xsave, 24, 4), 0x1f80u);
		cr_assert_eq(area_at(xsave, 512, 8), marked[i]);
		free(xsave);
	}
}

Test(fpu, never_writes_beyond_the_area)
{
	static const uint32_t sizes[] = {0, 1, 511, 512, 519, 520, 576};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct impost_x86_xsave *xsave = xsave_make(sizes[i], 3);

		impost_x86_setup_fpu(xsave);
		for (uint32_t k = sizes[i]; k < 4096; k++)
			cr_assert_eq(xsave->area[k], PATTERN);
		free(xsave);
	}
}

Test(msrs, golden)
{
	static const struct impost_x86_msr want[] = {
		{0x174, 0, 0},	    {0x175, 0, 0},	{0x176, 0, 0},	    {0xc0000081, 0, 0},
		{0xc0000082, 0, 0}, {0xc0000083, 0, 0}, {0xc0000084, 0, 0}, {0xc0000102, 0, 0},
		{0x10, 0, 0},	    {0x1a0, 0, 1},
	};
	const uint32_t n = sizeof(want) / sizeof(want[0]);
	struct impost_x86_msr msrs[32];
	uint32_t count = 0;

	cr_assert_eq(impost_x86_setup_msrs(msrs, 32, &count), 0);
	cr_assert_eq(count, n);
	cr_assert_arr_eq(msrs, want, sizeof(want));
	count = PATTERN;
	cr_assert_eq(impost_x86_setup_msrs(msrs, n - 1, &count), -ENOSPC);
	cr_assert_eq(count, (uint32_t)PATTERN);
}

Test(lapic, golden)
{
	struct impost_x86_lapic lapic, want;
	const uint32_t reset_svr = 0xff, reset_lvt = 0x10000; /* SDM vol. 3, 11.4.7.1 */
	const uint32_t svr = 0x1ff, lint0 = 0x700, lint1 = 0x400;

	memset(&lapic, PATTERN, sizeof(lapic));
	memcpy(lapic.regs + 0xf0, &reset_svr, 4);
	memcpy(lapic.regs + 0x350, &reset_lvt, 4);
	memcpy(lapic.regs + 0x360, &reset_lvt, 4);
	want = lapic;
	memcpy(want.regs + 0xf0, &svr, 4);
	memcpy(want.regs + 0x350, &lint0, 4);
	memcpy(want.regs + 0x360, &lint1, 4);
	impost_x86_setup_lapic(&lapic, 1);
	cr_assert_arr_eq(&lapic, &want, sizeof(lapic));
}

/* --- CPUID --- */

enum {
	VENDOR,
	FEATURES,
	CACHE_L1,
	CACHE_L3,
	CACHE_END,
	SMT,
	CORES,
	BEYOND,
	OTHER,
	AMD_FEATURES,
	AMD_SIZES,
	AMD_CACHE,
	AMD_TOPOLOGY,
	LEAVES
};

static void cpuid_make(struct impost_x86_cpuid leaves[LEAVES], int amd)
{
	const struct impost_x86_cpuid made[LEAVES] = {
		[VENDOR] = {.leaf = 0, .ebx = amd ? 0x68747541 : 0x756e6547},
		[FEATURES] = {.leaf = 1, .ebx = 0xaabb0800, .ecx = 0x00200001, .edx = 0x201},
		[CACHE_L1] = {.leaf = 4, .subleaf = 0, .flags = 1, .eax = 0xfc01c121},
		[CACHE_L3] = {.leaf = 4, .subleaf = 3, .flags = 1, .eax = 0x0c03c163},
		[CACHE_END] = {.leaf = 4, .subleaf = 4, .flags = 1},
		[SMT] = {.leaf = 0xb, .subleaf = 0, .flags = 1, .eax = 7, .ebx = 9, .edx = 99},
		[CORES] = {.leaf = 0xb, .subleaf = 1, .flags = 1},
		[BEYOND] = {.leaf = 0x1f, .subleaf = 2, .flags = 1, .eax = 7, .ebx = 9},
		[OTHER] = {.leaf = 7, .flags = 1, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4},
		[AMD_FEATURES] = {.leaf = 0x80000001},
		[AMD_SIZES] = {.leaf = 0x80000008, .eax = 0x3030, .ecx = 0x1f},
		[AMD_CACHE] = {.leaf = 0x8000001d, .subleaf = 3, .flags = 1, .eax = 0x0003c163},
		[AMD_TOPOLOGY] = {.leaf = 0x8000001e, .eax = 5, .ebx = 0x105, .ecx = 0x301},
	};

	memcpy(leaves, made, sizeof(made));
}

Test(cpuid, golden_for_cpu_5_of_6)
{
	struct impost_x86_cpuid leaves[LEAVES], before[LEAVES];

	cpuid_make(leaves, 0);
	memcpy(before, leaves, sizeof(before));
	impost_x86_setup_cpuid(leaves, LEAVES, 5, 6, IMPOST_IRQCHIP_FULL);
	cr_assert_eq(leaves[FEATURES].ebx, 0x05060800u); /* APIC id, logical processors */
	cr_assert_eq(leaves[FEATURES].ecx, 0x81200001u); /* hypervisor, TSC deadline, x2APIC */
	cr_assert_eq(leaves[FEATURES].edx, 0x10000201u); /* HTT, APIC */
	cr_assert_eq(leaves[CACHE_L1].eax, 0x14000121u); /* 6 cores, each with its own */
	cr_assert_eq(leaves[CACHE_L3].eax, 0x14014163u); /* shared by 6 */
	cr_assert_eq(leaves[CACHE_END].eax, 0u);
	cr_assert_eq(leaves[SMT].eax, 0u);
	cr_assert_eq(leaves[SMT].ebx, 1u);
	cr_assert_eq(leaves[SMT].ecx, 0x100u);
	cr_assert_eq(leaves[SMT].edx, 5u);
	cr_assert_eq(leaves[CORES].eax, 3u); /* 3 bits hold the ids 0 to 5 */
	cr_assert_eq(leaves[CORES].ebx, 6u);
	cr_assert_eq(leaves[CORES].ecx, 0x201u);
	cr_assert_eq(leaves[CORES].edx, 5u);
	cr_assert_eq(leaves[BEYOND].eax, 0u);
	cr_assert_eq(leaves[BEYOND].ebx, 0u);
	cr_assert_eq(leaves[BEYOND].ecx, 2u);
	cr_assert_arr_eq(&leaves[OTHER], &before[OTHER], sizeof(leaves[OTHER]));
	cr_assert_eq(leaves[AMD_FEATURES].ecx, 0u); /* reserved on Intel */
	cr_assert_eq(leaves[AMD_SIZES].ecx, 0x1fu);
}

Test(cpuid, amd_topology)
{
	struct impost_x86_cpuid leaves[LEAVES];

	cpuid_make(leaves, 1);
	impost_x86_setup_cpuid(leaves, LEAVES, 5, 6, IMPOST_IRQCHIP_FULL);
	cr_assert_eq(leaves[AMD_FEATURES].ecx, 2u);	  /* CmpLegacy */
	cr_assert_eq(leaves[AMD_SIZES].ecx, 0x3005u);	  /* NC = 5, 3 bits of APIC id */
	cr_assert_eq(leaves[AMD_SIZES].eax, 0x3030u);	  /* address widths stay */
	cr_assert_eq(leaves[AMD_CACHE].eax, 0x00014163u); /* shared by 6 */
	cr_assert_eq(leaves[AMD_TOPOLOGY].eax, 5u);
	cr_assert_eq(leaves[AMD_TOPOLOGY].ebx, 5u);
	cr_assert_eq(leaves[AMD_TOPOLOGY].ecx, 0u);
}

Test(cpuid, one_cpu_has_no_neighbours)
{
	struct impost_x86_cpuid leaves[LEAVES];

	cpuid_make(leaves, 0);
	impost_x86_setup_cpuid(leaves, LEAVES, 0, 1, IMPOST_IRQCHIP_LAPIC);
	cr_assert_eq(leaves[FEATURES].ebx, 0x00010800u);
	cr_assert_eq(leaves[FEATURES].edx, 0x201u);
	cr_assert_eq(leaves[CACHE_L3].eax, 0x163u);
	cr_assert_eq(leaves[CORES].eax, 0u);
	cr_assert_eq(leaves[CORES].ebx, 1u);
}

Test(cpuid, without_a_local_apic)
{
	struct impost_x86_cpuid leaves[LEAVES];

	cpuid_make(leaves, 0);
	leaves[FEATURES].ecx |= 1u << 24;
	impost_x86_setup_cpuid(leaves, LEAVES, 0, 1, IMPOST_IRQCHIP_NONE);
	cr_assert_eq(leaves[FEATURES].ecx, 0x80000001u);
	cr_assert_eq(leaves[FEATURES].edx, 0x1u);
}

/* Fields that are too narrow are full, never wrapped. */
Test(cpuid, more_cpus_than_the_old_fields_hold)
{
	struct impost_x86_cpuid leaves[LEAVES];

	cpuid_make(leaves, 1);
	impost_x86_setup_cpuid(leaves, LEAVES, 299, 300, IMPOST_IRQCHIP_FULL);
	cr_assert_eq(leaves[FEATURES].ebx, 0x2bff0800u);
	cr_assert_eq(leaves[CACHE_L1].eax >> 26, 63u);
	cr_assert_eq(leaves[CACHE_L3].eax >> 14 & 0xfff, 299u);
	cr_assert_eq(leaves[CORES].eax, 9u);
	cr_assert_eq(leaves[CORES].ebx, 300u);
	cr_assert_eq(leaves[CORES].edx, 299u);
	cr_assert_eq(leaves[AMD_SIZES].ecx & 0xff, 255u);
}

/* A kernel takes the package's number from the id above the core level's shift: all have one. */
Test(cpuid, every_cpu_is_in_one_package)
{
	for (uint32_t cpus = 1; cpus <= 64; cpus++) {
		for (uint32_t id = 0; id < cpus; id++) {
			struct impost_x86_cpuid leaves[LEAVES];

			cpuid_make(leaves, 0);
			impost_x86_setup_cpuid(leaves, LEAVES, id, cpus, IMPOST_IRQCHIP_FULL);
			cr_assert_eq(leaves[CORES].edx >> leaves[CORES].eax, 0u);
			cr_assert_eq(leaves[CORES].edx, id);
		}
	}
}
