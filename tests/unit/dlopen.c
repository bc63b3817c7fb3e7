// SPDX-License-Identifier: Apache-2.0
/* A host that loads libimpost while its threads run already, closes it while they still do, and
 * loads it again. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

#include <criterion/criterion.h>

#include <impost/impost.h>

#define THREADS 8u
#define ROUNDS	200u
#define STRIDE	UINT64_C(0x10000)

/* What is used of the library: this program is not linked with it. */
#define CALLS(call)                                                                              \
	call(impost_context_open) call(impost_context_close) call(impost_memory_create)          \
		call(impost_memory_destroy) call(impost_memory_add) call(impost_memory_remove)   \
			call(impost_view_begin) call(impost_view_end) call(impost_view_read_any) \
				call(impost_view_write_any)

#define POINTER(name) __typeof__(name) *name;
static struct {
	CALLS(POINTER)
} lib;

static pthread_barrier_t step;
static struct impost_context *ctx;
static struct impost_memory *memory;

static void *load(void)
{
	void *library = dlopen(LIBIMPOST, RTLD_NOW | RTLD_LOCAL);

	cr_assert(library, "%s", dlerror());
#define LOOK_UP(name)                                        \
	*(void **)(void *)&lib.name = dlsym(library, #name); \
	cr_assert(lib.name, "%s", #name);
	CALLS(LOOK_UP)
	return library;
}

/* The next of the moments that all threads and the main one pass together. */
static void next_step(void)
{
	pthread_barrier_wait(&step);
}

static void add(uint64_t gpa)
{
	struct impost_region region = {
		.size = sizeof(region), .gpa = gpa, .bytes = IMPOST_PAGE_SIZE};

	cr_assert(lib.impost_memory_add(memory, &region) == 0);
}

/* Counts in a page of its own, in many views. Returns what went wrong, as a number of times. */
static uint64_t count_in_views(uint64_t gpa)
{
	uint64_t wrong = 0, value = 0;
	struct impost_view view;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		if (lib.impost_view_begin(memory, &view))
			return wrong + 1;
		wrong += lib.impost_view_read_any(&view, gpa, &value, sizeof(value)) != 0;
		wrong += value != i;
		value++;
		wrong += lib.impost_view_write_any(&view, gpa, &value, sizeof(value)) != 0;
		lib.impost_view_end(&view);
	}
	return wrong;
}

/* Two times the library comes, is used, and goes; a thread that used it ends without it. */
static void *live(void *arg)
{
	uint64_t wrong = 0;

	for (uint32_t time = 0; time < 2; time++) {
		next_step(); /* it is there */
		wrong += count_in_views((uintptr_t)arg * STRIDE);
		next_step(); /* nobody uses it */
		next_step(); /* it is gone */
	}
	return (void *)(uintptr_t)wrong;
}

static void come_and_go(void)
{
	void *library = load();

	cr_assert(lib.impost_context_open(NULL, NULL, &ctx) == 0);
	cr_assert(lib.impost_memory_create(ctx, &memory) == 0);
	for (uint64_t i = 0; i < THREADS; i++)
		add(i * STRIDE);
	next_step();
	for (uint32_t i = 0; i < ROUNDS; i++) { /* removal waits for the others' views */
		add(THREADS * STRIDE);
		cr_assert(lib.impost_memory_remove(memory, THREADS * STRIDE) == 0);
	}
	next_step();
	cr_assert(lib.impost_memory_destroy(memory) == 0);
	cr_assert(lib.impost_context_close(ctx) == 0);
	cr_assert(dlclose(library) == 0);
	next_step();
}

Test(dlopen, views_of_threads_that_were_there_before_and_are_after, .timeout = 60)
{
	pthread_t threads[THREADS];
	void *wrong;

	cr_assert(pthread_barrier_init(&step, NULL, THREADS + 1) == 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		cr_assert(pthread_create(&threads[i], NULL, live, (void *)i) == 0);
	come_and_go();
	come_and_go();
	for (uint32_t i = 0; i < THREADS; i++) {
		cr_assert(pthread_join(threads[i], &wrong) == 0);
		cr_expect(!wrong, "thread %u: %zu times", i, (size_t)(uintptr_t)wrong);
	}
}
