/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds bytes to the reader of cassettes, and to a whole replay on the mock by a host that makes a
 * few calls: whatever the file says, both end, with a text where they fail.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../backends/mock/mock.h"

#include "cassette_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

/* --- the reader alone --- */

static int take_piece(void *opaque, uint64_t gpa, const void *data, uint64_t len)
{
	uint64_t *sum = opaque;

	/* Each byte is touched. */
	for (uint64_t i = 0; data && i < len; i++)
		*sum += ((const uint8_t *)data)[i];
	*sum += gpa;
	return 0;
}

static int take_host(void *opaque, const char *section, const char *key, const char *text)
{
	(void)opaque;
	CHECK(section && key && text);
	return 0;
}

static void read_all(const char *path)
{
	const struct cassette_item *item;
	struct cassette_reader *reader;
	char why[256] = "", shown[256];
	uint64_t sum = 0;
	int err = cassette_reader_open(path, &reader, why, sizeof(why));

	if (err) {
		CHECK(why[0]);
		return;
	}
	cassette_read_host(path, take_host, NULL, why, sizeof(why));
	while (!(err = cassette_reader_peek(reader, &item)) && item->kind != CASSETTE_END &&
	       item->kind != CASSETTE_CUT) {
		if (item->kind == CASSETTE_CALL) {
			cassette_show(item->args, shown, sizeof(shown));
			cassette_difference(item->args, item->results, shown, sizeof(shown));
			if (cassette_reader_memory(reader, take_piece, &sum))
				break;
		}
		cassette_reader_next(reader);
	}
	CHECK(!err || cassette_reader_why(reader)[0]);
	cassette_reader_close(reader);
}

/* --- a replay --- */

static char text[1024]; /* the host's error text */

static void keep_error(void *ctx, const char *what)
{
	(void)ctx;
	snprintf(text, sizeof(text), "%s", what);
}

static void no_log(void *ctx, uint32_t level, const char *what)
{
	(void)ctx;
	(void)level;
	CHECK(what);
}

static const struct impost_host host = {
	.size = sizeof(host),
	.log = no_log,
	.error = keep_error,
};

/* ERR, which has a text if it is one. */
static int32_t judged(int32_t err)
{
	CHECK(err <= 0);
	CHECK(!err || text[0]);
	return err;
}

static void run(const struct impost_vcpu_ops *ops, void *vcpu)
{
	struct impost_exit exit;

	for (uint32_t i = 0; i < 2 * SESSION_RUNS; i++) {
		if (i == 5)
			ops->kick(vcpu);
		if (judged(ops->run(vcpu, &exit)))
			return;
		CHECK(exit.kind < IMPOST_EXIT_KINDS && exit.kind != IMPOST_EXIT_NONE);
		if (exit.kind == IMPOST_EXIT_SHUTDOWN)
			return;
		if (i == 3)
			judged(ops->complete(vcpu, &exit));
	}
}

static void read_state(const struct impost_vcpu_ops *ops, void *vcpu)
{
	struct impost_x86_msr msr = {.index = 0x10};
	struct impost_x86_cpuid entries[4];
	struct impost_x86_regs regs;
	uint32_t count = 0;
	uint64_t gpa;

	if (!judged(ops->state_get(vcpu, IMPOST_SECTION_REGS, &regs, sizeof(regs), &count)))
		CHECK(count <= sizeof(regs));
	if (!judged(ops->msrs_get(vcpu, &msr, 1, &count)))
		CHECK(count <= 1);
	judged(ops->translate(vcpu, 0x1234, &gpa));
	if (!judged(ops->cpuid_get(vcpu, entries, 4, &count)))
		CHECK(count <= 4);
}

static void play(void *backend, void *ram)
{
	const struct impost_backend_ops *ops = &impost_mock_ops;
	struct impost_vm_args args = session_vm;
	struct impost_slot slot = session_slot(ram);
	void *vm, *vcpu;

	args.host = &host;
	if (judged(ops->vm_create(backend, &args, &vm)))
		return;
	if (!judged(ops->vm->mem_add(vm, &slot)) && !judged(ops->vm->vcpu_create(vm, 0, &vcpu))) {
		run(ops->vcpu, vcpu);
		read_state(ops->vcpu, vcpu);
		ops->vcpu->destroy(vcpu);
	}
	ops->vm->destroy(vm);
}

static void replay(const char *path)
{
	const struct impost_option options[] = {{"cassette", path, "fuzz"},
						{"cassette_wait", "1", "fuzz"}};
	const struct impost_open_args args = {
		.size = sizeof(args), .noptions = 2, .options = options, .host = &host};
	void *backend, *ram;

	text[0] = '\0';
	if (judged(impost_mock_ops.open(&args, &backend)))
		return;
	ram = mmap(NULL, SESSION_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(ram != MAP_FAILED);
	play(backend, ram);
	munmap(ram, SESSION_RAM);
	impost_mock_ops.close(backend);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	int fd = memfd_create("cassette", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_all(path);
	replay(path);
	close(fd);
	return 0;
}
