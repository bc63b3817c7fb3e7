/* SPDX-License-Identifier: Apache-2.0 */
/* CPU templates: what the reader takes, and what applying, joining, writing and comparing do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/impost.h>

#define MOST 256u
#define SUB  IMPOST_X86_CPUID_SUBLEAF

static struct impost_context *ctx;

static void begin(void)
{
	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
}

static void end(void)
{
	cr_expect_eq(impost_context_close(ctx), 0);
}

TestSuite(template, .init = begin, .fini = end);

/* --- made-up CPUs --- */

struct cpu {
	uint32_t count;
	struct impost_x86_cpuid entries[MOST];
};

static struct impost_x86_cpuid *entry(struct cpu *cpu, uint32_t leaf, uint32_t subleaf,
				      uint32_t flags)
{
	struct impost_x86_cpuid *e;

	for (uint32_t i = 0; i < cpu->count; i++)
		if (cpu->entries[i].leaf == leaf && cpu->entries[i].subleaf == subleaf)
			return &cpu->entries[i];
	cr_assert_lt(cpu->count, MOST);
	e = &cpu->entries[cpu->count++];
	*e = (struct impost_x86_cpuid){.leaf = leaf, .subleaf = subleaf, .flags = flags};
	return e;
}

static const struct impost_x86_cpuid_field *field(const char *name)
{
	const struct impost_x86_cpuid_field *f = impost_x86_cpuid_field_find(name);

	cr_assert_not_null(f, "there is no field %s", name);
	return f;
}

static void put(struct cpu *cpu, const char *name, uint32_t value)
{
	const struct impost_x86_cpuid_field *f = field(name);
	uint32_t mask = UINT32_MAX >> (31 - (f->high - f->low));
	uint32_t *reg =
		impost_x86_cpuid_register(entry(cpu, f->leaf, f->subleaf, f->flags), f->reg);

	*reg = (*reg & ~(mask << f->low)) | value << f->low;
}

static uint32_t get(const struct cpu *cpu, const char *name)
{
	return impost_x86_cpuid_get_field(cpu->entries, cpu->count, field(name));
}

/* Sets the fields of the list NAMES, separated by blanks. */
static void put_all(struct cpu *cpu, const char *names)
{
	char copy[1024], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", names);
	while ((name = strsep(&rest, " ")) != NULL)
		put(cpu, name, 1);
}

static void component(struct cpu *cpu, uint32_t id, uint32_t bytes, uint32_t offset)
{
	struct impost_x86_cpuid *e = entry(cpu, 0xd, id, SUB);

	e->eax = bytes;
	e->ebx = offset;
	entry(cpu, 0xd, 0, SUB)->eax |= UINT32_C(1) << id;
	if (offset + bytes > entry(cpu, 0xd, 0, SUB)->ecx)
		entry(cpu, 0xd, 0, SUB)->ecx = offset + bytes;
	entry(cpu, 0xd, 0, SUB)->ebx = entry(cpu, 0xd, 0, SUB)->ecx;
}

static void vendor(struct cpu *cpu, const char *name)
{
	struct impost_x86_cpuid *e = entry(cpu, 0, 0, 0);

	memcpy(&e->ebx, name, 4);
	memcpy(&e->edx, name + 4, 4);
	memcpy(&e->ecx, name + 8, 4);
}

/* The features of each level, from the psABI (System V psABI for AMD64, table 3.1). */
static const char *const levels[] = {
	"FPU CX8 CMOV MMX FXSR SSE SSE2 SYSCALL LM",
	"SSE3 SSSE3 CMPXCHG16B SSE4_1 SSE4_2 POPCNT LAHF_LM",
	"AVX AVX2 BMI1 BMI2 F16C FMA LZCNT MOVBE XSAVE",
	"AVX512F AVX512BW AVX512CD AVX512DQ AVX512VL",
};

#define SYSTEM "VME DE PSE TSC MSR PAE MCE APIC SEP MTRR PGE MCA PAT PSE36 CLFSH NX"

/* A CPU of MAKER that has LEVEL and nothing above. */
static struct cpu cpu_of(unsigned level, const char *maker)
{
	struct cpu cpu = {0};

	vendor(&cpu, maker);
	put(&cpu, "MAX_LEAF", level >= 3 ? 0xd : 7);
	put(&cpu, "MAX_EXT_LEAF", 0x80000008);
	put(&cpu, "FAMILY", 6);
	put(&cpu, "MODEL", level);
	put(&cpu, "PHYS_ADDR_BITS", 40 + level);
	put(&cpu, "LINEAR_ADDR_BITS", 48);
	put_all(&cpu, SYSTEM);
	for (unsigned i = 0; i < level; i++)
		put_all(&cpu, levels[i]);
	if (level >= 3) {
		entry(&cpu, 0xd, 0, SUB)->eax = 3;
		component(&cpu, 2, 256, 576);
	}
	if (level >= 4) {
		component(&cpu, 5, 64, 1088);
		component(&cpu, 6, 512, 1152);
		component(&cpu, 7, 1024, 1664);
	}
	return cpu;
}

/* A large one: all that this file is about, and a component, a leaf and bits without names. */
static struct cpu large(void)
{
	struct cpu cpu = cpu_of(4, "GenuineIntel");

	put(&cpu, "MAX_LEAF", 0x1e);
	put(&cpu, "MAX_SUBLEAF_7", 1);
	put_all(&cpu, "AESNI PCLMULQDQ X2APIC RDTSCP SMEP SMAP PKU AMX_TILE AMX_INT8 XSAVEC XSAVES "
		      "CET_SS XSS_CET_U AVX_VNNI INTEL_PT PT_TOPA FDP_EXCPTN_ONLY LA57 VAES "
		      "AVX512_BF16");
	component(&cpu, 9, 8, 2688);
	component(&cpu, 17, 64, 2752);
	component(&cpu, 18, 8192, 2816);
	entry(&cpu, 0xd, 11, SUB)->eax = 16;
	entry(&cpu, 0xd, 11, SUB)->ecx = 1;
	put(&cpu, "XSAVES_BYTES", 10712);
	put(&cpu, "AMX_MAX_PALETTE", 1);
	put(&cpu, "TMUL_MAX_K", 16);
	entry(&cpu, 7, 0, SUB)->edx |= 1u << 7;	 /* no name */
	entry(&cpu, 7, 1, SUB)->ecx |= 1u << 31; /* nor its register */
	entry(&cpu, 0x40000000, 0, 0)->eax = 0x40000001;
	entry(&cpu, 0x40000001, 0, 0)->eax = 0x0100007b;
	return cpu;
}

/* --- templates --- */

static struct impost_x86_template *load(const char *text)
{
	struct impost_x86_template *tmpl = NULL;

	cr_assert_eq(impost_x86_template_load_buffer(ctx, "t.ini", text, strlen(text), &tmpl), 0,
		     "%s: %s", text, impost_error(ctx));
	return tmpl;
}

static struct impost_x86_template *dump(const struct cpu *cpu)
{
	struct impost_x86_template *tmpl = NULL;

	cr_assert_eq(impost_x86_template_from_cpu(ctx, "dump", "a dump", cpu->entries, cpu->count,
						  NULL, 0, &tmpl),
		     0, "%s", impost_error(ctx));
	return tmpl;
}

/* What was refused, as "NAME NAME ". */
static char refused[4096];

static void note(void *opaque, const char *name, const char *reason)
{
	size_t len = strlen(refused);

	(void)opaque;
	cr_expect(*reason);
	snprintf(refused + len, sizeof(refused) - len, "%s ", name);
}

static int apply(const struct impost_x86_template *tmpl, struct cpu *cpu)
{
	refused[0] = '\0';
	return impost_x86_template_apply(ctx, tmpl, cpu->entries, MOST, &cpu->count, note, NULL);
}

static void must_apply(const struct impost_x86_template *tmpl, struct cpu *cpu)
{
	cr_assert_eq(apply(tmpl, cpu), 0, "%s (%s)", impost_error(ctx), refused);
	cr_assert_str_empty(refused);
}

static void apply_text(const char *text, struct cpu *cpu)
{
	struct impost_x86_template *tmpl = load(text);

	must_apply(tmpl, cpu);
	impost_x86_template_free(tmpl);
}

/* TEXT is refused with just the NAMES, and CPU stays as it is. */
static void expect_refused(const char *text, const struct cpu *cpu, const char *names)
{
	struct impost_x86_template *tmpl = load(text);
	struct cpu copy = *cpu;

	cr_expect_eq(apply(tmpl, &copy), -ENOTSUP, "%s", text);
	cr_expect_str_eq(refused, names, "%s: '%s', not '%s'", text, refused, names);
	cr_expect(strncmp(impost_error(ctx), "CPU template t.ini: ", 20) == 0, "%s",
		  impost_error(ctx));
	cr_expect_eq(memcmp(&copy, cpu, sizeof(copy)), 0, "%s changed the entries", text);
	impost_x86_template_free(tmpl);
}

static bool same(const struct cpu *a, const struct cpu *b)
{
	return a->count == b->count &&
	       memcmp(a->entries, b->entries, a->count * sizeof(a->entries[0])) == 0;
}

/* --- reading --- */

static const struct {
	const char *text, *words;
} wrong[] = {
	{"[cpu]\n", "t.ini:1: unknown section [cpu]: sections are [template], [cpuid] and [msr]"},
	{"[template]\nnmae = x\n", "t.ini:2: unknown key 'nmae' in [template]: did you mean name?"},
	{"[template]\nrest = maybe\n", "t.ini:2: rest = maybe: must be pass or clear"},
	{"[template]\nvendor = Intel\n", "t.ini:2: vendor = Intel: must be the 12 characters"},
	{"[template]\nname =\n", "t.ini:2: name must be 1 to 160"},
	{"[cpuid]\nAVX3 = set\n", "t.ini:2: AVX3: no CPUID field has this name: did you mean AVX"},
	{"[cpuid]\npdpe1gb = set\n", "did you mean PAGE1GB?"},
	{"[cpuid]\nnothing_like_it = set\n", "`impost cpu fields` lists them"},
	{"[cpuid]\nAVX = maybe\n", "t.ini:2: AVX = maybe: must be set, clear, pass, a number"},
	{"[cpuid]\nAVX = 2\n", "1 bits hold 0x1 at the most"},
	{"[cpuid]\nAVX = -1\n", "must be set, clear, pass"},
	{"[cpuid]\nAVX =\n", "must be set, clear, pass"},
	{"[cpuid]\nFAMILY = set\n", "there are 4 bits: give them a number, 0 to 0xf"},
	{"[cpuid]\nFAMILY = 16\n", "4 bits hold 0xf at the most"},
	{"[cpuid]\nFAMILY = 0b01\n", "behind 0b must come 4 digits"},
	{"[cpuid]\nFAMILY = 0b01011\n", "behind 0b must come 4 digits"},
	{"[cpuid]\nFAMILY = 0b012x\n", "behind 0b come 0, 1, x and _ only"},
	{"[cpuid]\n0x1.eax = 0x100000000\n", "32 bits hold 0xffffffff at the most"},
	{"[cpuid]\n0x1.eax = 0x10000000000000000\n", "must be set, clear, pass"},
	{"[cpuid]\n0x1 = set\n", "not LEAF.REGISTER or LEAF.SUBLEAF.REGISTER"},
	{"[cpuid]\n0x1.eex = 1\n", "not LEAF.REGISTER"},
	{"[cpuid]\n0x100000000.eax = 1\n", "not LEAF.REGISTER"},
	{"[cpuid]\n0x7.4294967295.eax = 1\n", "not LEAF.REGISTER"},
	{"[cpuid]\n0x1.ecx.32 = set\n", "bits are .BIT or .HIGH-LOW, 31 at the most"},
	{"[cpuid]\n0x1.ecx.3-4 = set\n", "bits are .BIT or .HIGH-LOW"},
	{"[cpuid]\n0x1.ecxx = set\n", "bits are .BIT or .HIGH-LOW"},
	{"[cpuid]\nCACHE_WAYS = 3\n",
	 "every sub-leaf has this field: say which by number: CACHE_WAYS.0"},
	{"[cpuid]\nCACHE_WAYS.x = 3\n", "say which by number: CACHE_WAYS.0"},
	{"[cpuid]\nCACHE_WAYS.1.2 = 3\n", "say which by number: CACHE_WAYS.0"},
	{"[cpuid]\nCACHE_WAYS. = 3\n", "say which by number: CACHE_WAYS.0"},
	{"[cpuid]\nCACHE_WAYS.0xffffffff = 3\n", "say which by number: CACHE_WAYS.0"},
	{"[cpuid]\nCACHE_SHARING.2 = 3\n", "t.ini:2: CACHE_SHARING.2 (bits 25 to 14) is computed"},
	{"[cpuid]\navx.0 = set\n", "t.ini:2: avx.0: this field is in one place only: write AVX"},
	{"[cpuid]\nINITIAL_APIC_ID = 3\n", "t.ini:2: INITIAL_APIC_ID (bits 31 to 24) is computed"},
	{"[cpuid]\n0x1.ebx = 0\n", "LOGICAL_PROCESSORS (bits 23 to 16) is computed"},
	{"[cpuid]\n0xb.0.edx = 1\n", "X2APIC_ID.0 (bits 31 to 0) is computed for each vCPU"},
	{"[cpuid]\nAVX = set\nAVX = set\n", "t.ini:3: key 'AVX' of [cpuid] was given before"},
	{"[cpuid]\nAVX = set\n\navx = set\n", "t.ini:4: avx: line 2 has bit 28 of 0x1.ecx already"},
	{"[cpuid]\nAVX = pass\n0x1.ecx = 0\n", "is computed for each vCPU"},
	{"[cpuid]\nAVX2 = set\n0x7.ebx.7-4 = 0\n",
	 "t.ini:3: 0x7.ebx.7-4: line 2 has bit 5 of 0x7.ebx"},
	{"[cpuid]\nAVX = set\n SSE = set\n", "begin it in the first column"},
	{"[msr]\nIA32_ARCH_CAPABILITIE = 1\n",
	 "no MSR has this name: did you mean IA32_ARCH_CAPABILITIES?"},
	{"[msr]\nIA32_ARCH_CAPABILITIES.RDCL = set\n", "no field of an MSR has this name"},
	{"[msr]\n0x10a.64 = set\n", "63 at the most"},
	{"[msr]\n0x10a = set\n", "there are 64 bits"},
	{"[msr]\n0x10a.0 = set\nIA32_ARCH_CAPABILITIES.RDCL_NO = set\n",
	 "line 2 has bit 0 of IA32_ARCH_CAPABILITIES already"},
	{"[msr]\nIA32_PAT = 0\nIA32_EFER = 0x500\n",
	 "t.ini:3: IA32_EFER is set for each vCPU as the kernel's entry needs it: leave it out"},
	{"[msr]\nIA32_APIC_BASE.11 = clear\n", "t.ini:2: IA32_APIC_BASE is set for each vCPU"},
	{"[msr]\n0x1b.63-12 = 1\n", "t.ini:2: IA32_APIC_BASE is set for each vCPU"},
	{"[msr]\n0x10 = 0\n", "IA32_TIME_STAMP_COUNTER is set for each vCPU"},
	{"[msr]\nIA32_SYSENTER_ESP = 0\n", "IA32_SYSENTER_ESP is set for each vCPU"},
	{"[msr]\nIA32_MTRR_PHYSMASK7 = 0\n", "IA32_MTRR_PHYSMASK7 is set for each vCPU"},
	{"[msr]\nIA32_MTRR_DEF_TYPE = 0\n", "IA32_MTRR_DEF_TYPE is set for each vCPU"},
	{"[msr]\n0x80f = 0x1ff\n", "is set for each vCPU"},
	{"[msr]\nIA32_LSTAR = 0\n", "IA32_LSTAR is set for each vCPU"},
	{"[msr]\nIA32_GS_BASE = 0\n", "IA32_GS_BASE is set for each vCPU"},
	{"AVX = set\n", "t.ini:1: key 'AVX' comes before any [section]"},
};

Test(template, wrong_templates)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct impost_x86_template *tmpl = NULL;
		int err = impost_x86_template_load_buffer(ctx, "t.ini", wrong[i].text,
							  strlen(wrong[i].text), &tmpl);

		cr_expect(err == -IMPOST_ECONFIG && !tmpl, "%s: %d", wrong[i].text, err);
		cr_expect(strstr(impost_error(ctx), wrong[i].words), "%s: '%s' has no '%s'",
			  wrong[i].text, impost_error(ctx), wrong[i].words);
	}
}

Test(template, reading_needs_arguments_and_bounds)
{
	struct impost_x86_template *tmpl = NULL;
	size_t len = ((size_t)1 << 20) + 1;
	char *text = calloc(1, len);

	memset(text, '\n', len);
	cr_expect_eq(impost_x86_template_load_buffer(ctx, "t.ini", text, len, &tmpl), -EFBIG);
	cr_expect_eq(impost_x86_template_load_buffer(ctx, NULL, "", 0, &tmpl), -EINVAL);
	cr_expect_eq(impost_x86_template_load_buffer(ctx, "t.ini", NULL, 1, &tmpl), -EINVAL);
	cr_expect_eq(impost_x86_template_load_file(ctx, "/nonexistent.ini", &tmpl), -ENOENT);
	cr_expect(strstr(impost_error(ctx), "cannot read the CPU template /nonexistent.ini"));
	cr_expect_null(tmpl);
	free(text);
	impost_x86_template_free(NULL);
}

Test(template, too_many_registers)
{
	struct impost_x86_template *tmpl = NULL;
	char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);

	fprintf(file, "[cpuid]\n");
	for (unsigned i = 0; i <= IMPOST_X86_TEMPLATE_MAX; i++)
		fprintf(file, "0x2000%04x.eax = 0\n", i);
	fclose(file);
	cr_expect_eq(impost_x86_template_load_buffer(ctx, "t.ini", text, len, &tmpl),
		     -IMPOST_ECONFIG);
	cr_expect(strstr(impost_error(ctx), "t.ini:2050: more than 2048 registers"), "%s",
		  impost_error(ctx));
	free(text);
}

/* --- applying --- */

Test(template, an_empty_template_changes_nothing)
{
	struct cpu cpu = large(), copy = cpu;

	apply_text("", &copy);
	cr_expect(same(&cpu, &copy));
}

Test(template, features_are_set_where_they_are)
{
	struct cpu cpu = cpu_of(3, "GenuineIntel");

	apply_text("[cpuid]\nAVX2 = set\n0x7.0.ebx.3 = 1\n", &cpu);
	expect_refused("[cpuid]\nAVX2 = set\nAVX512F = set\nRDSEED = 1\n", &cpu, "AVX512F RDSEED ");
	cr_expect(strstr(impost_error(ctx),
			 "AVX512F: the backend does not offer it; and 1 more: RDSEED"));
	expect_refused("[cpuid]\n0x7.0.edx.7 = set\n", &cpu, "0x7.0.edx.7 ");
	expect_refused("[cpuid]\n0x15.eax = 2\n", &cpu, "0x15.eax ");
}

/* All of it, as far as an error has room; how many there are in any case. */
Test(template, what_is_lacking_is_named_in_the_error)
{
	struct cpu cpu = cpu_of(3, "GenuineIntel");
	struct impost_x86_template *tmpl;
	char text[4096] = "[cpuid]\n";
	size_t len = strlen(text);

	expect_refused("[cpuid]\nAVX512F = set\nRDSEED = set\nSHA = set\nADX = set\n", &cpu,
		       "AVX512F RDSEED ADX SHA ");
	cr_expect(strstr(impost_error(ctx), "; and 3 more: RDSEED ADX SHA"), "%s",
		  impost_error(ctx));
	for (int leaf = 0x10; leaf < 0x14; leaf++)
		for (int bit = 0; bit < 32; bit++)
			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"0x100000%x.eax.%d = set\n", leaf, bit);
	tmpl = load(text);
	cr_expect_eq(apply(tmpl, &cpu), -ENOTSUP);
	impost_x86_template_free(tmpl);
	cr_expect(strstr(impost_error(ctx), "; and 127 more: "), "%s", impost_error(ctx));
	cr_expect_str_eq(impost_error(ctx) + strlen(impost_error(ctx)) - 4, " ...");
}

Test(template, inverted_bits_are_cleared_where_they_are_clear)
{
	struct cpu cpu = cpu_of(3, "GenuineIntel");

	apply_text("[cpuid]\nFDP_EXCPTN_ONLY = clear\n", &cpu);
	apply_text("[cpuid]\nFDP_EXCPTN_ONLY = set\n", &cpu);
	cr_expect_eq(get(&cpu, "FDP_EXCPTN_ONLY"), 1);
	expect_refused("[cpuid]\nFDP_EXCPTN_ONLY = clear\n", &cpu, "FDP_EXCPTN_ONLY ");
}

Test(template, limits_become_less_only)
{
	struct cpu cpu = cpu_of(3, "GenuineIntel");

	apply_text("[cpuid]\nPHYS_ADDR_BITS = 40\nLINEAR_ADDR_BITS = 48\n", &cpu);
	cr_expect_eq(get(&cpu, "PHYS_ADDR_BITS"), 40);
	expect_refused("[cpuid]\nPHYS_ADDR_BITS = 0x29\n", &cpu, "PHYS_ADDR_BITS ");
	cr_expect(strstr(impost_error(ctx), "0x29 is asked for, 0x28 is the most"));
}

Test(template, values_are_free)
{
	struct cpu cpu = cpu_of(3, "GenuineIntel");

	apply_text("[cpuid]\nfamily = 15\nMODEL = 0b1x0x\nBRAND_0 = 0x20555043\n", &cpu);
	cr_expect_eq(get(&cpu, "FAMILY"), 15);
	cr_expect_eq(get(&cpu, "MODEL"), 9, "%u", get(&cpu, "MODEL"));
	cr_expect_eq(get(&cpu, "BRAND_0"), 0x20555043); /* a leaf that was not there */
}

Test(template, the_maker_is_checked)
{
	struct cpu cpu = cpu_of(1, "AuthenticAMD");

	apply_text("[template]\nvendor = AuthenticAMD\n", &cpu);
	expect_refused("[template]\nvendor = GenuineIntel\n", &cpu, "vendor ");
	cr_expect(strstr(impost_error(ctx), "for GenuineIntel, and the CPU here is AuthenticAMD"));
}

Test(template, rest_clears_features_with_and_without_a_name)
{
	struct cpu cpu = large();

	apply_text("[template]\nrest = clear\n[cpuid]\nLM = pass\nPAE = pass\nSSE = set\n"
		   "FXSR = set\n",
		   &cpu);
	cr_expect_eq(get(&cpu, "SSE"), 1);
	cr_expect_eq(get(&cpu, "LM"), 1);
	cr_expect_eq(get(&cpu, "SSE2"), 0);
	cr_expect_eq(get(&cpu, "NX"), 0);
	cr_expect_eq(entry(&cpu, 7, 0, SUB)->edx, 0);
	cr_expect_eq(entry(&cpu, 7, 1, SUB)->ecx, 0);
	cr_expect_eq(entry(&cpu, 0x40000001, 0, 0)->eax, 0x0100007b, "the hypervisor's own");
	/* Not features: */
	cr_expect_eq(get(&cpu, "FDP_EXCPTN_ONLY"), 1);
	cr_expect_eq(get(&cpu, "PHYS_ADDR_BITS"), 44);
	cr_expect_eq(get(&cpu, "MODEL"), 4);
	cr_expect_eq(entry(&cpu, 0x40000001, 0, 0)->eax, 0x0100007b);
}

Test(template, highest_leaves_cut_what_is_above)
{
	struct cpu cpu = large();

	apply_text("[cpuid]\nMAX_LEAF = 7\nMAX_SUBLEAF_7 = 0\nMAX_EXT_LEAF = 0x80000001\n", &cpu);
	for (uint32_t i = 0; i < cpu.count; i++)
		cr_expect(cpu.entries[i].leaf <= 7 || cpu.entries[i].leaf >= 0x40000000);
	cr_expect_null(impost_x86_cpuid_find(cpu.entries, cpu.count, 7, 1));
	cr_expect_null(impost_x86_cpuid_find(cpu.entries, cpu.count, 0x80000008, 0));
	cr_expect_eq(get(&cpu, "XSAVE"), 0, "without leaf 0xD there is no XSAVE");
	cr_expect_eq(get(&cpu, "AVX2"), 0);
	cpu = large();
	expect_refused("[cpuid]\nMAX_SUBLEAF_7 = 0\nAVX_VNNI = set\n", &cpu, "AVX_VNNI ");
}

/* --- what depends on what --- */

static const struct {
	const char *off, *also; /* fields that are clear then, and components that are gone */
	const char *stays;
} dependencies[] = {
	{"AVX",
	 "AVX2 FMA F16C VAES AVX512F AVX512BW AVX_VNNI XCR0_AVX XCR0_OPMASK XCR0_ZMM_HI256 "
	 "XCR0_HI16_ZMM",
	 "XSAVE SSE4_2 XCR0_X87 XCR0_SSE XCR0_PKRU XSAVES AMX_TILE"},
	{"XCR0_AVX", "AVX AVX2 XCR0_OPMASK AVX512F", "XSAVE PKU"},
	{"AVX512F", "AVX512VL AVX512CD AVX512_BF16 XCR0_OPMASK XCR0_ZMM_HI256 XCR0_HI16_ZMM",
	 "AVX2 XCR0_AVX"},
	{"XCR0_HI16_ZMM", "AVX512F XCR0_OPMASK AVX512VL", "AVX2"},
	{"PKU", "XCR0_PKRU", "XCR0_AVX AVX512F"},
	{"AMX_TILE", "AMX_INT8 XCR0_XTILECFG XCR0_XTILEDATA AMX_MAX_PALETTE TMUL_MAX_K", "AVX512F"},
	{"XSAVE", "AVX AVX512F AMX_TILE XSAVES XSAVEC XCR0_X87 XCR0_SSE XCR0_PKRU XSS_CET_U",
	 "SSE4_2 AESNI PKU"},
	{"SSE3", "SSSE3 SSE4_1 SSE4_2", "SSE2 AESNI"},
	{"INTEL_PT", "PT_TOPA", "AVX"},
	{"CET_SS", "XSS_CET_U", "XSAVES"},
	{"LM", "PAGE1GB LAHF_LM", "PAE"},
};

static void expect_all(const struct cpu *cpu, const char *off, const char *names, bool set)
{
	char copy[512], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", names);
	while ((name = strsep(&rest, " ")) != NULL)
		cr_expect_eq(get(cpu, name) != 0, set, "%s off: %s is 0x%x", off, name,
			     get(cpu, name));
}

/* Leaf 0xD says of XCR0 and sizes what its sub-leaves say (SDM vol. 1, 13.4.3). */
static void expect_xsave(const struct cpu *cpu, const char *off)
{
	const struct impost_x86_cpuid *user =
		impost_x86_cpuid_find(cpu->entries, cpu->count, 0xd, 0);
	const struct impost_x86_cpuid *more =
		impost_x86_cpuid_find(cpu->entries, cpu->count, 0xd, 1);
	uint32_t bytes = 576, compacted = 576;

	if (!user)
		return;
	for (uint32_t id = 2; id < 32; id++) {
		const struct impost_x86_cpuid *e =
			impost_x86_cpuid_find(cpu->entries, cpu->count, 0xd, id);
		uint32_t in = (user->eax | (more ? more->ecx : 0)) >> id & 1;

		cr_expect_eq(e != NULL, in, "%s off: component %u", off, id);
		if (!e)
			continue;
		if (e->ebx + e->eax > bytes)
			bytes = e->ebx + e->eax;
		compacted += e->eax;
	}
	cr_expect_eq(user->ecx, bytes, "%s off: %u, not %u", off, user->ecx, bytes);
	cr_expect_leq(user->ebx, bytes, "%s off", off);
	cr_expect(!more || more->ebx <= compacted, "%s off: %u > %u", off, more ? more->ebx : 0,
		  compacted);
}

Test(template, dependents_go_with_what_they_need)
{
	for (size_t i = 0; i < sizeof(dependencies) / sizeof(dependencies[0]); i++) {
		const char *off = dependencies[i].off;
		struct cpu cpu = large();
		char text[64];

		put(&cpu, "PAGE1GB", 1);
		expect_all(&cpu, "nothing", dependencies[i].also, true);
		snprintf(text, sizeof(text), "[cpuid]\n%s = clear\n", off);
		apply_text(text, &cpu);
		expect_all(&cpu, off, dependencies[i].also, false);
		expect_all(&cpu, off, dependencies[i].stays, true);
		expect_xsave(&cpu, off);
	}
}

/* Linear addresses have 57 bits with 5-level paging, and 48 without (SDM vol. 3, 4.1.4). */
Test(template, linear_addresses_are_as_wide_as_paging_is_deep)
{
	static const struct {
		const char *text;
		uint32_t bits;
	} rows[] = {
		{"", 57},
		{"[cpuid]\nAVX = clear\n", 57},
		{"[cpuid]\nLA57 = clear\n", 48},
		{"[template]\nrest = clear\n[cpuid]\nLM = pass\n", 48},
		{"[cpuid]\nLA57 = clear\nLINEAR_ADDR_BITS = 40\n", 40},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cpu cpu = large();

		put(&cpu, "LINEAR_ADDR_BITS", 57);
		apply_text(rows[i].text, &cpu);
		cr_expect_eq(get(&cpu, "LINEAR_ADDR_BITS"), rows[i].bits, "%s", rows[i].text);
		cr_expect_eq(get(&cpu, "PHYS_ADDR_BITS"), 44, "%s", rows[i].text);
	}
}

Test(template, a_dependent_that_is_asked_for_is_refused)
{
	struct cpu cpu = large();

	expect_refused("[cpuid]\nAVX = clear\nAVX2 = set\n", &cpu, "AVX2 ");
	cr_expect(strstr(impost_error(ctx), "it needs AVX, which this template does not leave"));
	expect_refused("[cpuid]\nXSAVE = clear\nXCR0_AVX = set\nXSAVEC = set\n", &cpu,
		       "XCR0_AVX XSAVEC ");
	expect_refused("[template]\nrest = clear\n[cpuid]\nSSE4_1 = set\n", &cpu, "SSE4_1 ");
	expect_refused("[cpuid]\nAMX_TILE = clear\nTMUL_INT8 = set\n", &cpu, "TMUL_INT8 ");
	expect_refused("[cpuid]\nINTEL_PT = clear\nPT_TOPA = set\n", &cpu, "PT_TOPA ");
	cr_expect(strstr(impost_error(ctx), "its leaf needs INTEL_PT"));
}

/* What a backend offers without what it needs is left so. */
Test(template, only_what_the_template_clears_takes_others_along)
{
	struct cpu cpu = large(), copy;

	put(&cpu, "AVX", 0);
	copy = cpu;
	apply_text("[cpuid]\nAVX2 = set\nAVX = clear\n", &copy);
	cr_expect(same(&cpu, &copy));
}

Test(template, components_are_where_the_hardware_has_them)
{
	struct cpu cpu = large();

	apply_text("[cpuid]\n0xd.9.ebx = 2688\n", &cpu);
	expect_refused("[cpuid]\n0xd.9.ebx = 832\n", &cpu, "0xd.9.ebx ");
	apply_text("[cpuid]\n0xd.9.ebx = 832\nPKU = clear\n", &cpu);
}

Test(template, room_for_entries)
{
	struct impost_x86_template *tmpl = load("[cpuid]\nBRAND_0 = 1\n");
	struct cpu cpu = cpu_of(1, "GenuineIntel"), copy = cpu;
	uint32_t none;

	cr_expect_eq(impost_x86_template_apply(ctx, tmpl, cpu.entries, cpu.count, &cpu.count, NULL,
					       NULL),
		     -ENOSPC);
	cr_expect(same(&cpu, &copy));
	cr_expect_eq(impost_x86_template_apply(ctx, NULL, cpu.entries, MOST, &cpu.count, NULL,
					       NULL),
		     -EINVAL);
	cr_expect_eq(impost_x86_template_apply(ctx, tmpl, cpu.entries, MOST, NULL, NULL, NULL),
		     -EINVAL);
	none = 0;
	cr_expect_eq(impost_x86_template_apply(ctx, tmpl, NULL, MOST, &none, NULL, NULL), -EINVAL,
		     "room for entries at NULL");
	must_apply(tmpl, &cpu);
	cr_expect_eq(cpu.count, copy.count + 1);
	impost_x86_template_free(tmpl);
}

/* --- MSRs --- */

static const struct impost_x86_msr have[] = {
	{.index = IMPOST_X86_MSR_IA32_ARCH_CAPABILITIES, .value = 0x2b},
	{.index = IMPOST_X86_MSR_IA32_MISC_ENABLE, .value = 1},
	{.index = IMPOST_X86_MSR_IA32_VMX_PINBASED_CTLS, .value = UINT64_C(0x0000007f00000016)},
};

static int msrs(const char *text, struct impost_x86_msr *ret, uint32_t capacity, uint32_t *count)
{
	struct impost_x86_template *tmpl = load(text);
	int err;

	refused[0] = '\0';
	err = impost_x86_template_msrs(ctx, tmpl, have, 3, ret, capacity, count, note, NULL);
	impost_x86_template_free(tmpl);
	return err;
}

Test(template, msrs_by_field_and_whole)
{
	struct impost_x86_msr got[2];
	uint32_t count = 7;

	cr_assert_eq(msrs("[msr]\nIA32_ARCH_CAPABILITIES.RDCL_NO = set\n0x10a.1 = clear\n"
			  "IA32_MISC_ENABLE = 0x41\n0x123456 = pass\n",
			  got, 2, &count),
		     0, "%s", impost_error(ctx));
	cr_expect_eq(count, 2);
	cr_expect(got[0].index == 0x10a && got[0].value == 0x29);
	cr_expect(got[1].index == 0x1a0 && got[1].value == 0x41);
	cr_assert_eq(msrs("[msr]\n0x10a = 0x2b\n", got, 2, &count), 0);
	cr_expect_eq(count, 0, "it has this value already");
	cr_expect_eq(msrs("[msr]\n0x10a = 0\n0x1a0 = 0\n", got, 1, &count), -ENOSPC);
	cr_expect_eq(count, 2);
}

Test(template, msrs_that_cannot_be_are_refused)
{
	struct impost_x86_msr got[2];
	uint32_t count = 7;

	cr_expect_eq(msrs("[msr]\nIA32_ARCH_CAPABILITIES.MDS_NO = set\n"
			  "IA32_ARCH_CAPABILITIES.RSBA = set\n0x10a.20 = set\nIA32_PAT = 1\n"
			  "0x481.0 = set\n0x481.1 = clear\n0x481.32 = clear\n0x481.40 = set\n",
			  got, 2, &count),
		     -ENOTSUP);
	cr_expect_str_eq(refused,
			 "IA32_ARCH_CAPABILITIES.BHI_NO IA32_PAT IA32_VMX_PINBASED_CTLS.1 "
			 "IA32_VMX_PINBASED_CTLS.40 ",
			 "%s", refused);
	cr_expect_eq(count, 7);
}

/* KVM takes any PAT from its host; a guest would never get it to be so. */
Test(template, a_pat_holds_memory_types)
{
	static const struct {
		const char *value, *words;
	} rows[] = {
		{"0xffffffffffffffff",
		 "IA32_PAT: entry 0 is 255: memory types are 0, 1 and 4 to 7"},
		{"0x0207040600070406", "entry 7 is 2"},
		{"0x0007040600070306", "entry 1 is 3"},
		{"0x0807040600070406", "entry 7 is 8"},
		{"0x0001040500060706", NULL},
		{"0x0007040600070406", NULL}, /* as at reset */
	};
	const struct impost_x86_msr reset = {.index = IMPOST_X86_MSR_IA32_PAT,
					     .value = UINT64_C(0x0007040600070406)};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_x86_template *tmpl;
		struct impost_x86_msr got;
		uint32_t count;
		char text[64];

		snprintf(text, sizeof(text), "[msr]\nIA32_PAT = %s\n", rows[i].value);
		tmpl = load(text);
		cr_expect_eq(impost_x86_template_msrs(ctx, tmpl, &reset, 1, &got, 1, &count, NULL,
						      NULL),
			     rows[i].words ? -ENOTSUP : 0, "%s", rows[i].value);
		if (rows[i].words)
			cr_expect(strstr(impost_error(ctx), rows[i].words), "%s",
				  impost_error(ctx));
		impost_x86_template_free(tmpl);
	}
}

Test(template, rest_clears_features_of_named_msrs)
{
	struct impost_x86_msr got[2];
	uint32_t count;

	cr_assert_eq(msrs("[template]\nrest = clear\n[msr]\n"
			  "IA32_ARCH_CAPABILITIES.RDCL_NO = set\nIA32_MISC_ENABLE = pass\n",
			  got, 2, &count),
		     0, "%s", impost_error(ctx));
	cr_expect_eq(count, 1);
	cr_expect_eq(got[0].value, 1);
}

Test(template, msrs_are_listed)
{
	struct impost_x86_template *tmpl =
		load("[msr]\n0x1a0 = 1\n0x10a.0 = pass\n[cpuid]\nLM=set\n");
	uint32_t msr = 0;

	cr_expect(impost_x86_template_msr(tmpl, 0, &msr) == 0 && msr == 0x10a);
	cr_expect(impost_x86_template_msr(tmpl, 1, &msr) == 0 && msr == 0x1a0);
	cr_expect(impost_x86_template_msr(tmpl, 2, &msr) == -ENOENT && msr == 0x1a0);
	impost_x86_template_free(tmpl);
}

/* --- the ones that come with the library --- */

static struct impost_x86_template *open_template(const char *name, const struct cpu *cpu)
{
	struct impost_x86_template *tmpl = NULL;

	cr_assert_eq(impost_x86_template_open(ctx, name, cpu->entries, cpu->count, &tmpl), 0,
		     "%s: %s", name, impost_error(ctx));
	return tmpl;
}

/* A CPU of each level takes the template of its level and of those below, and no other. */
Test(template, a_cpu_of_a_level_takes_its_template)
{
	static const char *const makers[] = {"GenuineIntel", "AuthenticAMD", "Of some else"};
	static const char *const suffixes[] = {"-intel", "-amd", ""};

	for (unsigned maker = 0; maker < 3; maker++)
		for (unsigned level = 1; level <= 4; level++)
			for (unsigned wanted = 1; wanted <= 4; wanted++) {
				struct cpu cpu = cpu_of(level, makers[maker]);
				struct impost_x86_template *tmpl;
				char name[32], full[40];

				snprintf(name, sizeof(name), "x86-64-v%u", wanted);
				snprintf(full, sizeof(full), "%s%s", name, suffixes[maker]);
				tmpl = open_template(name, &cpu);
				cr_expect_str_eq(impost_x86_template_name(tmpl), full);
				cr_expect_eq(apply(tmpl, &cpu), wanted <= level ? 0 : -ENOTSUP,
					     "%s on level %u: %s", full, level, impost_error(ctx));
				for (unsigned i = 0; wanted <= level && i < 4; i++)
					expect_all(&cpu, full, levels[i], i < wanted);
				if (wanted <= level)
					expect_all(&cpu, full, SYSTEM, true);
				impost_x86_template_free(tmpl);
			}
}

/* What kernels and their protection rely on: a level that lost it would boot, but slower or less
 * safe. */
#define KEPT                                                                                    \
	"PCID INVPCID PAGE1GB RDRAND RDSEED X2APIC TSC_DEADLINE TSC_ADJUST INVARIANT_TSC ARAT " \
	"RDTSCP SMEP SMAP UMIP IBRS_IBPB STIBP SSBD MD_CLEAR L1D_FLUSH ARCH_CAPABILITIES"
#define KEPT_ON_AMD                                                                            \
	"AMD_IBPB AMD_IBRS AMD_STIBP AMD_SSBD VIRT_SSBD BTC_NO LFENCE_SERIALIZING VERW_CLEAR " \
	"NULL_SEL_CLEARS_BASE AUTOMATIC_IBRS SBPB IBPB_BRTYPE SRSO_NO TSA_SQ_NO TOPOEXT"

Test(template, a_level_keeps_what_kernels_rely_on)
{
	const char *name;

	for (uint32_t i = 0; (name = impost_x86_template_shipped(i)) != NULL; i++) {
		bool amd = strstr(name, "-amd"), intel = strstr(name, "-intel");
		struct cpu cpu = cpu_of(4, amd ? "AuthenticAMD" : "GenuineIntel"), before;
		struct impost_x86_template *tmpl = load(impost_x86_template_shipped_text(name));

		put(&cpu, "MAX_EXT_LEAF", 0x80000021);
		put_all(&cpu, KEPT " XSAVEOPT SHA AESNI VMX SVM");
		if (!intel)
			put_all(&cpu, KEPT_ON_AMD);
		/* What is the hypervisor's own, such as KVM's clock, is no field of the CPU's. */
		entry(&cpu, 0x40000000, 0, 0)->eax = 0x40000001;
		entry(&cpu, 0x40000001, 0, 0)->eax = 0x0100007b;
		before = cpu;
		must_apply(tmpl, &cpu);
		expect_all(&cpu, name, KEPT, true);
		if (!intel)
			expect_all(&cpu, name, KEPT_ON_AMD, true);
		expect_all(&cpu, name, "SHA AESNI VMX SVM", false);
		cr_expect_eq(get(&cpu, "XSAVEOPT"), get(&cpu, "XSAVE"), "%s", name);
		cr_expect_eq(entry(&cpu, 0x40000001, 0, 0)->eax,
			     entry(&before, 0x40000001, 0, 0)->eax, "%s", name);
		impost_x86_template_free(tmpl);
	}
}

/* What is refused is what the level lacks, by name. */
Test(template, what_a_level_lacks_is_named)
{
	struct cpu cpu = cpu_of(2, "AuthenticAMD");
	struct impost_x86_template *tmpl = open_template("x86-64-v3", &cpu);

	cr_expect_eq(apply(tmpl, &cpu), -ENOTSUP);
	for (const char *name = levels[2]; name; name = strchr(name, ' ')) {
		char word[32];

		name += *name == ' ';
		snprintf(word, sizeof(word), "%.*s ", (int)strcspn(name, " "), name);
		cr_expect(strstr(refused, word), "%s is not among %s", word, refused);
	}
	impost_x86_template_free(tmpl);
}

Test(template, shipped_ones_are_listed)
{
	struct cpu cpu = cpu_of(1, "GenuineIntel");
	struct impost_x86_template *tmpl = NULL;
	uint32_t count = 0;

	for (const char *name; (name = impost_x86_template_shipped(count)) != NULL; count++) {
		const char *text = impost_x86_template_shipped_text(name);

		cr_assert_not_null(text);
		tmpl = load(text);
		cr_expect_str_eq(impost_x86_template_name(tmpl), name);
		cr_expect_str_not_empty(impost_x86_template_summary(tmpl));
		impost_x86_template_free(tmpl);
	}
	cr_expect_eq(count, 12);
	cr_expect_null(impost_x86_template_shipped_text("x86-64-v5"));
	cr_expect_eq(impost_x86_template_open(ctx, "x86-64-v5", cpu.entries, cpu.count, &tmpl),
		     -ENOENT);
	cr_expect(strstr(impost_error(ctx), "there are x86-64-v1, x86-64-v1-intel,"));
	cr_expect_eq(impost_x86_template_open(ctx, "./x86-64-v1", NULL, 0, &tmpl), -ENOENT);
	cr_expect(strstr(impost_error(ctx), "cannot read the CPU template ./x86-64-v1"));
	cr_expect_eq(impost_x86_template_open(ctx, "none.ini", NULL, 0, &tmpl), -ENOENT);
	cr_expect_eq(impost_x86_template_open(ctx, NULL, NULL, 0, &tmpl), -EINVAL);
}

/* --- dumps --- */

static int gather(void *opaque, const char *text, size_t len)
{
	return fwrite(text, 1, len, opaque) == len ? 0 : -EIO;
}

static char *write_text(const struct impost_x86_template *tmpl)
{
	char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);

	cr_assert_eq(impost_x86_template_write(tmpl, gather, file), 0);
	fclose(file);
	return text;
}

static char differences[4096];

static void note_difference(void *opaque, const char *name, const char *a, const char *b)
{
	size_t len = strlen(differences);

	(void)opaque;
	snprintf(differences + len, sizeof(differences) - len, "%s:%s:%s ", name, a, b);
}

static int compare(const struct impost_x86_template *a, const struct impost_x86_template *b)
{
	differences[0] = '\0';
	return impost_x86_template_compare(a, b, note_difference, NULL);
}

/* Written and read again, it is the same: to compare, and byte for byte. */
static void expect_round_trip(const struct impost_x86_template *tmpl)
{
	char *text = write_text(tmpl), *again;
	struct impost_x86_template *read = load(text);

	cr_expect_eq(compare(tmpl, read), 0, "%s", differences);
	again = write_text(read);
	cr_expect_str_eq(text, again);
	impost_x86_template_free(read);
	free(text);
	free(again);
}

Test(template, what_is_written_can_be_read)
{
	struct cpu cpu = large();
	struct impost_x86_template *tmpl = dump(&cpu);

	expect_round_trip(tmpl);
	cr_expect_eq(compare(tmpl, tmpl), 0);
	impost_x86_template_free(tmpl);
	for (uint32_t i = 0; impost_x86_template_shipped(i); i++) {
		tmpl = load(impost_x86_template_shipped_text(impost_x86_template_shipped(i)));
		expect_round_trip(tmpl);
		impost_x86_template_free(tmpl);
	}
	tmpl = load("[cpuid]\nFAMILY = 0b1x0x\n0x7.1.eax.5-2 = pass\n0x7.1.eax.9 = set\n"
		    "[msr]\n0x10a.63-60 = 0b1xx0\nIA32_PAT = 0x0007040600070406\n");
	expect_round_trip(tmpl);
	impost_x86_template_free(tmpl);
}

/* A dump is the template that gives that CPU, and makes it of a larger one. */
Test(template, a_dump_gives_its_cpu)
{
	struct cpu cpu = large(), copy = cpu, larger = cpu;
	struct impost_x86_template *tmpl = dump(&cpu), *again;

	must_apply(tmpl, &copy);
	cr_expect(same(&cpu, &copy));
	put_all(&larger, "SHA GFNI UMIP AVX512_VNNI AMX_BF16");
	put(&larger, "FDP_EXCPTN_ONLY", 0);
	put(&larger, "PHYS_ADDR_BITS", 52);
	put(&larger, "MODEL", 9);
	must_apply(tmpl, &larger);
	again = dump(&larger);
	cr_expect_eq(compare(tmpl, again), 0, "%s", differences);
	impost_x86_template_free(tmpl);
	impost_x86_template_free(again);
}

Test(template, differences_have_names)
{
	struct cpu a = large(), b = a;
	struct impost_x86_template *of_a = dump(&a), *of_b, *text;

	put(&b, "AVX512_VNNI", 1);
	put(&b, "PKU", 0);
	put(&b, "PHYS_ADDR_BITS", 52);
	put(&b, "KVM_STEAL_TIME", 0);
	put(&b, "INITIAL_APIC_ID", 3);
	put(&b, "BRAND_0", 0x20555043);
	b.entries[impost_x86_cpuid_find(b.entries, b.count, 7, 0) - b.entries].edx ^= 1u << 7;
	of_b = dump(&b);
	cr_expect_eq(compare(of_a, of_b), 6, "%s", differences);
	cr_expect_str_eq(differences,
			 "PKU:set:clear AVX512_VNNI:clear:set 0x7.0.edx.7:set:clear "
			 "KVM_STEAL_TIME:set:clear BRAND_0:'':'CPU ' PHYS_ADDR_BITS:0x2c:0x34 ",
			 "%s", differences);
	text = load("[template]\nvendor = AuthenticAMD\n[cpuid]\nFAMILY = 0b1xx1\n");
	impost_x86_template_free(of_a);
	of_a = load("[cpuid]\nFAMILY = 1\nAVX = pass\n");
	cr_expect_eq(compare(text, of_a), 2, "%s", differences);
	cr_expect_str_eq(differences, "vendor:AuthenticAMD:pass FAMILY:0x9 of 0x9:0x1 ", "%s",
			 differences);
	cr_expect_eq(impost_x86_template_compare(NULL, of_a, NULL, NULL), -EINVAL);
	impost_x86_template_free(of_a);
	impost_x86_template_free(of_b);
	impost_x86_template_free(text);
}

/* A field that every sub-leaf has is named with its sub-leaf, in all places. */
Test(template, fields_of_each_sub_leaf)
{
	struct cpu a = large(), b;
	struct impost_x86_template *of_a, *of_b, *named;
	char *text;

	entry(&a, 4, 1, SUB)->eax = 0x00000122;
	entry(&a, 4, 1, SUB)->ebx = 0x01c0003f;
	b = a;
	apply_text("[cpuid]\nCACHE_WAYS.1 = 11\ncache_level.0x1 = 2\n", &b);
	cr_expect_eq(entry(&b, 4, 1, SUB)->eax, 0x00000142);
	cr_expect_eq(entry(&b, 4, 1, SUB)->ebx, 0x02c0003f);
	of_a = dump(&a);
	of_b = dump(&b);
	cr_expect_eq(compare(of_a, of_b), 2, "%s", differences);
	cr_expect_str_eq(differences, "CACHE_LEVEL.1:0x1:0x2 CACHE_WAYS.1:0x7:0xb ", "%s",
			 differences);
	text = write_text(of_a);
	cr_expect(strstr(text, "; CACHE_LINE.1=0x3f CACHE_WAYS.1=0x7\n"), "%s", text);
	named = load("[cpuid]\nCACHE_LEVEL.1 = 2\n");
	expect_round_trip(named);
	free(text);
	impost_x86_template_free(of_a);
	impost_x86_template_free(of_b);
	impost_x86_template_free(named);
}

Test(template, dumps_that_cannot_be)
{
	struct cpu cpu = large();
	struct impost_x86_template *tmpl = NULL;

	cpu.entries[1] = cpu.entries[0];
	cr_expect_eq(impost_x86_template_from_cpu(ctx, "x", NULL, cpu.entries, cpu.count, NULL, 0,
						  &tmpl),
		     -EINVAL);
	cr_expect(strstr(impost_error(ctx), "0x0.eax is there twice"), "%s", impost_error(ctx));
	cr_expect_eq(impost_x86_template_from_cpu(ctx, "x\ny", NULL, NULL, 0, NULL, 0, &tmpl),
		     -EINVAL);
	cr_expect_eq(impost_x86_template_from_cpu(ctx, "x", " ; y", NULL, 0, NULL, 0, &tmpl),
		     -EINVAL);
	cr_expect_eq(impost_x86_template_from_cpu(ctx, "x", NULL, NULL, 1, NULL, 0, &tmpl),
		     -EINVAL);
	cr_expect_eq(impost_x86_template_from_cpu(ctx, "x", NULL, cpu.entries, 513, NULL, 0, &tmpl),
		     -E2BIG);
	cr_expect_null(tmpl);
}

/* --- baselines --- */

static struct impost_x86_template *join(const struct cpu *const *cpus, uint32_t count)
{
	struct impost_x86_template *dumps[8] = {NULL}, *tmpl = NULL;

	for (uint32_t i = 0; i < count; i++)
		dumps[i] = dump(cpus[i]);
	cr_assert_eq(impost_x86_template_baseline(ctx, "joined",
						  (const struct impost_x86_template *const *)dumps,
						  count, &tmpl),
		     0, "%s", impost_error(ctx));
	for (uint32_t i = 0; i < count; i++)
		impost_x86_template_free(dumps[i]);
	return tmpl;
}

/* A number that looks random, the same in each run. */
static uint32_t draw(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Removes what no guest would see: entries above the highest leaf and sub-leaf. */
static void drop_hidden(struct cpu *cpu)
{
	uint32_t basic = get(cpu, "MAX_LEAF"), subleaf = get(cpu, "MAX_SUBLEAF_7"), kept = 0;

	for (uint32_t i = 0; i < cpu->count; i++) {
		const struct impost_x86_cpuid *e = &cpu->entries[i];

		if ((e->leaf >= 0x40000000 || e->leaf <= basic) &&
		    (e->leaf != 7 || e->subleaf <= subleaf))
			cpu->entries[kept++] = *e;
	}
	cpu->count = kept;
}

/* large() with some features, limits and whole leaves of it gone, whether that makes sense or not.
 */
static struct cpu made_up(uint32_t seed)
{
	struct cpu cpu = large();
	const struct impost_x86_cpuid_field *f;
	uint32_t state = seed * 2654435761u + 1;

	for (uint32_t i = 0; (f = impost_x86_cpuid_field(i)) != NULL; i++) {
		const struct impost_x86_cpuid *e =
			impost_x86_cpuid_find(cpu.entries, cpu.count, f->leaf, f->subleaf);

		if (!e || f->subleaf == IMPOST_X86_CPUID_EACH || draw(&state) % 6)
			continue;
		if (f->high == f->low)
			put(&cpu, f->name, draw(&state) & 1);
		else if (f->kind == IMPOST_X86_FIELD_LIMIT && f->leaf != 0 && f->leaf != 0x80000000)
			put(&cpu, f->name, get(&cpu, f->name) / 2);
	}
	if (seed % 4 == 1)
		put(&cpu, "MAX_LEAF", draw(&state) % 2 ? 7 : 0xd);
	if (seed % 5 == 1)
		put(&cpu, "XSAVE_PKRU_OFFSET", 832);
	entry(&cpu, 7, 0, SUB)->edx ^= (draw(&state) & 3) << 6;
	drop_hidden(&cpu);
	return cpu;
}

/* Fields that are features, inverted or limits: the same in both. */
static void expect_same_features(const struct cpu *a, const struct cpu *b)
{
	const struct impost_x86_cpuid_field *f;

	for (uint32_t i = 0; (f = impost_x86_cpuid_field(i)) != NULL; i++)
		if (f->kind < IMPOST_X86_FIELD_VALUE)
			cr_expect_eq(impost_x86_cpuid_get_field(a->entries, a->count, f),
				     impost_x86_cpuid_get_field(b->entries, b->count, f), "%s",
				     f->name);
	for (uint32_t bit = 6; bit < 8; bit++) /* without names */
		cr_expect_eq(impost_x86_cpuid_find(a->entries, a->count, 7, 0)->edx >> bit & 1,
			     impost_x86_cpuid_find(b->entries, b->count, 7, 0)->edx >> bit & 1);
}

Test(template, a_baseline_of_one_changes_nothing)
{
	for (uint32_t seed = 0; seed < 60; seed++) {
		struct cpu cpu = made_up(seed), copy = cpu;
		const struct cpu *twice[] = {&cpu, &cpu};
		struct impost_x86_template *tmpl = join(twice, 2), *a, *b;

		must_apply(tmpl, &copy);
		a = dump(&cpu);
		b = dump(&copy);
		cr_expect(same(&cpu, &copy), "seed %u", seed);
		expect_same_features(&cpu, &copy);
		impost_x86_template_free(tmpl);
		impost_x86_template_free(a);
		impost_x86_template_free(b);
	}
}

Test(template, a_baseline_is_taken_by_each_and_makes_them_alike)
{
	for (uint32_t seed = 0; seed < 60; seed++) {
		struct cpu a = made_up(seed), b = made_up(seed + 1000);
		const struct cpu *both[] = {&a, &b};
		struct impost_x86_template *tmpl = join(both, 2);

		expect_round_trip(tmpl);
		must_apply(tmpl, &a);
		must_apply(tmpl, &b);
		expect_same_features(&a, &b);
		impost_x86_template_free(tmpl);
	}
}

/* With a third CPU, no feature is set that was clear with two; inverted ones and limits likewise.
 */
Test(template, more_cpus_only_clear_features)
{
	const struct impost_x86_cpuid_field *f;

	for (uint32_t seed = 0; seed < 40; seed++) {
		struct cpu a = made_up(seed), b = made_up(seed + 1000), c = made_up(seed + 2000);
		const struct cpu *cpus[] = {&a, &b, &c};
		struct impost_x86_template *two = join(cpus, 2), *three = join(cpus, 3);
		struct cpu with_two = a, with_three = a;

		must_apply(two, &with_two);
		must_apply(three, &with_three);
		for (uint32_t i = 0; (f = impost_x86_cpuid_field(i)) != NULL; i++) {
			uint32_t was = get(&with_two, f->name), is = get(&with_three, f->name);

			if (f->kind == IMPOST_X86_FIELD_FEATURE ||
			    f->kind == IMPOST_X86_FIELD_LIMIT)
				cr_expect_leq(is, was, "seed %u: %s", seed, f->name);
		}
		impost_x86_template_free(two);
		impost_x86_template_free(three);
	}
}

static struct impost_x86_template *dump_msrs(const char *name, uint64_t mtrrcap, uint64_t controls)
{
	const struct cpu cpu = cpu_of(2, "GenuineIntel");
	const struct impost_x86_msr msrs[] = {
		{.index = IMPOST_X86_MSR_IA32_ARCH_CAPABILITIES, .value = 0x29},
		{.index = IMPOST_X86_MSR_IA32_VMX_PINBASED_CTLS, .value = controls},
		{.index = IMPOST_X86_MSR_IA32_VMX_TRUE_PINBASED_CTLS, .value = controls},
		{.index = IMPOST_X86_MSR_IA32_MTRRCAP, .value = mtrrcap},
	};
	struct impost_x86_template *tmpl = NULL;

	/* 0: there is none. */
	cr_assert_eq(impost_x86_template_from_cpu(ctx, name, NULL, cpu.entries, cpu.count, msrs,
						  mtrrcap ? 4 : 3, &tmpl),
		     0, "%s", impost_error(ctx));
	return tmpl;
}

/* A baseline says nothing that a host cannot be given: read-only MSRs are alike, or refused. */
Test(template, baselines_and_msrs_that_cannot_be_written)
{
	const struct impost_x86_template *cpus[] = {dump_msrs("a", 0x508, UINT64_C(0x7f00000016)),
						    dump_msrs("b", 0x508, UINT64_C(0x3f00000016)),
						    dump_msrs("c", 0x50a, 0x16),
						    dump_msrs("d", 0, 0x16)};
	struct impost_x86_template *tmpl = NULL;
	char *text;

	cr_expect_eq(impost_x86_template_baseline(ctx, "x", cpus, 3, &tmpl), -ENOTSUP);
	cr_expect_str_eq(impost_error(ctx),
			 "IA32_MTRRCAP.VCNT is 0x8 in a and 0xa in c, and cannot be changed: take "
			 "IA32_MTRRCAP out of one of them to leave it as each host has it");
	cr_expect_null(tmpl);
	cr_assert_eq(impost_x86_template_baseline(ctx, "x", cpus, 2, &tmpl), 0);
	text = write_text(tmpl);
	cr_expect(strstr(text, "\nIA32_MTRRCAP = 0x0000000000000508\n"));
	cr_expect(strstr(text, "\nIA32_VMX_TRUE_PINBASED_CTLS = 0x0000003f00000016\n"));
	cr_expect_null(strstr(text, "IA32_VMX_PINBASED_CTLS"), "it follows the true ones");
	free(text);
	impost_x86_template_free(tmpl);
	cr_assert_eq(impost_x86_template_baseline(ctx, "x", cpus + 2, 2, &tmpl), 0);
	text = write_text(tmpl);
	cr_expect_null(strstr(text, "IA32_MTRRCAP"));
	free(text);
	impost_x86_template_free(tmpl);
	for (size_t i = 0; i < 4; i++)
		impost_x86_template_free((struct impost_x86_template *)cpus[i]);
}

Test(template, baselines_need_dumps_of_one_maker)
{
	struct cpu intel = cpu_of(2, "GenuineIntel"), amd = cpu_of(2, "AuthenticAMD");
	struct impost_x86_template *a = dump(&intel), *b = dump(&amd), *tmpl = NULL;
	const struct impost_x86_template *cpus[] = {a, b};

	cr_expect_eq(impost_x86_template_baseline(ctx, "x", cpus, 2, &tmpl), -ENOTSUP);
	cr_expect(strstr(impost_error(ctx), "of GenuineIntel and dump of AuthenticAMD"));
	cr_expect_eq(impost_x86_template_baseline(ctx, "x", cpus, 0, &tmpl), -EINVAL);
	impost_x86_template_free(b);
	b = load("[cpuid]\nAVX = set\n");
	cpus[1] = b;
	cr_expect_eq(impost_x86_template_baseline(ctx, "x", cpus, 2, &tmpl), -EINVAL);
	cr_expect(strstr(impost_error(ctx), "rest = pass"));
	impost_x86_template_free(b);
	b = load("[template]\nrest = clear\n[cpuid]\nAVX = pass\n");
	cpus[1] = b;
	cr_expect_eq(impost_x86_template_baseline(ctx, "x", cpus, 2, &tmpl), -EINVAL);
	cr_expect(strstr(impost_error(ctx), "leaves AVX open"), "%s", impost_error(ctx));
	cr_expect_null(tmpl);
	impost_x86_template_free(a);
	impost_x86_template_free(b);
}
