/* SPDX-License-Identifier: Apache-2.0 */
/* How a test has the mock of faulty.c fail: one for all VMs of the process. */
#ifndef TESTS_FAULTY_H
#define TESTS_FAULTY_H

#include <stdatomic.h>

#define FAULTY_CONTROL "faulty.control"

/* Operations that can fail are counted, and those of numbers `first` to `last` do. */
struct faulty {
	atomic_long calls;
	atomic_long first, last;	 /* from 0; a `first` below 0: none */
	_Atomic(const char *) operation; /* that failed last; NULL: none */
};

#endif
