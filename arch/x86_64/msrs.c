/* SPDX-License-Identifier: Apache-2.0 */
/* The MSRs that a kernel expects to be set, as firmware would leave them. */
#include <string.h>

#include <impost/x86_64/registers.h>

/* SDM vol. 4, table 2-2. */
static const struct impost_x86_msr boot_msrs[] = {
	{.index = 0x00000174, .value = 0},   /* IA32_SYSENTER_CS */
	{.index = 0x00000175, .value = 0},   /* IA32_SYSENTER_ESP */
	{.index = 0x00000176, .value = 0},   /* IA32_SYSENTER_EIP */
	{.index = 0xc0000081, .value = 0},   /* IA32_STAR */
	{.index = 0xc0000082, .value = 0},   /* IA32_LSTAR */
	{.index = 0xc0000083, .value = 0},   /* IA32_CSTAR */
	{.index = 0xc0000084, .value = 0},   /* IA32_FMASK */
	{.index = 0xc0000102, .value = 0},   /* IA32_KERNEL_GS_BASE */
	{.index = 0x00000010, .value = 0},   /* IA32_TIME_STAMP_COUNTER */
	{.index = 0x000001a0, .value = 0x1}, /* IA32_MISC_ENABLE: fast strings */
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
