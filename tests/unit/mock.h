/* SPDX-License-Identifier: Apache-2.0 */
/* A mock VM for tests: one or more vCPUs in 64-bit mode, all of memory mapped, RIP on real memory.
 */
#ifndef TESTS_UNIT_MOCK_H
#define TESTS_UNIT_MOCK_H

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <impost/impost.h>
#include <impost/mock.h>

#define MEMORY UINT64_C(0x400000)
#define CODE   UINT64_C(0x10000)
#define PML4   UINT64_C(0x1000)
#define PDPT   UINT64_C(0x2000)
#define PD     UINT64_C(0x3000)
#define MOST   4u /* vCPUs */

struct mock {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *cpu[MOST];
	const struct impost_mock_control *control;
	void *handle;
	char script[64]; /* a file; "" if there is none */
};

static inline void put64(struct mock *m, uint64_t gpa, uint64_t value)
{
	cr_assert_eq(impost_memory_write(impost_vm_memory(m->vm), gpa, &value, 8), 0, "%s",
		     impost_error(m->ctx));
}

static inline struct impost_x86_segment flat(uint16_t selector, uint32_t access)
{
	return (struct impost_x86_segment){
		.limit = 0xffffffff, .access = access, .selector = selector};
}

static inline void long_mode(struct mock *m, struct impost_vcpu *cpu)
{
	struct impost_x86_regs regs = {.rip = CODE, .rflags = 2, .rsp = 0x8000};
	struct impost_x86_sregs s;

	cr_assert_eq(impost_vcpu_get_sregs(cpu, &s), 0);
	s.cs = flat(0x10, 0xa09b);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(0x18, 0xc093);
	s.tr = (struct impost_x86_segment){.limit = 0x67, .access = 0x8b, .selector = 0x20};
	s.ldtr = (struct impost_x86_segment){.access = IMPOST_X86_AR_UNUSABLE};
	s.cr0 = 0x80000011;
	s.cr3 = PML4;
	s.cr4 = 0x20;
	s.efer = 0x500;
	cr_assert_eq(impost_vcpu_set_sregs(cpu, &s), 0, "%s", impost_error(m->ctx));
	cr_assert_eq(impost_vcpu_set_regs(cpu, &regs), 0, "%s", impost_error(m->ctx));
}

/* The layers over the mock, as `[impost] layers` has them; NULL: none. */
static const char *mock_layers;
/* `[layer.record] memory`; NULL: as it is by default. */
static const char *mock_memory;

/* Options are written as in an INI: "check_entry=no irqchip=1 ...". */
static inline int mock_try(struct mock *m, const char *script, uint32_t irqchip, uint32_t cpus,
			   const char *key, const char *value)
{
	struct impost_vm_config config;

	memset(m, 0, sizeof(*m));
	cr_assert_eq(impost_context_open(NULL, NULL, &m->ctx), 0);
	cr_assert_eq(impost_context_set(m->ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	if (script) {
		int fd;

		strcpy(m->script, "/tmp/impost-mock-XXXXXX");
		fd = mkstemp(m->script);
		cr_assert_geq(fd, 0);
		cr_assert_eq(write(fd, script, strlen(script)), (ssize_t)strlen(script));
		close(fd);
		cr_assert_eq(impost_context_set(m->ctx, "backend.mock", "script", m->script), 0);
	}
	if (key)
		cr_assert_eq(impost_context_set(m->ctx, "backend.mock", key, value), 0, "%s",
			     impost_error(m->ctx));
	cr_assert_eq(impost_vm_config_init(m->ctx, &config), 0);
	if (mock_memory)
		cr_assert_eq(impost_context_set(m->ctx, "layer.record", "memory", mock_memory), 0);
	if (mock_layers)
		config.layers = mock_layers;
	config.backend = "mock";
	config.cpus = cpus;
	config.irqchip = irqchip;
	return impost_vm_create(m->ctx, &config, &m->vm);
}

/* The whole, with CPUS vCPUs in 64-bit mode. */
static inline void mock_open_with(struct mock *m, const char *script, uint32_t irqchip,
				  uint32_t cpus, const char *key, const char *value)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = MEMORY};
	const void *table;
	uint32_t i;

	cr_assert_eq(mock_try(m, script, irqchip, cpus, key, value), 0, "%s", impost_error(m->ctx));
	cr_assert_eq(impost_vm_extension(m->vm, IMPOST_MOCK_CONTROL, &table, &m->handle), 0);
	m->control = table;
	cr_assert_eq(impost_memory_add(impost_vm_memory(m->vm), &ram), 0, "%s",
		     impost_error(m->ctx));
	put64(m, PML4, PDPT | 3);
	put64(m, PDPT, PD | 3);
	put64(m, PD, 0x83);
	put64(m, PD + 8, 0x200083);
	for (i = 0; i < cpus; i++) {
		struct impost_x86_runstate running = {sizeof(running), IMPOST_X86_RUNNING};

		cr_assert_eq(impost_vcpu_create(m->vm, i, &m->cpu[i]), 0, "%s",
			     impost_error(m->ctx));
		long_mode(m, m->cpu[i]);
		cr_assert_eq(impost_vcpu_set(m->cpu[i], IMPOST_SECTION_RUNSTATE, &running,
					     sizeof(running)),
			     0);
	}
}

static inline void mock_open(struct mock *m, const char *script)
{
	mock_open_with(m, script, IMPOST_IRQCHIP_FULL, 1, NULL, NULL);
}

static inline void mock_close(struct mock *m)
{
	unsigned i;

	for (i = 0; i < MOST; i++)
		cr_assert_eq(impost_vcpu_destroy(m->cpu[i]), 0);
	cr_assert_eq(impost_vm_destroy(m->vm), 0);
	cr_assert_eq(impost_context_close(m->ctx), 0);
	if (m->script[0])
		unlink(m->script);
}

/* Runs vCPU 0, which must come back with KIND. */
static inline struct impost_exit run_to(struct mock *m, uint32_t kind)
{
	struct impost_exit x;
	char text[256];

	cr_assert_eq(impost_vcpu_run(m->cpu[0], &x), 0, "%s", impost_error(m->ctx));
	impost_exit_format(&x, text, sizeof(text));
	cr_assert_eq(x.kind, kind, "%s", text);
	return x;
}

static inline void run_expecting(struct mock *m, uint32_t kind, const char *text)
{
	struct impost_exit x = run_to(m, kind);

	cr_assert(strstr(x.u.failure.text, text), "\"%s\" has no \"%s\"", x.u.failure.text, text);
}

static inline void append(struct mock *m, uint32_t id, const struct impost_mock_step *steps,
			  uint32_t count)
{
	cr_assert_eq(m->control->append(m->handle, id, steps, count), 0, "%s",
		     impost_error(m->ctx));
}

static inline uint64_t rax(struct mock *m)
{
	struct impost_x86_regs regs;

	cr_assert_eq(impost_vcpu_get_regs(m->cpu[0], &regs), 0, "%s", impost_error(m->ctx));
	return regs.rax;
}

#endif
