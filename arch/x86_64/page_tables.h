/* SPDX-License-Identifier: Apache-2.0 */
/* What an identity map can be. */
#ifndef ARCH_X86_64_PAGE_TABLES_H
#define ARCH_X86_64_PAGE_TABLES_H

#include "structure.h"

#include <impost/x86_64/layout.h>
#include <impost/x86_64/registers.h>

#define LARGE_PAGE (UINT64_C(1) << 21)
#define HUGE_PAGE  (UINT64_C(1) << 30)

/* What the first release knew of it: a caller's may be shorter or longer than ours. */
#define LEAST_PAGING (offsetof(struct impost_x86_paging, end) + sizeof(uint64_t))

/* No memory types change from here on; and at least so much is mapped, RAM or not. */
#define TYPES_END IMPOST_X86_HOLE_END

/* The lower canonical half; and with 5 levels, the widest physical addresses (SDM vol. 3, 4.1.4).
 */
#define END_LEVELS_4 (UINT64_C(1) << 47)
#define END_LEVELS_5 (UINT64_C(1) << 52)

#endif
