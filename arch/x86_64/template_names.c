/* SPDX-License-Identifier: Apache-2.0 */
/* Names and values in a CPU template: from text to bits of a register, and back. */
#include "template.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini_reader.h>

static const char *const register_names[] = {"eax", "ebx", "ecx", "edx"};

static const struct impost_x86_cpuid_field *field_at(const struct template_register *r,
						     uint32_t bit)
{
	return impost_x86_cpuid_field_at(r->leaf, r->subleaf, r->reg, bit);
}

/* --- what bits are --- */

/*
 * Bits of feature MSRs that have no row in the table of fields. The VMX controls have the bits that
 * must be 1 in their low half and those that may be 1 in the high one (SDM vol. 3, A.3 to A.5); the
 * fixed bits of CR0 and CR4 are told in the same way by two MSRs (A.7, A.8).
 */
static const struct {
	uint32_t first, last; /* indices */
	uint64_t inverted, value;
} msr_bits[] = {
	{IMPOST_X86_MSR_IA32_PLATFORM_ID, IMPOST_X86_MSR_IA32_PLATFORM_ID, 0, UINT64_MAX},
	{IMPOST_X86_MSR_IA32_BIOS_SIGN_ID, IMPOST_X86_MSR_IA32_BIOS_SIGN_ID, 0, UINT64_MAX},
	{IMPOST_X86_MSR_IA32_VMX_BASIC, IMPOST_X86_MSR_IA32_VMX_BASIC, UINT64_C(1) << 48, 0},
	{IMPOST_X86_MSR_IA32_VMX_PINBASED_CTLS, IMPOST_X86_MSR_IA32_VMX_ENTRY_CTLS, UINT32_MAX, 0},
	{IMPOST_X86_MSR_IA32_VMX_MISC, IMPOST_X86_MSR_IA32_VMX_MISC, 0,
	 UINT64_C(0xffffffff0fff001f)}, /* A.6: rates, counts and the MSEG identifier */
	{IMPOST_X86_MSR_IA32_VMX_CR0_FIXED0, IMPOST_X86_MSR_IA32_VMX_CR0_FIXED0, UINT64_MAX, 0},
	{IMPOST_X86_MSR_IA32_VMX_CR4_FIXED0, IMPOST_X86_MSR_IA32_VMX_CR4_FIXED0, UINT64_MAX, 0},
	{IMPOST_X86_MSR_IA32_VMX_VMCS_ENUM, IMPOST_X86_MSR_IA32_VMX_VMCS_ENUM, 0, UINT64_MAX},
	{IMPOST_X86_MSR_IA32_VMX_PROCBASED_CTLS2, IMPOST_X86_MSR_IA32_VMX_PROCBASED_CTLS2,
	 UINT32_MAX, 0},
	{IMPOST_X86_MSR_IA32_VMX_TRUE_PINBASED_CTLS, IMPOST_X86_MSR_IA32_VMX_TRUE_ENTRY_CTLS,
	 UINT32_MAX, 0},
	{IMPOST_X86_MSR_HV_TSC_FREQUENCY, IMPOST_X86_MSR_HV_APIC_FREQUENCY, 0, UINT64_MAX},
};

static uint32_t msr_bit_kind(uint32_t index, uint32_t bit)
{
	const struct impost_x86_msr_info *info = impost_x86_msr_info_at(index);

	if (!info || info->kind != IMPOST_X86_MSR_FEATURE)
		return IMPOST_X86_FIELD_VALUE;
	for (size_t i = 0; i < sizeof(msr_bits) / sizeof(msr_bits[0]); i++) {
		if (index < msr_bits[i].first || index > msr_bits[i].last)
			continue;
		if (msr_bits[i].inverted >> bit & 1)
			return IMPOST_X86_FIELD_INVERTED;
		if (msr_bits[i].value >> bit & 1)
			return IMPOST_X86_FIELD_VALUE;
	}
	return IMPOST_X86_FIELD_FEATURE;
}

/*
 * MSRs that the set-up gives each vCPU as the kernel's entry needs them (registers.h): what a
 * template said of them would contradict it, or be lost. IA32_MISC_ENABLE is not among them: it is
 * a template's, where that names it.
 */
static const struct {
	uint32_t first, last; /* indices */
} managed_msrs[] = {
	{IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER, IMPOST_X86_MSR_IA32_TIME_STAMP_COUNTER},
	{IMPOST_X86_MSR_IA32_APIC_BASE, IMPOST_X86_MSR_IA32_APIC_BASE},
	{IMPOST_X86_MSR_IA32_SYSENTER_CS, IMPOST_X86_MSR_IA32_SYSENTER_EIP},
	{IMPOST_X86_MSR_IA32_MTRR_PHYSBASE0, IMPOST_X86_MSR_IA32_MTRR_FIX4K_F8000},
	{IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE, IMPOST_X86_MSR_IA32_MTRR_DEF_TYPE},
	{0x800, 0x8ff}, /* the local APIC in x2APIC mode (SDM vol. 3, 11.12.1.2) */
	{IMPOST_X86_MSR_IA32_EFER, IMPOST_X86_MSR_IA32_FMASK},
	{IMPOST_X86_MSR_IA32_FS_BASE, IMPOST_X86_MSR_IA32_KERNEL_GS_BASE},
};

static bool is_managed_msr(uint32_t index)
{
	for (size_t i = 0; i < sizeof(managed_msrs) / sizeof(managed_msrs[0]); i++)
		if (index >= managed_msrs[i].first && index <= managed_msrs[i].last)
			return true;
	return false;
}

struct template_span template_span_at(const struct template_register *r, uint32_t bit)
{
	if (r->msr && is_managed_msr(r->leaf))
		return (struct template_span){63, 0, IMPOST_X86_FIELD_MANAGED, NULL};
	if (r->msr) {
		const struct impost_x86_msr_field *field = impost_x86_msr_field_at(r->leaf, bit);

		if (field)
			return (struct template_span){field->high, field->low, field->kind,
						      field->name};
		return (struct template_span){bit, bit, msr_bit_kind(r->leaf, bit), NULL};
	} else {
		const struct impost_x86_cpuid_field *field = field_at(r, bit);

		if (field)
			return (struct template_span){field->high, field->low, field->kind,
						      field->name};
		return (struct template_span){bit, bit, IMPOST_X86_FIELD_FEATURE, NULL};
	}
}

void template_register_name(const struct template_register *r, char name[TEMPLATE_NAME_MAX])
{
	const struct impost_x86_msr_info *info = r->msr ? impost_x86_msr_info_at(r->leaf) : NULL;

	if (info)
		snprintf(name, TEMPLATE_NAME_MAX, "%s", info->name);
	else if (r->msr)
		snprintf(name, TEMPLATE_NAME_MAX, "0x%" PRIx32, r->leaf);
	else if (r->has_subleaf)
		snprintf(name, TEMPLATE_NAME_MAX, "0x%" PRIx32 ".%" PRIu32 ".%s", r->leaf,
			 r->subleaf, register_names[r->reg]);
	else
		snprintf(name, TEMPLATE_NAME_MAX, "0x%" PRIx32 ".%s", r->leaf,
			 register_names[r->reg]);
}

void template_span_name(const struct template_register *r, const struct template_span *span,
			char name[TEMPLATE_NAME_MAX])
{
	size_t len;

	if (span->name && !r->msr && field_at(r, span->low)->subleaf == IMPOST_X86_CPUID_EACH)
		snprintf(name, TEMPLATE_NAME_MAX, "%s.%" PRIu32, span->name, r->subleaf);
	else if (span->name)
		snprintf(name, TEMPLATE_NAME_MAX, "%s", span->name);
	if (span->name)
		return;
	template_register_name(r, name);
	len = strlen(name);
	if (span->high == span->low)
		snprintf(name + len, TEMPLATE_NAME_MAX - len, ".%" PRIu32, span->low);
	else if (span->high - span->low + 1 < register_bits(r))
		snprintf(name + len, TEMPLATE_NAME_MAX - len, ".%" PRIu32 "-%" PRIu32, span->high,
			 span->low);
}

static bool is_feature(uint32_t kind)
{
	return kind == IMPOST_X86_FIELD_FEATURE || kind == IMPOST_X86_FIELD_INVERTED;
}

/* How many fields REG has, and whether one is a feature; all of them count if REG is NULL. */
static void count_fields(uint32_t leaf, uint32_t subleaf, uint32_t reg, uint32_t *fields,
			 uint32_t *features, uint32_t *others)
{
	for (uint32_t bit = 0; bit < 32; bit++) {
		const struct impost_x86_cpuid_field *field =
			impost_x86_cpuid_field_at(leaf, subleaf, reg, bit);

		if (!field)
			continue;
		++*fields;
		if (field->kind == IMPOST_X86_FIELD_FEATURE)
			++*features;
		if (!is_feature(field->kind))
			++*others;
	}
}

bool template_is_feature_register(uint32_t leaf, uint32_t subleaf, uint32_t reg)
{
	uint32_t fields = 0, features = 0, others = 0;

	if (leaf >> 28 == 4) /* the hypervisor's own (SDM vol. 2, CPUID: no CPU has such leaves) */
		return false;
	count_fields(leaf, subleaf, reg, &fields, &features, &others);
	if (fields)
		return features > 0;
	for (uint32_t other = IMPOST_X86_EAX; other <= IMPOST_X86_EDX; other++)
		count_fields(leaf, subleaf, other, &fields, &features, &others);
	return features > 0 && others == 0;
}

bool template_is_component_mask(uint32_t leaf, uint32_t subleaf, uint32_t reg)
{
	if (leaf != 0xd)
		return false;
	return (subleaf == 0 && (reg == IMPOST_X86_EAX || reg == IMPOST_X86_EDX)) ||
	       (subleaf == 1 && (reg == IMPOST_X86_ECX || reg == IMPOST_X86_EDX));
}

/* --- keys --- */

static int wrong(char *reason, size_t size, const char *fmt, ...) IMPOST_PRINTF(3, 4);
static int wrong(char *reason, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Decimal, or 0x and hexadecimal, at *AT, which is moved behind it. False: none, or above MOST. */
static bool parse_number(const char **at, uint64_t most, uint64_t *ret_number)
{
	const char *digits = *at;
	int radix = 10;
	char *end;

	if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X')) {
		radix = 16;
		digits += 2;
	}
	if (radix == 16 ? !isxdigit((unsigned char)digits[0]) : !isdigit((unsigned char)digits[0]))
		return false;
	errno = 0;
	*ret_number = strtoull(digits, &end, radix);
	*at = end;
	return errno == 0 && *ret_number <= most;
}

/* ".BIT" or ".HIGH-LOW" at AT, or nothing: all of R's bits. */
static int parse_bits(const char *at, struct template_register *r, char *reason, size_t size)
{
	const uint32_t most = register_bits(r) - 1;
	uint64_t high = most, low = 0;

	if (*at == '.') {
		at++;
		if (!parse_number(&at, most, &high))
			goto malformed;
		low = high;
		if (*at == '-') {
			at++;
			if (!parse_number(&at, high, &low))
				goto malformed;
		}
	}
	if (*at)
		goto malformed;
	r->named = span_bits(&(struct template_span){.high = (uint32_t)high, .low = (uint32_t)low});
	return 0;
malformed:
	return wrong(reason, size, "bits are .BIT or .HIGH-LOW, %u at the most", most);
}

/* LEAF[.SUBLEAF].REGISTER[.BITS] */
static int parse_cpuid_number(const char *key, struct template_register *r, char *reason,
			      size_t size)
{
	uint64_t number;
	const char *at = key;

	if (!parse_number(&at, UINT32_MAX, &number) || *at++ != '.')
		goto malformed;
	r->leaf = (uint32_t)number;
	if (isdigit((unsigned char)*at)) {
		/* All ones stand for every sub-leaf in the table of fields. */
		if (!parse_number(&at, IMPOST_X86_CPUID_EACH - 1, &number) || *at++ != '.')
			goto malformed;
		r->has_subleaf = true;
		r->subleaf = (uint32_t)number;
	}
	for (uint32_t reg = IMPOST_X86_EAX; reg <= IMPOST_X86_EDX; reg++) {
		if (strncasecmp(at, register_names[reg], 3) != 0)
			continue;
		r->reg = reg;
		return parse_bits(at + 3, r, reason, size);
	}
malformed:
	return wrong(reason, size,
		     "not LEAF.REGISTER or LEAF.SUBLEAF.REGISTER, and behind it .BIT or "
		     ".HIGH-LOW: 0x7.0.ebx.16");
}

/* The nearest of names to KEY so far, whatever the case. */
struct nearest {
	char key[32];
	const char *name;
	size_t edits;
};

static void upper(char *to, size_t size, const char *from)
{
	size_t i;

	for (i = 0; from[i] && i + 1 < size; i++)
		to[i] = (char)toupper((unsigned char)from[i]);
	to[i] = '\0';
}

static void consider(struct nearest *nearest, const char *name)
{
	char text[64];
	size_t edits;

	upper(text, sizeof(text), name);
	edits = ini_distance(text, nearest->key);
	if (!nearest->name || edits < nearest->edits) {
		nearest->name = name;
		nearest->edits = edits;
	}
}

static int unknown(const struct nearest *nearest, const char *what, char *reason, size_t size)
{
	if (nearest->name && nearest->edits <= 2)
		return wrong(reason, size, "no %s has this name: did you mean %s?", what,
			     nearest->name);
	return wrong(reason, size, "no %s has this name: `impost cpu fields` lists them", what);
}

static int unknown_field(const char *key, char *reason, size_t size)
{
	const struct impost_x86_cpuid_field *field;
	struct nearest nearest = {.name = NULL};

	upper(nearest.key, sizeof(nearest.key), key);
	for (uint32_t i = 0; (field = impost_x86_cpuid_field(i)) != NULL; i++) {
		consider(&nearest, field->name);
		if (field->linux_flag && strcasecmp(field->linux_flag, key) == 0) {
			nearest.name = field->name;
			nearest.edits = 0;
			break;
		}
	}
	return unknown(&nearest, "CPUID field", reason, size);
}

/* NAME, or NAME.SUBLEAF of a field that every sub-leaf has. */
static int parse_cpuid_name(const char *key, struct template_register *r, char *reason, size_t size)
{
	const struct impost_x86_cpuid_field *field;
	const char *dot = strchr(key, '.');
	uint64_t subleaf;
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(key, "."), key);
	field = impost_x86_cpuid_field_find(name);
	if (!field)
		return unknown_field(name, reason, size);
	if (field->subleaf != IMPOST_X86_CPUID_EACH) {
		if (dot)
			return wrong(reason, size, "this field is in one place only: write %s",
				     field->name);
		subleaf = field->subleaf;
	} else if (!dot || (dot++, !parse_number(&dot, IMPOST_X86_CPUID_EACH - 1, &subleaf)) ||
		   *dot) {
		return wrong(reason, size,
			     "every sub-leaf has this field: say which by number: %s.0",
			     field->name);
	}
	r->leaf = field->leaf;
	r->subleaf = (uint32_t)subleaf;
	r->has_subleaf = field->flags & IMPOST_X86_CPUID_SUBLEAF;
	r->reg = field->reg;
	r->named = span_bits(&(struct template_span){.high = field->high, .low = field->low});
	return 0;
}

static int parse_cpuid_key(const char *key, struct template_register *r, char *reason, size_t size)
{
	return isdigit((unsigned char)key[0]) ? parse_cpuid_number(key, r, reason, size)
					      : parse_cpuid_name(key, r, reason, size);
}

static int unknown_msr(const char *key, bool field, char *reason, size_t size)
{
	const struct impost_x86_msr_field *f;
	const struct impost_x86_msr_info *info;
	struct nearest nearest = {.name = NULL};

	upper(nearest.key, sizeof(nearest.key), key);
	for (uint32_t i = 0; !field && (info = impost_x86_msr_info(i)) != NULL; i++)
		consider(&nearest, info->name);
	for (uint32_t i = 0; field && (f = impost_x86_msr_field(i)) != NULL; i++)
		consider(&nearest, f->name);
	return unknown(&nearest, field ? "field of an MSR" : "MSR", reason, size);
}

/* INDEX or NAME, and behind it nothing, .BITS, or, behind a name, .FIELD */
static int parse_msr_key(const char *key, struct template_register *r, char *reason, size_t size)
{
	const struct impost_x86_msr_field *field = impost_x86_msr_field_find(key);
	const struct impost_x86_msr_info *info;
	const char *at = key;
	char name[64];
	uint64_t number;

	r->msr = true;
	if (field) {
		r->leaf = field->index;
		r->named =
			span_bits(&(struct template_span){.high = field->high, .low = field->low});
		return 0;
	}
	if (isdigit((unsigned char)key[0])) {
		if (!parse_number(&at, UINT32_MAX, &number))
			return wrong(reason, size, "not the index of an MSR, nor .BIT behind it");
		r->leaf = (uint32_t)number;
		return parse_bits(at, r, reason, size);
	}
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(key, "."), key);
	info = impost_x86_msr_info_find(name);
	if (!info)
		return unknown_msr(name, false, reason, size);
	at += strlen(name);
	if (*at == '.' && !isdigit((unsigned char)at[1]))
		return unknown_msr(key, true, reason, size);
	r->leaf = info->index;
	return parse_bits(at, r, reason, size);
}

int template_parse_key(const char *key, bool msr, struct template_register *ret_register,
		       char *reason, size_t size)
{
	struct template_register r = {.msr = msr};
	int err = msr ? parse_msr_key(key, &r, reason, size)
		      : parse_cpuid_key(key, &r, reason, size);

	if (!err)
		*ret_register = r;
	return err;
}

/* --- values --- */

/* The span that R names. */
static struct template_span named_span(const struct template_register *r)
{
	return (struct template_span){
		.high = 63 - (uint32_t)__builtin_clzll(r->named),
		.low = (uint32_t)__builtin_ctzll(r->named),
	};
}

/* 0b and a digit for each of WIDTH bits, from the highest: 0, 1, or x to pass. */
static int parse_binary(const char *text, uint32_t width, uint64_t *mask, uint64_t *value,
			char *reason, size_t size)
{
	uint32_t digits = 0;

	for (text += 2; *text; text++) {
		if (*text == '_')
			continue;
		if (!strchr("01xX", *text))
			return wrong(reason, size, "behind 0b come 0, 1, x and _ only");
		if (digits++ == width)
			break;
		*mask = *mask << 1 | (*text == '0' || *text == '1');
		*value = *value << 1 | (*text == '1');
	}
	if (digits != width)
		return wrong(reason, size, "behind 0b must come %u digits, one for each bit",
			     width);
	return 0;
}

static int parse_fixed(const char *text, uint32_t width, uint64_t *mask, uint64_t *value,
		       char *reason, size_t size)
{
	const uint64_t most = UINT64_MAX >> (64 - width);
	const char *at = text;

	if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B'))
		return parse_binary(text, width, mask, value, reason, size);
	*mask = most;
	if (strcmp(text, "set") == 0) {
		if (width > 1)
			return wrong(reason, size,
				     "there are %u bits: give them a number, 0 to 0x%" PRIx64,
				     width, most);
		*value = 1;
		return 0;
	}
	*value = 0;
	if (strcmp(text, "clear") == 0)
		return 0;
	if (!parse_number(&at, UINT64_MAX, value) || *at)
		return wrong(reason, size,
			     "must be set, clear, pass, a number (decimal or 0x), or 0b with 0, 1 "
			     "and x for each bit");
	if (*value > most)
		return wrong(reason, size, "%u bits hold 0x%" PRIx64 " at the most", width, most);
	return 0;
}

int template_parse_value(const char *text, struct template_register *r, char *reason, size_t size)
{
	const struct template_span span = named_span(r);
	uint64_t mask = 0, value = 0;
	int err = 0;

	if (strcmp(text, "pass") != 0)
		err = parse_fixed(text, span.high - span.low + 1, &mask, &value, reason, size);
	if (err)
		return err;
	r->mask = mask << span.low;
	r->value = value << span.low;
	return 0;
}
