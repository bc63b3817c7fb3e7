/* SPDX-License-Identifier: Apache-2.0 */
/* What `impost ctl` has to say and show of a migration. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include "request.h"
#include "tool.h"

/* Checks the options of a migration, which other commands have none of. Returns STATUS_OK or
 * STATUS_USAGE with a message printed. */
int ctl_check_migrate(const struct invocation *invocation, enum request_command command);

/* Adds the address and the options to REQUEST. Returns false with a message printed. */
bool ctl_compose_migrate(const struct invocation *invocation, struct json_object *request);

/* From here on the first Ctrl-C asks the run at the other end of FD to cancel, and the second one
 * ends this process. The answer has an id, and other lines have none. */
void ctl_catch_interrupt(int fd);

/* Bytes as people read them: "256 MiB", "1.5 GiB", "612 KiB". Valid until the second call from now.
 */
const char *ctl_size(uint64_t bytes);

/* What there is to be said of a migration beside the bar. */
void ctl_note(struct json_object *progress, char *text, size_t size);

/* Prints what came of it; why COMMAND was refused; and a line of status. */
void ctl_print_migrated(struct json_object *reply);
void ctl_print_refusal(const char *command, struct json_object *reply);
void ctl_print_migration(struct json_object *migration);

#endif
