/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that is moved at random instants: machine.h. */
#include "machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COM1	   0x3f8
#define COM1_LSR   0x3fd
#define LSR_EMPTY  0x60
#define RESET_PORT 0x64
#define RESET	   0xfe

/* --- random instants --- */

static uint64_t seed = 1;

static unsigned long from_environment(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

unsigned long instants_wanted(unsigned long otherwise)
{
	return from_environment("IMPOST_INSTANTS", otherwise);
}

void seed_from_environment(void)
{
	seed = from_environment("IMPOST_SEED", 1);
}

uint64_t seed_now(void)
{
	return seed;
}

/* Steele, Lea, Flood: "Fast splittable pseudorandom number generators". */
unsigned long draw(unsigned long limit)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % limit;
}

void nap(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* --- the machine --- */

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *m = opaque;
	const struct impost_exit_io *io = &exit->u.io;
	uint8_t *data = io->data;

	(void)vcpu;
	atomic_fetch_add(&m->exits, 1);
	if (io->dir == IMPOST_EXIT_READ) {
		memset(data, io->port == COM1_LSR ? LSR_EMPTY : 0xff, (size_t)io->size * io->count);
	} else if (io->port == COM1) {
		cr_assert(m->said + io->count < MACHINE_LOG, "the guest says too much");
		memcpy(m->output + m->said, data, io->count);
		m->said += io->count;
	} else if (io->port == RESET_PORT && *data == RESET) {
		atomic_store(&m->ended, true);
		return 1;
	}
	return 0;
}

static int on_intr(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *m = opaque;

	(void)vcpu;
	(void)exit;
	return atomic_load(&m->stop);
}

static void check_end(struct machine *m, const struct impost_exit *exit)
{
	char line[256];

	impost_exit_format(exit, line, sizeof(line));
	cr_assert(exit->kind == IMPOST_EXIT_IO || exit->kind == IMPOST_EXIT_INTR,
		  "the guest ended with %s, having said %zu bytes", line, m->said);
}

static void *run(void *opaque)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io, .intr = on_intr};
	struct machine *m = opaque;
	struct impost_vcpu *vcpu = m->vcpu;
	struct impost_exit exit;
	int err = impost_vcpu_loop(vcpu, &handlers, m, &exit);

	if (err == -IMPOST_EMOVED)
		return (void *)(intptr_t)err;
	cr_assert_eq(err, 0, "%s", impost_error(m->ctx));
	check_end(m, &exit);
	/* The guest's last access needs no answer: nobody must wait for one. */
	if (exit.kind == IMPOST_EXIT_IO)
		OK(m, impost_vcpu_complete(vcpu, &exit));
	return NULL;
}

void machine_start(struct machine *m)
{
	atomic_store(&m->stop, false);
	cr_assert_eq(pthread_create(&m->thread, NULL, run, m), 0);
	m->running = true;
}

void machine_join(struct machine *m)
{
	void *result = NULL;

	if (m->running)
		pthread_join(m->thread, &result);
	m->running = false;
	m->left_with = (int)(intptr_t)result;
}

void machine_destroy_vm(struct machine *m)
{
	OK(m, impost_vcpu_destroy(m->vcpu));
	OK(m, impost_vm_destroy(m->vm));
}

void machine_open(struct machine *m, const char *backend, const char *script)
{
	memset(m, 0, sizeof(*m));
	cr_assert_eq(impost_context_open(NULL, NULL, &m->ctx), 0);
	OK(m, impost_context_set(m->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(m, impost_context_set(m->ctx, "impost", "backend", backend));
	if (script)
		OK(m, impost_context_set(m->ctx, "backend.mock", "script", script));
}

void machine_close(struct machine *m)
{
	machine_destroy_vm(m);
	OK(m, impost_context_close(m->ctx));
}

void machine_boot(struct machine *m, const char *cmdline)
{
	struct impost_x86_boot_config boot;
	struct impost_vm_config config;

	OK(m, impost_vm_config_init(m->ctx, &config));
	config.memory = MACHINE_MEMORY;
	OK(m, impost_vm_create(m->ctx, &config, &m->vm));
	OK(m, impost_x86_add_ram(impost_vm_memory(m->vm), MACHINE_MEMORY));
	OK(m, impost_vcpu_create(m->vm, 0, &m->vcpu));
	impost_x86_boot_config_init(m->ctx, &boot);
	boot.kernel_fd = open(GUEST_DIR "/keep", O_RDONLY | O_CLOEXEC);
	cr_assert_geq(boot.kernel_fd, 0);
	boot.cmdline = cmdline;
	OK(m, impost_x86_boot(m->vm, &m->vcpu, 1, &boot, NULL));
	close(boot.kernel_fd);
}

bool machine_run_for(struct machine *m, unsigned long exits)
{
	atomic_store(&m->exits, 0);
	if (!m->running && !atomic_load(&m->ended))
		machine_start(m);
	while (atomic_load(&m->exits) < exits && !atomic_load(&m->ended))
		nap(1000);
	nap((long)draw(200000));
	return !atomic_load(&m->ended);
}

/* --- outcomes --- */

void outcome_take(struct machine *m, struct outcome *outcome)
{
	memcpy(outcome->output, m->output, sizeof(outcome->output));
	OK(m, impost_memory_read(impost_vm_memory(m->vm), 0, outcome->memory, MACHINE_MEMORY));
	memset(outcome->memory + MACHINE_SCRATCH, 0, MACHINE_SCRATCH_END - MACHINE_SCRATCH);
}

void outcome_expect(const struct outcome *got, const struct outcome *want, const char *how)
{
	size_t same = 0;

	while (got->output[same] && got->output[same] == want->output[same])
		same++;
	cr_assert_str_eq(got->output, want->output, "%s: after %zu bytes the guest says: %.60s",
			 how, same, got->output + same);
	for (uint64_t gpa = 0; gpa < MACHINE_MEMORY; gpa += 8)
		cr_assert_eq(memcmp(got->memory + gpa, want->memory + gpa, 8), 0,
			     "%s: memory at 0x%lx is not what it is in other runs", how, gpa);
}

void outcome_learn(const char *backend, const char *script, const char *cmdline,
		   struct outcome *outcome)
{
	static struct outcome again;
	static struct machine m;

	for (int i = 0; i < 2; i++) {
		machine_open(&m, backend, script);
		machine_boot(&m, cmdline);
		machine_start(&m);
		machine_join(&m);
		outcome_take(&m, i ? &again : outcome);
		outcome->exits = atomic_load(&m.exits);
		machine_close(&m);
	}
	outcome_expect(&again, outcome, "undisturbed");
}

/* --- backends --- */

void need_backend(const char *backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};
	struct impost_context *ctx;
	char why[512] = "";

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	if (impost_backend_probe(ctx, backend, &caps))
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
	impost_context_close(ctx);
	if (*why)
		cr_skip_test("%s", why);
}

void write_rounds(char *path)
{
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	cr_assert_not_null(file);
	fputs("[vcpu 0]\n", file);
	for (unsigned int round = 1; round <= 100; round++) {
		for (unsigned int page = 0; page < 16; page++)
			fprintf(file, "write = 0x%x %02x %02x\n", MACHINE_SCRATCH_END + page * 4096,
				page, round);
		fprintf(file, "set = rbx %u\ndelay = 10us\n", round);
		fprintf(file, "in = 0x3fd 1 expect 0x60\ntext = 0x3f8 \"round %u\\n\"\n", round);
	}
	fputs("out = 0x64 1 0xfe\n", file);
	cr_assert_eq(fclose(file), 0);
}
