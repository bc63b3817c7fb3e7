/* SPDX-License-Identifier: Apache-2.0 */
/* The operations on a vCPU that plays a cassette, but for running it; and its life. */
#include <stdlib.h>
#include <string.h>

#include "cassette_play.h"

/* --- life --- */

/* The lane of vCPU ID, which may have lived before. NULL: no memory. With the lock. */
static struct play_lane *make_lane(struct mock_play *p, uint32_t id)
{
	struct play_lane *lane = p->lanes;

	while (lane && lane->id != id)
		lane = lane->next;
	if (!lane) {
		lane = calloc(1, sizeof(*lane));
		if (!lane)
			return NULL;
		lane->id = id;
		lane->ended = true;
		lane->next = p->lanes;
		p->lanes = lane;
	}
	return lane;
}

/* Makes the vCPU of the call that was recorded. The lock is held. */
static int32_t make_vcpu(struct play_call *call, uint32_t id, void **ret_vcpu)
{
	struct mock_play *p = call->play;
	struct play_vcpu *v = calloc(1, sizeof(*v));
	int32_t err;

	if (v)
		v->lane = make_lane(p, id);
	if (!v || !v->lane)
		err = mock_error(p->vm, -ENOMEM, "out of memory");
	else if (!v->lane->ended)
		err = mock_error(p->vm, -EEXIST, "vCPU %u exists already", id);
	else
		err = play_next(p);
	if (err) {
		free(v);
		return err;
	}
	v->ops = &play_vcpu_ops;
	v->vm = p->vm;
	v->lane->ended = false;
	p->vcpus++;
	p->looked = false;
	*ret_vcpu = v;
	return 0;
}

int32_t play_vcpu_create(void *handle, uint32_t id, void **ret_vcpu)
{
	struct mock_vm *vm = handle;
	struct play_call call;
	struct cassette_values *values = play_begin(&call, vm, NULL, CASSETTE_VCPU_CREATE);
	int32_t err;

	if (!values)
		return -ENOMEM;
	cassette_args_vcpu_create(values, id);
	err = play_enter(&call);
	if (err)
		return err;
	if (call.item->error)
		return play_end(&call, play_said(&call));
	return play_leave(&call, make_vcpu(&call, id, ret_vcpu));
}

/* What is left of its lane is passed over when the cursor comes to it. */
static void destroy(void *handle)
{
	struct play_vcpu *v = handle;
	struct mock_play *p = v->vm->play;

	pthread_mutex_lock(&p->lock);
	v->lane->ended = true;
	p->vcpus--;
	play_settle(p);
	pthread_mutex_unlock(&p->lock);
	cassette_exit_room_free(&v->room);
	cassette_values_free(&v->answer);
	free(v);
}

static int32_t kick(void *handle)
{
	struct play_vcpu *v = handle;

	atomic_store(&v->kicked, true);
	play_wake(v->lane);
	return 0;
}

/* --- calls that are compared, and give what was recorded --- */

#define PLAIN(op, OP, parameters, encode)                                                \
	static int32_t op parameters                                                     \
	{                                                                                \
		struct play_vcpu *v = vcpu;                                              \
		struct play_call call;                                                   \
		struct cassette_values *to = play_begin(&call, v->vm, v, CASSETTE_##OP); \
                                                                                         \
		if (!to)                                                                 \
			return -ENOMEM;                                                  \
		encode;                                                                  \
		return play_plain(&call);                                                \
	}

PLAIN(nmi, NMI, (void *vcpu), (void)to)
PLAIN(irq_inject, IRQ_INJECT, (void *vcpu, uint32_t vector), cassette_args_irq_inject(to, vector))
PLAIN(irq_window, IRQ_WINDOW, (void *vcpu, uint32_t on), cassette_args_irq_window(to, on))
PLAIN(guest_debug, GUEST_DEBUG, (void *vcpu, const struct impost_guest_debug *debug),
      cassette_args_guest_debug(to, debug))
PLAIN(state_set, STATE_SET, (void *vcpu, uint32_t section, const void *buf, uint32_t bytes),
      cassette_args_state_set(to, section, buf, bytes))
PLAIN(cpuid_set, CPUID_SET, (void *vcpu, const struct impost_x86_cpuid *entries, uint32_t count),
      cassette_args_cpuid(to, entries, count))

/* --- calls that give something --- */

/* The end of one whose results were taken out with ERR. */
static int32_t given(struct play_call *call, int32_t err)
{
	return err ? play_leave(call, play_broken(call->play, err))
		   : play_end(call, play_said(call));
}

static int32_t translate(void *vcpu, uint64_t gva, uint64_t *ret_gpa)
{
	struct play_vcpu *v = vcpu;
	struct play_call call;
	struct cassette_values *to = play_begin(&call, v->vm, v, CASSETTE_TRANSLATE);
	int32_t err;

	if (!to)
		return -ENOMEM;
	cassette_args_translate(to, gva);
	err = play_enter(&call);
	if (err)
		return err;
	if (!call.item->error)
		err = cassette_take_translate(call.item->results, ret_gpa);
	return given(&call, err);
}

static int32_t msrs_get(void *vcpu, struct impost_x86_msr *msrs, uint32_t count, uint32_t *ret_done)
{
	struct play_vcpu *v = vcpu;
	struct play_call call;
	struct cassette_values *to = play_begin(&call, v->vm, v, CASSETTE_MSRS_GET);
	int32_t err;

	if (!to)
		return -ENOMEM;
	cassette_args_msrs_get(to, msrs, count);
	err = play_enter(&call);
	return err ? err
		   : given(&call,
			   cassette_take_msrs_get(call.item->results, msrs, count, ret_done));
}

static int32_t msrs_set(void *vcpu, const struct impost_x86_msr *msrs, uint32_t count,
			uint32_t *ret_done)
{
	struct play_vcpu *v = vcpu;
	struct play_call call;
	struct cassette_values *to = play_begin(&call, v->vm, v, CASSETTE_MSRS_SET);
	int32_t err;

	if (!to)
		return -ENOMEM;
	cassette_args_msrs_set(to, msrs, count);
	err = play_enter(&call);
	return err ? err
		   : given(&call, cassette_take_msrs_set(call.item->results, count, ret_done));
}

/* Where more was recorded than there is room for now, the call stays for one with more room. */
static int32_t too_small(struct play_call *call, uint32_t have, uint32_t *ret_have)
{
	*ret_have = have;
	return play_leave(call, mock_error(call->play->vm, -ENOSPC, "%s: there are %u",
					   cassette_op_name(call->op), have));
}

static int32_t cpuid_get(void *vcpu, struct impost_x86_cpuid *entries, uint32_t capacity,
			 uint32_t *ret_count)
{
	struct play_vcpu *v = vcpu;
	struct play_call call;
	uint32_t count = 0;
	int32_t err;

	if (!play_begin(&call, v->vm, v, CASSETTE_CPUID_GET))
		return -ENOMEM;
	err = play_enter(&call);
	if (err)
		return err;
	err = cassette_take_cpuid_get(call.item->results, call.item->error, entries, capacity,
				      &count);
	if (err == -ENOSPC && !call.item->error)
		return too_small(&call, count, ret_count);
	if (!err || err == -ENOSPC)
		*ret_count = count;
	return given(&call, err == -ENOSPC ? 0 : err);
}

/*
 * What the host is told before the cassette is asked: an exit that has not come back, and the
 * hold's question whether there is one, which comes as often as threads happen to meet.
 */
static int32_t refuse_get(struct play_vcpu *v, uint32_t section, uint32_t capacity,
			  uint32_t *ret_size)
{
	if (v->pending)
		return mock_error(v->vm, -EBUSY, "vCPU %u: I/O is pending: complete it first",
				  v->lane->id);
	if (section != IMPOST_SECTION_REGS || capacity >= sizeof(struct impost_x86_regs))
		return 0;
	*ret_size = sizeof(struct impost_x86_regs);
	return mock_error(v->vm, -ENOSPC, "section %u has %u bytes", section, *ret_size);
}

/* 1: the recorded host had too little room, and asked again. */
static int32_t get_once(struct play_call *call, void *buf, uint32_t capacity, uint32_t *ret_size)
{
	struct cassette_span data = {0};
	uint32_t size = 0;
	int32_t err = play_enter(call);

	if (err)
		return err;
	err = cassette_take_state_get(call->item->results, call->item->error, &data, &size);
	if (err)
		return play_leave(call, play_broken(call->play, err));
	if (call->item->error == -ENOSPC && size && size <= capacity)
		return play_end(call, 1);
	if (data.len > capacity)
		return too_small(call, (uint32_t)data.len, ret_size);
	if (data.len)
		memcpy(buf, data.data, data.len);
	if (!call->item->error || call->item->error == -ENOSPC)
		*ret_size = call->item->error ? size : (uint32_t)data.len;
	return play_end(call, play_said(call));
}

int32_t play_state_get(struct mock_vm *vm, struct play_vcpu *v, uint32_t section, void *buf,
		       uint32_t capacity, uint32_t *ret_size)
{
	struct play_call call;
	struct cassette_values *to;
	int32_t r = v ? refuse_get(v, section, capacity, ret_size) : 0;

	if (r)
		return r;
	do {
		to = play_begin(&call, vm, v, v ? CASSETTE_STATE_GET : CASSETTE_VM_STATE_GET);
		if (!to)
			return -ENOMEM;
		cassette_args_state_get(to, section);
		r = get_once(&call, buf, capacity, ret_size);
	} while (r > 0);
	return r;
}

static int32_t state_get(void *vcpu, uint32_t section, void *buf, uint32_t capacity,
			 uint32_t *ret_size)
{
	struct play_vcpu *v = vcpu;

	return play_state_get(v->vm, v, section, buf, capacity, ret_size);
}

const struct impost_vcpu_ops play_vcpu_ops = {
	.size = sizeof(play_vcpu_ops),
	.destroy = destroy,
	.run = play_run,
	.complete = play_complete,
	.kick = kick,
	.nmi = nmi,
	.irq_inject = irq_inject,
	.irq_window = irq_window,
	.guest_debug = guest_debug,
	.translate = translate,
	.state_get = state_get,
	.state_set = state_set,
	.msrs_get = msrs_get,
	.msrs_set = msrs_set,
	.cpuid_set = cpuid_set,
	.cpuid_get = cpuid_get,
};
