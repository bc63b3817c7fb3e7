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
 * A view sees the regions that there were when it began. Most addresses are looked up in a table,
 * with no search: the calls below are inline, and fall back on a call of the library where more is
 * to be done than to copy, or where the table does not have the region: one that is small among
 * large ones, or so far from most others that a table of all would be too coarse for those. The
 * library finds it by binary search, in some ten nanoseconds.
 *
 * Unless it says otherwise, a call returns 0, or -EFAULT when not all of the range is guest memory:
 * the error text (impost_memory_context()) names the first address that is not, and nothing has
 * been read or written. -EINVAL: the view has not begun, or has ended. -EACCES, of what writes: the
 * host may not write there either; -EIO: the file behind the region has become shorter, or cannot
 * be read (see IMPOST_REGION_IS_DIRECT). What writes marks what it has written, where somebody
 * tracks; and where the backend is to be told of it (mark-dirty), what the backend says comes back,
 * with everything written. None of this is for signal handlers.
 *
 * An aligned number that a typed call reads or writes (_u8 to _u64, _le16 to _be64) is one access
 * of the host CPU, never torn (SDM vol. 3, 9.1.1). So is an aligned copy of 1, 2, 4 or 8 bytes
 * where the region is IMPOST_REGION_IS_DIRECT; elsewhere the kernel copies, in what pieces it
 * likes. Neither orders anything by itself.
 */
#ifndef IMPOST_VIEW_H
#define IMPOST_VIEW_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <impost/error.h>
#include <impost/memory.h>
#include <impost/range.h>

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
	/* Of guest memory from `gpa` on, every 2^shift bytes have a window, `count` in all: that of
	 * the region which has most of them. Not all regions need be there. */
	const struct impost_window *windows;
	uint64_t gpa;
	uint64_t count;
	uint64_t shift;
	uint64_t serial;
};

#ifdef __cplusplus
extern "C" {
#endif

/* Begins a view of MEMORY. -ENOMEM: at a thread's first view; -IMPOST_EFORKED: in a fork. */
IMPOST_API int impost_view_begin(struct impost_memory *memory, struct impost_view *ret_view);

/* Ends it, on the thread that began it: on another, the view could not be used any more, but would
 * go on holding off removal. Host pointers got through it are no longer valid. One that has ended,
 * or is all zero, may be ended again. The end of a thread ends its views. */
IMPOST_API void impost_view_end(struct impost_view *view);

/* What the copying calls below are, out of line: exact copies out of and into guest memory. */
IMPOST_API int impost_view_read_any(struct impost_view *view, uint64_t gpa, void *buf,
				    uint64_t bytes);
IMPOST_API int impost_view_write_any(struct impost_view *view, uint64_t gpa, const void *buf,
				     uint64_t bytes);

/* What the typed calls below are, out of line: a number of BYTES (1, 2, 4 or 8), one access if it
 * is aligned. */
IMPOST_API int impost_view_load_any(struct impost_view *view, uint64_t gpa, void *ret_value,
				    uint32_t bytes);
IMPOST_API int impost_view_store_any(struct impost_view *view, uint64_t gpa, const void *value,
				     uint32_t bytes);

/* What impost_view_ptr() is, out of line. */
IMPOST_API int impost_view_ptr_any(struct impost_view *view, uint64_t gpa, uint64_t bytes,
				   void **ret_hva);

/* For the calls below: the window that GPA would be in. NULL: there is none, which is so before and
 * after all regions of the table, and where the view has not begun or has ended. */
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
 * ends. What is written through it, through a span or an iovec, is to be marked with
 * impost_view_mark_dirty().
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

/* For the calls below: BUF, of which a compiler forgets how large it is, if it does not know BYTES
 * either. Otherwise it warns of a copy of more than 8 bytes, where fewer are copied elsewhere. */
static inline void *impost_view_buf(const void *buf, uint64_t bytes)
{
	void *at = (void *)(uintptr_t)buf;

	if (!__builtin_constant_p(bytes))
		__asm__("" : "+r"(at));
	return at;
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
		memcpy(impost_view_buf(buf, bytes), hva, bytes);
		return 0;
	}
	next = impost_view_next(view, gpa + here);
	if (__builtin_expect(!next || bytes - here > next->readable, 0))
		return impost_view_read_any(view, gpa, buf, bytes);
	buf = impost_view_buf(buf, bytes);
	memcpy(buf, hva, here);
	memcpy((uint8_t *)buf + here, next->hva, bytes - here);
	return 0;
}

/* Writes BYTES from BUF at GPA, as impost_view_read() reads. */
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
		memcpy(hva, impost_view_buf(buf, bytes), bytes);
		return 0;
	}
	next = impost_view_next(view, gpa + here);
	if (__builtin_expect(!next || bytes - here > next->writable, 0))
		return impost_view_write_any(view, gpa, buf, bytes);
	buf = impost_view_buf(buf, bytes);
	memcpy(hva, buf, here);
	memcpy(next->hva, (const uint8_t *)buf + here, bytes - here);
	return 0;
}

/*
 * One number, as it lies in memory. Where the region is not IMPOST_REGION_IS_DIRECT an aligned one
 * of 2, 4 or 8 bytes is accessed directly as soon as the kernel has said that its page is there: a
 * file that becomes shorter in that very moment is SIGBUS.
 */
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
		return impost_view_load_any(view, gpa, ret_value, 2);
	*ret_value = __atomic_load_n((const uint16_t *)(const void *)hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_read_u32(struct impost_view *view, uint64_t gpa, uint32_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 4);

	if (__builtin_expect(!hva || gpa % 4, 0))
		return impost_view_load_any(view, gpa, ret_value, 4);
	*ret_value = __atomic_load_n((const uint32_t *)(const void *)hva, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_read_u64(struct impost_view *view, uint64_t gpa, uint64_t *ret_value)
{
	const uint8_t *hva = impost_view_readable(view, gpa, 8);

	if (__builtin_expect(!hva || gpa % 8, 0))
		return impost_view_load_any(view, gpa, ret_value, 8);
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
		return impost_view_store_any(view, gpa, &value, 2);
	__atomic_store_n((uint16_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u32(struct impost_view *view, uint64_t gpa, uint32_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 4);

	if (__builtin_expect(!hva || gpa % 4, 0))
		return impost_view_store_any(view, gpa, &value, 4);
	__atomic_store_n((uint32_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

static inline int impost_view_write_u64(struct impost_view *view, uint64_t gpa, uint64_t value)
{
	uint8_t *hva = impost_view_writable(view, gpa, 8);

	if (__builtin_expect(!hva || gpa % 8, 0))
		return impost_view_store_any(view, gpa, &value, 8);
	__atomic_store_n((uint64_t *)(void *)hva, value, __ATOMIC_RELAXED);
	return 0;
}

/*
 * The same in a stated order of bytes: devices' structures are little-endian mostly, as hosts are.
 * The functions of <endian.h> would not do: strict C11 does not declare them.
 */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hosts are x86_64");

static inline int impost_view_read_le16(struct impost_view *view, uint64_t gpa, uint16_t *ret_value)
{
	uint16_t value;
	int err = impost_view_read_u16(view, gpa, &value);

	if (!err)
		*ret_value = value;
	return err;
}

static inline int impost_view_read_le32(struct impost_view *view, uint64_t gpa, uint32_t *ret_value)
{
	uint32_t value;
	int err = impost_view_read_u32(view, gpa, &value);

	if (!err)
		*ret_value = value;
	return err;
}

static inline int impost_view_read_le64(struct impost_view *view, uint64_t gpa, uint64_t *ret_value)
{
	uint64_t value;
	int err = impost_view_read_u64(view, gpa, &value);

	if (!err)
		*ret_value = value;
	return err;
}

static inline int impost_view_read_be16(struct impost_view *view, uint64_t gpa, uint16_t *ret_value)
{
	uint16_t value;
	int err = impost_view_read_u16(view, gpa, &value);

	if (!err)
		*ret_value = __builtin_bswap16(value);
	return err;
}

static inline int impost_view_read_be32(struct impost_view *view, uint64_t gpa, uint32_t *ret_value)
{
	uint32_t value;
	int err = impost_view_read_u32(view, gpa, &value);

	if (!err)
		*ret_value = __builtin_bswap32(value);
	return err;
}

static inline int impost_view_read_be64(struct impost_view *view, uint64_t gpa, uint64_t *ret_value)
{
	uint64_t value;
	int err = impost_view_read_u64(view, gpa, &value);

	if (!err)
		*ret_value = __builtin_bswap64(value);
	return err;
}

static inline int impost_view_write_le16(struct impost_view *view, uint64_t gpa, uint16_t value)
{
	return impost_view_write_u16(view, gpa, value);
}

static inline int impost_view_write_le32(struct impost_view *view, uint64_t gpa, uint32_t value)
{
	return impost_view_write_u32(view, gpa, value);
}

static inline int impost_view_write_le64(struct impost_view *view, uint64_t gpa, uint64_t value)
{
	return impost_view_write_u64(view, gpa, value);
}

static inline int impost_view_write_be16(struct impost_view *view, uint64_t gpa, uint16_t value)
{
	return impost_view_write_u16(view, gpa, __builtin_bswap16(value));
}

static inline int impost_view_write_be32(struct impost_view *view, uint64_t gpa, uint32_t value)
{
	return impost_view_write_u32(view, gpa, __builtin_bswap32(value));
}

static inline int impost_view_write_be64(struct impost_view *view, uint64_t gpa, uint64_t value)
{
	return impost_view_write_u64(view, gpa, __builtin_bswap64(value));
}

/* --- in part, filled, strings --- */

/*
 * Copies as much of BYTES at GPA as there is memory without a gap, and tells how much in *ret_done:
 * BYTES, or less if memory ends before. -EFAULT: there is none at GPA.
 */
IMPOST_API int impost_view_read_some(struct impost_view *view, uint64_t gpa, void *buf,
				     uint64_t bytes, uint64_t *ret_done);
IMPOST_API int impost_view_write_some(struct impost_view *view, uint64_t gpa, const void *buf,
				      uint64_t bytes, uint64_t *ret_done);

/* Sets BYTES at GPA to BYTE; all or nothing. */
IMPOST_API int impost_view_fill(struct impost_view *view, uint64_t gpa, uint8_t byte,
				uint64_t bytes);

/*
 * Copies the string at GPA into BUF, which has room for CAPACITY bytes, with its NUL; *ret_length
 * is its length without. It is terminated, and as long as said, whatever the guest writes
 * meanwhile. -EFAULT: memory ends before the string; -EOVERFLOW: no NUL is among the first CAPACITY
 * bytes.
 */
IMPOST_API int impost_view_read_string(struct impost_view *view, uint64_t gpa, char *buf,
				       uint64_t capacity, uint64_t *ret_length);

/* --- atomic operations --- */

/* What impost_view_atomic() does to the number in guest memory. */
#define IMPOST_ATOMIC_LOAD     0u
#define IMPOST_ATOMIC_STORE    1u
#define IMPOST_ATOMIC_EXCHANGE 2u
#define IMPOST_ATOMIC_ADD      3u /* modulo 2^(8 * bytes); the negative of a number subtracts it */
#define IMPOST_ATOMIC_AND      4u
#define IMPOST_ATOMIC_OR       5u
#define IMPOST_ATOMIC_XOR      6u

/* How it is ordered with other accesses: C11's memory_order_* (7.17.3), or more than that. */
#define IMPOST_ORDER_RELAXED 0u
#define IMPOST_ORDER_ACQUIRE 1u /* not for a store */
#define IMPOST_ORDER_RELEASE 2u /* not for a load */
#define IMPOST_ORDER_ACQ_REL 3u /* neither for a load nor for a store */
#define IMPOST_ORDER_SEQ_CST 4u

/*
 * Does OP (IMPOST_ATOMIC_*), in the order ORDER (IMPOST_ORDER_*), with the number of BYTES (1, 2,
 * 4 or 8) at GPA and OPERAND, of which the low BYTES count: one atomic operation, for the guest and
 * for other threads. *ret_old, unless NULL, is what was there before. Numbers are as they lie in
 * memory: little-endian.
 *
 * -EINVAL: another number of BYTES, OP or ORDER, an order that OP cannot have, or GPA is no
 * multiple of BYTES.
 */
IMPOST_API int impost_view_atomic(struct impost_view *view, uint64_t gpa, uint32_t bytes,
				  uint32_t op, uint32_t order, uint64_t operand, uint64_t *ret_old);

/*
 * Writes DESIRED at GPA if EXPECTED is there, in one atomic operation; *ret_old, which may not be
 * NULL, is what was there: DESIRED was written if it is EXPECTED. Of both, the low BYTES count.
 * Otherwise as impost_view_atomic(); any order will do.
 */
IMPOST_API int impost_view_compare_exchange(struct impost_view *view, uint64_t gpa, uint32_t bytes,
					    uint32_t order, uint64_t expected, uint64_t desired,
					    uint64_t *ret_old);

/* --- host pointers, good until the view ends: see also impost_view_ptr() above --- */

/*
 * The host address of as much of BYTES (not 0) at GPA as lies in one region: *ret_len, from 1 to
 * BYTES. For a walk over all of them, go on at GPA + *ret_len. -EFAULT: no memory is at GPA.
 */
IMPOST_API int impost_view_span(struct impost_view *view, uint64_t gpa, uint64_t bytes,
				void **ret_hva, uint64_t *ret_len);

/*
 * Turns COUNT ranges, such as the buffers of a virtio chain, into what readv(2) and writev(2) take:
 * one element for each part of a range that lies in one region, in the same order. Ranges of 0
 * bytes have none. *ret_count is the number of elements.
 *
 * -EFAULT: not all of a range is memory; the text says which range. -ENOSPC: more than CAPACITY are
 * needed: *ret_count says how many. IOV may be NULL if CAPACITY is 0. What is in IOV after an error
 * is undefined. One system call takes at most IOV_MAX elements, and SSIZE_MAX bytes.
 */
IMPOST_API int impost_view_iovec(struct impost_view *view, const struct impost_range *ranges,
				 uint64_t count, struct iovec *iov, uint64_t capacity,
				 uint64_t *ret_count);

/*
 * Marks BYTES at GPA as written: to be called after they were written through a host pointer, and
 * before the view ends. It costs next to nothing when nobody tracks. -EFAULT: not all is memory;
 * what is before the gap is marked.
 */
IMPOST_API int impost_view_mark_dirty(struct impost_view *view, uint64_t gpa, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
