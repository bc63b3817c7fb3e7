/* SPDX-License-Identifier: Apache-2.0 */
/* General registers at the 64-bit entry (boot.rst, "64-bit BOOT PROTOCOL"). */
#include <impost/x86_64/boot.h>

#define RFLAGS_FIXED UINT64_C(0x2) /* bit 1 is always set (SDM vol. 1, 3.4.3); interrupts off */

void impost_x86_setup_regs(struct impost_x86_regs *regs, uint64_t entry, uint64_t zero_page)
{
	*regs = (struct impost_x86_regs){
		.size = sizeof(*regs),
		.rip = entry,
		.rsi = zero_page,
		.rsp = IMPOST_X86_BOOT_STACK,
		.rflags = RFLAGS_FIXED,
	};
}
