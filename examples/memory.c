// SPDX-License-Identifier: Apache-2.0
/*
 * A device's side of guest memory: a driver's chain of virtio descriptors becomes what readv(2)
 * takes, through a view; what was written comes out of a reader of dirty pages; a region goes away.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define LOW_BYTES  UINT64_C(0x200000) /* two regions that adjoin */
#define HIGH_BYTES UINT64_C(0x100000)

/* A split virtqueue of eight (Virtual I/O Device 1.2, 2.7): where the driver has put its parts. */
#define QUEUE_SIZE 8u
#define PARTS_MAX  16u /* no buffer lies in more than two regions here */
#define DESC_TABLE UINT64_C(0x1000)
#define DESC_BYTES UINT64_C(16)
#define AVAIL_RING UINT64_C(0x2000)
#define USED_RING  UINT64_C(0x3000)

#define DESC_NEXT  1u /* 2.7.5: another descriptor follows */
#define DESC_WRITE 2u /* the device writes */

struct chain {
	struct impost_range buffers[QUEUE_SIZE];
	uint16_t head, count;
};

/* Descriptor INDEX, as a driver writes it; each field is little-endian. */
static int put_descriptor(struct impost_view *view, uint16_t index, uint64_t gpa, uint32_t bytes,
			  uint16_t flags)
{
	uint64_t desc = DESC_TABLE + DESC_BYTES * index;
	int err = impost_view_write_le64(view, desc, gpa);

	if (err == 0)
		err = impost_view_write_le32(view, desc + 8, bytes);
	if (err == 0)
		err = impost_view_write_le16(view, desc + 12, flags);
	if (err == 0)
		err = impost_view_write_le16(view, desc + 14, (uint16_t)(index + 1));
	return err;
}

/* The guest's part: offers a chain of two buffers, of which the second goes across both regions. */
static int play_driver(struct impost_view *view)
{
	int err = put_descriptor(view, 0, 0x10000, 6, DESC_WRITE | DESC_NEXT);

	if (err == 0)
		err = put_descriptor(view, 1, LOW_BYTES - 8, 4096, DESC_WRITE);
	if (err == 0)
		err = impost_view_write_le16(view, AVAIL_RING + 4, 0); /* ring[0]: descriptor 0 */
	if (err == 0) /* idx: after what it covers (2.7.13.3) */
		err = impost_view_atomic(view, AVAIL_RING + 2, 2, IMPOST_ATOMIC_STORE,
					 IMPOST_ORDER_RELEASE, 1, NULL);
	return err;
}

/* Adds the descriptor at *INDEX to CHAIN. Returns whether another follows, at *INDEX then. All that
 * it reads is the guest's to write: indices are checked, and so is that the chain ends. */
static int read_descriptor(struct impost_view *view, struct chain *chain, uint16_t *index)
{
	struct impost_context *ctx = impost_memory_context(view->memory);
	uint64_t desc = DESC_TABLE + DESC_BYTES * *index;
	uint32_t bytes = 0;
	uint16_t flags = 0;
	int err;

	if (*index >= QUEUE_SIZE || chain->count == QUEUE_SIZE)
		return impost_error_set(ctx, -EINVAL, "the driver's chain goes nowhere, or round");
	err = impost_view_read_le64(view, desc, &chain->buffers[chain->count].gpa);
	if (err == 0)
		err = impost_view_read_le32(view, desc + 8, &bytes);
	if (err == 0)
		err = impost_view_read_le16(view, desc + 12, &flags);
	if (err == 0)
		err = impost_view_read_le16(view, desc + 14, index);
	if (err < 0)
		return err;
	chain->buffers[chain->count++].bytes = bytes;
	return flags & DESC_NEXT;
}

/* The first chain that the driver offers. -EAGAIN: it offers none. */
static int walk_chain(struct impost_view *view, struct chain *chain)
{
	struct impost_context *ctx = impost_memory_context(view->memory);
	uint16_t offered = 0, index;
	int more = impost_view_read_le16(view, AVAIL_RING + 2, &offered);

	if (more == 0 && offered == 0)
		return impost_error_set(ctx, -EAGAIN, "the driver offers nothing");
	atomic_thread_fence(memory_order_acquire);
	if (more == 0)
		more = impost_view_read_le16(view, AVAIL_RING + 4, &chain->head);
	if (more < 0)
		return more;
	index = chain->head;
	more = 1;
	while (more > 0)
		more = read_descriptor(view, chain, &index);
	return more;
}

/* Reads FD into the chain's buffers, with no copy between. Returns the number of bytes. */
static int fill_chain(struct impost_view *view, const struct chain *chain, int fd)
{
	struct impost_context *ctx = impost_memory_context(view->memory);
	struct iovec iov[PARTS_MAX];
	uint64_t count = 0, left;
	ssize_t done;
	int err = impost_view_iovec(view, chain->buffers, chain->count, iov, PARTS_MAX, &count);

	if (err < 0)
		return err;
	printf("a chain of %u buffers, %" PRIu64 " parts\n", chain->count, count);
	done = readv(fd, iov, (int)count);
	if (done < 0)
		return impost_error_set(ctx, -errno, "cannot read: %m");
	left = (uint64_t)done; /* the kernel wrote through host pointers: say so */
	for (uint32_t i = 0; err == 0 && i < chain->count && left > 0; i++) {
		const struct impost_range *buffer = &chain->buffers[i];
		uint64_t bytes = buffer->bytes < left ? buffer->bytes : left;

		err = impost_view_mark_dirty(view, buffer->gpa, bytes);
		left -= bytes;
	}
	return err < 0 ? err : (int)done;
}

/* Gives the chain back, with BYTES written into it (2.7.8). */
static int use_chain(struct impost_view *view, const struct chain *chain, uint32_t bytes)
{
	int err = impost_view_write_le32(view, USED_RING + 4, chain->head);

	if (err == 0)
		err = impost_view_write_le32(view, USED_RING + 8, bytes);
	if (err == 0)
		err = impost_view_atomic(view, USED_RING + 2, 2, IMPOST_ATOMIC_STORE,
					 IMPOST_ORDER_RELEASE, 1, NULL);
	return err;
}

/* One turn of the device: nothing that blocks for long is done in a view. */
static int serve(struct impost_memory *memory, int fd)
{
	struct impost_view view;
	struct chain chain = {0};
	int done, err = impost_view_begin(memory, &view);

	if (err < 0)
		return err;
	err = walk_chain(&view, &chain);
	if (err == 0) {
		done = fill_chain(&view, &chain, fd);
		err = done < 0 ? done : use_chain(&view, &chain, (uint32_t)done);
		if (err == 0)
			printf("%d bytes for the driver\n", done);
	}
	impost_view_end(&view);
	return err;
}

/* Prints what was written since the last time. */
static int print_dirty(struct impost_dirty *dirty)
{
	struct impost_range ranges[16];
	uint64_t count = 16;
	int err = impost_dirty_sync(dirty);

	while (err == 0 && count == 16) {
		err = impost_dirty_take(dirty, ranges, 16, &count);
		for (uint64_t i = 0; err == 0 && i < count; i++)
			printf("dirty: %#" PRIx64 ", %" PRIu64 " pages\n", ranges[i].gpa,
			       ranges[i].bytes / IMPOST_PAGE_SIZE);
	}
	return err;
}

/* Of a memfd, as vhost-user devices want it, and, behind it, of anonymous memory. */
static int add_regions(struct impost_memory *memory)
{
	struct impost_region low = {.size = sizeof(low),
				    .kind = IMPOST_REGION_MEMFD,
				    .flags = IMPOST_REGION_SHARED,
				    .bytes = LOW_BYTES};
	struct impost_region high = {.size = sizeof(high),
				     .kind = IMPOST_REGION_ANONYMOUS,
				     .gpa = LOW_BYTES,
				     .bytes = HIGH_BYTES};
	struct impost_region got = {.size = sizeof(got)};
	int err = impost_memory_add(memory, &low);

	if (err == 0)
		err = impost_memory_add(memory, &high);
	for (uint32_t i = 0; err == 0 && impost_memory_get(memory, i, &got) == 0; i++)
		printf("region: 0x%" PRIx64 ", %" PRIu64 " KiB%s\n", got.gpa, got.bytes / 1024,
		       got.fd >= 0 ? ", with a descriptor" : "");
	return err;
}

static int run(struct impost_memory *memory, int fd)
{
	struct impost_dirty *dirty = NULL;
	struct impost_view view;
	int err = add_regions(memory);

	if (err == 0)
		err = impost_view_begin(memory, &view);
	if (err == 0) {
		err = play_driver(&view);
		impost_view_end(&view);
	}
	if (err == 0)
		err = impost_dirty_create(memory, NULL, &dirty);
	if (err == 0)
		err = serve(memory, fd);
	if (err == 0)
		err = print_dirty(dirty);
	if (err == 0)
		err = impost_memory_remove(memory, LOW_BYTES);
	if (err == 0 && serve(memory, fd) == -EFAULT) /* a chain into memory that has gone */
		printf("after its removal: %s\n", impost_error(impost_memory_context(memory)));
	impost_dirty_destroy(dirty);
	return err;
}

/* Usage: memory [FILE]: what the driver gets; if not given, standard input. */
int main(int argc, char **argv)
{
	struct impost_context *ctx = NULL;
	struct impost_memory *memory = NULL;
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	int err = impost_context_open(NULL, NULL, &ctx);

	if (err == 0 && fd < 0)
		err = impost_error_set(ctx, -errno, "cannot open %s: %m", argv[1]);

	if (err == 0)
		err = impost_memory_create(ctx, &memory);
	if (err == 0)
		err = run(memory, fd);
	if (err < 0)
		fprintf(stderr, "memory: %s\n", ctx ? impost_error(ctx) : impost_error_name(err));
	impost_memory_destroy(memory);
	impost_context_close(ctx);
	if (argc > 1 && fd >= 0)
		close(fd);
	return err < 0;
}
