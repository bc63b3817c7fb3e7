/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: interrupt controllers (MADT, 5.2.12), PCI configuration space (MCFG). */
#include "acpi_tables.h"

#define MADT_REVISION 6u
#define PCAT_COMPAT   1u
#define ENABLED	      1u
#define NMI_LINT      1u
#define EVERY_CPU     UINT32_MAX

/* Entries, with the section of each. */
struct local_apic { /* 5.2.12.2 */
	uint8_t type, length;
	uint8_t uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct io_apic { /* 5.2.12.3 */
	uint8_t type, length;
	uint8_t id, reserved;
	uint32_t gpa, first_gsi;
} __attribute__((packed));

struct source_override { /* 5.2.12.5 */
	uint8_t type, length;
	uint8_t bus, irq;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

struct local_nmi { /* 5.2.12.7 */
	uint8_t type, length;
	uint8_t uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct x2apic { /* 5.2.12.12 */
	uint8_t type, length;
	uint16_t reserved;
	uint32_t apic_id, flags, uid;
} __attribute__((packed));

struct x2apic_nmi { /* 5.2.12.13 */
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
} __attribute__((packed));

enum { LOCAL_APIC = 0, IO_APIC = 1, OVERRIDE = 2, LOCAL_NMI = 4, X2APIC = 9, X2APIC_NMI = 10 };

/* Puts an entry of the type STRUCT. */
#define PUT_ENTRY(acpi, type_, ...)                                                  \
	do {                                                                         \
		const struct type_ entry_ = {.length = sizeof(entry_), __VA_ARGS__}; \
		acpi_put(acpi, &entry_, sizeof(entry_));                             \
	} while (0)

/* Writes CPU's entry; returns 1 if it is for an x2APIC. */
static int put_cpu(struct acpi *acpi, uint32_t cpu)
{
	uint32_t id = acpi_apic_id(acpi, cpu);

	if (id > ACPI_APIC_ID_MAX) {
		PUT_ENTRY(acpi, x2apic, .type = X2APIC, .apic_id = id, .flags = ENABLED,
			  .uid = cpu);
		return 1;
	}
	PUT_ENTRY(acpi, local_apic, .type = LOCAL_APIC, .uid = (uint8_t)cpu, .apic_id = (uint8_t)id,
		  .flags = ENABLED);
	return 0;
}

static void put_overrides(struct acpi *acpi)
{
	for (uint32_t i = 0; i < acpi->config.noverrides; i++) {
		const struct impost_x86_acpi_override *from = &acpi->config.overrides[i];

		PUT_ENTRY(acpi, source_override, .type = OVERRIDE, .irq = from->isa_irq,
			  .gsi = from->gsi, .flags = from->flags);
	}
}

void acpi_put_madt(struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	int pics = config->irqchip == IMPOST_IRQCHIP_FULL ||
		   config->options & IMPOST_X86_ACPI_DUAL_8259;
	const uint32_t head[2] = {
		config->lapic_gpa ? config->lapic_gpa : (uint32_t)IMPOST_X86_LAPIC_ADDR,
		pics ? PCAT_COMPAT : 0,
	};
	uint32_t x2apics = 0;

	acpi_begin(acpi, "APIC", MADT_REVISION);
	acpi_put(acpi, head, sizeof(head));
	for (uint32_t cpu = 0; cpu < config->cpus; cpu++)
		x2apics += (uint32_t)put_cpu(acpi, cpu);
	if (acpi_has_ioapic(acpi))
		PUT_ENTRY(acpi, io_apic, .type = IO_APIC, .id = (uint8_t)config->ioapic_id,
			  .gpa = config->ioapic_gpa ? config->ioapic_gpa
						    : (uint32_t)IMPOST_X86_IOAPIC_ADDR);
	put_overrides(acpi);
	if (x2apics < config->cpus)
		PUT_ENTRY(acpi, local_nmi, .type = LOCAL_NMI, .uid = (uint8_t)EVERY_CPU,
			  .lint = NMI_LINT);
	if (x2apics)
		PUT_ENTRY(acpi, x2apic_nmi, .type = X2APIC_NMI, .uid = EVERY_CPU, .lint = NMI_LINT);
}

void acpi_put_mcfg(struct acpi *acpi)
{
	static const uint8_t reserved[8];

	acpi_begin(acpi, "MCFG", 1);
	acpi_put(acpi, reserved, sizeof(reserved));
	for (uint32_t i = 0; i < acpi->config.necam; i++) {
		/* PCI Firmware Specification 3.3, table 4-3. */
		const struct {
			uint64_t base;
			uint16_t segment;
			uint8_t start_bus, end_bus;
			uint32_t reserved;
		} window = {acpi->config.ecam[i].base, acpi->config.ecam[i].segment,
			    acpi->config.ecam[i].start_bus, acpi->config.ecam[i].end_bus, 0};

		acpi_put(acpi, &window, sizeof(window));
	}
}
