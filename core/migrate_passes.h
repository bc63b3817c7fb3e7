/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory goes while the guest runs, again and again what was written meanwhile, over all
 * connections of a migration; and what is left when the guest stands. Calls are 0 or a negative
 * errno, with a text, and are for the thread of send.
 */
#ifndef CORE_MIGRATE_PASSES_H
#define CORE_MIGRATE_PASSES_H

#include "migrate.h"
#include "migrate_postcopy.h"
#include "migrate_supply.h"

struct passes;

/* Begins to see what is written. -ENOTSUP: the backend has no dirty-log; -ENOMEM; or as
 * impost_dirty_create() has it. Free with passes_end(), NULL too. */
int passes_begin(struct impost_migration *migration, struct impost_vm *vm,
		 struct passes **ret_passes);
void passes_end(struct passes *passes);

/*
 * Sends memory until what is left fits the downtime; OVERHEAD_NS is what the rest takes with no
 * memory at all. Then the VM is to be held. -EBUSY: it does not come to that, and
 * IMPOST_MIGRATION_FINISH is not given.
 */
int passes_run(struct passes *passes, uint64_t overhead_ns);

/* With the VM held, and its state read: sends all that is left. */
int passes_finish(struct passes *passes);

/* Whether passes_run() has ended because the VM is to go before the rest of its memory; and with
 * the VM held, and its state read, has the destination postpone that rest, for LEAVING, which is to
 * be released in any case. */
bool passes_are_late(const struct passes *passes);
int passes_postpone(struct passes *passes, struct leaving *leaving);

#endif
