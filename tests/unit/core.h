/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the core share: a context, and a VM of the fake backend (tests/plugin). */
#ifndef TESTS_UNIT_CORE_H
#define TESTS_UNIT_CORE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include <impost/impost.h>

#include "../plugin/fake.h"

/* The last call on CTX failed with ERR and a text in which WORDS occur. */
#define expect_error(ctx, call, err, words)                                                        \
	do {                                                                                       \
		int err_ = (call);                                                                 \
		cr_expect(err_ == (err), "%s returned %d (%s)", #call, err_, impost_error(ctx));   \
		cr_expect(strstr(impost_error(ctx), words), "'%s' has no '%s'", impost_error(ctx), \
			  words);                                                                  \
	} while (0)

#define expect_ok(ctx, call)                                                                 \
	do {                                                                                 \
		int err_ = (call);                                                           \
		cr_assert(err_ == 0, "%s returned %d (%s)", #call, err_, impost_error(ctx)); \
	} while (0)

static inline struct impost_context *open_context(void)
{
	struct impost_context *ctx;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", FAKE_DIR));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", "fake"));
	return ctx;
}

/* A VM of the fake backend with CAPS, capabilities' names separated by commas. */
static inline struct impost_vm *make_vm(struct impost_context *ctx, const char *caps,
					struct fake **ret_fake)
{
	const void *table;
	struct impost_vm *vm;
	void *handle;

	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "caps", caps));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	expect_ok(ctx, impost_vm_extension(vm, FAKE_CONTROL, &table, &handle));
	*ret_fake = handle;
	return vm;
}

/*
 * A struct of TYPE as a host of another release may have it: one that is longer, and what lies
 * behind it in the host's memory.
 */
#define LONGER(type)              \
	struct {                  \
		type known;       \
		uint64_t later;   \
		uint64_t foreign; \
	}
#define MARK UINT64_C(0x6d61726b6d61726b)

/* Filled by CALL, a longer struct has its later part zeroed, and nothing beyond its size written.
 */
#define expect_fills(ctx, longer, call)                                       \
	do {                                                                  \
		(longer).later = (longer).foreign = MARK;                     \
		(longer).known.size = sizeof((longer).known);                 \
		expect_ok(ctx, call);                                         \
		cr_expect((longer).later == MARK &&                           \
			  (longer).known.size == sizeof((longer).known));     \
		(longer).known.size += 8;                                     \
		expect_ok(ctx, call);                                         \
		cr_expect((longer).later == 0 && (longer).foreign == MARK);   \
		cr_expect((longer).known.size == sizeof((longer).known) + 8); \
		(longer).known.size = 8;                                      \
		expect_error(ctx, call, -EINVAL, "has size 8");               \
		(longer).known.size = sizeof((longer).known) + 8;             \
	} while (0)

/* Entries of folder PATH. */
static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static inline size_t count_lines(const char *path)
{
	FILE *file = fopen(path, "re");
	size_t lines = 0;
	int c;

	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

/* What a process can leave behind: open descriptors and mappings. */
struct belongings {
	size_t fds, maps;
};

static inline struct belongings count_belongings(void)
{
	return (struct belongings){count_entries("/proc/self/fd"), count_lines("/proc/self/maps")};
}

static inline void expect_same_belongings(struct belongings before)
{
	struct belongings now = count_belongings();

	cr_expect(now.fds == before.fds, "%zu descriptors became %zu", before.fds, now.fds);
	cr_expect(now.maps == before.maps, "%zu mappings became %zu", before.maps, now.maps);
}

#endif
