/* SPDX-License-Identifier: Apache-2.0 */
/* General registers at the entry, by protocol and mode. */
#include <impost/x86_64/registers.h>

#define RFLAGS_FIXED	UINT64_C(0x2) /* bit 1 is always set (SDM vol. 1, 3.4.3); interrupts off */

#define REAL_MODE_STACK UINT64_C(0xfffe) /* the top of a segment */

void impost_x86_setup_regs(struct impost_x86_regs *regs, const struct impost_x86_kernel *kernel,
			   uint64_t info)
{
	*regs = (struct impost_x86_regs){
		.size = sizeof(*regs),
		.rip = kernel->entry,
		.rsp = IMPOST_X86_BOOT_STACK,
		.rflags = RFLAGS_FIXED,
	};
	if (kernel->mode == IMPOST_X86_MODE_REAL) {
		regs->rip = 0; /* of CS, which begins at the entry */
		regs->rsp = REAL_MODE_STACK;
	} else if (kernel->protocol == IMPOST_X86_PROTOCOL_PVH ||
		   kernel->protocol == IMPOST_X86_PROTOCOL_FLAT) {
		regs->rbx = info;
	} else {
		regs->rsi = info;
	}
}
