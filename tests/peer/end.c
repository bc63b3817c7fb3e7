/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a migration, by the public API, on the mock: for a peer on the other end of a socket
 * that it inherits.
 *
 *	end send|receive FD [KEY=VALUE]...
 *
 * It says how it ended on its standard output, a line for each fact, and is 1 if the VM is not
 *where that says it is, or something is left behind.
 */
#include <stdio.h>
#include <stdlib.h>

#include <impost/impost.h>

/* Where a local variable may be called exit. */
static void give_up(void)
{
	exit(1);
}

#define expect_ok(ctx, call)                                                                      \
	do {                                                                                      \
		int err_ = (call);                                                                \
		if (err_) {                                                                       \
			fprintf(stderr, "# %s:%d: %s: %d: %s\n", __FILE__, __LINE__, #call, err_, \
				impost_error(ctx));                                               \
			give_up();                                                                \
		}                                                                                 \
	} while (0)
#define expect_true(condition)                                                                    \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "# %s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			give_up();                                                                \
		}                                                                                 \
	} while (0)

#include <dirent.h>

#include "../unit/migrate_pair.h"

#define MOST_FDS 8u

/* What is asked for. */
struct asked {
	bool sends;
	int fd;
	struct impost_migration_config config;
	uint32_t kind;		    /* of RAM */
	bool guests;		    /* vCPUs run, and write memory, meanwhile */
	uint32_t cancel;	    /* the state in which it is cancelled; 0: none */
	uint32_t settle;	    /* what becomes of a VM that is unsettled; 0: it may not be */
	const char *memory, *state; /* files to write them to; NULL: none */
	int fds[MOST_FDS];	    /* further connections */
	uint32_t nfds, taken;
};

/* --- arguments --- */

static void take_fds(struct asked *asked, const char *text)
{
	char *end;

	do {
		expect_true(asked->nfds < MOST_FDS);
		asked->fds[asked->nfds++] = (int)strtol(text, &end, 10);
		text = end + 1;
	} while (*end == ',');
}

static bool take_number(struct asked *asked, const char *key, const char *value)
{
	struct impost_migration_config *config = &asked->config;
	const struct {
		const char *key;
		uint32_t *to;
	} numbers[] = {
		{"features", &config->features},  {"silence", &config->silence_ms},
		{"flags", &config->flags},	  {"connections", &config->connections},
		{"passes", &config->passes},	  {"kind", &asked->kind},
		{"settle", &asked->settle},	  {"cancel", &asked->cancel},
		{"timeout", &config->timeout_ms},
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(numbers[i].key, key) == 0) {
			*numbers[i].to = (uint32_t)strtoul(value, NULL, 0);
			return true;
		}
	return false;
}

static void take_argument(struct asked *asked, char *argument)
{
	char *value = strchr(argument, '=');

	expect_true(value != NULL);
	*value++ = '\0';
	if (strcmp(argument, "memory") == 0)
		asked->memory = value;
	else if (strcmp(argument, "state") == 0)
		asked->state = value;
	else if (strcmp(argument, "fds") == 0)
		take_fds(asked, value);
	else if (strcmp(argument, "guests") == 0)
		asked->guests = true;
	else if (strcmp(argument, "most") == 0)
		asked->config.memory_max = strtoull(value, NULL, 0);
	else
		expect_true(take_number(asked, argument, value));
}

static void take_arguments(struct asked *asked, int argc, char **argv)
{
	expect_true(argc >= 3);
	asked->sends = strcmp(argv[1], "send") == 0;
	expect_true(asked->sends || strcmp(argv[1], "receive") == 0);
	asked->fd = atoi(argv[2]);
	for (int i = 3; i < argc; i++)
		take_argument(asked, argv[i]);
}

/* --- what there is afterwards --- */

static int write_text(void *opaque, const char *text, size_t len)
{
	return fwrite(text, 1, len, opaque) == len ? 0 : -EIO;
}

/* All regions, one behind the other. */
static void dump_memory(struct impost_vm *vm, const char *path)
{
	struct impost_region region = {.size = sizeof(region)};
	FILE *file = fopen(path, "we");

	expect_true(file != NULL);
	for (uint32_t i = 0; impost_memory_get(impost_vm_memory(vm), i, &region) == 0; i++)
		for (uint64_t at = 0; at < region.bytes; at += PAIR_PAGE) {
			uint8_t page[PAIR_PAGE];

			expect_ok(impost_vm_context(vm),
				  impost_memory_read(impost_vm_memory(vm), region.gpa + at, page,
						     PAIR_PAGE));
			expect_true(fwrite(page, 1, PAIR_PAGE, file) == PAIR_PAGE);
		}
	expect_true(fclose(file) == 0);
}

static void dump_state(struct impost_vm *vm, const char *path)
{
	struct impost_state *state = NULL;
	FILE *file = fopen(path, "we");

	expect_true(file != NULL);
	expect_ok(impost_vm_context(vm), impost_state_take(vm, &state));
	expect_ok(impost_vm_context(vm), impost_state_json(state, write_text, file));
	impost_state_free(state);
	expect_true(fclose(file) == 0);
}

static void dump(const struct asked *asked, struct impost_vm *vm)
{
	if (asked->memory)
		dump_memory(vm, asked->memory);
	if (asked->state)
		dump_state(vm, asked->state);
}

static void say(int result, struct impost_context *ctx)
{
	char text[4096];

	snprintf(text, sizeof(text), "%s", result ? impost_error(ctx) : "");
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = '|';
	printf("result %d\ntext %s\n", result, text);
}

static void say_status(struct impost_migration *migration)
{
	struct impost_migration_status status = {.size = sizeof(status)};

	expect_true(impost_migration_status(migration, &status) == 0);
	printf("features %u\ndata %llu\nzero %llu\nstate %s\n", status.features,
	       (unsigned long long)status.data_bytes, (unsigned long long)status.zero_bytes,
	       impost_migration_state_name(status.state));
}

/* --- the two sides --- */

/* The caller's word for where it is to be. */
static int next_fd(struct asked *asked, struct impost_migration_channel *ret_channel)
{
	if (asked->taken == asked->nfds)
		return -ETIMEDOUT;
	*ret_channel = pair_socket_channel(asked->fds[asked->taken++]);
	return 0;
}

static int next_channel(void *opaque, uint32_t timeout_ms,
			struct impost_migration_channel *ret_channel)
{
	struct pair *pair = opaque;

	(void)timeout_ms;
	return next_fd(pair->setup.opaque, ret_channel);
}

static int watch(void *opaque, const struct impost_migration_status *status)
{
	const struct asked *asked = ((struct pair *)opaque)->setup.opaque;

	return asked->cancel && status->state == asked->cancel;
}

static struct impost_migration *make(struct asked *asked, struct pair *pair,
				     struct impost_context *ctx)
{
	struct impost_migration_channel channel = pair_socket_channel(asked->fd);

	asked->config.progress = watch;
	asked->config.prepare = asked->sends ? NULL : pair_prepare;
	return pair_make(pair, ctx, &asked->config, &channel, next_channel);
}

static void judge_source(struct asked *asked, struct pair *pair)
{
	bool left = pair->sent == 0;

	if (pair->sent == -IMPOST_EUNSETTLED) {
		expect_true(asked->settle && impost_vm_release(pair->vm) == -EINVAL);
		expect_ok(pair->source_ctx, impost_migration_settle(pair->sending, asked->settle));
		left = asked->settle == IMPOST_MIGRATION_LEAVE;
	}
	if (left)
		pair_expect_source_moved(pair);
	else
		pair_expect_source_runs(pair);
	printf("vm %s\n", left ? "left" : "stays");
}

static void send_vm(struct asked *asked)
{
	struct pair pair;

	pair_open(&pair, &(struct pair_setup){.cpus = 2, .kind = asked->kind, .opaque = asked});
	if (asked->guests)
		pair_start_guests(&pair);
	pair.sending = make(asked, &pair, pair.source_ctx);
	pair_send(&pair);
	say(pair.sent, pair.source_ctx);
	say_status(pair.sending);
	judge_source(asked, &pair);
	dump(asked, pair.vm);
	pair_close(&pair);
}

static void judge_destination(const struct asked *asked, struct pair *pair)
{
	expect_true(pair->arrived_device.number == 0x5eed);
	dump(asked, pair->arrived); /* of which some may still have to come */
	expect_ok(pair->destination_ctx, impost_migration_wait(pair->receiving));
	for (uint32_t i = 0; i < pair->setup.cpus; i++)
		pair_expect_runs(pair->destination_ctx, impost_vm_vcpu(pair->arrived, i));
	printf("vm came\n");
}

static void receive_vm(struct asked *asked)
{
	struct pair pair = {.setup = {.cpus = 2, .plugins = PLUGIN_DIR, .opaque = asked}};
	int err;

	pair_write_script(&pair);
	pair.destination_ctx = pair_context(&pair);
	pair.receiving = make(asked, &pair, pair.destination_ctx);
	err = impost_migration_receive(pair.receiving, &pair.arrived);
	say(err, pair.destination_ctx);
	say_status(pair.receiving);
	expect_true((err == 0) == (pair.arrived != NULL));
	if (!err)
		judge_destination(asked, &pair);
	pair_forget(&pair);
	expect_true(impost_context_close(pair.destination_ctx) == 0);
	close(pair.script_fd);
}

/* --- the whole --- */

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	expect_true(dir != NULL);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	struct asked asked = {.config = {.size = sizeof(asked.config)}};
	size_t fds = count_fds();

	take_arguments(&asked, argc, argv);
	if (asked.sends)
		send_vm(&asked);
	else
		receive_vm(&asked);
	expect_true(count_fds() == fds);
	printf("end\n");
	return 0;
}
