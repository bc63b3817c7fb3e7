/* SPDX-License-Identifier: Apache-2.0 */
/* A growing list of steps, each with its own copy of its data. */
#ifndef MOCK_STEPS_H
#define MOCK_STEPS_H

#include <stddef.h>
#include <stdint.h>

#include <impost/mock.h>

/* Goes back to step `reg` until it has been passed `value` times (0: for ever). Scripts only. */
#define MOCK_STEP_LOOP 100u

#define MOCK_STEPS_MAX 65536u /* of one vCPU */
#define MOCK_XFER_MAX  4096u  /* bytes of one exit */
#define MOCK_WRITE_MAX 65536u /* bytes of one write */

struct mock_steps {
	struct impost_mock_step *step;
	uint32_t count;
	uint32_t capacity;
};

/* Adds a copy of STEP. -ENOSPC: too many; -ENOMEM. */
int mock_steps_add(struct mock_steps *steps, const struct impost_mock_step *step);

/* Drops all but the first COUNT. */
void mock_steps_cut(struct mock_steps *steps, uint32_t count);

void mock_steps_free(struct mock_steps *steps);

/* NULL, or what is wrong with a step that was made by hand. */
const char *mock_step_fault(const struct impost_mock_step *step);

#endif
