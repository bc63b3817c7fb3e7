/* SPDX-License-Identifier: Apache-2.0 */
/* The script language: every verb, and every kind of bad line with its file, line and remedy. */
#include "mock.h"

static const struct {
	const char *text;
	const char *error; /* behind the file's name */
} bad[] = {
	{"", ": the script has no step: write [vcpu 0]"},
	{"; only a comment\n", ": the script has no step"},
	{"[vcpu 0]\n[vcpu 1]\n", ": the script has no step"},
	{"[]\n", ":1: a section is written [vcpu N]"},
	{"[vcpu ]\nhlt =\n", ":1: [vcpu N] takes a number"},
	{"out = 1 1 1\n", ":1: 'out' before the first section: begin with [vcpu 0]"},
	{"[vcpu]\n", ":1: a section is written [vcpu N]"},
	{"[cpu 0]\n", ":1: a section is written [vcpu N]"},
	{"\n\n[vcpu 0\n", ":3: a section is written [vcpu N]"},
	{"[vcpu 0] hlt =\n", ":1: a section is written [vcpu N]"},
	{"[vcpu x]\n", ":1: [vcpu N] takes a number from 0 to 4095"},
	{"[vcpu 4096]\n", ":1: [vcpu N] takes a number"},
	{"[vcpu 0 1]\n", ":1: [vcpu N] takes a number"},
	{"[vcpu 00000000000000000000000000000000000000000000000000000000000000001]\n",
	 ":1: [vcpu N] takes a number"},
	{"[vcpu 0]\nhlt\n", ":2: neither a section [vcpu N] nor a step"},
	{"[vcpu 0]\nhlt\njump = 1\n", ":2: neither"},
	{"[vcpu 0]\njump = 1\nhlt\n", ":2: unknown step 'jump'"},
	{"[vcpu 0]\n\n  out = 0x3f8 1\n", ":3: out: cannot take '': write out = PORT SIZE VALUE"},
	{"[vcpu 0]\nout = 0x10000 1 1\n", ":2: out: cannot take '0x10000 1 1'"},
	{"[vcpu 0]\nout = 1 3 1\n", ":2: out: cannot take '3 1'"},
	{"[vcpu 0]\nout = 1 8 1\n", ":2: out: cannot take '8 1'"},
	{"[vcpu 0]\nout = 1 0 1\n", ":2: out: cannot take '0 1'"},
	{"[vcpu 0]\nout = 1 1 256\n", ":2: out: cannot take '256'"},
	{"[vcpu 0]\nout = 1 1 -1\n", ":2: out: cannot take '-1'"},
	{"[vcpu 0]\nout = 1 1 0x\n", ":2: out: cannot take '0x'"},
	{"[vcpu 0]\nout = 1 1 1z\n", ":2: out: cannot take '1z'"},
	{"[vcpu 0]\nout = 1 1 1 1\n", ":2: out: '1' is too much"},
	{"[vcpu 0]\nin = 1 1 expect\n", ":2: in: cannot take ''"},
	{"[vcpu 0]\nin = 1 1 expect 0x100\n", ":2: in: cannot take '0x100'"},
	{"[vcpu 0]\nin = 1 1 wants 1\n", ":2: in: cannot take 'wants 1'"},
	{"[vcpu 0]\nin = 1 1 expect refused\n", ":2: in: cannot take 'refused'"},
	{"[vcpu 0]\ntext = 1 hello\n", ":2: text: cannot take 'hello'"},
	{"[vcpu 0]\ntext = 1 \"hello\n", ":2: text: cannot take '\"hello'"},
	{"[vcpu 0]\ntext = 1 \"a ;b\"\n", ":2: text: cannot take '\"a'"},
	{"[vcpu 0]\ntext = 1 \"\\q\"\n", ":2: text: cannot take"},
	{"[vcpu 0]\ntext = 1 \"\\x1\"\n", ":2: text: cannot take"},
	{"[vcpu 0]\ntext = 1 \"\\\n", ":2: text: cannot take"},
	{"[vcpu 0]\ntext = 1 \"\"\n", ":2: text: cannot take"},
	{"[vcpu 0]\nmmio-write = 0x10000000000000000 1 1\n", ":2: mmio-write: cannot take"},
	{"[vcpu 0]\nmmio-read = 1 16\n", ":2: mmio-read: cannot take '16'"},
	{"[vcpu 0]\nrdmsr = 0x100000000\n", ":2: rdmsr: cannot take"},
	{"[vcpu 0]\nrdmsr = 1 expect accepted\n", ":2: rdmsr: cannot take 'accepted'"},
	{"[vcpu 0]\nwrmsr = 1 2 expect 3\n", ":2: wrmsr: cannot take '3'"},
	{"[vcpu 0]\nhypercall = 1 2 3 4 5 6 7 8\n", ":2: hypercall: cannot take '8'"},
	{"[vcpu 0]\nhlt = 1\n", ":2: hlt: '1' is too much: write hlt = (nothing)"},
	{"[vcpu 0]\nwrite = 0x1000\n", ":2: write: cannot take ''"},
	{"[vcpu 0]\nwrite = 0x1000 1\n", ":2: write: cannot take '1'"},
	{"[vcpu 0]\nwrite = 0x1000 zz\n", ":2: write: cannot take 'zz'"},
	{"[vcpu 0]\nwrite = 0xffffffffffffffff 01 02\n", ":2: write: goes beyond the last address"},
	{"[vcpu 0]\nset = eax 1\n", ":2: set: cannot take 'eax 1'"},
	{"[vcpu 0]\nset = rax\n", ":2: set: cannot take ''"},
	{"[vcpu 0]\ndelay = 5\n", ":2: delay: cannot take '5': write delay = NUMBER ns"},
	{"[vcpu 0]\ndelay = 5 min\n", ":2: delay: cannot take '5 min'"},
	{"[vcpu 0]\ndelay = 99999999999 s\n", ":2: delay: cannot take"},
	{"[vcpu 0]\nsipi = 1 256\n", ":2: sipi: cannot take '256'"},
	{"[vcpu 0]\nshutdown = now\n", ":2: shutdown: cannot take 'now'"},
	{"[vcpu 0]\nreset =\n", ":2: reset: cannot take ''"},
	{"[vcpu 0]\ndebug = int3\n", ":2: debug: cannot take 'int3'"},
	{"[vcpu 0]\nrepeat = 0\nhlt =\nend =\n",
	 ":2: repeat: cannot take '0': write repeat = N or forever, with N not 0"},
	{"[vcpu 0]\nrepeat = 2\nhlt =\n", ":2: repeat: there is no end"},
	{"[vcpu 0]\nrepeat = 2\nhlt =\n[vcpu 1]\nend =\n", ":2: repeat: there is no end"},
	{"[vcpu 0]\nhlt =\nend =\n", ":3: end: there is no repeat"},
	{"[vcpu 0]\nrepeat = 2\nend =\n", ":3: end: there is no step since the repeat of line 2"},
	{"[vcpu 0]\nrepeat=1\nrepeat=1\nrepeat=1\nrepeat=1\nrepeat=1\nrepeat=1\nrepeat=1\nrepeat=1\n"
	 "repeat=1\n",
	 ":10: repeat: nested more than 8 deep"},
	{"[vcpu 0]\nwrite = 0 0000000000000000000000000000000000000000000000000000000000000000000000000"
	 "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	 "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\n",
	 ":2: longer than 197 bytes"},
};

Test(mock_script, each_bad_line_is_named_with_its_remedy)
{
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char want[256];
		struct mock m;
		int err = mock_try(&m, bad[i].text, IMPOST_IRQCHIP_FULL, 1, NULL, NULL);

		snprintf(want, sizeof(want), "%s%s", m.script, bad[i].error);
		cr_expect_lt(err, 0, "row %zu is taken: %s", i, bad[i].text);
		cr_expect(err < 0 && strstr(impost_error(m.ctx), want),
			  "row %zu: \"%s\" has no \"%s\"", i, impost_error(m.ctx), want);
		mock_close(&m);
	}
}

Test(mock_script, a_file_that_cannot_be_a_script_is_refused)
{
	struct mock m;

	cr_assert_lt(mock_try(&m, NULL, 0, 1, "script", "/nonexistent/x"), 0);
	cr_assert(strstr(impost_error(m.ctx), "cannot open the script /nonexistent/x"), "%s",
		  impost_error(m.ctx));
	mock_close(&m);
	cr_assert_lt(mock_try(&m, NULL, 0, 1, "script", "/tmp"), 0);
	cr_assert(strstr(impost_error(m.ctx), "not a regular file"), "%s", impost_error(m.ctx));
	mock_close(&m);
}

/* One of each, with LF and CRLF, comments, indentation, no newline at the end. */
static const char every[] = "# all of it\r\n"
			    "[vcpu 0] ; the first\n"
			    "out = 0x3f8 2 0x1234 ; a comment\n"
			    "\tin = 0x60 4 expect 0xdeadbeef\r\n"
			    "\n"
			    "text = 0x3f8 \"a\\n\\x3b\"\n"
			    "outs = 1016 \"\\\"\\\\\\0\"\n"
			    "mmio-write = 0xfee000b0 8 0x1122334455667788\n"
			    "mmio-read = 0xfee00030 2 expect 5\n"
			    "hypercall = 9 1 2 expect 3\n"
			    "hlt =\n"
			    "[vcpu 1]\n"
			    "hlt =\n"
			    "[vcpu 0]\n"
			    "shutdown = crash\n"
			    "reset = guest\n"
			    "debug = bp\n"
			    "fail-entry = 0x80000021\n"
			    "internal-error = 3\n"
			    "other = 77";

static void answer(struct impost_exit *x, uint64_t value)
{
	memcpy(x->kind == IMPOST_EXIT_IO ? x->u.io.data : x->u.mmio.data, &value,
	       x->kind == IMPOST_EXIT_IO ? x->u.io.size : x->u.mmio.size);
}

Test(mock_script, every_verb_plays_its_exit)
{
	struct impost_exit x;
	struct mock m;

	mock_open(&m, every);
	x = run_to(&m, IMPOST_EXIT_IO);
	cr_assert(x.u.io.port == 0x3f8 && x.u.io.size == 2 && x.u.io.dir == IMPOST_EXIT_WRITE &&
		  x.u.io.count == 1);
	cr_assert_eq(memcmp(x.u.io.data, "\x34\x12", 2), 0);
	x = run_to(&m, IMPOST_EXIT_IO);
	cr_assert(x.u.io.port == 0x60 && x.u.io.size == 4 && x.u.io.dir == IMPOST_EXIT_READ);
	answer(&x, 0xdeadbeef);
	cr_assert_eq(*(uint8_t *)run_to(&m, IMPOST_EXIT_IO).u.io.data, 'a');
	cr_assert_eq(*(uint8_t *)run_to(&m, IMPOST_EXIT_IO).u.io.data, '\n');
	cr_assert_eq(*(uint8_t *)run_to(&m, IMPOST_EXIT_IO).u.io.data, ';');
	x = run_to(&m, IMPOST_EXIT_IO);
	cr_assert(x.u.io.count == 3 && x.u.io.size == 1 && !memcmp(x.u.io.data, "\"\\\0", 3));
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert(x.u.mmio.gpa == 0xfee000b0 && x.u.mmio.size == 8 &&
		  *(uint64_t *)x.u.mmio.data == UINT64_C(0x1122334455667788));
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert(x.u.mmio.size == 2 && x.u.mmio.dir == IMPOST_EXIT_READ);
	answer(&x, 5);
	x = run_to(&m, IMPOST_EXIT_HYPERCALL);
	cr_assert(x.u.hypercall.number == 9 && x.u.hypercall.args[0] == 1 &&
		  x.u.hypercall.args[1] == 2 && x.u.hypercall.args[2] == 0 &&
		  x.u.hypercall.long_mode == 1);
	*x.u.hypercall.result = 3;
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(rax(&m), 3);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_SHUTDOWN).u.shutdown.reason, IMPOST_SHUTDOWN_CRASH);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_RESET).u.shutdown.reason, IMPOST_SHUTDOWN_GUEST);
	x = run_to(&m, IMPOST_EXIT_DEBUG);
	cr_assert(x.u.debug.vector == 3 && x.u.debug.rip == CODE && x.u.debug.dr7 == 0x400);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_FAIL_ENTRY).u.failure.reason, 0x80000021);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_INTERNAL_ERROR).u.failure.reason, 3);
	x = run_to(&m, IMPOST_EXIT_OTHER);
	cr_assert(x.u.other.number == 77 && !strcmp(impost_exit_name(&x), "SCRIPTED"));
	run_expecting(&m, IMPOST_EXIT_INTERNAL_ERROR, "the script has ended");
	run_expecting(&m, IMPOST_EXIT_INTERNAL_ERROR, "the script has ended");
	mock_close(&m);
}

Test(mock_script, loops_nest_and_count)
{
	uint64_t played;
	unsigned i;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nrepeat = 3\nrepeat = 2\nhlt =\nend =\nreset = guest\nend =\n");
	for (i = 0; i < 9; i++)
		run_to(&m, i % 3 == 2 ? IMPOST_EXIT_RESET : IMPOST_EXIT_HLT);
	run_to(&m, IMPOST_EXIT_INTERNAL_ERROR);
	cr_assert_eq(m.control->played(m.handle, 0, &played), 0);
	cr_assert_eq(played, 9);
	mock_close(&m);
}

Test(mock_script, each_vm_of_a_backend_plays_from_the_start)
{
	struct impost_vm_config config;
	struct impost_vcpu *cpu;
	struct impost_vm *vm;
	struct impost_exit x;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\n");
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vm_config_init(m.ctx, &config), 0);
	config.backend = "mock";
	cr_assert_eq(impost_vm_create(m.ctx, &config, &vm), 0);
	cr_assert_eq(impost_vcpu_create(vm, 0, &cpu), 0);
	cr_assert_eq(impost_vcpu_run(cpu, &x),
		     0); /* never set up: refused, and nothing is played */
	cr_assert_eq(x.kind, IMPOST_EXIT_FAIL_ENTRY);
	cr_assert_eq(impost_vcpu_destroy(cpu), 0);
	cr_assert_eq(impost_vm_destroy(vm), 0);
	run_to(&m, IMPOST_EXIT_INTERNAL_ERROR);
	mock_close(&m);
}
