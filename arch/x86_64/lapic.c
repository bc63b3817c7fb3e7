/* SPDX-License-Identifier: Apache-2.0 */
/* The boot CPU's local APIC in virtual wire mode, as firmware leaves it. */
#include <string.h>

#include <impost/x86_64/boot.h>

/* Registers (SDM vol. 3, table 11-1), and their values (11.5.1 and 11.9). */
#define REG_SVR		0x0f0u
#define REG_LVT_LINT0	0x350u
#define REG_LVT_LINT1	0x360u
#define SVR_ENABLE	0x100u
#define DELIVERY_NMI	0x400u
#define DELIVERY_EXTINT 0x700u

static uint32_t get(const struct impost_x86_lapic *lapic, uint32_t reg)
{
	uint32_t value;

	memcpy(&value, lapic->regs + reg, sizeof(value));
	return value;
}

static void set(struct impost_x86_lapic *lapic, uint32_t reg, uint32_t value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

void impost_x86_setup_lapic(struct impost_x86_lapic *lapic)
{
	/* A disabled APIC masks its LVT (SDM vol. 3, 11.4.7.2): enable it first. */
	set(lapic, REG_SVR, get(lapic, REG_SVR) | SVR_ENABLE);
	set(lapic, REG_LVT_LINT0, DELIVERY_EXTINT);
	set(lapic, REG_LVT_LINT1, DELIVERY_NMI);
}
