/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring: nothing is made before all that could be in the way has been looked at. */
#include "snapshot.h"

#include <stdio.h>
#include <string.h>

#include <impost/vcpu.h>

#include "context.h"
#include "state.h"
#include "text.h"
#include "vm.h"

int impost_snapshot_check(struct impost_snapshot *snapshot, const char *backend,
			  impost_state_mismatch_fn mismatch, void *opaque)
{
	int err = snapshot_check_open(snapshot, false);

	return err ? err : impost_state_check(snapshot->state, backend, mismatch, opaque);
}

/* What is in the way, as one text. */
struct hindrances {
	char text[640];
	size_t len;
};

static void add_hindrance(void *opaque, const char *kind, const char *name, const char *reason)
{
	struct hindrances *all = opaque;
	size_t room = sizeof(all->text) - all->len;
	int len = snprintf(all->text + all->len, room, "%s%s %s: %s", all->len ? "; " : "", kind,
			   name, reason);

	if (len > 0)
		all->len += (size_t)len < room ? (size_t)len : room - 1;
}

/* The pre-flight, on the backend that is open for the VM: opening takes as long as a vCPU's making.
 */
static int judge(void *opaque, const struct backend *backend)
{
	const struct impost_snapshot *snapshot = opaque;
	struct hindrances all = {.len = 0};
	int count = state_check_on(snapshot->state, backend, add_hindrance, &all);

	if (count <= 0)
		return count;
	return snapshot_file_error(snapshot->chain.file[0], -ENOTSUP,
				   "it cannot be restored here, for %d reason%s: %s", count,
				   count == 1 ? "" : "s", all.text);
}

static int configure(struct impost_snapshot *snapshot,
		     const struct impost_snapshot_restore_options *options,
		     struct impost_vm_config *config)
{
	int err = impost_vm_config_init(snapshot->ctx, config);

	if (!err && options->config)
		err = abi_take(snapshot->ctx, "impost_vm_config", config, sizeof(*config),
			       options->config, ABI_UP_TO(struct impost_vm_config, backend));
	if (!err)
		err = impost_state_config(snapshot->state, config);
	if (!err && options->backend)
		config->backend = options->backend;
	return err;
}

static int restore_memory(struct impost_snapshot *snapshot,
			  const struct impost_snapshot_restore_options *options,
			  struct impost_vm *vm)
{
	static const uint32_t ways[] = {
		[IMPOST_SNAPSHOT_DEFAULT] = MEMORY_RESTORE_MAP,
		[IMPOST_SNAPSHOT_MAP] = MEMORY_RESTORE_MAP,
		[IMPOST_SNAPSHOT_COPY] = MEMORY_RESTORE_COPY,
		[IMPOST_SNAPSHOT_LAZY] = MEMORY_RESTORE_LAZY,
	};
	bool keyed = snapshot->chain.file[0]->hash.keyed;
	struct memory_restore want = {
		.how = ways[options->memory],
		.no_prefetch = options->flags & IMPOST_SNAPSHOT_NO_PREFETCH,
		.verify = keyed,
		.threads = options->threads,
		.progress = options->progress,
		.opaque = options->opaque,
	};

	if (keyed && options->memory == IMPOST_SNAPSHOT_DEFAULT)
		want.how = MEMORY_RESTORE_COPY;
	return memory_layers_restore(impost_vm_memory(vm), snapshot->layer, snapshot->chain.count,
				     &want);
}

static int make_vcpus(struct impost_snapshot *snapshot, struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;
	uint32_t id;
	int err = 0;

	for (uint32_t i = 0; !err && impost_state_vcpu(snapshot->state, i, &id) == 0; i++)
		err = impost_vcpu_create(vm, id, &vcpu);
	return err;
}

static void unmake(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while ((vcpu = impost_vm_vcpu(vm, 0)) && impost_vcpu_destroy(vcpu) == 0)
		;
	impost_vm_destroy(vm);
}

static int take_options(struct impost_context *ctx,
			const struct impost_snapshot_restore_options *options,
			struct impost_snapshot_restore_options *taken)
{
	int err = 0;

	if (options)
		err = abi_take(ctx, "impost_snapshot_restore_options", taken, sizeof(*taken),
			       options, ABI_UP_TO(struct impost_snapshot_restore_options, opaque));
	if (err)
		return err;
	if (taken->memory > IMPOST_SNAPSHOT_LAZY)
		return impost_error_set(ctx, -EINVAL,
					"restoring a snapshot: no way %u for memory to come back",
					taken->memory);
	if (taken->flags & ~IMPOST_SNAPSHOT_NO_PREFETCH)
		return impost_error_set(ctx, -EINVAL, "restoring a snapshot: unknown flags %#x",
					taken->flags & ~IMPOST_SNAPSHOT_NO_PREFETCH);
	return 0;
}

int impost_snapshot_restore(struct impost_snapshot *snapshot,
			    const struct impost_snapshot_restore_options *options,
			    struct impost_vm **ret_vm)
{
	struct impost_snapshot_restore_options taken = {.size = sizeof(taken)};
	struct impost_vm_config config;
	struct impost_vm *vm;
	int err = snapshot_check_open(snapshot, true);

	if (!err)
		err = take_options(snapshot->ctx, options, &taken);
	if (!err)
		err = configure(snapshot, &taken, &config);
	if (!err)
		err = vm_create(snapshot->ctx, &config, judge, snapshot, &vm);
	if (err)
		return err;
	err = restore_memory(snapshot, &taken, vm);
	if (!err)
		err = make_vcpus(snapshot, vm);
	/* What was read of it is not what was verified. */
	if (!err)
		err = snapshot_check_open(snapshot, true);
	if (err) {
		unmake(vm);
		return err;
	}
	*ret_vm = vm;
	return 0;
}

int impost_snapshot_load(struct impost_snapshot *snapshot, struct impost_vm *vm)
{
	int err = snapshot_check_open(snapshot, false);

	return err ? err : impost_state_load(snapshot->state, vm);
}
