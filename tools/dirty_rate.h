/* SPDX-License-Identifier: Apache-2.0 */
/* What `impost run --dirty-rate` tells while a guest runs: how many pages are written, how fast. */
#ifndef TOOLS_DIRTY_RATE_H
#define TOOLS_DIRTY_RATE_H

#include <stdint.h>

#include "tool.h"

struct dirty_rate {
	struct impost_dirty *dirty; /* NULL: nothing is told */
	int timer;		    /* timerfd: an interval is over; -1: there is none */
};

/* Milliseconds of an interval: what --dirty-rate says. 0, with a message: it says nonsense. */
uint32_t dirty_rate_interval(const struct invocation *invocation);

/* Begins, with intervals of MS. Returns 0 or a negative error with its text on VM's context. */
int dirty_rate_open(struct dirty_rate *rate, struct impost_vm *vm, uint32_t ms);

/* To be called when the timer is readable: tells of the interval that is over. */
void dirty_rate_tick(struct dirty_rate *rate, const struct invocation *invocation);

/* Tells of all intervals, up to now. */
void dirty_rate_total(struct dirty_rate *rate, const struct invocation *invocation);

/* Ends it; it may not have begun. */
void dirty_rate_close(struct dirty_rate *rate);

#endif
