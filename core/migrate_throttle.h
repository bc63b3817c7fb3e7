/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the vCPUs of a VM from running for a part of the time, in short slices, so that its memory
 * can be sent faster than it is written.
 */
#ifndef CORE_MIGRATE_THROTTLE_H
#define CORE_MIGRATE_THROTTLE_H

#include <stdint.h>

struct impost_vm;
struct throttle;

/* Begins to, with PERCENT of the time, up to 99. -ENOMEM; -EAGAIN: no thread, with a text. */
int throttle_begin(struct impost_vm *vm, uint32_t percent, struct throttle **ret_throttle);

/* From the next slice on. */
void throttle_set(struct throttle *throttle, uint32_t percent);

/* It is over, and VM not held by it any more. NULL is fine. */
void throttle_end(struct throttle *throttle);

#endif
