/* SPDX-License-Identifier: Apache-2.0 */
/* A layer that makes any backend wrong, in the one way that its option names: the conformance suite
 * must find it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <layer.h>

struct broken {
	int32_t (*way)(struct layer_call *call); /* NULL: none */
	uint32_t op;
};

struct broken_vm {
	struct impost_host host; /* with no error texts */
	int open_fd;		 /* and one; 0: none */
	uint64_t clock_reads;
};

struct broken_vcpu {
	void *read; /* where the host's answer is to be, and its size */
	uint32_t read_bytes;
	uint32_t writes;
	uint8_t written[8]; /* by the first exit */
};

/* --- kicks and interrupts --- */

static int32_t way_kick_lost(struct layer_call *call)
{
	(void)call;
	return 0;
}

static int32_t way_nmi_lost(struct layer_call *call)
{
	(void)call;
	return 0;
}

static int32_t way_two_vectors(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	return r == -EBUSY ? 0 : r;
}

static int32_t way_message_astray(struct layer_call *call)
{
	LAYER_ARGS(call, vm, msi)->address ^= 1u << 12;
	return layer_pass(call);
}

static int32_t way_routes_taken(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	return r == -EINVAL ? 0 : r;
}

/* --- exits --- */

/* The data of an access, and what it is. */
struct access {
	void *data;
	uint8_t *size, *dir;
	uint64_t *gpa;
};

static int has_access(struct impost_exit *exit, struct access *access)
{
	if (exit->kind == IMPOST_EXIT_IO)
		*access = (struct access){exit->u.io.data, &exit->u.io.size, &exit->u.io.dir, NULL};
	else if (exit->kind == IMPOST_EXIT_MMIO)
		*access = (struct access){exit->u.mmio.data, &exit->u.mmio.size, &exit->u.mmio.dir,
					  &exit->u.mmio.gpa};
	else
		return 0;
	return 1;
}

/* Runs, and gives the access that came of it. */
static int32_t run(struct layer_call *call, struct access *access, int *ret_there)
{
	int32_t r = layer_pass(call);

	*ret_there = !r && has_access(LAYER_ARGS(call, vcpu, run)->ret_exit, access);
	return r;
}

/* Before a run, or complete, which take it. */
static void drop_answer(struct broken_vcpu *v)
{
	if (v->read)
		memset(v->read, 0, v->read_bytes);
	v->read = NULL;
}

static int32_t way_answer_dropped(struct layer_call *call)
{
	struct broken_vcpu *v = call->vcpu->data;
	struct access access;
	int there;
	int32_t r;

	drop_answer(v);
	r = run(call, &access, &there);
	if (there && *access.dir == IMPOST_EXIT_READ) {
		v->read = access.data;
		v->read_bytes = *access.size;
	}
	return r;
}

static int32_t way_size_of_exit(struct layer_call *call)
{
	struct access access;
	int there;
	int32_t r = run(call, &access, &there);

	if (there && *access.size > 1)
		*access.size = (uint8_t)(*access.size / 2);
	return r;
}

static int32_t way_direction_of_exit(struct layer_call *call)
{
	struct access access;
	int there;
	int32_t r = run(call, &access, &there);

	if (there)
		*access.dir = IMPOST_EXIT_READ;
	return r;
}

static int32_t way_address_of_exit(struct layer_call *call)
{
	struct access access;
	int there;
	int32_t r = run(call, &access, &there);

	if (there && access.gpa)
		*access.gpa &= ~UINT64_C(0xfff);
	return r;
}

static int32_t way_data_of_exit(struct layer_call *call)
{
	struct broken_vcpu *v = call->vcpu->data;
	struct access access;
	int there;
	int32_t r = run(call, &access, &there);

	if (!there || *access.dir != IMPOST_EXIT_WRITE || *access.size > sizeof(v->written))
		return r;
	if (v->writes++)
		memcpy(access.data, v->written, *access.size);
	else
		memcpy(v->written, access.data, *access.size);
	return r;
}

static int32_t way_complete_runs(struct layer_call *call)
{
	struct impost_exit *exit = LAYER_ARGS(call, vcpu, complete)->ret_exit, next;
	int32_t r = layer_pass(call);

	if (!r && exit->kind == IMPOST_EXIT_NONE)
		call->layer->ops->vcpu->run(call->vcpu->below, &next);
	return r;
}

/* --- state --- */

/* Sets a copy of SECTION that CHANGE has been at. */
static int32_t set_changed(struct layer_call *call, uint32_t section, void (*change)(void *copy))
{
	struct layer_args_vcpu_state_set *args = call->args;
	uint64_t copy[64];
	const void *given = args->buf;
	int32_t r;

	if (args->section != section || args->bytes > sizeof(copy))
		return layer_pass(call);
	memcpy(copy, given, args->bytes);
	change(copy);
	args->buf = copy;
	r = layer_pass(call);
	args->buf = given;
	return r;
}

static void forget_r11(void *copy)
{
	((struct impost_x86_regs *)copy)->r11 = 0;
}

static int32_t way_register_forgotten(struct layer_call *call)
{
	return set_changed(call, IMPOST_SECTION_REGS, forget_r11);
}

static void forget_df(void *copy)
{
	((struct impost_x86_regs *)copy)->rflags &= ~UINT64_C(0x400);
}

static int32_t way_flag_forgotten(struct layer_call *call)
{
	return set_changed(call, IMPOST_SECTION_REGS, forget_df);
}

static void forget_gs(void *copy)
{
	((struct impost_x86_sregs *)copy)->gs.base = 0;
}

static int32_t way_segment_forgotten(struct layer_call *call)
{
	return set_changed(call, IMPOST_SECTION_SREGS, forget_gs);
}

static void clear_efer(void *copy)
{
	((struct impost_x86_sregs *)copy)->efer &= 0xd01;
}

static int32_t way_efer_taken(struct layer_call *call)
{
	return set_changed(call, IMPOST_SECTION_SREGS, clear_efer);
}

static int32_t way_events_forgotten(struct layer_call *call)
{
	return LAYER_ARGS(call, vcpu, state_set)->section == IMPOST_SECTION_EVENTS
		       ? 0
		       : layer_pass(call);
}

static int32_t way_size_wrong(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	if (!r)
		*LAYER_ARGS(call, vcpu, state_get)->ret_size -= 8;
	return r;
}

static int32_t way_written_on_failure(struct layer_call *call)
{
	struct layer_args_vcpu_state_get *args = call->args;
	int32_t r = layer_pass(call);

	if (r == -ENOSPC)
		memset(args->buf, 0, args->capacity);
	return r;
}

static int32_t way_pending_state(struct layer_call *call)
{
	struct layer_args_vcpu_state_get *args = call->args;
	int32_t r = layer_pass(call);

	if (r != -EBUSY || args->section != IMPOST_SECTION_REGS)
		return r;
	*args->ret_size = sizeof(struct impost_x86_regs);
	if (args->capacity < sizeof(struct impost_x86_regs))
		return impost_host_error(call->layer->host, -ENOSPC, "there is no room");
	memset(args->buf, 0, args->capacity);
	return 0;
}

static int32_t way_msrs_forgotten(struct layer_call *call)
{
	*LAYER_ARGS(call, vcpu, msrs_set)->ret_done = LAYER_ARGS(call, vcpu, msrs_set)->count;
	return 0;
}

static int32_t way_msrs_counted_wrong(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	if (r)
		++*LAYER_ARGS(call, vcpu, msrs_set)->ret_done;
	return r;
}

static int32_t way_cpuid_differs(struct layer_call *call)
{
	struct layer_args_vcpu_cpuid_get *args = call->args;
	int32_t r = layer_pass(call);

	for (uint32_t i = 0; !r && i < *args->ret_count; i++)
		args->entries[i].ebx ^= 1;
	return r;
}

static int32_t way_translated_wrong(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	if (!r)
		*LAYER_ARGS(call, vcpu, translate)->ret_gpa += 4096;
	return r;
}

/* --- dirty logs and memory --- */

/* Fetches into a bitmap of its own first. 64 words: slots of up to 16 MiB. */
#define MOST_WORDS 64u

static int32_t fetch(struct layer_call *call, uint64_t *own)
{
	struct layer_args_vm_dirty_fetch *args = call->args;
	uint64_t *given = args->bitmap;
	int32_t r;

	memset(own, 0, MOST_WORDS * sizeof(*own));
	args->bitmap = own;
	r = layer_pass(call);
	args->bitmap = given;
	return r;
}

static int32_t way_dirty_page_missing(struct layer_call *call)
{
	struct layer_args_vm_dirty_fetch *args = call->args;
	uint64_t own[MOST_WORDS];
	uint32_t dropped = 0;
	int32_t r;

	if (args->nwords > MOST_WORDS)
		return layer_pass(call);
	r = fetch(call, own);
	for (uint64_t i = 0; !r && i < args->nwords; i++) {
		/* The last page of a word that has any. */
		if (own[i] && !dropped++)
			own[i] &= ~(UINT64_C(1) << (63 - (unsigned)__builtin_clzll(own[i])));
		args->bitmap[i] |= own[i];
	}
	return r;
}

static int32_t way_dirty_page_more(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	if (!r)
		LAYER_ARGS(call, vm, dirty_fetch)->bitmap[0] |= 2;
	return r;
}

static int32_t way_fetch_replaces(struct layer_call *call)
{
	struct layer_args_vm_dirty_fetch *args = call->args;
	uint64_t own[MOST_WORDS];
	int32_t r;

	if (args->nwords > MOST_WORDS)
		return layer_pass(call);
	r = fetch(call, own);
	if (!r)
		memcpy(args->bitmap, own, args->nwords * sizeof(*own));
	return r;
}

static int32_t way_clears_too_much(struct layer_call *call)
{
	struct layer_args_vm_dirty_clear *args = call->args;
	uint64_t all[MOST_WORDS];

	memset(all, 0xff, sizeof(all));
	if (args->npages <= 64u * MOST_WORDS)
		args->bitmap = all;
	return layer_pass(call);
}

static int32_t way_log_taken_twice(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	return r == -EEXIST ? 0 : r;
}

static int32_t way_memory_stays(struct layer_call *call)
{
	(void)call;
	return 0;
}

/* --- the VM and the backend --- */

static int32_t way_pause_does_not(struct layer_call *call)
{
	(void)call;
	return 0;
}

static int32_t way_clock_goes_back(struct layer_call *call)
{
	struct layer_args_vm_state_get *args = call->args;
	struct broken_vm *vm = call->vm->data;
	int32_t r = layer_pass(call);

	if (!r && args->section == IMPOST_SECTION_CLOCK)
		((struct impost_x86_clock *)args->buf)->ns -= 1000000000u * ++vm->clock_reads;
	return r;
}

static int32_t way_list_counted_wrong(struct layer_call *call)
{
	struct layer_args_backend_msr_list *args = call->args;
	int32_t r = layer_pass(call);

	if (r == -ENOSPC)
		*args->ret_count = args->capacity;
	return r;
}

static int32_t way_claims_too_much(struct layer_call *call)
{
	struct impost_caps *caps = LAYER_ARGS(call, backend, caps)->ret_caps;
	int32_t r = layer_pass(call);

	if (r)
		return r;
	impost_caps_add(caps, IMPOST_CAP_IRQFD_RESAMPLE);
	impost_caps_add(caps, IMPOST_CAP_TSC_SCALING);
	return 0;
}

static void drop_text(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static int32_t way_says_nothing(struct layer_call *call)
{
	struct layer_args_backend_vm_create *args = call->args;
	struct broken_vm *vm = call->vm->data;
	struct impost_vm_args silent = *args->args;

	vm->host = *args->args->host;
	vm->host.error = drop_text;
	silent.host = &vm->host;
	args->args = &silent;
	return layer_pass(call);
}

static int32_t way_leaks(struct layer_call *call)
{
	int32_t r = layer_pass(call);

	if (!r)
		r = open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 ? -EMFILE : 0;
	return r;
}

static int32_t way_open_on_exec(struct layer_call *call)
{
	struct broken_vm *vm = call->vm->data;
	int32_t r = layer_pass(call);

	if (!r)
		vm->open_fd = open("/dev/null",
				   O_RDONLY); /* NOLINT(android-cloexec-open): so it is wrong */
	return r;
}

/* --- the layer --- */

static const struct {
	const char *name;
	struct broken broken;
} ways[] = {
#define WAY(name, op, mock, kvm, what) {#name, {way_##name, layer_op_##op}},
#include "ways.def"
};

static int32_t choose(struct layer *layer, const struct impost_open_args *args)
{
	const struct impost_option *option = layer_option(args, "way");
	struct broken *broken = layer->data;

	for (size_t i = 0; option && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].name, option->value) == 0)
			*broken = ways[i].broken;
	return 0;
}

static int32_t call_wrongly(struct layer_call *call)
{
	const struct broken *broken = call->layer->data;

	if (broken->way && broken->op == call->op)
		return broken->way(call);
	if (broken->way == way_answer_dropped && call->op == layer_op_vcpu_complete)
		drop_answer(call->vcpu->data);
	return layer_pass(call);
}

static void free_vm(struct layer_vm *layer_vm)
{
	const struct broken_vm *vm = layer_vm->data;

	if (vm->open_fd > 0)
		close(vm->open_fd);
}

static int32_t open_broken(const struct impost_open_args *args, void **ret_layer)
{
	static const struct layer_kind kind = {.layer_bytes = sizeof(struct broken),
					       .vm_bytes = sizeof(struct broken_vm),
					       .vcpu_bytes = sizeof(struct broken_vcpu),
					       .open = choose,
					       .call = call_wrongly,
					       .vm_free = free_vm};

	return layer_open(&kind, args, ret_layer);
}

static const struct impost_option_desc options[] = {{
	.size = sizeof(struct impost_option_desc),
	.type = IMPOST_OPTION_ENUM,
	.key = "way",
	.choices = "none"
#define WAY(name, op, mock, kvm, what) "|" #name
#include "ways.def"
	,
	.default_value = "none",
	.help = "how the backend is to be wrong",
}};

static const struct impost_backend_ops ops = LAYER_BACKEND_OPS(open_broken);

IMPOST_API extern const struct impost_plugin impost_plugin;
const struct impost_plugin impost_plugin = {
	.size = sizeof(struct impost_plugin),
	.magic = IMPOST_PLUGIN_MAGIC,
	.abi_major = IMPOST_PLUGIN_ABI_MAJOR,
	.abi_minor = IMPOST_PLUGIN_ABI_MINOR,
	.kind = IMPOST_PLUGIN_LAYER,
	.name = "broken",
	.version = PLUGIN_VERSION,
	.summary = "makes a backend wrong, for the tests of the conformance suite",
	.capabilities = "those of what is below",
	.ops = &ops,
	.options = options,
	.noptions = 1,
};
