// SPDX-License-Identifier: Apache-2.0
/*
 * The hello guest under `impost run` and under examples/hello.c, on KVM and played: the same
 * output. The other examples: what they print.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tool_process.h"

#define GREETING "Hello from an Impost guest\n"

TestSuite(examples, .init = tool_files_make, .fini = tool_files_remove, .timeout = 60);

/* examples/impost.ini with this build's files. */
static void write_ini(const char *backend)
{
	char text[4096];

	snprintf(
		text, sizeof(text),
		"[impost]\nbackend = %s\nplugin_dir = %s\n[vm]\nmemory = 64M\n[boot]\nkernel = %s\n"
		"[backend.mock]\nscript = %s\n",
		backend, tool_env("IMPOST_PLUGINS"), tool_env("IMPOST_HELLO"),
		tool_env("IMPOST_HELLO_SCRIPT"));
	tool_write_text("hello.ini", text);
}

static void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cr_skip_test("no usable /dev/kvm");
	close(fd);
}

static void run_on(const char *backend)
{
	const struct tool_result *result;

	write_ini(backend);
	result = TOOL_RUN("run", "-c", "@hello.ini", "--stats");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, GREETING);
	cr_assert(strstr(result->err, backend));
}

static void host_on(const char *backend)
{
	const struct tool_result *result;

	write_ini(backend);
	setenv("IMPOST_TOOL", tool_env("IMPOST_HELLO_HOST"), 1);
	result = TOOL_RUN("@hello.ini");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, GREETING);
	cr_assert_eq(strncmp(result->err, backend, strlen(backend)), 0, "%s", result->err);
}

/* examples/boot.c: everything of the INI and of the host's is in what it prints. */
static void set_up_on(const char *backend)
{
	static const char *const lines[] = {
		"CPU 3: APIC id 4\n", "linux64, entered at 0x", " doorbell\n",	  " kernel\n",
		" zero page\n",	      " page tables\n",		" ACPI tables\n", " MP table\n",
		" SMBIOS\n",
	};
	const struct tool_result *result;
	char text[4096];

	snprintf(text, sizeof(text),
		 "[impost]\nbackend = %s\nplugin_dir = %s\n[vm]\nmemory = 64M\ncpus = 6\n"
		 "[cpu]\ntopology = 2:1:3:1\ntemplate = own.ini\n[boot]\nkernel = %s\n",
		 backend, tool_env("IMPOST_PLUGINS"), tool_env("IMPOST_HELLO"));
	tool_write_text("boot.ini", text);
	tool_write_text("own.ini", "[template]\nname = own\n[cpuid]\nAVX = clear\n");
	setenv("IMPOST_TOOL", tool_env("IMPOST_BOOT_HOST"), 1);
	result = TOOL_RUN("@boot.ini");
	cr_assert_eq(result->status, 0, "%s", result->err);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_expect(strstr(result->out, lines[i]), "no %s in %s", lines[i], result->out);
}

Test(examples, set_up_on_mock)
{
	set_up_on("mock");
}

Test(examples, set_up_on_kvm)
{
	need_kvm();
	set_up_on("kvm");
}

Test(examples, run_on_mock)
{
	run_on("mock");
}

Test(examples, run_on_kvm)
{
	need_kvm();
	run_on("kvm");
}

Test(examples, host_on_mock)
{
	host_on("mock");
}

Test(examples, host_on_kvm)
{
	need_kvm();
	host_on("kvm");
}

/* examples/dlopen-host.c: the same, from a library that it opens. */
static void opener_on(const char *backend)
{
	const struct tool_result *result;

	write_ini(backend);
	setenv("IMPOST_TOOL", tool_env("IMPOST_DLOPEN_HOST"), 1);
	result = TOOL_RUN(tool_env("IMPOST_LIBRARY"), "@hello.ini");
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, GREETING);
	cr_assert_eq(strncmp(result->err, backend, strlen(backend)), 0, "%s", result->err);
}

Test(examples, dlopen_on_mock)
{
	opener_on("mock");
}

Test(examples, dlopen_on_kvm)
{
	need_kvm();
	opener_on("kvm");
}

Test(examples, dlopen_tells_what_is_wrong)
{
	const struct tool_result *result;

	setenv("IMPOST_TOOL", tool_env("IMPOST_DLOPEN_HOST"), 1);
	result = TOOL_RUN("@missing.so", "@hello.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "missing.so"), "%s", result->err);
	result = TOOL_RUN("libc.so.6", "@hello.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "no table of version 1"), "%s", result->err);
	result = TOOL_RUN(tool_env("IMPOST_LIBRARY"), "@missing.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "missing.ini"), "%s", result->err);
}

/* examples/snapshot.c: the line that was half in the console when it was saved is whole. */
static void goes_on_on(const char *backend)
{
	const struct tool_result *result;
	char said[64];

	write_ini(backend);
	setenv("IMPOST_TOOL", tool_env("IMPOST_SNAPSHOT_HOST"), 1);
	result = TOOL_RUN("@hello.ini", "@hello.snapshot");
	snprintf(said, sizeof(said), "%s: saved, with \"Hello\" in the console\n", backend);
	cr_assert_eq(result->status, 0, "%s", result->err);
	cr_assert_str_eq(result->out, GREETING);
	cr_assert_str_eq(result->err, said);
}

Test(examples, snapshot_on_mock)
{
	goes_on_on("mock");
}

Test(examples, snapshot_on_kvm)
{
	need_kvm();
	goes_on_on("kvm");
}

/* Where nothing can be saved there is no second life. */
Test(examples, snapshot_tells_what_is_wrong)
{
	const struct tool_result *result;

	write_ini("mock");
	setenv("IMPOST_TOOL", tool_env("IMPOST_SNAPSHOT_HOST"), 1);
	result = TOOL_RUN("@hello.ini", "@none/hello.snapshot");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "none"), "%s", result->err);
	cr_assert_str_eq(result->out, "");
}

/* examples/migrate.c: likewise, in another process. */
static void moves_on(const char *backend)
{
	const struct tool_result *result;
	char said[64];

	write_ini(backend);
	setenv("IMPOST_TOOL", tool_env("IMPOST_MIGRATE_HOST"), 1);
	result = TOOL_RUN("@hello.ini");
	cr_assert_eq(result->status, 0, "%s", result->err);
	snprintf(said, sizeof(said), "%s: sent, with \"Hello\" in the console, and ", backend);
	cr_assert_str_eq(result->out, GREETING);
	cr_assert_eq(strncmp(result->err, said, strlen(said)), 0, "%s", result->err);
}

Test(examples, migrate_on_mock)
{
	moves_on("mock");
}

Test(examples, migrate_on_kvm)
{
	need_kvm();
	moves_on("kvm");
}

Test(examples, migrate_tells_what_is_wrong)
{
	const struct tool_result *result;

	setenv("IMPOST_TOOL", tool_env("IMPOST_MIGRATE_HOST"), 1);
	result = TOOL_RUN("@missing.ini");
	cr_assert_neq(result->status, 0);
	cr_assert(strstr(result->err, "missing.ini"), "%s", result->err);
}

static void write_ini_of_kernel(const char *boot)
{
	char text[4096];

	snprintf(text, sizeof(text), "[impost]\nbackend = mock\nplugin_dir = %s\n%s",
		 tool_env("IMPOST_PLUGINS"), boot);
	tool_write_text("kernel.ini", text);
}

Test(examples, host_tells_what_is_wrong)
{
	const struct tool_result *result;

	setenv("IMPOST_TOOL", tool_env("IMPOST_HELLO_HOST"), 1);
	result = TOOL_RUN("@missing.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "missing.ini"), "%s", result->err);

	write_ini_of_kernel("");
	result = TOOL_RUN("@kernel.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "kernel = FILE in [boot]"), "%s", result->err);
	write_ini_of_kernel("[boot]\nkernel = missing\n");
	result = TOOL_RUN("@kernel.ini");
	cr_assert_eq(result->status, 1);
	cr_assert(strstr(result->err, "/missing: No such file"), "%s", result->err);
}

/* examples/memory.c, with as many bytes as its chain has room for, and fewer. */
Test(examples, memory)
{
	static const struct {
		const char *line, *said;
	} runs[] = {
		{"hello, driver\n", "14 bytes for the driver\n"
				    "dirty: 0x3000, 1 pages\n"
				    "dirty: 0x10000, 1 pages\n"
				    "dirty: 0x1ff000, 1 pages\n"},
		{"across the border\n", "18 bytes for the driver\n"
					"dirty: 0x3000, 1 pages\n"
					"dirty: 0x10000, 1 pages\n"
					"dirty: 0x1ff000, 2 pages\n"},
		{"short", "5 bytes for the driver\n"
			  "dirty: 0x3000, 1 pages\n"
			  "dirty: 0x10000, 1 pages\n"},
	};
	char wanted[1024];

	setenv("IMPOST_TOOL", tool_env("IMPOST_MEMORY_HOST"), 1);
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		const struct tool_result *result;

		tool_write_text("line", runs[i].line);
		result = TOOL_RUN("@line");
		snprintf(
			wanted, sizeof(wanted),
			"region: 0x0, 2048 KiB, with a descriptor\n"
			"region: 0x200000, 1024 KiB\n"
			"a chain of 2 buffers, 3 parts\n%s"
			"after its removal: 0x1ffff8, 4096 bytes: there is no memory at 0x200000\n",
			runs[i].said);
		cr_assert_eq(result->status, 0, "%s", result->err);
		cr_assert_str_eq(result->out, wanted);
	}
}
