/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on their way to the host's callback. */
#include <impost/log.h>

#include <stdio.h>

#include "context.h"
#include "text.h"

const char *impost_log_level_name(uint32_t level)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	return level < ARRAY_SIZE(names) ? names[level] : "?";
}

void context_log(const struct impost_context *ctx, uint32_t level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!ctx->log || level > ctx->log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text_clean(text);
	ctx->log(ctx->opaque, level, text);
}
