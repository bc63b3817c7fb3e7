/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is handed over as descriptors: what may be, and what a hostile descriptor does. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "migrate_pair.h"

#define LONG_MS 60000u

static struct pair_setup local_setup(uint32_t kind, uint32_t flags)
{
	return (struct pair_setup){
		.cpus = 2,
		.kind = kind,
		.flags = flags,
		.source = {.flags = IMPOST_MIGRATION_LOCAL, .silence_ms = LONG_MS},
		.destination = {.silence_ms = LONG_MS},
	};
}

static struct impost_region region_of(struct impost_vm *vm, uint32_t index)
{
	struct impost_region region = {.size = sizeof(region)};

	cr_assert(impost_memory_get(impost_vm_memory(vm), index, &region) == 0);
	return region;
}

/* Both are open on the same file. */
static void expect_same_file(int a, int b)
{
	struct stat x, y;

	cr_assert(fstat(a, &x) == 0 && fstat(b, &y) == 0);
	cr_expect(x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* --- what is moved --- */

Test(migrate_local, memory_is_not_copied)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);
	struct impost_migration_status status = {.size = sizeof(status)};
	struct pair pair;

	pair_open(&pair, &setup);
	pair_start_guests(&pair);
	pair_migrate(&pair);
	cr_assert(pair.sent == 0 && pair.received == 0, "%s; %s", pair.sent_text,
		  pair.received_text);
	cr_expect(pair_judge(&pair) == PAIR_MOVED);
	for (uint32_t i = 0; i < 2; i++) {
		struct impost_region from = region_of(pair.vm, i), to = region_of(pair.arrived, i);

		expect_same_file(from.fd, to.fd);
		cr_expect(to.kind == IMPOST_REGION_FD && to.state & IMPOST_REGION_IS_DIRECT);
		cr_expect((to.flags & IMPOST_REGION_READONLY) ==
			  (from.flags & IMPOST_REGION_READONLY));
	}
	cr_assert(impost_migration_status(pair.sending, &status) == 0);
	cr_expect(status.data_bytes == 0 && status.zero_bytes == 0 && status.left_bytes == 0);
	cr_expect(status.guest_bytes == PAIR_BYTES + PAIR_ROM_BYTES);
	pair_close(&pair);
}

/* What has arrived is the next source, and the VM that it came from is to be forgotten. */
static void turn_round(struct pair *pair)
{
	struct impost_context *ctx = pair->source_ctx;
	struct impost_vm *vm = pair->vm;

	pair->source_ctx = pair->destination_ctx;
	pair->destination_ctx = ctx;
	pair->vm = pair->arrived;
	pair->arrived = vm;
	for (uint32_t i = 0; i < pair->setup.cpus; i++)
		pair->cpu[i] = impost_vm_vcpu(pair->vm, i);
}

Test(migrate_local, to_and_fro)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, IMPOST_REGION_PREFAULT);
	struct pair pair;

	pair_open(&pair, &setup);
	for (unsigned times = 0; times < 20; times++) {
		pair_write_page(pair.vm, times * PAIR_PAGE, times);
		pair_migrate(&pair);
		cr_assert(pair.sent == 0 && pair.received == 0, "%s; %s", pair.sent_text,
			  pair.received_text);
		cr_assert(pair_judge(&pair) == PAIR_MOVED);
		turn_round(&pair);
		pair_forget(&pair);
	}
	pair_close(&pair);
}

Test(migrate_local, huge_pages)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);
	struct impost_region huge = {
		.size = sizeof(huge),
		.kind = IMPOST_REGION_MEMFD,
		.gpa = UINT64_C(1) << 32,
		.bytes = IMPOST_PAGE_2M,
		.page_bytes = IMPOST_PAGE_2M,
		.flags = IMPOST_REGION_PREFAULT,
	};
	struct pair pair;
	int err;

	pair_open(&pair, &setup);
	err = impost_memory_add(impost_vm_memory(pair.vm), &huge);
	if (err) {
		pair_close(&pair);
		cr_skip_test("no huge pages here: %s", strerror(-err));
	}
	pair_write_page(pair.vm, huge.gpa + PAIR_PAGE, 7);
	pair_migrate(&pair);
	cr_assert(pair_judge(&pair) == PAIR_MOVED, "%s; %s", pair.sent_text, pair.received_text);
	cr_expect(region_of(pair.arrived, 2).page_bytes == IMPOST_PAGE_2M);
	pair_expect_same_memory(pair.vm, pair.arrived, huge.gpa, 4 * PAIR_PAGE);
	pair_close(&pair);
}

/* Behind something else in a file that nothing keeps from becoming shorter. */
Test(migrate_local, a_shared_file)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);
	char path[] = "/dev/shm/impost-local-XXXXXX";
	int fd = mkstemp(path);
	struct pair pair;
	struct impost_region file = {
		.size = sizeof(file),
		.kind = IMPOST_REGION_FD,
		.gpa = UINT64_C(1) << 32,
		.bytes = 4 * PAIR_PAGE,
		.fd = fd,
		.fd_offset = 3 * PAIR_PAGE,
		.flags = IMPOST_REGION_SHARED,
	};

	cr_assert(fd >= 0 && ftruncate(fd, 7 * PAIR_PAGE) == 0 && unlink(path) == 0);
	pair_open(&pair, &setup);
	expect_ok(pair.source_ctx, impost_memory_add(impost_vm_memory(pair.vm), &file));
	pair_write_page(pair.vm, file.gpa + 2 * PAIR_PAGE, 7);
	pair_migrate(&pair);
	cr_assert(pair_judge(&pair) == PAIR_MOVED);
	pair_expect_same_memory(pair.vm, pair.arrived, file.gpa, file.bytes);
	cr_expect(region_of(pair.arrived, 2).fd_offset == file.fd_offset);
	cr_expect(!(region_of(pair.arrived, 2).state & IMPOST_REGION_IS_DIRECT));
	pair_close(&pair);
	close(fd);
}

/* --- what is not, and stays --- */

static void expect_stays(struct pair *pair, int sent, const char *words)
{
	cr_expect(pair->sent == sent, "%d: %s", pair->sent, pair->sent_text);
	cr_expect(strstr(pair->sent_text, words), "'%s' has no '%s'", pair->sent_text, words);
	cr_expect(pair_judge(pair) == PAIR_STAYED);
}

static void expect_not_handed(const struct pair_setup *setup, const char *words)
{
	struct pair pair;

	pair_open(&pair, setup);
	pair_begin(&pair);
	pair_send(&pair);
	shutdown(pair.fds[0], SHUT_RDWR);
	pair_end(&pair);
	expect_stays(&pair, -ENOTSUP, words);
	pair_close(&pair);
}

Test(migrate_local, anonymous_memory)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_ANONYMOUS, 0);

	expect_not_handed(&setup, "0x0 is anonymous memory");
	expect_not_handed(&setup, "[memory] backing = memfd");
}

Test(migrate_local, no_unix_socket)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);

	setup.wire = pair_wire_tcp;
	expect_not_handed(&setup, "UNIX socket");
	setup.wire = pair_wire_functions;
	expect_not_handed(&setup, "UNIX socket");
}

Test(migrate_local, a_region_of_the_hosts)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);
	static uint8_t own[PAIR_PAGE] __attribute__((aligned(PAIR_PAGE)));
	struct impost_region region = {
		.size = sizeof(region),
		.kind = IMPOST_REGION_POINTER,
		.gpa = UINT64_C(1) << 32,
		.bytes = sizeof(own),
		.hva = own,
	};
	struct pair pair;

	pair_open(&pair, &setup);
	expect_ok(pair.source_ctx, impost_memory_add(impost_vm_memory(pair.vm), &region));
	pair_begin(&pair);
	pair_send(&pair);
	shutdown(pair.fds[0], SHUT_RDWR);
	pair_end(&pair);
	expect_stays(&pair, -ENOTSUP, "0x100000000");
	pair_close(&pair);
}

/* A destination that fails has not written memory, which both have. */
static void expect_untouched(int fails_save, int fails_load)
{
	struct pair_setup setup = local_setup(IMPOST_REGION_MEMFD, 0);
	static uint8_t before[PAIR_BYTES], after[PAIR_BYTES];
	struct pair pair;

	pair_open(&pair, &setup);
	expect_ok(pair.source_ctx,
		  impost_memory_read(impost_vm_memory(pair.vm), 0, before, sizeof(before)));
	pair.device.save_fails = fails_save;
	pair.arrived_device.load_fails = fails_load;
	pair_migrate(&pair);
	cr_assert(pair.sent != 0);
	pair.device.save_fails = 0;
	cr_expect(pair_judge(&pair) == PAIR_STAYED);
	expect_ok(pair.source_ctx,
		  impost_memory_read(impost_vm_memory(pair.vm), 0, after, sizeof(after)));
	cr_expect(memcmp(before, after, sizeof(before)) == 0);
	pair_forget(&pair);
	pair_migrate(&pair); /* and it can go, after all */
	cr_expect(pair_judge(&pair) == PAIR_MOVED);
	pair_close(&pair);
}

Test(migrate_local, a_failure_leaves_memory)
{
	expect_untouched(-EIO, 0);
	expect_untouched(0, -ENODEV);
}
