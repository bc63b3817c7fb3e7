/* SPDX-License-Identifier: Apache-2.0 */
/* The layer `trace` over the mock: what it counts, the times that it takes, and its lines. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/mock.h>
#include <impost/trace.h>

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct impost_vcpu *vcpu;
static const struct impost_trace_control *trace;
static void *trace_handle;
static char debug_lines[65536];

static void note(void *opaque, uint32_t level, const char *text)
{
	size_t len = strlen(debug_lines);

	(void)opaque;
	if (level == IMPOST_LOG_DEBUG)
		snprintf(debug_lines + len, sizeof(debug_lines) - len, "%s\n", text);
}

static void set(const char *section, const char *key, const char *value)
{
	cr_assert(impost_context_set(ctx, section, key, value) == 0, "%s", impost_error(ctx));
}

static void begin(void)
{
	cr_assert(impost_context_open(note, NULL, &ctx) == 0);
	set("impost", "plugin_dir", PLUGIN_DIR);
	set("impost", "backend", "mock");
	set("impost", "log", "debug");
	set("backend.mock", "check_entry", "no");
	set("vm", "cpus", "4");
}

static void create(const char *layers)
{
	const void *table;

	set("impost", "layers", layers);
	cr_assert(impost_vm_create(ctx, NULL, &vm) == 0, "%s", impost_error(ctx));
	cr_assert(impost_vcpu_create(vm, 0, &vcpu) == 0, "%s", impost_error(ctx));
	cr_assert(impost_vm_extension(vm, IMPOST_TRACE, &table, &trace_handle) == 0);
	trace = table;
}

static void end(void)
{
	cr_expect(impost_vcpu_destroy(vcpu) == 0 && impost_vm_destroy(vm) == 0);
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(layer_trace, .init = begin, .fini = end, .timeout = 60);

static struct impost_trace_op of(const char *name)
{
	struct impost_trace_op op = {.size = sizeof(op)};

	for (uint32_t i = 0;; i++) {
		cr_assert(trace->op(trace_handle, i, &op) == 0, "there is no %s", name);
		if (strcmp(op.name, name) == 0)
			return op;
	}
}

static void expect_calls(const char *name, uint64_t calls, uint64_t failed)
{
	struct impost_trace_op op = of(name);

	cr_expect(op.calls == calls && op.failed == failed, "%s: %lu, %lu", name, op.calls,
		  op.failed);
}

static void append(uint32_t id, const struct impost_mock_step *steps, uint32_t count)
{
	const struct impost_mock_control *mock;
	const void *table;
	void *handle;

	cr_assert(impost_vm_extension(vm, IMPOST_MOCK_CONTROL, &table, &handle) == 0);
	mock = table;
	cr_assert(mock->append(handle, id, steps, count) == 0);
}

static const struct impost_mock_step out = {
	.size = sizeof(out),
	.op = IMPOST_MOCK_EXIT,
	.bytes = 1,
	.data = "A",
	.exit = {.size = sizeof(out.exit),
		 .kind = IMPOST_EXIT_IO,
		 .u.io = {.port = 0x3f8, .size = 1, .dir = IMPOST_EXIT_WRITE, .count = 1}},
};

Test(layer_trace, calls_are_counted)
{
	const struct impost_mock_step steps[] = {out, out};
	struct impost_exit exit = {.size = sizeof(exit)};
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	uint64_t exits = 99;
	uint32_t size;

	create("trace");
	append(0, steps, 2);
	for (int i = 0; i < 2; i++)
		cr_assert(impost_vcpu_run(vcpu, &exit) == 0 && exit.kind == IMPOST_EXIT_IO);
	cr_expect(impost_vcpu_kick(vcpu) == 0);
	cr_assert(impost_vcpu_run(vcpu, &exit) == 0 && exit.kind == IMPOST_EXIT_INTR);
	cr_expect(impost_vcpu_get_regs(vcpu, &regs) == 0);
	cr_expect(impost_vm_get(vm, 77, &regs, sizeof(regs), &size) == -EINVAL); /* the core's */
	cr_expect(impost_vm_irq_line(vm, 1, 1) == 0);
	expect_calls("backend.vm_create", 1, 0);
	expect_calls("vm.vcpu_create", 1, 0);
	expect_calls("vcpu.run", 3, 0);
	expect_calls("vcpu.kick", 1, 0);
	expect_calls("vm.state_get", 0, 0);
	expect_calls("vcpu.nmi", 0, 0);
	expect_calls("vm.irq_line", 1, 0);
	cr_expect(of("vcpu.state_get").calls >= 1 && !of("vcpu.state_get").ns);
	cr_expect(trace->times == 0);
	cr_expect(trace->exits(trace_handle, IMPOST_EXIT_IO, &exits) == 0 && exits == 2);
	cr_expect(trace->exits(trace_handle, IMPOST_EXIT_INTR, &exits) == 0 && exits == 1);
	cr_expect(trace->exits(trace_handle, IMPOST_EXIT_NONE, &exits) == -ENOENT && exits == 1);
	cr_expect(trace->exits(trace_handle, IMPOST_EXIT_KINDS, &exits) == -ENOENT);
}

/* What a vCPU that is gone has counted is still there. */
Test(layer_trace, counts_outlive_vcpus)
{
	struct impost_vcpu *other;
	uint64_t exits;

	create("trace");
	for (int i = 1; i < 4; i++) {
		struct impost_exit exit = {.size = sizeof(exit)};

		cr_assert(impost_vcpu_create(vm, (uint32_t)i, &other) == 0);
		cr_assert(impost_vcpu_kick(other) == 0); /* or it would wait to be started */
		cr_assert(impost_vcpu_run(other, &exit) == 0);
		cr_assert(impost_vcpu_destroy(other) == 0);
	}
	expect_calls("vcpu.run", 3, 0);
	expect_calls("vcpu.destroy", 3, 0);
	cr_expect(trace->exits(trace_handle, IMPOST_EXIT_INTR, &exits) == 0 && exits == 3);
}

Test(layer_trace, failures_are_counted)
{
	struct impost_vcpu *other;

	create("trace");
	cr_expect(impost_vcpu_create(vm, 1 << 20, &other) < 0);
	cr_expect(impost_vm_irq_line(vm, 99999, 1) < 0);
	expect_calls("vm.irq_line", 1, 1);
	cr_expect(of("vm.vcpu_create").failed == of("vm.vcpu_create").calls - 1);
}

Test(layer_trace, times_are_taken)
{
	const struct impost_mock_step delay = {
		.size = sizeof(delay), .op = IMPOST_MOCK_DELAY, .ns = 3000000};
	struct impost_exit exit = {.size = sizeof(exit)};
	struct impost_trace_op run;
	uint64_t sum = 0, longer = 0;

	set("layer.trace", "times", "yes");
	create("trace");
	append(0, &delay, 1);
	append(0, &out, 1);
	cr_assert(impost_vcpu_run(vcpu, &exit) == 0 && exit.kind == IMPOST_EXIT_IO);
	run = of("vcpu.run");
	for (uint32_t i = 0; i < IMPOST_TRACE_BUCKETS; i++) {
		sum += run.bucket[i];
		longer += i >= 21 ? run.bucket[i] : 0; /* 2^21 ns are 2.1 ms */
	}
	cr_expect(trace->times == 1 && run.calls == 1 && sum == 1 && longer == 1);
	cr_expect(run.ns >= 3000000 && run.longest == run.ns, "%lu", run.ns);
}

/* A caller of an earlier release is given as much as it knows. */
Test(layer_trace, the_size_of_the_struct_is_kept_to)
{
	struct impost_trace_op op = {.size = offsetof(struct impost_trace_op, bucket),
				     .bucket = {7}};

	create("trace");
	cr_expect(trace->op(trace_handle, 0, &op) == 0 && op.bucket[0] == 7);
	cr_expect(op.size == offsetof(struct impost_trace_op, bucket) && op.name);
	op.size = 8;
	cr_expect(trace->op(trace_handle, 0, &op) == -EINVAL);
	op.size = sizeof(op);
	cr_expect(trace->op(trace_handle, 1000, &op) == -ENOENT);
}

static void expect_line(const char *lines, const char *words)
{
	cr_expect(strstr(lines, words), "no '%s' in:\n%s", words, lines);
}

/* One write to 0x3f8 and what a host does around it, as both kinds of lines have it. */
static void expect_all_lines(const char *lines)
{
	static const char *const expected[] = {
		" backend.vm_create max_vcpus=4 irqchip=",
		" vm.vcpu_create id=0 -> 0 ns=",
		" vm.mem_add slot=0 gpa=0x10000 bytes=0x1000 flags=0 -> 0",
		" vcpu.run vcpu=0 exit=IO port=0x3f8 size=1 data=41 -> 0",
		" vcpu.state_get vcpu=0 section=regs capacity=",
		" vm.state_get section=ioapic capacity=",
		" vcpu.msrs_set vcpu=0 count=2 done=2 msrs=0xc0000081:0x1234,0xc0000082:0x10 -> 0",
		" vcpu.msrs_get vcpu=0 count=1 msrs=0x1ffffff -> E",
	};

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		expect_line(lines, expected[i]);
	cr_expect(!strstr(lines, "ns=0x"), "times are decimal, however long:\n%s", lines);
}

static void do_things(void)
{
	const struct impost_x86_msr msrs[] = {{.index = 0xc0000081, .value = 0x1234},
					      {.index = 0xc0000082, .value = 0x10}};
	struct impost_x86_msr none = {.index = 0x1ffffff};
	struct impost_region region = {.size = sizeof(region), .gpa = 0x10000, .bytes = 4096};
	struct impost_exit exit = {.size = sizeof(exit)};
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	struct impost_x86_ioapic ioapic = {.size = sizeof(ioapic)};
	uint32_t done;

	cr_assert(impost_memory_add(impost_vm_memory(vm), &region) == 0, "%s", impost_error(ctx));
	append(0, &out, 1);
	cr_assert(impost_vcpu_run(vcpu, &exit) == 0);
	cr_assert(impost_vcpu_complete(vcpu, &exit) == 0);
	cr_expect(impost_vcpu_get_regs(vcpu, &regs) == 0);
	cr_expect(impost_vm_get(vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic), &done) == 0);
	cr_expect(impost_vcpu_set_msrs(vcpu, msrs, 2, &done) == 0, "%s", impost_error(ctx));
	cr_expect(impost_vcpu_get_msrs(vcpu, &none, 1, &done) < 0);
}

Test(layer_trace, calls_are_logged)
{
	char path[] = "/tmp/impost-trace-XXXXXX", layers[128], lines[65536];
	FILE *file;
	size_t len;
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	close(fd);
	snprintf(layers, sizeof(layers), "trace:%s", path);
	set("layer.trace", "debug", "yes");
	create(layers);
	do_things();
	file = fopen(path, "r");
	cr_assert(file);
	len = fread(lines, 1, sizeof(lines) - 1, file);
	lines[len] = '\0';
	fclose(file);
	unlink(path);
	expect_all_lines(lines);
	expect_all_lines(debug_lines);
}

Test(layer_trace, a_log_that_cannot_be_written)
{
	struct impost_vm *none;

	set("impost", "layers", "trace:/nowhere/at/all");
	cr_expect(impost_vm_create(ctx, NULL, &none) == -ENOENT);
	cr_expect(strstr(impost_error(ctx), "layer trace: command line: cannot write to /nowhere"),
		  "%s", impost_error(ctx));
}

/* Two of them, one in the other: each counts, the first is the one that is asked. */
Test(layer_trace, twice)
{
	struct impost_exit exit = {.size = sizeof(exit)};

	create("trace, trace");
	append(0, &out, 1);
	cr_assert(impost_vcpu_run(vcpu, &exit) == 0 && exit.kind == IMPOST_EXIT_IO);
	expect_calls("vcpu.run", 1, 0);
}
