/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables through a second reader: ACPICA's iasl takes each apart and puts it together again,
 * without a complaint, into the same bytes. IASL is its path, "" where there is none.
 */
#include "x86_64_acpi.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A folder for a table's files, and what iasl said last. */
struct bench {
	struct impost_context *ctx;
	char folder[64];
	char said[1 << 16];
};

static void bench_open(struct bench *bench)
{
	if (!IASL[0])
		cr_skip_test("iasl (package acpica-tools) is not installed");
	cr_assert_eq(impost_context_open(NULL, NULL, &bench->ctx), 0);
	strcpy(bench->folder, "/tmp/impost-acpi.XXXXXX");
	cr_assert_not_null(mkdtemp(bench->folder));
	cr_assert_eq(chdir(bench->folder), 0);
}

static void bench_close(struct bench *bench)
{
	static const char *const files[] = {"t.aml", "t.dsl", "u.aml", "log"};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(files[i]);
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(bench->folder), 0);
	cr_assert_eq(impost_context_close(bench->ctx), 0);
}

static size_t read_file(const char *name, void *buf, size_t capacity)
{
	FILE *file = fopen(name, "re");
	size_t bytes;

	cr_assert_not_null(file, "no %s", name);
	bytes = fread(buf, 1, capacity, file);
	fclose(file);
	return bytes;
}

/* Runs iasl with ARGS; it must say nothing of errors, warnings, remarks or what it does not know.
 */
static void run_iasl(struct bench *bench, const char *const *args)
{
	static const char *const complaints[] = {"rror ",  "arning ", "emark ",	 "nvalid",
						 "nknown", "*****",   "ncorrect"};
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	cr_assert_eq(posix_spawn(&pid, IASL, &actions, NULL, (char *const *)(uintptr_t)args,
				 environ),
		     0);
	posix_spawn_file_actions_destroy(&actions);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	bench->said[read_file("log", bench->said, sizeof(bench->said) - 1)] = '\0';
	cr_assert_eq(status, 0, "iasl: %s", bench->said);
	for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++)
		cr_assert_null(strstr(bench->said, complaints[i]), "iasl: %s", bench->said);
}

/*
 * The compiler leaves its name in the header, and 0 in a template's end tag, which counts as a
 * right sum (ACPI 6.5, 6.4.2.9): neither is compared.
 */
static void compare_bytes(const uint8_t *ours, const uint8_t *theirs, size_t bytes, int is_aml)
{
	for (size_t i = 0; i < bytes; i++) {
		int header = i == 9 || (i >= 28 && i < 36);
		int end_tag = is_aml && i > 36 && ours[i - 1] == 0x79 && theirs[i] == 0;

		cr_assert(ours[i] == theirs[i] || header || end_tag,
			  "%.4s: byte 0x%zx is %02x, iasl has %02x", (const char *)ours, i, ours[i],
			  theirs[i]);
	}
}

/* Takes a table apart, and puts it together again, with names as they are written (-on). */
static void check_table(struct bench *bench, const uint8_t *table, size_t bytes)
{
	static const char *const apart[] = {"iasl", "-p", "t", "-d", "t.aml", NULL};
	static const char *const together[] = {"iasl", "-on", "-p", "u", "t.dsl", NULL};
	int is_aml = memcmp(table, "DSDT", 4) == 0 || memcmp(table, "SSDT", 4) == 0;
	static uint8_t theirs[1 << 20];
	FILE *file = fopen("t.aml", "we");

	cr_assert_not_null(file);
	cr_assert_eq(fwrite(table, 1, bytes, file), bytes);
	cr_assert_eq(fclose(file), 0);
	run_iasl(bench, apart);
	run_iasl(bench, together);
	cr_assert(strstr(bench->said, "0 Errors, 0 Warnings, 0 Remarks"), "%s", bench->said);
	cr_assert_eq(read_file("u.aml", theirs, sizeof(theirs)), bytes);
	compare_bytes(table, theirs, bytes, is_aml);
}

static void check_machine(struct bench *bench, const struct impost_x86_acpi_config *config)
{
	struct built built = build(bench->ctx, config, TABLES_GPA);
	uint64_t gpa[16];
	uint32_t count = listed(&built, 0, gpa);

	for (uint32_t i = 0; i < count; i++)
		listed(&built, i, &gpa[i]);
	gpa[count++] = built.result.xsdt_gpa;
	gpa[count++] = built.result.dsdt_gpa;
	if (built.result.facs_gpa)
		gpa[count++] = built.result.facs_gpa;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = table_length(&built, gpa[i]);

		check_table(bench, table_at(&built, gpa[i], length), length);
	}
	free(built.bytes);
}

/* All tables that are made here, with as many kinds of entries as there are. */
static void add_made_tables(struct machine *machine)
{
	machine_add_all(machine);
	machine->config.ntables = 0;
}

Test(acpi_iasl, reduced)
{
	static struct bench bench;
	struct machine machine;

	bench_open(&bench);
	machine_make(&machine);
	add_made_tables(&machine);
	check_machine(&bench, &machine.config);
	bench_close(&bench);
}

Test(acpi_iasl, full)
{
	static struct bench bench;
	struct machine machine;

	bench_open(&bench);
	machine_make_full(&machine);
	add_made_tables(&machine);
	machine.config.pm2_control = port(0x60c, 8);
	machine.config.gpe1 = port(0x640, 32);
	machine.config.gpe1_base = 64;
	check_machine(&bench, &machine.config);
	bench_close(&bench);
}

Test(acpi_iasl, a_thousand_cpus)
{
	static struct bench bench;
	struct machine machine;

	bench_open(&bench);
	machine_make(&machine);
	machine.config.cpus = 1000;
	machine.config.apic_ids = NULL;
	check_machine(&bench, &machine.config);
	bench_close(&bench);
}

/* The VM generation id and what tells of a new one, below 4 GiB and above. */
Test(acpi_iasl, vm_generation_id)
{
	static const uint64_t places[] = {IMPOST_X86_VMGENID_ADDR, UINT64_C(0x123456780)};
	static struct bench bench;
	struct machine machine;

	bench_open(&bench);
	machine_make(&machine);
	for (int i = 0; i < 2; i++) {
		machine.config.vmgenid_gpa = places[i];
		for (machine.config.vmgenid_gsi = 0; machine.config.vmgenid_gsi <= 5;
		     machine.config.vmgenid_gsi += 5)
			check_machine(&bench, &machine.config);
	}
	bench_close(&bench);
}

/* --- devices that hosts describe with AML of their own --- */

static void put_window(struct impost_aml *aml, uint32_t bits, uint32_t type, uint32_t flags,
		       uint64_t min, uint64_t max)
{
	const struct impost_aml_window window = {.size = sizeof(window),
						 .bits = bits,
						 .type = type,
						 .flags = flags,
						 .min = min,
						 .max = max};

	impost_aml_window(aml, &window);
}

/* Four interrupt lines for each of 32 slots, handed around as on every PC (ACPI 6.5, 6.2.13). */
static void put_routes(struct impost_aml *aml)
{
	impost_aml_name(aml, "_PRT");
	impost_aml_package(aml);
	for (uint32_t i = 0; i < 128; i++) {
		impost_aml_package(aml);
		impost_aml_integer(aml, i / 4 << 16 | 0xffff);
		impost_aml_integer(aml, i % 4);
		impost_aml_integer(aml, 0);
		impost_aml_integer(aml, 16 + (i / 4 + i % 4) % 4);
		impost_aml_end(aml);
	}
	impost_aml_end(aml);
}

/* _OSC: grants all that is asked for, unless the UUID is another's (PCI Firmware 3.3, 4.5). */
static void put_osc(struct impost_aml *aml)
{
	impost_aml_method(aml, "_OSC", 4, 1);
	impost_aml_op(aml, IMPOST_AML_CREATE_DWORD_FIELD);
	impost_aml_arg(aml, 3);
	impost_aml_integer(aml, 0);
	impost_aml_ref(aml, "CDW1");
	impost_aml_if(aml);
	impost_aml_op(aml, IMPOST_AML_LOGICAL_NOT);
	impost_aml_op(aml, IMPOST_AML_EQUAL);
	impost_aml_arg(aml, 0);
	impost_aml_uuid(aml, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	impost_aml_op(aml, IMPOST_AML_OR);
	impost_aml_ref(aml, "CDW1");
	impost_aml_integer(aml, 4);
	impost_aml_ref(aml, "CDW1");
	impost_aml_end(aml);
	impost_aml_op(aml, IMPOST_AML_RETURN);
	impost_aml_arg(aml, 3);
	impost_aml_end(aml);
}

/* What is inside a PCI Express host bridge. */
static void put_bridge(struct impost_aml *aml)
{
	impost_aml_name(aml, "_SEG");
	impost_aml_integer(aml, 0);
	impost_aml_name(aml, "_CRS");
	impost_aml_resources(aml);
	put_window(aml, 16, IMPOST_AML_WINDOW_BUS, 0, 0, 0xff);
	impost_aml_io(aml, 0xcf8, 0xcf8, 1, 8);
	put_window(aml, 16, IMPOST_AML_WINDOW_IO, IMPOST_AML_IO_ENTIRE, 0xd00, 0xffff);
	put_window(aml, 32, IMPOST_AML_WINDOW_MEMORY, IMPOST_AML_MEMORY_WRITABLE, 0xc0000000,
		   0xfebfffff);
	put_window(aml, 64, IMPOST_AML_WINDOW_MEMORY, IMPOST_AML_MEMORY_WRITABLE,
		   UINT64_C(0x4000000000), UINT64_C(0x7fffffffff));
	impost_aml_end(aml);
	put_routes(aml);
	put_osc(aml);
}

/* The address of the generation id, in two halves. */
static void put_generation_id(struct impost_aml *aml)
{
	impost_aml_name(aml, "ADDR");
	impost_aml_package(aml);
	impost_aml_integer(aml, 0xfedd0000);
	impost_aml_integer(aml, 0);
	impost_aml_end(aml);
}

/* A generic event device (ACPI 6.5, 5.6.9): GSI 10 means a new generation id. */
static void put_events(struct impost_aml *aml)
{
	impost_aml_method(aml, "_EVT", 1, 1);
	impost_aml_if(aml);
	impost_aml_op(aml, IMPOST_AML_EQUAL);
	impost_aml_arg(aml, 0);
	impost_aml_integer(aml, 10);
	impost_aml_op(aml, IMPOST_AML_NOTIFY);
	impost_aml_ref(aml, "\\_SB.VGEN");
	impost_aml_integer(aml, 0x80);
	impost_aml_end(aml);
	impost_aml_end(aml);
}

/* Further terms of the DSDT: a region with fields, and a method that uses them. */
static void put_top(struct impost_aml *aml)
{
	impost_aml_region(aml, "PRST", IMPOST_AML_SYSTEM_IO, 0xcd8, 12);
	impost_aml_field(aml, "PRST", IMPOST_AML_BYTE_ACCESS | IMPOST_AML_WRITE_AS_ZEROS);
	impost_aml_field_unit(aml, NULL, 32);
	impost_aml_field_unit(aml, "CPEN", 1);
	impost_aml_field_unit(aml, NULL, 62); /* of 63, iasl makes two bytes where one is enough */
	impost_aml_end(aml);
	impost_aml_method(aml, "CNTR", 0, 0);
	impost_aml_op(aml, IMPOST_AML_STORE);
	impost_aml_integer(aml, 100);
	impost_aml_local(aml, 0);
	impost_aml_while(aml);
	impost_aml_op(aml, IMPOST_AML_LESS);
	impost_aml_integer(aml, 0);
	impost_aml_local(aml, 0);
	impost_aml_op(aml, IMPOST_AML_DECREMENT);
	impost_aml_local(aml, 0);
	impost_aml_end(aml);
	impost_aml_op(aml, IMPOST_AML_RETURN);
	impost_aml_ref(aml, "CPEN");
	impost_aml_end(aml);
}

Test(acpi_iasl, devices_with_terms_of_their_own)
{
	static const struct impost_x86_acpi_resource event = {IMPOST_X86_ACPI_RESOURCE_IRQ,
							      IMPOST_AML_IRQ_EDGE, 10, 0};
	static void (*const put[])(struct impost_aml * aml) = {put_bridge, put_generation_id,
							       put_events, put_top};
	struct impost_x86_acpi_device devices[3];
	static struct bench bench;
	struct impost_aml *aml[4];
	struct machine machine;
	const void *terms[4];
	size_t bytes[4];

	bench_open(&bench);
	machine_make(&machine);
	devices[0] = device_make("PCI0", "PNP0A08");
	devices[0].cid = "PNP0A03";
	devices[1] = device_make("VGEN", "IMPO0001");
	devices[1].cid = "VMGENCTR";
	devices[2] = device_make("GED0", "ACPI0013");
	devices[2].resources = &event;
	devices[2].nresources = 1;
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(impost_aml_create(bench.ctx, NULL, 0, &aml[i]), 0);
		put[i](aml[i]);
		cr_assert_eq(impost_aml_finish(aml[i], &terms[i], &bytes[i]), 0, "%s",
			     impost_error(bench.ctx));
	}
	for (int i = 0; i < 3; i++) {
		devices[i].aml = terms[i];
		devices[i].aml_bytes = (uint32_t)bytes[i];
	}
	machine.config.devices = devices;
	machine.config.ndevices = 3;
	machine.config.aml = terms[3];
	machine.config.aml_bytes = (uint32_t)bytes[3];
	check_machine(&bench, &machine.config);
	for (int i = 0; i < 4; i++)
		impost_aml_destroy(aml[i]);
	bench_close(&bench);
}
