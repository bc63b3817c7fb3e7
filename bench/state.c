/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures state and snapshots, as it is asked (cases.h).
 *
 *   bench-state PLUGIN_DIR GUEST FOLDER
 *
 * The cases are here, in pause.c and in snapshot.c. GUEST is tests/guests/spin; snapshots are
 * written to FOLDER.
 */
#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raw.h"
#include "spin.h"
#include "timing.h"

#define MEMORY (UINT64_C(64) << 20)
#define TIMES  51u /* of each in a case, which gives the median: they are short */

int state_guest = -1;
const char *state_folder;

/* The same guest, at its first exit, in two VMs. */
static struct spin ours;
static struct raw_vm raw = {.kvm = -1, .vm = -1, .vcpu = -1};
static struct raw_state *room;

void state_cases_end(void)
{
	spin_destroy(&ours);
	raw_state_free(room);
	raw_destroy(&raw);
}

static int prepare_ours(struct impost_context *ctx)
{
	if (ours.vm)
		return 0;
	if (spin_create(ctx, state_guest, IMPOST_KICK_MASK, MEMORY, &ours))
		return -1;
	return spin_exits(ctx, &ours, 1);
}

static int prepare_raw(void)
{
	if (room)
		return 0;
	if (raw_create(&raw, state_guest, "", MEMORY, RAW_IRQCHIP_FIRST) ||
	    raw_exits(&raw, SPIN_PORT, 1))
		return -1;
	room = raw_state_new(&raw);
	return room ? 0 : -1;
}

/* Microseconds of getting the VM's state, and encoding it. */
static int take_state(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_state *state;
	double us[TIMES];

	(void)arg;
	if (prepare_ours(ctx))
		return -1;
	for (unsigned int i = 0; i < TIMES; i++) {
		double start = now_ns();

		if (impost_state_take(ours.vm, &state))
			return failed(ctx, "impost_state_take");
		us[i] = (now_ns() - start) / 1e3;
		impost_state_free(state);
	}
	ret[0] = median(us, TIMES);
	return 0;
}

/* The same of getting alone, by plain ioctls. */
static int take_raw(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	double us[TIMES];

	(void)ctx;
	(void)arg;
	if (prepare_raw())
		return -1;
	for (unsigned int i = 0; i < TIMES; i++) {
		double start = now_ns();

		if (raw_state_get(&raw, room))
			return -1;
		us[i] = (now_ns() - start) / 1e3;
	}
	ret[0] = median(us, TIMES);
	return 0;
}

/* Adds every section of FROM to a new state, which decodes it, and frees that. */
static int decode(struct impost_context *ctx, const struct impost_state *from)
{
	struct impost_state *state;
	const char *name;
	const void *data;
	size_t len;

	if (impost_state_create(ctx, &state))
		return failed(ctx, "impost_state_create");
	for (uint32_t i = 0; impost_state_at(from, i, &name, &data, &len) == 0; i++)
		if (impost_state_add(state, name, data, len)) {
			impost_state_free(state);
			return failed(ctx, "impost_state_add");
		}
	impost_state_free(state);
	return 0;
}

/* Microseconds of decoding a state. */
static int take_decode(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_state *state;
	double us[TIMES];
	int err = 0;

	(void)arg;
	if (prepare_ours(ctx))
		return -1;
	if (impost_state_take(ours.vm, &state))
		return failed(ctx, "impost_state_take");
	for (unsigned int i = 0; i < TIMES && !err; i++) {
		double start = now_ns();

		err = decode(ctx, state);
		us[i] = (now_ns() - start) / 1e3;
	}
	if (!err)
		ret[0] = median(us, TIMES);
	impost_state_free(state);
	return err;
}

/* Bytes of all sections, of which one is a vCPU's; and of that one. */
static int take_size(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_state *state;
	const char *name;
	size_t len;

	(void)arg;
	if (prepare_ours(ctx))
		return -1;
	if (impost_state_take(ours.vm, &state))
		return failed(ctx, "impost_state_take");
	for (uint32_t i = 0; impost_state_at(state, i, &name, NULL, &len) == 0; i++) {
		ret[0] += (double)len;
		if (strcmp(name, "vcpu.0") == 0)
			ret[1] = (double)len;
	}
	impost_state_free(state);
	return 0;
}

const struct bench_case state_cases[] = {
	{"state", take_state, 0},
	{"state-raw", take_raw, 0},
	{"decode", take_decode, 0},
	{"size", take_size, 0},
	{NULL, NULL, 0},
};

int main(int argc, char **argv)
{
	static const struct bench_case *const lists[] = {state_cases, pause_cases, snapshot_cases};
	struct impost_context *ctx;
	int err;

	if (argc != 4) {
		fprintf(stderr, "usage: %s PLUGIN_DIR GUEST FOLDER\n", argv[0]);
		return EXIT_FAILURE;
	}
	state_folder = argv[3];
	state_guest = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (state_guest < 0) {
		perror(argv[2]);
		return EXIT_FAILURE;
	}
	if (impost_context_open(NULL, NULL, &ctx)) {
		close(state_guest);
		return EXIT_FAILURE;
	}
	err = impost_context_set(ctx, "impost", "plugin_dir", argv[1]);
	err = err ? failed(ctx, "plugin_dir")
		  : take_cases(ctx, lists, sizeof(lists) / sizeof(lists[0]));
	state_cases_end();
	pause_cases_end();
	snapshot_cases_end();
	impost_context_close(ctx);
	close(state_guest);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
