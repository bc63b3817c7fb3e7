/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that holds a VM and releases it, again and again. It holds beside the host and the
 * migration: where one of them holds already, that costs nothing and changes nothing.
 */
#include "migrate_throttle.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "crew.h"
#include "vm.h"

/* A slice, of which the VM stands for its part: short enough for a guest to answer the network, and
 * long enough for the hold itself not to count. */
#define SLICE_NS UINT64_C(20000000)
/* A vCPU whose thread is elsewhere for so long is not running its guest: it goes on without. */
#define HOLD_MS 100u

struct throttle {
	struct impost_vm *vm;
	pthread_t thread;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	uint32_t percent;
	bool stop;
};

/* Waits until AT, or the end; with the lock. */
static void wait_until(struct throttle *throttle, uint64_t at)
{
	const struct timespec until = {
		.tv_sec = (time_t)(at / 1000000000),
		.tv_nsec = (long)(at % 1000000000),
	};

	while (!throttle->stop && clock_now_ns() < at)
		pthread_cond_timedwait(&throttle->changed, &throttle->lock, &until);
}

/* One slice; *HELD: whether the VM is. It is released late where the backend does not resume it. */
static void do_slice(struct throttle *throttle, bool *held)
{
	uint64_t begin = clock_now_ns(), stands = SLICE_NS / 100 * throttle->percent;

	pthread_mutex_unlock(&throttle->lock);
	if (!*held)
		*held = !vm_hold_by(throttle->vm, HELD_BY_THROTTLE, HOLD_MS);
	pthread_mutex_lock(&throttle->lock);
	if (*held) {
		wait_until(throttle, begin + stands);
		pthread_mutex_unlock(&throttle->lock);
		*held = vm_release_by(throttle->vm, HELD_BY_THROTTLE) != 0;
		pthread_mutex_lock(&throttle->lock);
	}
	wait_until(throttle, clock_now_ns() + SLICE_NS - stands);
}

static void *slice(void *opaque)
{
	struct throttle *throttle = opaque;
	struct impost_context *ctx = throttle->vm->ctx;
	bool held = false;

	pthread_mutex_lock(&throttle->lock);
	while (!throttle->stop)
		do_slice(throttle, &held);
	pthread_mutex_unlock(&throttle->lock);
	if (held && vm_release_by(throttle->vm, HELD_BY_THROTTLE)) {
		context_log(ctx, IMPOST_LOG_ERROR,
			    "a VM that was throttled does not run on, and stays held: %s",
			    impost_error(ctx));
		vm_hand_hold(throttle->vm, HELD_BY_THROTTLE);
	}
	return NULL;
}

static void init_changed(pthread_cond_t *changed)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void free_throttle(struct throttle *throttle)
{
	pthread_cond_destroy(&throttle->changed);
	pthread_mutex_destroy(&throttle->lock);
	free(throttle);
}

int throttle_begin(struct impost_vm *vm, uint32_t percent, struct throttle **ret_throttle)
{
	struct throttle *throttle = calloc(1, sizeof(*throttle));
	int error;

	if (!throttle)
		return impost_error_set(vm->ctx, -ENOMEM, "no memory to throttle a VM");
	throttle->vm = vm;
	throttle->percent = percent;
	pthread_mutex_init(&throttle->lock, NULL);
	init_changed(&throttle->changed);
	error = crew_start(&throttle->thread, slice, throttle);
	if (error) {
		free_throttle(throttle);
		return impost_error_set(vm->ctx, -error, "no thread to throttle a VM: %s",
					strerror(error));
	}
	*ret_throttle = throttle;
	return 0;
}

void throttle_set(struct throttle *throttle, uint32_t percent)
{
	pthread_mutex_lock(&throttle->lock);
	throttle->percent = percent;
	pthread_mutex_unlock(&throttle->lock);
}

void throttle_end(struct throttle *throttle)
{
	if (!throttle)
		return;
	pthread_mutex_lock(&throttle->lock);
	throttle->stop = true;
	pthread_cond_signal(&throttle->changed);
	pthread_mutex_unlock(&throttle->lock);
	pthread_join(throttle->thread, NULL);
	free_throttle(throttle);
}
