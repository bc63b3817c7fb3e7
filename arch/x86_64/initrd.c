/* SPDX-License-Identifier: Apache-2.0 */
/* Placing and loading the initrd: as high as it can go, clear of all that is taken. */
#include "image.h"
#include "places.h"
#include "structure.h"

#include <inttypes.h>

/* What the first release knew of its struct: a caller's may be shorter or longer than ours. */
#define LEAST_INITRD (offsetof(struct impost_x86_initrd, bytes) + sizeof(uint64_t))

/* Does LAYOUT have KERNEL's place? */
static int is_claimed(const struct impost_x86_layout *layout,
		      const struct impost_x86_kernel *kernel)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct impost_x86_place *place = &layout->place[i];

		if (place->gpa == kernel->start && place->bytes == kernel->end - kernel->start)
			return 1;
	}
	return 0;
}

/* Makes TAKEN what must be left alone: all of LAYOUT, which may be NULL, and KERNEL. */
static int collect(struct impost_context *ctx, const struct impost_x86_layout *layout,
		   const struct impost_x86_kernel *kernel, struct impost_x86_layout *taken)
{
	int err = places_check(ctx, layout);

	if (err < 0)
		return err;
	places_copy(layout, taken);
	if (is_claimed(taken, kernel))
		return 0;
	return impost_x86_layout_claim(ctx, taken, "kernel", kernel->start,
				       kernel->end - kernel->start, 0);
}

/* Finds the place of an initrd of BYTES. */
static int find(struct impost_memory *memory, const struct impost_x86_layout *layout,
		const struct impost_x86_kernel *kernel, uint64_t bytes, uint64_t *ret_gpa)
{
	struct impost_context *ctx = impost_memory_context(memory);
	const struct impost_x86_want want = {
		.size = sizeof(want),
		.bytes = bytes,
		.min = IMPOST_X86_HIGH_RAM,
		.max = kernel->initrd_max,
		.what = "initrd",
	};
	struct impost_x86_layout taken;
	int err;

	if (kernel->initrd_max < IMPOST_X86_HIGH_RAM)
		return impost_error_set(ctx, -EFBIG,
					"the kernel takes an initrd up to 0x%" PRIx64
					" only, below 1 MiB, where the boot tables are",
					kernel->initrd_max);
	err = collect(ctx, layout, kernel, &taken);
	return err < 0 ? err : impost_x86_layout_place(memory, &taken, &want, ret_gpa);
}

int impost_x86_load_initrd(struct impost_memory *memory, struct impost_x86_layout *layout, int fd,
			   const struct impost_x86_kernel *kernel,
			   struct impost_x86_initrd *ret_initrd)
{
	struct impost_context *ctx = impost_memory_context(memory);
	struct impost_x86_initrd initrd = {0};
	struct image image;
	int err;

	err = structure_check_size(ctx, "impost_x86_initrd", ret_initrd, LEAST_INITRD);
	if (err < 0)
		return err;
	err = image_open(ctx, "initrd", fd, &image);
	if (err < 0)
		return err;
	initrd.bytes = image.bytes;
	err = find(memory, layout, kernel, initrd.bytes, &initrd.gpa);
	if (err == 0 && layout)
		err = impost_x86_layout_claim(ctx, layout, "initrd", initrd.gpa, initrd.bytes, 0);
	if (err < 0)
		return err;
	err = image_load(&image, memory, initrd.gpa, 0, image.bytes);
	if (err < 0 && layout)
		places_release(layout, initrd.gpa);
	if (err == 0)
		structure_give(ret_initrd, &initrd, sizeof(initrd));
	return err;
}
