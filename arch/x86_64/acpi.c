/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI: all tables together, and the two that point to them, XSDT and RSDP. */
#include "acpi_tables.h"
#include "structure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Tables of ours that the XSDT lists at the most: FADT, MADT, MCFG, SRAT, SLIT. */
#define OWN_TABLES	 5u

#define CREATOR_ID	 "IMPO"
#define CREATOR_REVISION 1u

/* 5.2.6 */
struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct header) == ACPI_HEADER_BYTES, "5.2.6");

/* 5.2.5.3 */
struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum; /* of all */
	uint8_t reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct rsdp) == IMPOST_X86_ACPI_RSDP_BYTES, "5.2.5.3");

#define RSDP_OLD_BYTES 20u /* what ACPI 1.0 knew of it */

uint32_t acpi_apic_id(const struct acpi *acpi, uint32_t cpu)
{
	return acpi->config.apic_ids ? acpi->config.apic_ids[cpu] : cpu;
}

int acpi_has_ioapic(const struct acpi *acpi)
{
	return acpi->config.has_ioapic || acpi->config.irqchip == IMPOST_IRQCHIP_FULL;
}

/* --- the bytes --- */

/* Makes room for BYTES more. 0: there is none. */
static int make_room(struct acpi *acpi, size_t bytes)
{
	size_t capacity = acpi->capacity ? acpi->capacity : 4096;
	uint8_t *data;

	if (acpi->error)
		return 0;
	while (capacity - acpi->bytes < bytes)
		capacity *= 2;
	if (capacity == acpi->capacity)
		return 1;
	data = realloc(acpi->data, capacity);
	if (!data) {
		acpi->error = impost_error_set(acpi->ctx, -ENOMEM,
					       "ACPI: no memory for tables of %zu bytes", capacity);
		return 0;
	}
	acpi->data = data;
	acpi->capacity = capacity;
	return 1;
}

void acpi_put(struct acpi *acpi, const void *data, size_t bytes)
{
	if (!make_room(acpi, bytes) || !bytes)
		return;
	memcpy(acpi->data + acpi->bytes, data, bytes);
	acpi->bytes += bytes;
}

uint64_t acpi_align(struct acpi *acpi, size_t align)
{
	static const uint8_t zeros[64];

	acpi_put(acpi, zeros, -acpi->bytes % align);
	return acpi->gpa + acpi->bytes;
}

/* Makes the sum of all bytes 0 through the one at CHECKSUM. */
static void set_checksum(uint8_t *data, size_t bytes, size_t checksum)
{
	data[checksum] = 0;
	data[checksum] = structure_checksum(data, bytes);
}

/* Copies an identifier of BYTES characters, filled up with spaces. */
static void copy_id(char *to, const char *id, size_t bytes, const char *otherwise)
{
	if (!id[0])
		id = otherwise;
	memset(to, ' ', bytes);
	memcpy(to, id, strnlen(id, bytes));
}

void acpi_begin(struct acpi *acpi, const char signature[4], uint8_t revision)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	struct header header = {
		.revision = revision,
		.oem_revision = config->oem_revision ? config->oem_revision : 1,
		.creator_revision = CREATOR_REVISION,
	};

	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.creator_id, CREATOR_ID, sizeof(header.creator_id));
	copy_id(header.oem_id, config->oem_id, sizeof(header.oem_id), "IMPOST");
	copy_id(header.oem_table_id, config->oem_table_id, sizeof(header.oem_table_id), "IMPOST");
	acpi_align(acpi, 16);
	acpi->table = acpi->bytes;
	acpi_put(acpi, &header, sizeof(header));
}

uint64_t acpi_end(struct acpi *acpi)
{
	uint8_t *table = acpi->data + acpi->table;
	uint32_t length = (uint32_t)(acpi->bytes - acpi->table);

	if (acpi->error)
		return 0;
	memcpy(table + offsetof(struct header, length), &length, sizeof(length));
	set_checksum(table, length, offsetof(struct header, checksum));
	return acpi->gpa + acpi->table;
}

/* --- the tables together --- */

/* Ends a table that the XSDT lists. */
static uint64_t end_listed(struct acpi *acpi)
{
	uint64_t gpa = acpi_end(acpi);

	acpi->listed[acpi->nlisted++] = gpa;
	return gpa;
}

static void put_host_tables(struct acpi *acpi)
{
	for (uint32_t i = 0; i < acpi->config.ntables; i++) {
		acpi_align(acpi, 16);
		acpi->table = acpi->bytes;
		acpi_put(acpi, acpi->config.tables[i].data, acpi->config.tables[i].bytes);
		end_listed(acpi);
	}
}

static void put_xsdt(struct acpi *acpi)
{
	acpi_begin(acpi, "XSDT", 1);
	acpi_put(acpi, acpi->listed, acpi->nlisted * sizeof(*acpi->listed));
	acpi->result.xsdt_gpa = acpi_end(acpi);
}

static void make_rsdp(struct acpi *acpi)
{
	struct rsdp rsdp = {
		.revision = 2,
		.length = sizeof(rsdp),
		.xsdt = acpi->result.xsdt_gpa,
	};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	copy_id(rsdp.oem_id, acpi->config.oem_id, sizeof(rsdp.oem_id), "IMPOST");
	memcpy(acpi->result.rsdp, &rsdp, sizeof(rsdp));
	set_checksum(acpi->result.rsdp, RSDP_OLD_BYTES, offsetof(struct rsdp, checksum));
	set_checksum(acpi->result.rsdp, sizeof(rsdp), offsetof(struct rsdp, extended_checksum));
}

static int put_tables(struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	int err;

	err = acpi_put_dsdt(acpi);
	if (err < 0)
		return err;
	if (!config->hw_reduced)
		acpi_put_facs(acpi);
	acpi_put_fadt(acpi);
	acpi->result.fadt_gpa = end_listed(acpi);
	acpi_put_madt(acpi);
	acpi->result.madt_gpa = end_listed(acpi);
	if (config->necam) {
		acpi_put_mcfg(acpi);
		end_listed(acpi);
	}
	if (config->nodes) {
		acpi_put_srat(acpi);
		end_listed(acpi);
	}
	if (config->distances) {
		acpi_put_slit(acpi);
		end_listed(acpi);
	}
	put_host_tables(acpi);
	put_xsdt(acpi);
	make_rsdp(acpi);
	acpi->result.bytes = acpi->bytes;
	return acpi->error;
}

/* --- what comes from the caller --- */

/* What the first release knew of the structs: a host's may be shorter or longer than ours. */
#define LEAST_RESULT (offsetof(struct impost_x86_acpi_result, facs_gpa) + sizeof(uint64_t))
#define LEAST_DEVICE (offsetof(struct impost_x86_acpi_device, aml_bytes) + sizeof(uint32_t))

static int copy_devices(struct acpi *acpi)
{
	const struct impost_x86_acpi_config *config = &acpi->config;
	const char *from = (const char *)config->devices;
	int err = 0;

	if (!config->ndevices)
		return 0;
	if (!from || config->ndevices > IMPOST_X86_ACPI_DEVICES_MAX)
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: %u devices at %p: at most %u can be",
					config->ndevices, (const void *)from,
					IMPOST_X86_ACPI_DEVICES_MAX);
	acpi->devices = calloc(config->ndevices, sizeof(*acpi->devices));
	if (!acpi->devices)
		return impost_error_set(acpi->ctx, -ENOMEM, "ACPI: no memory for %u devices",
					config->ndevices);
	for (uint32_t i = 0; i < config->ndevices && err == 0; i++, from += config->devices->size) {
		uint32_t size;

		/* Each is found by the first one's size. */
		memcpy(&size, from, sizeof(size));
		if (size != config->devices->size)
			err = impost_error_set(acpi->ctx, -EINVAL,
					       "ACPI: device number %u has size %u, the first %u: "
					       "set it to sizeof in each",
					       i, size, config->devices->size);
		else
			err = structure_take(acpi->ctx, "impost_x86_acpi_device", &acpi->devices[i],
					     sizeof(acpi->devices[i]), from, LEAST_DEVICE);
	}
	return err;
}

/* Refuses a result whose size was not set; NULL is fine, it is not wanted. */
static int check_result(struct impost_context *ctx, const struct impost_x86_acpi_result *ret_result)
{
	return ret_result ? structure_check_size(ctx, "impost_x86_acpi_result", ret_result,
						 LEAST_RESULT)
			  : 0;
}

static void give_result(const struct acpi *acpi, struct impost_x86_acpi_result *ret_result)
{
	if (ret_result)
		structure_give(ret_result, &acpi->result, sizeof(acpi->result));
}

/* Are the addresses such that the tables can be there? */
static int check_places(const struct acpi *acpi, uint64_t rsdp_gpa)
{
	uint64_t end = acpi->gpa + acpi->bytes;

	if (rsdp_gpa % 16 || acpi->gpa % 64)
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: RSDP at 0x%" PRIx64 ", tables at 0x%" PRIx64
					": multiples of 16 and 64 are needed",
					rsdp_gpa, acpi->gpa);
	if (end < acpi->gpa || rsdp_gpa > UINT64_MAX - sizeof(struct rsdp))
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: RSDP at 0x%" PRIx64 ", tables of 0x%zx bytes at "
					"0x%" PRIx64 ": one wraps around",
					rsdp_gpa, acpi->bytes, acpi->gpa);
	if (rsdp_gpa < end && acpi->gpa < rsdp_gpa + sizeof(struct rsdp))
		return impost_error_set(acpi->ctx, -EINVAL,
					"ACPI: the RSDP at 0x%" PRIx64
					" lies in the tables, 0x%" PRIx64 " to 0x%" PRIx64,
					rsdp_gpa, acpi->gpa, end - 1);
	return 0;
}

/* Builds everything. Free with close_build(), also after a failure. */
static int build(struct acpi *acpi, const struct impost_x86_acpi_config *config)
{
	int err;

	err = structure_take(acpi->ctx, "impost_x86_acpi_config", &acpi->config,
			     sizeof(acpi->config), config, ACPI_LEAST_CONFIG);
	if (err == 0)
		err = copy_devices(acpi);
	if (err == 0)
		err = acpi_check(acpi);
	if (err < 0)
		return err;
	acpi->listed = calloc(OWN_TABLES + (size_t)acpi->config.ntables, sizeof(*acpi->listed));
	if (!acpi->listed)
		return impost_error_set(acpi->ctx, -ENOMEM, "ACPI: no memory for %u tables",
					acpi->config.ntables);
	return put_tables(acpi);
}

static void close_build(struct acpi *acpi)
{
	free(acpi->listed);
	free(acpi->devices);
	free(acpi->data);
}

int impost_x86_acpi_build(struct impost_context *ctx, const struct impost_x86_acpi_config *config,
			  uint64_t rsdp_gpa, uint64_t tables_gpa, void *buf, size_t capacity,
			  struct impost_x86_acpi_result *ret_result)
{
	struct acpi acpi = {.ctx = ctx, .gpa = tables_gpa};
	int err;

	err = check_result(acpi.ctx, ret_result);
	if (err == 0)
		err = build(&acpi, config);
	if (err == 0 && buf)
		err = check_places(&acpi, rsdp_gpa);
	if (err == 0 && buf && capacity < acpi.bytes)
		err = impost_error_set(ctx, -ENOSPC,
				       "ACPI: the tables take %zu bytes, there are %zu", acpi.bytes,
				       capacity);
	if (err == 0 && buf)
		memcpy(buf, acpi.data, acpi.bytes);
	if (err == 0)
		give_result(&acpi, ret_result);
	close_build(&acpi);
	return err;
}

int impost_x86_write_acpi(struct impost_memory *memory, const struct impost_x86_acpi_config *config,
			  uint64_t rsdp_gpa, uint64_t tables_gpa,
			  struct impost_x86_acpi_result *ret_result)
{
	struct acpi acpi = {.ctx = impost_memory_context(memory), .gpa = tables_gpa};
	struct rsdp before;
	int err;

	err = check_result(acpi.ctx, ret_result);
	if (err == 0)
		err = build(&acpi, config);
	if (err == 0)
		err = check_places(&acpi, rsdp_gpa);
	if (err == 0)
		err = impost_memory_read(memory, rsdp_gpa, &before, sizeof(before));
	if (err == 0)
		err = impost_memory_write(memory, tables_gpa, acpi.data, acpi.bytes);
	if (err == 0)
		err = impost_memory_write(memory, rsdp_gpa, acpi.result.rsdp,
					  sizeof(acpi.result.rsdp));
	if (err == 0)
		give_result(&acpi, ret_result);
	close_build(&acpi);
	return err;
}
