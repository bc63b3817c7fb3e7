/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs that tell of features: which fields keep a guest from a host, each by its name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <impost/x86_64/cpuid.h>

#include "state_features.h"

#define MSR(NAME) IMPOST_X86_MSR_##NAME
#define BIT(n)	  (UINT64_C(1) << (n))

/* What is told of a guest that was told `guest` on a host that has `host`. */
static const struct {
	uint32_t index;
	uint64_t guest, host;
	const char *told;
} rows[] = {
	/* Not affected there, affected here; the other way round nothing is amiss. */
	{MSR(IA32_ARCH_CAPABILITIES), BIT(0) | BIT(5), BIT(0), "IA32_ARCH_CAPABILITIES.MDS_NO "},
	{MSR(IA32_ARCH_CAPABILITIES), BIT(0), BIT(0) | BIT(5), ""},
	/* A bit that says that something is worse: it must not be so here in secret. */
	{MSR(IA32_ARCH_CAPABILITIES), BIT(0), BIT(0) | BIT(2), "IA32_ARCH_CAPABILITIES.RSBA "},
	{MSR(IA32_ARCH_CAPABILITIES), BIT(0) | BIT(19), BIT(0), ""},
	{MSR(IA32_ARCH_CAPABILITIES), BIT(0) | BIT(61), BIT(0), "IA32_ARCH_CAPABILITIES bit 61 "},
	{MSR(IA32_ARCH_CAPABILITIES), BIT(62) | BIT(27), 0,
	 "IA32_ARCH_CAPABILITIES.RFDS_NO IA32_ARCH_CAPABILITIES.ITS_NO "},
	{MSR(IA32_MTRRCAP), 0x50a, 0x508, "IA32_MTRRCAP.VCNT "},
	{MSR(IA32_MTRRCAP), 0x504, 0x508, ""},
	{MSR(IA32_MTRRCAP), 0x508, 0x108, "IA32_MTRRCAP.WC "},
	{MSR(IA32_MCG_CAP), 0x10a, 0x20, "IA32_MCG_CAP.CTL_P "},
	{MSR(IA32_MCG_CAP), 0x21, 0x20, "IA32_MCG_CAP.BANKS "},
	{MSR(IA32_MCG_CAP), 0x30001, 0x20, ""},
	/* A format: another one, or none in place of one; who was told of none has nothing to lose.
	 */
	{MSR(IA32_PERF_CAPABILITIES), 0x2005, 0x2006, "IA32_PERF_CAPABILITIES.LBR_FORMAT "},
	{MSR(IA32_PERF_CAPABILITIES), 0x2000, 0x2006, ""},
	{MSR(IA32_PERF_CAPABILITIES), 0x2305, 0x0005,
	 "IA32_PERF_CAPABILITIES.PEBS_FORMAT IA32_PERF_CAPABILITIES.FULL_WIDTH_WRITE "},
	{MSR(MSR_PLATFORM_INFO), BIT(31) | 0x1800, 0x1a00, "MSR_PLATFORM_INFO.CPUID_FAULTING "},
	{MSR(AMD64_DE_CFG), 0x2, 0x200, "AMD64_DE_CFG.LFENCE_SERIALIZE "},
	{MSR(AMD64_DE_CFG), 0x200, 0x2, ""},
	/* Controls: what must be 1 in the low half, what may be in the high one. */
	{MSR(IA32_VMX_PINBASED_CTLS), 0x0000007f00000016, 0x0000003f00000016,
	 "IA32_VMX_PINBASED_CTLS bit 38 "},
	{MSR(IA32_VMX_PINBASED_CTLS), 0x0000003f00000014, 0x0000007f00000016,
	 "IA32_VMX_PINBASED_CTLS bit 1 "},
	/* Those that come with PERFMON, MPX and WAITPKG: of guests that have them. */
	{MSR(IA32_VMX_EXIT_CTLS), BIT(43) | BIT(44) | BIT(55), 0, "IA32_VMX_EXIT_CTLS bit 43 "},
	{MSR(IA32_VMX_TRUE_EXIT_CTLS), BIT(44) | BIT(54) | BIT(55), 0,
	 "IA32_VMX_TRUE_EXIT_CTLS bit 54 "},
	{MSR(IA32_VMX_ENTRY_CTLS), BIT(45) | BIT(47) | BIT(48), 0, "IA32_VMX_ENTRY_CTLS bit 47 "},
	{MSR(IA32_VMX_TRUE_ENTRY_CTLS), BIT(45) | BIT(46) | BIT(48), 0,
	 "IA32_VMX_TRUE_ENTRY_CTLS bit 46 "},
	{MSR(IA32_VMX_PROCBASED_CTLS2), BIT(57) | BIT(58), 0, "IA32_VMX_PROCBASED_CTLS2 bit 57 "},
	{MSR(IA32_VMX_CR0_FIXED0), 0x80000021, 0x80000020, ""},
	{MSR(IA32_VMX_CR0_FIXED0), 0x80000020, 0x80000021, "IA32_VMX_CR0_FIXED0 bit 0 "},
	{MSR(IA32_VMX_CR4_FIXED1), 0x3767ff, 0x1767ff, "IA32_VMX_CR4_FIXED1 bit 21 "},
	{MSR(IA32_VMX_BASIC), 0x00d8100011e57ed0, 0x00d8100000000004,
	 "IA32_VMX_BASIC.VMCS_REVISION "},
	/* Exceptions without error code; VMCSs below 4 GiB alone. */
	{MSR(IA32_VMX_BASIC), BIT(56) | 4, BIT(48) | 4,
	 "IA32_VMX_BASIC bit 56 IA32_VMX_BASIC bit 48 "},
	{MSR(IA32_VMX_MISC), BIT(32) | 4 << 16 | 5, 3 << 16 | 7,
	 "IA32_VMX_MISC.TIMER_RATE IA32_VMX_MISC.CR3_TARGETS IA32_VMX_MISC.MSEG_REVISION "},
	{MSR(IA32_VMX_MISC), 3 << 16 | BIT(6), 4 << 16 | BIT(5) | BIT(25) | 5,
	 "IA32_VMX_MISC bit 6 "},
	/* No features: whatever it is. */
	{MSR(IA32_BIOS_SIGN_ID), 0x1000065, 0, ""},
	{MSR(IA32_LSTAR), UINT64_MAX, 0, ""},
	{0x12345678, UINT64_MAX, 0, ""},
};

static void hear(void *opaque, const char *name, const char *why)
{
	char *told = opaque;
	size_t len = strlen(told);

	snprintf(told + len, 1024 - len, "%s ", name);
	cr_expect_neq(why[0], '\0', "%s: no reason", name);
}

Test(state_features, each_field_in_the_way_is_told)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char told[1024] = "";

		state_feature_differences(rows[i].index, rows[i].guest, rows[i].host, hear, told);
		cr_expect_str_eq(told, rows[i].told, "row %zu: \"%s\", not \"%s\"", i, told,
				 rows[i].told);
	}
}

/* A guest can always be where the same is told. */
Test(state_features, the_same_is_never_in_the_way)
{
	const struct impost_x86_msr_info *info;
	char told[1024] = "";

	for (uint32_t i = 0; (info = impost_x86_msr_info(i)) != NULL; i++)
		for (uint64_t value = 1; value; value <<= 1)
			state_feature_differences(info->index, value | 0x508, value | 0x508, hear,
						  told);
	cr_expect_str_empty(told);
}
