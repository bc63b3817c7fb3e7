/* SPDX-License-Identifier: Apache-2.0 */
/* Every rule of the loader: what is refused, and with which words. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <impost/impost.h>

static char folder[] = "/tmp/impost-loader-XXXXXX";
static struct impost_context *ctx;

/* Copies the plugin FROM of the build to FILE in the folder. */
static void install(const char *from, const char *file)
{
	char source[4096], target[4096], buf[65536];
	ssize_t n;
	int in, out;

	snprintf(source, sizeof(source), "%s/%s.so", FAKE_DIR, from);
	snprintf(target, sizeof(target), "%s/%s", folder, file);
	in = open(source, O_RDONLY | O_CLOEXEC);
	out = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	cr_assert(in >= 0 && out >= 0, "%s, %s", source, target);
	fchmod(out, 0644);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		cr_assert(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

static void write_file(const char *file, const char *text)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	f = fopen(path, "w");
	cr_assert(f);
	fputs(text, f);
	fclose(f);
	chmod(path, 0644);
}

static const char *in_folder(const char *file)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	return path;
}

static void begin(void)
{
	cr_assert(mkdtemp(folder));
	chmod(folder, 0755);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", folder) == 0);
}

static void end(void)
{
	char command[64];

	cr_assert(impost_context_close(ctx) == 0);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_assert(system(command) == 0);
}

TestSuite(loader, .init = begin, .fini = end);

static int probe(const char *name)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	return impost_backend_probe(ctx, name, &caps);
}

/* What is listed of the plugins named NAME, the INDEX-th: builtin backends are listed too. */
static int info_of(const char *name, uint32_t index, struct impost_plugin_info *ret_info)
{
	for (uint32_t i = 0;; i++) {
		int err = impost_plugin_info(ctx, i, ret_info);

		if (err || (strcmp(ret_info->name, name) == 0 && index-- == 0))
			return err;
	}
}

/* Plugin NAME is refused, with WORDS in the reason. */
static void refuse_probe(const char *name, const char *words)
{
	int err = probe(name);

	cr_expect(err == -IMPOST_EPLUGIN, "%s: %d", name, err);
	cr_expect(strstr(impost_error(ctx), words), "%s: '%s' has no '%s'", name, impost_error(ctx),
		  words);
}

/* And is listed with its file. Listings are made once: all files must be there. */
static void refuse(const char *name, const char *words)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	refuse_probe(name, words);
	cr_assert(info_of(name, 0, &info) == 0);
	cr_expect(info.status < 0);
	cr_expect(strstr(info.reason, words), "%s: '%s'", name, info.reason);
	cr_expect(strncmp(info.file, folder, strlen(folder)) == 0);
}

Test(loader, a_whole_plugin_opens)
{
	struct impost_plugin_info info = {.size = sizeof(info)};
	struct impost_caps caps = {.size = sizeof(caps)};

	install("fake", "fake.so");
	cr_assert(impost_backend_probe(ctx, "fake", &caps) == 0, "%s", impost_error(ctx));
	cr_expect(caps.max_vcpus == 4 && impost_caps_has(&caps, IMPOST_CAP_MEM_HOST));
	cr_assert(info_of("fake", 0, &info) == 0);
	cr_expect(info.status == 0 && info.kind == IMPOST_PLUGIN_BACKEND);
	cr_expect(info.abi_major == IMPOST_PLUGIN_ABI_MAJOR);
	cr_expect(strcmp(info.name, "fake") == 0 && strcmp(info.version, "1.2.3") == 0);
	cr_expect(strcmp(info.reason, "") == 0);
	cr_expect(strcmp(info.file, in_folder("fake.so")) == 0);
	cr_expect(info_of("fake", 1, &info) == -ENOENT);
}

Test(loader, descriptors_are_judged)
{
	static const struct {
		const char *name, *words;
	} rules[] = {
		{"bad-magic", "magic 0x00000001"},
		{"other-major", "plugin ABI 2.0, and this library 1.0"},
		{"too-small", "its name is not"},
		{"no-ops", "it has no operations"},
		{"no-run", "vCPU operations lack run"},
		{"no-symbol", "exports no symbol impost_plugin"},
		{"misnamed", "it calls itself other: the file must be other.so"},
		{"unknown-kind", "unknown kind 9"},
		/* The dynamic linker's own words: libltdl would load it, or say "file not found".
		 */
		{"undefined", "undefined symbol: nobody_defines_this"},
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		char file[64];

		snprintf(file, sizeof(file), "%s.so", rules[i].name);
		install(rules[i].name, file);
	}
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		refuse(rules[i].name, rules[i].words);
}

/* A descriptor and tables of a later minor: what is not known is not read, the rest works. */
Test(loader, a_larger_plugin_works)
{
	struct impost_plugin_info info = {.size = sizeof(info)};
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;

	install("larger", "larger.so");
	cr_assert(impost_context_set(ctx, "impost", "backend", "larger") == 0);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0);
	cr_expect(impost_vcpu_destroy(vcpu) == 0 && impost_vm_destroy(vm) == 0);
	cr_assert(info_of("larger", 0, &info) == 0);
	cr_expect(info.abi_minor == 7);
}

/* A table that ends early: what is beyond is missing, and a capability cannot promise it. */
Test(loader, a_smaller_plugin_lacks_operations)
{
	struct impost_vm *vm;

	install("smaller", "smaller.so");
	cr_assert(impost_context_set(ctx, "impost", "backend", "smaller") == 0);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_expect(impost_vm_irq_line(vm, 1, 1) == -ENOTSUP);
	cr_expect(strstr(impost_error(ctx), "irq-line"), "%s", impost_error(ctx));
	cr_expect(impost_vm_destroy(vm) == 0);
	cr_assert(impost_context_set(ctx, "backend.smaller", "caps", "mem-host,irq-line") == 0);
	cr_expect(impost_vm_create(ctx, NULL, &vm) == -IMPOST_EPLUGIN);
	cr_expect(strstr(impost_error(ctx), "claims irq-line and has no operation irq_line"), "%s",
		  impost_error(ctx));
}

Test(loader, a_layer_is_no_backend)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	install("layer", "layer.so");
	cr_expect(probe("layer") == -IMPOST_EPLUGIN);
	cr_expect(strstr(impost_error(ctx), "is a layer"));
	cr_assert(info_of("layer", 0, &info) == 0);
	cr_expect(info.status == 0 && info.kind == IMPOST_PLUGIN_LAYER);
}

/* lt_dlopenext() would read fake.la and load what it names. */
Test(loader, la_files_are_not_read)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	cr_assert(mkdir(in_folder("trap"), 0755) == 0);
	install("bad-magic", "trap/fake.so");
	write_file("fake.la", "# Generated by libtool\ndlname='fake.so'\nlibrary_names='fake.so'\n"
			      "installed=yes\nlibdir='trap'\n");
	cr_expect(probe("fake") == -IMPOST_EPLUGIN);
	cr_expect(strstr(impost_error(ctx), "there is no plugin fake.so"), "%s", impost_error(ctx));
	cr_expect(info_of("fake", 0, &info) == -ENOENT);
	install("fake", "fake.so");
	cr_expect(probe("fake") == 0, "%s", impost_error(ctx));
}

Test(loader, files_that_others_can_write_are_refused)
{
	install("fake", "fake.so");
	cr_assert(chmod(in_folder("fake.so"), 0666) == 0);
	refuse("fake", "can be written by others: chmod go-w");
}

Test(loader, files_that_the_group_can_write_are_refused)
{
	install("fake", "fake.so");
	cr_assert(chmod(in_folder("fake.so"), 0664) == 0);
	refuse("fake", "can be written by others: chmod go-w");
}

Test(loader, folders_that_others_can_write_are_refused)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	install("fake", "fake.so");
	cr_assert(chmod(folder, 0777) == 0);
	cr_expect(probe("fake") == -EACCES);
	cr_expect(strstr(impost_error(ctx), "can be written by others: chmod go-w"), "%s",
		  impost_error(ctx));
	cr_expect(impost_plugin_info(ctx, 0, &info) == -EACCES);
	cr_assert(chmod(folder, 01777) == 0);
	cr_expect(probe("fake") == -EACCES);
	cr_expect(strstr(impost_error(ctx), "can be written by others: use another folder"), "%s",
		  impost_error(ctx));
}

Test(loader, files_of_others_are_refused)
{
	if (geteuid() != 0)
		cr_skip_test("only root can give files away");
	install("fake", "fake.so");
	cr_assert(chown(in_folder("fake.so"), 12345, (gid_t)-1) == 0);
	refuse("fake", "belongs to user 12345");
}

Test(loader, folders_of_others_are_refused)
{
	if (geteuid() != 0)
		cr_skip_test("only root can give folders away");
	install("fake", "fake.so");
	cr_assert(chown(folder, 12345, (gid_t)-1) == 0);
	cr_expect(probe("fake") == -EACCES);
	cr_expect(strstr(impost_error(ctx), "belongs to user 12345"));
}

/* A link's target may lie where others write. */
Test(loader, links_to_files_are_refused)
{
	install("fake", "real");
	cr_assert(symlink("real", in_folder("fake.so")) == 0);
	refuse("fake", "symbolic link");
}

Test(loader, folders_pipes_and_garbage_are_no_plugins)
{
	cr_assert(mkdir(in_folder("dir.so"), 0755) == 0);
	cr_assert(mkfifo(in_folder("pipe.so"), 0644) == 0);
	chmod(in_folder("pipe.so"), 0644);
	write_file("garbage.so", "this is no shared object");
	write_file("empty.so", "");
	refuse("dir", "not a regular file");
	refuse("pipe", "not a regular file");
	refuse("garbage", "it is no ELF64 shared object for x86_64");
	refuse("empty", "it is no ELF64 shared object for x86_64");
}

/* Mapped by the dynamic linker, the missing pages would end the process with SIGBUS. */
Test(loader, truncated_files_are_refused)
{
	struct stat st;
	char name[16], file[32];

	install("fake", "whole");
	cr_assert(stat(in_folder("whole"), &st) == 0);
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "cut-%d", i);
		snprintf(file, sizeof(file), "%s.so", name);
		install("fake", file);
		cr_assert(truncate(in_folder(file), st.st_size * i / 64) == 0);
		refuse_probe(name, "truncated");
	}
	install("fake", "cut-64.so");
	cr_assert(truncate(in_folder("cut-64.so"), st.st_size - 1) == 0);
	refuse("cut-64", "it is truncated: its section headers");
}

/* Writes BYTES of DATA at OFFSET of a copy of the good plugin, which must be refused with WORDS. */
static void refuse_patched(const char *name, off_t offset, const void *data, size_t bytes,
			   const char *words)
{
	char file[32];
	int fd;

	snprintf(file, sizeof(file), "%s.so", name);
	install("fake", file);
	fd = open(in_folder(file), O_WRONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && pwrite(fd, data, bytes, offset) == (ssize_t)bytes);
	close(fd);
	refuse_probe(name, words);
}

Test(loader, headers_that_lie_are_refused)
{
	const uint64_t far = UINT64_MAX - 8;
	const uint16_t executable = ET_EXEC, other_cpu = EM_AARCH64, many = UINT16_MAX;
	const uint8_t class32 = ELFCLASS32;
	const off_t first = sizeof(Elf64_Ehdr);

	refuse_patched("class", EI_CLASS, &class32, 1, "it is no ELF64");
	refuse_patched("type", offsetof(Elf64_Ehdr, e_type), &executable, 2, "it is no ELF64");
	refuse_patched("cpu", offsetof(Elf64_Ehdr, e_machine), &other_cpu, 2, "it is no ELF64");
	refuse_patched("phnum", offsetof(Elf64_Ehdr, e_phnum), &many, 2, "its program headers");
	refuse_patched("phoff", offsetof(Elf64_Ehdr, e_phoff), &far, 8, "its program headers");
	refuse_patched("shoff", offsetof(Elf64_Ehdr, e_shoff), &far, 8, "its section headers");
	refuse_patched("offset", first + (off_t)offsetof(Elf64_Phdr, p_offset), &far, 8,
		       "its segments");
	refuse_patched("filesz", first + (off_t)offsetof(Elf64_Phdr, p_filesz), &far, 8,
		       "its segments");
}

/* A folder's link is followed once, and the folder that it leads to is judged. */
Test(loader, links_to_folders_are_judged_by_their_target)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	cr_assert(mkdir(in_folder("plugins"), 0755) == 0);
	install("fake", "plugins/fake.so");
	cr_assert(symlink("plugins", in_folder("link")) == 0);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", in_folder("link")) == 0);
	cr_expect(probe("fake") == 0, "%s", impost_error(ctx));
	cr_assert(info_of("fake", 0, &info) == 0);
	cr_expect(strcmp(info.file, in_folder("plugins/fake.so")) == 0, "%s", info.file);
	cr_assert(chmod(in_folder("plugins"), 0775) == 0);
	cr_expect(probe("fake") == -EACCES);
}

Test(loader, names_stay_within_the_folder)
{
	static const char *const names[] = {
		"../fake", "/etc/passwd",      "a/b",	      "", "Fake",
		"fake.so", "sixteen-letters-", "f\xc3\xa4ke",
	};

	install("fake", "fake.so");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cr_expect(probe(names[i]) == -IMPOST_EPLUGIN, "%s", names[i]);
		cr_expect(strstr(impost_error(ctx), "is no plugin's name"), "%s",
			  impost_error(ctx));
	}
}

/* Bare names would be looked for along these. */
Test(loader, the_environment_is_not_searched)
{
	cr_assert(mkdir(in_folder("elsewhere"), 0755) == 0);
	install("fake", "elsewhere/fake.so");
	setenv("LTDL_LIBRARY_PATH", in_folder("elsewhere"), 1);
	setenv("LD_LIBRARY_PATH", in_folder("elsewhere"), 1);
	cr_expect(probe("fake") == -IMPOST_EPLUGIN);
}

Test(loader, folders_that_are_not_there)
{
	struct impost_plugin_info info = {.size = sizeof(info)};

	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", in_folder("none")) == 0);
	cr_expect(probe("fake") == -ENOENT);
	cr_expect(impost_plugin_info(ctx, 0, &info) == -ENOENT);
	cr_expect(strstr(impost_error(ctx), in_folder("none")), "%s", impost_error(ctx));
}

/* The first folder's counts; the other is listed with the reason why it does not. */
Test(loader, two_plugins_with_one_name)
{
	struct impost_plugin_info info[2] = {{.size = sizeof(info[0])}, {.size = sizeof(info[0])}};
	char dirs[256];

	cr_assert(mkdir(in_folder("a"), 0755) == 0 && mkdir(in_folder("b"), 0755) == 0);
	install("fake", "a/fake.so");
	install("fake", "b/fake.so");
	snprintf(dirs, sizeof(dirs), "%s/b:%s/a", folder, folder);
	cr_assert(impost_context_set(ctx, "impost", "plugin_dir", dirs) == 0);
	for (uint32_t i = 0; i < 2; i++)
		cr_assert(info_of("fake", i, &info[i]) == 0, "%s", impost_error(ctx));
	cr_expect(strcmp(info[1].file, in_folder("b/fake.so")) == 0);
	cr_expect(info[1].status == 0, "%s", info[1].reason);
	cr_expect(info[0].status == -EEXIST);
	cr_expect(strstr(info[0].reason, "b/fake.so comes first"), "%s", info[0].reason);
	cr_expect(probe("fake") == 0);
}

Test(loader, a_backend_in_use_is_not_unloaded)
{
	struct impost_vm *vm;

	install("fake", "fake.so");
	cr_assert(impost_context_set(ctx, "impost", "backend", "fake") == 0);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_expect(impost_context_close(ctx) == -EBUSY);
	cr_expect(strstr(impost_error(ctx), "1 VM of this context still live"));
	cr_expect(impost_vm_irq_line(vm, 1, 1) == -ENOTSUP); /* all is as it was */
	cr_expect(impost_vm_destroy(vm) == 0);
}

/* Resident: its code is there after the last context has gone. */
Test(loader, plugins_stay_resident)
{
	void *handle;

	install("fake", "fake.so");
	cr_assert(probe("fake") == 0);
	cr_assert(impost_context_close(ctx) == 0);
	handle = dlopen(in_folder("fake.so"), RTLD_NOW | RTLD_NOLOAD);
	cr_expect(handle);
	if (handle)
		dlclose(handle);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
}

static size_t lines_of_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	size_t lines = 0;
	int c;

	while ((c = getc(f)) != EOF)
		lines += c == '\n';
	fclose(f);
	return lines;
}

static void open_use_close(void)
{
	struct impost_context *other;
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_vm *vm;

	cr_assert(impost_context_open(NULL, NULL, &other) == 0);
	cr_assert(impost_context_set(other, "impost", "plugin_dir", folder) == 0);
	cr_assert(impost_context_set(other, "impost", "backend", "no-run,fake") == 0);
	cr_assert(impost_vm_create(other, NULL, &vm) == 0);
	cr_assert(impost_backend_probe(other, "none", &caps) == -IMPOST_EPLUGIN);
	cr_assert(impost_vm_destroy(vm) == 0);
	cr_assert(impost_context_close(other) == 0);
}

Test(loader, opening_1000_times_does_not_grow)
{
	size_t maps, bytes;

	install("fake", "fake.so");
	install("no-run", "no-run.so");
	for (int i = 0; i < 1000; i++) /* until the allocator has filled its caches */
		open_use_close();
	maps = lines_of_maps();
	bytes = mallinfo2().uordblks;
	for (int i = 0; i < 1000; i++)
		open_use_close();
	cr_expect(lines_of_maps() == maps, "%zu mappings became %zu", maps, lines_of_maps());
	cr_expect(mallinfo2().uordblks <= bytes + 4096, "%zu bytes became %zu", bytes,
		  mallinfo2().uordblks);
}

static void *probe_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 50; i++)
		open_use_close();
	return NULL;
}

Test(loader, contexts_of_several_threads_load_at_once)
{
	pthread_t thread[4];

	install("fake", "fake.so");
	install("no-run", "no-run.so");
	for (int i = 0; i < 4; i++)
		cr_assert(pthread_create(&thread[i], NULL, probe_often, NULL) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
}
