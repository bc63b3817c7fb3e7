/* SPDX-License-Identifier: Apache-2.0 */
/* The log callback. The library itself never prints. */
#ifndef IMPOST_LOG_H
#define IMPOST_LOG_H

#include <impost/version.h>

/* Severities, most severe first. Fixed numbers: they cross the plugin ABI. */
#define IMPOST_LOG_ERROR 0u
#define IMPOST_LOG_WARN	 1u
#define IMPOST_LOG_INFO	 2u
#define IMPOST_LOG_DEBUG 3u

/*
 * Receives one line of UTF-8 text, without a newline, valid only during the call. May be called by
 * any thread that is inside a library call, by several at once; it must not call back into the
 * library.
 */
typedef void (*impost_log_fn)(void *opaque, uint32_t level, const char *text);

#ifdef __cplusplus
extern "C" {
#endif

/* The name of LEVEL: "error", "warn", "info" or "debug"; "?" for anything else. Static storage. Any
 * thread. */
IMPOST_API const char *impost_log_level_name(uint32_t level);

#ifdef __cplusplus
}
#endif

#endif
