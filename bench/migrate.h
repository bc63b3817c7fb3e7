/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two processes of bench-migrate: the one that is asked, which has the guest, and the one that
 * it comes to. Both move it by libimpost, or its memory alone by a bare loop.
 *
 * Where this machine is a VM itself, its host may take back what is free here (free page
 * reporting: mm/page_reporting.c of Linux). To touch such a page again costs a fault of the host's,
 * many times what it costs to move it. So the other process holds as much memory as is going to be
 * moved, waits until the kernel has looked for free pages to report, which it does two seconds
 * after some were freed, and then gives it free: all movers, and QEMU, find memory that this
 * machine has.
 */
#ifndef IMPOST_BENCH_MIGRATE_H
#define IMPOST_BENCH_MIGRATE_H

#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>

#include <impost/impost.h>

#define MOST_CONNECTIONS 4u

enum mover {
	MOVE_BARE,   /* migrate_bare.c */
	MOVE_IMPOST, /* impost_migration_send() */
	MOVE_NONE,   /* somebody else moves: memory is given free for it */
};

/* What the other process is to receive, with the descriptors of the connections. */
struct order {
	uint32_t mover;
	uint32_t connections;
	uint64_t bytes; /* of guest memory */
	uint64_t fresh; /* as much of it needs new memory */
};

/* What it says when it has, and has freed it. */
struct report {
	int32_t failed; /* it has said why */
	uint32_t reserved;
	double cpu_s; /* that receiving took */
};

/* Seconds that all threads of this process have run. */
static inline double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Connections that are there already. give_further() is an impost_migration_connect_fn, whose
 * opaque is this: it gives one after the other. */
struct further {
	const int *connections;
	uint32_t next, count;
};

static inline int give_further(void *opaque, uint32_t timeout_ms,
			       struct impost_migration_channel *ret_channel)
{
	struct further *further = opaque;

	(void)timeout_ms;
	if (further->next == further->count)
		return -ENOENT;
	*ret_channel = (struct impost_migration_channel){
		.size = sizeof(*ret_channel), .fd = further->connections[further->next++]};
	return 0;
}

/* --- migrate_there.c --- */

/* The other process: takes orders from the socket CONTROL until that ends. Its exit status. */
int there_main(int control, const char *plugin_dir);

/* Gives ORDER, with the descriptors CONNECTIONS, and returns when memory for it is free. Waits for
 * the report. -1: no such process. */
int there_order(int control, const struct order *order, const int *connections);
int there_report(int control, struct report *ret_report);

/* --- migrate_bare.c --- */

/*
 * Send and receive BYTES of memory at MEMORY over COUNT connections at once, a thread for each, by
 * as few calls as the sockets allow. Sending ends when all has been received. -1, with a message.
 */
int bare_send(const int *connections, uint32_t count, uint8_t *memory, uint64_t bytes);
int bare_receive(const int *connections, uint32_t count, uint8_t *memory, uint64_t bytes);

#endif
