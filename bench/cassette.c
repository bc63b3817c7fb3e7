/* SPDX-License-Identifier: Apache-2.0 */
/* What a cassette holds: prints its bytes, its runs, and the bytes of memory that its guest
 * changed. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cassette.h>

static int add_piece(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	uint64_t *changed = opaque;

	(void)gpa, (void)data;
	*changed += len;
	return 0;
}

/* Goes through all of it. Returns NULL or what is wrong. */
static const char *count(struct cassette_reader *reader, uint64_t *ret_runs, uint64_t *ret_changed)
{
	const struct cassette_item *item;

	for (;; cassette_reader_next(reader)) {
		if (cassette_reader_peek(reader, &item))
			return cassette_reader_why(reader);
		if (item->kind == CASSETTE_END)
			return NULL;
		if (item->kind == CASSETTE_CUT)
			return item->why;
		*ret_runs += item->kind == CASSETTE_CALL && item->op == CASSETTE_RUN;
		if (cassette_reader_memory(reader, add_piece, ret_changed))
			return cassette_reader_why(reader);
	}
}

int main(int argc, char **argv)
{
	uint64_t runs = 0, changed = 0;
	struct cassette_reader *reader;
	const char *wrong = NULL;
	char why[256] = "";
	struct stat st;

	if (argc != 2 || stat(argv[1], &st) ||
	    cassette_reader_open(argv[1], &reader, why, sizeof(why))) {
		fprintf(stderr, "usage: bench-cassette CASSETTE: %s\n", why);
		return 2;
	}
	wrong = count(reader, &runs, &changed);
	if (wrong)
		fprintf(stderr, "%s: %s\n", argv[1], wrong);
	else
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (uint64_t)st.st_size, runs,
		       changed);
	cassette_reader_close(reader);
	return wrong != NULL;
}
