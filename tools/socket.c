// SPDX-License-Identifier: Apache-2.0
/* Sockets with a file name: made for their owner alone, cleared of the dead, and removed. */
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 16
/* How long the folder's lock is waited for, which others hold for as long as this function runs. */
#define LOCK_TRIES   100
#define LOCK_WAIT_NS 10000000l

static int fail(struct impost_context *ctx, int err, const char *what, const char *path)
{
	return impost_error_set(ctx, err, "%s %s: %s", what, path, strerror(-err));
}

static int address(struct impost_context *ctx, const char *path, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!*path || strlen(path) >= sizeof(ret_address->sun_path))
		return impost_error_set(ctx, -ENAMETOOLONG,
					"the socket's path must have 1 to %zu bytes: '%.128s'",
					sizeof(ret_address->sun_path) - 1, path);
	memcpy(ret_address->sun_path, path, strlen(path) + 1);
	return 0;
}

static int make(struct impost_context *ctx, const char *path, int flags,
		struct sockaddr_un *ret_address, int *ret_fd)
{
	int err = address(ctx, path, ret_address), fd;

	if (err < 0)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return fail(ctx, -errno, "cannot make the socket", path);
	*ret_fd = fd;
	return 0;
}

/* Connects to PATH with FLAGS of socket(2). */
static int join(struct impost_context *ctx, const char *path, int flags, int *ret_fd)
{
	struct sockaddr_un to;
	int fd = -1, err = make(ctx, path, flags, &to, &fd);

	if (err < 0)
		return err;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		*ret_fd = fd;
		return 0;
	}
	err = -errno;
	close(fd);
	if (err == -ECONNREFUSED)
		return impost_error_set(ctx, err, "nobody listens at %s: the run is over", path);
	return fail(ctx, err, "cannot connect to", path);
}

int socket_connect(struct impost_context *ctx, const char *path, int *ret_fd)
{
	return join(ctx, path, 0, ret_fd);
}

/*
 * Between a look whether somebody listens and the removal another process could put its socket
 * there. So whoever makes one holds the folder's lock from bind to listen.
 */
static int lock_folder(struct impost_context *ctx, const char *path, int *ret_fd)
{
	const struct timespec wait = {.tv_nsec = LOCK_WAIT_NS};
	char *copy = strdup(path);
	int fd, err = -EWOULDBLOCK;

	if (!copy)
		return impost_error_set(ctx, -ENOMEM, "no memory for a path");
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return fail(ctx, -errno, "cannot open the folder of the socket", path);
	for (int i = 0; err == -EWOULDBLOCK && i < LOCK_TRIES; i++) {
		err = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
		if (err == -EWOULDBLOCK)
			nanosleep(&wait, NULL);
	}
	if (err < 0) {
		close(fd);
		return fail(ctx, err, "cannot lock the folder of the socket", path);
	}
	*ret_fd = fd;
	return 0;
}

/* Removes what lies at PATH, if that is a socket that nobody listens at. The folder is locked. */
static int clear(struct impost_context *ctx, const char *path)
{
	struct stat st;
	int fd = -1, err;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(ctx, -errno, "cannot look at", path);
	if (!S_ISSOCK(st.st_mode))
		return impost_error_set(
			ctx, -EEXIST, "%s is there, and no socket: name another file for it", path);
	err = join(ctx, path, SOCK_NONBLOCK, &fd);
	if (err == 0)
		close(fd);
	/* EAGAIN: so many wait to be let in that there is no room for another. */
	if (err == 0 || err == -EAGAIN)
		return impost_error_set(ctx, -EADDRINUSE,
					"somebody listens at %s: name another socket", path);
	if (err != -ECONNREFUSED)
		return err;
	return unlink(path) == 0 ? 0 : fail(ctx, -errno, "cannot remove the dead socket", path);
}

static int bind_privately(struct impost_context *ctx, const struct socket_name *name,
			  const struct sockaddr_un *at)
{
	mode_t mask = umask(0177); /* unix(7): the file's mode is what the mask leaves of 0777 */
	int err = bind(name->fd, (const struct sockaddr *)at, sizeof(*at)) == 0 ? 0 : -errno;

	umask(mask);
	return err < 0 ? fail(ctx, err, "cannot make the socket", name->path) : 0;
}

/* The folder is locked. */
static int listen_locked(struct impost_context *ctx, struct socket_name *name,
			 const struct sockaddr_un *at)
{
	struct stat st;
	int err = clear(ctx, name->path);

	if (err == 0)
		err = bind_privately(ctx, name, at);
	if (err < 0)
		return err;
	if (listen(name->fd, BACKLOG) < 0 || lstat(name->path, &st) < 0) {
		err = fail(ctx, -errno, "cannot listen at", name->path);
		unlink(name->path);
		return err;
	}
	name->device = st.st_dev;
	name->inode = st.st_ino;
	return 0;
}

int socket_listen(struct impost_context *ctx, const char *path, struct socket_name *ret_name)
{
	struct socket_name name = {.fd = -1, .path = strdup(path)};
	struct sockaddr_un at;
	int folder = -1, err;

	if (!name.path)
		return impost_error_set(ctx, -ENOMEM, "no memory for a path");
	err = make(ctx, path, SOCK_NONBLOCK, &at, &name.fd);
	if (err == 0)
		err = lock_folder(ctx, path, &folder);
	if (err == 0) {
		err = listen_locked(ctx, &name, &at);
		close(folder);
	}
	if (err == 0) {
		*ret_name = name;
		return 0;
	}
	if (name.fd >= 0)
		close(name.fd);
	free(name.path);
	return err;
}

void socket_remove(struct socket_name *name)
{
	struct stat st;

	if (lstat(name->path, &st) == 0 && st.st_dev == name->device && st.st_ino == name->inode)
		unlink(name->path);
	close(name->fd);
	free(name->path);
}
