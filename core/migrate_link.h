/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration's connection: exact reads and writes, each of which has a limit and can be cancelled.
 * One thread may be reading and another writing at once.
 *
 * Calls are 0 or a negative errno, with a text on the context: -EPIPE: the peer has ended it;
 * -ETIMEDOUT: it was silent; -ECANCELED; or what the system, or the channel's function, says. After
 * an error the connection is of no more use, but for link_send_last().
 */
#ifndef CORE_MIGRATE_LINK_H
#define CORE_MIGRATE_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <impost/migrate.h>
#include <impost/range.h>

struct impost_context;
struct impost_memory;

/* What ends all waiting of a migration. */
struct cancel {
	atomic_bool wanted;
	atomic_bool deaf; /* too late: the VM may be the other's */
	int fd;		  /* an eventfd(2) that can be read from then on */
};

struct link {
	struct impost_context *ctx;
	const struct cancel *cancel;
	struct impost_migration_channel channel;
	uint32_t silence_ms;
	_Atomic uint64_t bytes; /* both ways */
	uint8_t ahead;	 /* of a channel of functions: what was read to see whether it is there */
	bool has_ahead;	 /* only the thread that reads looks */
	uint8_t *bounce; /* for a channel of functions, which cannot reach guest memory */
};

/* LINK is zeros, or was released. CHANNEL has been checked. -ENOMEM. Free with link_release(); the
 * channel stays open. */
int link_init(struct link *link, struct impost_context *ctx, const struct cancel *cancel,
	      const struct impost_migration_channel *channel, uint32_t silence_ms);
void link_release(struct link *link);

int link_read(struct link *link, void *buf, uint64_t bytes);
int link_write(struct link *link, const void *buf, uint64_t bytes);

/* Whether something has come, or the end, within TIMEOUT_MS: 1, 0, or an error. Only for a thread
 * that reads. */
int link_wait(struct link *link, uint32_t timeout_ms);

/* Whether descriptors can go over it. */
bool link_is_unix(const struct link *link);

/* BYTES at BUF, in one message, and FD with it. -ENOTSUP: the channel is no UNIX socket. */
int link_write_fd(struct link *link, const void *buf, uint64_t bytes, int fd);

/* Likewise, with any of its bytes; *ret_fd is the caller's. -EPROTO: there was not exactly one. */
int link_read_fd(struct link *link, void *buf, uint64_t bytes, int *ret_fd);

/*
 * HEAD_BYTES at HEAD (may be 0), then the contents of RANGES, which are memory, straight out of it:
 * one system call for as many as it takes. And into it: marks them as written. -EFAULT: not all is
 * memory; -EIO: a file behind it has become shorter: then the connection has said less than it was
 * to say, and is of no more use.
 */
int link_write_memory(struct link *link, const void *head, uint64_t head_bytes,
		      struct impost_memory *memory, const struct impost_range *ranges,
		      uint64_t count);
int link_read_memory(struct link *link, struct impost_memory *memory,
		     const struct impost_range *ranges, uint64_t count);

/* Writes what goes at once, cancelled or not, and says nothing of errors: a last word. */
void link_send_last(struct link *link, const void *buf, uint64_t bytes);

/* Connects FD's check for impost_migration_create(): 0, or -EINVAL, -ENOTSOCK with a text. */
int link_check_channel(struct impost_context *ctx, const struct impost_migration_channel *channel);

#endif
