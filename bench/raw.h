/* SPDX-License-Identifier: Apache-2.0 */
/* A VM on plain KVM ioctls, with the same set-up as libimpost makes: what libimpost is measured
 * against. */
#ifndef IMPOST_BENCH_RAW_H
#define IMPOST_BENCH_RAW_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

struct raw_vm {
	int kvm;
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_bytes;
	uint8_t *memory;
	size_t memory_bytes;
};

/* Which comes first: interrupt controllers, as programs have it by custom, or memory, which since
 * Linux 6.17 is what takes the least time (docs/architecture.md, "Running, kicking, threads"). */
enum raw_order {
	RAW_IRQCHIP_FIRST,
	RAW_MEMORY_FIRST,
};

/*
 * Makes a VM of one vCPU and BYTES of memory, those beyond 3 GiB behind a hole up to 4 GiB, that
 * is about to enter the ELF64 at KERNEL with CMDLINE. Returns 0, or -1 with a message on stderr.
 * raw_destroy() is due in both cases.
 */
int raw_create(struct raw_vm *raw, int kernel, const char *cmdline, size_t bytes,
	       enum raw_order order);

/* Runs the guest for COUNT exits by OUTs to PORT. Returns 0, or -1 with a message on stderr. */
int raw_exits(const struct raw_vm *raw, uint16_t port, uint64_t count);

void raw_destroy(struct raw_vm *raw);

/* Room for all the state of a VM; NULL: a message is on stderr. */
struct raw_state;
struct raw_state *raw_state_new(const struct raw_vm *raw);

/* Gets it all by one ioctl for each part. Returns 0, or -1 with a message on stderr. */
int raw_state_get(const struct raw_vm *raw, struct raw_state *state);

/* NULL is fine. */
void raw_state_free(struct raw_state *state);

#endif
