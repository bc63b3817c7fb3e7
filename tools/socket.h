/* SPDX-License-Identifier: Apache-2.0 */
/* UNIX sockets that have a name in the file system. */
#ifndef TOOLS_SOCKET_H
#define TOOLS_SOCKET_H

#include <sys/types.h>

#include <impost/context.h>

/* A socket that this process listens at, and the file that it was made as. */
struct socket_name {
	int fd;
	char *path;
	dev_t device;
	ino_t inode;
};

/* Listens at PATH, which control_open() describes. */
int socket_listen(struct impost_context *ctx, const char *path, struct socket_name *ret_name);

/* Closes it and removes its file, unless that is another's by now. */
void socket_remove(struct socket_name *name);

/* Connects to PATH; blocking. Returns 0 or a negative error with its text on CTX. */
int socket_connect(struct impost_context *ctx, const char *path, int *ret_fd);

#endif
