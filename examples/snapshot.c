// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot and what becomes of it: a guest is stopped in the middle of a line, saved with the
 * console that has half of the line, thrown away, and goes on from the file in another context.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

/* --- a device: a serial port that prints whole lines --- */

struct console {
	uint8_t line[80]; /* what the guest has said of it */
	uint8_t used;	  /* bytes in it */
	uint8_t pause_at; /* the host wants to know when there are so many; 0: it does not */
};

/* The described members are what is saved; pause_at is none of them (docs/records.md). */
IMPOST_FIELDS(console_fields,
	      IMPOST_FIELD_BYTES(struct console, line, 1, "What is not printed yet",
				 IMPOST_COUNTED(struct console, used)), )
IMPOST_RECORD(console_record, "console", struct console, 1, 1, 1, console_fields,
	      "A serial port that only sends, and prints whole lines.")

static void flush(struct console *console)
{
	fwrite(console->line, 1, console->used, stdout);
	console->used = 0;
}

static void put(struct console *console, uint8_t byte)
{
	if (console->used == sizeof(console->line)) /* as a snapshot may have it, too */
		flush(console);
	console->line[console->used++] = byte;
	if (byte == '\n')
		flush(console);
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
};

/* Runs the guest until the console, or the guest, has had enough. */
static int run(struct machine *m)
{
	static const struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io};
	struct impost_vcpu *vcpu = impost_vm_vcpu(m->vm, 0);
	struct impost_exit exit = {0};
	char text[256];
	int err = impost_vcpu_loop(vcpu, &handlers, &m->console, &exit);

	if (err == 0 && exit.kind != IMPOST_EXIT_IO) {
		impost_exit_format(&exit, text, sizeof(text));
		return impost_error_set(m->ctx, -EIO, "the guest: %s", text);
	}
	/* A VM is held, and saved, between instructions: the one that left the loop is finished. */
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

static int add_console(struct machine *m)
{
	return impost_vm_add_device(m->vm, "console", 0, &console_record, &m->console);
}

/* --- its snapshot --- */

/* From any thread: in a VM that is held nothing moves. It stays held, for its life is over. */
static int save(struct machine *m, const char *path)
{
	int err = impost_vm_hold(m->vm, 1000);

	if (err == 0)
		err = impost_snapshot_save(m->vm, path, NULL, NULL);
	if (err == 0)
		fprintf(stderr, "%s: saved, with \"%.*s\" in the console\n",
			impost_vm_backend(m->vm), m->console.used, (char *)m->console.line);
	return err;
}

static int first_life(struct machine *m, const char *path)
{
	int err = impost_vm_create(m->ctx, NULL, &m->vm);

	if (err == 0)
		err = add_console(m);
	if (err == 0)
		err = boot(m);
	m->console.pause_at = strlen("Hello");
	if (err == 0)
		err = run(m);
	if (err == 0)
		err = save(m, path);
	return err;
}

static void tell(void *opaque, const char *kind, const char *name, const char *reason)
{
	(void)opaque;
	fprintf(stderr, "in the way: %s %s: %s\n", kind, name, reason);
}

/* Pre-flight. impost_snapshot_restore() does it too, and puts all into one text. */
static int check(struct machine *m, struct impost_snapshot *snapshot)
{
	int count = impost_snapshot_check(snapshot, NULL, tell, NULL);

	if (count > 0)
		return impost_error_set(m->ctx, -ENOTSUP, "%d things are in the way here", count);
	return count;
}

static int second_life(struct machine *m, const char *path)
{
	struct impost_snapshot *snapshot = NULL;
	int err = impost_snapshot_open(m->ctx, path, NULL, &snapshot);

	if (err == 0)
		err = check(m, snapshot);
	if (err == 0) /* VM, memory and vCPUs */
		err = impost_snapshot_restore(snapshot, NULL, &m->vm);
	if (err == 0)
		err = add_console(m);
	if (err == 0) /* what is in them, and in the devices */
		err = impost_snapshot_load(snapshot, m->vm);
	impost_snapshot_close(snapshot);
	if (err == 0)
		err = run(m);
	return err;
}

/* Each life has a machine of its own, and shares nothing with the other but the file at PATH. */
static int live(const char *ini, const char *path, int (*life)(struct machine *, const char *))
{
	struct machine m = {0};
	int err = impost_context_open(NULL, NULL, &m.ctx);

	if (err == 0)
		err = impost_context_load_file(m.ctx, ini);
	if (err == 0)
		err = life(&m, path);
	if (err < 0)
		fprintf(stderr, "snapshot: %s\n",
			m.ctx && *impost_error(m.ctx) ? impost_error(m.ctx)
						      : impost_error_name(err));
	if (m.vm)
		impost_vcpu_destroy(impost_vm_vcpu(m.vm, 0));
	impost_vm_destroy(m.vm);
	impost_context_close(m.ctx);
	return err;
}

/* Usage: snapshot [INI [FILE]]: FILE is where the snapshot goes. */
int main(int argc, char **argv)
{
	const char *ini = argc > 1 ? argv[1] : "examples/impost.ini";
	const char *path = argc > 2 ? argv[2] : "hello.snapshot";

	return live(ini, path, first_life) || live(ini, path, second_life);
}
