// SPDX-License-Identifier: Apache-2.0
/*
 * A device whose state is saved: a timer with a mutex, described once (docs/records.md goes through
 * it). It is saved, shown, loaded into a new one, and refuses what cannot be.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <impost/device.h>
#include <impost/record.h>

/* --- the device as it runs --- */

struct timer {
	pthread_mutex_t lock; /* of all that follows */
	uint8_t control;
	uint64_t fires_at; /* on this host's CLOCK_MONOTONIC, in ns; 0: it is stopped */
	char owner[16];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- what is saved of it, and its description --- */

/* Another host has another clock: what is left of the time is what counts. */
struct timer_saved {
	uint8_t control;
	uint64_t left_ns;
	char owner[16];
};

IMPOST_FIELDS(timer_fields,
	      IMPOST_FIELD_HEX_UINT(struct timer_saved, control, 1, 0,
				    "Control register: bit 0 enables, bit 1 repeats", .max = 3),
	      IMPOST_FIELD_UINT(struct timer_saved, left_ns, 1, 0,
				"Nanoseconds until it fires; 0: it is stopped"),
	      IMPOST_FIELD_TEXT(struct timer_saved, owner, 2, "Who has it; empty in version 1"), )

/* The library holds timer->lock around these two, and at no other time. */
static int timer_to_saved(const void *runtime, void *saved)
{
	const struct timer *timer = runtime;
	struct timer_saved *out = saved;
	uint64_t now = now_ns();

	out->control = timer->control;
	if (timer->fires_at)
		out->left_ns = timer->fires_at > now ? timer->fires_at - now : 1;
	memcpy(out->owner, timer->owner, sizeof(out->owner));
	return 0;
}

static int timer_from_saved(const void *saved, void *runtime)
{
	const struct timer_saved *in = saved;
	struct timer *timer = runtime;

	timer->control = in->control;
	timer->fires_at = in->left_ns ? now_ns() + in->left_ns : 0;
	memcpy(timer->owner, in->owner, sizeof(timer->owner));
	return 0;
}

/* What no field can say alone. Nothing has been touched when it is called. */
static int timer_check(const void *saved, char *text, size_t room)
{
	const struct timer_saved *in = saved;

	if (!in->left_ns || in->control & 1)
		return 0;
	snprintf(text, room, "it counts down, and is not enabled");
	return -EINVAL;
}

/* Version 2 added a field, which readers of version 1 can do without. */
IMPOST_RECORD(timer_record, "timer", struct timer_saved, 2, 1, 1, timer_fields,
	      "A timer that counts down in nanoseconds.", IMPOST_LOCK(struct timer, lock),
	      .to_saved = timer_to_saved, .from_saved = timer_from_saved, .check = timer_check)

/* --- what a host does with it --- */

static int print(void *opaque, const char *text, size_t len)
{
	return fwrite(text, 1, len, opaque) == len ? 0 : -EIO;
}

/* With a VM this is impost_vm_add_device(vm, "timer", 0, &timer_record, timer), once, and the
 * states and snapshots of the VM do the rest. */
static int move(struct impost_context *ctx, struct timer *from, struct timer *to)
{
	void *data;
	size_t len;
	int err = impost_record_save_new(ctx, &timer_record, from, &data, &len);

	if (err)
		return err;
	err = impost_cbor_print(ctx, &timer_record, data, len, print, stdout);
	if (!err)
		err = impost_record_load(ctx, &timer_record, to, data, len);
	free(data);
	return err;
}

int main(void)
{
	struct timer from = {.lock = PTHREAD_MUTEX_INITIALIZER, .control = 3, .owner = "guest"};
	struct timer to = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct impost_context *ctx;
	int err;

	if (impost_context_open(NULL, NULL, &ctx))
		return 1;
	err = move(ctx, &from, &to);
	if (err || to.control != 3 || strcmp(to.owner, "guest") != 0) {
		fprintf(stderr, "record: %s %s\n", impost_error_name(err), impost_error(ctx));
		return 1;
	}
	from.control = 0;
	from.fires_at = now_ns() + 1000000000u;
	if (move(ctx, &from, &to) != -IMPOST_EFORMAT || to.control != 3) {
		fprintf(stderr, "record: a timer that cannot be was loaded\n");
		return 1;
	}
	printf("refused: %s\n", impost_error(ctx));
	return impost_context_close(ctx) ? 1 : 0;
}
