/* SPDX-License-Identifier: Apache-2.0 */
/* Where an initrd goes: against a search page by page. */
#include "x86_64.h"

/* A file of BYTES that is a hole but for its first and last byte. */
static int initrd_make(uint64_t bytes)
{
	int fd = file_make("F", 1);

	cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
	cr_assert_eq(pwrite(fd, "L", 1, (off_t)bytes - 1), 1);
	return fd;
}

static void assert_loaded(struct ram *ram, const struct impost_x86_initrd *initrd)
{
	char byte;

	cr_assert_eq(impost_memory_read(ram->memory, initrd->gpa, &byte, 1), 0);
	cr_assert_eq(byte, 'F');
	cr_assert_eq(impost_memory_read(ram->memory, initrd->gpa + initrd->bytes - 1, &byte, 1), 0);
	cr_assert_eq(byte, 'L');
}

Test(initrd, as_high_as_it_can_go)
{
	struct impost_x86_kernel kernel = {
		.start = 2 * MIB, .end = 3 * MIB, .initrd_max = 0x7fffffff};
	struct ram ram = ram_make(16 * MIB);
	struct impost_x86_initrd initrd = {.size = sizeof(initrd)};
	int fd = initrd_make(5000);

	cr_assert_eq(impost_x86_load_initrd(ram.memory, NULL, fd, &kernel, &initrd), 0, "%s",
		     impost_error(ram.ctx));
	cr_assert_eq(initrd.gpa, 16 * MIB - 8192);
	cr_assert_eq(initrd.bytes, 5000u);
	assert_loaded(&ram, &initrd);
	close(fd);
	ram_free(&ram);
}

Test(initrd, above_4_gib_when_the_kernel_takes_it)
{
	struct impost_x86_kernel kernel = {
		.start = 2 * MIB, .end = 3 * MIB, .initrd_max = UINT64_MAX};
	struct ram ram = ram_make(16 * MIB);
	struct impost_x86_initrd initrd = {.size = sizeof(initrd)};
	int fd = initrd_make(4096);

	add_region(&ram, 4 * GIB, MIB, 0);
	add_region(&ram, 5 * GIB, MIB, IMPOST_REGION_READONLY);
	cr_assert_eq(impost_x86_load_initrd(ram.memory, NULL, fd, &kernel, &initrd), 0);
	cr_assert_eq(initrd.gpa, 4 * GIB + MIB - 4096);
	kernel.initrd_max = UINT32_MAX;
	cr_assert_eq(impost_x86_load_initrd(ram.memory, NULL, fd, &kernel, &initrd), 0);
	cr_assert_eq(initrd.gpa, 16 * MIB - 4096);
	close(fd);
	ram_free(&ram);
}

/* Behind a kernel that ends where the address space does there is nothing, not even at its bottom.
 */
Test(initrd, behind_the_end_of_the_address_space)
{
	struct impost_x86_kernel kernel = {
		.start = 2 * MIB, .end = UINT64_MAX, .initrd_max = UINT64_MAX};
	struct impost_x86_initrd initrd = {.size = sizeof(initrd), .gpa = 1, .bytes = 1};
	struct ram ram = ram_make(16 * MIB);
	int fd = initrd_make(2 * MIB);

	assert_refused(&ram, impost_x86_load_initrd(ram.memory, NULL, fd, &kernel, &initrd), EFBIG,
		       "there are 1048576 in one piece");
	close(fd);
	ram_free(&ram);
}

/* The highest page where BYTES fit, found by trying each; 0: none. */
static uint64_t model(uint64_t ram_bytes, uint64_t bytes, const struct impost_x86_kernel *kernel)
{
	for (uint64_t gpa = ram_bytes; gpa >= MIB; gpa -= 4096) {
		uint64_t end = gpa + bytes;

		if (end <= ram_bytes && end - 1 <= kernel->initrd_max &&
		    (end <= kernel->start || gpa >= kernel->end))
			return gpa;
	}
	return 0;
}

Test(initrd, agrees_with_trying_every_page)
{
	static const uint64_t sizes[] = {1, 4096, 4097, MIB - 1, MIB, MIB + 1, 2 * MIB, 4 * MIB};
	static const uint64_t starts[] = {MIB, MIB + 4096, 2 * MIB + 17, 3 * MIB, 4 * MIB - 4096};
	static const uint64_t limits[] = {0,	       MIB,	2 * MIB - 1, 3 * MIB,
					  4 * MIB - 1, 4 * MIB, UINT64_MAX};
	struct ram ram = ram_make(4 * MIB);
	unsigned int fitted = 0, refused = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = initrd_make(sizes[i]);

		for (size_t k = 0; k < sizeof(starts) / sizeof(starts[0]) * 7; k++) {
			struct impost_x86_kernel kernel = {.start = starts[k / 7],
							   .end = starts[k / 7] + 0x1234,
							   .initrd_max = limits[k % 7]};
			uint64_t want = model(4 * MIB, sizes[i], &kernel);
			struct impost_x86_initrd initrd = {.size = sizeof(initrd)};

			if (!want) {
				refused++;
				assert_refused(&ram,
					       impost_x86_load_initrd(ram.memory, NULL, fd, &kernel,
								      &initrd),
					       EFBIG,
					       limits[k % 7] < MIB ? "below 1 MiB"
								   : "in one piece");
				continue;
			}
			fitted++;
			cr_assert_eq(impost_x86_load_initrd(ram.memory, NULL, fd, &kernel, &initrd),
				     0);
			cr_assert_eq(initrd.gpa, want);
			cr_assert_eq(initrd.bytes, sizes[i]);
		}
		close(fd);
	}
	cr_assert(fitted > 50 && refused > 50, "%u fitted, %u refused", fitted, refused);
	ram_free(&ram);
}

/* --- with a layout --- */

/* The highest page where BYTES fit above 1 MiB, clear of all places and the kernel; 0: none. */
static uint64_t model_of_places(uint64_t ram_bytes, uint64_t bytes,
				const struct impost_x86_layout *layout,
				const struct impost_x86_kernel *kernel)
{
	for (uint64_t gpa = ram_bytes; gpa >= MIB; gpa -= 4096) {
		uint64_t end = gpa + bytes;
		int clear = end <= ram_bytes && (end <= kernel->start || gpa >= kernel->end);

		for (uint32_t i = 0; i < layout->count && clear; i++)
			clear = end <= layout->place[i].gpa ||
				gpa >= layout->place[i].gpa + layout->place[i].bytes;
		if (clear)
			return gpa;
	}
	return 0;
}

/* Whether the kernel is claimed already or not. */
Test(initrd, is_clear_of_all_places_and_claimed)
{
	struct impost_x86_kernel kernel = {
		.start = 3 * MIB, .end = 3 * MIB + 0x1234, .initrd_max = UINT64_MAX};
	struct ram ram = ram_make(4 * MIB);
	uint32_t seed = 11, fitted = 0, refused = 0;

	for (uint32_t round = 0; round < 200; round++) {
		struct impost_x86_layout layout, before;
		struct impost_x86_initrd initrd = {.size = sizeof(initrd)};
		uint64_t want, bytes;
		int fd, err;

		impost_x86_layout_init(&layout);
		if (round % 2)
			cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "kernel",
							     kernel.start, 0x1234, 0),
				     0);
		for (uint32_t k = 0; k < 12; k++) {
			uint64_t gpa, size;

			seed = seed * 1103515245 + 12345;
			gpa = (seed >> 8) % (3 * MIB - 128 * 1024);
			seed = seed * 1103515245 + 12345;
			size = 1 + (seed >> 8) % (128 * 1024);
			impost_x86_layout_claim(NULL, &layout, "table", gpa, size, 0);
		}
		seed = seed * 1103515245 + 12345;
		bytes = 1 + (seed >> 8) % (3 * MIB / 2);
		want = model_of_places(4 * MIB, bytes, &layout, &kernel);
		before = layout;
		fd = initrd_make(bytes);
		err = impost_x86_load_initrd(ram.memory, &layout, fd, &kernel, &initrd);
		close(fd);
		cr_assert_eq(err, want ? 0 : -EFBIG, "%s", impost_error(ram.ctx));
		cr_assert_eq(initrd.gpa, want);
		cr_assert_eq(layout.count, before.count + (want ? 1 : 0));
		fitted += want != 0;
		refused += want == 0;
		if (want)
			assert_loaded(&ram, &initrd);
		else
			cr_assert_arr_eq(&layout, &before, sizeof(layout));
	}
	cr_assert(fitted > 50 && refused > 20, "%u fitted, %u refused", fitted, refused);
	ram_free(&ram);
}

Test(initrd, layouts_that_have_no_room)
{
	struct impost_x86_kernel kernel = {
		.start = 2 * MIB, .end = 3 * MIB, .initrd_max = UINT64_MAX};
	struct ram ram = ram_make(4 * MIB);
	struct impost_x86_layout layout;
	struct impost_x86_initrd initrd = {.size = sizeof(initrd)};
	int fd = initrd_make(4096);

	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "device", 2 * MIB - 1, 2, 0), 0);
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, &layout, fd, &kernel, &initrd),
		       EEXIST, "the kernel (0x200000 to 0x2fffff) would lie over the device");
	impost_x86_layout_init(&layout);
	cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "kernel", 2 * MIB, MIB, 0), 0);
	for (uint64_t i = 1; i < IMPOST_X86_PLACES_MAX; i++)
		cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "x", 16 * i, 1, 0), 0);
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, &layout, fd, &kernel, &initrd),
		       ENOSPC, "the initrd beside 64 places");
	layout.size = 0;
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, &layout, fd, &kernel, &initrd),
		       EINVAL, "impost_x86_layout_init");
	close(fd);
	ram_free(&ram);
}

/* --- bad files --- */

Test(initrd, bad_files)
{
	struct impost_x86_kernel kernel = {.start = MIB, .end = 2 * MIB, .initrd_max = UINT32_MAX};
	struct impost_x86_initrd initrd = {.size = sizeof(initrd), .gpa = 1, .bytes = 1};
	struct ram ram = ram_make(4 * MIB);
	int pipes[2], empty = file_make("", 0), huge = initrd_make(UINT64_C(1) << 40);

	cr_assert_eq(pipe(pipes), 0);
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, NULL, empty, &kernel, &initrd),
		       IMPOST_EIMAGE, "the initrd is an empty file");
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, NULL, pipes[0], &kernel, &initrd),
		       IMPOST_EIMAGE, "the initrd is a pipe");
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, NULL, -1, &kernel, &initrd), EBADF,
		       "descriptor -1");
	assert_refused(
		&ram, impost_x86_load_initrd(ram.memory, NULL, huge, &kernel, &initrd), EFBIG,
		"needs 1099511627776 bytes of RAM from 0x100000 to 0xffffffff; beside what is taken there are 2097152");
	initrd.size--;
	assert_refused(&ram, impost_x86_load_initrd(ram.memory, NULL, empty, &kernel, &initrd),
		       EINVAL, "impost_x86_initrd has size");
	cr_assert_eq(initrd.gpa, 1u);
	close(pipes[0]);
	close(pipes[1]);
	close(empty);
	close(huge);
	ram_free(&ram);
}
