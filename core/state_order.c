/* SPDX-License-Identifier: Apache-2.0 */
/* Both orders, made from the one table. */
#include <stddef.h>

#include "state_steps.h"
#include "text.h"

/* Steps that are of one order alone. */
#define load_complete	NULL
#define take_first_msrs NULL
#define take_late_msrs	NULL

#define STATE_STEP(OBJECT, name, take, load, reason, source) \
	{#name, STATE_OF_##OBJECT, take, load, take_##name, load_##name, reason, source},
static const struct state_step steps[] = {
#include "state_order.def"
};
_Static_assert(ARRAY_SIZE(steps) <= STATE_STEPS, "room in orders");

static uint32_t place(const struct state_step *step, bool load)
{
	return load ? step->load_at : step->take_at;
}

uint32_t state_order(bool load, const struct state_step *order[STATE_STEPS])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ARRAY_SIZE(steps); i++) {
		uint32_t at = count;

		if (!place(&steps[i], load))
			continue;
		for (; at > 0 && place(order[at - 1], load) > place(&steps[i], load); at--)
			order[at] = order[at - 1];
		order[at] = &steps[i];
		count++;
	}
	return count;
}
