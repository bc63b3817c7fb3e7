// SPDX-License-Identifier: Apache-2.0
/* A host that is not linked with libimpost: it opens the library, takes the table of all functions
 * with one dlsym(), and boots the kernel that an INI names. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/api.h>

/* What of the library is used, from its table. */
static const struct impost_api *api;

static const struct impost_api *find_api(void *library)
{
	impost_api_fn get;

	/* POSIX has functions and objects of one size, ISO C does not say so. */
	*(void **)(void *)&get = dlsym(library, IMPOST_API_SYMBOL);
	return get ? get(IMPOST_API_VERSION) : NULL;
}

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

static int boot(struct impost_context *ctx, struct impost_vm *vm, struct impost_vcpu *vcpu)
{
	/* What impost_x86_boot_config_init() does, which is inline and calls the library. */
	struct impost_x86_boot_config config = {.size = sizeof(config)};
	const char *kernel = api->context_get(ctx, "boot", "kernel");
	int err;

	if (!kernel)
		return api->error_set(ctx, -ENOENT, "no kernel: name one with kernel = FILE");
	api->x86_boot_config_fill(ctx, &config);
	config.kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	if (config.kernel_fd < 0)
		return api->error_set(ctx, -errno, "cannot open the kernel %s: %m", kernel);
	err = api->x86_add_ram(api->vm_memory(vm), api->vm_config(vm)->memory);
	if (err == 0)
		err = api->x86_boot(vm, &vcpu, 1, &config, NULL);
	close(config.kernel_fd);
	return err;
}

static int run(struct impost_context *ctx, struct impost_vm *vm, struct impost_vcpu *vcpu)
{
	static const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	struct impost_exit exit = {0};
	char text[256];
	int err = boot(ctx, vm, vcpu);

	if (err == 0)
		err = api->vcpu_loop(vcpu, &handlers, NULL, &exit);
	if (err)
		return err;
	api->exit_format(&exit, text, sizeof(text));
	fprintf(stderr, "%s, libimpost %s: stopped at %s\n", api->vm_backend(vm), api->version(),
		text);
	return exit.kind == IMPOST_EXIT_IO ? 0 : api->error_set(ctx, -EIO, "no reset");
}

static int make_and_run(const char *ini)
{
	struct impost_context *ctx = NULL;
	struct impost_vm *vm = NULL;
	struct impost_vcpu *vcpu = NULL;
	int err = api->context_open(NULL, NULL, &ctx);

	if (err == 0)
		err = api->context_load_file(ctx, ini);
	if (err == 0)
		err = api->vm_create(ctx, NULL, &vm);
	if (err == 0)
		err = api->vcpu_create(vm, 0, &vcpu);
	if (err == 0)
		err = run(ctx, vm, vcpu);
	if (err < 0)
		fprintf(stderr, "dlopen-host: %s\n", ctx ? api->error(ctx) : api->error_name(err));
	api->vcpu_destroy(vcpu);
	api->vm_destroy(vm);
	api->context_close(ctx);
	return err;
}

int main(int argc, char **argv)
{
	void *library = dlopen(argc > 1 ? argv[1] : "libimpost.so.0", RTLD_NOW | RTLD_LOCAL);
	int err;

	if (!library) {
		fprintf(stderr, "dlopen-host: %s\n", dlerror());
		return 1;
	}
	api = find_api(library);
	if (!api) {
		fprintf(stderr, "dlopen-host: that library has no table of version %d\n",
			IMPOST_API_VERSION);
		dlclose(library);
		return 1;
	}
	err = make_and_run(argc > 2 ? argv[2] : "examples/impost.ini");
	dlclose(library);
	return err < 0;
}
