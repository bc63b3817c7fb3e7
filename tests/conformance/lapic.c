/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC register by register (SDM vol. 3, table 11-1), and what the guest reads of it. */
#include "section.h"

/* Where the guest finds the page when IA32_APIC_BASE is as after reset; the tables reach 1 GiB. */
#define APIC_PAGE 0xfee00000u

static uint32_t reg_of(const union section *s, uint32_t reg)
{
	uint32_t value;

	memcpy(&value, s->lapic.regs + reg, sizeof(value));
	return value;
}

static void put_reg(union section *s, uint32_t reg, uint32_t value)
{
	memcpy(s->lapic.regs + reg, &value, sizeof(value));
}

/* In 32-bit mode without paging: mov eax, [edi]; out 0x80, eax. */
static void guest_reads(struct box *box, uint32_t reg, uint32_t value)
{
	struct impost_x86_segment flat = {.limit = 0xffffffff,
					  .access = IMPOST_X86_AR_P | IMPOST_X86_AR_S |
						    IMPOST_X86_AR_G | IMPOST_X86_AR_DB | 3,
					  .selector = 16};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	static union section s;

	enter_real(box, box->vcpu, GUEST(0x8b, 0x07, 0xe7, 0x80));
	section_get(box, IMPOST_SECTION_SREGS, &s);
	s.sregs.cr0 |= 1;
	s.sregs.ds = s.sregs.es = s.sregs.ss = s.sregs.fs = s.sregs.gs = flat;
	flat.access |= 8;
	flat.selector = 8;
	s.sregs.cs = flat;
	section_set(box, IMPOST_SECTION_SREGS, &s);
	regs = regs_of(box, box->vcpu);
	regs.rdi = APIC_PAGE + reg;
	set_regs(box, box->vcpu, &regs);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(*(uint32_t *)exit.u.io.data, value, "the guest reads 0x%x",
		     *(uint32_t *)exit.u.io.data);
	finish(box, box->vcpu);
}

static void lapic_register(uint32_t reg, uint32_t first, uint32_t second)
{
	const uint32_t values[] = {first, second};
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_LAPIC);
	lapic_on(&box, box.vcpu);
	for (size_t i = 0; i < 2; i++) {
		section_get(&box, IMPOST_SECTION_LAPIC, &s);
		put_reg(&s, reg, values[i]);
		section_set(&box, IMPOST_SECTION_LAPIC, &s);
		section_get(&box, IMPOST_SECTION_LAPIC, &t);
		cr_assert_eq(reg_of(&t, reg), values[i], "0x%x, not 0x%x", reg_of(&t, reg),
			     values[i]);
		/* No other one moves, but for the processor's priority, which follows TPR. */
		put_reg(&s, 0xa0, reg_of(&t, 0xa0));
		cr_assert_arr_eq(&t, &s, s.size, "another register has changed");
	}
	if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
		guest_reads(&box, reg, second);
	box_close(&box);
}

#define LAPIC(name, reg, first, second)             \
	Test(lapic, name)                           \
	{                                           \
		lapic_register(reg, first, second); \
	}
LAPIC(task_priority, 0x080, 0xff, 0x30)
LAPIC(logical_destination, 0x0d0, 0xff000000, 0x02000000)
LAPIC(destination_format, 0x0e0, 0x0fffffff, 0xffffffff)
LAPIC(spurious_vector, 0x0f0, 0x1ff, 0x120)
LAPIC(interrupt_command, 0x300, 0x000c4500, 0x00000041)
LAPIC(interrupt_command_high, 0x310, 0xff000000, 0x01000000)
LAPIC(lvt_timer, 0x320, 0x100ff, 0x00041)
LAPIC(lvt_thermal, 0x330, 0x100ff, 0x00042)
LAPIC(lvt_performance, 0x340, 0x100ff, 0x00400)
LAPIC(lvt_lint0, 0x350, 0x1a0ff, 0x00700)
LAPIC(lvt_lint1, 0x360, 0x1a0ff, 0x00400)
LAPIC(lvt_error, 0x370, 0x100ff, 0x00043)
LAPIC(divide_configuration, 0x3e0, 0xb, 0x3)

/* Vectors in service and accepted, of which there are 256 bits each. */
static void lapic_vectors(uint32_t first)
{
	static union section s, t;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_LAPIC);
	lapic_on(&box, box.vcpu);
	for (uint32_t vector = 32; vector < 256; vector += 37) {
		const uint32_t reg = first + vector / 32 * 16;

		section_get(&box, IMPOST_SECTION_LAPIC, &s);
		put_reg(&s, reg, reg_of(&s, reg) | 1u << (vector % 32));
		section_set(&box, IMPOST_SECTION_LAPIC, &s);
	}
	section_get(&box, IMPOST_SECTION_LAPIC, &t);
	for (uint32_t vector = 0; vector < 256; vector++) {
		const uint32_t reg = first + vector / 32 * 16;
		const bool want = vector >= 32 && (vector - 32) % 37 == 0;

		cr_assert_eq(reg_of(&t, reg) >> (vector % 32) & 1, want, "vector %u", vector);
	}
	box_close(&box);
}

Test(lapic, in_service)
{
	lapic_vectors(0x100);
}

Test(lapic, trigger_modes)
{
	lapic_vectors(0x180);
}

Test(lapic, requests)
{
	lapic_vectors(0x200);
}

/* Each vCPU has its own, with its number in it. */
Test(lapic, each_vcpu_has_its_own)
{
	struct impost_vcpu *second;
	static union section s, t;
	uint32_t size;
	struct box box;

	box_open(&box, 2, IMPOST_IRQCHIP_LAPIC);
	OK(&box, impost_vcpu_create(box.vm, 1, &second));
	section_get(&box, IMPOST_SECTION_LAPIC, &s);
	OK(&box, impost_vcpu_get(second, IMPOST_SECTION_LAPIC, &t, sizeof(t), &size));
	cr_assert_eq(reg_of(&s, 0x20) >> 24, 0u);
	cr_assert_eq(reg_of(&t, 0x20) >> 24, 1u);
	put_reg(&t, 0x80, 0x70);
	OK(&box, impost_vcpu_set(second, IMPOST_SECTION_LAPIC, &t, size));
	section_get(&box, IMPOST_SECTION_LAPIC, &s);
	cr_assert_eq(reg_of(&s, 0x80), 0u, "the first one's has changed");
	OK(&box, impost_vcpu_destroy(second));
	box_close(&box);
}
