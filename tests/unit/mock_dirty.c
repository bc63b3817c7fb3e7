/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking over the mock's log, of each kind that it plays, against the model. */
#include "../dirty_model.h"
#include "mock.h"

#define ASSERT_OK(...) cr_assert_eq((__VA_ARGS__), 0)

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

/* A page counts once in an interval, though the backend, which is told of it, logs it too. */
Test(mock_dirty, a_page_counts_once)
{
	static const char *const logs[] = {"manual", "auto"};

	for (size_t i = 0; i < 2; i++) {
		struct impost_region ram = {.size = sizeof(ram), .bytes = 16 * IMPOST_PAGE_SIZE};
		struct impost_dirty_stats stats = {.size = sizeof(stats)};
		struct impost_memory *memory;
		struct impost_dirty *dirty, *other;
		struct mock m;

		mock_open_with(&m, NULL, IMPOST_IRQCHIP_FULL, 1, "dirty_log", logs[i]);
		memory = impost_vm_memory(m.vm);
		ram.gpa = UINT64_C(1) << 32;
		ASSERT_OK(impost_memory_add(memory, &ram));
		ASSERT_OK(impost_dirty_create(memory, NULL, &dirty));
		ASSERT_OK(impost_dirty_create(
			memory,
			&(struct impost_dirty_config){sizeof(struct impost_dirty_config),
						      IMPOST_DIRTY_HOST_ONLY},
			&other));
		ASSERT_OK(impost_memory_fill(memory, ram.gpa, 1, 1));
		ASSERT_OK(impost_dirty_sync(other)); /* takes the mark; the log comes later */
		ASSERT_OK(impost_dirty_sync(dirty));
		ASSERT_OK(impost_dirty_stats(dirty, &stats));
		cr_expect(stats.from_log == 1 && stats.from_host == 1 && stats.pending == 1);
		cr_expect(stats.last_pages == 1 && stats.all_pages == 1, "%s", logs[i]);
		ASSERT_OK(impost_dirty_sync(dirty));
		ASSERT_OK(impost_dirty_stats(dirty, &stats));
		cr_expect(stats.last_pages == 0 && stats.all_pages == 1, "%s", logs[i]);
		ASSERT_OK(impost_dirty_destroy(other));
		ASSERT_OK(impost_dirty_destroy(dirty));
		mock_close(&m);
	}
}

Test(mock_dirty, cleared_by_hand)
{
	walk("manual", 17);
}

Test(mock_dirty, cleared_by_fetching)
{
	walk("auto", 18);
}
