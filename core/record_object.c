/* SPDX-License-Identifier: Apache-2.0 */
/* Records of objects that live: between their runtime form and what is encoded. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "record.h"
#include "text.h"

/* One save or load. */
struct object {
	struct impost_context *ctx;
	const struct impost_record *record;
	void *runtime;
};

/* What step NAME returned: 0 or an error, with the step's own text or one that names it. */
static int judge(const struct object *o, uint64_t serial, int result, const char *name)
{
	if (result == 0)
		return 0;
	if (result > 0)
		return record_fail(o->ctx, -EINVAL, o->record, NULL,
				   "its step %s returned %d, which is no result", name, result);
	if (!o->ctx || error_serial(o->ctx) == serial)
		record_fail(o->ctx, result, o->record, NULL, "its step %s failed: %s", name,
			    impost_error_name(result));
	return result;
}

#define STEP(o, name, ...)                                                                        \
	({                                                                                        \
		uint64_t serial_ = (o)->ctx ? error_serial((o)->ctx) : 0;                         \
		(o)->record->name ? judge(o, serial_, (o)->record->name(__VA_ARGS__), #name) : 0; \
	})

static pthread_mutex_t *lock_of(const struct object *o)
{
	return (void *)((uint8_t *)o->runtime + o->record->lock - 1);
}

static int lock(const struct object *o)
{
	int err = o->record->lock ? pthread_mutex_lock(lock_of(o)) : 0;

	return err ? record_fail(o->ctx, -err, o->record, NULL, "its lock cannot be taken: %s",
				 impost_error_name(err))
		   : 0;
}

static void unlock(const struct object *o)
{
	if (o->record->lock)
		pthread_mutex_unlock(lock_of(o));
}

/* Copies the members that are described, which are in place, and their counters. */
static void copy_members(const struct impost_record *record, void *dst, const void *src)
{
	for (uint32_t i = 0; i < record->nfields; i++) {
		const struct impost_field *field = record_field(record, i);

		memcpy((uint8_t *)dst + field->offset, (const uint8_t *)src + field->offset,
		       (size_t)field->bytes * field->count);
		memcpy((uint8_t *)dst + field->count_offset,
		       (const uint8_t *)src + field->count_offset, field->count_bytes);
	}
}

/* Under the lock. */
static int to_saved(const struct object *o, void *saved)
{
	if (o->record->to_saved)
		return STEP(o, to_saved, o->runtime, saved);
	copy_members(o->record, saved, o->runtime);
	return 0;
}

static int from_saved(const struct object *o, const void *saved)
{
	if (o->record->from_saved)
		return STEP(o, from_saved, saved, o->runtime);
	copy_members(o->record, o->runtime, saved);
	return 0;
}

/* A zeroed saved form with room for the longest tail. */
static void *new_saved(const struct object *o)
{
	size_t bytes = o->record->bytes ? o->record->bytes : 1;
	void *saved;

	for (uint32_t i = 0; i < o->record->nfields; i++) {
		const struct impost_field *field = record_field(o->record, i);
		size_t end = field->offset + (size_t)field->bytes * field->count;

		if (field->where == IMPOST_FIELD_TAIL && end > bytes)
			bytes = end;
	}
	saved = calloc(1, bytes);
	if (!saved)
		impost_error_set(o->ctx, -ENOMEM, "no memory for record %s", o->record->name);
	return saved;
}

static int check(struct impost_context *ctx, const struct impost_record *record)
{
	int err = record_check(ctx, record, 0);
	const char *bad = err ? NULL : record_bad_runtime(record);

	return bad ? record_fail(ctx, -EINVAL, record, NULL, "%s", bad) : err;
}

/* --- saving --- */

/* The saved form of O: *ret_saved is freed by record_free(). */
static int take_saved(const struct object *o, void **ret_saved)
{
	void *saved = new_saved(o);
	int err = saved ? lock(o) : -ENOMEM;

	if (!err) {
		err = to_saved(o, saved);
		unlock(o);
	}
	if (err) {
		if (saved)
			record_free(o->record, saved);
		return err;
	}
	*ret_saved = saved;
	return 0;
}

/* The steps before it is encoded: ends with end_save() if it went well. */
static int begin_save(const struct object *o, void **ret_saved)
{
	int err = check(o->ctx, o->record);

	if (!err)
		err = STEP(o, pre_save, o->runtime);
	if (err)
		return err;
	err = take_saved(o, ret_saved);
	if (err && o->record->post_save)
		o->record->post_save(o->runtime, err);
	return err;
}

/* And those after: ERR is how encoding went. */
static int end_save(const struct object *o, void *saved, int err)
{
	record_free(o->record, saved);
	if (o->record->post_save)
		o->record->post_save(o->runtime, err);
	return err;
}

int impost_record_save_new(struct impost_context *ctx, const struct impost_record *record,
			   void *runtime, void **ret_data, size_t *ret_len)
{
	const struct object o = {ctx, record, runtime};
	void *saved;
	int err = begin_save(&o, &saved);

	return err ? err
		   : end_save(&o, saved, record_encode_new(ctx, record, saved, ret_data, ret_len));
}

int impost_record_save(struct impost_context *ctx, const struct impost_record *record,
		       void *runtime, void *buf, size_t capacity, size_t *ret_len)
{
	const struct object o = {ctx, record, runtime};
	void *saved;
	int err = begin_save(&o, &saved);

	return err ? err
		   : end_save(&o, saved,
			      impost_record_encode(ctx, record, saved, buf, capacity, ret_len));
}

/* --- loading --- */

static int judge_saved(const struct object *o, const void *saved)
{
	char text[256] = "";

	if (!o->record->check || o->record->check(saved, text, sizeof(text)) == 0)
		return 0;
	text[sizeof(text) - 1] = '\0';
	return record_fail(o->ctx, -IMPOST_EFORMAT, o->record, NULL, "%s",
			   *text ? text : "its values cannot be together");
}

int record_load_prepare(struct impost_context *ctx, const struct impost_record *record,
			void *runtime, const void *data, size_t len, struct record_load *ret_load)
{
	const struct object o = {ctx, record, runtime};
	struct record_load load = {.ctx = ctx, .record = record, .runtime = runtime};
	size_t bytes;
	int err = check(ctx, record);

	if (!err)
		err = record_decode_new(ctx, record, data, len, &load.saved, &bytes, &load.version);
	if (err)
		return err;
	err = judge_saved(&o, load.saved);
	if (err)
		record_free(record, load.saved);
	else
		*ret_load = load;
	return err;
}

/* Puts LOAD's saved form in place, and what was there into BEFORE. */
static int exchange(const struct object *o, const struct record_load *load, void *before)
{
	int err = lock(o);

	if (err)
		return err;
	err = to_saved(o, before);
	if (!err) {
		err = from_saved(o, load->saved);
		if (err)
			from_saved(o, before); /* must not fail: record.h */
	}
	unlock(o);
	return err;
}

static void put_back(const struct object *o, const void *before)
{
	/* A lock that could be taken a moment ago; without it, it would stay half loaded. */
	lock(o);
	from_saved(o, before);
	unlock(o);
}

int record_load_apply(struct record_load *load)
{
	const struct object o = {load->ctx, load->record, load->runtime};
	const struct impost_record *record = load->record;
	void *before = new_saved(&o);
	int err = before ? STEP(&o, pre_load, o.runtime) : -ENOMEM;

	if (err) {
		free(before);
		return err;
	}
	err = exchange(&o, load, before);
	if (!err) {
		err = STEP(&o, post_load, o.runtime, load->version);
		if (err)
			put_back(&o, before);
	}
	if (!err) {
		load->before = before;
		return 0;
	}
	record_free(record, before);
	if (record->load_failed)
		record->load_failed(o.runtime, err);
	return err;
}

void record_load_undo(struct record_load *load, int result)
{
	const struct object o = {load->ctx, load->record, load->runtime};

	if (!load->before)
		return;
	put_back(&o, load->before);
	record_free(load->record, load->before);
	load->before = NULL;
	if (load->record->load_failed)
		load->record->load_failed(load->runtime, result);
}

void record_load_end(struct record_load *load)
{
	record_free(load->record, load->saved);
	if (load->before)
		record_free(load->record, load->before);
	*load = (struct record_load){.ctx = NULL};
}

int impost_record_load(struct impost_context *ctx, const struct impost_record *record,
		       void *runtime, const void *data, size_t len)
{
	struct record_load load;
	int err = record_load_prepare(ctx, record, runtime, data, len, &load);

	if (err)
		return err;
	err = record_load_apply(&load);
	record_load_end(&load);
	return err;
}
