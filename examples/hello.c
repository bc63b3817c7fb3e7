// SPDX-License-Identifier: Apache-2.0
/* A virtual machine monitor: boots the kernel that an INI names, with a serial port that only
 * sends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	const struct impost_exit_io *io = &exit->u.io;
	const unsigned char *data = io->data;

	(void)opaque;
	(void)vcpu;
	if (io->dir == IMPOST_EXIT_READ) /* 0x3fd says that the line is ready to send */
		memset(io->data, io->port == 0x3fd ? 0x60 : 0xff, (size_t)io->size * io->count);
	else if (io->port == 0x3f8)
		fwrite(data, io->size, io->count, stdout);
	return io->dir == IMPOST_EXIT_WRITE && io->port == 0x64 && *data == 0xfe; /* reset: leave */
}

static int boot_and_run(struct impost_context *ctx, struct impost_vm *vm, struct impost_vcpu *vcpu)
{
	static const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	const char *kernel = impost_context_get(ctx, "boot", "kernel");
	struct impost_x86_boot_config boot;
	struct impost_exit exit = {0};
	char text[256];
	int err;

	impost_x86_boot_config_init(ctx, &boot);
	if (!kernel)
		return impost_error_set(
			ctx, -ENOENT,
			"no kernel: name one with kernel = FILE in [boot] of the INI");
	boot.kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	if (boot.kernel_fd < 0)
		return impost_error_set(ctx, -errno, "cannot open the kernel %s: %m", kernel);
	err = impost_x86_add_ram(impost_vm_memory(vm), impost_vm_config(vm)->memory);
	if (err == 0)
		err = impost_x86_boot(vm, &vcpu, 1, &boot, NULL);
	close(boot.kernel_fd);
	if (err == 0)
		err = impost_vcpu_loop(vcpu, &handlers, NULL, &exit);
	if (err)
		return err;
	impost_exit_format(&exit, text, sizeof(text));
	fprintf(stderr, "%s: stopped at %s\n", impost_vm_backend(vm), text);
	return exit.kind == IMPOST_EXIT_IO ? 0 : impost_error_set(ctx, -EIO, "no reset");
}

int main(int argc, char **argv)
{
	struct impost_context *ctx = NULL;
	struct impost_vm *vm = NULL;
	struct impost_vcpu *vcpu = NULL;
	int err = impost_context_open(NULL, NULL, &ctx);

	if (err == 0)
		err = impost_context_load_file(ctx, argc > 1 ? argv[1] : "examples/impost.ini");
	if (err == 0)
		err = impost_vm_create(ctx, NULL, &vm);
	if (err == 0)
		err = impost_vcpu_create(vm, 0, &vcpu);
	if (err == 0)
		err = boot_and_run(ctx, vm, vcpu);
	if (err < 0)
		fprintf(stderr, "hello: %s\n", ctx ? impost_error(ctx) : impost_error_name(err));
	impost_vcpu_destroy(vcpu);
	impost_vm_destroy(vm);
	impost_context_close(ctx);
	return err < 0;
}
