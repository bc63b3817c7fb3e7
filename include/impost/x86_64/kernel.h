/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels, initrds and command lines: what a file is, where it goes, and how the guest is told.
 * Files are hostile: every count and address in them is checked before it is used. Structs here are
 * the caller's plain data, one thread at a time; descriptors stay the caller's, and their offset is
 * neither used nor moved.
 *
 * The caller sets `size` in every struct that has one, what it gets as well as what it gives, to
 * the struct's sizeof: structs grow at their end, and no more than that is read or filled. -E2BIG:
 * one asks for something that this library does not know (error.h).
 */
#ifndef IMPOST_X86_64_KERNEL_H
#define IMPOST_X86_64_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include <impost/memory.h>
#include <impost/x86_64/layout.h>

/* How a kernel is entered. */
#define IMPOST_X86_PROTOCOL_AUTO 0u /* found out from the file */
/* boot.rst, "64-bit Boot Protocol": a bzImage, or an ELF64 at e_entry */
#define IMPOST_X86_PROTOCOL_LINUX64 1u
#define IMPOST_X86_PROTOCOL_LINUX32 2u /* boot.rst, "32-bit Boot Protocol": a bzImage */
/* Xen, docs/misc/pvh: an ELF file with a note XEN_ELFNOTE_PHYS32_ENTRY */
#define IMPOST_X86_PROTOCOL_PVH	 3u
#define IMPOST_X86_PROTOCOL_FLAT 4u /* bytes, loaded and entered at an address */

/* The mode in which a CPU enters the kernel. */
#define IMPOST_X86_MODE_REAL	  1u /* 16-bit, addresses below 1 MiB */
#define IMPOST_X86_MODE_PROTECTED 2u /* 32-bit, flat segments, paging off */
#define IMPOST_X86_MODE_LONG	  3u /* 64-bit, memory mapped to itself */

/* What a kernel file is. */
#define IMPOST_X86_FORMAT_BZIMAGE 1u
#define IMPOST_X86_FORMAT_ELF	  2u
#define IMPOST_X86_FORMAT_FLAT	  3u

#ifdef __cplusplus
extern "C" {
#endif

/*
 * "auto", "linux64", "linux32", "pvh", "flat"; "real", "protected", "long": static text, and NULL
 * for a number that is none. Back from a name: -EINVAL when it is none, or NULL.
 */
IMPOST_API const char *impost_x86_protocol_name(uint32_t protocol);
IMPOST_API int impost_x86_protocol_from_name(const char *name, uint32_t *ret_protocol);
IMPOST_API const char *impost_x86_mode_name(uint32_t mode);
IMPOST_API int impost_x86_mode_from_name(const char *name, uint32_t *ret_mode);

/* --- kernel --- */

/* What is wanted of a kernel file. */
struct impost_x86_kernel_want {
	uint32_t size;	   /* set by the caller to sizeof(struct impost_x86_kernel_want) */
	uint32_t protocol; /* IMPOST_X86_PROTOCOL_* */
	/* Flat only, 0 for others: IMPOST_X86_MODE_*; 0: long. */
	uint32_t mode;
	uint32_t reserved; /* 0 */
	/*
	 * Flat only, 0 for others: where it is loaded and entered. In real mode CS, DS, ES and SS
	 * are `address` / 16 and IP is 0, so it must be a multiple of 16, and all of the file must
	 * lie below IMPOST_X86_EBDA_ADDR. 0: 0x10000 in real mode, IMPOST_X86_HIGH_RAM else.
	 */
	uint64_t address;
};

/* Bytes of the setup header that are kept: file offsets 0x1f1 to 0x1f1 + 0x8f (boot.rst, "The
 * Real-Mode Kernel Header"). */
#define IMPOST_X86_SETUP_HEADER_MAX 144u

/* What a kernel file is, and where it goes. */
struct impost_x86_kernel {
	uint32_t size;		 /* set by the caller to sizeof(struct impost_x86_kernel) */
	uint32_t format;	 /* IMPOST_X86_FORMAT_* */
	uint32_t protocol;	 /* IMPOST_X86_PROTOCOL_*, never AUTO */
	uint32_t mode;		 /* IMPOST_X86_MODE_* */
	uint32_t version;	 /* of the boot protocol, 0x020f for 2.15; 0 if not bzImage */
	uint32_t cmdline_max;	 /* bytes without the NUL that the kernel takes */
	uint64_t entry;		 /* gpa */
	uint64_t start;		 /* gpa range that it occupies, with its bss and */
	uint64_t end;		 /* initial memory need */
	uint64_t payload_offset; /* in the file: what is loaded at `start`; not for ELF */
	uint64_t payload_bytes;
	uint64_t initrd_max; /* highest gpa that an initrd may occupy */
	uint32_t setup_header_bytes;
	uint32_t reserved;
	uint8_t setup_header[IMPOST_X86_SETUP_HEADER_MAX]; /* for the zero page */
};

#define IMPOST_X86_BZIMAGE_HEAD 1024u /* bytes that hold every setup header */

/*
 * Reads the head of a bzImage: HEAD is the first HEAD_BYTES bytes of a file of FILE_BYTES bytes, at
 * least IMPOST_X86_BZIMAGE_HEAD of them unless the file is shorter (-EINVAL, as for RET_KERNEL's
 * size). Loads nothing. CTX, for error texts, may be NULL. The protocol is LINUX64, or LINUX32
 * where a kernel has no 64-bit entry. The kernel's place is its pref_address, relocatable or not:
 * loaded lower it would move itself there. -IMPOST_EIMAGE: not a bzImage, older than protocol 2.10,
 * truncated, with a place below 1 MiB, or with sizes that cannot be; the text says which.
 */
IMPOST_API int impost_x86_bzimage_parse(struct impost_context *ctx, const void *head,
					size_t head_bytes, uint64_t file_bytes,
					struct impost_x86_kernel *ret_kernel);

/*
 * Reads and judges the kernel in FD, and loads nothing. CTX, for error texts, may be NULL. WANT
 * may be NULL: AUTO. AUTO takes LINUX64 for a bzImage, or LINUX32 where that has no 64-bit entry;
 * PVH for an ELF file with a PVH entry, and LINUX64 for another static ELF64; and never FLAT.
 *
 * -IMPOST_EIMAGE: FD is no regular file, or empty, or of no known format, or cannot be entered as
 * WANT has it; a bzImage as impost_x86_bzimage_parse() refuses; an ELF file that is not a static
 * executable for x86, has no segments or more than 64 program headers, segments that overlap, wrap
 * around or begin below 1 MiB (where the boot tables are), an entry outside them, or malformed
 * notes; a flat file that does not fit below EBDA (real mode), 4 GiB (protected) or the end of the
 * address space. -EINVAL: what WANT has, or RET_KERNEL's size, cannot be.
 * Or what fstat() and pread() say.
 */
IMPOST_API int impost_x86_kernel_read(struct impost_context *ctx, int fd,
				      const struct impost_x86_kernel_want *want,
				      struct impost_x86_kernel *ret_kernel);

/*
 * Loads KERNEL, as impost_x86_kernel_read() described FD, and claims [start, end) as "kernel" in
 * LAYOUT, which may be NULL. -EFAULT: the place is not all RAM (the text has both ranges); -EEXIST:
 * it overlaps another place, both named; -IMPOST_EIMAGE: FD has changed since; -EINVAL: KERNEL was
 * not read; else as impost_x86_kernel_read(). Before all that passes nothing is loaded; after a
 * read error in the middle the range's contents are undefined. On failure LAYOUT is as it was.
 */
IMPOST_API int impost_x86_kernel_load(struct impost_memory *memory,
				      struct impost_x86_layout *layout, int fd,
				      const struct impost_x86_kernel *kernel);

/* --- initrd --- */

/* Where an initrd went. */
struct impost_x86_initrd {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_initrd) */
	uint32_t reserved;
	uint64_t gpa;
	uint64_t bytes;
};

/*
 * Loads an initrd from FD as high as memory and the kernel's limit allow, page-aligned, above 1
 * MiB, clear of the kernel and of all places of LAYOUT (may be NULL), and claims its place there as
 * "initrd". -EFBIG: there is no room (the text has what is needed and what there is);
 * -IMPOST_EIMAGE: FD is no regular file, or empty; -ENOSPC: LAYOUT is full; -EEXIST: KERNEL
 * overlaps a place of LAYOUT; -EINVAL: RET_INITRD's size; or what fstat() and pread() say. On
 * failure LAYOUT is as it was.
 */
IMPOST_API int impost_x86_load_initrd(struct impost_memory *memory,
				      struct impost_x86_layout *layout, int fd,
				      const struct impost_x86_kernel *kernel,
				      struct impost_x86_initrd *ret_initrd);

/* --- command line --- */

#define IMPOST_X86_CMDLINE_DEFAULT 2048u /* COMMAND_LINE_SIZE of Linux on x86, with the NUL */

/*
 * A command line that is built in the caller's buffer. Nothing is ever cut: what does not fit is
 * refused, and after any failure the text is as it was.
 */
struct impost_x86_cmdline {
	uint32_t size;	   /* set by the caller to sizeof(struct impost_x86_cmdline) */
	uint32_t capacity; /* bytes of text, with its NUL */
	uint32_t length;   /* bytes of text, without it */
	uint32_t reserved;
	char *text; /* valid as long as the buffer is */
};

/*
 * Begins an empty command line in BUF of BUF_BYTES, for KERNEL; NULL: for one that takes
 * IMPOST_X86_CMDLINE_DEFAULT. The smaller of both bounds it. -EINVAL: no buffer, or of 0 bytes, or
 * RET_CMDLINE's size.
 */
IMPOST_API int impost_x86_cmdline_init(struct impost_x86_cmdline *ret_cmdline,
				       const struct impost_x86_kernel *kernel, char *buf,
				       size_t buf_bytes);

/*
 * Appends WORDS as a user wrote them, behind a blank if there is text before. CTX, for error texts,
 * may be NULL. -E2BIG: longer than the kernel takes, which would cut it, or than the buffer (the
 * text has both lengths); -EINVAL: NULL, a control character, or quotes that are not
 * closed.
 */
IMPOST_API int impost_x86_cmdline_append(struct impost_context *ctx,
					 struct impost_x86_cmdline *cmdline, const char *words);

/*
 * Adds the parameter KEY, or KEY=VALUE if VALUE is not NULL, in quotes if it has blanks. What
 * follows a word "--" is for the guest's init (kernel, kernel-parameters.rst): the parameter goes
 * before it. An earlier one of the same key stays: some, like console=, add up, and of others the
 * last one counts. CTX, for error texts, may be NULL. -E2BIG: as above; -EINVAL: no key or an empty
 * one, one with a blank, '=' or '"', a value with '"', which the kernel cannot be told, or a
 * control character.
 */
IMPOST_API int impost_x86_cmdline_set(struct impost_context *ctx,
				      struct impost_x86_cmdline *cmdline, const char *key,
				      const char *value);

/* Writes the command line at IMPOST_X86_CMDLINE_ADDR. -E2BIG: longer than the kernel takes, which
 * would cut it; -EFAULT: no memory there. */
IMPOST_API int impost_x86_write_cmdline(struct impost_memory *memory,
					const struct impost_x86_kernel *kernel,
					const char *cmdline);

/* --- how the guest is told --- */

/* All that the guest is told at its entry. */
struct impost_x86_boot_info {
	uint32_t size; /* set by the caller to sizeof(struct impost_x86_boot_info) */
	uint32_t e820_count;
	const struct impost_x86_e820 *e820; /* see impost_x86_e820() */
	const struct impost_x86_kernel *kernel;
	const struct impost_x86_initrd *initrd; /* NULL: none */
	const char *cmdline;			/* NULL: "" */
	uint64_t rsdp;				/* gpa of the ACPI RSDP; 0: none */
};

/*
 * Writes the zero page (struct boot_params) at IMPOST_X86_ZERO_PAGE_ADDR, for the Linux protocols;
 * and the command line, to which it points, as impost_x86_write_cmdline() does. The RSDP is told to
 * kernels of protocol 2.14 and later; older ones look for it below 1 MiB. -ENOSPC: more than
 * IMPOST_X86_E820_MAX entries; -EINVAL: INFO's size, no kernel, no e820 map, a setup header that is
 * too long, a kernel of another protocol, or a place for the initrd that the protocol cannot tell;
 * else as impost_x86_write_cmdline().
 */
IMPOST_API int impost_x86_write_zero_page(struct impost_memory *memory,
					  const struct impost_x86_boot_info *info);

/*
 * Writes struct hvm_start_info version 1 at IMPOST_X86_START_INFO_ADDR, for PVH and flat kernels:
 * the initrd as the only module, and INFO's e820 as its memory map (Xen,
 * xen/include/public/arch-x86/hvm/start_info.h); and the command line, to which it points. Errors
 * as impost_x86_write_zero_page().
 */
IMPOST_API int impost_x86_write_start_info(struct impost_memory *memory,
					   const struct impost_x86_boot_info *info);

#ifdef __cplusplus
}
#endif

#endif
