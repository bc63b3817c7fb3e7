// SPDX-License-Identifier: Apache-2.0
/* What migrations in both directions have: made on connections, cancelled, told of. */
#include "migration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "json.h"

int migration_init(struct migration *migration, struct impost_context *ctx)
{
	*migration = (struct migration){.ctx = ctx};
	pthread_mutex_init(&migration->lock, NULL);
	migration->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (migration->stop < 0)
		return impost_error_set(ctx, -errno, "cannot make an eventfd: %s", strerror(errno));
	return 0;
}

void migration_release(struct migration *migration)
{
	if (!migration->ctx)
		return;
	migration_unmake(migration);
	if (migration->stop >= 0)
		close(migration->stop);
	pthread_mutex_destroy(&migration->lock);
	migration->ctx = NULL;
}

int migration_open(struct migration *migration, const char *address, enum address_use use)
{
	int err =
		endpoint_open(migration->ctx, address, use, migration->stop, &migration->endpoint);

	if (err < 0)
		return err;
	pthread_mutex_lock(&migration->lock);
	address_format(&migration->endpoint.address, migration->where);
	migration->status = (struct impost_migration_status){.size = sizeof(migration->status)};
	migration->incoming = use == ADDRESS_LISTENS;
	pthread_mutex_unlock(&migration->lock);
	return 0;
}

static int on_connect(void *opaque, uint32_t timeout_ms,
		      struct impost_migration_channel *ret_channel)
{
	struct migration *migration = opaque;

	return endpoint_connect(&migration->endpoint, timeout_ms, ret_channel);
}

static int on_progress(void *opaque, const struct impost_migration_status *status)
{
	struct migration *migration = opaque;

	pthread_mutex_lock(&migration->lock);
	migration->status = *status;
	pthread_mutex_unlock(&migration->lock);
	if (migration->told)
		migration->told(migration->opaque, status);
	return atomic_load(&migration->cancelled);
}

int migration_make(struct migration *migration, struct impost_migration_config *config,
		   uint32_t timeout_ms)
{
	struct impost_migration_channel channel;
	struct impost_migration *handle;
	int err = endpoint_connect(&migration->endpoint, timeout_ms, &channel);

	if (err < 0)
		return err;
	config->channel = &channel;
	config->connect = endpoint_has_more(&migration->endpoint) ? on_connect : NULL;
	config->progress = on_progress;
	config->opaque = migration;
	config->silence_ms = migration->endpoint.silence_ms;
	err = impost_migration_create(migration->ctx, config, &handle);
	config->channel = NULL;
	if (err < 0)
		return err;
	pthread_mutex_lock(&migration->lock);
	migration->handle = handle;
	if (atomic_load(&migration->cancelled))
		impost_migration_cancel(handle);
	pthread_mutex_unlock(&migration->lock);
	return 0;
}

/* Destroys what was made; its status stays. */
static void forget(struct migration *migration)
{
	struct impost_migration *handle;

	pthread_mutex_lock(&migration->lock);
	handle = migration->handle;
	migration->handle = NULL;
	if (handle)
		impost_migration_status(handle, &migration->status);
	pthread_mutex_unlock(&migration->lock);
	impost_migration_destroy(handle);
}

void migration_unmake(struct migration *migration)
{
	forget(migration);
	endpoint_close(&migration->endpoint);
}

void migration_drop(struct migration *migration)
{
	forget(migration);
	endpoint_drop(&migration->endpoint);
	pthread_mutex_lock(&migration->lock);
	migration->status = (struct impost_migration_status){.size = sizeof(migration->status)};
	pthread_mutex_unlock(&migration->lock);
}

void migration_cancel(struct migration *migration)
{
	atomic_store(&migration->cancelled, true);
	eventfd_write(migration->stop, 1);
	pthread_mutex_lock(&migration->lock);
	if (migration->handle)
		impost_migration_cancel(migration->handle);
	pthread_mutex_unlock(&migration->lock);
}

void migration_rearm(struct migration *migration)
{
	eventfd_t count;

	atomic_store(&migration->cancelled, false);
	eventfd_read(migration->stop, &count);
}

int migration_explain(struct migration *migration, int err)
{
	char text[1024], more[256];

	if (err == 0 || !endpoint_failure(&migration->endpoint, more, sizeof(more)))
		return err;
	snprintf(text, sizeof(text), "%s", impost_error(migration->ctx));
	return impost_error_set(migration->ctx, err, "%.700s: TLS: %s", text, more);
}

/* --- what is told --- */

static const struct {
	uint32_t bit;
	const char *name;
} features[] = {
	{IMPOST_MIGRATION_ZERO_PAGES, "zero-pages"},
	{IMPOST_MIGRATION_ZSTD, "zstd"},
	{IMPOST_MIGRATION_CONNECTIONS, "connections"},
	{IMPOST_MIGRATION_POSTCOPY, "postcopy"},
	{IMPOST_MIGRATION_TEXTS, "texts"},
};

static struct json_object *name_features(uint32_t word)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (word & features[i].bit)
			json_object_array_add(array, json_object_new_string(features[i].name));
	return array;
}

void migration_add_status(struct json_object *object, const struct impost_migration_status *status)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {
		{"pass", status->pass},
		{"throttle", status->throttle},
		{"connections", status->connections},
		{"guest_bytes", status->guest_bytes},
		{"left_bytes", status->left_bytes},
		{"data_bytes", status->data_bytes},
		{"zero_bytes", status->zero_bytes},
		{"wire_bytes", status->wire_bytes},
		{"rate", status->rate},
		{"dirty_rate", status->dirty_rate},
		{"ms", status->elapsed_ns / 1000000},
		{"downtime_us", status->downtime_ns / 1000},
		{"faults", status->faults},
	};

	json_add_string(object, "phase", impost_migration_state_name(status->state));
	json_object_object_add(object, "features", name_features(status->features));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_add_uint(object, numbers[i].key, numbers[i].value);
}

void migration_get_status(struct migration *migration, struct impost_migration_status *ret_status)
{
	pthread_mutex_lock(&migration->lock);
	if (migration->handle)
		impost_migration_status(migration->handle, &migration->status);
	*ret_status = migration->status;
	pthread_mutex_unlock(&migration->lock);
}

struct json_object *migration_describe(struct migration *migration)
{
	struct impost_migration_status status;
	struct json_object *object;

	if (!migration->ctx)
		return NULL;
	migration_get_status(migration, &status);
	pthread_mutex_lock(&migration->lock);
	object = *migration->where ? json_object_new_object() : NULL;
	if (object) {
		json_add_string(object, "address", migration->where);
		json_add_string(object, "direction", migration->incoming ? "in" : "out");
	}
	pthread_mutex_unlock(&migration->lock);
	if (object)
		migration_add_status(object, &status);
	return object;
}
