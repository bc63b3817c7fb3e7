/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views: access to guest memory at full speed, while another thread may add and remove regions.
 *
 * A view is a section of one thread's work, from impost_view_begin() to impost_view_end(), during
 * which no memory that it can reach goes away: what is removed meanwhile stays mapped, and
 * impost_memory_remove() waits, until the view has ended. Views take no lock and never wait. So a
 * view is to be short: a queue's descriptors, not a vCPU's run; what blocks does not belong in it.
 * A thread may have several views at once; each is ended by the thread that began it.
 *
 * A view sees the regions that there were when it began. Where an address is, is looked up in a
 * table, with no search: the calls below are inline, and fall back on a call of the library where
 * more is to be done than to copy.
 *
 * Unless it says otherwise, a call returns 0, or -EFAULT when not all of the range is guest memory:
 * the error text (impost_memory_context()) names the first address that is not, and nothing has
 * been read or written. -EINVAL: the view has not begun, or has ended.
 *
 * An aligned access of 1, 2, 4 or 8 bytes is one access of the host CPU, never torn (SDM vol. 3,
 * 9.1.1). It orders nothing by itself.
 */
#ifndef IMPOST_VIEW_H
#define IMPOST_VIEW_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <impost/error.h>
#include <impost/memory.h>

/*
 * Where guest memory is for the host: a region, or as much of it as a plain access may touch. It is
 * the inline calls' business; what it does not cover, they leave to the library.
 */
struct impost_window {
	uint64_t gpa;
	uint64_t readable; /* bytes from `gpa` on that may be read at `hva` */
	uint64_t writable; /* that may be written, with nobody to be told */
	uint8_t *hva;
};

/*
 * The caller's, on its stack mostly, and to be left alone between begin and end. Its layout is part
 * of the API, for the sake of the inline calls.
 */
struct impost_view {
	struct impost_memory *memory;
	const void *map;
	void *reader;
	/* Of guest memory from `gpa` on, every 2^shift bytes have a window: that of the region
	 * which has most of them. */
	const struct impost_window *windows;
	uint64_t gpa;
	uint64_t count;
	uint64_t shift;
	uint64_t reserved;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Begins a view of MEMORY. -ENOMEM: at a thread's first view; -IMPOST_EFORKED: in a fork. */
IMPOST_API int impost_view_begin(struct impost_memory *memory, struct impost_view *ret_view);

/* Ends it, on the thread that began it. Host pointers got through it are no longer valid. One that
 * has ended, or is all zero, may be ended again. */
IMPOST_API void impost_view_end(struct impost_view *view);

/* What the inline calls below are, out of line: exact copies out of and into guest memory. */
IMPOST_API int impost_view_read_any(struct impost_view *view, uint64_t gpa, void *buf,
				    uint64_t bytes);
IMPOST_API int impost_view_write_any(struct impost_view *view, uint64_t gpa, const void *buf,
				     uint64_t bytes);

IMPOST_API int impost_view_ptr_any(struct impost_view *view, uint64_t gpa, uint64_t bytes,
				   void **ret_hva);

/* For the calls below: the window that GPA would be in. NULL: there is none, which is so before and
 * after all regions, and where the view has not begun or has ended. */
static inline const struct impost_window *impost_view_window(const struct impost_view *view,
							     uint64_t gpa)
{
	uint64_t index = (gpa - view->gpa) >> view->shift;

	return __builtin_expect(index < view->count, 1) ? &view->windows[index] : NULL;
}

/* For the calls below: the host address of BYTES at GPA if a plain access may read them. NULL if
 * not. */
static inline const uint8_t *impost_view_readable(const struct impost_view *view, uint64_t gpa,
						  uint64_t bytes)
{
	const struct impost_window *window = impost_view_window(view, gpa);

	if (!window || gpa - window->gpa >= window->readable ||
	    bytes > window->readable - (gpa - window->gpa))
		return NULL;
	return window->hva + (gpa - window->gpa);
}

/* The same, if it may write them. */
static inline uint8_t *impost_view_writable(const struct impost_view *view, uint64_t gpa,
					    uint64_t bytes)
{
	const struct impost_window *window = impost_view_window(view, gpa);

	if (!window || gpa - window->gpa >= window->writable ||
	    bytes > window->writable - (gpa - window->gpa))
		return NULL;
	return window->hva + (gpa - window->gpa);
}

/*
 * The host address of BYTES (not 0) at GPA, all in one region: -EFAULT if not. Good until the view
 * ends. What is written through it is not seen by dirty tracking.
 */
static inline int impost_view_ptr(struct impost_view *view, uint64_t gpa, uint64_t bytes,
				  void **ret_hva)
{
	const struct impost_window *window = impost_view_window(view, gpa);

	if (__builtin_expect(!window || bytes == 0 || gpa - window->gpa >= window->readable ||
				     bytes > window->readable - (gpa - window->gpa),
			     0))
		return impost_view_ptr_any(view, gpa, bytes, ret_hva);
	*ret_hva = window->hva + (gpa - window->gpa);
	return 0;
}

/* For the calls below: the window that begins at GPA, where another has ended. NULL: none does. */
static inline const struct impost_window *impost_view_next(const struct impost_view *view,
							   uint64_t gpa)
{
	const struct impost_window *window = impost_view_window(view, gpa);

	return window && window->gpa == gpa && gpa != 0 ? window : NULL;
}

/* Reads BYTES at GPA into BUF, across borders of adjoining regions; all or nothing. */
static inline int impost_view_read(struct impost_view *view, uint64_t gpa, void *buf,
				   uint64_t bytes)
{
	const struct impost_window *window = impost_view_window(view, gpa), *next;
	uint64_t here;
	uint8_t *hva;

	if (__builtin_expect(!window || gpa - window->gpa >= window->readable || bytes <= 8, 0))
		return impost_view_read_any(view, gpa, buf, bytes);
	hva = window->hva + (gpa - window->gpa);
	here = window->readable - (gpa - window->gpa);
	if (__builtin_expect(bytes <= here, 1)) {
		memcpy(buf, hva, bytes);
		return 0;
	}
	next = impost_view_next(view, gpa + here);
	if (__builtin_expect(!next || bytes - here > next->readable, 0))
		return impost_view_read_any(view, gpa, buf, bytes);
	memcpy(buf, hva, here);
	memcpy((uint8_t *)buf + here, next->hva, bytes - here);
	return 0;
}

/* Writes BYTES from BUF at GPA, as impost_view_read() reads, and marks them dirty where somebody
 * tracks. */
static inline int impost_view_write(struct impost_view *view, uint64_t gpa, const void *buf,
				    uint64_t bytes)
{
	const struct impost_window *window = impost_view_window(view, gpa), *next;
	uint64_t here;
	uint8_t *hva;

	if (__builtin_expect(!window || gpa - window->gpa >= window->writable || bytes <= 8, 0))
		return impost_view_write_any(view, gpa, buf, bytes);
	hva = window->hva + (gpa - window->gpa);
	here = window->writable - (gpa - window->gpa);
	if (__builtin_expect(bytes <= here, 1)) {
		memcpy(hva, buf, bytes);
		return 0;
	}
	next = impost_view_next(view, gpa + here);
	if (__builtin_expect(!next || bytes - here > next->writable, 0))
		return impost_view_write_any(view, gpa, buf, bytes);
	memcpy(hva, buf, here);
	memcpy(next->hva, (const uint8_t *)buf + here, bytes - here);
	return 0;
}

/* One number, as it lies in memory. */
static inline int impost_view_read_u8(struct impost_view *view, uint64_t gpa, uint8_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 1);

	if (__builtin_expect(!hva, 0))
		return impost_view_read_any(view, gpa, ret_value, 1);
	*ret_value = __atomic_load_n(hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_read_u16(struct impost_view *view, uint64_t gpa, uint16_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 2);

	if (__builtin_expect(!hva || gpa % 2, 0))
		return impost_view_read_any(view, gpa, ret_value, 2);
	*ret_value = __atomic_load_n((const uint16_t *)(const void *)hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_read_u32(struct impost_view *view, uint64_t gpa, uint32_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 4);

	if (__builtin_expect(!hva || gpa % 4, 0))
		return impost_view_read_any(view, gpa, ret_value, 4);
	*ret_value = __atomic_load_n((const uint32_t *)(const void *)hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_read_u64(struct impost_view *view, uint64_t gpa, uint64_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 8);

	if (__builtin_expect(!hva || gpa % 8, 0))
		return impost_view_read_any(view, gpa, ret_value, 8);
	*ret_value = __atomic_load_n((const uint64_t *)(const void *)hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u8(struct impost_view *view, uint64_t gpa, uint8_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 1);

	if (__builtin_expect(!hva, 0))
		return impost_view_write_any(view, gpa, &value, 1);
	__atomic_store_n(hva, value, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u16(struct impost_view *view, uint64_t gpa, uint16_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 2);

	if (__builtin_expect(!hva || gpa % 2, 0))
		return impost_view_write_any(view, gpa, &value, 2);
	__atomic_store_n((uint16_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u32(struct impost_view *view, uint64_t gpa, uint32_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 4);

	if (__builtin_expect(!hva || gpa % 4, 0))
		return impost_view_write_any(view, gpa, &value, 4);
	__atomic_store_n((uint32_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u64(struct impost_view *view, uint64_t gpa, uint64_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 8);

	if (__builtin_expect(!hva || gpa % 8, 0))
		return impost_view_write_any(view, gpa, &value, 8);
	__atomic_store_n((uint64_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

/* The same in a stated order of bytes: devices' structures are little-endian mostly. */
#define IMPOST_VIEW_ORDERED(order, bits)                                                          \
	static inline int impost_view_read_##order##bits(struct impost_view *view, uint64_t gpa,  \
							 uint##bits##_t *ret_value)               \
	{                                                                                         \
		uint##bits##_t value;                                                             \
		int err = impost_view_read_u##bits(view, gpa, &value);                            \
                                                                                                  \
		if (!err)                                                                         \
			*ret_value = order##bits##toh(value);                                     \
		return err;                                                                       \
	}                                                                                         \
                                                                                                  \
	static inline int impost_view_write_##order##bits(struct impost_view *view, uint64_t gpa, \
							  uint##bits##_t value)                   \
	{                                                                                         \
		return impost_view_write_u##bits(view, gpa, hto##order##bits(value));             \
	}
IMPOST_VIEW_ORDERED(le, 16)
IMPOST_VIEW_ORDERED(le, 32)
IMPOST_VIEW_ORDERED(le, 64)
IMPOST_VIEW_ORDERED(be, 16)
IMPOST_VIEW_ORDERED(be, 32)
IMPOST_VIEW_ORDERED(be, 64)
#undef IMPOST_VIEW_ORDERED

#ifdef __cplusplus
}
#endif

#endif
