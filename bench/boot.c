/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures impost_x86_boot() on the mock, for 4 vCPUs and 1 GiB.
 *
 *   bench-boot PLUGIN_DIR boot ROUNDS     with a bzImage of 8 MiB, and what copying its payload
 *                                         alone costs: nanoseconds of both, and their ratio
 *   bench-boot PLUGIN_DIR setup ROUNDS    with a bzImage of 1 KiB: the set-up without the copy
 *   bench-boot PLUGIN_DIR tables ROUNDS   the page tables for 1 TiB alone, with pages of 2 MiB:
 *                                         nanoseconds, and their bytes
 *
 * Numbers are medians. Each round has a new VM, whose memory was never touched, and the kernel in
 * the page cache.
 */
#include <asm/bootparam.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <impost/impost.h>

#include "timing.h"

#define CPUS	     4u
#define MEMORY	     (UINT64_C(1) << 30)
#define KERNEL_BYTES (UINT64_C(8) << 20)
#define SETUP_BYTES  1024u /* boot sector, and one sector of set-up code */
#define LEAST_KERNEL 1024u /* the 64-bit entry is at 0x200 */
#define KERNEL_START (UINT64_C(16) << 20)
#define KERNEL_ALIGN (UINT32_C(2) << 20)
#define MAX_ROUNDS   1000
#define TIB	     (UINT64_C(1) << 40)

struct bench {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpus[CPUS];
	int kernel;
	uint64_t payload;
};

static int failed(const struct bench *bench, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, impost_error(bench->ctx));
	return -1;
}

/* A file in memory: a bzImage with a payload that is not all zero. */
static int make_kernel(struct bench *bench, uint64_t payload)
{
	static union {
		uint8_t bytes[SETUP_BYTES];
		struct {
			uint8_t sector[0x1f1];
			struct setup_header hdr;
		} __attribute__((packed));
	} head;
	static uint8_t block[4096];

	head.hdr = (struct setup_header){
		.setup_sects = SETUP_BYTES / 512 - 1,
		.syssize = (uint32_t)(payload / 16),
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448, /* "HdrS" */
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = KERNEL_ALIGN,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = KERNEL_START,
		.init_size = (uint32_t)(4 * KERNEL_BYTES),
	};
	memset(block, 0x5a, sizeof(block));
	bench->payload = payload;
	bench->kernel = memfd_create("kernel", MFD_CLOEXEC);
	if (bench->kernel < 0 || write(bench->kernel, &head, sizeof(head)) != sizeof(head)) {
		perror("the kernel's file");
		return -1;
	}
	for (uint64_t at = 0; at < payload; at += sizeof(block)) {
		size_t bytes = payload - at < sizeof(block) ? (size_t)(payload - at)
							    : sizeof(block);

		if (write(bench->kernel, block, bytes) != (ssize_t)bytes) {
			perror("the kernel's file");
			return -1;
		}
	}
	return 0;
}

static int create(struct bench *bench)
{
	struct impost_vm_config config;

	if (impost_vm_config_init(bench->ctx, &config))
		return failed(bench, "configuration");
	config.backend = "mock";
	config.cpus = CPUS;
	config.memory = MEMORY;
	if (impost_vm_create(bench->ctx, &config, &bench->vm) ||
	    impost_x86_add_ram(impost_vm_memory(bench->vm), MEMORY))
		return failed(bench, "VM");
	for (uint32_t i = 0; i < CPUS; i++)
		if (impost_vcpu_create(bench->vm, i, &bench->vcpus[i]))
			return failed(bench, "vCPU");
	return 0;
}

static void destroy(struct bench *bench)
{
	for (uint32_t i = 0; i < CPUS; i++) {
		impost_vcpu_destroy(bench->vcpus[i]);
		bench->vcpus[i] = NULL;
	}
	impost_vm_destroy(bench->vm);
	bench->vm = NULL;
}

/* Nanoseconds of impost_x86_boot() on a new VM; negative: it failed. */
static double time_boot(struct bench *bench)
{
	struct impost_x86_boot_config config;
	double start, ns = -1;

	impost_x86_boot_config_init(bench->ctx, &config);
	config.kernel_fd = bench->kernel;
	config.cmdline = "console=ttyS0";
	if (!create(bench)) {
		start = now_ns();
		if (impost_x86_boot(bench->vm, bench->vcpus, CPUS, &config, NULL))
			failed(bench, "impost_x86_boot");
		else
			ns = now_ns() - start;
	}
	destroy(bench);
	return ns;
}

/* Nanoseconds of reading the kernel's payload into the memory of a new VM; negative: it failed. */
static double time_copy(struct bench *bench)
{
	double start, ns = -1;
	void *at = NULL;

	if (!create(bench)) {
		if (impost_memory_ptr(impost_vm_memory(bench->vm), KERNEL_START, bench->payload,
				      &at))
			failed(bench, "memory");
		start = now_ns();
		if (at && pread(bench->kernel, at, bench->payload, SETUP_BYTES) ==
				  (ssize_t)bench->payload)
			ns = now_ns() - start;
	}
	destroy(bench);
	return ns;
}

static int measure_boot(struct bench *bench, unsigned int rounds)
{
	static double boots[MAX_ROUNDS], copies[MAX_ROUNDS], ratios[MAX_ROUNDS];

	if (make_kernel(bench, KERNEL_BYTES))
		return -1;
	for (unsigned int i = 0; i < rounds; i++) {
		boots[i] = time_boot(bench);
		copies[i] = time_copy(bench);
		if (boots[i] < 0 || copies[i] < 0)
			return -1;
		ratios[i] = boots[i] / copies[i];
	}
	printf("%.1f %.1f %.4f\n", median(boots, rounds), median(copies, rounds),
	       median(ratios, rounds));
	return 0;
}

static int measure_setup(struct bench *bench, unsigned int rounds)
{
	static double setups[MAX_ROUNDS];

	if (make_kernel(bench, LEAST_KERNEL))
		return -1;
	for (unsigned int i = 0; i < rounds; i++) {
		setups[i] = time_boot(bench);
		if (setups[i] < 0)
			return -1;
	}
	printf("%.1f\n", median(setups, rounds));
	return 0;
}

/* Nanoseconds of mapping a new TiB of RAM to itself; negative: it failed. */
static double time_tables(const struct bench *bench, struct impost_memory *memory,
			  uint64_t *ret_bytes)
{
	struct impost_x86_layout layout;
	struct impost_x86_paging paging = {.size = sizeof(paging)};
	double start;
	uint64_t cr3;

	if (impost_x86_add_ram(memory, TIB))
		return failed(bench, "1 TiB of RAM");
	start = now_ns();
	impost_x86_layout_init(&layout);
	if (impost_x86_paging_for(memory, NULL, 0, &paging) ||
	    impost_x86_write_page_tables(memory, &layout, &paging, &cr3))
		return failed(bench, "page tables");
	start = now_ns() - start;
	return impost_x86_page_tables_bytes(&paging, ret_bytes) ? -1 : start;
}

static int measure_tables(struct bench *bench, unsigned int rounds)
{
	static double tables[MAX_ROUNDS];
	struct impost_memory *memory;
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < rounds; i++) {
		if (impost_memory_create(bench->ctx, &memory))
			return failed(bench, "memory");
		tables[i] = time_tables(bench, memory, &bytes);
		impost_memory_destroy(memory);
		if (tables[i] < 0)
			return -1;
	}
	printf("%.1f %" PRIu64 "\n", median(tables, rounds), bytes);
	return 0;
}

static int measure(struct bench *bench, char **argv)
{
	unsigned int rounds = (unsigned int)strtoul(argv[2], NULL, 10);

	if (rounds == 0 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "bench-boot: 1 to %d rounds\n", MAX_ROUNDS);
		return -1;
	}
	if (impost_context_set(bench->ctx, "impost", "plugin_dir", argv[0]))
		return failed(bench, "plugin_dir");
	if (strcmp(argv[1], "boot") == 0)
		return measure_boot(bench, rounds);
	if (strcmp(argv[1], "setup") == 0)
		return measure_setup(bench, rounds);
	if (strcmp(argv[1], "tables") == 0)
		return measure_tables(bench, rounds);
	fprintf(stderr, "bench-boot: what is %s?\n", argv[1]);
	return -1;
}

int main(int argc, char **argv)
{
	struct bench bench = {.kernel = -1};
	int ret;

	if (argc != 4) {
		fprintf(stderr, "usage: %s PLUGIN_DIR boot|setup|tables ROUNDS\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (impost_context_open(NULL, NULL, &bench.ctx))
		return EXIT_FAILURE;
	ret = measure(&bench, argv + 1);
	impost_context_close(bench.ctx);
	if (bench.kernel >= 0)
		close(bench.kernel);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
