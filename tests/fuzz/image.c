/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for a kernel reader, LOAD: any bytes are refused, or end up whole in guest memory in
 * a way that the later steps can go on with.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <impost/x86_64/boot.h>

#define RAM_BYTES (UINT64_C(4) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct impost_memory *memory;
static int image_fd, initrd_fd;

/* What must hold, or the reader is wrong. */
static void require(int condition)
{
	if (!condition)
		__builtin_trap();
}

static void set_up(void)
{
	struct impost_context *ctx;

	require(impost_context_open(NULL, NULL, &ctx) == 0);
	require(impost_memory_create(ctx, &memory) == 0);
	require(impost_x86_add_ram(memory, RAM_BYTES) == 0);
	image_fd = memfd_create("image", MFD_CLOEXEC);
	initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	require(image_fd >= 0 && initrd_fd >= 0);
	require(ftruncate(initrd_fd, 5000) == 0);
}

/* The initrd is in memory and clear of the kernel, or refused. */
static void go_on(const struct impost_x86_kernel *kernel)
{
	struct impost_x86_initrd initrd = {0};
	int err = impost_x86_load_initrd(memory, initrd_fd, kernel, &initrd);

	require(err == 0 || err == -EFBIG);
	if (err == 0) {
		require(initrd.gpa + initrd.bytes <= RAM_BYTES);
		require(initrd.gpa >= kernel->end || initrd.gpa + initrd.bytes <= kernel->start);
	}
	require(impost_x86_write_zero_page(memory, kernel, "", err == 0 ? &initrd : NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct impost_x86_kernel kernel;
	int err;

	if (!memory)
		set_up();
	require(ftruncate(image_fd, 0) == 0);
	require(pwrite(image_fd, data, size, 0) == (ssize_t)size);
	err = LOAD(memory, image_fd, &kernel);
	if (err < 0) {
		require(err == -IMPOST_EIMAGE || err == -EFAULT);
		require(*impost_error(impost_memory_context(memory)) != '\0');
		return 0;
	}
	require(kernel.start >= IMPOST_X86_HIGH_RAM && kernel.start < kernel.end);
	require(kernel.end <= RAM_BYTES);
	require(kernel.entry >= kernel.start && kernel.entry < kernel.end);
	go_on(&kernel);
	return 0;
}
