/* SPDX-License-Identifier: Apache-2.0 */
/* The destination: what may come when, and what becomes of it. */
#include "migrate_receive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "context.h"
#include "migrate_local.h"
#include "migrate_postcopy.h"
#include "region.h"
#include "state.h"
#include "state_vm.h"
#include "text.h"
#include "vm.h"

/* Over which time the rate is taken. */
#define RATE_NS UINT64_C(500000000)

/* What is waited for: bits, for what may come when. */
#define AT_START     1u
#define AT_CONFIG    2u
#define AT_JOIN	     4u	 /* on a further connection */
#define AT_MEMORY    8u	 /* and State, and Complete */
#define AT_POSTPONED 16u /* Complete alone */
#define AT_END	     32u
#define AT_ANY_TIME  (AT_START | AT_CONFIG | AT_JOIN | AT_MEMORY | AT_POSTPONED)

/* --- telling --- */

static void rate(struct receiving *receiving)
{
	struct impost_migration *migration = receiving->migration;
	uint64_t bytes = migration->data_bytes + migration->zero_bytes;
	uint64_t now = clock_now_ns(), ns = now - receiving->rated_ns;

	if (ns < RATE_NS)
		return;
	migration->rate = (uint64_t)((double)(bytes - receiving->rated_bytes) * 1e9 / (double)ns);
	receiving->rated_ns = now;
	receiving->rated_bytes = bytes;
}

static int tell(struct receiving *receiving)
{
	rate(receiving);
	return migrate_tell(receiving->migration);
}

/* --- waiting for what is said --- */

/* Bytes on all connections so far. */
static uint64_t traffic(const struct impost_migration *migration)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < migration->nlinks; i++)
		bytes += migration->links[i].bytes;
	return bytes;
}

/* Reads the first byte of a request. While something comes on another connection the first one may
 * be silent. */
static int await_byte(struct receiving *receiving, uint8_t *byte)
{
	const uint32_t silence_ms = receiving->migration->config.silence_ms;
	uint64_t since = clock_now_ns(), seen = traffic(receiving->migration);
	struct link *link = receiving->link;
	int err;

	link->silence_ms = silence_ms < RECEIVE_SLICE_MS ? silence_ms : RECEIVE_SLICE_MS;
	while ((err = link_read(link, byte, 1)) == -ETIMEDOUT) {
		uint64_t now = clock_now_ns(), moved = traffic(receiving->migration);

		if (moved != seen)
			since = now;
		seen = moved;
		if (now - since >= UINT64_C(1000000) * silence_ms) {
			err = impost_error_set(receiving->ctx, -ETIMEDOUT,
					       "the other side of the migration was silent for %u "
					       "ms",
					       silence_ms);
			break;
		}
		err = tell(receiving);
		if (err)
			break;
	}
	link->silence_ms = silence_ms;
	return err;
}

static int await_request(struct receiving *receiving, struct wire_head *ret_head)
{
	uint8_t *head = (uint8_t *)ret_head;
	int err = await_byte(receiving, head);

	if (!err)
		err = link_read(receiving->link, head + 1, sizeof(*ret_head) - 1);
	return err ? err : wire_check_request(receiving->link, ret_head);
}

/* --- Start --- */

/* What this side can do for this migration. */
static uint32_t own_features(const struct impost_migration *migration)
{
	const struct impost_migration_config *config = &migration->config;
	uint32_t features = config->features;

	if (features & IMPOST_MIGRATION_POSTCOPY && !postcopy_is_possible(migration->ctx))
		features &= ~IMPOST_MIGRATION_POSTCOPY;
	return config->connect ? features : features & ~IMPOST_MIGRATION_CONNECTIONS;
}

static int take_start(struct receiving *receiving, const struct wire_head *head)
{
	struct impost_migration *migration = receiving->migration;
	struct wire_head answer = {.code = WIRE_OK};

	/* A source that knows only the framing has neither. */
	if (head->version != WIRE_VERSION && (head->version || head->features))
		return impost_error_set(receiving->ctx, -EPROTO,
					"the source speaks version %u of the migration's protocol, "
					"and this library version %u",
					head->version, WIRE_VERSION);
	if (head->version) {
		migration->features = head->features & own_features(migration);
		answer.version = WIRE_VERSION;
		answer.features = migration->features;
	}
	receiving->phase = AT_CONFIG;
	return link_write(receiving->link, &answer, sizeof(answer));
}

/* --- Config --- */

static int check_config(const struct receiving *receiving)
{
	struct impost_migration *migration = receiving->migration;
	const struct state_machine *machine = state_machine(receiving->first);
	uint64_t most = migration->config.memory_max, bytes = 0;

	if (receiving->config.connections > 1 &&
	    !(migration->features & IMPOST_MIGRATION_CONNECTIONS))
		return impost_error_set(receiving->ctx, -EPROTO,
					"there are to be %u connections, which was not agreed on",
					receiving->config.connections);
	for (uint32_t i = 0; i < machine->nregions; i++)
		if (__builtin_add_overflow(bytes, machine->regions[i].bytes, &bytes))
			bytes = UINT64_MAX;
	if (most && bytes > most)
		return impost_error_set(receiving->ctx, -EFBIG,
					"the VM has %llu bytes of memory, and %llu are taken here "
					"at the most",
					(unsigned long long)bytes, (unsigned long long)most);
	migration->guest_bytes = bytes;
	return receiving->config.local ? local_judge(receiving->link) : 0;
}

/* The lines of TEXT as one, for the text of an error: as many as fit there. */
static void make_sentence(char *sentence, size_t room, const char *text)
{
	size_t len = 0;

	for (; *text && len + 3 < room; text++) {
		if (*text == '\n')
			sentence[len++] = ';';
		sentence[len++] = *text == '\n' ? ' ' : *text;
	}
	sentence[len] = '\0';
}

/* The pre-flight, on the backend that is open for the VM. */
static int judge(void *opaque, const struct backend *backend)
{
	struct receiving *receiving = opaque;
	struct hindrances all = {
		.text = calloc(1, WIRE_TEXT_MOST + 1), .room = WIRE_TEXT_MOST + 1, .between = "\n"};
	char sentence[800];
	int count;

	if (!all.text)
		return impost_error_set(receiving->ctx, -ENOMEM, "no memory to judge a VM");
	count = state_check_on(receiving->first, backend, hindrances_add, &all);
	free(receiving->reasons);
	receiving->reasons = count > 0 ? all.text : NULL;
	if (count <= 0) {
		free(all.text);
		return count;
	}
	hindrances_end(&all);
	make_sentence(sentence, sizeof(sentence), all.text);
	return impost_error_set(receiving->ctx, -ENOTSUP,
				"the VM cannot run here, for %d reason%s: %s", count,
				count == 1 ? "" : "s", sentence);
}

static int add_regions(struct receiving *receiving)
{
	const struct state_machine *machine = state_machine(receiving->first);
	struct impost_memory *memory = impost_vm_memory(receiving->vm);
	uint64_t file_offset = 0;
	int err = 0;

	for (uint32_t i = 0; !err && i < machine->nregions; i++) {
		const struct impost_state_region *region = &machine->regions[i];

		err = region_add_configured(memory, region->gpa, region->bytes, region->flags, 0,
					    &file_offset);
	}
	return err ? err : receiving_begin_memory(receiving);
}

static int make_vm(struct receiving *receiving)
{
	const struct impost_migration *migration = receiving->migration;
	struct impost_vm_config config;
	int err = state_vm_configure(receiving->first,
				     migration->config.vm_config ? &migration->vm_config : NULL,
				     migration->config.backend, &config);

	if (!err)
		err = vm_create(receiving->ctx, &config, judge, receiving, &receiving->vm);
	if (!err && !receiving->config.local)
		err = add_regions(receiving);
	return err ? err : state_vm_add_vcpus(receiving->first, receiving->vm);
}

/* The VM has its memory: the host's turn. */
static int prepare(struct receiving *receiving)
{
	const struct impost_migration_config *config = &receiving->migration->config;
	uint64_t serial = error_serial(receiving->ctx);
	int err = config->prepare ? config->prepare(config->opaque, receiving->vm) : 0;

	receiving->prepared = true;
	if (err && error_serial(receiving->ctx) == serial)
		return impost_error_set(receiving->ctx, err, "the VM could not be prepared: %s",
					err < 0 ? strerror(-err) : "the host refuses it");
	return err;
}

static int begin_memory(struct receiving *receiving)
{
	int err = migrate_enter(receiving->migration, IMPOST_MIGRATION_COPYING);

	receiving->phase = AT_JOIN;
	receiving->rated_ns = clock_now_ns();
	if (!err && receiving->config.connections > 1)
		err = joined_begin(receiving);
	if (err == -EAGAIN)
		return 0;
	receiving->phase = AT_MEMORY;
	return err;
}

/* Says Ok, and which features are not to be used after all, now that it is known what memory is
 * made of. The source, which has a policy for that, sends the VM without. */
static int answer_config(struct receiving *receiving)
{
	struct impost_migration *migration = receiving->migration;
	struct wire_head answer = {.code = WIRE_OK};

	if (migration->features & IMPOST_MIGRATION_POSTCOPY && !receiving->config.local &&
	    !postcopy_takes(impost_vm_memory(receiving->vm)))
		answer.features = IMPOST_MIGRATION_POSTCOPY;
	migration->features &= ~answer.features;
	return link_write(receiving->link, &answer, sizeof(answer));
}

static int take_config(struct receiving *receiving, const struct wire_head *head)
{
	void *payload = NULL;
	int err = wire_read_payload(receiving->link, "the configuration", head->length, &payload);

	if (!err)
		err = migrate_decode_config(receiving->ctx, payload, head->length,
					    &receiving->config, &receiving->first);
	free(payload);
	if (!err)
		err = check_config(receiving);
	if (!err)
		err = make_vm(receiving);
	if (!err)
		err = intake_create(receiving, receiving->link, &receiving->intake);
	if (!err && !receiving->config.local)
		err = prepare(receiving);
	if (!err)
		err = answer_config(receiving);
	if (err)
		return err;
	memcpy(receiving->migration->token, receiving->config.token, WIRE_TOKEN);
	return begin_memory(receiving);
}

/* --- memory and state --- */

/* COMMAND makes no sense now, because of WHY. */
static int out_of_place(const struct receiving *receiving, uint32_t command, const char *why)
{
	return impost_error_set(receiving->ctx, -EPROTO, "the source says %s %s",
				wire_command_name(command), why);
}

static int take_memory(struct receiving *receiving, const struct wire_head *head)
{
	int err;

	if (receiving->config.local)
		return out_of_place(receiving, head->code,
				    "where memory is handed over as descriptors");
	err = intake_memory(receiving->intake, head, tell);
	return err ? err : wire_answer_ok(receiving->link);
}

static int take_memory_fd(struct receiving *receiving, const struct wire_head *head)
{
	const struct state_machine *machine = state_machine(receiving->first);
	struct impost_memory *memory = impost_vm_memory(receiving->vm);
	int err;

	if (!receiving->config.local)
		return out_of_place(receiving, head->code,
				    "where memory is not handed over as descriptors");
	err = local_receive(receiving->link, memory, receiving->first, &receiving->config);
	/* The last one: a slot comes once, and no other than there are. */
	if (!err && memory->map->count == machine->nregions && !receiving->prepared)
		err = prepare(receiving);
	return err ? err : wire_answer_ok(receiving->link);
}

/* Whether the VM that stands is the one that was announced. */
static int check_same(const struct receiving *receiving, const struct impost_state *state)
{
	const struct state_machine *was = state_machine(receiving->first);
	const struct state_machine *is = state_machine(state);

	if (was->nregions == is->nregions && was->nvcpus == is->nvcpus &&
	    was->irqchip == is->irqchip &&
	    (!is->nregions ||
	     !memcmp(was->regions, is->regions, is->nregions * sizeof(*is->regions))) &&
	    (!is->nvcpus || !memcmp(was->vcpus, is->vcpus, is->nvcpus * sizeof(*is->vcpus))))
		return 0;
	return impost_error_set(receiving->ctx, -EPROTO,
				"the state is of another VM than the configuration: its vCPUs, "
				"memory or irqchip are others");
}

static int take_state(struct receiving *receiving, const struct wire_head *head)
{
	struct impost_state *state = NULL;
	void *payload = NULL;
	int err;

	if (receiving->state)
		return out_of_place(receiving, head->code, "twice");
	receiving->state_ns = clock_now_ns();
	err = migrate_enter(receiving->migration, IMPOST_MIGRATION_HELD);
	if (!err && receiving->config.local)
		err = local_check_whole(receiving->link, impost_vm_memory(receiving->vm),
					receiving->first);
	if (!err && !receiving->prepared) /* local, and there is no memory */
		err = prepare(receiving);
	if (!err)
		err = wire_read_payload(receiving->link, "the state", head->length, &payload);
	if (!err)
		err = migrate_decode_state(receiving->ctx, payload, head->length, &state);
	free(payload);
	if (!err)
		err = check_same(receiving, state);
	if (err) {
		impost_state_free(state);
		return err;
	}
	receiving->state = state;
	return wire_answer_ok(receiving->link);
}

/* What comes in Memory's place when the VM goes first. */
static int take_postpone(struct receiving *receiving, const struct wire_head *head)
{
	struct impost_migration *migration = receiving->migration;
	int err;

	if (!(migration->features & IMPOST_MIGRATION_POSTCOPY) || receiving->config.local)
		return out_of_place(receiving, head->code, "though it was not agreed on");
	if (!receiving->state)
		return out_of_place(receiving, head->code, "before State");
	err = joined_close(migration->joined);
	if (!err)
		err = postcopy_postpone(migration, receiving->vm, head);
	if (err)
		return err;
	receiving->phase = AT_POSTPONED;
	return wire_answer_ok(receiving->link);
}

/* --- the end --- */

/* From here on no cancel is heard, or there was one. */
static int be_deaf(struct receiving *receiving)
{
	struct cancel *cancel = &receiving->migration->cancel;

	atomic_store(&cancel->deaf, true);
	if (!atomic_load(&cancel->wanted))
		return 0;
	atomic_store(&cancel->deaf, false);
	return impost_error_set(receiving->ctx, -ECANCELED, "the migration was cancelled");
}

static int take_complete(struct receiving *receiving, const struct wire_head *head)
{
	struct impost_migration *migration = receiving->migration;
	int err;

	if (!receiving->state)
		return out_of_place(receiving, head->code, "before State");
	err = migrate_enter(migration, IMPOST_MIGRATION_COMPLETING);
	if (!err && migration->postcopy)
		err = postcopy_begin(migration);
	if (!err)
		err = joined_close(migration->joined);
	if (!err)
		err = state_load_fresh(receiving->state, receiving->vm);
	if (!err)
		err = be_deaf(receiving);
	if (err)
		return err;
	migration->downtime_ns = clock_now_ns() - receiving->state_ns;
	if (migration->postcopy)
		err = postcopy_answer(migration);
	else
		err = wire_answer_ok(receiving->link);
	if (err)
		return err;
	receiving->phase = AT_END;
	return 0;
}

static int take_abandon(struct receiving *receiving, const struct wire_head *head)
{
	(void)head;
	receiving->abandoned = true;
	return impost_error_set(receiving->ctx, -EREMOTEIO,
				"the source has given the migration up");
}

/* --- the whole --- */

static const struct step {
	uint16_t command;
	uint32_t when;
	int (*take)(struct receiving *receiving, const struct wire_head *head);
} steps[] = {
	{WIRE_START, AT_START, take_start},
	{WIRE_CONFIG, AT_CONFIG, take_config},
	{WIRE_MEMORY, AT_MEMORY, take_memory},
	{WIRE_MEMORY_FD, AT_MEMORY, take_memory_fd},
	{WIRE_STATE, AT_MEMORY, take_state},
	{WIRE_POSTPONE, AT_MEMORY, take_postpone},
	{WIRE_COMPLETE, AT_MEMORY | AT_POSTPONED, take_complete},
	{WIRE_ABANDON, AT_ANY_TIME, take_abandon},
};

static int take_request(struct receiving *receiving)
{
	struct wire_head head;
	int err = await_request(receiving, &head);

	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i].command == head.code && steps[i].when & receiving->phase)
			return steps[i].take(receiving, &head);
	return out_of_place(receiving, head.code, "out of its order");
}

static int receive(struct receiving *receiving)
{
	int err = migrate_enter(receiving->migration, IMPOST_MIGRATION_STARTING);

	while (!err && receiving->phase != AT_END)
		err = take_request(receiving);
	return err;
}

/* Frees all but the VM. */
static void release(struct receiving *receiving)
{
	intake_free(receiving->intake);
	receiving_end_memory(receiving);
	impost_state_free(receiving->first);
	impost_state_free(receiving->state);
	migrate_config_release(&receiving->config);
	free(receiving->reasons);
}

/* Tells the source, and drops all; the error's text stays. */
static int give_up(struct receiving *receiving, int err)
{
	struct impost_migration *migration = receiving->migration;
	char text[1024];

	err = joined_stop(migration->joined, err);
	snprintf(text, sizeof(text), "%s", impost_error(receiving->ctx));
	postcopy_free(migration->postcopy);
	migration->postcopy = NULL;
	/* Abandon is not answered. */
	for (uint32_t i = 0; !receiving->abandoned && i < migration->nlinks; i++)
		wire_answer_error(&migration->links[i], migration->features,
				  receiving->reasons ? receiving->reasons : text);
	if (receiving->vm)
		state_vm_unmake(receiving->vm);
	migrate_enter(migration, IMPOST_MIGRATION_FAILED);
	return impost_error_set(receiving->ctx, err, "%s", text);
}

static int check_call(struct impost_migration *migration, struct impost_vm **ret_vm)
{
	struct impost_context *ctx = migration->ctx;

	if (context_forked(ctx))
		return context_refuse_fork(ctx);
	if (!ret_vm)
		return impost_error_set(ctx, -EINVAL, "impost_migration_receive: ret_vm is NULL");
	if (migration->config.flags)
		return impost_error_set(ctx, -EINVAL, "a migration's flags are the source's: %#x",
					migration->config.flags);
	if (atomic_exchange(&migration->begun, true))
		return impost_error_set(ctx, -EALREADY,
					"the migration was begun already: make another");
	return 0;
}

int impost_migration_receive(struct impost_migration *migration, struct impost_vm **ret_vm)
{
	struct receiving receiving = {
		.migration = migration,
		.ctx = migration->ctx,
		.link = &migration->links[0],
		.phase = AT_START,
	};
	int err = check_call(migration, ret_vm);

	if (err)
		return err;
	err = receive(&receiving);
	if (err) {
		err = give_up(&receiving, err);
	} else {
		*ret_vm = receiving.vm;
		migration->received = true;
		if (!migration->postcopy) /* else its thread says so */
			migrate_enter(migration, IMPOST_MIGRATION_DONE);
	}
	release(&receiving);
	return err;
}
