/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as a whole, on the mock: saved, looked at, restored in each way, in chains, with keys.
 */
#include "snapshot_made.h"
#include "snapshot_vm.h"

#define SEED 7u
#define NEXT 8u
#define ROM  UINT64_C(0xff000000)

TestSuite(snapshot, .init = folder_begin, .fini = folder_end, .timeout = 60);

/* A VM with RAM and a ROM. */
static void open_vm(struct mock *m)
{
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = ROM,
				    .bytes = 5 * PAGE,
				    .flags = IMPOST_REGION_READONLY};

	mock_open(m, NULL);
	expect_ok(m->ctx, impost_context_set(m->ctx, "impost", "backend", "mock"));
	expect_ok(m->ctx, impost_memory_add(impost_vm_memory(m->vm), &rom));
	write_pattern(m, PATTERN, MEMORY, SEED);
	write_pattern(m, ROM, ROM + 5 * PAGE, SEED);
}

static void save(struct mock *m, const char *path)
{
	expect_ok(m->ctx, impost_snapshot_save(m->vm, path, NULL, NULL));
}

static void expect_same_regs(struct impost_vcpu *a, struct impost_vcpu *b)
{
	struct impost_x86_sregs sa, sb;
	struct impost_x86_regs ra, rb;

	cr_assert(impost_vcpu_get_regs(a, &ra) == 0 && impost_vcpu_get_regs(b, &rb) == 0);
	cr_assert(impost_vcpu_get_sregs(a, &sa) == 0 && impost_vcpu_get_sregs(b, &sb) == 0);
	cr_expect(memcmp(&ra, &rb, sizeof(ra)) == 0 && memcmp(&sa, &sb, sizeof(sa)) == 0);
}

/* Restores SNAPSHOT by WAY into a VM that is M's. */
static void expect_restores(struct mock *m, struct impost_snapshot *snapshot, uint32_t way,
			    uint64_t seed)
{
	struct impost_snapshot_restore_options options = {.size = sizeof(options), .memory = way};
	struct impost_region region = {.size = sizeof(region)};
	struct impost_vm *vm;

	expect_ok(m->ctx, impost_snapshot_restore(snapshot, &options, &vm));
	expect_ok(m->ctx, impost_snapshot_load(snapshot, vm));
	expect_same_regs(impost_vm_vcpu(vm, 0), m->cpu[0]);
	cr_expect(impost_vm_vcpu(vm, 1) == NULL);
	expect_ok(m->ctx, impost_memory_get(impost_vm_memory(vm), 1, &region));
	cr_expect(region.gpa == ROM && region.bytes == 5 * PAGE);
	cr_expect(region.flags & IMPOST_REGION_READONLY);
	expect_vm_pattern(vm, PATTERN, MEMORY, seed);
	expect_vm_pattern(vm, ROM, ROM + 5 * PAGE, SEED);
	destroy_vm(vm);
}

static const uint32_t ways[] = {IMPOST_SNAPSHOT_DEFAULT, IMPOST_SNAPSHOT_MAP, IMPOST_SNAPSHOT_COPY,
				IMPOST_SNAPSHOT_LAZY};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

Test(snapshot, full_one_comes_back_in_each_way)
{
	struct impost_snapshot *snapshot;
	struct belongings before;
	struct mock m;

	open_vm(&m);
	save(&m, "full");
	for (size_t i = 0; i < WAYS; i++) {
		before = count_belongings();
		snapshot = open_snapshot(m.ctx, "full");
		expect_restores(&m, snapshot, ways[i], SEED);
		impost_snapshot_close(snapshot);
		cr_expect(count_belongings().fds == before.fds);
	}
	mock_close(&m);
}

Test(snapshot, what_is_restored_is_saved_alike)
{
	struct impost_snapshot *snapshot, *again;
	const void *a, *b;
	size_t alen, blen;
	const char *name;
	struct impost_vm *vm;
	struct mock m;

	open_vm(&m);
	save(&m, "full");
	snapshot = open_snapshot(m.ctx, "full");
	expect_ok(m.ctx, impost_snapshot_restore(snapshot, NULL, &vm));
	expect_ok(m.ctx, impost_snapshot_load(snapshot, vm));
	expect_ok(m.ctx, impost_snapshot_save(vm, "again", NULL, NULL));
	again = open_snapshot(m.ctx, "again");
	expect_pattern(m.ctx, again, PATTERN, MEMORY, SEED);
	for (uint32_t i = 0; !impost_state_at(impost_snapshot_state(snapshot), i, &name, &a, &alen);
	     i++) {
		expect_ok(m.ctx, impost_state_find(impost_snapshot_state(again), name, &b, &blen));
		if (strncmp(name, "vcpu.", 5) == 0)
			cr_expect(alen == blen && memcmp(a, b, alen) == 0, "%s", name);
	}
	impost_snapshot_close(snapshot);
	impost_snapshot_close(again);
	destroy_vm(vm);
	mock_close(&m);
}

Test(snapshot, it_says_what_it_is)
{
	struct impost_snapshot_section section = {.size = sizeof(section)};
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	struct impost_snapshot *snapshot;
	struct impost_snapshot_info info;
	uint64_t state = 0;
	struct mock m;
	uint32_t i;

	open_vm(&m);
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "full", NULL, &saved));
	cr_expect(saved.held_ns > 0 && saved.flags == 0);
	snapshot = open_snapshot(m.ctx, "./full");
	info = info_of(snapshot);
	cr_expect(info.version == IMPOST_SNAPSHOT_VERSION && info.flags == 0 && info.chain == 1);
	cr_expect(memcmp(info.id, saved.id, 16) == 0);
	cr_expect(memcmp(info.digest, saved.digest, 16) == 0);
	cr_expect(info.file_bytes == saved.file_bytes && info.disk_bytes < info.file_bytes);
	cr_expect(info.data_bytes == saved.data_bytes && info.zero_bytes == saved.zero_bytes);
	cr_expect(info.guest_bytes == MEMORY + 5 * PAGE);
	cr_expect(info.data_bytes + info.zero_bytes == info.guest_bytes);
	cr_expect(info.data_bytes > MEMORY / 2 && info.zero_bytes > MEMORY / 4);
	cr_expect(strcmp(info.path, "./full") == 0 && !info.base);
	for (i = 0; impost_snapshot_section(snapshot, i, &section) == 0; i++)
		if (section.kind == IMPOST_SNAPSHOT_STATE)
			state += section.bytes;
	cr_expect(i == info.sections && state == info.state_bytes);
	expect_error(m.ctx, impost_snapshot_section(snapshot, i, &section), -ENOENT, "sections");
	impost_snapshot_close(snapshot);
	mock_close(&m);
}

Test(snapshot, its_memory_can_be_walked)
{
	struct impost_snapshot_region region = {.size = sizeof(region)};
	struct impost_snapshot_extent extent = {.size = sizeof(extent)};
	struct impost_snapshot *snapshot;
	uint64_t gpa = 0, data = 0, all = 0, end = 0;
	struct impost_snapshot_info info;
	struct mock m;
	uint8_t byte;

	open_vm(&m);
	save(&m, "full");
	snapshot = open_snapshot(m.ctx, "full");
	info = info_of(snapshot);
	expect_ok(m.ctx, impost_snapshot_region(snapshot, 0, &region));
	cr_expect(region.gpa == 0 && region.bytes == MEMORY && region.flags == 0);
	expect_ok(m.ctx, impost_snapshot_region(snapshot, 1, &region));
	cr_expect(region.gpa == ROM && region.flags == IMPOST_REGION_READONLY);
	expect_error(m.ctx, impost_snapshot_region(snapshot, 2, &region), -ENOENT, "region");
	while (impost_snapshot_extent(snapshot, &gpa, &extent) == 0) {
		cr_assert(extent.gpa >= end && extent.bytes > 0);
		end = extent.gpa + extent.bytes;
		cr_assert(gpa == end && extent.kind != IMPOST_SNAPSHOT_ABSENT);
		all += extent.bytes;
		data += extent.kind == IMPOST_SNAPSHOT_DATA ? extent.bytes : 0;
	}
	cr_expect(all == info.guest_bytes && data == info.data_bytes);
	expect_error(m.ctx, impost_snapshot_read(snapshot, MEMORY, &byte, 1), -EFAULT, "");
	expect_ok(m.ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL));
	impost_snapshot_close(snapshot);
	mock_close(&m);
}

/* --- chains --- */

static void save_diff(struct mock *m, const char *path, const char *base,
		      struct impost_dirty *since)
{
	const struct impost_snapshot_save_options options = {
		.size = sizeof(options), .base = base, .since = since};

	expect_ok(m->ctx, impost_snapshot_save(m->vm, path, &options, NULL));
}

/* A full one and two diffs: each changes a stretch of memory. */
static struct impost_dirty *save_chain(struct mock *m)
{
	struct impost_dirty *since;

	open_vm(m);
	expect_ok(m->ctx, impost_dirty_create(impost_vm_memory(m->vm), NULL, &since));
	save_diff(m, "full", NULL, since);
	write_pattern(m, PATTERN + 10 * PAGE, PATTERN + 300 * PAGE, NEXT);
	save_diff(m, "first", "full", since);
	write_pattern(m, PATTERN + 200 * PAGE, PATTERN + 400 * PAGE, NEXT + 1);
	save_diff(m, "second", "first", since);
	return since;
}

static void expect_chain(struct impost_context *ctx, struct impost_snapshot *snapshot)
{
	expect_pattern(ctx, snapshot, PATTERN, PATTERN + 10 * PAGE, SEED);
	expect_pattern(ctx, snapshot, PATTERN + 10 * PAGE, PATTERN + 200 * PAGE, NEXT);
	expect_pattern(ctx, snapshot, PATTERN + 200 * PAGE, PATTERN + 400 * PAGE, NEXT + 1);
	expect_pattern(ctx, snapshot, PATTERN + 400 * PAGE, MEMORY, SEED);
}

static void expect_vm_chain(struct impost_vm *vm)
{
	expect_vm_pattern(vm, PATTERN, PATTERN + 10 * PAGE, SEED);
	expect_vm_pattern(vm, PATTERN + 10 * PAGE, PATTERN + 200 * PAGE, NEXT);
	expect_vm_pattern(vm, PATTERN + 200 * PAGE, PATTERN + 400 * PAGE, NEXT + 1);
	expect_vm_pattern(vm, PATTERN + 400 * PAGE, MEMORY, SEED);
}

Test(snapshot, chain_is_one_memory)
{
	struct impost_snapshot *snapshot;
	struct impost_snapshot_info info;
	struct impost_dirty *since;
	struct mock m;

	since = save_chain(&m);
	snapshot = open_snapshot(m.ctx, "second");
	info = info_of(snapshot);
	cr_expect(info.chain == 3 && strcmp(info.base, "first") == 0);
	cr_expect(info.flags == IMPOST_SNAPSHOT_IS_DIFF);
	cr_expect(info.data_bytes < 210 * PAGE && info.disk_bytes < MEMORY / 2);
	expect_chain(m.ctx, snapshot);
	expect_ok(m.ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL));
	for (size_t i = 0; i < WAYS; i++) {
		struct impost_snapshot_restore_options options = {.size = sizeof(options),
								  .memory = ways[i]};
		struct impost_vm *vm;

		expect_ok(m.ctx, impost_snapshot_restore(snapshot, &options, &vm));
		expect_ok(m.ctx, impost_snapshot_load(snapshot, vm));
		expect_vm_chain(vm);
		destroy_vm(vm);
	}
	impost_snapshot_close(snapshot);
	expect_ok(m.ctx, impost_dirty_destroy(since));
	mock_close(&m);
}

Test(snapshot, chain_becomes_one_file)
{
	struct impost_snapshot *snapshot, *flat;
	struct impost_dirty *since;
	struct mock m;

	since = save_chain(&m);
	snapshot = open_snapshot(m.ctx, "second");
	expect_ok(m.ctx, impost_snapshot_flatten(snapshot, "flat", NULL, NULL));
	expect_ok(m.ctx, impost_snapshot_flatten(snapshot, "second", NULL, NULL));
	expect_chain(m.ctx, snapshot); /* the file that was replaced */
	impost_snapshot_close(snapshot);
	cr_assert(unlink("full") == 0 && unlink("first") == 0);
	for (int i = 0; i < 2; i++) {
		flat = open_snapshot(m.ctx, i ? "second" : "flat");
		cr_expect(info_of(flat).chain == 1 && !info_of(flat).base);
		cr_expect(info_of(flat).flags == 0);
		expect_chain(m.ctx, flat);
		impost_snapshot_close(flat);
	}
	expect_ok(m.ctx, impost_dirty_destroy(since));
	mock_close(&m);
}

/* A base that is named by a link, of whatever folder, is found when the link is gone. */
Test(snapshot, base_behind_a_link_is_resolved)
{
	struct impost_snapshot_save_options options = {.size = sizeof(options)};
	struct impost_snapshot *snapshot;
	struct mock m;

	options.since = save_chain(&m);
	cr_assert(mkdir("sub", 0700) == 0 && symlink("../second", "sub/link") == 0);
	options.base = "sub/link";
	expect_error(m.ctx, impost_snapshot_save(m.vm, "sub/third", &options, NULL), -EINVAL,
		     "not in the folder");
	expect_error(m.ctx, impost_snapshot_save(m.vm, "sub/link", &options, NULL), -EEXIST,
		     "sub/link: what is there is a symbolic link");
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL));
	cr_assert(rename("sub/link", "link") == 0);
	snapshot = open_snapshot(m.ctx, "third");
	cr_expect(info_of(snapshot).chain == 4 && strcmp(info_of(snapshot).base, "second") == 0);
	expect_chain(m.ctx, snapshot);
	expect_error(m.ctx, impost_snapshot_flatten(snapshot, "link", NULL, NULL), -EEXIST,
		     "link: what is there is a symbolic link");
	impost_snapshot_close(snapshot);
	cr_assert(unlink("link") == 0 && symlink("none", "link") == 0);
	options.base = "link";
	expect_error(m.ctx, impost_snapshot_save(m.vm, "fourth", &options, NULL), -ENOENT, "link");
	expect_ok(m.ctx, impost_dirty_destroy(options.since));
	mock_close(&m);
}

Test(snapshot, diffs_that_cannot_be)
{
	struct impost_region more = {.size = sizeof(more), .gpa = UINT64_C(1) << 32, .bytes = PAGE};
	struct impost_snapshot_save_options options = {.size = sizeof(options), .base = "full"};
	struct mock m;

	options.since = save_chain(&m);
	expect_error(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL), -ESTALE,
		     "not the snapshot after which");
	options.base = "second";
	expect_error(m.ctx, impost_snapshot_save(m.vm, "first", &options, NULL), -EINVAL,
		     "the place of its base");
	expect_error(m.ctx, impost_snapshot_save(m.vm, "second", &options, NULL), -EINVAL,
		     "the place of its base");
	cr_assert(mkdir("sub", 0700) == 0);
	expect_error(m.ctx, impost_snapshot_save(m.vm, "sub/third", &options, NULL), -EINVAL,
		     "not in the folder");
	options.base = "none";
	expect_error(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL), -ENOENT, "none");
	options.base = "second";
	expect_ok(m.ctx, impost_memory_add(impost_vm_memory(m.vm), &more));
	expect_error(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL), -EINVAL,
		     "regions of memory");
	expect_ok(m.ctx, impost_memory_remove(impost_vm_memory(m.vm), more.gpa));
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL));
	expect_ok(m.ctx, impost_dirty_destroy(options.since));
	options.since = NULL;
	expect_error(m.ctx, impost_snapshot_save(m.vm, "third", &options, NULL), -EINVAL, "since");
	cr_expect(count_names() == 5);
	mock_close(&m);
}

/* The bases' pages are not the diff's: each file alone says what it has. */
/* A stranger's chain, whose files have not the same regions. */
Test(snapshot, base_has_the_same_regions)
{
	struct impost_region more = {.size = sizeof(more), .gpa = UINT64_C(1) << 32, .bytes = PAGE};
	struct impost_snapshot *snapshot = NULL;
	struct impost_dirty *since;
	struct made diff, base;
	struct mock m;

	since = save_chain(&m);
	expect_ok(m.ctx, impost_memory_add(impost_vm_memory(m.vm), &more));
	save(&m, "first");
	base = made_read("first");
	diff = made_read("second");
	memcpy(diff.bytes + H_BASE_DIGEST, base.bytes + H_CHECKSUM, 16);
	seal(&diff);
	made_write(&diff, "second");
	expect_error(m.ctx, impost_snapshot_open(m.ctx, "second", NULL, &snapshot), -IMPOST_EFORMAT,
		     "first: section memory has other regions");
	cr_expect(snapshot == NULL);
	made_free(&diff);
	made_free(&base);
	expect_ok(m.ctx, impost_dirty_destroy(since));
	mock_close(&m);
}

Test(snapshot, diff_alone)
{
	struct impost_snapshot_open_options options = {.size = sizeof(options),
						       .flags = IMPOST_SNAPSHOT_ALONE};
	struct impost_snapshot_extent extent = {.size = sizeof(extent)};
	struct impost_snapshot *snapshot;
	struct impost_dirty *since;
	uint64_t gpa = 0, absent = 0;
	struct impost_vm *vm;
	struct mock m;
	uint8_t byte;

	since = save_chain(&m);
	cr_assert(unlink("first") == 0);
	expect_ok(m.ctx, impost_snapshot_open(m.ctx, "second", &options, &snapshot));
	cr_expect(info_of(snapshot).chain == 1 && strcmp(info_of(snapshot).base, "first") == 0);
	while (impost_snapshot_extent(snapshot, &gpa, &extent) == 0)
		absent += extent.kind == IMPOST_SNAPSHOT_ABSENT ? extent.bytes : 0;
	cr_expect(absent == MEMORY + 5 * PAGE - 200 * PAGE, "%lu", (unsigned long)absent);
	expect_error(m.ctx, impost_snapshot_read(snapshot, 0, &byte, 1), -EINVAL, "bases");
	expect_error(m.ctx, impost_snapshot_restore(snapshot, NULL, &vm), -EINVAL, "bases");
	expect_error(m.ctx, impost_snapshot_flatten(snapshot, "flat", NULL, NULL), -EINVAL,
		     "bases");
	cr_expect(impost_snapshot_check(snapshot, "mock", NULL, NULL) == 0);
	impost_snapshot_close(snapshot);
	options.flags = IMPOST_SNAPSHOT_HEADER;
	expect_ok(m.ctx, impost_snapshot_open(m.ctx, "second", &options, &snapshot));
	cr_expect(impost_snapshot_state(snapshot) == NULL);
	expect_error(m.ctx, impost_snapshot_check(snapshot, NULL, NULL, NULL), -EINVAL, "header");
	expect_error(m.ctx, impost_snapshot_load(snapshot, m.vm), -EINVAL, "header");
	impost_snapshot_close(snapshot);
	expect_ok(m.ctx, impost_dirty_destroy(since));
	mock_close(&m);
}

/* --- keys --- */

Test(snapshot, with_a_key)
{
	struct impost_snapshot_key key = {.size = sizeof(key)}, other = {.size = sizeof(other)};
	struct impost_snapshot_open_options options = {.size = sizeof(options), .key = &key};
	struct impost_snapshot_save_options save_options = {.size = sizeof(save_options),
							    .key = &key};
	struct impost_snapshot *snapshot;
	struct mock m;

	open_vm(&m);
	expect_ok(m.ctx, impost_snapshot_key_make(m.ctx, "a secret of sixteen", 19, &key));
	expect_ok(m.ctx, impost_snapshot_key_make(m.ctx, "another of sixteen", 18, &other));
	expect_ok(m.ctx, impost_dirty_create(impost_vm_memory(m.vm), NULL, &save_options.since));
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "full", &save_options, NULL));
	write_pattern(&m, PATTERN, MEMORY, NEXT);
	save_options.base = "full";
	save_options.key = NULL;
	expect_error(m.ctx, impost_snapshot_save(m.vm, "diff", &save_options, NULL), -ENOKEY,
		     "full");
	save_options.key = &key;
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "diff", &save_options, NULL));
	expect_ok(m.ctx, impost_snapshot_open(m.ctx, "diff", &options, &snapshot));
	cr_expect(info_of(snapshot).flags == (IMPOST_SNAPSHOT_IS_DIFF | IMPOST_SNAPSHOT_IS_KEYED |
					      IMPOST_SNAPSHOT_IS_VERIFIED));
	expect_ok(m.ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL));
	for (size_t i = 0; i < WAYS; i++)
		expect_restores(&m, snapshot, ways[i], NEXT);
	impost_snapshot_close(snapshot);
	options.key = NULL;
	expect_error(m.ctx, impost_snapshot_open(m.ctx, "diff", &options, &snapshot), -ENOKEY,
		     "give the key");
	options.key = &other;
	expect_error(m.ctx, impost_snapshot_open(m.ctx, "diff", &options, &snapshot), -EKEYREJECTED,
		     "another key");
	expect_ok(m.ctx, impost_dirty_destroy(save_options.since));
	mock_close(&m);
}

/* --- damage to memory, which is not read when it is mapped --- */

Test(snapshot, damaged_memory_is_noticed_when_it_is_read)
{
	struct impost_snapshot_restore_options options = {.size = sizeof(options),
							  .memory = IMPOST_SNAPSHOT_COPY};
	struct impost_snapshot *snapshot;
	struct belongings before;
	struct impost_vm *vm;
	struct made made;
	uint64_t number;
	struct mock m;

	open_vm(&m);
	save(&m, "full");
	made = made_read("full");
	/* Page 0x100 is no third one. */
	put(&made, get(&made, H_MEMORY_OFFSET, 8) + 0x100123, 1, 0);
	made_write(&made, "full");
	snapshot = open_snapshot(m.ctx, "full");
	expect_error(m.ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL), -EBADMSG, "full");
	expect_error(m.ctx, impost_snapshot_read(snapshot, 0x100000, &number, 8), -EBADMSG, "");
	expect_ok(m.ctx, impost_snapshot_read(snapshot, 0x200000, &number, 8));
	before = count_belongings();
	expect_error(m.ctx, impost_snapshot_restore(snapshot, &options, &vm), -EBADMSG, "");
	cr_expect(count_belongings().fds == before.fds);
	expect_error(m.ctx, impost_snapshot_flatten(snapshot, "flat", NULL, NULL), -EBADMSG, "");
	cr_expect(count_names() == 1);
	/* Somebody writes it, after it was opened. */
	put(&made, get(&made, H_MEMORY_OFFSET, 8) + 0x100123, 1, 1);
	made_write(&made, "full");
	for (size_t i = 0; i < WAYS; i++) {
		options.memory = ways[i];
		expect_error(m.ctx, impost_snapshot_restore(snapshot, &options, &vm), -ESTALE,
			     "changed");
	}
	impost_snapshot_close(snapshot);
	made_free(&made);
	mock_close(&m);
}

/* Tags are of what is said to be in the file: what lies where nothing is said to be reaches no
 * guest, though the region is mapped as a whole. */
Test(snapshot, nothing_is_put_into_its_holes)
{
	struct impost_snapshot_key key = {.size = sizeof(key)};
	struct impost_snapshot_open_options options = {.size = sizeof(options), .key = &key};
	struct impost_snapshot_save_options save_options = {.size = sizeof(save_options),
							    .key = &key};
	struct impost_snapshot_restore_options restore = {.size = sizeof(restore),
							  .memory = IMPOST_SNAPSHOT_MAP};
	struct impost_snapshot *snapshot;
	struct belongings before;
	struct impost_vm *vm;
	struct made made;
	struct mock m;

	open_vm(&m);
	expect_ok(m.ctx, impost_snapshot_key_make(m.ctx, "a secret of sixteen", 19, &key));
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "full", &save_options, NULL));
	made = made_read("full");
	/* A file without holes is as good. */
	made_write(&made, "full");
	expect_ok(m.ctx, impost_snapshot_open(m.ctx, "full", &options, &snapshot));
	expect_restores(&m, snapshot, IMPOST_SNAPSHOT_MAP, SEED);
	impost_snapshot_close(snapshot);
	/* Page 0x102 is a third one. */
	put(&made, get(&made, H_MEMORY_OFFSET, 8) + 0x102123, 1, 1);
	made_write(&made, "full");
	expect_ok(m.ctx, impost_snapshot_open(m.ctx, "full", &options, &snapshot));
	expect_error(m.ctx, impost_snapshot_verify(snapshot, 0, NULL, NULL), -EBADMSG, "0x102000");
	before = count_belongings();
	expect_error(m.ctx, impost_snapshot_restore(snapshot, &restore, &vm), -EBADMSG, "0x102000");
	cr_expect(count_belongings().fds == before.fds);
	expect_restores(&m, snapshot, IMPOST_SNAPSHOT_COPY, SEED);
	impost_snapshot_close(snapshot);
	made_free(&made);
	mock_close(&m);
}

/* What is found to be wrong when it is touched: the VM is lost, for a hypervisor that emulates what
 * touches it would have the guest read ones. */
Test(snapshot, wrong_when_it_is_touched)
{
	struct impost_snapshot_restore_options restore = {.size = sizeof(restore),
							  .memory = IMPOST_SNAPSHOT_LAZY,
							  .flags = IMPOST_SNAPSHOT_NO_PREFETCH};
	struct impost_snapshot *snapshot;
	struct impost_exit exit;
	struct impost_vm *vm;
	struct made made;
	struct mock m;
	uint8_t byte;

	open_vm(&m);
	save(&m, "full");
	made = made_read("full");
	put(&made, get(&made, H_MEMORY_OFFSET, 8) + 0x100123, 1, 1);
	made_write(&made, "full");
	snapshot = open_snapshot(m.ctx, "full");
	if (impost_snapshot_restore(snapshot, &restore, &vm) == -ENOTSUP) {
		fprintf(stderr, "# skipped: %s\n", impost_error(m.ctx));
		cr_skip_test("this process may not have a userfaultfd");
	}
	expect_ok(m.ctx, impost_memory_read(impost_vm_memory(vm), 0x300000, &byte, 1));
	expect_error(m.ctx, impost_memory_read(impost_vm_memory(vm), 0x100123, &byte, 1), -EIO, "");
	expect_error(m.ctx, impost_vcpu_run(impost_vm_vcpu(vm, 0), &exit), -EIO, "lost");
	expect_error(m.ctx, impost_vm_hold(vm, 1000), -EIO, "lost");
	impost_snapshot_close(snapshot);
	destroy_vm(vm);
	made_free(&made);
	mock_close(&m);
}

/* --- arguments --- */

Test(snapshot, wrong_arguments)
{
	struct impost_snapshot_restore_options restore = {.size = sizeof(restore), .memory = 9};
	struct impost_snapshot_open_options options = {.size = sizeof(options), .flags = 4};
	struct impost_snapshot_save_options saving = {.size = sizeof(saving), .flags = 4};
	struct impost_snapshot *snapshot;
	struct impost_vm *vm;
	struct mock m;

	open_vm(&m);
	expect_error(m.ctx, impost_snapshot_save(m.vm, "full", &saving, NULL), -EINVAL, "flags");
	saving.size = 1;
	expect_error(m.ctx, impost_snapshot_save(m.vm, "full", &saving, NULL), -EINVAL, "size");
	expect_error(m.ctx, impost_snapshot_save(m.vm, NULL, NULL, NULL), -EINVAL, "path");
	cr_expect(count_names() == 0);
	save(&m, "full");
	expect_error(m.ctx, impost_snapshot_open(m.ctx, "full", &options, &snapshot), -EINVAL,
		     "unknown flag");
	expect_error(m.ctx, impost_snapshot_open(m.ctx, NULL, NULL, &snapshot), -EINVAL, "path");
	snapshot = open_snapshot(m.ctx, "full");
	expect_error(m.ctx, impost_snapshot_restore(snapshot, &restore, &vm), -EINVAL, "way 9");
	restore.memory = 0;
	restore.flags = 2;
	expect_error(m.ctx, impost_snapshot_restore(snapshot, &restore, &vm), -EINVAL, "flags");
	restore.flags = 0;
	restore.backend = "none";
	expect_error(m.ctx, impost_snapshot_restore(snapshot, &restore, &vm), -IMPOST_EPLUGIN,
		     "none");
	saving = (struct impost_snapshot_save_options){.size = sizeof(saving), .base = "full"};
	expect_error(m.ctx, impost_snapshot_flatten(snapshot, "flat", &saving, NULL), -EINVAL,
		     "flattened");
	impost_snapshot_close(snapshot);
	impost_snapshot_close(NULL);
	mock_close(&m);
}

/* A VM that the host holds stays held; one that the call held runs on. */
Test(snapshot, hold_is_as_before)
{
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	struct mock m;

	open_vm(&m);
	save(&m, "full");
	expect_error(m.ctx, impost_vm_release(m.vm), -EINVAL, "");
	expect_ok(m.ctx, impost_vm_hold(m.vm, 1000));
	expect_ok(m.ctx, impost_snapshot_save(m.vm, "full", NULL, &saved));
	cr_expect(saved.held_ns == 0);
	expect_ok(m.ctx, impost_vm_release(m.vm));
	mock_close(&m);
}
