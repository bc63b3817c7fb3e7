/* SPDX-License-Identifier: Apache-2.0 */
/* Tables in memory that tell the guest of its machine: ACPI, MP, SMBIOS. */
#include <stdlib.h>
#include <string.h>

#include "acpi_tables.h"
#include "boot_steps.h"
#include "ram.h"
#include "smbios_checks.h"
#include "structure.h"
#include "vmgenid_id.h"

/* The tables come behind the RSDP where both fit below 1 MiB; they want a multiple of 64. */
#define ACPI_TABLES_ADDR   (IMPOST_X86_ACPI_ADDR + 64)

#define SMBIOS_ENTRY_POINT 24u /* bytes (DSP0134, 5.2.2) */

#define RAM_MAX		   64u /* ranges that SMBIOS is told of */

static int wanted(const struct boot *boot, uint32_t table)
{
	return !(boot->config.without & table);
}

/* --- ACPI --- */

/* The lowest APIC id that no CPU has: theirs ascend. */
static uint32_t free_id(const struct boot *boot)
{
	uint32_t id = 0;

	while (id < boot->count && boot->apic_ids[id] == id)
		id++;
	return id;
}

/*
 * What the VM itself answers, with what the host gives. One that gives nothing may have no more
 * than CPUs and interrupt controllers: no register is named then, which only hardware-reduced ACPI
 * allows, nor a VGA or an RTC, whose drivers wait long for one that is not there.
 */
static int take_acpi(struct boot *boot)
{
	const struct impost_x86_acpi_config bare = {
		.size = sizeof(bare),
		.hw_reduced = 1,
		.boot_arch = IMPOST_X86_ACPI_NO_VGA | IMPOST_X86_ACPI_NO_CMOS_RTC,
	};
	struct impost_x86_acpi_config *acpi = &boot->acpi;
	int err;

	err = structure_take(boot->ctx, "impost_x86_acpi_config", acpi, sizeof(*acpi),
			     boot->config.acpi ? boot->config.acpi : &bare, ACPI_LEAST_CONFIG);
	if (err < 0)
		return err;
	acpi->size = sizeof(*acpi); /* what a shorter one lacks may be filled in */
	if (!acpi->cpus)
		acpi->cpus = boot->count;
	if (!acpi->apic_ids)
		acpi->apic_ids = boot->apic_ids;
	if (acpi->irqchip == IMPOST_IRQCHIP_DEFAULT)
		acpi->irqchip = impost_vm_irqchip(boot->vm);
	if (!acpi->ioapic_id && free_id(boot) <= ACPI_APIC_ID_MAX)
		acpi->ioapic_id = free_id(boot); /* that of the MP table, where all ids differ */
	return 0;
}

/*
 * The MP table is written where it can say all, and all that it says is so: it has no APIC ids
 * above 254, one of which is the I/O APIC's, and without an I/O APIC it would only send a guest
 * back to the PICs.
 */
static int wants_mptable(const struct boot *boot)
{
	return wanted(boot, IMPOST_X86_TABLE_MP) && boot_has_lapics(boot) &&
	       boot->apic_ids[boot->count - 1] <= IMPOST_X86_MPTABLE_APIC_ID_MAX &&
	       boot->count <= IMPOST_X86_MPTABLE_APIC_ID_MAX &&
	       (boot->acpi.irqchip == IMPOST_IRQCHIP_FULL || boot->acpi.has_ioapic);
}

/*
 * What a host gives, always. The tables that can be made without it say less than an MP table: they
 * make a guest give up what it would find by itself on a PC, the PIT and the ISA bus's interrupts,
 * with which its serial port works. So they are for CPUs that nothing else can tell of.
 */
static int wants_acpi(const struct boot *boot)
{
	return wanted(boot, IMPOST_X86_TABLE_ACPI) &&
	       (boot->config.acpi || (boot_has_lapics(boot) && !wants_mptable(boot)));
}

/* Places BYTES of tables that are too many for the BIOS area in high RAM. */
static int place_high(struct boot *boot, const char *what, uint32_t type, uint64_t bytes,
		      uint64_t *ret_gpa)
{
	const struct impost_x86_want want = {
		.size = sizeof(want),
		.type = type,
		.bytes = bytes,
		.min = IMPOST_X86_HIGH_RAM,
		.max = IMPOST_X86_HOLE_END - 1, /* what has 32 bits only must reach them */
		.what = what,
	};

	return impost_x86_layout_place(boot->memory, &boot->layout, &want, ret_gpa);
}

/* Claims a place for BYTES of tables: behind the RSDP, or in high RAM if there are too many. */
static int place_acpi(struct boot *boot, uint64_t bytes, uint64_t *ret_gpa)
{
	int low = bytes <= IMPOST_X86_ACPI_ADDR + IMPOST_X86_ACPI_MAX - ACPI_TABLES_ADDR;
	int err;

	err = impost_x86_layout_claim(boot->ctx, &boot->layout, low ? "ACPI tables" : "ACPI RSDP",
				      IMPOST_X86_ACPI_ADDR,
				      ACPI_TABLES_ADDR - IMPOST_X86_ACPI_ADDR + (low ? bytes : 0),
				      0);
	*ret_gpa = ACPI_TABLES_ADDR;
	if (err == 0 && !low)
		err = place_high(boot, "ACPI tables", IMPOST_X86_E820_ACPI, bytes, ret_gpa);
	return err;
}

/* The first generation id, in a page of its own that the guest leaves alone. */
static int write_vmgenid(struct boot *boot)
{
	uint64_t gpa = boot->acpi.vmgenid_gpa;
	int err;

	if (!gpa)
		return 0;
	err = impost_x86_layout_claim(boot->ctx, &boot->layout, "VM generation id",
				      gpa & ~(uint64_t)(IMPOST_PAGE_SIZE - 1), IMPOST_PAGE_SIZE,
				      IMPOST_X86_E820_RESERVED);
	return err < 0 ? err : vmgenid_write(boot->memory, gpa);
}

static int write_acpi(struct boot *boot)
{
	struct impost_x86_acpi_result result = {.size = sizeof(result)};
	uint64_t gpa = 0;
	int err;

	err = impost_x86_acpi_build(boot->ctx, &boot->acpi, IMPOST_X86_ACPI_ADDR, ACPI_TABLES_ADDR,
				    NULL, 0, &result);
	if (err == 0)
		err = place_acpi(boot, result.bytes, &gpa);
	if (err == 0)
		err = impost_x86_write_acpi(boot->memory, &boot->acpi, IMPOST_X86_ACPI_ADDR, gpa,
					    NULL);
	if (err == 0)
		err = write_vmgenid(boot);
	if (err < 0)
		return err;
	boot->rsdp = IMPOST_X86_ACPI_ADDR;
	boot->tables |= IMPOST_X86_TABLE_ACPI;
	return 0;
}

/* --- tables that are built in a buffer and written to a fixed place --- */

struct fixed {
	const char *what;
	uint64_t gpa;
	uint64_t room;
	uint32_t table; /* IMPOST_X86_TABLE_* */
	/* What it begins with, which is all that must lie at `gpa`: it says where the rest is. 0:
	 * all must. */
	uint32_t head;
	const char *head_what;
	int (*build)(struct boot *boot, uint64_t gpa, void *buf, size_t capacity,
		     size_t *ret_bytes);
};

/* Claims BYTES at the fixed place, or in high RAM what does not fit there and need not. */
static int place_fixed(struct boot *boot, const struct fixed *fixed, uint64_t bytes,
		       uint64_t *ret_gpa)
{
	int high = fixed->head && bytes > fixed->room;
	int err;

	err = impost_x86_layout_claim(boot->ctx, &boot->layout,
				      high ? fixed->head_what : fixed->what, fixed->gpa,
				      high ? fixed->head : bytes, 0);
	*ret_gpa = fixed->gpa;
	if (err == 0 && high)
		err = place_high(boot, fixed->what, IMPOST_X86_E820_RESERVED, bytes, ret_gpa);
	return err;
}

static int write_fixed(struct boot *boot, const struct fixed *fixed)
{
	uint64_t gpa = fixed->gpa;
	size_t bytes = 0;
	void *buf;
	int err;

	err = fixed->build(boot, gpa, NULL, 0, &bytes);
	if (err == 0)
		err = place_fixed(boot, fixed, bytes, &gpa);
	if (err < 0)
		return err;
	buf = malloc(bytes);
	if (!buf)
		return impost_error_set(boot->ctx, -ENOMEM, "boot: no memory for the %s",
					fixed->what);
	err = fixed->build(boot, gpa, buf, bytes, &bytes);
	if (err == 0)
		err = impost_memory_write(boot->memory, gpa, buf, bytes);
	if (err == 0 && gpa != fixed->gpa)
		err = impost_memory_write(boot->memory, fixed->gpa, buf, fixed->head);
	free(buf);
	if (err == 0)
		boot->tables |= fixed->table;
	return err;
}

/* --- the MP table --- */

static int build_mptable(struct boot *boot, uint64_t gpa, void *buf, size_t capacity,
			 size_t *ret_bytes)
{
	const struct impost_x86_acpi_config *acpi = &boot->acpi;
	const struct impost_x86_cpuid *leaf =
		impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 1, 0);
	struct impost_x86_mptable_override overrides[IMPOST_X86_ISA_IRQS];
	struct impost_x86_mptable_config config = {
		.size = sizeof(config),
		.cpus = boot->count,
		.apic_ids = boot->apic_ids,
		.cpu_signature = leaf ? leaf->eax : 0,
		.cpu_features = leaf ? leaf->edx : 0,
		.lapic_gpa = acpi->lapic_gpa,
		.has_ioapic = 1,
		.ioapic_gpa = acpi->ioapic_gpa,
		.ioapic_id = acpi->ioapic_id,
		.overrides = overrides,
	};

	for (uint32_t i = 0; i < acpi->noverrides; i++) /* see check_acpi() */
		overrides[config.noverrides++] = (struct impost_x86_mptable_override){
			.isa_irq = acpi->overrides[i].isa_irq,
			.pin = acpi->overrides[i].gsi,
			.flags = acpi->overrides[i].flags,
		};
	return impost_x86_mptable_build(boot->ctx, &config, gpa, buf, capacity, ret_bytes);
}

/* --- SMBIOS --- */

/* The RAM that MEMORY has, as far as there is room. */
static int find_ram(struct boot *boot, struct impost_x86_range ram[RAM_MAX], uint32_t *ret_count)
{
	uint32_t cursor = 0, count = 0;
	struct range run;
	int more = 1;

	while (count < RAM_MAX && (more = ram_next(boot->memory, &cursor, &run)) > 0)
		ram[count++] = (struct impost_x86_range){run.start, run.end - run.start};
	*ret_count = count;
	return more < 0 ? more : 0;
}

/* A text that CPUID has in registers: BYTES of it, in the order of REGS. */
static void copy_text(char *text, const uint32_t *regs, size_t bytes)
{
	memcpy(text, regs, bytes);
	text[bytes] = '\0';
}

/* What CPUID says of the processor, in the texts that CONFIG points to. */
struct cpu_texts {
	char vendor[13];
	char brand[49];
};

static void tell_cpu(const struct boot *boot, struct impost_x86_smbios_config *config,
		     struct cpu_texts *texts)
{
	const struct impost_x86_cpuid *entries = boot->cpuid.entries, *leaf;
	uint32_t count = boot->cpuid.count;

	leaf = impost_x86_cpuid_find(entries, count, 0, 0);
	if (leaf && !config->cpu_manufacturer) {
		const uint32_t regs[] = {leaf->ebx, leaf->edx, leaf->ecx};

		copy_text(texts->vendor, regs, sizeof(regs));
		config->cpu_manufacturer = texts->vendor;
	}
	if (!config->cpu_brand)
		config->cpu_brand = boot->config.brand;
	for (uint32_t i = 0; !boot->config.brand && i < 3; i++) {
		leaf = impost_x86_cpuid_find(entries, count, 0x80000002 + i, 0);
		if (!leaf)
			return;
		copy_text(texts->brand + (size_t)16 * i, &leaf->eax, 16);
	}
	if (!config->cpu_brand)
		config->cpu_brand = texts->brand + strspn(texts->brand, " ");
}

static int build_smbios(struct boot *boot, uint64_t gpa, void *buf, size_t capacity,
			size_t *ret_bytes)
{
	const struct impost_x86_cpuid *leaf =
		impost_x86_cpuid_find(boot->cpuid.entries, boot->cpuid.count, 1, 0);
	struct impost_x86_smbios_config config = {.size = sizeof(config)};
	struct impost_x86_range ram[RAM_MAX];
	struct cpu_texts texts = {{0}, {0}};
	int err = 0;

	if (boot->config.smbios)
		err = structure_take(boot->ctx, "impost_x86_smbios_config", &config, sizeof(config),
				     boot->config.smbios, SMBIOS_LEAST_CONFIG);
	if (err < 0)
		return err;
	config.size = sizeof(config);
	if (boot->tables & IMPOST_X86_TABLE_ACPI)
		config.flags |= IMPOST_X86_SMBIOS_ACPI;
	tell_cpu(boot, &config, &texts);
	if (leaf && !config.cpu_signature)
		config.cpu_signature = leaf->eax;
	if (leaf && !config.cpu_features)
		config.cpu_features = leaf->edx;
	if (!config.sockets) {
		config.sockets = boot->topology.sockets;
		config.cores = boot->topology.dies * boot->topology.cores;
		config.threads = boot->topology.threads;
	}
	if (!config.nram) {
		err = find_ram(boot, ram, &config.nram);
		config.ram = ram;
	}
	if (err < 0)
		return err;
	return impost_x86_smbios_build(boot->ctx, &config, gpa, buf, capacity, ret_bytes);
}

/* What is filled in beside what the host gives must go with it. */
static int check_acpi(const struct boot *boot)
{
	const struct impost_x86_acpi_config *acpi = &boot->acpi;

	if (acpi->cpus != boot->count)
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: ACPI is to tell of %u CPUs, and there are %u: leave "
					"that to the boot, with 0",
					acpi->cpus, boot->count);
	if (acpi->noverrides > IMPOST_X86_ISA_IRQS || (acpi->noverrides && !acpi->overrides))
		return impost_error_set(boot->ctx, -EINVAL,
					"boot: %u overrides of ISA interrupts%s: there are %u",
					acpi->noverrides, acpi->overrides ? "" : " at NULL",
					IMPOST_X86_ISA_IRQS);
	return 0;
}

int boot_write_tables(struct boot *boot)
{
	static const struct fixed mptable = {
		.what = "MP table",
		.gpa = IMPOST_X86_MPTABLE_ADDR,
		.room = IMPOST_X86_MPTABLE_MAX,
		.table = IMPOST_X86_TABLE_MP,
		.build = build_mptable,
	};
	static const struct fixed smbios = {
		.what = "SMBIOS",
		.gpa = IMPOST_X86_SMBIOS_ADDR,
		.room = IMPOST_X86_SMBIOS_MAX,
		.table = IMPOST_X86_TABLE_SMBIOS,
		.head = SMBIOS_ENTRY_POINT,
		.head_what = "SMBIOS entry point",
		.build = build_smbios,
	};
	int err;

	err = take_acpi(boot);
	if (err == 0)
		err = check_acpi(boot);
	if (err == 0 && wants_acpi(boot))
		err = write_acpi(boot);
	if (err == 0 && wants_mptable(boot))
		err = write_fixed(boot, &mptable);
	if (err == 0 && wanted(boot, IMPOST_X86_TABLE_SMBIOS))
		err = write_fixed(boot, &smbios);
	return err;
}
