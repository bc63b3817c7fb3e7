/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of guest memory, of each part that is not all zero. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cassette.h"

static bool is_zero(const unsigned char *data, uint64_t len)
{
	/* Each byte equals the next, and the first is zero. */
	return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* Adds one sum. */
static int add(struct cassette_sum **sums, size_t *count, uint64_t gpa, uint64_t sum)
{
	/* Room grows by doubling, whenever the count is a power of two. */
	if (!(*count & (*count - 1))) {
		size_t room = *count ? 2 * *count : 1;
		struct cassette_sum *more = realloc(*sums, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		*sums = more;
	}
	(*sums)[(*count)++] = (struct cassette_sum){gpa, sum};
	return 0;
}

/* Since Linux 5.14 (madvise(2)); older kernels say EINVAL, and each page is a fault of its own. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* Whether the memory can be read: a file may have become shorter than what is mapped of it, whose
 * touch is SIGBUS. All of its pages are there then, which is quicker than a fault for each. */
static bool is_there(const unsigned char *data, uint64_t len)
{
	return !madvise((void *)(uintptr_t)data, len, MADV_POPULATE_READ) || errno != EFAULT;
}

static int sum_one(const struct cassette_memory *memory, struct cassette_sum **sums, size_t *count)
{
	uint64_t at = 0;
	int err = 0;

	while (!err && at < memory->bytes) {
		uint64_t gpa = memory->gpa + at;
		uint64_t len = CASSETTE_SUM_PIECE - gpa % CASSETTE_SUM_PIECE;
		const unsigned char *data = (const unsigned char *)memory->hva + at;

		if (len > memory->bytes - at)
			len = memory->bytes - at;
		if (!is_there(data, len))
			err = -EFAULT;
		else if (!is_zero(data, len))
			err = add(sums, count, gpa, XXH3_64bits(data, len));
		at += len;
	}
	return err;
}

int cassette_sum(const struct cassette_memory *memory, size_t count, struct cassette_sum **ret_sums,
		 size_t *ret_count)
{
	struct cassette_sum *sums = NULL;
	size_t nsums = 0;
	int err = 0;

	for (size_t i = 0; !err && i < count; i++)
		err = sum_one(&memory[i], &sums, &nsums);
	if (err) {
		free(sums);
		return err;
	}
	*ret_sums = sums;
	*ret_count = nsums;
	return 0;
}
