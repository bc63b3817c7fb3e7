/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for kernel files: any bytes, read for any protocol, are refused, or end up whole in
 * guest memory in a way that the later steps can go on with.
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

/* The initrd is in memory and clear of the kernel, or refused. Returns whether it is there. */
static int load_initrd(struct impost_x86_layout *layout, const struct impost_x86_kernel *kernel,
		       struct impost_x86_initrd *initrd)
{
	int err = impost_x86_load_initrd(memory, layout, initrd_fd, kernel, initrd);

	require(err == 0 || err == -EFBIG);
	if (err < 0)
		return 0;
	require(layout->count == 2);
	require(initrd->gpa >= IMPOST_X86_HIGH_RAM);
	require(initrd->gpa + initrd->bytes <= RAM_BYTES);
	require(initrd->gpa + initrd->bytes - 1 <= kernel->initrd_max);
	require(initrd->gpa >= kernel->end || initrd->gpa + initrd->bytes <= kernel->start);
	return 1;
}

/* The guest can be told of all that. */
static void go_on(struct impost_x86_layout *layout, const struct impost_x86_kernel *kernel)
{
	struct impost_x86_e820 e820[IMPOST_X86_E820_MAX];
	struct impost_x86_initrd initrd = {.size = sizeof(initrd)};
	struct impost_x86_boot_info info = {
		.size = sizeof(info),
		.e820 = e820,
		.kernel = kernel,
		.initrd = load_initrd(layout, kernel, &initrd) ? &initrd : NULL,
	};

	require(impost_x86_e820(memory, layout, e820, IMPOST_X86_E820_MAX, &info.e820_count) == 0);
	switch (kernel->protocol) {
	case IMPOST_X86_PROTOCOL_LINUX64:
	case IMPOST_X86_PROTOCOL_LINUX32:
		require(impost_x86_write_zero_page(memory, &info) == 0);
		break;
	default:
		require(impost_x86_write_start_info(memory, &info) == 0);
	}
}

/* The mode is the protocol's, and the CPU can reach all that it must. */
static void check(const struct impost_x86_kernel *kernel, uint32_t protocol)
{
	static const uint32_t modes[] = {
		[IMPOST_X86_PROTOCOL_LINUX64] = IMPOST_X86_MODE_LONG,
		[IMPOST_X86_PROTOCOL_LINUX32] = IMPOST_X86_MODE_PROTECTED,
		[IMPOST_X86_PROTOCOL_PVH] = IMPOST_X86_MODE_PROTECTED,
		[IMPOST_X86_PROTOCOL_FLAT] = IMPOST_X86_MODE_LONG,
	};

	if (protocol != IMPOST_X86_PROTOCOL_AUTO)
		require(kernel->protocol == protocol);
	require(kernel->protocol != IMPOST_X86_PROTOCOL_AUTO &&
		kernel->protocol < sizeof(modes) / sizeof(modes[0]));
	require(kernel->mode == modes[kernel->protocol]);
	require(kernel->start >= IMPOST_X86_HIGH_RAM && kernel->start < kernel->end);
	require(kernel->entry >= kernel->start && kernel->entry < kernel->end);
	if (kernel->mode == IMPOST_X86_MODE_PROTECTED)
		require(kernel->entry <= UINT32_MAX);
}

static void run(uint32_t protocol)
{
	const struct impost_x86_kernel_want want = {.size = sizeof(want), .protocol = protocol};
	struct impost_context *ctx = impost_memory_context(memory);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct impost_x86_layout layout;
	int err;

	err = impost_x86_kernel_read(ctx, image_fd, &want, &kernel);
	if (err < 0) {
		require(err == -IMPOST_EIMAGE);
		require(*impost_error(ctx) != '\0');
		return;
	}
	check(&kernel, protocol);
	impost_x86_layout_init(&layout);
	err = impost_x86_kernel_load(memory, &layout, image_fd, &kernel);
	if (err < 0) {
		require(err == -EFAULT && layout.count == 0);
		return;
	}
	require(kernel.end <= RAM_BYTES && layout.count == 1);
	go_on(&layout, &kernel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!memory)
		set_up();
	require(ftruncate(image_fd, 0) == 0);
	require(pwrite(image_fd, data, size, 0) == (ssize_t)size);
	for (uint32_t protocol = 0; impost_x86_protocol_name(protocol); protocol++)
		run(protocol);
	return 0;
}
