/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bzImage: judging its setup header, and finding its protected-mode part (kernel,
 * Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and the two boot protocols).
 */
#include "formats.h"
#include "structure.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define SECTOR		   512u
#define SETUP_SECTS_LEGACY 4u /* what setup_sects = 0 means */
#define HEADER_OFFSET	   offsetof(struct boot_params, hdr)
#define MAGIC		   UINT32_C(0x53726448) /* "HdrS" */
#define BOOT_FLAG	   0xaa55u
#define OLDEST		   0x020au /* 2.10 brought pref_address and init_size */
#define XLOADFLAGS_SINCE   0x020cu
#define ENTRY_64	   0x200u /* from the start of the loaded part */
#define LIMIT_32_BIT	   UINT64_C(0x100000000)
#define OPCODE_JMP	   0xebu

/* The jump at 0x200 leads behind the header: to 0x202 + its second byte, which is signed. */
#define JUMP_BASE 0x202u
#define JUMP_MAX  0x7fu
static_assert(JUMP_BASE + JUMP_MAX == HEADER_OFFSET + IMPOST_X86_SETUP_HEADER_MAX,
	      "every header fits");
static_assert(HEADER_OFFSET == 0x1f1, "boot.rst");

/* Protocol 2.10 has all fields up to init_size. */
#define HEADER_MIN (offsetof(struct setup_header, init_size) + sizeof(uint32_t))

/* A bzImage as it is judged. */
struct bzimage {
	struct impost_context *ctx;
	uint32_t protocol; /* AUTO until it is known */
	const uint8_t *head;
	size_t head_bytes;
	uint64_t file_bytes;
	uint64_t header_bytes;
	struct setup_header hdr;
};

/*
 * Finds the header and takes it over; what is read here was compared with the file's size before.
 */
static int take_header(struct bzimage *bz)
{
	size_t end;

	if (bz->head_bytes < JUMP_BASE + sizeof(bz->hdr.header))
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is truncated: %" PRIu64
					" bytes do not hold a setup header",
					bz->file_bytes);
	memcpy(&bz->hdr, bz->head + HEADER_OFFSET,
	       offsetof(struct setup_header, header) + sizeof(bz->hdr.header));
	if (bz->hdr.boot_flag != BOOT_FLAG || bz->hdr.header != MAGIC)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is no bzImage: it lacks the boot flag 0xAA55 "
					"at 0x1fe or \"HdrS\" at 0x202");
	if ((bz->hdr.jump & 0xff) != OPCODE_JMP || bz->hdr.jump >> 8 > JUMP_MAX)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel's setup header has no end: the jump at 0x200 "
					"is 0x%04x",
					bz->hdr.jump);
	end = JUMP_BASE + (bz->hdr.jump >> 8);
	bz->header_bytes = end - HEADER_OFFSET;
	if (bz->header_bytes < HEADER_MIN)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel's setup header ends at 0x%zx, before its field "
					"init_size",
					end);
	if (bz->head_bytes < end)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is truncated within its setup header, which "
					"ends at 0x%zx",
					end);
	memcpy(&bz->hdr, bz->head + HEADER_OFFSET,
	       bz->header_bytes < sizeof(bz->hdr) ? bz->header_bytes : sizeof(bz->hdr));
	return 0;
}

/* Is this a kernel that can be loaded as the 32- and 64-bit boot protocols have it? */
static int check_kind(const struct bzimage *bz)
{
	const struct setup_header *hdr = &bz->hdr;

	if (hdr->version < OLDEST)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel speaks boot protocol %u.%u: 2.10 (Linux "
					"2.6.31) or newer is needed",
					hdr->version >> 8, hdr->version & 0xff);
	if (!(hdr->loadflags & LOADED_HIGH))
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is a zImage, loaded below 1 MiB: a bzImage is "
					"needed");
	return 0;
}

/* What the file says in xloadflags; which older protocols do not have. */
static uint32_t xloadflags(const struct bzimage *bz)
{
	return bz->hdr.version < XLOADFLAGS_SINCE ? 0 : bz->hdr.xloadflags;
}

/* Decides how it is entered. Every bzImage has a 32-bit entry. */
static int choose_protocol(struct bzimage *bz)
{
	int has_64 = (xloadflags(bz) & XLF_KERNEL_64) != 0;

	if (bz->protocol == IMPOST_X86_PROTOCOL_AUTO)
		bz->protocol = has_64 ? IMPOST_X86_PROTOCOL_LINUX64 : IMPOST_X86_PROTOCOL_LINUX32;
	if (bz->protocol == IMPOST_X86_PROTOCOL_LINUX64 && !has_64)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel has no 64-bit entry point (XLF_KERNEL_64 is "
					"clear): a 64-bit kernel is needed, or the protocol "
					"linux32");
	if (bz->protocol == IMPOST_X86_PROTOCOL_PVH)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is a bzImage, which has no PVH entry: the "
					"vmlinux it was made from may have one");
	return 0;
}

/* Finds where in the file the protected-mode part lies. */
static int find_payload(const struct bzimage *bz, struct impost_x86_kernel *kernel)
{
	uint32_t sects = bz->hdr.setup_sects ? bz->hdr.setup_sects : SETUP_SECTS_LEGACY;

	kernel->payload_offset = (uint64_t)(sects + 1) * SECTOR;
	kernel->payload_bytes = (uint64_t)bz->hdr.syssize * 16;
	if (kernel->payload_offset < HEADER_OFFSET + bz->header_bytes)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel's setup_sects is %u, which ends within the "
					"setup header",
					bz->hdr.setup_sects);
	if (kernel->payload_bytes <= ENTRY_64)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel's syssize is 0x%x: too small for a kernel, "
					"whose 64-bit entry is at 0x200",
					bz->hdr.syssize);
	if (kernel->payload_offset + kernel->payload_bytes > bz->file_bytes)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel is truncated: setup_sects 0x%02x and syssize "
					"0x%x make %" PRIu64 " bytes, the file has %" PRIu64,
					bz->hdr.setup_sects, bz->hdr.syssize,
					kernel->payload_offset + kernel->payload_bytes,
					bz->file_bytes);
	return 0;
}

/*
 * Finds where it is to be loaded. A kernel moves itself up to pref_address if it is loaded lower,
 * and up to kernel_alignment if it is not aligned (boot.rst), and then needs more than init_size:
 * loaded at an aligned pref_address it stays.
 */
static int find_place(const struct bzimage *bz, struct impost_x86_kernel *kernel)
{
	const struct setup_header *hdr = &bz->hdr;
	uint64_t start = hdr->pref_address ? hdr->pref_address : hdr->code32_start;
	uint64_t bytes = hdr->init_size;

	if (bytes < kernel->payload_bytes)
		bytes = kernel->payload_bytes;
	if (start < IMPOST_X86_HIGH_RAM)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel asks to be loaded at 0x%" PRIx64
					", below 1 MiB, where the boot tables are",
					start);
	if (start > UINT64_MAX - bytes)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel asks for 0x%" PRIx64 " bytes at 0x%" PRIx64
					", which wraps around",
					bytes, start);
	if (hdr->relocatable_kernel &&
	    (!hdr->kernel_alignment || (hdr->kernel_alignment & (hdr->kernel_alignment - 1)) ||
	     start % hdr->kernel_alignment))
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel's alignment 0x%x is no power of two or does "
					"not divide its address 0x%" PRIx64,
					hdr->kernel_alignment, start);
	if (bz->protocol == IMPOST_X86_PROTOCOL_LINUX32 && start + bytes > LIMIT_32_BIT)
		return impost_error_set(bz->ctx, -IMPOST_EIMAGE,
					"the kernel asks for 0x%" PRIx64 " bytes at 0x%" PRIx64
					": entered in 32-bit mode it must lie below 4 GiB",
					bytes, start);
	kernel->start = start;
	kernel->end = start + bytes;
	kernel->entry = start + (bz->protocol == IMPOST_X86_PROTOCOL_LINUX64 ? ENTRY_64 : 0);
	return 0;
}

/* Takes over what later steps need to know. */
static void take_limits(const struct bzimage *bz, struct impost_x86_kernel *kernel)
{
	const struct setup_header *hdr = &bz->hdr;
	int is_64 = bz->protocol == IMPOST_X86_PROTOCOL_LINUX64;

	kernel->format = IMPOST_X86_FORMAT_BZIMAGE;
	kernel->protocol = bz->protocol;
	kernel->mode = is_64 ? IMPOST_X86_MODE_LONG : IMPOST_X86_MODE_PROTECTED;
	kernel->version = hdr->version;
	kernel->cmdline_max = hdr->cmdline_size < IMPOST_X86_CMDLINE_MAX
				      ? hdr->cmdline_size
				      : (uint32_t)IMPOST_X86_CMDLINE_MAX - 1;
	/* initrd_addr_max is for loaders that cannot go above 4 GiB (boot.rst, xloadflags). */
	kernel->initrd_max = is_64 && xloadflags(bz) & XLF_CAN_BE_LOADED_ABOVE_4G
				     ? UINT64_MAX
				     : hdr->initrd_addr_max;
	kernel->setup_header_bytes = (uint32_t)bz->header_bytes;
	memcpy(kernel->setup_header, bz->head + HEADER_OFFSET, bz->header_bytes);
}

/* Judges the whole of it. */
static int judge(struct bzimage *bz, struct impost_x86_kernel *ret_kernel)
{
	struct impost_x86_kernel kernel = {0};
	int err;

	err = take_header(bz);
	if (err == 0)
		err = check_kind(bz);
	if (err == 0)
		err = choose_protocol(bz);
	if (err == 0)
		err = find_payload(bz, &kernel);
	if (err == 0)
		err = find_place(bz, &kernel);
	if (err < 0)
		return err;
	take_limits(bz, &kernel);
	*ret_kernel = kernel;
	return 0;
}

int impost_x86_bzimage_parse(struct impost_context *ctx, const void *head, size_t head_bytes,
			     uint64_t file_bytes, struct impost_x86_kernel *ret_kernel)
{
	struct bzimage bz = {
		.ctx = ctx, .head = head, .head_bytes = head_bytes, .file_bytes = file_bytes};
	struct impost_x86_kernel kernel;
	int err;

	err = kernel_check_out(ctx, ret_kernel);
	if (err < 0)
		return err;
	if (head_bytes > file_bytes ||
	    (head_bytes < file_bytes && head_bytes < IMPOST_X86_BZIMAGE_HEAD))
		return impost_error_set(ctx, -EINVAL,
					"%zu bytes of a kernel's head given, %u are needed of a "
					"file of %" PRIu64,
					head_bytes, IMPOST_X86_BZIMAGE_HEAD, file_bytes);
	err = judge(&bz, &kernel);
	if (err == 0)
		structure_give(ret_kernel, &kernel, sizeof(kernel));
	return err;
}

int bzimage_read(const struct image *image, uint32_t protocol, struct impost_x86_kernel *ret_kernel)
{
	uint8_t head[IMPOST_X86_BZIMAGE_HEAD];
	struct bzimage bz = {
		.ctx = image->ctx, .protocol = protocol, .head = head, .file_bytes = image->bytes};
	int err;

	bz.head_bytes = image->bytes < sizeof(head) ? (size_t)image->bytes : sizeof(head);
	err = image_read(image, 0, head, bz.head_bytes);
	return err < 0 ? err : judge(&bz, ret_kernel);
}
