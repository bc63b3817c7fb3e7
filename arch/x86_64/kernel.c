/* SPDX-License-Identifier: Apache-2.0 */
/* Finding out what a kernel file is, and loading it. */
#include "formats.h"
#include "places.h"
#include "structure.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>

#define HDRS_OFFSET 0x202u /* boot.rst, field "header" */

/* What the first release knew of its structs: a caller's may be shorter or longer than ours. */
#define LEAST_WANT (offsetof(struct impost_x86_kernel_want, address) + sizeof(uint64_t))
#define LEAST_KERNEL \
	(offsetof(struct impost_x86_kernel, setup_header) + IMPOST_X86_SETUP_HEADER_MAX)

/* Takes WANT over, or what stands for NULL, and judges it by itself. */
static int take_want(struct impost_context *ctx, const struct impost_x86_kernel_want *want,
		     struct impost_x86_kernel_want *ret_want)
{
	int err;

	*ret_want = (struct impost_x86_kernel_want){.size = sizeof(*ret_want)};
	if (!want)
		return 0;
	err = structure_take(ctx, "impost_x86_kernel_want", ret_want, sizeof(*ret_want), want,
			     LEAST_WANT);
	if (err == 0)
		err = structure_check_reserved(ctx, "impost_x86_kernel_want", ret_want->reserved);
	if (err < 0)
		return err;
	if (!impost_x86_protocol_name(want->protocol))
		return impost_error_set(ctx, -EINVAL, "kernel: there is no boot protocol %u",
					want->protocol);
	if (want->mode && !impost_x86_mode_name(want->mode))
		return impost_error_set(ctx, -EINVAL, "kernel: there is no mode %u", want->mode);
	if (want->protocol != IMPOST_X86_PROTOCOL_FLAT && (want->mode || want->address))
		return impost_error_set(ctx, -EINVAL,
					"kernel: mode and address can be chosen for the protocol "
					"flat only: for %s the kernel has its own",
					impost_x86_protocol_name(want->protocol));
	return 0;
}

/* Does IMAGE have BYTES of TEXT at OFFSET? Returns 1, 0, or an error. */
static int has_magic(const struct image *image, uint64_t offset, const char *text, size_t bytes)
{
	char magic[8];
	int err;

	if (image->bytes < offset + bytes)
		return 0;
	err = image_read(image, offset, magic, bytes);
	return err < 0 ? err : !memcmp(magic, text, bytes);
}

static int read_as(const struct image *image, const struct impost_x86_kernel_want *want,
		   struct impost_x86_kernel *ret_kernel)
{
	int is;

	if (want->protocol == IMPOST_X86_PROTOCOL_FLAT)
		return flat_read(image, want, ret_kernel);
	is = has_magic(image, 0, ELFMAG, SELFMAG);
	if (is > 0)
		return elf_read(image, want->protocol, ret_kernel);
	if (is == 0)
		is = has_magic(image, HDRS_OFFSET, "HdrS", 4);
	if (is > 0)
		return bzimage_read(image, want->protocol, ret_kernel);
	if (is < 0)
		return is;
	return impost_error_set(image->ctx, -IMPOST_EIMAGE,
				"the kernel is of no known format, or truncated: a bzImage or a "
				"static ELF file is needed, or ask for the protocol flat");
}

int kernel_check_out(struct impost_context *ctx, const struct impost_x86_kernel *ret_kernel)
{
	return structure_check_size(ctx, "impost_x86_kernel", ret_kernel, LEAST_KERNEL);
}

int impost_x86_kernel_read(struct impost_context *ctx, int fd,
			   const struct impost_x86_kernel_want *want,
			   struct impost_x86_kernel *ret_kernel)
{
	struct impost_x86_kernel kernel = {0};
	struct impost_x86_kernel_want wanted;
	struct image image;
	int err;

	err = kernel_check_out(ctx, ret_kernel);
	if (err == 0)
		err = take_want(ctx, want, &wanted);
	if (err == 0)
		err = image_open(ctx, "kernel", fd, &image);
	if (err == 0)
		err = read_as(&image, &wanted, &kernel);
	if (err == 0)
		structure_give(ret_kernel, &kernel, sizeof(kernel));
	return err;
}

/* --- loading --- */

int kernel_compare(const struct image *image, const struct impost_x86_kernel *now,
		   const struct impost_x86_kernel *before)
{
	if (now->format == before->format && now->entry == before->entry &&
	    now->start == before->start && now->end == before->end &&
	    now->payload_offset == before->payload_offset &&
	    now->payload_bytes == before->payload_bytes)
		return 0;
	return impost_error_set(image->ctx, -IMPOST_EIMAGE,
				"the kernel file has changed since it was read");
}

/* Loads a kernel that is one piece, if its file still says so. */
static int load_payload(const struct image *image, struct impost_memory *memory,
			const struct impost_x86_kernel *kernel)
{
	struct impost_x86_kernel_want want = {.size = sizeof(want), .protocol = kernel->protocol};
	struct impost_x86_kernel now = {0};
	int err;

	if (kernel->protocol == IMPOST_X86_PROTOCOL_FLAT) {
		want.mode = kernel->mode;
		want.address = kernel->start;
	}
	err = read_as(image, &want, &now);
	if (err == 0)
		err = kernel_compare(image, &now, kernel);
	if (err == 0)
		err = ram_check(memory, "the kernel", (struct range){kernel->start, kernel->end});
	if (err == 0)
		err = image_load(image, memory, kernel->start, kernel->payload_offset,
				 kernel->payload_bytes);
	return err;
}

int impost_x86_kernel_load(struct impost_memory *memory, struct impost_x86_layout *layout, int fd,
			   const struct impost_x86_kernel *kernel)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct image image;
	int err;

	if (!kernel->format || kernel->end <= kernel->start)
		return impost_error_set(ctx, -EINVAL,
					"the kernel must be read with impost_x86_kernel_read() "
					"before it is loaded");
	err = image_open(ctx, "kernel", fd, &image);
	if (err == 0 && layout)
		err = impost_x86_layout_claim(ctx, layout, "kernel", kernel->start,
					      kernel->end - kernel->start, 0);
	if (err < 0)
		return err;
	if (kernel->format == IMPOST_X86_FORMAT_ELF)
		err = elf_load(&image, memory, kernel);
	else
		err = load_payload(&image, memory, kernel);
	if (err < 0 && layout)
		places_release(layout, kernel->start);
	return err;
}
