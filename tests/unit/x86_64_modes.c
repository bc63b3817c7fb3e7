/* SPDX-License-Identifier: Apache-2.0 */
/* What each mode's entry is, byte for byte, and that the mock, as hardware, lets it in. */
#include "../golden/golden.h"
#include "x86_64.h"

#include <impost/impost.h>
#include <impost/mock.h>

static const uint32_t modes[] = {IMPOST_X86_MODE_REAL, IMPOST_X86_MODE_PROTECTED,
				 IMPOST_X86_MODE_LONG};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* Not 0, as every section is that a backend has given. */
static struct impost_x86_sregs sregs_dirty(void)
{
	struct impost_x86_sregs sregs;

	memset(&sregs, PATTERN, sizeof(sregs));
	sregs.apic_base = 0xfee00900;
	sregs.cr8 = 5;
	return sregs;
}

static struct impost_x86_paging paging_of(uint32_t levels)
{
	return (struct impost_x86_paging){sizeof(struct impost_x86_paging), levels, 2 * MIB,
					  4 * GIB};
}

/* --- segments and control registers --- */

Test(modes, sregs_golden)
{
	static const char *const files[MODES] = {"sregs-real.golden", "sregs-protected.golden",
						 "sregs-long.golden"};
	const struct impost_x86_paging paging = paging_of(4);

	for (size_t i = 0; i < MODES; i++) {
		struct impost_x86_sregs sregs = sregs_dirty();

		cr_assert_eq(impost_x86_setup_sregs(&sregs, modes[i], 0x10000, &paging, 0x9000), 0);
		golden_compare(files[i], &sregs, sizeof(sregs));
	}
}

/* Nothing but CR4.LA57 tells them apart (SDM vol. 3, 2.5). */
Test(modes, five_levels_are_one_bit)
{
	const struct impost_x86_paging four = paging_of(4), five = paging_of(5);
	struct impost_x86_sregs a = sregs_dirty(), b = sregs_dirty();

	cr_assert_eq(impost_x86_setup_sregs(&a, IMPOST_X86_MODE_LONG, 0, &four, 0x9000), 0);
	cr_assert_eq(impost_x86_setup_sregs(&b, IMPOST_X86_MODE_LONG, 0, &five, 0x9000), 0);
	cr_assert_eq(b.cr4, 0x1020u);
	b.cr4 = a.cr4;
	cr_assert_arr_eq(&a, &b, sizeof(a));
}

/* A segment register holds 16 bits of what is 20 bits of address (SDM vol. 3, 21.1.1). */
Test(modes, real_mode_can_be_entered_at_any_segment)
{
	for (uint64_t selector = 0; selector <= 0xffff; selector++) {
		struct impost_x86_sregs sregs = sregs_dirty();

		cr_assert_eq(impost_x86_setup_sregs(&sregs, IMPOST_X86_MODE_REAL, selector * 16,
						    NULL, 0),
			     0);
		cr_assert_eq(sregs.cs.selector, selector);
		cr_assert_eq(sregs.cs.base, selector * 16);
		cr_assert_arr_eq(&sregs.ss, &sregs.ds, sizeof(sregs.ds));
	}
}

Test(modes, sregs_that_cannot_be_are_refused_and_untouched)
{
	const struct impost_x86_paging three = paging_of(3), six = paging_of(6);
	const struct impost_x86_paging unset = {.levels = 4};
	const struct {
		uint32_t mode;
		uint64_t entry;
		const struct impost_x86_paging *paging;
	} rows[] = {
		{0, 0, &three},
		{4, 0, &three},
		{IMPOST_X86_MODE_REAL, 8, NULL},
		{IMPOST_X86_MODE_REAL, 0x100000, NULL},
		{IMPOST_X86_MODE_LONG, 0, NULL},
		{IMPOST_X86_MODE_LONG, 0, &three},
		{IMPOST_X86_MODE_LONG, 0, &six},
		{IMPOST_X86_MODE_LONG, 0, &unset},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_x86_sregs sregs = sregs_dirty(), before = sregs;

		cr_assert_eq(impost_x86_setup_sregs(&sregs, rows[i].mode, rows[i].entry,
						    rows[i].paging, 0),
			     -EINVAL, "row %zu", i);
		cr_assert_arr_eq(&sregs, &before, sizeof(before));
	}
}

/* --- descriptor tables --- */

#define TABLES 0xe8 /* bytes from the GDT to the TSS's end */

Test(modes, gdt_golden)
{
	static const char *const files[MODES] = {NULL, "gdt-protected.golden", "gdt-long.golden"};

	for (size_t i = 0; i < MODES; i++) {
		struct ram ram = ram_make(MIB);
		uint8_t got[TABLES];

		cr_assert_eq(impost_memory_fill(ram.memory, IMPOST_X86_GDT_ADDR, PATTERN,
						sizeof(got)),
			     0);
		cr_assert_eq(impost_x86_write_gdt(ram.memory, modes[i]), 0);
		cr_assert_eq(impost_memory_read(ram.memory, IMPOST_X86_GDT_ADDR, got, sizeof(got)),
			     0);
		if (files[i])
			golden_compare(files[i], got, sizeof(got));
		for (size_t k = 0; !files[i] && k < sizeof(got); k++)
			cr_assert_eq(got[k], PATTERN);
		ram_free(&ram);
	}
}

/* What a selector is loaded with again must be what it held (SDM vol. 3, figure 3-8). */
static void assert_agrees(struct ram *ram, const struct impost_x86_sregs *sregs,
			  const struct impost_x86_segment *segment)
{
	uint32_t limit, access;
	uint64_t base;
	uint8_t d[8];

	cr_assert_leq(segment->selector + 7u, sregs->gdtr.limit);
	cr_assert_eq(impost_memory_read(ram->memory, sregs->gdtr.base + segment->selector, d, 8),
		     0);
	base = d[2] | (uint32_t)d[3] << 8 | (uint32_t)d[4] << 16 | (uint32_t)d[7] << 24;
	limit = d[0] | (uint32_t)d[1] << 8 | (uint32_t)(d[6] & 0xf) << 16;
	access = d[5] | (uint32_t)(d[6] & 0xf0) << 8;
	if (access & IMPOST_X86_AR_G)
		limit = limit << 12 | 0xfff;
	cr_assert_eq(base, segment->base);
	cr_assert_eq(limit, segment->limit);
	cr_assert_eq(access, segment->access);
}

Test(modes, the_gdt_agrees_with_the_registers)
{
	const struct impost_x86_paging paging = paging_of(4);

	for (size_t i = 1; i < MODES; i++) {
		struct impost_x86_sregs s = sregs_dirty();
		const struct impost_x86_segment *all[] = {&s.cs, &s.ds, &s.es, &s.fs,
							  &s.gs, &s.ss, &s.tr};
		struct ram ram = ram_make(MIB);

		cr_assert_eq(impost_x86_write_gdt(ram.memory, modes[i]), 0);
		cr_assert_eq(impost_x86_setup_sregs(&s, modes[i], 0, &paging, 0), 0);
		for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++)
			assert_agrees(&ram, &s, all[k]);
		ram_free(&ram);
	}
}

Test(modes, a_gdt_for_no_mode_or_no_memory_is_refused)
{
	struct ram ram = ram_make(MIB), none = ram_make(0);

	assert_refused(&ram, impost_x86_write_gdt(ram.memory, 0), EINVAL, "mode 0");
	assert_refused(&ram, impost_x86_write_gdt(ram.memory, 4), EINVAL, "mode 4");
	cr_assert_eq(impost_x86_write_gdt(none.memory, IMPOST_X86_MODE_LONG), -EFAULT);
	cr_assert_eq(impost_x86_write_gdt(none.memory, IMPOST_X86_MODE_PROTECTED), -EFAULT);
	cr_assert_eq(impost_x86_write_gdt(none.memory, IMPOST_X86_MODE_REAL), 0);
	ram_free(&ram);
	ram_free(&none);
}

/* --- local APIC --- */

static uint32_t lapic_at(const struct impost_x86_lapic *lapic, uint32_t reg)
{
	uint32_t value;

	memcpy(&value, lapic->regs + reg, sizeof(value));
	return value;
}

Test(modes, lapic_of_another_cpu_is_as_init_leaves_it)
{
	struct impost_x86_lapic lapic, before;

	memset(&lapic, PATTERN, sizeof(lapic));
	before = lapic;
	impost_x86_setup_lapic(&lapic, 1);
	impost_x86_setup_lapic(&lapic, 0);
	cr_assert_eq(lapic_at(&lapic, 0xf0), 0xa5a5a5a5u & ~0x100u); /* software-disabled */
	cr_assert_eq(lapic_at(&lapic, 0x350), 0x10000u); /* masked: SDM vol. 3, 11.4.7.2 */
	cr_assert_eq(lapic_at(&lapic, 0x360), 0x10400u); /* NMI, masked */
	memcpy(lapic.regs + 0xf0, before.regs + 0xf0, 4);
	memcpy(lapic.regs + 0x350, before.regs + 0x350, 4);
	memcpy(lapic.regs + 0x360, before.regs + 0x360, 4);
	cr_assert_arr_eq(&lapic, &before, sizeof(before));
}

/* Logical id: bits 31:16 cluster, bits 15:0 one of 16 (SDM vol. 3, 11.12.10.2). */
Test(modes, x2apic)
{
	static const uint32_t rows[][2] = {{0, 0x1},	     {5, 0x20},
					   {15, 0x8000},     {16, 0x10001},
					   {255, 0xf8000},   {300, 0x121000},
					   {4095, 0xff8000}, {0xfffff, 0xffff8000}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_x86_sregs sregs = sregs_dirty(), want = sregs;
		struct impost_x86_lapic lapic, page;

		memset(&lapic, PATTERN, sizeof(lapic));
		page = lapic;
		impost_x86_setup_x2apic(&sregs, &lapic, rows[i][0]);
		want.apic_base = 0xfee00d00; /* BSP kept, EN, EXTD: SDM vol. 3, 11.12.1 */
		cr_assert_arr_eq(&sregs, &want, sizeof(want));
		memcpy(page.regs + 0x20, &rows[i][0], 4); /* all 32 bits: 11.12.5.1 */
		memcpy(page.regs + 0xd0, &rows[i][1], 4);
		cr_assert_arr_eq(&lapic, &page, sizeof(page));
	}
}

/* --- the mock lets each mode in --- */

struct guest {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *cpu;
};

static struct guest guest_make(uint64_t bytes, uint32_t id)
{
	struct impost_vm_config config;
	struct guest g = {0};

	cr_assert_eq(impost_context_open(NULL, NULL, &g.ctx), 0);
	cr_assert_eq(impost_context_set(g.ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	cr_assert_eq(impost_context_set(g.ctx, "backend.mock", "check_entry", "yes"), 0);
	cr_assert_eq(impost_vm_config_init(g.ctx, &config), 0);
	config.backend = "mock";
	config.cpus = 1;
	cr_assert_eq(impost_vm_create(g.ctx, &config, &g.vm), 0, "%s", impost_error(g.ctx));
	cr_assert_eq(impost_x86_add_ram(impost_vm_memory(g.vm), bytes), 0, "%s",
		     impost_error(g.ctx));
	cr_assert_eq(impost_vcpu_create(g.vm, id, &g.cpu), 0, "%s", impost_error(g.ctx));
	return g;
}

static void guest_free(struct guest *g)
{
	cr_assert_eq(impost_vcpu_destroy(g->cpu), 0);
	cr_assert_eq(impost_vm_destroy(g->vm), 0);
	cr_assert_eq(impost_context_close(g->ctx), 0);
}

/* Everything that the mode takes, on a vCPU that has just been made. */
static void enter(struct guest *g, uint32_t mode, const struct impost_x86_paging *paging)
{
	struct impost_memory *memory = impost_vm_memory(g->vm);
	struct impost_x86_runstate runs = {sizeof(runs), IMPOST_X86_RUNNING};
	const struct impost_x86_kernel kernel = {
		.protocol = IMPOST_X86_PROTOCOL_FLAT,
		.mode = mode,
		.entry = mode == IMPOST_X86_MODE_REAL ? 0x10000 : 0x100000,
	};
	struct impost_x86_regs regs;
	uint64_t cr3 = 0;
	struct impost_x86_layout layout;
	struct impost_x86_sregs sregs;

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_write_gdt(memory, mode), 0);
	if (paging)
		cr_assert_eq(impost_x86_write_page_tables(memory, &layout, paging, &cr3), 0, "%s",
			     impost_error(g->ctx));
	cr_assert_eq(impost_vcpu_get_sregs(g->cpu, &sregs), 0);
	cr_assert_eq(impost_x86_setup_sregs(&sregs, mode, kernel.entry, paging, cr3), 0);
	cr_assert_eq(impost_vcpu_set_sregs(g->cpu, &sregs), 0, "%s", impost_error(g->ctx));
	impost_x86_setup_regs(&regs, &kernel, 0);
	cr_assert_eq(impost_vcpu_set_regs(g->cpu, &regs), 0, "%s", impost_error(g->ctx));
	cr_assert_eq(impost_vcpu_set(g->cpu, IMPOST_SECTION_RUNSTATE, &runs, sizeof(runs)), 0);
}

/* The guest is let in if the first step of its script, HLT, is played. */
static void assert_lets_in(struct guest *g, uint32_t id)
{
	const struct impost_mock_step step = {
		.op = IMPOST_MOCK_EXIT, .size = sizeof(step), .exit = {.kind = IMPOST_EXIT_HLT}};
	const struct impost_mock_control *control;
	const void *table;
	struct impost_exit x;
	void *handle;
	char text[512];

	cr_assert_eq(impost_vm_extension(g->vm, IMPOST_MOCK_CONTROL, &table, &handle), 0);
	control = table;
	cr_assert_eq(control->append(handle, id, &step, 1), 0, "%s", impost_error(g->ctx));
	cr_assert_eq(impost_vcpu_run(g->cpu, &x), 0, "%s", impost_error(g->ctx));
	impost_exit_format(&x, text, sizeof(text));
	cr_assert_eq(x.kind, (uint32_t)IMPOST_EXIT_HLT, "%s", text);
}

Test(modes, the_mock_lets_real_and_protected_mode_in)
{
	for (size_t i = 0; i < 2; i++) {
		struct guest g = guest_make(16 * MIB, 0);

		enter(&g, modes[i], NULL);
		assert_lets_in(&g, 0);
		guest_free(&g);
	}
}

/* The mock's own walker agrees: page sizes, levels, small guests and large ones. */
Test(modes, the_mock_lets_long_mode_in_and_finds_all_ram, .timeout = 60)
{
	for (uint64_t bytes = 16 * MIB; bytes <= 1024 * GIB; bytes *= 4) {
		for (uint32_t i = 0; i < 4; i++) {
			const uint64_t sizes[] = {2 * MIB, GIB};
			struct guest g = guest_make(bytes, 0);
			struct impost_x86_paging paging = {.size = sizeof(paging)};
			uint64_t gpa = 0;

			cr_assert_eq(
				impost_x86_paging_for(impost_vm_memory(g.vm), NULL, 0, &paging), 0);
			paging.page_bytes = sizes[i & 1];
			paging.levels = 4 + i / 2;
			enter(&g, IMPOST_X86_MODE_LONG, &paging);
			assert_lets_in(&g, 0);
			for (uint64_t at = 1; at < paging.end; at = at * 3 + 0x1235) {
				cr_assert_eq(impost_vcpu_translate(g.cpu, at, &gpa), 0, "%s",
					     impost_error(g.ctx));
				cr_assert_eq(gpa, at);
			}
			cr_assert_eq(impost_vcpu_translate(g.cpu, paging.end - 1, &gpa), 0);
			/* The last page is whole. */
			paging.end += paging.page_bytes - 1;
			paging.end -= paging.end % paging.page_bytes;
			cr_assert_neq(impost_vcpu_translate(g.cpu, paging.end, &gpa), 0);
			guest_free(&g);
		}
	}
}

/* In x2APIC mode, with what the LAPIC section of such a CPU holds. */
Test(modes, the_mock_lets_a_cpu_with_id_300_in_only_in_x2apic_mode)
{
	struct guest g = guest_make(16 * MIB, 300);
	struct impost_x86_lapic lapic;
	struct impost_x86_sregs sregs;
	struct impost_exit x;
	uint32_t bytes;

	enter(&g, IMPOST_X86_MODE_PROTECTED, NULL);
	cr_assert_eq(impost_vcpu_run(g.cpu, &x), 0);
	cr_assert_eq(x.kind, (uint32_t)IMPOST_EXIT_FAIL_ENTRY);
	cr_assert(strstr(x.u.failure.text, "x2APIC"), "%s", x.u.failure.text);
	cr_assert_eq(impost_vcpu_get_sregs(g.cpu, &sregs), 0);
	cr_assert_eq(impost_vcpu_get(g.cpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &bytes),
		     0);
	impost_x86_setup_lapic(&lapic, 0);
	impost_x86_setup_x2apic(&sregs, &lapic, 300);
	cr_assert_eq(impost_vcpu_set_sregs(g.cpu, &sregs), 0, "%s", impost_error(g.ctx));
	cr_assert_eq(impost_vcpu_set(g.cpu, IMPOST_SECTION_LAPIC, &lapic, bytes), 0, "%s",
		     impost_error(g.ctx));
	assert_lets_in(&g, 300);
	guest_free(&g);
}
