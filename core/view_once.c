/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of memory.h that are a view of their own. */
#include <impost/view.h>

#include "access.h"
#include "memory.h"
#include "view.h"

/* Makes CALL, in which `view` is a view of MEMORY. */
#define ONCE(memory, call)                            \
	({                                            \
		struct impost_view view;              \
		int err_ = view_begin(memory, &view); \
                                                      \
		if (!err_) {                          \
			err_ = (call);                \
			view_end(&view);              \
		}                                     \
		err_;                                 \
	})

/* What goes by a window is copied here: a call would take as long as a number's copy. */
static inline int read_once(struct impost_view *view, uint64_t gpa, void *buf, uint64_t bytes)
{
	const uint8_t *hva = impost_view_readable(view, gpa, bytes);

	if (__builtin_expect(!hva || bytes == 0, 0))
		return impost_view_read_any(view, gpa, buf, bytes);
	access_copy_out(buf, hva, bytes);
	return 0;
}

static inline int write_once(struct impost_view *view, uint64_t gpa, const void *buf,
			     uint64_t bytes)
{
	uint8_t *hva = impost_view_writable(view, gpa, bytes);

	if (__builtin_expect(!hva || bytes == 0, 0))
		return impost_view_write_any(view, gpa, buf, bytes);
	access_copy_in(hva, buf, bytes);
	return 0;
}

int impost_memory_read(struct impost_memory *memory, uint64_t gpa, void *buf, size_t bytes)
{
	return ONCE(memory, read_once(&view, gpa, buf, bytes));
}

int impost_memory_write(struct impost_memory *memory, uint64_t gpa, const void *buf, size_t bytes)
{
	return ONCE(memory, write_once(&view, gpa, buf, bytes));
}

int impost_memory_fill(struct impost_memory *memory, uint64_t gpa, uint8_t byte, uint64_t bytes)
{
	return ONCE(memory, impost_view_fill(&view, gpa, byte, bytes));
}

int impost_memory_ptr(struct impost_memory *memory, uint64_t gpa, uint64_t bytes, void **ret_hva)
{
	return ONCE(memory, impost_view_ptr_any(&view, gpa, bytes, ret_hva));
}
