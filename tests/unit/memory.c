/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: against a model, at its borders, and as slots of a backend. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "own_map.h"

#define PAGE IMPOST_PAGE_SIZE

TestSuite(memory, .init = begin, .fini = end);

static int add(struct impost_memory *to, uint64_t gpa, uint64_t bytes)
{
	struct impost_region region = {.size = sizeof(region), .gpa = gpa, .bytes = bytes};

	return impost_memory_add(to, &region);
}

Test(memory, regions_are_checked)
{
	struct impost_region region = {.size = sizeof(region), .bytes = PAGE};

	expect_error(ctx, add(memory, 0, 0), -EINVAL, "a region of 0 bytes");
	expect_error(ctx, add(memory, 0, 3), -EINVAL, "a region of 3 bytes");
	expect_error(ctx, add(memory, 1, PAGE), -EINVAL, "a region at 0x1");
	expect_error(ctx, add(memory, UINT64_MAX - PAGE + 1, 2 * PAGE), -EINVAL, "beyond");
	region.size = 8;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "size 8");
	region.size = sizeof(region);
	region.kind = 77;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "kind 77");
	region.kind = IMPOST_REGION_ANONYMOUS;
	region.flags = 1u << 31;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "flags 0x80000000");
	region.flags = 0;
	region.reserved = 1;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "reserved is 1");
	region.reserved = 0;
	region.kind = IMPOST_REGION_POINTER;
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "not NULL");
	region.hva = (void *)(uintptr_t)(PAGE + 1);
	expect_error(ctx, impost_memory_add(memory, &region), -EINVAL, "page-aligned");
	region.kind = IMPOST_REGION_BACKEND;
	expect_error(ctx, impost_memory_add(memory, &region), -ENOTSUP, "needs a VM");
	expect_error(ctx, impost_memory_get(memory, 0, &region), -ENOENT, "0 regions");
	expect_error(ctx, impost_memory_remove(memory, 0), -ENOENT, "no region starts at 0x0");
}

Test(memory, a_region_of_another_release)
{
	LONGER(struct impost_region)
	region = {.known = {.size = sizeof(region.known) + 8, .gpa = 0x1000, .bytes = PAGE}};

	region.later = MARK;
	expect_error(ctx, impost_memory_add(memory, &region.known), -E2BIG, "does not know");
	region.later = 0;
	expect_ok(ctx, impost_memory_add(memory, &region.known));
	expect_fills(ctx, region, impost_memory_get(memory, 0, &region.known));
	cr_expect(region.known.gpa == 0x1000 && region.known.bytes == PAGE && region.known.hva);
}

Test(memory, the_last_page_of_the_address_space)
{
	uint64_t gpa = UINT64_MAX - PAGE + 1;
	uint8_t byte = 7, got;

	expect_ok(ctx, add(memory, gpa, PAGE));
	expect_ok(ctx, impost_memory_write(memory, UINT64_MAX, &byte, 1));
	expect_ok(ctx, impost_memory_read(memory, UINT64_MAX, &got, 1));
	cr_expect(got == 7);
	/* What would wrap to 0 is not memory, even if there is some at 0. */
	expect_ok(ctx, add(memory, 0, PAGE));
	expect_error(ctx, impost_memory_read(memory, UINT64_MAX, (uint8_t[2]){0}, 2), -EFAULT,
		     "there is no memory at 0x0");
	expect_error(ctx, impost_memory_fill(memory, PAGE - 1, 0, UINT64_MAX), -EFAULT,
		     "there is no memory at 0x1000");
}

Test(memory, overlaps_name_both)
{
	expect_ok(ctx, add(memory, 0x10000, 0x4000));
	expect_error(ctx, add(memory, 0x13000, 0x2000), -EEXIST,
		     "0x13000-0x14fff overlaps the one that is there, 0x10000-0x13fff");
	expect_error(ctx, add(memory, 0xf000, 0x2000), -EEXIST, "overlaps");
	expect_error(ctx, add(memory, 0, 0x100000), -EEXIST, "overlaps");
	expect_error(ctx, add(memory, 0x11000, 0x1000), -EEXIST, "overlaps");
	expect_ok(ctx, add(memory, 0xf000, 0x1000));
	expect_ok(ctx, add(memory, 0x14000, 0x1000));
}

Test(memory, more_than_the_host_has)
{
	struct belongings before = count_belongings();

	expect_error(ctx, add(memory, 0, UINT64_C(1) << 46), -ENOMEM,
		     "67108864 MiB of guest memory: more than the host gives");
	expect_error(ctx, add(memory, 0, UINT64_C(1) << 62), -ENOMEM, "more than the host gives");
	expect_same_belongings(before);
}

/* Regions count together: each alone would fit. */
Test(memory, more_than_the_host_in_pieces)
{
	struct sysinfo info;
	uint64_t most, text_mib;
	char text[64];

	cr_assert_eq(sysinfo(&info), 0);
	most = (info.totalram + info.totalswap) * info.mem_unit / IMPOST_PAGE_SIZE *
	       IMPOST_PAGE_SIZE;
	expect_ok(ctx, add(memory, 0, 64 << 20));
	text_mib = (most + (64 << 20)) >> 20;
	snprintf(text, sizeof(text), "%llu MiB of guest memory", (unsigned long long)text_mib);
	expect_error(ctx, add(memory, UINT64_C(1) << 40, most), -ENOMEM, text);
	expect_ok(ctx, impost_memory_remove(memory, 0));
}

/* A limit of the process is no lack of the host's. */
Test(memory, address_space_of_the_process)
{
	const struct rlimit limit = {.rlim_cur = UINT64_C(8) << 30, .rlim_max = UINT64_C(8) << 30};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
	cr_skip_test("the address sanitizer's shadow is above any limit");
#endif
#endif
	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	expect_error(ctx, add(memory, 0, UINT64_C(9) << 30), -ENOMEM,
		     "lets this process have 8192 MiB");
}

/* Not asked for up front, a terabyte is only addresses. */
Test(memory, noreserve)
{
	struct impost_region region = {.size = sizeof(region),
				       .bytes = UINT64_C(1) << 40,
				       .flags = IMPOST_REGION_NORESERVE};
	uint64_t value = 42;

	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, impost_memory_write(memory, (UINT64_C(1) << 40) - 8, &value, 8));
}

/* Without this the hypervisor could use no huge pages for it. */
Test(memory, addresses_agree_modulo_2_MiB)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint64_t gpa = i * (UINT64_C(64) << 20) + (i % 5) * PAGE;
		void *hva;

		expect_ok(ctx, add(memory, gpa, UINT64_C(4) << 20));
		expect_ok(ctx, impost_memory_ptr(memory, gpa, 1, &hva));
		cr_expect(((uintptr_t)hva - gpa) % (2 << 20) == 0);
	}
}

static void add_and_remove_many(void)
{
	for (uint32_t i = 0; i < 20; i++)
		expect_ok(ctx, add(memory, i * (UINT64_C(8) << 20),
				   (1 + i % 3) * (PAGE + (uint64_t)(i & 1) * (2 << 20))));
	for (uint32_t i = 0; i < 20; i++)
		expect_ok(ctx, impost_memory_remove(memory, i * (UINT64_C(8) << 20)));
}

Test(memory, nothing_is_left_mapped)
{
	struct belongings before;

	add_and_remove_many(); /* the allocator has what it needs */
	before = count_belongings();
	add_and_remove_many();
	expect_same_belongings(before);
}

Test(memory, pointers)
{
	void *own =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .gpa = 0x10000,
				       .bytes = 4 * PAGE,
				       .hva = own};
	struct impost_region got = {.size = sizeof(got)};
	void *hva = &region;

	expect_ok(ctx, impost_memory_add(memory, &region));
	expect_ok(ctx, add(memory, 0x10000 + 4 * PAGE, PAGE));
	expect_ok(ctx, impost_memory_get(memory, 0, &got));
	cr_expect(got.kind == region.kind && got.gpa == region.gpa && got.bytes == region.bytes);
	cr_expect(got.hva == own && got.flags == 0 && got.fd == -1);
	cr_expect(got.state == (IMPOST_REGION_IS_WRITABLE | IMPOST_REGION_IS_DIRECT));
	expect_ok(ctx, impost_memory_ptr(memory, 0x10010, 4 * PAGE - 0x10, &hva));
	cr_expect(hva == (char *)own + 0x10);
	hva = &region;
	expect_error(ctx, impost_memory_ptr(memory, 0x10000, 4 * PAGE + 1, &hva), -EFAULT,
		     "not within one region");
	expect_error(ctx, impost_memory_ptr(memory, 0xffff, 1, &hva), -EFAULT, "0xffff");
	expect_error(ctx, impost_memory_ptr(memory, 0x10000, 0, &hva), -EFAULT, "0 bytes");
	expect_error(ctx, impost_memory_ptr(memory, 0x10001, UINT64_MAX, &hva), -EFAULT, "bytes");
	cr_expect(hva == &region, "the output of a failed call was touched");
	expect_ok(ctx, impost_memory_remove(memory, 0x10000));
	cr_expect(munmap(own, 4 * PAGE) == 0); /* it was ours, and still is */
}

Test(memory, files)
{
	char name[] = "/tmp/impost-memory-XXXXXX", text[3 * PAGE], got[3 * PAGE];
	int fd = mkstemp(name);

	unlink(name);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7 % 251);
	cr_assert(write(fd, text, sizeof(text)) == sizeof(text));
	expect_ok(ctx, add(memory, 0x1000, PAGE));
	expect_ok(ctx, add(memory, 0x2000, 2 * PAGE)); /* the load crosses the border */
	expect_ok(ctx, impost_memory_load_fd(memory, 0x1010, fd, 5, 2 * PAGE, 0, NULL));
	expect_ok(ctx, impost_memory_read(memory, 0x1010, got, 2 * PAGE));
	cr_expect(memcmp(got, text + 5, 2 * PAGE) == 0);
	expect_ok(ctx, impost_memory_load_fd(memory, 0x1000, fd, 0, 0, 0, NULL));
	expect_error(ctx, impost_memory_load_fd(memory, 0x1000, fd, PAGE, 2 * PAGE + 1, 0, NULL),
		     -ENODATA, "the file ends at 12288, 1 bytes too early");
	expect_error(ctx, impost_memory_load_fd(memory, 0x1000, fd, 0, 4 * PAGE, 0, NULL), -EFAULT,
		     "0x4000");
	expect_error(ctx, impost_memory_load_fd(memory, 0x1000, fd, UINT64_MAX - 1, 1, 0, NULL),
		     -EINVAL, "no file is that long");
	close(fd);
	expect_error(ctx, impost_memory_load_fd(memory, 0x1000, fd, 0, 1, 0, NULL), -EBADF,
		     "cannot read");
}

/* --- against a model --- */

#define PAGES 64

/* The model: every byte of a small address space, and which pages are memory. */
struct model {
	uint8_t byte[PAGES * PAGE];
	uint32_t region[PAGES]; /* 0: none, else the region's number */
};

static uint32_t draw(uint64_t *seed, uint32_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33) % below;
}

static bool all_memory(const struct model *model, uint32_t at, uint32_t bytes)
{
	for (uint32_t i = at; i < at + bytes; i++)
		if (i >= PAGES * PAGE || !model->region[i / PAGE])
			return false;
	return true;
}

static void add_or_remove(struct model *model, uint64_t *seed, uint32_t number)
{
	uint32_t first = draw(seed, PAGES), count = 1 + draw(seed, 8);
	bool free = first + count <= PAGES;
	int err;

	if (model->region[first]) {
		bool starts = first == 0 || model->region[first - 1] != model->region[first];
		uint32_t old = model->region[first];

		err = impost_memory_remove(memory, first * PAGE);
		cr_assert(err == (starts ? 0 : -ENOENT));
		for (uint32_t i = first; !err && i < PAGES && model->region[i] == old; i++)
			model->region[i] = 0;
		return;
	}
	for (uint32_t i = first; i < first + count && i < PAGES; i++)
		free = free && !model->region[i];
	if (first + count > PAGES)
		return;
	err = add(memory, first * PAGE, count * PAGE);
	cr_assert(err == (free ? 0 : -EEXIST), "%d: %s", err, impost_error(ctx));
	for (uint32_t i = first; free && i < first + count; i++) {
		model->region[i] = number;
		memset(model->byte + i * PAGE, 0, PAGE);
	}
}

static void access_memory(struct model *model, uint64_t *seed)
{
	static uint8_t buf[PAGES * PAGE], before[PAGES * PAGE];
	uint32_t at = draw(seed, PAGES * PAGE), bytes = draw(seed, 5 * PAGE);
	int wanted = all_memory(model, at, bytes) ? 0 : -EFAULT;
	uint8_t byte = (uint8_t)draw(seed, 256);
	void *hva;

	switch (draw(seed, 4)) {
	case 0:
		memset(buf, byte, bytes);
		for (uint32_t i = 0; i < bytes; i += 97)
			buf[i] = (uint8_t)i;
		cr_assert(impost_memory_write(memory, at, buf, bytes) == wanted);
		if (!wanted)
			memcpy(model->byte + at, buf, bytes);
		break;
	case 1:
		cr_assert(impost_memory_fill(memory, at, byte, bytes) == wanted);
		if (!wanted)
			memset(model->byte + at, byte, bytes);
		break;
	case 2:
		memset(buf, byte, bytes);
		memcpy(before, buf, bytes);
		cr_assert(impost_memory_read(memory, at, buf, bytes) == wanted);
		cr_assert(memcmp(buf, wanted ? before : model->byte + at, bytes) == 0);
		break;
	default:
		if (wanted || bytes == 0 ||
		    model->region[at / PAGE] != model->region[(at + bytes - 1) / PAGE])
			wanted = -EFAULT;
		cr_assert(impost_memory_ptr(memory, at, bytes, &hva) == wanted);
		if (!wanted)
			cr_assert(memcmp(hva, model->byte + at, bytes) == 0);
	}
}

static void compare_regions(const struct model *model)
{
	struct impost_region region = {.size = sizeof(region)};
	uint32_t index = 0, i = 0;

	while (i < PAGES) {
		uint32_t first = i;

		for (i++; i < PAGES && model->region[i] == model->region[first];)
			i++;
		if (!model->region[first])
			continue;
		cr_assert(impost_memory_get(memory, index++, &region) == 0);
		cr_assert(region.gpa == first * PAGE && region.bytes == (i - first) * PAGE);
	}
	cr_assert(impost_memory_get(memory, index, &region) == -ENOENT);
}

/* No bytes are at any address, and of no buffer. */
Test(memory, no_bytes)
{
	expect_ok(ctx, add(memory, PAGE, PAGE));
	for (uint64_t gpa = 0; gpa <= 2 * PAGE; gpa += PAGE) {
		expect_ok(ctx, impost_memory_read(memory, gpa, NULL, 0));
		expect_ok(ctx, impost_memory_write(memory, gpa, NULL, 0));
		expect_ok(ctx, impost_memory_fill(memory, gpa, 1, 0));
	}
}

Test(memory, behaves_as_an_array_of_bytes)
{
	struct model *model = calloc(1, sizeof(*model));
	uint64_t seed = 0x1234;

	for (uint32_t step = 1; step < 4000; step++) {
		if (step % 4 == 0)
			add_or_remove(model, &seed, step);
		else
			access_memory(model, &seed);
		if (step % 64 == 0)
			compare_regions(model);
	}
	free(model);
}

/* --- readers while regions come --- */

static atomic_bool stop;

static void *read_on(void *arg)
{
	uint64_t wrong = 0, value;

	while (!stop) {
		if (impost_memory_read(memory, 0, &value, sizeof(value)) || value != 42)
			wrong++;
		if (impost_memory_read(memory, UINT64_C(1) << 40, &value, sizeof(value)) != -EFAULT)
			wrong++;
	}
	return wrong ? arg : NULL;
}

Test(memory, readers_need_not_wait)
{
	pthread_t thread[2];
	uint64_t value = 42;
	void *wrong;

	expect_ok(ctx, add(memory, 0, PAGE));
	expect_ok(ctx, impost_memory_write(memory, 0, &value, sizeof(value)));
	for (int i = 0; i < 2; i++)
		cr_assert(pthread_create(&thread[i], NULL, read_on, &stop) == 0);
	for (uint64_t i = 200; i > 0; i--)
		expect_ok(ctx, add(memory, i * 2 * PAGE, PAGE));
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], &wrong);
		cr_expect(!wrong);
	}
}

/* --- slots of a backend --- */

#define PLAIN "mem-host,mem-readonly,irqchip-none"

Test(memory, regions_are_slots)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, PLAIN, &fake);
	struct impost_memory *map = impost_vm_memory(vm);
	struct impost_region region = {.size = sizeof(region),
				       .gpa = 0x100000,
				       .bytes = PAGE,
				       .flags = IMPOST_REGION_READONLY};
	void *hva;

	cr_expect(impost_memory_context(map) == ctx);
	expect_ok(ctx, add(map, 0, 16 * PAGE));
	expect_ok(ctx, impost_memory_add(map, &region));
	cr_expect(fake->slot[0].gpa == 0 && fake->slot[0].bytes == 16 * PAGE);
	cr_expect(fake->slot[0].fd == -1 && fake->slot[0].size == sizeof(struct impost_slot));
	expect_ok(ctx, impost_memory_ptr(map, 0, 1, &hva));
	cr_expect(fake->slot[0].hva == hva && fake->slot[0].flags == 0);
	cr_expect(fake->slot[1].flags == IMPOST_SLOT_READONLY);
	expect_ok(ctx, impost_memory_remove(map, 0));
	cr_expect(fake->slot[0].bytes == 0 && fake->slot[1].bytes == PAGE);
	expect_ok(ctx, add(map, 0, PAGE)); /* its number is free again */
	cr_expect(fake->slot[0].bytes == PAGE);
	cr_expect(fake->host->mem_lookup(fake->host->ctx, 0x100010, 16, &hva) == 0);
	cr_expect(hva == (char *)fake->slot[1].hva + 16);
	cr_expect(fake->host->mem_lookup(fake->host->ctx, 0x100ff8, 16, &hva) == -EFAULT);
	impost_memory_destroy(map); /* a VM's map is not destroyed so */
	for (uint64_t i = 2; i < 8; i++)
		expect_ok(ctx, add(map, i << 24, PAGE));
	expect_error(ctx, add(map, 8 << 24, PAGE), -ENOSPC, "8 memory slots: all taken");
	expect_error(ctx, add(map, UINT64_C(1) << 40, PAGE), -EINVAL, "address space");
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(memory, a_backend_that_refuses_changes_nothing)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, PLAIN, &fake);
	struct impost_memory *map = impost_vm_memory(vm);
	struct impost_region region = {.size = sizeof(region)};
	struct belongings before;

	expect_ok(ctx, add(map, 0, PAGE));
	before = count_belongings();
	fake->fail_op = "mem_add";
	fake->fail_with = -EIO;
	expect_error(ctx, add(map, 0x10000, 64 * PAGE), -EIO, "backend fake: mem_add failed: EIO");
	fake->fail_text = "slots are on strike";
	expect_error(ctx, add(map, 0x10000, 64 * PAGE), -EIO, "slots are on strike");
	fake->fail_op = "mem_remove";
	fake->fail_with = 7;
	fake->fail_text = NULL;
	expect_error(ctx, impost_memory_remove(map, 0), -EIO, "returned 7, which is no result");
	expect_same_belongings(before);
	expect_ok(ctx, impost_memory_get(map, 0, &region));
	cr_expect(impost_memory_get(map, 1, &region) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(memory, what_a_backend_cannot_do)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,irqchip-none", &fake);
	struct impost_region region = {.size = sizeof(region), .bytes = PAGE};

	region.flags = IMPOST_REGION_READONLY;
	expect_error(ctx, impost_memory_add(impost_vm_memory(vm), &region), -ENOTSUP,
		     "mem-readonly");
	region.flags = 0;
	region.kind = IMPOST_REGION_BACKEND;
	expect_error(ctx, impost_memory_add(impost_vm_memory(vm), &region), -ENOTSUP,
		     "mem-backend");
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* A hypervisor that allocates guest memory, wants to hear of writes, and moves memory (Xen). */
Test(memory, memory_of_the_backend)
{
	struct fake *fake;
	struct impost_vm *vm =
		make_vm(ctx, "mem-backend,mem-moves,mark-dirty,mem-rom-drop,irqchip-none", &fake);
	struct impost_memory *map = impost_vm_memory(vm);
	struct impost_region region = {.size = sizeof(region)};
	uint8_t own[2 * PAGE] __attribute__((aligned(4096)));
	uint32_t value = 5, got;

	expect_ok(ctx, add(map, 0, PAGE));
	expect_ok(ctx, add(map, PAGE, PAGE));
	expect_ok(ctx, impost_memory_get(map, 0, &region));
	cr_expect(region.kind == IMPOST_REGION_BACKEND && region.hva == fake->slot[0].hva);
	expect_ok(ctx, impost_memory_write(map, PAGE - 2, &value, sizeof(value)));
	cr_expect(fake->dirty_calls == 1 && fake->dirty_gpa == PAGE - 2 && fake->dirty_bytes == 4);
	expect_ok(ctx, impost_memory_fill(map, 8, 1, 16));
	cr_expect(fake->dirty_calls == 2 && fake->dirty_gpa == 8 && fake->dirty_bytes == 16);
	expect_ok(ctx, impost_memory_read(map, PAGE - 2, &got, sizeof(got)));
	cr_expect(got == value && fake->dirty_calls == 2);
	expect_ok(ctx, impost_memory_write(map, 0, &value, 0));
	cr_expect(fake->dirty_calls == 2);

	/* Slot 0 moves while slot 1 is being removed. */
	memset(own, 0x77, sizeof(own));
	fake->move_to = own;
	expect_ok(ctx, impost_memory_remove(map, PAGE));
	expect_ok(ctx, impost_memory_read(map, 0, &got, sizeof(got)));
	cr_expect(got == 0x77777777);
	cr_expect(fake->host->mem_moved(fake->host->ctx, 5, own) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
}
