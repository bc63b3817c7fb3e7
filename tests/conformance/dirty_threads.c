/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty logs while vCPUs write on threads of their own. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "writer.h"

#define CPUS	  3u
#define PAGES	  1000u /* more than the smallest dirty ring holds */
#define WORDS	  ((PAGES + 63) / 64)
#define ROUNDS	  12u
#define WRITES	  1200u
#define ELSEWHERE (HOLE + 2 * PAGES * PAGE) /* where regions come and go */

struct runner {
	struct writer w;
	pthread_t thread;
	uint64_t random;
	const char *failed;
};

static atomic_uint running;

/* Writes at random in the region at HOLE, again and again. */
static void *write_on(void *arg)
{
	struct runner *r = arg;
	uint64_t list[WRITES];
	struct impost_exit exit;

	for (uint32_t round = 0; round < ROUNDS && !r->failed; round++) {
		for (uint32_t i = 0; i < WRITES; i++)
			list[i] = HOLE + next_random(&r->random) % (PAGES * PAGE / 8) * 8;
		writer_load(&r->w, list, WRITES);
		if (impost_vcpu_run(r->w.vcpu, &exit))
			r->failed = "run";
		else if (exit.kind != IMPOST_EXIT_IO)
			r->failed = "another exit";
		else if (impost_vcpu_complete(r->w.vcpu, &exit))
			r->failed = "complete";
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* Copies what is dirty since the last time, as a migration does. */
static void copy_dirty(struct box *box, const uint8_t *from, uint8_t *to)
{
	uint64_t bitmap[WORDS] = {0};

	log_take(box, HOLE, PAGES, bitmap);
	for (uint32_t i = 0; i < PAGES; i++)
		if (has_bit(bitmap, i))
			memcpy(to + i * PAGE, from + i * PAGE, PAGE);
}

/* Memory, and logs, come and go beside. */
static void stir(struct box *box, uint32_t turn)
{
	add_region(box, ELSEWHERE, 64);
	OK(box, impost_vm_dirty_start(box->vm, ELSEWHERE));
	if (turn % 2)
		OK(box, impost_vm_dirty_stop(box->vm, ELSEWHERE));
	OK(box, impost_memory_remove(box->memory, ELSEWHERE));
}

static void start_runner(struct runner *r, struct box *box, uint32_t id)
{
	struct impost_vcpu *vcpu = box->vcpu;

	if (id)
		OK(box, impost_vcpu_create(box->vm, id, &vcpu));
	*r = (struct runner){.random = id + 1};
	writer_init(&r->w, box, vcpu);
}

/*
 * A copy that follows the log is the memory, once the vCPUs are out of run: no write is lost
 * between fetching, clearing and copying, whatever else goes on.
 */
Test(dirty_threads, a_copy_that_follows_the_log, .timeout = 300)
{
	struct runner runners[CPUS];
	uint8_t *copy = calloc(PAGES, PAGE);
	uint32_t turns = 0;
	struct box box;
	void *hva;

	cr_assert_not_null(copy);
	box_open(&box, CPUS, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_DIRTY_LOG);
	add_region(&box, HOLE, PAGES);
	OK(&box, impost_memory_ptr(box.memory, HOLE, PAGES * PAGE, &hva));
	for (uint32_t i = 0; i < CPUS; i++)
		start_runner(&runners[i], &box, i);
	log_start(&box, HOLE, PAGES);
	atomic_store(&running, CPUS);
	for (uint32_t i = 0; i < CPUS; i++)
		cr_assert_eq(pthread_create(&runners[i].thread, NULL, write_on, &runners[i]), 0);
	while (atomic_load(&running)) {
		copy_dirty(&box, hva, copy);
		stir(&box, turns++);
	}
	for (uint32_t i = 0; i < CPUS; i++) {
		pthread_join(runners[i].thread, NULL);
		cr_assert_null(runners[i].failed, "vCPU %u: %s: %s", i, runners[i].failed,
			       impost_error(box.ctx));
	}
	copy_dirty(&box, hva, copy);
	for (uint32_t i = 0; i < PAGES; i++)
		cr_assert_eq(memcmp(copy + i * PAGE, (uint8_t *)hva + i * PAGE, PAGE), 0,
			     "page %u was written and not logged (%u turns)", i, turns);
	for (uint32_t i = 1; i < CPUS; i++)
		OK(&box, impost_vcpu_destroy(runners[i].w.vcpu));
	box_close(&box);
	free(copy);
}

/* The log starts and stops while the guest writes: what is fetched after a start is complete for
 * what was written since. */
Test(dirty_threads, logs_start_and_stop_under_way, .timeout = 300)
{
	static uint64_t all[PAGES];
	struct runner r;
	struct box box;
	uint32_t turns = 0;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_DIRTY_LOG);
	add_region(&box, HOLE, PAGES);
	start_runner(&r, &box, 0);
	atomic_store(&running, 1);
	cr_assert_eq(pthread_create(&r.thread, NULL, write_on, &r), 0);
	for (; atomic_load(&running) || turns < 10; turns++) {
		uint64_t bitmap[WORDS] = {0};

		OK(&box, impost_vm_dirty_start(box.vm, HOLE));
		log_take(&box, HOLE, PAGES, bitmap);
		OK(&box, impost_vm_dirty_stop(box.vm, HOLE));
		cr_assert_eq(bitmap[WORDS - 1] >> (PAGES % 64), 0u, "bits beyond the region");
	}
	pthread_join(r.thread, NULL);
	cr_assert_null(r.failed, "%s: %s", r.failed, impost_error(box.ctx));
	log_start(&box, HOLE, PAGES);
	for (uint32_t i = 0; i < PAGES; i++)
		all[i] = HOLE + i * PAGE;
	writer_write(&r.w, all, PAGES);
	{
		uint64_t bitmap[WORDS] = {0};

		log_take(&box, HOLE, PAGES, bitmap);
		for (uint32_t i = 0; i < PAGES; i++)
			cr_assert(has_bit(bitmap, i), "page %u", i);
	}
	box_close(&box);
}

#define KICKS 200u

static atomic_uint kicks_seen;
static atomic_int stop;

static void *count_kicks(void *arg)
{
	struct runner *r = arg;
	struct impost_exit exit;

	while (!atomic_load(&stop) && !r->failed) {
		if (impost_vcpu_run(r->w.vcpu, &exit))
			r->failed = "run";
		else if (exit.kind != IMPOST_EXIT_INTR)
			r->failed = "another exit";
		else
			atomic_fetch_add(&kicks_seen, 1);
	}
	return NULL;
}

/* A guest that dirties pages without end, which nobody fetches: run makes room by itself, as often
 * as it takes, and no kick is lost on that. */
Test(dirty_threads, kicks_end_a_run_that_fills_rings, .timeout = 300)
{
	uint64_t list[PAGES], bitmap[WORDS] = {0};
	char why[500];
	struct impost_x86_regs regs;
	void *last;
	struct runner r;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_DIRTY_LOG);
	add_region(&box, HOLE, PAGES);
	log_start(&box, HOLE, PAGES);
	OK(&box, impost_memory_ptr(box.memory, HOLE + (PAGES - 1) * PAGE, 8, &last));
	start_runner(&r, &box, 0);
	for (uint32_t i = 0; i < PAGES; i++)
		list[i] = HOLE + i * PAGE;
	writer_load(&r.w, list, PAGES);
	/* again: lodsq; mov [rax], rcx; dec ecx; jnz again; mov rsi, rbx; mov ecx, edx; jmp again
	 */
	OK(&box, impost_memory_write(box.memory, CODE,
				     GUEST(0x48, 0xad, 0x48, 0x89, 0x08, 0xff, 0xc9, 0x75, 0xf7,
					   0x48, 0x89, 0xde, 0x89, 0xd1, 0xeb, 0xf0)));
	regs = regs_of(&box, box.vcpu);
	regs.rbx = regs.rsi;
	regs.rdx = regs.rcx;
	set_regs(&box, box.vcpu, &regs);
	cr_assert_eq(pthread_create(&r.thread, NULL, count_kicks, &r), 0);
	for (uint32_t i = 1; i <= KICKS; i++) {
		uint64_t deadline = now_ns() + UINT64_C(20000000000);

		OK(&box, impost_vcpu_kick(box.vcpu));
		while (atomic_load(&kicks_seen) < i)
			cr_assert(now_ns() < deadline && !r.failed, "kick %u was lost", i);
		for (uint64_t n = random64() % 20000; n; n--)
			__asm__ volatile("pause");
	}
	/* Once round at least. */
	while (!__atomic_load_n((uint64_t *)last, __ATOMIC_RELAXED))
		cr_assert(!r.failed, "%s: %s", r.failed, impost_error(box.ctx));
	atomic_store(&stop, 1);
	OK(&box, impost_vcpu_kick(box.vcpu));
	pthread_join(r.thread, NULL);
	cr_assert_null(r.failed, "%s: %s", r.failed, impost_error(box.ctx));
	if (log_take_or_lost(&box, HOLE, PAGES, bitmap)) {
		snprintf(why, sizeof(why), "%s", impost_error(box.ctx));
		box_close(&box);
		cr_skip_test("%s", why);
	}
	for (uint32_t i = 0; i < PAGES; i++)
		cr_assert(has_bit(bitmap, i), "page %u was written and not logged", i);
	box_close(&box);
}
