/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for what is the mock's alone in a vCPU's state: a position in its script, and other
 * items. What is refused changes nothing; what is taken is given back, and plays on.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>

#define SECTION_MAX 65536u
#define EXITS	    8

/* A step of each kind that has a place in a position. */
static const char script[] = "[vcpu 0]\n"
			     "out = 0x80 1 1\n"
			     "repeat = 3\n"
			     "in = 0x60 1\n"
			     "repeat = 2\n"
			     "mmio-read = 0xd0000000 4\n"
			     "end =\n"
			     "delay = 1 us\n"
			     "end =\n"
			     "write = 0x200000 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11\n"
			     "hlt =\n";

struct section {
	uint32_t bytes;
	uint8_t data[SECTION_MAX];
};

static struct impost_context *ctx;
static struct impost_vcpu *vcpu;
static struct section first; /* before anything was played */

static void check(int err)
{
	if (!err)
		return;
	fprintf(stderr, "%s\n", impost_error(ctx));
	abort();
}

static void get(struct section *section)
{
	check(impost_vcpu_get(vcpu, IMPOST_SECTION_VCPU_OPAQUE, section->data, SECTION_MAX,
			      &section->bytes));
}

static int set(const void *data, size_t bytes)
{
	return impost_vcpu_set(vcpu, IMPOST_SECTION_VCPU_OPAQUE, data, (uint32_t)bytes);
}

/* The reader wants a file, which it does not look at again. */
static void name_script(void)
{
	char path[] = "/tmp/impost-fuzz-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, script, sizeof(script) - 1) != (ssize_t)sizeof(script) - 1)
		abort();
	close(fd);
	check(impost_context_set(ctx, "backend.mock", "script", path));
	check(impost_context_set(ctx, "backend.mock", "check_entry", "no"));
}

static void begin(void)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = 0x100000};
	struct impost_vm_config config;
	struct impost_vm *vm;

	check(impost_context_open(NULL, NULL, &ctx));
	check(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	name_script();
	check(impost_vm_config_init(ctx, &config));
	config.backend = "mock";
	check(impost_vm_create(ctx, &config, &vm));
	unlink(impost_context_get(ctx, "backend.mock", "script"));
	check(impost_memory_add(impost_vm_memory(vm), &ram));
	check(impost_vcpu_create(vm, 0, &vcpu));
	get(&first);
}

/* What is given back is taken again, and is the same then. */
static void expect_stable(void)
{
	static struct section given, again;

	get(&given);
	check(set(given.data, given.bytes));
	get(&again);
	if (given.bytes != again.bytes || memcmp(given.data, again.data, given.bytes) != 0)
		abort();
}

static void play(void)
{
	struct impost_exit exit;

	for (int i = 0; i < EXITS; i++) {
		check(impost_vcpu_run(vcpu, &exit));
		check(impost_vcpu_complete(vcpu, &exit));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct section now;

	if (!ctx)
		begin();
	if (set(data, size) == 0) {
		expect_stable();
		play();
		check(set(first.data, first.bytes));
	}
	get(&now);
	if (now.bytes != first.bytes || memcmp(now.data, first.data, now.bytes) != 0)
		abort();
	return 0;
}
