/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that does nothing but exit, tests/guests/spin, in a VM of libimpost's on KVM. */
#ifndef IMPOST_BENCH_SPIN_H
#define IMPOST_BENCH_SPIN_H

#include <stdint.h>

#include <impost/impost.h>

#define SPIN_PORT 0x80 /* where its OUTs go */

struct spin {
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
};

/*
 * Makes a VM of one vCPU and BYTES of memory that is about to enter the guest whose ELF file is
 * open as GUEST, and is kicked by KICK_BY. Says what failed; spin_destroy() is due in both cases.
 */
int spin_create(struct impost_context *ctx, int guest, uint32_t kick_by, uint64_t bytes,
		struct spin *spin);

/* Runs it for COUNT exits. Says what failed. */
int spin_exits(struct impost_context *ctx, const struct spin *spin, uint64_t count);

void spin_destroy(struct spin *spin);

#endif
