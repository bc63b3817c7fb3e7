/* SPDX-License-Identifier: Apache-2.0 */
/* The writing side of a cassette: items one behind another, into a file that may end anywhere. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "values.h"

/* What is gathered before it goes to the file. */
#define BATCH (256u << 10)

/* From here on packing is worth its head. */
#define PACK_AT_LEAST 128u
#define PACK_LEVEL    3

struct cassette_writer {
	int fd;
	int failed; /* the first failure */
	uint64_t calls;
	struct item_writer out;
	struct item_writer packed; /* room of ZSTD_compressBound() */
	ZSTD_CCtx *zstd;
};

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t done = write(fd, data, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		data += done;
		len -= (size_t)done;
	}
	return 0;
}

int cassette_writer_flush(struct cassette_writer *writer)
{
	if (!writer->failed && writer->out.failed)
		writer->failed = -ENOMEM;
	if (!writer->failed)
		writer->failed = write_all(writer->fd, writer->out.bytes, writer->out.len);
	writer->out.len = 0;
	return writer->failed;
}

/* An item is whole. */
static int item_done(struct cassette_writer *writer)
{
	if (writer->out.failed || writer->out.len >= BATCH)
		return cassette_writer_flush(writer);
	return writer->failed;
}

static void put_caps(struct item_writer *out, const struct impost_caps *caps)
{
	const uint64_t numbers[] = {
		caps->irqchip,	   caps->bits[0],   caps->bits[1],   caps->max_vcpus,
		caps->max_vcpu_id, caps->max_slots, caps->max_gsis,  caps->max_io_claims,
		caps->max_cpuid,   caps->tsc_khz,   caps->phys_bits,
	};

	cassette_item_put(out, ITEM_ARRAY, sizeof(numbers) / sizeof(numbers[0]), NULL);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		cassette_item_put(out, ITEM_UINT, numbers[i], NULL);
}

static void put_header(struct item_writer *out, const struct cassette_header *header)
{
	/* The name of the format comes first, so that a file can be told by its first bytes. */
	cassette_item_put(out, ITEM_MAP, 8, NULL);
	cassette_item_put_text(out, "impost-cassette");
	cassette_item_put(out, ITEM_UINT, CASSETTE_VERSION, NULL);
	cassette_item_put_text(out, "backend");
	cassette_item_put_text(out, header->backend);
	cassette_item_put_text(out, "version");
	cassette_item_put_text(out, header->version);
	cassette_item_put_text(out, "caps");
	put_caps(out, &header->caps);
	cassette_item_put_text(out, "cpuid");
	cassette_item_put_cpuid(out, header->cpuid, header->ncpuid);
	cassette_item_put_text(out, "msrs");
	cassette_item_put(out, ITEM_ARRAY, header->nmsrs, NULL);
	for (uint32_t i = 0; i < header->nmsrs; i++)
		cassette_item_put(out, ITEM_UINT, header->msrs[i], NULL);
	cassette_item_put_text(out, "feature-msrs");
	cassette_item_put_msrs(out, header->feature_msrs, header->nfeature_msrs);
	cassette_item_put_text(out, "ops");
	cassette_item_put(out, ITEM_ARRAY, CASSETTE_OPS, NULL);
	for (enum cassette_op op = 0; op < CASSETTE_OPS; op++)
		cassette_item_put_text(out, cassette_op_name(op));
}

static void free_writer(struct cassette_writer *writer)
{
	if (writer->fd >= 0)
		close(writer->fd);
	ZSTD_freeCCtx(writer->zstd);
	free(writer->packed.bytes);
	free(writer->out.bytes);
	free(writer);
}

/* Opens PATH, empty. A file that another recording is written to, or that is
 * played, stays as it is. */
static int open_file(const char *path)
{
	/* Of a pipe that nobody reads the end is not waited for: -ENXIO. */
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, 0))
		err = -errno;
	else if (flock(fd, LOCK_EX | LOCK_NB))
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* Of what is no plain file nothing needs to go. */
	if (!err && ftruncate(fd, 0) && errno != EINVAL)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

int cassette_writer_open(const char *path, const struct cassette_header *header,
			 struct cassette_writer **ret_writer)
{
	struct cassette_writer *writer = calloc(1, sizeof(*writer));
	size_t bound = ZSTD_compressBound(CASSETTE_MEMORY_MAX);
	int err = 0;

	if (!writer)
		return -ENOMEM;
	writer->fd = -1;
	writer->zstd = ZSTD_createCCtx();
	writer->packed.bytes = malloc(bound);
	writer->packed.capacity = bound;
	if (!writer->zstd || !writer->packed.bytes)
		err = -ENOMEM;
	if (!err) {
		writer->fd = open_file(path);
		err = writer->fd < 0 ? writer->fd : 0;
	}
	if (!err) {
		put_header(&writer->out, header);
		err = cassette_writer_flush(writer);
	}
	if (err) {
		free_writer(writer);
		return err;
	}
	*ret_writer = writer;
	return 0;
}

int cassette_write_host(struct cassette_writer *writer, const char *section, const char *key,
			const char *text)
{
	cassette_item_put(&writer->out, ITEM_MAP, 1, NULL);
	cassette_item_put_text(&writer->out, "host");
	cassette_item_put(&writer->out, ITEM_ARRAY, 3, NULL);
	cassette_item_put_text(&writer->out, section);
	cassette_item_put_text(&writer->out, key);
	cassette_item_put_text(&writer->out, text);
	return item_done(writer);
}

static void put_span(struct item_writer *out, const char *key, struct cassette_span map)
{
	if (!map.len)
		return;
	cassette_item_put_text(out, key);
	cassette_item_put_raw(out, map.data, map.len);
}

int cassette_write_call(struct cassette_writer *writer, uint32_t lane, enum cassette_op op,
			struct cassette_span args, int32_t error, const char *text,
			struct cassette_span results, uint32_t memory_items)
{
	struct item_writer *out = &writer->out;
	uint64_t count = 1u + (lane != CASSETTE_LANE_VM) + (args.len != 0) + (error != 0) +
			 (text != NULL) + (results.len != 0) + (memory_items != 0);

	cassette_item_put(out, ITEM_MAP, count, NULL);
	cassette_item_put_text(out, "op");
	cassette_item_put(out, ITEM_UINT, (uint64_t)op, NULL);
	put_span(out, "args", args);
	if (text) {
		cassette_item_put_text(out, "text");
		cassette_item_put(out, ITEM_TEXT, strnlen(text, CASSETTE_TEXT_MAX - 1), text);
	}
	if (lane != CASSETTE_LANE_VM) {
		cassette_item_put_text(out, "vcpu");
		cassette_item_put(out, ITEM_UINT, lane, NULL);
	}
	if (error) {
		cassette_item_put_text(out, "error");
		cassette_item_put_error(out, error);
	}
	if (memory_items) {
		cassette_item_put_text(out, "memory");
		cassette_item_put(out, ITEM_UINT, memory_items, NULL);
	}
	put_span(out, "results", results);
	writer->calls++;
	return item_done(writer);
}

/* Packs the item at the end of `out`, from START on, where that makes it shorter. */
static void pack(struct cassette_writer *writer, size_t start)
{
	struct item_writer *out = &writer->out;
	size_t len = out->len - start, packed;

	if (out->failed || len < PACK_AT_LEAST)
		return;
	packed = ZSTD_compressCCtx(writer->zstd, writer->packed.bytes, writer->packed.capacity,
				   out->bytes + start, len, PACK_LEVEL);
	if (ZSTD_isError(packed) || packed + 8 >= len)
		return;
	out->len = start;
	cassette_item_put(out, ITEM_MAP, 2, NULL);
	cassette_item_put_text(out, "zstd");
	cassette_item_put(out, ITEM_BYTES, packed, writer->packed.bytes);
	cassette_item_put_text(out, "bytes");
	cassette_item_put(out, ITEM_UINT, len, NULL);
}

int cassette_write_memory(struct cassette_writer *writer, const struct cassette_pieces *pieces)
{
	struct item_writer *out = &writer->out;
	size_t start = out->len;

	if (pieces->failed)
		out->failed = true;
	cassette_item_put(out, ITEM_ARRAY, pieces->count, NULL);
	cassette_item_put_raw(out, pieces->bytes, pieces->len);
	pack(writer, start);
	return item_done(writer);
}

int cassette_write_sums(struct cassette_writer *writer, uint32_t lane, enum cassette_when when,
			const struct cassette_sum *sums, size_t count)
{
	struct item_writer *out = &writer->out;

	cassette_item_put(out, ITEM_MAP, 3, NULL);
	cassette_item_put_text(out, "sums");
	cassette_item_put(out, ITEM_ARRAY, count, NULL);
	for (size_t i = 0; i < count; i++) {
		cassette_item_put(out, ITEM_ARRAY, 2, NULL);
		cassette_item_put(out, ITEM_UINT, sums[i].gpa, NULL);
		cassette_item_put(out, ITEM_UINT, sums[i].sum, NULL);
	}
	cassette_item_put_text(out, "vcpu");
	cassette_item_put(out, ITEM_UINT, lane, NULL);
	cassette_item_put_text(out, "when");
	cassette_item_put_text(out, when == CASSETTE_BEFORE ? "before" : "after");
	return item_done(writer);
}

int cassette_writer_close(struct cassette_writer *writer)
{
	int err;

	if (!writer)
		return 0;
	cassette_item_put(&writer->out, ITEM_MAP, 1, NULL);
	cassette_item_put_text(&writer->out, "end");
	cassette_item_put(&writer->out, ITEM_UINT, writer->calls, NULL);
	err = cassette_writer_flush(writer);
	free_writer(writer);
	return err;
}
