/* SPDX-License-Identifier: Apache-2.0 */
/* States of pages: which are all zero, and which have memory behind them. */
#include <impost/pages.h>

#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "access.h"
#include "bitmap.h"
#include "memory.h"
#include "pager.h"
#include "pages.h"
#include "view.h"

/* Pages that are looked at in one view: 16 MiB, which take a millisecond or two to read. */
#define CHUNK	    4096u
#define CHUNK_WORDS (CHUNK / 64)
/* At first, and then twice as many each time: when an array of few ranges is full, what was looked
 * at beyond it is no more than what was of use. */
#define LEAST_CHUNK 64u
/* Pages of a copy, where memory may not be touched. */
#define COPIED 8u
/* How far ahead of the look at a page memory is asked for, in pages. */
#define SOON 4u

/* An entry of /proc/self/pagemap: Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

/* PAGEMAP_SCAN, since Linux 6.7 (the same document). <linux/fs.h> is older in places. */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scanned {
	uint64_t start, end, categories;
};
#define SCAN_IOCTL	_IOWR('f', 16, struct scan_arg)
#define SCAN_IS_PRESENT (UINT64_C(1) << 3)
#define SCAN_IS_SWAPPED (UINT64_C(1) << 4)

/* A call: the descriptor of the page tables, opened when it is needed, and what it looks at just
 * now, which lies in one region. */
struct scan {
	struct impost_memory *memory;
	int pagemap; /* -1: not open yet */
	const struct mapped *region;
	uint64_t gpa;
	uint8_t *hva;
	uint64_t pages;
	uint64_t most;			/* pages that may be looked at next */
	uint64_t resident[CHUNK_WORDS]; /* those of them that are in RAM */
};

/* Where in the region's file the pages begin. */
static uint64_t file_offset(const struct scan *scan)
{
	return scan->region->backing->offset + (scan->gpa - scan->region->gpa);
}

/* Bits of pages in WORDS, CHUNK_WORDS of them. */

static void set_pages(uint64_t *words, uint64_t from, uint64_t to)
{
	for (; from < to && from % 64; from++)
		words[from / 64] |= UINT64_C(1) << from % 64;
	for (; from + 64 <= to; from += 64)
		words[from / 64] = UINT64_MAX;
	for (; from < to; from++)
		words[from / 64] |= UINT64_C(1) << from % 64;
}

static bool has_page(const uint64_t *words, uint64_t page)
{
	return words[page / 64] >> page % 64 & 1;
}

static bool has_all(const struct scan *scan, const uint64_t *words)
{
	return impost_bitmap_count(words, scan->pages) == scan->pages;
}

/* --- what the kernel knows --- */

/* Finds the pages that are in RAM: of private memory and of huge pages, those in the process's page
 * tables; of a file, those in its cache. */
static int find_resident(struct scan *scan)
{
	unsigned char resident[CHUNK];

	if (mincore(scan->hva, scan->pages * IMPOST_PAGE_SIZE, resident)) {
		if (errno == ENOMEM) /* not mapped, by whoever gave us the pointer */
			return access_failed(scan->memory, scan->region, scan->hva);
		return impost_error_set(scan->memory->ctx, -errno,
					"cannot ask for the pages of the region at 0x%" PRIx64
					": %m",
					scan->region->gpa);
	}
	memset(scan->resident, 0, sizeof(scan->resident));
	for (uint64_t page = 0; page < scan->pages; page++)
		scan->resident[page / 64] |= (uint64_t)(resident[page] & 1) << page % 64;
	return 0;
}

/* By PAGEMAP_SCAN, which passes over what is not there. -errno: a kernel that has it not. */
static int scan_mapped(const struct scan *scan, uint64_t *words)
{
	struct scanned found[256];
	const uint64_t start = (uintptr_t)scan->hva;
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + scan->pages * IMPOST_PAGE_SIZE,
		.vec = (uintptr_t)found,
		.vec_len = sizeof(found) / sizeof(found[0]),
		.category_anyof_mask = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
		.return_mask = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
	};

	for (; arg.start < arg.end; arg.start = arg.walk_end) {
		int count = ioctl(scan->pagemap, SCAN_IOCTL, &arg);

		if (count < 0 && errno == EINTR)
			arg.walk_end = arg.start;
		else if (count < 0 || arg.walk_end <= arg.start)
			return count < 0 ? -errno : -EIO;
		for (int i = 0; i < count; i++)
			set_pages(words, (found[i].start - start) / IMPOST_PAGE_SIZE,
				  (found[i].end - start) / IMPOST_PAGE_SIZE);
	}
	return 0;
}

/* By reading an entry for each page. */
static int read_mapped(const struct scan *scan, uint64_t *words)
{
	uint64_t entries[CHUNK];
	const size_t bytes = scan->pages * sizeof(entries[0]);
	off_t at = (off_t)((uintptr_t)scan->hva / IMPOST_PAGE_SIZE * sizeof(entries[0]));
	ssize_t n;

	do
		n = pread(scan->pagemap, entries, bytes, at);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)bytes)
		return n < 0 ? -errno : -EIO;
	for (uint64_t page = 0; page < scan->pages; page++)
		if (entries[page] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
			words[page / 64] |= UINT64_C(1) << page % 64;
	return 0;
}

/* Sets the pages of which the process's page tables have something, be it in swap. -errno, with no
 * text: they cannot be read. */
static int add_mapped(struct scan *scan, uint64_t *words)
{
	if (scan->pagemap < 0)
		scan->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (scan->pagemap < 0)
		return -errno;
	return scan_mapped(scan, words) ? read_mapped(scan, words) : 0;
}

/*
 * The region's file, opened anew: lseek(2) moves the place that is shared with all who have a
 * duplicate of a descriptor. For this chunk only: at the next the region can be another. -1: it
 * cannot be.
 */
static int open_file_of(const struct scan *scan)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", scan->region->backing->fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Sets the pages for which FD has something from START to END. Returns false where that cannot be
 * known. */
static bool add_data_of(int fd, uint64_t start, uint64_t end, uint64_t *words)
{
	for (uint64_t at = start; at < end;) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? data : lseek(fd, data, SEEK_HOLE);

		if ((data < 0 && errno == ENXIO) || (hole >= 0 && (uint64_t)data >= end))
			return true; /* there is no more */
		if (hole < 0)
			return false;
		at = (uint64_t)hole < end ? (uint64_t)hole : end;
		set_pages(words, ((uint64_t)data - start) / IMPOST_PAGE_SIZE,
			  (at - start + IMPOST_PAGE_SIZE - 1) / IMPOST_PAGE_SIZE);
	}
	return true;
}

/* Sets the pages of which the region's file has something, in its cache, on disk or in swap; where
 * that cannot be known, all. */
static void add_data(const struct scan *scan, uint64_t *words)
{
	const uint64_t start = file_offset(scan);
	int fd = open_file_of(scan);

	if (!add_data_of(fd, start, start + scan->pages * IMPOST_PAGE_SIZE, words))
		set_pages(words, 0, scan->pages);
	if (fd >= 0)
		close(fd);
}

/* --- all zero --- */

/*
 * SSE2, which every x86_64 has; wider registers wait for memory just as long. A page that is zero
 * so far has the next half page fetched, or the next page's first half: the CPU's own prefetchers
 * stop where a page does.
 */
bool page_is_zero(const uint8_t *page)
{
	const __m128i *at = (const __m128i *)(const void *)page;
	const __m128i *end = at + IMPOST_PAGE_SIZE / sizeof(*at);
	__m128i any;

	do {
		any = _mm_setzero_si128();
		for (unsigned i = 0; i < 16; i++)
			any = _mm_or_si128(any, _mm_load_si128(at + i));
		if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff)
			return false;
		for (size_t ahead = IMPOST_PAGE_SIZE / 2; ahead < IMPOST_PAGE_SIZE / 2 + 256;
		     ahead += 64)
			_mm_prefetch((const char *)at + ahead, _MM_HINT_T0);
		at += 16;
	} while (at < end);
	return true;
}

/*
 * Whether PAGE is looked at in the file: it is of huge pages, and not in this process's page
 * tables, so nothing is known of it. A touch could make a page, even one of our own in private
 * memory, which later writes to the file would not reach; reading a file's hole makes none.
 */
static bool is_in_file(const struct scan *scan, uint64_t page)
{
	return region_has_file(scan->region) &&
	       region_page_bytes(scan->region) > IMPOST_PAGE_SIZE &&
	       !has_page(scan->resident, page);
}

/* Whether a look at PAGE must be at a copy of it: where a touch could be SIGBUS, or make a page. */
static bool needs_copy(const struct scan *scan, uint64_t page)
{
	return !(scan->region->access & MAPPED_DIRECT) || is_in_file(scan, page);
}

/* Copies COUNT pages from PAGE on, all of which are to be looked at in the file or none. */
static int copy_pages(const struct scan *scan, uint64_t page, uint64_t count, uint8_t *copy)
{
	const struct mapped *region = scan->region;
	const uint8_t *hva = scan->hva + page * IMPOST_PAGE_SIZE;
	const uint64_t bytes = count * IMPOST_PAGE_SIZE;
	ssize_t n;

	if (!is_in_file(scan, page))
		return access_read(scan->memory, region, hva, copy, bytes);
	for (uint64_t done = 0; done < bytes; done += (uint64_t)n) {
		n = pread(region->backing->fd, copy + done, bytes - done,
			  (off_t)(file_offset(scan) + page * IMPOST_PAGE_SIZE + done));
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return access_failed(scan->memory, region, hva + done);
	}
	return 0;
}

/* How many pages from PAGE on, which is in HELD, are copied at once. */
static uint64_t count_copied(const struct scan *scan, const uint64_t *held, uint64_t page)
{
	const bool in_file = is_in_file(scan, page);
	uint64_t end = page + 1;

	while (end < page + COPIED && end < scan->pages && has_page(held, end) &&
	       needs_copy(scan, end) && is_in_file(scan, end) == in_file)
		end++;
	return end - page;
}

/* Sets those of COUNT pages from PAGE on that are zero. */
static int look_at_copy(const struct scan *scan, uint64_t page, uint64_t count, uint64_t *words)
{
	_Alignas(16) uint8_t copy[COPIED * IMPOST_PAGE_SIZE];
	int err = copy_pages(scan, page, count, copy);

	for (uint64_t i = 0; !err && i < count; i++)
		if (page_is_zero(copy + i * IMPOST_PAGE_SIZE))
			set_pages(words, page + i, page + i + 1);
	return err;
}

/* What page_is_zero() looks at first of a page that comes soon: most pages are not zero, and a page
 * of its own each is all that is waited for. */
static void fetch_soon(const struct scan *scan, uint64_t page)
{
	const uint8_t *at = scan->hva + (page + SOON) * IMPOST_PAGE_SIZE;

	if (page + SOON >= scan->pages)
		return;
	for (uint32_t ahead = 0; ahead < 256; ahead += 64)
		_mm_prefetch((const char *)at + ahead, _MM_HINT_T0);
}

/* Sets the pages that are zero: those that are not in HELD, and those that a look finds to be. */
static int look(const struct scan *scan, const uint64_t *held, uint64_t *words)
{
	uint64_t count;
	int err = 0;

	for (uint64_t page = 0; !err && page < scan->pages; page += count) {
		count = 1;
		if (!has_page(held, page)) {
			set_pages(words, page, page + 1);
		} else if (needs_copy(scan, page)) {
			count = count_copied(scan, held, page);
			err = look_at_copy(scan, page, count, words);
		} else {
			fetch_soon(scan, page);
			words[page / 64] |=
				(uint64_t)page_is_zero(scan->hva + page * IMPOST_PAGE_SIZE)
				<< page % 64;
		}
	}
	return err;
}

/* Sets the pages that may hold something else than zero, as far as is known without a look. */
static int find_held(struct scan *scan, uint64_t *words)
{
	const struct mapped *region = scan->region;
	/* It is not the library's own, or not of one file. */
	bool unknown = !region->backing || region->backing->mixed;
	int err = find_resident(scan);

	if (err)
		return err;
	memcpy(words, scan->resident, sizeof(scan->resident));
	if (has_all(scan, words))
		return 0;
	if (!unknown && region_is_private(region))
		unknown = add_mapped(scan, words);
	if (unknown)
		set_pages(words, 0, scan->pages);
	else if (region_has_file(region))
		add_data(scan, words);
	return 0;
}

static int judge_zero(struct scan *scan, uint64_t *words)
{
	uint64_t held[CHUNK_WORDS];
	int err = access_check(scan->memory, scan->region, scan->hva,
			       scan->pages * IMPOST_PAGE_SIZE, false);

	if (!err)
		err = find_held(scan, held);
	return err ? err : look(scan, held, words);
}

/* --- populated --- */

/* Whether what the region's file has is in memory or in swap. */
static bool is_in_memory(const struct mapped *region)
{
	struct statfs system;

	return region_has_file(region) && fstatfs(region->backing->fd, &system) == 0 &&
	       system.f_type == TMPFS_MAGIC;
}

static int judge_populated(struct scan *scan, uint64_t *words)
{
	int err = find_resident(scan);

	if (err)
		return err;
	memcpy(words, scan->resident, sizeof(scan->resident));
	if (has_all(scan, words))
		return 0;
	err = add_mapped(scan, words);
	if (err)
		return impost_error_set(scan->memory->ctx, err,
					"cannot read /proc/self/pagemap, which tells what memory "
					"the region at 0x%" PRIx64 " has: %s",
					scan->region->gpa, strerror(-err));
	if (is_in_memory(scan->region))
		add_data(scan, words);
	return 0;
}

/* --- a range, chunk by chunk --- */

typedef int judge_fn(struct scan *scan, uint64_t *words);

static int check_range(struct impost_memory *memory, uint64_t gpa, uint64_t bytes)
{
	if (gpa % IMPOST_PAGE_SIZE || bytes % IMPOST_PAGE_SIZE)
		return impost_error_set(memory->ctx, -EINVAL,
					"0x%" PRIx64 ", %" PRIu64
					" bytes: it must be whole pages, of %u bytes",
					gpa, bytes, IMPOST_PAGE_SIZE);
	if (bytes && gpa + (bytes - 1) < gpa)
		return impost_error_set(memory->ctx, -EINVAL,
					"0x%" PRIx64 ", %" PRIu64 " bytes: it goes beyond 2^64",
					gpa, bytes);
	return 0;
}

/* Looks at the next chunk of LEFT. Returns 0 with *ret_full if there was no room for all of it. */
static int scan_chunk(struct scan *scan, struct impost_view *view, judge_fn *judge,
		      struct impost_range *left, struct impost_range *ranges, uint64_t capacity,
		      uint64_t *count, bool *ret_full)
{
	uint64_t words[CHUNK_WORDS] = {0}, next = 0;
	uint64_t most = scan->most * IMPOST_PAGE_SIZE;
	uint64_t bytes = left->bytes < most ? left->bytes : most;
	struct impost_bitmap bitmap = {.size = sizeof(bitmap), .words = words, .gpa = left->gpa};
	int err = view_check(view, left->gpa, bytes, false);

	if (err)
		return err;
	scan->gpa = left->gpa;
	scan->region = map_at(view->map, left->gpa);
	scan->hva = map_span(scan->region, left->gpa, bytes, &bytes);
	scan->pages = bytes / IMPOST_PAGE_SIZE;
	err = judge(scan, words);
	if (err)
		return err;
	bitmap.pages = scan->pages;
	bitmap.page_bytes = IMPOST_PAGE_SIZE;
	impost_bitmap_ranges(&bitmap, &next, ranges, capacity, count);
	left->gpa += next * IMPOST_PAGE_SIZE;
	left->bytes -= next * IMPOST_PAGE_SIZE;
	*ret_full = next < scan->pages;
	if (scan->most < CHUNK)
		scan->most *= 2;
	return 0;
}

static int scan_range(struct impost_memory *memory, judge_fn *judge, struct impost_range *range,
		      struct impost_range *ranges, uint64_t capacity, uint64_t *count)
{
	struct scan scan = {.memory = memory, .pagemap = -1, .most = LEAST_CHUNK};
	struct impost_range left = *range;
	uint64_t found = *count;
	bool full = false;
	int err = check_range(memory, left.gpa, left.bytes);

	if (!err && found > capacity)
		err = impost_error_set(memory->ctx, -EINVAL,
				       "%" PRIu64 " ranges in an array of %" PRIu64, found,
				       capacity);
	while (!err && !full && left.bytes > 0) {
		struct impost_view view;

		err = impost_view_begin(memory, &view);
		if (err)
			break;
		err = scan_chunk(&scan, &view, judge, &left, ranges, capacity, &found, &full);
		impost_view_end(&view);
	}
	if (scan.pagemap >= 0)
		close(scan.pagemap);
	if (err)
		return err;
	*range = left;
	*count = found;
	return 0;
}

int impost_pages_zero(struct impost_memory *memory, struct impost_range *range,
		      struct impost_range *ranges, uint64_t capacity, uint64_t *count)
{
	int err = memory_settle(memory);

	if (err)
		return err;
	return scan_range(memory, judge_zero, range, ranges, capacity, count);
}

int impost_pages_populated(struct impost_memory *memory, struct impost_range *range,
			   struct impost_range *ranges, uint64_t capacity, uint64_t *count)
{
	return scan_range(memory, judge_populated, range, ranges, capacity, count);
}
