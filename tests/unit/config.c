/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: what an INI may say, and what is said about one that may not be. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"

static struct impost_context *ctx;

static void begin(void)
{
	ctx = open_context();
}

static void end(void)
{
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(config, .init = begin, .fini = end);

static int load(const char *text)
{
	return impost_context_load_buffer(ctx, "x.ini", text, strlen(text));
}

static void expect_value(const char *section, const char *key, const char *value)
{
	const char *got = impost_context_get(ctx, section, key);

	cr_expect(got == value || (got && value && strcmp(got, value) == 0),
		  "[%s] %s is '%s', not '%s'", section, key, got ? got : "NULL",
		  value ? value : "NULL");
}

Test(config, defaults)
{
	struct impost_vm_config config;

	expect_value("vm", "memory", "256M");
	expect_value("vm", "cpus", "1");
	expect_value("impost", "log", "warn");
	expect_value("boot", "kernel", NULL);
	expect_value("vm", "nonsense", NULL);
	expect_value("nonsense", "memory", NULL);
	expect_ok(ctx, impost_vm_config_init(ctx, &config));
	cr_expect(config.cpus == 1 && config.memory == 256 << 20 && !config.backend);
	expect_error(ctx, impost_vm_config_init(ctx, NULL), -EINVAL, "NULL");
}

Test(config, an_ini_of_everything)
{
	struct impost_vm_config config;
	char path[4096], expected[4200];

	cr_assert(getcwd(path, sizeof(path)));
	snprintf(expected, sizeof(expected), "%s/images/bzImage", path);
	expect_ok(ctx, load("\xef\xbb\xbf; a comment\r\n"
			    "[impost]\n# another\nlog: error\n"
			    "[vm]\nmemory = 0x40M ; of RAM\ncpus=2\n\n"
			    "[boot]\nkernel = images/bzImage\ninitrd = /initrd\n"
			    "cmdline = console=ttyS0 a=b;c ; no more\n"
			    "   root=/dev/vda\t\n\t quiet ; yes\n"
			    "[backend.fake]\ncolour = green\nbytes=1M\nflag=yes\npath=p\n"
			    "[vm]\n"));
	expect_value("impost", "log", "error");
	expect_value("vm", "memory", "0x40M");
	expect_value("boot", "kernel", expected);
	expect_value("boot", "initrd", "/initrd");
	expect_value("boot", "cmdline", "console=ttyS0 a=b;c root=/dev/vda quiet");
	expect_value("backend.fake", "colour", "green");
	expect_ok(ctx, impost_vm_config_init(ctx, &config));
	cr_expect(config.cpus == 2 && config.memory == 64 << 20);
}

Test(config, an_empty_ini)
{
	expect_error(ctx, impost_context_load_file(ctx, NULL), -EINVAL, "path is NULL");
	expect_error(ctx, impost_context_load_buffer(ctx, NULL, "", 0), -EINVAL, "is NULL");
	expect_error(ctx, impost_context_load_buffer(ctx, "empty", NULL, 1), -EINVAL, "is NULL");
	expect_ok(ctx, impost_context_load_buffer(ctx, "empty", NULL, 0));
}

/* INIs, and what is said of them. */
static const struct {
	const char *text, *words;
} wrong[] = {
	{"[vmm]\n", "x.ini:1: unknown section [vmm]: sections are [impost], [vm], [memory], [cpu]"},
	{"\n\n[backend.]\n", "x.ini:3: unknown section [backend.]"},
	{"[vm\nmemory=1M\n", "x.ini:1: neither `[section]` nor"},
	{"[vm] memory=1M\n", "x.ini:1: nothing may follow"},
	{"memory=1M\n", "x.ini:1: key 'memory' comes before any [section]"},
	{"[vm]\nmemory\n", "x.ini:2: neither `[section]` nor"},
	{"[vm]\n\nmemroy = 1M\n", "x.ini:3: unknown key 'memroy' in [vm]: did you mean memory?"},
	{"[vm]\nzzz = 1M\n", "x.ini:2: unknown key 'zzz' in [vm]: keys are memory, cpus"},
	{"[vm]\n= 1M\n", "x.ini:2: unknown key ''"},
	{"[vm]\nmemory=1M\n[boot]\n[vm]\nmemory=1M\n",
	 "x.ini:5: key 'memory' of [vm] was given before, in line 2"},
	{"[vm]\nmemory = 0\n", "x.ini:2: [vm] memory = 0: must be a multiple of 4096"},
	{"[vm]\nmemory = 3\n", "must be a multiple of 4096"},
	{"[vm]\nmemory = \n", "x.ini:2: [vm] memory = : must be a number of bytes"},
	{"[vm]\nmemory = -1M\n", "must be a number of bytes below 2^64"},
	{"[vm]\nmemory = 1Q\n", "must be a number of bytes"},
	{"[vm]\nmemory = 1MB\n", "must be a number of bytes"},
	{"[vm]\nmemory = 17179869184G\n", "must be a number of bytes below 2^64"},
	{"[vm]\nmemory = 99999999999999999999\n", "must be a number of bytes below 2^64"},
	{"[vm]\nmemory = 0x\n", "must be a number of bytes"},
	{"[vm]\nmemory = 0x-1\n", "must be a number of bytes"},
	{"[vm]\ncpus = 0\n", "x.ini:2: [vm] cpus = 0: must be 1 to 4294967295"},
	{"[vm]\ncpus = 4294967296\n", "must be 1 to 4294967295"},
	{"[vm]\ncpus = two\n", "must be a number"},
	{"[vm]\ncpus = 1K\n", "must be a number"},
	{"[impost]\nlog = loud\n", "must be one of error|warn|info|debug"},
	{"[impost]\nlog = err\n", "must be one of"},
	{"[impost]\nbackend = kvm,,mock\n", "names"},
	{"[impost]\nbackend =\n", "the list is empty"},
	{"[impost]\nbackend = ../kvm\n", "must be backends' names"},
	{"[impost]\nbackend = kvm mock\n", "must be separated by commas"},
	{"[impost]\nplugin_dir = /a::/b\n", "none of them empty"},
	{"[boot]\nkernel = \n", "must be a path"},
	{"[boot]\nkernel = a\n b\n",
	 "x.ini:3: the line begins with white space, which goes on with the value of kernel"},
	{"[boot]\nkernel = a\n [vm]\n", "x.ini:3: the line begins with white space"},
	{"[boot]\nprotocol = linux\n",
	 "x.ini:2: [boot] protocol = linux: must be one of auto|linux64|linux32|pvh|flat"},
	{"[boot]\nmode = 32\n", "must be one of real|protected|long"},
	{"[boot]\naddress = top\n", "must be a number of bytes"},
	{"[boot]\naddress = 0x0\n", "x.ini:2: [boot] address = 0x0: must be 1 or more"},
	{"[cpu]\ntemplate =\n",
	 "x.ini:2: [cpu] template = : must be a template's name, of letters"},
	{"[cpu]\ntemplate = a b\n", "x.ini:2: [cpu] template = a b: must be a template's name"},
	{"[cpu]\ntopology = \n", "x.ini:2: [cpu] topology = : must be SOCKETS"},
	{"[cpu]\ntopology = 1:1:1\n", "x.ini:2: [cpu] topology = 1:1:1: must be SOCKETS"},
	{"[cpu]\ntopology = 1:1:1:1:1\n", "x.ini:2: [cpu] topology = 1:1:1:1:1: must be SOCKETS"},
	{"[cpu]\ntopology = 1:1:1:\n", "x.ini:2: [cpu] topology = 1:1:1:: must be SOCKETS"},
	{"[cpu]\ntopology = a:b:c:d\n", "x.ini:2: [cpu] topology = a:b:c:d: must be SOCKETS"},
	{"[cpu]\ntopology = 1:1:0:1\n", "x.ini:2: [cpu] topology = 1:1:0:1: must be SOCKETS"},
	{"[cpu]\ntopology = 65536:1:1:1\n",
	 "x.ini:2: [cpu] topology = 65536:1:1:1: must be SOCKETS"},
	{"[cpu]\ntopology = 4294967297:1:1:1\n",
	 "x.ini:2: [cpu] topology = 4294967297:1:1:1: must be SOCKETS"},
	{"[cpu]\ntopology = +1:1:1:1\n", "x.ini:2: [cpu] topology = +1:1:1:1: must be SOCKETS"},
	{"[cpu]\ntopology = 1: 1:1:1\n", "x.ini:2: [cpu] topology = 1: 1:1:1: must be SOCKETS"},
	{"[cpu]\nbrand =\n", "x.ini:2: [cpu] brand = : must be 1 to 47 characters"},
	{"[cpu]\nbrand = 0123456789abcdef0123456789abcdef0123456789abcdef\n",
	 "x.ini:2: [cpu] brand = 0123456789abcdef0123456789abcdef0123456789abcdef: must be 1 to 47"},
	{"[cpu]\nbrand = Gro\xc3\x9f\n", "must be 1 to 47 characters of printable ASCII"},
	{"[cpu]\nbrand = a\tb\n", "must be 1 to 47 characters of printable ASCII"},
	{"[cpu]\ntoplogy = 1\n", "did you mean topology?"},
	{"[backend.fake]\ncolor = red\n",
	 "x.ini:2: unknown key 'color' in [backend.fake]: did you mean colour?"},
	{"[backend.fake]\ncolour = blue\n", "x.ini:2: [backend.fake] colour = blue: must be "
					    "one of red|green"},
	{"[backend.fake]\nbytes = many\n", "must be a number of bytes"},
	{"[backend.fake]\nflag = maybe\n", "must be yes, no, true, false, on, off, 1 or 0"},
	{"[backend.fake]\nfail = x\n", "must be a number"},
	{"[backend.none]\n", "x.ini:1: [backend.none]: there is no plugin none.so in"},
	{"[backend.no-run]\n", "x.ini:1: [backend.no-run]: plugin /"},
};

/* Each is refused at its line, and nothing of it stays. */
Test(config, wrong_inis)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int err = load(wrong[i].text);

		cr_expect(err == -IMPOST_ECONFIG, "%s: %d", wrong[i].text, err);
		cr_expect(strstr(impost_error(ctx), wrong[i].words), "'%s' has no '%s'",
			  impost_error(ctx), wrong[i].words);
	}
	expect_error(ctx, load("[vm]\nmemory = 1M\ncpus = 0\n"), -IMPOST_ECONFIG, "x.ini:3:");
	expect_value("vm", "memory", "256M");
	expect_ok(ctx, load("[vm]\nmemory = 2M\n")); /* a refused INI does not count as the one */
	expect_error(ctx, load("[vm]\n"), -EBUSY, "loaded already");
}

Test(config, nul_bytes_and_lengths)
{
	static char text[(1 << 20) + 1];
	int i;

	expect_error(ctx, impost_context_load_buffer(ctx, "x.ini", "[vm]\ncp\0us=1\n", 14),
		     -IMPOST_ECONFIG, "x.ini:2: there is a NUL byte");
	memset(text, '\n', sizeof(text));
	expect_error(ctx, impost_context_load_buffer(ctx, "x.ini", text, sizeof(text)), -EFBIG,
		     "longer than 1048576 bytes");
	memcpy(text, "[boot]\ncmdline=", 15);
	memset(text + 15, 'x', 191); /* with the key 199 bytes */
	expect_error(ctx, impost_context_load_buffer(ctx, "x.ini", text, 1000), -IMPOST_ECONFIG,
		     "x.ini:2: the line is too long: 198 bytes are the most");
	text[15 + 190] = '\n';
	memcpy(text + 15 + 191, "#", 1); /* comments are as long as they like */
	memset(text + 15 + 192, 'y', 1000);
	expect_ok(ctx, impost_context_load_buffer(ctx, "x.ini", text, sizeof(text) - 1));
	for (i = 0; impost_context_get(ctx, "boot", "cmdline")[i] == 'x'; i++)
		;
	cr_expect(i == 190);
}

/* Lines of white space of any length, and no newline at the end. */
Test(config, odd_lines)
{
	expect_ok(ctx,
		  load("[vm]\n    \t\n\r\n \v \f\n  memory = 1M\n\n[boot]\ncmdline = a\n\n  b"));
	expect_value("vm", "memory", "1M");
	expect_value("boot", "cmdline", "a b");
}

Test(config, what_is_set_beats_the_ini)
{
	expect_ok(ctx, impost_context_set(ctx, "vm", "memory", "1M"));
	expect_ok(ctx, load("[vm]\nmemory = 2M\ncpus = 2\n"));
	expect_value("vm", "memory", "1M");
	expect_value("vm", "cpus", "2");
	expect_ok(ctx, impost_context_set(ctx, "vm", "cpus", "3"));
	expect_ok(ctx, impost_context_set(ctx, "vm", "cpus", "4"));
	expect_value("vm", "cpus", "4");
	expect_error(ctx, impost_context_set(ctx, "vm", "cpus", "0"), -IMPOST_ECONFIG,
		     "command line: [vm] cpus = 0");
	expect_value("vm", "cpus", "4");
	expect_error(ctx, impost_context_set(ctx, "vm", "cpu", "1"), -IMPOST_ECONFIG,
		     "did you mean cpus?");
	expect_error(ctx, impost_context_set(ctx, "v", "cpu", "1"), -IMPOST_ECONFIG,
		     "unknown section");
	expect_error(ctx, impost_context_set(ctx, "vm", NULL, "1"), -EINVAL, "NULL");
}

/* Long values can be set, which no line holds. */
Test(config, long_values)
{
	static char value[100000];

	memset(value, 'x', sizeof(value) - 1);
	expect_ok(ctx, impost_context_set(ctx, "boot", "cmdline", value));
	expect_value("boot", "cmdline", value);
}

Test(config, options_reach_the_backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	expect_ok(ctx, load("[backend.fake]\nfail = 19\n"));
	expect_error(ctx, impost_backend_probe(ctx, "fake", &caps), -ENODEV,
		     "it was to fail (x.ini:2)");
	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "fail", "13"));
	expect_error(ctx, impost_backend_probe(ctx, "fake", &caps), -EACCES,
		     "it was to fail (command line)");
}

static char told[1024];

static void take_log(void *opaque, uint32_t level, const char *text)
{
	(void)opaque;
	(void)level;
	snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s\n", text);
}

Test(config, options_are_handed_over_in_their_form)
{
	struct impost_context *other;
	struct impost_caps caps = {.size = sizeof(caps)};

	cr_assert(impost_context_open(take_log, NULL, &other) == 0);
	expect_ok(other, impost_context_set(other, "impost", "plugin_dir", FAKE_DIR));
	expect_ok(other, impost_context_set(other, "impost", "log", "info"));
	expect_ok(other, impost_context_set(other, "backend.fake", "bytes", "3K"));
	expect_ok(other, impost_context_set(other, "backend.fake", "flag", "on"));
	expect_ok(other, impost_context_set(other, "backend.fake", "path", "/p"));
	expect_ok(other, impost_backend_probe(other, "fake", &caps));
	cr_expect(strstr(told, "option bytes = 3072\n"), "%s", told);
	cr_expect(strstr(told, "option flag = 1\n"), "%s", told);
	cr_expect(strstr(told, "option path = /p\n"), "%s", told);
	cr_expect(!strstr(told, "colour"), "a default was handed over: %s", told);
	cr_expect(impost_context_close(other) == 0);
}

/* A template's file is a path and gets its base; a shipped template's name does not. */
Test(config, templates_are_names_or_files)
{
	static const struct {
		const char *text, *path; /* NULL: as it is */
	} templates[] = {
		{"x86-64-v2-intel", NULL}, {".ini", NULL},	    {"x.inis", NULL},
		{"own.ini", "/own.ini"},   {"cpu/own", "/cpu/own"}, {"/cpu/own.ini", NULL},
	};
	char folder[4000], expected[4096];

	cr_assert(getcwd(folder, sizeof(folder)));
	for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
		expect_ok(ctx, impost_context_set(ctx, "cpu", "template", templates[i].text));
		snprintf(expected, sizeof(expected), "%s%s", templates[i].path ? folder : "",
			 templates[i].path ? templates[i].path : templates[i].text);
		expect_value("cpu", "template", expected);
	}
}

Test(config, forms_that_can_be)
{
	expect_ok(ctx, load("[cpu]\ntopology = 65535:1:08:00001\n"
			    "brand = 0123456789abcdef 0123456789abcdef 0123456789~!\n"));
	expect_value("cpu", "topology", "65535:1:08:00001");
	expect_value("cpu", "brand", "0123456789abcdef 0123456789abcdef 0123456789~!");
	expect_ok(ctx, impost_context_set(ctx, "cpu", "brand", "x"));
	expect_value("cpu", "brand", "x");
}

Test(config, numbers)
{
	uint64_t number = 7;

	expect_ok(ctx, load("[boot]\naddress = 0x10K\n[cpu]\nbrand = 1x\n"));
	expect_ok(ctx, impost_context_get_number(ctx, "boot", "address", &number));
	cr_expect(number == 0x4000);
	expect_ok(ctx, impost_context_get_number(ctx, "vm", "memory", &number));
	cr_expect(number == 256 << 20);
	expect_error(ctx, impost_context_get_number(ctx, "boot", "kernel", &number), -ENOENT,
		     "[boot] kernel has no value");
	expect_error(ctx, impost_context_get_number(ctx, "cpu", "brand", &number), -EINVAL,
		     "[cpu] brand = 1x is no number");
	cr_expect(number == 256 << 20);
}

Test(config, files_and_their_folder)
{
	char folder[] = "/tmp/impost-config-XXXXXX", path[64], expected[64];
	FILE *file;

	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/impost.ini", folder);
	snprintf(expected, sizeof(expected), "%s/bzImage", folder);
	expect_error(ctx, impost_context_load_file(ctx, path), -ENOENT, path);
	expect_error(ctx, impost_context_load_file(ctx, folder), -EISDIR, folder);
	file = fopen(path, "we");
	fputs("[boot]\nkernel = bzImage\n", file);
	fclose(file);
	cr_assert(chdir(folder) == 0);
	expect_ok(ctx, impost_context_load_file(ctx, "impost.ini"));
	cr_assert(chdir("/") == 0);
	expect_value("boot", "kernel", expected);
	unlink(path);
	rmdir(folder);
}

Test(config, plugin_dir_of_the_ini)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_context *other;
	char text[4200];

	cr_assert(impost_context_open(NULL, NULL, &other) == 0);
	expect_error(other, impost_context_set(other, "backend.fake", "colour", "red"),
		     -IMPOST_ECONFIG, "[backend.fake]: there is no plugin fake.so");
	/* The folder comes after the section whose plugin is in it, and is found all the same. */
	snprintf(text, sizeof(text), "[backend.fake]\ncolour = red\n[impost]\nplugin_dir = %s\n",
		 FAKE_DIR);
	expect_ok(other, impost_context_load_buffer(other, "x.ini", text, strlen(text)));
	expect_ok(other, impost_backend_probe(other, "fake", &caps));
	expect_error(other, impost_context_set(other, "impost", "plugin_dir", "/usr"), -EBUSY,
		     "have been looked for already");
	cr_expect(impost_context_close(other) == 0);
}

/* Options that are there were checked against the plugins of the folder before: again, then. */
Test(config, plugin_dir_is_set_last)
{
	struct impost_context *other;

	expect_ok(ctx, load("[backend.fake]\ncolour = red\n"));
	expect_error(ctx, impost_context_set(ctx, "impost", "plugin_dir", "/usr"), -IMPOST_ECONFIG,
		     "x.ini:1: [backend.fake]: there is no plugin fake.so in /usr");
	expect_value("impost", "plugin_dir", FAKE_DIR);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", FAKE_DIR ":/usr"));
	expect_value("impost", "plugin_dir", FAKE_DIR ":/usr");
	expect_value("backend.fake", "colour", "red");

	other = open_context();
	expect_ok(other, impost_context_set(other, "backend.fake", "flag", "yes"));
	expect_error(other, impost_context_set(other, "impost", "plugin_dir", "/usr"),
		     -IMPOST_ECONFIG, "command line: [backend.fake]: there is no plugin");
	cr_expect(impost_context_close(other) == 0);
}

/* What was set for a backend must suit the plugin that the INI's folder has. */
Test(config, an_ini_comes_before_look_ups)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	expect_ok(ctx, impost_backend_probe(ctx, "fake", &caps));
	expect_error(ctx, load("[vm]\n"), -EBUSY, "load it before");
}
