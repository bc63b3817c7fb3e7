/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a snapshot, below what is in it: written and read back, chains of bases, keys. */
#include <stdio.h>

#include "core.h"
#include "snapshot.h"
#include "snapshot_made.h"

#define AREA (3 * 4096u)

static struct impost_context *ctx;
static char folder[] = "/tmp/impost-snapshot-XXXXXX";
static const uint8_t table[40] = {1, 2, 3};
static const char text[] = "a section of text";

static void begin(void)
{
	cr_assert(sodium_init() >= 0);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	cr_assert(mkdtemp(folder));
	cr_assert(chdir(folder) == 0);
}

static void end(void)
{
	char command[64];

	cr_expect(impost_context_close(ctx) == 0);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_expect(system(command) == 0);
}

TestSuite(snapshot_file, .init = begin, .fini = end, .timeout = 60);

static void make_key(struct impost_snapshot_key *key, const char *secret)
{
	key->size = sizeof(*key);
	expect_ok(ctx, impost_snapshot_key_make(ctx, secret, strlen(secret), key));
}

/* Writes a snapshot of a few sections at PATH, with BASE a diff to it. */
static void make(const char *path, const struct impost_snapshot_key *key, const char *base)
{
	struct snapshot_writer *writer;
	struct snapshot_file *file;
	uint8_t page[4096];
	uint64_t offset;
	int fd;

	memset(page, 0x5a, sizeof(page));
	expect_ok(ctx, snapshot_writer_open(ctx, path, key, &writer));
	expect_ok(ctx, snapshot_writer_add(writer, "memory", IMPOST_SNAPSHOT_MEMORY, table,
					   sizeof(table)));
	expect_ok(ctx, snapshot_writer_add(writer, "machine", IMPOST_SNAPSHOT_STATE, text,
					   sizeof(text)));
	expect_ok(ctx, snapshot_writer_add(writer, "empty", IMPOST_SNAPSHOT_STATE, "", 0));
	if (base) {
		expect_ok(ctx, snapshot_file_open(ctx, base, key, false, &file));
		snapshot_writer_base(writer, file);
		snapshot_file_close(file);
		expect_ok(ctx, snapshot_writer_add(writer, "base", IMPOST_SNAPSHOT_BASE, base,
						   strlen(base)));
	}
	expect_ok(ctx, snapshot_writer_begin_memory(writer, AREA, &fd, &offset));
	cr_assert(pwrite(fd, page, sizeof(page), (off_t)offset + 4096) == sizeof(page));
	expect_ok(ctx, snapshot_writer_finish(writer, true));
	snapshot_writer_free(writer);
}

static size_t count_names(void)
{
	return count_entries(".") - 2;
}

static void expect_content(struct snapshot_file *file)
{
	uint8_t page[4096];
	void *data;

	expect_ok(ctx, snapshot_file_section(file, 1, &data));
	cr_expect(memcmp(data, text, sizeof(text)) == 0);
	free(data);
	expect_ok(ctx, snapshot_file_section(file, 2, &data));
	free(data);
	cr_expect(file->head.memory_bytes == AREA);
	cr_expect(pread(file->fd, page, sizeof(page), (off_t)file->head.memory_offset + 4096) ==
		  sizeof(page));
	cr_expect(page[0] == 0x5a && page[4095] == 0x5a);
}

Test(snapshot_file, what_is_written_is_read)
{
	struct impost_snapshot_key key;
	struct snapshot_file *file;
	struct stat status;

	make_key(&key, "a secret of sixteen");
	for (int keyed = 0; keyed < 2; keyed++) {
		make("one", keyed ? &key : NULL, NULL);
		expect_ok(ctx, snapshot_file_open(ctx, "one", keyed ? &key : NULL, false, &file));
		expect_content(file);
		cr_expect(file->hash.keyed == keyed);
		cr_expect(file->disk_bytes < file->head.file_bytes);
		expect_ok(ctx, snapshot_file_unchanged(file));
		snapshot_file_close(file);
		cr_expect(count_names() == 1);
	}
	cr_assert(stat("one", &status) == 0);
	cr_expect((status.st_mode & 07777) == 0600);
}

/* Another program's idea of the format makes the same checksums and tags. */
Test(snapshot_file, format_is_as_documented)
{
	struct impost_snapshot_key key;
	struct made made;
	uint8_t *before;

	make_key(&key, "a secret of sixteen");
	for (int keyed = 0; keyed < 2; keyed++) {
		make("one", keyed ? &key : NULL, NULL);
		made = made_read("one");
		made.key = keyed ? key.bytes : NULL;
		before = malloc(made.len);
		memcpy(before, made.bytes, made.len);
		for (uint32_t i = 0; i < get(&made, H_SECTIONS, 4); i++)
			memset(made.bytes + entry(&made, i, E_CHECKSUM), 0xff, 16);
		seal(&made);
		cr_expect(memcmp(before, made.bytes, made.len) == 0);
		free(before);
		made_free(&made);
	}
}

static void expect_open(const char *path, const struct impost_snapshot_key *key, bool look, int err,
			const char *words)
{
	struct belongings before = count_belongings();
	struct snapshot_open how = {.key = key, .look = look};
	struct snapshot_chain chain;

	expect_error(ctx, snapshot_chain_open(ctx, path, &how, &chain), err, words);
	cr_expect(count_belongings().fds == before.fds);
}

Test(snapshot_file, keys_are_matched)
{
	struct impost_snapshot_key key, other;
	struct snapshot_file *file;

	make_key(&key, "a secret of sixteen");
	make_key(&other, "a secret of sixteeN");
	make("keyed", &key, NULL);
	make("open", NULL, NULL);
	expect_open("keyed", NULL, false, -ENOKEY, "keyed: it has an authentication tag");
	expect_open("keyed", &other, false, -EKEYREJECTED, "another key");
	expect_open("keyed", &other, true, -EKEYREJECTED, "another key");
	expect_open("open", &key, false, -EKEYREJECTED, "it has no authentication tag");
	expect_ok(ctx, snapshot_file_open(ctx, "keyed", NULL, true, &file));
	cr_expect(!file->hash.keyed && file->head.flags & HEADER_KEYED);
	snapshot_file_close(file);
}

Test(snapshot_file, chain_is_followed)
{
	struct snapshot_open how = {0};
	struct snapshot_chain chain;

	make("full", NULL, NULL);
	make("first", NULL, "full");
	make("second", NULL, "first");
	expect_ok(ctx, snapshot_chain_open(ctx, "second", &how, &chain));
	cr_expect(chain.count == 3 && strcmp(chain.base, "first") == 0);
	cr_expect(memcmp(chain.file[0]->head.base_id, chain.file[1]->head.id, 16) == 0);
	snapshot_chain_close(&chain);
	/* From elsewhere: the folder is the diff's, unless one is named. */
	cr_assert(mkdir("sub", 0700) == 0 && chdir("sub") == 0);
	expect_ok(ctx, snapshot_chain_open(ctx, "../second", &how, &chain));
	snapshot_chain_close(&chain);
	cr_assert(rename("../second", "second") == 0);
	expect_open("second", NULL, false, -ENOENT, "its base first is not there");
	how.base_dir = folder;
	expect_ok(ctx, snapshot_chain_open(ctx, "second", &how, &chain));
	snapshot_chain_close(&chain);
	how.base_dir = NULL;
	how.alone = true;
	expect_ok(ctx, snapshot_chain_open(ctx, "second", &how, &chain));
	cr_expect(chain.count == 1 && strcmp(chain.base, "first") == 0);
	snapshot_chain_close(&chain);
}

Test(snapshot_file, base_is_the_one_it_was)
{
	struct impost_snapshot_key key;

	make_key(&key, "a secret of sixteen");
	make("full", NULL, NULL);
	make("first", NULL, "full");
	make("full", NULL, NULL);
	expect_open("first", NULL, false, -ESTALE, "full is not the base");
	make("keyed", &key, NULL);
	make("diff", &key, "keyed");
	make("keyed", NULL, NULL);
	expect_open("diff", &key, false, -EKEYREJECTED, "keyed: it has no authentication tag");
	cr_assert(unlink("keyed") == 0);
	expect_open("diff", &key, false, -ENOENT, "diff: its base keyed is not there");
	cr_assert(mkdir("keyed", 0700) == 0);
	expect_open("diff", &key, false, -EINVAL, "no regular file");
}

Test(snapshot_file, chain_that_comes_back_ends)
{
	make("full", NULL, NULL);
	make("first", NULL, "full");
	make("second", NULL, "first");
	cr_assert(unlink("full") == 0 && symlink("first", "full") == 0);
	expect_open("first", NULL, false, -ELOOP, "comes back");
	cr_assert(unlink("full") == 0 && link("second", "full") == 0);
	expect_open("second", NULL, false, -ELOOP, "first: its base full is a diff to it");
}

Test(snapshot_file, chain_has_an_end)
{
	char path[16], base[16];
	struct snapshot_open how = {0};
	struct snapshot_chain chain;

	make("0", NULL, NULL);
	for (unsigned i = 1; i <= SNAPSHOT_CHAIN; i++) {
		snprintf(path, sizeof(path), "%u", i);
		snprintf(base, sizeof(base), "%u", i - 1);
		make(path, NULL, base);
	}
	expect_ok(ctx, snapshot_chain_open(ctx, base, &how, &chain));
	cr_expect(chain.count == SNAPSHOT_CHAIN);
	snapshot_chain_close(&chain);
	expect_open(path, NULL, false, -ELOOP, "more than 64");
}

Test(snapshot_file, file_that_changes_is_noticed)
{
	struct snapshot_file *file;
	struct made made;
	void *data;

	make("one", NULL, NULL);
	expect_ok(ctx, snapshot_file_open(ctx, "one", NULL, false, &file));
	cr_assert(link("one", "two") == 0);
	expect_ok(ctx, snapshot_file_unchanged(file));
	make("one", NULL, NULL); /* another file, that has the name */
	expect_ok(ctx, snapshot_file_unchanged(file));
	made = made_read("two");
	put(&made, inside(&made, "machine", 3), 1, 'X');
	made_write(&made, "two");
	made_free(&made);
	expect_error(ctx, snapshot_file_section(file, 1, &data), -EBADMSG,
		     "machine: it is damaged");
	expect_error(ctx, snapshot_file_unchanged(file), -ESTALE, "changed after it was opened");
	cr_assert(truncate("two", 700) == 0);
	expect_error(ctx, snapshot_file_unchanged(file), -ESTALE, "it has 700 now");
	expect_error(ctx, snapshot_file_section(file, 1, &data), -ENODATA, "truncated");
	snapshot_file_close(file);
}

/* What may be replaced, and what is left when it is not. */
Test(snapshot_file, only_files_are_replaced)
{
	struct snapshot_writer *writer;

	cr_assert(mkdir("sub", 0700) == 0 && mkfifo("fifo", 0600) == 0);
	expect_error(ctx, snapshot_writer_open(ctx, "sub", NULL, &writer), -EISDIR, "sub:");
	expect_error(ctx, snapshot_writer_open(ctx, "sub/", NULL, &writer), -EISDIR, "folder");
	expect_error(ctx, snapshot_writer_open(ctx, "fifo", NULL, &writer), -EEXIST, "fifo:");
	expect_error(ctx, snapshot_writer_open(ctx, "/dev/null", NULL, &writer), -EEXIST,
		     "no regular file");
	expect_error(ctx, snapshot_writer_open(ctx, "none/file", NULL, &writer), -ENOENT, "folder");
	cr_assert(symlink("nowhere", "dangling") == 0);
	expect_error(ctx, snapshot_writer_open(ctx, "dangling", NULL, &writer), -EEXIST,
		     "dangling: what is there is a symbolic link");
	cr_expect(count_names() == 3);
}

/* Neither the link is replaced nor what it stands for, also if it comes while the file is made;
 * but the folder may be named by one. */
Test(snapshot_file, links_are_not_replaced)
{
	struct snapshot_writer *writer;
	struct stat before, after;
	uint64_t offset;
	int fd;

	make("one", NULL, NULL);
	cr_assert(mkdir("sub", 0700) == 0 && symlink("../one", "sub/name") == 0);
	cr_assert(stat("one", &before) == 0);
	expect_error(ctx, snapshot_writer_open(ctx, "sub/name", NULL, &writer), -EEXIST,
		     "sub/name: what is there is a symbolic link");
	expect_ok(ctx, snapshot_writer_open(ctx, "late", NULL, &writer));
	expect_ok(ctx, snapshot_writer_add(writer, "machine", IMPOST_SNAPSHOT_STATE, text,
					   sizeof(text)));
	expect_ok(ctx, snapshot_writer_begin_memory(writer, AREA, &fd, &offset));
	cr_assert(symlink("one", "late") == 0);
	expect_error(ctx, snapshot_writer_finish(writer, true), -EEXIST, "a symbolic link");
	snapshot_writer_free(writer);
	cr_assert(stat("one", &after) == 0 && after.st_ino == before.st_ino);
	cr_expect(lstat("late", &after) == 0 && S_ISLNK(after.st_mode));
	cr_assert(symlink("sub", "folder") == 0);
	make("folder/two", NULL, NULL);
	cr_expect(lstat("sub/two", &after) == 0 && S_ISREG(after.st_mode));
	cr_expect(count_names() == 4);
}

Test(snapshot_file, what_is_not_finished_leaves_nothing)
{
	struct snapshot_writer *writer;
	struct belongings before;
	struct made old, now;
	uint64_t offset;
	int fd;

	make("one", NULL, NULL);
	old = made_read("one");
	before = count_belongings();
	expect_ok(ctx, snapshot_writer_open(ctx, "one", NULL, &writer));
	cr_expect(count_names() == 1);
	expect_ok(ctx, snapshot_writer_begin_memory(writer, AREA, &fd, &offset));
	snapshot_writer_free(writer);
	expect_same_belongings(before);
	now = made_read("one");
	cr_expect(now.len == old.len && memcmp(now.bytes, old.bytes, now.len) == 0);
	cr_expect(count_names() == 1);
	made_free(&old);
	made_free(&now);
}

Test(snapshot_file, names_have_room)
{
	struct snapshot_writer *writer;
	char name[65];

	memset(name, 'n', sizeof(name) - 1);
	name[64] = '\0';
	expect_ok(ctx, snapshot_writer_open(ctx, "one", NULL, &writer));
	expect_error(ctx, snapshot_writer_add(writer, name, IMPOST_SNAPSHOT_STATE, "", 0), -EINVAL,
		     "1 to 63");
	expect_ok(ctx, snapshot_writer_add(writer, name + 1, IMPOST_SNAPSHOT_STATE, "", 0));
	expect_error(ctx,
		     snapshot_writer_add(writer, "long", IMPOST_SNAPSHOT_STATE, "", (64 << 20) + 1),
		     -E2BIG, "section long has");
	snapshot_writer_free(writer);
}

Test(snapshot_file, key_files)
{
	struct impost_snapshot_key key = {.size = sizeof(key)}, same = key;
	struct made made = {0};

	expect_error(ctx, impost_snapshot_key_make(ctx, "short", 5, &key), -EINVAL, "16 bytes");
	expect_error(ctx, impost_snapshot_key_read(ctx, "key", &key), -ENOENT, "key: cannot");
	resize(&made, 15);
	made_write(&made, "key");
	expect_error(ctx, impost_snapshot_key_read(ctx, "key", &key), -EINVAL, "16 bytes");
	resize(&made, 65536);
	made_write(&made, "key");
	expect_ok(ctx, impost_snapshot_key_read(ctx, "key", &key));
	expect_ok(ctx, impost_snapshot_key_make(ctx, made.bytes, made.len, &same));
	cr_expect(memcmp(&key, &same, sizeof(key)) == 0);
	resize(&made, 65537);
	made_write(&made, "key");
	expect_error(ctx, impost_snapshot_key_read(ctx, "key", &key), -EINVAL, "at most");
	cr_assert(truncate("key", 32) == 0 && chmod("key", 0640) == 0);
	expect_error(ctx, impost_snapshot_key_read(ctx, "key", &key), -EPERM, "chmod 600");
	expect_error(ctx, impost_snapshot_key_read(ctx, folder, &key), -EINVAL, "regular file");
	made_free(&made);
}

/* A file that takes nothing of the disk does not make its reader take memory. */
Test(snapshot_file, long_sections_are_refused_unread)
{
	static const char *const names[] = {"machine", "memory"};
	const uint64_t most = UINT64_C(64) << 20;

	for (size_t i = 0; i < 2; i++) {
		struct made made;
		uint64_t memory = UINT64_C(1) << 40;

		make("one", NULL, NULL);
		made = made_read("one");
		put(&made, H_MEMORY_OFFSET, 8, memory);
		put(&made, H_MEMORY_BYTES, 8, AREA);
		put(&made, H_FILE_BYTES, 8, memory + AREA);
		put(&made, entry(&made, find(&made, "machine"), E_OFFSET), 8, most);
		put(&made, entry(&made, find(&made, "empty"), E_OFFSET), 8, 4 * most);
		put(&made, entry(&made, find(&made, names[i]), E_BYTES), 8,
		    most + 1 + (i ? AREA / 4096 : 0));
		if (i) /* it comes before the others */
			put(&made, entry(&made, find(&made, "machine"), E_OFFSET), 8, 2 * most);
		seal_header(&made);
		made_write(&made, "one");
		cr_assert(truncate("one", (off_t)(memory + AREA)) == 0);
		expect_open("one", NULL, false, -IMPOST_EFORMAT, "it is too long");
		made_free(&made);
	}
}
