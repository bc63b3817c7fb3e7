// SPDX-License-Identifier: Apache-2.0
/*
 * A VM moves: one process boots a guest and sends it away in the middle of a line, with the console
 * that has half of the line; another one receives it over a socket and runs it to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <impost/impost.h>

/* --- a device: a serial port that prints whole lines --- */

struct console {
	uint8_t line[80]; /* what the guest has said of it */
	uint8_t used;	  /* bytes in it */
	uint8_t pause_at; /* the host wants to know when there are so many; 0: it does not */
};

/* The described members go with the VM (docs/records.md). */
IMPOST_FIELDS(console_fields,
	      IMPOST_FIELD_BYTES(struct console, line, 1, "What is not printed yet",
				 IMPOST_COUNTED(struct console, used)), )
IMPOST_RECORD(console_record, "console", struct console, 1, 1, 1, console_fields,
	      "A serial port that only sends, and prints whole lines.")

static void put(struct console *console, uint8_t byte)
{
	if (console->used < sizeof(console->line))
		console->line[console->used++] = byte;
	if (byte != '\n' && console->used < sizeof(console->line))
		return;
	fwrite(console->line, 1, console->used, stdout);
	console->used = 0;
}

/* 1 leaves the loop: the guest has said enough, or asks for a reset. */
static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct console *console = opaque;
	const struct impost_exit_io *io = &exit->u.io;
	const uint8_t *data = io->data;
	bool pause = false;

	(void)vcpu;
	if (io->dir == IMPOST_EXIT_READ) { /* 0x3fd says that the line is ready to send */
		memset(io->data, io->port == 0x3fd ? 0x60 : 0xff, (size_t)io->size * io->count);
		return 0;
	}
	for (uint32_t i = 0; io->port == 0x3f8 && i < io->count; i++) {
		put(console, data[(size_t)i * io->size]);
		pause |= console->used && console->used == console->pause_at;
	}
	return pause || (io->port == 0x64 && *data == 0xfe);
}

/* --- a machine --- */

struct machine {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct console console;
	int fd; /* to the other process */
};

/* Runs the guest until the console, or the guest, has had enough. */
static int run(struct machine *m)
{
	static const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	struct impost_vcpu *vcpu = impost_vm_vcpu(m->vm, 0);
	struct impost_exit exit = {0};
	int err = impost_vcpu_loop(vcpu, &handlers, &m->console, &exit);

	/* A VM is held between instructions: the one that left the loop is finished. */
	while (err == 0 && exit.kind == IMPOST_EXIT_IO) {
		err = impost_vcpu_complete(vcpu, &exit);
		if (err == 0 && exit.kind == IMPOST_EXIT_IO)
			on_io(&m->console, vcpu, &exit);
	}
	return err;
}

static int boot(struct machine *m)
{
	const char *kernel = impost_context_get(m->ctx, "boot", "kernel");
	struct impost_x86_boot_config config;
	struct impost_vcpu *vcpu;
	int err = impost_vcpu_create(m->vm, 0, &vcpu);

	impost_x86_boot_config_init(m->ctx, &config);
	config.kernel_fd = open(kernel ? kernel : "", O_RDONLY | O_CLOEXEC);
	if (err == 0 && config.kernel_fd < 0)
		err = impost_error_set(m->ctx, -errno, "[boot] kernel: cannot open it: %m");
	if (err == 0)
		err = impost_x86_add_ram(impost_vm_memory(m->vm), impost_vm_config(m->vm)->memory);
	if (err == 0)
		err = impost_x86_boot(m->vm, &vcpu, 1, &config, NULL);
	if (config.kernel_fd >= 0)
		close(config.kernel_fd);
	return err;
}

/* --- the two sides --- */

static void describe(const struct machine *m, struct impost_migration_channel *channel,
		     struct impost_migration_config *config)
{
	*channel = (struct impost_migration_channel){.size = sizeof(*channel), .fd = m->fd};
	*config = (struct impost_migration_config){.size = sizeof(*config), .channel = channel};
}

/* The vCPU has left its loop here; one that runs in a thread of its own goes on running meanwhile,
 * and its loop ends with -IMPOST_EMOVED. */
static int send_vm(struct machine *m)
{
	struct impost_migration_status status = {.size = sizeof(status)};
	struct impost_migration_channel channel;
	struct impost_migration_config config;
	struct impost_migration *migration;
	int err;

	describe(m, &channel, &config);
	err = impost_migration_create(m->ctx, &config, &migration);
	if (err < 0)
		return err;
	err = impost_migration_send(migration, m->vm);
	if (err == 0)
		err = impost_migration_status(migration, &status);
	if (err == 0)
		fprintf(stderr, "%s: sent, with \"%.*s\" in the console, and %u KiB of memory\n",
			impost_vm_backend(m->vm), m->console.used, (char *)m->console.line,
			(unsigned int)(status.data_bytes >> 10));
	impost_migration_destroy(migration);
	return err;
}

static int source(struct machine *m)
{
	int err = impost_vm_create(m->ctx, NULL, &m->vm);

	if (err == 0)
		err = impost_vm_add_device(m->vm, "console", 0, &console_record, &m->console);
	if (err == 0)
		err = boot(m);
	m->console.pause_at = strlen("Hello");
	if (err == 0)
		err = run(m);
	return err ? err : send_vm(m);
}

/* The VM has been made; what is in its devices comes into these. */
static int prepare(void *opaque, struct impost_vm *vm)
{
	struct machine *m = opaque;

	return impost_vm_add_device(vm, "console", 0, &console_record, &m->console);
}

static int destination(struct machine *m)
{
	struct impost_migration_channel channel;
	struct impost_migration_config config;
	struct impost_migration *migration;
	int err;

	describe(m, &channel, &config);
	config.prepare = prepare;
	config.opaque = m;
	err = impost_migration_create(m->ctx, &config, &migration);
	if (err < 0)
		return err;
	err = impost_migration_receive(migration, &m->vm);
	if (err == 0) /* it is ours now, and nobody else's */
		err = run(m);
	impost_migration_destroy(migration);
	return err;
}

/* --- two processes --- */

/* A context is for the process that opened it. */
static int live(const char *ini, int fd, int (*life)(struct machine *))
{
	struct machine m = {.fd = fd};
	int err = impost_context_open(NULL, NULL, &m.ctx);

	if (err == 0)
		err = impost_context_load_file(m.ctx, ini);
	if (err == 0)
		err = life(&m);
	if (err < 0)
		fprintf(stderr, "migrate: %s\n",
			m.ctx && *impost_error(m.ctx) ? impost_error(m.ctx)
						      : impost_error_name(err));
	if (m.vm)
		impost_vcpu_destroy(impost_vm_vcpu(m.vm, 0));
	impost_vm_destroy(m.vm);
	impost_context_close(m.ctx);
	close(fd); /* the other side waits no longer, if it does */
	return err;
}

/* Usage: migrate [INI]. */
int main(int argc, char **argv)
{
	const char *ini = argc > 1 ? argv[1] : "examples/impost.ini";
	int fds[2], status = 1, err;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		close(fds[0]);
		return live(ini, fds[1], destination) != 0;
	}
	close(fds[1]);
	err = live(ini, fds[0], source);
	waitpid(pid, &status, 0);
	return err || status;
}
