/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of bench-state: a guest is saved, and restored from what was saved up to its first exit.
 * Its memory beyond the first megabytes, which have the guest itself, is random where it is not
 * zero.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "raw.h"
#include "spin.h"
#include "state.h"
#include "timing.h"

#define MIB   (UINT64_C(1) << 20)
#define BEGIN (2 * MIB) /* of what is random */
#define SAVED 1024u	/* MiB of the guest that is saved */
#define PATH  4096

/* Where the data is. */
enum layout {
	HALVES, /* in the lower half; the upper one was never touched */
	MIXED,	/* in every other page; those between were written, with zeros */
};

static struct spin guest; /* the guest that is saved */
static enum layout guest_layout;

void snapshot_cases_end(void)
{
	spin_destroy(&guest);
}

static bool is_data(enum layout layout, uint64_t gpa, uint64_t bytes)
{
	if (gpa < BEGIN)
		return false;
	return layout == HALVES ? gpa < bytes / 2 : gpa / IMPOST_PAGE_SIZE % 2 == 1;
}

static void random_page(uint64_t *state, uint64_t *page)
{
	for (size_t i = 0; i < IMPOST_PAGE_SIZE / sizeof(*page); i++) {
		*state ^= *state << 13;
		*state ^= *state >> 7;
		*state ^= *state << 17;
		page[i] = *state;
	}
}

/* Writes the data of the first BYTES of memory, which is whole or ends at the hole below 4 GiB. */
static int fill(struct impost_context *ctx, struct impost_memory *memory, enum layout layout,
		uint64_t bytes)
{
	uint64_t state = 1, page[IMPOST_PAGE_SIZE / sizeof(state)];

	for (uint64_t gpa = BEGIN; gpa < bytes; gpa += IMPOST_PAGE_SIZE) {
		int err = 0;

		if (is_data(layout, gpa, bytes)) {
			random_page(&state, page);
			err = impost_memory_write(memory, gpa, page, sizeof(page));
		} else if (layout == MIXED) {
			err = impost_memory_fill(memory, gpa, 0, sizeof(page));
		}
		if (err)
			return failed(ctx, "filling memory");
	}
	return 0;
}

/* A guest that has exited once, and needs no answer. */
static int create(struct impost_context *ctx, struct spin *spin, enum layout layout, uint64_t bytes,
		  uint64_t filled)
{
	struct impost_exit exit;

	if (spin_create(ctx, state_guest, IMPOST_KICK_MASK, bytes, spin) ||
	    spin_exits(ctx, spin, 1))
		return -1;
	if (impost_vcpu_complete(spin->vcpu, &exit))
		return failed(ctx, "impost_vcpu_complete");
	return fill(ctx, impost_vm_memory(spin->vm), layout, filled);
}

static int prepare_guest(struct impost_context *ctx, enum layout layout)
{
	if (guest.vm && guest_layout == layout)
		return 0;
	spin_destroy(&guest);
	guest_layout = layout;
	return create(ctx, &guest, layout, SAVED * MIB, SAVED * MIB);
}

/* --- files --- */

static void name_file(char path[PATH], const char *name, uint32_t number)
{
	snprintf(path, PATH, "%s/%s-%u", state_folder, name, number);
}

/* Writes the guest's data to what is open as FD: where it is in memory, or one piece behind the
 * other. */
static int write_data(struct impost_context *ctx, int fd, bool in_place)
{
	uint8_t page[IMPOST_PAGE_SIZE];
	uint64_t at = 0;

	for (uint64_t gpa = 0; gpa < SAVED * MIB; gpa += sizeof(page)) {
		if (gpa >= BEGIN && !is_data(guest_layout, gpa, SAVED * MIB))
			continue;
		if (impost_memory_read(impost_vm_memory(guest.vm), gpa, page, sizeof(page)))
			return failed(ctx, "reading memory");
		if (pwrite(fd, page, sizeof(page), (off_t)(in_place ? gpa : at)) != sizeof(page)) {
			perror("the guest's memory");
			return -1;
		}
		at += sizeof(page);
	}
	return ftruncate(fd, (off_t)(in_place ? SAVED * MIB : at));
}

static int write_file(struct impost_context *ctx, const char *name, bool in_place)
{
	char path[PATH];
	int fd, err;

	name_file(path, name, guest_layout);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		perror(path);
		return -1;
	}
	err = write_data(ctx, fd, in_place);
	close(fd);
	return err;
}

/* Writes the guest's memory to the file "memory-LAYOUT", with holes, and that of it which is not
 * zero to "data-LAYOUT". */
static int take_files(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	(void)ret;
	if (prepare_guest(ctx, arg) || write_file(ctx, "memory", true))
		return -1;
	return write_file(ctx, "data", false);
}

/* --- saving --- */

/* Milliseconds of saving the guest; and MiB that are data, and that were found to be zero. */
static int take_save(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct impost_snapshot_saved saved = {.size = sizeof(saved)};
	char path[PATH];
	double start;

	if (prepare_guest(ctx, arg))
		return -1;
	name_file(path, "saved", arg);
	unlink(path);
	start = now_ns();
	if (impost_snapshot_save(guest.vm, path, NULL, &saved))
		return failed(ctx, "impost_snapshot_save");
	ret[0] = (now_ns() - start) / 1e6;
	ret[1] = (double)saved.data_bytes / (double)MIB;
	ret[2] = (double)saved.zero_bytes / (double)MIB;
	return 0;
}

/* --- restoring --- */

/* Saves a guest of so many MiB, half of which, but 512 MiB at the most, is data. */
static int prepare_file(struct impost_context *ctx, uint32_t mib, const char *path)
{
	struct spin spin = {.vm = NULL};
	int err;

	if (access(path, F_OK) == 0)
		return 0;
	err = create(ctx, &spin, HALVES, mib * MIB, (mib < SAVED ? mib : SAVED) * MIB);
	if (!err && impost_snapshot_save(spin.vm, path, NULL, NULL))
		err = failed(ctx, "impost_snapshot_save");
	spin_destroy(&spin);
	return err;
}

/* From a file to the guest's first exit, in milliseconds; RET[1]: of that, to the restored memory,
 * and RET[2]: to its state. */
static int restore(struct impost_context *ctx, const char *path, struct spin *spin,
		   double ret[MAX_NUMBERS])
{
	const struct impost_snapshot_restore_options map = {
		.size = sizeof(map), .memory = IMPOST_SNAPSHOT_MAP, .backend = "kvm"};
	struct impost_snapshot *snapshot;
	double start = now_ns();
	int err;

	if (impost_snapshot_open(ctx, path, NULL, &snapshot))
		return failed(ctx, "impost_snapshot_open");
	err = impost_snapshot_restore(snapshot, &map, &spin->vm);
	ret[1] = (now_ns() - start) / 1e6;
	if (!err)
		err = impost_snapshot_load(snapshot, spin->vm);
	ret[2] = (now_ns() - start) / 1e6;
	if (err) {
		failed(ctx, "restoring");
	} else {
		spin->vcpu = impost_vm_vcpu(spin->vm, 0);
		err = spin_exits(ctx, spin, 1);
	}
	ret[0] = (now_ns() - start) / 1e6;
	impost_snapshot_close(snapshot);
	return err;
}

/* ARG: MiB of the guest. */
static int take_restore(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct spin spin = {.vm = NULL};
	char path[PATH];
	int err;

	name_file(path, "restored", arg);
	if (prepare_file(ctx, arg, path))
		return -1;
	err = restore(ctx, path, &spin, ret);
	spin_destroy(&spin);
	return err;
}

/* The same of a VM of that size that is made by plain ioctls in the best order, and enters the
 * guest. */
static int take_start(struct impost_context *ctx, uint32_t arg, double ret[MAX_NUMBERS])
{
	struct raw_vm raw;
	double start = now_ns();
	int err;

	(void)ctx;
	err = raw_create(&raw, state_guest, "", arg * MIB, RAW_MEMORY_FIRST);
	if (!err)
		err = raw_exits(&raw, SPIN_PORT, 1);
	ret[0] = (now_ns() - start) / 1e6;
	raw_destroy(&raw);
	return err;
}

const struct bench_case snapshot_cases[] = {
	{"files-halves", take_files, HALVES},
	{"files-mixed", take_files, MIXED},
	{"save-halves", take_save, HALVES},
	{"save-mixed", take_save, MIXED},
	{"restore-256", take_restore, 256},
	{"restore-1024", take_restore, 1024},
	{"restore-8192", take_restore, 8192},
	{"start-256", take_start, 256},
	{"start-1024", take_start, 1024},
	{"start-8192", take_start, 8192},
	{NULL, NULL, 0},
};
