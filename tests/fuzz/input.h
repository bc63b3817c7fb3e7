/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzzer's input as a source of numbers, for the models of tests/unit. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

#define MODEL_CHECK(condition)            \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

struct input {
	const uint8_t *data;
	size_t size;
};

/* As many bytes as it takes to reach BELOW; 0 when there are no more. */
static inline uint64_t input_draw(void *source, uint64_t below)
{
	struct input *input = source;
	uint64_t number = 0;

	for (uint64_t range = below - 1; range > 0 && input->size > 0; range >>= 8) {
		number = number << 8 | *input->data++;
		input->size--;
	}
	return number % below;
}

#endif
