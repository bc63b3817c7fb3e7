/* SPDX-License-Identifier: Apache-2.0 */
/* Case of bench-memory: threads that read, each read a view, while one adds and removes regions. */
#include "memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "timing.h"

enum pace { STILL, PACED, FLAT };

struct swap {
	struct impost_memory *memory;
	uint64_t addresses[SWAP_ADDRESSES];
	pthread_barrier_t ready;
	atomic_bool stop;
};

struct swap_reader {
	struct swap *swap;
	pthread_t thread;
	uint64_t reads;
	double cpu_ns;
	int err;
};

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int read_once(struct swap *swap, uint64_t gpa)
{
	struct impost_view view;
	uint64_t value = 0;
	int err = impost_view_begin(swap->memory, &view);

	if (err)
		return err;
	err = impost_view_read_u64(&view, gpa, &value);
	impost_view_end(&view);
	opaque(value);
	return err;
}

static void *read_until(void *arg)
{
	struct swap_reader *reader = arg;
	struct swap *swap = reader->swap;
	double start;

	pthread_barrier_wait(&swap->ready);
	start = cpu_ns();
	while (!atomic_load_explicit(&swap->stop, memory_order_relaxed)) {
		for (uint32_t i = 0; i < SWAP_ADDRESSES; i++)
			reader->err |= read_once(swap, opaque(swap->addresses[i]));
		reader->reads += SWAP_ADDRESSES;
	}
	reader->cpu_ns = cpu_ns() - start;
	return NULL;
}

/* Adds a region behind the others, and removes it. */
static int change(struct impost_memory *memory)
{
	const struct impost_region region = {.size = sizeof(region),
					     .kind = IMPOST_REGION_ANONYMOUS,
					     .gpa = SWAP_REGIONS * SWAP_BYTES,
					     .bytes = SWAP_BYTES,
					     .flags = IMPOST_REGION_NORESERVE};
	int err = impost_memory_add(memory, &region);

	return err ? err : impost_memory_remove(memory, region.gpa);
}

/* When the next change is due, in nanoseconds from the start, if COUNT have been made by NOW. */
static double due(enum pace pace, int64_t count, double now)
{
	double at = pace == STILL ? SWAP_NS : pace == FLAT ? now : (double)count * 1e9 / SWAP_PACE;

	return at < SWAP_NS ? at : SWAP_NS;
}

/* Changes MEMORY at PACE, for SWAP_NS from START. Returns how often, or a negative number. */
static int64_t change_until(struct impost_memory *memory, enum pace pace, double start)
{
	int64_t count = 0;

	for (;;) {
		double now = now_ns() - start, left = due(pace, count, now) - now;
		struct timespec wait = {.tv_nsec = (long)left};

		if (now >= SWAP_NS)
			return count;
		if (left > 0) {
			nanosleep(&wait, NULL);
			continue;
		}
		if (change(memory))
			return -1;
		count++;
	}
}

/* Lets the readers run, changes the map, and joins them. */
static int measure(struct swap *swap, struct swap_reader *readers, enum pace pace,
		   double ret[MAX_NUMBERS])
{
	double start, ns, reads = 0, cpu = 0;
	int64_t changes;
	int err = 0;

	pthread_barrier_wait(&swap->ready);
	start = now_ns();
	changes = change_until(swap->memory, pace, start);
	atomic_store(&swap->stop, true);
	ns = now_ns() - start;
	for (uint32_t i = 0; i < SWAP_READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		reads += (double)readers[i].reads;
		cpu += readers[i].cpu_ns;
		err |= readers[i].err;
	}
	ret[0] = reads * 1e9 / ns;
	ret[1] = reads * 1e9 / cpu;
	ret[2] = (double)changes * 1e9 / ns;
	return err || changes < 0 ? -1 : 0;
}

/* Reads a second of all readers, reads a CPU second of theirs, and pairs of changes a second. */
static int take_swap(struct impost_context *ctx, uint32_t pace, double ret[MAX_NUMBERS])
{
	struct swap_reader readers[SWAP_READERS] = {0};
	struct swap swap = {0};
	uint64_t state = 1;
	int err;

	for (uint32_t i = 0; i < SWAP_ADDRESSES; i++) {
		swap.addresses[i] = random_below(&state, SWAP_REGIONS) * SWAP_BYTES;
		swap.addresses[i] += random_below(&state, 512) * 8;
	}
	if (make_regions(ctx, SWAP_REGIONS, SWAP_BYTES, &swap.memory))
		return -1;
	pthread_barrier_init(&swap.ready, NULL, SWAP_READERS + 1);
	for (uint32_t i = 0; i < SWAP_READERS; i++) {
		readers[i].swap = &swap;
		if (pthread_create(&readers[i].thread, NULL, read_until, &readers[i])) {
			perror("a thread");
			exit(EXIT_FAILURE); /* others wait at the barrier */
		}
	}
	err = measure(&swap, readers, (enum pace)pace, ret);
	if (err)
		fprintf(stderr, "hot swap: %s\n", impost_error(ctx));
	pthread_barrier_destroy(&swap.ready);
	impost_memory_destroy(swap.memory);
	return err;
}

const struct bench_case swap_cases[] = {
	{"swap-still", take_swap, STILL},
	{"swap-paced", take_swap, PACED},
	{"swap-flat", take_swap, FLAT},
	{NULL, NULL, 0},
};
