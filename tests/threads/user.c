/* SPDX-License-Identifier: Apache-2.0 */
/* A module that uses the library by itself, as a plugin of some host would. */
#include "user.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/api.h>

static void *library;
static const struct impost_api *api;
static struct impost_context *ctx;
static struct impost_vm *vm;
static struct impost_vcpu *vcpu;
static atomic_ulong accesses;
static char text[64], wrong[512];

/* Keeps what is wrong where closing the context does not take it away. */
static const char *keep(const char *what)
{
	snprintf(wrong, sizeof(wrong), "%s", what);
	return wrong;
}

static int on_io(void *opaque, struct impost_vcpu *from, struct impost_exit *exit)
{
	const struct impost_exit_io *io = &exit->u.io;
	const char *data = io->data;
	size_t length = strlen(text);

	(void)opaque;
	(void)from;
	atomic_fetch_add(&accesses, 1);
	if (io->dir == IMPOST_EXIT_READ)
		memset(io->data, 0x60, (size_t)io->size * io->count);
	else if (io->port == 0x3f8)
		snprintf(text + length, sizeof(text) - length, "%.*s", (int)io->count, data);
	return io->dir == IMPOST_EXIT_WRITE && io->port == 0x64;
}

static int boot(void)
{
	struct impost_x86_boot_config config = {.size = sizeof(config)};
	int err;

	api->x86_boot_config_fill(ctx, &config);
	config.kernel_fd = open(api->context_get(ctx, "boot", "kernel"), O_RDONLY | O_CLOEXEC);
	if (config.kernel_fd < 0)
		return api->error_set(ctx, -ENOENT, "no kernel");
	err = api->x86_add_ram(api->vm_memory(vm), api->vm_config(vm)->memory);
	if (!err)
		err = api->x86_boot(vm, &vcpu, 1, &config, NULL);
	close(config.kernel_fd);
	return err;
}

static const char *user_open(const char *path, const char *ini)
{
	impost_api_fn get = NULL;
	int err;

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library)
		*(void **)(void *)&get = dlsym(library, IMPOST_API_SYMBOL);
	api = get ? get(IMPOST_API_VERSION) : NULL;
	if (!api)
		return keep(library ? "no table" : dlerror());
	text[0] = '\0';
	err = api->context_open(NULL, NULL, &ctx);
	if (!err)
		err = api->context_load_file(ctx, ini);
	if (!err)
		err = api->vm_create(ctx, NULL, &vm);
	if (!err)
		err = api->vcpu_create(vm, 0, &vcpu);
	if (!err)
		err = boot();
	return err ? keep(api->error(ctx)) : NULL;
}

static const char *user_run(void)
{
	static const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	struct impost_exit exit;

	if (api->vcpu_loop(vcpu, &handlers, NULL, &exit))
		return keep(api->error(ctx));
	return exit.kind == IMPOST_EXIT_IO || exit.kind == IMPOST_EXIT_INTR
		       ? NULL
		       : keep(api->exit_name(&exit));
}

static void user_stop(void)
{
	api->vcpu_kick(vcpu);
}

static uint64_t user_accesses(void)
{
	return atomic_load(&accesses);
}

static const char *user_said(void)
{
	return text;
}

static void user_fail(const char *file)
{
	api->context_load_file(ctx, file);
}

static const char *user_error(void)
{
	return api->error(ctx);
}

static const char *user_close(void)
{
	if (api->vcpu_destroy(vcpu) || api->vm_destroy(vm))
		return keep(api->error(ctx));
	if (api->context_close(ctx))
		return keep("the context does not close");
	vcpu = NULL;
	vm = NULL;
	ctx = NULL;
	api = NULL;
	return dlclose(library) ? keep(dlerror()) : NULL;
}

IMPOST_API extern const struct user user;
const struct user user = {
	.open = user_open,
	.run = user_run,
	.stop = user_stop,
	.accesses = user_accesses,
	.said = user_said,
	.fail = user_fail,
	.error = user_error,
	.close = user_close,
};
