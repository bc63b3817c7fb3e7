/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of a snapshot's memory share: memory with a model of it, and files made of it. */
#ifndef TESTS_UNIT_SNAPSHOT_MACHINE_H
#define TESTS_UNIT_SNAPSHOT_MACHINE_H

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core.h"
#include "random.h"

#include "snapshot_file.h"
#include "snapshot_memory.h"
#include "uffd.h"

#define PAGE	IMPOST_PAGE_SIZE
#define REGIONS 3u

/* The regions that there are: some chunks and a part of one, a gap, less than a chunk, and one that
 * adjoins it. */
static const struct {
	uint64_t gpa, bytes;
} places[REGIONS] = {
	{0, UINT64_C(19) * 64 * PAGE + 5 * PAGE},
	{UINT64_C(1) << 32, 3 * PAGE},
	{(UINT64_C(1) << 32) + 3 * PAGE, 70 * PAGE},
};

struct machine {
	struct impost_context *ctx;
	struct impost_memory *memory;
	uint8_t *model[REGIONS];
};

/* The memory of a snapshot, in a file that has no name any more. */
struct saved {
	int fd;
	uint64_t offset;
	void *bytes; /* of the table */
	struct memory_table *table;
	struct snapshot_hash hash;
};

static inline int file_without_name(const char *folder)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	cr_assert(fd >= 0, "%s: %m", folder);
	return fd;
}

/* Descriptors, and mappings of files: threads leave stacks and arenas, which the C library keeps.
 */
static inline struct belongings count_own(void)
{
	struct belongings own = {.fds = count_entries("/proc/self/fd")};
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	while (fgets(line, sizeof(line), file))
		own.maps += strstr(line, "/dev/shm") || strstr(line, "/memfd:");
	fclose(file);
	return own;
}

static inline void expect_same_own(struct belongings before)
{
	struct belongings now = count_own();

	cr_expect(now.fds == before.fds, "%zu descriptors became %zu", before.fds, now.fds);
	cr_expect(now.maps == before.maps, "%zu mappings became %zu", before.maps, now.maps);
}

/* Regions as MADE says, with its gpa and bytes set to each place's. */
static inline void make_machine(struct machine *machine, struct impost_context *ctx,
				const struct impost_region *made)
{
	struct impost_region region = *made;

	machine->ctx = ctx;
	expect_ok(ctx, impost_memory_create(ctx, &machine->memory));
	for (uint32_t i = 0; i < REGIONS; i++) {
		region.size = sizeof(region);
		region.gpa = places[i].gpa;
		region.bytes = places[i].bytes;
		expect_ok(ctx, impost_memory_add(machine->memory, &region));
		machine->model[i] = calloc(1, places[i].bytes);
	}
}

static inline void destroy_machine(struct machine *machine)
{
	cr_expect(impost_memory_destroy(machine->memory) == 0);
	for (uint32_t i = 0; i < REGIONS; i++)
		free(machine->model[i]);
}

/* Writes PAGES pages from PAGE_AT on of region AT: with zeros, or with numbers. */
static inline void write_pages(struct machine *machine, uint32_t at, uint64_t page_at,
			       uint64_t pages, bool zero, uint64_t *state)
{
	uint64_t *model = (uint64_t *)(void *)(machine->model[at] + page_at * PAGE);

	for (uint64_t i = 0; i < pages * PAGE / 8; i++)
		model[i] = zero ? 0 : random_number(state);
	expect_ok(machine->ctx,
		  impost_memory_write(machine->memory, places[at].gpa + page_at * PAGE, model,
				      pages * PAGE));
}

/* Some writes, of single pages and of many. */
static inline void scribble(struct machine *machine, uint64_t *state, unsigned times)
{
	while (times-- > 0) {
		uint32_t at = random_below(state, REGIONS);
		uint32_t all = (uint32_t)(places[at].bytes / PAGE);
		uint64_t first = random_below(state, all), left = all - first;
		uint64_t most = random_below(state, 4) ? 3 : 150;
		uint64_t pages = 1 + random_below(state, (uint32_t)(left < most ? left : most));

		write_pages(machine, at, first, pages, random_below(state, 3) == 0, state);
	}
}

/* MEMORY holds what the model does. */
static inline void expect_memory(struct impost_context *ctx, struct impost_memory *memory,
				 const struct machine *machine, const char *what)
{
	for (uint32_t i = 0; i < REGIONS; i++) {
		uint8_t *copy = malloc(places[i].bytes);
		uint64_t at = 0;

		expect_ok(ctx, impost_memory_read(memory, places[i].gpa, copy, places[i].bytes));
		while (at < places[i].bytes && copy[at] == machine->model[i][at])
			at++;
		cr_expect(at == places[i].bytes, "%s: 0x%llx is 0x%x and not 0x%x", what,
			  (unsigned long long)(places[i].gpa + at), copy[at],
			  machine->model[i][at]);
		free(copy);
	}
}

/* Carries a plan out, into a file of its own. */
static inline void write_plan(struct impost_context *ctx, struct memory_plan *plan, bool diff,
			      const struct snapshot_hash *hash, struct saved *saved)
{
	*saved = (struct saved){.fd = file_without_name("/dev/shm"), .offset = 3 * PAGE};
	saved->hash = *hash;
	cr_assert(ftruncate(saved->fd, (off_t)(saved->offset + memory_plan_area_bytes(plan))) == 0);
	expect_ok(ctx, memory_plan_write(plan, saved->fd, saved->offset));
	saved->bytes = malloc(memory_plan_table_bytes(plan));
	memcpy(saved->bytes, memory_plan_table(plan), memory_plan_table_bytes(plan));
	expect_ok(ctx, memory_table_decode(ctx, saved->bytes, memory_plan_table_bytes(plan),
					   memory_plan_area_bytes(plan), diff, &saved->table));
	memory_plan_commit(plan);
	memory_plan_free(plan);
}

static inline void save(struct machine *machine, const struct memory_write *want,
			struct saved *saved)
{
	struct memory_plan *plan;

	expect_ok(machine->ctx, memory_plan_make(machine->memory, want, &plan));
	write_plan(machine->ctx, plan, want->diff, want->hash, saved);
}

static inline void free_saved(struct saved *saved)
{
	close(saved->fd);
	memory_table_free(saved->table);
	free(saved->bytes);
}

static inline struct memory_layer layer_of(const struct saved *saved)
{
	return (struct memory_layer){saved->table, saved->fd, saved->offset, &saved->hash, "it"};
}

/* Whether this process may have a userfaultfd, without which nothing is lazy or in the background.
 */
static inline bool has_uffd(void)
{
	int fd = uffd_open(0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Restores LAYERS in all ways: each is what the model is. */
static inline void expect_restored(struct machine *machine, const struct memory_layer *layers,
				   uint32_t n)
{
	static const char *const names[] = {"mapped", "copied", "lazy"};
	struct impost_context *ctx = machine->ctx;

	expect_ok(ctx, memory_layers_check(ctx, layers, n));
	expect_ok(ctx, memory_layers_verify(ctx, layers, n, 2, NULL, NULL));
	for (uint32_t how = MEMORY_RESTORE_MAP; how <= MEMORY_RESTORE_LAZY; how++) {
		const struct memory_restore want = {.how = how, .threads = 2};
		struct belongings before = count_own();
		struct impost_memory *memory;

		if (how == MEMORY_RESTORE_LAZY && !has_uffd())
			return;
		expect_ok(ctx, impost_memory_create(ctx, &memory));
		expect_ok(ctx, memory_layers_restore(memory, layers, n, &want));
		expect_memory(ctx, memory, machine, names[how]);
		cr_expect(impost_memory_destroy(memory) == 0);
		expect_same_own(before);
	}
}

#endif
