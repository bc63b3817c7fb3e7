/* SPDX-License-Identifier: Apache-2.0 */
/* The operations on a VM that plays a cassette, and its life. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cassette_play.h"

/* --- life --- */

static void free_play(struct mock_play *p)
{
	while (p->lanes) {
		struct play_lane *lane = p->lanes;

		p->lanes = lane->next;
		free(lane);
	}
	while (p->values) {
		struct play_values *values = p->values;

		p->values = values->next;
		cassette_values_free(&values->values);
		free(values);
	}
	cassette_reader_close(p->reader);
	pthread_cond_destroy(&p->left_run);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int32_t open_reader(struct mock_play *p)
{
	char why[512] = "";
	int err = cassette_reader_open(p->path, &p->reader, why, sizeof(why));

	return err ? mock_error(p->vm, err, "cassette %s: %s", p->path, why) : 0;
}

int32_t mock_play_begin(struct mock_vm *vm, const struct impost_vm_args *args)
{
	struct mock_play *p = calloc(1, sizeof(*p));
	struct cassette_values *values;
	struct play_call call;
	int32_t err;

	if (!p)
		return mock_error(vm, -ENOMEM, "out of memory");
	p->vm = vm;
	p->path = vm->backend->cassette;
	p->limit_ns = vm->backend->cassette_wait * UINT64_C(1000000);
	p->vm_lane.id = CASSETTE_LANE_VM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->left_run, NULL);
	vm->play = p;
	vm->ops = &play_vm_ops;
	err = open_reader(p);
	if (err)
		return err;
	values = play_begin(&call, vm, NULL, CASSETTE_VM_CREATE);
	if (!values)
		return -ENOMEM;
	cassette_args_vm_create(values, args);
	return play_plain(&call);
}

void mock_play_end(struct mock_vm *vm)
{
	struct mock_play *p = vm->play;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	if (p->reader) {
		p->vm_lane.ended = true;
		play_settle(p);
	}
	if (p->untold)
		impost_host_log(vm->host, IMPOST_LOG_WARN, "%s", p->text);
	else if (p->left && !p->err)
		impost_host_log(vm->host, IMPOST_LOG_WARN,
				"cassette %s: calls were left unplayed: %llu", p->path,
				(unsigned long long)p->left);
	pthread_mutex_unlock(&p->lock);
	free_play(p);
	vm->play = NULL;
}

static void destroy(void *handle)
{
	mock_vm_destroy(handle);
}

/* --- memory: the mock's own, where it was made as it was recorded --- */

/*
 * Asks for huge pages. All of the memory is read at each checksum, and what the guest wrote is
 * written again, in pieces: page by page that was a third of a replay's time. What the kernel, or
 * the memory's kind, does not do is no error.
 */
static void ask_for_huge_pages(const struct impost_slot *slot)
{
	madvise(slot->hva, slot->bytes, MADV_HUGEPAGE);
}

static int32_t mem_add(void *vm, const struct impost_slot *slot)
{
	struct play_call call;
	struct cassette_values *v = play_begin(&call, vm, NULL, CASSETTE_MEM_ADD);
	int32_t err;

	if (!v)
		return -ENOMEM;
	cassette_args_slot(v, slot);
	err = play_enter(&call);
	if (err)
		return err;
	err = play_said(&call);
	if (!err)
		err = mock_mem_add(vm, slot);
	if (!err)
		ask_for_huge_pages(slot);
	return play_end(&call, err);
}

static int32_t mem_provide(void *vm, const struct impost_slot *slot, void **ret_hva)
{
	struct play_call call;
	struct cassette_values *v = play_begin(&call, vm, NULL, CASSETTE_MEM_PROVIDE);
	int32_t err;

	if (!v)
		return -ENOMEM;
	cassette_args_slot(v, slot);
	err = play_enter(&call);
	if (err)
		return err;
	err = play_said(&call);
	return play_end(&call, err ? err : mock_mem_provide(vm, slot, ret_hva));
}

static int32_t mem_remove(void *vm, uint32_t slot)
{
	struct play_call call;
	struct cassette_values *v = play_begin(&call, vm, NULL, CASSETTE_MEM_REMOVE);
	int32_t err;

	if (!v)
		return -ENOMEM;
	cassette_args_mem_remove(v, slot);
	err = play_enter(&call);
	if (err)
		return err;
	/* The guest may have written to it until then. */
	err = play_memory(call.play);
	if (err)
		return play_leave(&call, err);
	err = play_said(&call);
	return play_end(&call, err ? err : mock_mem_remove(vm, slot));
}

/* --- running --- */

static void wake_vcpus(struct mock_play *p)
{
	for (struct play_lane *lane = p->lanes; lane; lane = lane->next)
		play_wake(lane);
}

static int32_t vm_pause(void *handle)
{
	struct mock_vm *vm = handle;
	struct mock_play *p = vm->play;
	struct play_call call;
	int32_t err;

	if (!play_begin(&call, vm, NULL, CASSETTE_PAUSE))
		return -ENOMEM;
	err = play_plain(&call);
	if (err)
		return err;
	pthread_mutex_lock(&p->lock);
	atomic_store(&vm->paused, true);
	wake_vcpus(p);
	while (p->running)
		pthread_cond_wait(&p->left_run, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int32_t resume(void *handle)
{
	struct mock_vm *vm = handle;
	struct play_call call;
	int32_t err;

	if (!play_begin(&call, vm, NULL, CASSETTE_RESUME))
		return -ENOMEM;
	err = play_plain(&call);
	if (!err)
		atomic_store(&vm->paused, false);
	return err;
}

/* The event that is due. SHUTDOWN and RESET are all there are; they have no data. */
static int32_t take_event(struct mock_play *p, const struct cassette_item *item,
			  struct impost_exit *ret_exit)
{
	const struct play_call call = {.play = p, .item = item};
	struct cassette_exit_room room = {0};
	struct impost_exit exit = {0};
	int32_t said = play_said(&call), err = 0;

	if (!said)
		err = cassette_take_exit(item->results, &room, &exit);
	cassette_exit_room_free(&room);
	if (!said && !err && exit.kind != IMPOST_EXIT_SHUTDOWN && exit.kind != IMPOST_EXIT_RESET)
		err = -IMPOST_EFORMAT;
	err = err ? play_broken(p, err) : play_next(p);
	if (!err && !said)
		*ret_exit = exit;
	return err ? err : said;
}

/* An event is there when its call is due. A host may look more often than was recorded. */
static int32_t event(void *handle, struct impost_exit *ret_exit)
{
	struct mock_vm *vm = handle;
	struct mock_play *p = vm->play;
	const struct cassette_item *item = NULL;
	enum play_look look;
	uint64_t count;
	int32_t err;

	pthread_mutex_lock(&p->lock);
	look = play_look(p, &p->vm_lane, &item);
	if (look == PLAY_STOPPED)
		err = play_stopped(p);
	else if (look != PLAY_MINE || item->op != CASSETTE_EVENT)
		err = mock_error(vm, -EAGAIN, "the VM has no event");
	else {
		(void)!read(vm->event_fd, &count, sizeof(count));
		err = take_event(p, item, ret_exit);
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

static int32_t event_fd(void *handle, int32_t *ret_fd)
{
	struct mock_vm *vm = handle;
	struct play_call call;
	int32_t err;

	if (!play_begin(&call, vm, NULL, CASSETTE_EVENT_FD))
		return -ENOMEM;
	/* Before the cursor moves: the next call may be an event. */
	pthread_mutex_lock(&vm->play->lock);
	vm->play->tells_events = true;
	pthread_mutex_unlock(&vm->play->lock);
	err = play_plain(&call);
	if (err)
		return err;
	*ret_fd = vm->event_fd;
	return 0;
}

/* --- calls that are compared, and give what was recorded --- */

#define PLAIN(op, OP, parameters, encode)                                               \
	static int32_t op parameters                                                    \
	{                                                                               \
		struct play_call call;                                                  \
		struct cassette_values *v = play_begin(&call, vm, NULL, CASSETTE_##OP); \
                                                                                        \
		if (!v)                                                                 \
			return -ENOMEM;                                                 \
		encode;                                                                 \
		return play_plain(&call);                                               \
	}

PLAIN(io_claim, IO_CLAIM, (void *vm, uint32_t space, uint64_t first, uint64_t last),
      cassette_args_io_range(v, space, first, last))
PLAIN(io_release, IO_RELEASE, (void *vm, uint32_t space, uint64_t first, uint64_t last),
      cassette_args_io_range(v, space, first, last))
PLAIN(irq_line, IRQ_LINE, (void *vm, uint32_t gsi, uint32_t level),
      cassette_args_irq_line(v, gsi, level))
PLAIN(msi, MSI, (void *vm, uint64_t address, uint32_t data), cassette_args_msi(v, address, data))
PLAIN(gsi_routes, GSI_ROUTES, (void *vm, const struct impost_gsi_route *routes, uint32_t nroutes),
      cassette_args_gsi_routes(v, routes, nroutes))
PLAIN(msr_exits, MSR_EXITS,
      (void *vm, const struct impost_msr_range *ranges, uint32_t nranges, uint32_t unknown),
      cassette_args_msr_exits(v, ranges, nranges, unknown))
PLAIN(cpuid_set, VM_CPUID_SET, (void *vm, const struct impost_x86_cpuid *entries, uint32_t count),
      cassette_args_cpuid(v, entries, count))
PLAIN(state_set, VM_STATE_SET, (void *vm, uint32_t section, const void *buf, uint32_t bytes),
      cassette_args_state_set(v, section, buf, bytes))

static int32_t state_get(void *vm, uint32_t section, void *buf, uint32_t capacity,
			 uint32_t *ret_size)
{
	return play_state_get(vm, NULL, section, buf, capacity, ret_size);
}

/* --- what no cassette has --- */

static int32_t irqfd(void *vm, const struct impost_irqfd *irqfd)
{
	(void)irqfd;
	return mock_error((struct mock_vm *)vm, -ENOTSUP, "a cassette has no irqfds");
}

static int32_t ioeventfd(void *vm, const struct impost_ioeventfd *ioeventfd)
{
	(void)ioeventfd;
	return mock_error((struct mock_vm *)vm, -ENOTSUP, "a cassette has no ioeventfds");
}

/* --- mock.cassette/1 --- */

/* How far it is. The lock is held. */
static void fill_status(struct mock_play *p, struct impost_mock_cassette_status *s)
{
	const struct cassette_item *item = NULL;

	if (!p->err && cassette_reader_peek(p->reader, &item))
		item = NULL;
	p->untold = false;
	s->error = p->err;
	s->played = p->played;
	s->left = p->left;
	memcpy(s->text, p->text, sizeof(s->text));
	s->ended = p->unstopped;
	if (!item)
		return;
	s->ended = item->kind == CASSETTE_END ||
		   (item->kind == CASSETTE_CALL && item->op == CASSETTE_VM_DESTROY);
	if (item->kind == CASSETTE_CUT) {
		s->error = -IMPOST_EFORMAT;
		snprintf(s->text, sizeof(s->text), "cassette %s: %s", p->path, item->why);
	}
}

static int32_t status(void *handle, struct impost_mock_cassette_status *ret_status)
{
	struct mock_vm *vm = handle;
	struct mock_play *p = vm->play;
	struct impost_mock_cassette_status s = {.size = sizeof(s)};

	if (ret_status->size < sizeof(s))
		return mock_error(vm, -EINVAL, "status: size is %u: it must be %zu",
				  ret_status->size, sizeof(s));
	pthread_mutex_lock(&p->lock);
	play_settle(p);
	fill_status(p, &s);
	pthread_mutex_unlock(&p->lock);
	*ret_status = s;
	return 0;
}

static const struct impost_mock_cassette cassette = {
	.size = sizeof(cassette),
	.status = status,
};

static const void *extension(void *vm, const char *name, void **ret_handle)
{
	if (strcmp(name, IMPOST_MOCK_CASSETTE))
		return NULL;
	*ret_handle = vm;
	return &cassette;
}

const struct impost_vm_ops play_vm_ops = {
	.size = sizeof(play_vm_ops),
	.destroy = destroy,
	.vcpu_create = play_vcpu_create,
	.mem_add = mem_add,
	.mem_provide = mem_provide,
	.mem_remove = mem_remove,
	.mark_dirty = mock_mark_dirty,
	.dirty_start = mock_dirty_start,
	.dirty_stop = mock_dirty_stop,
	.dirty_fetch = mock_dirty_fetch,
	.dirty_clear = mock_dirty_clear,
	.pause = vm_pause,
	.resume = resume,
	.event = event,
	.event_fd = event_fd,
	.io_claim = io_claim,
	.io_release = io_release,
	.irq_line = irq_line,
	.msi = msi,
	.gsi_routes = gsi_routes,
	.irqfd = irqfd,
	.ioeventfd = ioeventfd,
	.msr_exits = msr_exits,
	.cpuid_set = cpuid_set,
	.state_get = state_get,
	.state_set = state_set,
	.extension = extension,
};
