/* SPDX-License-Identifier: Apache-2.0 */
/* The files behind regions: made or opened, and what may be done with them. */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "region.h"
#include "text.h"

/* Linux 6.3: what guests run is not the host's to execute (memfd_create(2)). */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x10
#endif

void backing_name(const struct backing *backing, char *buf, size_t bytes)
{
	char link[32];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", backing->fd);
	len = readlink(link, buf, bytes - 1);
	if (len > 0)
		buf[len] = '\0';
	else
		snprintf(buf, bytes, "its file");
	text_clean(buf);
}

/* --- a memfd --- */

/* Making a file longer than the process may is a signal that kills: setrlimit(2). */
static int check_limit(struct impost_memory *memory, uint64_t bytes)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

	getrlimit(RLIMIT_FSIZE, &limit);
	if (bytes <= limit.rlim_cur)
		return 0;
	return impost_error_set(memory->ctx, -EFBIG,
				"a memfd of %" PRIu64
				" bytes: this process may make files of %" PRIu64
				" at most (RLIMIT_FSIZE)",
				bytes, (uint64_t)limit.rlim_cur);
}

static int create_memfd(uint64_t page)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (page != IMPOST_PAGE_SIZE)
		flags |= MFD_HUGETLB | (page == IMPOST_PAGE_2M ? MFD_HUGE_2MB : MFD_HUGE_1GB);
	fd = memfd_create("impost", flags | MFD_NOEXEC_SEAL);
	return fd < 0 && errno == EINVAL ? memfd_create("impost", flags) : fd;
}

int region_make_memfd(struct impost_memory *memory, const struct impost_region *want,
		      struct backing *backing, uint32_t *ret_access)
{
	int err = check_limit(memory, want->bytes), fd;

	if (err)
		return err;
	fd = create_memfd(backing->page);
	if (fd < 0 && backing->page != IMPOST_PAGE_SIZE)
		return impost_error_set(memory->ctx, -ENOTSUP,
					"the host's kernel makes no memfd with pages of %" PRIu64
					" MiB: %m",
					backing->page >> 20);
	if (fd < 0)
		return impost_error_set(memory->ctx, -errno, "cannot make a memfd: %m");
	if (ftruncate(fd, (off_t)want->bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		err = impost_error_set(memory->ctx, -errno, "a memfd of %" PRIu64 " bytes: %m",
				       want->bytes);
		close(fd);
		return err;
	}
	backing->fd = fd;
	*ret_access = MAPPED_WRITE | MAPPED_DIRECT;
	return 0;
}

/* --- a file that is there --- */

/* A file that is being checked. */
struct file {
	struct impost_memory *memory;
	const struct impost_region *want;
	const struct backing *backing;
	char name[160];
	int mode;  /* O_RDWR and the like */
	int seals; /* F_SEAL_*; 0 also where there is no such thing */
};

static int check_type(const struct file *file)
{
	struct impost_context *ctx = file->memory->ctx;
	uint64_t end = file->want->fd_offset + file->want->bytes;
	struct stat status;

	if (fstat(file->backing->fd, &status))
		return impost_error_set(ctx, -errno, "%s: %m", file->name);
	if (S_ISDIR(status.st_mode))
		return impost_error_set(ctx, -EISDIR, "%s is a folder: memory must be a file",
					file->name);
	if (!S_ISREG(status.st_mode))
		return impost_error_set(ctx, -EINVAL,
					"%s is no regular file, of which memory can be made",
					file->name);
	if ((uint64_t)status.st_size < end)
		return impost_error_set(ctx, -ENODATA,
					"%s is %" PRIu64 " bytes long, too short: the region "
					"begins at offset %" PRIu64 " and has %" PRIu64 " bytes",
					file->name, (uint64_t)status.st_size, file->want->fd_offset,
					file->want->bytes);
	return 0;
}

static bool may_write(const struct file *file)
{
	return file->mode == O_RDWR && !(file->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
}

static int check_mode(const struct file *file)
{
	struct impost_context *ctx = file->memory->ctx;
	uint32_t flags = file->want->flags;

	if (file->mode == O_WRONLY)
		return impost_error_set(ctx, -EACCES, "%s is open for writing only", file->name);
	if (flags & IMPOST_REGION_SHARED && !(flags & IMPOST_REGION_READONLY) && !may_write(file))
		return impost_error_set(ctx, -EACCES,
					"%s %s: a guest that is to write needs a private region "
					"of it",
					file->name,
					file->mode == O_RDWR ? "is sealed against writing"
							     : "is open for reading only");
	return 0;
}

/* The file's page: hugetlbfs(7) has its own. */
static int find_page(const struct file *file, uint64_t *ret_page)
{
	struct impost_context *ctx = file->memory->ctx;
	uint64_t page = IMPOST_PAGE_SIZE, wanted = file->want->page_bytes;
	struct statfs status;

	if (fstatfs(file->backing->fd, &status))
		return impost_error_set(ctx, -errno, "%s: %m", file->name);
	if (status.f_type == HUGETLBFS_MAGIC)
		page = (uint64_t)status.f_bsize;
	if (wanted && wanted != page)
		return impost_error_set(ctx, -EINVAL,
					"%s has pages of %" PRIu64 " KiB, not of %" PRIu64
					" KiB as is wanted",
					file->name, page >> 10, wanted >> 10);
	*ret_page = page;
	return region_check_pages(file->memory, file->want, page);
}

/* Judges the file that is open in BACKING, which is closed if it will not do. */
static int judge(struct impost_memory *memory, const struct impost_region *want,
		 struct backing *backing, uint32_t *ret_access)
{
	struct file file = {
		.memory = memory,
		.want = want,
		.backing = backing,
		.mode = fcntl(backing->fd, F_GETFL) & O_ACCMODE,
		.seals = fcntl(backing->fd, F_GET_SEALS),
	};
	int err;

	if (file.seals < 0)
		file.seals = 0;
	backing_name(backing, file.name, sizeof(file.name));
	err = check_type(&file);
	if (!err)
		err = check_mode(&file);
	if (!err)
		err = find_page(&file, &backing->page);
	if (err) {
		close(backing->fd);
		return err;
	}
	backing->offset = want->fd_offset;
	*ret_access = 0;
	if (!(want->flags & IMPOST_REGION_SHARED) || may_write(&file))
		*ret_access |= MAPPED_WRITE;
	if (file.seals & F_SEAL_SHRINK || want->flags & IMPOST_REGION_TRUST_FILE)
		*ret_access |= MAPPED_DIRECT;
	return 0;
}

static bool is_refusal_to_write(int err)
{
	return err == EACCES || err == EPERM || err == EROFS || err == ETXTBSY;
}

int region_open_path(struct impost_memory *memory, const struct impost_region *want,
		     struct backing *backing, uint32_t *ret_access)
{
	const int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* what is no file must not block */
	bool shared = want->flags & IMPOST_REGION_SHARED;

	backing->fd = open(want->path, flags | (shared ? O_RDWR : O_RDONLY));
	if (backing->fd < 0 && want->flags & IMPOST_REGION_READONLY && is_refusal_to_write(errno))
		backing->fd = open(want->path, flags | O_RDONLY);
	if (backing->fd < 0)
		return impost_error_set(memory->ctx, -errno, "%.256s: cannot be opened%s: %m",
					want->path, shared ? " for writing" : "");
	return judge(memory, want, backing, ret_access);
}

int region_take_fd(struct impost_memory *memory, const struct impost_region *want,
		   struct backing *backing, uint32_t *ret_access)
{
	int mode = fcntl(want->fd, F_GETFL);

	if (mode < 0)
		return impost_error_set(memory->ctx, -errno, "descriptor %d: %m", want->fd);
	if (mode & O_PATH)
		return impost_error_set(memory->ctx, -EBADF,
					"descriptor %d is a mere place (O_PATH): open the file",
					want->fd);
	backing->fd = fcntl(want->fd, F_DUPFD_CLOEXEC, 0);
	if (backing->fd < 0)
		return impost_error_set(memory->ctx, -errno, "descriptor %d: %m", want->fd);
	return judge(memory, want, backing, ret_access);
}
