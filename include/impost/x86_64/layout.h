/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has which guest-physical addresses: RAM around the hole below 4 GiB, what the set-up puts
 * where, and the e820 map that tells the guest. A memory map is enough, no VM is needed. A layout
 * is plain data of its owner's: one thread at a time.
 */
#ifndef IMPOST_X86_64_LAYOUT_H
#define IMPOST_X86_64_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <impost/memory.h>

/*
 * Where things lie in guest-physical memory. Low memory as the boot protocol and PC convention have
 * it (kernel, Documentation/arch/x86/boot.rst, "Memory layout").
 */
#define IMPOST_X86_GDT_ADDR	   UINT64_C(0x500)
#define IMPOST_X86_IDT_ADDR	   UINT64_C(0x540)
#define IMPOST_X86_TSS_ADDR	   UINT64_C(0x580)  /* 104 bytes */
#define IMPOST_X86_START_INFO_ADDR UINT64_C(0x6000) /* PVH: start_info, modules, memory map */
#define IMPOST_X86_START_INFO_MAX  UINT64_C(0x1000)
#define IMPOST_X86_ZERO_PAGE_ADDR  UINT64_C(0x7000)
#define IMPOST_X86_BOOT_STACK	   UINT64_C(0x8ff0)
/* Page tables that end below the command line; others lie in high RAM. */
#define IMPOST_X86_PAGE_TABLE_ADDR UINT64_C(0x9000)
#define IMPOST_X86_CMDLINE_ADDR	   UINT64_C(0x20000)
#define IMPOST_X86_CMDLINE_MAX	   UINT64_C(0x10000) /* bytes, with the NUL */
#define IMPOST_X86_EBDA_ADDR	   UINT64_C(0x9fc00)
/*
 * The VM generation id: in a page that the e820 map has as reserved, and at none of the multiples
 * of 2 KiB where a guest looks for option ROMs.
 */
#define IMPOST_X86_VMGENID_ADDR UINT64_C(0xdf028)
/* The RSDP, where a guest looks for it (ACPI 6.5, 5.2.5.1), and the other tables if they fit. */
#define IMPOST_X86_ACPI_ADDR UINT64_C(0xe0000)
#define IMPOST_X86_ACPI_MAX  UINT64_C(0x10000)
/* In the BIOS area, where a guest looks for it (MP specification 1.4, chapter 4). */
#define IMPOST_X86_MPTABLE_ADDR UINT64_C(0xf0000)
#define IMPOST_X86_MPTABLE_MAX	UINT64_C(0x4000)
/* In the BIOS area, where a guest looks for it (DSP0134 3.3, 5.2.2). */
#define IMPOST_X86_SMBIOS_ADDR UINT64_C(0xf4000)
#define IMPOST_X86_SMBIOS_MAX  UINT64_C(0xc000)
#define IMPOST_X86_HIGH_RAM    UINT64_C(0x100000)
/*
 * No RAM from here to 4 GiB: 1.25 GiB have room for a PCI ECAM window of 256 MiB, 32-bit BARs and
 * the interrupt controllers.
 */
#define IMPOST_X86_HOLE_START  UINT64_C(0xb0000000)
#define IMPOST_X86_HOLE_END    UINT64_C(0x100000000)
#define IMPOST_X86_ECAM_ADDR   UINT64_C(0xb0000000) /* proposed for a host's PCI ECAM: 256 MiB */
#define IMPOST_X86_IOAPIC_ADDR UINT64_C(0xfec00000) /* MP specification 1.4, 3.6.5 */
#define IMPOST_X86_LAPIC_ADDR  UINT64_C(0xfee00000) /* SDM vol. 3, 11.4.1 */

#ifdef __cplusplus
extern "C" {
#endif

/* --- RAM --- */

/* Guest-physical addresses. */
struct impost_x86_range {
	uint64_t gpa;
	uint64_t bytes; /* 0: nothing */
};

/*
 * Divides BYTES of RAM around a hole: RET_PARTS[0] begins at 0 and ends at HOLE_START or before,
 * RET_PARTS[1] has the rest, from HOLE_END. Pure. -EINVAL: BYTES or HOLE_START is 0, something is
 * no multiple of IMPOST_PAGE_SIZE, the hole ends before it starts, or RAM would wrap around.
 */
IMPOST_API int impost_x86_split_ram(uint64_t bytes, uint64_t hole_start, uint64_t hole_end,
				    struct impost_x86_range ret_parts[2]);

/*
 * Adds BYTES of RAM to MEMORY, around the hole IMPOST_X86_HOLE_START to IMPOST_X86_HOLE_END, made
 * of what [memory] of the configuration says (impost_region_fill()): anonymous memory if it says
 * nothing. A file has the RAM's bytes from its beginning on, without the hole. Unless it is to be
 * prefaulted, or of huge pages, it is reserved, not touched (IMPOST_REGION_NORESERVE): a guest may
 * have more than the host can give at once, and costs what it uses. What is to be prefaulted, and
 * is more than the host has, is refused before a page is touched. -EINVAL: as
 * impost_x86_split_ram() and impost_region_fill(); else as impost_memory_add(); on failure nothing
 * was added.
 */
IMPOST_API int impost_x86_add_ram(struct impost_memory *memory, uint64_t bytes);

/* --- places --- */

/* Types of memory in the e820 map (ACPI 6.5, table 15.4). */
#define IMPOST_X86_E820_RAM	 1u
#define IMPOST_X86_E820_RESERVED 2u
#define IMPOST_X86_E820_ACPI	 3u /* ACPI tables, RAM when the guest has read them */
#define IMPOST_X86_E820_NVS	 4u
#define IMPOST_X86_E820_UNUSABLE 5u
#define IMPOST_X86_E820_PMEM	 7u

/* A named range of guest-physical addresses. */
struct impost_x86_place {
	uint64_t gpa;
	uint64_t bytes;
	/* IMPOST_X86_E820_*, what the e820 map says of it; 0: nothing, what is RAM stays RAM */
	uint32_t type;
	uint32_t reserved;
	char what[32]; /* "kernel", "ACPI tables": for error texts */
};

#define IMPOST_X86_PLACES_MAX 64u

/* What is taken. Read it freely; change it through the functions below. */
struct impost_x86_layout {
	uint32_t size;	/* set by impost_x86_layout_init() */
	uint32_t count; /* places: in order of address, never overlapping */
	struct impost_x86_place place[IMPOST_X86_PLACES_MAX];
};

/* Makes a layout in which nothing is taken. */
static inline void impost_x86_layout_init(struct impost_x86_layout *ret_layout)
{
	ret_layout->size = sizeof(*ret_layout);
	ret_layout->count = 0;
}

/*
 * Claims BYTES at GPA for WHAT (copied). CTX, for error texts, may be NULL. -EEXIST: another place
 * overlaps it (the text names both, with their ranges); -ENOSPC: LAYOUT is full; -EINVAL: 0 bytes,
 * a range that wraps around, WHAT is NULL or empty or has more than 31 bytes, TYPE is none of those
 * above or is RAM, which memory alone can be, or LAYOUT was not initialised. On failure LAYOUT is
 * as it was.
 */
IMPOST_API int impost_x86_layout_claim(struct impost_context *ctx, struct impost_x86_layout *layout,
				       const char *what, uint64_t gpa, uint64_t bytes,
				       uint32_t type);

/* What is wanted of a place that is to be found. */
struct impost_x86_want {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_want) */
	uint32_t type; /* as for impost_x86_layout_claim() */
	uint64_t bytes;
	uint64_t align;	  /* power of two; 0: IMPOST_PAGE_SIZE */
	uint64_t min;	  /* lowest address that it may have */
	uint64_t max;	  /* highest address that it may have, inclusive; 0: no limit */
	const char *what; /* as for impost_x86_layout_claim() */
};

/*
 * Finds the highest free place in the RAM of MEMORY that WANT allows, and claims it. What e820
 * always reserves, IMPOST_X86_EBDA_ADDR to IMPOST_X86_HIGH_RAM, is not free. -EFBIG: there is none
 * (the text has what is needed and the most that is free in one piece); -EINVAL: WANT's size or
 * alignment; -E2BIG: as error.h has it; else as impost_x86_layout_claim() or impost_memory_get().
 * On failure LAYOUT is as it was.
 */
IMPOST_API int impost_x86_layout_place(struct impost_memory *memory,
				       struct impost_x86_layout *layout,
				       const struct impost_x86_want *want, uint64_t *ret_gpa);

/* --- the e820 map --- */

/* One entry of the e820 map (kernel, boot.rst, "zero page"). */
struct impost_x86_e820 {
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type; /* IMPOST_X86_E820_* */
	uint32_t reserved;
};

#define IMPOST_X86_E820_MAX 128u /* entries in the zero page */

/*
 * Describes MEMORY and LAYOUT (may be NULL) as e820: in order of address, disjoint, adjoining
 * ranges of one type in one entry. A place that has a type is of that type, in RAM or outside it;
 * else IMPOST_X86_EBDA_ADDR to IMPOST_X86_HIGH_RAM, EBDA and ROM area, is reserved; else writable
 * regions are RAM. What is none of these, read-only regions too, is left out. -ENOSPC: more than
 * CAPACITY (the text has how many); -EINVAL: LAYOUT was not initialised. On failure ENTRIES is
 * untouched.
 */
IMPOST_API int impost_x86_e820(struct impost_memory *memory, const struct impost_x86_layout *layout,
			       struct impost_x86_e820 *entries, uint32_t capacity,
			       uint32_t *ret_count);

#ifdef __cplusplus
}
#endif

#endif
