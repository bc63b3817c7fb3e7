/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of CPUID fields and MSRs: sorted, without overlaps, found by every key, and true here.
 */
#include <cpuid.h>
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <impost/x86_64/cpuid.h>

/* Orders fields as the table is to be: by leaf, sub-leaf, register and bit. */
static int order(const struct impost_x86_cpuid_field *a, const struct impost_x86_cpuid_field *b)
{
	if (a->leaf != b->leaf)
		return a->leaf < b->leaf ? -1 : 1;
	if (a->subleaf != b->subleaf)
		return a->subleaf < b->subleaf ? -1 : 1;
	if (a->reg != b->reg)
		return a->reg < b->reg ? -1 : 1;
	return a->low < b->low ? -1 : a->low > b->low;
}

/* Asserts that NAME can stand in an INI, and is a name rather than a number. */
static void assert_name(const char *name, const char *also)
{
	cr_assert(isalpha((unsigned char)name[0]), "%s", name);
	for (const char *c = name; *c; c++)
		cr_assert(isalnum((unsigned char)*c) || strchr(also, *c), "%s", name);
}

Test(fields, are_sorted_and_do_not_overlap)
{
	const struct impost_x86_cpuid_field *field, *before = NULL;

	for (uint32_t i = 0; (field = impost_x86_cpuid_field(i)); before = field, i++) {
		cr_assert_leq(field->low, field->high, "%s", field->name);
		cr_assert_leq(field->high, 31u, "%s", field->name);
		cr_assert_leq(field->reg, IMPOST_X86_EDX, "%s", field->name);
		cr_assert_eq(field->flags & ~IMPOST_X86_CPUID_SUBLEAF, 0u, "%s", field->name);
		if (!before)
			continue;
		cr_assert_lt(order(before, field), 0, "%s is not after %s", field->name,
			     before->name);
		if (before->leaf == field->leaf && before->subleaf == field->subleaf &&
		    before->reg == field->reg)
			cr_assert_lt(before->high, field->low, "%s overlaps %s", field->name,
				     before->name);
		/* A leaf has sub-leaves or it has not, and fields for each or for some. */
		if (before->leaf == field->leaf) {
			cr_assert_eq(before->flags, field->flags, "%s", field->name);
			cr_assert_eq(before->subleaf == IMPOST_X86_CPUID_EACH,
				     field->subleaf == IMPOST_X86_CPUID_EACH, "%s", field->name);
		}
	}
	cr_assert_not_null(before);
}

Test(fields, are_found_by_name_and_by_place)
{
	const struct impost_x86_cpuid_field *field;

	for (uint32_t i = 0; (field = impost_x86_cpuid_field(i)); i++) {
		uint32_t subleaf = field->subleaf == IMPOST_X86_CPUID_EACH ? 5 : field->subleaf;

		assert_name(field->name, "_");
		cr_assert_eq(impost_x86_cpuid_field_find(field->name), field, "%s is there twice",
			     field->name);
		cr_assert(field->meaning[0], "%s", field->name);
		for (uint32_t bit = 0; bit < 32; bit++)
			cr_assert_eq(impost_x86_cpuid_field_at(field->leaf, subleaf, field->reg,
							       bit) == field,
				     field->low <= bit && bit <= field->high, "%s", field->name);
	}
	cr_assert_str_eq(impost_x86_cpuid_field_find("sse4_2")->name, "SSE4_2");
	cr_assert_null(impost_x86_cpuid_field_find("SSE4"));
	cr_assert_null(impost_x86_cpuid_field_find(""));
	cr_assert_null(impost_x86_cpuid_field_at(7, 3, IMPOST_X86_EAX, 0));
	cr_assert_null(impost_x86_cpuid_field_at(0x2, 0, 4, 0));
	cr_assert_not_null(impost_x86_cpuid_field_at(1, 9, IMPOST_X86_EDX, 0), "no sub-leaves");
}

/* A bit is a bit and a number is a number; what nothing tells apart has no flag of its own. */
Test(fields, kinds_and_flags)
{
	const struct impost_x86_cpuid_field *field, *other;

	for (uint32_t i = 0; (field = impost_x86_cpuid_field(i)); i++) {
		int is_bit = field->high == field->low;

		cr_assert(field->kind >= IMPOST_X86_FIELD_FEATURE &&
				  field->kind <= IMPOST_X86_FIELD_MANAGED,
			  "%s", field->name);
		if (field->kind == IMPOST_X86_FIELD_FEATURE ||
		    field->kind == IMPOST_X86_FIELD_INVERTED)
			cr_assert(is_bit, "%s", field->name);
		if (field->kind == IMPOST_X86_FIELD_LIMIT)
			cr_assert_not(is_bit, "%s", field->name);
		if (!field->linux_flag)
			continue;
		cr_assert(is_bit, "%s", field->name);
		for (uint32_t k = 0; (other = impost_x86_cpuid_field(k)) && k < i; k++)
			cr_assert(!other->linux_flag ||
					  strcmp(other->linux_flag, field->linux_flag),
				  "%s", field->linux_flag);
	}
}

Test(fields, are_read_from_entries)
{
	struct impost_x86_cpuid entries[] = {
		{.leaf = 1, .subleaf = 7, .eax = 0x12345678, .ecx = 0x80000001},
		{.leaf = 4, .subleaf = 1, .flags = IMPOST_X86_CPUID_SUBLEAF, .eax = 0x3f},
		{.leaf = 4, .subleaf = 0, .flags = IMPOST_X86_CPUID_SUBLEAF, .eax = 0x21},
		{.leaf = 7, .subleaf = 1, .flags = IMPOST_X86_CPUID_SUBLEAF, .eax = ~0u},
		{.leaf = 0x15, .ecx = 0xfedcba98},
	};
	static const struct {
		const char *name;
		uint32_t value;
	} want[] = {
		{"STEPPING", 8}, {"MODEL", 7},	    {"EXT_FAMILY", 0x23},	{"SSE3", 1},
		{"MONITOR", 0},	 {"HYPERVISOR", 1}, {"CACHE_TYPE", 1},		{"FSGSBASE", 0},
		{"SHA512", 1},	 {"LM", 0},	    {"CRYSTAL_HZ", 0xfedcba98},
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		cr_assert_eq(impost_x86_cpuid_get_field(entries, 5,
							impost_x86_cpuid_field_find(want[i].name)),
			     want[i].value, "%s", want[i].name);
	cr_assert_eq(impost_x86_cpuid_find(entries, 5, 4, 0), &entries[2]);
	cr_assert_eq(impost_x86_cpuid_find(entries, 5, 1, 3), &entries[0]);
	cr_assert_null(impost_x86_cpuid_find(entries, 5, 7, 0));
	cr_assert_null(impost_x86_cpuid_find(NULL, 0, 0, 0));
	cr_assert_eq(impost_x86_cpuid_register(entries, IMPOST_X86_ECX), &entries[0].ecx);
	cr_assert_null(impost_x86_cpuid_register(entries, 4));
}

/* FIELD as CPUID answers on the processor under the test. */
static uint32_t here(const struct impost_x86_cpuid_field *field)
{
	struct impost_x86_cpuid entry = {.leaf = field->leaf, .subleaf = field->subleaf};

	if (field->leaf > (uint32_t)__get_cpuid_max(field->leaf & 0x80000000, NULL))
		return 0;
	if (field->flags & IMPOST_X86_CPUID_SUBLEAF)
		entry.flags = IMPOST_X86_CPUID_SUBLEAF;
	__cpuid_count(entry.leaf, entry.subleaf, entry.eax, entry.ebx, entry.ecx, entry.edx);
	return impost_x86_cpuid_get_field(&entry, 1, field);
}

/* The flags of the first processor in /proc/cpuinfo, with a blank on both sides. */
static const char *flags(void)
{
	static char line[16384];
	FILE *file = fopen("/proc/cpuinfo", "re");

	cr_assert_not_null(file);
	while (fgets(line, sizeof(line) - 1, file)) {
		if (!strncmp(line, "flags", 5)) {
			fclose(file);
			line[strcspn(line, "\n")] = ' ';
			return strchr(line, ':') + 1;
		}
	}
	fclose(file);
	cr_assert_fail("/proc/cpuinfo has no flags");
	return NULL;
}

/*
 * Linux shows a flag for a bit only where the bit is set, or was when it booted; it may hide one
 * that is set (an older Linux, or its command line). `ht` it makes up from the topology.
 */
Test(fields, what_linux_shows_is_set)
{
	const struct impost_x86_cpuid_field *field;
	const char *shown = flags();
	unsigned int seen = 0;

	for (uint32_t i = 0; (field = impost_x86_cpuid_field(i)); i++) {
		char flag[64];

		if (!field->linux_flag || !strcmp(field->linux_flag, "ht"))
			continue;
		snprintf(flag, sizeof(flag), " %s ", field->linux_flag);
		if (!strstr(shown, flag))
			continue;
		cr_assert(here(field), "Linux shows%s, but %s is 0", flag, field->name);
		seen++;
	}
	cr_assert_gt(seen, 20u, "every x86_64 CPU has more than %u flags", seen);
}

Test(msrs, are_sorted_and_found)
{
	const struct impost_x86_msr_info *info, *before = NULL;

	for (uint32_t i = 0; (info = impost_x86_msr_info(i)); before = info, i++) {
		cr_assert(!before || before->index < info->index, "%s", info->name);
		cr_assert(info->kind == IMPOST_X86_MSR_FEATURE ||
				  info->kind == IMPOST_X86_MSR_STATE,
			  "%s", info->name);
		assert_name(info->name, "_");
		cr_assert(info->meaning[0], "%s", info->name);
		cr_assert_eq(impost_x86_msr_info_at(info->index), info);
		cr_assert_eq(impost_x86_msr_info_find(info->name), info, "%s is there twice",
			     info->name);
	}
	cr_assert_not_null(before);
	cr_assert_eq(impost_x86_msr_info_find("ia32_efer")->index, 0xc0000080u);
	cr_assert_eq(IMPOST_X86_MSR_IA32_EFER, 0xc0000080u);
	cr_assert_null(impost_x86_msr_info_find("IA32"));
	cr_assert_null(impost_x86_msr_info_at(0x12345678));
}

Test(msrs, fields_are_sorted_and_found)
{
	const struct impost_x86_msr_field *field, *before = NULL;

	for (uint32_t i = 0; (field = impost_x86_msr_field(i)); before = field, i++) {
		const struct impost_x86_msr_info *info = impost_x86_msr_info_at(field->index);
		size_t length = strlen(info->name);

		cr_assert_leq(field->low, field->high, "%s", field->name);
		cr_assert_leq(field->high, 63u, "%s", field->name);
		cr_assert(!before || before->index < field->index ||
				  (before->index == field->index && before->high < field->low),
			  "%s", field->name);
		cr_assert(!strncmp(field->name, info->name, length) && field->name[length] == '.',
			  "%s", field->name);
		assert_name(field->name, "_.");
		cr_assert_eq(impost_x86_msr_field_find(field->name), field, "%s is there twice",
			     field->name);
		for (uint32_t bit = 0; bit < 64; bit++)
			cr_assert_eq(impost_x86_msr_field_at(field->index, bit) == field,
				     field->low <= bit && bit <= field->high, "%s", field->name);
	}
	cr_assert_not_null(before);
	cr_assert_eq(impost_x86_msr_field_find("ia32_arch_capabilities.rdcl_no")->low, 0u);
	cr_assert_null(impost_x86_msr_field_find("IA32_ARCH_CAPABILITIES"));
	cr_assert_null(impost_x86_msr_field_find("RDCL_NO"));
}
