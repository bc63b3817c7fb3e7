/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface of the layer `fault`, for tests: which calls fail. Got with
 * impost_vm_extension(vm, IMPOST_FAULT, ...): of several such layers the first, nearest to the
 * host. impost.ini(5) has the language of rules.
 */
#ifndef IMPOST_FAULT_H
#define IMPOST_FAULT_H

#include <stdint.h>

#define IMPOST_FAULT "impost.fault/1"

/* What has happened since rules were set last. Calls of `destroy`, which cannot fail, are none. */
struct impost_fault_counts {
	uint32_t size;
	uint32_t reserved;
	uint64_t calls;	  /* that came */
	uint64_t failed;  /* of these, those that a rule let fail: they did not reach the backend */
	uint64_t delayed; /* those that a rule delayed */
	const char *last; /* the operation that failed last, "vcpu.run": static; NULL: none did */
};

/* Functions take the handle that came with the table. Any thread. 0 or a negative errno value. */
struct impost_fault_control {
	uint32_t size;
	uint32_t reserved;

	/*
	 * Puts RULES, which are copied, and the seed of their probabilities in the place of those
	 * before: "": none. Counts begin anew. What was set before is freed with the VM. -EINVAL,
	 * and nothing changed: they are wrong; impost_error() tells how; -ENOMEM.
	 */
	int32_t (*set)(void *handle, const char *rules, uint64_t seed);

	/* ret_counts->size says how much room there is. -EINVAL: too little. */
	int32_t (*counts)(void *handle, struct impost_fault_counts *ret_counts);
};

#endif
