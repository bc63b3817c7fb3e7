/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines about calls: the operation, its arguments and outputs by name, and how it ended.
 *
 * They are made without stdio, which a kick in a signal handler must not enter, and written by one
 * write(2) each, so that lines of several threads do not mix.
 */
#include "trace.h"

#include <string.h>
#include <unistd.h>

struct line {
	const struct layer_call *call;
	int32_t result;
	size_t len;
	char text[512];
};

/* --- pieces --- */

static void put(struct line *line, const char *text)
{
	while (*text && line->len < sizeof(line->text) - 1) /* one is kept for the newline */
		line->text[line->len++] = *text++;
}

static void put_number(struct line *line, uint64_t number, uint32_t radix, uint32_t width)
{
	char digits[24];
	uint32_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = "0123456789abcdef"[number % radix];
		number /= radix;
	} while (number || sizeof(digits) - 1 - at < width);
	put(line, digits + at);
}

/* " NAME=": the head of a value. */
static void put_name(struct line *line, const char *name)
{
	put(line, " ");
	put(line, strncmp(name, "ret_", 4) == 0 ? name + 4 : name);
	put(line, "=");
}

/* A number: small ones, which are counts, in decimal, others in hexadecimal. */
static void put_value(struct line *line, const char *name, uint64_t value)
{
	put_name(line, name);
	if (value >= 65536)
		put(line, "0x");
	put_number(line, value, value < 65536 ? 10 : 16, 1);
}

static void put_hex(struct line *line, const char *name, uint64_t value)
{
	put_name(line, name);
	put(line, "0x");
	put_number(line, value, 16, 1);
}

/* --- sections and exits, by name --- */

#define IMPOST_VCPU_SECTION(number, NAME, name, type, varies) [number] = #name,
static const char *const vcpu_sections[] = {
#include <impost/x86_64/sections.def>
};
#define IMPOST_VM_SECTION(number, NAME, name, type, varies) [number] = #name,
static const char *const vm_sections[] = {
#include <impost/x86_64/sections.def>
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *section_name(const struct line *line, uint32_t section)
{
	const char *name = NULL;

	if (line->call->vcpu && section < COUNT(vcpu_sections))
		name = vcpu_sections[section];
	else if (!line->call->vcpu && section < COUNT(vm_sections))
		name = vm_sections[section];
	return name ? name : "?";
}

static const char *const exit_names[] = {
#define IMPOST_EXIT(number, NAME, name, what) [number] = name,
#include <impost/exits.def>
#undef IMPOST_EXIT
};

/* What the guest wrote, up to eight bytes. */
static void put_data(struct line *line, const uint8_t *data, uint64_t bytes)
{
	put(line, " data=");
	for (uint64_t i = 0; i < bytes && i < 8; i++)
		put_number(line, data[i], 16, 2);
	if (bytes > 8)
		put(line, "...");
}

static void put_access(struct line *line, uint32_t size, uint32_t dir, uint32_t count,
		       const void *data)
{
	put_value(line, "size", size);
	if (count != 1)
		put_value(line, "count", count);
	if (dir == IMPOST_EXIT_WRITE)
		put_data(line, data, (uint64_t)size * count);
	else
		put(line, " read");
}

static void put_particulars(struct line *line, const struct impost_exit *exit)
{
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		put_hex(line, "port", exit->u.io.port);
		put_access(line, exit->u.io.size, exit->u.io.dir, exit->u.io.count,
			   exit->u.io.data);
		break;
	case IMPOST_EXIT_MMIO:
		put_hex(line, "gpa", exit->u.mmio.gpa);
		put_access(line, exit->u.mmio.size, exit->u.mmio.dir, exit->u.mmio.count,
			   exit->u.mmio.data);
		break;
	case IMPOST_EXIT_RDMSR:
		put_hex(line, "msr", exit->u.msr.index);
		break;
	case IMPOST_EXIT_WRMSR:
		put_hex(line, "msr", exit->u.msr.index);
		put_hex(line, "value", *exit->u.msr.value);
		break;
	case IMPOST_EXIT_HYPERCALL:
		put_hex(line, "number", exit->u.hypercall.number);
		break;
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		put_value(line, "reason", exit->u.shutdown.reason);
		break;
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		put_hex(line, "reason", exit->u.failure.reason);
		break;
	default:
		break;
	}
}

/* --- arguments, by type; outputs are there on success --- */

static void show_u32(struct line *line, const char *name, uint32_t value)
{
	if (strcmp(name, "section") == 0) {
		put_name(line, name);
		put(line, section_name(line, value));
	} else {
		put_value(line, name, value);
	}
}

static void show_u64(struct line *line, const char *name, uint64_t value)
{
	put_value(line, name, value);
}

/* How many there are is told with too little room, too. */
static void show_out_u32(struct line *line, const char *name, const uint32_t *value)
{
	if (line->result == 0 || (line->result == -ENOSPC && strcmp(name, "ret_done") != 0))
		put_value(line, name, *value);
}

static void show_out_i32(struct line *line, const char *name, const int32_t *value)
{
	if (line->result == 0)
		put_value(line, name, (uint64_t)*value);
}

static void show_out_u64(struct line *line, const char *name, const uint64_t *value)
{
	if (line->result == 0 && strncmp(name, "ret_", 4) == 0) /* bitmaps are not shown */
		put_hex(line, name, *value);
}

static void show_slot(struct line *line, const char *name, const struct impost_slot *slot)
{
	(void)name;
	put_value(line, "slot", slot->slot);
	put_hex(line, "gpa", slot->gpa);
	put_hex(line, "bytes", slot->bytes);
	put_value(line, "flags", slot->flags);
}

static void show_exit(struct line *line, const char *name, const struct impost_exit *exit)
{
	if (line->result)
		return;
	put_name(line, name);
	put(line, exit->kind < COUNT(exit_names) ? exit_names[exit->kind] : "?");
	put_particulars(line, exit);
}

static void show_irqfd(struct line *line, const char *name, const struct impost_irqfd *irqfd)
{
	(void)name;
	put_value(line, "gsi", irqfd->gsi);
	put_value(line, "remove", irqfd->remove);
}

static void show_ioeventfd(struct line *line, const char *name, const struct impost_ioeventfd *it)
{
	(void)name;
	put(line, it->space == IMPOST_SPACE_PIO ? " pio" : " mmio");
	put_hex(line, "address", it->address);
	put_value(line, "bytes", it->bytes);
	put_value(line, "remove", it->remove);
}

static void show_debug(struct line *line, const char *name, const struct impost_guest_debug *debug)
{
	(void)name;
	put_hex(line, "flags", debug->flags);
	put_hex(line, "dr7", debug->dr7);
}

static void show_vm_args(struct line *line, const char *name, const struct impost_vm_args *args)
{
	(void)name;
	put_value(line, "max_vcpus", args->max_vcpus);
	put_value(line, "irqchip", args->irqchip);
}

static void show_caps(struct line *line, const char *name, const struct impost_caps *caps)
{
	(void)name;
	if (line->result)
		return;
	put_hex(line, "bits", caps->bits[0]);
	put_value(line, "max_vcpus", caps->max_vcpus);
}

/* Which MSRs: put_msrs() shows them, once their number is known. */
static void show_nothing(struct line *line, const char *name, const void *value)
{
	(void)line, (void)name, (void)value;
}

#define SHOW(t) \
	_Generic((t)0,                                   \
		uint32_t: show_u32,                      \
		uint64_t: show_u64,                      \
		uint32_t *: show_out_u32,                \
		int32_t *: show_out_i32,                 \
		uint64_t *: show_out_u64,                \
		const struct impost_slot *: show_slot,   \
		struct impost_exit *: show_exit,         \
		const struct impost_irqfd *: show_irqfd, \
		const struct impost_ioeventfd *: show_ioeventfd, \
		const struct impost_guest_debug *: show_debug, \
		const struct impost_vm_args *: show_vm_args, \
		struct impost_caps *: show_caps,         \
		default: show_nothing)

#define SHOW_0()
#define SHOW_1(t, n)	  SHOW(t)(line, #n, args->n);
#define SHOW_2(t, n, ...) SHOW_1(t, n) SHOW_1(__VA_ARGS__)
#define SHOW_3(t, n, ...) SHOW_1(t, n) SHOW_2(__VA_ARGS__)
#define SHOW_4(t, n, ...) SHOW_1(t, n) SHOW_3(__VA_ARGS__)

#define LAYER_OP(scope, name, count, ...)                                          \
	static void show_##scope##_##name(struct line *line)                       \
	{                                                                          \
		const struct layer_args_##scope##_##name *args = line->call->args; \
                                                                                   \
		(void)args;                                                        \
		SHOW_##count(__VA_ARGS__)                                          \
	}
#define LAYER_MAKE LAYER_OP
#define LAYER_END(scope, name)
#define LAYER_OTHER(scope, name)
#include "ops.def"
#undef LAYER_OP
#undef LAYER_MAKE

static void (*const shows[LAYER_OPS])(struct line *line) = {
#define LAYER_OP(scope, name, ...)   [layer_op_##scope##_##name] = show_##scope##_##name,
#define LAYER_MAKE(scope, name, ...) [layer_op_##scope##_##name] = show_##scope##_##name,
#include "ops.def"
};

/* The first four MSRs of a call; what was read only if it was. */
static void put_msrs(struct line *line)
{
	const struct layer_args_vcpu_msrs_set *args = line->call->args;
	int get = line->call->op == layer_op_vcpu_msrs_get;

	put(line, " msrs=");
	for (uint32_t i = 0; i < args->count && i < 4; i++) {
		put(line, i ? ",0x" : "0x");
		put_number(line, args->msrs[i].index, 16, 1);
		if (get && line->result)
			continue;
		put(line, ":0x");
		put_number(line, args->msrs[i].value, 16, 1);
	}
	if (args->count > 4)
		put(line, ",...");
}

static void put_call(struct line *line)
{
	const struct layer_call *call = line->call;

	put(line, layer_op_name(call->op));
	if (call->vcpu && call->op != layer_op_vm_vcpu_create) {
		put(line, " vcpu=");
		put_number(line, call->vcpu->id, 10, 1);
	}
	if (shows[call->op])
		shows[call->op](line);
	if (call->op == layer_op_vcpu_msrs_get || call->op == layer_op_vcpu_msrs_set)
		put_msrs(line);
	put(line, " -> ");
	put(line, line->result ? layer_error_name(line->result) : "0");
}

static void write_line(struct trace *trace, struct line *line)
{
	ssize_t written;

	line->text[line->len++] = '\n';
	do
		written = write(trace->log, line->text, line->len);
	while (written < 0 && errno == EINTR);
	line->len--;
	if (written != (ssize_t)line->len + 1)
		atomic_store(&trace->log_lost, 1);
}

void trace_log(struct trace *trace, const struct layer_call *call, int32_t result, uint64_t end,
	       uint64_t ns)
{
	const struct impost_host *host = call->layer->host;
	int kick = call->op == layer_op_vcpu_kick, saved = errno;
	struct line line = {.call = call, .result = result, .len = 0};

	put_number(&line, end / 1000000000, 10, 1);
	put(&line, ".");
	put_number(&line, end % 1000000000, 10, 9);
	put(&line, " ");
	put_call(&line);
	put_name(&line, "ns");
	put_number(&line, ns, 10, 1);
	if (trace->log >= 0)
		write_line(trace, &line);
	line.text[line.len] = '\0';
	if (trace->debug && !kick)
		host->log(host->ctx, IMPOST_LOG_DEBUG, line.text);
	if (!kick && atomic_load(&trace->log_lost) == 1) {
		atomic_store(&trace->log_lost, 2);
		host->log(host->ctx, IMPOST_LOG_WARN, "layer trace: lines of its log are lost");
	}
	errno = saved;
}
