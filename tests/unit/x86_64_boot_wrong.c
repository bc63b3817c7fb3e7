/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Good set-ups with one thing broken, by the table in wrong_setups.def: the mock refuses each where
 * hardware would, with the register, the reason and the section of the SDM, and takes what was
 * there before.
 */
#include "boot_machine.h"

#define BIT(n)	 (UINT64_C(1) << (n))
#define CR0_PE	 BIT(0)
#define CR0_NW	 BIT(29)
#define CR0_PG	 BIT(31)
#define CR4_PAE	 BIT(5)
#define CR4_LA57 BIT(12)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

/* How the guest is entered before it is broken. */
enum { LONG, PROTECTED, REAL, LEVELS5, X2APIC };

/* What is refused. */
enum { REGS, SREGS, XSAVE, LAPIC, RUN };

/* The state that is broken. */
struct state {
	struct impost_x86_regs regs;
	struct impost_x86_sregs sregs;
	struct impost_x86_lapic lapic;
	_Alignas(64) uint8_t xsave[IMPOST_X86_XSAVE_MAX];
	uint8_t top_table[4096]; /* what CR3 points to */
};

static void fill(struct machine *m, uint64_t gpa, uint8_t byte)
{
	cr_assert_eq(impost_memory_fill(impost_vm_memory(m->vm), gpa, byte, 4096), 0);
}

/* Sets BITS in the 8 bytes at GPA. */
static void poke(struct machine *m, uint64_t gpa, uint64_t bits)
{
	uint64_t value;

	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), gpa, &value, 8), 0);
	value |= bits;
	cr_assert_eq(impost_memory_write(impost_vm_memory(m->vm), gpa, &value, 8), 0);
}

/* clang-format off */
#define WRONG(entry, id, section, statement, name, reason, rule) \
	static void break_##id(struct machine *m, struct state *state) \
	{ \
		struct impost_x86_sregs *s = &state->sregs; \
		struct impost_x86_regs *r = &state->regs; \
		struct impost_x86_lapic *l = &state->lapic; \
		struct impost_x86_xsave *x = (void *)state->xsave; \
		(void)m, (void)s, (void)r, (void)l, (void)x; \
		statement; \
	}
#include "wrong_setups.def"

static const struct wrong {
	const char *id;
	int entry, section;
	void (*break_it)(struct machine *m, struct state *state);
	const char *words[3];
} wrongs[] = {
#define WRONG(entry, id, section, statement, name, reason, rule) \
	{#id, entry, section, break_##id, {name, reason, rule ")"}},
#include "wrong_setups.def"
};
/* clang-format on */
#define WRONGS (sizeof(wrongs) / sizeof(wrongs[0]))

static struct machine boot_well(int entry)
{
	static const char *const modes[] = {[LONG] = "long",
					    [PROTECTED] = "protected",
					    [REAL] = "real",
					    [LEVELS5] = "long",
					    [X2APIC] = "long"};
	struct impost_context *ctx = context_make("mock");
	struct impost_x86_boot_config config;
	struct machine m;

	set_key(ctx, "boot", "protocol", "flat");
	set_key(ctx, "boot", "mode", modes[entry]);
	m = machine_make(ctx, 16 * MIB, IMPOST_IRQCHIP_DEFAULT, entry == X2APIC ? 256 : 1);
	config = config_make(ctx, flat_file());
	config.paging_levels = entry == LEVELS5 ? 5 : 0;
	boot_it(&m, &config);
	close(config.kernel_fd);
	return m;
}

static void get_state(struct machine *m, struct state *state)
{
	memset(state, 0, sizeof(*state));
	get_section(m->vcpus[0], IMPOST_SECTION_REGS, &state->regs, sizeof(state->regs));
	get_section(m->vcpus[0], IMPOST_SECTION_SREGS, &state->sregs, sizeof(state->sregs));
	get_section(m->vcpus[0], IMPOST_SECTION_LAPIC, &state->lapic, sizeof(state->lapic));
	get_section(m->vcpus[0], IMPOST_SECTION_XSAVE, state->xsave, sizeof(state->xsave));
	cr_assert_eq(impost_memory_read(impost_vm_memory(m->vm), state->sregs.cr3 & ~0xfffull,
					state->top_table, sizeof(state->top_table)),
		     0);
}

/* Sets one section of STATE. */
static int set_section(struct machine *m, int which, const struct state *state)
{
	const struct {
		uint32_t section;
		const void *from;
		uint32_t bytes;
	} sections[] = {
		[REGS] = {IMPOST_SECTION_REGS, &state->regs, sizeof(state->regs)},
		[SREGS] = {IMPOST_SECTION_SREGS, &state->sregs, sizeof(state->sregs)},
		[XSAVE] = {IMPOST_SECTION_XSAVE, state->xsave, sizeof(state->xsave)},
		[LAPIC] = {IMPOST_SECTION_LAPIC, &state->lapic, sizeof(state->lapic)},
	};

	return impost_vcpu_set(m->vcpus[0], sections[which].section, sections[which].from,
			       sections[which].bytes);
}

static void set_state(struct machine *m, const struct state *state)
{
	for (int i = REGS; i < RUN; i++)
		cr_assert_eq(set_section(m, i, state), 0, "%s", impost_error(m->ctx));
}

static void assert_words(const struct wrong *wrong, const char *text)
{
	for (size_t i = 0; i < sizeof(wrong->words) / sizeof(wrong->words[0]); i++)
		cr_expect(strstr(text, wrong->words[i]), "%s: \"%s\" lacks \"%s\"", wrong->id, text,
			  wrong->words[i]);
}

static void assert_refused_entry(struct machine *m, const struct wrong *wrong)
{
	struct impost_exit exit;

	cr_assert_eq(impost_vcpu_run(m->vcpus[0], &exit), 0, "%s", impost_error(m->ctx));
	cr_assert_eq(exit.kind, IMPOST_EXIT_FAIL_ENTRY, "%s: exit %s", wrong->id,
		     impost_exit_name(&exit));
	assert_words(wrong, exit.u.failure.text);
}

/* Breaks M as WRONG says, sees it refused, and mends it. */
static void check_wrong(struct machine *m, const struct wrong *wrong)
{
	static struct state good, bad;

	get_state(m, &good);
	bad = good;
	wrong->break_it(m, &bad);
	if (wrong->section == RUN) {
		set_state(m, &bad);
		assert_refused_entry(m, wrong);
	} else {
		cr_assert_eq(set_section(m, wrong->section, &bad), -IMPOST_ESTATE, "%s", wrong->id);
		assert_words(wrong, impost_error(m->ctx));
	}
	set_state(m, &good);
	if (good.sregs.cr3)
		cr_assert_eq(impost_memory_write(impost_vm_memory(m->vm), good.sregs.cr3,
						 good.top_table, sizeof(good.top_table)),
			     0);
}

static void check_all(int entry)
{
	struct machine m = boot_well(entry);
	size_t checked = 0;

	for (size_t i = 0; i < WRONGS; i++) {
		if (wrongs[i].entry != entry)
			continue;
		check_wrong(&m, &wrongs[i]);
		checked++;
	}
	cr_assert_gt(checked, 0u);
	assert_runs(&m); /* what was mended is as good as before */
	machine_free(&m);
}

Test(wrong, long_mode)
{
	check_all(LONG);
}

Test(wrong, protected_mode)
{
	check_all(PROTECTED);
}

Test(wrong, real_mode)
{
	check_all(REAL);
}

Test(wrong, five_levels)
{
	check_all(LEVELS5);
}

Test(wrong, x2apic_mode)
{
	check_all(X2APIC);
}
