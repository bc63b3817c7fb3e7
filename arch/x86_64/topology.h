/* SPDX-License-Identifier: Apache-2.0 */
/* Where each level of a topology lies in an APIC id. */
#ifndef ARCH_X86_64_TOPOLOGY_H
#define ARCH_X86_64_TOPOLOGY_H

#include <impost/x86_64/cpuid.h>

/* Bits to shift an APIC id to the right by, to get the id of its core, die or socket. */
struct shifts {
	uint32_t core, die, socket;
};

/* That each number is one, and APIC ids are not too long; then no product of them overflows. */
int topology_check_numbers(struct impost_context *ctx, const struct impost_x86_topology *topology);

struct shifts topology_shifts(const struct impost_x86_topology *topology);

#endif
