/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots that earlier versions of the library wrote are read, restored and loaded. */
#include "snapshot_golden.h"

/* The VM: a few pages of RAM and a ROM, one vCPU. */
#define RAM	  (UINT64_C(8) * PAGE)
#define ROM	  UINT64_C(0xff000000)
#define ROM_BYTES (UINT64_C(2) * PAGE)
#define RIP	  UINT64_C(0x123456789abcdef0)
#define FIRST	  1u /* seed of the full one's memory; of the diff's from page 4 on: */
#define SECOND	  2u

TestSuite(snapshot_golden, .init = folder_begin, .fini = folder_end, .timeout = 60);

static void open_vm(struct mock *m)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = RAM};
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = ROM,
				    .bytes = ROM_BYTES,
				    .flags = IMPOST_REGION_READONLY};
	struct impost_x86_regs regs = {.rip = 0x1000, .rflags = 2, .rax = RIP, .rsp = 0x8000};

	cr_assert(mock_try(m, NULL, IMPOST_IRQCHIP_FULL, 1, NULL, NULL) == 0);
	expect_ok(m->ctx, impost_memory_add(impost_vm_memory(m->vm), &ram));
	expect_ok(m->ctx, impost_memory_add(impost_vm_memory(m->vm), &rom));
	write_pattern(m, 0, RAM, FIRST);
	write_pattern(m, ROM, ROM + ROM_BYTES, FIRST);
	expect_ok(m->ctx, impost_vcpu_create(m->vm, 0, &m->cpu[0]));
	long_mode(m, m->cpu[0]);
	expect_ok(m->ctx, impost_vcpu_set_regs(m->cpu[0], &regs));
}

static void make(void)
{
	struct impost_snapshot_save_options options = {.size = sizeof(options)};
	struct impost_snapshot_key key;
	struct mock m;

	open_vm(&m);
	key = golden_key(m.ctx);
	options.key = &key;
	expect_ok(m.ctx, impost_snapshot_save(m.vm, GOLDEN_KEYED, &options, NULL));
	options.key = NULL;
	expect_ok(m.ctx, impost_dirty_create(impost_vm_memory(m.vm), NULL, &options.since));
	expect_ok(m.ctx, impost_snapshot_save(m.vm, GOLDEN_FULL, &options, NULL));
	write_pattern(&m, 4 * PAGE, 6 * PAGE, SECOND);
	options.base = GOLDEN_FULL;
	expect_ok(m.ctx, impost_snapshot_save(m.vm, GOLDEN_DIFF, &options, NULL));
	expect_ok(m.ctx, impost_dirty_destroy(options.since));
	mock_close(&m);
}

static void put_golden(const char *name, const char *to)
{
	struct made made = made_read(name);
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", to, name);
	made_write(&made, path);
	made_free(&made);
}

/* What there was before the files of a version were there; the folder is the one that is named. */
Test(snapshot_golden, can_be_made)
{
	const char *to = getenv("IMPOST_MAKE_GOLDEN");

	make();
	cr_expect(count_names() == 3);
	if (!to)
		return;
	cr_assert(*to == '/', "IMPOST_MAKE_GOLDEN: the path of a folder, from the root");
	put_golden(GOLDEN_FULL, to);
	put_golden(GOLDEN_DIFF, to);
	put_golden(GOLDEN_KEYED, to);
}

static void expect_vm(struct impost_vm *vm, uint64_t seed)
{
	struct impost_x86_regs regs;

	expect_ok(impost_vm_context(vm), impost_vcpu_get_regs(impost_vm_vcpu(vm, 0), &regs));
	cr_expect(regs.rax == RIP && regs.rip == 0x1000 && regs.rsp == 0x8000);
	expect_vm_pattern(vm, 0, 4 * PAGE, FIRST);
	expect_vm_pattern(vm, 4 * PAGE, 6 * PAGE, seed);
	expect_vm_pattern(vm, 6 * PAGE, RAM, FIRST);
	expect_vm_pattern(vm, ROM, ROM + ROM_BYTES, FIRST);
}

/* On the mock, whatever the host's CPU is. */
static void expect_restores(struct impost_context *ctx, const char *name, bool keyed, uint64_t seed)
{
	const struct impost_snapshot_key key = golden_key(ctx);
	const struct impost_snapshot_open_options options = {.size = sizeof(options),
							     .key = keyed ? &key : NULL};
	const struct impost_snapshot_restore_options how = {.size = sizeof(how), .backend = "mock"};
	struct impost_snapshot *snapshot;
	struct impost_vm *vm;

	expect_ok(ctx, impost_snapshot_open(ctx, name, &options, &snapshot));
	cr_expect(info_of(snapshot).version == 1 && info_of(snapshot).compatible == 1);
	cr_expect(info_of(snapshot).guest_bytes == RAM + ROM_BYTES);
	expect_ok(ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL));
	expect_ok(ctx, impost_snapshot_restore(snapshot, &how, &vm));
	expect_ok(ctx, impost_snapshot_load(snapshot, vm));
	expect_vm(vm, seed);
	destroy_vm(vm);
	impost_snapshot_close(snapshot);
}

Test(snapshot_golden, version_1)
{
	struct impost_context *ctx;

	golden_copy(GOLDEN_FULL, GOLDEN_FULL);
	golden_copy(GOLDEN_DIFF, GOLDEN_DIFF);
	golden_copy(GOLDEN_KEYED, GOLDEN_KEYED);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	expect_restores(ctx, GOLDEN_FULL, false, FIRST);
	expect_restores(ctx, GOLDEN_DIFF, false, SECOND);
	expect_restores(ctx, GOLDEN_KEYED, true, FIRST);
	cr_expect(impost_context_close(ctx) == 0);
}

/* A file of version 2 that version 1 can read: longer header and rows, more words, a new section.
 */
Test(snapshot_golden, what_a_newer_version_may_add)
{
	struct impost_context *ctx;
	struct made made;

	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	golden_copy(GOLDEN_FULL, "newer");
	made = made_read("newer");
	put(&made, H_VERSION, 4, 2);
	put(&made, H_RESERVED, 8, 77);
	add_section(&made, "later", 99, 1, "what nobody knows", 17);
	put(&made, entry(&made, find(&made, "later"), E_RESERVED), 8, 5);
	seal(&made);
	made_write(&made, "newer");
	made_free(&made);
	{
		struct impost_snapshot *snapshot = open_snapshot(ctx, "newer");

		cr_expect(info_of(snapshot).version == 2 && info_of(snapshot).compatible == 1);
		impost_snapshot_close(snapshot);
	}
	cr_expect(impost_context_close(ctx) == 0);
}
