/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest's ACPI tables tell of this machine. */
#ifndef TOOLS_TABLES_H
#define TOOLS_TABLES_H

#include <impost/impost.h>

/* Fills what the library cannot know of VM's machine; what it points to is static. */
void tables_describe(const struct impost_vm *vm, struct impost_x86_acpi_config *ret_acpi);

#endif
