/* SPDX-License-Identifier: Apache-2.0 */
/* Reading kernel and initrd files: whatever the file, the descriptor or a shrinking file may be. */
#include "image.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What to call a file that is not a regular one. */
static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a folder";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	default:
		return "no file with contents";
	}
}

int image_open(struct impost_context *ctx, const char *what, int fd, struct image *ret_image)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int err = -errno;

		return impost_error_set(ctx, err, "cannot look at the %s's descriptor %d: %s", what,
					fd, strerror(-err));
	}
	if (!S_ISREG(st.st_mode))
		return impost_error_set(ctx, -IMPOST_EIMAGE,
					"the %s is %s: a regular file is needed", what,
					kind_of(st.st_mode));
	if (st.st_size <= 0)
		return impost_error_set(ctx, -IMPOST_EIMAGE, "the %s is an empty file", what);
	*ret_image = (struct image){ctx, what, fd, (uint64_t)st.st_size};
	return 0;
}

static int truncated(const struct image *image, uint64_t offset, uint64_t bytes)
{
	return impost_error_set(image->ctx, -IMPOST_EIMAGE,
				"the %s is truncated: it has no %" PRIu64
				" bytes at offset %" PRIu64,
				image->what, bytes, offset);
}

int image_read(const struct image *image, uint64_t offset, void *buf, size_t bytes)
{
	size_t done = 0;
	ssize_t n;

	if (offset > image->bytes || bytes > image->bytes - offset)
		return truncated(image, offset, bytes);
	while (done < bytes) {
		n = pread(image->fd, (char *)buf + done, bytes - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = -errno;

			return impost_error_set(image->ctx, err, "cannot read the %s: %s",
						image->what, strerror(-err));
		}
		if (n == 0)
			return truncated(image, offset, bytes);
		done += (size_t)n;
	}
	return 0;
}

int image_load(const struct image *image, struct impost_memory *memory, uint64_t gpa,
	       uint64_t offset, uint64_t bytes)
{
	int err = impost_memory_load_fd(memory, gpa, image->fd, offset, bytes, 0, NULL);

	return err == -ENODATA ? truncated(image, offset, bytes) : err;
}
