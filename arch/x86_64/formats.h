/* SPDX-License-Identifier: Apache-2.0 */
/* The readers of kernel files, one for each format, behind impost_x86_kernel_read() and _load(). */
#ifndef ARCH_X86_64_FORMATS_H
#define ARCH_X86_64_FORMATS_H

#include "image.h"

#include <gelf.h>

/* What Linux takes without a setup header that says so: COMMAND_LINE_SIZE less the NUL, and a
 * ramdisk below 4 GiB. */
#define CMDLINE_MAX (IMPOST_X86_CMDLINE_DEFAULT - 1)
#define INITRD_MAX  UINT64_C(0xffffffff)

/* Refuses (-EINVAL) a RET_KERNEL that is the caller's, and whose size was not set. */
int kernel_check_out(struct impost_context *ctx, const struct impost_x86_kernel *ret_kernel);

/*
 * Each judges IMAGE and fills RET_KERNEL but for `size`. PROTOCOL is what is wanted, and AUTO where
 * the reader chooses.
 */
int bzimage_read(const struct image *image, uint32_t protocol,
		 struct impost_x86_kernel *ret_kernel);
int elf_read(const struct image *image, uint32_t protocol, struct impost_x86_kernel *ret_kernel);
int flat_read(const struct image *image, const struct impost_x86_kernel_want *want,
	      struct impost_x86_kernel *ret_kernel);

/*
 * Loads the segments of an ELF file that was read as KERNEL. The range from start to end need not
 * be RAM between them. -IMPOST_EIMAGE: the file has changed since.
 */
int elf_load(const struct image *image, struct impost_memory *memory,
	     const struct impost_x86_kernel *kernel);

/* 0 if what is loaded is the same for NOW and BEFORE, or -IMPOST_EIMAGE: the file has changed. */
int kernel_compare(const struct image *image, const struct impost_x86_kernel *now,
		   const struct impost_x86_kernel *before);

/*
 * Looks into the note segment PHDR of ELF for the PVH entry. *FOUND says whether *ENTRY is one
 * already, and afterwards whether there was one. -IMPOST_EIMAGE: malformed notes, or a second,
 * different entry.
 */
int pvh_look(const struct image *image, Elf *elf, const GElf_Phdr *phdr, int *found,
	     uint64_t *entry);

#endif
