/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs that tell of features: what a guest was told by one that is otherwise on a host. */
#ifndef CORE_STATE_FEATURES_H
#define CORE_STATE_FEATURES_H

#include <stdint.h>

/* Told of a field that is in the way, "IA32_MTRRCAP.WC" or "IA32_MTRRCAP bit 9", and WHY. Strings
 * hold for the call. */
typedef void (*state_feature_fn)(void *opaque, const char *name, const char *why);

/*
 * Tells TELL of each field of MSR INDEX by which a guest that was told GUEST cannot be where HOST
 * is the most that guests are told. Nothing of MSRs that tell of no features.
 */
void state_feature_differences(uint32_t index, uint64_t guest, uint64_t host, state_feature_fn tell,
			       void *opaque);

#endif
