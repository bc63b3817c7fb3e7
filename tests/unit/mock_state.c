/* SPDX-License-Identifier: Apache-2.0 */
/* State that hardware would refuse, each refused by the rule that it breaks; and state that is
 * kept. */
#include "mock.h"

/* All sections that a row may spoil. */
struct all {
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_debugregs debugregs;
	struct impost_x86_events events;
	struct impost_x86_runstate runstate;
	struct impost_x86_lapic lapic;
	_Alignas(64) uint8_t xsave[IMPOST_X86_XSAVE_MAX];
};

#define X(a)		    ((struct impost_x86_xsave *)(void *)(a)->xsave)
#define AREA(a)		    (X(a)->area)
#define SET(a, field, bits) ((a)->field |= (bits))

/* ROW(id, section that must be refused, how it is spoilt, what the text must have) */
#define ROWS                                                                                       \
	ROW(cr0_high, sregs, SET(a, sregs.cr0, UINT64_C(1) << 32),                                 \
	    "CR0 = 0x180000011: bits 63:32")                                                       \
	ROW(cr0_pg, sregs, a->sregs.cr0 = 0x80000010, "PG needs PE")                               \
	ROW(cr0_nw, sregs, SET(a, sregs.cr0, 1u << 29), "NW needs CD")                             \
	ROW(cr4_bit, sregs, SET(a, sregs.cr4, UINT64_C(1) << 13), "CR4 = 0x2020")                  \
	ROW(efer_bit, sregs, SET(a, sregs.efer, 2), "EFER = 0x502")                                \
	ROW(efer_lma, sregs, a->sregs.efer = 0x100, "LMA must equal LME and CR0.PG")               \
	ROW(efer_lme, sregs, a->sregs.efer = 0x400, "LMA must equal LME and CR0.PG")               \
	ROW(cr4_pae, sregs, a->sregs.cr4 = 0, "IA-32e mode needs PAE")                             \
	ROW(pcide, sregs, (a->sregs.efer = 0, a->sregs.cr4 |= 1 << 17), "PCIDE needs IA-32e")      \
	ROW(cr3, sregs, SET(a, sregs.cr3, UINT64_C(1) << 46), "CR3 = 0x400000001000")              \
	ROW(cr8, sregs, a->sregs.cr8 = 16, "CR8 = 0x10")                                           \
	ROW(apic_bit, sregs, SET(a, sregs.apic_base, 1), "IA32_APIC_BASE")                         \
	ROW(apic_extd, sregs, a->sregs.apic_base = 0xfee00400, "EXTD")                             \
	ROW(gdtr, sregs, a->sregs.gdtr.base = UINT64_C(1) << 47, "GDTR.base")                      \
	ROW(idtr, sregs, a->sregs.idtr.base = UINT64_C(1) << 47, "IDTR.base")                      \
	ROW(pdpte, sregs,                                                                          \
	    (a->sregs.efer = 0, a->sregs.cs.access = 0xc09b, a->sregs.flags = 1,                   \
	     a->sregs.pdptr[2] = 3),                                                               \
	    "PDPTE2 = 0x3")                                                                        \
	ROW(tr_base, sregs, a->sregs.tr.base = UINT64_C(1) << 60, "TR.base")                       \
	ROW(fs_base, sregs, a->sregs.fs.base = UINT64_C(1) << 60, "FS.base")                       \
	ROW(cs_base, sregs, a->sregs.cs.base = UINT64_C(1) << 32, "CS.base")                       \
	ROW(ds_base, sregs, a->sregs.ds.base = UINT64_C(1) << 32, "DS.base")                       \
	ROW(tr_ti, sregs, a->sregs.tr.selector = 0x24, "TR.selector = 0x24: TI")                   \
	ROW(tr_unusable, sregs, SET(a, sregs.tr.access, 1 << 16), "TR.access")                     \
	ROW(tr_type, sregs, a->sregs.tr.access = 0x83, "TR.type = 0x3: must be a busy TSS")        \
	ROW(tr_s, sregs, SET(a, sregs.tr.access, 16), "TR.access = 0x9b: S must be 0")             \
	ROW(tr_p, sregs, a->sregs.tr.access = 0x0b, "TR.access = 0xb: P must be 1")                \
	ROW(ldtr_type, sregs, (a->sregs.ldtr.access = 0x83), "LDTR.type = 0x3")                    \
	ROW(ldtr_ti, sregs, (a->sregs.ldtr.access = 0x82, a->sregs.ldtr.selector = 4), "LDTR.sel") \
	ROW(ldtr_base, sregs,                                                                      \
	    (a->sregs.ldtr.access = 0x82, a->sregs.ldtr.base = UINT64_C(1) << 60), "LDTR.base")    \
	ROW(cs_type, sregs, a->sregs.cs.access = 0xa097, "CS.type = 0x7")                          \
	ROW(cs_data, sregs, (a->sregs.cs.access = 0xa0f3), "CS.access = 0xa0f3: DPL must be 0")    \
	ROW(cs_dpl, sregs, SET(a, sregs.cs.access, 0x60), "DPL of non-conforming code")            \
	ROW(cs_conform, sregs, a->sregs.cs.access = 0xa0ff, "DPL of conforming code")              \
	ROW(cs_s, sregs, a->sregs.cs.access = 0xa08b, "CS.access = 0xa08b: S must be 1")           \
	ROW(cs_p, sregs, a->sregs.cs.access = 0xa01b, "CS.access = 0xa01b: P must be 1")           \
	ROW(cs_reserved, sregs, SET(a, sregs.cs.access, 0x100), "bits 31:17 and 11:8")             \
	ROW(cs_db, sregs, SET(a, sregs.cs.access, 1 << 14), "D/B must be 0 in 64-bit code")        \
	ROW(cs_l, sregs, (a->sregs.efer = 0, a->sregs.cr4 = 0), "L must be 0 outside IA-32e")      \
	ROW(cs_g, sregs, a->sregs.cs.limit = 0xfffffffe, "with G set, bits 11:0")                  \
	ROW(ds_g, sregs, (a->sregs.ds.access = 0x4093), "DS.limit = 0xffffffff: above 1 MiB")      \
	ROW(ss_type, sregs, a->sregs.ss.access = 0xc091, "SS.type = 0x1")                          \
	ROW(ss_real, sregs,                                                                        \
	    (a->sregs.efer = 0, a->sregs.cr0 = 0x10, a->sregs.cs.access = 0xc0fb,                  \
	     a->sregs.ss.access = 0xc0f3),                                                         \
	    "SS.access = 0xc0f3: DPL must be 0 when CR0.PE is 0")                                  \
	ROW(ss_cs_data, sregs, (a->sregs.cs.access = 0xa093, a->sregs.ss.access = 0xc0f3),         \
	    "DPL must be 0 when CS has type 3")                                                    \
	ROW(es_accessed, sregs, a->sregs.es.access = 0xc092, "ES.type = 0x2: must be accessed")    \
	ROW(gs_code, sregs, a->sregs.gs.access = 0xc099, "GS.type = 0x9: code must be readable")   \
	ROW(rflags_one, regs, a->regs.rflags = 0, "bit 1 must be 1")                               \
	ROW(rflags_bit, regs, a->regs.rflags = 0x8002, "RFLAGS = 0x8002: bits 63:22")              \
	ROW(dr6, debugregs, SET(a, debugregs.dr6, UINT64_C(1) << 32), "DR6 = 0x1ffff0ff0")         \
	ROW(dr7, debugregs, SET(a, debugregs.dr7, UINT64_C(1) << 32), "DR7 = 0x100000400")         \
	ROW(vector, events, (a->events.exception.injected = 1, a->events.exception.vector = 32),   \
	    "events.exception.vector = 0x20")                                                      \
	ROW(nmi_as, events, (a->events.exception.injected = 1, a->events.exception.vector = 2),    \
	    "2 is NMI")                                                                            \
	ROW(error, events,                                                                         \
	    (a->events.exception.injected = 1, a->events.exception.vector = 6,                     \
	     a->events.exception.has_error = 1),                                                   \
	    "no error code")                                                                       \
	ROW(both, events, (a->events.exception.injected = 1, a->events.exception.pending = 1),     \
	    "either injected or pending")                                                          \
	ROW(two, events, (a->events.interrupt.injected = 1, a->events.nmi.injected = 1),           \
	    "events.injected = 0x2")                                                               \
	ROW(shadow_bits, events, a->events.interrupt.shadow = 4, "shadow = 0x4")                   \
	ROW(sipi, events, a->events.sipi_vector = 0x100, "events.sipi_vector = 0x100")             \
	ROW(runstate, runstate, a->runstate.state = 6, "runstate.state = 0x6")                     \
	ROW(xcr0_x87, xsave, X(a)->xcr0 = 2, "XCR0 = 0x2: bit 0")                                  \
	ROW(xcr0_avx, xsave, X(a)->xcr0 = 5, "AVX needs SSE")                                      \
	ROW(xcr0_mpx, xsave, X(a)->xcr0 = 0xb, "BNDREGS and BNDCSR")                               \
	ROW(xcr0_512, xsave, X(a)->xcr0 = 0x27, "opmask")                                          \
	ROW(xcr0_512_avx, xsave, X(a)->xcr0 = 0xe3, "opmask")                                      \
	ROW(xcr0_amx, xsave, X(a)->xcr0 = 0x20007, "TILECFG and TILEDATA")                         \
	ROW(xcr0_more, xsave, X(a)->xcr0 = 0x207, "are not supported by this CPU")                 \
	ROW(xstate_bv, xsave, (X(a)->xcr0 = 3, AREA(a)[512] = 8), "XSTATE_BV = 0x8")               \
	ROW(xcomp_bv, xsave, AREA(a)[527] = 0x80, "XCOMP_BV = 0x8000000000000000")                 \
	ROW(xheader, xsave, AREA(a)[528] = 1, "XSAVE header")                                      \
	ROW(mxcsr, xsave, AREA(a)[26] = 1, "MXCSR = 0x11f80")                                      \
	ROW(lapic_id, lapic, a->lapic.regs[0x20] = 7, "x2APIC ID = 0x7")

struct row {
	const char *name;
	uint32_t section;
	size_t offset, bytes;
	void (*spoil)(struct all *a);
	const char *text;
};

enum {
	section_regs = IMPOST_SECTION_REGS,
	section_sregs = IMPOST_SECTION_SREGS,
	section_debugregs = IMPOST_SECTION_DEBUGREGS,
	section_events = IMPOST_SECTION_EVENTS,
	section_runstate = IMPOST_SECTION_RUNSTATE,
	section_xsave = IMPOST_SECTION_XSAVE,
	section_lapic = IMPOST_SECTION_LAPIC,
};

#define ROW(id, part, how, text)              \
	static void spoil_##id(struct all *a) \
	{                                     \
		(void)(how);                  \
	}
ROWS
#undef ROW
#define ROW(id, part, how, text)          \
	{#id,                             \
	 section_##part,                  \
	 offsetof(struct all, part),      \
	 sizeof(((struct all *)0)->part), \
	 spoil_##id,                      \
	 text},
	static const struct row rows[] = {ROWS};
#undef ROW

static void get_all(struct mock *m, struct all *a)
{
	static const struct {
		uint32_t section;
		size_t offset, bytes;
	} parts[] = {
#define PART(part) {section_##part, offsetof(struct all, part), sizeof(((struct all *)0)->part)}
		PART(regs),  PART(sregs),    PART(debugregs), PART(events),
		PART(xsave), PART(runstate), PART(lapic),
	};
	size_t i;

	memset(a, 0, sizeof(*a));
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint32_t size;

		cr_assert_eq(impost_vcpu_get(m->cpu[0], parts[i].section,
					     (char *)a + parts[i].offset, (uint32_t)parts[i].bytes,
					     &size),
			     0, "section %u: %s", parts[i].section, impost_error(m->ctx));
	}
}

/* All bytes are compared: get_all() zeroes those that no section fills. */
static bool same(const void *a, const void *b)
{
	return !memcmp(a, b, sizeof(struct all));
}

Test(mock_state, each_wrong_section_is_refused_by_its_rule)
{
	static struct all before, after, a;
	struct mock m;
	size_t i;

	mock_open(&m, NULL);
	get_all(&m, &before);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		const void *section = (char *)&a + row->offset;
		uint32_t size;
		int err;

		if (row->section == IMPOST_SECTION_LAPIC) { /* the rule is x2APIC mode's */
			before.sregs.apic_base |= 1 << 10;
			cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &before.sregs), 0);
		}
		a = before;
		row->spoil(&a);
		memcpy(&size, section, sizeof(size));
		err = impost_vcpu_set(m.cpu[0], row->section, section, size);
		cr_expect_eq(err, -IMPOST_ESTATE, "%s: %d", row->name, err);
		cr_expect(strstr(impost_error(m.ctx), row->text), "%s: \"%s\" has no \"%s\"",
			  row->name, impost_error(m.ctx), row->text);
		cr_expect(strstr(impost_error(m.ctx), "(SDM vol. "), "%s: no source", row->name);
		get_all(&m, &after);
		cr_expect(same(&before, &after), "%s: changed", row->name);
	}
	mock_close(&m);
}

/* What shows only when sections are seen together: set is taken, entry is refused. */
#define ENTRIES                                                                                    \
	ENTRY(rip_canonical, regs, a->regs.rip = UINT64_C(1) << 47,                                \
	      "RIP = 0x800000000000: must be canonical")                                           \
	ENTRY(rip_32, sregs, (a->sregs.cs.access = 0xc09b, a->regs.rip = UINT64_C(1) << 32),       \
	      "bits 63:32 must be 0 outside 64-bit mode")                                          \
	ENTRY(vm_lma, regs, a->regs.rflags = 0x20002, "VM must be 0")                              \
	ENTRY(inject_if, events,                                                                   \
	      (a->events.interrupt.injected = 1, a->events.interrupt.vector = 32), "IF must be 1") \
	ENTRY(inject_shadow, events,                                                               \
	      (a->events.interrupt.injected = 1, a->regs.rflags = 0x202,                           \
	       a->events.interrupt.shadow = 1),                                                    \
	      "nothing may block an external interrupt")                                           \
	ENTRY(sti, events, a->events.interrupt.shadow = 1, "blocking by STI needs IF")             \
	ENTRY(nmi, events, (a->events.nmi.injected = 1, a->events.interrupt.shadow = 2),           \
	      "MOV SS may not block an NMI")                                                       \
	ENTRY(halted, runstate,                                                                    \
	      (a->runstate.state = 3, a->sregs.ss.access = 0xc0f3, a->sregs.cs.access = 0xa0fb),   \
	      "a halted vCPU has SS.DPL 0")                                                        \
	ENTRY(halted_shadow, runstate,                                                             \
	      (a->runstate.state = 3, a->regs.rflags = 0x202, a->events.interrupt.shadow = 1),     \
	      "a halted vCPU has no interrupt shadow")                                             \
	ENTRY(unmapped, regs, a->regs.rip = 0x40000000, "not mapped executable")                   \
	ENTRY(no_memory, sregs, a->sregs.cr3 = UINT64_C(0x12345000), "no memory")

#define ENTRY(id, part, how, text)            \
	static void enter_##id(struct all *a) \
	{                                     \
		(void)(how);                  \
	}
ENTRIES
#undef ENTRY
#define ENTRY(id, part, how, text) {#id, 0, 0, 0, enter_##id, text},
static const struct row entries[] = {ENTRIES};
#undef ENTRY

static void set_most(struct mock *m, struct all *a)
{
	struct impost_vcpu *cpu = m->cpu[0];

	cr_assert_eq(impost_vcpu_set_sregs(cpu, &a->sregs), 0, "%s", impost_error(m->ctx));
	cr_assert_eq(impost_vcpu_set_regs(cpu, &a->regs), 0, "%s", impost_error(m->ctx));
	cr_assert_eq(impost_vcpu_set(cpu, section_events, &a->events, sizeof(a->events)), 0, "%s",
		     impost_error(m->ctx));
	cr_assert_eq(impost_vcpu_set(cpu, section_runstate, &a->runstate, sizeof(a->runstate)), 0);
}

Test(mock_state, what_sections_say_together_is_judged_at_entry)
{
	static struct all before, a;
	struct impost_exit x;
	struct mock m;
	size_t i;

	mock_open(&m, "[vcpu 0]\nrepeat = forever\nhlt =\nend =\n");
	get_all(&m, &before);
	for (i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		a = before;
		entries[i].spoil(&a);
		set_most(&m, &a);
		cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
		cr_expect_eq(x.kind, IMPOST_EXIT_FAIL_ENTRY, "%s", entries[i].name);
		cr_expect(strstr(x.u.failure.text, entries[i].text), "%s: \"%s\" has no \"%s\"",
			  entries[i].name, x.u.failure.text, entries[i].text);
		/* It is refused as long as it is wrong, and runs when it is right again. */
		run_to(&m, IMPOST_EXIT_FAIL_ENTRY);
		set_most(&m, &before);
		run_to(&m, IMPOST_EXIT_HLT);
	}
	mock_close(&m);
}

/* As KVM tells of the one shadow that SVM has; IF is clear, so it was MOV SS. */
Test(mock_state, both_interrupt_shadows_at_once_are_taken)
{
	struct impost_x86_events back;
	static struct all a;
	uint32_t size;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nrepeat = forever\nhlt =\nend =\n");
	get_all(&m, &a);
	a.regs.rflags = 2;
	a.events.interrupt.shadow = IMPOST_X86_SHADOW_STI | IMPOST_X86_SHADOW_MOV_SS;
	a.events.flags |= IMPOST_X86_EVENTS_SHADOW;
	set_most(&m, &a);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], section_events, &back, sizeof(back), &size), 0);
	cr_assert_eq(back.interrupt.shadow, a.events.interrupt.shadow);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

Test(mock_state, entry_is_not_judged_when_the_ini_says_so)
{
	struct impost_exit x;
	struct mock m;

	cr_assert_eq(mock_try(&m, "[vcpu 0]\nhlt =\n", IMPOST_IRQCHIP_FULL, 1, "check_entry", "no"),
		     0);
	cr_assert_eq(impost_vcpu_create(m.vm, 0, &m.cpu[0]), 0);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_HLT);
	mock_close(&m);
}

Test(mock_state, a_new_vcpu_stands_at_the_reset_vector)
{
	struct impost_x86_sregs sregs;
	struct impost_x86_regs regs;
	struct impost_exit x;
	struct mock m;

	cr_assert_eq(mock_try(&m, "[vcpu 0]\nhlt =\n", IMPOST_IRQCHIP_FULL, 1, NULL, NULL), 0);
	cr_assert_eq(impost_vcpu_create(m.vm, 0, &m.cpu[0]), 0);
	cr_assert_eq(impost_vcpu_get_regs(m.cpu[0], &regs), 0);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[0], &sregs), 0);
	cr_assert_eq(regs.rip, 0xfff0);
	cr_assert_eq(sregs.cs.base, 0xffff0000);
	cr_assert_eq(impost_vcpu_run(m.cpu[0], &x), 0);
	cr_assert_eq(x.kind, IMPOST_EXIT_FAIL_ENTRY);
	cr_assert(strstr(x.u.failure.text, "0xfffffff0, where there is no memory"), "%s",
		  x.u.failure.text);
	mock_close(&m);
}

Test(mock_state, segments_of_virtual_8086_mode_have_their_own_rules)
{
	static struct all a;
	struct mock m;
	struct impost_x86_segment *six[6];
	unsigned i;

	mock_open(&m, "[vcpu 0]\nrepeat = forever\nhlt =\nend =\n");
	get_all(&m, &a);
	six[0] = &a.sregs.cs, six[1] = &a.sregs.ds, six[2] = &a.sregs.es;
	six[3] = &a.sregs.fs, six[4] = &a.sregs.gs, six[5] = &a.sregs.ss;
	for (i = 0; i < 6; i++)
		*six[i] = (struct impost_x86_segment){
			.base = 0x1000, .limit = 0xffff, .access = 0xf3, .selector = 0x100};
	a.sregs.efer = 0;
	a.sregs.cr0 = 0x11;
	a.sregs.cr4 = 0;
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &a.sregs), 0, "%s", impost_error(m.ctx));
	a.regs.rflags = 0x20002;
	a.regs.rip = 0;
	cr_assert_eq(impost_vcpu_set_regs(m.cpu[0], &a.regs), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	a.regs.rflags = 2; /* the same segments outside that mode */
	cr_assert_eq(impost_vcpu_set_regs(m.cpu[0], &a.regs), 0);
	run_expecting(&m, IMPOST_EXIT_FAIL_ENTRY, "CS.access = 0xf3");
	a.sregs.gs.base++;
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &a.sregs), -IMPOST_ESTATE);
	cr_assert(strstr(impost_error(m.ctx), "GS.base = 0x1001: must be selector * 16"));
	mock_close(&m);
}

/* --- MSRs --- */

Test(mock_state, wrong_msr_values_are_refused_by_name_and_those_before_are_done)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		int err;
		const char *text;
	} bad[] = {
		{0x174, UINT64_C(1) << 32, -IMPOST_ESTATE, "IA32_SYSENTER_CS"},
		{0x175, UINT64_C(1) << 47, -IMPOST_ESTATE, "IA32_SYSENTER_ESP"},
		{0x176, UINT64_C(1) << 63, -IMPOST_ESTATE, "canonical"},
		{0xc0000082, UINT64_C(1) << 47, -IMPOST_ESTATE, "IA32_LSTAR"},
		{0xc0000102, UINT64_C(1) << 47, -IMPOST_ESTATE, "IA32_KERNEL_GS_BASE"},
		{0xc0000100, UINT64_C(1) << 47, -IMPOST_ESTATE, "IA32_FS_BASE"},
		{0xc0000103, UINT64_C(1) << 32, -IMPOST_ESTATE, "IA32_TSC_AUX"},
		{0xc0000080, 2, -IMPOST_ESTATE, "IA32_EFER"},
		{0x277, 2, -IMPOST_ESTATE, "IA32_PAT"},
		{0x277, UINT64_C(8) << 56, -IMPOST_ESTATE, "IA32_PAT"},
		{0x250, 7, -IMPOST_ESTATE, "IA32_MTRR_FIX64K"},
		{0x2ff, 0x1006, -IMPOST_ESTATE, "IA32_MTRR_DEF_TYPE"},
		{0x200, 3, -IMPOST_ESTATE, "IA32_MTRR_PHYSBASE0"},
		{0x201, UINT64_C(1) << 46, -IMPOST_ESTATE, "IA32_MTRR_PHYSMASK0"},
		{0x1b, 1, -IMPOST_ESTATE, "IA32_APIC_BASE"},
		{0xfe, 0, -IMPOST_ESTATE, "read-only"},
		{0xda0, 1, -IMPOST_ESTATE, "IA32_XSS"},
		{0x3a, 2, -IMPOST_ESTATE, "IA32_FEATURE_CONTROL"},
		{0x48, 8, -IMPOST_ESTATE, "IA32_SPEC_CTRL"},
		{0x17a, 8, -IMPOST_ESTATE, "IA32_MCG_STATUS"},
		{0x12345, 0, -ENOENT, "MSR 0x12345"},
		{0x4b564d00, 0, -ENOENT, "MSR 0x4b564d00"},
	};
	struct mock m;
	size_t i;

	mock_open(&m, NULL);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct impost_x86_msr list[2] = {{.index = 0xc0000081, .value = i + 1},
						 {.index = bad[i].index, .value = bad[i].value}};
		struct impost_x86_msr star = {.index = 0xc0000081};
		uint32_t done;
		int err = impost_vcpu_set_msrs(m.cpu[0], list, 2, &done);

		cr_expect_eq(err, bad[i].err, "%#x: %d", bad[i].index, err);
		cr_expect_eq(done, 1);
		cr_expect(strstr(impost_error(m.ctx), bad[i].text), "%s", impost_error(m.ctx));
		cr_assert_eq(impost_vcpu_get_msrs(m.cpu[0], &star, 1, NULL), 0);
		cr_expect_eq(star.value, i + 1);
	}
	mock_close(&m);
}

Test(mock_state, every_listed_msr_can_be_got_and_set_back)
{
	static uint32_t indices[256];
	static struct impost_x86_msr list[256];
	uint32_t count, i;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_msr_list(m.vm, indices, 1, &count), -ENOSPC);
	cr_assert_gt(count, 40);
	cr_assert_eq(impost_vm_msr_list(m.vm, indices, 256, &count), 0);
	for (i = 0; i < count; i++)
		list[i].index = indices[i];
	cr_assert_eq(impost_vcpu_get_msrs(m.cpu[0], list, count, NULL), 0);
	cr_assert_eq(impost_vcpu_set_msrs(m.cpu[0], list, count, NULL), 0, "%s",
		     impost_error(m.ctx));
	mock_close(&m);
}

Test(mock_state, msrs_that_are_also_registers_are_one_with_them)
{
	struct impost_x86_msr list[] = {{.index = 0xc0000100, .value = 0x123000},
					{.index = 0xc0000101, .value = 0x456000},
					{.index = 0xc0000080, .value = 0xd01}};
	struct impost_x86_sregs s;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_set_msrs(m.cpu[0], list, 3, NULL), 0);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[0], &s), 0);
	cr_assert_eq(s.fs.base, 0x123000);
	cr_assert_eq(s.gs.base, 0x456000);
	cr_assert_eq(s.efer, 0xd01);
	mock_close(&m);
}

/* --- sections as such --- */

Test(mock_state, every_section_comes_back_as_it_was_set)
{
	static struct all a, b;
	struct mock m;

	mock_open(&m, NULL);
	get_all(&m, &a);
	memset(&a.regs.rax, 0x5a, 16 * 8);
	a.debugregs.dr[1] = UINT64_MAX;
	a.lapic.regs[0x80] = 0x20;
	a.events.nmi.masked = 1;
	X(&a)->xcr0 = 7;
	AREA(&a)[512] = 7;
	memset(AREA(&a) + 576, 0xa5, 256);
	a.sregs.cr2 = UINT64_MAX;
	set_most(&m, &a);
	cr_assert_eq(
		impost_vcpu_set(m.cpu[0], section_debugregs, &a.debugregs, sizeof(a.debugregs)), 0);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_lapic, &a.lapic, sizeof(a.lapic)), 0);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), 0, "%s",
		     impost_error(m.ctx));
	get_all(&m, &b);
	cr_assert(same(&a, &b));
	mock_close(&m);
}

/* As KVM gives the state of a guest that had AVX on, used it, and switched it off in XCR0. */
Test(mock_state, avx_is_kept_while_it_is_off)
{
	static struct all a, b;
	struct mock m;

	mock_open(&m, NULL);
	get_all(&m, &a);
	X(&a)->xcr0 = 3;
	AREA(&a)[512] = 7;
	memset(AREA(&a) + 576, 0x77, 256);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), 0, "%s",
		     impost_error(m.ctx));
	get_all(&m, &b);
	cr_assert(same(&a, &b));
	X(&a)->ncomponents = 0;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), -IMPOST_ESTATE);
	mock_close(&m);
}

Test(mock_state, avx_is_found_where_the_section_says)
{
	static struct all a;
	struct mock m;

	mock_open(&m, NULL);
	get_all(&m, &a);
	X(&a)->xcr0 = 7;
	X(&a)->area_size = 2048;
	X(&a)->size = 576 + 2048;
	X(&a)->component[0] = (struct impost_x86_xcomponent){2, 1024, 256, 0};
	memset(AREA(&a) + 1024, 0x77, 256);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), 0, "%s",
		     impost_error(m.ctx));
	get_all(&m, &a);
	cr_assert_eq(X(&a)->component[0].offset, 576);
	cr_assert_eq(AREA(&a)[576], 0x77);
	cr_assert_eq(AREA(&a)[831], 0x77);
	X(&a)->component[0].offset = 800;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), -EINVAL);
	X(&a)->component[0].offset = UINT32_MAX;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), -EINVAL);
	X(&a)->ncomponents = 33;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_xsave, X(&a), X(&a)->size), -EINVAL);
	mock_close(&m);
}

Test(mock_state, a_shorter_section_reads_as_zero_where_it_ends)
{
	struct impost_x86_debugregs d = {.size = 24, .dr = {1, 2, 3, 4}, .dr6 = UINT64_MAX};
	uint32_t size;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_debugregs, &d, 24), 0);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], section_debugregs, &d, sizeof(d), &size), 0);
	cr_assert_eq(size, sizeof(d));
	cr_assert_eq(d.size, sizeof(d));
	cr_assert_eq(d.dr[1], 2);
	cr_assert_eq(d.dr[2], 0);
	cr_assert_eq(d.dr6, 0);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], section_debugregs, &d, 8, &size), -ENOSPC);
	cr_assert_eq(size, sizeof(d));
	mock_close(&m);
}

Test(mock_state, what_is_not_there_has_an_error)
{
	struct impost_x86_opaque other = {.size = sizeof(other), .version = 1, .backend = "kvm"};
	struct impost_x86_opaque own = {.size = sizeof(own), .version = 1, .backend = "mock"};
	struct impost_x86_events smm = {.size = sizeof(smm), .flags = IMPOST_X86_EVENTS_SMM};
	struct impost_x86_lapic lapic;
	struct impost_x86_pic pic;
	uint32_t size;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_NONE, 1, NULL, NULL);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], section_lapic, &lapic, sizeof(lapic), &size),
		     -ENOENT);
	lapic = (struct impost_x86_lapic){.size = sizeof(lapic)};
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_lapic, &lapic, sizeof(lapic)), -ENOENT);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size), -ENOENT);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, &own, sizeof(own),
				     &size),
		     -ENOENT);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, &other, sizeof(other)),
		     -ENOTSUP);
	cr_assert_eq(impost_vcpu_set(m.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, &own, sizeof(own)), 0);
	cr_assert_eq(impost_vcpu_get(m.cpu[0], IMPOST_SECTION_VCPU_OPAQUE, &other, sizeof(other),
				     &size),
		     0);
	cr_assert_str_eq(other.backend, "mock");
	smm.smi.smm = 1;
	cr_assert_eq(impost_vcpu_set(m.cpu[0], section_events, &smm, sizeof(smm)), -ENOTSUP);
	mock_close(&m);
}

Test(mock_state, controllers_of_the_vm_are_stored_and_judged)
{
	struct impost_x86_ioapic ioapic, back;
	struct impost_x86_pic pic, pic2;
	struct impost_x86_pit pit, pit2;
	uint32_t size;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic), &size), 0);
	ioapic.redirect[4] = 0x30;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic)), 0);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_IOAPIC, &back, sizeof(back), &size), 0);
	cr_assert_eq(memcmp(&ioapic, &back, sizeof(back)), 0);
	ioapic.redirect[5] = 0x300;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic)),
		     -IMPOST_ESTATE);
	cr_assert(strstr(impost_error(m.ctx), "redirection entry 5"));
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size), 0);
	pic.chip[1].irq_base = 0x28;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_PIC, &pic, sizeof(pic)), 0);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_PIC, &pic2, sizeof(pic2), &size), 0);
	cr_assert_eq(memcmp(&pic, &pic2, sizeof(pic)), 0);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_PIT, &pit, sizeof(pit), &size), 0);
	pit.channel[0].count = 1193;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_PIT, &pit, sizeof(pit)), 0);
	cr_assert_eq(impost_vm_get(m.vm, IMPOST_SECTION_PIT, &pit2, sizeof(pit2), &size), 0);
	cr_assert_eq(memcmp(&pit, &pit2, sizeof(pit)), 0);
	pit.channel[0].count = 0;
	cr_assert_eq(impost_vm_set(m.vm, IMPOST_SECTION_PIT, &pit, sizeof(pit)), -IMPOST_ESTATE);
	mock_close(&m);
}
