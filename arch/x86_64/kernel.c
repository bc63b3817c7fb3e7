/* SPDX-License-Identifier: Apache-2.0 */
/* Finding out what a kernel file is. */
#include "image.h"

#include <elf.h>
#include <string.h>

#define HDRS_OFFSET 0x202u /* boot.rst, field "header" */

int impost_x86_load_kernel(struct impost_memory *memory, int fd,
			   struct impost_x86_kernel *ret_kernel)
{
	struct impost_context *ctx = impost_memory_context(memory);
	char magic[4] = {0};
	struct image image;
	int err;

	err = image_open(ctx, "kernel", fd, &image);
	if (err < 0)
		return err;
	if (image.bytes >= SELFMAG) {
		err = image_read(&image, 0, magic, SELFMAG);
		if (err < 0)
			return err;
		if (!memcmp(magic, ELFMAG, SELFMAG))
			return impost_x86_load_elf64(memory, fd, ret_kernel);
	}
	if (image.bytes >= HDRS_OFFSET + sizeof(magic)) {
		err = image_read(&image, HDRS_OFFSET, magic, sizeof(magic));
		if (err < 0)
			return err;
		if (!memcmp(magic, "HdrS", sizeof(magic)))
			return impost_x86_load_bzimage(memory, fd, ret_kernel);
	}
	return impost_error_set(ctx, -IMPOST_EIMAGE,
				"the kernel is of no known format, or truncated: a bzImage or a "
				"static ELF64 is needed");
}
