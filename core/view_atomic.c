/* SPDX-License-Identifier: Apache-2.0 */
/* Atomic operations on numbers in guest memory. */
#include <impost/view.h>

#include <inttypes.h>
#include <stdbool.h>

#include "access.h"
#include "memory.h"
#include "view.h"

/* The orders that an operation can have: a bit for each. */
#define ORDER(order)	  (1u << IMPOST_ORDER_##order)
#define RELAXED_AND_TOTAL (ORDER(RELAXED) | ORDER(SEQ_CST))
#define ALL_ORDERS	  (RELAXED_AND_TOTAL | ORDER(ACQUIRE) | ORDER(RELEASE) | ORDER(ACQ_REL))

static const struct {
	const char *name;
	uint32_t orders;
} ops[] = {
	[IMPOST_ATOMIC_LOAD] = {"load", RELAXED_AND_TOTAL | ORDER(ACQUIRE)},
	[IMPOST_ATOMIC_STORE] = {"store", RELAXED_AND_TOTAL | ORDER(RELEASE)},
	[IMPOST_ATOMIC_EXCHANGE] = {"exchange", ALL_ORDERS},
	[IMPOST_ATOMIC_ADD] = {"add", ALL_ORDERS},
	[IMPOST_ATOMIC_AND] = {"and", ALL_ORDERS},
	[IMPOST_ATOMIC_OR] = {"or", ALL_ORDERS},
	[IMPOST_ATOMIC_XOR] = {"xor", ALL_ORDERS},
};

/*
 * Each operation in one width. The order is not passed on: x86's atomic read-modify-writes are full
 * barriers (SDM vol. 3, 9.2.3.9) and its loads acquire anyway. A store is an exchange, which tells
 * what was there.
 */
#define OF_WIDTH(bits)                                                                            \
	static uint64_t do_##bits(void *hva, uint32_t op, uint64_t operand)                       \
	{                                                                                         \
		uint##bits##_t *at = hva, with = (uint##bits##_t)operand;                         \
                                                                                                  \
		switch (op) {                                                                     \
		case IMPOST_ATOMIC_LOAD:                                                          \
			return __atomic_load_n(at, __ATOMIC_SEQ_CST);                             \
		case IMPOST_ATOMIC_ADD:                                                           \
			return __atomic_fetch_add(at, with, __ATOMIC_SEQ_CST);                    \
		case IMPOST_ATOMIC_AND:                                                           \
			return __atomic_fetch_and(at, with, __ATOMIC_SEQ_CST);                    \
		case IMPOST_ATOMIC_OR:                                                            \
			return __atomic_fetch_or(at, with, __ATOMIC_SEQ_CST);                     \
		case IMPOST_ATOMIC_XOR:                                                           \
			return __atomic_fetch_xor(at, with, __ATOMIC_SEQ_CST);                    \
		default:                                                                          \
			return __atomic_exchange_n(at, with, __ATOMIC_SEQ_CST);                   \
		}                                                                                 \
	}                                                                                         \
                                                                                                  \
	static bool compare_exchange_##bits(void *hva, uint64_t *expected, uint64_t desired)      \
	{                                                                                         \
		uint##bits##_t *at = hva, old = (uint##bits##_t) * expected;                      \
		bool done = __atomic_compare_exchange_n(at, &old, (uint##bits##_t)desired, false, \
							__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
                                                                                                  \
		*expected = old;                                                                  \
		return done;                                                                      \
	}

OF_WIDTH(8)
OF_WIDTH(16)
OF_WIDTH(32)
OF_WIDTH(64)

/* By the number of bytes; the others are NULL. */
static uint64_t (*const do_op[])(void *hva, uint32_t op, uint64_t operand) = {
	[1] = do_8,
	[2] = do_16,
	[4] = do_32,
	[8] = do_64,
};
static bool (*const compare_exchange[])(void *hva, uint64_t *expected, uint64_t desired) = {
	[1] = compare_exchange_8,
	[2] = compare_exchange_16,
	[4] = compare_exchange_32,
	[8] = compare_exchange_64,
};

#define MOST_BYTES (sizeof(do_op) / sizeof(do_op[0]) - 1)

/* Finds the number, which is all in one region, since it is aligned. */
static int find(struct impost_view *view, uint64_t gpa, uint32_t bytes, bool write,
		const struct mapped **ret_region, uint8_t **ret_hva)
{
	const struct mapped *region = NULL;
	uint8_t *hva = NULL;
	uint64_t len;
	int err;

	if (bytes > MOST_BYTES || !do_op[bytes])
		return impost_error_set(view->memory->ctx, -EINVAL,
					"an atomic operation on %u bytes: it must be 1, 2, 4 or 8",
					bytes);
	if (gpa % bytes)
		return impost_error_set(view->memory->ctx, -EINVAL,
					"an atomic operation on %u bytes at 0x%" PRIx64
					": it must be a multiple of %u",
					bytes, gpa, bytes);
	err = view_piece(view, gpa, bytes, &region, &hva, &len);
	if (!err)
		err = access_probe(view->memory, region, hva, bytes, write);
	if (err)
		return err;
	*ret_region = region;
	*ret_hva = hva;
	return 0;
}

static int bad_order(const struct impost_view *view, const char *op, uint32_t order)
{
	return impost_error_set(view->memory->ctx, -EINVAL,
				"an atomic %s cannot have the order %u: see IMPOST_ORDER_*", op,
				order);
}

static bool has_order(uint32_t orders, uint32_t order)
{
	return order < 32 && orders >> order & 1;
}

int impost_view_atomic(struct impost_view *view, uint64_t gpa, uint32_t bytes, uint32_t op,
		       uint32_t order, uint64_t operand, uint64_t *ret_old)
{
	const struct mapped *region;
	uint64_t old;
	uint8_t *hva = NULL;
	int err;

	if (!view_map(view))
		return -EINVAL;
	if (op >= sizeof(ops) / sizeof(ops[0]))
		return impost_error_set(view->memory->ctx, -EINVAL,
					"atomic operation %u: unknown to this version of the "
					"library",
					op);
	if (!has_order(ops[op].orders, order))
		return bad_order(view, ops[op].name, order);
	err = find(view, gpa, bytes, op != IMPOST_ATOMIC_LOAD, &region, &hva);
	if (!hva)
		return err;
	old = do_op[bytes](hva, op, operand);
	if (op != IMPOST_ATOMIC_LOAD) {
		view_mark(region, gpa, bytes);
		err = view_tell(view, gpa, bytes);
	}
	if (!err && ret_old)
		*ret_old = old;
	return err;
}

int impost_view_compare_exchange(struct impost_view *view, uint64_t gpa, uint32_t bytes,
				 uint32_t order, uint64_t expected, uint64_t desired,
				 uint64_t *ret_old)
{
	const struct mapped *region;
	uint8_t *hva = NULL;
	int err;

	if (!view_map(view))
		return -EINVAL;
	if (!has_order(ALL_ORDERS, order))
		return bad_order(view, "compare-and-exchange", order);
	err = find(view, gpa, bytes, true, &region, &hva);
	if (!hva)
		return err;
	if (compare_exchange[bytes](hva, &expected, desired)) {
		view_mark(region, gpa, bytes);
		err = view_tell(view, gpa, bytes);
	}
	if (!err)
		*ret_old = expected;
	return err;
}
