// SPDX-License-Identifier: Apache-2.0
/* The harness of the tests that run the built `impost`. */
#include "tool_process.h"

#include <elf.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

static char folder[PATH_MAX];
static struct tool_result result;
const char *tool_term = "xterm";
pid_t tool_pid;

void tool_files_make(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(folder, sizeof(folder), "%s/impost-tool.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert_not_null(mkdtemp(folder));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void tool_files_remove(void)
{
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *tool_path(const char *name)
{
	static char paths[8][2 * PATH_MAX];
	static unsigned int turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

void tool_write(const char *name, const void *data, size_t size)
{
	FILE *file = fopen(tool_path(name), "we");

	cr_assert_not_null(file);
	cr_assert_eq(fwrite(data, 1, size, file), size);
	cr_assert_eq(fclose(file), 0);
}

void tool_write_text(const char *name, const char *text)
{
	tool_write(name, text, strlen(text));
}

void tool_write_kernel(void)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
		unsigned char code[8];
	} image = {
		.header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				       EV_CURRENT},
			   .e_type = ET_EXEC,
			   .e_machine = EM_X86_64,
			   .e_version = EV_CURRENT,
			   .e_entry = 0x100000,
			   .e_phoff = sizeof(Elf64_Ehdr),
			   .e_ehsize = sizeof(Elf64_Ehdr),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 1},
		.segment = {.p_type = PT_LOAD,
			    .p_flags = PF_R | PF_X,
			    .p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
			    .p_vaddr = 0x100000,
			    .p_paddr = 0x100000,
			    .p_filesz = 8,
			    .p_memsz = 8,
			    .p_align = 1},
		.code = {0xf4, 0xeb, 0xfd, 0x0f, 0x0b, 0x0f, 0x0b, 0xcc},
	};

	tool_write("kernel", &image, sizeof(image));
}

void tool_write_mock(const char *script)
{
	tool_write_kernel();
	tool_write_text("script", script);
	tool_write_text("mock.ini", "[impost]\n"
				    "backend = mock\n"
				    "[vm]\n"
				    "memory = 16M\n"
				    "[boot]\n"
				    "kernel = kernel\n"
				    "[backend.mock]\n"
				    "script = script\n");
}

const char *tool_env(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		cr_assert_fail("%s is not set: run this through meson test", name);
	return value ? value : "";
}

int tool_shell(const char *line)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(126);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void tool_exec(const char *const *args)
{
	/* Not tool_env(): a failing test must fail in its own process, not in this one. */
	const char *tool = getenv("IMPOST_TOOL");
	const char *argv[TOOL_ARGS_MAX + 4] = {"impost"};
	size_t argc = 1;

	for (size_t i = 0; args[i] && argc < TOOL_ARGS_MAX; i++)
		argv[argc++] = args[i][0] == '@' ? strdup(tool_path(args[i] + 1)) : args[i];
	setenv("TERM", tool_term, 1);
	/* A test that is ended from outside, by its time limit or by the user, must leave no guest
	 * running. */
	if (tool && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
		execv(tool, (char *const *)argv);
	_exit(126);
}

static int open_at(const char *name, int flags)
{
	return open(name ? tool_path(name) : "/dev/null", flags | O_CLOEXEC, 0600);
}

void tool_start(const char *const *args, const char *input, const char *output)
{
	tool_pid = fork();
	cr_assert_geq(tool_pid, 0);
	if (tool_pid == 0) {
		dup2(open_at(input, O_RDWR), STDIN_FILENO);
		dup2(open_at(output, O_WRONLY | O_CREAT | O_APPEND), STDOUT_FILENO);
		tool_exec(args);
	}
}

static int status_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int tool_ended(void)
{
	int status;

	cr_assert_eq(waitpid(tool_pid, &status, 0), tool_pid);
	tool_pid = 0;
	return status_of(status);
}

void tool_clean(void)
{
	if (tool_pid > 0 && waitpid(tool_pid, NULL, WNOHANG) == 0) {
		kill(tool_pid, SIGKILL);
		waitpid(tool_pid, NULL, 0);
	}
	tool_files_remove();
}

static size_t read_back(FILE *file, char *text)
{
	size_t size;

	rewind(file);
	size = fread(text, 1, TOOL_OUTPUT_MAX - 1, file);
	text[size] = '\0';
	fclose(file);
	return size;
}

const struct tool_result *tool_run(const char *const *args)
{
	FILE *out = tmpfile(), *err = tmpfile();
	int status;
	pid_t pid;

	cr_assert(out && err);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		dup2(null, STDIN_FILENO);
		dup2(fileno(out), STDOUT_FILENO);
		dup2(fileno(err), STDERR_FILENO);
		tool_exec(args);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	result.status = status_of(status);
	result.out_size = read_back(out, result.out);
	read_back(err, result.err);
	return &result;
}
