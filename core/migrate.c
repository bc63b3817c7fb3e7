/* SPDX-License-Identifier: Apache-2.0 */
/* A migration: made, looked at, cancelled, and freed. */
#include "migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <impost/vcpu.h>

#include "clock.h"
#include "context.h"
#include "migrate_postcopy.h"
#include "migrate_receive.h"
#include "text.h"

#define TELL_NS UINT64_C(100000000)

#define DEFAULT_FEATURES \
	(IMPOST_MIGRATION_ZERO_PAGES | IMPOST_MIGRATION_CONNECTIONS | IMPOST_MIGRATION_TEXTS)

/* --- what is asked for --- */

/* A number of the configuration: 0 is its default. */
struct number {
	const char *name;
	uint32_t *value;
	uint32_t most, otherwise;
};

static int take_number(struct impost_context *ctx, const struct number *number)
{
	if (*number->value > number->most)
		return impost_error_set(ctx, -EINVAL, "a migration's %s: at most %u, not %u",
					number->name, number->most, *number->value);
	if (*number->value == 0)
		*number->value = number->otherwise;
	return 0;
}

static int take_numbers(struct impost_context *ctx, struct impost_migration_config *config)
{
	const struct number numbers[] = {
		{"silence_ms", &config->silence_ms, INT32_MAX, MIGRATE_SILENCE_MS},
		{"downtime_ms", &config->downtime_ms, INT32_MAX, MIGRATE_DOWNTIME_MS},
		{"hold_ms", &config->hold_ms, IMPOST_HOLD_NO_LIMIT, MIGRATE_HOLD_MS},
		{"passes", &config->passes, INT32_MAX, MIGRATE_PASSES},
		{"throttle", &config->throttle, 99, 0},
		{"connections", &config->connections, MIGRATE_CONNECTIONS_MOST, 1},
		{"features", &config->features, IMPOST_MIGRATION_FEATURES, DEFAULT_FEATURES},
		{"flags", &config->flags, IMPOST_MIGRATION_LOCAL | IMPOST_MIGRATION_FINISH, 0},
	};
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(numbers); i++)
		err = take_number(ctx, &numbers[i]);
	return err;
}

static int take_channel(struct impost_context *ctx, const struct impost_migration_channel *given,
			struct impost_migration_channel *ret_channel)
{
	int err;

	if (!given)
		return impost_error_set(ctx, -EINVAL, "a migration needs a channel");
	err = abi_take(ctx, "impost_migration_channel", ret_channel, sizeof(*ret_channel), given,
		       ABI_UP_TO(struct impost_migration_channel, opaque));
	return err ? err : link_check_channel(ctx, ret_channel);
}

static int take_config(struct impost_migration *migration,
		       const struct impost_migration_config *config,
		       struct impost_migration_channel *ret_channel)
{
	struct impost_context *ctx = migration->ctx;
	struct impost_migration_config *taken = &migration->config;
	int err = abi_take(ctx, "impost_migration_config", taken, sizeof(*taken), config,
			   ABI_UP_TO(struct impost_migration_config, memory_max));

	if (!err)
		err = take_numbers(ctx, taken);
	if (!err && taken->connections > 1 && !taken->connect)
		err = impost_error_set(ctx, -EINVAL,
				       "a migration over %u connections needs a function that "
				       "connects",
				       taken->connections);
	if (!err && taken->vm_config)
		err = abi_take(ctx, "impost_vm_config", &migration->vm_config,
			       sizeof(migration->vm_config), taken->vm_config,
			       ABI_UP_TO(struct impost_vm_config, backend));
	return err ? err : take_channel(ctx, taken->channel, ret_channel);
}

/* --- making and freeing --- */

static int make_links(struct impost_migration *migration,
		      const struct impost_migration_channel *channel)
{
	struct impost_context *ctx = migration->ctx;
	int err;

	migration->links = calloc(MIGRATE_LINKS_MOST, sizeof(*migration->links));
	if (!migration->links)
		return impost_error_set(ctx, -ENOMEM, "no memory for a migration");
	migration->cancel.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (migration->cancel.fd < 0)
		return impost_error_set(ctx, -errno, "eventfd: %s", strerror(errno));
	err = link_init(&migration->links[0], ctx, &migration->cancel, channel,
			migration->config.silence_ms);
	if (!err)
		migration->nlinks = 1;
	return err;
}

int impost_migration_create(struct impost_context *ctx,
			    const struct impost_migration_config *config,
			    struct impost_migration **ret_migration)
{
	struct impost_migration *migration;
	struct impost_migration_channel channel;
	int err;

	if (!config || !ret_migration)
		return impost_error_set(ctx, -EINVAL, "a migration: an argument is NULL");
	migration = calloc(1, sizeof(*migration));
	if (!migration)
		return impost_error_set(ctx, -ENOMEM, "no memory for a migration");
	migration->ctx = ctx;
	migration->cancel.fd = -1;
	err = take_config(migration, config, &channel);
	if (!err)
		err = make_links(migration, &channel);
	if (err) {
		impost_migration_destroy(migration);
		return err;
	}
	*ret_migration = migration;
	return 0;
}

void impost_migration_destroy(struct impost_migration *migration)
{
	if (!migration)
		return;
	joined_free(migration->joined);
	postcopy_free(migration->postcopy);
	for (uint32_t i = 0; i < migration->nlinks; i++)
		link_release(&migration->links[i]);
	if (migration->cancel.fd >= 0)
		close(migration->cancel.fd);
	free(migration->links);
	free(migration->refusal);
	free(migration);
}

/* --- while it is under way --- */

void impost_migration_cancel(struct impost_migration *migration)
{
	int saved = errno;

	/* A fork's flag is its own, and the descriptor its parent's, which would see the one
	 * without the other for ever. */
	if (context_forked(migration->ctx))
		return;
	atomic_store(&migration->cancel.wanted, true);
	eventfd_write(migration->cancel.fd, 1);
	errno = saved;
}

const char *impost_migration_refusal(const struct impost_migration *migration)
{
	return migration->refusal;
}

int impost_migration_status(struct impost_migration *migration,
			    struct impost_migration_status *ret_status)
{
	struct impost_migration_status status = {.size = sizeof(status)};
	uint64_t begin = migration->begin_ns, end = migration->end_ns;
	int err = abi_check(migration->ctx, "impost_migration_status", ret_status,
			    ABI_UP_TO(struct impost_migration_status, faults));

	if (err)
		return err;
	status.connections = migration->nlinks;
	for (uint32_t i = 0; i < status.connections; i++)
		status.wire_bytes += migration->links[i].bytes;
	status.state = migration->state;
	status.features = migration->features;
	status.pass = migration->pass;
	status.throttle = migration->throttle;
	/* In this order: what is left is of a guest whose bytes are known. */
	status.left_bytes = migration->left_bytes;
	status.guest_bytes = migration->guest_bytes;
	status.data_bytes = migration->data_bytes;
	status.zero_bytes = migration->zero_bytes;
	status.rate = migration->rate;
	status.dirty_rate = migration->dirty_rate;
	status.elapsed_ns = begin ? (end ? end : clock_now_ns()) - begin : 0;
	status.downtime_ns = migration->downtime_ns;
	status.faults = migration->faults;
	abi_give(ret_status, &status, sizeof(status));
	return 0;
}

static int tell(struct impost_migration *migration)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	migration->told_ns = clock_now_ns();
	if (migration->config.progress) {
		impost_migration_status(migration, &status);
		if (migration->config.progress(migration->config.opaque, &status))
			impost_migration_cancel(migration);
	}
	if (!migration->cancel.wanted || migration->cancel.deaf)
		return 0;
	return impost_error_set(migration->ctx, -ECANCELED, "the migration was cancelled");
}

int migrate_tell(struct impost_migration *migration)
{
	return clock_now_ns() - migration->told_ns < TELL_NS ? 0 : tell(migration);
}

int migrate_enter(struct impost_migration *migration, uint32_t state)
{
	if (state == IMPOST_MIGRATION_STARTING)
		migration->begin_ns = clock_now_ns();
	if (state >= IMPOST_MIGRATION_DONE)
		migration->end_ns = clock_now_ns();
	migration->state = state;
	return tell(migration);
}

int migrate_connect(struct impost_migration *migration, uint32_t timeout_ms, struct link **ret_link)
{
	struct impost_migration_channel channel = {.size = sizeof(channel), .fd = -1};
	struct impost_context *ctx = migration->ctx;
	uint32_t n = migration->nlinks;
	uint64_t serial = error_serial(ctx);
	int err;

	if (!migration->config.connect || n == MIGRATE_LINKS_MOST)
		return impost_error_set(ctx, -ENOTSUP, "there is no further connection");
	err = migration->config.connect(migration->config.opaque, timeout_ms, &channel);
	if (err)
		return error_serial(ctx) != serial
			       ? err
			       : impost_error_set(ctx, err, "a further connection: %s",
						  strerror(-err));
	err = link_check_channel(ctx, &channel);
	if (!err)
		err = link_init(&migration->links[n], ctx, &migration->cancel, &channel,
				migration->config.silence_ms);
	if (err)
		return err;
	migration->nlinks = n + 1;
	*ret_link = &migration->links[n];
	return 0;
}

void migrate_disconnect(struct impost_migration *migration, struct link *link, const char *text)
{
	if (text)
		wire_answer_error(link, migration->features, text);
	migration->nlinks--;
	link_release(link);
}

const char *impost_migration_state_name(uint32_t state)
{
	static const char *const names[] = {
		[IMPOST_MIGRATION_NEW] = "new",
		[IMPOST_MIGRATION_STARTING] = "starting",
		[IMPOST_MIGRATION_COPYING] = "copying",
		[IMPOST_MIGRATION_HELD] = "held",
		[IMPOST_MIGRATION_COMPLETING] = "completing",
		[IMPOST_MIGRATION_POSTCOPYING] = "post-copying",
		[IMPOST_MIGRATION_DONE] = "done",
		[IMPOST_MIGRATION_FAILED] = "failed",
		[IMPOST_MIGRATION_UNSETTLED] = "unsettled",
		[IMPOST_MIGRATION_LOST] = "lost",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "?";
}
