/* SPDX-License-Identifier: Apache-2.0 */
/* `mock.control/1`: what tests do to a mock VM; <impost/mock.h>. */
#include "internal.h"

#include <stdlib.h>
#include <unistd.h>

static struct mock_vcpu *find_vcpu(struct mock_vm *vm, uint32_t id)
{
	struct mock_vcpu *v;

	for (v = vm->vcpus; v && v->id != id; v = v->next)
		;
	return v;
}

static int32_t append(void *handle, uint32_t id, const struct impost_mock_step *steps,
		      uint32_t count)
{
	struct mock_vm *vm = handle;
	struct mock_tape *tape;
	struct mock_vcpu *v;
	uint32_t i, before;
	int32_t err;

	for (i = 0; i < count; i++) {
		const char *fault = mock_step_fault(&steps[i]);

		if (fault)
			return mock_error(vm, -EINVAL, "step %u: %s", i, fault);
	}
	err = mock_vm_tape(vm, id, &tape);
	if (err)
		return err;
	pthread_mutex_lock(&tape->lock);
	before = tape->steps.count;
	for (i = 0; !err && i < count; i++)
		err = mock_steps_add(&tape->steps, &steps[i]);
	if (err)
		mock_steps_cut(&tape->steps, before);
	pthread_mutex_unlock(&tape->lock);
	if (err)
		return mock_error(vm, err, "cannot append %u steps to %u", count, before);
	pthread_mutex_lock(&vm->lock);
	v = find_vcpu(vm, id);
	if (v)
		mock_vcpu_wake(v);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int32_t advance(void *handle, uint64_t ns)
{
	struct mock_vm *vm = handle;

	atomic_fetch_add(&vm->clock_ns, ns);
	return 0;
}

static int32_t irq(void *handle, uint32_t index, struct impost_mock_irq *ret_irq)
{
	struct mock_vm *vm = handle;
	bool found;

	mock_irqfd_poll(vm);
	pthread_mutex_lock(&vm->lock);
	found = index < vm->nirqs;
	if (found)
		*ret_irq = vm->irqs[index];
	pthread_mutex_unlock(&vm->lock);
	return found ? 0 : mock_error(vm, -ENOENT, "the interrupt log has no entry %u", index);
}

static int32_t played(void *handle, uint32_t id, uint64_t *ret_steps)
{
	struct mock_tape *tape;
	int32_t err = mock_vm_tape(handle, id, &tape);

	if (err)
		return err;
	pthread_mutex_lock(&tape->lock);
	*ret_steps = tape->played;
	pthread_mutex_unlock(&tape->lock);
	return 0;
}

static int32_t post_event(void *handle, const struct impost_exit *exit)
{
	static const uint64_t one = 1;
	struct mock_vm *vm = handle;
	struct mock_event *event, **link;

	if (exit->kind != IMPOST_EXIT_SHUTDOWN && exit->kind != IMPOST_EXIT_RESET)
		return mock_error(vm, -EINVAL, "events of a VM are SHUTDOWN and RESET");
	event = calloc(1, sizeof(*event));
	if (!event)
		return mock_error(vm, -ENOMEM, "out of memory");
	event->exit = *exit;
	event->exit.size = sizeof(event->exit);
	pthread_mutex_lock(&vm->lock);
	for (link = &vm->events; *link; link = &(*link)->next)
		;
	*link = event;
	(void)!write(vm->event_fd, &one, sizeof(one));
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

const struct impost_mock_control mock_control = {
	.size = sizeof(mock_control),
	.append = append,
	.advance = advance,
	.irq = irq,
	.played = played,
	.post_event = post_event,
	.move = mock_mem_move,
};
