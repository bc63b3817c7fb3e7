/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target for access to guest memory: the input is what calls are made, with what; each is
 * compared with an array of bytes. */
#include "input.h"

#include "../unit/view_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct impost_context *ctx;
	static struct model model;
	struct input input = {data, size};
	struct impost_memory *memory;

	if (!ctx)
		MODEL_CHECK(impost_context_open(NULL, NULL, &ctx) == 0);
	MODEL_CHECK(impost_memory_create(ctx, &memory) == 0);
	memset(&model, 0, sizeof(model));
	model.draw = input_draw;
	model.source = &input;
	model_begin(&model, memory, input_draw(&input, 2) ? 0 : 0 - (uint64_t)MODEL_BYTES);
	while (input.size > 0)
		model_step(&model);
	model_end(&model);
	impost_memory_destroy(memory);
	return 0;
}
