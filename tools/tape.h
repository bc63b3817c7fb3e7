/* SPDX-License-Identifier: Apache-2.0 */
/* impost inspect of a cassette. */
#ifndef TOOLS_TAPE_H
#define TOOLS_TAPE_H

#include "tool.h"

/* Whether the file at PATH is a cassette that can be read. */
bool tape_is_one(const char *path);

/* Shows it: what was recorded, how many calls, and how it ends. Returns a status. */
int tape_show(const struct invocation *invocation, const char *path);

#endif
