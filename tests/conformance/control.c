/* SPDX-License-Identifier: Apache-2.0 */
/* Segments, tables and control registers: each at its edges, and each value that hardware refuses.
 */
#include "section.h"

static void open_long(struct box *box)
{
	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_long(box, box->vcpu, GUEST(0xf4));
}

/* Sets what is in S, and asserts that nothing else comes back. */
static void round_trip(struct box *box, const union section *s)
{
	static union section got;

	section_set(box, IMPOST_SECTION_SREGS, s);
	section_get(box, IMPOST_SECTION_SREGS, &got);
	cr_assert_arr_eq(&got, s, s->size);
}

#define USUAL (IMPOST_X86_AR_P | IMPOST_X86_AR_S)

/* G goes with limits above 1 MiB: SVM knows no other (APM vol. 2, 15.5.1, and KVM derives it). */
static const struct {
	uint32_t limit, access;
} limits[] = {
	{0, 0},
	{0xffff, 0},
	{0xfffff, 0},
	{0xfffff, IMPOST_X86_AR_AVL},
	{0x00100fff, IMPOST_X86_AR_G},
	{0xffffffff, IMPOST_X86_AR_G},
};

static void data_segment(size_t offset, uint64_t highest_base)
{
	static union section s;
	struct impost_x86_segment *segment;
	struct box box;

	open_long(&box);
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	segment = (void *)((uint8_t *)&s + offset);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		segment->limit = limits[i].limit;
		/* Data, accessed, writable or not; with D/B or without it. */
		segment->access = USUAL | limits[i].access | (i & 1 ? 0x3u : 0x1u) |
				  (i & 2 ? IMPOST_X86_AR_DB : 0);
		if (offset == offsetof(struct impost_x86_sregs, ss))
			segment->access |= 2;
		segment->selector = (uint16_t)(i & 1 ? 0xfff8 : 8 * i);
		segment->base = i & 1 ? highest_base : 0x1000 * i;
		round_trip(&box, &s);
	}
	box_close(&box);
}

#define DATA_SEGMENT(name, highest)                                             \
	Test(segments, name)                                                    \
	{                                                                       \
		data_segment(offsetof(struct impost_x86_sregs, name), highest); \
	}
DATA_SEGMENT(ds, 0xffffffff)
DATA_SEGMENT(es, 0xffffffff)
DATA_SEGMENT(ss, 0xffffffff)
DATA_SEGMENT(fs, UINT64_C(0xffffffffffffffff))
DATA_SEGMENT(gs, UINT64_C(0xffff800000000000))

Test(segments, cs)
{
	static const uint32_t access[] = {0x209b, 0xc09b, 0x409b, 0x209f, 0x009b};
	static union section s;
	struct box box;

	open_long(&box);
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	for (size_t i = 0; i < sizeof(access) / sizeof(access[0]); i++) {
		/* 64-bit, 32-bit, of less than 1 MiB, conforming, 16-bit. */
		s.sregs.cs.access = access[i];
		s.sregs.cs.limit = access[i] & IMPOST_X86_AR_G ? 0xffffffff : 0xffff;
		s.sregs.cs.selector = (uint16_t)(8 * (i + 1));
		round_trip(&box, &s);
	}
	box_close(&box);
}

static void system_segment(size_t offset, uint32_t type)
{
	static union section s;
	struct impost_x86_segment *segment;
	struct box box;

	open_long(&box);
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	segment = (void *)((uint8_t *)&s + offset);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		segment->limit = limits[i].limit;
		segment->access = IMPOST_X86_AR_P | type | limits[i].access;
		segment->selector = (uint16_t)(8 * i);
		segment->base = i & 1 ? UINT64_C(0x7fffffffffff) : UINT64_C(0xffff800000000000);
		round_trip(&box, &s);
	}
	box_close(&box);
}

Test(segments, tr)
{
	system_segment(offsetof(struct impost_x86_sregs, tr), 11);
}

Test(segments, ldtr)
{
	system_segment(offsetof(struct impost_x86_sregs, ldtr), 2);
}

static void table(size_t offset)
{
	static const struct {
		uint64_t base;
		uint16_t limit;
	} edges[] = {{0, 0},
		     {UINT64_C(0x7fffffffffff), 0xffff},
		     {UINT64_C(0xffff800000000000), 1},
		     {UINT64_MAX, 0x7fff}};
	static union section s;
	struct impost_x86_table *t;
	struct box box;

	open_long(&box);
	section_get(&box, IMPOST_SECTION_SREGS, &s);
	t = (void *)((uint8_t *)&s + offset);
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		t->base = edges[i].base;
		t->limit = edges[i].limit;
		round_trip(&box, &s);
	}
	box_close(&box);
}

Test(segments, gdtr)
{
	table(offsetof(struct impost_x86_sregs, gdtr));
}

Test(segments, idtr)
{
	table(offsetof(struct impost_x86_sregs, idtr));
}

/* --- each legal edge of a control register --- */

#define EDGES(name, field, ...)                                                 \
	Test(control, name)                                                     \
	{                                                                       \
		static const uint64_t edges[] = {__VA_ARGS__};                  \
		static union section s;                                         \
		struct box box;                                                 \
                                                                                \
		open_long(&box);                                                \
		section_get(&box, IMPOST_SECTION_SREGS, &s);                    \
		for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) { \
			s.sregs.field = edges[i];                               \
			round_trip(&box, &s);                                   \
		}                                                               \
		box_close(&box);                                                \
	}

/* PE, ET and PG with each of MP, EM, TS, NE, WP, AM, CD, and CD with NW (SDM vol. 3, 2.5). */
EDGES(cr0, cr0, 0x80000011, 0x80000013, 0x80000015, 0x80000019, 0x80000031, 0x80010011, 0x80040011,
      0xc0000011, 0xe0000011, 0xe005003f)
EDGES(cr2, cr2, 0, 1, UINT64_C(0x7fffffffffff), UINT64_C(0xffff800000000000), UINT64_MAX)
EDGES(cr3, cr3, 0, 0x18, 0x1000, 0xfffff000)
/* PAE with each of those that every 64-bit processor has. */
EDGES(cr4, cr4, 0x20, 0x21, 0x22, 0x24, 0x28, 0x30, 0x60, 0xa0, 0x120, 0x220, 0x420, 0x7bf)
EDGES(cr8, cr8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
/* LME and LMA with SCE and NXE. */
EDGES(efer, efer, 0x500, 0x501, 0xd00, 0xd01)

/* A mode is had, or refused: not taken and then forgotten. */
static void mode(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	static union section before, s, got;
	struct box box;
	int r;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	enter_real(&box, box.vcpu, GUEST(0xf4));
	set_supported_cpuid(&box, box.vcpu);
	section_get(&box, IMPOST_SECTION_SREGS, &before);
	s = before;
	s.sregs.cr0 = cr0;
	s.sregs.cr4 = cr4;
	s.sregs.efer = efer;
	s.sregs.flags = 0;
	r = impost_vcpu_set(box.vcpu, IMPOST_SECTION_SREGS, &s, s.size);
	cr_assert(r == 0 || r == -ENOTSUP, "%s", impost_error(box.ctx));
	section_get(&box, IMPOST_SECTION_SREGS, &got);
	if (r)
		s = before;
	cr_assert_eq(got.sregs.cr0, s.sregs.cr0, "CR0 0x%llx", (unsigned long long)got.sregs.cr0);
	cr_assert_eq(got.sregs.cr4, s.sregs.cr4, "CR4 0x%llx", (unsigned long long)got.sregs.cr4);
	cr_assert_eq(got.sregs.efer, s.sregs.efer, "EFER 0x%llx",
		     (unsigned long long)got.sregs.efer);
	box_close(&box);
}

#define MODE(name, cr0, cr4, efer)    \
	Test(control, mode_##name)    \
	{                             \
		mode(cr0, cr4, efer); \
	}
MODE(real, 0x10, 0, 0)
MODE(real_without_caches, 0x60000010, 0, 0)
MODE(protected, 0x11, 0, 0)
MODE(paging, 0x80000011, 0, 0)
MODE(pae, 0x80000011, 0x20, 0)
MODE(ia_32e, 0x80000011, 0x20, 0x500)

/* --- what hardware refuses; the register is in the text --- */

#define REFUSES(name, word, change)                                                   \
	Test(control, refuses_##name)                                                 \
	{                                                                             \
		static union section s;                                               \
		struct box box;                                                       \
                                                                                      \
		open_long(&box);                                                      \
		section_get(&box, IMPOST_SECTION_SREGS, &s);                          \
		s.sregs.cr2 = 0x123000;                                               \
		change;                                                               \
		section_refuse(&box, IMPOST_SECTION_SREGS, &s, IMPOST_ESTATE, #name); \
		cr_assert_not_null(strcasestr(impost_error(box.ctx), word),           \
				   "names no " word ": %s", impost_error(box.ctx));   \
		box_close(&box);                                                      \
	}
REFUSES(cr0_pg_without_pe, "CR0", s.sregs.cr0 &= ~UINT64_C(1))
REFUSES(cr0_nw_without_cd, "CR0", s.sregs.cr0 |= 1u << 29)
REFUSES(cr0_bit_32, "CR0", s.sregs.cr0 |= UINT64_C(1) << 32)
REFUSES(cr0_bit_63, "CR0", s.sregs.cr0 |= UINT64_C(1) << 63)
REFUSES(cr4_without_pae, "CR4", s.sregs.cr4 &= ~UINT64_C(0x20))
REFUSES(cr4_bit_15, "CR4", s.sregs.cr4 |= 1u << 15)
REFUSES(cr4_bit_40, "CR4", s.sregs.cr4 |= UINT64_C(1) << 40)
REFUSES(cr4_bit_63, "CR4", s.sregs.cr4 |= UINT64_C(1) << 63)
REFUSES(efer_lma_without_lme, "EFER", s.sregs.efer = 0x400)
REFUSES(efer_lme_without_lma, "EFER", s.sregs.efer = 0x100)
REFUSES(efer_bit_1, "EFER", s.sregs.efer |= 2)
REFUSES(efer_bit_63, "EFER", s.sregs.efer |= UINT64_C(1) << 63)
REFUSES(cs_with_l_and_d, "CS", s.sregs.cs.access |= IMPOST_X86_AR_DB)
REFUSES(cr8_of_16, "CR8", s.sregs.cr8 = 16)
REFUSES(cr8_bit_63, "CR8", s.sregs.cr8 |= UINT64_C(1) << 63)
REFUSES(cr3_bit_62, "CR3", s.sregs.cr3 |= UINT64_C(1) << 62)
REFUSES(apic_base_bit_0, "APIC_BASE", s.sregs.apic_base |= 1)
REFUSES(apic_base_bit_63, "APIC_BASE", s.sregs.apic_base |= UINT64_C(1) << 63)
REFUSES(apic_base_extd_without_en, "APIC_BASE", s.sregs.apic_base = 0xfee00400)
