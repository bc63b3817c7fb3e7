/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O ports of the machine. */
#ifndef TOOLS_PORTS_H
#define TOOLS_PORTS_H

#include <stdbool.h>

#include <impost/impost.h>

#include "serial.h"

#define PORTS_SERIAL_IRQ 4u

/* Claims the ports that there are devices at, where the backend needs that. */
int ports_claim(struct impost_vm *vm);

/* Answers an IO exit. Returns true when the guest has asked for a reset. */
bool ports_access(struct serial *serial, const struct impost_exit_io *io);

#endif
