/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and run states: where the boot CPU starts, and the others waiting for it. */
#include <stdlib.h>

#include "boot_steps.h"

/* A backend whose vCPUs have no such state leaves nothing to be set up. */
static int set_fpu(const struct boot *boot, struct impost_vcpu *vcpu)
{
	uint32_t bytes = IMPOST_X86_XSAVE_MAX;
	struct impost_x86_xsave *xsave;
	int err;

	xsave = aligned_alloc(_Alignof(struct impost_x86_xsave), bytes);
	if (!xsave)
		return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for the FPU's state");
	err = impost_vcpu_get(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes, &bytes);
	if (err == -ENOTSUP) {
		err = 0;
	} else if (err == 0) {
		impost_x86_setup_fpu(xsave);
		err = impost_vcpu_set(vcpu, IMPOST_SECTION_XSAVE, xsave, bytes);
	}
	free(xsave);
	return err;
}

/* Segments and control registers of the boot CPU, and the APIC's mode, which is in SREGS too. */
static int set_sregs(const struct boot *boot, uint32_t index, struct impost_x86_lapic *lapic)
{
	struct impost_vcpu *vcpu = boot->vcpus[index];
	struct impost_x86_sregs sregs;
	int err;

	err = impost_vcpu_get_sregs(vcpu, &sregs);
	if (err < 0)
		return err;
	if (index == 0)
		err = impost_x86_setup_sregs(&sregs, boot->kernel.mode, boot->kernel.entry,
					     &boot->paging, boot->cr3);
	if (err < 0)
		return impost_error_set(boot->ctx, err,
					"boot: entry %#llx cannot be reached in real mode",
					(unsigned long long)boot->kernel.entry);
	if (boot_has_x2apics(boot))
		impost_x86_setup_x2apic(&sregs, lapic, boot->apic_ids[index]);
	return impost_vcpu_set_sregs(vcpu, &sregs);
}

static int set_boot_cpu(const struct boot *boot, struct impost_vcpu *vcpu)
{
	struct impost_x86_regs regs;
	int err;

	impost_x86_setup_regs(&regs, &boot->kernel, boot->info);
	err = impost_vcpu_set_regs(vcpu, &regs);
	if (err == 0)
		err = set_fpu(boot, vcpu);
	return err;
}

/* Without x2APIC mode the other CPUs keep what they have after reset. */
static int set_cpu(const struct boot *boot, uint32_t index)
{
	struct impost_vcpu *vcpu = boot->vcpus[index];
	struct impost_x86_lapic lapic;
	uint32_t bytes = 0;
	int err = 0;

	if (boot_has_lapics(boot))
		err = impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes);
	if (err == 0)
		err = set_sregs(boot, index, &lapic);
	if (err == 0 && index == 0)
		err = set_boot_cpu(boot, vcpu);
	if (err == 0 && boot_has_lapics(boot)) {
		impost_x86_setup_lapic(&lapic, index == 0);
		err = impost_vcpu_set(vcpu, IMPOST_SECTION_LAPIC, &lapic, bytes);
	}
	return err;
}

int boot_set_registers(struct boot *boot)
{
	uint32_t count = boot_has_x2apics(boot) ? boot->count : 1;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < count; i++)
		err = set_cpu(boot, i);
	return err;
}

int boot_set_runstates(struct boot *boot)
{
	uint32_t count = boot_has_lapics(boot) ? boot->count : 1;
	int err = 0;

	for (uint32_t i = 0; err == 0 && i < count; i++) {
		struct impost_x86_runstate runstate = {
			.size = sizeof(runstate),
			.state = i == 0 ? IMPOST_X86_RUNNING : IMPOST_X86_WAIT_FOR_SIPI,
		};

		err = impost_vcpu_set(boot->vcpus[i], IMPOST_SECTION_RUNSTATE, &runstate,
				      sizeof(runstate));
	}
	return err;
}
