/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting calls. Each vCPU has counters of its own, which only the thread that is inside its
 * operations writes, so that they cost no more than a load and a store; those of the VM, and of
 * kicks, are written by any thread.
 */
#include "trace.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <impost/trace.h>

struct counter {
	atomic_uint_fast64_t calls, failed, ns, longest;
	atomic_uint_fast64_t bucket[IMPOST_TRACE_BUCKETS];
};

/* Operations of vCPUs are the last of all. */
#define FIRST_VCPU_OP ((uint32_t)layer_op_vcpu_destroy)
#define VCPU_OPS      (LAYER_OPS - FIRST_VCPU_OP)

struct vcpu_counts {
	struct layer_vcpu *next; /* guarded by the VM's lock */
	atomic_uint_fast64_t exits[IMPOST_EXIT_KINDS];
	struct counter op[VCPU_OPS];
};

/* The VM's, with what vCPUs that are gone had counted. */
struct vm_counts {
	pthread_mutex_t lock;
	struct layer_vcpu *vcpus; /* live ones */
	atomic_uint_fast64_t exits[IMPOST_EXIT_KINDS];
	struct counter op[LAYER_OPS];
};

/* The layer's own operations, those of `struct impost_backend_ops`, are counted here. */
struct trace_layer {
	struct trace trace;
	struct counter op[LAYER_OPS];
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* --- counting --- */

static uint64_t load(const atomic_uint_fast64_t *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

static void store(atomic_uint_fast64_t *at, uint64_t value)
{
	atomic_store_explicit(at, value, memory_order_relaxed);
}

/* Adds to what this thread alone writes, or to what SHARED says others write too. */
static inline void add(atomic_uint_fast64_t *at, uint64_t value, int shared)
{
	if (shared)
		atomic_fetch_add_explicit(at, value, memory_order_relaxed);
	else
		store(at, load(at) + value);
}

static void raise_to(atomic_uint_fast64_t *at, uint64_t value)
{
	uint64_t old = load(at);

	while (old < value && !atomic_compare_exchange_weak_explicit(
				      at, &old, value, memory_order_relaxed, memory_order_relaxed))
		;
}

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t bucket = ns ? 63 - (uint32_t)__builtin_clzll(ns) : 0;

	return bucket < IMPOST_TRACE_BUCKETS ? bucket : IMPOST_TRACE_BUCKETS - 1;
}

/* The counter of CALL; *RET_SHARED: whether several threads may be at it. */
static inline struct counter *counter_of(const struct layer_call *call, int *ret_shared)
{
	uint32_t op = call->op;

	*ret_shared = op < FIRST_VCPU_OP || op == layer_op_vcpu_kick;
	if (op >= FIRST_VCPU_OP)
		return &((struct vcpu_counts *)call->vcpu->data)->op[op - FIRST_VCPU_OP];
	if (call->vm && op != layer_op_backend_vm_create)
		return &((struct vm_counts *)call->vm->data)->op[op];
	return &((struct trace_layer *)call->layer->data)->op[op];
}

static inline void count_exit(const struct layer_call *call)
{
	/* run and complete have one parameter, the exit. */
	uint32_t kind = LAYER_ARGS(call, vcpu, run)->ret_exit->kind;

	if (kind != IMPOST_EXIT_NONE && kind < IMPOST_EXIT_KINDS)
		add(&((struct vcpu_counts *)call->vcpu->data)->exits[kind], 1, 0);
}

/* Counts CALL, which came to RESULT. */
static inline void count(const struct layer_call *call, int32_t result, struct counter *counter,
			 int shared)
{
	add(&counter->calls, 1, shared);
	if (result < 0)
		add(&counter->failed, 1, shared);
	else if (call->op == layer_op_vcpu_run || call->op == layer_op_vcpu_complete)
		count_exit(call);
}

static int32_t on_call(struct layer_call *call)
{
	int shared;
	struct counter *counter = counter_of(call, &shared);
	int32_t result = layer_pass(call);

	count(call, result, counter, shared);
	return result;
}

/* With times, or a log. */
static int32_t on_call_timed(struct layer_call *call)
{
	struct trace *trace = call->layer->data;
	int shared;
	struct counter *counter = counter_of(call, &shared);
	uint64_t begin = now(), end, ns;
	int32_t result = layer_pass(call);

	end = now();
	ns = end - begin;
	count(call, result, counter, shared);
	if (trace->times) {
		add(&counter->ns, ns, shared);
		add(&counter->bucket[bucket_of(ns)], 1, shared);
		raise_to(&counter->longest, ns);
	}
	if (trace->log >= 0 || trace->debug)
		trace_log(trace, call, result, end - trace->opened, ns);
	return result;
}

/* --- objects --- */

/* What FROM counted is added to TO. */
static void merge(struct counter *to, const struct counter *from)
{
	add(&to->calls, load(&from->calls), 1);
	add(&to->failed, load(&from->failed), 1);
	add(&to->ns, load(&from->ns), 1);
	raise_to(&to->longest, load(&from->longest));
	for (uint32_t i = 0; i < IMPOST_TRACE_BUCKETS; i++)
		add(&to->bucket[i], load(&from->bucket[i]), 1);
}

static struct layer_vcpu **find(struct vm_counts *counts, const struct layer_vcpu *vcpu)
{
	struct layer_vcpu **at = &counts->vcpus;

	while (*at && *at != vcpu)
		at = &((struct vcpu_counts *)(*at)->data)->next;
	return at;
}

/* A vCPU that was never made is not in the list. */
static void free_vcpu(struct layer_vcpu *vcpu)
{
	struct vm_counts *counts = vcpu->vm->data;
	struct vcpu_counts *own = vcpu->data;
	struct layer_vcpu **at;

	pthread_mutex_lock(&counts->lock);
	at = find(counts, vcpu);
	if (*at)
		*at = own->next;
	for (uint32_t i = 0; i < VCPU_OPS; i++)
		merge(&counts->op[FIRST_VCPU_OP + i], &own->op[i]);
	for (uint32_t i = 0; i < IMPOST_EXIT_KINDS; i++)
		add(&counts->exits[i], load(&own->exits[i]), 1);
	pthread_mutex_unlock(&counts->lock);
}

static void free_vm(struct layer_vm *vm)
{
	struct vm_counts *counts = vm->data;

	pthread_mutex_destroy(&counts->lock);
}

/* The hook: an object that is being made is prepared first, or put in its list. */
static int32_t hook(struct layer_call *call)
{
	struct trace *trace = call->layer->data;
	int timed = trace->times || trace->debug || trace->log >= 0;
	struct vm_counts *counts;
	int32_t result;

	if (call->op == layer_op_backend_vm_create) {
		counts = call->vm->data;
		pthread_mutex_init(&counts->lock, NULL);
	}
	result = __builtin_expect(timed, 0) ? on_call_timed(call) : on_call(call);
	if (call->op == layer_op_vm_vcpu_create && result == 0) {
		counts = call->vm->data;
		pthread_mutex_lock(&counts->lock);
		((struct vcpu_counts *)call->vcpu->data)->next = counts->vcpus;
		counts->vcpus = call->vcpu;
		pthread_mutex_unlock(&counts->lock);
	}
	return result;
}

/* --- reading --- */

static void sum_op(struct layer_vm *vm, uint32_t index, struct counter *sum)
{
	struct vm_counts *counts = vm->data;
	const struct trace_layer *layer = vm->layer->data;

	merge(sum, &layer->op[index]);
	pthread_mutex_lock(&counts->lock);
	merge(sum, &counts->op[index]);
	for (struct layer_vcpu *vcpu = counts->vcpus; vcpu && index >= FIRST_VCPU_OP;) {
		const struct vcpu_counts *own = vcpu->data;

		merge(sum, &own->op[index - FIRST_VCPU_OP]);
		vcpu = own->next;
	}
	pthread_mutex_unlock(&counts->lock);
}

static int32_t control_op(void *handle, uint32_t index, struct impost_trace_op *ret_op)
{
	struct impost_trace_op op = {.size = sizeof(op)};
	struct counter sum = {0};

	if (index >= LAYER_OPS)
		return -ENOENT;
	if (!ret_op || ret_op->size < offsetof(struct impost_trace_op, ns))
		return -EINVAL;
	sum_op(handle, index, &sum);
	op.name = layer_op_name(index);
	op.calls = load(&sum.calls);
	op.failed = load(&sum.failed);
	op.ns = load(&sum.ns);
	op.longest = load(&sum.longest);
	for (uint32_t i = 0; i < IMPOST_TRACE_BUCKETS; i++)
		op.bucket[i] = load(&sum.bucket[i]);
	op.size = ret_op->size;
	memset(ret_op, 0, op.size);
	memcpy(ret_op, &op, op.size < sizeof(op) ? op.size : sizeof(op));
	return 0;
}

static int32_t control_exits(void *handle, uint32_t kind, uint64_t *ret_count)
{
	struct layer_vm *vm = handle;
	struct vm_counts *counts = vm->data;
	uint64_t sum;

	if (kind == IMPOST_EXIT_NONE || kind >= IMPOST_EXIT_KINDS)
		return -ENOENT;
	pthread_mutex_lock(&counts->lock);
	sum = load(&counts->exits[kind]);
	for (struct layer_vcpu *vcpu = counts->vcpus; vcpu;) {
		const struct vcpu_counts *own = vcpu->data;

		sum += load(&own->exits[kind]);
		vcpu = own->next;
	}
	pthread_mutex_unlock(&counts->lock);
	*ret_count = sum;
	return 0;
}

#define CONTROL(has_times)                                                         \
	{                                                                          \
		.size = sizeof(struct impost_trace_control), .times = (has_times), \
		.op = control_op, .exits = control_exits                           \
	}

static const struct impost_trace_control controls[] = {CONTROL(0), CONTROL(1)};

static const void *extension(struct layer_vm *vm, const char *name, void **ret_handle)
{
	const struct trace *trace = vm->layer->data;

	if (strcmp(name, IMPOST_TRACE) != 0)
		return NULL;
	*ret_handle = vm;
	return &controls[trace->times];
}

/* --- the layer --- */

const struct impost_option_desc impost_trace_options[] = {
	{sizeof(struct impost_option_desc), IMPOST_OPTION_PATH, "log", NULL, NULL,
	 "a file that each call is written to, with its arguments"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "times", NULL, "no",
	 "take how long each call lasts"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_BOOL, "debug", NULL, "no",
	 "log each call, but for kicks, at severity debug"},
};

static uint32_t is_on(const struct impost_open_args *args, const char *key)
{
	const struct impost_option *option = layer_option(args, key);

	return option && strcmp(option->value, "1") == 0;
}

static int32_t open_trace(struct layer *layer, const struct impost_open_args *args)
{
	const struct impost_option *log = layer_option(args, "log");
	struct trace *trace = layer->data;

	*trace = (struct trace){
		.times = is_on(args, "times"),
		.debug = is_on(args, "debug"),
		.log = -1,
		.opened = now(),
	};
	if (!log)
		return 0;
	trace->log = open(log->value,
			  O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
	if (trace->log >= 0)
		return 0;
	return impost_host_error(layer->host, -errno, "%s: cannot write to %s: %m", log->where,
				 log->value);
}

static void close_trace(struct layer *layer)
{
	const struct trace *trace = layer->data;

	if (trace->log >= 0)
		close(trace->log);
}

static const struct layer_kind kind = {
	.layer_bytes = sizeof(struct trace_layer),
	.vm_bytes = sizeof(struct vm_counts),
	.vcpu_bytes = sizeof(struct vcpu_counts),
	.open = open_trace,
	.close = close_trace,
	.call = hook,
	.vm_free = free_vm,
	.vcpu_free = free_vcpu,
	.extension = extension,
};

static int32_t open_layer(const struct impost_open_args *args, void **ret_layer)
{
	return layer_open(&kind, args, ret_layer);
}

const struct impost_backend_ops impost_trace_ops = LAYER_BACKEND_OPS(open_layer);
