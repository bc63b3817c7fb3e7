/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface of the layer `trace`: how often each operation was called, and how long it took.
 * Got with impost_vm_extension(vm, IMPOST_TRACE, ...): of several such layers the first, nearest to
 * the host.
 */
#ifndef IMPOST_TRACE_H
#define IMPOST_TRACE_H

#include <stdint.h>

#define IMPOST_TRACE "impost.trace/1"

/* Bucket N of a histogram counts calls of 2^N to 2^(N+1) - 1 nanoseconds; bucket 0 also those of 0,
 * the last also all longer ones. */
#define IMPOST_TRACE_BUCKETS 40u

/* What is known of one operation. Sums of one moment of each vCPU's: calls go on meanwhile. */
struct impost_trace_op {
	uint32_t size;
	uint32_t reserved;
	const char *name; /* "vcpu.run", "vm.mem_add": static */
	uint64_t calls;	  /* that have returned */
	uint64_t failed;  /* of these, those that returned an error */
	uint64_t ns;	  /* that they took; 0 without the option `times`, like what follows */
	uint64_t longest;
	uint64_t bucket[IMPOST_TRACE_BUCKETS];
};

/* Functions take the handle that came with the table. Any thread. 0 or a negative errno value. */
struct impost_trace_control {
	uint32_t size;
	uint32_t times; /* 1: times are taken */

	/*
	 * Operation INDEX, from 0, in the order of backend.h; ret_op->size says how much room there
	 * is. -ENOENT: no more; -EINVAL: `size` is too small.
	 */
	int32_t (*op)(void *handle, uint32_t index, struct impost_trace_op *ret_op);

	/* How many exits of KIND (IMPOST_EXIT_*) runs and completes gave. -ENOENT: no such kind. */
	int32_t (*exits)(void *handle, uint32_t kind, uint64_t *ret_count);
};

#endif
