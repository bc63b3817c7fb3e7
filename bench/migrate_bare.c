/* SPDX-License-Identifier: Apache-2.0 */
/* Memory over sockets by a bare loop: what nobody who moves it so can be faster than. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#include "migrate.h"

/* What goes over one connection, before the next has its turn, and by one call if it can. */
#define PIECE (UINT64_C(4) << 20)

/* One connection's share: every COUNTth piece, from its own number on. */
struct share {
	int fd;
	uint32_t number, count;
	uint8_t *memory;
	uint64_t bytes;
	bool out;
	int err;
};

static int move_piece(const struct share *share, uint8_t *at, uint64_t bytes)
{
	while (bytes > 0) {
		ssize_t n = share->out ? send(share->fd, at, bytes, MSG_NOSIGNAL)
				       : recv(share->fd, at, bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			perror(share->out ? "send" : "recv");
			return -1;
		}
		at += n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

/* The receiver's last byte says that it has all. */
static int move_end(const struct share *share)
{
	uint8_t byte = 0;
	ssize_t n = share->out ? recv(share->fd, &byte, 1, 0)
			       : send(share->fd, &byte, 1, MSG_NOSIGNAL);

	if (n != 1)
		perror("the end");
	return n == 1 ? 0 : -1;
}

static void *move_share(void *arg)
{
	struct share *share = arg;

	for (uint64_t at = share->number * PIECE; !share->err && at < share->bytes;
	     at += share->count * PIECE)
		share->err = move_piece(share, share->memory + at,
					share->bytes - at < PIECE ? share->bytes - at : PIECE);
	if (!share->err)
		share->err = move_end(share);
	return NULL;
}

static int move(const int *connections, uint32_t count, uint8_t *memory, uint64_t bytes, bool out)
{
	struct share shares[MOST_CONNECTIONS] = {0};
	pthread_t threads[MOST_CONNECTIONS];
	uint32_t started = 1;
	int err = 0;

	for (uint32_t i = 0; i < count; i++)
		shares[i] = (struct share){connections[i], i, count, memory, bytes, out, 0};
	while (started < count &&
	       !pthread_create(&threads[started], NULL, move_share, &shares[started]))
		started++;
	if (started < count) {
		fprintf(stderr, "no thread for a connection\n");
		err = -1;
	}
	move_share(&shares[0]);
	err |= shares[0].err;
	for (uint32_t i = 1; i < started; i++) {
		pthread_join(threads[i], NULL);
		err |= shares[i].err;
	}
	return err;
}

int bare_send(const int *connections, uint32_t count, uint8_t *memory, uint64_t bytes)
{
	return move(connections, count, memory, bytes, true);
}

int bare_receive(const int *connections, uint32_t count, uint8_t *memory, uint64_t bytes)
{
	return move(connections, count, memory, bytes, false);
}
