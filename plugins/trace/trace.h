/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `trace`: what its pieces know of each other. */
#ifndef PLUGINS_TRACE_H
#define PLUGINS_TRACE_H

#include <stdatomic.h>

#include "layer.h"

extern const struct impost_backend_ops impost_trace_ops;
extern const struct impost_option_desc impost_trace_options[];
#define IMPOST_TRACE_NOPTIONS 3u

/* The layer's own data. */
struct trace {
	uint32_t times, debug; /* options */
	int log;	       /* descriptor of the file; -1: none */
	atomic_uint log_lost;  /* 1: a line could not be written, which was told */
	uint64_t opened;       /* when, in nanoseconds of the monotonic clock */
};

/* Writes a line about CALL, which came to RESULT at END after NS nanoseconds. */
void trace_log(struct trace *trace, const struct layer_call *call, int32_t result, uint64_t end,
	       uint64_t ns);

#endif
