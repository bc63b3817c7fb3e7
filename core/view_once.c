/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of memory.h that are a view of their own. */
#include <impost/view.h>

#include "memory.h"

/* Makes CALL, in which `view` is a view of MEMORY. */
#define ONCE(memory, call)                                   \
	({                                                   \
		struct impost_view view;                     \
		int err_ = impost_view_begin(memory, &view); \
                                                             \
		if (!err_) {                                 \
			err_ = (call);                       \
			impost_view_end(&view);              \
		}                                            \
		err_;                                        \
	})

int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf, size_t bytes)
{
	return ONCE(memory, impost_view_read_any(&view, gpa, buf, bytes));
}

int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf, size_t bytes)
{
	return ONCE(memory, impost_view_write_any(&view, gpa, buf, bytes));
}

int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	return ONCE(memory, impost_view_fill(&view, gpa, byte, bytes));
}

int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	return ONCE(memory, impost_view_ptr_any(&view, gpa, bytes, ret_hva));
}
