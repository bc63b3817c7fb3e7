/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a descriptor, with a limit, and until somebody wants an end of it. */
#ifndef TOOLS_READY_H
#define TOOLS_READY_H

#include <stdint.h>

/* When TIMEOUT_MS from now are over, by the clock of clock.h. */
uint64_t ready_deadline(uint32_t timeout_ms);

/* Waits for EVENTS of FD (-1: for nothing) until UNTIL: 1; 0: they did not come; -ECANCELED: STOP
 * (-1: none) can be read; or another errno of poll(2). */
int ready_wait(int fd, int stop, short events, uint64_t until);

#endif
