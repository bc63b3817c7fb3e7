/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ways of telling a guest about its machine have in common. */
#ifndef ARCH_X86_64_BOOT_INFO_H
#define ARCH_X86_64_BOOT_INFO_H

#include <impost/x86_64/kernel.h>

/*
 * Takes INFO over, with "" for no command line. -EINVAL, with a text: its size, no kernel or e820
 * map; -ENOSPC: more than IMPOST_X86_E820_MAX entries.
 */
int boot_info_take(struct impost_context *ctx, const struct impost_x86_boot_info *info,
		   struct impost_x86_boot_info *ret_info);

/* 0 if all of the initrd, if there is one, lies below 4 GiB, or else -EINVAL with a text. */
int boot_info_check_initrd(struct impost_context *ctx, const struct impost_x86_boot_info *info);

#endif
