/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of kernel and initrd files have in common. */
#ifndef ARCH_X86_64_IMAGE_H
#define ARCH_X86_64_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include <impost/x86_64/kernel.h>

/* A file that is read, and whom to tell what is wrong with it. */
struct image {
	struct impost_context *ctx;
	const char *what; /* "kernel", "initrd": for error texts */
	int fd;
	uint64_t bytes;
};

/*
 * Looks at FD and fills IMAGE. -EBADF, ...: what fstat says; -IMPOST_EIMAGE: not a regular file, or
 * an empty one.
 */
int image_open(struct impost_context *ctx, const char *what, int fd, struct image *ret_image);

/* Reads BYTES at OFFSET of the file. -IMPOST_EIMAGE: it ends before; or what pread says. */
int image_read(const struct image *image, uint64_t offset, void *buf, size_t bytes);

/* Loads BYTES at OFFSET of the file to GPA, with the file's end told as image_read() does. */
int image_load(const struct image *image, struct impost_memory *memory, uint64_t gpa,
	       uint64_t offset, uint64_t bytes);

#endif
