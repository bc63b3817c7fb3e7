/* SPDX-License-Identifier: Apache-2.0 */
/* Running: taking the host's answer, judging the guest at entry, and playing its steps. */
#include "internal.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rules.h"
#include "walk.h"

/* VM-entry failure by guest state, and EPT violation (SDM vol. 3, appendix C); #PF. */
#define REASON_GUEST_STATE UINT64_C(0x80000021)
#define REASON_EPT	   48u
#define REASON_PF	   14u

/* What playing goes on with after a step. DIVERGED: run fails, and the error text is set. */
enum next { GO_ON, LEAVE, DIVERGED };

static void begin_exit(struct impost_exit *exit, uint32_t kind)
{
	memset(exit, 0, sizeof(*exit));
	exit->size = sizeof(*exit);
	exit->kind = kind;
}

/* --- the guest's memory, seen through its paging --- */

static bool read_for_walk(void *opaque, uint64_t gpa, unsigned bytes, uint64_t *ret_value)
{
	return mock_mem_read(opaque, gpa, bytes, ret_value);
}

static struct mock_walk walk_of(const struct mock_vcpu *v)
{
	return (struct mock_walk){
		.sregs = &v->sregs,
		.phys = ~((UINT64_C(1) << mock_cpuid_phys_bits(v)) - 1),
		.huge = mock_cpuid_has_1g_pages(v),
		.read = read_for_walk,
		.opaque = v->vm,
	};
}

int32_t mock_translate(void *handle, uint64_t gva, uint64_t *ret_gpa)
{
	struct mock_vcpu *v = handle;
	struct mock_walk w = walk_of(v);
	uint64_t at;
	const char *fault = mock_walk_translate(&w, gva, false, ret_gpa, &at);

	if (fault)
		return mock_error(v->vm, -EFAULT, "vCPU %u: %#llx: %s (entry at %#llx)", v->id,
				  (unsigned long long)gva, fault, (unsigned long long)at);
	return 0;
}

/* The linear address of RIP (SDM vol. 3, 3.3 and 3.4.2.1): in 64-bit mode CS has no base. */
static uint64_t linear_rip(const struct mock_vcpu *v)
{
	if ((v->sregs.efer & EFER_LMA) && (v->sregs.cs.access & IMPOST_X86_AR_L))
		return v->regs.rip;
	return (v->sregs.cs.base + v->regs.rip) & UINT32_MAX;
}

/* --- failures --- */

static void fail_exit(struct mock_vcpu *v, struct impost_exit *exit, uint32_t kind, uint64_t reason,
		      const char *text)
{
	struct impost_exit_failure *f = &exit->u.failure;
	struct mock_walk w = walk_of(v);
	uint64_t rip = linear_rip(v);
	uint64_t gpa, at, byte;

	begin_exit(exit, kind);
	f->reason = reason;
	f->text = text;
	while (f->ninsn < sizeof(f->insn)) {
		if (mock_walk_translate(&w, rip + f->ninsn, true, &gpa, &at) ||
		    !mock_mem_read(v->vm, gpa, 1, &byte))
			break;
		f->insn[f->ninsn++] = (uint8_t)byte;
	}
}

/* Whether the instruction at RIP can be fetched. NULL, or why not, with the hardware's reason. */
static const char *fetch_fault(struct mock_vcpu *v, uint64_t *ret_reason)
{
	struct mock_walk w = walk_of(v);
	uint64_t rip = linear_rip(v);
	uint64_t gpa = 0, at = 0, byte;
	const char *fault = mock_walk_translate(&w, rip, true, &gpa, &at);

	if (fault) {
		snprintf(v->text, sizeof(v->text),
			 "RIP = %#llx (linear %#llx) is not mapped executable: %s (entry at %#llx; "
			 "SDM vol. 3, 4.6)",
			 (unsigned long long)v->regs.rip, (unsigned long long)rip, fault,
			 (unsigned long long)at);
		*ret_reason = REASON_PF;
		return v->text;
	}
	if (mock_mem_read(v->vm, gpa, 1, &byte))
		return NULL;
	snprintf(v->text, sizeof(v->text),
		 "RIP = %#llx leads to guest-physical address %#llx, where there is no memory",
		 (unsigned long long)v->regs.rip, (unsigned long long)gpa);
	*ret_reason = REASON_EPT;
	return v->text;
}

/* Judges the guest, if it or its memory changed since it was judged last. */
static enum next check_entry(struct mock_vcpu *v, struct impost_exit *exit)
{
	unsigned generation = atomic_load(&v->vm->slots_generation);
	uint64_t reason = REASON_GUEST_STATE;
	const char *fault;

	if (!v->vm->backend->check_entry || (v->checked && v->checked_generation == generation))
		return GO_ON;
	fault = mock_entry_fault(v);
	if (!fault)
		fault = fetch_fault(v, &reason);
	if (fault) {
		fail_exit(v, exit, IMPOST_EXIT_FAIL_ENTRY, reason, fault);
		return LEAVE;
	}
	v->checked = true;
	v->checked_generation = generation;
	return GO_ON;
}

/* Whether the vCPU takes an external interrupt now (SDM vol. 3, 6.8.1 and 6.8.3). */
static bool takes_interrupts(const struct mock_vcpu *v)
{
	return (v->regs.rflags & RFLAGS_IF) && !v->events.interrupt.shadow &&
	       !v->events.interrupt.injected;
}

/* Takes the NMI that is pending, unless one is being handled. */
static bool deliver_nmi(struct mock_vcpu *v)
{
	if (!v->events.nmi.pending || v->events.nmi.masked)
		return false;
	v->events.nmi.pending = 0;
	return true;
}

/* Takes the vector that the host has injected, if the guest can. */
static bool deliver_vector(struct mock_vcpu *v)
{
	if (v->vector == MOCK_NO_VECTOR || !takes_interrupts(v))
		return false;
	v->vector = MOCK_NO_VECTOR;
	return true;
}

/*
 * Entering delivers what is injected or can be taken, which ends a halt, and ends the interrupt
 * shadow.
 */
static void deliver_events(struct mock_vcpu *v)
{
	struct impost_x86_events *e = &v->events;
	bool any = e->exception.injected || e->interrupt.injected || e->nmi.injected;

	any |= deliver_vector(v);
	any |= deliver_nmi(v);
	e->exception.injected = 0;
	e->interrupt.injected = 0;
	e->interrupt.shadow = 0;
	e->nmi.injected = 0;
	if (any)
		v->runstate.state = IMPOST_X86_RUNNING;
}

/* --- the host's answer --- */

/* Puts BYTES of VALUE into RAX as a move to AL, AX, EAX or RAX does (SDM vol. 1, 3.4.1.1). */
static void load_rax(struct mock_vcpu *v, uint64_t value, unsigned bytes)
{
	if (bytes == 1)
		v->regs.rax = (v->regs.rax & ~UINT64_C(0xff)) | value;
	else if (bytes == 2)
		v->regs.rax = (v->regs.rax & ~UINT64_C(0xffff)) | value;
	else
		v->regs.rax = value;
}

static int32_t diverged(const struct mock_vcpu *v, const char *what, uint64_t got)
{
	const struct impost_mock_step *step = &v->pending_step;

	return mock_error(
		v->vm, -IMPOST_EDIVERGED,
		"vCPU %u, step %llu: %s: the host answered %#llx, the script expects %#llx", v->id,
		(unsigned long long)v->tape->played, what, (unsigned long long)got,
		(unsigned long long)step->expect);
}

static int32_t take_access(struct mock_vcpu *v, uint32_t size, uint32_t dir, uint32_t count)
{
	uint64_t value = 0;

	if (dir != IMPOST_EXIT_READ || count != 1)
		return 0;
	memcpy(&value, v->xfer, size);
	if (v->pending_step.has_expect && value != v->pending_step.expect)
		return diverged(v, "a read", value);
	load_rax(v, value, size);
	return 0;
}

static int32_t take_msr(struct mock_vcpu *v)
{
	const struct impost_mock_step *step = &v->pending_step;
	bool read = step->exit.kind == IMPOST_EXIT_RDMSR;
	bool refused = v->refused;

	if (step->has_expect && refused != (step->value == 1))
		return mock_error(
			v->vm, -IMPOST_EDIVERGED,
			"vCPU %u, step %llu: MSR %#x: the host %s, the script expects that "
			"it does not",
			v->id, (unsigned long long)v->tape->played, step->exit.u.msr.index,
			refused ? "refuses" : "accepts");
	if (!read || refused)
		return 0;
	if (step->has_expect && v->answer != step->expect)
		return diverged(v, "RDMSR", v->answer);
	v->regs.rax = v->answer & UINT32_MAX;
	v->regs.rdx = v->answer >> 32;
	return 0;
}

/* Takes the answer to the exit before. On failure it waits still. */
static int32_t finish(struct mock_vcpu *v)
{
	const struct impost_exit *x = &v->pending_step.exit;
	int32_t err = 0;

	if (!v->pending)
		return 0;
	switch (x->kind) {
	case IMPOST_EXIT_IO:
		err = take_access(v, x->u.io.size, x->u.io.dir, x->u.io.count);
		break;
	case IMPOST_EXIT_MMIO:
		err = take_access(v, x->u.mmio.size, x->u.mmio.dir, x->u.mmio.count);
		break;
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		err = take_msr(v);
		break;
	default: /* HYPERCALL */
		if (v->pending_step.has_expect && v->answer != v->pending_step.expect)
			err = diverged(v, "a hypercall", v->answer);
		else
			v->regs.rax = v->answer;
		break;
	}
	v->pending = err;
	return err;
}

/* --- steps --- */

/* The exit of STEP, which the host is to answer. */
static enum next wait_for_answer(struct mock_vcpu *v, const struct impost_mock_step *step,
				 const struct impost_exit *exit)
{
	v->pending_step = *step;
	v->pending_step.exit = *exit;
	v->pending_step.data = NULL;
	v->pending = true;
	return LEAVE;
}

static bool is_claimed(struct mock_vm *vm, uint32_t space, uint64_t address, uint64_t bytes)
{
	bool found = false;
	uint32_t i;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < vm->nclaims && !found; i++)
		found = vm->claims[i].space == space && address >= vm->claims[i].first &&
			address + bytes - 1 <= vm->claims[i].last;
	pthread_mutex_unlock(&vm->lock);
	return found;
}

/* A port or memory access: an ioeventfd's, nobody's (reads give ones), or an exit. */
static enum next play_access(struct mock_vcpu *v, const struct impost_mock_step *step,
			     struct impost_exit *exit, uint32_t space)
{
	bool pio = space == IMPOST_SPACE_PIO;
	uint64_t address = pio ? exit->u.io.port : exit->u.mmio.gpa;
	uint32_t size = pio ? exit->u.io.size : exit->u.mmio.size;
	uint32_t count = pio ? exit->u.io.count : exit->u.mmio.count;
	bool write = (pio ? exit->u.io.dir : exit->u.mmio.dir) == IMPOST_EXIT_WRITE;

	memset(v->xfer, 0, (size_t)size * count);
	if (write)
		memcpy(v->xfer, step->data, (size_t)size * count);
	if (write && count == 1 && mock_ioeventfd_hit(v->vm, space, address, size, v->xfer))
		return GO_ON;
	if (v->vm->backend->claims &&
	    !is_claimed(v->vm, space, address, pio ? size : (uint64_t)size * count)) {
		if (!write && count == 1)
			load_rax(v, UINT64_MAX >> (64 - 8 * size), size);
		return GO_ON;
	}
	if (pio)
		exit->u.io.data = v->xfer;
	else
		exit->u.mmio.data = v->xfer;
	return wait_for_answer(v, step, exit);
}

/*
 * Compares what the mock's own MSR gives with what STEP expects. The step is then not played: the
 * next run plays it again.
 */
static enum next compare_own_msr(const struct mock_vcpu *v, const struct impost_mock_step *step,
				 bool done)
{
	bool read = step->exit.kind == IMPOST_EXIT_RDMSR;
	bool refused = step->value == 1;
	char got[40] = "refuses", want[40] = "that it refuses";

	if (!step->has_expect || (done != refused && (!done || !read || v->answer == step->expect)))
		return GO_ON;
	if (done)
		snprintf(got, sizeof(got), "%s %#llx", read ? "gives" : "accepts",
			 (unsigned long long)v->answer);
	if (!refused && read)
		snprintf(want, sizeof(want), "%#llx", (unsigned long long)step->expect);
	else if (!refused)
		snprintf(want, sizeof(want), "that it accepts");
	mock_error(v->vm, -IMPOST_EDIVERGED,
		   "vCPU %u, step %llu: %s: the mock's own MSR %#x, which does not exit to the "
		   "host, %s, the script expects %s",
		   v->id, (unsigned long long)v->tape->played + 1, read ? "RDMSR" : "WRMSR",
		   step->exit.u.msr.index, got, want);
	return DIVERGED;
}

/* An access to an MSR that does not exit: the mock's own business. */
static enum next play_own_msr(struct mock_vcpu *v, const struct impost_mock_step *step,
			      struct impost_exit *exit)
{
	bool read = exit->kind == IMPOST_EXIT_RDMSR;
	uint32_t index = exit->u.msr.index;
	bool done = read ? mock_msr_guest_read(v, index, &v->answer)
			 : mock_msr_guest_may_write(v, index, v->answer);

	if (compare_own_msr(v, step, done) == DIVERGED)
		return DIVERGED;
	if (done && read) {
		v->regs.rax = v->answer & UINT32_MAX;
		v->regs.rdx = v->answer >> 32;
	} else if (done) {
		mock_msr_guest_write(v, index, v->answer);
	}
	if (done || step->has_expect) /* refused as expected: the guest has gone past the #GP */
		return GO_ON;
	snprintf(v->text, sizeof(v->text),
		 "#GP: the script %s MSR %#x, which the mock refuses and no MSR exits cover",
		 read ? "reads" : "writes", index);
	fail_exit(v, exit, IMPOST_EXIT_INTERNAL_ERROR, 13, v->text);
	return LEAVE;
}

/* An access to an MSR: the mock's own business, or an exit. */
static enum next play_msr(struct mock_vcpu *v, const struct impost_mock_step *step,
			  struct impost_exit *exit)
{
	bool read = exit->kind == IMPOST_EXIT_RDMSR;
	uint32_t reason = mock_msr_exit_reason(v->vm, exit->u.msr.index,
					       read ? IMPOST_MSR_EXIT_READ : IMPOST_MSR_EXIT_WRITE);

	v->answer = 0;
	v->refused = 0;
	if (!read)
		memcpy(&v->answer, step->data, sizeof(v->answer));
	if (!reason)
		return play_own_msr(v, step, exit);
	exit->u.msr.reason = reason;
	exit->u.msr.value = &v->answer;
	exit->u.msr.refused = &v->refused;
	return wait_for_answer(v, step, exit);
}

static void set_debug(const struct mock_vcpu *v, struct impost_exit_debug *d)
{
	d->rip = v->regs.rip;
	d->dr6 = v->debugregs.dr6;
	d->dr7 = v->debugregs.dr7;
}

static enum next play_exit(struct mock_vcpu *v, const struct impost_mock_step *step,
			   struct impost_exit *exit)
{
	*exit = step->exit;
	exit->size = sizeof(*exit);
	switch (exit->kind) {
	case IMPOST_EXIT_IO:
		return play_access(v, step, exit, IMPOST_SPACE_PIO);
	case IMPOST_EXIT_MMIO:
		return play_access(v, step, exit, IMPOST_SPACE_MMIO);
	case IMPOST_EXIT_RDMSR:
	case IMPOST_EXIT_WRMSR:
		return play_msr(v, step, exit);
	case IMPOST_EXIT_HYPERCALL:
		v->answer = 0;
		exit->u.hypercall.result = &v->answer;
		return wait_for_answer(v, step, exit);
	case IMPOST_EXIT_DEBUG:
		set_debug(v, &exit->u.debug);
		return LEAVE;
	case IMPOST_EXIT_FAIL_ENTRY:
	case IMPOST_EXIT_INTERNAL_ERROR:
		fail_exit(v, exit, exit->kind, step->exit.u.failure.reason,
			  "asked for by the script");
		return LEAVE;
	case IMPOST_EXIT_OTHER:
		exit->u.other.name = "SCRIPTED";
		exit->u.other.payload = NULL;
		exit->u.other.payload_size = 0;
		return LEAVE;
	default:
		return LEAVE;
	}
}

/* A write to read-only memory that traps: exits of up to 8 bytes, until the step is done. */
static enum next trapped_write(struct mock_vcpu *v, const struct impost_mock_step *step,
			       uint32_t room, struct impost_exit *exit)
{
	const uint8_t *data = step->data;
	uint32_t size = room < 8 ? room : 8;

	begin_exit(exit, IMPOST_EXIT_MMIO);
	memcpy(v->xfer, data + v->written, size);
	exit->u.mmio.gpa = step->gpa + v->written;
	exit->u.mmio.size = (uint8_t)size;
	exit->u.mmio.dir = IMPOST_EXIT_WRITE;
	exit->u.mmio.count = 1;
	exit->u.mmio.data = v->xfer;
	v->written += size;
	return wait_for_answer(v, step, exit);
}

static enum next play_write(struct mock_vcpu *v, const struct impost_mock_step *step,
			    struct impost_exit *exit)
{
	const uint8_t *data = step->data;
	uint32_t done;

	while (v->written < step->bytes) {
		uint64_t gpa = step->gpa + v->written;

		switch (mock_mem_write(v->vm, gpa, data + v->written, step->bytes - v->written,
				       &done)) {
		case MOCK_WRITE_DONE:
			v->written += done;
			break;
		case MOCK_WRITE_MMIO:
			return trapped_write(v, step, done, exit);
		default:
			snprintf(v->text, sizeof(v->text),
				 "the script writes to %#llx, where there is no memory",
				 (unsigned long long)gpa);
			fail_exit(v, exit, IMPOST_EXIT_INTERNAL_ERROR, REASON_EPT, v->text);
			return LEAVE;
		}
	}
	return GO_ON;
}

static void play_set(struct mock_vcpu *v, const struct impost_mock_step *step)
{
	uint64_t *first = &v->regs.rax;

	first[step->reg] = step->value;
	v->checked = false;
}

static void play_sipi(struct mock_vcpu *v, const struct impost_mock_step *step)
{
	struct mock_vm *vm = v->vm;
	struct mock_vcpu *to;

	pthread_mutex_lock(&vm->lock);
	for (to = vm->vcpus; to; to = to->next)
		if (to->id == step->reg) {
			atomic_store(&to->sipi, MOCK_SIPI_CAME | (unsigned)step->value);
			mock_vcpu_wake(to);
		}
	pthread_mutex_unlock(&vm->lock);
}

/* --- the tape --- */

/* The step to be played now; loops are followed. False: there is none. */
static bool peek(struct mock_tape *tape, struct impost_mock_step *ret_step)
{
	bool found = false;

	pthread_mutex_lock(&tape->lock);
	while (!found && tape->at < tape->steps.count) {
		struct impost_mock_step *step = &tape->steps.step[tape->at];

		if (step->op != MOCK_STEP_LOOP) {
			*ret_step = *step;
			found = true;
		} else if (step->value && ++step->ns == step->value) {
			step->ns = 0; /* passes counted; the loop may be met again */
			tape->at++;
		} else {
			tape->at = step->reg;
		}
	}
	pthread_mutex_unlock(&tape->lock);
	return found;
}

static void step_played(struct mock_vcpu *v)
{
	pthread_mutex_lock(&v->tape->lock);
	v->tape->at++;
	v->tape->played++;
	pthread_mutex_unlock(&v->tape->lock);
	v->written = 0;
	v->delay_until = 0;
}

/* --- waiting --- */

uint64_t mock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * Waits until the vCPU is woken, or NS have passed (0: no limit). Whoever changes something writes
 * wake_fd afterwards, and callers look at everything again, so that no wake-up is lost.
 */
static enum next wait_ns(struct mock_vcpu *v, uint64_t ns, struct impost_exit *exit)
{
	struct timespec limit = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
	struct pollfd p = {.fd = v->wake_fd, .events = POLLIN};
	uint64_t count;

	if (ppoll(&p, 1, ns ? &limit : NULL, NULL) < 0 && errno == EINTR) {
		begin_exit(exit, IMPOST_EXIT_INTR); /* a signal for this thread */
		return LEAVE;
	}
	(void)!read(v->wake_fd, &count, sizeof(count));
	return GO_ON;
}

/* The mock's clock moves when the delay is over; a kick leaves the rest for the next run. */
static enum next play_delay(struct mock_vcpu *v, const struct impost_mock_step *step,
			    struct impost_exit *exit)
{
	uint64_t now = mock_now_ns();

	if (!v->delay_until)
		v->delay_until = now + step->ns;
	if (now < v->delay_until)
		return wait_ns(v, v->delay_until - now, exit);
	atomic_fetch_add(&v->vm->clock_ns, step->ns);
	step_played(v);
	return GO_ON;
}

/* --- run --- */

static enum next no_step(struct mock_vcpu *v, struct impost_exit *exit)
{
	if (!v->tape->ends)
		return wait_ns(v, 0, exit);
	fail_exit(v, exit, IMPOST_EXIT_INTERNAL_ERROR, 0, "the script has ended");
	return LEAVE;
}

static enum next play_step(struct mock_vcpu *v, struct impost_exit *exit)
{
	struct impost_mock_step step;
	enum next next = GO_ON;

	if (!peek(v->tape, &step))
		return no_step(v, exit);
	switch (step.op) {
	case IMPOST_MOCK_DELAY:
		return play_delay(v, &step, exit);
	case IMPOST_MOCK_WRITE:
		next = play_write(v, &step, exit);
		if (v->written < step.bytes) /* a trapped write goes on after its exit */
			return next;
		break;
	case IMPOST_MOCK_HALT:
		v->runstate.state = IMPOST_X86_HALTED;
		break;
	case IMPOST_MOCK_SET:
		play_set(v, &step);
		break;
	case IMPOST_MOCK_SIPI:
		play_sipi(v, &step);
		break;
	default:
		next = play_exit(v, &step, exit);
		break;
	}
	if (next == DIVERGED)
		return next;
	step_played(v);
	return next;
}

/* Whether the host asked for an interrupt window, and it is open. */
static bool window_open(const struct mock_vcpu *v)
{
	return v->irq_window && takes_interrupts(v);
}

/* A vCPU that is not running: it starts, or waits. */
static enum next play_stopped(struct mock_vcpu *v, struct impost_exit *exit)
{
	unsigned sipi;

	switch (v->runstate.state) {
	case IMPOST_X86_HALTED:
		if (!atomic_exchange(&v->irq_pending, false))
			return wait_ns(v, 0, exit);
		v->runstate.state = IMPOST_X86_RUNNING;
		return GO_ON;
	case IMPOST_X86_SIPI_RECEIVED:
		mock_reset_sipi(v, (uint8_t)v->events.sipi_vector);
		return GO_ON;
	case IMPOST_X86_STOPPED:
		return wait_ns(v, 0, exit);
	default: /* waits for INIT or SIPI */
		sipi = atomic_exchange(&v->sipi, 0);
		if (!sipi)
			return wait_ns(v, 0, exit);
		mock_reset_sipi(v, (uint8_t)sipi);
		return GO_ON;
	}
}

static bool can_enter(const struct mock_vcpu *v)
{
	return v->runstate.state == IMPOST_X86_RUNNING || v->runstate.state == IMPOST_X86_HALTED;
}

static enum next play_on(struct mock_vcpu *v, struct impost_exit *exit)
{
	/* Looked at first: an INTR of a pause is also that of a kick that came before it. */
	bool paused = atomic_load(&v->vm->paused);

	if (atomic_exchange(&v->kicked, false) || paused) {
		begin_exit(exit, IMPOST_EXIT_INTR);
		return LEAVE;
	}
	if (can_enter(v)) {
		if (check_entry(v, exit) == LEAVE)
			return LEAVE;
		deliver_events(v);
	}
	if (v->runstate.state != IMPOST_X86_RUNNING)
		return play_stopped(v, exit);
	if (window_open(v)) {
		begin_exit(exit, IMPOST_EXIT_IRQ_WINDOW);
		return LEAVE;
	}
	return play_step(v, exit);
}

/* False: the VM is paused. From pause to resume no vCPU is inside, so that pause need not wait
 * again. */
static bool enter_vm(struct mock_vcpu *v)
{
	bool paused;

	pthread_mutex_lock(&v->vm->lock);
	paused = atomic_load(&v->vm->paused);
	if (!paused) {
		v->vm->running++;
		v->vm->has_run = true;
	}
	pthread_mutex_unlock(&v->vm->lock);
	if (!paused)
		v->has_run = true;
	return !paused;
}

static void leave_vm(struct mock_vcpu *v)
{
	pthread_mutex_lock(&v->vm->lock);
	v->vm->running--;
	pthread_cond_broadcast(&v->vm->left_run);
	pthread_mutex_unlock(&v->vm->lock);
}

int32_t mock_run(void *handle, struct impost_exit *ret_exit)
{
	struct mock_vcpu *v = handle;
	struct impost_exit exit;
	int32_t err = finish(v);
	enum next next;

	if (err)
		return err;
	if (!enter_vm(v)) {
		atomic_store(&v->kicked, false);
		begin_exit(ret_exit, IMPOST_EXIT_INTR);
		return 0;
	}
	do {
		next = play_on(v, &exit);
	} while (next == GO_ON);
	leave_vm(v);
	if (next == DIVERGED)
		return -IMPOST_EDIVERGED;
	*ret_exit = exit;
	return 0;
}

int32_t mock_complete(void *handle, struct impost_exit *ret_exit)
{
	struct mock_vcpu *v = handle;
	int32_t err = finish(v);

	if (!err)
		begin_exit(ret_exit, IMPOST_EXIT_NONE);
	return err;
}
