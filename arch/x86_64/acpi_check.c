/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: judges what the caller gave for the tables: CPUs, interrupts, PCI windows, nodes, tables.
 */
#include "acpi_tables.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const struct acpi *acpi, const char *fmt, ...) IMPOST_PRINTF(2, 3);
static int refuse(const struct acpi *acpi, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	impost_error_vset(acpi->ctx, -EINVAL, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int compare_spans(const void *a, const void *b)
{
	const struct acpi_span *one = a, *other = b;

	if (one->start != other->start)
		return one->start < other->start ? -1 : 1;
	return one->owner < other->owner ? -1 : one->owner > other->owner;
}

const struct acpi_span *acpi_find_overlap(struct acpi_span *spans, size_t count)
{
	if (count)
		qsort(spans, count, sizeof(*spans), compare_spans);
	for (size_t i = 1; i < count; i++) {
		if (spans[i].start <= spans[i - 1].last)
			return &spans[i - 1];
	}
	return NULL;
}

/* Allocates COUNT spans. */
static int make_spans(const struct acpi *acpi, size_t count, struct acpi_span **ret_spans)
{
	*ret_spans = calloc(count ? count : 1, sizeof(**ret_spans));
	if (!*ret_spans)
		return impost_error_set(acpi->ctx, -ENOMEM, "ACPI: no memory to check %zu entries",
					count);
	return 0;
}

/* --- CPUs --- */

static int check_apic_id(const struct acpi *acpi, uint32_t cpu)
{
	uint32_t id = acpi_apic_id(acpi, cpu);

	if (id == UINT32_MAX)
		return refuse(acpi, "ACPI: CPU %u has APIC id 0xffffffff, which means every CPU",
			      cpu);
	if (id <= ACPI_APIC_ID_MAX && cpu > UINT8_MAX)
		return refuse(acpi,
			      "ACPI: CPU %u has APIC id %u: ids below 255 are for CPUs 0 to 255",
			      cpu, id);
	return 0;
}

static int check_cpus(const struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	const struct acpi_span *bad;
	struct acpi_span *spans;
	int err = 0;

	if (!config->cpus || config->cpus > IMPOST_X86_ACPI_CPUS_MAX)
		return refuse(acpi, "ACPI: %u CPUs: 1 to %u can be", config->cpus,
			      IMPOST_X86_ACPI_CPUS_MAX);
	for (uint32_t i = 0; i < config->cpus && err == 0; i++)
		err = check_apic_id(acpi, i);
	if (err == 0)
		err = make_spans(acpi, config->cpus, &spans);
	if (err)
		return err;
	for (uint32_t i = 0; i < config->cpus; i++)
		spans[i] = (struct acpi_span){acpi_apic_id(acpi, i), acpi_apic_id(acpi, i), i, 0};
	bad = acpi_find_overlap(spans, config->cpus);
	if (bad)
		err = refuse(acpi, "ACPI: CPUs %u and %u both have APIC id %" PRIu64, bad[0].owner,
			     bad[1].owner, bad[0].start);
	free(spans);
	return err;
}

/* --- interrupt controllers --- */

static int check_controllers(const struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	uint32_t lapic = config->lapic_gpa ? config->lapic_gpa : (uint32_t)IMPOST_X86_LAPIC_ADDR;
	uint32_t ioapic = config->ioapic_gpa ? config->ioapic_gpa
					     : (uint32_t)IMPOST_X86_IOAPIC_ADDR;

	if (config->irqchip < IMPOST_IRQCHIP_NONE || config->irqchip > IMPOST_IRQCHIP_FULL)
		return refuse(acpi,
			      "ACPI: irqchip %u is none of IMPOST_IRQCHIP_NONE, _LAPIC, _FULL",
			      config->irqchip);
	if (config->has_ioapic > 1 || config->hw_reduced > 1 || config->reserved ||
	    config->reserved2)
		return refuse(
			acpi,
			"ACPI: has_ioapic and hw_reduced are 0 or 1, reserved and reserved2 0");
	if (config->ioapic_id > ACPI_APIC_ID_MAX)
		return refuse(acpi, "ACPI: I/O APIC id %u: ids are below 255", config->ioapic_id);
	if (lapic % 4096 || ioapic % 16)
		return refuse(
			acpi,
			"ACPI: local APIC at 0x%x, I/O APIC at 0x%x: multiples of 4096 and 16 "
			"are needed",
			lapic, ioapic);
	if (acpi_has_ioapic(acpi) && ioapic / 4096 == lapic / 4096)
		return refuse(acpi, "ACPI: local APIC at 0x%x and I/O APIC at 0x%x overlap", lapic,
			      ioapic);
	return 0;
}

static int check_override(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_override *override = &acpi->config.overrides[number];
	uint32_t polarity = override->flags & 3u, trigger = override->flags >> 2 & 3u;

	if (override->isa_irq > 15)
		return refuse(acpi, "ACPI: override number %u is of ISA IRQ %u: there are 0 to 15",
			      number, override->isa_irq);
	if (override->flags > 0xf || polarity == 2 || trigger == 2 || override->reserved)
		return refuse(acpi,
			      "ACPI: the override of ISA IRQ %u has flags 0x%x: polarity and "
			      "trigger are 0, 1 or 3 each, the rest is reserved",
			      override->isa_irq, override->flags);
	return 0;
}

/* No IRQ may be overridden twice, no GSI stand for two. */
static int check_overrides(const struct acpi *acpi)
{
	const struct impost_x86_acpi_override *all = acpi->config.overrides;
	uint32_t count = acpi->config.noverrides;
	int err = 0;

	if (!count)
		return 0;
	if (!all || count > 16)
		return refuse(acpi, "ACPI: %u overrides at %p: at most 16 can be", count,
			      (const void *)all);
	if (!acpi_has_ioapic(acpi))
		return refuse(acpi, "ACPI: %u overrides, but no I/O APIC", count);
	for (uint32_t i = 0; i < count && err == 0; i++) {
		err = check_override(acpi, i);
		for (uint32_t k = 0; k < i && err == 0; k++) {
			if (all[k].isa_irq == all[i].isa_irq || all[k].gsi == all[i].gsi)
				err = refuse(acpi,
					     "ACPI: overrides of ISA IRQ %u to GSI %u and of ISA "
					     "IRQ %u to GSI %u: one of each can be",
					     all[k].isa_irq, all[k].gsi, all[i].isa_irq,
					     all[i].gsi);
		}
	}
	return err;
}

/* --- PCI windows --- */

/* A window is a MiB for each bus, at a multiple of its size from bus 0 (PCI Express 5.0, 7.2.2). */
static int check_window(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_ecam *ecam = &acpi->config.ecam[number];
	uint64_t align = UINT64_C(1) << 20;

	while (align >> 20 <= ecam->end_bus)
		align *= 2;
	if (ecam->reserved || ecam->start_bus > ecam->end_bus)
		return refuse(acpi, "ACPI: ECAM window number %u has buses %u to %u, reserved %u",
			      number, ecam->start_bus, ecam->end_bus, ecam->reserved);
	if (ecam->base % align || ecam->base > UINT64_MAX - align)
		return refuse(acpi,
			      "ACPI: ECAM window number %u is at 0x%" PRIx64
			      ": for bus %u a multiple of 0x%" PRIx64 " is needed",
			      number, ecam->base, ecam->end_bus, align);
	return 0;
}

static int check_ecam(const struct acpi *acpi)
{
	const struct impost_x86_acpi_ecam *all = acpi->config.ecam;
	uint32_t count = acpi->config.necam;
	int err = 0;

	if (!count)
		return 0;
	if (!all || count > IMPOST_X86_ACPI_ECAM_MAX)
		return refuse(acpi, "ACPI: %u ECAM windows at %p: at most %u can be", count,
			      (const void *)all, IMPOST_X86_ACPI_ECAM_MAX);
	for (uint32_t i = 0; i < count && err == 0; i++) {
		err = check_window(acpi, i);
		for (uint32_t k = 0; k < i && err == 0; k++) {
			const struct impost_x86_acpi_ecam *a = &all[k], *b = &all[i];
			uint64_t a_start = a->base + ((uint64_t)a->start_bus << 20);
			uint64_t a_end = a->base + ((a->end_bus + UINT64_C(1)) << 20);
			uint64_t b_start = b->base + ((uint64_t)b->start_bus << 20);
			uint64_t b_end = b->base + ((b->end_bus + UINT64_C(1)) << 20);
			int buses = a->segment == b->segment && a->start_bus <= b->end_bus &&
				    b->start_bus <= a->end_bus;

			if (buses || (a_start < b_end && b_start < a_end))
				err = refuse(
					acpi,
					"ACPI: ECAM windows overlap: segment %u buses %u to %u "
					"at 0x%" PRIx64 ", segment %u buses %u to %u at "
					"0x%" PRIx64,
					a->segment, a->start_bus, a->end_bus, a_start, b->segment,
					b->start_bus, b->end_bus, b_start);
		}
	}
	return err;
}

/* --- NUMA --- */

static int check_memory(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_memory *memory = &acpi->config.memory[number];

	if (memory->node >= acpi->config.nodes)
		return refuse(acpi, "ACPI: memory at 0x%" PRIx64 " is of node %u: there are %u",
			      memory->gpa, memory->node, acpi->config.nodes);
	if (!memory->bytes || memory->bytes - 1 > UINT64_MAX - memory->gpa)
		return refuse(acpi,
			      "ACPI: memory of 0x%" PRIx64 " bytes at 0x%" PRIx64
			      ": empty, or it wraps around",
			      memory->bytes, memory->gpa);
	if (memory->flags & ~(IMPOST_X86_ACPI_HOTPLUG | IMPOST_X86_ACPI_NONVOLATILE))
		return refuse(acpi, "ACPI: memory at 0x%" PRIx64 " has unknown flags 0x%x",
			      memory->gpa, memory->flags);
	return 0;
}

static int check_all_memory(const struct acpi *acpi)
{
	const struct impost_x86_acpi_memory *all = acpi->config.memory;
	uint32_t count = acpi->config.nmemory;
	const struct acpi_span *bad;
	struct acpi_span *spans;
	int err = 0;

	if (count && (!all || count > IMPOST_X86_ACPI_MEMORY_MAX))
		return refuse(acpi, "ACPI: %u ranges of memory at %p: at most %u can be", count,
			      (const void *)all, IMPOST_X86_ACPI_MEMORY_MAX);
	for (uint32_t i = 0; i < count && err == 0; i++)
		err = check_memory(acpi, i);
	if (err == 0)
		err = make_spans(acpi, count, &spans);
	if (err)
		return err;
	for (uint32_t i = 0; i < count; i++)
		spans[i] = (struct acpi_span){all[i].gpa, all[i].gpa + (all[i].bytes - 1), i, 0};
	bad = acpi_find_overlap(spans, count);
	if (bad)
		err = refuse(acpi,
			     "ACPI: memory of node %u, 0x%" PRIx64 " to 0x%" PRIx64
			     ", and of node %u, 0x%" PRIx64 " to 0x%" PRIx64 ", overlap",
			     all[bad[0].owner].node, bad[0].start, bad[0].last,
			     all[bad[1].owner].node, bad[1].start, bad[1].last);
	free(spans);
	return err;
}

/* 10 means the same node, 0 to 9 are reserved (5.2.17). The two ways may differ. */
static int check_distances(const struct acpi *acpi)
{
	uint64_t nodes = acpi->config.nodes;

	for (uint64_t i = 0; acpi->config.distances && i < nodes * nodes; i++) {
		uint64_t from = i / nodes, to = i % nodes;
		uint8_t distance = acpi->config.distances[i];

		if (from == to ? distance != 10 : distance <= 10)
			return refuse(acpi,
				      "ACPI: the distance from node %" PRIu64 " to node %" PRIu64
				      " is %u: %s is needed",
				      from, to, distance, from == to ? "10" : "more than 10");
	}
	return 0;
}

static int check_numa(const struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	int err;

	if (!config->nodes && (config->cpu_nodes || config->nmemory || config->distances))
		return refuse(acpi, "ACPI: cpu_nodes, memory or distances are given, but no nodes");
	if (!config->nodes)
		return 0;
	if (config->nodes > IMPOST_X86_ACPI_NODES_MAX || !config->cpu_nodes)
		return refuse(acpi, "ACPI: %u nodes, cpu_nodes at %p: at most %u, and cpu_nodes",
			      config->nodes, (const void *)config->cpu_nodes,
			      IMPOST_X86_ACPI_NODES_MAX);
	for (uint32_t i = 0; i < config->cpus; i++) {
		if (config->cpu_nodes[i] >= config->nodes)
			return refuse(acpi, "ACPI: CPU %u is of node %u: there are %u", i,
				      config->cpu_nodes[i], config->nodes);
	}
	err = check_all_memory(acpi);
	return err < 0 ? err : check_distances(acpi);
}

/* --- the host's tables --- */

/* Is a table of SIGNATURE made here? */
static int is_ours(const struct acpi *acpi, const char signature[4])
{
	const struct {
		const char *signature;
		int present;
	} ours[] = {
		{"DSDT", 1},
		{"FACP", 1},
		{"FACS", 1},
		{"APIC", 1},
		{"XSDT", 1},
		{"RSDT", 1},
		{"MCFG", acpi->config.necam != 0},
		{"SRAT", acpi->config.nodes != 0},
		{"SLIT", acpi->config.distances != NULL},
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (ours[i].present && memcmp(ours[i].signature, signature, 4) == 0)
			return 1;
	}
	return 0;
}

static int check_table(const struct acpi *acpi, uint32_t number)
{
	const struct impost_x86_acpi_table *table = &acpi->config.tables[number];
	const char *signature = table->data;
	uint32_t length;

	if (!signature || table->bytes < ACPI_HEADER_BYTES || table->reserved)
		return refuse(acpi, "ACPI: table number %u has %u bytes at %p: a header has %u",
			      number, table->bytes, table->data, ACPI_HEADER_BYTES);
	for (int i = 0; i < 4; i++) {
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", signature[i]) || !signature[i])
			return refuse(acpi,
				      "ACPI: table number %u: byte 0x%02x in the signature: "
				      "capitals and digits are needed",
				      number, (unsigned char)signature[i]);
	}
	memcpy(&length, signature + 4, sizeof(length));
	if (length != table->bytes)
		return refuse(acpi, "ACPI: table number %u, %.4s: %u bytes, but its header says %u",
			      number, signature, table->bytes, length);
	if (is_ours(acpi, signature))
		return refuse(acpi, "ACPI: table number %u is a second %.4s: one is made here",
			      number, signature);
	for (uint32_t i = 0; i < number && memcmp(signature, "SSDT", 4) != 0; i++) {
		if (memcmp(acpi->config.tables[i].data, signature, 4) == 0)
			return refuse(acpi, "ACPI: tables number %u and %u are both %.4s", i,
				      number, signature);
	}
	return 0;
}

static int check_tables(const struct acpi *acpi)
{
	uint32_t count = acpi->config.ntables;
	int err = 0;

	if (count && (!acpi->config.tables || count > IMPOST_X86_ACPI_TABLES_MAX))
		return refuse(acpi, "ACPI: %u tables at %p: at most %u can be", count,
			      (const void *)acpi->config.tables, IMPOST_X86_ACPI_TABLES_MAX);
	for (uint32_t i = 0; i < count && err == 0; i++)
		err = check_table(acpi, i);
	return err;
}

/* --- identifiers --- */

static int check_id(const struct acpi *acpi, const char *what, const char *id, size_t bytes)
{
	size_t used = strnlen(id, bytes);

	for (size_t i = 0; i < bytes; i++) {
		if (i < used ? id[i] < 0x20 || id[i] > 0x7e : id[i] != 0)
			return refuse(acpi,
				      "ACPI: byte 0x%02x at %zu of %s: printable ASCII is needed, "
				      "with NULs at the end only",
				      (unsigned char)id[i], i, what);
	}
	return 0;
}

int acpi_check(const struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	int err;

	err = check_id(acpi, "oem_id", config->oem_id, sizeof(config->oem_id));
	if (err == 0)
		err = check_id(acpi, "oem_table_id", config->oem_table_id,
			       sizeof(config->oem_table_id));
	if (err == 0)
		err = check_cpus(acpi);
	if (err == 0)
		err = check_controllers(acpi);
	if (err == 0)
		err = check_overrides(acpi);
	if (err == 0)
		err = acpi_check_fadt(acpi);
	if (err == 0)
		err = acpi_check_devices(acpi);
	if (err == 0)
		err = acpi_check_vmgenid(acpi);
	if (err == 0)
		err = check_ecam(acpi);
	if (err == 0)
		err = check_numa(acpi);
	if (err == 0)
		err = check_tables(acpi);
	return err;
}
