/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors. Every call that can fail returns 0 or a negative errno value; the text that says what was
 * wrong, where, and what would be right is kept on the context, one text for each thread.
 *
 * A struct that may grow begins with `size`, which the caller sets to its sizeof. A call that is
 * given one takes what is not there, of an older caller's, to be 0. -EINVAL: `size` is less than
 * the struct ever had, or was never set. -E2BIG: it is a newer caller's, longer than this library
 * knows, and not all that is unknown is 0: something is asked for that would not be done. Where a
 * call fills a struct in, what it does not know becomes 0.
 */
#ifndef IMPOST_ERROR_H
#define IMPOST_ERROR_H

#include <errno.h>
#include <stdarg.h>

#include <impost/version.h>

struct impost_context;

/* Codes beyond errno's range. Like errno values they are returned negated. */
#define IMPOST_EABI    4001 /* a plugin speaks another ABI, or its descriptor is malformed */
#define IMPOST_EPLUGIN 4002 /* no usable plugin of that name */
/* A configuration is wrong; the text has file, line and what would be right. */
#define IMPOST_ECONFIG 4003
#define IMPOST_EIMAGE  4004 /* a kernel or initrd image is malformed or of no known format */
#define IMPOST_EFORKED 4005 /* the calling process is a fork of the one that made the object */
/* The guest state is one that hardware would refuse; the text names the rule. */
#define IMPOST_ESTATE 4006
/* A scripted guest met another answer from the host than the script expects. */
#define IMPOST_EDIVERGED 4007
/* Saved bytes, a record, a state or a snapshot, are not what their format says; the text says
 * where. */
#define IMPOST_EFORMAT 4008
#define IMPOST_EMOVED  4009 /* the VM goes on elsewhere: it was migrated */
/* A migration ended when nobody could know whether the VM goes on elsewhere; see migrate.h. */
#define IMPOST_EUNSETTLED 4010

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The text of the calling thread's last failed call on CTX, without a newline; "" if there was
 * none, or CTX is NULL. It stays valid until this thread's next failing call on CTX, or until CTX
 * is closed. A successful call leaves it.
 */
IMPOST_API const char *impost_error(const struct impost_context *ctx);

/*
 * Sets the calling thread's error text on CTX to the printf-like FMT (cut at 1023 bytes) and
 * returns ERR, so that a function can end in `return impost_error_set(ctx, -EINVAL, "...")`. Meant
 * for the layers above the core (arch, and hosts that extend the library). CTX may be NULL: then
 * nothing is kept.
 */
IMPOST_API int impost_error_set(struct impost_context *ctx, int err, const char *fmt, ...)
	IMPOST_PRINTF(3, 4);
IMPOST_API int impost_error_vset(struct impost_context *ctx, int err, const char *fmt, va_list ap)
	IMPOST_PRINTF(3, 0);

#ifdef __clang_analyzer__
/* An analyzer that sees callers only does not know that ERR comes back. */
#define impost_error_set(ctx, err, ...) (impost_error_set(ctx, err, __VA_ARGS__), (err))
#endif

/*
 * The name of an error code, negated or not: "EINVAL", "EABI"; "E?" when unknown. Static storage.
 * Any thread.
 */
IMPOST_API const char *impost_error_name(int err);

#ifdef __cplusplus
}
#endif

#endif
