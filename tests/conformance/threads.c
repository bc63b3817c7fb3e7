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

struct maker {
	struct box *box;
	uint32_t id;
	struct impost_vcpu *vcpu;
	int result;
};

static void *make_vcpu(void *arg)
{
	struct maker *m = arg;

	m->result = impost_vcpu_create(m->box->vm, m->id, &m->vcpu);
	return NULL;
}

/* vCPUs are made by several threads at once; each is what its maker asked for. */
Test(threads, vcpus_are_made_side_by_side, .timeout = 60)
{
	struct maker makers[7];
	pthread_t threads[7];
	struct box box;

	box_open(&box, 8, IMPOST_IRQCHIP_DEFAULT);
	for (uint32_t i = 0; i < 7; i++) {
		makers[i] = (struct maker){.box = &box, .id = i + 1};
		cr_assert_eq(pthread_create(&threads[i], NULL, make_vcpu, &makers[i]), 0);
	}
	for (uint32_t i = 0; i < 7; i++) {
		pthread_join(threads[i], NULL);
		OK(&box, makers[i].result);
		cr_assert_eq(impost_vcpu_id(makers[i].vcpu), i + 1);
	}
	for (uint32_t i = 0; i < 7; i++)
		OK(&box, impost_vcpu_destroy(makers[i].vcpu));
	box_close(&box);
}

struct setter {
	struct impost_vcpu *vcpu;
	const char *failed;
};

static void *set_and_get(void *arg)
{
	struct setter *s = arg;
	const uint64_t mine = impost_vcpu_id(s->vcpu) + 1;

	for (uint64_t i = 0; i < 500 && !s->failed; i++) {
		struct impost_x86_regs regs;

		if (impost_vcpu_get_regs(s->vcpu, &regs))
			s->failed = "get";
		else if (i && (regs.rbx != mine << 32 || regs.r15 != i - 1))
			s->failed = "another vCPU's registers";
		regs.rbx = mine << 32;
		regs.r15 = i;
		if (!s->failed && impost_vcpu_set_regs(s->vcpu, &regs))
			s->failed = "set";
	}
	return NULL;
}

/* The states of different vCPUs are got and set at once, and do not get into each other. */
Test(threads, states_are_set_side_by_side, .timeout = 60)
{
	struct setter setters[VCPUS];
	pthread_t threads[VCPUS];
	struct box box;

	box_open(&box, VCPUS, IMPOST_IRQCHIP_DEFAULT);
	for (uint32_t i = 0; i < VCPUS; i++) {
		setters[i] = (struct setter){.vcpu = box.vcpu};
		if (i)
			OK(&box, impost_vcpu_create(box.vm, i, &setters[i].vcpu));
	}
	for (uint32_t i = 0; i < VCPUS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, set_and_get, &setters[i]), 0);
	for (uint32_t i = 0; i < VCPUS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_null(setters[i].failed, "vCPU %u: %s", i, setters[i].failed);
	}
	for (uint32_t i = 1; i < VCPUS; i++)
		OK(&box, impost_vcpu_destroy(setters[i].vcpu));
	box_close(&box);
}

/* Two VMs of one context, each on a thread of its own, know nothing of each other. */
static void *live_alone(void *arg)
{
	struct setter *s = arg;
	struct impost_memory *memory = impost_vm_memory(impost_vcpu_vm(s->vcpu));
	const struct impost_region region = {.size = sizeof(region),
					     .kind = IMPOST_REGION_ANONYMOUS,
					     .gpa = HOLE,
					     .bytes = 0x4000};
	const uint64_t mine = (uintptr_t)s->vcpu;
	uint64_t got;

	for (int i = 0; i < 100 && !s->failed; i++) {
		if (impost_memory_add(memory, &region) ||
		    impost_memory_write(memory, HOLE + 8, &mine, sizeof(mine)) ||
		    impost_memory_read(memory, HOLE + 8, &got, sizeof(got)) || got != mine ||
		    impost_memory_remove(memory, HOLE))
			s->failed = "memory";
	}
	return NULL;
}

Test(threads, vms_live_side_by_side, .timeout = 60)
{
	struct setter setters[2];
	struct impost_vm_config config;
	pthread_t threads[2];
	struct impost_vm *vm;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_MEM_HOST);
	OK(&box, impost_vm_config_init(box.ctx, &config));
	config.backend = backend_name();
	OK(&box, impost_vm_create(box.ctx, &config, &vm));
	setters[0] = (struct setter){.vcpu = box.vcpu};
	setters[1] = (struct setter){.failed = NULL};
	OK(&box, impost_vcpu_create(vm, 0, &setters[1].vcpu));
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, live_alone, &setters[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_null(setters[i].failed, "%s: %s", setters[i].failed,
			       impost_error(box.ctx));
	}
	OK(&box, impost_vcpu_destroy(setters[1].vcpu));
	OK(&box, impost_vm_destroy(vm));
	box_close(&box);
}
