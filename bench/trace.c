/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the layer `trace` adds to a call: reads of a vCPU's general registers, of the mock with the
 * layer and of one without.
 *
 *   bench-trace PLUGIN_DIR SLICES
 *
 * Prints nanoseconds of a call, medians of SLICES slices in turns: without the layer, with it, with
 * it when it takes times, and the medians of what the last two add in the same turn.
 */
#include <stdio.h>
#include <string.h>

#include <impost/impost.h>

#include "timing.h"

#define SUBJECTS   3u
#define MAX_SLICES 1000u
#define CALLS	   1000u /* in a slice, which is so short that few are interrupted */

struct subject {
	const char *layers, *times;
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	double ns[MAX_SLICES];
};

static int create(struct subject *subject, const char *plugins)
{
	static const char *const sections[] = {"impost", "impost", "impost", "backend.mock",
					       "layer.trace"};
	static const char *const keys[] = {"plugin_dir", "backend", "layers", "check_entry",
					   "times"};
	const char *const values[] = {plugins, "mock", subject->layers, "no", subject->times};
	int err = impost_context_open(NULL, NULL, &subject->ctx);

	for (int i = 0; !err && i < 5; i++)
		err = impost_context_set(subject->ctx, sections[i], keys[i], values[i]);
	if (!err)
		err = impost_vm_create(subject->ctx, NULL, &subject->vm);
	if (!err)
		err = impost_vcpu_create(subject->vm, 0, &subject->vcpu);
	if (err)
		fprintf(stderr, "bench-trace: %s\n", impost_error(subject->ctx));
	return err;
}

static void destroy(struct subject *subject)
{
	impost_vcpu_destroy(subject->vcpu);
	impost_vm_destroy(subject->vm);
	impost_context_close(subject->ctx);
}

/* Nanoseconds of a call, the mean of a slice; negative: one has failed. */
static double time_calls(const struct subject *subject)
{
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	double start = now_ns();

	for (uint32_t i = 0; i < CALLS; i++)
		if (impost_vcpu_get_regs(subject->vcpu, &regs))
			return -1;
	return (now_ns() - start) / CALLS;
}

static int take(struct subject *subjects, uint32_t slices)
{
	for (uint32_t slice = 0; slice < slices; slice++)
		for (uint32_t turn = 0; turn < SUBJECTS; turn++) {
			struct subject *subject = &subjects[(turn + slice) % SUBJECTS];

			subject->ns[slice] = time_calls(subject);
			if (subject->ns[slice] < 0)
				return -1;
		}
	return 0;
}

static void print(struct subject *subjects, uint32_t slices)
{
	double more[2][MAX_SLICES];

	for (uint32_t slice = 0; slice < slices; slice++)
		for (uint32_t i = 0; i < 2; i++)
			more[i][slice] = subjects[i + 1].ns[slice] - subjects[0].ns[slice];
	for (uint32_t i = 0; i < SUBJECTS; i++)
		printf("%.2f ", median(subjects[i].ns, slices));
	printf("%.2f %.2f\n", median(more[0], slices), median(more[1], slices));
}

int main(int argc, char **argv)
{
	static struct subject subjects[SUBJECTS] = {
		{.layers = "", .times = "no"},
		{.layers = "trace", .times = "no"},
		{.layers = "trace", .times = "yes"},
	};
	uint32_t slices = argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
	int err = 0;

	if (slices < 1 || slices > MAX_SLICES) {
		fprintf(stderr, "usage: bench-trace PLUGIN_DIR SLICES\n");
		return 2;
	}
	for (uint32_t i = 0; !err && i < SUBJECTS; i++)
		err = create(&subjects[i], argv[1]);
	if (!err)
		err = take(subjects, slices);
	if (!err)
		print(subjects, slices);
	for (uint32_t i = 0; i < SUBJECTS; i++)
		destroy(&subjects[i]);
	return err ? 1 : 0;
}
