/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: which CPUs and memory are near to each other (SRAT, 5.2.16; SLIT, 5.2.17). */
#include "acpi_tables.h"

#define SRAT_REVISION 3u
#define ENABLED	      1u

enum { LOCAL_APIC_AFFINITY = 0, MEMORY_AFFINITY = 1, X2APIC_AFFINITY = 2 };

struct local_apic_affinity { /* 5.2.16.1 */
	uint8_t type, length;
	uint8_t node_low, apic_id;
	uint32_t flags;
	uint8_t sapic_eid;
	uint8_t node_high[3];
	uint32_t clock_domain;
} __attribute__((packed));

struct memory_affinity { /* 5.2.16.2 */
	uint8_t type, length;
	uint32_t node;
	uint16_t reserved0;
	uint64_t gpa, bytes;
	uint32_t reserved1;
	uint32_t flags;
	uint64_t reserved2;
} __attribute__((packed));

struct x2apic_affinity { /* 5.2.16.3 */
	uint8_t type, length;
	uint16_t reserved0;
	uint32_t node, apic_id, flags, clock_domain, reserved1;
} __attribute__((packed));

static_assert(sizeof(struct local_apic_affinity) == 16, "5.2.16.1");
static_assert(sizeof(struct memory_affinity) == 40, "5.2.16.2");
static_assert(sizeof(struct x2apic_affinity) == 24, "5.2.16.3");

static void put_cpu(struct acpi *acpi, uint32_t cpu)
{
	uint32_t id = acpi_apic_id(acpi, cpu), node = acpi->config.cpu_nodes[cpu];
	const struct x2apic_affinity x2apic = {
		.type = X2APIC_AFFINITY,
		.length = sizeof(x2apic),
		.node = node,
		.apic_id = id,
		.flags = ENABLED,
	};
	const struct local_apic_affinity apic = {
		.type = LOCAL_APIC_AFFINITY,
		.length = sizeof(apic),
		.node_low = (uint8_t)node,
		.node_high = {(uint8_t)(node >> 8), (uint8_t)(node >> 16), (uint8_t)(node >> 24)},
		.apic_id = (uint8_t)id,
		.flags = ENABLED,
	};

	if (id > ACPI_APIC_ID_MAX)
		acpi_put(acpi, &x2apic, sizeof(x2apic));
	else
		acpi_put(acpi, &apic, sizeof(apic));
}

void acpi_put_srat(struct acpi *acpi)
{
	/* For historical reasons a 1, then reserved bytes (5.2.16). */
	static const uint32_t head[3] = {1, 0, 0};

	acpi_begin(acpi, "SRAT", SRAT_REVISION);
	acpi_put(acpi, head, sizeof(head));
	for (uint32_t i = 0; i < acpi->config.cpus; i++)
		put_cpu(acpi, i);
	for (uint32_t i = 0; i < acpi->config.nmemory; i++) {
		const struct impost_x86_acpi_memory *from = &acpi->config.memory[i];
		const struct memory_affinity entry = {
			.type = MEMORY_AFFINITY,
			.length = sizeof(entry),
			.node = from->node,
			.gpa = from->gpa,
			.bytes = from->bytes,
			.flags = from->flags | ENABLED,
		};

		acpi_put(acpi, &entry, sizeof(entry));
	}
}

void acpi_put_slit(struct acpi *acpi)
{
	uint64_t nodes = acpi->config.nodes;

	acpi_begin(acpi, "SLIT", 1);
	acpi_put(acpi, &nodes, sizeof(nodes));
	acpi_put(acpi, acpi->config.distances, (size_t)(nodes * nodes));
}
