/* SPDX-License-Identifier: Apache-2.0 */
/* Error texts, one for each thread and context, and the names of error codes. */
#include <impost/error.h>

#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "text.h"

/*
 * Each thread has a list of its texts, which ends with the thread. A text names its context through
 * this counted object, and not the context itself, which may be closed by another thread: its texts
 * elsewhere are then stale, and go when their thread ends or next needs a new text.
 */
struct errors {
	atomic_uint refs;
	atomic_bool closed;
};

struct text {
	struct text *next;
	struct errors *errors;
	uint64_t serial;
	char text[1024];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static void errors_put(struct errors *errors)
{
	if (atomic_fetch_sub(&errors->refs, 1) == 1)
		free(errors);
}

static void text_free(struct text *text)
{
	errors_put(text->errors);
	free(text);
}

static void thread_ends(void *list)
{
	struct text *text = list, *next;

	for (; text; text = next) {
		next = text->next;
		text_free(text);
	}
}

static void make_key(void)
{
	key_error = pthread_key_create(&key, thread_ends);
}

struct errors *errors_create(void)
{
	struct errors *errors;

	pthread_once(&once, make_key);
	if (key_error)
		return NULL;
	errors = malloc(sizeof(*errors));
	if (!errors)
		return NULL;
	atomic_init(&errors->refs, 1);
	atomic_init(&errors->closed, false);
	return errors;
}

/* Drops the calling thread's texts of closed contexts. */
static void prune(void)
{
	struct text *head = pthread_getspecific(key), **at = &head;

	while (*at) {
		struct text *text = *at;

		if (!atomic_load(&text->errors->closed)) {
			at = &text->next;
			continue;
		}
		*at = text->next;
		text_free(text);
	}
	pthread_setspecific(key, head);
}

void errors_close(struct errors *errors)
{
	atomic_store(&errors->closed, true);
	prune();
	errors_put(errors);
}

static struct text *find(const struct impost_context *ctx)
{
	struct text *text = pthread_getspecific(key);

	while (text && text->errors != ctx->errors)
		text = text->next;
	return text;
}

static struct text *find_or_add(const struct impost_context *ctx)
{
	struct text *text = find(ctx);

	if (text)
		return text;
	prune();
	text = calloc(1, sizeof(*text));
	if (!text)
		return NULL;
	text->next = pthread_getspecific(key);
	if (pthread_setspecific(key, text)) {
		free(text);
		return NULL;
	}
	text->errors = ctx->errors;
	atomic_fetch_add(&ctx->errors->refs, 1);
	return text;
}

const char *impost_error(const struct impost_context *ctx)
{
	const struct text *text = ctx ? find(ctx) : NULL;

	return text ? text->text : "";
}

uint64_t error_serial(const struct impost_context *ctx)
{
	const struct text *text = find(ctx);

	return text ? text->serial : 0;
}

int impost_error_vset(struct impost_context *ctx, int err, const char *fmt, va_list ap)
{
	int saved = errno; /* for %m */
	struct text *text = ctx ? find_or_add(ctx) : NULL;
	char formatted[sizeof(text->text)]; /* an argument may be the present text */

	if (!text)
		return err;
	errno = saved;
	vsnprintf(formatted, sizeof(formatted), fmt, ap);
	text_clean(formatted);
	memcpy(text->text, formatted, sizeof(formatted));
	text->serial++;
	return err;
}

int(impost_error_set)(struct impost_context *ctx, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	impost_error_vset(ctx, err, fmt, ap);
	va_end(ap);
	return err;
}

const char *impost_error_name(int err)
{
	static const struct {
		int err;
		const char *name;
	} own[] = {
		{IMPOST_EABI, "EABI"},		 {IMPOST_EPLUGIN, "EPLUGIN"},
		{IMPOST_ECONFIG, "ECONFIG"},	 {IMPOST_EIMAGE, "EIMAGE"},
		{IMPOST_EFORKED, "EFORKED"},	 {IMPOST_ESTATE, "ESTATE"},
		{IMPOST_EDIVERGED, "EDIVERGED"}, {IMPOST_EFORMAT, "EFORMAT"},
		{IMPOST_EMOVED, "EMOVED"},	 {IMPOST_EUNSETTLED, "EUNSETTLED"},
	};
	const char *name;

	if (err < 0)
		err = err == INT_MIN ? 0 : -err;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (own[i].err == err)
			return own[i].name;
	name = strerrorname_np(err);
	return name && err != 0 ? name : "E?";
}
