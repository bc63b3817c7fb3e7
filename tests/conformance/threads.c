/* SPDX-License-Identifier: Apache-2.0 */
/* Several vCPUs on threads of their own, with memory coming and going meanwhile. */
#include <pthread.h>

#include "common.h"

#define VCPUS 4
#define EXITS 300u

struct runner {
	struct box *box;
	struct impost_vcpu *vcpu;
	const char *failed;
};

/* Each vCPU counts in its own CX, and writes it to a port. */
static void *count_exits(void *arg)
{
	struct runner *r = arg;

	for (uint32_t i = 1; i <= EXITS; i++) {
		struct impost_exit exit;

		if (impost_vcpu_run(r->vcpu, &exit))
			r->failed = "run";
		else if (exit.kind != IMPOST_EXIT_IO || exit.u.io.port != 0x80)
			r->failed = "another exit";
		else if (*(uint16_t *)exit.u.io.data != (uint16_t)(i + impost_vcpu_id(r->vcpu)))
			r->failed = "another vCPU's data";
		if (r->failed)
			break;
	}
	return NULL;
}

Test(threads, vcpus_run_side_by_side, .timeout = 120)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = 0x10000};
	struct runner runners[VCPUS];
	pthread_t threads[VCPUS];
	struct box box;

	box_open(&box, VCPUS, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	for (uint32_t i = 0; i < VCPUS; i++) {
		struct impost_x86_regs regs;

		runners[i] = (struct runner){.box = &box, .vcpu = box.vcpu};
		if (i)
			OK(&box, impost_vcpu_create(box.vm, i, &runners[i].vcpu));
		/* again: inc ax; out 0x80, ax; jmp again */
		enter_real(&box, runners[i].vcpu, GUEST(0x40, 0xe7, 0x80, 0xeb, 0xfb));
		regs = regs_of(&box, runners[i].vcpu);
		regs.rax = i;
		set_regs(&box, runners[i].vcpu, &regs);
	}
	for (uint32_t i = 0; i < VCPUS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, count_exits, &runners[i]), 0);
	for (int i = 0; i < 50; i++) {
		OK(&box, impost_memory_add(box.memory, &region));
		OK(&box, impost_memory_remove(box.memory, region.gpa));
	}
	for (uint32_t i = 0; i < VCPUS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_null(runners[i].failed, "vCPU %u: %s: %s", i, runners[i].failed,
			       impost_error(box.ctx));
	}
	for (uint32_t i = 1; i < VCPUS; i++)
		OK(&box, impost_vcpu_destroy(runners[i].vcpu));
	box_close(&box);
}

static void *run_to_the_end(void *arg)
{
	struct runner *r = arg;
	struct impost_exit exit;

	if (impost_vcpu_run(r->vcpu, &exit) || exit.kind != IMPOST_EXIT_INTR)
		r->failed = "run";
	return NULL;
}

/* All vCPUs are stopped by kicks sent one after the other, without waiting in between. */
Test(threads, all_vcpus_stop_together, .timeout = 120)
{
	struct runner runners[VCPUS];
	pthread_t threads[VCPUS];
	struct impost_exit exit;
	struct box box;

	box_open(&box, VCPUS, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	for (uint32_t i = 0; i < VCPUS; i++) {
		runners[i] = (struct runner){.box = &box, .vcpu = box.vcpu};
		if (i)
			OK(&box, impost_vcpu_create(box.vm, i, &runners[i].vcpu));
		enter_real(&box, runners[i].vcpu, GUEST(0xeb, 0xfe));
		cr_assert_eq(pthread_create(&threads[i], NULL, run_to_the_end, &runners[i]), 0);
	}
	for (uint32_t i = 0; i < VCPUS; i++)
		OK(&box, impost_vcpu_kick(runners[i].vcpu));
	for (uint32_t i = 0; i < VCPUS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_null(runners[i].failed);
	}
	/* No kick was left over. */
	OK(&box, impost_memory_write(box.memory, CODE, (uint8_t[]){0xf4}, 1));
	run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);
	for (uint32_t i = 1; i < VCPUS; i++)
		OK(&box, impost_vcpu_destroy(runners[i].vcpu));
	box_close(&box);
}
