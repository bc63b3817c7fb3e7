/* SPDX-License-Identifier: Apache-2.0 */
/* Broken files, each broken in one way: refused by name, before anything is made of them. */
#include <sys/stat.h>

#include "snapshot_golden.h"

#define NAME "broken"

enum from { FULL, DIFF, KEYED };

static struct impost_context *ctx;
static struct impost_snapshot_key key;
static struct made golden[3];

/* Where the last section ends. */
static size_t behind(const struct made *f)
{
	uint32_t last = (uint32_t)get(f, H_SECTIONS, 4) - 1;

	return get(f, entry(f, last, E_OFFSET), 8) + get(f, entry(f, last, E_BYTES), 8);
}

/* The memory area lies BY bytes, which are zero, further behind. */
static void stretch(struct made *f, size_t by)
{
	size_t at = get(f, H_MEMORY_OFFSET, 8), len = f->len - at;

	by = (by + 4095) / 4096 * 4096;
	resize(f, f->len + by);
	memmove(f->bytes + at + by, f->bytes + at, len);
	memset(f->bytes + at, 0, by);
	put(f, H_MEMORY_OFFSET, 8, at + by);
	put(f, H_FILE_BYTES, 8, f->len);
	seal(f);
}

/* Section NAME, and those behind it, lie eight bytes further behind. */
static void part(struct made *f, const char *name)
{
	uint32_t first = find(f, name), count = (uint32_t)get(f, H_SECTIONS, 4);
	size_t from = get(f, entry(f, first, E_OFFSET), 8), end = behind(f);

	stretch(f, 4096);
	memmove(f->bytes + from + 8, f->bytes + from, end - from);
	memset(f->bytes + from, 0, 8);
	for (uint32_t i = first; i < count; i++)
		put(f, entry(f, i, E_OFFSET), 8, get(f, entry(f, i, E_OFFSET), 8) + 8);
	seal(f);
}

/* The area has a page more, behind all regions. */
static void widen(struct made *f)
{
	resize(f, f->len + 4096);
	put(f, H_FILE_BYTES, 8, f->len);
	put(f, H_MEMORY_BYTES, 8, get(f, H_MEMORY_BYTES, 8) + 4096);
	put(f, inside(f, "memory", 8), 8, get(f, H_MEMORY_BYTES, 8));
	seal(f);
}

#define BROKEN(name_, from, error, words, ...)   \
	static void edit_##name_(struct made *f) \
	{                                        \
		__VA_ARGS__                      \
	}
#include "snapshot_broken.def"
#undef BROKEN

#define BROKEN(name_, from, error, words, ...) {#name_, from, error, words, edit_##name_},
static const struct broken {
	const char *name;
	enum from from;
	int error;
	const char *words;
	void (*edit)(struct made *f);
} rows[] = {
#include "snapshot_broken.def"
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* What the files of the table name. */
static void make_others(void)
{
	struct made other;

	golden_copy(GOLDEN_FULL, GOLDEN_FULL);
	golden_copy(GOLDEN_KEYED, "keyed");
	other = made_read(GOLDEN_FULL);
	put(&other, H_ID, 8, 1);
	seal(&other);
	made_write(&other, "other");
	made_free(&other);
	other = made_read(GOLDEN_FULL);
	put(&other, get(&other, H_MEMORY_OFFSET, 8) - 1, 1, 1);
	made_write(&other, "padded");
	made_free(&other);
	other = made_read(GOLDEN_FULL);
	memset(other.bytes, 'x', other.len);
	made_write(&other, "text");
	made_free(&other);
	cr_assert(mkdir("folder", 0700) == 0 && mkfifo("fifo", 0600) == 0);
}

static void begin(void)
{
	static const char *const names[] = {GOLDEN_FULL, GOLDEN_DIFF, GOLDEN_KEYED};
	char path[512];

	folder_begin();
	cr_assert(sodium_init() >= 0);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	key = golden_key(ctx);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, names[i]);
		golden[i] = made_read(path);
	}
	golden[KEYED].key = key.bytes;
	make_others();
}

static void end(void)
{
	for (size_t i = 0; i < 3; i++)
		made_free(&golden[i]);
	cr_expect(impost_context_close(ctx) == 0); /* no VM is left */
	folder_end();
}

TestSuite(snapshot_broken, .init = begin, .fini = end, .timeout = 120);

/* What opening it says or, where all is well but not all there, the pre-flight. */
static int judge(enum from from)
{
	const struct impost_snapshot_open_options options = {.size = sizeof(options),
							     .key = from == KEYED ? &key : NULL};
	struct impost_snapshot *snapshot;
	int err = impost_snapshot_open(ctx, NAME, &options, &snapshot);

	if (err)
		return err;
	err = impost_snapshot_check(snapshot, "mock", NULL, NULL);
	impost_snapshot_close(snapshot);
	return err;
}

static void write_broken(const struct broken *row)
{
	struct made made = golden[row->from];

	made.bytes = copy_of(golden[row->from].bytes, golden[row->from].len);
	row->edit(&made);
	made_write(&made, NAME);
	made_free(&made);
}

Test(snapshot_broken, each_is_refused_by_name)
{
	struct belongings before;
	int err;

	cr_expect(ROWS >= 200);
	write_broken(&rows[0]);
	judge(FULL); /* what a first call makes once */
	for (const struct broken *row = rows; row < rows + ROWS; row++) {
		write_broken(row);
		before = count_belongings();
		err = judge(row->from);
		cr_expect(err == -row->error, "%s: %d (%s)", row->name, err, impost_error(ctx));
		cr_expect(strstr(impost_error(ctx), row->words), "%s: '%s' has no '%s'", row->name,
			  impost_error(ctx), row->words);
		cr_expect(strstr(impost_error(ctx), NAME) || strstr(impost_error(ctx), "keyed") ||
				  err == -IMPOST_EFORMAT || row->from == DIFF,
			  "%s: '%s' names no file", row->name, impost_error(ctx));
		/* Mappings are the sanitizers' too. */
		cr_expect(count_belongings().fds == before.fds, "%s", row->name);
	}
}

/* What is edited was whole. */
Test(snapshot_broken, unbroken_ones_are_not)
{
	for (enum from from = FULL; from <= KEYED; from++) {
		made_write(&golden[from], NAME);
		cr_expect(judge(from) == 0, "%s", impost_error(ctx));
		seal(&golden[from]);
		put_together(&golden[from], (struct parts[]){take_apart(&golden[from])});
		made_write(&golden[from], NAME);
		cr_expect(judge(from) == 0, "%s", impost_error(ctx));
		stretch(&golden[from], 3 << 20);
		part(&golden[from], "vm");
		widen(&golden[from]);
		made_write(&golden[from], NAME);
		cr_expect(judge(from) == 0, "%s", impost_error(ctx));
	}
}

/* Any byte that is not what it was, but in memory: padding too. */
Test(snapshot_broken, any_byte_counts)
{
	struct made made = golden[DIFF];
	struct stat status;
	int fd, err;

	made.bytes = copy_of(golden[DIFF].bytes, golden[DIFF].len);
	made_write(&made, NAME);
	fd = open(NAME, O_WRONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && fstat(fd, &status) == 0);
	for (size_t at = 0; at < get(&golden[DIFF], H_MEMORY_OFFSET, 8); at += 1 + at / 512) {
		uint8_t byte = (uint8_t)(made.bytes[at] ^ (1u << at % 8));

		cr_assert(pwrite(fd, &byte, 1, (off_t)at) == 1);
		err = judge(DIFF);
		cr_expect(err < 0, "byte %zu: %d", at, err);
		cr_assert(pwrite(fd, &made.bytes[at], 1, (off_t)at) == 1);
	}
	close(fd);
	made_free(&made);
}
