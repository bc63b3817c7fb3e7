/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `record`: writes down every call of the host's, and what the backend said to it. */
#include "record.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <impost/cassette.h>

/* What was written stays in this process for so long at the most. */
#define FLUSH_NS UINT64_C(100000000)

/* The error text of the call below that this thread is in. */
static _Thread_local char error_text[CASSETTE_TEXT_MAX];

/* --- the host, as what is below sees it --- */

static void host_log(void *ctx, uint32_t level, const char *text)
{
	const struct impost_host *host = ((struct record_vm *)ctx)->vm->host;

	host->log(host->ctx, level, text);
}

static void host_error(void *ctx, const char *text)
{
	const struct impost_host *host = ((struct record_vm *)ctx)->vm->host;

	strncpy(error_text, text, sizeof(error_text) - 1);
	host->error(host->ctx, text);
}

static int32_t host_mem_lookup(void *ctx, uint64_t gpa, uint64_t len, void **ret_hva)
{
	const struct impost_host *host = ((struct record_vm *)ctx)->vm->host;

	return host->mem_lookup(host->ctx, gpa, len, ret_hva);
}

/* Where the slot NUMBER is. NULL: it is not known. */
static void *set_hva(struct record_vm *rec, uint32_t number, void *hva)
{
	struct slot *slot;
	void *old = NULL;

	pthread_mutex_lock(&rec->lock);
	slot = memory_find(rec, number);
	if (slot) {
		old = slot->s.hva;
		slot->s.hva = hva;
	}
	pthread_mutex_unlock(&rec->lock);
	return old;
}

/* The memory is at both addresses until the host has been told. */
static int32_t host_mem_moved(void *ctx, uint32_t slot, void *hva)
{
	struct record_vm *rec = ctx;
	const struct impost_host *host = rec->vm->host;
	void *old = set_hva(rec, slot, hva);
	int32_t err = host->mem_moved(host->ctx, slot, hva);

	if (err)
		set_hva(rec, slot, old);
	return err;
}

/* A cassette has exits and no answers in the middle of a run: what is below returns the exit. */
static int32_t host_answer(void *ctx, uint32_t id, struct impost_exit *exit)
{
	(void)ctx, (void)id, (void)exit;
	return -ENOTSUP;
}

/* --- writing --- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The guest does not suffer for a disk that is full. The lock is held. */
static void check_written(struct record_vm *rec, int err)
{
	const struct record *record = rec->vm->layer->data;

	if (!err || rec->failed)
		return;
	rec->failed = true;
	impost_host_log(rec->vm->host, IMPOST_LOG_ERROR,
			"record: %s: %s: the recording ends here, and the VM goes on", record->file,
			strerror(-err));
}

static void flush_in_time(struct record_vm *rec)
{
	uint64_t now = now_ns();

	if (rec->failed || now - rec->flushed < FLUSH_NS)
		return;
	rec->flushed = now;
	check_written(rec, cassette_writer_flush(rec->writer));
}

/* Asks below for what the guest wrote, so that it comes with this call. The lock is held. */
static void look_for_writes(struct record_vm *rec)
{
	if (!rec->ran)
		return;
	rec->ran = false;
	for (struct slot *slot = rec->slots; slot; slot = slot->next) {
		int32_t err = memory_fetch(rec, slot);

		if (err && !rec->failed) {
			rec->failed = true;
			impost_host_log(rec->vm->host, IMPOST_LOG_ERROR,
					"record: the dirty log of slot %u is lost: the recording "
					"ends here, and the VM goes on",
					slot->s.slot);
		}
	}
}

/* A call of the vCPU's after which no guest code may come: there the memory is compared. */
static bool is_end(const struct layer_call *call, int32_t err)
{
	const struct record_vm *rec = call->vm->data;
	const struct impost_exit *exit;

	if (call->op == layer_op_vcpu_destroy)
		return rec->nvcpus == 1 && rec->started;
	if (call->op != layer_op_vcpu_run || err || rec->inside)
		return false;
	exit = LAYER_ARGS(call, vcpu, run)->ret_exit;
	return exit->kind == IMPOST_EXIT_SHUTDOWN || exit->kind == IMPOST_EXIT_RESET;
}

/* Writes CALL, which returned ERR. The lock is held. */
static void write_call(const struct layer_call *call, enum cassette_op op, int32_t err,
		       struct cassette_values *args, struct cassette_values *results)
{
	struct record_vm *rec = call->vm->data;
	const struct record *record = call->layer->data;
	uint32_t lane = call->vcpu && !cassette_op_is_vm(op) ? call->vcpu->id : CASSETTE_LANE_VM;
	bool end = is_end(call, err) && record->memory != MEMORY_NONE;
	struct cassette_span given, got;
	uint32_t items;
	int failed;

	if (rec->failed)
		return;
	look_for_writes(rec);
	if (end && record->memory == MEMORY_END)
		memory_compare(rec);
	items = memory_items(rec);
	failed = cassette_values_end(args, &given);
	if (!failed)
		failed = cassette_values_end(results, &got);
	if (!failed)
		failed = cassette_write_call(rec->writer, lane, op, given, err,
					     err ? error_text : NULL, got, items);
	if (!failed)
		failed = memory_write(rec, items);
	if (!failed && end)
		failed = memory_sums(rec, lane, CASSETTE_AFTER);
	check_written(rec, failed);
	flush_in_time(rec);
}

/* Records CALL around its passing on, with arguments and results in ARGS and RESULTS. */
static int32_t record_with(struct layer_call *call, const struct call *how,
			   struct cassette_values *args, struct cassette_values *results)
{
	struct record_vm *rec = call->vm->data;
	int32_t err;

	cassette_values_begin(args);
	if (how->args)
		how->args(call, args);
	error_text[0] = '\0';
	err = layer_pass(call);
	cassette_values_begin(results);
	if (how->results)
		how->results(call, err, results);
	pthread_mutex_lock(&rec->lock);
	write_call(call, how->op, err, args, results);
	pthread_mutex_unlock(&rec->lock);
	return err;
}

/* The same for calls that come by any thread, at once. */
static int32_t record_any(struct layer_call *call)
{
	struct cassette_values args = {0}, results = {0};
	int32_t err = record_with(call, record_call(call->op), &args, &results);

	cassette_values_free(&args);
	cassette_values_free(&results);
	return err;
}

/* --- vCPUs --- */

/* The guest is about to run for the first time: what is in memory now is the host's. */
static void start(struct record_vm *rec, uint32_t lane)
{
	rec->started = true;
	for (struct slot *slot = rec->slots; slot; slot = slot->next)
		memory_copy(slot);
	if (!rec->failed)
		check_written(rec, memory_sums(rec, lane, CASSETTE_BEFORE));
}

static void enter(const struct layer_call *call)
{
	struct record_vm *rec = call->vm->data;

	pthread_mutex_lock(&rec->lock);
	if (!rec->started && call->op == layer_op_vcpu_run)
		start(rec, call->vcpu->id);
	rec->inside++;
	pthread_mutex_unlock(&rec->lock);
}

/* Whether what run gave is an INTR that no kick of the host's has made. */
static bool is_stray(struct record_vcpu *vcpu, int32_t err, const struct impost_exit *exit)
{
	return !err && exit->kind == IMPOST_EXIT_INTR && !atomic_exchange(&vcpu->kicked, false);
}

/* run and complete: both take the host's answer and give an exit. */
static int32_t record_run(struct layer_call *call)
{
	const struct call *how = record_call(call->op);
	struct record_vm *rec = call->vm->data;
	struct record_vcpu *vcpu = call->vcpu->data;
	const struct impost_exit *exit = LAYER_ARGS(call, vcpu, run)->ret_exit;
	int32_t err;
	bool stray;

	if (!vcpu->carried) {
		cassette_values_begin(&vcpu->args);
		how->args(call, &vcpu->args);
	}
	enter(call);
	error_text[0] = '\0';
	err = layer_pass(call);
	stray = call->op == layer_op_vcpu_run && is_stray(vcpu, err, exit);
	/* A run that failed has left the exit before as it was. */
	vcpu->carried = stray || (err && vcpu->carried);
	if (!err)
		vcpu->pending = !stray;
	if (!err && !stray)
		vcpu->exit = *exit;
	cassette_values_begin(&vcpu->results);
	how->results(call, err, &vcpu->results);
	pthread_mutex_lock(&rec->lock);
	rec->inside--;
	rec->ran = true;
	if (!stray)
		write_call(call, how->op, err, &vcpu->args, &vcpu->results);
	pthread_mutex_unlock(&rec->lock);
	return err;
}

/* What the core's hold asks to learn whether an exit waits depends on threads, and tells nothing.
 */
static bool tells_nothing(const struct layer_call *call, int32_t err)
{
	return err == -EBUSY || (err == -ENOSPC &&
				 LAYER_ARGS(call, vcpu, state_get)->section == IMPOST_SECTION_REGS);
}

/* Calls on a vCPU, by one thread at a time. */
static int32_t record_vcpu(struct layer_call *call)
{
	const struct call *how = record_call(call->op);
	struct record_vcpu *vcpu = call->vcpu->data;
	struct record_vm *rec = call->vm->data;
	struct cassette_values args = {0};
	int32_t err;

	if (!vcpu->carried && call->op != layer_op_vcpu_state_get)
		return record_with(call, how, &vcpu->args, &vcpu->results);
	if (how->args)
		how->args(call, &args);
	error_text[0] = '\0';
	err = layer_pass(call);
	cassette_values_begin(&vcpu->results);
	if (how->results)
		how->results(call, err, &vcpu->results);
	pthread_mutex_lock(&rec->lock);
	if (call->op != layer_op_vcpu_state_get || !tells_nothing(call, err))
		write_call(call, how->op, err, &args, &vcpu->results);
	pthread_mutex_unlock(&rec->lock);
	cassette_values_free(&args);
	return err;
}

/* The vCPU is counted as long as its end is not written. */
static int32_t count_vcpus(struct layer_call *call)
{
	struct record_vm *rec = call->vm->data;
	bool made = call->op == layer_op_vm_vcpu_create;
	int32_t err = made ? record_any(call) : record_vcpu(call);

	if (err)
		return err;
	pthread_mutex_lock(&rec->lock);
	rec->nvcpus += made ? 1 : UINT32_MAX;
	pthread_mutex_unlock(&rec->lock);
	return 0;
}

static int32_t record_kick(struct layer_call *call)
{
	atomic_store(&((struct record_vcpu *)call->vcpu->data)->kicked, true);
	return layer_pass(call);
}

/* --- memory --- */

/* The slot was added: its log begins, and it is one of those that are looked at. */
static int32_t begin_slot(struct layer_call *call, struct slot *slot)
{
	const struct impost_vm_ops *ops = call->layer->ops->vm;
	const struct record *record = call->layer->data;
	struct record_vm *rec = call->vm->data;
	int32_t err = 0;

	if (record->memory == MEMORY_EXITS && slot->writable)
		err = ops->dirty_start(call->vm->below, slot->s.slot);
	if (err) {
		ops->mem_remove(call->vm->below, slot->s.slot);
		return err;
	}
	pthread_mutex_lock(&rec->lock);
	memory_join(rec, slot);
	pthread_mutex_unlock(&rec->lock);
	return 0;
}

/* Passes on mem_add or mem_provide, and keeps the slot. */
static int32_t pass_slot(struct layer_call *call, struct slot *slot)
{
	struct record_vm *rec = call->vm->data;
	bool provided = call->op == layer_op_vm_mem_provide, started;
	int32_t err;

	pthread_mutex_lock(&rec->lock);
	started = rec->started;
	pthread_mutex_unlock(&rec->lock);
	/* As soon as it is added a guest that runs may write to it. */
	if (started && !provided)
		memory_copy(slot);
	err = layer_pass(call);
	if (err)
		return err;
	slot->provided = provided;
	if (provided)
		slot->s.hva = *LAYER_ARGS(call, vm, mem_provide)->ret_hva;
	return begin_slot(call, slot);
}

static int32_t record_mem_add(struct layer_call *call)
{
	const struct impost_slot *args = call->op == layer_op_vm_mem_add
						 ? LAYER_ARGS(call, vm, mem_add)->slot
						 : LAYER_ARGS(call, vm, mem_provide)->slot;
	struct record_vm *rec = call->vm->data;
	struct cassette_values given = {0}, none = {0};
	struct slot *slot = memory_slot(rec, args);
	int32_t err;

	if (!slot)
		return impost_host_error(call->vm->host, -ENOMEM,
					 "record: no memory for a copy of slot %u", args->slot);
	cassette_args_slot(&given, args);
	error_text[0] = '\0';
	err = pass_slot(call, slot);
	if (err)
		memory_free(slot);
	pthread_mutex_lock(&rec->lock);
	write_call(call, record_call(call->op)->op, err, &given, &none);
	pthread_mutex_unlock(&rec->lock);
	cassette_values_free(&given);
	return err;
}

/* What was written to a slot is looked for before it goes. */
static int32_t record_mem_remove(struct layer_call *call)
{
	uint32_t number = LAYER_ARGS(call, vm, mem_remove)->slot;
	struct record_vm *rec = call->vm->data;
	struct slot *slot;
	int32_t err;

	pthread_mutex_lock(&rec->lock);
	slot = memory_find(rec, number);
	if (slot) {
		memory_fetch(rec, slot);
		slot->going = true;
	}
	pthread_mutex_unlock(&rec->lock);
	err = record_any(call);
	pthread_mutex_lock(&rec->lock);
	if (slot && err)
		slot->going = false;
	else if (slot)
		memory_leave(rec, slot);
	pthread_mutex_unlock(&rec->lock);
	return err;
}

static int32_t call_dirty(struct layer_call *call)
{
	const struct record *record = call->layer->data;

	return record->memory == MEMORY_EXITS ? memory_dirty(call) : layer_pass(call);
}

/* --- the VM --- */

/* A list that below gives, with its length. NULL: it has none; *ret_err says whether that is
 * right. */
#define LIST(type, op, layer, ret_count, ret_err)                                               \
	({                                                                                      \
		type *list_ = NULL;                                                             \
		uint32_t count_ = 0, room_;                                                     \
		int32_t err_ = 0;                                                               \
		if ((layer)->ops->op) {                                                         \
			err_ = (layer)->ops->op((layer)->below, NULL, 0, &count_);              \
			if (err_ == -ENOSPC)                                                    \
				err_ = 0;                                                       \
			room_ = count_;                                                         \
			list_ = calloc((size_t)room_ + 1, sizeof(*list_));                      \
			if (!list_)                                                             \
				err_ = -ENOMEM;                                                 \
			if (!err_)                                                              \
				err_ = (layer)->ops->op((layer)->below, list_, room_, &count_); \
			if (!err_ && count_ > room_)                                            \
				err_ = -EIO;                                                    \
		}                                                                               \
		*(ret_count) = err_ ? 0 : count_;                                               \
		*(ret_err) = *(ret_err) ? *(ret_err) : err_;                                    \
		list_;                                                                          \
	})

static void show_caps(const struct record *record, struct impost_caps *caps)
{
	static const enum impost_cap hidden[] = {IMPOST_CAP_IRQFD, IMPOST_CAP_IRQFD_RESAMPLE,
						 IMPOST_CAP_IOEVENTFD, IMPOST_CAP_IO_CALLBACKS};
	static const enum impost_cap of_log[] = {
		IMPOST_CAP_DIRTY_MANUAL, IMPOST_CAP_DIRTY_INITIALLY_SET, IMPOST_CAP_DIRTY_RING};

	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		layer_drop_cap(caps, hidden[i]);
	for (size_t i = 0; record->memory == MEMORY_EXITS && i < sizeof(of_log) / sizeof(of_log[0]);
	     i++)
		layer_drop_cap(caps, of_log[i]);
}

static int32_t record_caps(struct layer_call *call)
{
	int32_t err = layer_pass(call);

	if (!err)
		show_caps(call->layer->data, LAYER_ARGS(call, backend, caps)->ret_caps);
	return err;
}

/* First-level caches of AMD's processors (APM vol. 3, CPUID). */
#define FIRST_CACHES 0x80000005u

/* Where the backend does not tell of them hosts take those of this CPU: to be the same on another
 * machine they have to be in the cassette. */
static void tell_caches(struct impost_x86_cpuid *entries, uint32_t count)
{
	for (struct impost_x86_cpuid *e = entries; e < entries + count; e++)
		if (e->leaf == FIRST_CACHES && !(e->eax | e->ebx | e->ecx | e->edx))
			__get_cpuid(e->leaf, &e->eax, &e->ebx, &e->ecx, &e->edx);
}

static int32_t record_cpuid_supported(struct layer_call *call)
{
	const struct layer_args_backend_cpuid_supported *args = call->args;
	int32_t err = layer_pass(call);

	if (!err && args->entries)
		tell_caches(args->entries, *args->ret_count);
	return err;
}

/* Opens the cassette, with what the backend is in its header. */
static int32_t open_cassette(struct layer *layer, struct record_vm *rec)
{
	const struct record *record = layer->data;
	struct cassette_header header = {.backend = layer->backend,
					 .version = layer->backend_version,
					 .caps.size = sizeof(header.caps)};
	int32_t err = layer->ops->caps(layer->below, &header.caps);

	show_caps(record, &header.caps);
	header.cpuid = LIST(struct impost_x86_cpuid, cpuid_supported, layer, &header.ncpuid, &err);
	tell_caches(header.cpuid, header.ncpuid);
	header.msrs = LIST(uint32_t, msr_list, layer, &header.nmsrs, &err);
	header.feature_msrs =
		LIST(struct impost_x86_msr, feature_msrs, layer, &header.nfeature_msrs, &err);
	if (!err) {
		err = cassette_writer_open(record->file, &header, &rec->writer);
		if (err)
			impost_host_error(
				layer->host, err, "record: cannot write %s: %s", record->file,
				err == -EBUSY
					? "it is being played, or written by another recording"
					: strerror(-err));
	}
	free(header.cpuid);
	free(header.msrs);
	free(header.feature_msrs);
	return err;
}

static void make_host(struct record_vm *rec, const struct impost_host *host)
{
	rec->host = *host;
	rec->host.size = sizeof(rec->host);
	rec->host.ctx = rec;
	rec->host.log = host_log;
	rec->host.error = host_error;
	rec->host.mem_lookup = host_mem_lookup;
	rec->host.mem_moved = host_mem_moved;
	rec->host.answer = host_answer;
}

static int32_t check_below(struct layer *layer)
{
	struct record *record = layer->data;
	struct impost_caps caps = {.size = sizeof(caps)};
	int32_t err = layer->ops->caps(layer->below, &caps);

	if (err || record->memory != MEMORY_EXITS)
		return err;
	record->manual = impost_caps_has(&caps, IMPOST_CAP_DIRTY_MANUAL);
	if (!impost_caps_has(&caps, IMPOST_CAP_DIRTY_LOG))
		return impost_host_error(
			layer->host, -ENOTSUP,
			"record: backend %s has no dirty log, which memory = exits "
			"needs: set [layer.record] memory = end, or none",
			layer->backend);
	return 0;
}

static int32_t record_vm_create(struct layer_call *call)
{
	struct layer_args_backend_vm_create *args = call->args;
	struct record *record = call->layer->data;
	struct record_vm *rec = call->vm->data;
	const struct impost_vm_args *given = args->args;
	struct impost_vm_args own = *given;
	int32_t err = check_below(call->layer);

	if (err)
		return err;
	if (atomic_exchange(&record->used, true))
		return impost_host_error(call->layer->host, -EBUSY,
					 "record: %s is the cassette of another VM", record->file);
	rec->vm = call->vm;
	pthread_mutex_init(&rec->lock, NULL);
	make_host(rec, given->host);
	err = open_cassette(call->layer, rec);
	if (err) {
		atomic_store(&record->used, false);
		return err;
	}
	own.host = &rec->host;
	args->args = &own;
	err = record_any(call);
	args->args = given;
	if (err)
		atomic_store(&record->used, false);
	return err;
}

static int32_t record_vm_destroy(struct layer_call *call)
{
	struct record_vm *rec = call->vm->data;
	int32_t err = record_any(call);

	check_written(rec, cassette_writer_close(rec->writer));
	rec->writer = NULL;
	return err;
}

static void free_vm(struct layer_vm *vm)
{
	struct record_vm *rec = vm->data;

	if (!rec->vm)
		return;
	cassette_writer_close(rec->writer);
	while (rec->slots)
		memory_leave(rec, rec->slots);
	cassette_pieces_free(&rec->pieces);
	pthread_mutex_destroy(&rec->lock);
}

static void free_vcpu(struct layer_vcpu *layer_vcpu)
{
	struct record_vcpu *vcpu = layer_vcpu->data;

	cassette_values_free(&vcpu->args);
	cassette_values_free(&vcpu->results);
}

/* --- what no recorded VM has --- */

static int32_t refuse(struct layer_call *call)
{
	return impost_host_error(call->vm->host, -ENOTSUP,
				 "record: what an eventfd carries passes by the recording: there "
				 "is no %s",
				 layer_op_name(call->op));
}

/* Nothing to take is no event: how often a host asks is its own affair. */
static int32_t record_event(struct layer_call *call)
{
	struct cassette_values args = {0}, results = {0};
	struct record_vm *rec = call->vm->data;
	int32_t err;

	error_text[0] = '\0';
	err = layer_pass(call);
	if (err == -EAGAIN)
		return err;
	record_call(call->op)->results(call, err, &results);
	pthread_mutex_lock(&rec->lock);
	write_call(call, CASSETTE_EVENT, err, &args, &results);
	pthread_mutex_unlock(&rec->lock);
	cassette_values_free(&results);
	return err;
}

/* --- the hook --- */

/* What is not among them is recorded as it stands. */
static int32_t (*const special[LAYER_OPS])(struct layer_call *) = {
	[layer_op_backend_caps] = record_caps,
	[layer_op_backend_cpuid_supported] = record_cpuid_supported,
	[layer_op_backend_vm_create] = record_vm_create,
	[layer_op_vm_destroy] = record_vm_destroy,
	[layer_op_vm_vcpu_create] = count_vcpus,
	[layer_op_vm_mem_add] = record_mem_add,
	[layer_op_vm_mem_provide] = record_mem_add,
	[layer_op_vm_mem_remove] = record_mem_remove,
	[layer_op_vm_dirty_start] = call_dirty,
	[layer_op_vm_dirty_stop] = call_dirty,
	[layer_op_vm_dirty_fetch] = call_dirty,
	[layer_op_vm_dirty_clear] = call_dirty,
	[layer_op_vm_event] = record_event,
	[layer_op_vm_irqfd] = refuse,
	[layer_op_vm_ioeventfd] = refuse,
	[layer_op_vcpu_destroy] = count_vcpus,
	[layer_op_vcpu_run] = record_run,
	[layer_op_vcpu_complete] = record_run,
	[layer_op_vcpu_kick] = record_kick,
};

static int32_t on_call(struct layer_call *call)
{
	if (special[call->op])
		return special[call->op](call);
	if (!record_call(call->op))
		return layer_pass(call);
	return call->vcpu ? record_vcpu(call) : record_any(call);
}

/* --- the interface --- */

static bool is_plain(const char *text, size_t most)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return len <= most;
}

static int32_t note_host(void *handle, const char *section, const char *key, const char *value)
{
	struct record_vm *rec = handle;
	int32_t err = 0;

	if (!is_plain(section, 63) || !is_plain(key, 63) || !is_plain(value, 4095))
		return impost_host_error(rec->vm->host, -EINVAL,
					 "record: a cassette has no room for [%.63s] %.63s, or it "
					 "has control characters",
					 section, key);
	pthread_mutex_lock(&rec->lock);
	if (rec->started)
		err = -EBUSY;
	else
		err = cassette_write_host(rec->writer, section, key, value);
	pthread_mutex_unlock(&rec->lock);
	return err ? impost_host_error(rec->vm->host, err, "record: [%s] %s: %s", section, key,
				       err == -EBUSY ? "the guest has run" : strerror(-err))
		   : 0;
}

static const void *extension(struct layer_vm *vm, const char *name, void **ret_handle)
{
	static const struct impost_cassette table = {.size = sizeof(table), .host = note_host};

	if (strcmp(name, IMPOST_CASSETTE) != 0)
		return NULL;
	*ret_handle = vm->data;
	return &table;
}

/* --- opening --- */

static enum memory_mode memory_mode(const struct impost_option *option)
{
	if (option && strcmp(option->value, "none") == 0)
		return MEMORY_NONE;
	return option && strcmp(option->value, "end") == 0 ? MEMORY_END : MEMORY_EXITS;
}

static int32_t open_layer(struct layer *layer, const struct impost_open_args *args)
{
	const struct impost_option *file = layer_option(args, "file");
	struct record *record = layer->data;

	if (!file || !*file->value)
		return impost_host_error(args->host, -EINVAL,
					 "record: no file to write: set [layer.record] file, or "
					 "name it: --layer record:FILE");
	record->memory = memory_mode(layer_option(args, "memory"));
	record->file = strdup(file->value);
	if (!record->file)
		return impost_host_error(args->host, -ENOMEM, "record: no memory for a name");
	return 0;
}

static void close_layer(struct layer *layer)
{
	free(((struct record *)layer->data)->file);
}

static const struct layer_kind kind = {
	.layer_bytes = sizeof(struct record),
	.vm_bytes = sizeof(struct record_vm),
	.vcpu_bytes = sizeof(struct record_vcpu),
	.open = open_layer,
	.close = close_layer,
	.call = on_call,
	.vm_free = free_vm,
	.vcpu_free = free_vcpu,
	.extension = extension,
};

static int32_t open_record(const struct impost_open_args *args, void **ret_layer)
{
	return layer_open(&kind, args, ret_layer);
}

const struct impost_backend_ops record_ops = LAYER_BACKEND_OPS(open_record);

const struct impost_option_desc record_options[RECORD_NOPTIONS] = {
	{.size = sizeof(struct impost_option_desc),
	 .type = IMPOST_OPTION_PATH,
	 .key = "file",
	 .help = "the cassette that is written"},
	{.size = sizeof(struct impost_option_desc),
	 .type = IMPOST_OPTION_ENUM,
	 .key = "memory",
	 .choices = "exits|end|none",
	 .default_value = "exits",
	 .help = "when what the guest wrote to memory is written: with each exit, at the end, never"},
};
