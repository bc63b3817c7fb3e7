/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that greets and stops. Whoever changes its exits changes hello.script too. */
#include "guest.h"

void guest_main(const void *zero_page)
{
	(void)zero_page;
	serial_init();
	put("Hello from an Impost guest\n");
}
