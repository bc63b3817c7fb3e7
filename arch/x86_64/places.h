/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken of guest-physical memory, as one walk in order of address. */
#ifndef ARCH_X86_64_PLACES_H
#define ARCH_X86_64_PLACES_H

#include "ram.h"

#include <impost/x86_64/layout.h>

/* 0, or -EINVAL with a text: LAYOUT was not initialised. NULL is fine: nothing is taken. */
int places_check(struct impost_context *ctx, const struct impost_x86_layout *layout);

/* Makes RET_COPY a layout with the places of LAYOUT, which was checked or is NULL. */
void places_copy(const struct impost_x86_layout *layout, struct impost_x86_layout *ret_copy);

/* Which places the walk stops at. */
enum places {
	PLACES_ALL,
	PLACES_TYPED, /* those that the e820 map tells */
};

/*
 * Gives the first range at AT or behind it that is taken: a place of LAYOUT (may be NULL), or what
 * places leave of the EBDA and ROM area, which is IMPOST_X86_E820_RESERVED. AT must not be within a
 * place. Returns 1, or 0 when there is none.
 */
int places_next(const struct impost_x86_layout *layout, enum places which, uint64_t at,
		struct range *ret_range, uint32_t *ret_type);

/* Gives the place that begins at GPA back. */
void places_release(struct impost_x86_layout *layout, uint64_t gpa);

#endif
