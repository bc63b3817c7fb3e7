// SPDX-License-Identifier: Apache-2.0
/* Words and tables about a run that is over, on standard error. */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <impost/trace.h>

#include "tool.h"

#define CODE_BYTES 16u

#define PG	   (UINT64_C(1) << 31) /* CR0.PG */

/* A 64-bit member of the state, by name. */
struct member {
	const char *name;
	size_t offset;
};

#define REG(name)                                             \
	{                                                     \
#name, offsetof(struct impost_x86_regs, name) \
	}
#define SREG(name)                                             \
	{                                                      \
#name, offsetof(struct impost_x86_sregs, name) \
	}

static const struct member general[] = {
	REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rsp), REG(rbp), REG(r8),
	REG(r9),  REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15), REG(rip), REG(rflags),
};
static const struct member control[] = {
	SREG(cr0), SREG(cr2), SREG(cr3), SREG(cr4), SREG(cr8), SREG(efer), SREG(apic_base),
};
static const struct member segments[] = {
	SREG(cs), SREG(ss), SREG(ds), SREG(es), SREG(fs), SREG(gs), SREG(tr), SREG(ldtr),
};
static const struct member tables[] = {SREG(gdtr), SREG(idtr)};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const void *at(const void *state, size_t offset)
{
	return (const char *)state + offset;
}

/* Three to a line. */
static void print_members(const struct member *members, size_t count, const void *state)
{
	for (size_t i = 0; i < count; i++) {
		const uint64_t *value = at(state, members[i].offset);

		fprintf(stderr, "  %-9s %016" PRIx64 "%s", members[i].name, *value,
			i % 3 == 2 || i + 1 == count ? "\n" : "");
	}
}

static void print_sregs(const struct impost_x86_sregs *sregs)
{
	print_members(control, COUNT(control), sregs);
	for (size_t i = 0; i < COUNT(segments); i++) {
		const struct impost_x86_segment *segment = at(sregs, segments[i].offset);

		fprintf(stderr, "  %-9s %04x  base %016" PRIx64 "  limit %08x  access %05x\n",
			segments[i].name, segment->selector, segment->base, segment->limit,
			segment->access);
	}
	for (size_t i = 0; i < COUNT(tables); i++) {
		const struct impost_x86_table *table = at(sregs, tables[i].offset);

		fprintf(stderr, "  %-9s       base %016" PRIx64 "  limit %08x\n", tables[i].name,
			table->base, table->limit);
	}
}

/* One byte of code, through the guest's paging where the backend walks it. */
static bool read_code(struct machine *machine, struct impost_vcpu *vcpu, bool paging, uint64_t gva,
		      uint8_t *ret_byte)
{
	uint64_t gpa = gva;

	if (paging && impost_vcpu_translate(vcpu, gva, &gpa) < 0)
		return false;
	return impost_memory_read(impost_vm_memory(machine->vm), gpa, ret_byte, 1) == 0;
}

/* The bytes at RIP: from memory, or else those that came with the exit. */
static void print_code(struct machine *machine, struct impost_vcpu *vcpu, uint64_t linear,
		       bool paging)
{
	const struct impost_exit *exit = &machine->exit;
	uint8_t bytes[CODE_BYTES];
	uint32_t count = 0;

	while (count < CODE_BYTES &&
	       read_code(machine, vcpu, paging, linear + count, &bytes[count]))
		count++;
	if (count == 0 &&
	    (exit->kind == IMPOST_EXIT_FAIL_ENTRY || exit->kind == IMPOST_EXIT_INTERNAL_ERROR))
		for (; count < exit->u.failure.ninsn && count < CODE_BYTES; count++)
			bytes[count] = exit->u.failure.insn[count];
	fprintf(stderr, "code at %016" PRIx64 ":", linear);
	for (uint32_t i = 0; i < count; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fprintf(stderr, "%s\n", count ? "" : " not mapped");
}

static void print_state(struct machine *machine, struct impost_vcpu *vcpu)
{
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	struct impost_x86_sregs sregs = {.size = sizeof(sregs)};
	int err;

	/* There state is reached while the whole VM is paused, and only then. */
	if (impost_caps_has(impost_vm_caps(machine->vm), IMPOST_CAP_VM_PAUSE))
		impost_vm_pause(machine->vm);
	err = impost_vcpu_get_regs(vcpu, &regs);
	if (err == 0)
		err = impost_vcpu_get_sregs(vcpu, &sregs);
	if (err == -EBUSY) { /* the answer diverged from the script; we have no other */
		fprintf(stderr, "no registers: the guest is in the middle of that access\n");
		return;
	}
	if (err < 0) {
		fprintf(stderr, "registers cannot be read: %s\n", impost_error(machine->ctx));
		return;
	}
	fprintf(stderr, "registers of vCPU %u:\n", impost_vcpu_id(vcpu));
	print_members(general, COUNT(general), &regs);
	print_sregs(&sregs);
	print_code(machine, vcpu, sregs.cs.base + regs.rip, sregs.cr0 & PG);
}

static bool is_triple_fault(const struct impost_exit *exit)
{
	return (exit->kind == IMPOST_EXIT_SHUTDOWN || exit->kind == IMPOST_EXIT_RESET) &&
	       exit->u.shutdown.reason == IMPOST_SHUTDOWN_TRIPLE_FAULT;
}

void report_failure(struct machine *machine)
{
	struct impost_vcpu *vcpu = machine->cpus[machine->end_cpu].vcpu;

	if (machine->end_of_vm)
		complain("the guest failed: %s", machine->text);
	else
		complain("the guest failed on vCPU %u: %s", impost_vcpu_id(vcpu), machine->text);
	if (is_triple_fault(&machine->exit))
		fprintf(stderr,
			"A triple fault is how a CPU gives up. If this was Linux at its reboot, "
			"put reboot=k on its command line.\n");
	print_state(machine, vcpu);
}

void report_lost_memory(struct machine *machine)
{
	struct impost_memory *memory = impost_vm_memory(machine->vm);
	struct impost_region region = {.size = sizeof(region)};
	uint8_t byte;

	for (uint32_t i = 0; impost_memory_get(memory, i, &region) == 0; i++)
		if (impost_memory_read(memory, region.gpa + region.bytes - 1, &byte, 1) == -EIO)
			complain("%s", impost_error(machine->ctx));
}

static void print_exits(const struct machine *machine)
{
	fprintf(stderr, "  exits    ");
	for (uint32_t kind = 0; kind <= IMPOST_EXIT_KINDS; kind++) {
		const struct impost_exit exit = {.kind = kind};
		uint64_t sum = 0;

		for (uint32_t i = 0; i < machine->ncpus; i++)
			sum += machine->cpus[i].exits[kind];
		if (sum)
			fprintf(stderr, " %s %" PRIu64,
				kind == IMPOST_EXIT_OTHER ? "OTHER" : impost_exit_name(&exit), sum);
	}
	fprintf(stderr, "\n");
}

/* Which backend ran, under which layers, and of each other one of the list, why it did not. */
static void print_backends(const struct impost_vm *vm)
{
	const char *taken = impost_vm_backend(vm), *list = impost_vm_config(vm)->backend;
	const char *name, *reason;
	uint32_t passed = 0, at = 0;

	fprintf(stderr, "  backend   %s (%s)\n", taken,
		impost_caps_has(impost_vm_caps(vm), IMPOST_CAP_EXECUTES) ? "executed"
									 : "played, not executed");
	if (*impost_vm_layers(vm))
		fprintf(stderr, "  layers    %s\n", impost_vm_layers(vm));
	for (; impost_vm_passed_over(vm, passed, &name, &reason) == 0; passed++)
		fprintf(stderr, "  not       %s: %s\n", name, reason);
	for (; *list; list += strcspn(list, ",") + (strchr(list, ',') != NULL), at++) {
		const char *first = list + strspn(list, " \t");

		if (at > passed)
			fprintf(stderr,
				"  not       %.*s: not tried: %s comes first and can run here\n",
				(int)strcspn(first, ", \t"), first, taken);
	}
}

/* How many calls took so long, "256ns 12, 512ns 3": each from that time to twice as long. */
static void print_histogram(const struct impost_trace_op *op)
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "us"}, {1, "ns"}};
	const char *between = "           ";

	for (uint32_t i = 0; i < IMPOST_TRACE_BUCKETS; i++) {
		uint64_t from = UINT64_C(1) << i;
		size_t unit = 0;

		if (!op->bucket[i])
			continue;
		while (from < units[unit].ns)
			unit++;
		fprintf(stderr, "%s %" PRIu64 "%s %" PRIu64, between, from / units[unit].ns,
			units[unit].name, op->bucket[i]);
		between = ",";
	}
	fprintf(stderr, "\n");
}

/* What the layer `trace` has counted, if there is one. */
static void print_trace(struct impost_vm *vm)
{
	struct impost_trace_op op = {.size = sizeof(op)};
	const struct impost_trace_control *trace;
	const void *table;
	void *handle;

	if (impost_vm_extension(vm, IMPOST_TRACE, &table, &handle) < 0)
		return;
	trace = table;
	fprintf(stderr, "  trace     %-24s %12s %10s%s\n", "operation", "calls", "failed",
		trace->times ? "     total ms      mean ns   longest ns" : "");
	for (uint32_t i = 0; trace->op(handle, i, &op) == 0; i++) {
		if (!op.calls)
			continue;
		fprintf(stderr, "            %-24s %12" PRIu64 " %10" PRIu64, op.name, op.calls,
			op.failed);
		if (trace->times) {
			fprintf(stderr, " %12.3f %12.0f %12" PRIu64 "\n", (double)op.ns / 1e6,
				(double)op.ns / (double)op.calls, op.longest);
			print_histogram(&op);
		} else {
			fprintf(stderr, "\n");
		}
	}
}

void report_stats(const struct machine *machine, const struct report_times *times)
{
	fprintf(stderr, "%simpost: statistics%s\n", colour(stderr, COLOUR_BOLD),
		colour(stderr, COLOUR_OFF));
	print_backends(machine->vm);
	fprintf(stderr, "  creation  %10.3f ms\n", (double)times->create / 1e6);
	fprintf(stderr, "  set-up    %10.3f ms\n", (double)times->setup / 1e6);
	fprintf(stderr, "  run       %10.3f ms\n", (double)times->run / 1e6);
	print_exits(machine);
	print_trace(machine->vm);
	if (*machine->text)
		fprintf(stderr, "  end       %s\n", machine->text);
}
