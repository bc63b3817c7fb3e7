/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and run states: where the boot CPU starts, and the others waiting for it. */
#include <stdlib.h>

#include "boot_steps.h"

static int set_fpu(const struct boot *boot, struct impost_vcpu *vcpu)
{
	uint32_t bytes = IMPOST_X86_XSAVE_MAX;
	struct impost_x86_xsave *xsave;
	int err;

	xsave = aligned_alloc(_Alignof(struct impost_x86_xsave), bytes);
	if (!xsave)
		return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for the FPU's state");
	err = impost_vcpu_get(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes, &bytes);
	if (err == 0) {
		impost_x86_setup_fpu(xsave);
		err = impost_vcpu_set(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes);
	}
	free(xsave);
	return err;
}

static int set_lapic(struct impost_vcpu *vcpu)
{
	struct impost_x86_lapic lapic;
	uint32_t bytes;
	int err;

	err = impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes);
	if (err < 0)
		return err;
	impost_x86_setup_lapic(&lapic, 1);
	return impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, bytes);
}

int boot_set_registers(const struct boot *boot)
{
	struct impost_vcpu *vcpu = boot->vcpus[0];
	struct impost_x86_sregs sregs;
	struct impost_x86_regs regs;
	int err;

	err = impost_vcpu_get_sregs(vcpu, &sregs);
	if (err == 0)
		err = impost_x86_setup_sregs(&sregs, IMPOST_X86_MODE_LONG, 0, &boot->paging,
					     boot->cr3);
	if (err < 0)
		return err;
	impost_x86_setup_regs(&regs, &boot->result.kernel, IMPOST_X86_ZERO_PAGE_ADDR);
	err = impost_vcpu_set_sregs(vcpu, &sregs);
	if (err == 0)
		err = impost_vcpu_set_regs(vcpu, &regs);
	if (err == 0)
		err = set_fpu(boot, vcpu);
	if (err == 0 && impost_vm_irqchip(boot->vm) != IMPOST_IRQCHIP_NONE)
		err = set_lapic(vcpu);
	return err;
}

int boot_set_runstates(const struct boot *boot)
{
	uint32_t count = impost_vm_irqchip(boot->vm) == IMPOST_IRQCHIP_NONE ? 1 : boot->count;
	int err = 0;

	for (uint32_t i = 0; i < count && err == 0; i++) {
		struct impost_x86_runstate runstate = {
			.size = sizeof(runstate),
			.state = i == 0 ? IMPOST_X86_RUNNING : IMPOST_X86_WAIT_FOR_SIPI,
		};

		err = impost_vcpu_set(boot->vcpus[i], IMPOST_SECTION_RUNSTATE, &runstate,
				      sizeof(runstate));
	}
	return err;
}
