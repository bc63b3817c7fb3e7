// SPDX-License-Identifier: Apache-2.0
/* The files that a restored run's memory is mapped from, and whether they have kept their length.
 */
#include "sources.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *sources_base(struct impost_snapshot *snapshot, const char *path)
{
	struct impost_snapshot_info info = {.size = sizeof(info)};
	const char *slash = strrchr(path, '/');
	char *base = NULL;

	if (impost_snapshot_info(snapshot, &info) < 0 || !info.base)
		return NULL;
	if (asprintf(&base, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, info.base) < 0)
		return NULL;
	return base;
}

/* Takes PATH over. */
static int add(struct sources *sources, struct impost_context *ctx, char *path)
{
	struct source *source = &sources->file[sources->count++];
	struct stat status;

	source->path = path;
	source->fd = open(path, O_PATH | O_CLOEXEC);
	if (source->fd < 0 || fstat(source->fd, &status))
		return impost_error_set(ctx, -errno, "cannot open %s: %m", path);
	source->bytes = (uint64_t)status.st_size;
	return 0;
}

int sources_open(struct sources *sources, struct impost_context *ctx, const char *path,
		 const struct impost_snapshot_key *key)
{
	const struct impost_snapshot_open_options options = {
		.size = sizeof(options),
		.flags = IMPOST_SNAPSHOT_ALONE,
		.key = key,
	};
	char *next = strdup(path);
	int err = 0;

	if (!next)
		return impost_error_set(ctx, -ENOMEM, "no memory for a path");
	while (next && err == 0 && sources->count < SOURCES_MOST) {
		struct impost_snapshot *snapshot;
		char *base = NULL;

		err = impost_snapshot_open(ctx, next, &options, &snapshot);
		if (err < 0)
			break;
		base = sources_base(snapshot, next);
		impost_snapshot_close(snapshot);
		err = add(sources, ctx, next);
		next = base;
	}
	free(next);
	return err;
}

void sources_close(struct sources *sources)
{
	for (uint32_t i = 0; i < sources->count; i++) {
		if (sources->file[i].fd >= 0)
			close(sources->file[i].fd);
		free(sources->file[i].path);
	}
	sources->count = 0;
}

int sources_check(const struct sources *sources, struct impost_context *ctx)
{
	for (uint32_t i = 0; i < sources->count; i++) {
		const struct source *source = &sources->file[i];
		struct stat status;

		if (fstat(source->fd, &status) == 0 && (uint64_t)status.st_size < source->bytes)
			return impost_error_set(ctx, -EIO,
						"the guest has lost memory, which is mapped from "
						"%s: the file is %" PRIu64
						" bytes long now, and was %" PRIu64,
						source->path, (uint64_t)status.st_size,
						source->bytes);
	}
	return 0;
}
