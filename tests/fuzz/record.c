/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for records: the first bytes of the input draw a description, up to a byte that is
 * 0xff and is not part of it; the rest is decoded with it, and shown with and without it.
 */
#include "input.h"

#include "../unit/record_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
	struct input input = {data, end ? (size_t)(end - data) : 0};
	struct model model = {.draw = input_draw, .source = &input};

	if (end) {
		size -= (size_t)(end + 1 - data);
		data = end + 1;
	}
	model_describe(&model);
	model_judge(model.records, data, size);
	model_show(model.records, data, size);
	return 0;
}
