/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: golden bytes, what is refused, and random machines read by a walker. */
#include "x86_64_acpi.h"

#include "../golden/golden.h"

static struct impost_context *open_context(void)
{
	struct impost_context *ctx;

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	return ctx;
}

/* --- golden --- */

/* The sum of BYTES bytes is 0; then makes the checksum at AT 0, as golden files have it. */
static void take_sum(uint8_t *bytes, size_t count, size_t at)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum = (uint8_t)(sum + bytes[i]);
	cr_assert_eq(sum, 0, "the checksum at %zu is wrong", at);
	bytes[at] = 0;
}

static void compare_table(struct built *built, uint64_t gpa, const char *name)
{
	uint32_t length = table_length(built, gpa);
	uint8_t *table = built->bytes + (gpa - built->gpa);

	take_sum(table, length, 9);
	golden_compare(name, table, length);
}

Test(acpi, golden_reduced)
{
	struct impost_context *ctx = open_context();
	struct machine machine;
	struct built built;
	uint8_t rsdp[36];

	machine_make(&machine);
	built = build(ctx, &machine.config, TABLES_GPA);
	memcpy(rsdp, built.result.rsdp, sizeof(rsdp));
	take_sum(rsdp, 36, 32);
	take_sum(rsdp, 20, 8);
	golden_compare("acpi-rsdp.golden", rsdp, sizeof(rsdp));
	compare_table(&built, built.result.xsdt_gpa, "acpi-xsdt.golden");
	compare_table(&built, built.result.fadt_gpa, "acpi-fadt-reduced.golden");
	compare_table(&built, built.result.dsdt_gpa, "acpi-dsdt.golden");
	cr_assert_eq(built.result.facs_gpa, 0u);
	free(built.bytes);
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(acpi, golden_full)
{
	struct impost_context *ctx = open_context();
	struct machine machine;
	struct built built;

	machine_make_full(&machine);
	machine_add_all(&machine);
	machine.config.ndevices = 1;
	built = build(ctx, &machine.config, TABLES_GPA);
	compare_table(&built, built.result.fadt_gpa, "acpi-fadt.golden");
	compare_table(&built, built.result.dsdt_gpa, "acpi-dsdt.golden");
	compare_table(&built, built.result.madt_gpa, "acpi-madt.golden");
	compare_table(&built, find_table(&built, "MCFG"), "acpi-mcfg.golden");
	compare_table(&built, find_table(&built, "SRAT"), "acpi-srat.golden");
	compare_table(&built, find_table(&built, "SLIT"), "acpi-slit.golden");
	golden_compare("acpi-facs.golden", table_at(&built, built.result.facs_gpa, 64), 64);
	free(built.bytes);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* Above 4 GiB the 64-bit pointers alone can tell where DSDT and FACS are. */
Test(acpi, tables_above_4_gib)
{
	struct impost_context *ctx = open_context();
	struct machine machine;
	struct built built;
	const uint8_t *fadt;

	machine_make_full(&machine);
	built = build(ctx, &machine.config, 4 * GIB);
	fadt = table_at(&built, built.result.fadt_gpa, 276);
	cr_assert_eq(number_at(fadt + 36, 4), 0u);
	cr_assert_eq(number_at(fadt + 40, 4), 0u);
	cr_assert_eq(number_at(fadt + 132, 8), built.result.facs_gpa);
	cr_assert_eq(number_at(fadt + 140, 8), built.result.dsdt_gpa);
	free(built.bytes);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* Asserts that CONFIG is refused, for a struct NAME that asks for what is not known. */
static void assert_unknown(struct impost_context *ctx, const struct impost_x86_acpi_config *config,
			   const char *name)
{
	struct impost_x86_acpi_result result = {.size = sizeof(result)};

	cr_assert_eq(impost_x86_acpi_build(ctx, config, RSDP_GPA, TABLES_GPA, NULL, 0, &result),
		     -E2BIG, "%s", name);
	cr_assert(strstr(impost_error(ctx), name) && strstr(impost_error(ctx), "does not know"),
		  "\"%s\"", impost_error(ctx));
	cr_assert_eq(result.bytes, 0u);
}

/* A host's struct that is older has less of it; one that is newer has more, and its devices are
 * further apart. What it asks for there is not passed over. */
Test(acpi, structs_of_another_size)
{
	struct impost_context *ctx = open_context();
	struct {
		struct impost_x86_acpi_device device;
		uint64_t newer;
	} devices[2];
	struct {
		struct impost_x86_acpi_config config;
		uint64_t newer;
	} longer;
	struct built want, got;
	struct machine machine;

	machine_make(&machine);
	machine.config.ndevices = 2;
	want = build(ctx, &machine.config, TABLES_GPA);
	for (int i = 0; i < 2; i++) {
		devices[i].device = machine.device[i];
		devices[i].device.size = sizeof(devices[i]);
		devices[i].newer = 0;
	}
	longer.config = machine.config;
	longer.config.size = sizeof(longer);
	longer.config.devices = &devices[0].device;
	longer.newer = 1;
	assert_unknown(ctx, &longer.config, "impost_x86_acpi_config");
	longer.newer = 0;
	devices[1].newer = UINT64_C(1) << 63;
	assert_unknown(ctx, &longer.config, "impost_x86_acpi_device");
	devices[1].newer = 0;
	got = build(ctx, &longer.config, TABLES_GPA);
	cr_assert_eq(got.result.bytes, want.result.bytes);
	cr_assert_eq(memcmp(got.bytes, want.bytes, want.result.bytes), 0);
	free(got.bytes);
	free(want.bytes);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* So has the result. */
Test(acpi, results_of_another_size)
{
	struct impost_context *ctx = open_context();
	struct impost_x86_acpi_result result = {.size = sizeof(result)};
	struct {
		struct impost_x86_acpi_result result;
		uint64_t newer;
	} longer = {{.size = sizeof(longer)}, UINT64_MAX};
	static const uint32_t wrong[] = {0, sizeof(result) - 1, UINT32_MAX};
	struct machine machine;

	machine_make(&machine);
	cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, NULL, 0,
					   &result),
		     0, "%s", impost_error(ctx));
	cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, NULL, 0,
					   &longer.result),
		     0, "%s", impost_error(ctx));
	cr_assert_eq(longer.result.size, sizeof(longer));
	cr_assert_eq(longer.newer, 0);
	longer.result.size = sizeof(result);
	cr_assert_eq(memcmp(&longer.result, &result, sizeof(result)), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		result.size = wrong[i];
		result.bytes = 0;
		cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, NULL,
						   0, &result),
			     -EINVAL);
		cr_assert(strstr(impost_error(ctx), "impost_x86_acpi_result has size"), "%s",
			  impost_error(ctx));
		cr_assert_eq(result.bytes, 0u);
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* --- into memory --- */

static struct impost_memory *memory_make(struct impost_context *ctx, uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {.size = sizeof(region), .gpa = gpa, .bytes = bytes};
	struct impost_memory *memory;

	cr_assert_eq(impost_memory_create(ctx, &memory), 0);
	cr_assert_eq(impost_memory_add(memory, &region), 0);
	return memory;
}

Test(acpi, writes_memory)
{
	struct impost_context *ctx = open_context();
	struct impost_memory *memory = memory_make(ctx, 0, 0x100000);
	struct impost_x86_acpi_result result = {.size = sizeof(result)};
	struct machine machine;
	struct built built;
	uint8_t *bytes, rsdp[36];

	machine_make(&machine);
	built = build(ctx, &machine.config, TABLES_GPA);
	bytes = malloc(built.result.bytes);
	cr_assert_eq(impost_x86_write_acpi(memory, &machine.config, RSDP_GPA, TABLES_GPA, &result),
		     0);
	cr_assert_eq(memcmp(&result, &built.result, sizeof(result)), 0);
	cr_assert_eq(impost_memory_read(memory, TABLES_GPA, bytes, result.bytes), 0);
	cr_assert_eq(memcmp(bytes, built.bytes, result.bytes), 0);
	cr_assert_eq(impost_memory_read(memory, RSDP_GPA, rsdp, sizeof(rsdp)), 0);
	cr_assert_eq(memcmp(rsdp, result.rsdp, sizeof(rsdp)), 0);
	/* One of both has no memory: nothing is written. */
	cr_assert_eq(impost_memory_fill(memory, 0, 0xa5, 0x100000), 0);
	cr_assert_eq(impost_x86_write_acpi(memory, &machine.config, RSDP_GPA, 0x100000, NULL),
		     -EFAULT);
	cr_assert_eq(impost_x86_write_acpi(memory, &machine.config, 0x100000, TABLES_GPA, NULL),
		     -EFAULT);
	for (uint64_t gpa = 0; gpa < 0x100000; gpa += result.bytes / 2) {
		cr_assert_eq(impost_memory_read(memory, gpa, rsdp, 1), 0);
		cr_assert_eq(rsdp[0], 0xa5);
	}
	free(bytes);
	free(built.bytes);
	impost_memory_destroy(memory);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* --- what is refused --- */

#define WRONG(name, statement)                                                        \
	static void spoil_##name(struct machine *m, struct impost_x86_acpi_config *c) \
	{                                                                             \
		(void)m, (void)c;                                                     \
		statement;                                                            \
	}
#include "x86_64_acpi_wrong.def"
#undef WRONG

static const struct {
	void (*spoil)(struct machine *machine, struct impost_x86_acpi_config *config);
	int full;
	const char *words[2]; /* both sides, where there are two */
} wrongs[] = {
#define CASE(name, full, ...) {spoil_##name, full, {__VA_ARGS__}},
#include "x86_64_acpi_wrong.def"
#undef CASE
};

Test(acpi, refuses)
{
	struct impost_context *ctx = open_context();
	uint8_t buf[4096];

	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct impost_x86_acpi_result result;
		struct machine machine;
		int err;

		if (wrongs[i].full)
			machine_make_full(&machine);
		else
			machine_make(&machine);
		machine_add_all(&machine);
		memset(buf, 0xa5, sizeof(buf));
		memset(&result, 0x5a, sizeof(result));
		result.size = sizeof(result);
		cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, NULL,
						   0, NULL),
			     0, "%s", impost_error(ctx));
		wrongs[i].spoil(&machine, &machine.config);
		err = impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, buf,
					    sizeof(buf), &result);
		cr_assert_eq(err, -EINVAL, "%s: %d", wrongs[i].words[0], err);
		for (int k = 0; k < 2 && wrongs[i].words[k]; k++)
			cr_assert(strstr(impost_error(ctx), wrongs[i].words[k]),
				  "\"%s\" lacks \"%s\"", impost_error(ctx), wrongs[i].words[k]);
		cr_assert_eq(buf[0], 0xa5);
		cr_assert_eq(result.bytes, UINT64_C(0x5a5a5a5a5a5a5a5a));
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

Test(acpi, refuses_places)
{
	static const struct {
		uint64_t rsdp, tables;
		const char *words;
	} bad[] = {
		{0xe0008, 0x100000, "multiples of 16 and 64"},
		{0xe0000, 0x100010, "multiples of 16 and 64"},
		{0xe0000, 0xe0000, "lies in the tables"},
		{0xe0040, 0xe0000, "lies in the tables"},
		{0xe0000, UINT64_MAX - 63, "wraps around"},
		{UINT64_MAX - 15, 0xe0000, "wraps around"},
	};
	struct impost_context *ctx = open_context();
	struct impost_x86_acpi_result result = {.size = sizeof(result)};
	struct machine machine;
	uint8_t buf[4096];

	machine_make(&machine);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, bad[i].rsdp, bad[i].tables,
						   buf, sizeof(buf), NULL),
			     -EINVAL);
		cr_assert(strstr(impost_error(ctx), bad[i].words), "%s", impost_error(ctx));
	}
	cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, NULL, 0,
					   &result),
		     0);
	memset(buf, 0xa5, sizeof(buf));
	cr_assert_eq(impost_x86_acpi_build(ctx, &machine.config, RSDP_GPA, TABLES_GPA, buf,
					   result.bytes - 1, NULL),
		     -ENOSPC);
	cr_assert(strstr(impost_error(ctx), "there are"), "%s", impost_error(ctx));
	cr_assert_eq(buf[0], 0xa5);
	cr_assert_eq(impost_x86_acpi_build(ctx, NULL, RSDP_GPA, TABLES_GPA, NULL, 0, NULL),
		     -EINVAL);
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* --- random machines, read by a walker --- */

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % below;
}

/* What the walker found in the DSDT. */
struct seen {
	uint32_t cpus, devices, templates;
};

/* The bytes of a PkgLength (20.2.4) and what it says. */
static uint32_t pkg_length(const uint8_t *at, size_t *ret_length)
{
	uint32_t more = at[0] >> 6;

	*ret_length = at[0] & (more ? 0xf : 0x3f);
	for (uint32_t i = 1; i <= more; i++)
		*ret_length |= (size_t)at[i] << (8 * i - 4);
	return more + 1;
}

/* Walks the descriptors of a template to its end tag, which must be the last two bytes (6.4). */
static void walk_template(const uint8_t *at, size_t bytes)
{
	const uint8_t *end = at + bytes;
	uint8_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + at[i]);
	cr_assert_eq(sum, 0, "a resource template's sum");
	while (at[0] != 0x79) {
		at += at[0] & 0x80 ? 3 + number_at(at + 1, 2) : 1u + (at[0] & 7);
		cr_assert_lt((const void *)at, (const void *)end);
	}
	cr_assert_eq((const void *)(at + 2), (const void *)end);
}

/* Walks one data object (20.2.3); returns its bytes. */
static size_t walk_data(const uint8_t *at, struct seen *seen)
{
	size_t length, number;
	uint32_t bytes;

	switch (at[0]) {
	case 0x00:
	case 0x01:
		return 1;
	case 0x0a:
		return 2;
	case 0x0b:
		return 3;
	case 0x0c:
		return 5;
	case 0x0d:
		return 1 + strlen((const char *)at + 1) + 1;
	case 0x12:
		bytes = pkg_length(at + 1, &length);
		number = 0;
		for (size_t i = bytes + 1; i < length; number++)
			i += walk_data(at + 1 + i, seen);
		cr_assert_eq(number, at[1 + bytes]);
		return 1 + length;
	case 0x11:
		bytes = pkg_length(at + 1, &length);
		number = at[1 + bytes] == 0x0a ? at[2 + bytes] : number_at(at + 2 + bytes, 2);
		bytes += at[1 + bytes] == 0x0a ? 2 : 3;
		cr_assert_eq(bytes + number, length, "a buffer's size and its length");
		walk_template(at + 1 + bytes, number);
		seen->templates++;
		return 1 + length;
	}
	cr_assert_fail("opcode 0x%02x where data is wanted", at[0]);
	return 1;
}

/* Walks BYTES bytes of terms, which must end where they say. */
static void walk_terms(const uint8_t *at, size_t bytes, struct seen *seen)
{
	const uint8_t *end = at + bytes;
	size_t length;

	while (at < end) {
		if (at[0] == 0x08) {
			at += 5;
			at += walk_data(at, seen);
		} else if (at[0] == 0x10) {
			uint32_t skip = 1 + pkg_length(at + 1, &length);

			cr_assert_eq(memcmp(at + skip, "_SB_", 4), 0);
			walk_terms(at + skip + 4, length - (skip - 1) - 4, seen);
			at += 1 + length;
		} else {
			uint32_t skip = 2 + pkg_length(at + 2, &length);

			cr_assert_eq(memcmp(at, "\x5b\x82", 2), 0);
			if (at[skip] == 'C' && memcmp(at + skip + 9,
						      "\x0d"
						      "ACPI0007",
						      9) == 0)
				seen->cpus++;
			else
				seen->devices++;
			walk_terms(at + skip + 4, length - (skip - 2) - 4, seen);
			at += 2 + length;
		}
	}
	cr_assert_eq((const void *)at, (const void *)end, "a term ends beyond what it is in");
}

/* Counts the entries of TYPE from offset AT on; all must end where the table does. */
static uint32_t walk_entries(const struct built *built, const char *signature, uint32_t at,
			     uint8_t type)
{
	uint64_t gpa = find_table(built, signature);
	uint32_t length = table_length(built, gpa), count = 0;
	const uint8_t *table = table_at(built, gpa, length);

	for (; at < length; at += table[at + 1]) {
		cr_assert_geq(table[at + 1], 2);
		count += table[at] == type;
	}
	cr_assert_eq(at, length, "the entries of %s", signature);
	return count;
}

static void check_sum(const uint8_t *table, size_t bytes)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + table[i]);
	cr_assert_eq(sum, 0, "the sum of %.4s", (const char *)table);
}

/* Every table has its length, a sum of 0 and a place of its own. */
static void check_tables(const struct built *built)
{
	uint8_t *taken = calloc(1, built->result.bytes);
	uint64_t gpa[300];
	uint32_t count = listed(built, 0, gpa);

	for (uint32_t i = 0; i < count; i++)
		listed(built, i, &gpa[i]);
	gpa[count++] = built->result.xsdt_gpa;
	gpa[count++] = built->result.dsdt_gpa;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = table_length(built, gpa[i]);

		check_sum(table_at(built, gpa[i], length), length);
		cr_assert_eq(gpa[i] % 16, 0u);
		for (uint32_t k = 0; k < length; k++)
			cr_assert_eq(taken[gpa[i] - built->gpa + k]++, 0);
	}
	for (uint32_t k = 0; built->result.facs_gpa && k < 64; k++)
		cr_assert_eq(taken[built->result.facs_gpa - built->gpa + k]++, 0);
	cr_assert_eq(built->result.facs_gpa % 64, 0u);
	free(taken);
}

static void check_rsdp(const struct built *built)
{
	const uint8_t *rsdp = built->result.rsdp;

	check_sum(rsdp, 20);
	check_sum(rsdp, 36);
	cr_assert_eq(number_at(rsdp + 24, 8), built->result.xsdt_gpa);
}

static void check_machine(const struct built *built, const struct impost_x86_acpi_config *config,
			  uint32_t x2apics)
{
	const uint8_t *fadt = table_at(built, built->result.fadt_gpa, 276);
	uint64_t dsdt = number_at(fadt + 140, 8);
	uint32_t length = table_length(built, dsdt), rows = 2 + config->ntables;
	struct seen seen = {0, 0, 0};

	check_rsdp(built);
	check_tables(built);
	cr_assert_eq(dsdt, built->result.dsdt_gpa);
	cr_assert_eq(number_at(fadt + 40, 4), dsdt > UINT32_MAX ? 0 : dsdt);
	walk_terms(table_at(built, dsdt, length) + 36, length - 36, &seen);
	cr_assert_eq(seen.cpus, config->cpus);
	cr_assert_eq(seen.devices, config->ndevices);
	cr_assert_eq(seen.templates, config->ndevices);
	cr_assert_eq(walk_entries(built, "APIC", 44, 9), x2apics);
	cr_assert_eq(walk_entries(built, "APIC", 44, 0), config->cpus - x2apics);
	cr_assert_eq(walk_entries(built, "APIC", 44, 4), x2apics < config->cpus);
	cr_assert_eq(walk_entries(built, "APIC", 44, 10), x2apics > 0);
	if (config->nodes) {
		cr_assert_eq(walk_entries(built, "SRAT", 48, 2), x2apics);
		cr_assert_eq(walk_entries(built, "SRAT", 48, 0), config->cpus - x2apics);
		cr_assert_eq(walk_entries(built, "SRAT", 48, 1), config->nmemory);
	}
	rows += (config->necam ? 1u : 0) + (config->nodes ? 1u : 0) + (config->distances ? 1u : 0);
	cr_assert_eq(listed(built, 0, &dsdt), rows);
}

#define CPUS_MAX    IMPOST_X86_ACPI_CPUS_MAX
#define DEVICES_MAX 40u

/* Random CPUs with ids that grow, so that none is doubled; returns how many are above 254. */
static uint32_t random_cpus(struct impost_x86_acpi_config *config, uint32_t *ids, uint32_t *nodes)
{
	uint32_t id = draw(3), x2apics = 0;

	config->cpus = draw(4) ? 1 + draw(80) : 1 + draw(CPUS_MAX);
	for (uint32_t i = 0; i < config->cpus; i++) {
		ids[i] = id;
		nodes[i] = draw(2);
		x2apics += id > 254;
		id += 1 + draw(3);
	}
	return x2apics;
}

static void random_devices(struct impost_x86_acpi_config *config,
			   struct impost_x86_acpi_device *devices,
			   struct impost_x86_acpi_resource (*resources)[3])
{
	config->ndevices = draw(DEVICES_MAX);
	for (uint32_t i = 0; i < config->ndevices; i++) {
		char name[16];

		snprintf(name, sizeof(name), "V%03u", i);
		devices[i] = device_make(name, draw(2) ? "LNRO0005" : "PNP0501");
		devices[i].uid = i * (1 + draw(1000));
		devices[i].uid = devices[i].uid * DEVICES_MAX + i;
		devices[i].nresources = 1 + draw(3);
		devices[i].resources = resources[i];
		resources[i][0] = (struct impost_x86_acpi_resource){IMPOST_X86_ACPI_RESOURCE_IO, 0,
								    i * 1024, 1 + draw(1024)};
		resources[i][1] = (struct impost_x86_acpi_resource){
			IMPOST_X86_ACPI_RESOURCE_IRQ, IMPOST_AML_IRQ_SHARED, draw(24), 0};
		resources[i][2] = (struct impost_x86_acpi_resource){
			IMPOST_X86_ACPI_RESOURCE_MEMORY, 0, i * (GIB / 2), 1 + draw(GIB / 2)};
	}
}

Test(acpi, random_machines)
{
	static uint32_t ids[CPUS_MAX], nodes[CPUS_MAX];
	static struct impost_x86_acpi_device devices[DEVICES_MAX];
	static struct impost_x86_acpi_resource resources[DEVICES_MAX][3];
	struct impost_context *ctx = open_context();

	for (uint64_t i = 1; i <= 200; i++) {
		struct machine machine;
		struct built built;
		uint32_t x2apics;

		seed = i;
		if (draw(2))
			machine_make_full(&machine);
		else
			machine_make(&machine);
		if (draw(2))
			machine_add_all(&machine);
		machine.config.apic_ids = ids;
		if (machine.config.cpu_nodes)
			machine.config.cpu_nodes = nodes;
		x2apics = random_cpus(&machine.config, ids, nodes);
		machine.config.devices = devices;
		random_devices(&machine.config, devices, resources);
		built = build(ctx, &machine.config,
			      0x100000 + ((uint64_t)draw(1u << 30) << (6 + draw(8))));
		check_machine(&built, &machine.config, x2apics);
		free(built.bytes);
	}
	cr_assert_eq(impost_context_close(ctx), 0);
}

/* What docs say of the length: about 50 bytes for each CPU, 75 with nodes. */
Test(acpi, the_most_cpus)
{
	struct impost_context *ctx = open_context();
	struct machine machine;
	struct built built;

	machine_make(&machine);
	machine.config.cpus = CPUS_MAX;
	machine.config.apic_ids = NULL;
	built = build(ctx, &machine.config, 0x100000);
	check_machine(&built, &machine.config, CPUS_MAX - 255);
	cr_assert_lt(built.result.bytes, 51u * CPUS_MAX);
	free(built.bytes);
	cr_assert_eq(impost_context_close(ctx), 0);
}
