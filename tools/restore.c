// SPDX-License-Identifier: Apache-2.0
/* Runs that begin with a snapshot: which options go with it, and the machine that comes of it. */
#include "restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshots.h"

/* What such a guest has settled, so that options can say nothing about it. */
static const char has_memory[] = "has the guest's RAM";
static const char has_cpus[] = "has the guest's vCPUs";
static const char has_kernel[] = "has a guest that has been booted";
/* But where it is copied. */
static const char maps_memory[] = "is mapped as RAM: give --restore-memory copy or lazy too";

static const struct {
	enum tool_option_id id;
	const char *name;
	const char *reason;
} settled[] = {
	{OPTION_MEMORY, "--memory", has_memory},
	{OPTION_MEMORY_BACKING, "--memory-backing", maps_memory},
	{OPTION_MEMORY_PATH, "--memory-path", maps_memory},
	{OPTION_MEMORY_SHARED, "--memory-shared", maps_memory},
	{OPTION_MEMORY_PAGES, "--memory-pages", maps_memory},
	{OPTION_MEMORY_PREFAULT, "--memory-prefault", maps_memory},
	{OPTION_NUMA_POLICY, "--numa-policy", maps_memory},
	{OPTION_NUMA_NODES, "--numa-nodes", maps_memory},
	{OPTION_CPUS, "--cpus", has_cpus},
	{OPTION_TOPOLOGY, "--topology", has_cpus},
	{OPTION_CPU_TEMPLATE, "--cpu-template", has_cpus},
	{OPTION_KERNEL, "--kernel", has_kernel},
	{OPTION_INITRD, "--initrd", has_kernel},
	{OPTION_CMDLINE, "--cmdline", has_kernel},
	{OPTION_BOOT, "--boot", has_kernel},
	{OPTION_FLAT_MODE, "--flat-mode", has_kernel},
	{OPTION_FLAT_ADDRESS, "--flat-address", has_kernel},
};

static const struct {
	const char *name;
	uint32_t memory;
} ways[] = {
	{"map", IMPOST_SNAPSHOT_MAP},
	{"copy", IMPOST_SNAPSHOT_COPY},
	{"lazy", IMPOST_SNAPSHOT_LAZY},
};

/* How memory is to be restored. False: as no library can. */
static bool find_way(const struct invocation *invocation, uint32_t *ret_memory)
{
	const char *name = invocation->values[OPTION_RESTORE_MEMORY];

	*ret_memory = IMPOST_SNAPSHOT_DEFAULT;
	if (!name)
		return true;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(name, ways[i].name) == 0) {
			*ret_memory = ways[i].memory;
			return true;
		}
	return false;
}

int restore_refuse_settled(const struct invocation *invocation, const char *by, const char *who,
			   bool copies)
{
	for (size_t i = 0; i < sizeof(settled) / sizeof(settled[0]); i++) {
		if (!invocation_has(invocation, settled[i].id) ||
		    (copies && settled[i].reason == maps_memory))
			continue;
		complain("%s does not go with %s: %s %s", settled[i].name, by, who,
			 settled[i].reason);
		return STATUS_USAGE;
	}
	return STATUS_OK;
}

static int check_options(const struct invocation *invocation)
{
	uint32_t memory;

	if (!find_way(invocation, &memory)) {
		complain("--restore-memory %s: give map, copy or lazy",
			 invocation->values[OPTION_RESTORE_MEMORY]);
		return STATUS_USAGE;
	}
	if (invocation_has(invocation, OPTION_RESTORE))
		return restore_refuse_settled(invocation, "--restore", "the snapshot",
					      memory == IMPOST_SNAPSHOT_COPY ||
						      memory == IMPOST_SNAPSHOT_LAZY);
	if (!invocation_has(invocation, OPTION_RESTORE_MEMORY))
		return STATUS_OK;
	complain("--restore-memory is for --restore FILE");
	return STATUS_USAGE;
}

/* Whether the snapshot's file becomes the guest's memory (snapshot.h: IMPOST_SNAPSHOT_DEFAULT). */
static bool maps(const struct invocation *invocation, struct impost_snapshot *snapshot)
{
	struct impost_snapshot_info info = {.size = sizeof(info)};
	uint32_t memory;

	find_way(invocation, &memory);
	return memory == IMPOST_SNAPSHOT_MAP ||
	       (memory == IMPOST_SNAPSHOT_DEFAULT && impost_snapshot_info(snapshot, &info) == 0 &&
		!(info.flags & IMPOST_SNAPSHOT_IS_KEYED));
}

int restore_open(const struct invocation *invocation, struct saving *saving,
		 struct impost_snapshot **ret_snapshot)
{
	const char *path = invocation->values[OPTION_RESTORE];
	const struct impost_snapshot_open_options options = {
		.size = sizeof(options),
		.key = saving->key,
	};
	int status = check_options(invocation), err;

	*ret_snapshot = NULL;
	if (status != STATUS_OK || !path)
		return status;
	err = impost_snapshot_open(invocation->ctx, path, &options, ret_snapshot);
	if (err == 0 && maps(invocation, *ret_snapshot))
		err = sources_open(&saving->sources, invocation->ctx, path, saving->key);
	return err < 0 ? complain_error(invocation, err) : STATUS_OK;
}

/* An error has room for a few of the reasons: here are all of them. Returns ERR, with its text anew
 * where there are such reasons. */
static int tell_hindrances(const struct invocation *invocation, struct impost_snapshot *snapshot,
			   int err)
{
	struct snapshots_findings findings = {.file = stderr};
	char text[1024];
	int count;

	snprintf(text, sizeof(text), "%s", impost_error(invocation->ctx));
	count = impost_snapshot_check(snapshot, NULL, snapshots_mismatch, &findings);
	if (count <= 0)
		return impost_error_set(invocation->ctx, err, "%s", text);
	return impost_error_set(invocation->ctx, err, "%s cannot be restored here, for %s",
				invocation->values[OPTION_RESTORE],
				count == 1 ? "this reason" : "these reasons");
}

int restore_machine(const struct invocation *invocation, struct impost_snapshot *snapshot,
		    struct machine *machine)
{
	struct impost_vm_config config;
	struct impost_snapshot_restore_options options = {
		.size = sizeof(options),
		.config = &config,
	};
	int err = machine_configure(machine, invocation->ctx, &config);

	if (err < 0)
		return err;
	find_way(invocation, &options.memory);
	err = impost_snapshot_restore(snapshot, &options, &machine->vm);
	if (err == -ENOTSUP)
		err = tell_hindrances(invocation, snapshot, err);
	return err < 0 ? err : machine_take_cpus(machine);
}
