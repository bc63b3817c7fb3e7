/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring: nothing is made before all that could be in the way has been looked at. */
#include "snapshot.h"

#include "context.h"
#include "state.h"
#include "state_vm.h"
#include "text.h"
#include "vm.h"

int impost_snapshot_check(struct impost_snapshot *snapshot, const char *backend,
			  impost_state_mismatch_fn mismatch, void *opaque)
{
	int err = snapshot_check_open(snapshot, false);

	return err ? err : impost_state_check(snapshot->state, backend, mismatch, opaque);
}

/* The pre-flight, on the backend that is open for the VM: opening takes as long as a vCPU's making.
 */
static int judge(void *opaque, const struct backend *backend)
{
	const struct impost_snapshot *snapshot = opaque;
	char text[640] = "";
	struct hindrances all = {.text = text, .room = sizeof(text), .between = "; "};
	int count = state_check_on(snapshot->state, backend, hindrances_add, &all);

	if (count <= 0)
		return count;
	hindrances_end(&all);
	return snapshot_file_error(snapshot->chain.file[0], -ENOTSUP,
				   "it cannot be restored here, for %d reason%s: %s", count,
				   count == 1 ? "" : "s", text);
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
		err = state_vm_configure(snapshot->state, taken.config, taken.backend, &config);
	if (!err)
		err = vm_create(snapshot->ctx, &config, judge, snapshot, &vm);
	if (err)
		return err;
	err = restore_memory(snapshot, &taken, vm);
	if (!err)
		err = state_vm_add_vcpus(snapshot->state, vm);
	/* What was read of it is not what was verified. */
	if (!err)
		err = snapshot_check_open(snapshot, true);
	if (err) {
		state_vm_unmake(vm);
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
