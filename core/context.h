/* SPDX-License-Identifier: Apache-2.0 */
/* The context as the core sees it. */
#ifndef CORE_CONTEXT_H
#define CORE_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <impost/context.h>

#include "config.h"
#include "plugin.h"

struct errors;

struct impost_context {
	impost_log_fn log;
	void *opaque;
	_Atomic uint32_t log_level;
	struct errors *errors;
	const uint32_t *alive; /* 1 in the process that opened the context, 0 in its forks */
	atomic_uint vms;
	pthread_mutex_t lock; /* what follows */
	struct config config;
	struct registry registry;
};

/* Whether this process is a fork of the one that opened CTX. One load: it is on the path of run. */
static inline bool context_forked(const struct impost_context *ctx)
{
	return __builtin_expect(*(const volatile uint32_t *)ctx->alive == 0, 0);
}

/* Sets the text that goes with it and returns -IMPOST_EFORKED. */
int context_refuse_fork(struct impost_context *ctx);

/* Logs a printf-like line, if LEVEL is wanted. */
void context_log(const struct impost_context *ctx, uint32_t level, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);

/* The calling thread's number of texts set on CTX so far: tells whether a call has set one. */
uint64_t error_serial(const struct impost_context *ctx);

/* The error texts of a context. */
struct errors *errors_create(void);
void errors_close(struct errors *errors);

#endif
