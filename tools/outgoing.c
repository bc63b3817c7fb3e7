// SPDX-License-Identifier: Apache-2.0
/* Sends the guest of a run: what was asked for over what `[migration]` says, and what comes of it.
 */
#include "outgoing.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* At the most, where nobody says how many. */
#define CONNECTIONS_CHOSEN 4

static const struct {
	enum request_flag flag;
	uint32_t flags, features;
} choices[] = {
	{REQUEST_LOCAL, .flags = IMPOST_MIGRATION_LOCAL},
	{REQUEST_FINISH, .flags = IMPOST_MIGRATION_FINISH},
	{REQUEST_COMPRESS, .features = IMPOST_MIGRATION_ZSTD},
	{REQUEST_POSTCOPY, .features = IMPOST_MIGRATION_POSTCOPY},
};

/* By the thread that sends. What is typed from now on would be lost with the VM that is left. */
static void on_told(void *opaque, const struct impost_migration_status *status)
{
	struct outgoing *outgoing = opaque;

	if (status->state == IMPOST_MIGRATION_HELD)
		machine_quiet(outgoing->machine, true);
	if (outgoing->told)
		outgoing->told(outgoing->opaque);
}

int outgoing_init(struct outgoing *outgoing, struct impost_context *ctx, struct machine *machine)
{
	int err = migration_init(&outgoing->migration, ctx);

	outgoing->machine = machine;
	outgoing->migration.told = on_told;
	outgoing->migration.opaque = outgoing;
	return err;
}

void outgoing_release(struct outgoing *outgoing)
{
	migration_release(&outgoing->migration);
	free(outgoing->refusal);
	outgoing->refusal = NULL;
}

/* What REQUEST gives, or else the INI. */
static uint32_t number_of(const struct outgoing *outgoing, const struct request *request,
			  enum request_number which)
{
	uint64_t number = 0;

	if (request->has_number[which])
		return request->number[which];
	impost_context_get_number(outgoing->migration.ctx, "migration", request_number_name(which),
				  &number);
	return (uint32_t)number;
}

/*
 * Where the request does not say how many: WANTED, which is the INI's, for addresses that can be
 * connected to again. 0 there: through a UNIX socket memory is copied, and no more, so that one for
 * each CPU makes it faster. Other links are shared with others.
 */
static uint32_t choose_connections(const struct outgoing *outgoing, const struct request *request,
				   uint32_t wanted)
{
	enum address_kind kind = outgoing->migration.endpoint.address.kind;
	cpu_set_t cpus;
	int count = 1;

	if (request->has_number[REQUEST_CONNECTIONS])
		return wanted;
	if (kind == ADDRESS_FD)
		return 1;
	if (wanted)
		return wanted;
	if (kind == ADDRESS_UNIX && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		count = CPU_COUNT(&cpus);
	return count < CONNECTIONS_CHOSEN ? (uint32_t)count : CONNECTIONS_CHOSEN;
}

static void configure(const struct outgoing *outgoing, const struct request *request,
		      struct impost_migration_config *config)
{
	*config = (struct impost_migration_config){
		.size = sizeof(*config),
		.features = IMPOST_MIGRATION_ZERO_PAGES | IMPOST_MIGRATION_CONNECTIONS |
			    IMPOST_MIGRATION_TEXTS,
		.downtime_ms = number_of(outgoing, request, REQUEST_DOWNTIME),
		.timeout_ms = number_of(outgoing, request, REQUEST_TIMEOUT) * 1000,
		.connections = number_of(outgoing, request, REQUEST_CONNECTIONS),
		.throttle = number_of(outgoing, request, REQUEST_THROTTLE),
	};
	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
		if (request->flags[choices[i].flag]) {
			config->flags |= choices[i].flags;
			config->features |= choices[i].features;
		}
}

/* What the library would find only when the destination has answered. */
static int check_local(struct impost_context *ctx, struct impost_memory *memory)
{
	struct impost_region region = {.size = sizeof(region)};

	for (uint32_t i = 0; impost_memory_get(memory, i, &region) == 0; i++)
		if (region.fd < 0 || !(region.flags & IMPOST_REGION_SHARED))
			return impost_error_set(
				ctx, -ENOTSUP,
				"local: the guest's memory at 0x%" PRIx64
				" cannot be handed over: that takes a run that was started with "
				"--memory-backing memfd, or a shared file",
				region.gpa);
	return 0;
}

static int check_request(const struct outgoing *outgoing, const struct request *request)
{
	if (!request->flags[REQUEST_LOCAL])
		return 0;
	return check_local(outgoing->migration.ctx, impost_vm_memory(outgoing->machine->vm));
}

/* Keeps what the destination has against it. */
static void remember_refusal(struct outgoing *outgoing)
{
	const char *refusal = impost_migration_refusal(outgoing->migration.handle);

	if (refusal && *refusal)
		outgoing->refusal = strdup(refusal);
}

static void let_go_on(struct outgoing *outgoing)
{
	machine_quiet(outgoing->machine, outgoing->was_quiet);
}

static int send_by(struct outgoing *outgoing, struct impost_migration_config *config)
{
	struct migration *migration = &outgoing->migration;
	int err = migration_make(migration, config, migration->endpoint.silence_ms);

	if (err == 0) {
		err = impost_migration_send(migration->handle, outgoing->machine->vm);
		if (err < 0)
			remember_refusal(outgoing);
	}
	return migration_explain(migration, err);
}

int outgoing_send(struct outgoing *outgoing, const struct request *request,
		  struct json_object *reply)
{
	struct migration *migration = &outgoing->migration;
	struct impost_migration_status status;
	struct impost_migration_config config;
	int err;

	free(outgoing->refusal);
	outgoing->refusal = NULL;
	outgoing->was_quiet = atomic_load(&outgoing->machine->quiet);
	configure(outgoing, request, &config);
	err = check_request(outgoing, request);
	if (err == 0)
		err = migration_open(migration, request->address, ADDRESS_CONNECTS);
	if (err == 0) {
		config.connections = choose_connections(outgoing, request, config.connections);
		err = send_by(outgoing, &config);
	}
	if (err == -IMPOST_EUNSETTLED)
		return err;
	migration_unmake(migration);
	if (err < 0) {
		let_go_on(outgoing);
		return err;
	}
	migration_get_status(migration, &status);
	json_add_string(reply, "address", migration->where);
	migration_add_status(reply, &status);
	return 0;
}

int outgoing_settle(struct outgoing *outgoing, const char *what)
{
	struct impost_context *ctx = outgoing->migration.ctx;
	bool keep = strcmp(what, "keep") == 0;
	int err;

	if (!request_can_settle(what))
		return impost_error_set(ctx, -EINVAL,
					"settle: give keep, if the guest did not arrive, or leave, "
					"if it did");
	err = impost_migration_settle(outgoing->migration.handle,
				      keep ? IMPOST_MIGRATION_KEEP : IMPOST_MIGRATION_LEAVE);
	if (err < 0)
		return err;
	migration_unmake(&outgoing->migration);
	if (keep)
		let_go_on(outgoing);
	return 0;
}

void outgoing_add_reasons(const struct outgoing *outgoing, struct json_object *reply)
{
	const char *at = outgoing->refusal;
	struct json_object *array;

	if (!at)
		return;
	array = json_object_new_array();
	while (*at) {
		size_t len = strcspn(at, "\n");

		if (len)
			json_object_array_add(array, json_object_new_string_len(at, (int)len));
		at += len + (at[len] != '\0');
	}
	json_object_object_add(reply, "reasons", array);
}
