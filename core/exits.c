/* SPDX-License-Identifier: Apache-2.0 */
/* Exits and capabilities in words. */
#include <impost/exit.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <impost/context.h>

#include "text.h"

#define IMPOST_EXIT(number, NAME, name, what) [number] = name,
static const char *const exit_names[] = {
#include <impost/exits.def>
};
#undef IMPOST_EXIT

#define IMPOST_CAP(bit, NAME, name, what) [bit] = {name, what},
static const struct {
	const char *name, *meaning;
} caps[] = {
#include <impost/caps.def>
};
#undef IMPOST_CAP

const char *impost_cap_name(uint32_t cap)
{
	return cap < ARRAY_SIZE(caps) ? caps[cap].name : NULL;
}

const char *impost_cap_meaning(uint32_t cap)
{
	return cap < ARRAY_SIZE(caps) ? caps[cap].meaning : NULL;
}

const char *impost_exit_name(const struct impost_exit *exit)
{
	if (exit->kind == IMPOST_EXIT_OTHER && exit->u.other.name)
		return exit->u.other.name;
	return exit->kind < ARRAY_SIZE(exit_names) ? exit_names[exit->kind] : "?";
}

/* Adds printf-like text to LINE, which goes on being measured when it is full. */
struct line {
	char *buf;
	size_t size, len;
};

static void add(struct line *line, const char *fmt, ...) IMPOST_PRINTF(2, 3);
static void add(struct line *line, const char *fmt, ...)
{
	size_t room = line->len < line->size ? line->size - line->len : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? line->buf + line->len : NULL, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		line->len += (size_t)n;
}

/* The first accesses of an exit's data as numbers; reads have none yet. */
static void add_data(struct line *line, const void *data, uint32_t size, uint32_t count,
		     uint32_t dir)
{
	if (count > 1)
		add(line, " times %u", count);
	if (dir != IMPOST_EXIT_WRITE || !data || size > 8)
		return;
	for (uint32_t i = 0; i < count && i < 8; i++) {
		uint64_t value = 0;

		memcpy(&value, (const char *)data + (size_t)i * size, size);
		add(line, "%s0x%" PRIx64, i ? " " : ": ", value);
	}
	if (count > 8)
		add(line, " ...");
}

static void add_io(struct line *line, const struct impost_exit_io *io)
{
	add(line, " %s port 0x%x, %u byte%s", io->dir == IMPOST_EXIT_WRITE ? "out" : "in", io->port,
	    io->size, io->size == 1 ? "" : "s");
	add_data(line, io->data, io->size, io->count, io->dir);
}

static void add_mmio(struct line *line, const struct impost_exit_mmio *mmio)
{
	add(line, " %s 0x%" PRIx64 ", %u byte%s", mmio->dir == IMPOST_EXIT_WRITE ? "write" : "read",
	    mmio->gpa, mmio->size, mmio->size == 1 ? "" : "s");
	add_data(line, mmio->data, mmio->size, mmio->count, mmio->dir);
}

static void add_msr(struct line *line, const struct impost_exit *exit)
{
	const struct impost_exit_msr *msr = &exit->u.msr;

	add(line, " 0x%x", msr->index);
	if (exit->kind == IMPOST_EXIT_WRMSR && msr->value)
		add(line, " = 0x%" PRIx64, *msr->value);
	add(line, "%s%s%s", msr->reason & IMPOST_MSR_REASON_ASKED ? ", asked for" : "",
	    msr->reason & IMPOST_MSR_REASON_UNKNOWN ? ", unknown to the hypervisor" : "",
	    msr->reason & IMPOST_MSR_REASON_INVALID ? ", value refused by the hypervisor" : "");
}

static void add_shutdown(struct line *line, const struct impost_exit_shutdown *shutdown)
{
	static const char *const reasons[] = {
		[IMPOST_SHUTDOWN_TRIPLE_FAULT] = "triple fault",
		[IMPOST_SHUTDOWN_GUEST] = "asked for by the guest",
		[IMPOST_SHUTDOWN_CRASH] = "crash reported by the guest",
	};
	const char *reason = shutdown->reason < ARRAY_SIZE(reasons) ? reasons[shutdown->reason]
								    : NULL;

	add(line, " %s", reason ? reason : "for an unknown reason");
	if (shutdown->code)
		add(line, ", code %u", shutdown->code);
}

static void add_failure(struct line *line, const struct impost_exit_failure *failure)
{
	add(line, " reason 0x%" PRIx64 ": %s", failure->reason,
	    failure->text ? failure->text : "?");
	for (uint32_t i = 0; failure->data && i < failure->ndata && i < 16; i++)
		add(line, "%s0x%" PRIx64, i ? " " : "; data ", failure->data[i]);
	for (uint32_t i = 0; i < failure->ninsn && i < sizeof(failure->insn); i++)
		add(line, "%s%02x", i ? " " : "; bytes at RIP ", failure->insn[i]);
}

static void add_hypercall(struct line *line, const struct impost_exit_hypercall *call)
{
	add(line, " %" PRIu64 "(", call->number);
	for (size_t i = 0; i < ARRAY_SIZE(call->args); i++)
		add(line, "%s0x%" PRIx64, i ? ", " : "", call->args[i]);
	add(line, ")%s", call->long_mode ? "" : " from 32-bit code");
}

static void add_particulars(struct line *line, const struct impost_exit *exit)
{
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		return add_io(line, &exit->u.io);
	case IMPOST_EXIT_MMIO:
		return add_mmio(line, &exit->u.mmio);
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		return add_msr(line, exit);
	case IMPOST_EXIT_HYPERCALL:
		return add_hypercall(line, &exit->u.hypercall);
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		return add_shutdown(line, &exit->u.shutdown);
	case IMPOST_EXIT_DEBUG:
		return add(line, " vector %u at 0x%" PRIx64 ", DR6 0x%" PRIx64 ", DR7 0x%" PRIx64,
			   exit->u.debug.vector, exit->u.debug.rip, exit->u.debug.dr6,
			   exit->u.debug.dr7);
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		return add_failure(line, &exit->u.failure);
	case IMPOST_EXIT_OTHER:
		return add(line, " (number %" PRIu64 ", %" PRIu64 " bytes)", exit->u.other.number,
			   exit->u.other.payload_size);
	default:
		return;
	}
}

int impost_exit_format(const struct impost_exit *exit, char *buf, size_t size)
{
	struct line line = {.buf = buf, .size = size};

	if (size)
		buf[0] = '\0';
	add(&line, "%s", impost_exit_name(exit));
	add_particulars(&line, exit);
	return (int)line.len;
}
