/* SPDX-License-Identifier: Apache-2.0 */
/* Memory types: a model of what the CPU makes of the MTRRs, asked for every address. */
#include "../golden/golden.h"
#include "x86_64.h"

#include <impost/x86_64/registers.h>

#define CAPACITY IMPOST_X86_MTRRS(40)

enum { UC = 0, WP = 5, WB = 6 };

static struct impost_x86_mtrr_config config_make(uint64_t start, uint64_t end)
{
	return (struct impost_x86_mtrr_config){
		.size = sizeof(struct impost_x86_mtrr_config),
		.phys_bits = 46,
		.variable = 8,
		.hole_start = start,
		.hole_end = end,
	};
}

Test(mtrrs, golden)
{
	const struct impost_x86_mtrr_config config =
		config_make(IMPOST_X86_HOLE_START, IMPOST_X86_HOLE_END);
	struct impost_x86_msr msrs[IMPOST_X86_MTRRS(8)];
	uint32_t count;

	cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8), &count), 0);
	cr_assert_eq(count, IMPOST_X86_MTRRS(8));
	golden_compare("mtrrs.golden", msrs, sizeof(msrs));
}

/* --- the model --- */

static uint64_t value_of(const struct impost_x86_msr *msrs, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++) {
		if (msrs[i].index == index)
			return msrs[i].value;
	}
	cr_assert_fail("MSR 0x%x is missing", index);
	return 0;
}

/* Type of an address below 1 MiB (SDM vol. 3, table 12-9). */
static unsigned int fixed_type(const struct impost_x86_msr *msrs, uint32_t count, uint64_t address)
{
	uint64_t at = address, index = 0x250, step = 0x10000;

	if (address >= 0xc0000) {
		index = 0x268 + (address - 0xc0000) / 0x8000;
		step = 0x1000;
		at = (address - 0xc0000) % 0x8000;
	} else if (address >= 0x80000) {
		index = 0x258 + (address - 0x80000) / 0x20000;
		step = 0x4000;
		at = (address - 0x80000) % 0x20000;
	}
	return value_of(msrs, count, (uint32_t)index) >> at / step * 8 & 0xff;
}

/* What the CPU makes of it (SDM vol. 3, 12.11.4.1): overlapping ranges, UC wins. */
static unsigned int type_of(const struct impost_x86_msr *msrs, uint32_t count, uint32_t pairs,
			    uint64_t address)
{
	const uint64_t def = value_of(msrs, count, 0x2ff);
	unsigned int type = 256;

	cr_assert_eq(def & 0xc00, 0xc00u, "MTRRs and fixed ranges are on");
	if (address < MIB)
		return fixed_type(msrs, count, address);
	for (uint32_t i = 0; i < pairs; i++) {
		uint64_t base = value_of(msrs, count, 0x200 + 2 * i);
		uint64_t mask = value_of(msrs, count, 0x201 + 2 * i);
		uint64_t bits = mask & ~UINT64_C(0xfff);

		if (!(mask & 0x800) || (address & bits) != (base & bits))
			continue;
		cr_assert(type == 256 || type == (base & 0xff), "two types for 0x%lx",
			  (unsigned long)address);
		type = base & 0xff;
	}
	return type == 256 ? (unsigned int)(def & 0xff) : type;
}

/* What a PC has there. */
static unsigned int want_type(const struct impost_x86_mtrr_config *config, uint64_t address)
{
	if (address < MIB)
		return address < 0xa0000 ? WB : address < 0xc0000 ? UC : WP;
	return address >= config->hole_start && address < config->hole_end ? UC : WB;
}

/*
 * The fewest aligned powers of two that make up START to END, in pages, found out another way: the
 * leaves of a binary tree over the address space, each as large as it can be.
 */
static uint32_t fewest(uint64_t start, uint64_t end, uint64_t at, uint64_t bytes)
{
	if (at >= end || at + bytes <= start)
		return 0;
	if (at >= start && at + bytes <= end)
		return 1;
	return fewest(start, end, at, bytes / 2) + fewest(start, end, at + bytes / 2, bytes / 2);
}

static void check_addresses(const struct impost_x86_mtrr_config *config,
			    const struct impost_x86_msr *msrs, uint32_t count)
{
	/* Types change only at these, whatever the registers hold, and at multiples of theirs. */
	const uint64_t borders[] = {config->hole_start, config->hole_end, 4 * GIB, 64 * GIB,
				    UINT64_C(1) << config->phys_bits};

	for (uint64_t at = 0; at < 2 * MIB; at += 4096)
		cr_assert_eq(type_of(msrs, count, config->variable, at), want_type(config, at),
			     "0x%lx", (unsigned long)at);
	for (uint64_t at = 2 * MIB; at < 16 * GIB; at += 64 * MIB)
		cr_assert_eq(type_of(msrs, count, config->variable, at), want_type(config, at),
			     "0x%lx", (unsigned long)at);
	for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
		for (uint64_t k = 1; k < borders[i]; k *= 2) {
			for (int side = 0; side < 2; side++) {
				uint64_t at = borders[i] + (side ? k - 1 : -k);

				if (at < UINT64_C(1) << config->phys_bits)
					cr_assert_eq(type_of(msrs, count, config->variable, at),
						     want_type(config, at), "0x%lx",
						     (unsigned long)at);
			}
		}
	}
}

/* Reserved bits are clear, and no pair that is needed goes without effect. */
static uint32_t check_pairs(const struct impost_x86_mtrr_config *config,
			    const struct impost_x86_msr *msrs, uint32_t count)
{
	const uint64_t above = ~((UINT64_C(1) << config->phys_bits) - 1);
	uint32_t used = 0;

	for (uint32_t i = 0; i < config->variable; i++) {
		uint64_t base = value_of(msrs, count, 0x200 + 2 * i);
		uint64_t mask = value_of(msrs, count, 0x201 + 2 * i);

		cr_assert_eq(base & (above | 0xf00), 0u);
		cr_assert_eq(mask & (above | 0x7ff), 0u);
		used += mask >> 11 & 1;
	}
	return used;
}

static void check_hole(const struct impost_x86_mtrr_config *config)
{
	static struct impost_x86_msr msrs[CAPACITY];
	uint32_t count = 0, pairs;
	int err = impost_x86_setup_mtrrs(config, msrs, CAPACITY, &count);

	pairs = fewest(config->hole_start, config->hole_end, 0, UINT64_C(1) << 52);
	cr_assert_eq(err, pairs > config->variable ? -ENOSPC : 0, "0x%lx to 0x%lx: %u pairs",
		     (unsigned long)config->hole_start, (unsigned long)config->hole_end, pairs);
	if (err < 0)
		return;
	cr_assert_eq(count, IMPOST_X86_MTRRS(config->variable));
	cr_assert_eq(msrs[count - 1].index, 0x2ffu, "what switches all on comes last");
	cr_assert_eq(check_pairs(config, msrs, count), pairs);
	check_addresses(config, msrs, count);
}

Test(mtrrs, every_address_has_the_type_of_a_pc, .timeout = 60)
{
	uint64_t random = 7;

	for (uint64_t start = GIB; start <= 4 * GIB; start += 256 * MIB) {
		for (uint32_t bits = 36; bits <= 52; bits += 4) {
			struct impost_x86_mtrr_config config = config_make(start, 4 * GIB);

			config.phys_bits = bits;
			check_hole(&config);
		}
	}
	for (int i = 0; i < 200; i++) {
		uint64_t start, bytes;
		struct impost_x86_mtrr_config config;

		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		start = MIB + (random >> 33) % (4 * GIB) / 4096 * 4096;
		bytes = (random >> 20) % (4 * GIB) / 4096 * 4096;
		config = config_make(start, start + bytes);
		config.variable = i % 3 ? 40 : 8;
		check_hole(&config);
	}
}

Test(mtrrs, a_hole_at_the_top_of_the_address_space)
{
	struct impost_x86_mtrr_config config =
		config_make((UINT64_C(1) << 46) - 4096, UINT64_C(1) << 46);

	check_hole(&config);
	config.phys_bits = 52;
	config.hole_end = UINT64_C(1) << 52;
	config.hole_start = UINT64_C(1) << 51;
	check_hole(&config);
}

Test(mtrrs, what_cannot_be_is_refused_and_nothing_is_written)
{
	static const struct {
		uint32_t phys_bits, variable;
		uint64_t start, end;
	} rows[] = {
		{31, 8, GIB, 2 * GIB},	      {53, 8, GIB, 2 * GIB},	 {46, 41, GIB, 2 * GIB},
		{46, 8, 2 * GIB, GIB},	      {46, 8, GIB + 1, 2 * GIB}, {46, 8, GIB, 2 * GIB + 1},
		{46, 8, MIB - 4096, 2 * GIB}, {36, 8, GIB, 65 * GIB},
	};
	struct impost_x86_msr msrs[IMPOST_X86_MTRRS(8)], before[IMPOST_X86_MTRRS(8)];
	struct impost_x86_mtrr_config config = config_make(3 * GIB - 4096, 4 * GIB);
	struct {
		struct impost_x86_mtrr_config known;
		uint64_t later;
	} longer = {.known = config, .later = 1};
	uint32_t count = PATTERN;

	memset(msrs, PATTERN, sizeof(msrs));
	memcpy(before, msrs, sizeof(msrs));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_x86_mtrr_config bad = config_make(rows[i].start, rows[i].end);

		bad.phys_bits = rows[i].phys_bits;
		bad.variable = rows[i].variable;
		cr_assert_eq(impost_x86_setup_mtrrs(&bad, msrs, IMPOST_X86_MTRRS(8), &count),
			     -EINVAL, "row %zu", i);
	}
	for (uint32_t size = 0; size < sizeof(config); size++) {
		config.size = size;
		cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8), &count),
			     -EINVAL, "size %u", size);
	}
	longer.known.size = sizeof(longer);
	cr_assert_eq(impost_x86_setup_mtrrs(&longer.known, msrs, IMPOST_X86_MTRRS(8), &count),
		     -E2BIG);
	config.size = sizeof(config);
	config.reserved = 1;
	cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8), &count), -EINVAL);
	config.reserved = 0;
	config.variable = 1; /* it takes two */
	cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8), &count), -ENOSPC);
	config.variable = 8;
	cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8) - 1, &count),
		     -ENOSPC);
	cr_assert_arr_eq(msrs, before, sizeof(before));
	cr_assert_eq(count, (uint32_t)PATTERN);
	cr_assert_eq(impost_x86_setup_mtrrs(&config, msrs, IMPOST_X86_MTRRS(8), &count), 0);
}

/* Without a hole the default type is all there is. */
Test(mtrrs, no_hole)
{
	struct impost_x86_mtrr_config config = config_make(0, 0);

	config.variable = 0;
	check_hole(&config);
	config = config_make(4 * GIB, 4 * GIB);
	check_hole(&config);
}
