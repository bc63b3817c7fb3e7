/* SPDX-License-Identifier: Apache-2.0 */
/* Failing and delaying calls, as rules say. */
#include "fault.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <impost/fault.h>

/*
 * Rules with what has happened under them. A set is never changed and lives as long as the layer:
 * calls look at it without a lock, kicks in signal handlers among them.
 */
struct set {
	struct set *before;
	uint64_t seed;
	uint32_t count;
	atomic_uint_fast64_t calls, failed, delayed;
	_Atomic(const char *) last;
	atomic_uint_fast64_t seen[FAULT_MOST_RULES]; /* calls that a rule is about */
	struct fault_rule rule[];
};

struct fault {
	_Atomic(struct set *) set;
	pthread_mutex_t lock; /* for those who replace it */
};

/* --- setting --- */

static int32_t make_set(const struct impost_host *host, const char *where, const char *text,
			uint64_t seed, struct set **ret_set)
{
	struct fault_rule *rules = calloc(FAULT_MOST_RULES, sizeof(*rules));
	struct set *set;
	char why[256];
	int count = rules ? fault_read(text, rules, why, sizeof(why)) : 0;

	if (count < 0) {
		free(rules);
		return impost_host_error(host, -EINVAL, "%s%s", where, why);
	}
	set = calloc(1, sizeof(*set) + (size_t)count * sizeof(set->rule[0]));
	if (!rules || !set) {
		free(rules);
		free(set);
		return impost_host_error(host, -ENOMEM, "no memory for rules of faults");
	}
	set->seed = seed;
	set->count = (uint32_t)count;
	memcpy(set->rule, rules, (size_t)count * sizeof(set->rule[0]));
	free(rules);
	*ret_set = set;
	return 0;
}

static int32_t control_set(void *handle, const char *rules, uint64_t seed)
{
	struct layer *layer = handle;
	struct fault *fault = layer->data;
	struct set *set = NULL;
	int32_t err = rules ? make_set(layer->host, "", rules, seed, &set)
			    : impost_host_error(layer->host, -EINVAL, "rules is NULL");

	if (err)
		return err;
	pthread_mutex_lock(&fault->lock);
	set->before = atomic_load(&fault->set);
	atomic_store(&fault->set, set);
	pthread_mutex_unlock(&fault->lock);
	return 0;
}

static int32_t control_counts(void *handle, struct impost_fault_counts *ret_counts)
{
	const struct layer *layer = handle;
	const struct fault *fault = layer->data;
	struct set *set = atomic_load(&fault->set);
	struct impost_fault_counts counts = {0};

	if (!ret_counts || ret_counts->size < sizeof(counts))
		return -EINVAL;
	counts.size = ret_counts->size;
	/* Against the order in which a call is counted: what failed has come, and has a name. */
	counts.failed = atomic_load(&set->failed);
	counts.delayed = atomic_load(&set->delayed);
	counts.last = atomic_load(&set->last);
	counts.calls = atomic_load(&set->calls);
	memset(ret_counts, 0, counts.size);
	memcpy(ret_counts, &counts, sizeof(counts));
	return 0;
}

static const struct impost_fault_control control = {
	.size = sizeof(control),
	.set = control_set,
	.counts = control_counts,
};

/* --- calls --- */

/* A number of 32 bits for call SEEN of rule INDEX: the same whichever thread makes it. */
static uint64_t draw(const struct set *set, uint32_t index, uint64_t seen)
{
	uint64_t z = set->seed + ((uint64_t)index << 48) + seen * UINT64_C(0x9e3779b97f4a7c15);

	/* The finalizer of MurmurHash3. */
	z = (z ^ (z >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	z = (z ^ (z >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (z ^ (z >> 33)) >> 32;
}

/* Whether rule INDEX takes this call of OP, which it counts. */
static int takes(struct set *set, uint32_t index, uint32_t op)
{
	const struct fault_rule *rule = &set->rule[index];
	uint64_t seen;

	if (!rule->op[op])
		return 0;
	seen = atomic_fetch_add(&set->seen[index], 1) + 1;
	if (rule->nth && rule->nth != seen)
		return 0;
	return draw(set, index, seen) < rule->chance;
}

static void wait_for(uint64_t ns)
{
	struct timespec left = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

/* What the header says of a call that failed: MSRs are counted. */
static void clear_outputs(const struct layer_call *call)
{
	if (call->op == layer_op_vcpu_msrs_get)
		*LAYER_ARGS(call, vcpu, msrs_get)->ret_done = 0;
	if (call->op == layer_op_vcpu_msrs_set)
		*LAYER_ARGS(call, vcpu, msrs_set)->ret_done = 0;
}

static int32_t fail(struct set *set, const struct layer_call *call, const struct fault_rule *rule,
		    uint64_t number)
{
	const struct impost_host *host = call->vm ? call->vm->host : call->layer->host;
	const char *name = layer_op_name(call->op);

	atomic_store(&set->last, name);
	atomic_fetch_add(&set->failed, 1);
	clear_outputs(call);
	/* Who kicks gets the core's text: this may be a signal handler. */
	if (call->op == layer_op_vcpu_kick)
		return -rule->error;
	return impost_host_error(host, -rule->error,
				 "layer fault: %s, call %llu of all: %s, as rule '%s' has it", name,
				 (unsigned long long)number, layer_error_name(rule->error),
				 rule->word);
}

static int32_t hook(struct layer_call *call)
{
	struct fault *fault = call->layer->data;
	struct set *set = atomic_load(&fault->set);
	const struct fault_rule *failing = NULL;
	uint64_t delay = 0, number;

	if (call->op == layer_op_vm_destroy || call->op == layer_op_vcpu_destroy)
		return layer_pass(call);
	number = atomic_fetch_add(&set->calls, 1) + 1;
	for (uint32_t i = 0; i < set->count; i++) {
		const struct fault_rule *rule = &set->rule[i];

		if (!takes(set, i, call->op))
			continue;
		delay += rule->delay;
		if (rule->error && !failing)
			failing = rule;
	}
	if (delay) {
		atomic_fetch_add(&set->delayed, 1);
		wait_for(delay);
	}
	return failing ? fail(set, call, failing, number) : layer_pass(call);
}

static const void *extension(struct layer_vm *vm, const char *name, void **ret_handle)
{
	if (strcmp(name, IMPOST_FAULT) != 0)
		return NULL;
	*ret_handle = vm->layer;
	return &control;
}

/* --- the layer --- */

const struct impost_option_desc impost_fault_options[] = {
	{sizeof(struct impost_option_desc), IMPOST_OPTION_STRING, "rules", NULL, "",
	 "which calls fail or last: words OP[#N][~P][=ERROR][+DELAY]"},
	{sizeof(struct impost_option_desc), IMPOST_OPTION_UINT, "seed", NULL, "0",
	 "what the rules' probabilities are drawn from"},
};

static int32_t open_fault(struct layer *layer, const struct impost_open_args *args)
{
	const struct impost_option *rules = layer_option(args, "rules");
	const struct impost_option *seed = layer_option(args, "seed");
	struct fault *fault = layer->data;
	struct set *set = NULL;
	char where[600] = "";
	int32_t err;

	if (rules)
		snprintf(where, sizeof(where), "%s: ", rules->where);
	err = make_set(layer->host, where, rules ? rules->value : "",
		       seed ? strtoull(seed->value, NULL, 0) : 0, &set);
	if (err)
		return err;
	atomic_init(&fault->set, set);
	pthread_mutex_init(&fault->lock, NULL);
	return 0;
}

static void close_fault(struct layer *layer)
{
	struct fault *fault = layer->data;
	struct set *set = atomic_load(&fault->set), *before;

	for (; set; set = before) {
		before = set->before;
		free(set);
	}
	pthread_mutex_destroy(&fault->lock);
}

static const struct layer_kind kind = {
	.layer_bytes = sizeof(struct fault),
	.open = open_fault,
	.close = close_fault,
	.call = hook,
	.extension = extension,
};

static int32_t open_layer(const struct impost_open_args *args, void **ret_layer)
{
	return layer_open(&kind, args, ret_layer);
}

const struct impost_backend_ops impost_fault_ops = LAYER_BACKEND_OPS(open_layer);
