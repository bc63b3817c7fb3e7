/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that work while they are saved and loaded: threads change each under its mutex, others
 * save it and load what was saved. A plain program, as threads.c is; ThreadSanitizer finds what is
 * touched without the lock, and each saved form must be one that the device has had.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <impost/impost.h>

#define WORKERS 2u
#define SAVERS	2u
#define ROUNDS	2000u

/* `twice` is always 2 * `value`, but for whoever holds the lock. */
struct device {
	pthread_mutex_t lock;
	uint32_t value, twice;
	uint32_t queue[8];
	uint32_t nqueue;
};

struct saved {
	uint32_t value, twice;
	uint32_t *queue;
	uint32_t nqueue;
};

static struct impost_context *ctx;
static struct device device = {.lock = PTHREAD_MUTEX_INITIALIZER};
static atomic_uint failed, loads;

static int to_saved(const void *runtime, void *saved)
{
	const struct device *in = runtime;
	struct saved *out = saved;

	*out = (struct saved){in->value, in->twice, NULL, in->nqueue};
	out->queue = malloc(sizeof(in->queue));
	if (!out->queue)
		return -ENOMEM;
	memcpy(out->queue, in->queue, sizeof(in->queue));
	return 0;
}

static int from_saved(const void *saved, void *runtime)
{
	const struct saved *in = saved;
	struct device *out = runtime;

	out->value = in->value;
	out->twice = in->twice;
	out->nqueue = in->nqueue;
	if (in->nqueue)
		memcpy(out->queue, in->queue, in->nqueue * sizeof(out->queue[0]));
	return 0;
}

static int check(const void *saved, char *text, size_t room)
{
	const struct saved *in = saved;
	int right = in->twice == 2 * in->value && in->nqueue == in->value % 8;

	for (uint32_t i = 0; i < in->nqueue; i++)
		right = right && in->queue[i] == in->value;
	snprintf(text, room, "%s", right ? "" : "it was taken in the middle of a change");
	return right ? 0 : -EINVAL;
}

IMPOST_FIELDS(fields, IMPOST_FIELD_UINT(struct saved, value, 1, 0, "A value"),
	      IMPOST_FIELD_UINT(struct saved, twice, 1, 0, "Twice that"),
	      IMPOST_FIELD_POINTER_TO(struct saved, queue, UINT, nqueue, 8, 1, "So many of them"), )
IMPOST_RECORD(record, "device", struct saved, 1, 1, 1, fields, "A device",
	      IMPOST_LOCK(struct device, lock), .to_saved = to_saved, .from_saved = from_saved,
	      .check = check)

static void *work(void *seed)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t value = i * 7 + *(unsigned *)seed;

		pthread_mutex_lock(&device.lock);
		device.value = value;
		device.twice = 2 * value;
		device.nqueue = value % 8;
		for (uint32_t n = 0; n < device.nqueue; n++)
			device.queue[n] = value;
		pthread_mutex_unlock(&device.lock);
	}
	return NULL;
}

static void *save_and_load(void *unused)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		void *data;
		size_t len;
		int err = impost_record_save_new(ctx, &record, &device, &data, &len);

		if (!err) {
			err = impost_record_load(ctx, &record, &device, data, len);
			free(data);
		}
		if (err) {
			printf("# %s\n", impost_error(ctx));
			atomic_store(&failed, 1);
		}
		atomic_fetch_add(&loads, 1);
	}
	return unused;
}

int main(void)
{
	pthread_t threads[WORKERS + SAVERS];
	unsigned seeds[WORKERS], i;

	if (impost_context_open(NULL, NULL, &ctx))
		return 2;
	for (i = 0; i < WORKERS; i++) {
		seeds[i] = i;
		pthread_create(&threads[i], NULL, work, &seeds[i]);
	}
	for (; i < WORKERS + SAVERS; i++)
		pthread_create(&threads[i], NULL, save_and_load, NULL);
	for (i = 0; i < WORKERS + SAVERS; i++)
		pthread_join(threads[i], NULL);
	if (loads != SAVERS * ROUNDS || impost_context_close(ctx))
		failed = 1;
	printf("1..1\n%sok 1 - a device works while it is saved and loaded\n",
	       failed ? "not " : "");
	return failed ? 1 : 0;
}
