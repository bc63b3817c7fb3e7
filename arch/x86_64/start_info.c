/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start_info: what a loader tells a PVH guest (Xen, docs/misc/pvh, and
 * xen/include/public/arch-x86/hvm/start_info.h, from which layouts and values are).
 */
#include "boot_info.h"

#include <assert.h>

#define MAGIC	0x336ec578u /* "xEn3" with bit 7 of the E set */
#define VERSION 1u	    /* the first with a memory map */

struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags; /* 0: not the initial, privileged domain of a Xen host */
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};
static_assert(sizeof(struct start_info) == 56, "start_info.h");

struct module {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};
static_assert(sizeof(struct module) == 32, "start_info.h");

struct memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type; /* as in e820 */
	uint32_t reserved;
};
static_assert(sizeof(struct memmap_entry) == 24, "start_info.h");

/* All that is written, at IMPOST_X86_START_INFO_ADDR. */
struct block {
	struct start_info info;
	uint64_t pad;
	struct module initrd;
	struct memmap_entry memmap[IMPOST_X86_E820_MAX];
};
static_assert(sizeof(struct block) <= IMPOST_X86_START_INFO_MAX &&
		      sizeof(struct block) <= BOOT_INFO_BLOCK_MAX,
	      "layout.h");

static uint64_t gpa_of(size_t offset)
{
	return IMPOST_X86_START_INFO_ADDR + offset;
}

static size_t fill(void *bytes, const struct impost_x86_boot_info *info)
{
	struct block *block = bytes;

	block->info = (struct start_info){
		.magic = MAGIC,
		.version = VERSION,
		.cmdline_paddr = IMPOST_X86_CMDLINE_ADDR,
		.rsdp_paddr = info->rsdp,
		.memmap_paddr = gpa_of(offsetof(struct block, memmap)),
		.memmap_entries = info->e820_count,
	};
	if (info->initrd) {
		block->info.nr_modules = 1;
		block->info.modlist_paddr = gpa_of(offsetof(struct block, initrd));
		block->initrd =
			(struct module){.paddr = info->initrd->gpa, .size = info->initrd->bytes};
	}
	for (uint32_t i = 0; i < info->e820_count; i++)
		block->memmap[i] = (struct memmap_entry){info->e820[i].gpa, info->e820[i].bytes,
							 info->e820[i].type, 0};
	return offsetof(struct block, memmap) + info->e820_count * sizeof(block->memmap[0]);
}

static int check(struct impost_context *ctx, const struct impost_x86_boot_info *info)
{
	switch (info->kernel->protocol) {
	case IMPOST_X86_PROTOCOL_PVH:
		return boot_info_check_initrd(ctx, info);
	case IMPOST_X86_PROTOCOL_FLAT:
		return 0;
	default:
		return impost_error_set(ctx, -EINVAL,
					"start_info is for the protocols pvh and flat: a kernel of "
					"another wants a zero page");
	}
}

int impost_x86_write_start_info(struct impost_memory *memory,
				const struct impost_x86_boot_info *info)
{
	static const struct boot_info_block start_info = {IMPOST_X86_START_INFO_ADDR, check, fill};

	return boot_info_write(memory, info, &start_info);
}
