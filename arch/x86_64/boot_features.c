/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the CPU that the template leaves can enter the kernel, and reach all RAM. */
#include <inttypes.h>
#include <stdio.h>

#include "boot_steps.h"
#include "ram.h"

/* The local APIC and other devices lie right below 4 GiB. */
#define LEAST_BITS 32u
/* What there are where CPUID does not tell: with PAE, and without (SDM vol. 3, 5.1.4). */
#define PAE_BITS   36u
#define PLAIN_BITS 32u

/* A field by a bit that it has: looked up so, it takes a fraction of what its name takes. */
struct place_of_field {
	uint32_t leaf, reg, bit;
};

static const struct place_of_field pae = {0x1, IMPOST_X86_EDX, 6};
static const struct place_of_field phys_addr_bits = {0x80000008, IMPOST_X86_EAX, 0};

/* What IA-32e mode is entered with (SDM vol. 3, 11.8.5): LM, PAE, MSR. */
static const struct place_of_field long_mode[] = {
	{0x80000001, IMPOST_X86_EDX, 29}, {0x1, IMPOST_X86_EDX, 6}, {0x1, IMPOST_X86_EDX, 5}};

static const struct impost_x86_cpuid_field *field_at(const struct place_of_field *at)
{
	return impost_x86_cpuid_field_at(at->leaf, 0, at->reg, at->bit);
}

static uint32_t value_at(const struct boot *boot, const struct place_of_field *at)
{
	return impost_x86_cpuid_get_field(boot->cpuid.entries, boot->cpuid.count, field_at(at));
}

/* Sets the text of an error that the template is named in, if there is one. */
static int refuse(const struct boot *boot, const char *reason)
{
	if (!boot->cpu_template)
		return impost_error_set(boot->ctx, -ENOTSUP, "boot: %s", reason);
	return impost_error_set(boot->ctx, -ENOTSUP, "boot: %s: see CPU template %.128s", reason,
				impost_x86_template_name(boot->cpu_template));
}

static int check_mode(const struct boot *boot)
{
	char reason[128];

	if (boot->kernel.mode != IMPOST_X86_MODE_LONG)
		return 0;
	for (size_t i = 0; i < sizeof(long_mode) / sizeof(long_mode[0]); i++) {
		if (value_at(boot, &long_mode[i]))
			continue;
		snprintf(reason, sizeof(reason),
			 "the kernel is entered in long mode, and the CPU has no %s",
			 field_at(&long_mode[i])->name);
		return refuse(boot, reason);
	}
	return 0;
}

static uint32_t address_bits(const struct boot *boot)
{
	if (impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 0x80000008, 0))
		return value_at(boot, &phys_addr_bits);
	return value_at(boot, &pae) ? PAE_BITS : PLAIN_BITS;
}

/* How many bits the highest address that the guest is told of takes: *ret_end is behind it. */
static int needed_bits(const struct boot *boot, uint64_t *ret_end, uint32_t *ret_bits)
{
	uint64_t end = UINT64_C(1) << LEAST_BITS;
	uint32_t cursor = 0;
	struct range run;
	int more;

	while ((more = ram_next(boot->memory, &cursor, &run)) > 0)
		if (run.end > end)
			end = run.end;
	*ret_end = end;
	*ret_bits = 64 - (uint32_t)__builtin_clzll(end - 1);
	return more;
}

static int check_addresses(const struct boot *boot)
{
	const uint32_t bits = address_bits(boot);
	char reason[160];
	uint32_t needed;
	uint64_t end;
	int err;

	err = needed_bits(boot, &end, &needed);
	if (err < 0 || bits >= needed)
		return err;
	snprintf(reason, sizeof(reason),
		 "RAM and devices reach up to 0x%" PRIx64 ", which takes %" PRIu32
		 " bits of address, and the CPU has PHYS_ADDR_BITS = %" PRIu32,
		 end - 1, needed, bits);
	return refuse(boot, reason);
}

int boot_check_features(struct boot *boot)
{
	int err;

	if (!boot->cpuid.count) /* a backend that tells nothing of its CPU */
		return 0;
	err = check_mode(boot);
	return err < 0 ? err : check_addresses(boot);
}
