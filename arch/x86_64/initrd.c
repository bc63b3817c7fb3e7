/* SPDX-License-Identifier: Apache-2.0 */
/* Placing and loading the initrd: as high as it can go, clear of the kernel. */
#include "image.h"
#include "ram.h"

#include <inttypes.h>

#define PAGE_MASK (~(uint64_t)(IMPOST_PAGE_SIZE - 1))

/* The best place so far, and the most room that any gap had. */
struct search {
	uint64_t bytes; /* wanted */
	uint64_t gpa;	/* 0: none found */
	uint64_t room;
};

/* Considers the gap from START to below END. */
static void consider(struct search *search, uint64_t start, uint64_t end)
{
	uint64_t gpa;

	if (start > UINT64_MAX - IMPOST_PAGE_SIZE)
		return;
	start = (start + IMPOST_PAGE_SIZE - 1) & PAGE_MASK;
	if (start < IMPOST_X86_HIGH_RAM)
		start = IMPOST_X86_HIGH_RAM;
	if (start >= end)
		return;
	if (end - start > search->room)
		search->room = end - start;
	if (end - start < search->bytes)
		return;
	gpa = (end - search->bytes) & PAGE_MASK;
	if (gpa > search->gpa)
		search->gpa = gpa;
}

/* Considers what the kernel and its limit leave of a run of RAM. */
static void consider_run(struct search *search, struct range run,
			 const struct impost_x86_kernel *kernel)
{
	uint64_t limit = kernel->initrd_max < UINT64_MAX ? kernel->initrd_max + 1 : UINT64_MAX;
	uint64_t end = run.end < limit ? run.end : limit;

	if (kernel->end <= run.start || kernel->start >= end) {
		consider(search, run.start, end);
		return;
	}
	consider(search, run.start, kernel->start);
	consider(search, kernel->end, end);
}

int impost_x86_load_initrd(struct impost_memory *memory, int fd,
			   const struct impost_x86_kernel *kernel,
			   struct impost_x86_initrd *ret_initrd)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct search search = {0};
	uint32_t cursor = 0;
	struct image image;
	struct range run;
	int err;

	err = image_open(ctx, "initrd", fd, &image);
	if (err < 0)
		return err;
	search.bytes = image.bytes;
	while ((err = ram_next(memory, &cursor, &run)) > 0)
		consider_run(&search, run, kernel);
	if (err < 0)
		return err;
	if (!search.gpa)
		return impost_error_set(ctx, -EFBIG,
					"the initrd needs %" PRIu64
					" bytes; beside the kernel there are %" PRIu64
					" in one piece: give the guest more memory",
					search.bytes, search.room);
	err = image_load(&image, memory, search.gpa, 0, image.bytes);
	if (err == 0)
		*ret_initrd = (struct impost_x86_initrd){search.gpa, image.bytes};
	return err;
}
