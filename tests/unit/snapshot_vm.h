/* SPDX-License-Identifier: Apache-2.0 */
/* A mock VM whose memory can be told from another's, and a folder to save it in. */
#ifndef TESTS_UNIT_SNAPSHOT_VM_H
#define TESTS_UNIT_SNAPSHOT_VM_H

#include "mock.h"

#include "core.h"

#define PAGE IMPOST_PAGE_SIZE
/* Memory above this is patterned; below are page tables and code. */
#define PATTERN UINT64_C(0x20000)

static char folder[] = "/tmp/impost-snapshot-XXXXXX";

static inline void folder_begin(void)
{
	cr_assert(mkdtemp(folder) && chdir(folder) == 0, "%m");
}

static inline void folder_end(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_expect(system(command) == 0);
}

/* Names in the folder. */
static inline size_t count_names(void)
{
	return count_entries(".") - 2;
}

/* Page NUMBER's content in a memory made with SEED; every third page is zero. */
static inline void pattern_page(uint64_t number, uint64_t seed, uint64_t page[PAGE / 8])
{
	memset(page, 0, PAGE);
	if (number % 3 == 0)
		return;
	for (unsigned i = 0; i < PAGE / 8; i++)
		page[i] = (number * 512 + i + 1) * (seed * 2 + 0x9e3779b97f4a7c15);
}

static inline void write_pattern(struct mock *m, uint64_t from, uint64_t to, uint64_t seed)
{
	uint64_t page[PAGE / 8];

	for (uint64_t gpa = from; gpa < to; gpa += PAGE) {
		pattern_page(gpa / PAGE, seed, page);
		expect_ok(m->ctx, impost_memory_write(impost_vm_memory(m->vm), gpa, page, PAGE));
	}
}

/* So much is looked at in one call: a chunk, of which all is verified each time. */
#define PIECE UINT64_C(0x40000)

static inline void expect_piece(const uint8_t *piece, uint64_t gpa, uint64_t bytes, uint64_t seed)
{
	uint64_t page[PAGE / 8];

	for (uint64_t at = 0; at < bytes; at += PAGE) {
		pattern_page((gpa + at) / PAGE, seed, page);
		cr_assert(memcmp(page, piece + at, PAGE) == 0, "page %#lx is not of seed %lu",
			  (unsigned long)(gpa + at), (unsigned long)seed);
	}
}

static inline uint64_t piece_end(uint64_t gpa, uint64_t to)
{
	uint64_t end = (gpa / PIECE + 1) * PIECE;

	return end < to ? end : to;
}

/* The memory of SNAPSHOT from FROM to TO was made with SEED. */
static inline void expect_pattern(struct impost_context *ctx, struct impost_snapshot *snapshot,
				  uint64_t from, uint64_t to, uint64_t seed)
{
	static uint8_t piece[PIECE];

	for (uint64_t gpa = from, end; gpa < to; gpa = end) {
		end = piece_end(gpa, to);
		expect_ok(ctx, impost_snapshot_read(snapshot, gpa, piece, end - gpa));
		expect_piece(piece, gpa, end - gpa, seed);
	}
}

/* The same of a VM's. */
static inline void expect_vm_pattern(struct impost_vm *vm, uint64_t from, uint64_t to,
				     uint64_t seed)
{
	struct impost_context *ctx = impost_vm_context(vm);
	static uint8_t piece[PIECE];

	for (uint64_t gpa = from, end; gpa < to; gpa = end) {
		end = piece_end(gpa, to);
		expect_ok(ctx, impost_memory_read(impost_vm_memory(vm), gpa, piece, end - gpa));
		expect_piece(piece, gpa, end - gpa, seed);
	}
}

static inline void destroy_vm(struct impost_vm *vm)
{
	struct impost_vcpu *vcpu;

	while ((vcpu = impost_vm_vcpu(vm, 0)))
		expect_ok(impost_vm_context(vm), impost_vcpu_destroy(vcpu));
	expect_ok(impost_vm_context(vm), impost_vm_destroy(vm));
}

static inline struct impost_snapshot *open_snapshot(struct impost_context *ctx, const char *path)
{
	struct impost_snapshot *snapshot = NULL;

	expect_ok(ctx, impost_snapshot_open(ctx, path, NULL, &snapshot));
	return snapshot;
}

static inline struct impost_snapshot_info info_of(struct impost_snapshot *snapshot)
{
	struct impost_snapshot_info info = {.size = sizeof(info)};

	cr_assert(impost_snapshot_info(snapshot, &info) == 0);
	return info;
}

#endif
