/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the plain programs have in common: checks that threads make, VMs with a guest, and a list of
 * tests that is gone through with TAP. ThreadSanitizer and Criterion's process arena exclude each
 * other.
 */
#ifndef TESTS_THREADS_PLAIN_H
#define TESTS_THREADS_PLAIN_H

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/mock.h>

static struct impost_context *ctx;
static atomic_int failed; /* the test under way */

#define CHECK(condition)                                                            \
	do {                                                                        \
		if (!(condition)) {                                                 \
			printf("# %s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
			       impost_error(ctx));                                  \
			atomic_store(&failed, 1);                                   \
		}                                                                   \
	} while (0)

static inline void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	if (pthread_create(thread, NULL, fn, arg)) {
		perror("pthread_create");
		exit(1);
	}
}

/* --- VMs --- */

/* VM gets BYTES of RAM and boots the static ELF64 at PATH with all its vCPUs. */
static inline void boot(struct impost_vm *vm, uint64_t bytes, const char *path, const char *cmdline)
{
	struct impost_vcpu *vcpus[64];
	struct impost_x86_boot_config config;
	uint32_t count = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	while (count < 64 && (vcpus[count] = impost_vm_vcpu(vm, count)))
		count++;
	CHECK(impost_x86_add_ram(impost_vm_memory(vm), bytes) == 0);
	impost_x86_boot_config_init(ctx, &config);
	config.kernel_fd = fd;
	config.cmdline = cmdline;
	CHECK(impost_x86_boot(vm, vcpus, count, &config, NULL) == 0);
	close(fd);
}

/* A VM with COUNT vCPUs, which are VCPU, that has booted. */
static inline struct impost_vm *make_vm(struct impost_vcpu **vcpu, uint32_t count, uint64_t bytes,
					const char *path, const char *cmdline)
{
	struct impost_vm_config config;
	struct impost_vm *vm = NULL;

	CHECK(impost_vm_config_init(ctx, &config) == 0);
	config.cpus = count;
	config.memory = bytes;
	CHECK(impost_vm_create(ctx, &config, &vm) == 0);
	for (uint32_t id = 0; id < count; id++)
		CHECK(impost_vcpu_create(vm, id, &vcpu[id]) == 0);
	boot(vm, bytes, path, cmdline);
	return vm;
}

/* The mock executes nothing: each of its COUNT vCPUs plays STEP, so often. */
static inline void script(struct impost_vm *vm, uint32_t count, const struct impost_mock_step *step,
			  uint32_t times)
{
	const struct impost_mock_control *control;
	const void *table;
	void *handle;

	if (impost_vm_extension(vm, IMPOST_MOCK_CONTROL, &table, &handle))
		return;
	control = table;
	for (uint32_t id = 0; id < count; id++)
		for (uint32_t i = 0; i < times; i++)
			CHECK(control->append(handle, id, step, 1) == 0);
}

/* --- tests --- */

struct test {
	const char *name;
	void (*fn)(void);
	const char *backend; /* that it needs; NULL: none, or one that all need */
};

/* Opens the context of PROGRAM. Returns 0, or -1 after it has said why not. */
static inline int open_context(const char *program, const char *plugin_dir, const char *backend)
{
	if (impost_context_open(NULL, NULL, &ctx) == 0 &&
	    impost_context_set(ctx, "impost", "plugin_dir", plugin_dir) == 0 &&
	    impost_context_set(ctx, "impost", "backend", backend) == 0)
		return 0;
	fprintf(stderr, "%s: %s\n", program, ctx ? impost_error(ctx) : "no context");
	return -1;
}

static inline bool can_run(const char *backend)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	return !backend || impost_backend_probe(ctx, backend, &caps) == 0;
}

/* Runs COUNT tests, all of which need BACKEND unless that is NULL, and closes the context. Returns
 * the program's status. */
static inline int run_tests(const struct test *tests, size_t count, const char *backend)
{
	int all = 0;

	if (!can_run(backend)) {
		printf("1..0 # SKIP %s\n", impost_error(ctx));
		return impost_context_close(ctx) != 0;
	}
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		atomic_store(&failed, 0);
		if (!can_run(tests[i].backend)) {
			printf("ok %zu - %s # SKIP %s\n", i + 1, tests[i].name, impost_error(ctx));
			continue;
		}
		tests[i].fn();
		printf("%sok %zu - %s\n", atomic_load(&failed) ? "not " : "", i + 1, tests[i].name);
		fflush(stdout);
		all |= atomic_load(&failed);
	}
	return all || impost_context_close(ctx) != 0;
}

#endif
