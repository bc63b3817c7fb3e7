/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ways of telling a guest about its machine have in common. */
#ifndef ARCH_X86_64_BOOT_INFO_H
#define ARCH_X86_64_BOOT_INFO_H

#include <impost/x86_64/kernel.h>

/* One of the ways: a block in guest memory. */
struct boot_info_block {
	uint64_t gpa;

	/* 0, or refuses with a text what it cannot tell. */
	int (*check)(struct impost_context *ctx, const struct impost_x86_boot_info *info);

	/* Makes the block in BLOCK, which is zeroed; returns its bytes. */
	size_t (*fill)(void *block, const struct impost_x86_boot_info *info);
};

#define BOOT_INFO_BLOCK_MAX IMPOST_PAGE_SIZE

/*
 * Judges INFO, and writes its command line, "" if there is none, and WAY's block. -EINVAL, with a
 * text: INFO's size, no kernel or e820 map; -ENOSPC: more than IMPOST_X86_E820_MAX entries; or as
 * `check` or impost_x86_write_cmdline().
 */
int boot_info_write(struct impost_memory *memory, const struct impost_x86_boot_info *info,
		    const struct boot_info_block *way);

/* 0 if all of the initrd, if there is one, lies below 4 GiB, or else -EINVAL with a text. */
int boot_info_check_initrd(struct impost_context *ctx, const struct impost_x86_boot_info *info);

#endif
