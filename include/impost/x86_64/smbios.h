/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMBIOS 3: what the machine is called, and which processors and memory it has, for a guest's
 * inventory (DMTF DSP0134, version 3.3). Pure: from a description to bytes that are right at one
 * address. Any thread. -E2BIG is as error.h has it.
 */
#ifndef IMPOST_X86_64_SMBIOS_H
#define IMPOST_X86_64_SMBIOS_H

#include <stddef.h>

#include <impost/error.h>
#include <impost/x86_64/layout.h>

/* Limits of texts, without the NUL: names, which readers want short (DSP0134 2.x had this limit),
 * and OEM strings, in which a host hands whole values to its guest. */
#define IMPOST_X86_SMBIOS_STRING_MAX	 64u
#define IMPOST_X86_SMBIOS_OEM_STRING_MAX 4096u
#define IMPOST_X86_SMBIOS_STRINGS_MAX	 255u /* of one structure: they are numbered in a byte */

/* Handles of a host's own structures; those below are the library's, those above the standard's. */
#define IMPOST_X86_SMBIOS_HANDLE_MIN 0x8000u
#define IMPOST_X86_SMBIOS_HANDLE_MAX 0xfeffu

/* A structure of the host's own, as it shall stand in the table: header (type, length, handle),
 * formatted area, texts, and the two NULs that end it (DSP0134, 6.1). */
struct impost_x86_smbios_structure {
	const void *data;
	uint32_t bytes;
	uint32_t reserved; /* 0 */
};

#define IMPOST_X86_SMBIOS_ACPI 1u /* flags: the firmware has ACPI tables */

/*
 * What the table tells. All but `size` may be 0 or NULL. Texts are printable ASCII, up to
 * IMPOST_X86_SMBIOS_STRING_MAX of it; where one is NULL the default named here stands, none where
 * none is named; "" is no text.
 */
struct impost_x86_smbios_config {
	uint32_t size;	/* set by the caller to sizeof(struct impost_x86_smbios_config) */
	uint32_t flags; /* IMPOST_X86_SMBIOS_* */

	/* type 0 */
	const char *bios_vendor;  /* "Impost" */
	const char *bios_version; /* impost_version() */
	const char *bios_date;	  /* MM/DD/YYYY; "01/01/2025" */

	/* type 1 */
	const char *manufacturer; /* "Impost" */
	const char *product;	  /* "Virtual Machine" */
	const char *version;
	const char *serial;
	const char *sku;
	const char *family;
	uint8_t uuid[16]; /* in the order in which it is written as text; all 0: none */

	/* type 2: is there if one of these has a text */
	const char *board_manufacturer;
	const char *board_product;
	const char *board_version;
	const char *board_serial;
	const char *board_asset_tag;

	/* type 3 */
	const char *chassis_manufacturer; /* as `manufacturer` */
	const char *chassis_version;
	const char *chassis_serial;
	const char *chassis_asset_tag;
	const char *chassis_sku;

	/* type 4: one for each socket */
	const char *cpu_manufacturer; /* "GenuineIntel", "AuthenticAMD": of CPUID leaf 0 */
	const char *cpu_brand;	      /* of CPUID leaves 0x80000002 to 4 */
	uint32_t cpu_signature;	      /* EAX of CPUID leaf 1 */
	uint32_t cpu_features;	      /* EDX of CPUID leaf 1 */
	uint32_t cpu_family;	      /* DSP0134, 7.5.2: "Processor Family"; 0: 1, "Other" */
	uint32_t cpu_mhz;	      /* 0: unknown */
	uint32_t sockets;	      /* 0: 1 */
	uint32_t cores;		      /* for each socket, of all its dies; 0: 1 */
	uint32_t threads;	      /* for each core; 0: 1 */

	uint32_t noem_strings;
	const char *const *oem_strings; /* type 11; each up to IMPOST_X86_SMBIOS_OEM_STRING_MAX */

	/* types 16, 17 and 19: left out if there is none; in order of address */
	const struct impost_x86_range *ram;
	uint32_t nram;

	uint32_t nstructures;
	const struct impost_x86_smbios_structure *structures; /* in this order, behind ours */
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes SMBIOS for guest-physical address GPA into BUF: the 64-bit entry point ("_SM3_"), and
 * behind it the structures: BIOS (type 0), system (1), baseboard (2), chassis (3), processors (4),
 * OEM strings (11), memory array (16), devices (17) and ranges (19), boot information (32), the
 * host's own, and the end (127). An operating system finds it where it lies on 16 bytes in 0xf0000
 * to 0xfffff: IMPOST_X86_SMBIOS_ADDR is meant for it.
 *
 * Memory is told of in devices of 16 GiB, of a larger power of two when there were more than 128,
 * the last one's size rounded up to whole MiB.
 *
 * *ret_bytes is what it takes; with BUF NULL nothing is written, and CAPACITY is not looked at.
 * CTX, for error texts, may be NULL.
 *
 * -EINVAL: a wrong `size` or `reserved`; a flag that is none; GPA no multiple of 16, or a table
 * that would wrap around; a text that is too long, or not printable ASCII, or no date; too many OEM
 * strings, or an empty one; a topology, processor family or clock that cannot be told (65534
 * threads a socket); RAM that is empty, not in whole pages, beyond 2^52, out of order or
 * overlapping; a structure of the host's own that is malformed, of a type that only the library (0,
 * 1, 32) or nobody (127) may add, with a handle out of range or taken; NULL where something is
 * counted. -ENOSPC: it needs more than CAPACITY bytes. BUF and *ret_bytes are left alone then; the
 * text names what was wrong.
 */
IMPOST_API int impost_x86_smbios_build(struct impost_context *ctx,
				       const struct impost_x86_smbios_config *config, uint64_t gpa,
				       void *buf, size_t capacity, size_t *ret_bytes);

#ifdef __cplusplus
}
#endif

#endif
