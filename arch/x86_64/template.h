/* SPDX-License-Identifier: Apache-2.0 */
/* CPU templates as the files that read, apply, write and compare them see them. */
#ifndef ARCH_X86_64_TEMPLATE_H
#define ARCH_X86_64_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <impost/x86_64/cpuid.h>
#include <impost/x86_64/template.h>

/* What a template says of one register. */
struct template_register {
	bool msr;
	bool has_subleaf; /* the leaf has sub-leaves, as far as the template knows */
	uint32_t leaf;	  /* or the MSR's index */
	uint32_t subleaf;
	uint32_t reg;	/* IMPOST_X86_EAX to _EDX */
	uint64_t named; /* bits that it says something of */
	uint64_t mask;	/* those of them that it fixes; the others are passed */
	uint64_t value;
};

struct impost_x86_template {
	char *name;
	char *summary; /* NULL: none */
	char vendor[13];
	bool rest_clear;
	uint32_t count;
	struct template_register *registers; /* in order: see template_compare_registers() */
};

#define TEMPLATE_TEXT_MAX 160u /* bytes of a name, a summary, and of what the writer says */

/* Room for a field's name, or a number for it: "0x8000001d.4294967295.ebx.31-22". */
#define TEMPLATE_NAME_MAX 80u

/* A field, or a bit without a name. */
struct template_span {
	uint32_t high, low;
	uint32_t kind;	  /* IMPOST_X86_FIELD_*; FEATURE for a bit of unknown meaning */
	const char *name; /* NULL: none; template_span_name() adds which sub-leaf where it must */
};

/* The bits of SPAN in place. */
static inline uint64_t span_bits(const struct template_span *span)
{
	return UINT64_MAX >> (63 - (span->high - span->low)) << span->low;
}

/* Bits of a register: 32 of CPUID's, 64 of an MSR. */
static inline uint32_t register_bits(const struct template_register *r)
{
	return r->msr ? 64 : 32;
}

/* --- template_names.c --- */

/* The span that has BIT of R. */
struct template_span template_span_at(const struct template_register *r, uint32_t bit);

/* The name of SPAN of R, or where it is. */
void template_span_name(const struct template_register *r, const struct template_span *span,
			char name[TEMPLATE_NAME_MAX]);
void template_register_name(const struct template_register *r, char name[TEMPLATE_NAME_MAX]);

/*
 * Whether `rest` is about register REG of LEAF and SUBLEAF: one in which the table of fields has a
 * feature bit, or has nothing while all that it has in the same sub-leaf are such bits. The
 * hypervisor's own leaves are never meant: what a level of CPUs leaves out is no matter of theirs.
 */
bool template_is_feature_register(uint32_t leaf, uint32_t subleaf, uint32_t reg);

/* Whether REG of LEAF and SUBLEAF is one of the masks of XSAVE's components, which follow the
 * features that use them (SDM vol. 2, CPUID leaf 0DH). */
bool template_is_component_mask(uint32_t leaf, uint32_t subleaf, uint32_t reg);

/* Reads KEY of section [cpuid], or [msr] if MSR: which register, and which of its bits in
 * ret_register->named. -EINVAL: REASON says what is wrong. */
int template_parse_key(const char *key, bool msr, struct template_register *ret_register,
		       char *reason, size_t size);

/* Reads the value TEXT of R's named bits into its mask and value. -EINVAL as above. */
int template_parse_value(const char *text, struct template_register *r, char *reason, size_t size);

/* --- template.c --- */

/* A template with room for ROOM registers; NULL: no memory. */
struct impost_x86_template *template_new(const char *name, uint32_t room);

/* Order of registers: CPUID before MSRs, then leaf, sub-leaf and register, or index. */
int template_compare_registers(const void *a, const void *b);

/* Sorts the registers: to be done before template_find(). */
void template_sort(struct impost_x86_template *tmpl);

/* What TMPL says of the register that KEY names; NULL: nothing. */
const struct template_register *template_find(const struct impost_x86_template *tmpl,
					      const struct template_register *key);

/* Whether TEXT can stand as a value in an INI: printable, short, and not cut as a comment. */
bool template_text_ok(const char *text);

/* What was refused. */
struct template_refusals {
	impost_x86_refused_fn tell; /* may be NULL */
	void *opaque;
	uint32_t count;
	char first[TEMPLATE_NAME_MAX + 200];
	uint32_t named;	  /* of the others, in */
	char others[560]; /* the names, with a blank before each */
};

void template_refuse(struct template_refusals *refusals, const char *name, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);

/* 0, or -ENOTSUP with a text, if something was refused. */
int template_refused(struct impost_context *ctx, const struct impost_x86_template *tmpl,
		     const struct template_refusals *refusals);

/*
 * What register R makes of a backend's value HAVE: *ret_value. What cannot be is refused, and left
 * as it is in HAVE.
 */
void template_judge(const struct template_register *r, uint64_t have, uint64_t *ret_value,
		    struct template_refusals *refusals);

/* --- template_needs.c --- */

/* The entries that a template works on, and whether a field was set before. */
struct template_work {
	struct impost_x86_cpuid *entries;
	uint32_t count;
	bool (*had)(const void *opaque, const struct impost_x86_cpuid_field *field);
	const void *opaque;
};

/* Removes the entries that KEEP refuses. */
void template_keep(struct template_work *work,
		   bool (*keep)(const void *opaque, const struct impost_x86_cpuid *entry),
		   const void *opaque);

/* Clears what needs something that was there before and is not any more, until nothing does; linear
 * addresses become as wide as paging is deep. */
void template_settle(struct template_work *work);

/* Makes leaf 0xD's sizes and sub-leaves follow the components, which BEFORE had more of. */
void template_settle_xsave(struct template_work *work, const struct impost_x86_cpuid *before,
			   uint32_t before_count);

/* Why BIT of R is clear though it was set before template_settle(), in words. */
void template_why_clear(const struct template_work *work, const struct template_register *r,
			uint32_t bit, char *reason, size_t size);

/* --- template_shipped.c, made from templates/ --- */

struct template_file {
	const char *name, *text;
};
extern const struct template_file template_files[]; /* ends with a NULL name */

#endif
