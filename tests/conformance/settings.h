/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program was told of the backend under test. Each test is a process of its own, which is
 * started anew and told so by the environment.
 */
#ifndef CONFORMANCE_SETTINGS_H
#define CONFORMANCE_SETTINGS_H

#include <impost/impost.h>

#define ENV_BACKEND  "IMPOST_CONFORM_BACKEND"
#define ENV_LAYERS   "IMPOST_CONFORM_LAYERS"
#define ENV_CONFIG   "IMPOST_CONFORM_CONFIG"
#define ENV_SETTINGS "IMPOST_CONFORM_SETTINGS" /* SECTION.KEY=VALUE, one a line */
#define ENV_LOG	     "IMPOST_CONFORM_LOG"      /* there: the library's log goes to standard error */

/* Gives all of it to CTX. 0, or a negative error value with the context's text. */
int settings_apply(struct impost_context *ctx);

/* Adds a line to ENV_SETTINGS; -1: it is not SECTION.KEY=VALUE. */
int settings_add(const char *text);

#endif
