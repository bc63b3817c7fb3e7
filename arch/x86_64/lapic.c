/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC as firmware leaves it: virtual wire mode, and x2APIC mode. */
#include <string.h>

#include <impost/x86_64/registers.h>

/* Registers (SDM vol. 3, table 11-1), and their values (11.5.1, 11.9 and 11.4.7.1). */
#define REG_ID		0x020u
#define REG_LDR		0x0d0u
#define REG_SVR		0x0f0u
#define REG_LVT_LINT0	0x350u
#define REG_LVT_LINT1	0x360u
#define SVR_ENABLE	0x100u
#define LVT_MASKED	0x10000u
#define DELIVERY_NMI	0x400u
#define DELIVERY_EXTINT 0x700u

/* IA32_APIC_BASE (SDM vol. 3, 11.12.1). */
#define APIC_EXTD UINT64_C(0x400)
#define APIC_EN	  UINT64_C(0x800)

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

void impost_x86_setup_lapic(struct impost_x86_lapic *lapic, uint32_t boot_cpu)
{
	uint32_t svr = get(lapic, REG_SVR);

	/* A disabled APIC masks its LVT (SDM vol. 3, 11.4.7.2): switch it first. */
	set(lapic, REG_SVR, boot_cpu ? svr | SVR_ENABLE : svr & ~SVR_ENABLE);
	set(lapic, REG_LVT_LINT0, boot_cpu ? DELIVERY_EXTINT : LVT_MASKED);
	set(lapic, REG_LVT_LINT1, DELIVERY_NMI | (boot_cpu ? 0 : LVT_MASKED));
}

void impost_x86_setup_x2apic(struct impost_x86_sregs *sregs, struct impost_x86_lapic *lapic,
			     uint32_t apic_id)
{
	sregs->apic_base |= APIC_EN | APIC_EXTD;
	set(lapic, REG_ID, apic_id);
	/* Cluster of 16, and the place in it (SDM vol. 3, 11.12.10.2). */
	set(lapic, REG_LDR, apic_id >> 4 << 16 | UINT32_C(1) << (apic_id & 15));
}
