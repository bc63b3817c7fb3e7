/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of `impost cpu` share. */
#ifndef TOOLS_CPU_H
#define TOOLS_CPU_H

#include "tool.h"

/* Opens the template that OPERAND names: one that comes with the library, else a file. Returns
 * STATUS_OK, or STATUS_HOST with a message printed. */
int cpu_open(const struct invocation *invocation, const char *operand,
	     struct impost_x86_template **ret_template);

/* Writes TMPL to the file of --output, or to standard output. Returns a status. */
int cpu_write(const struct invocation *invocation, const struct impost_x86_template *tmpl);

#endif
