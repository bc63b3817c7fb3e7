/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of state_order.def: for each reason that a hypervisor here lets be seen, a state that
 * comes over whole in that order, and does not with the row moved. The core is linked in with this
 * order in place of its own.
 */
#include <time.h>
#include <unistd.h>

#include "mock.h"

#include "state_steps.h"

/* What core/state_order.c makes of the table: it is compiled again, under this name. */
uint32_t real_order(bool load, const struct state_step *order[STATE_STEPS]);

#define OK(ctx, call) cr_assert_eq((call), 0, "%s: %s", #call, impost_error(ctx))

/* STEP comes right behind ANCHOR in the order of loading, or of taking, instead of where it is. */
static struct {
	const char *step, *anchor;
	bool load;
} moved;

/* The first step of loading is one that is done once, and not again, if this is set. */
static bool stubborn;
static uint32_t asked;

static int load_stubborn(struct state_work *work, uint32_t i)
{
	(void)i;
	return asked++ ? impost_error_set(work->ctx, -EIO, "not again") : 0;
}

static const struct state_step stubborn_step = {
	.name = "stubborn", .object = STATE_OF_VM, .load_at = 1, .load = load_stubborn};

/* Behind the timer a step is put in which waits until that has raised its line, if this is set. */
static bool unhurried;

static int wait_for_timer(struct state_work *work, uint32_t i)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	struct impost_x86_pic pic = {.size = 0};
	uint32_t size;
	int err = 0;

	(void)i;
	for (int left = 10000; !err && !pic.chip[0].irr && left > 0; left--) {
		nanosleep(&ms, NULL);
		err = impost_vm_get(work->vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size);
	}
	return err;
}

static const struct state_step waiting_step = {
	.name = "waiting", .object = STATE_OF_VM, .load_at = 1, .load = wait_for_timer};

static uint32_t find_step(const struct state_step *const *order, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(order[i]->name, name) == 0)
			return i;
	cr_assert_fail("no step %s", name);
	return count;
}

static void insert(const struct state_step **order, uint32_t *count, uint32_t at,
		   const struct state_step *step)
{
	for (uint32_t i = (*count)++; i > at; i--)
		order[i] = order[i - 1];
	order[at] = step;
}

static void move(const struct state_step **order, uint32_t count)
{
	uint32_t from = find_step(order, count, moved.step);
	uint32_t to = find_step(order, count, moved.anchor);
	const struct state_step *step = order[from];

	for (; from < to; from++)
		order[from] = order[from + 1];
	for (; from > to + 1; from--)
		order[from] = order[from - 1];
	order[from] = step;
}

uint32_t state_order(bool load, const struct state_step *order[STATE_STEPS])
{
	uint32_t count = real_order(load, order);

	if (stubborn && load)
		insert(order, &count, 0, &stubborn_step);
	if (moved.step && moved.load == load)
		move(order, count);
	if (unhurried && load)
		insert(order, &count, find_step(order, count, "pit") + 1, &waiting_step);
	return count;
}

/* --- the table itself --- */

static uint32_t place(const struct state_step *step, bool load)
{
	return load ? step->load_at : step->take_at;
}

static void check_order(bool load)
{
	const struct state_step *order[STATE_STEPS];
	uint32_t count = real_order(load, order);

	cr_assert_gt(count, 15u);
	for (uint32_t i = 0; i < count; i++) {
		cr_assert(order[i]->reason[0] && order[i]->source[0], "%s has no reason",
			  order[i]->name);
		cr_assert(load ? order[i]->load : order[i]->take, "%s does nothing",
			  order[i]->name);
		if (i)
			cr_assert_lt(place(order[i - 1], load), place(order[i], load), "%s",
				     order[i]->name);
	}
}

Test(state_order, places_are_single_and_rows_have_reasons)
{
	check_order(true);
	check_order(false);
}

Test(state_order, moves)
{
	const struct state_step *order[STATE_STEPS];
	uint32_t count;

	moved.step = "events";
	moved.anchor = "cpuid";
	moved.load = true;
	count = state_order(true, order);
	cr_assert_eq(find_step(order, count, "events"), find_step(order, count, "cpuid") + 1);
	moved.anchor = "clock";
	count = state_order(true, order);
	cr_assert_eq(find_step(order, count, "events"), find_step(order, count, "clock") + 1);
	cr_assert_eq(count, real_order(true, order));
}

/* --- VMs --- */

struct box {
	struct impost_context *ctx;
	struct impost_vm *vm;
	struct impost_vcpu *cpu[2];
};

/* A VM with vCPU 0, and with vCPU OTHER if that is not 0. */
static void open_box(struct box *b, const char *backend, uint32_t other)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = MEMORY};
	struct impost_vm_config config;

	if (strcmp(backend, "kvm") == 0 && access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no /dev/kvm");
	memset(b, 0, sizeof(*b));
	OK(NULL, impost_context_open(NULL, NULL, &b->ctx));
	OK(b->ctx, impost_context_set(b->ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(b->ctx, impost_vm_config_init(b->ctx, &config));
	config.backend = backend;
	config.cpus = other ? 2 : 1;
	config.irqchip = IMPOST_IRQCHIP_FULL;
	OK(b->ctx, impost_vm_create(b->ctx, &config, &b->vm));
	OK(b->ctx, impost_memory_add(impost_vm_memory(b->vm), &ram));
	OK(b->ctx, impost_vcpu_create(b->vm, 0, &b->cpu[0]));
	if (other)
		OK(b->ctx, impost_vcpu_create(b->vm, other, &b->cpu[1]));
}

static void close_box(struct box *b)
{
	for (int i = 0; i < 2; i++)
		OK(b->ctx, impost_vcpu_destroy(b->cpu[i]));
	OK(b->ctx, impost_vm_destroy(b->vm));
	OK(NULL, impost_context_close(b->ctx));
}

/* CPUID that KVM supports here, for a vCPU without sisters. */
static void supported_cpuid(struct box *b)
{
	static struct impost_x86_cpuid entries[512];
	uint32_t count = 0;

	OK(b->ctx, impost_vm_cpuid_supported(b->vm, entries, 512, &count));
	OK(b->ctx, impost_vcpu_set_cpuid(b->cpu[0], entries, count));
}

/* The first 2 MiB are mapped as they are, and vCPU 0 is at CODE. */
static void enter_long_mode(struct box *b)
{
	struct mock m = {.ctx = b->ctx, .vm = b->vm};

	put64(&m, PML4, PDPT | 3);
	put64(&m, PDPT, PD | 3);
	put64(&m, PD, 0x83);
	long_mode(&m, b->cpu[0]);
}

#define GET(b, i, NAME, s)                                                                        \
	({                                                                                        \
		uint32_t size_;                                                                   \
		OK((b)->ctx,                                                                      \
		   impost_vcpu_get((b)->cpu[i], IMPOST_SECTION_##NAME, s, sizeof(*(s)), &size_)); \
	})
#define SET(b, i, NAME, s) \
	OK((b)->ctx, impost_vcpu_set((b)->cpu[i], IMPOST_SECTION_##NAME, s, sizeof(*(s))))

/*
 * Makes FROM what PREPARE does, and loads its state into a VM of backend TO: whether that comes
 * over, as ARRIVED sees it.
 */
struct trial {
	const char *from, *to;
	uint32_t other; /* a second vCPU's id */
	void (*prepare)(struct box *b);
	bool (*arrived)(struct box *a, struct box *b);
	void (*both)(struct box *b); /* done to both VMs beforehand, or NULL */
};

static bool comes_over(const struct trial *t)
{
	struct impost_state *state = NULL;
	struct box a, b;
	bool whole = false;

	open_box(&a, t->from, t->other);
	open_box(&b, t->to, t->other);
	if (t->both) {
		t->both(&a);
		t->both(&b);
	}
	t->prepare(&a);
	if (impost_state_take(a.vm, &state) == 0 && impost_state_load(state, b.vm) == 0)
		whole = t->arrived(&a, &b);
	else
		cr_log_info("%s", impost_error(b.ctx));
	impost_state_free(state);
	close_box(&a);
	close_box(&b);
	return whole;
}

static void needs_its_place(const struct trial *t, bool load, const char *step, const char *anchor)
{
	moved.step = NULL;
	cr_assert(comes_over(t), "in the order of the table it does not come over");
	moved.step = step;
	moved.anchor = anchor;
	moved.load = load;
	cr_assert_not(comes_over(t), "with %s behind %s it comes over all the same", step, anchor);
}

/* --- loading, on the mock --- */

#define LA57 (UINT64_C(1) << 12)

static void use_la57(struct box *b)
{
	struct impost_x86_sregs sregs;
	struct impost_x86_msr msr = {.index = IMPOST_X86_MSR_IA32_SYSENTER_ESP,
				     .value = UINT64_C(0x00f0000000000000)};
	uint32_t done;

	OK(b->ctx, impost_vcpu_get_sregs(b->cpu[0], &sregs));
	sregs.cr4 |= LA57;
	OK(b->ctx, impost_vcpu_set_sregs(b->cpu[0], &sregs));
	OK(b->ctx, impost_vcpu_set_msrs(b->cpu[0], &msr, 1, &done));
}

static bool same_sysenter(struct box *a, struct box *b)
{
	struct impost_x86_msr x = {.index = IMPOST_X86_MSR_IA32_SYSENTER_ESP}, y = x;
	uint32_t done;

	OK(a->ctx, impost_vcpu_get_msrs(a->cpu[0], &x, 1, &done));
	OK(b->ctx, impost_vcpu_get_msrs(b->cpu[0], &y, 1, &done));
	return x.value == y.value;
}

Test(state_order, addresses_in_msrs_are_judged_by_cr4)
{
	const struct trial t = {"mock", "mock", 0, use_la57, same_sysenter, NULL};

	needs_its_place(&t, true, "msrs", "cpuid");
	needs_its_place(&t, true, "sregs", "msrs");
}

/* The VM that is loaded into has a CPUID without it at first. */
static bool loads_without_la57(struct box *a, struct box *b)
{
	struct impost_x86_cpuid entries[128];
	struct impost_state *state = NULL;
	uint32_t count = 0;
	struct box c;
	bool loaded;

	(void)b;
	open_box(&c, "mock", 0);
	OK(c.ctx, impost_vcpu_get_cpuid(c.cpu[0], entries, 128, &count));
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == 7)
			entries[i].ecx &= ~(1u << 16);
	OK(c.ctx, impost_vcpu_set_cpuid(c.cpu[0], entries, count));
	OK(a->ctx, impost_state_take(a->vm, &state));
	loaded = impost_state_load(state, c.vm) == 0;
	impost_state_free(state);
	close_box(&c);
	return loaded;
}

Test(state_order, control_registers_are_judged_by_cpuid)
{
	const struct trial t = {"mock", "mock", 0, use_la57, loads_without_la57, NULL};

	needs_its_place(&t, true, "cpuid", "sregs");
}

/* An APIC id above 254 is told in x2APIC mode alone. */
static void use_x2apic(struct box *b)
{
	struct impost_x86_sregs sregs;
	struct impost_x86_lapic lapic;
	uint32_t id = 300;

	OK(b->ctx, impost_vcpu_get_sregs(b->cpu[1], &sregs));
	sregs.apic_base |= 0xc00;
	OK(b->ctx, impost_vcpu_set_sregs(b->cpu[1], &sregs));
	GET(b, 1, LAPIC, &lapic);
	memcpy(lapic.regs + 0x20, &id, sizeof(id));
	SET(b, 1, LAPIC, &lapic);
}

static bool same_lapic(struct box *a, struct box *b)
{
	struct impost_x86_lapic x, y;

	GET(a, 1, LAPIC, &x);
	GET(b, 1, LAPIC, &y);
	return memcmp(&x, &y, sizeof(x)) == 0;
}

Test(state_order, a_local_apic_is_judged_by_its_mode)
{
	const struct trial t = {"mock", "mock", 300, use_x2apic, same_lapic, NULL};

	needs_its_place(&t, true, "sregs", "lapic");
}

static void let_time_go(struct box *b)
{
	const void *table;
	void *handle;

	OK(b->ctx, impost_vm_extension(b->vm, IMPOST_MOCK_CONTROL, &table, &handle));
	((const struct impost_mock_control *)table)->advance(handle, 987654321);
}

static bool same_tsc(struct box *a, struct box *b)
{
	struct impost_x86_tsc x, y;

	GET(a, 0, TSC, &x);
	GET(b, 0, TSC, &y);
	return x.value == y.value;
}

Test(state_order, tscs_go_by_the_clock)
{
	const struct trial t = {"mock", "mock", 0, let_time_go, same_tsc, NULL};

	needs_its_place(&t, true, "clock", "tsc");
}

/* --- loading, on KVM --- */

static void use_avx(struct box *b)
{
	static uint8_t bytes[IMPOST_X86_XSAVE_MAX] __attribute__((aligned(64)));
	struct impost_x86_xsave *x = (void *)bytes;
	uint32_t size;

	supported_cpuid(b);
	OK(b->ctx, impost_vcpu_get(b->cpu[0], IMPOST_SECTION_XSAVE, bytes, sizeof(bytes), &size));
	x->xcr0 = 7;
	OK(b->ctx, impost_vcpu_set(b->cpu[0], IMPOST_SECTION_XSAVE, bytes, x->size));
}

static bool has_avx(struct box *a, struct box *b)
{
	static uint8_t bytes[IMPOST_X86_XSAVE_MAX] __attribute__((aligned(64)));
	const struct impost_x86_xsave *x = (const void *)bytes;
	uint32_t size;

	(void)a;
	OK(b->ctx, impost_vcpu_get(b->cpu[0], IMPOST_SECTION_XSAVE, bytes, sizeof(bytes), &size));
	return x->xcr0 == 7;
}

Test(state_order, kvm_lets_xcr0_have_what_cpuid_names)
{
	const struct trial t = {"kvm", "kvm", 0, use_avx, has_avx, NULL};

	needs_its_place(&t, true, "cpuid", "xsave");
}

static void pend_exception(struct box *b)
{
	struct impost_x86_events events;

	if (!impost_caps_has(impost_vm_caps(b->vm), IMPOST_CAP_EVENT_PAYLOAD))
		cr_skip_test("this KVM cannot hold an exception pending");
	GET(b, 0, EVENTS, &events);
	events.flags |= IMPOST_X86_EVENTS_PAYLOAD;
	events.exception.pending = 1;
	events.exception.vector = 14;
	events.exception.has_error = 1;
	events.exception.error = 2;
	events.exception.has_payload = 1;
	events.exception.payload = 0x1234;
	SET(b, 0, EVENTS, &events);
}

static bool is_pending(struct box *a, struct box *b)
{
	struct impost_x86_events events;

	(void)a;
	GET(b, 0, EVENTS, &events);
	return events.exception.pending && events.exception.payload == 0x1234;
}

Test(state_order, kvm_drops_pending_exceptions_when_registers_are_set)
{
	const struct trial t = {"kvm", "kvm", 0, pend_exception, is_pending, NULL};

	needs_its_place(&t, true, "events", "sregs");
}

static void halt_at_reset(struct box *b)
{
	struct impost_x86_runstate halted = {sizeof(halted), IMPOST_X86_HALTED};

	SET(b, 0, RUNSTATE, &halted);
}

static bool is_halted(struct box *a, struct box *b)
{
	struct impost_x86_runstate state;

	(void)a;
	GET(b, 0, RUNSTATE, &state);
	return state.state == IMPOST_X86_HALTED;
}

Test(state_order, kvm_wakes_the_bootstrap_processor_when_segments_are_set)
{
	const struct trial t = {"kvm", "kvm", 0, halt_at_reset, is_halted, NULL};

	needs_its_place(&t, true, "runstate", "cpuid");
}

static void put_reg(struct impost_x86_lapic *lapic, uint32_t reg, uint32_t value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

#define TIMER 0xeeu /* its vector */

/* The timer is in deadline mode (SDM vol. 3, 11.5.4.1), far from its deadline. */
static void arm_deadline(struct box *b)
{
	struct impost_x86_msr msr = {.index = IMPOST_X86_MSR_IA32_TSC_DEADLINE};
	struct impost_x86_lapic lapic;
	struct impost_x86_tsc tsc;
	uint32_t done;

	supported_cpuid(b);
	GET(b, 0, LAPIC, &lapic);
	put_reg(&lapic, 0xf0, 0x1ff);
	put_reg(&lapic, 0x320, 0x40000 | TIMER);
	SET(b, 0, LAPIC, &lapic);
	GET(b, 0, TSC, &tsc);
	msr.value = tsc.value + UINT64_C(3600000000000000);
	OK(b->ctx, impost_vcpu_set_msrs(b->cpu[0], &msr, 1, &done));
}

static bool same_deadline(struct box *a, struct box *b)
{
	struct impost_x86_msr x = {.index = IMPOST_X86_MSR_IA32_TSC_DEADLINE}, y = x;
	uint32_t done;

	OK(a->ctx, impost_vcpu_get_msrs(a->cpu[0], &x, 1, &done));
	OK(b->ctx, impost_vcpu_get_msrs(b->cpu[0], &y, 1, &done));
	cr_assert_neq(x.value, 0u, "this KVM keeps no deadline");
	return x.value == y.value;
}

Test(state_order, kvm_keeps_a_deadline_in_deadline_mode_alone)
{
	const struct trial t = {"kvm", "kvm", 0, arm_deadline, same_deadline, NULL};

	needs_its_place(&t, true, "lapic", "late_msrs");
}

/*
 * A guest whose TSC is far behind that of the VM it is loaded into, and whose timer is armed for
 * much later: while that TSC still counts, its time is over.
 */
#define ENTRY	 0x1000u
#define HANDLER	 0x2000u
#define LATE_TSC (UINT64_C(1) << 52)

static void set_tsc(struct box *b, uint64_t value)
{
	struct impost_x86_tsc tsc;

	GET(b, 0, TSC, &tsc);
	tsc.flags = 0;
	tsc.value = value;
	if (impost_vcpu_set(b->cpu[0], IMPOST_SECTION_TSC, &tsc, sizeof(tsc)))
		cr_skip_test("%s", impost_error(b->ctx));
}

/* The timer's interrupt writes to port 0x81; without it the guest writes to port 0x80. */
static void lay_out_timer(struct box *b)
{
	/* sti; mov $64, %si; 1: xor %eax, %eax; cpuid; dec %si; jnz 1b; out %al, $0x80 */
	static const uint8_t code[] = {0xfb, 0xbe, 0x40, 0x00, 0x66, 0x31, 0xc0,
				       0x0f, 0xa2, 0x4e, 0x75, 0xf8, 0xe6, 0x80};
	static const uint8_t handler[] = {0xe6, 0x81}; /* out %al, $0x81 */
	const uint32_t vector = HANDLER;
	struct impost_memory *memory = impost_vm_memory(b->vm);

	supported_cpuid(b);
	set_tsc(b, LATE_TSC);
	OK(b->ctx, impost_memory_write(memory, ENTRY, code, sizeof(code)));
	OK(b->ctx, impost_memory_write(memory, HANDLER, handler, sizeof(handler)));
	OK(b->ctx, impost_memory_write(memory, TIMER * 4, &vector, sizeof(vector)));
}

static void arm_for_later(struct box *b)
{
	struct impost_x86_regs regs = {
		.size = sizeof(regs), .rip = ENTRY, .rsp = 0x8000, .rflags = 2};
	struct impost_x86_sregs sregs;

	OK(b->ctx, impost_vcpu_get_sregs(b->cpu[0], &sregs));
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	OK(b->ctx, impost_vcpu_set_sregs(b->cpu[0], &sregs));
	OK(b->ctx, impost_vcpu_set_regs(b->cpu[0], &regs));
	set_tsc(b, 1);
	arm_deadline(b);
}

static bool has_time_left(struct box *a, struct box *b)
{
	struct impost_exit x;

	(void)a;
	OK(b->ctx, impost_vcpu_run(b->cpu[0], &x));
	cr_assert_eq(x.kind, IMPOST_EXIT_IO);
	return x.u.io.port == 0x80;
}

Test(state_order, kvm_compares_a_deadline_with_the_tsc_when_it_is_set)
{
	const struct trial t = {"kvm", "kvm", 0, arm_for_later, has_time_left, lay_out_timer};

	needs_its_place(&t, true, "late_msrs", "clock");
}

/* A hypervisor's guest that has cleared SVM's global interrupt flag (APM vol. 2, 15.17). */
static bool has_svm(struct box *b)
{
	static struct impost_x86_cpuid entries[512];
	uint32_t count = 0;

	OK(b->ctx, impost_vm_cpuid_supported(b->vm, entries, 512, &count));
	for (uint32_t i = 0; i < count; i++)
		if (entries[i].leaf == 0x80000001)
			return entries[i].ecx >> 2 & 1;
	return false;
}

static void clear_gif(struct box *b)
{
	static const uint8_t code[] = {0x0f, 0x01, 0xdd, 0xe6, 0x80}; /* clgi; out %al, $0x80 */
	struct impost_x86_sregs sregs;
	struct impost_exit x;

	if (!impost_caps_has(impost_vm_caps(b->vm), IMPOST_CAP_NESTED) || !has_svm(b))
		cr_skip_test("this KVM's guests have no SVM");
	supported_cpuid(b);
	enter_long_mode(b);
	OK(b->ctx, impost_memory_write(impost_vm_memory(b->vm), CODE, code, sizeof(code)));
	OK(b->ctx, impost_vcpu_get_sregs(b->cpu[0], &sregs));
	sregs.efer |= 1u << 12; /* SVME */
	OK(b->ctx, impost_vcpu_set_sregs(b->cpu[0], &sregs));
	OK(b->ctx, impost_vcpu_run(b->cpu[0], &x));
	cr_assert_eq(x.kind, IMPOST_EXIT_IO);
}

static bool same_nested(struct box *a, struct box *b)
{
	uint8_t x[512] = {0}, y[512] = {0};
	uint32_t size;

	OK(a->ctx, impost_vcpu_get(a->cpu[0], IMPOST_SECTION_VCPU_OPAQUE, x, sizeof(x), &size));
	OK(b->ctx, impost_vcpu_get(b->cpu[0], IMPOST_SECTION_VCPU_OPAQUE, y, sizeof(y), &size));
	return memcmp(x, y, size) == 0;
}

Test(state_order, kvm_judges_nested_state_by_efer)
{
	const struct trial t = {"kvm", "kvm", 0, clear_gif, same_nested, NULL};

	needs_its_place(&t, true, "vcpu_opaque", "cpuid");
}

/* There are KVMs that take no other TSC than the host's. */
static void use_tsc_of_kvm(struct box *b)
{
	struct impost_x86_tsc tsc;
	struct box k;

	open_box(&k, "kvm", 0);
	GET(&k, 0, TSC, &tsc);
	close_box(&k);
	tsc.flags = 0;
	SET(b, 0, TSC, &tsc);
}

/* A level that is up and was not delivered: it is when the I/O APIC is set. The mock only keeps it.
 */
#define PIN    10u
#define VECTOR 0x51u

static void raise_level(struct box *b)
{
	struct impost_x86_ioapic ioapic;
	struct impost_x86_lapic lapic;
	uint32_t size;

	use_tsc_of_kvm(b);
	OK(b->ctx, impost_vm_get(b->vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic), &size));
	ioapic.irr = 1u << PIN;
	ioapic.redirect[PIN] = VECTOR | 1u << 15;
	OK(b->ctx, impost_vm_set(b->vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic)));
	GET(b, 0, LAPIC, &lapic);
	put_reg(&lapic, 0xf0, 0x1ff);
	SET(b, 0, LAPIC, &lapic);
}

static bool is_requested(struct box *a, struct box *b)
{
	struct impost_x86_lapic lapic;

	(void)a;
	GET(b, 0, LAPIC, &lapic);
	return lapic.regs[0x200 + VECTOR / 32 * 16 + VECTOR % 32 / 8] & 1u << VECTOR % 8;
}

Test(state_order, kvm_delivers_levels_when_the_ioapic_is_set)
{
	const struct trial t = {"mock", "kvm", 0, raise_level, is_requested, NULL};

	needs_its_place(&t, true, "ioapic", "sregs");
}

/* The timer counts down once (Intel 8254, mode 0), and its line leads to another input than on a VM
 * that was just made. */
#define TIMER_INPUT 3u

static void start_timer(struct box *b)
{
	const struct impost_gsi_route route = {.type = IMPOST_ROUTE_PIC_MASTER, .pin = TIMER_INPUT};
	struct impost_x86_pit pit;
	uint32_t size;

	use_tsc_of_kvm(b);
	OK(b->ctx, impost_vm_set_gsi_routes(b->vm, &route, 1));
	OK(b->ctx, impost_vm_get(b->vm, IMPOST_SECTION_PIT, &pit, sizeof(pit), &size));
	pit.channel[0] =
		(struct impost_x86_pit_channel){.count = 1000, .rw_mode = 3, .mode = 0, .gate = 1};
	OK(b->ctx, impost_vm_set(b->vm, IMPOST_SECTION_PIT, &pit, sizeof(pit)));
}

static bool timer_is_heard(struct box *a, struct box *b)
{
	struct impost_x86_pic pic;
	uint32_t size;

	(void)a;
	OK(b->ctx, impost_vm_get(b->vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size));
	return pic.chip[0].irr == 1u << TIMER_INPUT;
}

Test(state_order, kvm_starts_the_timer_when_it_is_set)
{
	const struct trial t = {"mock", "kvm", 0, start_timer, timer_is_heard, NULL};

	unhurried = true;
	needs_its_place(&t, true, "routes", "devices");
	needs_its_place(&t, true, "pit", "routes");
	needs_its_place(&t, true, "pic", "pit");
}

/* --- taking --- */

/* IN from a port, in the script of both: a position in it is state. */
static void script_in(struct box *b)
{
	struct impost_mock_step in = {.size = sizeof(in),
				      .op = IMPOST_MOCK_EXIT,
				      .exit = {.kind = IMPOST_EXIT_IO,
					       .u.io = {.port = 0x60, .size = 1, .count = 1}}};
	const void *table;
	void *handle;

	OK(b->ctx, impost_vm_extension(b->vm, IMPOST_MOCK_CONTROL, &table, &handle));
	OK(b->ctx, ((const struct impost_mock_control *)table)->append(handle, 0, &in, 1));
}

/* It is answered and not yet finished. */
static void leave_pending(struct box *b)
{
	struct impost_exit x;

	enter_long_mode(b);
	OK(b->ctx, impost_vcpu_run(b->cpu[0], &x));
	cr_assert_eq(x.kind, IMPOST_EXIT_IO);
	*(uint8_t *)x.u.io.data = 0xa5;
}

static bool has_answer(struct box *a, struct box *b)
{
	struct impost_x86_regs regs;

	(void)a;
	OK(b->ctx, impost_vcpu_get_regs(b->cpu[0], &regs));
	return (regs.rax & 0xff) == 0xa5;
}

Test(state_order, pending_answers_are_finished_first)
{
	const struct trial t = {"mock", "mock", 0, leave_pending, has_answer, script_in};

	needs_its_place(&t, false, "complete", "regs");
}

/* A startup IPI has come to the second vCPU, which has not run since. */
static void send_sipi(struct box *b)
{
	struct impost_x86_runstate received = {sizeof(received), IMPOST_X86_SIPI_RECEIVED};
	struct impost_x86_events events;

	GET(b, 1, EVENTS, &events);
	events.flags |= IMPOST_X86_EVENTS_SIPI;
	events.sipi_vector = 0x99;
	SET(b, 1, EVENTS, &events);
	SET(b, 1, RUNSTATE, &received);
}

static bool is_started(struct box *a, struct box *b)
{
	struct impost_x86_runstate state;
	struct impost_x86_sregs sregs;

	(void)a;
	OK(b->ctx, impost_vcpu_get_sregs(b->cpu[1], &sregs));
	GET(b, 1, RUNSTATE, &state);
	return sregs.cs.selector == 0x9900 && state.state == IMPOST_X86_RUNNING;
}

Test(state_order, kvm_takes_startup_ipis_when_the_run_state_is_read)
{
	const struct trial t = {"kvm", "kvm", 1, send_sipi, is_started, NULL};

	needs_its_place(&t, false, "runstate", "sregs");
}

/* --- devices --- */

/* A device that has a line of the I/O APIC up, for as long as it is saved, or once it is loaded. */
struct card {
	struct impost_vm *vm;
	uint32_t when;
	uint32_t level;
};

#define WHEN_SAVED  1u
#define WHEN_LOADED 2u

static int raise_when(struct card *card, uint32_t when)
{
	return card->when == when ? impost_vm_irq_line(card->vm, PIN, 1) : 0;
}

static int card_pre_save(void *runtime)
{
	return raise_when(runtime, WHEN_SAVED);
}

static int card_post_load(void *runtime, uint32_t version)
{
	(void)version;
	return raise_when(runtime, WHEN_LOADED);
}

static int card_to_saved(const void *runtime, void *saved)
{
	((struct card *)saved)->level = ((const struct card *)runtime)->level;
	return 0;
}

static int card_from_saved(const void *saved, void *runtime)
{
	((struct card *)runtime)->level = ((const struct card *)saved)->level;
	return 0;
}

IMPOST_FIELDS(card_fields, IMPOST_FIELD_UINT(struct card, level, 1, 0, "Of its line"))
IMPOST_RECORD(card_record, "card", struct card, 1, 1, 1, card_fields, "A card",
	      .to_saved = card_to_saved, .from_saved = card_from_saved, .pre_save = card_pre_save,
	      .post_load = card_post_load)

/* Whether the line that the card raises is up in the I/O APIC of the VM that it was loaded into. */
static bool line_comes_over(uint32_t when)
{
	struct impost_x86_ioapic ioapic;
	struct impost_state *state = NULL;
	struct card from = {.when = when, .level = 7}, to = {.when = when};
	struct box a, b;
	uint32_t size;

	open_box(&a, "kvm", 0);
	open_box(&b, "kvm", 0);
	from.vm = a.vm;
	to.vm = b.vm;
	OK(a.ctx, impost_vm_add_device(a.vm, "card", 3, &card_record, &from));
	OK(b.ctx, impost_vm_add_device(b.vm, "card", 3, &card_record, &to));
	OK(a.ctx, impost_state_take(a.vm, &state));
	OK(b.ctx, impost_state_load(state, b.vm));
	cr_assert_eq(to.level, 7u);
	OK(b.ctx, impost_vm_get(b.vm, IMPOST_SECTION_IOAPIC, &ioapic, sizeof(ioapic), &size));
	impost_state_free(state);
	OK(a.ctx, impost_vm_remove_device(a.vm, "card", 3));
	OK(b.ctx, impost_vm_remove_device(b.vm, "card", 3));
	close_box(&a);
	close_box(&b);
	return ioapic.irr & 1u << PIN;
}

static void line_needs_the_place(uint32_t when, bool load, const char *anchor)
{
	moved.step = NULL;
	cr_assert(line_comes_over(when));
	moved.step = "devices";
	moved.anchor = anchor;
	moved.load = load;
	cr_assert_not(line_comes_over(when));
}

Test(state_order, devices_settle_before_controllers_are_taken)
{
	line_needs_the_place(WHEN_SAVED, false, "ioapic");
}

Test(state_order, devices_raise_lines_when_controllers_are_loaded)
{
	line_needs_the_place(WHEN_LOADED, true, "routes");
}

/* --- what was before --- */

static int card_refuses(void *runtime)
{
	return ((const struct card *)runtime)->when == WHEN_LOADED ? -EPERM : 0;
}

IMPOST_RECORD(shy_record, "card", struct card, 1, 1, 1, card_fields, "A card that is not loaded",
	      .to_saved = card_to_saved, .from_saved = card_from_saved, .pre_load = card_refuses)

/* Devices come last: all else was loaded, and all but one step can be undone. */
Test(state_order, a_step_that_is_not_undone_keeps_no_other_from_it)
{
	struct card from = {.level = 7}, to = {.when = WHEN_LOADED};
	struct impost_x86_regs regs = {.size = sizeof(regs)};
	struct impost_state *state = NULL;
	struct box a, b;

	open_box(&a, "mock", 0);
	open_box(&b, "mock", 0);
	OK(a.ctx, impost_vm_add_device(a.vm, "card", 0, &card_record, &from));
	OK(b.ctx, impost_vm_add_device(b.vm, "card", 0, &shy_record, &to));
	OK(a.ctx, impost_vcpu_get_regs(a.cpu[0], &regs));
	regs.rax = 0x1234;
	OK(a.ctx, impost_vcpu_set_regs(a.cpu[0], &regs));
	OK(a.ctx, impost_state_take(a.vm, &state));
	stubborn = true;
	cr_assert_eq(impost_state_load(state, b.vm), -EPERM, "%s", impost_error(b.ctx));
	cr_assert_eq(asked, 2u);
	cr_assert_not(strstr(impost_error(b.ctx), "not again"));
	OK(b.ctx, impost_vcpu_get_regs(b.cpu[0], &regs));
	cr_assert_eq(regs.rax, 0u);
	impost_state_free(state);
	OK(a.ctx, impost_vm_remove_device(a.vm, "card", 0));
	OK(b.ctx, impost_vm_remove_device(b.vm, "card", 0));
	close_box(&a);
	close_box(&b);
}
