/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the ACPI tables share: a machine to describe, and a walker of tables. */
#ifndef TESTS_UNIT_X86_64_ACPI_H
#define TESTS_UNIT_X86_64_ACPI_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/impost.h>

#define RSDP_GPA   UINT64_C(0xe0000)
#define TABLES_GPA UINT64_C(0xe0040)
#define GIB	   (UINT64_C(1) << 30)

/* A machine with what a test may change. Its addresses are inside: it is not to be copied. */
struct machine {
	struct impost_x86_acpi_config config;
	struct impost_x86_acpi_device device[2];
	struct impost_x86_acpi_resource com1[2], virtio[4];
	struct impost_x86_acpi_ecam ecam[2];
	struct impost_x86_acpi_override override[2];
	struct impost_x86_acpi_memory memory[2];
	struct impost_x86_acpi_table table[2];
	uint8_t ssdt[36], oem[40];
	uint32_t apic_ids[2], nodes[2];
	uint8_t distances[4];
};

static inline struct impost_x86_acpi_gas port(uint16_t number, uint8_t bits)
{
	return (struct impost_x86_acpi_gas){
		.space = IMPOST_X86_ACPI_IO, .bits = bits, .address = number};
}

static inline struct impost_x86_acpi_device device_make(const char *name, const char *hid)
{
	struct impost_x86_acpi_device device = {.size = sizeof(device), .hid = hid};

	memcpy(device.name, name, strnlen(name, sizeof(device.name)));
	return device;
}

/* Two CPUs, with APIC ids 0 and 300, and a serial port: hardware-reduced. */
static inline void machine_make(struct machine *machine)
{
	struct impost_x86_acpi_config *config = &machine->config;

	*machine = (struct machine){
		.com1 = {{IMPOST_X86_ACPI_RESOURCE_IO, 0, 0x3f8, 8},
			 {IMPOST_X86_ACPI_RESOURCE_IRQ, IMPOST_AML_IRQ_EDGE, 4, 0}},
		.virtio = {{IMPOST_X86_ACPI_RESOURCE_MEMORY, 0, 0xd0000000, 0x1000},
			   {IMPOST_X86_ACPI_RESOURCE_MEMORY, 0, 0x800000000, 0x200000},
			   {IMPOST_X86_ACPI_RESOURCE_IO, 0, 0x1000, 0x400},
			   {IMPOST_X86_ACPI_RESOURCE_IRQ, IMPOST_AML_IRQ_LOW, 5, 0}},
		.ecam = {{.base = 0xb0000000, .end_bus = 255},
			 {.base = 0x1000000000, .segment = 1, .start_bus = 4, .end_bus = 15}},
		.override = {{.gsi = 2, .isa_irq = 0}, {.gsi = 9, .isa_irq = 9, .flags = 0xd}},
		.memory = {{0, 2 * GIB, 0, 0}, {4 * GIB, 2 * GIB, 1, IMPOST_X86_ACPI_HOTPLUG}},
		.apic_ids = {0, 300},
		.nodes = {1, 0},
		.distances = {10, 20, 21, 10},
	};
	machine->device[0] = device_make("COM1", "PNP0501");
	machine->device[0].resources = machine->com1;
	machine->device[0].nresources = 2;
	machine->device[1] = device_make("VIR0", "LNRO0005");
	machine->device[1].resources = machine->virtio;
	machine->device[1].nresources = 4;
	memcpy(machine->ssdt, "SSDT\x24\0\0\0\x02", 9);
	memcpy(machine->oem, "OEM1\x28\0\0\0\x01", 9);
	machine->table[0] = (struct impost_x86_acpi_table){machine->ssdt, 36, 0};
	machine->table[1] = (struct impost_x86_acpi_table){machine->oem, 40, 0};
	config->size = sizeof(*config);
	config->cpus = 2;
	config->apic_ids = machine->apic_ids;
	config->irqchip = IMPOST_IRQCHIP_LAPIC;
	config->has_ioapic = 1;
	config->hw_reduced = 1;
	config->s5_type = 5;
	config->boot_arch = IMPOST_X86_ACPI_NO_VGA | IMPOST_X86_ACPI_NO_CMOS_RTC;
	config->reset = port(0xcf9, 8);
	config->reset_value = 6;
	config->sleep_control = port(0x600, 8);
	config->sleep_status = port(0x601, 8);
	config->devices = machine->device;
	config->ndevices = 1;
	memcpy(config->hypervisor, "IMPOST", 6);
}

/* Makes MACHINE one with PM1 registers, SCI and FACS, and the interrupt controllers of a PC. */
static inline void machine_make_full(struct machine *machine)
{
	struct impost_x86_acpi_config *config = &machine->config;

	machine_make(machine);
	config->hw_reduced = 0;
	config->irqchip = IMPOST_IRQCHIP_FULL;
	config->has_ioapic = 0;
	config->sleep_control = config->sleep_status = (struct impost_x86_acpi_gas){0};
	config->pm1a_event = port(0x600, 32);
	config->pm1a_control = port(0x604, 16);
	config->pm_timer = port(0x608, 32);
	config->gpe0 = port(0x620, 128);
	config->smi_command = 0xb2;
	config->acpi_enable = 2;
	config->acpi_disable = 3;
	config->options = IMPOST_X86_ACPI_POWER_BUTTON | IMPOST_X86_ACPI_PM_TIMER_32;
	config->boot_arch = IMPOST_X86_ACPI_LEGACY_DEVICES | IMPOST_X86_ACPI_8042;
	config->overrides = machine->override;
	config->noverrides = 2;
}

/* Gives MACHINE all that it can have: nodes, PCI windows, tables and devices. */
static inline void machine_add_all(struct machine *machine)
{
	struct impost_x86_acpi_config *config = &machine->config;

	config->ndevices = 2;
	config->ecam = machine->ecam;
	config->necam = 2;
	config->nodes = 2;
	config->cpu_nodes = machine->nodes;
	config->memory = machine->memory;
	config->nmemory = 2;
	config->distances = machine->distances;
	config->tables = machine->table;
	config->ntables = 2;
}

/* --- tables, as built --- */

struct built {
	struct impost_x86_acpi_result result;
	uint8_t *bytes; /* at gpa */
	uint64_t gpa;
};

static inline uint64_t number_at(const uint8_t *from, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value |= (uint64_t)from[i] << 8 * i;
	return value;
}

/* The table at GPA, of which at least BYTES must be there. */
static inline const uint8_t *table_at(const struct built *built, uint64_t gpa, uint64_t bytes)
{
	cr_assert(gpa >= built->gpa && gpa - built->gpa <= built->result.bytes &&
			  bytes <= built->result.bytes - (gpa - built->gpa),
		  "0x%" PRIx64 " is not among the tables", gpa);
	return built->bytes + (gpa - built->gpa);
}

static inline uint32_t table_length(const struct built *built, uint64_t gpa)
{
	uint32_t length = (uint32_t)number_at(table_at(built, gpa, 8) + 4, 4);

	table_at(built, gpa, length);
	return length;
}

/* The tables of the XSDT; returns how many. */
static inline uint32_t listed(const struct built *built, uint32_t index, uint64_t *ret_gpa)
{
	uint64_t xsdt = built->result.xsdt_gpa;
	uint32_t count = (table_length(built, xsdt) - 36) / 8;

	if (index < count)
		*ret_gpa = number_at(table_at(built, xsdt, 36) + 36 + 8 * index, 8);
	return count;
}

/* Where the first listed table of SIGNATURE is; 0: there is none. */
static inline uint64_t find_table(const struct built *built, const char *signature)
{
	uint64_t gpa = 0;

	for (uint32_t i = 0; i < listed(built, i, &gpa); i++) {
		if (memcmp(table_at(built, gpa, 36), signature, 4) == 0)
			return gpa;
	}
	return 0;
}

/* Builds CONFIG at GPA; the length, asked for first, must be what it takes. */
static inline struct built build(struct impost_context *ctx,
				 const struct impost_x86_acpi_config *config, uint64_t gpa)
{
	struct impost_x86_acpi_result asked = {.size = sizeof(asked)};
	struct built built = {.result = {.size = sizeof(built.result)}, .gpa = gpa};

	cr_assert_eq(impost_x86_acpi_build(ctx, config, RSDP_GPA, gpa, NULL, 0, &asked), 0, "%s",
		     impost_error(ctx));
	built.bytes = malloc(asked.bytes);
	cr_assert_not_null(built.bytes);
	cr_assert_eq(impost_x86_acpi_build(ctx, config, RSDP_GPA, gpa, built.bytes, asked.bytes,
					   &built.result),
		     0, "%s", impost_error(ctx));
	cr_assert_eq(memcmp(&asked, &built.result, sizeof(asked)), 0);
	return built;
}

#endif
