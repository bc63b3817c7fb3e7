/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts, error texts, logs, and the words for exits and capabilities. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

Test(context, opens_and_closes)
{
	struct impost_context *ctx;

	cr_expect(impost_context_open(NULL, NULL, NULL) == -EINVAL);
	cr_expect(impost_context_close(NULL) == 0);
	cr_expect(strcmp(impost_error(NULL), "") == 0);
	cr_assert(impost_context_open(NULL, NULL, &ctx) == 0);
	cr_expect(strcmp(impost_error(ctx), "") == 0);
	cr_expect(impost_context_close(ctx) == 0);
}

Test(context, leaves_nothing_behind)
{
	struct belongings before;

	for (int i = 0; i < 3; i++) {
		struct impost_context *ctx = open_context();
		struct impost_vm *vm;
		struct fake *fake;

		if (i == 1) /* the first time plugins become resident */
			before = count_belongings();
		vm = make_vm(ctx, "mem-host,irqchip-none", &fake);
		cr_assert(impost_vm_destroy(vm) == 0);
		cr_assert(impost_context_close(ctx) == 0);
		if (i == 1)
			before = count_belongings();
	}
	expect_same_belongings(before);
}

Test(context, version_is_the_header_s)
{
	char text[32];

	snprintf(text, sizeof(text), "%d.%d.%d", IMPOST_VERSION_MAJOR, IMPOST_VERSION_MINOR,
		 IMPOST_VERSION_PATCH);
	cr_expect(strcmp(impost_version(), text) == 0);
}

/* --- errors --- */

Test(error, text_is_kept_and_cut_and_clean)
{
	struct impost_context *ctx = open_context();
	char longer[2000];

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	cr_expect(impost_error_set(ctx, -EIO, "%s", longer) == -EIO);
	cr_expect(strlen(impost_error(ctx)) == 1023);
	/* Two bytes of a character of three are left at the end: none may stay. */
	memcpy(longer + 1021, "\xe2\x82\xac", 3);
	impost_error_set(ctx, -EIO, "%s", longer);
	cr_expect(strlen(impost_error(ctx)) == 1021);
	impost_error_set(ctx, -EIO, "a\nb\x1b[31mc\xe2\x82\xac");
	cr_expect(strcmp(impost_error(ctx), "a?b?[31mc\xe2\x82\xac") == 0);
	impost_error_set(ctx, -EIO, "outer: %s", impost_error(ctx));
	cr_expect(strcmp(impost_error(ctx), "outer: a?b?[31mc\xe2\x82\xac") == 0);
	cr_expect(impost_error_set(NULL, -EIO, "nowhere") == -EIO);
	cr_expect(impost_context_close(ctx) == 0);
}

/* What may be in a text, and what becomes of it. */
Test(error, text_is_utf8)
{
	static const struct {
		const char *given, *kept;
	} texts[] = {
		{"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf",
		 "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf"},
		{"a\x7f\tb\x80"
		 "c\xff"
		 "d\xc0\x80"
		 "e",
		 "a??b?c?d??e"},
		{"\xc2\x9b"
		 "31m \xc2\xa0",
		 "??31m \xc2\xa0"}, /* C1: CSI; no-break space */
		{"\xe0\x9f\xbf \xed\xa0\x80 \xf0\x8f\xbf\xbf \xf4\x90\x80\x80 \xf5\x80",
		 "??? ??? ???? ???? ??"},
		{"\xe2\x82. \xf0\x9f\x98x \xc3.", "??. ???x ?."}, /* cut in the middle */
		{"x\xf0\x9f\x98", "x"},				  /* at the end */
		{"x\xc3", "x"},
		{"\x80\x80", "??"},
	};
	struct impost_context *ctx = open_context();

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		impost_error_set(ctx, -EIO, "%s", texts[i].given);
		cr_expect(strcmp(impost_error(ctx), texts[i].kept) == 0, "%zu: '%s'", i,
			  impost_error(ctx));
	}
	cr_expect(impost_context_close(ctx) == 0);
}

struct thread_case {
	struct impost_context *ctx[2];
	int number;
	pthread_barrier_t *all;
};

static void *fail_in_thread(void *arg)
{
	struct thread_case *c = arg;
	char text[2][32];
	int wrong = 0;

	for (int i = 0; i < 2; i++)
		wrong += impost_error(c->ctx[i])[0] != '\0';
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 2; i++) {
			snprintf(text[i], sizeof(text[i]), "thread %d %d %d", c->number, i, round);
			impost_error_set(c->ctx[i], -EIO, "%s", text[i]);
		}
		pthread_barrier_wait(c->all);
		for (int i = 0; i < 2; i++)
			wrong += strcmp(impost_error(c->ctx[i]), text[i]) != 0;
	}
	return wrong ? arg : NULL;
}

Test(error, each_thread_and_context_has_its_own)
{
	struct thread_case c[4];
	struct impost_context *ctx[2] = {open_context(), open_context()};
	pthread_barrier_t all;
	pthread_t thread[4];
	void *wrong;

	pthread_barrier_init(&all, NULL, 4);
	for (int i = 0; i < 4; i++) {
		c[i] = (struct thread_case){{ctx[0], ctx[1]}, i, &all};
		cr_assert(pthread_create(&thread[i], NULL, fail_in_thread, &c[i]) == 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &wrong);
		cr_expect(!wrong);
	}
	cr_expect(impost_error(ctx[0])[0] == '\0');
	pthread_barrier_destroy(&all);
	cr_expect(impost_context_close(ctx[0]) == 0 && impost_context_close(ctx[1]) == 0);
}

struct outliving {
	pthread_barrier_t step;
	struct impost_context *ctx;
	bool stale;
};

static void *outlive(void *arg)
{
	struct outliving *o = arg;

	impost_error_set(o->ctx, -EIO, "of the first context");
	pthread_barrier_wait(&o->step);
	pthread_barrier_wait(&o->step); /* another context is there, perhaps at the same address */
	o->stale = impost_error(o->ctx)[0] != '\0';
	impost_error_set(o->ctx, -EIO, "of the second context");
	return NULL;
}

Test(error, a_text_does_not_outlive_its_context)
{
	struct outliving o = {.ctx = open_context()};
	pthread_t thread;

	pthread_barrier_init(&o.step, NULL, 2);
	cr_assert(pthread_create(&thread, NULL, outlive, &o) == 0);
	pthread_barrier_wait(&o.step);
	cr_assert(impost_context_close(o.ctx) == 0);
	o.ctx = open_context();
	pthread_barrier_wait(&o.step);
	pthread_join(thread, NULL);
	cr_expect(!o.stale);
	cr_expect(impost_context_close(o.ctx) == 0);
	pthread_barrier_destroy(&o.step);
}

Test(error, codes_have_names)
{
	cr_expect(strcmp(impost_error_name(-EINVAL), "EINVAL") == 0);
	cr_expect(strcmp(impost_error_name(ENOENT), "ENOENT") == 0);
	cr_expect(strcmp(impost_error_name(-IMPOST_ESTATE), "ESTATE") == 0);
	cr_expect(strcmp(impost_error_name(IMPOST_EABI), "EABI") == 0);
	cr_expect(strcmp(impost_error_name(0), "E?") == 0);
	cr_expect(strcmp(impost_error_name(-99999), "E?") == 0);
	cr_expect(strcmp(impost_error_name(-2147483647 - 1), "E?") == 0);
}

/* --- log --- */

static char logged[4096];

static void take_log(void *opaque, uint32_t level, const char *text)
{
	size_t len = strlen(logged);

	cr_expect(opaque == logged);
	snprintf(logged + len, sizeof(logged) - len, "%s: %s\n", impost_log_level_name(level),
		 text);
}

Test(log, severity_chooses_lines)
{
	struct impost_context *ctx;
	struct impost_vm *vm;

	cr_assert(impost_context_open(take_log, logged, &ctx) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "plugin_dir", FAKE_DIR));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", "no-run, fake"));
	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "colour", "green"));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	cr_expect(strcmp(logged, "") == 0, "%s", logged);
	cr_expect(impost_vm_destroy(vm) == 0);
	expect_ok(ctx, impost_context_set(ctx, "impost", "log", "info"));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	cr_expect(strstr(logged, "info: backend no-run passed over: "), "%s", logged);
	cr_expect(strstr(logged, "info: option colour = green\n"), "%s", logged);
	cr_expect(strstr(logged, "info: VM made with backend fake 1.2.3\n"), "%s", logged);
	cr_expect(impost_vm_destroy(vm) == 0);
	cr_expect(strcmp(impost_log_level_name(4), "?") == 0);
	cr_expect(impost_context_close(ctx) == 0);
}

/* --- fork --- */

/* Runs FN in a fork of this process; whether it returned true. */
static bool in_fork(bool (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn(arg) ? 0 : 1);
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct forked {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
};

static bool use_in_fork(void *arg)
{
	struct forked *f = arg;
	struct impost_region region = {.size = sizeof(region), .gpa = 1 << 20, .bytes = 4096};
	struct impost_plugin_info info = {.size = sizeof(info)};
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_memory *own;
	struct impost_exit exit;
	struct impost_vm *vm;
	uint32_t size;
	uint8_t byte;

	return impost_vm_create(f->ctx, NULL, &vm) == -IMPOST_EFORKED &&
	       strstr(impost_error(f->ctx), "is a fork") &&
	       impost_vcpu_run(f->vcpu, &exit) == -IMPOST_EFORKED &&
	       impost_vcpu_kick(f->vcpu) == -IMPOST_EFORKED &&
	       impost_vcpu_destroy(f->vcpu) == -IMPOST_EFORKED &&
	       impost_vm_irq_line(f->vm, 0, 1) == -IMPOST_EFORKED &&
	       impost_vm_destroy(f->vm) == -IMPOST_EFORKED &&
	       impost_memory_add(impost_vm_memory(f->vm), &region) == -IMPOST_EFORKED &&
	       impost_memory_read(impost_vm_memory(f->vm), 0, &byte, 1) == -IMPOST_EFORKED &&
	       impost_memory_get(impost_vm_memory(f->vm), 0, &region) == -IMPOST_EFORKED &&
	       impost_memory_create(f->ctx, &own) == -IMPOST_EFORKED &&
	       impost_region_fill(f->ctx, &region) == -IMPOST_EFORKED &&
	       /* That takes precedence over what else is wrong with a call. */
	       impost_vcpu_irq_window(f->vcpu, 1) == -IMPOST_EFORKED &&
	       impost_vcpu_complete(f->vcpu, &exit) == -IMPOST_EFORKED &&
	       impost_vcpu_get(f->vcpu, 77, &byte, 1, &size) == -IMPOST_EFORKED &&
	       impost_vm_get(f->vm, 77, &byte, 1, &size) == -IMPOST_EFORKED &&
	       impost_plugin_info(f->ctx, 0, &info) == -IMPOST_EFORKED &&
	       impost_backend_probe(f->ctx, "fake", &caps) == -IMPOST_EFORKED &&
	       impost_context_close(f->ctx) == 0;
}

Test(context, a_fork_is_refused)
{
	struct impost_region region = {.size = sizeof(region), .bytes = 4096};
	struct forked f = {.ctx = open_context()};
	struct impost_exit exit;
	struct fake *fake;

	f.vm = make_vm(f.ctx, "mem-host,irqchip-none", &fake);
	expect_ok(f.ctx, impost_vcpu_create(f.vm, 0, &f.vcpu));
	expect_ok(f.ctx, impost_memory_add(impost_vm_memory(f.vm), &region));
	cr_expect(in_fork(use_in_fork, &f));
	cr_expect(fake->calls == 2, "%u operations were called", fake->calls);
	expect_ok(f.ctx, impost_vcpu_run(f.vcpu, &exit)); /* the fork has harmed nothing here */
	cr_expect(impost_vcpu_destroy(f.vcpu) == 0 && impost_vm_destroy(f.vm) == 0);
	cr_expect(impost_context_close(f.ctx) == 0);
}

/* --- words --- */

#define IMPOST_CAP(bit, NAME, name, what)                   \
	cr_expect(strcmp(impost_cap_name(bit), name) == 0); \
	cr_expect(strcmp(impost_cap_meaning(bit), what) == 0);
Test(words, capabilities)
{
#include <impost/caps.def>
	cr_expect(!impost_cap_name(IMPOST_CAP_COUNT) && !impost_cap_meaning(UINT32_MAX));
}
#undef IMPOST_CAP

static void expect_line(const struct impost_exit *exit, const char *line)
{
	char buf[256], cut[8];
	int len = impost_exit_format(exit, buf, sizeof(buf));

	cr_expect(strcmp(buf, line) == 0, "'%s' is not '%s'", buf, line);
	cr_expect(len == (int)strlen(line));
	cr_expect(impost_exit_format(exit, cut, sizeof(cut)) == len);
	cr_expect(strncmp(cut, line, 7) == 0 && strlen(cut) == (len < 7 ? (size_t)len : 7));
	cr_expect(impost_exit_format(exit, NULL, 0) == len);
}

Test(words, exits)
{
	char a[] = "A";
	uint64_t value = 0x1234, data[2] = {1, 0xff};
	struct impost_exit exit = {.kind = IMPOST_EXIT_IO};

	exit.u.io = (struct impost_exit_io){0x3f8, 1, IMPOST_EXIT_WRITE, 1, a};
	expect_line(&exit, "IO out port 0x3f8, 1 byte: 0x41");
	exit.u.io = (struct impost_exit_io){0x60, 4, IMPOST_EXIT_READ, 3, &value};
	expect_line(&exit, "IO in port 0x60, 4 bytes times 3");
	exit.kind = IMPOST_EXIT_MMIO;
	exit.u.mmio = (struct impost_exit_mmio){
		.gpa = 0xfee00000, .size = 2, .dir = IMPOST_EXIT_WRITE, .count = 1, .data = &value};
	expect_line(&exit, "MMIO write 0xfee00000, 2 bytes: 0x1234");
	exit.kind = IMPOST_EXIT_WRMSR;
	exit.u.msr = (struct impost_exit_msr){0x10, IMPOST_MSR_REASON_UNKNOWN, &value, NULL};
	expect_line(&exit, "WRMSR 0x10 = 0x1234, unknown to the hypervisor");
	exit.kind = IMPOST_EXIT_SHUTDOWN;
	exit.u.shutdown = (struct impost_exit_shutdown){IMPOST_SHUTDOWN_TRIPLE_FAULT, 0};
	expect_line(&exit, "SHUTDOWN triple fault");
	exit.kind = IMPOST_EXIT_INTERNAL_ERROR;
	exit.u.failure = (struct impost_exit_failure){.reason = 1,
						      .text = "emulation failed",
						      .ndata = 2,
						      .data = data,
						      .ninsn = 2,
						      .insn = {0x0f, 0x0b}};
	expect_line(&exit, "INTERNAL_ERROR reason 0x1: emulation failed; data 0x1 0xff; bytes at "
			   "RIP 0f 0b");
	exit.kind = IMPOST_EXIT_OTHER;
	exit.u.other = (struct impost_exit_other){.number = 7, .name = "X_WHATEVER"};
	expect_line(&exit, "X_WHATEVER (number 7, 0 bytes)");
	exit.kind = IMPOST_EXIT_HLT;
	expect_line(&exit, "HLT");
	exit.kind = 999;
	expect_line(&exit, "?");
}
