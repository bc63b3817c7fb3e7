/* SPDX-License-Identifier: Apache-2.0 */
/* States of pages, and discarding them: against a plain array, on each kind of memory. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "own_map.h"
#include "random.h"

#define PAGE   ((uint64_t)IMPOST_PAGE_SIZE)
#define BASE   (UINT64_C(5) << 30)
#define PAGES  9000u /* more than two of the library's chunks */
#define RANGES (PAGES / 2 + 1)

static uint64_t seed = 0x9e3779b97f4a7c15;

TestSuite(pages, .init = begin, .fini = end);

static void add(uint32_t kind, void *hva, uint64_t gpa, uint64_t pages)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = kind,
				       .gpa = gpa,
				       .bytes = pages * PAGE,
				       .hva = hva};

	expect_ok(ctx, impost_memory_add(memory, &region));
}

typedef int question_fn(struct impost_memory *memory, struct impost_range *range,
			struct impost_range *ranges, uint64_t capacity, uint64_t *count);

/* Asks about pages FROM to TO - 1 of those at BASE, with arrays of CAPACITY, and clears or sets the
 * bytes of `answer`. The ranges must be in order, apart, within, and as long as can be. */
static void ask(question_fn *question, uint64_t from, uint64_t to, uint64_t capacity,
		uint8_t *answer)
{
	static struct impost_range ranges[RANGES];
	struct impost_range left = {BASE + from * PAGE, (to - from) * PAGE};
	uint64_t before = left.gpa, total = 0;

	memset(answer, 0, PAGES);
	do {
		uint64_t count = 0;

		expect_ok(ctx, question(memory, &left, ranges, capacity, &count));
		cr_assert(count == capacity || left.bytes == 0);
		cr_assert(left.gpa + left.bytes == BASE + to * PAGE);
		for (uint64_t i = 0; i < count; i++) {
			cr_assert(ranges[i].gpa % PAGE == 0 && ranges[i].bytes % PAGE == 0);
			cr_assert(ranges[i].bytes > 0);
			cr_assert(ranges[i].gpa > before ||
					  (total + i == 0 && before == ranges[i].gpa),
				  "ranges that adjoin are two");
			before = ranges[i].gpa + ranges[i].bytes;
			cr_assert(before <= BASE + to * PAGE);
			memset(answer + (ranges[i].gpa - BASE) / PAGE, 1, ranges[i].bytes / PAGE);
		}
		total += count;
	} while (left.bytes > 0);
}

static void expect_answer(question_fn *question, uint64_t from, uint64_t to, uint64_t capacity,
			  const uint8_t *model, const char *what)
{
	static uint8_t answer[PAGES];

	ask(question, from, to, capacity, answer);
	for (uint64_t page = from; page < to; page++)
		cr_assert(answer[page] == model[page], "page %lu is%s %s", page,
			  answer[page] ? "" : " not", what);
}

/* What is expected of each page. */
static uint8_t zero[PAGES], populated[PAGES], first[PAGES];

/* Does something to some pages: writes a byte in each, which may be zero, or discards them. */
static void change(bool can_discard)
{
	uint32_t many = random_below(&seed, 3) ? 20 : 3000;
	uint64_t from = random_below(&seed, PAGES), pages = 1 + random_below(&seed, many);
	uint32_t what = random_below(&seed, 4);

	if (pages > PAGES - from)
		pages = PAGES - from;
	if (what == 0 && can_discard) {
		expect_ok(ctx, impost_pages_discard(memory, BASE + from * PAGE, pages * PAGE, 0));
		memset(zero + from, 1, pages);
		memset(populated + from, 0, pages);
		memset(first + from, 0, pages);
		return;
	}
	for (uint64_t page = from; page < from + pages; page++) {
		uint8_t value = what == 1 ? 0 : (uint8_t)(1 + random_below(&seed, 255));
		uint32_t at = what == 1 ? 0 : random_below(&seed, PAGE);

		if (what == 1)
			expect_ok(ctx, impost_memory_fill(memory, BASE + page * PAGE, 0, PAGE));
		else
			expect_ok(ctx,
				  impost_memory_write(memory, BASE + page * PAGE + at, &value, 1));
		if (at == 0)
			first[page] = value;
		zero[page] = what == 1;
		populated[page] = 1;
	}
}

/* Changes, and after each all is as the model has it: contents, what is zero, and, if it is EXACT,
 * what is populated, which looking must not change. */
static void play(unsigned rounds, bool can_discard, bool exact)
{
	static const uint64_t capacities[] = {1, 7, 200, RANGES};

	for (unsigned round = 0; round < rounds; round++) {
		uint64_t from = random_below(&seed, PAGES - 1);
		uint64_t to = from + 1 + random_below(&seed, (uint32_t)(PAGES - from));
		uint64_t capacity = capacities[random_below(&seed, 4)];
		uint8_t byte;

		if (round % 4 == 0)
			from = 0, to = PAGES;
		change(can_discard);
		if (exact)
			expect_answer(impost_pages_populated, from, to, capacity, populated,
				      "populated");
		expect_answer(impost_pages_zero, from, to, capacity, zero, "zero");
		if (exact)
			expect_answer(impost_pages_populated, 0, PAGES, RANGES, populated,
				      "populated, after a look");
		for (unsigned i = 0; i < 20; i++) {
			uint64_t page = random_below(&seed, PAGES);

			if (!populated[page])
				continue; /* reading gives it the zero page */
			expect_ok(ctx, impost_memory_read(memory, BASE + page * PAGE, &byte, 1));
			cr_assert(byte == first[page], "page %lu begins with %u, not %u", page,
				  byte, first[page]);
		}
	}
}

/* Where a page is populated by itself alone, not with those of a huge page. */
static void small_pages_only(uint64_t gpa, uint64_t pages)
{
	void *hva;

	expect_ok(ctx, impost_memory_ptr(memory, gpa, pages * PAGE, &hva));
	cr_assert(madvise(hva, pages * PAGE, MADV_NOHUGEPAGE) == 0);
}

Test(pages, of_anonymous_memory)
{
	memset(zero, 1, PAGES);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 5000);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE + 5000 * PAGE, PAGES - 5000);
	small_pages_only(BASE, 5000);
	small_pages_only(BASE + 5000 * PAGE, PAGES - 5000);
	play(40, true, true);
}

Test(pages, of_the_hosts_pointer)
{
	uint8_t *hva = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	memset(zero, 1, PAGES);
	cr_assert(madvise(hva, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
	add(IMPOST_REGION_POINTER, hva, BASE, PAGES);
	change(false);
	expect_answer(impost_pages_populated, 0, PAGES, 3, populated, "populated");
	play(20, false, false);
	expect_error(ctx, impost_pages_discard(memory, BASE, PAGE, 0), -ENOTSUP, "own pointer");
	munmap(hva + 10 * PAGE, PAGE);
	expect_error(ctx,
		     impost_pages_populated(memory, &(struct impost_range){BASE, 20 * PAGE},
					    &(struct impost_range){0}, 1, &(uint64_t){0}),
		     -EIO, "cannot access");
	munmap(hva, PAGES * PAGE);
}

/* --- files --- */

/* A file in memory, whose pages with even numbers begin with their number, below 256, and whose
 * others are holes; after one more page. */
static int make_file(void)
{
	int fd = memfd_create("pages", MFD_CLOEXEC);

	cr_assert(ftruncate(fd, (PAGES + 1) * PAGE) == 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		first[page] = page % 2 ? 0 : (uint8_t)(page % 256);
		zero[page] = !first[page];
		populated[page] = !(page % 2);
		if (populated[page])
			cr_assert(pwrite(fd, &first[page], 1, (off_t)((page + 1) * PAGE)) == 1);
	}
	return fd;
}

static void add_fd(int fd, uint32_t flags)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_FD,
				       .gpa = BASE,
				       .bytes = PAGES * PAGE,
				       .flags = flags,
				       .fd = fd,
				       .fd_offset = PAGE};

	expect_ok(ctx, impost_memory_add(memory, &region));
}

/* Looks and discards leave the place alone that the host reads and writes its descriptor at. */
Test(pages, of_shared_files)
{
	static const uint32_t flags[] = {0, IMPOST_REGION_TRUST_FILE};

	for (size_t i = 0; i < 2; i++) {
		int fd = make_file();

		cr_assert(lseek(fd, 12345, SEEK_SET) == 12345);
		add_fd(fd, IMPOST_REGION_SHARED | flags[i]);
		play(12, true, true);
		cr_expect(lseek(fd, 0, SEEK_CUR) == 12345);
		expect_ok(ctx, impost_memory_remove(memory, BASE));
		close(fd);
	}
}

/* On a disk, where reading one page brings others along. */
Test(pages, of_shared_files_on_a_disk)
{
	char path[] = "/tmp/impost-pages-XXXXXX";
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_FILE,
				       .gpa = BASE,
				       .bytes = PAGES * PAGE,
				       .flags = IMPOST_REGION_SHARED,
				       .path = path};
	int fd = mkstemp(path);
	struct stat before, after;
	bool can_discard;

	cr_assert(ftruncate(fd, PAGES * PAGE) == 0);
	memset(zero, 1, PAGES);
	expect_ok(ctx, impost_memory_add(memory, &region));
	unlink(path);
	can_discard = !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
	play(10, can_discard, false);
	if (!can_discard) {
		expect_error(ctx, impost_pages_discard(memory, BASE, PAGE, 0), -ENOTSUP, "cannot");
		cr_skip_test("in part skipped: this file system has no holes");
	}
	expect_ok(ctx, impost_memory_fill(memory, BASE, 1, PAGES * PAGE));
	cr_assert(fsync(fd) == 0 && fstat(fd, &before) == 0);
	expect_ok(ctx, impost_pages_discard(memory, BASE, PAGES * PAGE, 0));
	cr_assert(fsync(fd) == 0 && fstat(fd, &after) == 0);
	cr_expect(after.st_blocks < before.st_blocks / 2 && after.st_size == before.st_size);
	close(fd);
}

Test(pages, of_private_files)
{
	static const uint32_t flags[] = {0, IMPOST_REGION_TRUST_FILE};

	for (size_t i = 0; i < 2; i++) {
		int fd = make_file();

		add_fd(fd, flags[i]);
		play(8, false, true);
		expect_error(ctx, impost_pages_discard(memory, BASE, PAGE, 0), -ENOTSUP,
			     "read as the file again");
		expect_ok(ctx, impost_pages_discard(memory, BASE, PAGES * PAGE,
						    IMPOST_DISCARD_ANY_CONTENT));
		close(make_file()); /* what is expected is as in the beginning */
		expect_answer(impost_pages_zero, 0, PAGES, RANGES, zero, "zero");
		expect_ok(ctx, impost_memory_remove(memory, BASE));
		close(fd);
	}
}

Test(pages, of_memfds)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_MEMFD,
				       .gpa = BASE,
				       .bytes = PAGES * PAGE};

	memset(zero, 1, PAGES);
	expect_ok(ctx, impost_memory_add(memory, &region));
	play(20, true, true);
}

/* Each answer about a file that has become shorter is an error, and no signal. */
Test(pages, of_a_file_that_becomes_shorter)
{
	static struct impost_range found[RANGES];
	struct impost_range range = {BASE, PAGES * PAGE};
	int fd = make_file();
	uint64_t count = 0;

	add_fd(fd, IMPOST_REGION_SHARED);
	cr_assert(ftruncate(fd, 100 * PAGE) == 0);
	expect_error(ctx, impost_pages_zero(memory, &range, found, RANGES, &count), -EIO,
		     "lost memory");
	cr_expect(count == 0 && range.gpa == BASE && range.bytes == PAGES * PAGE);
	expect_answer(impost_pages_zero, 0, 99, 4, zero, "zero");
	expect_error(ctx, impost_pages_discard(memory, BASE, PAGES * PAGE, 0), -EIO, "lost memory");
	close(fd);
}

/* --- huge pages --- */

#define HUGE_PAGES 4u

/* A region of some huge pages; false: the host has none set aside. */
static bool add_huge(uint32_t kind)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = kind,
				       .gpa = BASE,
				       .bytes = HUGE_PAGES * IMPOST_PAGE_2M,
				       .page_bytes = IMPOST_PAGE_2M,
				       .fd = -1};

	return impost_memory_add(memory, &region) == 0;
}

/* Of this process, whatever others do. */
static uint64_t huge_pages(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[200];

	while (fgets(line, sizeof(line), file) && sscanf(line, "HugetlbPages: %lu", &kib) != 1)
		;
	fclose(file);
	return kib / 2048;
}

/* Pages that nobody touched stay with the host while zeros are looked for, and go back to it when
 * they are discarded. */
static void play_huge(void)
{
	const uint64_t each = IMPOST_PAGE_2M / PAGE, all = HUGE_PAGES * each;
	uint64_t value = 1;

	memset(zero, 1, PAGES);
	memset(populated, 0, PAGES);
	expect_answer(impost_pages_zero, 0, all, 1, zero, "zero");
	cr_expect(huge_pages() == 0);
	expect_answer(impost_pages_populated, 0, all, 3, populated, "populated");
	expect_ok(ctx, impost_memory_write(memory, BASE + IMPOST_PAGE_2M + PAGE, &value, 8));
	zero[each + 1] = 0;
	memset(populated + each, 1, each);
	expect_answer(impost_pages_populated, 0, all, 3, populated, "populated");
	expect_answer(impost_pages_zero, 0, all, 1, zero, "zero");
	cr_expect(huge_pages() == 1);
	expect_error(ctx, impost_pages_discard(memory, BASE, PAGE, 0), -EINVAL, "2097152");
	expect_error(ctx, impost_pages_discard(memory, BASE + PAGE, IMPOST_PAGE_2M, 0), -EINVAL,
		     "2097152");
	expect_ok(ctx, impost_pages_discard(memory, BASE, HUGE_PAGES * IMPOST_PAGE_2M, 0));
	cr_expect(huge_pages() == 0);
	memset(zero, 1, PAGES);
	memset(populated, 0, PAGES);
	expect_answer(impost_pages_populated, 0, all, 3, populated, "populated");
	expect_ok(ctx, impost_memory_read(memory, BASE + IMPOST_PAGE_2M + PAGE, &value, 8));
	cr_expect(value == 0);
}

Test(pages, of_huge_pages)
{
	static const uint32_t kinds[] = {IMPOST_REGION_ANONYMOUS, IMPOST_REGION_MEMFD};

	for (size_t i = 0; i < 2; i++) {
		if (!add_huge(kinds[i]))
			cr_skip_test("skipped: %s", impost_error(ctx));
		play_huge();
		expect_ok(ctx, impost_memory_remove(memory, BASE));
	}
}

/* A huge page that this process never touched is looked at in the file: a touch of a hole would
 * make a private page, and the guest would see no more of what is written to the file. */
Test(pages, of_a_private_file_of_huge_pages)
{
	const uint64_t each = IMPOST_PAGE_2M / PAGE, all = HUGE_PAGES * each;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | (21 << 26));
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_FD,
				       .gpa = BASE,
				       .bytes = HUGE_PAGES * IMPOST_PAGE_2M,
				       .fd = fd};
	uint8_t *file;

	if (fd < 0 || ftruncate(fd, (off_t)region.bytes) || impost_memory_add(memory, &region))
		cr_skip_test("skipped: no huge pages: %s", impost_error(ctx));
	memset(zero, 1, PAGES);
	expect_answer(impost_pages_zero, 0, all, 1, zero, "zero");
	cr_expect(huge_pages() == 0);
	file = mmap(NULL, IMPOST_PAGE_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)IMPOST_PAGE_2M);
	cr_assert(file != MAP_FAILED);
	file[5 * PAGE + 7] = 1;
	zero[each + 5] = 0;
	expect_answer(impost_pages_zero, 0, all, 1, zero, "zero");
	cr_expect(huge_pages() == 1);
	expect_ok(ctx, impost_memory_fill(memory, BASE + IMPOST_PAGE_2M, 0, IMPOST_PAGE_2M));
	zero[each + 5] = 1; /* in a copy of our own */
	expect_answer(impost_pages_zero, 0, all, 1, zero, "zero");
	cr_expect(file[5 * PAGE + 7] == 1);
	munmap(file, IMPOST_PAGE_2M);
	close(fd);
}

/* --- kernels that know less --- */

/* Has the kernel answer a system call with ERR from now on, as an older one does, or a sandbox. */
static void forbid(long call, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	cr_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	cr_assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

Test(pages, without_pagemap_scan)
{
	memset(zero, 1, PAGES);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, PAGES);
	small_pages_only(BASE, PAGES);
	forbid(SYS_ioctl, ENOTTY);
	play(15, true, true);
}

/* What is not known to be a hole is read. */
Test(pages, without_holes)
{
	int fd = make_file();

	add_fd(fd, IMPOST_REGION_SHARED);
	forbid(SYS_lseek, EINVAL);
	play(5, true, false);
	close(fd);
}

/* Zeros are found by reading; what has memory cannot be told, and the text says what is missing. */
Test(pages, without_a_page_map)
{
	struct impost_range range = {BASE, PAGE}, found;
	uint64_t count = 0;

	memset(zero, 1, PAGES);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, PAGES);
	forbid(SYS_openat, EACCES);
	expect_error(ctx, impost_pages_populated(memory, &range, &found, 1, &count), -EACCES,
		     "/proc/self/pagemap");
	play(5, true, false);
}

/* --- the rest --- */

/* A byte anywhere in a page makes it none that is zero. */
Test(pages, each_byte_counts)
{
	uint8_t one = 1, none = 0;

	memset(zero, 1, PAGES);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 3);
	expect_ok(ctx, impost_memory_fill(memory, BASE, 0, 3 * PAGE));
	for (uint64_t at = 0; at < PAGE; at++) {
		expect_ok(ctx, impost_memory_write(memory, BASE + PAGE + at, &one, 1));
		zero[1] = 0;
		expect_answer(impost_pages_zero, 0, 3, 2, zero, "zero");
		expect_ok(ctx, impost_memory_write(memory, BASE + PAGE + at, &none, 1));
	}
	zero[1] = 1;
	expect_answer(impost_pages_zero, 0, 3, 1, zero, "zero");
}

/* Memory that nobody touched is known to be zero, and is not touched to find that out; be it more
 * than the host has. */
Test(pages, of_much_that_was_never_touched)
{
	const uint64_t bytes = UINT64_C(64) << 30;
	struct impost_region region = {.size = sizeof(region),
				       .gpa = BASE,
				       .bytes = bytes,
				       .flags = IMPOST_REGION_NORESERVE};
	struct impost_range range = {BASE, bytes}, found;
	uint64_t count = 0;

	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_pages_zero(memory, &range, &found, 1, &count));
	cr_expect(count == 1 && found.gpa == BASE && found.bytes == bytes && range.bytes == 0);
	range = (struct impost_range){BASE, bytes};
	count = 0;
	expect_ok(ctx, impost_pages_populated(memory, &range, &found, 1, &count));
	cr_expect(count == 0, "a page at 0x%lx is populated", found.gpa);
}

Test(pages, nonsense_is_refused)
{
	question_fn *const questions[] = {impost_pages_zero, impost_pages_populated};

	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 4);
	for (size_t i = 0; i < 2; i++) {
		const struct impost_range bad[] = {
			{BASE + 1, PAGE}, {BASE, PAGE + 1}, {BASE, 5 * PAGE}, {0 - PAGE, 2 * PAGE}};
		const char *const words[] = {"whole pages", "whole pages",
					     "no memory at 0x140004000", "beyond"};
		struct impost_range found, range = {BASE, PAGE};
		uint64_t count = 0;

		for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
			range = bad[j];
			expect_error(ctx, questions[i](memory, &range, &found, 1, &count),
				     j == 2 ? -EFAULT : -EINVAL, words[j]);
			cr_expect(range.gpa == bad[j].gpa && range.bytes == bad[j].bytes);
			cr_expect(count == 0);
		}
		count = 2;
		range = (struct impost_range){BASE, PAGE};
		expect_error(ctx, questions[i](memory, &range, &found, 1, &count), -EINVAL,
			     "2 ranges in an array of 1");
		range.bytes = 0;
		count = 0;
		expect_ok(ctx, questions[i](memory, &range, &found, 1, &count));
	}
	expect_error(ctx, impost_pages_discard(memory, BASE, 0, 0), -EINVAL, "whole pages");
	expect_error(ctx, impost_pages_discard(memory, BASE + 8, PAGE, 0), -EINVAL, "whole pages");
	expect_error(ctx, impost_pages_discard(memory, BASE, 8, 0), -EINVAL, "whole pages");
	expect_error(ctx, impost_pages_discard(memory, BASE, PAGE, 2), -EINVAL, "flags 0x2");
}

/* Nothing is discarded if not all of it can be. */
Test(pages, a_refused_discard_changes_nothing)
{
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = BASE + 4 * PAGE,
				    .bytes = 4 * PAGE,
				    .flags = IMPOST_REGION_READONLY};
	uint64_t value = 7, found = 0;

	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 4);
	expect_ok(ctx, impost_memory_add(memory, &rom));
	expect_ok(ctx, impost_memory_write(memory, BASE, &value, 8));
	expect_error(ctx, impost_pages_discard(memory, BASE, 8 * PAGE, 0), -EACCES, "read-only");
	expect_error(ctx, impost_pages_discard(memory, BASE, 9 * PAGE, 0), -EFAULT,
		     "no memory at 0x140008000");
	expect_ok(ctx, impost_memory_read(memory, BASE, &found, 8));
	cr_expect(found == value);
	expect_ok(ctx, impost_pages_discard(memory, BASE, 4 * PAGE, 0));
	expect_ok(ctx, impost_memory_read(memory, BASE, &found, 8));
	cr_expect(found == 0);
}

Test(pages, locked_memory_is_discarded)
{
	uint64_t value = 7;
	void *hva;

	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 4);
	expect_ok(ctx, impost_memory_ptr(memory, BASE, 4 * PAGE, &hva));
	if (mlock(hva, 4 * PAGE))
		cr_skip_test("skipped: memory cannot be locked here");
	expect_ok(ctx, impost_memory_write(memory, BASE, &value, 8));
	expect_ok(ctx, impost_pages_discard(memory, BASE, 4 * PAGE, 0));
	expect_ok(ctx, impost_memory_read(memory, BASE, &value, 8));
	cr_expect(value == 0);
}

static atomic_bool stop;

/* Asks and discards: all of it is there, or it is said not to be. */
static void *ask_on(void *arg)
{
	static struct impost_range found[RANGES];

	(void)arg;
	for (uint64_t round = 0; !atomic_load(&stop); round++) {
		struct impost_range range = {BASE, PAGES * PAGE};
		uint64_t count = 0;
		int err = round % 3 == 0 ? impost_pages_discard(memory, range.gpa, range.bytes, 0)
			  : round % 3 == 1
				  ? impost_pages_zero(memory, &range, found, RANGES, &count)
				  : impost_pages_populated(memory, &range, found, RANGES, &count);

		cr_assert(err == 0 || err == -EFAULT, "%d: %s", err, impost_error(ctx));
	}
	return NULL;
}

Test(pages, while_regions_come_and_go)
{
	pthread_t thread;

	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 4000);
	cr_assert(pthread_create(&thread, NULL, ask_on, NULL) == 0);
	for (unsigned round = 0; round < 300; round++) {
		add(round % 2 ? IMPOST_REGION_ANONYMOUS : IMPOST_REGION_MEMFD, NULL,
		    BASE + 4000 * PAGE, PAGES - 4000);
		expect_ok(ctx, impost_memory_fill(memory, BASE + 5000 * PAGE, 1, 20 * PAGE));
		expect_ok(ctx, impost_memory_remove(memory, BASE + 4000 * PAGE));
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

Test(pages, a_backend_is_told_of_a_discard)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,mark-dirty,irqchip-none", &fake);
	struct impost_region region = {.size = sizeof(region), .gpa = BASE, .bytes = 8 * PAGE};

	expect_ok(ctx, impost_memory_add(impost_vm_memory(vm), &region));
	expect_ok(ctx, impost_pages_discard(impost_vm_memory(vm), BASE + PAGE, 2 * PAGE, 0));
	cr_expect(fake->dirty_calls == 1 && fake->dirty_gpa == BASE + PAGE);
	cr_expect(fake->dirty_bytes == 2 * PAGE);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(pages, a_discard_is_dirty)
{
	const struct impost_dirty_config config = {.size = sizeof(config),
						   .flags = IMPOST_DIRTY_HOST_ONLY};
	struct impost_dirty *dirty;
	struct impost_range found[3];
	uint64_t count;

	add(IMPOST_REGION_ANONYMOUS, NULL, BASE, 100);
	add(IMPOST_REGION_ANONYMOUS, NULL, BASE + 100 * PAGE, 100);
	expect_ok(ctx, impost_dirty_create(memory, &config, &dirty));
	expect_ok(ctx, impost_pages_discard(memory, BASE + 70 * PAGE, 60 * PAGE, 0));
	expect_ok(ctx, impost_dirty_sync(dirty));
	expect_ok(ctx, impost_dirty_take(dirty, found, 3, &count));
	cr_assert(count == 1);
	cr_expect(found[0].gpa == BASE + 70 * PAGE && found[0].bytes == 60 * PAGE);
	expect_ok(ctx, impost_dirty_destroy(dirty));
}

/* Part of it may be gone when the kernel says that it failed. */
Test(pages, a_discard_that_fails_is_dirty)
{
	struct impost_dirty *dirty;
	struct impost_range found[3];
	uint64_t count;

	add(IMPOST_REGION_MEMFD, NULL, BASE, 100);
	expect_ok(ctx, impost_dirty_create(memory, NULL, &dirty));
	forbid(SYS_fallocate, EIO);
	expect_error(ctx, impost_pages_discard(memory, BASE + 70 * PAGE, 5 * PAGE, 0), -EIO,
		     "cannot discard");
	expect_ok(ctx, impost_dirty_sync(dirty));
	expect_ok(ctx, impost_dirty_take(dirty, found, 3, &count));
	cr_assert(count == 1);
	cr_expect(found[0].gpa == BASE + 70 * PAGE && found[0].bytes == 5 * PAGE);
	expect_ok(ctx, impost_dirty_destroy(dirty));
}

Test(pages, memory_of_the_hypervisor_stays)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-backend,irqchip-none", &fake);
	struct impost_region region = {.size = sizeof(region), .gpa = BASE, .bytes = 8 * PAGE};

	expect_ok(ctx, impost_memory_add(impost_vm_memory(vm), &region));
	expect_error(ctx, impost_pages_discard(impost_vm_memory(vm), BASE, PAGE, 0), -ENOTSUP,
		     "hypervisor's");
	cr_expect(impost_vm_destroy(vm) == 0);
}
