/* SPDX-License-Identifier: Apache-2.0 */
/* The bzImage reader, with good, cut and hostile images. */
#include "x86_64.h"

#include <fcntl.h>
#include <sys/socket.h>

#define RAM_BYTES (8 * MIB)

typedef int (*load_fn)(struct impost_memory *memory, int fd, struct impost_x86_kernel *ret_kernel);
static const load_fn loaders[] = {load_kernel, load_linux64};

static void assert_loaded(struct ram *ram, const struct bz *bz,
			  const struct impost_x86_kernel *kernel)
{
	uint8_t got[BZ_PAYLOAD_BYTES];

	cr_assert_eq(kernel->size, sizeof(*kernel));
	cr_assert_eq(kernel->format, IMPOST_X86_FORMAT_BZIMAGE);
	cr_assert_eq(kernel->protocol, IMPOST_X86_PROTOCOL_LINUX64);
	cr_assert_eq(kernel->mode, IMPOST_X86_MODE_LONG);
	cr_assert_eq(kernel->version, 0x20fu);
	cr_assert_eq(kernel->start, BZ_START);
	cr_assert_eq(kernel->end, BZ_START + BZ_INIT_SIZE);
	cr_assert_eq(kernel->entry, BZ_START + 0x200);
	cr_assert_eq(kernel->cmdline_max, 2047u);
	cr_assert_eq(kernel->initrd_max, 0x7fffffffu);
	cr_assert_eq(kernel->setup_header_bytes, sizeof(bz->hdr));
	cr_assert_arr_eq(kernel->setup_header, &bz->hdr, sizeof(bz->hdr));
	cr_assert_eq(impost_memory_read(ram->memory, BZ_START, got, sizeof(got)), 0);
	cr_assert_arr_eq(got, bz->bytes + BZ_SETUP_BYTES, sizeof(got));
}

Test(bzimage, loads_at_its_preferred_address)
{
	for (size_t i = 0; i < 2; i++) {
		struct ram ram = ram_make(RAM_BYTES);
		struct bz bz = bz_make();
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		int fd = file_make(&bz, sizeof(bz));

		cr_assert_eq(loaders[i](ram.memory, fd, &kernel), 0, "%s", impost_error(ram.ctx));
		assert_loaded(&ram, &bz, &kernel);
		close(fd);
		ram_free(&ram);
	}
}

/* Asserts that no byte of RAM at the kernel's place is other than PATTERN. */
static void assert_untouched(struct ram *ram)
{
	static uint8_t got[BZ_INIT_SIZE];

	cr_assert_eq(impost_memory_read(ram->memory, BZ_START, got, sizeof(got)), 0);
	for (size_t i = 0; i < sizeof(got); i++)
		cr_assert_eq(got[i], PATTERN);
}

Test(bzimage, every_prefix_is_refused)
{
	struct ram ram = ram_make(RAM_BYTES);
	struct bz bz = bz_make();
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)}, before;
	int fd = file_make(&bz, sizeof(bz)), fds = count_fds();

	memset(&before, PATTERN, sizeof(before));
	kernel = before;
	cr_assert_eq(impost_memory_fill(ram.memory, BZ_START, PATTERN, BZ_INIT_SIZE), 0);
	for (size_t bytes = sizeof(bz); bytes-- > 0;) {
		cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
		for (size_t i = 0; i < 2; i++) {
			cr_assert_eq(loaders[i](ram.memory, fd, &kernel), -IMPOST_EIMAGE,
				     "%zu bytes", bytes);
			cr_assert(strstr(impost_error(ram.ctx), "truncated") ||
					  strstr(impost_error(ram.ctx), "empty"),
				  "%zu bytes: %s", bytes, impost_error(ram.ctx));
		}
	}
	cr_assert_arr_eq(&kernel, &before, sizeof(kernel));
	assert_untouched(&ram);
	cr_assert_eq(count_fds(), fds);
	close(fd);
	ram_free(&ram);
}

Test(bzimage, what_follows_the_payload_does_not_matter)
{
	struct ram ram = ram_make(RAM_BYTES);
	struct bz bz = bz_make();
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	int fd = file_make(&bz, sizeof(bz));

	cr_assert_eq(write(fd, "signature", 9), 9);
	cr_assert_eq(load_kernel(ram.memory, fd, &kernel), 0);
	assert_loaded(&ram, &bz, &kernel);
	close(fd);
	ram_free(&ram);
}

/* One field of the header set to a value that cannot be. */
#define FIELD(f) offsetof(struct setup_header, f), sizeof(((struct setup_header *)NULL)->f)
static const struct {
	size_t offset, bytes;
	uint64_t value;
	int err;
	const char *words;
} bad_fields[] = {
	{FIELD(boot_flag), 0, IMPOST_EIMAGE, "no bzImage"},
	{FIELD(jump), 0x6ae9, IMPOST_EIMAGE, "has no end"},
	{FIELD(jump), 0x80eb, IMPOST_EIMAGE, "has no end"},
	{FIELD(jump), 0x61eb, IMPOST_EIMAGE, "before its field init_size"},
	{FIELD(jump), 0x00eb, IMPOST_EIMAGE, "before its field init_size"},
	{FIELD(version), 0x209, IMPOST_EIMAGE, "boot protocol 2.9"},
	{FIELD(version), 0, IMPOST_EIMAGE, "boot protocol 0.0"},
	{FIELD(loadflags), 0, IMPOST_EIMAGE, "zImage"},
	{FIELD(setup_sects), 0, IMPOST_EIMAGE, "truncated"},
	{FIELD(setup_sects), 2, IMPOST_EIMAGE, "truncated"},
	{FIELD(setup_sects), 0xff, IMPOST_EIMAGE, "setup_sects 0xff"},
	{FIELD(syssize), 0, IMPOST_EIMAGE, "syssize"},
	{FIELD(syssize), 0x20, IMPOST_EIMAGE, "syssize"},
	{FIELD(syssize), UINT32_MAX, IMPOST_EIMAGE, "truncated"},
	{FIELD(pref_address), 0x7fff, IMPOST_EIMAGE, "below 1 MiB"},
	{FIELD(pref_address), UINT64_MAX - 0x4000, IMPOST_EIMAGE, "wraps around"},
	{FIELD(pref_address), 0x300000, IMPOST_EIMAGE, "alignment"},
	{FIELD(pref_address), RAM_BYTES, EFAULT, "0x0 to 0x7fffff"},
	{FIELD(pref_address), UINT64_C(1) << 62, EFAULT, "give the guest more memory"},
	{FIELD(kernel_alignment), 0, IMPOST_EIMAGE, "alignment"},
	{FIELD(kernel_alignment), 0x180000, IMPOST_EIMAGE, "alignment"},
	{FIELD(init_size), UINT32_MAX, EFAULT, "the kernel needs guest memory from 0x200000"},
	{FIELD(init_size), RAM_BYTES - BZ_START + 1, EFAULT, "0x200000 to 0x800000"},
};

Test(bzimage, fields_that_cannot_be)
{
	struct ram ram = ram_make(RAM_BYTES);
	int fds = count_fds();

	cr_assert_eq(impost_memory_fill(ram.memory, BZ_START, PATTERN, BZ_INIT_SIZE), 0);
	for (size_t i = 0; i < sizeof(bad_fields) / sizeof(bad_fields[0]); i++) {
		struct bz bz = bz_make();
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		int fd;

		memcpy((uint8_t *)&bz.hdr + bad_fields[i].offset, &bad_fields[i].value,
		       bad_fields[i].bytes);
		fd = file_make(&bz, sizeof(bz));
		assert_refused(&ram, load_kernel(ram.memory, fd, &kernel), bad_fields[i].err,
			       bad_fields[i].words);
		close(fd);
	}
	assert_untouched(&ram);
	cr_assert_eq(count_fds(), fds);
	ram_free(&ram);
}

/* A header that ends where its setup does: setup_sects 0 means 4, and 0 sectors are too few. */
Test(bzimage, setup_that_ends_within_the_header)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(0);
	struct bz bz = bz_make();

	bz.hdr.setup_sects = 0;
	cr_assert_eq(impost_x86_bzimage_parse(ram.ctx, &bz, 1024, 1 << 20, &kernel), 0);
	cr_assert_eq(kernel.payload_offset, UINT64_C(5) * 512);
	ram_free(&ram);
}

Test(bzimage, limits_that_the_header_gives)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct bz bz = bz_make();

	bz.hdr.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	bz.hdr.cmdline_size = UINT32_MAX;
	bz.hdr.init_size = 0;
	bz.hdr.pref_address = 0;
	bz.hdr.relocatable_kernel = 0;
	bz.hdr.jump = 0x7feb;
	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, sizeof(bz), &kernel), 0);
	cr_assert_eq(kernel.initrd_max, UINT64_MAX);
	cr_assert_eq(kernel.cmdline_max, IMPOST_X86_CMDLINE_MAX - 1);
	cr_assert_eq(kernel.start, MIB);
	cr_assert_eq(kernel.end, MIB + BZ_PAYLOAD_BYTES);
	cr_assert_eq(kernel.setup_header_bytes, IMPOST_X86_SETUP_HEADER_MAX);
}

Test(bzimage, head_that_is_too_short_to_judge)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct bz bz = bz_make();

	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1023, sizeof(bz), &kernel), -EINVAL);
	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 1024, 1023, &kernel), -EINVAL);
	cr_assert_eq(impost_x86_bzimage_parse(NULL, &bz, 0, 0, &kernel), -IMPOST_EIMAGE);
}

/* Whatever one byte of the header is, the image is refused or lies whole in RAM. */
Test(bzimage, every_byte_of_the_header_mutated)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
	struct ram ram = ram_make(RAM_BYTES);
	int loaded = 0;

	for (size_t at = 0; at < sizeof(struct setup_header); at++) {
		for (size_t k = 0; k < sizeof(values); k++) {
			struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
			struct bz bz = bz_make();
			int fd;

			((uint8_t *)&bz.hdr)[at] = values[k];
			fd = file_make(&bz, sizeof(bz));
			if (load_kernel(ram.memory, fd, &kernel) == 0) {
				loaded++;
				cr_assert_geq(kernel.start, MIB);
				cr_assert_leq(kernel.end, RAM_BYTES);
				cr_assert(kernel.entry >= kernel.start &&
					  kernel.entry < kernel.end);
				cr_assert_leq(kernel.payload_offset + kernel.payload_bytes,
					      sizeof(bz));
				cr_assert_leq(kernel.payload_bytes, kernel.end - kernel.start);
			}
			close(fd);
		}
	}
	cr_assert_gt(loaded, 100);
	ram_free(&ram);
}

Test(bzimage, descriptors_that_are_no_files)
{
	struct ram ram = ram_make(MIB);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	int pipes[2], sockets[2], folder, null;

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < 2; i++) {
		assert_refused(&ram, loaders[i](ram.memory, pipes[0], &kernel), IMPOST_EIMAGE,
			       "a pipe");
		assert_refused(&ram, loaders[i](ram.memory, sockets[0], &kernel), IMPOST_EIMAGE,
			       "a socket");
		assert_refused(&ram, loaders[i](ram.memory, folder, &kernel), IMPOST_EIMAGE,
			       "a folder");
		assert_refused(&ram, loaders[i](ram.memory, null, &kernel), IMPOST_EIMAGE,
			       "a character device");
		assert_refused(&ram, loaders[i](ram.memory, -1, &kernel), EBADF, "descriptor -1");
	}
	close(pipes[0]);
	close(pipes[1]);
	close(sockets[0]);
	close(sockets[1]);
	close(folder);
	close(null);
	ram_free(&ram);
}

Test(bzimage, text_is_no_kernel)
{
	struct ram ram = ram_make(MIB);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	char text[2000];
	int fd;

	memset(text, 'x', sizeof(text));
	fd = file_make(text, sizeof(text));
	assert_refused(&ram, load_kernel(ram.memory, fd, &kernel), IMPOST_EIMAGE,
		       "no known format");
	assert_refused(&ram, load_linux64(ram.memory, fd, &kernel), IMPOST_EIMAGE,
		       "no known format");
	close(fd);
	ram_free(&ram);
}
