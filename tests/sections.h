/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of state as tests go through them: any of them, and its bytes. */
#ifndef TESTS_SECTIONS_H
#define TESTS_SECTIONS_H

#include <impost/impost.h>

/* Of a vCPU or a VM, but for those that are lists. */
union section {
	uint32_t size;
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_lapic lapic;
	struct impost_x86_events events;
	struct impost_x86_runstate runstate;
	struct impost_x86_tsc tsc;
	struct impost_x86_pic pic;
	struct impost_x86_ioapic ioapic;
	struct impost_x86_pit pit;
	struct impost_x86_clock clock;
	struct impost_x86_xsave xsave;
	uint8_t bytes[IMPOST_X86_XSAVE_MAX];
};

/* The address that a processor takes for it which has 48 bits of them (SDM vol. 1, 3.3.7.1). */
static inline uint64_t canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16);
}

#endif
