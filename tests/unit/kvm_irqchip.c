/* SPDX-License-Identifier: Apache-2.0 */
/* When a VM's interrupt controllers are made in the kernel, and what comes of it if that fails. */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "state_random.h"

/* What the kernel is asked for; of KVM_ENABLE_CAP, the capability. */
struct call {
	unsigned long request;
	uint32_t cap;
};

#define ENABLES(cap)                \
	{                           \
		KVM_ENABLE_CAP, cap \
	}

static struct call failing; /* once, with ENOMEM */
static atomic_bool fails;
static atomic_uint irqchips, pits, splits; /* that were asked for, and made */

static bool is_call(const struct call *call, unsigned long request, const void *arg)
{
	return request == call->request && (request != KVM_ENABLE_CAP ||
					    ((const struct kvm_enable_cap *)arg)->cap == call->cap);
}

/* The backend's: a program's own symbols come before the C library's. */
__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	static const struct call split = ENABLES(KVM_CAP_SPLIT_IRQCHIP);
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (is_call(&failing, request, arg) && atomic_exchange(&fails, false)) {
		errno = ENOMEM;
		return -1;
	}
	r = (int)syscall(SYS_ioctl, fd, request, arg);
	irqchips += r == 0 && request == KVM_CREATE_IRQCHIP;
	pits += r == 0 && request == KVM_CREATE_PIT2;
	splits += r == 0 && is_call(&split, request, arg);
	return r;
}

static struct impost_context *ctx;
static struct impost_vm *vm;
static struct impost_vcpu *vcpu[2];

static bool begin(uint32_t irqchip)
{
	struct impost_region ram = {.size = sizeof(ram), .bytes = 0x400000};
	struct impost_vm_config config;

	if (access("/dev/kvm", R_OK | W_OK) != 0)
		return false;
	OK(NULL, impost_context_open(NULL, NULL, &ctx));
	OK(ctx, impost_context_set(ctx, "impost", "plugin_dir", PLUGIN_DIR));
	OK(ctx, impost_vm_config_init(ctx, &config));
	config.backend = "kvm";
	config.cpus = 2;
	config.irqchip = irqchip;
	OK(ctx, impost_vm_create(ctx, &config, &vm));
	OK(ctx, impost_memory_add(impost_vm_memory(vm), &ram));
	/* A slot that is set while the kernel waits for them waits, too. */
	cr_assert_eq(irqchips + pits + splits, 0, "they are there before memory is");
	return true;
}

static void end(void)
{
	for (int i = 0; i < 2; i++)
		OK(ctx, impost_vcpu_destroy(vcpu[i]));
	OK(ctx, impost_vm_destroy(vm));
	OK(NULL, impost_context_close(ctx));
}

static void expect_made(uint32_t irqchip)
{
	unsigned full = irqchip == IMPOST_IRQCHIP_FULL, lapic = irqchip == IMPOST_IRQCHIP_LAPIC;

	cr_expect_eq(irqchips, full, "KVM_CREATE_IRQCHIP: %u", irqchips);
	cr_expect_eq(pits, full, "KVM_CREATE_PIT2: %u", pits);
	cr_expect_eq(splits, lapic, "KVM_CAP_SPLIT_IRQCHIP: %u", splits);
}

#define SKIP_WITHOUT_KVM(there) \
	if (!(there))           \
	cr_skip_test("/dev/kvm is not there, or not for us")

/* --- failing --- */

/* What fails is told by the call that needed it; the next one takes up where that stopped. */
static void fail_once(uint32_t irqchip, unsigned long request, uint32_t cap, const char *name)
{
	SKIP_WITHOUT_KVM(begin(irqchip));
	failing = (struct call){request, cap};
	fails = true;
	cr_expect_eq(impost_vcpu_create(vm, 0, &vcpu[0]), -ENOMEM, "%s", name);
	cr_expect_not(fails, "%s: nobody asked for it", name);
	cr_expect(strstr(impost_error(ctx), name), "%s: \"%s\"", name, impost_error(ctx));
	cr_expect_null(vcpu[0]);
	OK(ctx, impost_vcpu_create(vm, 0, &vcpu[0]));
	OK(ctx, impost_vcpu_create(vm, 1, &vcpu[1]));
	expect_made(irqchip);
	if (irqchip == IMPOST_IRQCHIP_FULL) {
		struct impost_x86_pit pit;
		uint32_t size;

		OK(ctx, impost_vm_get(vm, IMPOST_SECTION_PIT, &pit, sizeof(pit), &size));
		OK(ctx, impost_vm_irq_line(vm, 4, 0));
	}
	end();
}

#define FAILS(test, irqchip, request, cap, name)                         \
	Test(kvm_irqchip, test)                                          \
	{                                                                \
		fail_once(IMPOST_IRQCHIP_##irqchip, request, cap, name); \
	}
FAILS(pic_and_ioapic_fail, FULL, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP")
FAILS(pit_fails, FULL, KVM_CREATE_PIT2, 0, "KVM_CREATE_PIT2")
FAILS(ids_fail_with_all, FULL, KVM_ENABLE_CAP, KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API")
FAILS(lapics_fail, LAPIC, KVM_ENABLE_CAP, KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP")
FAILS(ids_fail_with_lapics, LAPIC, KVM_ENABLE_CAP, KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API")

/* --- who needs them --- */

static void set_routes(void)
{
	const struct impost_gsi_route route = {.gsi = 4, .type = IMPOST_ROUTE_IOAPIC, .pin = 4};

	OK(ctx, impost_vm_set_gsi_routes(vm, &route, 1));
}

static void set_line(void)
{
	OK(ctx, impost_vm_irq_line(vm, 4, 1));
}

/* There is no vCPU that could take it. */
static void send_message(void)
{
	cr_expect_eq(impost_vm_msi(vm, 0xfee00000, 0x30), -EAGAIN, "%s", impost_error(ctx));
}

static void tie_eventfd(void)
{
	struct impost_irqfd irqfd = {
		.size = sizeof(irqfd), .fd = eventfd(0, EFD_CLOEXEC), .resample_fd = -1, .gsi = 4};

	OK(ctx, impost_vm_irqfd(vm, &irqfd));
	close(irqfd.fd);
}

static void get_and_set(uint32_t section)
{
	union {
		struct impost_x86_pic pic;
		struct impost_x86_ioapic ioapic;
		struct impost_x86_pit pit;
	} state;
	uint32_t size;

	OK(ctx, impost_vm_get(vm, section, &state, sizeof(state), &size));
	OK(ctx, impost_vm_set(vm, section, &state, size));
}

static void move_pic(void)
{
	get_and_set(IMPOST_SECTION_PIC);
}

static void move_ioapic(void)
{
	get_and_set(IMPOST_SECTION_IOAPIC);
}

static void move_pit(void)
{
	get_and_set(IMPOST_SECTION_PIT);
}

static void needed_by(void (*need)(void))
{
	SKIP_WITHOUT_KVM(begin(IMPOST_IRQCHIP_FULL));
	need();
	expect_made(IMPOST_IRQCHIP_FULL);
	for (uint32_t i = 0; i < 2; i++)
		OK(ctx, impost_vcpu_create(vm, i, &vcpu[i]));
	expect_made(IMPOST_IRQCHIP_FULL);
	end();
}

#define NEEDS(test, need)        \
	Test(kvm_irqchip, test)  \
	{                        \
		needed_by(need); \
	}
NEEDS(routes_need_it, set_routes)
NEEDS(lines_need_it, set_line)
NEEDS(messages_need_it, send_message)
NEEDS(eventfds_need_it, tie_eventfd)
NEEDS(the_pics_state_needs_it, move_pic)
NEEDS(the_ioapics_state_needs_it, move_ioapic)
NEEDS(the_pits_state_needs_it, move_pit)

static void *make_vcpu(void *id)
{
	uint32_t i = (uint32_t)(uintptr_t)id;

	OK(ctx, impost_vcpu_create(vm, i, &vcpu[i]));
	return NULL;
}

Test(kvm_irqchip, two_threads_make_it_once)
{
	pthread_t other;

	SKIP_WITHOUT_KVM(begin(IMPOST_IRQCHIP_DEFAULT));
	cr_assert_eq(pthread_create(&other, NULL, make_vcpu, (void *)(uintptr_t)1), 0);
	make_vcpu(NULL);
	pthread_join(other, NULL);
	expect_made(impost_vm_irqchip(vm));
	end();
}
