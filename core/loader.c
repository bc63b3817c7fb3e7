/* SPDX-License-Identifier: Apache-2.0 */
/* Plugin files: which may be loaded, and loading them with libltdl. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ltdl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context.h"
#include "plugin.h"
#include "text.h"

/*
 * libltdl is not thread-safe: every call of it is made under this lock, and a host that uses it too
 * must not do so at the same time. It is started once and never ended: plugins stay resident, and
 * the last lt_dlexit() would forget them while they are still in memory.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool started;

/*
 * A process may have several copies of this library, at different paths, each with a mutex of its
 * own, but one libltdl. The copies meet at a file that is each process's own: flock(2) is between
 * open files, not processes. Where it cannot be had (no /proc, no descriptors left), -1: a copy
 * that is alone does not need it.
 */
static int lock_ltdl(void)
{
	int fd;

	pthread_mutex_lock(&lock);
	fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX) && errno == EINTR)
		;
	return fd;
}

static void unlock_ltdl(int fd)
{
	if (fd >= 0) {
		flock(fd, LOCK_UN); /* a fork under way has the file too */
		close(fd);
	}
	pthread_mutex_unlock(&lock);
}

/* Whether only root and this user can change what ST describes; else says so. */
static int judge_owner(struct impost_context *ctx, const char *path, const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return impost_error_set(ctx, -EACCES,
					"%s belongs to user %u: it must belong to root or to the "
					"user that loads it",
					path, st->st_uid);
	if (!(st->st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	/* A shared folder, such as /tmp, is as it should be; what is root's is not ours to change.
	 */
	if (st->st_mode & S_ISVTX || (st->st_uid == 0 && geteuid() != 0))
		return impost_error_set(ctx, -EACCES,
					"%s can be written by others: use another %s, which only "
					"root or you can write",
					path, S_ISDIR(st->st_mode) ? "folder" : "file");
	return impost_error_set(ctx, -EACCES, "%s can be written by others: chmod go-w %s", path,
				path);
}

/* Opens PATH to look at it alone. */
static int judge_path(struct impost_context *ctx, const char *path, int flags, mode_t type,
		      const char *what)
{
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC | flags);
	int err;

	if (fd < 0)
		return impost_error_set(ctx, -errno, "%s: %m", path);
	err = fstat(fd, &st) ? -errno : 0;
	close(fd);
	if (err)
		return impost_error_set(ctx, err, "%s: %s", path, strerrordesc_np(-err));
	if ((st.st_mode & S_IFMT) != type)
		return impost_error_set(ctx, -EACCES, "%s is not %s", path, what);
	return judge_owner(ctx, path, &st);
}

int loader_folder(struct impost_context *ctx, const char *dir, char **ret_dir)
{
	char *path;
	int err;

	if (dir[0] != '/')
		return impost_error_set(ctx, -EINVAL, "plugin folder %s is no absolute path", dir);
	path = realpath(dir, NULL);
	if (!path)
		return impost_error_set(ctx, -errno, "plugin folder %s: %m", dir);
	err = judge_path(ctx, path, 0, S_IFDIR, "a folder");
	if (err) {
		free(path);
		return err;
	}
	*ret_dir = path;
	return 0;
}

bool loader_exists(const char *file)
{
	return faccessat(AT_FDCWD, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What dlopen() says of PATH: libltdl calls every failure "file not found", and binds lazily, so
 * that a missing function would show only when it is called. Ends with the module loaded once. */
static void *preflight(struct impost_context *ctx, const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		impost_error_set(ctx, -IMPOST_EPLUGIN, "cannot load it: %s", dlerror());
	return handle;
}

static lt_dlhandle open_resident(const char *path)
{
	lt_dlhandle module = NULL;
	lt_dladvise advise;

	if (!started && lt_dlinit())
		return NULL;
	started = true;
	if (lt_dladvise_init(&advise))
		return NULL;
	if (!lt_dladvise_local(&advise) && !lt_dladvise_resident(&advise))
		module = lt_dlopenadvise(path, advise);
	lt_dladvise_destroy(&advise);
	return module;
}

static int load_locked(struct impost_context *ctx, struct plugin *plugin,
		       const struct impost_plugin **ret_desc)
{
	void *first = preflight(ctx, plugin->file);
	const struct impost_plugin *desc;
	lt_dlhandle module;

	if (!first)
		return -IMPOST_EPLUGIN;
	module = open_resident(plugin->file);
	dlclose(first);
	if (!module)
		return impost_error_set(ctx, -IMPOST_EPLUGIN, "cannot load it: %s", lt_dlerror());
	desc = lt_dlsym(module, IMPOST_PLUGIN_SYMBOL);
	if (!desc) {
		lt_dlclose(module);
		return impost_error_set(ctx, -IMPOST_EABI,
					"it exports no symbol " IMPOST_PLUGIN_SYMBOL
					": it is no plugin");
	}
	plugin->module = module;
	*ret_desc = desc;
	return 0;
}

int loader_load(struct impost_context *ctx, struct plugin *plugin,
		const struct impost_plugin **ret_desc)
{
	int err = judge_path(ctx, plugin->file, O_NOFOLLOW, S_IFREG,
			     "a regular file (a symbolic link will not do)");
	int locked;

	if (!err)
		err = elf_check(ctx, plugin->file);
	if (err)
		return err;
	locked = lock_ltdl();
	err = load_locked(ctx, plugin, ret_desc);
	unlock_ltdl(locked);
	return err;
}

void loader_unload(void *module)
{
	int locked;

	if (!module)
		return;
	locked = lock_ltdl();
	lt_dlclose(module); /* counts down; the module stays resident, of which ltdl complains */
	unlock_ltdl(locked);
}
