/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest that does nothing but exit: OUTs to port 0x80, as fast as it can.
 * Option: outs, after so many it stops (default: never).
 */
#include "guest.h"

#define POST_PORT 0x80

void guest_main(const void *zero_page)
{
	uint64_t outs = option(zero_page, "outs", 0);

	/* 0 wraps: that is no end for all practical purposes. */
	do
		outb(POST_PORT, 0);
	while (--outs != 0);
}
