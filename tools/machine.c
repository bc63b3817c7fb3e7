// SPDX-License-Identifier: Apache-2.0
/* Makes the machine, runs its vCPUs on threads, and judges the exit that ends a run. */
#include "machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ports.h"

static void wake_main(struct machine *machine)
{
	eventfd_write(machine->wake, 1);
}

/* Keeps the first end of a run; later ones are what stopping makes of the other vCPUs. */
static void end_run(struct machine *machine, enum machine_end end, uint32_t cpu, bool of_vm,
		    const struct impost_exit *exit, const char *text)
{
	pthread_mutex_lock(&machine->lock);
	if (machine->end == MACHINE_RUNNING) {
		machine->end = end;
		machine->end_cpu = cpu;
		machine->end_of_vm = of_vm;
		if (exit)
			machine->exit = *exit;
		snprintf(machine->text, sizeof(machine->text), "%s", text);
	}
	pthread_mutex_unlock(&machine->lock);
	wake_main(machine);
}

void machine_fail(struct machine *machine, const char *text)
{
	end_run(machine, MACHINE_HOST_ERROR, 0, true, NULL, text);
}

enum machine_end machine_ended(struct machine *machine)
{
	enum machine_end end;

	pthread_mutex_lock(&machine->lock);
	end = machine->end;
	pthread_mutex_unlock(&machine->lock);
	return end;
}

/* --- the serial port's wiring --- */

static void transmit(void *opaque, uint8_t byte)
{
	struct machine *machine = opaque;

	console_put(&machine->console, byte);
}

static void interrupt(void *opaque, unsigned int level)
{
	struct machine *machine = opaque;
	int err = impost_vm_irq_line(machine->vm, PORTS_SERIAL_IRQ, level);

	if (err < 0)
		end_run(machine, MACHINE_HOST_ERROR, 0, true, NULL, impost_error(machine->ctx));
}

static void room(void *opaque)
{
	wake_main(opaque);
}

void machine_feed_serial(struct machine *machine)
{
	struct console *console = &machine->console;

	if (console->input_count && !atomic_load(&machine->quiet))
		console_consume(console, serial_receive(&machine->serial, console->input,
							console->input_count));
}

void machine_quiet(struct machine *machine, bool quiet)
{
	atomic_store(&machine->quiet, quiet);
	if (!quiet)
		wake_main(machine);
}

/* --- exits --- */

/* What an exit that no handler dealt with says about the guest. */
static enum machine_end judge(const struct impost_exit *exit)
{
	switch (exit->kind) {
	case IMPOST_EXIT_HLT:
		/* The hypervisor has no interrupt controller then, and neither have we. */
		return MACHINE_SHUT_DOWN;
	case IMPOST_EXIT_SHUTDOWN:
	case IMPOST_EXIT_RESET:
		return exit->u.shutdown.reason == IMPOST_SHUTDOWN_GUEST ? MACHINE_SHUT_DOWN
									: MACHINE_FAILED;
	default:
		return MACHINE_FAILED;
	}
}

static void count_exit(struct machine_cpu *cpu, const struct impost_exit *exit)
{
	cpu->exits[exit->kind < IMPOST_EXIT_KINDS ? exit->kind : IMPOST_EXIT_KINDS]++;
}

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine_cpu *cpu = opaque;
	enum ports_event event;
	char text[64];

	(void)vcpu;
	count_exit(cpu, exit);
	event = ports_access(&cpu->machine->serial, &exit->u.io);
	if (event == PORTS_NOTHING)
		return 0;
	snprintf(text, sizeof(text), "the guest %s through port 0x%x",
		 event == PORTS_RESET ? "reset the machine" : "switched the machine off",
		 (unsigned int)exit->u.io.port);
	end_run(cpu->machine, MACHINE_SHUT_DOWN, (uint32_t)(cpu - cpu->machine->cpus), false, exit,
		text);
	return 1;
}

/* No device is mapped into memory. */
static int on_mmio(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	const struct impost_exit_mmio *mmio = &exit->u.mmio;

	(void)vcpu;
	count_exit(opaque, exit);
	if (mmio->dir == IMPOST_EXIT_READ)
		memset(mmio->data, 0xff, (size_t)mmio->size * mmio->count);
	return 0;
}

static int on_msr(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	(void)vcpu;
	count_exit(opaque, exit);
	*exit->u.msr.refused = 1;
	return 0;
}

static int on_hypercall(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	(void)vcpu;
	count_exit(opaque, exit);
	*exit->u.hypercall.result = (uint64_t)-ENOSYS;
	return 0;
}

static int on_intr(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine_cpu *cpu = opaque;

	(void)vcpu;
	count_exit(cpu, exit);
	return atomic_load(&cpu->machine->stopping);
}

/* Every other kind ends the run. Its text is made here, while its pointers hold. */
static int on_other(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine_cpu *cpu = opaque;
	char text[sizeof(cpu->machine->text)];

	(void)vcpu;
	count_exit(cpu, exit);
	impost_exit_format(exit, text, sizeof(text));
	end_run(cpu->machine, judge(exit), (uint32_t)(cpu - cpu->machine->cpus), false, exit, text);
	return 1;
}

static const struct impost_handlers handlers = {
	.size = sizeof(handlers),
	.io = on_io,
	.mmio = on_mmio,
	.msr = on_msr,
	.hypercall = on_hypercall,
	.intr = on_intr,
	.other = on_other,
};

/* A script's complaint is about the guest, anything else about the host. */
static enum machine_end judge_error(int err)
{
	switch (err) {
	case -IMPOST_EDIVERGED:
		return MACHINE_DIVERGED;
	case -IMPOST_EMOVED:
		return MACHINE_MOVED;
	default:
		return MACHINE_HOST_ERROR;
	}
}

static void *run_cpu(void *opaque)
{
	struct machine_cpu *cpu = opaque;
	struct machine *machine = cpu->machine;
	struct impost_exit exit;
	int err = impost_vcpu_loop(cpu->vcpu, &handlers, cpu, &exit);

	if (err < 0)
		end_run(machine, judge_error(err), (uint32_t)(cpu - machine->cpus), false, NULL,
			impost_error(machine->ctx));
	else /* the exit that ended it has been answered: a hold must not wait for it */
		impost_vcpu_complete(cpu->vcpu, &exit);
	return NULL;
}

void machine_take_event(struct machine *machine)
{
	struct impost_exit exit;
	char text[sizeof(machine->text)];
	int err = impost_vm_event(machine->vm, &exit);

	if (err == -EAGAIN)
		return;
	if (err < 0) {
		end_run(machine, MACHINE_HOST_ERROR, 0, true, NULL, impost_error(machine->ctx));
		return;
	}
	impost_exit_format(&exit, text, sizeof(text));
	end_run(machine, judge(&exit), 0, true, &exit, text);
}

/* --- life --- */

static int allocate_cpus(struct machine *machine, uint32_t count)
{
	machine->cpus = calloc(count, sizeof(*machine->cpus));
	if (!machine->cpus)
		return impost_error_set(machine->ctx, -ENOMEM, "no memory for %u vCPUs", count);
	for (uint32_t i = 0; i < count; i++)
		machine->cpus[i].machine = machine;
	return 0;
}

static int create_cpus(struct machine *machine, uint32_t count)
{
	struct impost_x86_topology topology;
	int err = impost_x86_boot_topology(machine->ctx, count, &topology);

	if (err == 0)
		err = allocate_cpus(machine, count);
	for (uint32_t i = 0; err == 0 && i < count; i++) {
		err = impost_vcpu_create(machine->vm, impost_x86_apic_id(&topology, i),
					 &machine->cpus[i].vcpu);
		machine->ncpus += err == 0;
	}
	return err;
}

int machine_take_cpus(struct machine *machine)
{
	uint32_t count = 0;
	int err;

	while (impost_vm_vcpu(machine->vm, count))
		count++;
	err = allocate_cpus(machine, count);
	if (err < 0)
		return err;
	for (uint32_t i = 0; i < count; i++)
		machine->cpus[i].vcpu = impost_vm_vcpu(machine->vm, i);
	machine->ncpus = count;
	return 0;
}

/* Ends a system call, which is all that a kick's signal is for. */
static void be_kicked(int number)
{
	(void)number;
}

int machine_configure(struct machine *machine, struct impost_context *ctx,
		      struct impost_vm_config *ret_config)
{
	const struct sigaction action = {.sa_handler = be_kicked};
	int err;

	memset(machine, 0, sizeof(*machine));
	machine->ctx = ctx;
	machine->wake = -1;
	pthread_mutex_init(&machine->lock, NULL);
	err = impost_vm_config_init(ctx, ret_config);
	if (err < 0)
		return err;
	ret_config->kick_by = IMPOST_KICK_HANDLER;
	if (sigaction((int)ret_config->kick_signal, &action, NULL))
		return impost_error_set(ctx, -errno, "cannot handle signal %u: %s",
					ret_config->kick_signal, strerror(errno));
	return 0;
}

int machine_create(struct machine *machine, struct impost_context *ctx)
{
	struct impost_vm_config config;
	int err = machine_configure(machine, ctx, &config);

	if (err == 0)
		err = impost_vm_create(ctx, &config, &machine->vm);
	if (err < 0)
		return err;
	return create_cpus(machine, impost_vm_config(machine->vm)->cpus);
}

/* What is saved with the VM. Where the generation id lies is as tables.c tells it; what is restored
 * says so itself. */
static int register_devices(struct machine *machine, bool has_line)
{
	int err = impost_vm_add_device(machine->vm, "serial", 0, serial_record(), &machine->serial);

	if (err < 0) /* a library without state saves nothing */
		return err == -ENOTSUP ? 0 : err;
	machine->vmgenid = (struct impost_x86_vmgenid){
		.size = sizeof(machine->vmgenid),
		.gsi = has_line ? PORTS_VMGENID_IRQ : 0,
		.gpa = IMPOST_X86_VMGENID_ADDR,
	};
	return impost_x86_vmgenid_add(machine->vm, &machine->vmgenid);
}

int machine_add_devices(struct machine *machine)
{
	struct serial_wiring wiring = {.transmit = transmit, .room = room, .opaque = machine};
	int err;

	machine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->wake < 0)
		return impost_error_set(machine->ctx, -errno, "cannot make an eventfd: %s",
					strerror(errno));
	if (impost_caps_has(impost_vm_caps(machine->vm), IMPOST_CAP_IRQ_LINE) &&
	    impost_vm_irqchip(machine->vm) == IMPOST_IRQCHIP_FULL)
		wiring.interrupt = interrupt;
	serial_init(&machine->serial, &wiring);
	err = register_devices(machine, wiring.interrupt != NULL);
	return err < 0 ? err : ports_claim(machine->vm);
}

int machine_start(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->ncpus; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];
		int err = pthread_create(&cpu->thread, NULL, run_cpu, cpu);

		if (err)
			return impost_error_set(machine->ctx, -err,
						"cannot start the thread of vCPU %u: %s", i,
						strerror(err));
		cpu->started = true;
	}
	return 0;
}

void machine_stop(struct machine *machine)
{
	atomic_store(&machine->stopping, true);
	console_stop(&machine->console);
	for (uint32_t i = 0; i < machine->ncpus; i++)
		if (machine->cpus[i].started)
			impost_vcpu_kick(machine->cpus[i].vcpu);
	for (uint32_t i = 0; i < machine->ncpus; i++)
		if (machine->cpus[i].started)
			pthread_join(machine->cpus[i].thread, NULL);
}

void machine_destroy_cpus(struct machine *machine)
{
	struct impost_vcpu *vcpu;

	while (machine->vm && (vcpu = impost_vm_vcpu(machine->vm, 0)) != NULL)
		if (impost_vcpu_destroy(vcpu) < 0)
			break;
}

void machine_destroy(struct machine *machine)
{
	machine_destroy_cpus(machine);
	impost_vm_destroy(machine->vm);
	free(machine->cpus);
	if (machine->wake >= 0) {
		serial_destroy(&machine->serial);
		close(machine->wake);
	}
	pthread_mutex_destroy(&machine->lock);
}
