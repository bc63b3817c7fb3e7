/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that goes to a process of the same host as descriptors, and is not copied: a slot is
 * a region's number in order of address. Calls are 0 or a negative errno, with a text.
 *
 * From the first descriptor on both sides have the same memory, and until Complete it is the
 * source's: the destination must not write there before, whatever fails.
 */
#ifndef CORE_MIGRATE_LOCAL_H
#define CORE_MIGRATE_LOCAL_H

#include "migrate.h"

/* --- the source --- */

/*
 * Whether all of MEMORY can be handed over the first connection, how much that is, and what CONFIG
 * says of that: `local` and `offsets`, for migrate_config_release(); before Start. Waits until
 * memory that was restored lazily is there. -ENOTSUP: no UNIX socket, or a region that has no
 * descriptor which others could share, which the text names; -EBUSY: a snapshot is being written,
 * which the destination's guest would change; -ENOMEM; -EIO.
 */
int local_describe(struct impost_migration *migration, struct impost_memory *memory,
		   struct migrate_config *config);

/* Hands all of MEMORY over, by MemoryFd and its answers, while the guest runs. */
int local_send(struct impost_migration *migration, struct impost_memory *memory,
	       const struct migrate_config *config);

/* When the guest stands, before State: -EBUSY: MEMORY is no more as CONFIG has it, or a snapshot is
 * being written. */
int local_recheck(struct link *link, struct impost_memory *memory,
		  const struct migrate_config *config);

/* --- the destination --- */

/* Whether it can be handed over LINK: -EPROTO. Config's decoder has seen that there are as many
 * offsets as regions. */
int local_judge(const struct link *link);

/*
 * Reads what is behind a MemoryFd's head, and adds the region to MEMORY, which STATE and CONFIG
 * describe. Does not answer. -EPROTO: no such slot, one that has come already, none or several
 * descriptors; or what impost_memory_add() says of the descriptor.
 */
int local_receive(struct link *link, struct impost_memory *memory, const struct impost_state *state,
		  const struct migrate_config *config);

/* Whether all regions have come, so that State may: -EPROTO. */
int local_check_whole(const struct link *link, struct impost_memory *memory,
		      const struct impost_state *state);

#endif
