/* SPDX-License-Identifier: Apache-2.0 */
/* The VM: which backend it gets, what is refused before a backend is asked, and its life. */
#include <signal.h>

#include "core.h"

#define PLAIN "mem-host,irqchip-none"

static struct impost_context *ctx;

static void begin(void)
{
	ctx = open_context();
}

static void end(void)
{
	cr_expect(impost_context_close(ctx) == 0);
}

TestSuite(vm, .init = begin, .fini = end);

Test(vm, values_are_checked)
{
	struct impost_vm_config good, config;
	struct impost_vm *vm = NULL;

	expect_ok(ctx, impost_vm_config_init(ctx, &good));
	cr_expect(good.kick_signal == (uint32_t)SIGRTMIN + 2);
	config = good;
	config.cpus = 0;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "a VM of 0 vCPUs");
	config.cpus = 5;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL,
		     "a VM of 5 vCPUs: backend fake has 4 at the most");
	config = good;
	config.memory = 0;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "0 bytes of memory");
	config.memory = 3;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "3 bytes of memory");
	config = good;
	config.irqchip = 4;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "irqchip 4");
	config.irqchip = IMPOST_IRQCHIP_FULL;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -ENOTSUP, "irqchip-full");
	config = good;
	config.kick_signal = SIGKILL;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "kick signal 9");
	config.kick_signal = (uint32_t)SIGRTMIN - 1; /* the C library's own */
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "can be blocked");
	config.kick_signal = (uint32_t)SIGRTMAX + 1;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "can be blocked");
	config.kick_signal = 0;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "kick signal 0");
	config = good;
	config.size = 4;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "size 4");
	config.size = 65537;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "size 65537");
	config = good;
	config.backend = " ";
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL,
		     "the list of backends is empty");
	config = good;
	config.reserved = 1;
	expect_error(ctx, impost_vm_create(ctx, &config, &vm), -EINVAL, "reserved is 1");
	cr_expect(!vm);
}

Test(vm, a_config_of_another_release)
{
	LONGER(struct impost_vm_config) config;
	struct impost_vm *vm;

	expect_fills(ctx, config, impost_vm_config_fill(ctx, &config.known));
	cr_expect(config.known.cpus == 1 && config.known.memory == 256 << 20);
	config.known.cpus = 3;
	config.later = MARK;
	expect_error(ctx, impost_vm_create(ctx, &config.known, &vm), -E2BIG, "does not know");
	config.later = 0;
	expect_ok(ctx, impost_vm_create(ctx, &config.known, &vm));
	cr_expect(impost_vm_config(vm)->cpus == 3);
	cr_expect(impost_vm_config(vm)->size == sizeof(struct impost_vm_config));
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, plugins_and_capabilities_for_another_release)
{
	LONGER(struct impost_plugin_info) info;
	LONGER(struct impost_caps) caps;

	expect_fills(ctx, caps, impost_backend_probe(ctx, "fake", &caps.known));
	cr_expect(caps.known.max_vcpus == 4);
	expect_fills(ctx, info, impost_plugin_info(ctx, 0, &info.known));
	cr_expect(info.known.name && info.known.reason);
}

Test(vm, null_is_refused)
{
	struct impost_caps caps = {.size = sizeof(caps)};

	expect_error(ctx, impost_backend_probe(ctx, NULL, &caps), -EINVAL, "name is NULL");
	expect_error(ctx, impost_backend_probe(ctx, "fake", NULL), -EINVAL, "impost_caps");
	expect_error(ctx, impost_plugin_info(ctx, 0, NULL), -EINVAL, "impost_plugin_info");
	expect_error(ctx, impost_vm_create(ctx, NULL, NULL), -EINVAL, "ret_vm is NULL");
}

Test(vm, tells_what_it_is)
{
	struct impost_vm_config config;
	const char *name, *reason;
	struct impost_vm *vm;

	expect_ok(ctx, impost_vm_config_init(ctx, &config));
	config.cpus = 3;
	config.backend = "fake";
	expect_ok(ctx, impost_vm_create(ctx, &config, &vm));
	cr_expect(impost_vm_context(vm) == ctx);
	cr_expect(strcmp(impost_vm_backend(vm), "fake") == 0);
	cr_expect(impost_vm_caps(vm)->max_vcpus == 4);
	cr_expect(impost_vm_config(vm)->cpus == 3);
	cr_expect(strcmp(impost_vm_config(vm)->backend, "fake") == 0);
	cr_expect(impost_vm_config(vm)->backend != config.backend);
	cr_expect(impost_vm_irqchip(vm) == IMPOST_IRQCHIP_NONE);
	cr_expect(impost_vm_passed_over(vm, 0, &name, &reason) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
	cr_expect(impost_vm_destroy(NULL) == 0);
}

Test(vm, the_first_backend_that_works)
{
	const char *name, *reason;
	struct impost_vm *vm;

	expect_ok(ctx, impost_context_set(ctx, "impost", "backend",
					  "none , no-run,larger, fake, smaller"));
	expect_ok(ctx, impost_context_set(ctx, "backend.larger", "fail", "19"));
	expect_ok(ctx, impost_vm_create(ctx, NULL, &vm));
	cr_expect(strcmp(impost_vm_backend(vm), "fake") == 0);
	expect_ok(ctx, impost_vm_passed_over(vm, 0, &name, &reason));
	cr_expect(strcmp(name, "none") == 0 && strstr(reason, "there is no plugin none.so"));
	expect_ok(ctx, impost_vm_passed_over(vm, 1, &name, &reason));
	cr_expect(strcmp(name, "no-run") == 0 && strstr(reason, "lack run"));
	expect_ok(ctx, impost_vm_passed_over(vm, 2, &name, &reason));
	cr_expect(strcmp(name, "larger") == 0 && strstr(reason, "it was to fail"));
	cr_expect(impost_vm_passed_over(vm, 3, &name, &reason) == -ENOENT);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, no_backend_works)
{
	struct impost_vm *vm;

	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "fail", "13"));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", "none, fake"));
	expect_error(ctx, impost_vm_create(ctx, NULL, &vm), -IMPOST_EPLUGIN,
		     "no backend can run here: none: there is no plugin none.so");
	cr_expect(strstr(impost_error(ctx), "; fake: it was to fail"));
}

/* Passing over a backend for a mistake of the user's would hide it. */
Test(vm, a_wrong_option_is_not_passed_over)
{
	struct impost_vm *vm;

	expect_ok(ctx, impost_context_set(ctx, "backend.larger", "fail", "22"));
	expect_ok(ctx, impost_context_set(ctx, "impost", "backend", "larger, fake"));
	expect_error(ctx, impost_vm_create(ctx, NULL, &vm), -EINVAL, "it was to fail");
}

Test(vm, parents_outlive_children)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, PLAIN, &fake);
	struct impost_vcpu *vcpu;

	expect_ok(ctx, impost_vcpu_create(vm, 0, &vcpu));
	expect_error(ctx, impost_context_close(ctx), -EBUSY, "1 VM of this context");
	expect_error(ctx, impost_vm_destroy(vm), -EBUSY, "1 vCPU of this VM");
	cr_expect(impost_vcpu_destroy(vcpu) == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, a_failed_creation_leaves_nothing)
{
	struct impost_vm *vm;
	struct fake *fake;
	struct belongings before;

	cr_assert(impost_vm_destroy(make_vm(ctx, PLAIN, &fake)) == 0);
	before = count_belongings();
	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "caps", "irqchip-full"));
	for (int i = 0; i < 10; i++)
		expect_error(ctx, impost_vm_create(ctx, NULL, &vm), -ENOTSUP, "irqchip-none");
	expect_ok(ctx, impost_context_set(ctx, "backend.fake", "caps", "irqfd"));
	for (int i = 0; i < 10; i++)
		expect_error(ctx, impost_vm_create(ctx, NULL, &vm), -IMPOST_EPLUGIN,
			     "claims irqfd and has no operation irqfd");
	expect_same_belongings(before);
}

/* Every call that a capability guards is refused by its name, before the backend is asked. */
Test(vm, what_a_backend_has_not)
{
	struct impost_irqfd irqfd = {.size = sizeof(irqfd), .resample_fd = -1};
	struct impost_ioeventfd ioeventfd = {.size = sizeof(ioeventfd)};
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, PLAIN, &fake);
	struct impost_exit exit;
	const void *table;
	uint64_t word = 0;
	uint32_t count;
	void *handle;
	int fd;

	expect_error(ctx, impost_vm_irq_line(vm, 0, 1), -ENOTSUP, "has no irq-line");
	expect_error(ctx, impost_vm_msi(vm, 0, 0), -ENOTSUP, "has no msi");
	expect_error(ctx, impost_vm_set_gsi_routes(vm, NULL, 0), -ENOTSUP, "has no gsi-routes");
	expect_error(ctx, impost_vm_irqfd(vm, &irqfd), -ENOTSUP, "has no irqfd");
	irqfd.size = 0;
	expect_error(ctx, impost_vm_irqfd(vm, &irqfd), -EINVAL, "struct impost_irqfd has size 0");
	expect_error(ctx, impost_vm_ioeventfd(vm, &ioeventfd), -ENOTSUP, "has no ioeventfd");
	expect_error(ctx, impost_vm_set_msr_exits(vm, NULL, 0, 0), -ENOTSUP, "has no msr-exits");
	expect_error(ctx, impost_vm_pause(vm), -ENOTSUP, "has no vm-pause");
	expect_error(ctx, impost_vm_resume(vm), -ENOTSUP, "has no vm-pause");
	expect_error(ctx, impost_vm_event(vm, &exit), -ENOTSUP, "has no vm-events");
	expect_error(ctx, impost_vm_event_fd(vm, &fd), -ENOTSUP, "has no vm-events");
	expect_error(ctx, impost_vm_set_cpuid(vm, NULL, 0), -ENOTSUP, "has no cpuid-per-vm");
	expect_error(ctx, impost_vm_dirty_start(vm, 0), -ENOTSUP, "has no dirty-log");
	expect_error(ctx, impost_vm_dirty_stop(vm, 0), -ENOTSUP, "has no dirty-log");
	expect_error(ctx, impost_vm_dirty_fetch(vm, 0, &word, 1), -ENOTSUP, "has no dirty-log");
	expect_error(ctx, impost_vm_dirty_clear(vm, 0, 0, 1, &word), -ENOTSUP,
		     "has no dirty-manual");
	expect_error(ctx, impost_vm_get(vm, IMPOST_SECTION_CLOCK, &word, 8, &count), -ENOTSUP,
		     "has no clock");
	expect_error(ctx, impost_vm_get(vm, IMPOST_SECTION_PIC, &word, 8, &count), -ENOTSUP,
		     "no operation state_get");
	expect_error(ctx, impost_vm_cpuid_supported(vm, NULL, 0, &count), -ENOTSUP,
		     "no operation cpuid_supported");
	expect_error(ctx, impost_vm_msr_list(vm, NULL, 0, &count), -ENOTSUP,
		     "no operation msr_list");
	expect_error(ctx, impost_vm_extension(vm, "other/1", &table, &handle), -ENOENT, "other/1");
	/* Not claimed: there is nothing to do, and that is no error. */
	expect_ok(ctx, impost_vm_io_claim(vm, IMPOST_SPACE_PIO, 0x3f8, 0x3ff));
	expect_ok(ctx, impost_vm_io_release(vm, IMPOST_SPACE_PIO, 0x3f8, 0x3ff));
	cr_expect(fake->calls == 0, "%u operations were called", fake->calls);
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, interrupts_and_claims_arrive)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,irqchip-none,irq-line,msi,io-claims", &fake);

	expect_ok(ctx, impost_vm_irq_line(vm, 4, 1));
	cr_expect(fake->arg[0] == 4 && fake->arg[1] == 1);
	expect_error(ctx, impost_vm_irq_line(vm, 4, 2), -EINVAL, "level 2");
	expect_ok(ctx, impost_vm_msi(vm, 0xfee00000, 0x41));
	cr_expect(fake->arg[0] == 0xfee00000 && fake->arg[1] == 0x41);
	expect_ok(ctx, impost_vm_io_claim(vm, IMPOST_SPACE_PIO, 0x3f8, 0x3ff));
	cr_expect(fake->arg[0] == IMPOST_SPACE_PIO && fake->arg[2] == 0x3ff);
	expect_error(ctx, impost_vm_io_claim(vm, IMPOST_SPACE_PIO, 0, 0x10000), -EINVAL, "0x10000");
	expect_error(ctx, impost_vm_io_claim(vm, IMPOST_SPACE_MMIO, 2, 1), -EINVAL,
		     "no such range");
	expect_error(ctx, impost_vm_io_claim(vm, 3, 0, 1), -EINVAL, "space 3");
	fake->fail_op = "msi";
	fake->fail_with = -EAGAIN;
	expect_error(ctx, impost_vm_msi(vm, 0, 0), -EAGAIN, "backend fake: msi failed: EAGAIN");
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, the_dirty_log_is_asked_by_region)
{
	struct impost_region region = {.size = sizeof(region), .bytes = 4096};
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, "mem-host,irqchip-none,dirty-log,dirty-manual", &fake);
	uint64_t bitmap[3] = {0};

	expect_ok(ctx, impost_memory_add(impost_vm_memory(vm), &region));
	region.gpa = 0x100000;
	region.bytes = 130 * 4096;
	expect_ok(ctx, impost_memory_add(impost_vm_memory(vm), &region));
	expect_ok(ctx, impost_vm_dirty_start(vm, 0x100000));
	cr_expect(fake->arg[0] == 1);
	expect_error(ctx, impost_vm_dirty_start(vm, 0x101000), -ENOENT, "0x101000");
	expect_error(ctx, impost_vm_dirty_fetch(vm, 0x100000, bitmap, 2), -ENOSPC,
		     "2 words for 130 pages");
	expect_error(ctx, impost_vm_dirty_fetch(vm, 0x100000, NULL, 3), -EINVAL, "bitmap is NULL");
	expect_ok(ctx, impost_vm_dirty_fetch(vm, 0x100000, bitmap, 3));
	cr_expect(bitmap[0] == 5);
	expect_ok(ctx, impost_vm_dirty_clear(vm, 0x100000, 64, 66, bitmap));
	cr_expect(fake->arg[1] == 64 && fake->arg[2] == 66 && fake->arg[3] == 5);
	expect_error(ctx, impost_vm_dirty_clear(vm, 0x100000, 1, 1, bitmap), -EINVAL, "multiple");
	expect_error(ctx, impost_vm_dirty_clear(vm, 0x100000, 64, 67, bitmap), -EINVAL, "67 pages");
	expect_error(ctx, impost_vm_dirty_clear(vm, 0x100000, 64, UINT64_MAX, bitmap), -EINVAL,
		     "of 130");
	expect_ok(ctx, impost_vm_dirty_stop(vm, 0x100000));
	cr_expect(impost_vm_destroy(vm) == 0);
}

Test(vm, sections_are_checked)
{
	struct fake *fake;
	struct impost_vm *vm = make_vm(ctx, PLAIN, &fake);
	struct impost_x86_pit pit = {.size = sizeof(pit)};
	uint32_t size;

	expect_error(ctx, impost_vm_get(vm, 0, &pit, sizeof(pit), &size), -EINVAL,
		     "state section 0");
	expect_error(ctx, impost_vm_get(vm, 99, &pit, sizeof(pit), &size), -EINVAL,
		     "state section 99");
	expect_error(ctx, impost_vm_set(vm, IMPOST_SECTION_PIT, &pit, sizeof(pit) - 1), -EINVAL,
		     "state section pit: its size member says 80 in 79 bytes");
	expect_error(ctx, impost_vm_set(vm, IMPOST_SECTION_PIT, &pit, 2), -EINVAL, "in 2 bytes");
	pit.size = 4;
	expect_error(ctx, impost_vm_set(vm, IMPOST_SECTION_PIT, &pit, sizeof(pit)), -EINVAL,
		     "says 4");
	expect_error(ctx, impost_vm_set(vm, IMPOST_SECTION_VM_OPAQUE, &pit, sizeof(pit)), -EINVAL,
		     "must be 48 at least");
	cr_expect(fake->calls == 0);
	cr_expect(impost_vm_destroy(vm) == 0);
}
