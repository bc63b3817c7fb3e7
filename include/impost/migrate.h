/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration: a VM leaves one process and goes on in another, over any connection between the
 * two. docs/migration-format.md has what is said on the wire.
 *
 * The source sends memory while the guest runs, again and again what was written meanwhile, until
 * what is left can be sent within the time that the guest may stand; then it holds the VM, sends
 * its state and the rest of memory, and gives the VM up when the destination has said that all is
 * there. Until that word the source's VM is whole: whatever goes wrong, on either side or between
 * them, it runs on. At every instant exactly one side may run the VM, for which the library
 * answers: after impost_migration_send() has succeeded impost_vcpu_run() is -IMPOST_EMOVED for
 * good, and what impost_migration_receive() makes is not the caller's before that word was sent.
 *
 * One case cannot be settled by the two alone: the connection ends after the source has said that
 * the VM is the destination's, and before it has heard that it was taken. Then the source's VM
 * stays held (IMPOST_MIGRATION_UNSETTLED), and whoever can see both sides says what is to become of
 * it: impost_migration_settle().
 *
 * Whatever comes from the peer is a stranger's: lengths are bounded by what was announced, checked
 * and allocated, and every wait has a limit. The wire has no secrecy of its own: who needs it gives
 * channels that have it, such as TLS.
 *
 * A thread makes a migration and calls send or receive, which return when it is over; any thread,
 * and a signal handler, may cancel it, and any thread look at it meanwhile. A library that was
 * built without state (-Dstate=disabled) returns -ENOTSUP.
 */
#ifndef IMPOST_MIGRATE_H
#define IMPOST_MIGRATE_H

#include <stdint.h>

#include <impost/context.h>
#include <impost/error.h>
#include <impost/vm.h>

struct impost_migration;

/*
 * A connection to the peer: reliable, in order, both ways. Either a connected stream socket, or two
 * functions, for which FD is -1. It is the caller's, who closes it after impost_migration_destroy()
 * has returned. While a migration uses it nobody else may.
 *
 * Reads and writes at most BYTES (not 0) within TIMEOUT_MS milliseconds (0: at once or not at all).
 * Return how many bytes; 0 (read): the peer has ended the connection; -EAGAIN: none within that
 * time; or another negative errno. One thread may be reading and another writing at once. They must
 * not call back into the library.
 */
struct impost_migration_channel {
	uint32_t size; /* set by the caller to its sizeof */
	/* A socket, whose flags are left alone: TCP_NODELAY is set, and a UNIX socket's SO_SNDBUF
	 * is made 1 MiB, if it was less. -1: the functions. */
	int32_t fd;
	int64_t (*read)(void *opaque, void *buf, uint64_t bytes, uint32_t timeout_ms);
	int64_t (*write)(void *opaque, const void *buf, uint64_t bytes, uint32_t timeout_ms);
	void *opaque;
};

/*
 * Called by the thread of send or receive, and at the destination of a post-copy by one of the
 * migration's own until that is over, when another connection to the same peer is wanted, for
 * more throughput or in the place of one that broke (post-copy), which the caller may close then.
 * The source's connects, the destination's accepts. Within TIMEOUT_MS; -ETIMEDOUT.
 */
typedef int (*impost_migration_connect_fn)(void *opaque, uint32_t timeout_ms,
					   struct impost_migration_channel *ret_channel);

/* What both sides must be able to do before it is done: `features`. */
#define IMPOST_MIGRATION_ZERO_PAGES  1u /* pages of zeros are rows without contents */
#define IMPOST_MIGRATION_ZSTD	     2u /* memory is compressed */
#define IMPOST_MIGRATION_CONNECTIONS 4u /* memory goes over several connections */
/*
 * The VM may go before all of its memory: it does so when what is left after the first pass does
 * not fit `downtime_ms`, or `timeout_ms` is over; so that it always gets away. What is left follows
 * while it runs, first what it waits for. Should the connection be lost meanwhile, and no other be
 * made by `connect` within `silence_ms`, or either side end, the VM is lost: the log warns of it
 * when it begins. The destination agrees to it where it can have a userfaultfd(2), for anonymous
 * memory and memfds, of pages of 4 KiB, which no other process has mapped.
 */
#define IMPOST_MIGRATION_POSTCOPY 8u
#define IMPOST_MIGRATION_TEXTS	  16u /* an error has a text */
#define IMPOST_MIGRATION_FEATURES 31u /* all that this library has */

/* `flags`. */

/* Source: memory is handed over as descriptors and nothing is copied: all regions are memfds, or
 * shared files, and the channel is a UNIX socket. */
#define IMPOST_MIGRATION_LOCAL 1u
/* Source: when memory is written faster than it can be sent (`passes`, `timeout_ms`), the VM is
 * held and the rest sent all the same, however long it takes. Without it the migration fails then.
 */
#define IMPOST_MIGRATION_FINISH 2u

/* `state` of a migration. */
#define IMPOST_MIGRATION_NEW	     0u
#define IMPOST_MIGRATION_STARTING    1u /* the two agree on what is to be done */
#define IMPOST_MIGRATION_COPYING     2u /* memory goes, while the guest runs */
#define IMPOST_MIGRATION_HELD	     3u /* the guest stands: state and the rest of memory go */
#define IMPOST_MIGRATION_COMPLETING  4u /* source: it has said that the VM is the other's */
#define IMPOST_MIGRATION_POSTCOPYING 5u /* the guest runs there, and the rest of memory goes */
#define IMPOST_MIGRATION_DONE	     6u /* the VM is the destination's */
#define IMPOST_MIGRATION_FAILED	     7u /* it is the source's */
#define IMPOST_MIGRATION_UNSETTLED   8u /* see impost_migration_settle() */
/* Post-copy: the VM is the destination's, some of its memory has not come, and never will. */
#define IMPOST_MIGRATION_LOST 9u

/* How far it has come. Bytes, and nanoseconds. */
struct impost_migration_status {
	uint32_t size;	   /* set by the caller to its sizeof */
	uint32_t state;	   /* IMPOST_MIGRATION_NEW and so on */
	uint32_t features; /* that are in use */
	uint32_t pass;	   /* from 1: which time memory is gone through */
	uint32_t throttle; /* percent of the time that vCPUs are kept from running */
	uint32_t connections;
	uint64_t guest_bytes; /* of guest memory in all */
	uint64_t left_bytes; /* of guest memory, known to be still to be sent (source) or brought */
	uint64_t data_bytes; /* of guest memory that went as contents; each time it did */
	uint64_t zero_bytes; /* of guest memory that went as rows of zeros */
	uint64_t wire_bytes; /* over all connections, both ways */
	uint64_t rate;	     /* of guest memory a second, lately */
	uint64_t dirty_rate; /* written by the guest a second, lately; 0: not yet known */
	uint64_t elapsed_ns;
	/* How long the guest would stand if it were held now, by what is known; from DONE on: how
	 * long it stood, by the source's clock, from the hold to the destination's last word. The
	 * destination: from the state's coming to its last word. */
	uint64_t downtime_ns;
	uint64_t faults; /* post-copy: pages that the guest had to wait for */
};

struct impost_migration_config {
	uint32_t size;	   /* set by the caller to its sizeof */
	uint32_t flags;	   /* IMPOST_MIGRATION_LOCAL, _FINISH; destination: 0 */
	uint32_t features; /* that may be used; 0: ZERO_PAGES, CONNECTIONS and TEXTS */
	/* Longest time without a byte of the peer when one is due; 0: 10 seconds. Preparing and
	 * loading count, so that it is not to be too short. */
	uint32_t silence_ms;
	const struct impost_migration_channel *channel;
	impost_migration_connect_fn connect; /* NULL: there is one connection, and no second try */
	/* Told how it goes: at each change of state, and about ten times a second, by the thread of
	 * send or receive, and as `connect` is. Not 0: as impost_migration_cancel(). NULL: none. */
	int (*progress)(void *opaque, const struct impost_migration_status *status);
	void *opaque; /* of connect, progress and prepare */

	/* The source's. */
	uint32_t downtime_ms; /* how long the guest may stand; 0: 300 */
	uint32_t timeout_ms; /* until the guest is held, which happens by then or never; 0: no limit
			      */
	uint32_t passes;     /* at the most; 0: 30 */
	uint32_t throttle; /* highest percent of the time that vCPUs may be kept from running, 0 to
			      99 */
	uint32_t connections; /* 1 to 64; 0: 1 */
	uint32_t hold_ms;     /* how long impost_vm_hold() may take; 0: 10 seconds */

	/* The destination's. */
	/* Called once, when VM has been made with its memory and vCPUs, and before the source hears
	 * that memory may come: registers the VM's devices. Not 0: the migration ends with that. */
	int (*prepare)(void *opaque, struct impost_vm *vm);
	/* For what the source says nothing about, such as the kick signal and `[memory]`; NULL: as
	 * impost_vm_config_init() fills it. */
	const struct impost_vm_config *vm_config;
	const char *backend; /* NULL: VM_CONFIG's */
	uint64_t memory_max; /* bytes of guest memory that are taken at the most; 0: what the host
				has */
};

/* What is to become of a source's VM that is UNSETTLED. */
#define IMPOST_MIGRATION_KEEP  1u /* the destination has not got it: it runs on here */
#define IMPOST_MIGRATION_LEAVE 2u /* the destination has it */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes a migration. Nothing is sent. CTX must outlive it, and what CONFIG points to is copied but
 * for opaque and vm_config's strings. Free with impost_migration_destroy().
 *
 * -EINVAL: a bad size, unknown flags or features, a number out of its range, no channel, a channel
 * without fd or functions; -ENOTSOCK: fd is no stream socket; -E2BIG: as error.h has it; -EMFILE;
 * -ENOMEM.
 */
IMPOST_API int impost_migration_create(struct impost_context *ctx,
				       const struct impost_migration_config *config,
				       struct impost_migration **ret_migration);

/* Ends it. NULL is fine; not while send or receive is under way. What post-copy has not yet brought
 * is lost: the host's access to it is -EIO, and a vCPU that touches it ends its run with -EFAULT.
 * One that is UNSETTLED: its VM stays held, and can only be destroyed. */
IMPOST_API void impost_migration_destroy(struct impost_migration *migration);

/*
 * Sends VM, whose vCPUs go on in their threads. Returns when it is over: 0: the VM is the
 * destination's. Its vCPUs' runs return -IMPOST_EMOVED, those that wait too; the host destroys it.
 * The host may hold it before or meanwhile, which changes nothing here: the migration holds for
 * itself, and whoever receives the VM runs it. On failure it runs on as before, but for
 * -IMPOST_EUNSETTLED. Not for a thread that has an exit in hand, as for impost_vm_hold(). Once for
 * each migration.
 *
 * -EREMOTEIO: the destination has refused, or failed; the text has its own; -EPIPE: it has ended
 * the connection; -ETIMEDOUT: it has been silent for too long; -EPROTO: it has said what makes no
 * sense here; -EBUSY: the guest writes its memory too fast for `downtime_ms`, within `passes` and
 * `timeout_ms`; -ECANCELED; -IMPOST_EUNSETTLED: see impost_migration_settle(); -EIO, where the
 * state is IMPOST_MIGRATION_LOST: the VM is the destination's, as after success, and some of its
 * memory is lost, and so is the VM (a connection that is lost when all was sent is a warning in the
 * log: the destination knows);
 * -ENOTSUP: the backend has no dirty-log; or, with LOCAL, memory that cannot be handed over, which
 * the text names; -EALREADY: it was sent or received already, or VM is being sent by another;
 * -IMPOST_EMOVED: VM was sent before; -EINVAL: VM is NULL, or of another context; -EFAULT: regions
 * of memory were added or removed meanwhile; or what impost_vm_hold(), impost_state_take() and
 * impost_dirty_create() say.
 */
IMPOST_API int impost_migration_send(struct impost_migration *migration, struct impost_vm *vm);

/*
 * Receives a VM: makes it, with its vCPUs and memory as `[memory]` has it, has `prepare` register
 * its devices, and returns when all is there and the source has been told: the VM is the caller's,
 * who runs its vCPUs (impost_vm_vcpu()), and destroys it. With post-copy it returns when the VM may
 * run, and its memory follows while the migration lives; impost_migration_wait() waits for it.
 * On failure nothing is left of it, and the source has been told why.
 *
 * -ENOTSUP: it cannot run here; the text has the reasons (impost_state_check()), and the source has
 * heard all of them; -EREMOTEIO: the source has given up (Abandon); -EPIPE, -ETIMEDOUT, -EPROTO,
 * -ECANCELED, -EALREADY: as above; -IMPOST_EFORMAT: what it sent is malformed; -EFBIG: more memory
 * than `memory_max`; -ENOMEM; what `prepare` said; or what impost_vm_create(), impost_memory_add()
 * and impost_state_load() say.
 */
IMPOST_API int impost_migration_receive(struct impost_migration *migration,
					struct impost_vm **ret_vm);

/* Destination, after post-copy: waits until all memory is there, and the source knows; at once
 * without. Any thread; not while the VM or the migration is being destroyed. -EIO: some of it is
 * lost: the guest cannot go on; -EINVAL: nothing was received. */
IMPOST_API int impost_migration_wait(struct impost_migration *migration);

/* Ends a migration that is under way: its send or receive fails with -ECANCELED soon, unless the
 * source is COMPLETING, or later. Any thread; async-signal-safe. Does nothing in a fork. */
IMPOST_API void impost_migration_cancel(struct impost_migration *migration);

/* How far it is. Any thread. -EINVAL: a bad size. */
IMPOST_API int impost_migration_status(struct impost_migration *migration,
				       struct impost_migration_status *ret_status);

/* What the peer said with its Error: all its lines, each a reason; NULL: it said nothing. The
 * migration's own. Any thread; before the end of send or receive it can still come. */
IMPOST_API const char *impost_migration_refusal(const struct impost_migration *migration);

/*
 * Settles what became of the VM after -IMPOST_EUNSETTLED: WHAT is IMPOST_MIGRATION_KEEP: it runs on
 * here, which is right if and only if the destination has not got it (its
 * impost_migration_receive() failed) and never will; or IMPOST_MIGRATION_LEAVE: as if send had
 * succeeded. Any thread, one at a time; the VM must not have been destroyed. -EINVAL: it is not
 * unsettled, or no such WHAT; or what impost_vm_release() says.
 */
IMPOST_API int impost_migration_settle(struct impost_migration *migration, uint32_t what);

/* The name of a state, of status: "copying"; "?" if unknown. */
IMPOST_API const char *impost_migration_state_name(uint32_t state);

#ifdef __cplusplus
}
#endif

#endif
