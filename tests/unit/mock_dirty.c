/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking over the mock's log, of each kind that it plays, against the model. */
#include "../dirty_model.h"
#include "mock.h"

/* Writes a byte at each address, and comes back. */
static void guest_writes(void *arg, const uint64_t *gpa, uint32_t count)
{
	static const uint8_t byte = 1;
	const struct impost_mock_step halt = {
		.size = sizeof(halt),
		.op = IMPOST_MOCK_EXIT,
		.exit = {.size = sizeof(halt.exit), .kind = IMPOST_EXIT_HLT},
	};
	struct mock *m = arg;

	for (uint32_t i = 0; i < count; i++) {
		const struct impost_mock_step write = {.size = sizeof(write),
						       .op = IMPOST_MOCK_WRITE,
						       .gpa = gpa[i],
						       .bytes = 1,
						       .data = &byte};

		append(m, 0, &write, 1);
	}
	append(m, 0, &halt, 1);
	run_to(m, IMPOST_EXIT_HLT);
}

static void walk(const char *log, uint64_t seed)
{
	static struct model model;
	struct mock m;

	mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 1, "dirty_log", log);
	model = (struct model){
		.ctx = m.ctx,
		.memory = impost_vm_memory(m.vm),
		.guest_writes = guest_writes,
		.arg = &m,
		.rom = true,
		.backend = true,
		.seed = seed,
	};
	model_begin(&model);
	model_walk(&model, 1500);
	model_end(&model);
	model_begin(&model);
	model_loose_walk(&model, 3000);
	model_end(&model);
	mock_close(&m);
}

Test(mock_dirty, cleared_by_hand)
{
	walk("manual", 17);
}

Test(mock_dirty, cleared_by_fetching)
{
	walk("auto", 18);
}
