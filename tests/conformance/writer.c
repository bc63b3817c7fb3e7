/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes where it is told to, and the log of what it wrote. */
#include <stdlib.h>

#include <impost/mock.h>

#include "writer.h"

/* The list of each vCPU. */
#define LIST(id) (DATA + (uint64_t)(id)*WRITER_MOST * sizeof(uint64_t))

void writer_init(struct writer *w, struct box *box, struct impost_vcpu *vcpu)
{
	const void *table;

	*w = (struct writer){.box = box, .vcpu = vcpu, .id = impost_vcpu_id(vcpu)};
	cr_assert_lt(w->id, WRITERS);
	if (!impost_vm_extension(box->vm, IMPOST_MOCK_CONTROL, &table, &w->handle))
		w->mock = table;
	else
		box_need(box, IMPOST_CAP_EXECUTES);
	/* again: lodsq; mov [rax], rcx; dec ecx; jnz again; out 0x80, al */
	enter_long(box, vcpu,
		   GUEST(0x48, 0xad, 0x48, 0x89, 0x08, 0xff, 0xc9, 0x75, 0xf7, 0xe6, 0x80));
}

static void load_script(struct writer *w, const uint64_t *gpas, uint32_t n)
{
	static _Thread_local uint64_t value; /* each write differs from what was there */
	struct impost_mock_step *steps = calloc(n + 1, sizeof(*steps));
	uint64_t *data = calloc(n, sizeof(*data));

	cr_assert(steps && data);
	for (uint32_t i = 0; i < n; i++) {
		data[i] = ++value;
		steps[i] = (struct impost_mock_step){.size = sizeof(*steps),
						     .op = IMPOST_MOCK_WRITE,
						     .gpa = gpas[i],
						     .bytes = WRITER_BYTES,
						     .data = &data[i]};
	}
	steps[n] = (struct impost_mock_step){
		.bytes = 1,
		.data = data,
		.size = sizeof(*steps),
		.op = IMPOST_MOCK_EXIT,
		.exit = {.kind = IMPOST_EXIT_IO,
			 .u.io = {.port = 0x80, .size = 1, .dir = IMPOST_EXIT_WRITE, .count = 1}}};
	OK(w->box, w->mock->append(w->handle, w->id, steps, n + 1));
	free(steps);
	free(data);
}

void writer_load(struct writer *w, const uint64_t *gpas, uint32_t n)
{
	struct impost_x86_regs regs;

	cr_assert(n && n <= WRITER_MOST);
	if (w->mock) {
		load_script(w, gpas, n);
		return;
	}
	OK(w->box, impost_memory_write(w->box->memory, LIST(w->id), gpas, n * sizeof(*gpas)));
	regs = regs_of(w->box, w->vcpu);
	regs.rip = CODE;
	regs.rsi = LIST(w->id);
	regs.rcx = n;
	set_regs(w->box, w->vcpu, &regs);
}

void writer_write(struct writer *w, const uint64_t *gpas, uint32_t n)
{
	struct impost_exit exit;

	writer_load(w, gpas, n);
	run_to(w->box, w->vcpu, IMPOST_EXIT_IO, &exit);
	finish(w->box, w->vcpu);
}

void add_region(struct box *box, uint64_t gpa, uint64_t npages)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = gpa,
				       .bytes = npages * PAGE};

	if (!impost_caps_has(box->caps, IMPOST_CAP_MEM_HOST))
		region.kind = IMPOST_REGION_BACKEND;
	OK(box, impost_memory_add(box->memory, &region));
}

void log_start(struct box *box, uint64_t gpa, uint64_t npages)
{
	int all = impost_caps_has(box->caps, IMPOST_CAP_DIRTY_INITIALLY_SET);
	uint64_t *bitmap = calloc(words_for(npages), sizeof(*bitmap));

	cr_assert_not_null(bitmap);
	OK(box, impost_vm_dirty_start(box->vm, gpa));
	log_take(box, gpa, npages, bitmap);
	for (uint64_t i = 0; i < words_for(npages) * 64; i++)
		cr_assert_eq(has_bit(bitmap, i), all && i < npages, "page %llu of a new log",
			     (unsigned long long)i);
	free(bitmap);
}

void log_take(struct box *box, uint64_t gpa, uint64_t npages, uint64_t *bitmap)
{
	OK(box, impost_vm_dirty_fetch(box->vm, gpa, bitmap, words_for(npages)));
	if (impost_caps_has(box->caps, IMPOST_CAP_DIRTY_MANUAL))
		OK(box, impost_vm_dirty_clear(box->vm, gpa, 0, npages, bitmap));
}

bool log_take_or_lost(struct box *box, uint64_t gpa, uint64_t npages, uint64_t *bitmap)
{
	int r = impost_vm_dirty_fetch(box->vm, gpa, bitmap, words_for(npages));

	cr_assert(!r || (r == -EIO && impost_caps_has(box->caps, IMPOST_CAP_DIRTY_RING)), "%s",
		  impost_error(box->ctx));
	return r;
}
