/* SPDX-License-Identifier: Apache-2.0 */
/* Judges a guest's state by the rules of rules.def and segment_rules.def. */
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* --- words of the rules --- */

/* With PAE paging, and only if the section has them: a present entry has no reserved bits. */
static bool pdpte_ok(const struct mock_guest *g, uint64_t pdpte)
{
	const struct impost_x86_sregs *s = g->sregs;

	if (!(s->flags & IMPOST_X86_SREGS_PDPTRS_VALID) || !(s->cr0 & CR0_PG) ||
	    !(s->cr4 & CR4_PAE) || (s->efer & EFER_LMA) || !(pdpte & 1))
		return true;
	return !(pdpte & (UINT64_C(0x1e6) | g->phys));
}

static bool exception_there(const struct impost_x86_events *e)
{
	return e->exception.injected || e->exception.pending;
}

/* #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP (SDM vol. 3, table 6-1). */
static bool pushes_error(unsigned vector)
{
	return vector < 32 && (UINT32_C(0x00227d00) >> vector & 1);
}

static unsigned injected(const struct impost_x86_events *e)
{
	return (e->exception.injected ? 1u : 0) + (e->interrupt.injected ? 1u : 0) +
	       (e->nmi.injected ? 1u : 0);
}

static bool hard_interrupt(const struct impost_x86_events *e)
{
	return e->interrupt.injected && !e->interrupt.soft;
}

/* Eight bytes of the XSAVE area. */
static uint64_t word(const struct mock_guest *g, unsigned offset)
{
	uint64_t value;

	memcpy(&value, g->area + offset, sizeof(value));
	return value;
}

/* --- rules of single registers --- */

struct rule {
	unsigned set;
	bool (*ok)(const struct mock_guest *g);
	uint64_t (*value)(const struct mock_guest *g);
	const char *name, *text, *section;
};

/* clang-format off */
#define WORDS \
	const struct impost_x86_regs *r = g->regs; \
	const struct impost_x86_sregs *s = g->sregs; \
	const struct impost_x86_debugregs *d = g->debugregs; \
	const struct impost_x86_events *e = g->events; \
	const struct impost_x86_xsave *x = g->xsave; \
	(void)r, (void)s, (void)d, (void)e, (void)x

#define RULE(set, id, name, shown, condition, text, section) \
	static bool ok_##id(const struct mock_guest *g) { WORDS; return condition; } \
	static uint64_t value_##id(const struct mock_guest *g) { WORDS; return shown; }
#include "rules.def"

static const struct rule rules[] = {
#define RULE(set, id, name, shown, condition, text, section) \
	{RULES_##set, ok_##id, value_##id, name, text, section},
#include "rules.def"
};

/* --- rules of segments --- */

enum { CS = 1, DS = 2, ES = 4, FS = 8, GS = 16, SS = 32, TR = 64, LDTR = 128, V86 = 256 };
#define DATA (DS | ES | FS | GS)
#define SIX  (CS | SS | DATA)
#define ALL  (SIX | TR | LDTR)

struct segment_rule {
	unsigned registers;
	bool (*ok)(const struct mock_guest *g, const struct impost_x86_segment *t);
	uint64_t (*value)(const struct impost_x86_segment *t);
	const char *field, *text;
};

#define TYPE   IMPOST_X86_AR_TYPE(ar)
#define DPL(t) IMPOST_X86_AR_DPL((t)->access)
#define LMA    (s->efer & EFER_LMA)
#define LDB    (IMPOST_X86_AR_L | IMPOST_X86_AR_DB)

#define SEGMENT_RULE(registers, id, field, shown, condition, text) \
	static bool ok_##id(const struct mock_guest *g, const struct impost_x86_segment *t) \
	{ \
		const struct impost_x86_sregs *s = g->sregs; \
		const uint32_t ar = t->access; \
		const bool usable = !(ar & IMPOST_X86_AR_UNUSABLE); \
		(void)s, (void)ar, (void)usable; \
		return condition; \
	} \
	static uint64_t value_##id(const struct impost_x86_segment *t) \
	{ const uint32_t ar = t->access; (void)ar; return shown; }
#include "segment_rules.def"

static const struct segment_rule segment_rules[] = {
#define SEGMENT_RULE(registers, id, field, shown, condition, text) \
	{registers, ok_##id, value_##id, field, text},
#include "segment_rules.def"
};

#define SEGMENT(NAME, member) {NAME, #NAME, offsetof(struct impost_x86_sregs, member)}
static const struct {
	unsigned bit;
	const char *name;
	size_t offset;
} segments[] = {
	SEGMENT(CS, cs), SEGMENT(DS, ds), SEGMENT(ES, es), SEGMENT(FS, fs),
	SEGMENT(GS, gs), SEGMENT(SS, ss), SEGMENT(TR, tr), SEGMENT(LDTR, ldtr),
};
/* clang-format on */

#define NRULES		(sizeof(rules) / sizeof(rules[0]))
#define NSEGMENT_RULES	(sizeof(segment_rules) / sizeof(segment_rules[0]))
#define NSEGMENTS	(sizeof(segments) / sizeof(segments[0]))
#define SEGMENT_SECTION "SDM vol. 3, 27.3.1.2"

static bool segment_obeys(const struct mock_guest *g, size_t n, char *text, size_t size)
{
	const void *at = (const char *)g->sregs + segments[n].offset;
	const struct impost_x86_segment *t = at;
	bool v86 = g->v86 && (segments[n].bit & SIX);
	size_t i;

	for (i = 0; i < NSEGMENT_RULES; i++) {
		const struct segment_rule *rule = &segment_rules[i];

		if (!(rule->registers & segments[n].bit) || !(rule->registers & V86) == v86 ||
		    rule->ok(g, t))
			continue;
		snprintf(text, size, "%s.%s = %#llx: %s (%s)", segments[n].name, rule->field,
			 (unsigned long long)rule->value(t), rule->text, SEGMENT_SECTION);
		return false;
	}
	return true;
}

bool mock_rules_obeyed(const struct mock_guest *g, unsigned sets, char *text, size_t size)
{
	size_t i;

	for (i = 0; i < NRULES; i++) {
		const struct rule *rule = &rules[i];

		if (!(rule->set & sets) || rule->ok(g))
			continue;
		snprintf(text, size, "%s = %#llx: %s (%s)", rule->name,
			 (unsigned long long)rule->value(g), rule->text, rule->section);
		return false;
	}
	for (i = 0; (sets & RULES_SEGMENTS) && i < NSEGMENTS; i++)
		if (!segment_obeys(g, i, text, size))
			return false;
	return true;
}

bool mock_rules_v86(const struct impost_x86_sregs *s)
{
	size_t i;

	for (i = 0; i < NSEGMENTS; i++) {
		const void *at = (const char *)s + segments[i].offset;
		const struct impost_x86_segment *t = at;

		if ((segments[i].bit & SIX) && t->access != 0xf3)
			return false;
	}
	return true;
}
