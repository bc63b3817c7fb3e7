// SPDX-License-Identifier: Apache-2.0
/* impost replay: the guest of a cassette, on the mock, with the machine that the cassette tells of.
 */
#include "replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cassette.h>
#include <impost/mock.h>

#include "recording.h"

/* --- the machine --- */

struct taking {
	const struct invocation *invocation;
	struct replay *replay;
	bool told; /* something of the machine */
	int err;
};

static const struct recording_key *find_key(const char *section, const char *key)
{
	const struct recording_key *k = recording_keys;

	while (k->key && (strcmp(k->section, section) != 0 || strcmp(k->key, key) != 0))
		k++;
	return k->key ? k : NULL;
}

/*
 * Where the file that was at PATH is now: there, or beside the cassette. Names of templates have no
 * '/' and stay. To be freed; NULL: no memory.
 */
static char *find_file(const char *cassette, const char *path)
{
	const char *name = strrchr(path, '/'), *slash = strrchr(cassette, '/');
	char *beside;

	if (!name || access(path, F_OK) == 0)
		return strdup(path);
	if (asprintf(&beside, "%.*s%s", slash ? (int)(slash - cassette + 1) : 0, cassette,
		     name + 1) < 0)
		return NULL;
	if (access(beside, F_OK) == 0)
		return beside;
	free(beside);
	return strdup(path);
}

static int take_setting(struct taking *taking, const struct recording_key *k, const char *text)
{
	struct impost_context *ctx = taking->invocation->ctx;
	char *value = k->is_path ? find_file(taking->replay->path, text) : strdup(text);
	int err;

	if (!value)
		return impost_error_set(ctx, -ENOMEM, "no memory");
	err = impost_context_set(ctx, k->section, k->key, value);
	free(value);
	return err;
}

static void take_id(struct replay *replay, const char *text)
{
	replay->has_id = strlen(text) == 2 * sizeof(replay->id) &&
			 strspn(text, "0123456789abcdef") == 2 * sizeof(replay->id);
	for (size_t i = 0; i < sizeof(replay->id) && replay->has_id; i++) {
		const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};

		replay->id[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
}

static int take(void *opaque, const char *section, const char *key, const char *text)
{
	struct taking *taking = opaque;
	const struct recording_key *k = find_key(section, key);

	if (strcmp(section, RECORDING_BOOT) == 0 && strcmp(key, RECORDING_ID) == 0)
		take_id(taking->replay, text);
	/* Whose memory was a file has to be given one. */
	if (k && strcmp(section, "memory") == 0 && strcmp(text, "file") == 0)
		k = NULL;
	taking->told = true;
	if (k && !options_has_set(taking->invocation, section, key))
		taking->err = take_setting(taking, k, text);
	return taking->err;
}

static int take_machine(const struct invocation *invocation, struct replay *replay)
{
	struct taking taking = {.invocation = invocation, .replay = replay};
	char why[512] = "";
	int err = cassette_read_host(replay->path, take, &taking, why, sizeof(why));

	if (err == 0 && !taking.told && !options_has_set(invocation, "boot", "kernel"))
		complain(
			"%s does not tell the machine: either 'impost run' did not record it, or not "
			"until its guest ran, or there was a layer record above this one",
			replay->path);
	if (err == 0)
		return STATUS_OK;
	if (taking.err)
		return complain_error(invocation, taking.err);
	complain("cannot replay %s: %s", replay->path, *why ? why : strerror(-err));
	return STATUS_HOST;
}

int replay_open(const struct invocation *invocation, struct replay *replay)
{
	int status, err;

	replay->path = invocation->operands[0];
	status = take_machine(invocation, replay);
	if (status != STATUS_OK)
		return status;
	err = impost_context_set(invocation->ctx, "impost", "backend", "mock");
	if (err == 0)
		err = impost_context_set(invocation->ctx, "backend.mock", "cassette", replay->path);
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

int replay_finish_boot(const struct replay *replay, struct machine *machine)
{
	if (!replay->has_id)
		return 0;
	return impost_memory_write(impost_vm_memory(machine->vm), machine->vmgenid.gpa, replay->id,
				   sizeof(replay->id));
}

/* --- the end --- */

/* What the mock says of it. Layers between pass on what they do not know. */
static int ask(struct machine *machine, struct impost_mock_cassette_status *ret_status)
{
	const struct impost_mock_cassette *cassette;
	const void *table;
	void *handle;
	int err = impost_vm_extension(machine->vm, IMPOST_MOCK_CASSETTE, &table, &handle);

	if (err < 0)
		return err;
	cassette = table;
	*ret_status = (struct impost_mock_cassette_status){.size = sizeof(*ret_status)};
	return cassette->status(handle, ret_status);
}

int replay_judge(const struct replay *replay, struct machine *machine)
{
	struct impost_mock_cassette_status status;
	int err;

	machine_destroy_cpus(machine);
	err = ask(machine, &status);
	if (err < 0) {
		complain("cannot tell how far %s was played: %s", replay->path,
			 impost_error(machine->ctx));
		return STATUS_HOST;
	}
	if (status.error == -IMPOST_EDIVERGED && status.ended) {
		fprintf(stderr,
			"impost: replayed %" PRIu64
			" calls of %s, to where the recorded run was stopped from outside\n",
			status.played, replay->path);
		return STATUS_OK;
	}
	if (status.error) {
		complain("%s", status.text);
		return status.error == -IMPOST_EDIVERGED ? STATUS_DIVERGED : STATUS_HOST;
	}
	if (status.left || !status.ended) {
		complain("cassette %s: recorded more than was played: call %" PRIu64
			 " was the last, then this host ended",
			 replay->path, status.played);
		return STATUS_DIVERGED;
	}
	fprintf(stderr, "impost: replayed %" PRIu64 " calls of %s\n", status.played, replay->path);
	return STATUS_OK;
}
