/* SPDX-License-Identifier: Apache-2.0 */
/* Cassettes on the mock: what was recorded comes back, and a host that differs is told in what. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <impost/mock.h>

#include "cassette_tape.h"

#define RAM  UINT64_C(0x400000)
#define PAGE UINT64_C(4096)

static char path[64];
static uint8_t *ram; /* the recorded guest's memory */
/* Nobody else makes a call here; kicks come before the run. */
static const char *patience = "500";

static void set_up(void)
{
	int fd;

	strcpy(path, "/tmp/impost-replay-XXXXXX");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	ram = calloc(1, RAM);
	cr_assert(ram);
}

static void tear_down(void)
{
	unlink(path);
	free(ram);
}

TestSuite(cassette_replay, .init = set_up, .fini = tear_down);

/* --- a recorded session --- */

static const struct impost_x86_cpuid cpuid[] = {{.leaf = 1, .ecx = 0x55}};
static const struct impost_x86_msr msrs[] = {{.index = 0x10, .value = 5}};
static const struct impost_gsi_route route = {.gsi = 4, .type = IMPOST_ROUTE_IOAPIC, .pin = 4};
static const struct impost_msr_range range = {.first = 0x1234, .count = 1, .flags = 1};

static struct impost_x86_regs regs_of(uint64_t rip)
{
	return (struct impost_x86_regs){
		.size = sizeof(struct impost_x86_regs), .rip = rip, .rflags = 2};
}

/* What the host does until it first runs. */
static void tape_setup(struct tape *t)
{
	const struct impost_vm_args vm = {.max_vcpus = 1, .irqchip = IMPOST_IRQCHIP_FULL};
	const struct impost_slot slot = {.bytes = RAM, .hva = ram, .fd = -1};
	const struct impost_x86_regs regs = regs_of(0x10000);

	cassette_args_vm_create(tape_args(t), &vm);
	tape_vm(t, CASSETTE_VM_CREATE);
	cassette_args_slot(tape_args(t), &slot);
	tape_vm(t, CASSETTE_MEM_ADD);
	cassette_args_gsi_routes(tape_args(t), &route, 1);
	tape_vm(t, CASSETTE_GSI_ROUTES);
	cassette_args_msr_exits(tape_args(t), &range, 1, 0);
	tape_vm(t, CASSETTE_MSR_EXITS);
	cassette_args_vcpu_create(tape_args(t), 0);
	tape_vm(t, CASSETTE_VCPU_CREATE);
	cassette_args_cpuid(tape_args(t), cpuid, 1);
	tape_call(t, 0, CASSETTE_CPUID_SET, 0, NULL, 0);
	cassette_args_msrs_set(tape_args(t), msrs, 1);
	cassette_results_msrs_set(&t->results, 1);
	tape_call(t, 0, CASSETTE_MSRS_SET, 0, NULL, 0);
	cassette_args_state_set(tape_args(t), IMPOST_SECTION_REGS, &regs, sizeof(regs));
	tape_call(t, 0, CASSETTE_STATE_SET, 0, NULL, 0);
	memset(ram + 0x10000, 0x90, 64);
	tape_sums(t, 0, CASSETTE_BEFORE, ram, RAM);
}

/* Three pages: some bytes, zeroes over what the host wrote, and one that is as it was. */
static void tape_memory(struct tape *t)
{
	cassette_pieces_begin(&t->pieces);
	cassette_pieces_data(&t->pieces, 0x5003, "hello", 5);
	cassette_pieces_zero(&t->pieces, 0x10000, 32);
	cassette_pieces_zero(&t->pieces, 0x200000, 0);
	tape_note(t, cassette_write_memory(t->writer, &t->pieces));
	memcpy(ram + 0x5003, "hello", 5);
	memset(ram + 0x10000, 0, 32);
}

static void tape_state(struct tape *t)
{
	const struct impost_x86_regs regs = regs_of(0x10077);
	const struct impost_x86_msr wanted = {.index = 0x10}, got = {.index = 0x10, .value = 99};

	cassette_args_state_get(tape_args(t), IMPOST_SECTION_REGS);
	cassette_results_state_get(&t->results, 0, &regs, sizeof(regs));
	tape_call(t, 0, CASSETTE_STATE_GET, 0, NULL, 0);
	cassette_args_msrs_get(tape_args(t), &wanted, 1);
	cassette_results_msrs_get(&t->results, &got, 1);
	tape_call(t, 0, CASSETTE_MSRS_GET, 0, NULL, 0);
	cassette_args_translate(tape_args(t), 0x7000);
	cassette_results_translate(&t->results, 0x9000);
	tape_call(t, 0, CASSETTE_TRANSLATE, 0, NULL, 0);
	cassette_args_translate(tape_args(t), 0x8000);
	tape_call(t, 0, CASSETTE_TRANSLATE, -EFAULT, "not mapped, says the hypervisor", 0);
	tape_args(t);
	cassette_results_cpuid_get(&t->results, 0, cpuid, 1);
	tape_call(t, 0, CASSETTE_CPUID_GET, 0, NULL, 0);
}

static void tape_end(struct tape *t)
{
	tape_sums(t, 0, CASSETTE_BEFORE, ram, RAM);
	tape_args(t);
	tape_call(t, 0, CASSETTE_VCPU_DESTROY, 0, NULL, 0);
	tape_args(t);
	tape_vm(t, CASSETTE_VM_DESTROY);
	tape_close(t);
	cr_assert_eq(t->err, 0);
}

static void tape_session(void)
{
	uint8_t answer = 0x60, letter = 'x', no = 0;
	uint64_t value = 7;
	struct impost_exit in = tape_in(0x60, &answer), out = tape_out(0x3f8, &letter);
	struct impost_exit rdmsr = tape_plain(IMPOST_EXIT_RDMSR), over = tape_shutdown();
	struct tape t;

	rdmsr.u.msr = (struct impost_exit_msr){
		.index = 0x1234, .reason = 1, .value = &value, .refused = &no};
	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 1);
	tape_memory(&t);
	cassette_args_irq_line(tape_args(&t), 4, 1);
	tape_vm(&t, CASSETTE_IRQ_LINE);
	tape_run(&t, 0, &in, &rdmsr, 0);
	cassette_args_msi(tape_args(&t), 0xfee00000, 0x30);
	tape_call(&t, CASSETTE_LANE_VM, CASSETTE_MSI, -EAGAIN, "the guest blocks it", 0);
	tape_run(&t, 0, &rdmsr, &out, 0);
	tape_args(&t);
	tape_call(&t, 0, CASSETTE_NMI, 0, NULL, 0);
	tape_run(&t, 0, NULL, &over, 0);
	tape_sums(&t, 0, CASSETTE_AFTER, ram, RAM);
	tape_state(&t);
	tape_end(&t);
}

/* --- the host that was recorded, and its ways to be another one --- */

enum way {
	AS_RECORDED,
	OTHER_VCPUS,
	OTHER_IRQCHIP,
	OTHER_MEMORY,
	OTHER_PLACE,
	OTHER_ROUTE,
	OTHER_MSR_EXITS,
	NO_MSR_EXITS,
	OTHER_ID,
	OTHER_CPUID,
	OTHER_MSR,
	OTHER_REGISTER,
	OTHER_SECTION,
	OTHER_KERNEL,
	MORE_MEMORY,
	OTHER_ANSWER,
	OTHER_LEVEL,
	NO_INTERRUPT,
	OTHER_MSR_ANSWER,
	MSR_REFUSED,
	OTHER_MESSAGE,
	OTHER_WRITE,
	NO_NMI,
	ONE_NMI_MORE,
	OTHER_MSR_READ,
	OTHER_TRANSLATION,
	ONE_RUN_MORE,
	NO_STATE,
	WAYS
};

struct host {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *vcpu;
	enum way way;
	int err; /* the first call that failed */
	char log[2048];
	char text[1024];
};

/* Does CALL unless one has failed before. */
#define DO(host, call)                                                             \
	do {                                                                       \
		if (!(host)->err) {                                                \
			(host)->err = (call);                                      \
			if ((host)->err)                                           \
				snprintf((host)->text, sizeof((host)->text), "%s", \
					 impost_error((host)->ctx));               \
		}                                                                  \
	} while (0)

static void keep_log(void *opaque, uint32_t level, const char *text)
{
	struct host *h = opaque;
	size_t len = strlen(h->log);

	if (level <= IMPOST_LOG_WARN)
		snprintf(h->log + len, sizeof(h->log) - len, "%s\n", text);
}

static void host_open(struct host *h, enum way way)
{
	struct impost_vm_config config;

	memset(h, 0, sizeof(*h));
	h->way = way;
	cr_assert_eq(impost_context_open(keep_log, h, &h->ctx), 0);
	cr_assert_eq(impost_context_set(h->ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	cr_assert_eq(impost_context_set(h->ctx, "backend.mock", "cassette", path), 0);
	cr_assert_eq(impost_context_set(h->ctx, "backend.mock", "cassette_wait", patience), 0);
	cr_assert_eq(impost_vm_config_init(h->ctx, &config), 0);
	config.backend = "mock";
	config.cpus = way == OTHER_VCPUS ? 2 : 1;
	config.irqchip = way == OTHER_IRQCHIP ? IMPOST_IRQCHIP_NONE : IMPOST_IRQCHIP_DEFAULT;
	DO(h, impost_vm_create(h->ctx, &config, &h->vm));
}

static void host_close(struct host *h)
{
	cr_expect_eq(impost_vcpu_destroy(h->vcpu), 0);
	cr_expect_eq(impost_vm_destroy(h->vm), 0);
	cr_expect_eq(impost_context_close(h->ctx), 0);
}

static void host_setup(struct host *h)
{
	struct impost_x86_regs regs = regs_of(h->way == OTHER_REGISTER ? 0x20000 : 0x10000);
	struct impost_region region = {
		.size = sizeof(region),
		.gpa = h->way == OTHER_PLACE ? RAM : 0,
		.bytes = h->way == OTHER_MEMORY ? 2 * RAM : RAM,
	};
	struct impost_gsi_route r = route;
	struct impost_x86_msr m = msrs[0];
	struct impost_x86_cpuid c = cpuid[0];
	uint8_t code[64];
	uint32_t done;

	r.pin = h->way == OTHER_ROUTE ? 5 : r.pin;
	m.value = h->way == OTHER_MSR ? 6 : m.value;
	c.ecx = h->way == OTHER_CPUID ? 0x54 : c.ecx;
	memset(code, h->way == OTHER_KERNEL ? 0x91 : 0x90, sizeof(code));
	DO(h, impost_memory_add(impost_vm_memory(h->vm), &region));
	DO(h, impost_vm_set_gsi_routes(h->vm, &r, 1));
	if (h->way != NO_MSR_EXITS)
		DO(h, impost_vm_set_msr_exits(h->vm, &range, 1, h->way == OTHER_MSR_EXITS));
	DO(h, impost_vcpu_create(h->vm, h->way == OTHER_ID, &h->vcpu));
	DO(h, impost_vcpu_set_cpuid(h->vcpu, &c, 1));
	DO(h, impost_vcpu_set_msrs(h->vcpu, &m, 1, &done));
	if (h->way == OTHER_SECTION)
		DO(h, impost_vcpu_set(h->vcpu, IMPOST_SECTION_DEBUGREGS,
				      &(struct impost_x86_debugregs){
					      sizeof(struct impost_x86_debugregs), 0, {0}, 0, 0},
				      sizeof(struct impost_x86_debugregs)));
	DO(h, impost_vcpu_set_regs(h->vcpu, &regs));
	DO(h, impost_memory_write(impost_vm_memory(h->vm), 0x10000, code, sizeof(code)));
	if (h->way == MORE_MEMORY)
		DO(h, impost_memory_write(impost_vm_memory(h->vm), 0x300000, "", 1) ||
			      impost_memory_write(impost_vm_memory(h->vm), 0x300001, "x", 1));
}

static void expect_exit(struct host *h, uint32_t kind, struct impost_exit *ret_exit)
{
	struct impost_exit exit = {0};

	DO(h, impost_vcpu_run(h->vcpu, &exit));
	if (!h->err)
		cr_expect_eq(exit.kind, kind, "%s", impost_exit_name(&exit));
	*ret_exit = exit;
}

static void host_run(struct host *h)
{
	struct impost_exit exit;
	int err;

	expect_exit(h, IMPOST_EXIT_IO, &exit);
	if (!h->err)
		*(uint8_t *)exit.u.io.data = h->way == OTHER_ANSWER ? 0x61 : 0x60;
	if (h->way != NO_INTERRUPT)
		DO(h, impost_vm_irq_line(h->vm, 4, h->way != OTHER_LEVEL));
	expect_exit(h, IMPOST_EXIT_RDMSR, &exit);
	if (!h->err) {
		cr_expect_eq(exit.u.msr.index, 0x1234);
		*exit.u.msr.value = h->way == OTHER_MSR_ANSWER ? 8 : 7;
		*exit.u.msr.refused = h->way == MSR_REFUSED;
	}
	if (!h->err) {
		err = impost_vm_msi(h->vm, 0xfee00000, h->way == OTHER_MESSAGE ? 0x31 : 0x30);
		if (err == -EAGAIN)
			cr_expect_str_eq(impost_error(h->ctx), "the guest blocks it");
		else
			DO(h, err);
	}
	expect_exit(h, IMPOST_EXIT_IO, &exit);
	if (!h->err)
		cr_expect_eq(*(uint8_t *)exit.u.io.data, 'x');
	if (h->way == OTHER_WRITE)
		DO(h, impost_memory_write(impost_vm_memory(h->vm), 0x3000, "x", 1));
	for (int i = h->way == NO_NMI; i < 1 + (h->way == ONE_NMI_MORE); i++)
		DO(h, impost_vcpu_nmi(h->vcpu));
	expect_exit(h, IMPOST_EXIT_SHUTDOWN, &exit);
	if (h->way == ONE_RUN_MORE)
		expect_exit(h, IMPOST_EXIT_SHUTDOWN, &exit);
}

static void host_state(struct host *h)
{
	struct impost_x86_msr msr = {.index = h->way == OTHER_MSR_READ ? 0x1234 : 0x10};
	struct impost_x86_cpuid entries[4];
	struct impost_x86_regs regs = {0};
	uint32_t count = 0;
	uint64_t gpa = 0;
	int err;

	DO(h, impost_vcpu_get_regs(h->vcpu, &regs));
	DO(h, impost_vcpu_get_msrs(h->vcpu, &msr, 1, &count));
	DO(h, impost_vcpu_translate(h->vcpu, h->way == OTHER_TRANSLATION ? 0x7001 : 0x7000, &gpa));
	if (h->err)
		return;
	cr_expect_eq(regs.rip, 0x10077);
	cr_expect_eq(msr.value, 99);
	cr_expect_eq(gpa, 0x9000);
	err = impost_vcpu_translate(h->vcpu, 0x8000, &gpa);
	if (err == -EFAULT)
		cr_expect_str_eq(impost_error(h->ctx), "not mapped, says the hypervisor");
	else
		DO(h, err);
	DO(h, impost_vcpu_get_cpuid(h->vcpu, entries, 4, &count));
	if (!h->err) {
		cr_expect_eq(count, 1);
		cr_expect_eq(entries[0].ecx, 0x55);
	}
}

/* The whole host. Its VM stands still. */
static void host_play(struct host *h, enum way way)
{
	host_open(h, way);
	host_setup(h);
	host_run(h);
	if (way != NO_STATE)
		host_state(h);
}

static struct impost_mock_cassette_status status_of(struct host *h)
{
	struct impost_mock_cassette_status status = {.size = sizeof(status)};
	const void *table;
	void *handle;

	cr_assert_eq(impost_vm_extension(h->vm, IMPOST_MOCK_CASSETTE, &table, &handle), 0);
	cr_assert_eq(((const struct impost_mock_cassette *)table)->status(handle, &status), 0);
	return status;
}

/* --- tests --- */

Test(cassette_replay, a_host_that_does_as_it_did_meets_what_it_met)
{
	struct impost_mock_cassette_status status;
	uint8_t *now = malloc(RAM);
	struct host h;

	tape_session();
	host_play(&h, AS_RECORDED);
	cr_assert_eq(h.err, 0, "%s", h.text);
	cr_assert_eq(impost_memory_read(impost_vm_memory(h.vm), 0, now, RAM), 0);
	cr_expect(memcmp(now, ram, RAM) == 0);
	free(now);
	cr_expect_eq(status_of(&h).error, 0);
	cr_assert_eq(impost_vcpu_destroy(h.vcpu), 0);
	h.vcpu = NULL;
	status = status_of(&h);
	cr_expect_eq(status.error, 0, "%s", status.text);
	cr_expect_eq(status.left, 0);
	cr_expect_eq(status.ended, 1);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

Test(cassette_replay, the_first_difference_is_told_with_both_sides)
{
	static const struct {
		enum way way;
		const char *text;
	} rows[] = {
		{OTHER_VCPUS, "call 1 (VM, vm_create): max_vcpus: recorded 1, now 2"},
		{OTHER_IRQCHIP, "call 1 (VM, vm_create): irqchip: recorded 3, now 1"},
		{OTHER_MEMORY, "call 2 (VM, mem_add): bytes: recorded 0x400000, now 0x800000"},
		{OTHER_PLACE, "call 2 (VM, mem_add): gpa: recorded 0, now 0x400000"},
		{OTHER_ROUTE, "call 3 (VM, gsi_routes): routes: number 1 of 1 recorded"},
		{OTHER_MSR_EXITS, "call 4 (VM, msr_exits): unknown: recorded 0, now 1"},
		{NO_MSR_EXITS, "call 4: recorded (VM, msr_exits: "},
		{OTHER_ID, "call 5 (VM, vcpu_create): id: recorded 0, now 1"},
		{OTHER_CPUID, "call 6 (vCPU 0, cpuid_set): cpuid: number 1 of 1 recorded"},
		{OTHER_MSR, "call 7 (vCPU 0, msrs_set): msrs: number 1 of 1 recorded"},
		{OTHER_SECTION, "call 8 (vCPU 0, state_set): "},
		{OTHER_REGISTER, "call 8 (vCPU 0, state_set): "},
		{OTHER_KERNEL, "guest memory at 0 to 0x1fffff is not what was recorded"},
		{MORE_MEMORY, "guest memory at 0x200000 to 0x3fffff is recorded as zeroes"},
		{OTHER_LEVEL, "call 10 (VM, irq_line): level: recorded 1, now 0"},
		{NO_INTERRUPT,
		 "call 10: recorded (VM, irq_line: gsi 4, level 1), now (vCPU 0, run"},
		{OTHER_ANSWER, "call 11 (vCPU 0, run): answer: recorded 1 byte 60, now 1 byte 61"},
		{OTHER_MESSAGE, "call 12 (VM, msi): data: recorded 0x30, now 0x31"},
		{OTHER_MSR_ANSWER, "call 13 (vCPU 0, run): value: recorded 7, now 8"},
		{MSR_REFUSED, "refused: recorded no, now yes"},
		{NO_NMI, "call 14: recorded (vCPU 0, nmi), now (vCPU 0, run"},
		{ONE_NMI_MORE, "call 15: recorded (vCPU 0, run), now (vCPU 0, nmi)"},
		{OTHER_WRITE, "after call 15: guest memory at 0 to 0x1fffff is not what was"},
		{ONE_RUN_MORE,
		 "call 16: recorded (vCPU 0, state_get: section 1), now (vCPU 0, run"},
		{OTHER_MSR_READ, "call 17 (vCPU 0, msrs_get): msrs: number 1 of 1 recorded 0x10"},
		{OTHER_TRANSLATION,
		 "call 18 (vCPU 0, translate): gva: recorded 0x7000, now 0x7001"},
	};

	tape_session();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host h;

		host_play(&h, rows[i].way);
		cr_expect_eq(h.err, -IMPOST_EDIVERGED, "%zu: %d", i, h.err);
		cr_expect(strstr(h.text, rows[i].text), "%zu: \"%s\" has no \"%s\"", i, h.text,
			  rows[i].text);
		cr_expect(strstr(h.text, path));
		if (h.vm) {
			struct impost_exit exit;

			cr_expect_eq(status_of(&h).error, -IMPOST_EDIVERGED);
			cr_expect_str_eq(status_of(&h).text, h.text);
			cr_expect_eq(impost_vm_irq_line(h.vm, 4, 0), -IMPOST_EDIVERGED);
			cr_expect_str_eq(impost_error(h.ctx), h.text);
			if (h.vcpu)
				cr_expect_eq(impost_vcpu_run(h.vcpu, &exit), -IMPOST_EDIVERGED);
		}
		host_close(&h);
	}
}

Test(cassette_replay, what_is_left_unplayed_is_told)
{
	struct host h;

	tape_session();
	host_play(&h, NO_STATE);
	cr_assert_eq(h.err, 0, "%s", h.text);
	cr_assert_eq(impost_vcpu_destroy(h.vcpu), 0);
	h.vcpu = NULL;
	cr_expect_eq(status_of(&h).left, 5);
	host_close(&h);
	cr_expect(strstr(h.log, "left unplayed: 5"), "%s", h.log);
}

/* What is behind the last call is looked at although the host makes none there. */
Test(cassette_replay, an_end_that_is_none_is_told)
{
	struct host h;
	int fd;

	tape_session();
	fd = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	/* An end after another number of calls. */
	cr_assert_geq(lseek(fd, -1, SEEK_END), 0);
	cr_assert_eq(write(fd, "", 1), 1);
	close(fd);
	host_play(&h, AS_RECORDED);
	cr_assert_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect(strstr(h.log, "another number of calls"), "%s", h.log);
}

Test(cassette_replay, the_backend_is_what_the_header_says)
{
	struct impost_x86_cpuid entries[4];
	const struct impost_caps *caps;
	uint32_t indices[4], count;
	struct host h;

	tape_session();
	host_open(&h, AS_RECORDED);
	cr_assert_eq(h.err, 0, "%s", h.text);
	caps = impost_vm_caps(h.vm);
	cr_expect_eq(caps->bits[0], TAPE_CAPS & ~TAPE_CAP(EXECUTES));
	cr_expect_eq(caps->max_vcpus, 4096);
	cr_expect_eq(caps->tsc_khz, 3000000);
	cr_assert_eq(impost_vm_cpuid_supported(h.vm, entries, 4, &count), 0);
	cr_expect_eq(count, 2);
	cr_expect_eq(entries[1].ecx, 0x77);
	cr_expect_eq(impost_vm_cpuid_supported(h.vm, entries, 1, &count), -ENOSPC);
	cr_assert_eq(impost_vm_msr_list(h.vm, indices, 4, &count), 0);
	cr_expect_eq(count, 2);
	cr_expect_eq(indices[1], 0x1234);
	host_close(&h);
}

Test(cassette_replay, the_dirty_log_has_what_the_guest_wrote)
{
	uint64_t bitmap[RAM / PAGE / 64] = {0};
	struct host h;

	tape_session();
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	cr_assert_eq(h.err, 0, "%s", h.text);
	cr_assert_eq(impost_vm_dirty_start(h.vm, 0), 0);
	host_run(&h);
	cr_assert_eq(h.err, 0, "%s", h.text);
	cr_assert_eq(impost_vm_dirty_fetch(h.vm, 0, bitmap, RAM / PAGE / 64), 0);
	for (uint64_t page = 0; page < RAM / PAGE; page++)
		cr_expect_eq(bitmap[page / 64] >> (page % 64) & 1,
			     page == 5 || page == 0x10 || page == 0x200, "%llu",
			     (unsigned long long)page);
	host_close(&h);
}

/* Each prefix of the file is refused, or stops the replay where it ends. */
Test(cassette_replay, a_file_that_was_cut_is_noticed, .timeout = 120)
{
	struct stat st;
	uint8_t *whole;
	int fd;

	tape_session();
	fd = open(path, O_RDWR);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &st), 0);
	whole = malloc((size_t)st.st_size);
	cr_assert_eq(pread(fd, whole, (size_t)st.st_size, 0), st.st_size);
	for (off_t len = st.st_size - 1; len >= 0; len--) {
		struct impost_mock_cassette_status status = {0};
		struct host h;

		cr_assert_eq(ftruncate(fd, len), 0);
		host_play(&h, AS_RECORDED);
		if (h.vm) {
			impost_vcpu_destroy(h.vcpu);
			h.vcpu = NULL;
			status = status_of(&h);
		}
		cr_expect(h.err || status.error || !status.ended || len > st.st_size - 64,
			  "cut at %lld: played to its end", (long long)len);
		cr_expect(h.err != -IMPOST_EDIVERGED, "cut at %lld: %s", (long long)len, h.text);
		host_close(&h);
	}
	close(fd);
	free(whole);
}

/* --- kicks, holds, and calls that need not be made --- */

/* IN, INTR of a kick, OUT. */
static void tape_kicked(uint8_t *answer)
{
	struct impost_exit in = tape_in(0x60, answer), intr = tape_plain(IMPOST_EXIT_INTR);
	struct impost_exit over = tape_shutdown();
	struct tape t;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 0);
	tape_run(&t, 0, &in, &intr, 0);
	tape_run(&t, 0, NULL, &over, 0);
	tape_end(&t);
}

static void open_kicked(struct host *h, struct impost_exit *ret_exit)
{
	uint8_t answer = 0x60;

	tape_kicked(&answer);
	host_open(h, AS_RECORDED);
	host_setup(h);
	expect_exit(h, IMPOST_EXIT_IO, ret_exit);
	cr_assert_eq(h->err, 0, "%s", h->text);
	*(uint8_t *)ret_exit->u.io.data = answer;
}

Test(cassette_replay, a_kick_meets_the_intr_that_was_recorded)
{
	struct impost_exit exit;
	struct host h;

	open_kicked(&h, &exit);
	cr_assert_eq(impost_vcpu_kick(h.vcpu), 0);
	expect_exit(&h, IMPOST_EXIT_INTR, &exit);
	expect_exit(&h, IMPOST_EXIT_SHUTDOWN, &exit);
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

Test(cassette_replay, an_intr_whose_kick_does_not_come_is_passed_over_by_the_next_run)
{
	struct impost_exit exit;
	struct host h;

	open_kicked(&h, &exit);
	expect_exit(&h, IMPOST_EXIT_SHUTDOWN, &exit);
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

Test(cassette_replay, a_kick_with_no_intr_to_come_gives_one_at_once)
{
	struct impost_exit exit;
	struct host h;

	tape_session();
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	cr_assert_eq(impost_vcpu_kick(h.vcpu), 0);
	expect_exit(&h, IMPOST_EXIT_INTR, &exit);
	host_run(&h);
	host_state(&h);
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

Test(cassette_replay, a_kick_that_is_missed_for_good_is_told)
{
	uint8_t answer = 0x60;
	struct impost_exit in = tape_in(0x60, &answer), intr = tape_plain(IMPOST_EXIT_INTR), exit;
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 0);
	tape_run(&t, 0, &in, &intr, 0);
	tape_state(&t);
	tape_end(&t);
	host_open(&h, AS_RECORDED);
	host_close(&h);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	*(uint8_t *)exit.u.io.data = answer;
	expect_exit(&h, IMPOST_EXIT_NONE, &exit);
	cr_expect_eq(h.err, -IMPOST_EDIVERGED);
	cr_expect(strstr(h.text, "recorded INTR of a kick, now no kick came"), "%s", h.text);
	host_close(&h);
}

/* A hold completes the exit, and looks whether one is pending, as often as it happens. */
Test(cassette_replay, a_hold_that_was_not_recorded_changes_nothing)
{
	struct impost_exit exit;
	struct impost_x86_regs regs;
	struct host h;

	tape_session();
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	cr_assert_eq(impost_vm_hold(h.vm, 1000), 0, "%s", impost_error(h.ctx));
	cr_assert_eq(impost_vm_release(h.vm), 0);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(impost_vcpu_get_regs(h.vcpu, &regs), -EBUSY);
	*(uint8_t *)exit.u.io.data = 0x60;
	cr_assert_eq(impost_vcpu_complete(h.vcpu, &exit), 0);
	cr_expect_eq(exit.kind, IMPOST_EXIT_NONE);
	cr_assert_eq(impost_vm_hold(h.vm, 1000), 0, "%s", impost_error(h.ctx));
	cr_assert_eq(impost_vm_release(h.vm), 0);
	DO(&h, impost_vm_irq_line(h.vm, 4, 1));
	expect_exit(&h, IMPOST_EXIT_RDMSR, &exit);
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
}

Test(cassette_replay, an_answer_that_was_completed_is_compared_by_the_next_run)
{
	struct impost_exit exit;
	struct host h;

	tape_session();
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	*(uint8_t *)exit.u.io.data = 0x61;
	cr_assert_eq(impost_vcpu_complete(h.vcpu, &exit), 0);
	DO(&h, impost_vm_irq_line(h.vm, 4, 1));
	expect_exit(&h, IMPOST_EXIT_RDMSR, &exit);
	cr_expect_eq(h.err, -IMPOST_EDIVERGED);
	cr_expect(strstr(h.text, "answer: recorded 1 byte 60, now 1 byte 61"), "%s", h.text);
	host_close(&h);
}

/* As the layer records it: a run that fails has taken no answer. */
Test(cassette_replay, a_run_that_failed_is_answered_again)
{
	uint8_t answer = 0x60;
	struct impost_exit in = tape_in(0x60, &answer), over = tape_shutdown(), exit;
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 0);
	cassette_args_run(tape_args(&t), &in);
	tape_call(&t, 0, CASSETTE_RUN, -EIO, "not now", 0);
	tape_run(&t, 0, &in, &over, 0);
	tape_end(&t);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(h.err, 0, "%s", h.text);
	*(uint8_t *)exit.u.io.data = answer;
	cr_expect_eq(impost_vcpu_run(h.vcpu, &exit), -EIO);
	expect_exit(&h, IMPOST_EXIT_SHUTDOWN, &exit);
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

Test(cassette_replay, a_complete_that_was_recorded_need_not_be_made)
{
	uint8_t answer = 0x60;
	struct impost_exit in = tape_in(0x60, &answer), none = tape_plain(IMPOST_EXIT_NONE), exit;
	struct impost_exit over = tape_shutdown();
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 0);
	cassette_args_run(tape_args(&t), &in);
	cassette_results_exit(&t.results, &none);
	tape_call(&t, 0, CASSETTE_COMPLETE, 0, NULL, 0);
	tape_run(&t, 0, NULL, &over, 0);
	tape_end(&t);
	for (int made = 0; made < 2; made++) {
		host_open(&h, AS_RECORDED);
		host_setup(&h);
		expect_exit(&h, IMPOST_EXIT_IO, &exit);
		*(uint8_t *)exit.u.io.data = answer;
		if (made)
			DO(&h, impost_vcpu_complete(h.vcpu, &exit));
		expect_exit(&h, IMPOST_EXIT_SHUTDOWN, &exit);
		cr_expect_eq(h.err, 0, "%s", h.text);
		host_close(&h);
		cr_expect_str_eq(h.log, "");
	}
}

/* One page of "x" at GPA, with the call that was just written. */
static void tape_page(struct tape *t, uint64_t gpa)
{
	memset(ram + gpa, 'x', PAGE);
	cassette_pieces_begin(&t->pieces);
	cassette_pieces_data(&t->pieces, gpa, ram + gpa, PAGE);
	tape_note(t, cassette_write_memory(t->writer, &t->pieces));
}

/* Neither call is one that the host makes again: what came with it is there nevertheless. */
Test(cassette_replay, what_the_guest_wrote_comes_with_calls_that_are_passed_over)
{
	uint8_t answer = 0x60, seen = 0;
	struct impost_exit in = tape_in(0x60, &answer), none = tape_plain(IMPOST_EXIT_NONE), exit;
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &in, 0);
	tape_args(&t);
	cassette_results_exit(&t.results, &none);
	tape_call(&t, 0, CASSETTE_COMPLETE, 0, NULL, 1);
	tape_page(&t, 0x6000);
	tape_run(&t, 0, &in, &in, 0);
	tape_args(&t);
	tape_call(&t, 0, CASSETTE_VCPU_DESTROY, 0, NULL, 1);
	tape_page(&t, 0x8000);
	tape_sums(&t, 0, CASSETTE_AFTER, ram, RAM);
	tape_args(&t);
	tape_vm(&t, CASSETTE_VM_DESTROY);
	tape_close(&t);
	cr_assert_eq(t.err, 0);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(h.err, 0, "%s", h.text);
	*(uint8_t *)exit.u.io.data = answer;
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	DO(&h, impost_memory_read(impost_vm_memory(h.vm), 0x6fff, &seen, 1));
	cr_expect_eq(h.err, 0, "%s", h.text);
	cr_expect_eq(seen, 'x');
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

/* The guest ran until the call, and wrote to what it took away. */
Test(cassette_replay, memory_that_goes_was_written_to_before)
{
	const struct impost_slot slot = {
		.slot = 1, .gpa = RAM, .bytes = PAGE, .hva = ram, .fd = -1};
	struct impost_region region = {.size = sizeof(region), .gpa = RAM, .bytes = PAGE};
	uint8_t letter = 'x';
	struct impost_exit out = tape_out(0x3f8, &letter), exit;
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &out, 0);
	cassette_args_slot(tape_args(&t), &slot);
	tape_vm(&t, CASSETTE_MEM_ADD);
	cassette_args_mem_remove(tape_args(&t), slot.slot);
	tape_call(&t, CASSETTE_LANE_VM, CASSETTE_MEM_REMOVE, 0, NULL, 1);
	cassette_pieces_begin(&t.pieces);
	cassette_pieces_data(&t.pieces, RAM, "x", 1);
	tape_note(&t, cassette_write_memory(t.writer, &t.pieces));
	tape_end(&t);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	DO(&h, impost_memory_add(impost_vm_memory(h.vm), &region));
	DO(&h, impost_memory_remove(impost_vm_memory(h.vm), RAM));
	cr_expect_eq(h.err, 0, "%s", h.text);
	host_close(&h);
	cr_expect_str_eq(h.log, "");
}

/* --- several vCPUs --- */

struct other {
	struct host *h;
	struct impost_vcpu *vcpu;
	atomic_int thread; /* id */
};

static void *run_other(void *opaque)
{
	struct other *o = opaque;
	struct impost_exit exit = {0};

	atomic_store(&o->thread, gettid());
	DO(o->h, impost_vcpu_run(o->vcpu, &exit));
	cr_expect_eq(exit.kind, IMPOST_EXIT_IO);
	return NULL;
}

/* Waits until THREAD sleeps. */
static void until_asleep(atomic_int *thread)
{
	char name[64], state = 0;
	FILE *stat;

	while (state != 'S') {
		snprintf(name, sizeof(name), "/proc/self/task/%d/stat", atomic_load(thread));
		stat = fopen(name, "re");
		if (stat) {
			if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
				state = 0;
			fclose(stat);
		}
		usleep(1000);
	}
}

/* Nobody makes the call that stands at the cursor: it is for who waits to pass it over. */
Test(cassette_replay, who_waits_behind_a_call_that_nobody_makes_goes_on, .timeout = 120)
{
	const struct impost_vm_args args = {.max_vcpus = 2, .irqchip = IMPOST_IRQCHIP_FULL};
	uint8_t data = 0;
	struct impost_exit out = tape_out(1, &data), none = tape_plain(IMPOST_EXIT_NONE), exit;
	struct other o = {0};
	pthread_t thread;
	struct tape t;
	struct host h;

	patience = "100000";
	tape_open(&t, path);
	cassette_args_vm_create(tape_args(&t), &args);
	tape_vm(&t, CASSETTE_VM_CREATE);
	for (uint32_t id = 0; id < 2; id++) {
		cassette_args_vcpu_create(tape_args(&t), id);
		tape_vm(&t, CASSETTE_VCPU_CREATE);
	}
	tape_run(&t, 0, NULL, &out, 0);
	tape_args(&t);
	cassette_results_exit(&t.results, &none);
	tape_call(&t, 0, CASSETTE_COMPLETE, 0, NULL, 0);
	tape_run(&t, 1, NULL, &out, 0);
	tape_close(&t);
	host_open(&h, OTHER_VCPUS);
	DO(&h, impost_vcpu_create(h.vm, 0, &h.vcpu));
	DO(&h, impost_vcpu_create(h.vm, 1, &o.vcpu));
	cr_assert_eq(h.err, 0, "%s", h.text);
	o.h = &h;
	cr_assert_eq(pthread_create(&thread, NULL, run_other, &o), 0);
	until_asleep(&o.thread);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	pthread_join(thread, NULL);
	cr_expect_eq(h.err, 0, "%s", h.text);
	cr_expect_eq(impost_vcpu_destroy(o.vcpu), 0);
	host_close(&h);
}

/* --- the VM's events --- */

static void tape_event(struct tape *t, const struct impost_exit *exit)
{
	tape_args(t);
	cassette_results_exit(&t->results, exit);
	tape_vm(t, CASSETTE_EVENT);
}

Test(cassette_replay, events_come_when_they_are_due)
{
	struct impost_exit over = tape_shutdown(), exit = {0};
	struct pollfd wait = {.events = POLLIN};
	uint8_t data = 0;
	struct impost_exit none = tape_out(1, &data);
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &none, 0);
	tape_args(&t);
	tape_vm(&t, CASSETTE_EVENT_FD);
	tape_event(&t, &over);
	tape_args(&t);
	tape_call(&t, CASSETTE_LANE_VM, CASSETTE_EVENT, -EIO, "it is out of order", 0);
	tape_event(&t, &none);
	tape_end(&t);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	expect_exit(&h, IMPOST_EXIT_IO, &exit);
	DO(&h, impost_vm_event_fd(h.vm, &wait.fd));
	cr_expect_eq(poll(&wait, 1, 0), 1);
	DO(&h, impost_vm_event(h.vm, &exit));
	cr_assert_eq(h.err, 0, "%s", h.text);
	cr_expect_eq(exit.kind, IMPOST_EXIT_SHUTDOWN);
	cr_expect_eq(impost_vm_event(h.vm, &exit), -EIO);
	cr_expect_str_eq(impost_error(h.ctx), "it is out of order");
	/* Its data would be gone when the host looks. */
	cr_expect_eq(impost_vm_event(h.vm, &exit), -IMPOST_EFORMAT);
	cr_expect_eq(exit.kind, IMPOST_EXIT_SHUTDOWN);
	host_close(&h);
}

/* That is for complete alone: a host would find no kind there that it knows. */
Test(cassette_replay, a_recorded_run_without_an_exit_is_damage)
{
	struct impost_exit none = tape_plain(IMPOST_EXIT_NONE), exit = {.kind = IMPOST_EXIT_HLT};
	struct tape t;
	struct host h;

	tape_open(&t, path);
	tape_setup(&t);
	tape_run(&t, 0, NULL, &none, 0);
	tape_end(&t);
	host_open(&h, AS_RECORDED);
	host_setup(&h);
	cr_expect_eq(impost_vcpu_run(h.vcpu, &exit), -IMPOST_EFORMAT);
	cr_expect(strstr(impost_error(h.ctx), "it is damaged"), "%s", impost_error(h.ctx));
	cr_expect_eq(exit.kind, IMPOST_EXIT_HLT);
	host_close(&h);
}

/* --- options --- */

Test(cassette_replay, a_script_and_a_cassette_are_refused_together)
{
	struct impost_vm_config config;
	struct impost_context *ctx;
	struct impost_vm *vm;
	char script[] = "/tmp/impost-replay-script-XXXXXX";
	int fd = mkstemp(script);

	cr_assert_eq(write(fd, "[vcpu 0]\nhlt =\n", 15), 15);
	close(fd);
	tape_session();
	cr_assert_eq(impost_context_open(NULL, NULL, &ctx), 0);
	cr_assert_eq(impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR), 0);
	cr_assert_eq(impost_context_set(ctx, "backend.mock", "cassette", path), 0);
	cr_assert_eq(impost_context_set(ctx, "backend.mock", "script", script), 0);
	cr_assert_eq(impost_vm_config_init(ctx, &config), 0);
	config.backend = "mock";
	cr_expect_eq(impost_vm_create(ctx, &config, &vm), -EINVAL);
	cr_expect(strstr(impost_error(ctx), "one of the two"), "%s", impost_error(ctx));
	cr_assert_eq(impost_context_close(ctx), 0);
	unlink(script);
}

Test(cassette_replay, what_is_no_cassette_is_refused_with_a_reason)
{
	static const char *const contents[] = {"", "[vcpu 0]\n", "\xa0", "\xff\xff"};
	struct host h;

	for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
		int fd = open(path, O_WRONLY | O_TRUNC);

		cr_assert_eq(write(fd, contents[i], strlen(contents[i])),
			     (ssize_t)strlen(contents[i]));
		close(fd);
		host_open(&h, AS_RECORDED);
		cr_expect_eq(h.err, -EINVAL);
		cr_expect(strstr(h.text, path), "%s", h.text);
		host_close(&h);
	}
}
