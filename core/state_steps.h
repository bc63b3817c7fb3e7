/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of state_order.def. */
#ifndef CORE_STATE_STEPS_H
#define CORE_STATE_STEPS_H

#include "state.h"

/* state_sections.c: sections of a fixed length are a copy each way; and what varies. */
#define SECTION_STEP(name)                                    \
	int take_##name(struct state_work *work, uint32_t i); \
	int load_##name(struct state_work *work, uint32_t i)
SECTION_STEP(regs);
SECTION_STEP(sregs);
SECTION_STEP(xsave);
SECTION_STEP(debugregs);
SECTION_STEP(lapic);
SECTION_STEP(events);
SECTION_STEP(runstate);
SECTION_STEP(vcpu_opaque);
SECTION_STEP(pic);
SECTION_STEP(ioapic);
SECTION_STEP(pit);
SECTION_STEP(vm_opaque);

/* state_msrs.c */
SECTION_STEP(cpuid);
SECTION_STEP(msrs);
int load_first_msrs(struct state_work *work, uint32_t i);
int load_late_msrs(struct state_work *work, uint32_t i);

/* state_time.c */
SECTION_STEP(clock);
SECTION_STEP(tsc);

/* state_take.c, state_load.c */
int take_complete(struct state_work *work, uint32_t i);
SECTION_STEP(routes);
SECTION_STEP(devices);

#undef SECTION_STEP

/* Gets a section of at most ROOM bytes into RET and says in *ret_there whether it is there; a
 * backend that lacks it, or has nothing in it, is no error. STATE_OF_VM or _VCPU, its index. */
int state_get_section(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		      void *ret, uint32_t room, uint32_t *ret_there);

/* Sets the section at FROM, of BYTES, whose `size` it fills in; nothing if THERE is 0. */
int state_set_section(struct state_work *work, uint32_t object, uint32_t i, uint32_t section,
		      void *from, uint32_t bytes, uint32_t there);

#endif
