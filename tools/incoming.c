// SPDX-License-Identifier: Apache-2.0
/* Waits for a guest, makes the machine that it comes into, and has the rest of its memory come. */
#include "incoming.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "restore.h"

/* Until somebody comes, in milliseconds: as good as for ever, and a signal ends it. */
#define FOR_EVER UINT32_MAX

/* --- the options --- */

/* Options of TLS that nothing would ever read: without a control socket no guest leaves. */
static int refuse_idle_tls(const struct invocation *invocation, const char *address)
{
	static const struct {
		enum tool_option_id id;
		const char *name;
	} options[] = {
		{OPTION_TLS_CERTIFICATE, "certificate"},
		{OPTION_TLS_KEY, "key"},
		{OPTION_TLS_CA, "ca"},
		{OPTION_TLS_PSK, "psk"},
	};

	if (invocation_has(invocation, OPTION_CONTROL) ||
	    (address && strncmp(address, "tls:", 4) == 0))
		return STATUS_OK;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (invocation_has(invocation, options[i].id)) {
			complain("--tls-%s: nothing of this run goes over TLS: wait for a guest "
				 "with --incoming tls:HOST:PORT, or let it be sent with --control",
				 options[i].name);
			return STATUS_USAGE;
		}
	return STATUS_OK;
}

int incoming_open(struct incoming *incoming, const struct invocation *invocation,
		  struct machine *machine)
{
	const char *address = invocation->values[OPTION_INCOMING];
	struct address parsed;
	int status, err;

	incoming->wake = incoming->stir = -1;
	status = refuse_idle_tls(invocation, address);
	if (!address || status != STATUS_OK)
		return status;
	if (invocation_has(invocation, OPTION_RESTORE)) {
		complain("--restore does not go with --incoming: a run begins with one guest");
		return STATUS_USAGE;
	}
	status = restore_refuse_settled(invocation, "--incoming", "the source", true);
	if (status != STATUS_OK)
		return status;
	if (address_parse(invocation->ctx, address, ADDRESS_LISTENS, &parsed) < 0) {
		complain("--incoming: %s", impost_error(invocation->ctx));
		return STATUS_USAGE;
	}
	incoming->machine = machine;
	err = migration_init(&incoming->migration, invocation->ctx);
	if (err < 0)
		return complain_error(invocation, err);
	incoming->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	incoming->stir = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (incoming->wake < 0 || incoming->stir < 0) {
		complain("cannot make an eventfd: %s", strerror(errno));
		return STATUS_HOST;
	}
	err = migration_open(&incoming->migration, address, ADDRESS_LISTENS);
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

/* --- the thread --- */

/* Called by the library when the VM has been made. OPAQUE is the struct migration. */
static int prepare(void *opaque, struct impost_vm *vm)
{
	struct incoming *incoming = opaque;

	incoming->machine->vm = vm;
	return machine_add_devices(incoming->machine);
}

static void on_told(void *opaque, const struct impost_migration_status *status)
{
	struct incoming *incoming = opaque;

	atomic_store(&incoming->seen, true);
	if (status->state < IMPOST_MIGRATION_DONE)
		return;
	atomic_store(&incoming->settled, true);
	eventfd_write(incoming->stir, 1);
}

/* Who is not who it should be is told and sent away, and does not keep others from coming. */
static int make(struct incoming *incoming, struct impost_migration_config *config)
{
	struct migration *migration = &incoming->migration;

	for (;;) {
		int err = migration_make(migration, config, FOR_EVER);

		if ((err != -EACCES && err != -EPROTO && err != -ETIMEDOUT) ||
		    migration->endpoint.address.kind != ADDRESS_TLS)
			return err;
		complain("%s: still waiting", impost_error(migration->ctx));
	}
}

/* Whether ERR came of somebody who is no source: it spoke, and not as one, or went again, before
 * there was a VM for it. */
static bool is_stranger(const struct incoming *incoming, int err)
{
	return (err == -EPROTO || err == -ETIMEDOUT || err == -EPIPE || err == -ECONNRESET) &&
	       !incoming->machine->vm && incoming->migration.endpoint.address.kind != ADDRESS_FD;
}

static int receive(struct incoming *incoming)
{
	struct migration *migration = &incoming->migration;
	struct impost_migration_config config = {
		.size = sizeof(config),
		.features = IMPOST_MIGRATION_FEATURES,
		.prepare = prepare,
		.vm_config = &incoming->vm_config,
	};
	int err;

	impost_context_get_number(migration->ctx, "migration", "memory_max", &config.memory_max);
	for (;;) {
		err = make(incoming, &config);
		if (err < 0)
			return migration_explain(migration, err);
		err = impost_migration_receive(migration->handle, &incoming->vm);
		if (err == 0 || !is_stranger(incoming, err))
			return migration_explain(migration, err);
		migration_explain(migration, err);
		complain("%s: still waiting", impost_error(migration->ctx));
		migration_drop(migration);
		atomic_store(&incoming->seen, false);
	}
}

/* The run ends before all has come. */
static void tell_of_loss(struct incoming *incoming)
{
	struct impost_migration_status status;

	migration_get_status(&incoming->migration, &status);
	if (status.left_bytes > 0 && machine_ended(incoming->machine) == MACHINE_RUNNING)
		complain("%llu KiB of the guest's memory have not come, and its source has let it "
			 "go (post-copy): the guest is lost",
			 (unsigned long long)status.left_bytes / 1024);
}

/* Post-copy: the guest runs, and waits for what it touches. Destroying the migration ends the wait
 * of who still does. */
static void fill(struct incoming *incoming)
{
	struct pollfd stirred = {.fd = incoming->stir, .events = POLLIN};
	struct migration *migration = &incoming->migration;

	if (!atomic_load(&incoming->quits)) /* a cancel that came too late keeps nobody away */
		migration_rearm(migration);
	while (!atomic_load(&incoming->settled) && !atomic_load(&incoming->quits))
		poll(&stirred, 1, -1);
	if (!atomic_load(&incoming->settled))
		tell_of_loss(incoming);
	else if (impost_migration_wait(migration->handle) < 0)
		machine_fail(incoming->machine, impost_error(migration->ctx));
	migration_unmake(migration);
}

static void *receive_thread(void *opaque)
{
	struct incoming *incoming = opaque;

	incoming->err = receive(incoming);
	if (incoming->err < 0) {
		snprintf(incoming->text, sizeof(incoming->text), "%s",
			 impost_error(incoming->migration.ctx));
		incoming->machine->vm = NULL; /* what prepare() had is gone */
		migration_unmake(&incoming->migration);
	}
	atomic_store(&incoming->over, true);
	eventfd_write(incoming->wake, 1);
	if (incoming->err == 0)
		fill(incoming);
	atomic_store(&incoming->at_rest, true);
	return NULL;
}

/* --- the main thread's --- */

int incoming_start(struct incoming *incoming)
{
	struct impost_context *ctx = incoming->migration.ctx;
	int err = machine_configure(incoming->machine, ctx, &incoming->vm_config);

	if (err < 0)
		return err;
	incoming->migration.told = on_told;
	incoming->migration.opaque = incoming;
	err = pthread_create(&incoming->thread, NULL, receive_thread, incoming);
	if (err)
		return impost_error_set(ctx, -err, "cannot start a thread: %s", strerror(err));
	incoming->started = true;
	fprintf(stderr, "impost: waiting for a guest at %s\n", incoming->migration.where);
	return 0;
}

bool incoming_is_over(const struct incoming *incoming)
{
	return atomic_load(&incoming->over);
}

bool incoming_is_filling(const struct incoming *incoming)
{
	return incoming->started && atomic_load(&incoming->over) &&
	       !atomic_load(&incoming->at_rest);
}

int incoming_take(struct incoming *incoming)
{
	if (incoming->err < 0)
		return impost_error_set(incoming->migration.ctx, incoming->err, "%s",
					incoming->text);
	return machine_take_cpus(incoming->machine);
}

static void join(struct incoming *incoming)
{
	if (incoming->started)
		pthread_join(incoming->thread, NULL);
	incoming->started = false;
}

void incoming_cancel(struct incoming *incoming)
{
	if (incoming->started) {
		atomic_store(&incoming->quits, true);
		eventfd_write(incoming->stir, 1);
		migration_cancel(&incoming->migration);
	}
	join(incoming);
}

void incoming_close(struct incoming *incoming)
{
	incoming_cancel(incoming);
	migration_release(&incoming->migration);
	if (incoming->wake >= 0)
		close(incoming->wake);
	if (incoming->stir >= 0)
		close(incoming->stir);
	incoming->wake = incoming->stir = -1;
}
