/* SPDX-License-Identifier: Apache-2.0 */
/* RAM around the hole below 4 GiB, and its e820 map. */
#include <inttypes.h>
#include <sys/resource.h>

#include "x86_64.h"

/* Asserts that region INDEX is GPA and BYTES; BYTES 0: that there is none. */
static void assert_region(struct ram *ram, uint32_t index, uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {.size = sizeof(region)};
	int err = impost_memory_get(ram->memory, index, &region);

	cr_assert_eq(err, bytes ? 0 : -ENOENT);
	if (bytes) {
		cr_assert_eq(region.gpa, gpa);
		cr_assert_eq(region.bytes, bytes);
		cr_assert_eq(region.flags & ~IMPOST_REGION_NORESERVE, 0u);
	}
}

Test(layout, ram_below_the_hole)
{
	struct ram ram = ram_make(0);

	cr_assert_eq(impost_x86_add_ram(ram.memory, 64 * MIB), 0);
	assert_region(&ram, 0, 0, 64 * MIB);
	assert_region(&ram, 1, 0, 0);
	ram_free(&ram);
}

/* The parts make up the whole, and none is in the hole. */
Test(layout, split_ram_keeps_every_byte)
{
	static const uint64_t starts[] = {4096, MIB, 0xb0000000, 0xc0000000, 4 * GIB};
	static const uint64_t holes[] = {0, 4096, GIB, UINT64_C(1) << 40};

	for (uint64_t bytes = 4096; bytes <= UINT64_C(1) << 50; bytes = bytes * 3 / 4096 * 4096) {
		for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]) * 4; i++) {
			uint64_t start = starts[i / 4], end = start + holes[i % 4];
			struct impost_x86_range part[2];

			cr_assert_eq(impost_x86_split_ram(bytes, start, end, part), 0);
			cr_assert_eq(part[0].gpa, 0u);
			cr_assert_gt(part[0].bytes, 0u);
			cr_assert_leq(part[0].bytes, start);
			cr_assert_eq(part[1].gpa, end);
			cr_assert_eq(part[0].bytes + part[1].bytes, bytes);
			cr_assert(part[1].bytes == 0 || part[0].bytes == start);
		}
	}
}

Test(layout, splits_that_cannot_be)
{
	static const uint64_t wrong[][3] = {
		{0, MIB, MIB},
		{4095, MIB, MIB},
		{4096, 0, MIB},
		{4096, MIB + 1, 2 * MIB},
		{4096, MIB, MIB + 1},
		{4096, 2 * MIB, MIB},
		{2 * MIB, MIB, UINT64_MAX - MIB + 1},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct impost_x86_range part[2] = {{1, 2}, {3, 4}};

		cr_assert_eq(impost_x86_split_ram(wrong[i][0], wrong[i][1], wrong[i][2], part),
			     -EINVAL, "%zu", i);
		cr_assert_eq(part[0].gpa, 1u);
		cr_assert_eq(part[1].bytes, 4u);
	}
}

/* Bytes of this process that are in memory (proc(5), statm). */
static uint64_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages;

	cr_assert_not_null(file);
	cr_assert_eq(fscanf(file, "%*u %lu", &pages), 1);
	fclose(file);
	return pages * UINT64_C(4096);
}

/* From 16 MiB to 1 TiB: nothing is touched before the guest does. */
Test(layout, ram_of_any_size_costs_nothing)
{
	for (uint64_t bytes = 16 * MIB; bytes <= UINT64_C(1) << 40; bytes *= 4) {
		uint64_t before = resident(), end;
		struct ram ram = ram_make(0);
		struct impost_x86_e820 map[4];
		uint32_t count;

		cr_assert_eq(impost_x86_add_ram(ram.memory, bytes), 0, "%s", impost_error(ram.ctx));
		cr_assert_eq(impost_x86_e820(ram.memory, NULL, map, 4, &count), 0);
		end = bytes <= IMPOST_X86_HOLE_START ? bytes
						     : bytes - IMPOST_X86_HOLE_START + 4 * GIB;
		cr_assert_eq(map[count - 1].gpa + map[count - 1].bytes, end);
		cr_assert_eq(impost_memory_fill(ram.memory, end - 1, 1, 1), 0);
		cr_assert_lt(resident(), before + 4 * MIB, "%lu MiB of RAM",
			     (unsigned long)(bytes >> 20));
		ram_free(&ram);
	}
}

Test(layout, ram_above_the_hole)
{
	const uint64_t hole = IMPOST_X86_HOLE_START;

	for (uint64_t more = 0; more <= 4096; more += 4096) {
		struct ram ram = ram_make(0);

		cr_assert_eq(impost_x86_add_ram(ram.memory, hole + more), 0, "%s",
			     impost_error(ram.ctx));
		assert_region(&ram, 0, 0, hole);
		assert_region(&ram, 1, 4 * GIB, more);
		ram_free(&ram);
	}
}

Test(layout, sizes_that_cannot_be)
{
	static const uint64_t sizes[] = {0, 3, 4095, 4097, UINT64_MAX};
	struct ram ram = ram_make(0);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_refused(&ram, impost_x86_add_ram(ram.memory, sizes[i]), EINVAL,
			       "multiple of 4096");
	assert_region(&ram, 0, 0, 0);
	ram_free(&ram);
}

Test(layout, more_than_the_host_leaves_nothing)
{
	struct ram ram = ram_make(0);

	assert_refused(&ram, impost_x86_add_ram(ram.memory, UINT64_MAX & ~UINT64_C(4095)), EINVAL,
		       "would end above 2^64");
	cr_assert_eq(impost_x86_add_ram(ram.memory, UINT64_C(1) << 47), -ENOMEM, "%s",
		     impost_error(ram.ctx));
	assert_region(&ram, 0, 0, 0);
	ram_free(&ram);
}

/* A figure of /proc/meminfo, in bytes (proc(5)). */
static uint64_t host_bytes(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long kib = 0;
	char line[128], key[64];

	cr_assert_not_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63[^:]: %lu", key, &kib) == 2 && strcmp(key, name) == 0)
			break;
	fclose(file);
	return kib * UINT64_C(1024);
}

/* The most that this process ever had in memory. */
static uint64_t most_resident(void)
{
	struct rusage usage;

	cr_assert_eq(getrusage(RUSAGE_SELF, &usage), 0);
	return (uint64_t)usage.ru_maxrss * 1024;
}

static void set_memory(struct ram *ram, const char *key, const char *value)
{
	cr_assert_eq(impost_context_set(ram->ctx, "memory", key, value), 0, "%s",
		     impost_error(ram->ctx));
}

/* RAM below the hole would be there for the asking: it is not, for all would not. */
Test(layout, more_than_the_host_has_is_refused_before_a_page_is_touched)
{
	static const char *const kinds[] = {"anonymous", "memfd"};
	uint64_t bytes = host_bytes("MemTotal") + host_bytes("SwapTotal") + MIB;
	char all[64];

	snprintf(all, sizeof(all), "%" PRIu64 " MiB of guest memory: more than the host gives",
		 bytes / MIB);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct ram ram = ram_make(0);
		uint64_t before = most_resident();

		set_memory(&ram, "backing", kinds[i]);
		set_memory(&ram, "prefault", "yes");
		assert_refused(&ram, impost_x86_add_ram(ram.memory, bytes), ENOMEM, all);
		assert_region(&ram, 0, 0, 0);
		cr_assert_lt(most_resident(), before + 64 * MIB, "%s", kinds[i]);
		ram_free(&ram);
	}
}

/* Both parts, whatever order they are made in. */
Test(layout, prefaulted_ram_is_all_there)
{
	const uint64_t bytes = IMPOST_X86_HOLE_START + 2 * MIB;
	uint64_t before = resident();
	struct ram ram = ram_make(0);

	if (host_bytes("MemAvailable") < 2 * bytes)
		cr_skip_test("the host has not the memory for a guest with RAM above 4 GiB");
	set_memory(&ram, "prefault", "yes");
	cr_assert_eq(impost_x86_add_ram(ram.memory, bytes), 0, "%s", impost_error(ram.ctx));
	cr_assert_geq(resident(), before + bytes);
	ram_free(&ram);
}

Test(layout, overlap_leaves_what_was)
{
	struct ram ram = ram_make(0);

	add_region(&ram, 4 * GIB, 2 * MIB, 0);
	cr_assert_lt(impost_x86_add_ram(ram.memory, IMPOST_X86_HOLE_START + MIB), 0);
	assert_region(&ram, 0, 4 * GIB, 2 * MIB);
	assert_region(&ram, 1, 0, 0);
	ram_free(&ram);
}

static void assert_entry(const struct impost_x86_e820 *entry, uint64_t start, uint64_t end,
			 uint32_t type)
{
	cr_assert_eq(entry->gpa, start);
	cr_assert_eq(entry->bytes, end - start);
	cr_assert_eq(entry->type, type);
}

/* RAM in two adjoining regions, ROM, and RAM above 4 GiB. */
static struct ram ram_in_pieces(void)
{
	struct ram ram = ram_make(16 * MIB);

	add_region(&ram, 16 * MIB, 16 * MIB, 0);
	add_region(&ram, 32 * MIB, MIB, IMPOST_REGION_READONLY);
	add_region(&ram, 4 * GIB, MIB, 0);
	return ram;
}

Test(e820, golden)
{
	struct ram ram = ram_in_pieces();
	struct impost_x86_e820 map[8];
	uint32_t count;

	cr_assert_eq(impost_x86_e820(ram.memory, NULL, map, 8, &count), 0);
	cr_assert_eq(count, 4u);
	assert_entry(&map[0], 0, IMPOST_X86_EBDA_ADDR, IMPOST_X86_E820_RAM);
	assert_entry(&map[1], IMPOST_X86_EBDA_ADDR, MIB, IMPOST_X86_E820_RESERVED);
	assert_entry(&map[2], MIB, 32 * MIB, IMPOST_X86_E820_RAM);
	assert_entry(&map[3], 4 * GIB, 4 * GIB + MIB, IMPOST_X86_E820_RAM);
	ram_free(&ram);
}

Test(e820, every_capacity_below_is_refused_untouched)
{
	struct ram ram = ram_in_pieces();

	for (uint32_t capacity = 0; capacity < 4; capacity++) {
		struct impost_x86_e820 map[4] = {{.gpa = PATTERN}};
		uint32_t count = PATTERN;

		assert_refused(&ram, impost_x86_e820(ram.memory, NULL, map, capacity, &count),
			       ENOSPC, "needs 4 entries");
		cr_assert_eq(map[0].gpa, (uint64_t)PATTERN);
		cr_assert_eq(count, (uint32_t)PATTERN);
	}
	ram_free(&ram);
}

Test(e820, little_memory)
{
	struct ram ram = ram_make(4096);
	struct impost_x86_e820 map[2];
	uint32_t count;

	cr_assert_eq(impost_x86_e820(ram.memory, NULL, map, 2, &count), 0);
	cr_assert_eq(count, 2u);
	assert_entry(&map[0], 0, 4096, IMPOST_X86_E820_RAM);
	assert_entry(&map[1], IMPOST_X86_EBDA_ADDR, MIB, IMPOST_X86_E820_RESERVED);
	ram_free(&ram);
}

/* Model: a page is RAM in the map if and only if it is in a writable region and not reserved. */
Test(e820, model_of_scattered_regions)
{
	struct ram ram = ram_make(0);
	struct impost_x86_e820 map[IMPOST_X86_E820_MAX];
	uint8_t model[512] = {0};
	uint32_t count, seed = 1;

	for (uint32_t page = 0; page < 512; page++) {
		seed = seed * 1103515245 + 12345;
		if (seed >> 16 & 1)
			continue;
		model[page] = !(seed >> 17 & 1);
		add_region(&ram, (uint64_t)page * 4096, 4096,
			   model[page] ? 0 : IMPOST_REGION_READONLY);
	}
	cr_assert_eq(impost_x86_e820(ram.memory, NULL, map, IMPOST_X86_E820_MAX, &count), 0, "%s",
		     impost_error(ram.ctx));
	for (uint64_t at = 0; at < UINT64_C(512) * 4096; at += 1024) {
		uint32_t type = 0, want = model[at / 4096] ? IMPOST_X86_E820_RAM : 0;

		for (uint32_t i = 0; i < count; i++) {
			cr_assert(i == 0 || map[i].gpa >= map[i - 1].gpa + map[i - 1].bytes);
			if (at >= map[i].gpa && at - map[i].gpa < map[i].bytes)
				type = map[i].type;
		}
		if (at >= IMPOST_X86_EBDA_ADDR && at < MIB)
			want = IMPOST_X86_E820_RESERVED;
		cr_assert_eq(type, want, "at 0x%lx", (unsigned long)at);
	}
	ram_free(&ram);
}
