/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O ports of the machine. */
#ifndef TOOLS_PORTS_H
#define TOOLS_PORTS_H

#include <impost/impost.h>

#include "serial.h"

#define PORTS_SERIAL	 0x3f8u
#define PORTS_SERIAL_IRQ 4u
/* Not one of the PICs' lines: a guest that uses no ACPI may have left those open, and no handler.
 */
#define PORTS_VMGENID_IRQ   16u
#define PORTS_RESET_CONTROL 0xcf9u
#define PORTS_RESET_VALUE   6u

/* The sleep registers of a machine that is hardware-reduced (ACPI 6.5, 4.8.3.7). */
#define PORTS_SLEEP_CONTROL 0x600u
#define PORTS_SLEEP_STATUS  0x601u
#define PORTS_SLEEP_TYPE_S5 5u

/* What the guest has asked for. */
enum ports_event { PORTS_NOTHING, PORTS_RESET, PORTS_POWER_OFF };

/* Claims the ports that there are devices at, where the backend needs that. */
int ports_claim(struct impost_vm *vm);

/* Answers an IO exit, and tells the first thing that the guest has asked for with it. */
enum ports_event ports_access(struct serial *serial, const struct impost_exit_io *io);

#endif
