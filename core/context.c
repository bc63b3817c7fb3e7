/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing contexts. */
#include <impost/context.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "context.h"

/*
 * A page that reads 1 here and 0 in a fork of this process: the kernel empties it (madvise(2),
 * MADV_WIPEONFORK). So being a fork costs one load to find out.
 */
static int make_alive(const uint32_t **ret_alive)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	uint32_t *page =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (page == MAP_FAILED)
		return -errno;
	if (madvise(page, bytes, MADV_WIPEONFORK)) {
		err = -errno;
		munmap(page, bytes);
		return err;
	}
	*page = 1;
	*ret_alive = page;
	return 0;
}

static void free_alive(const uint32_t *alive)
{
	if (alive)
		munmap((void *)(uintptr_t)alive, (size_t)sysconf(_SC_PAGESIZE));
}

int impost_context_open(impost_log_fn log, void *opaque, struct impost_context **ret_ctx)
{
	struct impost_context *ctx;
	int err;

	if (!ret_ctx)
		return -EINVAL;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;
	ctx->log = log;
	ctx->opaque = opaque;
	atomic_init(&ctx->log_level, IMPOST_LOG_WARN);
	atomic_init(&ctx->vms, 0);
	err = make_alive(&ctx->alive);
	ctx->errors = err ? NULL : errors_create();
	if (!ctx->errors) {
		free_alive(ctx->alive);
		free(ctx);
		return err ? err : -ENOMEM;
	}
	pthread_mutex_init(&ctx->lock, NULL);
	*ret_ctx = ctx;
	return 0;
}

int impost_context_close(struct impost_context *ctx)
{
	bool forked;
	int err = 0;

	if (!ctx)
		return 0;
	forked = context_forked(ctx);
	if (ctx->vms > 0 && !forked)
		return impost_error_set(ctx, -EBUSY,
					"%u VM%s of this context still live: destroy them first",
					ctx->vms, ctx->vms == 1 ? "" : "s");
	err = registry_release(ctx);
	if (err)
		return err;
	config_release(&ctx->config);
	pthread_mutex_destroy(&ctx->lock);
	free_alive(ctx->alive);
	errors_close(ctx->errors);
	free(ctx);
	return 0;
}

int context_refuse_fork(struct impost_context *ctx)
{
	return impost_error_set(ctx, -IMPOST_EFORKED,
				"this process is a fork of the one that made the object: open a "
				"context of its own here");
}
