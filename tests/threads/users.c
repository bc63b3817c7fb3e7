/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several users of the library in one process that know nothing of each other, each with what it
 * opened itself; and a user that comes and goes a thousand times. TAP.
 * Usage: users LIBRARY PLUGINS KERNEL SCRIPT USER USER
 */
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

#define GREETING  "Hello from an Impost guest\n"
#define ROUNDS	  50u	/* of users that come and go beside another one */
#define LIFETIMES 1000u /* of one that comes and goes alone */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static char folder[] = "/tmp/impost-users-XXXXXX";
static char library[4096], copied[4096]; /* the library, and a copy of it elsewhere */
static const struct user *users[2];
static atomic_int failed;

__attribute__((format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	atomic_store(&failed, 1);
}

static void expect(const char *what, const char *problem)
{
	if (problem)
		fail("%s: %s", what, problem);
}

/* --- files --- */

static const char *path_of(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", folder, name);
	return path;
}

__attribute__((format(printf, 2, 3))) static void write_file(const char *name, const char *fmt, ...)
{
	char path[4096];
	FILE *file = fopen(path_of(path, sizeof(path), name), "we");
	va_list ap;

	va_start(ap, fmt);
	if (!file || vfprintf(file, fmt, ap) < 0 || fclose(file))
		fail("cannot write %s", path);
	va_end(ap);
}

static void copy_library(void)
{
	static char bytes[65536];
	FILE *from = fopen(library, "re"), *to = fopen(copied, "we");
	size_t got;

	while (from && to && (got = fread(bytes, 1, sizeof(bytes), from)) > 0)
		fwrite(bytes, 1, got, to);
	if (!from || !to || fclose(from) || fclose(to))
		fail("cannot copy %s", library);
}

static void write_files(const char *plugins, const char *kernel, const char *script)
{
	static const char ini[] =
		"[impost]\nbackend = %s\nplugin_dir = %s\n[vm]\nmemory = 4M\n[boot]\nkernel = %s\n"
		"[backend.mock]\nscript = %s\n";

	write_file("mock.ini", ini, "mock", plugins, kernel, script);
	write_file("kvm.ini", ini, "kvm", plugins, kernel, script);
	write_file("forever.ini", ini, "mock", plugins, kernel, "forever.script");
	write_file("forever.script", "[vcpu 0]\nrepeat = forever\nout = 0x80 1 1\nend =\n");
	path_of(copied, sizeof(copied), "libimpost-copy.so");
	copy_library();
}

static void remove_files(void)
{
	static const char *const names[] = {"mock.ini", "kvm.ini", "forever.ini", "forever.script",
					    "libimpost-copy.so"};
	char path[4096];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(path_of(path, sizeof(path), names[i]));
	rmdir(folder);
}

/* --- users --- */

/* One whole life of USER: LIBRARY is opened and closed again. */
static void live(const struct user *user, const char *path, const char *ini)
{
	char file[4096];
	const char *problem = user->open(path, path_of(file, sizeof(file), ini));

	if (!problem)
		problem = user->run();
	expect(ini, problem);
	if (strcmp(user->said(), GREETING) != 0)
		fail("%s: the guest said \"%s\"", ini, user->said());
	user->fail("one that went");
	if (!strstr(user->error(), "one that went"))
		fail("%s: another text: %s", ini, user->error());
	expect("close", user->close());
}

struct lives {
	const struct user *user;
	const char *path, *ini;
};

static void *live_often(void *arg)
{
	const struct lives *lives = arg;

	for (uint32_t i = 0; i < ROUNDS && !atomic_load(&failed); i++)
		live(lives->user, lives->path, lives->ini);
	return NULL;
}

/* Both users come and go on two threads, one with the library at OTHER. */
static void both_live(const char *other, const char *ini)
{
	struct lives first = {users[0], library, ini}, second = {users[1], other, ini};
	pthread_t thread;

	if (pthread_create(&thread, NULL, live_often, &second)) {
		fail("no thread");
		return;
	}
	live_often(&first);
	pthread_join(thread, NULL);
}

static void *run(void *arg)
{
	expect("the one that runs", users[1]->run());
	return arg;
}

/* Waits, for a minute at the most, until the guest of USER has made an access after COUNT. */
static uint64_t further(const struct user *user, uint64_t count)
{
	static const struct timespec moment = {.tv_nsec = 1000000};
	uint64_t now = count;

	for (uint32_t i = 0; i < 60000 && now == count; i++) {
		nanosleep(&moment, NULL);
		now = user->accesses();
	}
	if (now == count)
		fail("the one that runs does not");
	return now;
}

/* One user, with the library at PATH, comes and goes while the other's guest runs. */
static void goes_beside(const char *path)
{
	char file[4096];
	const char *problem = users[1]->open(library, path_of(file, sizeof(file), "forever.ini"));
	uint64_t count = users[1]->accesses();
	pthread_t thread;

	expect("open", problem);
	if (problem || pthread_create(&thread, NULL, run, NULL)) {
		fail("no thread");
		return;
	}
	users[1]->fail("one that runs");
	for (uint32_t i = 0; i < ROUNDS; i++) {
		count = further(users[1], count);
		live(users[0], path, "mock.ini");
	}
	further(users[1], users[1]->accesses());
	if (!strstr(users[1]->error(), "one that runs"))
		fail("the one that runs has the text of another: %s", users[1]->error());
	users[1]->stop();
	pthread_join(thread, NULL);
	expect("close", users[1]->close());
}

/* --- what a process has --- */

struct has {
	uint64_t descriptors, mappings, threads, heap_bytes, resident_pages;
};

static uint64_t entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	uint64_t count = 0;

	while (dir && (entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	if (!dir || closedir(dir))
		fail("cannot read %s", path);
	return count;
}

static uint64_t lines(const char *path)
{
	FILE *file = fopen(path, "re");
	uint64_t count = 0;
	int c;

	while (file && (c = fgetc(file)) != EOF)
		count += c == '\n';
	if (!file || fclose(file))
		fail("cannot read %s", path);
	return count;
}

static uint64_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long all, pages = 0;

	if (!file || fscanf(file, "%lu %lu", &all, &pages) != 2 || fclose(file))
		fail("cannot read /proc/self/statm");
	return pages;
}

static struct has look(void)
{
	return (struct has){
		.descriptors = entries("/proc/self/fd"),
		.mappings = lines("/proc/self/maps"),
		.threads = entries("/proc/self/task"),
		.heap_bytes = mallinfo2().uordblks,
		.resident_pages = resident(),
	};
}

static void compare(const char *what, uint64_t before, uint64_t after, uint64_t most)
{
	printf("# %s: %lu, after %u times %lu\n", what, (unsigned long)before, LIFETIMES,
	       (unsigned long)after);
	if (after > before + most)
		fail("%s grew", what);
}

static void thousand(const char *ini)
{
	struct has before, after;

	for (uint32_t i = 0; i < ROUNDS; i++) /* what is kept for good is there after that */
		live(users[0], library, ini);
	before = look();
	for (uint32_t i = 0; i < LIFETIMES && !atomic_load(&failed); i++)
		live(users[0], library, ini);
	after = look();
	compare("descriptors", before.descriptors, after.descriptors, 0);
	compare("threads", before.threads, after.threads, 0);
#ifndef SANITIZED /* their memory is their own */
	compare("mappings", before.mappings, after.mappings, 0);
	/* The least that malloc() gives takes 32 bytes: half of that for each life is no leak of
	 * theirs, but what the C library keeps of freed memory, which counts here and differs with
	 * how threads meet. */
	compare("bytes of heap", before.heap_bytes, after.heap_bytes, 16 * LIFETIMES);
	compare("resident pages", before.resident_pages, after.resident_pages, 16);
#endif
}

/* --- tests --- */

static void on_one_library_mock(void)
{
	both_live(library, "mock.ini");
}

static void on_one_library_kvm(void)
{
	both_live(library, "kvm.ini");
}

static void on_two_libraries_mock(void)
{
	both_live(copied, "mock.ini");
}

static void on_two_libraries_kvm(void)
{
	both_live(copied, "kvm.ini");
}

static void goes_beside_on_one_library(void)
{
	goes_beside(library);
}

static void goes_beside_on_two_libraries(void)
{
	goes_beside(copied);
}

static void thousand_mock(void)
{
	thousand("mock.ini");
}

static void thousand_kvm(void)
{
	thousand("kvm.ini");
}

static const struct {
	const char *name;
	void (*fn)(void);
	int kvm;
} tests[] = {
	{"two users of one library come and go, mock", on_one_library_mock, 0},
	{"two users of one library come and go, kvm", on_one_library_kvm, 1},
	{"two users of two libraries come and go, mock", on_two_libraries_mock, 0},
	{"two users of two libraries come and go, kvm", on_two_libraries_kvm, 1},
	{"one goes while the other runs, with one library", goes_beside_on_one_library, 0},
	{"one goes while the other runs, with two libraries", goes_beside_on_two_libraries, 0},
	{"nothing grows in a thousand lives, mock", thousand_mock, 0},
	{"nothing grows in a thousand lives, kvm", thousand_kvm, 1},
};

static int run_all(void)
{
	int kvm = access("/dev/kvm", R_OK | W_OK) == 0, all = 0;

	printf("1..%zu\n", sizeof(tests) / sizeof(tests[0]));
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (tests[i].kvm && !kvm) {
			printf("ok %zu - %s # SKIP no usable /dev/kvm\n", i + 1, tests[i].name);
			continue;
		}
		atomic_store(&failed, 0);
		tests[i].fn();
		printf("%sok %zu - %s\n", atomic_load(&failed) ? "not " : "", i + 1, tests[i].name);
		fflush(stdout);
		all |= atomic_load(&failed);
	}
	return all;
}

int main(int argc, char **argv)
{
	int status;

	if (argc != 7 || !realpath(argv[1], library) || !mkdtemp(folder)) {
		fprintf(stderr, "usage: %s LIBRARY PLUGINS KERNEL SCRIPT USER USER\n", argv[0]);
		return 1;
	}
	for (int i = 0; i < 2; i++) {
		void *module = dlopen(argv[5 + i], RTLD_NOW | RTLD_LOCAL);

		users[i] = module ? dlsym(module, "user") : NULL;
		if (!users[i]) {
			fprintf(stderr, "%s: %s\n", argv[5 + i], dlerror());
			return 1;
		}
	}
	write_files(argv[2], argv[3], argv[4]);
	status = atomic_load(&failed) || run_all();
	remove_files();
	return status;
}
