/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures libimpost, with the KVM plugin loaded by libltdl, against plain ioctls on the same
 * guest.
 *
 *   bench PLUGIN_DIR GUEST exits raw|impost COUNT        takes COUNT exits and ends, for callgrind
 *   bench PLUGIN_DIR GUEST exit-time PAIRS
 *   bench PLUGIN_DIR GUEST exit-time-mask PAIRS
 *   bench PLUGIN_DIR GUEST vm-create PAIRS
 *
 * The last three print medians: libimpost's and plain ioctls' nanoseconds, and the ratio of each
 * pair. GUEST is tests/guests/spin. Kicks are by a handler, but in exit-time-mask by a mask, which
 * asks nothing of the host and costs a little in each exit.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#include "cases.h"
#include "raw.h"
#include "spin.h"
#include "timing.h"

#define MEMORY	   (UINT64_C(64) << 20)
#define MAX_PAIRS  1000
#define MAX_SLICES 200

struct bench {
	int guest;
	uint32_t kick_by;
	struct raw_vm raw;
	struct impost_context *ctx;
	struct spin spin;
};

/* One of the two that are compared. */
struct subject {
	const char *name;
	int (*create)(struct bench *bench);
	int (*exits)(struct bench *bench, uint64_t count);
	void (*destroy)(struct bench *bench);
};

static int create_raw(struct bench *bench)
{
	return raw_create(&bench->raw, bench->guest, "", MEMORY, RAW_IRQCHIP_FIRST);
}

static int exits_raw(struct bench *bench, uint64_t count)
{
	return raw_exits(&bench->raw, SPIN_PORT, count);
}

static void destroy_raw(struct bench *bench)
{
	raw_destroy(&bench->raw);
}

static int create_impost(struct bench *bench)
{
	return spin_create(bench->ctx, bench->guest, bench->kick_by, MEMORY, &bench->spin);
}

static int exits_impost(struct bench *bench, uint64_t count)
{
	return spin_exits(bench->ctx, &bench->spin, count);
}

static void destroy_impost(struct bench *bench)
{
	spin_destroy(&bench->spin);
}

static const struct subject subjects[] = {
	{"impost", create_impost, exits_impost, destroy_impost},
	{"raw", create_raw, exits_raw, destroy_raw},
};
#define SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))

/* How a pair is timed. */
struct method {
	double (*time)(const struct subject *subject, struct bench *bench, uint64_t count);
	unsigned int slices; /* of each subject in a pair */
	uint64_t count;	     /* exits in a slice */
};

/* Nanoseconds of one exit, in COUNT of them. */
static double time_exits(const struct subject *subject, struct bench *bench, uint64_t count)
{
	double start = now_ns();

	if (subject->exits(bench, count))
		return -1;
	return (now_ns() - start) / (double)count;
}

/* Nanoseconds from nothing to the guest's first exit, a few instructions behind its first one. */
static double time_create(const struct subject *subject, struct bench *bench, uint64_t count)
{
	double start = now_ns();
	double ns = -1;

	(void)count;
	if (!subject->create(bench) && !subject->exits(bench, 1))
		ns = now_ns() - start;
	subject->destroy(bench);
	return ns;
}

/*
 * Times both subjects SLICES times in turns, and in changing order, and gives the median of each in
 * RET_NS: slices are so short that what else the machine does falls on few of them, or on all.
 */
static int time_pair(struct bench *bench, const struct method *method, double *ret_ns)
{
	double ns[SUBJECTS][MAX_SLICES];

	for (unsigned int slice = 0; slice < method->slices; slice++)
		for (unsigned int turn = 0; turn < SUBJECTS; turn++) {
			unsigned int which = (turn + slice) % SUBJECTS;

			ns[which][slice] = method->time(&subjects[which], bench, method->count);
			if (ns[which][slice] < 0)
				return -1;
		}
	for (unsigned int which = 0; which < SUBJECTS; which++)
		ret_ns[which] = median(ns[which], method->slices);
	return 0;
}

/* Prints the medians of PAIRS pairs, and of their ratios. The pair before the first warms up. */
static int time_pairs(struct bench *bench, unsigned int pairs, const struct method *method)
{
	double ours[MAX_PAIRS];
	double raws[MAX_PAIRS];
	double ratios[MAX_PAIRS];
	double ns[SUBJECTS];

	if (time_pair(bench, method, ns))
		return -1;
	for (unsigned int i = 0; i < pairs; i++) {
		if (time_pair(bench, method, ns))
			return -1;
		ours[i] = ns[0];
		raws[i] = ns[1];
		ratios[i] = ns[0] / ns[1];
	}
	printf("%.1f %.1f %.4f\n", median(ours, pairs), median(raws, pairs), median(ratios, pairs));
	return 0;
}

static int measure_exit_time(struct bench *bench, unsigned int pairs)
{
	static const struct method method = {time_exits, 200, 40};
	int ret = 0;

	for (unsigned int i = 0; i < SUBJECTS; i++)
		ret = ret ? ret : subjects[i].create(bench);
	if (!ret)
		ret = time_pairs(bench, pairs, &method);
	for (unsigned int i = 0; i < SUBJECTS; i++)
		subjects[i].destroy(bench);
	return ret;
}

static int take_exits(struct bench *bench, const char *name, uint64_t count)
{
	int ret = -1;

	for (unsigned int i = 0; i < SUBJECTS; i++) {
		if (strcmp(subjects[i].name, name) != 0)
			continue;
		ret = subjects[i].create(bench);
		if (!ret)
			ret = subjects[i].exits(bench, count);
		subjects[i].destroy(bench);
	}
	return ret;
}

static int measure(struct bench *bench, char **argv)
{
	static const struct method create = {time_create, 10, 1};
	unsigned int pairs = (unsigned int)strtoul(argv[1], NULL, 10);

	if (strcmp(argv[0], "exits") == 0 && argv[2])
		return take_exits(bench, argv[1], strtoull(argv[2], NULL, 10));
	if (pairs == 0 || pairs > MAX_PAIRS)
		return fprintf(stderr, "bench: 1 to %d pairs\n", MAX_PAIRS), -1;
	if (strcmp(argv[0], "exit-time-mask") == 0)
		bench->kick_by = IMPOST_KICK_MASK;
	if (strncmp(argv[0], "exit-time", strlen("exit-time")) == 0)
		return measure_exit_time(bench, pairs);
	if (strcmp(argv[0], "vm-create") == 0)
		return time_pairs(bench, pairs, &create);
	fprintf(stderr, "bench: what is %s?\n", argv[0]);
	return -1;
}

static void be_kicked(int number)
{
	(void)number;
}

static int open_all(struct bench *bench, char **argv)
{
	signal(SIGRTMIN + 2, be_kicked); /* the default kick signal */
	bench->guest = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (bench->guest < 0) {
		perror(argv[2]);
		return -1;
	}
	if (impost_context_open(NULL, NULL, &bench->ctx))
		return -1;
	if (impost_context_set(bench->ctx, "impost", "plugin_dir", argv[1]))
		return failed(bench->ctx, "plugin_dir");
	return 0;
}

int main(int argc, char **argv)
{
	struct bench bench = {.guest = -1,
			      .kick_by = IMPOST_KICK_HANDLER,
			      .raw = {.kvm = -1, .vm = -1, .vcpu = -1}};
	int ret;

	if (argc < 5) {
		fprintf(stderr, "usage: %s PLUGIN_DIR GUEST MEASURE ARGUMENT...\n", argv[0]);
		return EXIT_FAILURE;
	}
	ret = open_all(&bench, argv);
	if (!ret)
		ret = measure(&bench, argv + 3);
	impost_context_close(bench.ctx);
	if (bench.guest >= 0)
		close(bench.guest);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
