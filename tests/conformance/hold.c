/* SPDX-License-Identifier: Apache-2.0 */
/* While a VM is held nothing of the guest moves, and nothing is lost by it. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "common.h"

#define CPUS	4u
#define LONG_MS 20000u
#define ROUNDS	50

struct runner {
	struct impost_vcpu *vcpu;
	pthread_t thread;
	atomic_uint stop, intrs;
	_Atomic uint64_t exits;
	atomic_int failed;
};

/* Reads are answered with one more each time, so that the guest sees if one is lost. */
static void *run_on(void *arg)
{
	struct runner *r = arg;
	struct impost_exit exit;
	uint8_t next = 0;

	while (!atomic_load(&r->stop)) {
		int err = impost_vcpu_run(r->vcpu, &exit);

		if (err) {
			atomic_store(&r->failed, err);
			break;
		}
		if (exit.kind == IMPOST_EXIT_IO && exit.u.io.dir == IMPOST_EXIT_READ)
			memset(exit.u.io.data, next++, 1);
		if (exit.kind == IMPOST_EXIT_INTR)
			atomic_fetch_add(&r->intrs, 1);
		else
			atomic_fetch_add(&r->exits, 1);
	}
	return NULL;
}

static void start(struct runner *r, struct impost_vcpu *vcpu)
{
	memset(r, 0, sizeof(*r));
	r->vcpu = vcpu;
	cr_assert_eq(pthread_create(&r->thread, NULL, run_on, r), 0);
}

static void stop(struct box *box, struct runner *r)
{
	atomic_store(&r->stop, 1);
	OK(box, impost_vcpu_kick(r->vcpu));
	pthread_join(r->thread, NULL);
	cr_assert_eq(atomic_load(&r->failed), 0);
}

static void sleep_us(long us)
{
	const struct timespec t = {.tv_nsec = us * 1000};

	nanosleep(&t, NULL);
}

struct machine {
	struct box box;
	struct impost_vcpu *vcpu[CPUS];
	struct runner runner[CPUS];
};

/* All vCPUs run CODE, each with its number in DI. */
static void machine_start(struct machine *m, const uint8_t *code, size_t bytes)
{
	box_open(&m->box, CPUS, IMPOST_IRQCHIP_NONE);
	box_need(&m->box, IMPOST_CAP_EXECUTES);
	m->vcpu[0] = m->box.vcpu;
	for (uint32_t i = 0; i < CPUS; i++) {
		struct impost_x86_regs regs;

		if (i)
			OK(&m->box, impost_vcpu_create(m->box.vm, i, &m->vcpu[i]));
		enter_real(&m->box, m->vcpu[i], code, bytes);
		regs = regs_of(&m->box, m->vcpu[i]);
		regs.rdi = DATA / 16 / 4 + 16 * i;
		set_regs(&m->box, m->vcpu[i], &regs);
		start(&m->runner[i], m->vcpu[i]);
	}
}

static void machine_end(struct machine *m)
{
	for (uint32_t i = 0; i < CPUS; i++)
		stop(&m->box, &m->runner[i]);
	for (uint32_t i = 1; i < CPUS; i++)
		OK(&m->box, impost_vcpu_destroy(m->vcpu[i]));
	box_close(&m->box);
}

static void registers(struct machine *m, struct impost_x86_regs *all)
{
	for (uint32_t i = 0; i < CPUS; i++)
		all[i] = regs_of(&m->box, m->vcpu[i]);
}

/* Holds again and again, and looks whether anything moves meanwhile. */
static void nothing_moves(struct machine *m)
{
	struct impost_x86_regs before[CPUS], after[CPUS];
	static uint8_t ram[0x10000];

	for (int round = 0; round < ROUNDS; round++) {
		OK(&m->box, impost_vm_hold(m->box.vm, LONG_MS));
		registers(m, before);
		memcpy(ram, m->box.ram, sizeof(ram));
		sleep_us(300);
		registers(m, after);
		cr_assert_arr_eq(before, after, sizeof(before), "a register moved");
		cr_assert_arr_eq(ram, m->box.ram, sizeof(ram), "memory moved");
		OK(&m->box, impost_vm_release(m->box.vm));
		sleep_us((long)(random64() % 500));
	}
	for (uint32_t i = 0; i < CPUS; i++)
		cr_assert_eq(atomic_load(&m->runner[i].intrs), 0, "an INTR of nobody's kick");
}

/* l: inc word [di]; jmp l */
Test(hold, busy_guests, .timeout = 120)
{
	struct machine m;
	uint16_t before, after;

	machine_start(&m, GUEST(0xff, 0x05, 0xeb, 0xfc));
	nothing_moves(&m);
	memcpy(&before, m.box.ram + DATA / 16 / 4, sizeof(before));
	after = before;
	for (unsigned n = 0; n < LONG_MS && after == before; n++) {
		sleep_us(1000);
		memcpy(&after, m.box.ram + DATA / 16 / 4, sizeof(after));
	}
	cr_assert_neq(before, after, "the guest does not run on");
	machine_end(&m);
}

/*
 * l: in al, 0x60; cmp al, bl; jne bad; inc bl; out 0x80, al; jmp l; bad: ud2, over and over, which
 * the reset vector's page has no handler for.
 */
Test(hold, guests_that_exit, .timeout = 120)
{
	struct machine m;

	machine_start(&m, GUEST(0xe4, 0x60, 0x38, 0xd8, 0x75, 0x06, 0xfe, 0xc3, 0xe6, 0x80, 0xeb,
				0xf4, 0xe6, 0x99, 0xf4, 0xeb, 0xfb));
	nothing_moves(&m);
	for (uint32_t i = 0; i < CPUS; i++) {
		uint64_t exits = atomic_load(&m.runner[i].exits);

		for (unsigned n = 0; n < LONG_MS && atomic_load(&m.runner[i].exits) < exits + 2000;
		     n++)
			sleep_us(1000);
		cr_assert_geq(atomic_load(&m.runner[i].exits), exits + 2000);
	}
	OK(&m.box, impost_vm_hold(m.box.vm, LONG_MS));
	for (uint32_t i = 0; i < CPUS; i++)
		cr_assert_lt(regs_of(&m.box, m.vcpu[i]).rip, CODE + 12u, "an answer was lost");
	OK(&m.box, impost_vm_release(m.box.vm));
	machine_end(&m);
}

struct holder {
	struct impost_vm *vm;
	atomic_bool there;
};

static void *hold_it(void *arg)
{
	struct holder *holder = arg;

	atomic_store(&holder->there, true);
	return impost_vm_hold(holder->vm, LONG_MS) ? holder : NULL;
}

/* mov rax, [rdi]; hlt, from the end of a page into the next: more than one exit's worth. */
Test(hold, what_finishing_makes_necessary_is_handed_out, .timeout = 60)
{
	const uint64_t answer = random64();
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint32_t given = 0, exits = 0;
	struct holder holder = {.there = false};
	pthread_t thread;
	void *failed;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	enter_long(&box, box.vcpu, GUEST(0x48, 0x8b, 0x07, 0xf4));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE + 0xffc;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	holder.vm = box.vm;
	cr_assert_eq(pthread_create(&thread, NULL, hold_it, &holder), 0);
	while (!atomic_load(&holder.there))
		sleep_us(1000);
	sleep_us(20000); /* it waits for the exit by now: what comes is what run does then */
	for (; exit.kind == IMPOST_EXIT_MMIO; exits++) {
		cr_assert_eq(exit.u.mmio.gpa, HOLE + 0xffc + given);
		memcpy(exit.u.mmio.data, (const uint8_t *)&answer + given, exit.u.mmio.size);
		given += exit.u.mmio.size;
		/* A run with nothing left to be finished would wait. */
		OK(&box, impost_vcpu_kick(box.vcpu));
		OK(&box, impost_vcpu_run(box.vcpu, &exit));
	}
	cr_assert_eq(exit.kind, IMPOST_EXIT_INTR);
	cr_assert_eq(given, 8u);
	cr_assert_gt(exits, 1u);
	pthread_join(thread, &failed);
	cr_assert_null(failed, "%s", impost_error(box.ctx));
	cr_assert_eq(regs_of(&box, box.vcpu).rax, answer);
	cr_assert_eq(regs_of(&box, box.vcpu).rip, CODE + 3u);
	OK(&box, impost_vm_release(box.vm));
	run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);
	box_close(&box);
}

/* Kicks of the host's during holds each end one run. */
Test(hold, kicks_meanwhile, .timeout = 120)
{
	struct machine m;
	unsigned kicks = 0;

	machine_start(&m, GUEST(0xeb, 0xfe));
	for (int round = 0; round < ROUNDS; round++) {
		OK(&m.box, impost_vm_hold(m.box.vm, LONG_MS));
		if (round % 2)
			OK(&m.box, impost_vm_release(m.box.vm));
		kicks++;
		OK(&m.box, impost_vcpu_kick(m.vcpu[1]));
		for (unsigned n = 0; n < LONG_MS && atomic_load(&m.runner[1].intrs) < kicks; n++)
			sleep_us(1000);
		cr_assert_geq(atomic_load(&m.runner[1].intrs), kicks, "kick %u was lost", kicks);
		if (round % 2 == 0)
			OK(&m.box, impost_vm_release(m.box.vm));
	}
	cr_assert_leq(atomic_load(&m.runner[1].intrs), kicks + 1);
	cr_assert_eq(atomic_load(&m.runner[0].intrs), 0);
	machine_end(&m);
}
