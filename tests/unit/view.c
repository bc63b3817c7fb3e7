/* SPDX-License-Identifier: Apache-2.0 */
/* Views of guest memory: against a model, and what calls refuse. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "own_map.h"
#include "random.h"

#define MODEL_CHECK(condition) \
	cr_assert(condition, "step %" PRIu64 " of seed %" PRIu64 ": %s", step, seed, #condition)

static uint64_t seed, step;

#include "view_model.h"

#define PAGE IMPOST_PAGE_SIZE

static struct impost_view view;

TestSuite(view, .init = begin, .fini = end, .timeout = 60);

static void add(uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {.size = sizeof(region), .gpa = gpa, .bytes = bytes};

	expect_ok(ctx, impost_memory_add(memory, &region));
}

/* --- the model --- */

static uint64_t draw_random(void *source, uint64_t below)
{
	return random_number(source) % below;
}

/* From IMPOST_SEED, or the clock: another sequence in each run, which a failure names. */
static void run_model(uint64_t base)
{
	struct model *model = calloc(1, sizeof(*model));
	struct timespec now;
	uint64_t state;

	cr_assert(model);
	clock_gettime(CLOCK_REALTIME, &now);
	seed = getenv("IMPOST_SEED") ? strtoull(getenv("IMPOST_SEED"), NULL, 0)
				     : (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	state = seed | 1;
	model->draw = draw_random;
	model->source = &state;
	model_begin(model, memory, base);
	for (step = 0; step < 20000; step++)
		model_step(model);
	model_end(model);
	free(model);
}

Test(view, behaves_as_an_array_of_bytes)
{
	run_model(0);
}

Test(view, behaves_so_where_gpas_are_large)
{
	run_model(UINT64_C(0xabc) << 40);
}

Test(view, behaves_so_at_the_end_of_the_address_space)
{
	run_model(0 - (uint64_t)MODEL_BYTES);
}

/* What a step changed is in the ranges that are taken after it. */
static void expect_marked(const struct model *model, const uint8_t *before,
			  struct impost_dirty *dirty)
{
	struct impost_range ranges[MODEL_PAGES];
	bool marked[MODEL_PAGES] = {false};
	uint64_t count;

	cr_assert(impost_dirty_sync(dirty) == 0, "%s", impost_error(ctx));
	cr_assert(impost_dirty_take(dirty, ranges, MODEL_PAGES, &count) == 0);
	for (uint64_t i = 0; i < count; i++)
		for (uint64_t done = 0; done < ranges[i].bytes; done += PAGE)
			marked[(ranges[i].gpa + done) / PAGE] = true;
	for (uint64_t page = 0; page < MODEL_PAGES; page++) {
		bool same = memcmp(before + page * PAGE, model->byte + page * PAGE, PAGE) == 0;

		cr_assert(same || marked[page] || !model->region[page],
			  "step %" PRIu64 " of seed %" PRIu64 ": page %" PRIu64 " is not marked",
			  step, seed, page);
	}
}

Test(view, what_is_written_is_marked)
{
	const struct impost_dirty_config config = {.size = sizeof(config)};
	struct model *model = calloc(1, sizeof(*model));
	uint8_t *before = malloc(MODEL_BYTES);
	struct impost_dirty *dirty;
	uint64_t state;

	cr_assert(model && before);
	seed = (uint64_t)time(NULL);
	state = seed | 1;
	model->draw = draw_random;
	model->source = &state;
	expect_ok(ctx, impost_dirty_create(memory, &config, &dirty));
	model_begin(model, memory, 0);
	for (step = 0; step < 5000; step++) {
		memcpy(before, model->byte, MODEL_BYTES);
		model_step(model);
		expect_marked(model, before, dirty);
	}
	model_end(model);
	expect_ok(ctx, impost_dirty_destroy(dirty));
	free(before);
	free(model);
}

/* --- what is refused --- */

static void begin_view(void)
{
	begin();
	expect_ok(ctx, impost_view_begin(memory, &view));
	impost_view_end(&view);
	add(0x1000, PAGE);
	add(0x2000, PAGE);
	expect_ok(ctx, impost_view_begin(memory, &view));
}

static void end_view(void)
{
	impost_view_end(&view);
	end();
}

TestSuite(view_calls, .init = begin_view, .fini = end_view, .timeout = 60);

Test(view_calls, atomics_are_checked)
{
	uint64_t old = 77;

	expect_error(ctx, impost_view_atomic(&view, 0x1000, 3, 0, 0, 0, &old), -EINVAL,
		     "on 3 bytes: it must be 1, 2, 4 or 8");
	expect_error(ctx, impost_view_atomic(&view, 0x1000, 16, 0, 0, 0, &old), -EINVAL, "16");
	expect_error(ctx, impost_view_atomic(&view, 0x1004, 8, 0, 0, 0, &old), -EINVAL,
		     "0x1004: it must be a multiple of 8");
	expect_error(ctx, impost_view_atomic(&view, 0x1000, 8, 7, 0, 0, &old), -EINVAL,
		     "atomic operation 7");
	expect_error(ctx,
		     impost_view_atomic(&view, 0x1000, 8, IMPOST_ATOMIC_LOAD, IMPOST_ORDER_RELEASE,
					0, &old),
		     -EINVAL, "an atomic load cannot have the order 2");
	expect_error(ctx,
		     impost_view_atomic(&view, 0x1000, 8, IMPOST_ATOMIC_STORE, IMPOST_ORDER_ACQUIRE,
					0, &old),
		     -EINVAL, "an atomic store cannot have the order 1");
	expect_error(ctx, impost_view_compare_exchange(&view, 0x1000, 8, 5, 0, 1, &old), -EINVAL,
		     "compare-and-exchange cannot have the order 5");
	expect_error(ctx, impost_view_atomic(&view, 0x3000, 8, 0, 0, 0, &old), -EFAULT, "0x3000");
	cr_expect(old == 77);
	expect_ok(ctx, impost_view_atomic(&view, 0x1000, 8, IMPOST_ATOMIC_STORE,
					  IMPOST_ORDER_SEQ_CST, 5, NULL));
	expect_ok(ctx,
		  impost_view_compare_exchange(&view, 0x1000, 8, IMPOST_ORDER_RELEASE, 4, 6, &old));
	cr_expect(old == 5);
	expect_ok(ctx,
		  impost_view_compare_exchange(&view, 0x1000, 8, IMPOST_ORDER_RELEASE, 5, 6, &old));
	cr_expect(old == 5);
	expect_ok(ctx, impost_view_atomic(&view, 0x1000, 8, IMPOST_ATOMIC_LOAD,
					  IMPOST_ORDER_ACQUIRE, 0, &old));
	cr_expect(old == 6);
}

Test(view_calls, vectors_say_what_they_need)
{
	const struct impost_range ranges[] = {{0x1800, 0x1000}, {0x1000, 0}, {0x2000, 16}};
	const struct impost_range wrong[] = {{0x1800, 16}, {0x2ff0, 17}};
	struct iovec iov[3];
	uint64_t count = 99;
	void *hva;

	expect_error(ctx, impost_view_iovec(&view, ranges, 3, NULL, 0, &count), -ENOSPC,
		     "3 ranges are 3 elements: there is room for 0");
	cr_expect(count == 3);
	expect_ok(ctx, impost_view_iovec(&view, ranges, 3, iov, 3, &count));
	cr_expect(iov[0].iov_len == 0x800 && iov[1].iov_len == 0x800 && iov[2].iov_len == 16);
	expect_ok(ctx, impost_view_ptr(&view, 0x2000, 1, &hva));
	cr_expect(iov[1].iov_base == hva && iov[2].iov_base == hva);
	count = 99;
	expect_error(ctx, impost_view_iovec(&view, wrong, 2, iov, 3, &count), -EFAULT,
		     "0x2ff0, 17 bytes: there is no memory at 0x3000");
	cr_expect(count == 99);
}

Test(view_calls, strings_end)
{
	char buf[8] = "before";
	uint64_t length = 99;

	expect_ok(ctx, impost_view_write(&view, 0x1ffc, "console=hvc0", 12));
	expect_error(ctx, impost_view_read_string(&view, 0x1ffc, buf, sizeof(buf), &length),
		     -EOVERFLOW, "the string at 0x1ffc has no end within 8 bytes");
	expect_error(ctx, impost_view_read_string(&view, 0x1ffc, buf, 0, &length), -EOVERFLOW,
		     "0 bytes");
	expect_ok(ctx, impost_view_fill(&view, 0x2ff8, 'x', 8));
	expect_error(ctx, impost_view_read_string(&view, 0x2ff8, buf, 9, &length), -EFAULT,
		     "no memory at 0x3000");
	cr_expect_str_eq(buf, "before");
	cr_expect(length == 99);
	expect_ok(ctx, impost_view_read_string(&view, 0x2004, buf, 5, &length));
	cr_expect_str_eq(buf, "hvc0");
	cr_expect(length == 4);
}

Test(view_calls, a_view_that_has_ended)
{
	struct impost_view none = {0};
	uint64_t value = 7, count;
	uint8_t byte = 7;
	void *hva;

	impost_view_end(&view);
	impost_view_end(&view);
	impost_view_end(&none);
	cr_expect(impost_view_read_u8(&none, 0x1000, &byte) == -EINVAL);
	expect_error(ctx, impost_view_read_u64(&view, 0x1000, &value), -EINVAL,
		     "the view has ended");
	expect_error(ctx, impost_view_write_u64(&view, 0x1000, 1), -EINVAL, "ended");
	expect_error(ctx, impost_view_read(&view, 0x1000, &value, 0), -EINVAL, "ended");
	expect_error(ctx, impost_view_fill(&view, 0x1000, 0, 1), -EINVAL, "ended");
	expect_error(ctx, impost_view_read_some(&view, 0x1000, &byte, 0, &count), -EINVAL, "ended");
	expect_error(ctx, impost_view_atomic(&view, 0x1000, 8, 0, 0, 0, &value), -EINVAL, "ended");
	expect_error(ctx, impost_view_compare_exchange(&view, 0x1000, 8, 0, 0, 0, &value), -EINVAL,
		     "ended");
	expect_error(ctx, impost_view_ptr(&view, 0x1000, 8, &hva), -EINVAL, "ended");
	expect_error(ctx, impost_view_span(&view, 0x1000, 8, &hva, &count), -EINVAL, "ended");
	expect_error(ctx, impost_view_iovec(&view, NULL, 0, NULL, 0, &count), -EINVAL, "ended");
	expect_error(ctx, impost_view_mark_dirty(&view, 0x1000, 8), -EINVAL, "ended");
	expect_error(ctx, impost_view_read_string(&view, 0x1000, (char *)&byte, 0, &count), -EINVAL,
		     "ended");
	cr_expect(value == 7 && byte == 7);
}

/* What changes memory waits for views, and would wait for its own thread's. */
Test(view_calls, memory_is_not_changed_in_a_view)
{
	struct impost_region region = {.size = sizeof(region), .gpa = 0x10000, .bytes = PAGE};
	struct impost_view inner;

	expect_error(ctx, impost_memory_remove(memory, 0x1000), -EDEADLK, "end the view first");
	expect_error(ctx, impost_memory_add(memory, &region), -EDEADLK, "end the view first");
	expect_ok(ctx, impost_view_begin(memory, &inner));
	impost_view_end(&view);
	expect_error(ctx, impost_memory_remove(memory, 0x1000), -EDEADLK, "end the view first");
	impost_view_end(&inner);
	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_memory_remove(memory, 0x1000));
	cr_expect(impost_memory_fill(memory, 0x1000, 0, 1) == -EFAULT);
	cr_expect(impost_view_begin(memory, &view) == 0);
}

/* --- where the backend is told of writes --- */

Test(view, the_backend_is_told)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,mark-dirty,irqchip-none", &fake);
	struct impost_region region = {.size = sizeof(region), .bytes = PAGE};
	struct impost_memory *map = impost_vm_memory(vm);
	uint64_t old, done;

#define EXPECT_TOLD(call, gpa, bytes)                                                         \
	do {                                                                                  \
		uint32_t calls_ = fake->dirty_calls;                                          \
		expect_ok(ctx, call);                                                         \
		cr_expect(fake->dirty_calls == calls_ + ((bytes) > 0), "%s", #call);          \
		cr_expect((bytes) == 0 ||                                                     \
				  (fake->dirty_gpa == (gpa) && fake->dirty_bytes == (bytes)), \
			  "%s", #call);                                                       \
	} while (0)

	expect_ok(ctx, impost_memory_add(map, &region));
	region.gpa = PAGE;
	expect_ok(ctx, impost_memory_add(map, &region));
	expect_ok(ctx, impost_view_begin(map, &view));
	EXPECT_TOLD(impost_view_write_u8(&view, 9, 1), 9u, 1u);
	EXPECT_TOLD(impost_view_write_be64(&view, 16, 1), 16u, 8u);
	EXPECT_TOLD(impost_view_write(&view, PAGE - 10, "twenty bytes to copy", 20), PAGE - 10,
		    20u);
	EXPECT_TOLD(impost_view_write(&view, 0, "", 0), 0u, 0u);
	EXPECT_TOLD(impost_view_write_some(&view, 2 * PAGE - 2, "some", 4, &done), 2 * PAGE - 2,
		    2u);
	EXPECT_TOLD(impost_view_fill(&view, 1, 1, PAGE), 1u, PAGE);
	EXPECT_TOLD(impost_view_atomic(&view, 8, 8, IMPOST_ATOMIC_OR, 0, 1, &old), 8u, 8u);
	EXPECT_TOLD(impost_view_atomic(&view, 8, 8, IMPOST_ATOMIC_LOAD, 0, 0, &old), 8u, 0u);
	EXPECT_TOLD(impost_view_compare_exchange(&view, 8, 8, 0, old, 3, &old), 8u, 8u);
	EXPECT_TOLD(impost_view_compare_exchange(&view, 8, 8, 0, old, 4, &old), 8u, 0u);
	EXPECT_TOLD(impost_view_mark_dirty(&view, 5, PAGE), 5u, PAGE);
	EXPECT_TOLD(impost_view_read_u64(&view, 8, &old), 8u, 0u);
	fake->fail_op = "mark_dirty";
	fake->fail_with = -EIO;
	cr_expect(impost_view_write_u64(&view, 8, 44) == -EIO);
	fake->fail_op = NULL;
	expect_ok(ctx, impost_view_read_u64(&view, 8, &old));
	cr_expect(old == 44, "what the backend was told of is written");
	impost_view_end(&view);
	expect_ok(ctx, impost_vm_destroy(vm));
}

/* --- threads and forks --- */

static void *leave_inside(void *arg)
{
	struct impost_view *left = arg;

	return impost_view_begin(memory, left) ? arg : NULL;
}

/* The view, of a page at 0, of a thread that has ended inside. */
static void leave_behind(struct impost_view *left)
{
	pthread_t thread;
	void *failed;

	add(0, PAGE);
	cr_assert(impost_memory_fill(memory, 0, 0, 1) == 0); /* this thread has its place */
	cr_assert(pthread_create(&thread, NULL, leave_inside, left) == 0);
	pthread_join(thread, &failed);
	cr_assert(!failed);
}

/* A view ends with its thread, and nobody else's end of it does harm. */
Test(view, a_thread_that_ends_inside)
{
	struct impost_view left, own;

	leave_behind(&left);
	expect_ok(ctx, impost_memory_remove(memory, 0));
	expect_ok(ctx, impost_view_begin(memory, &own));
	impost_view_end(&left);
	expect_error(ctx, impost_memory_remove(memory, 0), -EDEADLK, "view");
	impost_view_end(&own);
}

/* The thread that has the ended one's place now. */
static void *end_in_its_place(void *arg)
{
	struct impost_view *left = arg, own;
	bool same, refused;

	if (impost_view_begin(memory, &own))
		return arg;
	same = own.reader == left->reader;
	impost_view_end(left);
	refused = impost_memory_remove(memory, 0) == -EDEADLK;
	impost_view_end(&own);
	return same && refused ? NULL : arg;
}

/* The end of a view whose thread has ended is not the end of its successor's. */
Test(view, a_thread_in_the_place_of_one_that_ended_inside)
{
	struct impost_view left;
	pthread_t thread;
	void *failed;

	leave_behind(&left);
	cr_assert(pthread_create(&thread, NULL, end_in_its_place, &left) == 0);
	pthread_join(thread, &failed);
	cr_expect(!failed);
}

static void *stay_inside(void *arg)
{
	struct impost_view own;
	atomic_int *state = arg;

	if (impost_view_begin(memory, &own))
		return arg;
	*state = 1;
	while (*state == 1)
		sched_yield();
	impost_view_end(&own);
	return NULL;
}

/* In a fork: another thread's view is no more, and a context of its own works. */
static int work_in_fork(void)
{
	struct impost_context *own_ctx;
	struct impost_memory *own;
	struct impost_region region = {.size = sizeof(region), .bytes = PAGE};
	struct impost_view own_view;

	if (impost_view_begin(memory, &own_view) != -IMPOST_EFORKED)
		return 1;
	if (impost_context_open(NULL, NULL, &own_ctx) || impost_memory_create(own_ctx, &own) ||
	    impost_memory_add(own, &region) || impost_memory_fill(own, 0, 1, PAGE) ||
	    impost_memory_remove(own, 0))
		return 2;
	impost_memory_destroy(own);
	return impost_context_close(own_ctx) ? 3 : 0;
}

Test(view, a_fork_with_views_under_way)
{
	atomic_int state = 0;
	pthread_t thread;
	void *failed;
	int status;
	pid_t pid;

	add(0, PAGE);
	cr_assert(pthread_create(&thread, NULL, stay_inside, &state) == 0);
	while (state == 0)
		sched_yield();
	pid = fork();
	if (pid == 0)
		_exit(work_in_fork());
	cr_assert(waitpid(pid, &status, 0) == pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "0x%x", status);
	state = 2;
	pthread_join(thread, &failed);
	cr_expect(!failed);
	expect_ok(ctx, impost_memory_remove(memory, 0));
}

/* --- nothing is left behind --- */

static void come_and_go(struct impost_memory *map, uint32_t rounds)
{
	static const uint32_t kinds[] = {IMPOST_REGION_ANONYMOUS, IMPOST_REGION_MEMFD};
	struct impost_view own;

	for (uint32_t i = 0; i < rounds; i++) {
		struct impost_region region = {.size = sizeof(region),
					       .kind = kinds[i % 2],
					       .gpa = (1 + i % 7) * PAGE,
					       .bytes = (1 + i % 3) * PAGE};

		cr_assert(impost_memory_add(map, &region) == 0, "%s", impost_error(ctx));
		cr_assert(impost_view_begin(map, &own) == 0);
		cr_assert(impost_view_write_u64(&own, region.gpa, i) == 0);
		impost_view_end(&own);
		cr_assert(impost_memory_remove(map, region.gpa) == 0, "%s", impost_error(ctx));
	}
}

static void expect_nothing_left(struct impost_memory *map)
{
	struct belongings before;

	come_and_go(map, 100); /* the allocator has what it needs */
	before = count_belongings();
	come_and_go(map, 10000);
	expect_same_belongings(before);
}

Test(view, ten_thousand_regions_leave_nothing)
{
	expect_nothing_left(memory);
}

static void on_backend(const char *name)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_vm *vm;

	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", name));
	if (impost_backend_probe(ctx, name, &caps))
		cr_skip_test("%s", impost_error(ctx));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	expect_nothing_left(impost_vm_memory(vm));
	expect_ok(ctx, impost_vm_destroy(vm));
}

Test(view, ten_thousand_regions_leave_nothing_on_mock)
{
	on_backend("mock");
}

Test(view, ten_thousand_regions_leave_nothing_on_kvm)
{
	on_backend("kvm");
}
