/* SPDX-License-Identifier: Apache-2.0 */
/* What a host may tell SMBIOS of its machine: checks, and defaults (DMTF DSP0134, 3.3). */
#include "smbios_checks.h"

#include <inttypes.h>
#include <string.h>

#include "structure.h"

#define ADDRESS_BITS  52     /* what a physical address can have (SDM vol. 3, 4.1.4) */
#define COUNT_MAX     0xfffe /* 7.5.6 to 7.5.8: cores and threads of a socket */
#define SOCKETS_MAX   4096u  /* far more than fit; our handles stay below the host's */
#define RANGES_MAX    4096u
#define HEAD_BYTES    4u
#define MHZ_MAX	      0xffffu
#define FAMILY_OTHER  1
#define FAMILY_MAX    0xfffdu /* 7.5.2: the last ones are marks, as are 0xfe and 0xff */
#define FAMILY_MARK   0xfeu
#define FAMILY_MARK_2 0xffu

/* The texts, and what stands where there is none. */
#define TEXT(member, fallback)                                                                  \
	{                                                                                       \
		offsetof(struct impost_x86_smbios_config, member), "SMBIOS: " #member, fallback \
	}
static const struct {
	size_t offset;
	const char *name;
	const char *fallback;
} texts[] = {
	TEXT(bios_vendor, "Impost"),
	TEXT(bios_version, NULL),
	TEXT(bios_date, "01/01/2025"),
	TEXT(manufacturer, "Impost"),
	TEXT(product, "Virtual Machine"),
	TEXT(version, NULL),
	TEXT(serial, NULL),
	TEXT(sku, NULL),
	TEXT(family, NULL),
	TEXT(board_manufacturer, NULL),
	TEXT(board_product, NULL),
	TEXT(board_version, NULL),
	TEXT(board_serial, NULL),
	TEXT(board_asset_tag, NULL),
	TEXT(chassis_manufacturer, NULL),
	TEXT(chassis_version, NULL),
	TEXT(chassis_serial, NULL),
	TEXT(chassis_asset_tag, NULL),
	TEXT(chassis_sku, NULL),
	TEXT(cpu_manufacturer, NULL),
	TEXT(cpu_brand, NULL),
};
#undef TEXT

static void set_number(uint32_t *number, uint32_t fallback)
{
	if (!*number)
		*number = fallback;
}

static void set_text(const char **text, const char *fallback)
{
	if (!*text)
		*text = fallback;
}

/* Sets the defaults, and checks every text. */
static int check_texts(struct impost_context *ctx, struct impost_x86_smbios_config *config)
{
	int err = 0;

	set_text(&config->bios_version, impost_version());
	for (size_t i = 0; !err && i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char **text = (void *)((char *)config + texts[i].offset);

		set_text(text, texts[i].fallback);
		if (*text)
			err = structure_check_text(ctx, texts[i].name, *text,
						   IMPOST_X86_SMBIOS_STRING_MAX);
	}
	set_text(&config->chassis_manufacturer, config->manufacturer);
	return err;
}

/* MM/DD/YYYY (7.1, "BIOS Release Date"). */
static int check_date(struct impost_context *ctx, const char *date)
{
	static const char form[] = "00/00/0000";
	size_t i = 0;

	while (form[i] && (form[i] == '0' ? date[i] >= '0' && date[i] <= '9' : date[i] == form[i]))
		i++;
	if (is_given(date) &&
	    (form[i] || date[i] || strncmp(date, "01", 2) < 0 || strncmp(date, "12", 2) > 0 ||
	     strncmp(date + 3, "01", 2) < 0 || strncmp(date + 3, "31", 2) > 0))
		return impost_error_set(
			ctx, -EINVAL, "SMBIOS: bios_date \"%s\" is no date like 12/31/2025", date);
	return 0;
}

static int check_oem_strings(struct impost_context *ctx,
			     const struct impost_x86_smbios_config *config)
{
	int err;

	if (config->noem_strings > IMPOST_X86_SMBIOS_STRINGS_MAX)
		return impost_error_set(ctx, -EINVAL, "SMBIOS: %u OEM strings, there may be %u",
					config->noem_strings, IMPOST_X86_SMBIOS_STRINGS_MAX);
	err = structure_check_counted(ctx, "SMBIOS", "OEM strings", config->noem_strings,
				      config->oem_strings);
	for (uint32_t i = 0; !err && i < config->noem_strings; i++) {
		if (!is_given(config->oem_strings[i]))
			return impost_error_set(ctx, -EINVAL, "SMBIOS: OEM string %u is %s", i,
						config->oem_strings[i] ? "empty" : "NULL");
		err = structure_check_text(ctx, "SMBIOS: an OEM string", config->oem_strings[i],
					   IMPOST_X86_SMBIOS_OEM_STRING_MAX);
	}
	return err;
}

static int check_processors(struct impost_context *ctx, struct impost_x86_smbios_config *config)
{
	uint32_t family;

	set_number(&config->cpu_family, FAMILY_OTHER);
	set_number(&config->sockets, 1);
	set_number(&config->cores, 1);
	set_number(&config->threads, 1);
	family = config->cpu_family;
	if (config->sockets > SOCKETS_MAX || (uint64_t)config->cores * config->threads > COUNT_MAX)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: %u sockets of %u cores of %u threads; it can tell "
					"of %u sockets, and of %u threads in each",
					config->sockets, config->cores, config->threads,
					SOCKETS_MAX, COUNT_MAX);
	if (family > FAMILY_MAX || family == FAMILY_MARK || family == FAMILY_MARK_2)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: cpu_family 0x%x is no processor family", family);
	if (config->cpu_mhz > MHZ_MAX)
		return impost_error_set(ctx, -EINVAL, "SMBIOS: cpu_mhz %u; it may be %u",
					config->cpu_mhz, MHZ_MAX);
	return 0;
}

/* One range of RAM; RET_END is where the one before it ends, and then where it ends. */
static int check_range(struct impost_context *ctx, const struct impost_x86_range *range,
		       uint64_t *ret_end)
{
	const uint64_t limit = UINT64_C(1) << ADDRESS_BITS;

	if (range->bytes == 0 || range->gpa % 4096 || range->bytes % 4096 || range->gpa >= limit ||
	    range->bytes > limit - range->gpa)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: RAM of 0x%" PRIx64 " bytes at 0x%" PRIx64
					": it is whole pages below 2^%d",
					range->bytes, range->gpa, ADDRESS_BITS);
	if (range->gpa < *ret_end)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: RAM at 0x%" PRIx64
					" stands behind RAM that ends at 0x%" PRIx64
					": ranges are in order, and do not overlap",
					range->gpa, *ret_end);
	*ret_end = range->gpa + range->bytes;
	return 0;
}

static int check_ram(struct impost_context *ctx, const struct impost_x86_smbios_config *config)
{
	uint64_t end = 0;
	int err;

	if (config->nram > RANGES_MAX)
		return impost_error_set(ctx, -EINVAL, "SMBIOS: %u ranges of RAM, there may be %u",
					config->nram, RANGES_MAX);
	err = structure_check_counted(ctx, "SMBIOS", "ranges of RAM", config->nram, config->ram);
	for (uint32_t i = 0; !err && i < config->nram; i++)
		err = check_range(ctx, &config->ram[i], &end);
	return err;
}

/*
 * Where the texts from AT on end, with the NUL that ends them all: BYTES where all is well, less
 * or more where not.
 */
static size_t end_of_texts(const uint8_t *data, size_t at, size_t bytes)
{
	unsigned int count = 0;

	if (data[at] == 0)
		return data[at + 1] == 0 ? at + 2 : 0;
	while (at < bytes && data[at]) {
		const uint8_t *nul = memchr(data + at, 0, bytes - at);

		if (!nul || ++count > IMPOST_X86_SMBIOS_STRINGS_MAX)
			return 0;
		for (; data + at < nul; at++)
			if (data[at] < ' ' || data[at] > '~')
				return 0;
		at++;
	}
	return at + 1;
}

/* Whether the library alone may add structures of TYPE, or none may. */
static int is_ours(uint8_t type)
{
	return type == 0 || type == 1 || type == 32 || type == 127;
}

/* Handles that the host's structures have taken, by their distance from the first. */
typedef uint8_t handles[IMPOST_X86_SMBIOS_HANDLE_MAX - IMPOST_X86_SMBIOS_HANDLE_MIN + 1];

static int check_structure(struct impost_context *ctx, uint32_t number,
			   const struct impost_x86_smbios_structure *structure, handles taken)
{
	const uint8_t *data = structure->data;
	uint32_t handle;
	int err = structure_check_reserved(ctx, "impost_x86_smbios_structure", structure->reserved);

	if (err)
		return err;
	if (!data || structure->bytes < HEAD_BYTES + 2 || data[1] < HEAD_BYTES ||
	    data[1] + 2u > structure->bytes)
		return impost_error_set(
			ctx, -EINVAL,
			"SMBIOS: own structure %u of %u bytes is cut, or its length "
			"is not that of its formatted area",
			number, structure->bytes);
	if (end_of_texts(data, data[1], structure->bytes) != structure->bytes)
		return impost_error_set(
			ctx, -EINVAL,
			"SMBIOS: own structure %u does not end with printable texts "
			"and two NULs",
			number);
	if (is_ours(data[0]))
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: own structure %u is of type %u, which is the "
					"library's to add",
					number, data[0]);
	handle = data[2] | (uint32_t)data[3] << 8;
	if (handle < IMPOST_X86_SMBIOS_HANDLE_MIN || handle > IMPOST_X86_SMBIOS_HANDLE_MAX)
		return impost_error_set(ctx, -EINVAL,
					"SMBIOS: own structure %u has handle 0x%x; it may be 0x%x "
					"to 0x%x",
					number, handle, IMPOST_X86_SMBIOS_HANDLE_MIN,
					IMPOST_X86_SMBIOS_HANDLE_MAX);
	if (taken[handle - IMPOST_X86_SMBIOS_HANDLE_MIN])
		return impost_error_set(
			ctx, -EINVAL, "SMBIOS: own structure %u has handle 0x%x, as one before it",
			number, handle);
	taken[handle - IMPOST_X86_SMBIOS_HANDLE_MIN] = 1;
	return 0;
}

static int check_structures(struct impost_context *ctx,
			    const struct impost_x86_smbios_config *config)
{
	handles taken = {0};
	int err = structure_check_counted(ctx, "SMBIOS", "own structures", config->nstructures,
					  config->structures);

	for (uint32_t i = 0; !err && i < config->nstructures; i++)
		err = check_structure(ctx, i, &config->structures[i], taken);
	return err;
}

int smbios_check(struct impost_context *ctx, const struct impost_x86_smbios_config *from,
		 struct impost_x86_smbios_config *config)
{
	int err = structure_take(ctx, "impost_x86_smbios_config", config, sizeof(*config), from,
				 SMBIOS_LEAST_CONFIG);

	if (err)
		return err;
	if (config->flags & ~IMPOST_X86_SMBIOS_ACPI)
		return impost_error_set(ctx, -EINVAL, "SMBIOS: flags 0x%x: there are none but 0x%x",
					config->flags, IMPOST_X86_SMBIOS_ACPI);
	err = check_texts(ctx, config);
	if (!err)
		err = check_date(ctx, config->bios_date);
	if (!err)
		err = check_oem_strings(ctx, config);
	if (!err)
		err = check_processors(ctx, config);
	if (!err)
		err = check_ram(ctx, config);
	if (!err)
		err = check_structures(ctx, config);
	return err;
}
