/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `fault`: what its pieces know of each other. */
#ifndef PLUGINS_FAULT_H
#define PLUGINS_FAULT_H

#include "layer.h"

extern const struct impost_backend_ops impost_fault_ops;
extern const struct impost_option_desc impost_fault_options[];
#define IMPOST_FAULT_NOPTIONS 2u

/* A word of the rules. */
struct fault_rule {
	uint8_t op[LAYER_OPS]; /* 1: it is about that operation */
	uint64_t nth;	       /* 0: any call */
	uint64_t chance;       /* of 2^32 */
	int32_t error;	       /* positive; 0: the call is delayed and does not fail */
	uint64_t delay;	       /* nanoseconds */
	char word[64];
};

#define FAULT_MOST_RULES 64u

/*
 * Reads TEXT into RULES, room for FAULT_MOST_RULES. Returns their number, or -1 with what is wrong
 * in WHY of SIZE bytes.
 */
int fault_read(const char *text, struct fault_rule *rules, char *why, size_t size);

#endif
