/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: the rules of the layer `fault`. What is taken keeps the limits of a rule. */
#include <stdlib.h>
#include <string.h>

#include "fault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fault_rule rules[FAULT_MOST_RULES];
	char *text = malloc(size + 1), why[64];
	int count;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	count = fault_read(text, rules, why, sizeof(why));
	free(text);
	for (int i = 0; i < count; i++)
		if (rules[i].chance > UINT64_C(1) << 32 || rules[i].error < 0 ||
		    rules[i].error > 4095 || rules[i].delay > UINT64_C(60000000000) ||
		    (!rules[i].error && !strchr(rules[i].word, '+')))
			abort();
	return 0;
}
