/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory of a VM that plays a cassette: what the guest wrote, and whether the rest is as it
 * was. */
#include <stdlib.h>
#include <string.h>

#include "cassette_play.h"

/* --- what the guest wrote --- */

struct writing {
	struct mock_vm *vm;
	uint64_t gpa;	  /* where it went wrong */
	uint64_t touched; /* see mock_mem_play() */
};

static int write_piece(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	struct writing *w = opaque;

	w->gpa = gpa;
	return mock_mem_play(w->vm, gpa, data, len, &w->touched) ? 0 : -EFAULT;
}

int32_t play_memory(struct mock_play *p)
{
	struct writing w = {.vm = p->vm, .touched = UINT64_MAX};
	int err = cassette_reader_memory(p->reader, write_piece, &w);

	if (err == -EFAULT)
		return play_stop(p, -IMPOST_EDIVERGED,
				 "the guest is recorded to write at %#llx, where there is no "
				 "memory now",
				 (unsigned long long)w.gpa);
	return err ? play_stop(p, err, "%s", cassette_reader_why(p->reader)) : 0;
}

/* --- checksums --- */

static int by_gpa(const void *a, const void *b)
{
	const struct cassette_memory *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* The first place where SUMS, COUNT of them, are not ITEM's. False: they are. */
static bool find_other(const struct cassette_item *item, const struct cassette_sum *sums,
		       size_t count, uint64_t *ret_gpa, const char **ret_what)
{
	size_t i = 0;

	while (i < count && i < item->nsums && sums[i].gpa == item->sums[i].gpa &&
	       sums[i].sum == item->sums[i].sum)
		i++;
	if (i == count && i == item->nsums)
		return false;
	if (i < count && (i == item->nsums || sums[i].gpa < item->sums[i].gpa)) {
		*ret_gpa = sums[i].gpa;
		*ret_what = "recorded as zeroes, and now it is not";
	} else if (i == count || sums[i].gpa > item->sums[i].gpa) {
		*ret_gpa = item->sums[i].gpa;
		*ret_what = "now all zeroes or gone, and recorded as not";
	} else {
		*ret_gpa = sums[i].gpa;
		*ret_what = "not what was recorded";
	}
	return true;
}

static int32_t judge(struct mock_play *p, const struct cassette_item *item,
		     const struct cassette_sum *sums, size_t count)
{
	const char *what;
	uint64_t gpa, end;

	if (!find_other(item, sums, count, &gpa, &what))
		return 0;
	end = (gpa / CASSETTE_SUM_PIECE + 1) * CASSETTE_SUM_PIECE;
	return play_stop(p, -IMPOST_EDIVERGED, "%s call %llu: guest memory at %#llx to %#llx is %s",
			 item->when == CASSETTE_BEFORE ? "at the guest's first run, after"
						       : "after",
			 (unsigned long long)item->number, (unsigned long long)gpa,
			 (unsigned long long)end - 1, what);
}

int32_t play_sums(struct mock_play *p, const struct cassette_item *item)
{
	struct cassette_memory *memory = NULL;
	struct cassette_sum *sums = NULL;
	size_t pieces = 0, count = 0;
	int32_t err = mock_mem_list(p->vm, &memory, &pieces);

	if (err)
		return play_stop(p, err, "guest memory cannot be read: %s", strerror(-err));
	if (pieces)
		qsort(memory, pieces, sizeof(*memory), by_gpa);
	err = cassette_sum(memory, pieces, &sums, &count);
	free(memory);
	if (err)
		return play_stop(p, err, "guest memory cannot be read: %s", strerror(-err));
	err = judge(p, item, sums, count);
	free(sums);
	return err;
}
