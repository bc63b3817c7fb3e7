/* SPDX-License-Identifier: Apache-2.0 */
/* Records of objects that live: their steps, their lock, and loads that change all or nothing. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "core.h"

/* A device as it runs, and what is saved of it. */
struct device {
	pthread_mutex_t lock;
	uint32_t a, b; /* b is always 2 * a */
	uint16_t *queue;
	uint32_t nqueue;
	/* What happened, and what is to. */
	char log[256];
	const char *fails;
	int encoded_locked, encoded_free;
};

struct device_saved {
	uint32_t a, b;
	uint16_t *queue;
	uint32_t nqueue;
};

static struct device *watched; /* by the encoder below */

static bool is_locked(struct device *device)
{
	if (pthread_mutex_trylock(&device->lock))
		return true;
	pthread_mutex_unlock(&device->lock);
	return false;
}

/* In place of libcbor's: every number from 24 on that is written comes by here. */
IMPOST_API size_t cbor_encode_uint(uint64_t value, unsigned char *buffer, size_t size);
size_t cbor_encode_uint(uint64_t value, unsigned char *buffer, size_t size)
{
	size_t (*real)(uint64_t, unsigned char *, size_t) =
		(size_t(*)(uint64_t, unsigned char *, size_t))dlsym(RTLD_NEXT, "cbor_encode_uint");

	if (watched && is_locked(watched))
		watched->encoded_locked++;
	else if (watched)
		watched->encoded_free++;
	return real(value, buffer, size);
}

/* Step NAME is taken: with a star if the lock is held. -EIO if it is to fail. */
static int step(struct device *device, const char *name)
{
	size_t len = strlen(device->log);

	snprintf(device->log + len, sizeof(device->log) - len, "%s%s%s", len ? " " : "",
		 is_locked(device) ? "*" : "", name);
	return device->fails && strcmp(device->fails, name) == 0 ? -EIO : 0;
}

static int device_to_saved(const void *runtime, void *saved)
{
	const struct device *device = runtime;
	struct device_saved *out = saved;

	out->a = device->a;
	out->b = device->b;
	out->queue = malloc(device->nqueue * sizeof(*out->queue) + 1);
	memcpy(out->queue, device->queue, device->nqueue * sizeof(*out->queue));
	out->nqueue = device->nqueue;
	/* Of a const object only the log is written. */
	return step((struct device *)(uintptr_t)device, "to_saved");
}

static int device_from_saved(const void *saved, void *runtime)
{
	const struct device_saved *in = saved;
	struct device *device = runtime;
	int err;

	device->a = in->a;
	err = step(device, "from_saved");
	if (err) {
		/* In the middle, and only this once. */
		device->fails = NULL;
		return err;
	}
	device->b = in->b;
	device->nqueue = in->nqueue;
	device->queue = realloc(device->queue, in->nqueue * sizeof(*in->queue) + 1);
	if (in->nqueue)
		memcpy(device->queue, in->queue, in->nqueue * sizeof(*in->queue));
	return 0;
}

static int device_pre_save(void *runtime)
{
	return step(runtime, "pre_save");
}

static void device_post_save(void *runtime, int result)
{
	step(runtime, result ? "post_save(failed)" : "post_save");
}

static int device_pre_load(void *runtime)
{
	return step(runtime, "pre_load");
}

static int device_post_load(void *runtime, uint32_t version)
{
	cr_expect_eq(version, 1);
	return step(runtime, "post_load");
}

static void device_load_failed(void *runtime, int result)
{
	cr_expect(result < 0);
	step(runtime, "load_failed");
}

static int device_check(const void *saved, char *text, size_t room)
{
	const struct device_saved *in = saved;

	if (in->b == 2 * in->a)
		return 0;
	snprintf(text, room, "b is %u, not twice a, which is %u", in->b, in->a);
	return -EINVAL;
}

IMPOST_FIELDS(device_fields, IMPOST_FIELD_UINT(struct device_saved, a, 1, 0, "A"),
	      IMPOST_FIELD_UINT(struct device_saved, b, 1, 0, "Twice A"),
	      IMPOST_FIELD_POINTER_TO(struct device_saved, queue, UINT, nqueue, 16, 1, "Waiting"), )
IMPOST_RECORD(device_record, "device", struct device_saved, 1, 1, 1, device_fields, "A device",
	      IMPOST_LOCK(struct device, lock), .to_saved = device_to_saved,
	      .from_saved = device_from_saved, .pre_save = device_pre_save,
	      .post_save = device_post_save, .pre_load = device_pre_load,
	      .post_load = device_post_load, .load_failed = device_load_failed,
	      .check = device_check)

static void make_device(struct device *device, uint32_t a)
{
	*device = (struct device){.lock = PTHREAD_MUTEX_INITIALIZER,
				  .a = a,
				  .b = 2 * a,
				  .queue = calloc(4, sizeof(uint16_t)),
				  .nqueue = a % 4};
	device->queue[0] = (uint16_t)a;
}

static void expect_device(const struct device *device, uint32_t a)
{
	cr_expect(device->a == a && device->b == 2 * a && device->nqueue == a % 4);
	cr_expect(device->nqueue == 0 || device->queue[0] == a);
}

#define expect_log(device, text)                                                               \
	do {                                                                                   \
		cr_expect(strcmp((device).log, text) == 0, "it is: %s, not: %s", (device).log, \
			  text);                                                               \
		(device).log[0] = '\0';                                                        \
	} while (0)

Test(record_object, the_lock_is_held_while_it_is_converted_and_at_no_other_time)
{
	struct impost_context *ctx = open_context();
	struct device from, to;
	void *data;
	size_t len;

	make_device(&from, 1007);
	make_device(&to, 2);
	watched = &from;
	expect_ok(ctx, impost_record_save_new(ctx, &device_record, &from, &data, &len));
	watched = NULL;
	cr_expect(from.encoded_locked == 0 && from.encoded_free > 0,
		  "%d numbers encoded under the lock, %d not", from.encoded_locked,
		  from.encoded_free);
	expect_log(from, "pre_save *to_saved post_save");
	expect_ok(ctx, impost_record_load(ctx, &device_record, &to, data, len));
	expect_log(to, "pre_load *to_saved *from_saved post_load");
	expect_device(&to, 1007);
	free(data);
	free(from.queue);
	free(to.queue);
	impost_context_close(ctx);
}

Test(record_object, a_save_that_fails_says_so_to_the_device)
{
	static const struct {
		const char *fails, *log;
	} steps[] = {{"pre_save", "pre_save"},
		     {"to_saved", "pre_save *to_saved post_save(failed)"}};
	struct impost_context *ctx = open_context();
	struct device device;
	uint8_t data[256];
	size_t len = 99;

	make_device(&device, 3);
	for (int i = 0; i < 2; i++) {
		device.fails = steps[i].fails;
		expect_error(ctx,
			     impost_record_save(ctx, &device_record, &device, data, sizeof(data),
						&len),
			     -EIO, steps[i].fails);
		expect_log(device, steps[i].log);
		cr_expect(len == 99 && !is_locked(&device));
	}
	device.fails = NULL;
	expect_error(ctx, impost_record_save(ctx, &device_record, &device, data, 10, &len), -ENOSPC,
		     "room for 10");
	cr_expect(len > 10 && len < sizeof(data));
	expect_log(device, "pre_save *to_saved post_save(failed)");
	expect_ok(ctx, impost_record_save(ctx, &device_record, &device, data, len, &len));
	free(device.queue);
	impost_context_close(ctx);
}

Test(record_object, a_load_that_fails_leaves_the_device_as_it_was)
{
	static const struct {
		const char *fails, *log;
	} steps[] = {
		{"pre_load", "pre_load"},
		{"to_saved", "pre_load *to_saved load_failed"},
		{"from_saved", "pre_load *to_saved *from_saved *from_saved load_failed"},
		{"post_load", "pre_load *to_saved *from_saved post_load *from_saved load_failed"},
	};
	struct impost_context *ctx = open_context();
	struct device from, to;
	void *data;
	size_t len;

	make_device(&from, 7);
	make_device(&to, 2);
	expect_ok(ctx, impost_record_save_new(ctx, &device_record, &from, &data, &len));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		to.fails = steps[i].fails;
		expect_error(ctx, impost_record_load(ctx, &device_record, &to, data, len), -EIO,
			     steps[i].fails);
		expect_log(to, steps[i].log);
		expect_device(&to, 2);
		cr_expect(!is_locked(&to));
	}
	to.fails = NULL;
	expect_error(ctx, impost_record_load(ctx, &device_record, &to, data, len - 1),
		     -IMPOST_EFORMAT, "record device");
	expect_log(to, "");
	free(data);
	from.b++;
	expect_ok(ctx, impost_record_save_new(ctx, &device_record, &from, &data, &len));
	expect_error(ctx, impost_record_load(ctx, &device_record, &to, data, len), -IMPOST_EFORMAT,
		     "b is 15, not twice a");
	expect_log(to, "");
	expect_device(&to, 2);
	free(data);
	free(from.queue);
	free(to.queue);
	impost_context_close(ctx);
}

/* --- a struct that is its own saved form --- */

struct plain {
	uint64_t not_described;
	pthread_mutex_t lock;
	uint32_t value;
	uint8_t bytes[4];
	uint16_t nbytes;
};

IMPOST_FIELDS(plain_fields, IMPOST_FIELD_UINT(struct plain, value, 1, 0, "A value"),
	      IMPOST_FIELD_BYTES(struct plain, bytes, 1, "Some bytes",
				 IMPOST_COUNTED(struct plain, nbytes)), )
IMPOST_RECORD(plain_record, "plain", struct plain, 1, 1, 1, plain_fields, "Plain",
	      IMPOST_LOCK(struct plain, lock))
IMPOST_RECORD(half_record, "half", struct device_saved, 1, 1, 1, device_fields, "Half",
	      .to_saved = device_to_saved)
IMPOST_RECORD(none_record, "none", struct device_saved, 1, 1, 1, device_fields, "None")

Test(record_object, without_conversion_the_members_that_are_described_are_copied)
{
	struct impost_context *ctx = open_context();
	struct plain from = {1, PTHREAD_MUTEX_INITIALIZER, 5, {1, 2, 3, 4}, 3};
	struct plain to = {2, PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP, 6, {9, 9, 9, 9}, 1};
	uint8_t data[128];
	size_t len;

	expect_ok(ctx, impost_record_save(ctx, &plain_record, &from, data, sizeof(data), &len));
	expect_ok(ctx, impost_record_load(ctx, &plain_record, &to, data, len));
	cr_expect(to.not_described == 2 && to.value == 5 && to.nbytes == 3);
	cr_expect(memcmp(to.bytes, "\1\2\3", 3) == 0);
	/* A lock that cannot be taken is an error, and the device stays as it was. */
	to.value = 7;
	pthread_mutex_lock(&to.lock);
	expect_error(ctx, impost_record_load(ctx, &plain_record, &to, data, len), -EDEADLK, "lock");
	expect_error(ctx, impost_record_save(ctx, &plain_record, &to, data, sizeof(data), &len),
		     -EDEADLK, "lock");
	cr_expect_eq(to.value, 7);
	pthread_mutex_unlock(&to.lock);
	impost_context_close(ctx);
}

Test(record_object, what_cannot_be_converted_is_refused)
{
	struct impost_context *ctx = open_context();
	struct device device;
	void *data;
	size_t len;

	make_device(&device, 1);
	expect_error(ctx, impost_record_verify(ctx, &half_record), -EINVAL, "needs both");
	expect_error(ctx, impost_record_save_new(ctx, &half_record, &device, &data, &len), -EINVAL,
		     "needs both");
	expect_ok(ctx, impost_record_verify(ctx, &none_record));
	expect_error(ctx, impost_record_save_new(ctx, &none_record, &device, &data, &len), -EINVAL,
		     "to_saved");
	expect_error(ctx, impost_record_load(ctx, &none_record, &device, "", 0), -EINVAL,
		     "to_saved");
	free(device.queue);
	impost_context_close(ctx);
}
