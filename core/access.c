/* SPDX-License-Identifier: Apache-2.0 */
/* The copies between guest memory and host buffers, with no SIGBUS where a file became shorter. */
#include "access.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memory.h"
#include "region.h"

/* Since Linux 5.14 (madvise(2)). */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

static uint64_t gpa_of(const struct mapped *region, const uint8_t *hva)
{
	return region->gpa + (uint64_t)(hva - region->hva);
}

static uint64_t file_offset_of(const struct mapped *region, const uint8_t *hva)
{
	return region->backing->offset + (uint64_t)(hva - region->hva);
}

/* --- what is wrong --- */

int access_failed(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva)
{
	const struct backing *backing = region->backing;
	char name[160];
	struct stat status;

	if (!backing || backing->fd < 0) /* the host's pointer, to what is a file or nothing */
		return impost_error_set(memory->ctx, -EIO,
					"0x%" PRIx64 ": the host's kernel cannot access the memory "
					"of the region at 0x%" PRIx64,
					gpa_of(region, hva), region->gpa);
	backing_name(backing, name, sizeof(name));
	if (fstat(backing->fd, &status) == 0 &&
	    (uint64_t)status.st_size < backing->offset + mapped_bytes(region))
		return impost_error_set(memory->ctx, -EIO,
					"0x%" PRIx64 ": the region at 0x%" PRIx64
					" has lost memory: %s is %" PRIu64 " bytes long now, and "
					"was to be %" PRIu64 ": give it its length back, or remove "
					"the region",
					gpa_of(region, hva), region->gpa, name,
					(uint64_t)status.st_size,
					backing->offset + mapped_bytes(region));
	return impost_error_set(memory->ctx, -EIO,
				"0x%" PRIx64 ": the region at 0x%" PRIx64
				": the host's kernel has no page for offset %" PRIu64
				" of %s: an I/O error, or no space",
				gpa_of(region, hva), region->gpa, file_offset_of(region, hva),
				name);
}

static int not_writable(struct impost_memory *memory, const struct mapped *region,
			const uint8_t *hva)
{
	char name[160];

	backing_name(region->backing, name, sizeof(name)); /* other memory can be written */
	return impost_error_set(memory->ctx, -EACCES,
				"0x%" PRIx64 ": the region at 0x%" PRIx64
				" cannot be written, by the host neither: %s is shared, and open "
				"for reading only",
				gpa_of(region, hva), region->gpa, name);
}

/* --- is it there --- */

int access_judge(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva,
		 uint64_t bytes, bool write)
{
	struct stat status;

	if (write && !(region->access & MAPPED_WRITE))
		return not_writable(memory, region, hva);
	/* Without a file it is memory that is still being restored: the copy will tell. */
	if (region->access & MAPPED_DIRECT || region->backing->fd < 0)
		return 0;
	if (fstat(region->backing->fd, &status) ||
	    (uint64_t)status.st_size < file_offset_of(region, hva) + bytes)
		return access_failed(memory, region, hva);
	return 0;
}

/* Has the kernel fault the pages in, so that an access faults no more. False: it cannot. A kernel
 * too old to be asked is taken at the word of fstat(2), which access_check() asked. */
static bool populate(const uint8_t *hva, uint64_t bytes, bool write)
{
	uintptr_t first = (uintptr_t)hva & ~(uintptr_t)(IMPOST_PAGE_SIZE - 1);
	int err;

	do
		err = madvise((void *)first, (uintptr_t)hva + bytes - first,
			      write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	while (err && errno == EINTR);
	return !err || errno == EINVAL || errno == ENOSYS || errno == EPERM;
}

int access_probe(struct impost_memory *memory, const struct mapped *region, const uint8_t *hva,
		 uint64_t bytes, bool write)
{
	int err = access_check(memory, region, hva, bytes, write);

	if (!err && !(region->access & MAPPED_DIRECT) && !populate(hva, bytes, write))
		err = access_failed(memory, region, hva);
	return err;
}

/* --- copies --- */

/*
 * Has the kernel copy between HVA and BUF, which are both ours: process_vm_readv(2). 0: done;
 * -EFAULT: a page is not there; another value: it will not, as in a sandbox.
 */
static int copy_by_kernel(uint8_t *hva, void *buf, uint64_t bytes, bool write)
{
	const pid_t self = getpid();
	uint64_t done = 0;

	while (done < bytes) {
		const struct iovec ours = {(uint8_t *)buf + done, bytes - done};
		const struct iovec guests = {hva + done, bytes - done};
		ssize_t n = write ? process_vm_writev(self, &ours, 1, &guests, 1, 0)
				  : process_vm_readv(self, &ours, 1, &guests, 1, 0);

		if (n < 0)
			return -errno;
		done += (uint64_t)n;
	}
	return 0;
}

int access_probed(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		  void *buf, uint64_t bytes, bool write)
{
	int err = access_probe(memory, region, hva, bytes, write);

	if (!err && write)
		access_copy_in(hva, buf, bytes);
	else if (!err)
		access_copy_out(buf, hva, bytes);
	return err;
}

int access_carefully(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		     void *buf, uint64_t bytes, bool write)
{
	int err = copy_by_kernel(hva, buf, bytes, write);

	if (!err)
		return 0;
	if (err == -EFAULT)
		return access_failed(memory, region, hva);
	/* It will not. As soon as it has said that the pages are there, the copy is made here. */
	return access_probed(memory, region, hva, buf, bytes, write);
}

int access_fill(struct impost_memory *memory, const struct mapped *region, uint8_t *hva,
		uint8_t byte, uint64_t bytes)
{
	uint8_t filled[4 * IMPOST_PAGE_SIZE];
	uint64_t len, done;
	int err = 0;

	if (region->access & MAPPED_DIRECT) {
		memset(hva, byte, bytes);
		return 0;
	}
	memset(filled, byte, sizeof(filled));
	for (done = 0; !err && done < bytes; done += len) {
		len = bytes - done < sizeof(filled) ? bytes - done : sizeof(filled);
		err = access_carefully(memory, region, hva + done, filled, len, true);
	}
	return err;
}
