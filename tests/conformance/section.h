/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of state, as tests get and set them: what goes wrong ends the test. */
#ifndef CONFORMANCE_SECTION_H
#define CONFORMANCE_SECTION_H

#include "../sections.h"
#include "common.h"

/* Of the first vCPU. */
void section_get(struct box *box, uint32_t section, union section *ret_s);
void section_set(struct box *box, uint32_t section, const union section *s);

/* Sets what must be refused with ERR, and asserts that nothing has changed. WHAT is for people. */
void section_refuse(struct box *box, uint32_t section, const union section *bad, int err,
		    const char *what);

/* The same of the VM. */
void vm_section_get(struct box *box, uint32_t section, union section *ret_s);
void vm_section_set(struct box *box, uint32_t section, const union section *s);
void vm_section_refuse(struct box *box, uint32_t section, const union section *bad, int err,
		       const char *what);

#endif
