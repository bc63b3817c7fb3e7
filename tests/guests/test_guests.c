/* SPDX-License-Identifier: Apache-2.0 */
/* Boots the guests through the public interface, on kvm and, where they have a script, on the mock.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define MEMORY	   (UINT64_C(64) << 20)
#define LOG_BYTES  65536
#define SECONDS	   60 /* under emulation in the lab everything is slow */
#define COM1	   0x3f8
#define COM1_LSR   0x3fd
#define LSR_EMPTY  0x60
#define RESET_PORT 0x64
#define RESET	   0xfe
#define PORT_LATCH 0x600
#define MMIO_LATCH 0xd0000000u

/* A guest's machine, and what came of it. */
struct machine {
	char output[LOG_BYTES]; /* on the serial port */
	char exits[LOG_BYTES];	/* a line for each, with the answers to reads */
	uint64_t port_latch;
	uint64_t mmio_latch;
	struct impost_context *ctx;
};

static void append(char *log, const char *text, size_t bytes)
{
	size_t used = strlen(log);

	cr_assert(used + bytes < LOG_BYTES, "the guest says too much");
	memcpy(log + used, text, bytes);
	log[used + bytes] = '\0';
}

static void note(struct machine *machine, const struct impost_exit *exit)
{
	char line[256];
	int length = impost_exit_format(exit, line, sizeof(line) - 1);

	cr_assert(length > 0 && (size_t)length < sizeof(line) - 1);
	line[length] = '\n';
	append(machine->exits, line, (size_t)length + 1);
}

/* A register that gives back what was written to it last; COUNT elements come one after the other.
 */
static void latch(uint64_t *value, uint32_t dir, void *data, size_t size, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		void *element = (char *)data + i * size;

		if (dir == IMPOST_EXIT_READ) {
			memcpy(element, value, size);
		} else {
			*value = 0;
			memcpy(value, element, size);
		}
	}
}

static int on_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *machine = opaque;
	const struct impost_exit_io *io = &exit->u.io;
	uint8_t *data = io->data;

	(void)vcpu;
	if (io->port == PORT_LATCH)
		latch(&machine->port_latch, io->dir, data, io->size, io->count);
	else if (io->dir == IMPOST_EXIT_READ)
		memset(data, io->port == COM1_LSR ? LSR_EMPTY : 0xff, (size_t)io->size * io->count);
	else if (io->port == COM1)
		append(machine->output, (const char *)data, io->count);
	note(machine, exit);
	return io->port == RESET_PORT && io->dir == IMPOST_EXIT_WRITE && *data == RESET;
}

static int on_mmio(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	struct machine *machine = opaque;
	const struct impost_exit_mmio *mmio = &exit->u.mmio;

	(void)vcpu;
	cr_assert_eq(mmio->gpa, MMIO_LATCH);
	latch(&machine->mmio_latch, mmio->dir, mmio->data, mmio->size, mmio->count);
	note(machine, exit);
	return 0;
}

#define OK(ctx, call) cr_assert_eq((call), 0, #call ": %s", impost_error(ctx))

/* What lies over the backend, as `[impost] layers` has it, and what the mock replays; "": nothing.
 */
static char layers[512];
static char cassette[512];

static struct impost_vm *make_vm(struct machine *machine, const char *backend)
{
	struct impost_vm_config config;
	struct impost_vm *vm;

	OK(machine->ctx, impost_vm_config_init(machine->ctx, &config));
	config.backend = backend;
	config.memory = MEMORY;
	if (*layers)
		config.layers = layers;
	OK(machine->ctx, impost_vm_create(machine->ctx, &config, &vm));
	OK(machine->ctx, impost_x86_add_ram(impost_vm_memory(vm), MEMORY));
	return vm;
}

static void run(struct machine *machine, struct impost_vcpu *vcpu)
{
	struct impost_handlers handlers = {.size = sizeof(handlers), .io = on_io, .mmio = on_mmio};
	struct impost_exit exit;
	char line[256];

	OK(machine->ctx, impost_vcpu_loop(vcpu, &handlers, machine, &exit));
	impost_exit_format(&exit, line, sizeof(line));
	cr_assert_eq(exit.kind, IMPOST_EXIT_IO, "the guest ended with %s, having said: %s", line,
		     machine->output);
}

static void boot(struct machine *machine, const char *backend, const char *guest,
		 const char *cmdline)
{
	struct impost_vm *vm = make_vm(machine, backend);
	struct impost_x86_boot_config config;
	struct impost_vcpu *vcpu;
	char path[512];

	impost_x86_boot_config_init(machine->ctx, &config);
	snprintf(path, sizeof(path), "%s%s", *guest == '/' ? "" : GUEST_DIR "/", guest);
	config.kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(config.kernel_fd, 0, "%s", path);
	config.cmdline = cmdline;
	/* Else it may be this machine's, which is none of a cassette's. */
	if (*layers || *cassette)
		config.brand = "Impost guest";
	OK(machine->ctx, impost_vcpu_create(vm, 0, &vcpu));
	OK(machine->ctx, impost_x86_boot(vm, &vcpu, 1, &config, NULL));
	close(config.kernel_fd);
	run(machine, vcpu);
	OK(machine->ctx, impost_vcpu_destroy(vcpu));
	OK(machine->ctx, impost_vm_destroy(vm));
}

/* What the guests of a test have as memory: see impost.ini(5). */
struct ram {
	const char *backing, *path, *shared, *prefault;
};

static struct ram ram;

static void set(struct machine *machine, const char *key, const char *value)
{
	if (value)
		OK(machine->ctx, impost_context_set(machine->ctx, "memory", key, value));
}

/* Runs GUEST from nothing to its stop. */
static void play(struct machine *machine, const char *backend, const char *guest,
		 const char *cmdline)
{
	memset(machine, 0, sizeof(*machine));
	cr_assert_eq(impost_context_open(NULL, NULL, &machine->ctx), 0);
	OK(machine->ctx, impost_context_set(machine->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	set(machine, "backing", ram.backing);
	set(machine, "path", ram.path);
	set(machine, "shared", ram.shared);
	set(machine, "prefault", ram.prefault);
	if (*cassette)
		OK(machine->ctx,
		   impost_context_set(machine->ctx, "backend.mock", "cassette", cassette));
	else if (strcmp(backend, "mock") == 0)
		OK(machine->ctx, impost_context_set(machine->ctx, "backend.mock", "script",
						    SOURCE_DIR "/hello.script"));
	boot(machine, backend, guest, cmdline);
	OK(machine->ctx, impost_context_close(machine->ctx));
}

/* Skips the test, saying why, where BACKEND cannot run. */
static void need(const char *backend)
{
	struct impost_context *ctx;
	struct impost_caps caps = {.size = sizeof(caps)};
	char why[512] = "";

	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	OK(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	if (impost_backend_probe(ctx, backend, &caps))
		snprintf(why, sizeof(why), "%s", impost_error(ctx));
	impost_context_close(ctx);
	if (*why)
		cr_skip_test("%s", why);
}

static void expect(const char *guest, const char *cmdline, const char *output)
{
	static struct machine machine;

	need("kvm");
	play(&machine, "kvm", guest, cmdline);
	cr_assert_str_eq(machine.output, output, "the guest says:\n%s", machine.output);
}

TestSuite(guests, .timeout = 4 * SECONDS); /* one for all: with several Criterion loses memory */

Test(guests, hello_plays_on_the_mock)
{
	static struct machine mock;

	play(&mock, "mock", "hello", NULL);
	cr_assert_str_eq(mock.output, "Hello from an Impost guest\n");
}

/* The script is true: whatever devices see of the guest on kvm they see of its script on the mock.
 */
Test(guests, hello_is_the_same_on_kvm_and_mock)
{
	static struct machine kvm;
	static struct machine mock;

	need("kvm");
	play(&kvm, "kvm", "hello", NULL);
	play(&mock, "mock", "hello", NULL);
	cr_assert_str_eq(kvm.output, mock.output);
	cr_assert_str_eq(kvm.exits, mock.exits, "on kvm:\n%s\non the mock:\n%s", kvm.exits,
			 mock.exits);
}

Test(guests, ports)
{
	expect("ports", NULL,
	       "inb 5a\ninw a55a\ninl deadbeef\n"
	       "insb 04\ninsw 0404\ninsl 04040404\n"
	       "insb 04\ninsw 0404\ninsl 04040404\n"
	       "insb 04\ninsw 0404\ninsl 04040404\n"
	       "insb 04\ninsw 0404\ninsl 04040404\n");
}

Test(guests, mmio)
{
	expect("mmio", NULL, "mmio 5a\nmmio a55a\nmmio deadbeef\nmmio 0123456789abcdef\n");
}

Test(guests, msr)
{
	expect("msr", NULL,
	       "rdmsr c0000080 0000000000000500\n"
	       "rdmsr 0000001b 00000000fee00900\n"
	       "wrmsr 00000277 0007040600070406\nrdmsr 00000277 0007040600070406\n"
	       "wrmsr c0000080 #GP\nrdmsr c0000080 0000000000000500\n"
	       "wrmsr c0000081 0010000800000000\nrdmsr c0000081 0010000800000000\n"
	       "wrmsr c0000102 0000123456789000\nrdmsr c0000102 0000123456789000\n"
	       "wrmsr 00004321 #GP\nrdmsr 00004321 #GP\n"
	       "tsc runs\n");
}

Test(guests, count)
{
	expect("count", "pages=64 rounds=6 every=2", "round 2\nround 4\nround 6\n");
}

Test(guests, timer)
{
	expect("timer", "ticks=3", "tick 1\ntick 2\ntick 3\n");
}

Test(guests, spin_stops_when_told_to)
{
	static struct machine machine;
	unsigned int lines = 0;

	need("kvm");
	play(&machine, "kvm", "spin", "outs=10");
	for (const char *c = machine.exits; *c; c++)
		lines += *c == '\n';
	cr_assert_eq(lines, 10 + 1, "ten, and the stop:\n%s", machine.exits);
}

/* --- cassettes --- */

/*
 * tests/golden/cassettes has each guest as it was recorded on KVM, with the image that was booted,
 * since another compiler makes another one. Where the library sets guests up in another way they
 * have to be recorded again: IMPOST_GOLDEN=1 in the environment of this test does it.
 */
static const struct recorded {
	const char *guest, *cmdline, *output;
} recorded[] = {
	{"hello", NULL, "Hello from an Impost guest\n"},
	{"ports", NULL,
	 "inb 5a\ninw a55a\ninl deadbeef\ninsb 04\ninsw 0404\ninsl 04040404\n"
	 "insb 04\ninsw 0404\ninsl 04040404\ninsb 04\ninsw 0404\ninsl 04040404\n"
	 "insb 04\ninsw 0404\ninsl 04040404\n"},
	{"mmio", NULL, "mmio 5a\nmmio a55a\nmmio deadbeef\nmmio 0123456789abcdef\n"},
	{"count", "pages=64 rounds=6 every=2", "round 2\nround 4\nround 6\n"},
	{"timer", "ticks=3", "tick 1\ntick 2\ntick 3\n"},
};
#define RECORDED (sizeof(recorded) / sizeof(recorded[0]))

/* Records IMAGE of ROW on KVM at PATH. */
static void record(struct machine *machine, const struct recorded *row, const char *image,
		   const char *path)
{
	snprintf(layers, sizeof(layers), "record:%s", path);
	play(machine, "kvm", image, row->cmdline);
	layers[0] = '\0';
	cr_assert_str_eq(machine->output, row->output, "%s says:\n%s", row->guest, machine->output);
}

static void replay(struct machine *machine, const struct recorded *row, const char *image,
		   const char *path)
{
	snprintf(cassette, sizeof(cassette), "%s", path);
	play(machine, "mock", image, row->cmdline);
	cassette[0] = '\0';
	cr_assert_str_eq(machine->output, row->output, "%s says:\n%s", row->guest, machine->output);
}

Test(guests, what_was_recorded_on_kvm_plays_on_the_mock)
{
	static struct machine kvm;
	static struct machine mock;
	char path[] = "/tmp/impost-cassette-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	need("kvm");
	for (size_t i = 0; i < RECORDED; i++) {
		record(&kvm, &recorded[i], recorded[i].guest, path);
		replay(&mock, &recorded[i], recorded[i].guest, path);
		cr_assert_str_eq(kvm.exits, mock.exits, "on kvm:\n%s\non the mock:\n%s", kvm.exits,
				 mock.exits);
	}
	unlink(path);
}

Test(guests, golden_cassettes_play)
{
	static struct machine machine;
	char image[512], path[512];

	for (size_t i = 0; i < RECORDED; i++) {
		snprintf(image, sizeof(image), "%s/%s.elf", CASSETTE_DIR, recorded[i].guest);
		snprintf(path, sizeof(path), "%s/%s", CASSETTE_DIR, recorded[i].guest);
		if (getenv("IMPOST_GOLDEN"))
			record(&machine, &recorded[i], image, path);
		replay(&machine, &recorded[i], image, path);
	}
}

/* --- memory of other kinds --- */

static char ram_path[] = "/tmp/impost-ram-XXXXXX";

static const struct ram rams[] = {
	{"anonymous", NULL, NULL, "yes"}, {"memfd", NULL, NULL, NULL},
	{"memfd", NULL, NULL, "yes"},	  {"file", ram_path, "no", NULL},
	{"file", ram_path, "yes", NULL},  {"file", ram_path, "yes", "yes"},
};
#define RAMS (sizeof(rams) / sizeof(rams[0]))

/* Makes RAM what RAMS[I] says. Returns the file, empty. */
static int take_ram(size_t i)
{
	int fd = open(ram_path, O_RDWR | O_CLOEXEC | O_TRUNC);

	if (fd < 0)
		fd = mkstemp(ram_path);
	cr_assert(fd >= 0 && ftruncate(fd, (off_t)MEMORY) == 0);
	ram = rams[i];
	return fd;
}

static uint64_t number_in(int fd, uint64_t offset)
{
	uint64_t number = 0;

	cr_assert_eq(pread(fd, &number, sizeof(number), (off_t)offset), (ssize_t)sizeof(number));
	return number;
}

Test(guests, any_memory_will_do_on_the_mock)
{
	static struct machine mock;

	for (size_t i = 0; i < RAMS; i++) {
		int fd = take_ram(i);

		play(&mock, "mock", "hello", NULL);
		cr_assert_str_eq(mock.output, "Hello from an Impost guest\n");
		close(fd);
	}
	unlink(ram_path);
}

/* And what the guest wrote is in its file if that is shared, else not. */
Test(guests, any_memory_will_do_on_kvm)
{
	const uint64_t counters = UINT64_C(16) << 20; /* see count.c */

	for (size_t i = 0; i < RAMS; i++) {
		int fd = take_ram(i);
		bool shared = ram.shared && strcmp(ram.shared, "yes") == 0;

		expect("count", "pages=64 rounds=6 every=2", "round 2\nround 4\nround 6\n");
		for (uint64_t page = 0; page < 64; page++)
			cr_expect_eq(number_in(fd, counters + page * IMPOST_PAGE_SIZE),
				     shared ? page << 32 | 6 : 0, "RAM %zu, page %lu", i, page);
		close(fd);
	}
	unlink(ram_path);
}
