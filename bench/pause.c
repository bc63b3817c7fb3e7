/* SPDX-License-Identifier: Apache-2.0 */
/* A case of bench-state: a VM of many vCPUs is held, each of which a thread runs. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "state.h"
#include "timing.h"

#define CPUS	   64u
#define MEMORY	   (UINT64_C(1) << 20)
#define TIMES	   10u
#define TIMEOUT_MS 10000u
#define SETTLE_NS  5000000L /* for threads to be inside again */

/* On the mock, without scripts: a vCPU that runs is inside until it is kicked. */
static struct impost_vm *vm;
static struct impost_vcpu *vcpus[CPUS];
static pthread_t threads[CPUS];
static uint32_t running;
static atomic_bool ended, broken;

static void *run_on(void *arg)
{
	struct impost_exit exit;

	while (!atomic_load(&ended) && !atomic_load(&broken))
		if (impost_vcpu_run(arg, &exit) || exit.kind != IMPOST_EXIT_INTR)
			atomic_store(&broken, true);
	return NULL;
}

void pause_cases_end(void)
{
	atomic_store(&ended, true);
	for (uint32_t i = 0; i < running; i++) {
		impost_vcpu_kick(vcpus[i]);
		pthread_join(threads[i], NULL);
	}
	for (uint32_t i = 0; i < CPUS; i++)
		impost_vcpu_destroy(vcpus[i]);
	impost_vm_destroy(vm);
}

static int prepare(struct impost_context *ctx)
{
	struct impost_vm_config config;

	if (vm)
		return 0;
	/* There is nothing that a vCPU could execute. */
	if (impost_context_set(ctx, "backend.mock", "check_entry", "no") ||
	    impost_vm_config_init(ctx, &config))
		return failed(ctx, "configuration");
	config.backend = "mock";
	config.cpus = CPUS;
	config.memory = MEMORY;
	if (impost_vm_create(ctx, &config, &vm))
		return failed(ctx, "VM");
	for (uint32_t i = 0; i < CPUS; i++)
		if (impost_vcpu_create(vm, i, &vcpus[i]))
			return failed(ctx, "vCPU");
	for (; running < CPUS; running++)
		if (pthread_create(&threads[running], NULL, run_on, vcpus[running])) {
			fprintf(stderr, "no thread for a vCPU\n");
			return -1;
		}
	return 0;
}

/* Milliseconds of each of some holds, the median of them. */
static int take_pause(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	const struct timespec settle = {.tv_nsec = SETTLE_NS};
	double ms[TIMES];

	(void)arg;
	if (prepare(ctx))
		return -1;
	for (unsigned int i = 0; i < TIMES; i++) {
		double start;

		nanosleep(&settle, NULL);
		start = now_ns();
		if (impost_vm_hold(vm, TIMEOUT_MS))
			return failed(ctx, "impost_vm_hold");
		ms[i] = (now_ns() - start) / 1e6;
		if (impost_vm_release(vm))
			return failed(ctx, "impost_vm_release");
	}
	if (atomic_load(&broken))
		return failed(ctx, "a vCPU's thread");
	ret[0] = median(ms, TIMES);
	return 0;
}

const struct bench_case pause_cases[] = {{"pause", take_pause, 0}, {NULL, NULL, 0}};
