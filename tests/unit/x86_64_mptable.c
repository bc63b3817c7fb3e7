/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table: golden bytes, and a reader that finds and reads it as an operating system does. */
#include "../golden/golden.h"
#include "random.h"
#include "x86_64.h"

#include <impost/x86_64/layout.h>
#include <impost/x86_64/mptable.h>

#define AREA_ADDR  UINT64_C(0xf0000) /* where an operating system looks (MP specification, 4) */
#define AREA_BYTES 0x10000u
#define IDS	   255u /* 0 to 254 */

/* What the reader has found. Numbers as in the table; -1: nothing. */
struct seen {
	unsigned int cpus, boot_cpus, ioapics, lines, extints, nmis;
	uint8_t apic_ids[AREA_BYTES / 20];
	int ioapic_id;
	int pin[256], flags[256]; /* of ISA line N */
	size_t bytes;		  /* floating pointer and table */
};

static uint32_t get(const uint8_t *at, unsigned int bytes)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint32_t)at[i] << 8 * i;
	return value;
}

static uint8_t sum(const uint8_t *at, size_t bytes)
{
	uint8_t total = 0;

	for (size_t i = 0; i < bytes; i++)
		total = (uint8_t)(total + at[i]);
	return total;
}

/* Finds the floating pointer in AREA, of which there must be one. */
static const uint8_t *scan(const uint8_t *area)
{
	const uint8_t *found = NULL;

	for (size_t at = 0; at < AREA_BYTES; at += 16) {
		if (memcmp(area + at, "_MP_", 4) || area[at + 8] != 1 || sum(area + at, 16))
			continue;
		cr_assert_null(found, "two floating pointers");
		found = area + at;
	}
	cr_assert_not_null(found, "no floating pointer");
	return found;
}

static void read_cpu(struct seen *seen, const uint8_t *entry)
{
	cr_assert_eq(entry[3] & 1, 1, "APIC %u is not enabled", entry[1]);
	if (entry[3] & 2) {
		cr_assert_eq(seen->cpus, 0u, "the boot CPU is not the first");
		seen->boot_cpus++;
	}
	seen->apic_ids[seen->cpus++] = entry[1];
}

static void read_irq(struct seen *seen, const uint8_t *entry)
{
	cr_assert_eq(entry[1], 0, "not INT");
	cr_assert_eq(entry[4], 0, "not on the bus that there is");
	cr_assert_eq(entry[6], seen->ioapic_id, "not to the I/O APIC");
	cr_assert_eq(seen->pin[entry[5]], -1, "line %u is told of twice", entry[5]);
	seen->pin[entry[5]] = entry[7];
	seen->flags[entry[5]] = (int)get(entry + 2, 2);
	seen->lines++;
}

static void read_local_irq(struct seen *seen, const uint8_t *entry)
{
	cr_assert_eq(get(entry + 2, 2), 0u);
	if (entry[1] == 3) {
		cr_assert(entry[6] == seen->apic_ids[0] && entry[7] == 0);
		seen->extints++;
	} else {
		cr_assert(entry[1] == 1 && entry[6] == 0xff && entry[7] == 1);
		seen->nmis++;
	}
}

/* Reads one entry; returns its bytes. */
static size_t read_entry(struct seen *seen, const uint8_t *entry)
{
	switch (entry[0]) {
	case 0:
		read_cpu(seen, entry);
		return 20;
	case 1:
		cr_assert_arr_eq(entry + 1, "\0ISA   ", 7);
		return 8;
	case 2:
		cr_assert_eq(entry[3] & 1, 1, "the I/O APIC is not enabled");
		seen->ioapic_id = entry[1];
		seen->ioapics++;
		return 8;
	case 3:
		read_irq(seen, entry);
		return 8;
	case 4:
		read_local_irq(seen, entry);
		return 8;
	default:
		cr_assert_fail("an entry of type %u", entry[0]);
	}
	return 0;
}

/* Reads the table in AREA, the bytes from AREA_ADDR on. */
static void read_table(struct seen *seen, const uint8_t *area)
{
	const uint8_t *floating = scan(area), *table, *end, *at;
	unsigned int entries = 0, type = 0;

	memset(seen, 0, sizeof(*seen));
	memset(seen->pin, 0xff, sizeof(seen->pin));
	seen->ioapic_id = -1;
	cr_assert_eq(floating[11], 0, "a default configuration, and no table");
	table = area + (get(floating + 4, 4) - AREA_ADDR);
	cr_assert_arr_eq(table, "PCMP", 4);
	cr_assert(floating[9] == 4 && table[6] == 4, "not 1.4");
	end = table + get(table + 4, 2);
	cr_assert_eq(sum(table, (size_t)(end - table)), 0, "checksum");
	for (at = table + 44; at < end; entries++) {
		cr_assert_geq(at[0], type, "entries are not in order of type");
		type = at[0];
		at += read_entry(seen, at);
	}
	cr_assert_eq(at, end, "the last entry is cut");
	cr_assert_eq(entries, get(table + 34, 2));
	seen->bytes = (size_t)(end - floating);
}

/* Builds CONFIG somewhere in the area, and reads it. */
static void build_and_read(const struct impost_x86_mptable_config *config, uint64_t *state,
			   struct seen *seen)
{
	static uint8_t area[AREA_BYTES];
	size_t at = 16 * random_below(state, 0x800), bytes = 0, again = 0;

	memset(area, PATTERN, sizeof(area));
	cr_assert_eq(impost_x86_mptable_build(NULL, config, AREA_ADDR + at, NULL, 0, &bytes), 0);
	cr_assert_eq(impost_x86_mptable_build(NULL, config, AREA_ADDR + at, area + at, bytes,
					      &again),
		     0);
	cr_assert_eq(bytes, again);
	for (size_t i = 0; i < sizeof(area); i++)
		if (i < at || i >= at + bytes)
			cr_assert_eq(area[i], PATTERN, "byte 0x%zx is not the table's", i);
	read_table(seen, area);
	cr_assert_eq(seen->bytes, bytes);
	cr_assert_eq(seen->extints, 1u);
	cr_assert_eq(seen->nmis, 1u);
}

static const uint32_t two_ids[] = {0, 2};
static const struct impost_x86_mptable_override two_overrides[] = {
	{0, 2, 0, 0},
	{9, 9, IMPOST_X86_MPTABLE_LEVEL | IMPOST_X86_MPTABLE_ACTIVE_LOW, 0},
};

static struct impost_x86_mptable_config config_make(void)
{
	return (struct impost_x86_mptable_config){
		.size = sizeof(struct impost_x86_mptable_config),
		.cpus = 2,
		.apic_ids = two_ids,
		.cpu_signature = 0x000806f8,
		.cpu_features = 0x178bfbff,
		.has_ioapic = 1,
		.noverrides = 2,
		.overrides = two_overrides,
	};
}

Test(mptable, golden)
{
	struct impost_x86_mptable_config config = config_make();
	uint8_t buf[IMPOST_X86_MPTABLE_MAX];
	size_t bytes;

	cr_assert_eq(impost_x86_mptable_build(NULL, &config, IMPOST_X86_MPTABLE_ADDR, buf,
					      sizeof(buf), &bytes),
		     0);
	golden_compare("mptable.golden", buf, bytes);
}

/* Fills IDS with COUNT ids in random order, none twice. */
static void random_ids(uint32_t ids[IDS], uint64_t *state)
{
	for (uint32_t i = 0; i < IDS; i++)
		ids[i] = i;
	for (uint32_t i = IDS - 1; i > 0; i--) {
		uint32_t other = random_below(state, i + 1), id = ids[i];

		ids[i] = ids[other];
		ids[other] = id;
	}
}

Test(mptable, any_set_of_cpus_is_read_back)
{
	struct impost_x86_mptable_config config = config_make();
	uint64_t state = 1;
	uint32_t ids[IDS];
	struct seen seen;

	config.apic_ids = ids;
	for (unsigned int round = 0; round < 300; round++) {
		int lowest = 0;

		random_ids(ids, &state);
		config.cpus = 1 + random_below(&state, IDS - 1);
		build_and_read(&config, &state, &seen);
		cr_assert_eq(seen.cpus, config.cpus);
		cr_assert_eq(seen.boot_cpus, 1u);
		cr_assert_eq(seen.ioapics, 1u);
		for (uint32_t i = 0; i < config.cpus; i++) {
			cr_assert_eq(seen.apic_ids[i], ids[i]);
			cr_assert_neq(seen.ioapic_id, (int)ids[i], "two APICs of one id");
		}
		for (uint32_t i = 0; i < config.cpus; i++)
			if ((int)ids[i] == lowest) {
				lowest++;
				i = UINT32_MAX; /* from the first again */
			}
		cr_assert_eq(seen.ioapic_id, lowest);
		config.ioapic_id = ids[config.cpus]; /* one that is free */
		build_and_read(&config, &state, &seen);
		cr_assert_eq(seen.ioapic_id, config.ioapic_id ? (int)config.ioapic_id : lowest);
		config.ioapic_id = 0;
	}
}

/* Where line IRQ goes: to the pin of its override, or its own if that is free; -1: nowhere. */
static int model_pin(const struct impost_x86_mptable_config *config, uint32_t irq, int *ret_flags)
{
	int pin = (int)irq;

	*ret_flags = 0;
	for (uint32_t i = 0; i < config->noverrides; i++) {
		if (config->overrides[i].isa_irq == irq) {
			*ret_flags = (int)config->overrides[i].flags;
			return (int)config->overrides[i].pin;
		}
		if (config->overrides[i].pin == irq)
			pin = -1;
	}
	return pin;
}

/* COUNT overrides of lines and to pins that are all different. */
static void random_overrides(struct impost_x86_mptable_override *overrides, uint32_t count,
			     uint32_t pins, uint64_t *state)
{
	static const uint32_t flags[] = {0, 1, 3, 4, 0xc, 5, 7, 0xd, 0xf};
	uint32_t ids[IDS];

	for (uint32_t i = 0; i < count; i++)
		overrides[i].flags = flags[random_below(state, sizeof(flags) / sizeof(flags[0]))];
	random_ids(ids, state);
	for (uint32_t i = 0, used = 0; used < count; i++)
		if (ids[i] < 16)
			overrides[used++].isa_irq = ids[i];
	random_ids(ids, state);
	for (uint32_t i = 0, used = 0; used < count; i++)
		if (ids[i] < pins)
			overrides[used++].pin = ids[i];
}

Test(mptable, lines_go_where_the_overrides_say)
{
	struct impost_x86_mptable_override overrides[16] = {0};
	struct impost_x86_mptable_config config = config_make();
	uint64_t state = 2;
	struct seen seen;

	config.overrides = overrides;
	for (unsigned int round = 0; round < 300; round++) {
		unsigned int lines = 0;

		config.ioapic_pins = 16 + random_below(&state, 225);
		config.noverrides = random_below(&state, 17);
		random_overrides(overrides, config.noverrides, config.ioapic_pins, &state);
		build_and_read(&config, &state, &seen);
		for (uint32_t irq = 0; irq < 16; irq++) {
			int flags, pin = model_pin(&config, irq, &flags);

			cr_assert_eq(seen.pin[irq], pin, "line %u", irq);
			cr_assert_eq(seen.flags[irq], flags);
			lines += pin >= 0;
		}
		cr_assert_eq(seen.lines, lines);
	}
}

Test(mptable, every_id_but_the_last_one_without_an_io_apic)
{
	struct impost_x86_mptable_config config = config_make();
	struct ram ram = ram_make(0);
	uint64_t state = 3;
	uint32_t ids[IDS];
	struct seen seen;
	size_t bytes = 1;

	random_ids(ids, &state);
	config.apic_ids = ids;
	config.cpus = IDS;
	assert_refused(&ram, impost_x86_mptable_build(ram.ctx, &config, 0xf0000, NULL, 0, &bytes),
		       EINVAL, "255 CPUs leave no id for the I/O APIC");
	config.has_ioapic = 0;
	assert_refused(&ram, impost_x86_mptable_build(ram.ctx, &config, 0xf0000, NULL, 0, &bytes),
		       EINVAL, "overrides, but no I/O APIC");
	cr_assert_eq(bytes, 1u);
	config.noverrides = 0;
	build_and_read(&config, &state, &seen);
	cr_assert_eq(seen.cpus, IDS);
	cr_assert_eq(seen.ioapics, 0u);
	cr_assert_eq(seen.lines, 0u);
	cr_assert_leq(seen.bytes, (size_t)IMPOST_X86_MPTABLE_MAX);
	ram_free(&ram);
}

/* A host that was compiled with a later release has a longer struct; what it asks for there is not
 * passed over. */
Test(mptable, what_a_later_release_added)
{
	struct {
		struct impost_x86_mptable_config config;
		uint64_t added;
	} later = {config_make(), UINT64_MAX};
	struct ram ram = ram_make(0);
	size_t bytes = 0;
	uint64_t state = 4;
	struct seen seen;

	later.config.size = sizeof(later);
	assert_refused(&ram,
		       impost_x86_mptable_build(ram.ctx, &later.config, 0xf4000, NULL, 0, &bytes),
		       E2BIG, "impost_x86_mptable_config asks for something");
	ram_free(&ram);
	later.added = 0;
	build_and_read(&later.config, &state, &seen);
	cr_assert_eq(seen.cpus, 2u);
}

/* --- refusals --- */

static const uint32_t doubled_ids[] = {3, 1, 3};
static const uint32_t large_ids[] = {0, 255};
static const struct impost_x86_mptable_override line_16[] = {{16, 0, 0, 0}};
static const struct impost_x86_mptable_override pin_24[] = {{0, 24, 0, 0}};
static const struct impost_x86_mptable_override flags_2[] = {{0, 2, 2, 0}};
static const struct impost_x86_mptable_override flags_8[] = {{0, 2, 8, 0}};
static const struct impost_x86_mptable_override flags_16[] = {{0, 2, 16, 0}};
static const struct impost_x86_mptable_override reserved_1[] = {{0, 2, 0, 1}};
static const struct impost_x86_mptable_override line_twice[] = {{5, 2, 0, 0}, {5, 3, 0, 0}};
static const struct impost_x86_mptable_override pin_twice[] = {{5, 2, 0, 0}, {6, 2, 0, 0}};

/* What is wrong in CONFIG, by changing one that is right. */
#define WRONG(words, ...)                                                               \
	do {                                                                            \
		struct impost_x86_mptable_config config = good;                         \
		__VA_ARGS__;                                                            \
		assert_refused(&ram,                                                    \
			       impost_x86_mptable_build(ram.ctx, &config, 0xf0000, buf, \
							sizeof(buf), &bytes),           \
			       EINVAL, words);                                          \
	} while (0)

Test(mptable, wrong_descriptions_are_refused_by_name)
{
	struct impost_x86_mptable_config good = config_make();
	struct ram ram = ram_make(0);
	uint8_t buf[512] = {PATTERN};
	size_t bytes = 1;

	WRONG("struct impost_x86_mptable_config has size 8", config.size = 8);
	WRONG("has size 4294967295", config.size = UINT32_MAX);
	WRONG("I/O APIC id 3 is a CPU's", config.apic_ids = doubled_ids, config.ioapic_id = 3);
	WRONG("I/O APIC id 255 is above 254", config.ioapic_id = 255);
	WRONG("mptable_override: reserved is 1", config.overrides = reserved_1,
	      config.noverrides = 1);
	WRONG("there is no CPU", config.cpus = 0);
	WRONG("2 CPUs, but the pointer is NULL", config.apic_ids = NULL);
	WRONG("CPU 2 has APIC id 3, as one", config.apic_ids = doubled_ids, config.cpus = 3);
	WRONG("APIC id 255, the table can name ids up to 254: use ACPI",
	      config.apic_ids = large_ids);
	WRONG("local APICs at 0x123", config.lapic_gpa = 0x123);
	WRONG("I/O APIC at 0xfec00010", config.ioapic_gpa = 0xfec00010);
	WRONG("15 pins", config.ioapic_pins = 15);
	WRONG("241 pins", config.ioapic_pins = 241);
	WRONG("2 overrides, but the pointer is NULL", config.overrides = NULL);
	WRONG("ISA IRQ 16 to pin 0", config.overrides = line_16, config.noverrides = 1);
	WRONG("ISA IRQ 0 to pin 24", config.overrides = pin_24, config.noverrides = 1);
	WRONG("flags 0x2", config.overrides = flags_2, config.noverrides = 1);
	WRONG("flags 0x8", config.overrides = flags_8, config.noverrides = 1);
	WRONG("flags 0x10", config.overrides = flags_16, config.noverrides = 1);
	WRONG("two overrides of ISA IRQ 5", config.overrides = line_twice);
	WRONG("IRQs 5 and 6 on pin 2", config.overrides = pin_twice);
	WRONG("oem has 9 characters, it may have 8", config.oem = "123456789");
	WRONG("product has 13 characters, it may have 12", config.product = "1234567890123");
	WRONG("oem: character 1 is 0x0a", config.oem = "a\n");
	WRONG("product: character 0 is 0xc3", config.product = "\xc3\xa9");
	assert_refused(&ram, impost_x86_mptable_build(ram.ctx, NULL, 0xf0000, buf, 512, &bytes),
		       EINVAL, "the pointer to it is NULL");
	cr_assert_eq(buf[0], PATTERN);
	cr_assert_eq(bytes, 1u);
	ram_free(&ram);
}

Test(mptable, wrong_places_are_refused)
{
	static const uint64_t wrong[] = {8, 0xf0001, UINT64_C(0xffffff10), UINT64_C(0x100000000),
					 UINT64_MAX - 15};
	struct impost_x86_mptable_config config = config_make();
	uint8_t buf[253];
	size_t bytes = 1;
	struct ram ram = ram_make(0);

	memset(buf, PATTERN, sizeof(buf));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(&ram,
			       impost_x86_mptable_build(ram.ctx, &config, wrong[i], buf,
							sizeof(buf), &bytes),
			       EINVAL, "below 4 GiB");
	assert_refused(&ram, impost_x86_mptable_build(ram.ctx, &config, 0xf0000, buf, 251, &bytes),
		       ENOSPC, "needs 252 bytes, there is room for 251");
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], PATTERN);
	cr_assert_eq(bytes, 1u);
	cr_assert_eq(impost_x86_mptable_build(ram.ctx, &config, UINT64_C(0xffffff00), buf,
					      sizeof(buf), &bytes),
		     0, "%s", impost_error(ram.ctx));
	cr_assert_eq(buf[252], PATTERN);
	ram_free(&ram);
}
