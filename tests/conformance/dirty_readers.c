/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking (dirty.h) over the backend's log: what readers are told is the model's, while
 * guest and host write, regions come and go, and readers do. */
#include "../dirty_model.h"
#include "common.h"

/* The guest writes a byte at each address, and says so. */
static void guest_writes(void *arg, const uint64_t *gpa, uint32_t count)
{
	struct box *box = arg;
	struct impost_x86_regs regs = regs_of(box, box->vcpu);
	struct impost_exit exit;

	OK(box, impost_memory_write(box->memory, DATA, gpa, count * sizeof(*gpa)));
	regs.rip = CODE;
	regs.rsi = DATA;
	regs.rcx = count;
	set_regs(box, box->vcpu, &regs);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
}

static void open_model(struct box *box, struct model *model, uint64_t seed)
{
	box_open(box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(box, IMPOST_CAP_EXECUTES);
	box_need(box, IMPOST_CAP_DIRTY_LOG);
	box_need(box, IMPOST_CAP_MEM_HOST);
	/* again: lodsq; mov byte [rax], 1; dec ecx; jnz again; out 0x80, al */
	enter_long(box, box->vcpu,
		   GUEST(0x48, 0xad, 0xc6, 0x00, 0x01, 0xff, 0xc9, 0x75, 0xf7, 0xe6, 0x80));
	*model = (struct model){
		.ctx = box->ctx,
		.memory = box->memory,
		.guest_writes = guest_writes,
		.arg = box,
		.rom = impost_caps_has(box->caps, IMPOST_CAP_MEM_READONLY),
		.backend = impost_caps_has(box->caps, IMPOST_CAP_MEM_BACKEND),
		.seed = seed,
	};
	model_begin(model);
}

static void close_model(struct box *box, struct model *model)
{
	model_end(model);
	box_close(box);
}

Test(dirty_readers, each_pass_is_exact)
{
	static struct model model;
	struct box box;

	open_model(&box, &model, 4711);
	model_walk(&model, 400);
	close_model(&box, &model);
}

Test(dirty_readers, nothing_is_lost_between_passes)
{
	static struct model model;
	struct box box;

	open_model(&box, &model, 4712);
	model_loose_walk(&model, 800);
	close_model(&box, &model);
}
