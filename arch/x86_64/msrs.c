/* SPDX-License-Identifier: Apache-2.0 */
/* The MSRs that a kernel expects to be set, as firmware would leave them. */
#include <string.h>

#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/registers.h>

/* SDM vol. 4, table 2-2. */
static const struct impost_x86_msr boot_msrs[] = {
	{.index = IMPOST_X86_MSR_IA32_SYSENTER_CS, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_SYSENTER_ESP, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_SYSENTER_EIP, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_STAR, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_LSTAR, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_CSTAR, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_FMASK, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_KERNEL_GS_BASE, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER, .value = 0},
	{.index = IMPOST_X86_MSR_IA32_MISC_ENABLE, .value = 0x1}, /* fast strings */
};

int impost_x86_setup_msrs(struct impost_x86_msr *msrs, uint32_t capacity, uint32_t *ret_count)
{
	const uint32_t count = sizeof(boot_msrs) / sizeof(boot_msrs[0]);

	if (capacity < count)
		return -ENOSPC;
	memcpy(msrs, boot_msrs, sizeof(boot_msrs));
	*ret_count = count;
	return 0;
}
