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
