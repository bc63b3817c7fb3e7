/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for snapshots. The input is a file, or with MEMORY_TABLE the table of memory in one
 * that is whole otherwise. Checksums are made good first, or nothing would be found behind them.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <impost/impost.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
	if (!condition)
		__builtin_trap();
}

static struct impost_context *ctx;
static char path[32];
static int fd;

static void set_up(void)
{
	require(impost_context_open(NULL, NULL, &ctx) == 0);
	fd = memfd_create("snapshot", MFD_CLOEXEC);
	require(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
}

/* --- checksums: offsets are those of docs/snapshot-format.md --- */

static uint64_t get(const uint8_t *at, size_t width)
{
	uint64_t value = 0;

	memcpy(&value, at, width);
	return value;
}

static void put_checksum(uint8_t *ret, const uint8_t *data, size_t size)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
	memcpy(ret, canonical.digest, sizeof(canonical.digest));
}

static void seal(uint8_t *file, size_t size)
{
	uint64_t head, row, sections, header;

	if (size < 256)
		return;
	head = get(file + 16, 4);
	row = get(file + 20, 4);
	sections = get(file + 24, 4);
	header = get(file + 32, 8);
	if (header > size || row < 144 || head > header || sections > (header - head) / row)
		return;
	for (uint64_t i = 0; i < sections; i++) {
		uint8_t *entry = file + head + i * row;
		uint64_t offset = get(entry + 72, 8), bytes = get(entry + 80, 8);

		if (offset >= header && offset <= size && bytes <= size - offset)
			put_checksum(entry + 96, file + offset, bytes);
	}
	memset(file + 240, 0, 16);
	put_checksum(file + 240, file, header);
}

/* --- what is done with one that is opened --- */

/* Extents are those of the regions, in order, without a gap. */
static void walk(struct impost_snapshot *snapshot)
{
	struct impost_snapshot_region region = {.size = sizeof(region)};
	struct impost_snapshot_extent extent = {.size = sizeof(extent)};
	uint8_t buf[64];
	uint64_t gpa = 0;

	for (uint32_t i = 0; impost_snapshot_region(snapshot, i, &region) == 0; i++) {
		uint64_t end = region.gpa;

		for (uint64_t left = region.bytes; left; left -= extent.bytes) {
			require(impost_snapshot_extent(snapshot, &gpa, &extent) == 0);
			require(extent.gpa == end && extent.bytes > 0 && extent.bytes <= left);
			end += extent.bytes;
		}
		impost_snapshot_read(snapshot, region.gpa + region.bytes - sizeof(buf), buf,
				     sizeof(buf));
	}
	impost_snapshot_verify(snapshot, 1, NULL, NULL);
}

static void open_it(uint32_t flags)
{
	const struct impost_snapshot_open_options options = {.size = sizeof(options),
							     .flags = flags};
	struct impost_snapshot_info info = {.size = sizeof(info)};
	struct impost_snapshot *snapshot;
	int err = impost_snapshot_open(ctx, path, &options, &snapshot);

	if (err) {
		require(err < 0 && *impost_error(ctx));
		return;
	}
	require(impost_snapshot_info(snapshot, &info) == 0);
	if (!(flags & IMPOST_SNAPSHOT_HEADER))
		walk(snapshot);
	impost_snapshot_close(snapshot);
}

static void try_file(uint8_t *file, size_t size)
{
	seal(file, size);
	require(ftruncate(fd, 0) == 0);
	require(pwrite(fd, file, size, 0) == (ssize_t)size);
	open_it(IMPOST_SNAPSHOT_HEADER);
	open_it(IMPOST_SNAPSHOT_ALONE);
	open_it(0);
}

#ifdef MEMORY_TABLE

static uint8_t golden[1 << 20];
static size_t golden_bytes, table_at, table_room;
static uint8_t *table_row;

/* The table is the last section: it may be as long as there is room before the memory area. */
static void read_golden(void)
{
	int from = open(GOLDEN, O_RDONLY | O_CLOEXEC);
	ssize_t got = from < 0 ? -1 : read(from, golden, sizeof(golden));

	require(got > 256);
	close(from);
	golden_bytes = (size_t)got;
	for (uint64_t i = 0; i < get(golden + 24, 4); i++) {
		uint8_t *row = golden + 256 + i * 144;

		if (strcmp((char *)row, "memory") == 0)
			table_row = row;
	}
	require(table_row != NULL);
	table_at = get(table_row + 72, 8);
	table_room = get(golden + 48, 8) - table_at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[sizeof(golden)];
	uint64_t bytes;

	if (!ctx) {
		set_up();
		read_golden();
	}
	bytes = size < table_room ? size : table_room;
	memcpy(table_row + 80, &bytes, sizeof(bytes));
	memcpy(file, golden, golden_bytes);
	memcpy(file + table_at, data, bytes);
	try_file(file, golden_bytes);
	return 0;
}

#else

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(size + 1);

	if (!ctx)
		set_up();
	memcpy(file, data, size);
	try_file(file, size);
	free(file);
	return 0;
}

#endif
