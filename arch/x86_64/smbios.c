/* SPDX-License-Identifier: Apache-2.0 */
/* SMBIOS tables: entry point and structures (DMTF DSP0134, 3.3; sections are named from there). */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <impost/x86_64/smbios.h>

#include "smbios_checks.h"
#include "structure.h"

#define VERSION_MAJOR	  3
#define VERSION_MINOR	  3
#define NO_HANDLE	  0xffffu /* 7.5: no such cache */
#define NO_ERROR_HANDLE	  0xfffeu /* 7.17.4, 7.18: errors are not told of */
#define COUNT_FIELD_BYTE  0xffu	  /* 7.5.6: more are counted in a field of two bytes */
#define FAMILY_FIELD_BYTE 0xfeu	  /* 7.5.2: the family is in the field of two bytes */
#define MIB		  (UINT64_C(1) << 20)
#define GIB		  (UINT64_C(1) << 30)
#define DEVICE_BYTES	  (16 * GIB)
#define DEVICES_MAX	  128u

/* 5.2.2 */
struct entry_point {
	char anchor[5];
	uint8_t checksum;
	uint8_t length;
	uint8_t major;
	uint8_t minor;
	uint8_t docrev;
	uint8_t revision;
	uint8_t reserved;
	uint32_t table_bytes;
	uint64_t table;
} __attribute__((packed));

/* Where the structures begin, behind the entry point: on 16 bytes. */
#define TABLE_OFFSET 32u

/* 6.1.2 */
struct head {
	uint8_t type;
	uint8_t length;
	uint16_t handle;
} __attribute__((packed));

/* In all structures a uint8_t with the name of a text is its number, from 1; 0: none. */

/* 7.1 */
struct bios {
	struct head head;
	uint8_t vendor;
	uint8_t version;
	uint16_t segment;
	uint8_t date;
	uint8_t rom_size;
	uint64_t characteristics;
	uint8_t extension[2];
	uint8_t release[4]; /* of the BIOS and of the embedded controller; 0xff: unknown */
	uint16_t extended_rom_size;
} __attribute__((packed));

#define BIOS_NO_CHARACTERISTICS UINT64_C(0x08)
#define BIOS_EXT1_ACPI		0x01
#define BIOS_EXT2_VIRTUAL	0x10

/* 7.2 */
struct system {
	struct head head;
	uint8_t manufacturer;
	uint8_t product;
	uint8_t version;
	uint8_t serial;
	uint8_t uuid[16];
	uint8_t wake_up;
	uint8_t sku;
	uint8_t family;
} __attribute__((packed));

#define WAKE_UP_POWER_SWITCH 6

/* 7.3 */
struct board {
	struct head head;
	uint8_t manufacturer;
	uint8_t product;
	uint8_t version;
	uint8_t serial;
	uint8_t asset_tag;
	uint8_t features;
	uint8_t location;
	uint16_t chassis;
	uint8_t type;
	uint8_t contained;
} __attribute__((packed));

#define BOARD_HOSTING	  1
#define BOARD_MOTHERBOARD 10

/* 7.4 */
struct chassis {
	struct head head;
	uint8_t manufacturer;
	uint8_t type;
	uint8_t version;
	uint8_t serial;
	uint8_t asset_tag;
	uint8_t states[3]; /* boot-up, power supply, thermal */
	uint8_t security;
	uint32_t oem;
	uint8_t height;
	uint8_t cords;
	uint8_t contained;
	uint8_t contained_length;
	uint8_t sku;
} __attribute__((packed));

#define CHASSIS_OTHER 1
#define STATE_SAFE    3
#define SECURITY_NONE 3

/* 7.5 */
struct processor {
	struct head head;
	uint8_t socket;
	uint8_t type;
	uint8_t family;
	uint8_t manufacturer;
	uint32_t signature;
	uint32_t features;
	uint8_t version;
	uint8_t voltage;
	uint16_t clock;
	uint16_t max_speed;
	uint16_t speed;
	uint8_t status;
	uint8_t upgrade;
	uint16_t caches[3];
	uint8_t serial;
	uint8_t asset_tag;
	uint8_t part;
	uint8_t cores;
	uint8_t cores_enabled;
	uint8_t threads;
	uint16_t characteristics;
	uint16_t family2;
	uint16_t cores2;
	uint16_t cores_enabled2;
	uint16_t threads2;
} __attribute__((packed));

#define PROCESSOR_CENTRAL     3
#define PROCESSOR_ENABLED     0x41 /* populated, enabled */
#define PROCESSOR_UPGRADE     1	   /* other */
#define PROCESSOR_64_BIT      0x04
#define PROCESSOR_MULTI_CORE  0x08
#define PROCESSOR_MULTITHREAD 0x10

/* 7.12 */
struct oem_strings {
	struct head head;
	uint8_t count;
} __attribute__((packed));

/* 7.17 */
struct memory_array {
	struct head head;
	uint8_t location;
	uint8_t use;
	uint8_t correction;
	uint32_t capacity; /* KiB */
	uint16_t error;
	uint16_t devices;
	uint64_t extended_capacity; /* bytes */
} __attribute__((packed));

#define ARRAY_ON_BOARD	    3
#define ARRAY_SYSTEM_MEMORY 3
#define CORRECTION_NONE	    3
#define CAPACITY_EXTENDED   UINT32_C(0x80000000)

/* 7.18 */
struct memory_device {
	struct head head;
	uint16_t array;
	uint16_t error;
	uint16_t total_width;
	uint16_t data_width;
	uint16_t size; /* MiB */
	uint8_t form;
	uint8_t set;
	uint8_t locator;
	uint8_t bank;
	uint8_t type;
	uint16_t detail;
	uint16_t speed;
	uint8_t manufacturer;
	uint8_t serial;
	uint8_t asset_tag;
	uint8_t part;
	uint8_t attributes;
	uint32_t extended_size; /* MiB */
	uint16_t configured_speed;
	uint16_t millivolts[3];
	uint8_t technology;
	uint16_t modes;
	uint8_t firmware;
	uint16_t ids[4];
	uint64_t nonvolatile;
	uint64_t volatile_bytes;
	uint64_t cache;
	uint64_t logical;
	uint32_t extended_speeds[2];
} __attribute__((packed));

#define WIDTH_UNKNOWN	0xffff
#define SIZE_EXTENDED	0x7fff
#define FORM_DIMM	9
#define MEMORY_RAM	7
#define DETAIL_OTHER	2
#define TECHNOLOGY_DRAM 3
#define MODE_VOLATILE	8

/* 7.20 */
struct memory_range {
	struct head head;
	uint32_t start; /* KiB, as the end, which is the last one's number */
	uint32_t end;
	uint16_t array;
	uint8_t width;
	uint64_t extended_start; /* bytes */
	uint64_t extended_end;
} __attribute__((packed));

#define RANGE_EXTENDED UINT32_MAX

/* 7.33 */
struct boot_information {
	struct head head;
	uint8_t reserved[6];
	uint8_t status; /* 0: no errors */
} __attribute__((packed));

static_assert(sizeof(struct entry_point) == 0x18, "5.2.2");
static_assert(sizeof(struct bios) == 0x1a, "7.1");
static_assert(sizeof(struct system) == 0x1b, "7.2");
static_assert(sizeof(struct board) == 0x0f, "7.3");
static_assert(sizeof(struct chassis) == 0x16, "7.4");
static_assert(sizeof(struct processor) == 0x30, "7.5");
static_assert(sizeof(struct memory_array) == 0x17, "7.17");
static_assert(sizeof(struct memory_device) == 0x5c, "7.18");
static_assert(sizeof(struct memory_range) == 0x1f, "7.20");
static_assert(sizeof(struct boot_information) == 0x0b, "7.33");

/* The table as it grows; with no `data` it is only counted. */
struct table {
	uint8_t *data;
	size_t capacity;
	size_t bytes;
	uint16_t handle; /* of the next structure */
};

/* A text of a structure, and where in it its number stands. */
struct text {
	size_t offset;
	const char *text; /* NULL or "": none */
};

static void put_bytes(struct table *table, const void *data, size_t bytes)
{
	if (table->data && table->bytes + bytes <= table->capacity)
		memcpy(table->data + table->bytes, data, bytes);
	table->bytes += bytes;
}

/* Puts a structure's formatted area, whose type is set. Returns its handle. */
static uint16_t put_formatted(struct table *table, void *structure, size_t bytes)
{
	struct head *head = structure;

	head->length = (uint8_t)bytes;
	head->handle = table->handle++;
	put_bytes(table, structure, bytes);
	return head->handle;
}

static void put_text(struct table *table, const char *text)
{
	put_bytes(table, text, strlen(text) + 1);
}

/* Ends a structure behind its COUNT texts: without any it takes two NULs (6.1.3). */
static void put_end(struct table *table, size_t count)
{
	put_bytes(table, "\0", count ? 1 : 2);
}

/* Puts a structure with its texts, which are numbered here. Returns its handle. */
static uint16_t put(struct table *table, void *structure, size_t bytes, const struct text *texts,
		    size_t ntexts)
{
	uint8_t *numbers = structure;
	uint16_t handle;
	uint8_t count = 0;

	for (size_t i = 0; i < ntexts; i++)
		if (is_given(texts[i].text))
			numbers[texts[i].offset] = ++count;
	handle = put_formatted(table, structure, bytes);
	for (size_t i = 0; i < ntexts; i++)
		if (is_given(texts[i].text))
			put_text(table, texts[i].text);
	put_end(table, count);
	return handle;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put_bios(struct table *table, const struct impost_x86_smbios_config *config)
{
	struct bios bios = {
		.head.type = 0,
		.characteristics = BIOS_NO_CHARACTERISTICS,
		.extension = {config->flags & IMPOST_X86_SMBIOS_ACPI ? BIOS_EXT1_ACPI : 0,
			      BIOS_EXT2_VIRTUAL},
		.release = {0xff, 0xff, 0xff, 0xff},
	};
	const struct text texts[] = {
		{offsetof(struct bios, vendor), config->bios_vendor},
		{offsetof(struct bios, version), config->bios_version},
		{offsetof(struct bios, date), config->bios_date},
	};

	put(table, &bios, sizeof(bios), texts, COUNT(texts));
}

/* RFC 4122's first three fields are little-endian here (7.2.1). */
static void swap_uuid(uint8_t to[16], const uint8_t from[16])
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

	for (size_t i = 0; i < sizeof(order); i++)
		to[i] = from[order[i]];
}

static void put_system(struct table *table, const struct impost_x86_smbios_config *config)
{
	struct system system = {.head.type = 1, .wake_up = WAKE_UP_POWER_SWITCH};
	const struct text texts[] = {
		{offsetof(struct system, manufacturer), config->manufacturer},
		{offsetof(struct system, product), config->product},
		{offsetof(struct system, version), config->version},
		{offsetof(struct system, serial), config->serial},
		{offsetof(struct system, sku), config->sku},
		{offsetof(struct system, family), config->family},
	};

	swap_uuid(system.uuid, config->uuid);
	put(table, &system, sizeof(system), texts, COUNT(texts));
}

static uint16_t put_chassis(struct table *table, const struct impost_x86_smbios_config *config)
{
	struct chassis chassis = {
		.head.type = 3,
		.type = CHASSIS_OTHER,
		.states = {STATE_SAFE, STATE_SAFE, STATE_SAFE},
		.security = SECURITY_NONE,
	};
	const struct text texts[] = {
		{offsetof(struct chassis, manufacturer), config->chassis_manufacturer},
		{offsetof(struct chassis, version), config->chassis_version},
		{offsetof(struct chassis, serial), config->chassis_serial},
		{offsetof(struct chassis, asset_tag), config->chassis_asset_tag},
		{offsetof(struct chassis, sku), config->chassis_sku},
	};

	return put(table, &chassis, sizeof(chassis), texts, COUNT(texts));
}

/* The baseboard, if there is one. */
static void put_board(struct table *table, const struct impost_x86_smbios_config *config,
		      uint16_t chassis)
{
	struct board board = {
		.head.type = 2,
		.features = BOARD_HOSTING,
		.chassis = chassis,
		.type = BOARD_MOTHERBOARD,
	};
	const struct text texts[] = {
		{offsetof(struct board, manufacturer), config->board_manufacturer},
		{offsetof(struct board, product), config->board_product},
		{offsetof(struct board, version), config->board_version},
		{offsetof(struct board, serial), config->board_serial},
		{offsetof(struct board, asset_tag), config->board_asset_tag},
	};
	int given = 0;

	for (size_t i = 0; i < COUNT(texts); i++)
		given |= is_given(texts[i].text);
	if (given)
		put(table, &board, sizeof(board), texts, COUNT(texts));
}

/* A number for its field of one byte (7.5.6 to 7.5.8). */
static uint8_t count_byte(uint32_t count)
{
	return (uint8_t)(count < COUNT_FIELD_BYTE ? count : COUNT_FIELD_BYTE);
}

static struct processor processor_make(const struct impost_x86_smbios_config *config)
{
	uint16_t cores = (uint16_t)config->cores;
	uint16_t threads = (uint16_t)(config->cores * config->threads);
	uint16_t family = (uint16_t)config->cpu_family;

	return (struct processor){
		.head.type = 4,
		.type = PROCESSOR_CENTRAL,
		.family = (uint8_t)(family < FAMILY_FIELD_BYTE ? family : FAMILY_FIELD_BYTE),
		.signature = config->cpu_signature,
		.features = config->cpu_features,
		.max_speed = (uint16_t)config->cpu_mhz,
		.speed = (uint16_t)config->cpu_mhz,
		.status = PROCESSOR_ENABLED,
		.upgrade = PROCESSOR_UPGRADE,
		.caches = {NO_HANDLE, NO_HANDLE, NO_HANDLE},
		.cores = count_byte(cores),
		.cores_enabled = count_byte(cores),
		.threads = count_byte(threads),
		.characteristics =
			(uint16_t)(PROCESSOR_64_BIT | (cores > 1 ? PROCESSOR_MULTI_CORE : 0) |
				   (config->threads > 1 ? PROCESSOR_MULTITHREAD : 0)),
		.family2 = family,
		.cores2 = cores,
		.cores_enabled2 = cores,
		.threads2 = threads,
	};
}

static void put_processors(struct table *table, const struct impost_x86_smbios_config *config)
{
	for (uint32_t i = 0; i < config->sockets; i++) {
		struct processor processor = processor_make(config);
		char name[16];
		const struct text texts[] = {
			{offsetof(struct processor, socket), name},
			{offsetof(struct processor, manufacturer), config->cpu_manufacturer},
			{offsetof(struct processor, version), config->cpu_brand},
		};

		snprintf(name, sizeof(name), "CPU %" PRIu32, i);
		put(table, &processor, sizeof(processor), texts, COUNT(texts));
	}
}

static void put_oem_strings(struct table *table, const struct impost_x86_smbios_config *config)
{
	struct oem_strings oem = {.head.type = 11, .count = (uint8_t)config->noem_strings};

	if (config->noem_strings == 0)
		return;
	put_formatted(table, &oem, sizeof(oem));
	for (uint32_t i = 0; i < config->noem_strings; i++)
		put_text(table, config->oem_strings[i]);
	put_end(table, config->noem_strings);
}

/* Puts device NUMBER, of BYTES. */
static void put_device(struct table *table, uint16_t array, uint32_t number, uint64_t bytes)
{
	uint64_t mib = bytes / MIB;
	struct memory_device device = {
		.head.type = 17,
		.array = array,
		.error = NO_ERROR_HANDLE,
		.total_width = WIDTH_UNKNOWN,
		.data_width = WIDTH_UNKNOWN,
		.size = (uint16_t)(mib < SIZE_EXTENDED ? mib : SIZE_EXTENDED),
		.form = FORM_DIMM,
		.type = MEMORY_RAM,
		.detail = DETAIL_OTHER,
		.extended_size = (uint32_t)(mib < SIZE_EXTENDED ? 0 : mib),
		.technology = TECHNOLOGY_DRAM,
		.modes = MODE_VOLATILE,
		.volatile_bytes = bytes,
	};
	char locator[16];
	const struct text texts[] = {{offsetof(struct memory_device, locator), locator}};

	snprintf(locator, sizeof(locator), "DIMM %" PRIu32, number);
	put(table, &device, sizeof(device), texts, COUNT(texts));
}

static void put_range(struct table *table, uint16_t array, const struct impost_x86_range *range)
{
	uint64_t last = range->gpa + range->bytes - 1;
	struct memory_range mapped = {.head.type = 19, .array = array, .width = 1};

	/* Which fields: 7.20; the last KiB's number must not be the mark itself. */
	if (last / 1024 < RANGE_EXTENDED) {
		mapped.start = (uint32_t)(range->gpa / 1024);
		mapped.end = (uint32_t)(last / 1024);
	} else {
		mapped.start = mapped.end = RANGE_EXTENDED;
		mapped.extended_start = range->gpa;
		mapped.extended_end = last;
	}
	put(table, &mapped, sizeof(mapped), NULL, 0);
}

/* The array, its devices, and where they are mapped. */
static void put_memory(struct table *table, const struct impost_x86_smbios_config *config)
{
	uint64_t bytes = 0, size = DEVICE_BYTES, kib;
	struct memory_array array = {
		.head.type = 16,
		.location = ARRAY_ON_BOARD,
		.use = ARRAY_SYSTEM_MEMORY,
		.correction = CORRECTION_NONE,
		.error = NO_ERROR_HANDLE,
	};
	uint16_t handle;

	for (uint32_t i = 0; i < config->nram; i++)
		bytes += config->ram[i].bytes;
	if (bytes == 0)
		return;
	bytes = (bytes + MIB - 1) & ~(MIB - 1);
	while (bytes > size * DEVICES_MAX)
		size *= 2;
	kib = bytes / 1024;
	array.capacity = kib < CAPACITY_EXTENDED ? (uint32_t)kib : CAPACITY_EXTENDED;
	array.extended_capacity = kib < CAPACITY_EXTENDED ? 0 : bytes;
	array.devices = (uint16_t)((bytes + size - 1) / size);
	handle = put(table, &array, sizeof(array), NULL, 0);
	for (uint32_t i = 0; i < array.devices; i++)
		put_device(table, handle, i, bytes - i * size < size ? bytes - i * size : size);
	for (uint32_t i = 0; i < config->nram; i++)
		put_range(table, handle, &config->ram[i]);
}

static void put_all(struct table *table, const struct impost_x86_smbios_config *config)
{
	struct boot_information boot = {.head.type = 32};
	struct head end = {.type = 127};

	put_bios(table, config);
	put_system(table, config);
	put_board(table, config, put_chassis(table, config));
	put_processors(table, config);
	put_oem_strings(table, config);
	put_memory(table, config);
	put(table, &boot, sizeof(boot), NULL, 0);
	for (uint32_t i = 0; i < config->nstructures; i++)
		put_bytes(table, config->structures[i].data, config->structures[i].bytes);
	put(table, &end, sizeof(end), NULL, 0);
}

static void put_entry_point(uint8_t *buf, uint64_t gpa, size_t table_bytes)
{
	struct entry_point entry = {
		.anchor = {'_', 'S', 'M', '3', '_'},
		.length = sizeof(entry),
		.major = VERSION_MAJOR,
		.minor = VERSION_MINOR,
		.revision = 1,
		.table_bytes = (uint32_t)table_bytes,
		.table = gpa + TABLE_OFFSET,
	};

	entry.checksum = structure_checksum(&entry, sizeof(entry));
	memset(buf, 0, TABLE_OFFSET);
	memcpy(buf, &entry, sizeof(entry));
}

int impost_x86_smbios_build(struct impost_context *ctx,
			    const struct impost_x86_smbios_config *config, uint64_t gpa, void *buf,
			    size_t capacity, size_t *ret_bytes)
{
	struct impost_x86_smbios_config checked;
	struct table table = {0};
	size_t bytes;
	int err;

	err = smbios_check(ctx, config, &checked);
	if (err)
		return err;
	put_all(&table, &checked); /* counts */
	bytes = TABLE_OFFSET + table.bytes;
	if (gpa % 16 || gpa + bytes < gpa || table.bytes > UINT32_MAX)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: %zu bytes at 0x%" PRIx64
					": it lies at a multiple of 16, and does not wrap around",
					bytes, gpa);
	err = structure_check_room(ctx, "SMBIOS", bytes, buf, capacity);
	if (err)
		return err;
	if (buf) {
		table = (struct table){(uint8_t *)buf + TABLE_OFFSET, table.bytes, 0, 0};
		put_all(&table, &checked);
		put_entry_point(buf, gpa, table.bytes);
	}
	*ret_bytes = bytes;
	return 0;
}
