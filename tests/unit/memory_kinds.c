/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of guest memory: each against a model, files that become shorter, and what is refused. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "random.h"

#define PAGE  IMPOST_PAGE_SIZE
#define PAGES 16u
#define BYTES (PAGES * PAGE)
#define GPA   UINT64_C(0x200000)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static struct impost_context *ctx;
static struct impost_memory *memory;
static char path[] = "/tmp/impost-kinds-XXXXXX";
static int file_fd, memfd, sealed_fd;
static uint8_t content[BYTES];

/* A file, a memfd and a sealed memfd, each with a page before the same random bytes. */
static void fill_file(int fd)
{
	cr_assert(ftruncate(fd, PAGE + BYTES) == 0);
	cr_assert(pwrite(fd, content, BYTES, PAGE) == BYTES);
}

static void begin(void)
{
	uint64_t seed = 42;

	ctx = open_context();
	expect_ok(ctx, impost_memory_create(ctx, &memory));
	for (uint32_t i = 0; i < BYTES; i++)
		content[i] = (uint8_t)random_number(&seed);
	file_fd = mkstemp(path);
	memfd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	sealed_fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fill_file(file_fd);
	fill_file(memfd);
	fill_file(sealed_fd);
	cr_assert(fcntl(sealed_fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
}

static void end(void)
{
	impost_memory_destroy(memory);
	cr_expect(impost_context_close(ctx) == 0);
	unlink(path);
}

/* A skipped test does not come to its end(). */
#define skip_test(why)             \
	do {                       \
		unlink(path);      \
		cr_skip_test(why); \
	} while (0)

TestSuite(memory_kinds, .init = begin, .fini = end);

/* --- all kinds --- */

#define RO     IMPOST_REGION_READONLY
#define SHARED IMPOST_REGION_SHARED
#define TRUST  IMPOST_REGION_TRUST_FILE
#define DIRECT IMPOST_REGION_IS_DIRECT
#define WRITES IMPOST_REGION_IS_WRITABLE

/* A region that is to work. */
struct sample {
	const char *name;
	uint32_t kind, flags;
	int *fd;	/* for FD */
	uint32_t state; /* that it has */
	bool content;	/* begins with that of the file */
};

static const struct sample samples[] = {
	{"anonymous", IMPOST_REGION_ANONYMOUS, 0, NULL, DIRECT | WRITES, false},
	{"memfd", IMPOST_REGION_MEMFD, 0, NULL, DIRECT | WRITES, false},
	{"file, private", IMPOST_REGION_FILE, 0, NULL, WRITES, true},
	{"file, shared", IMPOST_REGION_FILE, SHARED, NULL, WRITES, true},
	{"file, trusted", IMPOST_REGION_FILE, TRUST, NULL, DIRECT | WRITES, true},
	{"file, shared, trusted", IMPOST_REGION_FILE, SHARED | TRUST, NULL, DIRECT | WRITES, true},
	{"fd, private", IMPOST_REGION_FD, 0, &memfd, WRITES, true},
	{"fd, shared", IMPOST_REGION_FD, SHARED, &memfd, WRITES, true},
	{"fd of a file, shared", IMPOST_REGION_FD, SHARED, &file_fd, WRITES, true},
	{"sealed fd, private", IMPOST_REGION_FD, 0, &sealed_fd, DIRECT | WRITES, true},
	{"sealed fd, shared", IMPOST_REGION_FD, SHARED, &sealed_fd, DIRECT | WRITES, true},
};
#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

static struct impost_region region_of(const struct sample *sample, uint32_t more)
{
	struct impost_region region = {
		.size = sizeof(region),
		.kind = sample->kind,
		.gpa = GPA,
		.bytes = BYTES,
		.flags = sample->flags | more,
		.fd = sample->fd ? *sample->fd : -1,
		.fd_offset = sample->content ? PAGE : 0,
		.path = sample->kind == IMPOST_REGION_FILE ? path : NULL,
	};

	return region;
}

static struct impost_region added(const struct sample *sample, uint32_t more)
{
	struct impost_region region = region_of(sample, more), got = {.size = sizeof(got)};
	int err = impost_memory_add(memory, &region);

	cr_assert(err == 0, "%s: %s", sample->name, impost_error(ctx));
	expect_ok(ctx, impost_memory_get(memory, 0, &got));
	return got;
}

/* What get tells of what add was given. */
Test(memory_kinds, are_told)
{
	for (size_t i = 0; i < 2 * SAMPLES; i++) {
		const struct sample *sample = &samples[i / 2];
		uint32_t more = i % 2 ? RO : 0;
		struct impost_region got = added(sample, more);
		bool is_memfd = sample->kind == IMPOST_REGION_MEMFD;

		cr_expect(got.kind == sample->kind && got.gpa == GPA && got.bytes == BYTES);
		cr_expect(got.flags == (sample->flags | more | (is_memfd ? SHARED : 0)));
		cr_expect(got.state == sample->state, "%s: state %x", sample->name, got.state);
		cr_expect(got.page_bytes == PAGE && !got.path);
		cr_expect(got.numa_policy == 0 && got.numa_nodes == 0);
		cr_expect(got.fd_offset == (sample->content ? PAGE : 0));
		if (sample->kind == IMPOST_REGION_ANONYMOUS) {
			cr_expect(got.fd == -1);
		} else {
			cr_expect(fcntl(got.fd, F_GETFD) == FD_CLOEXEC);
			cr_expect(!sample->fd || got.fd != *sample->fd);
		}
		expect_ok(ctx, impost_memory_remove(memory, GPA));
	}
}

static void access_typed(struct impost_view *view, uint8_t *model, uint64_t *seed)
{
	uint32_t at = random_below(seed, BYTES - 8);
	uint64_t value = random_number(seed), got8;
	uint32_t got4;
	uint16_t got2;
	uint8_t got1;

	if (random_below(seed, 2)) /* aligned as often as not */
		at &= ~7u;
	switch (random_below(seed, 5)) {
	case 4:
		at &= ~7u;
		expect_ok(ctx, impost_view_atomic(view, GPA + at, 8, IMPOST_ATOMIC_EXCHANGE,
						  IMPOST_ORDER_SEQ_CST, value, &got8));
		cr_assert(memcmp(&got8, model + at, 8) == 0);
		memcpy(model + at, &value, 8);
		break;
	case 0:
		expect_ok(ctx, impost_view_read_u8(view, GPA + at, &got1));
		cr_assert(got1 == model[at]);
		expect_ok(ctx, impost_view_write_u8(view, GPA + at, (uint8_t)value));
		memcpy(model + at, &value, 1);
		break;
	case 1:
		expect_ok(ctx, impost_view_read_u16(view, GPA + at, &got2));
		cr_assert(memcmp(&got2, model + at, 2) == 0);
		expect_ok(ctx, impost_view_write_u16(view, GPA + at, (uint16_t)value));
		memcpy(model + at, &value, 2);
		break;
	case 2:
		expect_ok(ctx, impost_view_read_u32(view, GPA + at, &got4));
		cr_assert(memcmp(&got4, model + at, 4) == 0);
		expect_ok(ctx, impost_view_write_u32(view, GPA + at, (uint32_t)value));
		memcpy(model + at, &value, 4);
		break;
	default:
		expect_ok(ctx, impost_view_read_u64(view, GPA + at, &got8));
		cr_assert(memcmp(&got8, model + at, 8) == 0);
		expect_ok(ctx, impost_view_write_u64(view, GPA + at, value));
		memcpy(model + at, &value, 8);
	}
}

static void access_copy(uint8_t *model, uint64_t *seed)
{
	static uint8_t buf[BYTES];
	uint32_t at = random_below(seed, BYTES), bytes = random_below(seed, BYTES - at);

	switch (random_below(seed, 3)) {
	case 0:
		for (uint32_t i = 0; i < bytes; i += 31)
			buf[i] = (uint8_t)random_number(seed);
		expect_ok(ctx, impost_memory_write(memory, GPA + at, buf, bytes));
		memcpy(model + at, buf, bytes);
		break;
	case 1:
		expect_ok(ctx, impost_memory_fill(memory, GPA + at, (uint8_t)at, bytes));
		memset(model + at, (uint8_t)at, bytes);
		break;
	default:
		expect_ok(ctx, impost_memory_read(memory, GPA + at, buf, bytes));
		cr_assert(memcmp(buf, model + at, bytes) == 0);
	}
}

/* Random accesses to the region of SAMPLE; then what its file has. */
static void expect_like_model(const struct sample *sample, uint32_t more, uint64_t *seed)
{
	static uint8_t model[BYTES], got[BYTES];
	struct impost_region region = added(sample, more);
	struct impost_view view;

	memset(model, 0, BYTES);
	if (sample->content)
		memcpy(model, content, BYTES);
	expect_ok(ctx, impost_view_begin(memory, &view));
	for (int step = 0; step < 300; step++)
		if (step % 2)
			access_typed(&view, model, seed);
		else
			access_copy(model, seed);
	impost_view_end(&view);
	expect_ok(ctx, impost_memory_read(memory, GPA, got, BYTES));
	cr_expect(memcmp(got, model, BYTES) == 0, "%s", sample->name);
	if (region.fd >= 0) {
		bool shared = region.flags & SHARED;

		cr_assert(pread(region.fd, got, BYTES, (off_t)region.fd_offset) == BYTES);
		cr_expect(memcmp(got, shared ? model : content, BYTES) == 0, "%s: its file",
			  sample->name);
	}
	expect_ok(ctx, impost_memory_remove(memory, GPA));
	fill_file(file_fd);
	fill_file(memfd);
	fill_file(sealed_fd);
}

static void expect_all_like_model(void)
{
	uint64_t seed = 7;

	for (size_t i = 0; i < SAMPLES; i++) {
		expect_like_model(&samples[i], 0, &seed);
		expect_like_model(&samples[i], RO, &seed); /* the guest's: the host may write */
		expect_like_model(&samples[i], IMPOST_REGION_NORESERVE, &seed);
		expect_like_model(&samples[i], IMPOST_REGION_PREFAULT, &seed);
	}
}

Test(memory_kinds, behave_as_arrays_of_bytes)
{
	struct belongings before;

	expect_all_like_model();
	before = count_belongings();
	expect_all_like_model();
	expect_same_belongings(before);
}

/* --- in a sandbox --- */

/* From now on the calling thread's system calls CALL fail with ERR; those of madvise(2) only with
 * advice that is ADVICE or above. */
static void forbid(long call, uint32_t advice, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, call == SYS_madvise ? advice : 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	cr_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	cr_assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void forbid_kernel_copies(int err)
{
	forbid(SYS_process_vm_readv, 0, err);
	forbid(SYS_process_vm_writev, 0, err);
}

Test(memory_kinds, where_the_kernel_will_not_copy)
{
	forbid_kernel_copies(EPERM);
	expect_all_like_model();
}

/* Linux before 5.14 has no MADV_POPULATE_*. */
Test(memory_kinds, where_the_kernel_cannot_populate)
{
	forbid(SYS_madvise, MADV_POPULATE_READ, EINVAL);
	expect_all_like_model();
}

Test(memory_kinds, where_the_kernel_can_neither)
{
	struct impost_region region = region_of(&samples[1], IMPOST_REGION_PREFAULT);
	struct belongings before = count_belongings();

	forbid(SYS_madvise, MADV_POPULATE_READ, EINVAL);
	forbid_kernel_copies(EPERM);
	expect_error(ctx, impost_memory_add(memory, &region), -EPERM, "cannot be prefaulted");
	expect_same_belongings(before);
}

/* --- prefault --- */

static uint32_t resident(const struct impost_region *region)
{
	unsigned char there[PAGES];
	uint32_t count = 0;

	cr_assert(mincore(region->hva, region->bytes, there) == 0);
	for (uint32_t i = 0; i < PAGES; i++)
		count += there[i] & 1;
	return count;
}

static void expect_prefaulted(void)
{
	const struct sample *fresh[] = {&samples[0], &samples[1]};

	for (size_t i = 0; i < 2; i++) {
		struct impost_region got = added(fresh[i], 0);

		cr_expect(resident(&got) == 0, "%s", fresh[i]->name);
		expect_ok(ctx, impost_memory_remove(memory, GPA));
		got = added(fresh[i], IMPOST_REGION_PREFAULT);
		cr_expect(resident(&got) == PAGES, "%s", fresh[i]->name);
		expect_ok(ctx, impost_memory_remove(memory, GPA));
	}
}

Test(memory_kinds, prefault)
{
	expect_prefaulted();
	forbid(SYS_madvise, MADV_POPULATE_READ, EINVAL);
	expect_prefaulted();
}

/* --- files that become shorter --- */

/* The rest of a view's ways. */
static void expect_lost_in_view(struct impost_view *view, uint64_t gpa)
{
	uint64_t value = 5, length = 5;
	char text[8] = "untried";

	expect_error(ctx, impost_view_fill(view, gpa, 1, 64), -EIO, "lost memory");
	expect_error(ctx, impost_view_read_string(view, gpa, text, sizeof(text), &length), -EIO,
		     "lost memory");
	expect_error(ctx, impost_view_read_some(view, gpa, text, sizeof(text), &length), -EIO,
		     "lost memory");
	expect_error(ctx, impost_view_write_some(view, gpa, text, sizeof(text), &length), -EIO,
		     "lost memory");
	for (uint32_t op = IMPOST_ATOMIC_LOAD; op <= IMPOST_ATOMIC_XOR; op++)
		expect_error(ctx,
			     impost_view_atomic(view, gpa, 4, op, IMPOST_ORDER_RELAXED, 1, &value),
			     -EIO, "lost memory");
	expect_error(ctx,
		     impost_view_compare_exchange(view, gpa, 8, IMPOST_ORDER_SEQ_CST, 0, 1, &value),
		     -EIO, "lost memory");
	cr_expect(value == 5 && length == 5, "a failed call has touched its output");
}

/* Every way to reach memory at GPA + AT, which its file has no more. */
static void expect_lost(uint32_t at)
{
	uint8_t buf[64], before[64];
	struct impost_view view;
	uint64_t value = 5;
	void *hva = &value;

	memset(buf, 0x5a, sizeof(buf));
	memcpy(before, buf, sizeof(buf));
	expect_error(ctx, impost_memory_read(memory, GPA + at, buf, sizeof(buf)), -EIO,
		     "the region at 0x200000 has lost memory");
	expect_error(ctx, impost_memory_write(memory, GPA + at, buf, sizeof(buf)), -EIO,
		     "give it its length back, or remove the region");
	expect_error(ctx, impost_memory_fill(memory, GPA + at, 1, PAGE), -EIO, "lost memory");
	expect_error(ctx, impost_memory_ptr(memory, GPA + at, 1, &hva), -EIO, "lost memory");
	expect_error(ctx, impost_memory_load_fd(memory, GPA + at, sealed_fd, 0, PAGE, 0, NULL),
		     -EIO, "lost memory");
	expect_ok(ctx, impost_view_begin(memory, &view));
	expect_error(ctx, impost_view_read_u64(&view, GPA + at, &value), -EIO, "lost memory");
	expect_error(ctx, impost_view_write_u32(&view, GPA + at, 1), -EIO, "lost memory");
	expect_error(ctx, impost_view_read(&view, GPA + at, buf, sizeof(buf)), -EIO, "lost");
	expect_error(ctx, impost_memory_store_fd(memory, GPA + at, sealed_fd, 0, PAGE, 0, NULL),
		     -EIO, "lost memory");
	expect_lost_in_view(&view, GPA + at);
	impost_view_end(&view);
	cr_expect(value == 5 && hva == &value && memcmp(buf, before, sizeof(buf)) == 0,
		  "a failed call has touched its output");
}

/* A string at GPA that ends with what is there; behind it the memory is lost. */
static void expect_last_string(uint64_t gpa)
{
	struct impost_view view;
	char text[300] = "";
	uint64_t length = 0;

	expect_ok(ctx, impost_memory_write(memory, gpa, "last", 5));
	expect_ok(ctx, impost_view_begin(memory, &view));
	expect_ok(ctx, impost_view_read_string(&view, gpa, text, sizeof(text), &length));
	impost_view_end(&view);
	cr_expect(length == 4 && strcmp(text, "last") == 0);
}

static void expect_survives(const struct sample *sample)
{
	int fd = sample->fd ? *sample->fd : file_fd;
	uint8_t buf[2 * PAGE], zero[PAGE] = {0};
	uint64_t value;

	added(sample, 0);
	expect_ok(ctx, impost_memory_write(memory, GPA + 8, "before", 6));
	expect_ok(ctx, impost_memory_write(memory, GPA + BYTES - 64, "before", 6));
	cr_assert(ftruncate(fd, PAGE + BYTES / 2) == 0);
	expect_lost(BYTES / 2);
	expect_lost(BYTES - PAGE);
	/* All or nothing, also over the end of what is there. */
	expect_error(ctx, impost_memory_fill(memory, GPA + BYTES / 2 - PAGE, 0x77, 2 * PAGE), -EIO,
		     "lost memory");
	expect_ok(ctx, impost_memory_read(memory, GPA + BYTES / 2 - 8, &value, 8));
	cr_expect(memcmp(&value, content + BYTES / 2 - 8, 8) == 0);
	expect_last_string(GPA + BYTES / 2 - 5);
	expect_ok(ctx, impost_memory_read(memory, GPA + 8, buf, 6));
	cr_expect(memcmp(buf, "before", 6) == 0);
	cr_assert(ftruncate(fd, 0) == 0);
	expect_lost(0);
	/* With its length it is memory again. */
	cr_assert(ftruncate(fd, PAGE + BYTES) == 0);
	expect_ok(ctx, impost_memory_read(memory, GPA + BYTES - PAGE, buf, PAGE));
	cr_expect(memcmp(buf, zero, PAGE) == 0);
	expect_ok(ctx, impost_memory_remove(memory, GPA));
	fill_file(file_fd);
	fill_file(memfd);
}

static void expect_all_survive(void)
{
	int tried = 0;

	for (size_t i = 0; i < SAMPLES; i++)
		if (!(samples[i].state & DIRECT)) {
			expect_survives(&samples[i]);
			tried++;
		}
	cr_expect(tried == 5);
}

Test(memory_kinds, a_file_that_becomes_shorter)
{
	expect_all_survive();
}

Test(memory_kinds, a_file_that_becomes_shorter_in_a_sandbox)
{
	forbid_kernel_copies(ENOSYS);
	expect_all_survive();
	forbid(SYS_madvise, MADV_POPULATE_READ, EINVAL);
	expect_all_survive();
}

/* Another process is at it all the time: an error or the bytes, but no signal. */
Test(memory_kinds, a_file_that_changes_length_all_the_time)
{
	static uint8_t buf[BYTES];
	int lost = 0, there = 0;
	pid_t child;

	added(&samples[7], 0);
	child = fork();
	cr_assert(child >= 0);
	if (child == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	while (child == 0) {
		if (ftruncate(memfd, PAGE) || ftruncate(memfd, PAGE + BYTES))
			_exit(1);
		usleep(50);
	}
	for (int i = 0; i < 1000000 && (i < 2000 || !lost || !there); i++) {
		int err = i % 2 ? impost_memory_read(memory, GPA, buf, BYTES)
				: impost_memory_write(memory, GPA, buf, BYTES);

		cr_assert(err == 0 || err == -EIO, "%d: %s", err, impost_error(ctx));
		lost += err != 0;
		there += err == 0;
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	cr_expect(lost && there, "%d lost, %d there", lost, there);
}

/* Copies of BYTES at GPA, of which none may be a signal. */
static int read_bytes(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return view ? impost_memory_read(memory, gpa, buf, bytes) : -EINVAL;
}

static int write_bytes(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return view ? impost_memory_write(memory, gpa, buf, bytes) : -EINVAL;
}

static int fill_bytes(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return view ? impost_memory_fill(memory, gpa, *buf, bytes) : -EINVAL;
}

static int view_read(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return impost_view_read(view, gpa, buf, bytes);
}

static int view_write(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return impost_view_write(view, gpa, buf, bytes);
}

static int view_fill(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return impost_view_fill(view, gpa, *buf, bytes);
}

static int view_read_some(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return impost_view_read_some(view, gpa, buf, bytes, &(uint64_t){0});
}

static int view_write_some(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return impost_view_write_some(view, gpa, buf, bytes, &(uint64_t){0});
}

static int view_read_string(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	int err = impost_view_read_string(view, gpa, (char *)buf, bytes, &(uint64_t){0});

	return err == -EOVERFLOW ? 0 : err; /* all of it was read */
}

/* From a file that is no guest memory, and into one. */
static int load_bytes(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return view && buf ? impost_memory_load_fd(memory, gpa, sealed_fd, 0, bytes, 0, NULL)
			   : -EINVAL;
}

static int store_bytes(struct impost_view *view, uint64_t gpa, uint8_t *buf, uint64_t bytes)
{
	return view && buf ? impost_memory_store_fd(memory, gpa, sealed_fd, 0, bytes, 0, NULL)
			   : -EINVAL;
}

static int (*const copies[])(struct impost_view *view, uint64_t gpa, uint8_t *buf,
			     uint64_t bytes) = {
	read_bytes,	write_bytes,	 fill_bytes,	   view_read,  view_write,  view_fill,
	view_read_some, view_write_some, view_read_string, load_bytes, store_bytes,
};
#define COPIES (sizeof(copies) / sizeof(copies[0]))

/* Makes the file of a region shorter and longer until it is killed. */
static pid_t start_changing_length(int fd)
{
	pid_t child = fork();

	cr_assert(child >= 0);
	if (child == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	while (child == 0)
		if (ftruncate(fd, PAGE) || ftruncate(fd, PAGE + BYTES))
			_exit(1);
	return child;
}

/* COPY of each length from 1 to 16, the last bytes of a page and the first. */
static void copy_lengths(size_t copy, struct impost_view *view, uint32_t *lost, uint32_t *there)
{
	uint8_t buf[16] = {1, 2, 3};

	for (uint64_t bytes = 1; bytes <= sizeof(buf); bytes++)
		for (int first = 0; first < 2; first++) {
			uint64_t gpa = GPA + PAGE - (first ? 0 : bytes);
			int err = copies[copy](view, gpa, buf, bytes);

			cr_assert(err == 0 || err == -EIO, "copy %zu, %d: %s", copy, err,
				  impost_error(ctx));
			*lost += err != 0;
			*there += err == 0;
		}
}

/* All copies, LEAST times at least, in a region like SAMPLE, whose file is FD. */
static void copy_while_changing(const struct sample *sample, int fd, int least)
{
	pid_t child = start_changing_length(fd);
	struct impost_view view;

	expect_ok(ctx, impost_view_begin(memory, &view));
	for (size_t copy = 0; copy < COPIES; copy++) {
		uint32_t lost = 0, there = 0;

		for (int i = 0; i < 20000 && (i < least || !lost || !there); i++)
			copy_lengths(copy, &view, &lost, &there);
		cr_expect(lost && there, "%s, copy %zu: %u lost, %u there", sample->name, copy,
			  lost, there);
	}
	impost_view_end(&view);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	expect_ok(ctx, impost_memory_remove(memory, GPA));
}

/* A short copy is a copy: no length of it is a signal. */
Test(memory_kinds, short_copies_of_a_file_that_changes_length_all_the_time)
{
	static const struct {
		size_t sample;
		int *fd;
		int least;
	} rows[] = {
		{7, &memfd, 1000}, {6, &memfd, 100},  {8, &file_fd, 10},
		{3, &file_fd, 10}, {2, &file_fd, 10},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct sample *sample = &samples[rows[i].sample];

		fill_file(*rows[i].fd);
		added(sample, 0);
		copy_while_changing(sample, *rows[i].fd, rows[i].least);
	}
}

/* A disk that is full when a page is written first. */
Test(memory_kinds, a_file_for_which_there_is_no_space)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_FILE,
				       .flags = SHARED,
				       .bytes = 64 * PAGE,
				       .path = "/mnt/memory"};
	struct belongings before;
	int err = 0, fd;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/mnt", "tmpfs", 0, "size=128k"))
		skip_test("only root can mount a small file system");
	fd = open(region.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && ftruncate(fd, 64 * PAGE) == 0);
	before = count_belongings();
	region.flags |= IMPOST_REGION_PREFAULT;
	expect_error(ctx, impost_memory_add(memory, &region), -EIO, "no space");
	expect_same_belongings(before);
	cr_assert(ftruncate(fd, 0) == 0 && ftruncate(fd, 64 * PAGE) == 0);
	region.flags &= ~IMPOST_REGION_PREFAULT;
	expect_ok(ctx, impost_memory_add(memory, &region));
	for (uint64_t gpa = 0; !err && gpa < region.bytes; gpa += PAGE)
		err = impost_memory_fill(memory, gpa, 1, PAGE);
	cr_expect(err == -EIO && strstr(impost_error(ctx), "no space"), "%d %s", err,
		  impost_error(ctx));
	expect_error(ctx, impost_memory_write(memory, 63 * PAGE, &err, sizeof(err)), -EIO,
		     "no page for offset 258048 of /mnt/memory");
	close(fd);
}

Test(memory_kinds, a_memfd_cannot_become_shorter)
{
	struct impost_region got = added(&samples[1], 0);

	cr_expect(ftruncate(got.fd, 0) == -1 && errno == EPERM);
	cr_expect(ftruncate(got.fd, 2 * BYTES) == -1 && errno == EPERM);
	cr_expect(fcntl(got.fd, F_ADD_SEALS, F_SEAL_WRITE) == -1 && errno == EPERM);
}

/* --- memory that the host cannot write --- */

static void expect_read_only(void)
{
	struct impost_region got = {.size = sizeof(got)};
	uint8_t buf[16] = {0};
	struct impost_view view;
	uint64_t value;
	void *hva;

	expect_ok(ctx, impost_memory_get(memory, 0, &got));
	cr_expect(!(got.state & WRITES));
	expect_error(ctx, impost_memory_write(memory, GPA, buf, 1), -EACCES,
		     "the region at 0x200000 cannot be written, by the host neither");
	expect_error(ctx, impost_memory_fill(memory, GPA, 1, PAGE), -EACCES, "cannot be written");
	expect_error(ctx, impost_memory_load_fd(memory, GPA, memfd, 0, PAGE, 0, NULL), -EACCES,
		     "written");
	expect_ok(ctx, impost_view_begin(memory, &view));
	expect_ok(ctx, impost_view_read_u64(&view, GPA, &value));
	cr_expect(memcmp(&value, content, 8) == 0);
	expect_error(ctx, impost_view_write_u64(&view, GPA, 1), -EACCES, "cannot be written");
	expect_error(ctx, impost_view_write(&view, GPA, buf, 16), -EACCES, "cannot be written");
	expect_error(ctx,
		     impost_view_atomic(&view, GPA, 8, IMPOST_ATOMIC_ADD, IMPOST_ORDER_SEQ_CST, 1,
					&value),
		     -EACCES, "cannot be written");
	expect_ok(ctx, impost_view_atomic(&view, GPA, 8, IMPOST_ATOMIC_LOAD, IMPOST_ORDER_RELAXED,
					  0, &value));
	impost_view_end(&view);
	expect_ok(ctx, impost_memory_ptr(memory, GPA, PAGE, &hva));
	cr_expect(memcmp(hva, content, PAGE) == 0);
	expect_ok(ctx, impost_memory_remove(memory, GPA));
}

Test(memory_kinds, files_that_can_only_be_read)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const struct sample by_fd = {.kind = IMPOST_REGION_FD, .fd = &fd, .content = true},
			    by_path = {.kind = IMPOST_REGION_FILE, .content = true},
			    sealed = {.kind = IMPOST_REGION_FD, .fd = &sealed_fd, .content = true};
	struct impost_region region = region_of(&by_fd, SHARED);

	expect_error(ctx, impost_memory_add(memory, &region), -EACCES,
		     "open for reading only: a guest that is to write needs a private region");
	added(&by_fd, SHARED | RO);
	expect_read_only();
	added(&by_fd, SHARED | RO | TRUST);
	expect_read_only();
	cr_assert(fcntl(sealed_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
	added(&sealed, SHARED | RO);
	expect_read_only();
	region = region_of(&sealed, SHARED);
	expect_error(ctx, impost_memory_add(memory, &region), -EACCES, "sealed against writing");
	/* A private copy of it can be written. */
	added(&by_fd, 0);
	expect_ok(ctx, impost_memory_write(memory, GPA, "x", 1));
	expect_ok(ctx, impost_memory_remove(memory, GPA));
	close(fd);
	cr_assert(fchmod(file_fd, 0444) == 0);
	if (seteuid(65534))
		skip_test("only root can be another user, who may not write");
	region = region_of(&by_path, SHARED);
	expect_error(ctx, impost_memory_add(memory, &region), -EACCES, "opened for writing");
	cr_assert(seteuid(0) == 0 && fchown(file_fd, 65534, 65534) == 0 && seteuid(65534) == 0);
	added(&by_path, SHARED | RO);
	expect_read_only();
	cr_assert(seteuid(0) == 0);
}

/* --- what is refused --- */

static int closed_fd = 12345, write_only, place, folder, pipe_end;

static const struct {
	struct impost_region region;
	int *fd;
	int err;
	const char *words;
} wrong[] = {
#define R .size = sizeof(struct impost_region), .gpa = GPA
#define F R, .kind = IMPOST_REGION_FILE
#define D R, .kind = IMPOST_REGION_FD
#define M R, .kind = IMPOST_REGION_MEMFD
	{{R, .kind = 6}, NULL, -EINVAL, "kind 6"},
	{{R, .flags = 32}, NULL, -EINVAL, "flags 0x20"},
	{{R, .reserved2 = 3}, NULL, -EINVAL, "reserved2 is 3"},
	{{R, .flags = TRUST},
	 NULL,
	 -EINVAL,
	 "anonymous memory cannot have the flag IMPOST_REGION_T"},
	{{R, .flags = SHARED},
	 NULL,
	 -EINVAL,
	 "anonymous memory cannot have the flag IMPOST_REGION_S"},
	{{R, .path = "/tmp"}, NULL, -EINVAL, "anonymous memory cannot have path"},
	{{M, .fd_offset = PAGE}, NULL, -EINVAL, "a memfd cannot have fd_offset"},
	{{M, .flags = TRUST},
	 NULL,
	 -EINVAL,
	 "a memfd cannot have the flag IMPOST_REGION_TRUST_FILE"},
	{{R, .kind = IMPOST_REGION_POINTER, .hva = content, .flags = SHARED},
	 NULL,
	 -EINVAL,
	 "the host's own memory cannot have the flag IMPOST_REGION_SHARED"},
	{{R, .kind = IMPOST_REGION_POINTER, .page_bytes = IMPOST_PAGE_2M},
	 NULL,
	 -EINVAL,
	 "cannot have page_bytes"},
	{{R, .kind = IMPOST_REGION_POINTER}, NULL, -EINVAL, "not NULL"},
	{{R, .kind = IMPOST_REGION_POINTER, .hva = (void *)1}, NULL, -EINVAL, "page-aligned"},
#define P(at)                                                                                    \
	{                                                                                        \
		{R, .kind = IMPOST_REGION_POINTER, .hva = (void *)(at)}, NULL, -EINVAL, "beyond" \
	}
	P(UINT64_MAX - PAGE + 1),	    /* wraps around */
	P(UINT64_MAX - BYTES + 1),	    /* ends with the last byte */
	P(UINT64_C(0xffff800000000000)),    /* the kernel's, with 4 levels of page tables, */
	P(UINT64_C(0xff00000000000000)),    /* with 5 */
	P(UINT64_C(0x0100000000000000)),    /* not canonical with either */
	P((UINT64_C(1) << 56) - BYTES / 2), /* the end is not */
#undef P
	{{R, .kind = IMPOST_REGION_BACKEND, .flags = IMPOST_REGION_PREFAULT},
	 NULL,
	 -EINVAL,
	 "the backend's memory cannot have the flag IMPOST_REGION_PREFAULT"},
	{{R, .kind = IMPOST_REGION_BACKEND, .numa_policy = 2, .numa_nodes = 1},
	 NULL,
	 -EINVAL,
	 "cannot have a NUMA policy"},
	{{F}, NULL, -EINVAL, "has no path"},
	{{F, .path = ""}, NULL, -ENOENT, "cannot be opened"},
	{{F, .path = "/nowhere/at/all"}, NULL, -ENOENT, "/nowhere/at/all: cannot be opened"},
	{{F, .path = "/tmp"}, NULL, -EISDIR, "/tmp is a folder"},
	{{F, .path = "/tmp", .flags = SHARED}, NULL, -EISDIR, "/tmp: cannot be opened for writing"},
	{{F, .path = "/dev/null"}, NULL, -EINVAL, "/dev/null is no regular file"},
	{{F, .path = path, .fd_offset = 2 * PAGE},
	 NULL,
	 -ENODATA,
	 "is 69632 bytes long, too short: the region begins at offset 8192 and has 65536 bytes"},
	{{F, .path = path, .fd_offset = INT64_MAX - (PAGE - 1)}, NULL, -EINVAL, "below 2^63"},
	{{F, .path = path, .fd_offset = 512}, NULL, -EINVAL, "from file offset 512: it must be a"},
	{{F, .path = path, .page_bytes = IMPOST_PAGE_2M},
	 NULL,
	 -EINVAL,
	 "its length 0x10000 must be a multiple"},
	{{F, .path = path, .page_bytes = 8192}, NULL, -EINVAL, "pages of 8192 bytes"},
	{{F, .path = path, .flags = SHARED, .numa_policy = 2, .numa_nodes = UINT64_C(1) << 63},
	 NULL,
	 -EINVAL,
	 "NUMA nodes 63: this process may have memory of the host's nodes 0"},
	{{D}, &closed_fd, -EBADF, "descriptor 12345"},
	{{D, .fd = -1}, NULL, -EBADF, "descriptor -1"},
	{{D}, &write_only, -EACCES, "is open for writing only"},
	{{D}, &place, -EBADF, "a mere place (O_PATH)"},
	{{D}, &folder, -EISDIR, "/tmp is a folder"},
	{{D}, &pipe_end, -EINVAL, "is no regular file"},
	{{D, .bytes = 2 * BYTES}, &memfd, -ENODATA, "/memfd:test (deleted) is 69632 bytes long"},
	{{D, .fd_offset = 0x100000}, &memfd, -ENODATA, "too short"},
	{{R, .numa_policy = 4, .numa_nodes = 1}, NULL, -EINVAL, "NUMA policy 4"},
	{{R, .numa_nodes = 1}, NULL, -EINVAL, "and no policy"},
	{{R, .numa_policy = IMPOST_NUMA_BIND}, NULL, -EINVAL, "and no nodes"},
	{{R, .numa_policy = IMPOST_NUMA_PREFERRED, .numa_nodes = 3}, NULL, -EINVAL, "only one"},
	{{M, .numa_policy = IMPOST_NUMA_BIND, .numa_nodes = UINT64_C(1) << 63},
	 NULL,
	 -EINVAL,
	 "NUMA nodes 63"},
	{{R, .page_bytes = 4097}, NULL, -EINVAL, "there are 4 KiB, 2 MiB and 1 GiB"},
	{{R, .page_bytes = IMPOST_PAGE_2M}, NULL, -EINVAL, "2 MiB: its length 0x10000"},
	{{M, .page_bytes = IMPOST_PAGE_1G}, NULL, -EINVAL, "1024 MiB: its address 0x200000"},
	{{M, .bytes = UINT64_C(1) << 46}, NULL, -ENOMEM, "more than the host gives"},
#undef R
#undef F
#undef D
#undef M
};

Test(memory_kinds, what_cannot_be)
{
	struct belongings before;
	int ends[2];

	write_only = open(path, O_WRONLY | O_CLOEXEC);
	place = open(path, O_PATH | O_CLOEXEC);
	folder = open("/tmp", O_RDONLY | O_CLOEXEC);
	cr_assert(pipe2(ends, O_CLOEXEC) == 0);
	pipe_end = ends[0];
	before = count_belongings();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct impost_region region = wrong[i].region;

		if (!region.bytes)
			region.bytes = BYTES;
		if (wrong[i].fd)
			region.fd = *wrong[i].fd;
		expect_error(ctx, impost_memory_add(memory, &region), wrong[i].err, wrong[i].words);
	}
	expect_same_belongings(before);
	cr_expect(impost_memory_get(memory, 0, &(struct impost_region){.size = 40}) == -ENOENT);
}

/* Everything that opens or maps, where the process can have no more of that. */
Test(memory_kinds, limits_of_the_process)
{
	const struct rlimit length = {BYTES / 2, BYTES / 2};
	struct rlimit files;
	struct impost_region region = region_of(&samples[1], 0);
	struct belongings before = count_belongings();

	cr_assert(setrlimit(RLIMIT_FSIZE, &length) == 0);
	expect_error(ctx, impost_memory_add(memory, &region), -EFBIG, "RLIMIT_FSIZE");
	expect_same_belongings(before);
	cr_assert(getrlimit(RLIMIT_NOFILE, &files) == 0);
	cr_assert(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, files.rlim_max}) == 0);
	region.bytes = PAGE;
	expect_error(ctx, impost_memory_add(memory, &region), -EMFILE, "cannot make a memfd");
	region = region_of(&samples[3], 0);
	expect_error(ctx, impost_memory_add(memory, &region), -EMFILE, "cannot be opened");
	region = region_of(&samples[7], 0);
	expect_error(ctx, impost_memory_add(memory, &region), -EMFILE, "descriptor ");
	setrlimit(RLIMIT_NOFILE, &files); /* LeakSanitizer opens files at the end */
}

/* Each system call that a region is made of fails in its turn, and nothing stays behind. */
Test(memory_kinds, system_calls_that_fail)
{
	static const struct {
		long call;
		uint32_t flags;
		uint32_t sample;
	} rows[] = {
		{SYS_memfd_create, 0, 1},
		{SYS_ftruncate, 0, 1},
		{SYS_mmap, 0, 1},
		{SYS_mbind, 0, 1},
		{SYS_madvise, IMPOST_REGION_PREFAULT, 1},
		{SYS_fstatfs, 0, 7},
		{SYS_mmap, 0, 3},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_region region = region_of(&samples[rows[i].sample], rows[i].flags);
		struct belongings before;
		pid_t child;
		int status;

		if (rows[i].call == SYS_mbind) {
			region.numa_policy = IMPOST_NUMA_BIND;
			region.numa_nodes = 1;
		}
		/* A thread that has a filter keeps it: each row has a process. */
		child = fork();
		cr_assert(child >= 0);
		if (child == 0) {
			struct impost_context *own = open_context();
			struct impost_memory *map;

			expect_ok(own, impost_memory_create(own, &map));
			before = count_belongings();
			forbid(rows[i].call, 0, EPERM);
			_exit(impost_memory_add(map, &region) != -EPERM ||
			      count_entries("/proc/self/fd") != before.fds);
		}
		cr_assert(waitpid(child, &status, 0) == child);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "row %zu", i);
	}
}

/* --- huge pages --- */

static unsigned free_huge_pages(const char *kib)
{
	char name[96];
	unsigned count = 0;
	FILE *file;

	snprintf(name, sizeof(name), "/sys/kernel/mm/hugepages/hugepages-%skB/free_hugepages", kib);
	file = fopen(name, "re");
	if (file && fscanf(file, "%u", &count) != 1)
		count = 0;
	if (file)
		fclose(file);
	return count;
}

static void expect_huge(uint32_t kind, uint64_t page)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = kind,
				       .gpa = page,
				       .bytes = page,
				       .page_bytes = page};
	uint64_t value = 42, got = 0;

	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_memory_get(memory, 0, &region));
	cr_expect(region.page_bytes == page && (uintptr_t)region.hva % page == 0);
	cr_expect(region.state == (DIRECT | WRITES));
	expect_ok(ctx, impost_memory_write(memory, 2 * page - 8, &value, 8));
	expect_ok(ctx, impost_memory_read(memory, 2 * page - 8, &got, 8));
	cr_expect(got == 42);
	expect_ok(ctx, impost_memory_remove(memory, page));
}

/* A hugetlb file that is given: its pages are told, other ones refused, and it may become shorter.
 */
static void expect_given_huge(void)
{
	const uint64_t page = IMPOST_PAGE_2M;
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_FD,
				       .flags = SHARED,
				       .gpa = page,
				       .bytes = page};
	uint64_t value = 42;

	region.fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | (21 << 26));
	cr_assert(region.fd >= 0 && ftruncate(region.fd, (off_t)page) == 0);
	region.page_bytes = IMPOST_PAGE_SIZE;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL,
		     "has pages of 2048 KiB, not of 4 KiB");
	region.page_bytes = 0;
	region.gpa = PAGE;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "its address 0x1000 must");
	region.gpa = page;
	for (uint32_t flags = 0; flags <= SHARED; flags += SHARED) {
		region.flags = flags;
		expect_ok(ctx, impost_memory_add(memory, &region));
		close(region.fd);
		expect_ok(ctx, impost_memory_get(memory, 0, &region));
		cr_expect(region.page_bytes == page && region.state == WRITES);
		expect_ok(ctx, impost_memory_write(memory, 2 * page - 64, &value, 8));
		expect_ok(ctx, impost_memory_fill(memory, page, 3, page / 2));
		region.fd = dup(region.fd);
		cr_assert(ftruncate(region.fd, 0) == 0);
		expect_error(ctx, impost_memory_read(memory, page, &value, 3), -EIO, "lost memory");
		expect_error(ctx, impost_memory_read(memory, page, &value, 8), -EIO, "lost memory");
		cr_assert(ftruncate(region.fd, (off_t)page) == 0);
		expect_ok(ctx, impost_memory_remove(memory, page));
	}
	close(region.fd);
}

static void expect_no_huge(uint32_t kind, uint32_t flags, uint64_t page)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = kind,
				       .flags = flags,
				       .bytes = page << 10,
				       .page_bytes = page};
	struct belongings before = count_belongings();

	expect_error(ctx, impost_memory_add(memory, &region), -ENOMEM,
		     page == IMPOST_PAGE_2M ? "hugepages-2048kB/nr_hugepages"
					    : "hugepages-1048576kB/nr_hugepages");
	expect_same_belongings(before);
}

Test(memory_kinds, huge_pages)
{
	if (!free_huge_pages("2048"))
		skip_test("the host has no free huge pages of 2 MiB");
	expect_huge(IMPOST_REGION_ANONYMOUS, IMPOST_PAGE_2M);
	expect_huge(IMPOST_REGION_MEMFD, IMPOST_PAGE_2M);
	expect_given_huge();
}

Test(memory_kinds, gigantic_pages)
{
	if (!free_huge_pages("1048576"))
		skip_test("the host has no free huge pages of 1 GiB");
	expect_huge(IMPOST_REGION_ANONYMOUS, IMPOST_PAGE_1G);
	expect_huge(IMPOST_REGION_MEMFD, IMPOST_PAGE_1G);
}

/* 1024 of them are more than any host that runs this has free. */
Test(memory_kinds, more_huge_pages_than_there_are)
{
	const uint32_t flags[] = {0, IMPOST_REGION_NORESERVE, IMPOST_REGION_PREFAULT};

	if (access("/sys/kernel/mm/hugepages/hugepages-1048576kB", F_OK) ||
	    free_huge_pages("2048") >= 1024)
		skip_test("the host has no pages of 1 GiB, or very many of 2 MiB");
	for (size_t i = 0; i < 3; i++) {
		expect_no_huge(IMPOST_REGION_ANONYMOUS, flags[i], IMPOST_PAGE_2M);
		expect_no_huge(IMPOST_REGION_MEMFD, flags[i], IMPOST_PAGE_2M);
		expect_no_huge(IMPOST_REGION_ANONYMOUS, flags[i], IMPOST_PAGE_1G);
		expect_no_huge(IMPOST_REGION_MEMFD, flags[i], IMPOST_PAGE_1G);
	}
}

/* --- NUMA --- */

/* The policy of the mapping at HVA, as the kernel tells it in numa_maps. */
static void policy_at(const void *hva, char policy[64])
{
	char line[512];
	FILE *file = fopen("/proc/self/numa_maps", "re");
	unsigned long long at;

	policy[0] = '\0';
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%llx %63s", &at, policy) == 2 && at == (uintptr_t)hva)
			break;
	if (file)
		fclose(file);
}

Test(memory_kinds, numa_nodes)
{
	static const char *const names[] = {"default", "prefer:0", "bind:0", "interleave:0"};
	char policy[64];

	if (access("/proc/self/numa_maps", R_OK))
		skip_test("the host's kernel knows no NUMA");
	for (uint32_t i = 0; i < 4; i++) {
		struct impost_region region = region_of(&samples[i % 2], 0);

		region.numa_policy = i;
		region.numa_nodes = i ? 1 : 0;
		expect_ok(ctx, impost_memory_add(memory, &region));
		expect_ok(ctx, impost_memory_get(memory, 0, &region));
		cr_expect(region.numa_policy == i && region.numa_nodes == (i ? 1 : 0));
		policy_at(region.hva, policy);
		cr_expect_str_eq(policy, names[i]);
		expect_ok(ctx, impost_memory_remove(memory, GPA));
	}
}

/* --- the configuration --- */

Test(memory_kinds, as_the_configuration_says)
{
	struct impost_region region = {.size = sizeof(region), .gpa = 77};
	const struct {
		const char *key, *value;
	} rows[] = {
		{"backing", "file"},	    {"path", path},
		{"shared", "yes"},	    {"pages", "2M"},
		{"prefault", "on"},	    {"numa_policy", "interleave"},
		{"numa_nodes", "0-2,5,63"},
	};

	expect_ok(ctx, impost_region_fill(ctx, &region));
	cr_expect(region.size == sizeof(region) && region.kind == IMPOST_REGION_ANONYMOUS);
	cr_expect(!region.flags && !region.page_bytes && !region.path && !region.numa_nodes);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		expect_ok(ctx, impost_context_set(ctx, "memory", rows[i].key, rows[i].value));
		if (i == 0)
			expect_error(ctx, impost_region_fill(ctx, &region), -EINVAL, "which file");
	}
	expect_ok(ctx, impost_region_fill(ctx, &region));
	cr_expect(region.kind == IMPOST_REGION_FILE && strcmp(region.path, path) == 0);
	cr_expect(region.flags == (SHARED | IMPOST_REGION_PREFAULT));
	cr_expect(region.page_bytes == IMPOST_PAGE_2M);
	cr_expect(region.numa_policy == IMPOST_NUMA_INTERLEAVE);
	cr_expect(region.numa_nodes == (UINT64_C(0x27) | UINT64_C(1) << 63));
	/* Texts say nodes as they were said. */
	region.gpa = 0;
	region.bytes = IMPOST_PAGE_2M;
	region.numa_policy = IMPOST_NUMA_PREFERRED;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "nodes 0-2,5,63:");
	region.size = 40;
	expect_error(ctx, impost_region_fill(ctx, &region), -EINVAL, "size 40");
}

Test(memory_kinds, what_the_configuration_cannot_say)
{
	static const char *const lists[] = {"",
					    "x",
					    "1,",
					    ",1",
					    "2-1",
					    "64",
					    "0-64",
					    "1 2",
					    "-1",
					    "1-",
					    "1--2",
					    "0,,1",
					    "99999999999999999999"};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		expect_error(ctx, impost_context_set(ctx, "memory", "numa_nodes", lists[i]),
			     -IMPOST_ECONFIG, "must be NUMA nodes, 0 to 63");
	expect_error(ctx, impost_context_set(ctx, "memory", "backing", "gold"), -IMPOST_ECONFIG,
		     "must be one of anonymous|memfd|file");
	expect_error(ctx, impost_context_set(ctx, "memory", "pages", "3M"), -IMPOST_ECONFIG,
		     "must be one of 4K|2M|1G");
	expect_error(ctx, impost_context_set(ctx, "memory", "prefault", "maybe"), -IMPOST_ECONFIG,
		     "must be yes, no");
}

/* RAM has a hole; the file has none. */
Test(memory_kinds, ram_of_a_file)
{
	const uint64_t low = IMPOST_X86_HOLE_START, high = 16 * PAGE;
	struct impost_region got = {.size = sizeof(got)};
	char byte = 0;

	expect_ok(ctx, impost_context_set(ctx, "memory", "backing", "file"));
	expect_ok(ctx, impost_context_set(ctx, "memory", "path", path));
	expect_ok(ctx, impost_context_set(ctx, "memory", "shared", "yes"));
	cr_assert(ftruncate(file_fd, (off_t)(low + high - 1)) == 0);
	expect_error(ctx, impost_x86_add_ram(memory, low + high), -ENODATA, "too short");
	cr_expect(impost_memory_get(memory, 0, &got) == -ENOENT);
	cr_assert(ftruncate(file_fd, (off_t)(low + high)) == 0);
	expect_ok(ctx, impost_x86_add_ram(memory, low + high));
	expect_ok(ctx, impost_memory_get(memory, 1, &got));
	cr_expect(got.gpa == IMPOST_X86_HOLE_END && got.fd_offset == low);
	expect_ok(ctx, impost_memory_write(memory, IMPOST_X86_HOLE_END + 5, "x", 1));
	cr_expect(pread(file_fd, &byte, 1, (off_t)low + 5) == 1 && byte == 'x');
}

/* --- a caller and a backend --- */

/* A host that was built before the struct grew: what lies behind its struct is not read. */
Test(memory_kinds, the_first_length_of_the_struct)
{
	struct impost_region region = {.size = 40,
				       .gpa = GPA,
				       .bytes = BYTES,
				       .page_bytes = 77,
				       .fd = 9999,
				       .numa_policy = 99,
				       .numa_nodes = 99,
				       .path = "/nowhere",
				       .reserved2 = 1};

	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_memory_get(memory, 0, &region));
	cr_expect(region.hva && region.gpa == GPA && region.page_bytes == 77 && region.fd == 9999);
}

/* A host that is newer: what the library does not know is refused, unless it asks for nothing. */
Test(memory_kinds, a_later_length_of_the_struct)
{
	struct {
		struct impost_region region;
		uint8_t later[24];
	} longer = {.region = {.size = sizeof(longer), .gpa = GPA, .bytes = BYTES}};
	struct {
		struct impost_dirty_config config;
		uint8_t later[8];
	} config = {.config = {.size = sizeof(config)}, .later = {[7] = 1}};
	struct impost_dirty *dirty;

	for (size_t i = 0; i < sizeof(longer.later); i++) {
		longer.later[i] = 0x80;
		expect_error(ctx, impost_memory_add(memory, &longer.region), -E2BIG,
			     "struct impost_region asks for something that this version of the "
			     "library does not know");
		cr_expect(impost_memory_get(memory, 0, &longer.region) == -ENOENT);
		longer.later[i] = 0;
	}
	expect_ok(ctx, impost_memory_add(memory, &longer.region));
	longer.later[3] = 1;
	expect_ok(ctx, impost_memory_get(memory, 0, &longer.region));
	cr_expect(longer.later[3] == 0 && longer.region.bytes == BYTES);
	expect_error(ctx, impost_dirty_create(memory, &config.config, &dirty), -E2BIG,
		     "struct impost_dirty_config asks for");
	config.later[7] = 0;
	expect_ok(ctx, impost_dirty_create(memory, &config.config, &dirty));
	impost_dirty_destroy(dirty);
}

Test(memory_kinds, slots_have_the_file)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,mem-readonly,irqchip-none", &fake);
	struct impost_memory *map = impost_vm_memory(vm);

	for (size_t i = 0; i < SAMPLES; i++) {
		struct impost_region region = region_of(&samples[i], 0);
		struct impost_region got = {.size = sizeof(got)};
		bool file, shared;

		expect_ok(ctx, impost_memory_add(map, &region));
		expect_ok(ctx, impost_memory_get(map, 0, &got));
		file = got.kind != IMPOST_REGION_ANONYMOUS;
		shared = got.flags & SHARED;
		cr_expect(fake->slot[0].hva == got.hva && fake->slot[0].bytes == BYTES);
		cr_expect(fake->slot[0].fd == (file && shared ? got.fd : -1), "%s",
			  samples[i].name);
		cr_expect(fake->slot[0].fd_offset == (file && shared ? got.fd_offset : 0));
		expect_ok(ctx, impost_memory_remove(map, GPA));
	}
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* Where the hypervisor allocates, nothing is asked for that it would not do. */
Test(memory_kinds, a_backend_that_allocates)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-backend,mem-rom-drop,irqchip-none", &fake);
	struct impost_memory *map = impost_vm_memory(vm);
	const struct {
		struct impost_region region;
		const char *words;
	} rows[] = {
		{{.flags = IMPOST_REGION_PREFAULT}, "it cannot be prefaulted"},
		{{.page_bytes = IMPOST_PAGE_2M}, "it cannot be of huge pages"},
		{{.numa_policy = IMPOST_NUMA_BIND, .numa_nodes = 1}, "placed on NUMA nodes"},
		{{.kind = IMPOST_REGION_MEMFD}, "mem-host"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct impost_region region = rows[i].region;

		region.size = sizeof(region);
		region.bytes = IMPOST_PAGE_2M;
		expect_error(ctx, impost_memory_add(map, &region), -ENOTSUP, rows[i].words);
	}
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* The mapping of a file that the backend refuses goes, and so does its descriptor. */
Test(memory_kinds, a_backend_that_refuses)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,mem-readonly,irqchip-none", &fake);
	struct belongings before = count_belongings();

	fake->fail_op = "mem_add";
	fake->fail_with = -EIO;
	for (size_t i = 0; i < SAMPLES; i++) {
		struct impost_region region = region_of(&samples[i], 0);

		expect_error(ctx, impost_memory_add(impost_vm_memory(vm), &region), -EIO,
			     "mem_add failed");
	}
	expect_same_belongings(before);
	cr_expect(impost_vm_destroy(vm) == 0);
}
