/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for records: the first bytes of the input draw a description, up to a byte that is
 * 0xff and is not part of it; the rest is decoded with it, and shown with and without it.
 */
#include <stdint.h>

#define MODEL_CHECK(condition)            \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

#include "../unit/record_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

/* As many bytes as it takes to reach BELOW; 0 when there are no more. */
static uint64_t draw(void *source, uint64_t below)
{
	struct input *input = source;
	uint64_t number = 0;

	for (uint64_t range = below - 1; range > 0 && input->size > 0; range >>= 8) {
		number = number << 8 | *input->data++;
		input->size--;
	}
	return number % below;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
	struct input input = {data, end ? (size_t)(end - data) : 0};
	struct model model = {.draw = draw, .source = &input};

	if (end) {
		size -= (size_t)(end + 1 - data);
		data = end + 1;
	}
	model_describe(&model);
	model_judge(model.records, data, size);
	model_show(model.records, data, size);
	return 0;
}
