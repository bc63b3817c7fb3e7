/* SPDX-License-Identifier: Apache-2.0 */
/* Linear to physical addresses, as the guest's paging has it. */
#ifndef MOCK_WALK_H
#define MOCK_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include <impost/x86_64/state.h>

/* Reads BYTES (4 or 8) of guest memory at GPA, a multiple of BYTES. False: there is no memory. */
typedef bool (*mock_walk_read)(void *opaque, uint64_t gpa, unsigned bytes, uint64_t *ret_value);

struct mock_walk {
	const struct impost_x86_sregs *sregs;
	uint64_t phys; /* bits above the address width */
	bool huge;     /* there are 1 GiB pages */
	mock_walk_read read;
	void *opaque;
};

/*
 * Translates GVA; with FETCH it must also be executable at the present privilege level (SDM vol. 3,
 * 4.6). NULL with *ret_gpa, or a text why not, with *ret_at the address of the entry that says so.
 */
const char *mock_walk_translate(const struct mock_walk *w, uint64_t gva, bool fetch,
				uint64_t *ret_gpa, uint64_t *ret_at);

#endif
