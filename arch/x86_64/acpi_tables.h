/* SPDX-License-Identifier: Apache-2.0 */
/* What the builders of the ACPI tables share: what is built from, and the bytes so far. */
#ifndef ARCH_X86_64_ACPI_TABLES_H
#define ARCH_X86_64_ACPI_TABLES_H

#include <assert.h>

#include <impost/backend.h>
#include <impost/x86_64/acpi.h>
#include <impost/x86_64/aml.h>
#include <impost/x86_64/layout.h>

/* What the first release knew of the configuration: a host's may be shorter or longer than ours. */
#define ACPI_LEAST_CONFIG (offsetof(struct impost_x86_acpi_config, nmemory) + sizeof(uint32_t))

#define ACPI_HEADER_BYTES 36u /* 5.2.6 */

/* The highest APIC id that a local APIC entry can tell; the others have x2APIC entries
 * (5.2.12.12). */
#define ACPI_APIC_ID_MAX 254u

struct acpi {
	struct impost_context *ctx;
	struct impost_x86_acpi_config config;	/* as long as we know it */
	struct impost_x86_acpi_device *devices; /* likewise, each */
	struct impost_x86_acpi_result result;
	uint64_t gpa; /* where `data` will be */
	uint8_t *data;
	size_t bytes, capacity;
	size_t table;	  /* offset of the table that is being built */
	uint64_t *listed; /* tables for the XSDT */
	uint32_t nlisted;
	int error; /* -ENOMEM: data could not grow */
};

/* The APIC id of CPU number CPU. */
uint32_t acpi_apic_id(const struct acpi *acpi, uint32_t cpu);

/* The GSI of the SCI (5.2.9). */
static inline uint32_t acpi_sci(const struct impost_x86_acpi_config *config)
{
	return config->sci ? config->sci : 9;
}

/* Is there an I/O APIC? */
int acpi_has_ioapic(const struct acpi *acpi);

/* Judges all that the caller gave. */
int acpi_check(const struct acpi *acpi);
int acpi_check_devices(const struct acpi *acpi);
int acpi_check_fadt(const struct acpi *acpi);
int acpi_check_vmgenid(const struct acpi *acpi);

/* A range of numbers that only one may have, and who has it. */
struct acpi_span {
	uint64_t start, last;
	uint32_t owner; /* an index */
	uint32_t flags;
};

/* Sorts SPANS; returns the first that overlaps the one behind it, or NULL. */
const struct acpi_span *acpi_find_overlap(struct acpi_span *spans, size_t count);

/* Appends to the table that is being built. */
void acpi_put(struct acpi *acpi, const void *data, size_t bytes);

/* Begins a table at a multiple of ALIGN, with its header; ends it with length and checksum, and
 * returns where it will be. */
void acpi_begin(struct acpi *acpi, const char signature[4], uint8_t revision);
uint64_t acpi_end(struct acpi *acpi);

/* Begins something without a header at a multiple of ALIGN, and returns where it will be. */
uint64_t acpi_align(struct acpi *acpi, size_t align);

/* The VM generation id, in the DSDT. */
void acpi_put_vmgenid(struct impost_aml *aml, const struct impost_x86_acpi_config *config);

/* One table each. */
int acpi_put_dsdt(struct acpi *acpi);
void acpi_put_facs(struct acpi *acpi);
void acpi_put_fadt(struct acpi *acpi);
void acpi_put_madt(struct acpi *acpi);
void acpi_put_mcfg(struct acpi *acpi);
void acpi_put_srat(struct acpi *acpi);
void acpi_put_slit(struct acpi *acpi);

#endif
