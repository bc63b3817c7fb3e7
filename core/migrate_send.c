/* SPDX-License-Identifier: Apache-2.0 */
/* The source of a migration: who says what, and whose the VM is at each instant. */
#include "migrate_send.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "context.h"
#include "migrate_local.h"
#include "migrate_passes.h"
#include "pager.h"
#include "vm.h"

/* What is waited at a time, so that a cancel is heard; milliseconds. */
#define SLICE_MS 50u

/* What this side can do of IMPOST_MIGRATION_FEATURES. */
#define SOURCE_FEATURES                                                                       \
	(IMPOST_MIGRATION_ZERO_PAGES | IMPOST_MIGRATION_ZSTD | IMPOST_MIGRATION_CONNECTIONS | \
	 IMPOST_MIGRATION_POSTCOPY | IMPOST_MIGRATION_TEXTS)

/* A VM that is being sent. */
struct source {
	struct impost_migration *migration;
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct link *link; /* the main connection */
	struct migrate_config config;
	struct passes *passes;	/* NULL: memory is handed over */
	struct leaving leaving; /* what comes after the VM */
	uint64_t overhead_ns;	/* what the guest stands for when no memory is left */
	uint64_t held_ns;	/* when it was held for good */
	bool completed;		/* Complete may have come to the other side: it is not known whose
				   the VM is */
};

/* --- what was said --- */

/* The text of an error, which is to be there again after other calls. */
struct kept {
	int err;
	char text[1024];
};

static struct kept keep(const struct impost_context *ctx, int err)
{
	struct kept kept = {.err = err};

	snprintf(kept.text, sizeof(kept.text), "%s", impost_error(ctx));
	return kept;
}

static int give_back(struct impost_context *ctx, const struct kept *kept)
{
	return impost_error_set(ctx, kept->err, "%s", kept->text);
}

/* --- hearing --- */

void source_keep_refusal(struct impost_migration *migration, char *text)
{
	char *none = NULL;

	if (text && !atomic_compare_exchange_strong(&migration->refusal, &none, text))
		free(text); /* the first says why */
}

static int read_answer(struct impost_migration *migration, struct link *link, uint16_t command,
		       struct wire_head *ret_head)
{
	char *text = NULL;
	int err = wire_read_answer(link, command, ret_head, &text);

	source_keep_refusal(migration, text);
	return err;
}

int source_read_answer(struct impost_migration *migration, struct link *link, uint16_t command)
{
	struct wire_head head;

	return read_answer(migration, link, command, &head);
}

/* That can stand before an Error: to what was not answered, and to what could not be said. */
#define OKS_MOST (UNANSWERED_MOST + 1u)

/* Whether there may be something to hear, without waiting for it. */
static bool may_hear(struct link *link, int err)
{
	if (err == -EPIPE)
		return true; /* at once, or its end */
	return err == -ETIMEDOUT && link->channel.fd >= 0 && link_wait(link, 0) > 0;
}

int source_hear(struct impost_migration *migration, struct link *link, uint16_t command, int err)
{
	const struct kept kept = keep(migration->ctx, err);
	int heard = 0;

	for (uint32_t i = 0; i < OKS_MOST && !heard && may_hear(link, err); i++)
		heard = source_read_answer(migration, link, command);
	return heard == -EREMOTEIO ? heard : give_back(migration->ctx, &kept);
}

int source_hear_elsewhere(struct impost_migration *migration, int err)
{
	const struct kept kept = keep(migration->ctx, err);
	int heard = 0;

	if (err != -EPIPE && err != -ETIMEDOUT)
		return err;
	for (uint32_t i = 0; heard != -EREMOTEIO && i < migration->nlinks; i++) {
		struct link *link = &migration->links[i];

		heard = 0;
		for (uint32_t n = 0;
		     n < OKS_MOST && !heard && link->channel.fd >= 0 && link_wait(link, 0) > 0; n++)
			heard = source_read_answer(migration, link, WIRE_MEMORY);
	}
	return heard == -EREMOTEIO ? heard : give_back(migration->ctx, &kept);
}

/* Says COMMAND on LINK and waits for its Ok. */
static int ask(struct impost_migration *migration, struct link *link, uint16_t command,
	       const void *payload, uint64_t length)
{
	int err = wire_send(link, command, payload, length);

	return err ? source_hear(migration, link, command, err)
		   : source_read_answer(migration, link, command);
}

/* --- what the two agree on --- */

/* What this side would do. */
static uint32_t wanted_features(const struct impost_migration_config *config)
{
	uint32_t features = config->features;

	if (config->flags & IMPOST_MIGRATION_LOCAL) /* no memory goes over the connection */
		features &= IMPOST_MIGRATION_TEXTS;
	if (config->connections < 2)
		features &= ~IMPOST_MIGRATION_CONNECTIONS;
	return features & SOURCE_FEATURES;
}

static int check_greeting(struct source *source, const struct wire_head *head, uint32_t wanted)
{
	bool plain = !head->version && !head->features; /* it knows only the framing */

	if (!plain && head->version != WIRE_VERSION)
		return impost_error_set(source->ctx, -EPROTO,
					"the other side of the migration speaks version %u, which "
					"this side does not: %u",
					head->version, WIRE_VERSION);
	if (head->features & ~wanted)
		return impost_error_set(source->ctx, -EPROTO,
					"the other side of the migration agrees to features %#x, "
					"which were not offered",
					head->features & ~wanted);
	return 0;
}

static int greet(struct source *source)
{
	struct impost_migration *migration = source->migration;
	uint32_t wanted = wanted_features(&migration->config);
	const struct wire_head hello = {
		.code = WIRE_START, .version = WIRE_VERSION, .features = wanted};
	struct wire_head head;
	int err = link_write(source->link, &hello, sizeof(hello));

	if (err)
		return source_hear(migration, source->link, WIRE_START, err);
	err = read_answer(migration, source->link, WIRE_START, &head);
	if (!err)
		err = check_greeting(source, &head, wanted);
	if (!err)
		migration->features = head.features;
	return err;
}

/* --- holding --- */

static int hold(struct source *source)
{
	int err = vm_hold_by(source->vm, HELD_BY_MIGRATION, source->migration->config.hold_ms);

	source->migration->held = !err;
	return err;
}

/* What goes wrong is in the log, for there is an error already; the host can try it again. */
static void release(struct source *source)
{
	if (!source->migration->held)
		return;
	source->migration->held = false;
	if (!vm_release_by(source->vm, HELD_BY_MIGRATION))
		return;
	context_log(source->ctx, IMPOST_LOG_ERROR,
		    "a VM that was being migrated does not run on, and stays held: %s",
		    impost_error(source->ctx));
	vm_hand_hold(source->vm, HELD_BY_MIGRATION);
}

/* --- Config and State --- */

/* The state as it is just now. */
static int peek(struct source *source, struct impost_state **ret_state)
{
	uint64_t begin = clock_now_ns();
	int err = hold(source);

	if (err)
		return err;
	err = impost_state_take(source->vm, ret_state);
	if (err) {
		const struct kept kept = keep(source->ctx, err);

		release(source);
		return give_back(source->ctx, &kept);
	}
	release(source);
	source->overhead_ns = clock_now_ns() - begin;
	return 0;
}

static int make_token(struct source *source)
{
	if (getrandom(source->migration->token, WIRE_TOKEN, 0) != WIRE_TOKEN)
		return impost_error_set(source->ctx, -errno, "getrandom: %s", strerror(errno));
	memcpy(source->config.token, source->migration->token, WIRE_TOKEN);
	return 0;
}

/* Which features fall away, now that the destination has looked at the VM. */
static int say_config(struct source *source, const void *data, uint64_t len)
{
	struct impost_migration *migration = source->migration;
	struct wire_head head;
	int err = wire_send(source->link, WIRE_CONFIG, data, len);

	if (err)
		return source_hear(migration, source->link, WIRE_CONFIG, err);
	err = read_answer(migration, source->link, WIRE_CONFIG, &head);
	if (err)
		return err;
	if (head.features & ~(migration->features & IMPOST_MIGRATION_POSTCOPY))
		return impost_error_set(source->ctx, -EPROTO,
					"the other side of the migration goes back on features %#x "
					"when it has seen the VM",
					head.features);
	if (head.features)
		context_log(source->ctx, IMPOST_LOG_WARN,
			    "the memory of the VM cannot come after it at the destination "
			    "(post-copy): all of it goes before");
	migration->features &= ~head.features;
	return 0;
}

static int send_config(struct source *source)
{
	struct impost_migration *migration = source->migration;
	struct impost_state *state = NULL;
	void *data = NULL;
	uint64_t len = 0;
	int err = make_token(source);

	source->config.version = WIRE_VERSION;
	source->config.connections = 1;
	if (migration->features & IMPOST_MIGRATION_CONNECTIONS)
		source->config.connections = migration->config.connections;
	if (!err)
		err = peek(source, &state);
	if (!err)
		err = migrate_encode_config(source->ctx, &source->config, state, &data, &len);
	impost_state_free(state);
	if (!err)
		err = say_config(source, data, len);
	free(data);
	return err;
}

static int send_state(struct source *source)
{
	struct impost_state *state = NULL;
	void *data = NULL;
	uint64_t len = 0;
	int err = impost_state_take(source->vm, &state);

	if (!err)
		err = migrate_encode_state(source->ctx, state, &data, &len);
	impost_state_free(state);
	if (!err)
		err = ask(source->migration, source->link, WIRE_STATE, data, len);
	free(data);
	return err;
}

/* --- further connections --- */

static int join(struct source *source)
{
	struct impost_migration *migration = source->migration;
	struct link *link;
	int err = 0;

	for (uint32_t i = 1; !err && i < source->config.connections; i++) {
		err = migrate_connect(migration, migration->config.silence_ms, &link);
		if (!err)
			err = ask(migration, link, WIRE_JOIN, migration->token, WIRE_TOKEN);
		if (!err)
			err = migrate_tell(migration);
	}
	return err;
}

/* --- memory --- */

static bool is_local(const struct source *source)
{
	return source->migration->config.flags & IMPOST_MIGRATION_LOCAL;
}

/* Waits until all of a memory that comes lazily is there; some of it has to come within the time of
 * a silence. */
static int settle(struct source *source, struct impost_memory *memory)
{
	const uint64_t silence_ns = UINT64_C(1000000) * source->migration->config.silence_ms;
	uint64_t since = clock_now_ns(), seen = UINT64_MAX, left;
	int err;

	while ((err = memory_settle_within(memory, SLICE_MS)) == -ETIMEDOUT) {
		err = migrate_tell(source->migration);
		if (err)
			return err;
		memory_paging(memory, &left, &err);
		if (left < seen)
			since = clock_now_ns();
		seen = left;
		if (clock_now_ns() - since > silence_ns)
			return impost_error_set(source->ctx, -ETIMEDOUT,
						"%llu bytes of the VM's memory are not here yet, "
						"and none has come for %u ms: it cannot be sent",
						(unsigned long long)left,
						source->migration->config.silence_ms);
	}
	return err;
}

/* Whether it can be sent at all, before anybody hears of it. */
static int prepare_memory(struct source *source)
{
	struct impost_memory *memory = impost_vm_memory(source->vm);
	int err = settle(source, memory);

	if (err)
		return err;
	if (is_local(source))
		return local_describe(source->migration, memory, &source->config);
	if (!impost_caps_has(&source->vm->caps, IMPOST_CAP_DIRTY_LOG))
		return vm_needs(source->vm, IMPOST_CAP_DIRTY_LOG);
	return 0;
}

/* While the guest runs. */
static int send_memory(struct source *source)
{
	int err;

	if (is_local(source))
		return local_send(source->migration, impost_vm_memory(source->vm), &source->config);
	err = passes_begin(source->migration, source->vm, &source->passes);
	return err ? err : passes_run(source->passes, source->overhead_ns);
}

/* When it stands, and after its state was read: that can write memory. */
static int send_rest(struct source *source)
{
	if (is_local(source))
		return local_recheck(source->link, impost_vm_memory(source->vm), &source->config);
	return passes_are_late(source->passes) ? passes_postpone(source->passes, &source->leaving)
					       : passes_finish(source->passes);
}

/* --- the flow --- */

static int prepare(struct source *source)
{
	int err = migrate_enter(source->migration, IMPOST_MIGRATION_STARTING);

	if (!err)
		err = prepare_memory(source);
	if (!err)
		err = greet(source);
	if (!err)
		err = send_config(source);
	return err ? err : join(source);
}

static int copy(struct source *source)
{
	int err = migrate_enter(source->migration, IMPOST_MIGRATION_COPYING);

	return err ? err : send_memory(source);
}

static int stand(struct source *source)
{
	int err;

	source->held_ns = clock_now_ns();
	err = hold(source);
	if (!err)
		err = migrate_enter(source->migration, IMPOST_MIGRATION_HELD);
	if (!err)
		err = send_state(source);
	return err ? err : send_rest(source);
}

/*
 * Says Complete. What is written to a socket and not taken whole has not come to the other side
 * whole either; what a function does with it nobody knows.
 */
static int complete(struct source *source)
{
	struct impost_migration *migration = source->migration;
	int err = migrate_enter(migration, IMPOST_MIGRATION_COMPLETING);

	if (err)
		return err;
	atomic_store(&migration->cancel.deaf, true);
	source->completed = true;
	err = wire_send(source->link, WIRE_COMPLETE, NULL, 0);
	if (err) {
		source->completed = source->link->channel.fd < 0;
		return source_hear(migration, source->link, WIRE_COMPLETE, err);
	}
	err = source->leaving.left ? leaving_read_answer(&source->leaving)
				   : source_read_answer(migration, source->link, WIRE_COMPLETE);
	if (err == -EREMOTEIO) /* it says that it has not got it */
		source->completed = false;
	return err;
}

static int run(struct source *source)
{
	int err = prepare(source);

	if (!err)
		err = copy(source);
	if (!err)
		err = stand(source);
	return err ? err : complete(source);
}

/* --- how it ends --- */

static void end_memory(struct source *source)
{
	passes_end(source->passes);
	migrate_config_release(&source->config);
}

/* It is the destination's. An error: not all of its memory is. */
static int give_up(struct source *source)
{
	struct impost_migration *migration = source->migration;
	int err = 0;

	vm_give_up(source->vm);
	migration->downtime_ns = clock_now_ns() - source->held_ns;
	end_memory(source);
	if (source->leaving.left) {
		migrate_enter(migration, IMPOST_MIGRATION_POSTCOPYING);
		err = leaving_finish(&source->leaving);
	}
	if (!err)
		migration->left_bytes = 0;
	migrate_enter(migration, err ? IMPOST_MIGRATION_LOST : IMPOST_MIGRATION_DONE);
	return err;
}

/* Unless it was lost meanwhile. */
static void take_back(struct impost_vm *vm)
{
	uint32_t leaving = OWNER_LEAVING;

	atomic_compare_exchange_strong(&vm->owner, &leaving, OWNER_HERE);
}

/* The VM runs on. */
static int fail(struct source *source, int err)
{
	static const struct wire_head abandon = {.code = WIRE_ABANDON};
	struct impost_migration *migration = source->migration;
	const struct kept kept = keep(source->ctx, err);

	if (!atomic_load(&migration->cancel.deaf))
		link_send_last(source->link, &abandon, sizeof(abandon));
	release(source);
	end_memory(source);
	take_back(source->vm);
	migrate_enter(migration, IMPOST_MIGRATION_FAILED);
	return give_back(source->ctx, &kept);
}

/* Nobody here can know whose the VM is. It stays held. */
static int leave_unsettled(struct source *source, int err)
{
	struct impost_migration *migration = source->migration;
	const struct kept kept = keep(source->ctx, err);

	end_memory(source);
	migration->vm = source->vm;
	migrate_enter(migration, IMPOST_MIGRATION_UNSETTLED);
	return impost_error_set(source->ctx, -IMPOST_EUNSETTLED,
				"the other side was told that the VM is its own, and has not said "
				"that it took it: %.600s. The VM stays held here. See whether it "
				"runs there: if it does, settle with `leave`; if it does not, and "
				"never will, with `keep`",
				kept.text);
}

static int end(struct source *source, int err)
{
	if (!err)
		err = give_up(source);
	else if (source->completed)
		err = leave_unsettled(source, err);
	else
		err = fail(source, err);
	leaving_release(&source->leaving);
	return err;
}

/* --- */

static int check(struct impost_migration *migration, struct impost_vm *vm)
{
	uint32_t here = OWNER_HERE;
	int err;

	if (!vm)
		return impost_error_set(migration->ctx, -EINVAL, "a migration of no VM");
	err = vm_check_here(vm);
	if (err)
		return err;
	if (vm->ctx != migration->ctx)
		return impost_error_set(migration->ctx, -EINVAL,
					"the VM is of another context than the migration");
	if (!atomic_compare_exchange_strong(&vm->owner, &here, OWNER_LEAVING))
		return here == OWNER_LEAVING ? impost_error_set(migration->ctx, -EALREADY,
								"the VM is being migrated already")
					     : vm_check_here(vm);
	if (!atomic_exchange(&migration->begun, true))
		return 0;
	take_back(vm);
	return impost_error_set(migration->ctx, -EALREADY,
				"this migration was begun before: make another one");
}

int impost_migration_send(struct impost_migration *migration, struct impost_vm *vm)
{
	struct source source = {
		.migration = migration,
		.ctx = migration->ctx,
		.vm = vm,
		.link = &migration->links[0],
	};
	int err = check(migration, vm);

	return err ? err : end(&source, run(&source));
}

int impost_migration_settle(struct impost_migration *migration, uint32_t what)
{
	struct impost_vm *vm = migration->vm;
	int err;

	if (what != IMPOST_MIGRATION_KEEP && what != IMPOST_MIGRATION_LEAVE)
		return impost_error_set(migration->ctx, -EINVAL,
					"a migration is settled by keep or leave, not %u", what);
	if (migration->state != IMPOST_MIGRATION_UNSETTLED)
		return impost_error_set(migration->ctx, -EINVAL,
					"the migration is not unsettled, but %s",
					impost_migration_state_name(migration->state));
	if (what == IMPOST_MIGRATION_LEAVE) {
		vm_give_up(vm);
		migration->state = IMPOST_MIGRATION_DONE;
		return 0;
	}
	err = vm_release_by(vm, HELD_BY_MIGRATION);
	if (err)
		return err;
	take_back(vm);
	migration->state = IMPOST_MIGRATION_FAILED;
	return 0;
}
