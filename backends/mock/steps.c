/* SPDX-License-Identifier: Apache-2.0 */
/* A growing list of steps, each with its own copy of its data; and what a step must be like. */
#include "steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <impost/x86_64/state.h>

#define NREGS 18u /* rax to rflags in struct impost_x86_regs */

static int grow(struct mock_steps *steps)
{
	uint32_t capacity = steps->capacity ? steps->capacity * 2 : 16;
	struct impost_mock_step *step;

	if (steps->count < steps->capacity)
		return 0;
	if (steps->count >= MOCK_STEPS_MAX)
		return -ENOSPC;
	step = realloc(steps->step, capacity * sizeof(*step));
	if (!step)
		return -ENOMEM;
	steps->step = step;
	steps->capacity = capacity;
	return 0;
}

int mock_steps_add(struct mock_steps *steps, const struct impost_mock_step *step)
{
	void *data = NULL;
	int err = grow(steps);

	if (err)
		return err;
	if (step->data && step->bytes) {
		data = malloc(step->bytes);
		if (!data)
			return -ENOMEM;
		memcpy(data, step->data, step->bytes);
	}
	steps->step[steps->count] = *step;
	steps->step[steps->count++].data = data;
	return 0;
}

void mock_steps_cut(struct mock_steps *steps, uint32_t count)
{
	while (steps->count > count)
		free((void *)(uintptr_t)steps->step[--steps->count].data);
}

void mock_steps_free(struct mock_steps *steps)
{
	mock_steps_cut(steps, 0);
	free(steps->step);
	*steps = (struct mock_steps){0};
}

/* An access of SIZE bytes, COUNT times, in direction DIR: the same for ports and memory. */
static const char *access_fault(const struct impost_mock_step *step, uint32_t size, uint32_t dir,
				uint32_t count)
{
	if (!count || count > MOCK_XFER_MAX / size)
		return "count is 0, or size * count is above 4096";
	if (dir > IMPOST_EXIT_WRITE)
		return "dir is neither IMPOST_EXIT_READ nor IMPOST_EXIT_WRITE";
	if (dir == IMPOST_EXIT_WRITE && (!step->data || step->bytes != size * count))
		return "a write needs size * count bytes of data";
	if (dir == IMPOST_EXIT_WRITE && step->has_expect)
		return "a write is not answered: has_expect must be 0";
	if (step->has_expect && count > 1)
		return "has_expect needs a count of 1";
	if (step->has_expect && size < 8 && step->expect >> (8 * size))
		return "expect does not fit the access";
	return NULL;
}

static const char *exit_fault(const struct impost_mock_step *step)
{
	const struct impost_exit *x = &step->exit;

	switch (x->kind) {
	case IMPOST_EXIT_IO:
		if (x->u.io.size != 1 && x->u.io.size != 2 && x->u.io.size != 4)
			return "a port access has size 1, 2 or 4";
		return access_fault(step, x->u.io.size, x->u.io.dir, x->u.io.count);
	case IMPOST_EXIT_MMIO:
		if (x->u.mmio.size < 1 || x->u.mmio.size > 8)
			return "a memory access has size 1 to 8";
		return access_fault(step, x->u.mmio.size, x->u.mmio.dir, x->u.mmio.count);
	case IMPOST_EXIT_WRMSR:
		if (!step->data || step->bytes != 8)
			return "WRMSR needs 8 bytes of data";
		return NULL;
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		if (x->u.shutdown.reason < IMPOST_SHUTDOWN_TRIPLE_FAULT ||
		    x->u.shutdown.reason > IMPOST_SHUTDOWN_CRASH)
			return "reason is not one of IMPOST_SHUTDOWN_*";
		return NULL;
	case IMPOST_EXIT_DEBUG:
		if (x->u.debug.vector != 1 && x->u.debug.vector != 3)
			return "the vector of a DEBUG exit is 1 or 3";
		return NULL;
	case IMPOST_EXIT_NONE:
		return "NONE is not an exit";
	default:
		return x->kind < IMPOST_EXIT_KINDS ? NULL : "an exit of no known kind";
	}
}

const char *mock_step_fault(const struct impost_mock_step *step)
{
	if (step->size != sizeof(*step))
		return "size is not sizeof(struct impost_mock_step)";
	switch (step->op) {
	case IMPOST_MOCK_EXIT:
		return exit_fault(step);
	case IMPOST_MOCK_WRITE:
		if (!step->data || !step->bytes || step->bytes > MOCK_WRITE_MAX)
			return "WRITE needs 1 to 65536 bytes of data";
		return step->gpa + step->bytes < step->gpa ? "WRITE wraps around" : NULL;
	case IMPOST_MOCK_DELAY:
		return step->ns <= INT64_MAX ? NULL : "DELAY is longer than 2^63 ns";
	case IMPOST_MOCK_HALT:
		return NULL;
	case IMPOST_MOCK_SET:
		return step->reg < NREGS ? NULL : "reg is 0 (rax) to 17 (rflags)";
	case IMPOST_MOCK_SIPI:
		return step->value <= 0xff ? NULL : "the vector of a startup IPI is 0 to 255";
	default:
		return "op is not one of IMPOST_MOCK_*";
	}
}
