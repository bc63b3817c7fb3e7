/* SPDX-License-Identifier: Apache-2.0 */
/* Around the vCPU: memory and its dirty log, event descriptors, the interrupt log, claims, CPUID.
 */
#include "mock.h"

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>

/* --- dirty log --- */

#define PAGES (MEMORY / 4096)
#define WORDS (PAGES / 64)

static struct impost_mock_step write_step(uint64_t gpa, const void *data, uint32_t bytes)
{
	return (struct impost_mock_step){.size = sizeof(struct impost_mock_step),
					 .op = IMPOST_MOCK_WRITE,
					 .gpa = gpa,
					 .data = data,
					 .bytes = bytes};
}

static const struct impost_mock_step hlt = {
	.size = sizeof(hlt), .op = IMPOST_MOCK_EXIT, .exit.kind = IMPOST_EXIT_HLT};

static void fetch(struct mock *m, uint64_t *bitmap)
{
	memset(bitmap, 0, WORDS * 8);
	cr_assert_eq(impost_vm_dirty_fetch(m->vm, 0, bitmap, WORDS), 0, "%s", impost_error(m->ctx));
}

/* A sequence that is the same each time (Marsaglia, "Xorshift RNGs"). */
static uint32_t rnd(void)
{
	static uint32_t x = 7;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

/* Random writes of the guest, against a bitmap and a copy of memory. */
Test(mock_devices, the_dirty_log_has_the_pages_that_the_guest_writes)
{
	static uint64_t got[WORDS], want[WORDS];
	static uint8_t data[9000], back[9000];
	unsigned i, round;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_dirty_fetch(m.vm, 0, got, WORDS), -ENOENT);
	cr_assert_eq(impost_vm_dirty_start(m.vm, 0), 0);
	for (round = 0; round < 50; round++) {
		memset(want, 0, sizeof(want));
		for (i = 0; i < 10; i++) {
			uint32_t bytes = 1 + rnd() % sizeof(data);
			uint64_t gpa = 0x20000 + rnd() % (MEMORY - 0x20000 - bytes);
			struct impost_mock_step step = write_step(gpa, data, bytes);
			uint64_t page;

			memset(data, (int)rnd(), sizeof(data));
			append(&m, 0, (const struct impost_mock_step[]){step, hlt}, 2);
			run_to(&m, IMPOST_EXIT_HLT);
			cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), gpa, back, bytes),
				     0);
			cr_assert_eq(memcmp(back, data, bytes), 0);
			for (page = gpa / 4096; page <= (gpa + bytes - 1) / 4096; page++)
				want[page / 64] |= UINT64_C(1) << (page % 64);
		}
		fetch(&m, got);
		cr_assert_eq(memcmp(got, want, sizeof(got)), 0);
		fetch(&m, got); /* fetching leaves it */
		cr_assert_eq(memcmp(got, want, sizeof(got)), 0);
		cr_assert_eq(impost_vm_dirty_clear(m.vm, 0, 0, PAGES, want), 0);
	}
	fetch(&m, got);
	memset(want, 0, sizeof(want));
	cr_assert_eq(memcmp(got, want, sizeof(got)), 0);
	cr_assert_eq(impost_vm_dirty_clear(m.vm, 0, 1, 64, want), -EINVAL);
	cr_assert_eq(impost_vm_dirty_clear(m.vm, 0, 64, PAGES, want), -EINVAL);
	cr_assert_eq(impost_vm_dirty_fetch(m.vm, 0, got, WORDS - 1), -ENOSPC);
	cr_assert_eq(impost_vm_dirty_stop(m.vm, 0), 0);
	cr_assert_eq(impost_vm_dirty_stop(m.vm, 0), -ENOENT);
	mock_close(&m);
}

Test(mock_devices, with_dirty_log_auto_fetching_clears)
{
	static uint64_t got[WORDS];
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nwrite = 0x50fff 01 02\nhlt =\n", 0, 1, "dirty_log", "auto");
	cr_assert(!impost_caps_has(impost_vm_caps(m.vm), IMPOST_CAP_DIRTY_MANUAL));
	cr_assert_eq(impost_vm_dirty_start(m.vm, 0), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	fetch(&m, got);
	cr_assert_eq(got[1], 3u << 16);
	fetch(&m, got);
	cr_assert_eq(got[1], 0);
	mock_close(&m);
}

Test(mock_devices, the_hosts_writes_are_logged_too)
{
	static uint64_t got[WORDS];
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_dirty_start(m.vm, 0), 0);
	put64(&m, 0x7ffc, 1);
	fetch(&m, got);
	cr_assert_eq(got[0], 3u << 7);
	mock_close(&m);
}

Test(mock_devices, a_log_that_starts_full)
{
	static uint64_t got[WORDS];
	struct mock m;

	mock_open_with(&m, NULL, 0, 1, "dirty_initially_set", "yes");
	cr_assert(impost_caps_has(impost_vm_caps(m.vm), IMPOST_CAP_DIRTY_INITIALLY_SET));
	cr_assert_eq(impost_vm_dirty_start(m.vm, 0), 0);
	fetch(&m, got);
	for (unsigned i = 0; i < WORDS; i++)
		cr_assert_eq(got[i], UINT64_MAX);
	cr_assert_eq(impost_vm_dirty_clear(m.vm, 0, 64, PAGES - 64, got), 0);
	fetch(&m, got);
	cr_assert(got[0] == UINT64_MAX && got[1] == 0 && got[WORDS - 1] == 0);
	mock_close(&m);
}

/* Memory of the mock's own stands elsewhere in the host afterwards, with the same in it, for the
 * host and for the guest. */
Test(mock_devices, provided_memory_moves)
{
	const uint64_t at = 0x800000;
	struct impost_region region = {
		.size = sizeof(region), .kind = IMPOST_REGION_BACKEND, .gpa = at, .bytes = 0x4000};
	void *before, *after;
	struct mock m;
	int i;

	mock_open_with(&m, "[vcpu 0]\nwrite = 0x801000 01 02 03 04\nhlt =\n", 0, 1, "memory_moves",
		       "yes");
	cr_assert(impost_caps_has(impost_vm_caps(m.vm), IMPOST_CAP_MEM_MOVES));
	cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &region), 0);
	put64(&m, at, 77);
	cr_assert_eq(m.control->move(m.handle, at), -EBUSY);
	cr_assert_eq(impost_vm_pause(m.vm), 0);
	cr_assert_eq(m.control->move(m.handle, 0), -ENOENT); /* the host's own memory */
	cr_assert_eq(m.control->move(m.handle, 0x900000), -ENOENT);
	for (i = 0; i < 100; i++) {
		cr_assert_eq(impost_memory_ptr(impost_vm_memory(m.vm), at, 0x4000, &before), 0);
		cr_assert_eq(m.control->move(m.handle, at), 0, "%s", impost_error(m.ctx));
		cr_assert_eq(impost_memory_ptr(impost_vm_memory(m.vm), at, 0x4000, &after), 0);
		cr_assert_neq(before, after);
		cr_assert_eq(*(uint64_t *)after, 77);
	}
	cr_assert_eq(impost_vm_resume(m.vm), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(*(uint32_t *)((char *)after + 0x1000), 0x04030201);
	mock_close(&m);
}

Test(mock_devices, memory_that_cannot_be_written_is_not)
{
	struct impost_region rom = {.size = sizeof(rom),
				    .gpa = 0x800000,
				    .bytes = 0x1000,
				    .flags = IMPOST_REGION_READONLY};
	struct impost_exit x;
	uint64_t value;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nwrite = 0x800ff4 01 02 03 04 05 06 07 08 09 0a\nhlt =\n"
		      "write = 0x900000 01\n");
	cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &rom), 0, "%s", impost_error(m.ctx));
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert(x.u.mmio.gpa == 0x800ff4 && x.u.mmio.size == 8 &&
		  x.u.mmio.dir == IMPOST_EXIT_WRITE &&
		  !memcmp(x.u.mmio.data, "\1\2\3\4\5\6\7\10", 8));
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert(x.u.mmio.gpa == 0x800ffc && x.u.mmio.size == 2 &&
		  !memcmp(x.u.mmio.data, "\11\12", 2));
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), 0x800ff4, &value, 8), 0);
	cr_assert_eq(value, 0);
	run_expecting(&m, IMPOST_EXIT_INTERNAL_ERROR, "writes to 0x900000, where there is no");
	mock_close(&m);
}

Test(mock_devices, memory_may_be_the_backends_own)
{
	struct impost_region own = {.size = sizeof(own),
				    .kind = IMPOST_REGION_BACKEND,
				    .gpa = 0x800000,
				    .bytes = 0x2000};
	uint32_t value;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nwrite = 0x801000 78 56 34 12\nhlt =\n");
	cr_assert_eq(impost_memory_add(impost_vm_memory(m.vm), &own), 0, "%s", impost_error(m.ctx));
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_memory_read(impost_vm_memory(m.vm), 0x801000, &value, 4), 0);
	cr_assert_eq(value, 0x12345678);
	mock_close(&m);
}

/* --- ioeventfd --- */

static uint64_t taken(int fd)
{
	uint64_t count = 0;

	(void)!read(fd, &count, sizeof(count));
	return count;
}

Test(mock_devices, a_write_that_an_ioeventfd_matches_does_not_exit)
{
	struct impost_ioeventfd e = {.size = sizeof(e),
				     .space = IMPOST_SPACE_MMIO,
				     .address = 0xd0000000,
				     .bytes = 4,
				     .match = 7,
				     .has_match = 1};
	struct impost_ioeventfd p = {
		.size = sizeof(p), .space = IMPOST_SPACE_PIO, .address = 0x510};
	struct impost_exit x;
	struct mock m;

	mock_open(&m, "[vcpu 0]\n"
		      "mmio-write = 0xd0000000 4 7\n"	   /* hit */
		      "mmio-write = 0xd0000000 4 8\n"	   /* another value */
		      "mmio-write = 0xd0000000 2 7\n"	   /* another width */
		      "out = 0x510 1 1\nout = 0x510 4 2\n" /* hits */
		      "out = 0x511 1 1\n"
		      "mmio-write = 0xd0000000 4 7\n"); /* when it is gone */
	e.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &e), 0, "%s", impost_error(m.ctx));
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &e), -EEXIST);
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &p), 0);
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert_eq(*(uint32_t *)x.u.mmio.data, 8);
	x = run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert_eq(x.u.mmio.size, 2);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_IO).u.io.port, 0x511);
	cr_assert_eq(taken(e.fd), 1);
	cr_assert_eq(taken(p.fd), 2);
	e.remove = 1;
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &e), 0);
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &e), -ENOENT);
	run_to(&m, IMPOST_EXIT_MMIO);
	cr_assert_eq(taken(e.fd), 0);
	p.remove = 0;
	p.bytes = 3;
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &p), -EINVAL);
	p.bytes = 8;
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &p), -EINVAL);
	mock_close(&m);
	close(e.fd);
	close(p.fd);
}

/* --- irqfd and the interrupt log --- */

static void signal_fd(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

Test(mock_devices, an_irqfd_raises_its_line)
{
	struct impost_irqfd f = {.size = sizeof(f), .gsi = 5, .resample_fd = -1};
	struct impost_mock_irq irq;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhalt =\nhlt =\n");
	f.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), 0, "%s", impost_error(m.ctx));
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), -EBUSY);
	signal_fd(f.fd);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(m.control->irq(m.handle, 0, &irq), 0);
	cr_assert(irq.kind == IMPOST_MOCK_IRQ_IRQFD && irq.gsi == 5);
	signal_fd(f.fd);
	f.remove = 1;
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), 0); /* what came before is not lost */
	cr_assert_eq(m.control->irq(m.handle, 1, &irq), 0);
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), -ENOENT);
	signal_fd(f.fd);
	cr_assert_eq(m.control->irq(m.handle, 2, &irq), -ENOENT);
	f.remove = 0;
	f.gsi = 256;
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), -EINVAL);
	mock_close(&m);
	close(f.fd);
}

Test(mock_devices, the_interrupt_log_has_all_in_order)
{
	static const struct impost_gsi_route msi = {
		.gsi = 100, .type = IMPOST_ROUTE_MSI, .msi_address = 0xfee00000, .msi_data = 0x41};
	struct impost_mock_irq irq[7];
	struct mock m;
	unsigned i;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_irq_line(m.vm, 4, 1), 0);
	cr_assert_eq(impost_vm_irq_line(m.vm, 4, 0), 0);
	cr_assert_eq(impost_vm_irq_line(m.vm, 23, 1), 0);
	cr_assert_eq(impost_vm_irq_line(m.vm, 24, 1), -EINVAL);
	cr_assert_eq(impost_vm_msi(m.vm, 0xfee01000, 0x4031), 0);
	cr_assert_eq(impost_vm_msi(m.vm, 0xfec01000, 1), -EINVAL);
	cr_assert_eq(impost_vcpu_nmi(m.cpu[0]), 0);
	cr_assert_eq(impost_vm_set_gsi_routes(m.vm, &msi, 1), 0);
	cr_assert_eq(impost_vm_irq_line(m.vm, 4, 1), -EINVAL);
	cr_assert_eq(impost_vm_irq_line(m.vm, 100, 1), 0);
	for (i = 0; i < 6; i++)
		cr_assert_eq(m.control->irq(m.handle, i, &irq[i]), 0);
	cr_assert_eq(m.control->irq(m.handle, 6, &irq[6]), -ENOENT);
	cr_assert(irq[0].kind == IMPOST_MOCK_IRQ_LINE && irq[0].gsi == 4 && irq[0].level == 1);
	cr_assert(irq[1].gsi == 4 && irq[1].level == 0);
	cr_assert(irq[2].gsi == 23);
	cr_assert(irq[3].kind == IMPOST_MOCK_IRQ_MSI && irq[3].address == 0xfee01000 &&
		  irq[3].data == 0x4031);
	cr_assert(irq[4].kind == IMPOST_MOCK_IRQ_NMI && irq[4].vcpu == 0);
	cr_assert(irq[5].gsi == 100);
	mock_close(&m);
}

Test(mock_devices, routes_that_lead_nowhere_are_refused)
{
	static const struct impost_gsi_route bad[] = {
		{.gsi = 256, .type = IMPOST_ROUTE_IOAPIC},
		{.type = 0},
		{.type = 5},
		{.type = IMPOST_ROUTE_IOAPIC, .pin = 24},
		{.type = IMPOST_ROUTE_PIC_SLAVE, .pin = 8},
	};
	static const struct impost_gsi_route pin = {.type = IMPOST_ROUTE_IOAPIC};
	struct mock m;
	size_t i;

	mock_open(&m, NULL);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(impost_vm_set_gsi_routes(m.vm, &bad[i], 1), -EINVAL, "row %zu", i);
	cr_assert_eq(impost_vm_irq_line(m.vm, 4, 1), 0); /* the old ones hold */
	mock_close(&m);
	mock_open_with(&m, NULL, IMPOST_IRQCHIP_LAPIC, 1, NULL, NULL);
	cr_assert_eq(impost_vm_set_gsi_routes(m.vm, &pin, 1), -EINVAL);
	mock_close(&m);
}

/* --- claims, CPUID, vCPUs --- */

Test(mock_devices, with_io_claims_only_claimed_accesses_exit)
{
	struct mock m;

	mock_open_with(&m,
		       "[vcpu 0]\nset = rax 0\nout = 0x3f8 1 1\nin = 0x60 2\n"
		       "mmio-read = 0xd0000000 4\nout = 0x3ff 2 1\nout = 0x3ff 1 1\nhlt =\n",
		       0, 1, "io_claims", "yes");
	cr_assert_eq(impost_vm_caps(m.vm)->max_io_claims, 256);
	cr_assert_eq(impost_vm_io_claim(m.vm, IMPOST_SPACE_PIO, 0x3f8, 0x3ff), 0);
	cr_assert_eq(impost_vm_io_claim(m.vm, IMPOST_SPACE_PIO, 0x3ff, 0x400), -EEXIST);
	cr_assert_eq(impost_vm_io_claim(m.vm, IMPOST_SPACE_PIO, 2, 1), -EINVAL);
	cr_assert_eq(impost_vm_io_claim(m.vm, IMPOST_SPACE_PIO, 0, 0x10000), -EINVAL);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_IO).u.io.port, 0x3f8);
	cr_assert_eq(run_to(&m, IMPOST_EXIT_IO).u.io.size, 1); /* the wide one goes beyond */
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(rax(&m), UINT32_MAX); /* nobody's: all ones */
	cr_assert_eq(impost_vm_io_release(m.vm, IMPOST_SPACE_PIO, 0x3f8, 0x3fe), -ENOENT);
	cr_assert_eq(impost_vm_io_release(m.vm, IMPOST_SPACE_PIO, 0x3f8, 0x3ff), 0);
	cr_assert_eq(impost_vm_io_claim(m.vm, IMPOST_SPACE_PIO, 0x3ff, 0x400), 0);
	mock_close(&m);
}

static const struct impost_x86_cpuid *leaf(const struct impost_x86_cpuid *e, uint32_t count,
					   uint32_t number)
{
	uint32_t i;

	for (i = 0; i < count && e[i].leaf != number; i++)
		;
	cr_assert_lt(i, count, "no leaf %#x", number);
	return &e[i];
}

Test(mock_devices, the_cpu_is_consistent_with_itself)
{
	struct impost_x86_cpuid e[64];
	char name[13] = {0};
	uint32_t count, i, k;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vm_cpuid_supported(m.vm, e, 1, &count), -ENOSPC);
	cr_assert_leq(count, 64);
	cr_assert_eq(impost_vm_cpuid_supported(m.vm, e, 64, &count), 0);
	for (i = 0; i < count; i++) {
		uint32_t top = e[i].leaf & 0xf0000000;

		cr_expect_leq(e[i].leaf, leaf(e, count, top)->eax, "leaf %#x", e[i].leaf);
		for (k = 0; k < i; k++)
			cr_expect(e[i].leaf != e[k].leaf || e[i].subleaf != e[k].subleaf);
	}
	memcpy(name, &leaf(e, count, 0)->ebx, 4);
	memcpy(name + 4, &leaf(e, count, 0)->edx, 4);
	memcpy(name + 8, &leaf(e, count, 0)->ecx, 4);
	cr_expect_str_eq(name, "Impost Mock ");
	memcpy(name, &leaf(e, count, 0x40000000)->ebx, 12);
	cr_expect_str_eq(name, "Impost Mock ");
	cr_expect_eq(leaf(e, count, 0x80000008)->eax & 0xff, impost_vm_caps(m.vm)->phys_bits);
	cr_expect(leaf(e, count, 1)->ecx >> 31 & 1, "runs under a hypervisor");
	cr_expect(leaf(e, count, 0x80000001)->edx >> 29 & 1, "has long mode");
	cr_expect(leaf(e, count, 0x80000001)->edx >> 20 & 1, "has NX");
	mock_close(&m);
}

Test(mock_devices, cpuid_is_set_before_the_first_run)
{
	struct impost_x86_cpuid e[2] = {{.leaf = 0}, {.leaf = 0x80000008, .eax = 48}};
	struct impost_x86_cpuid got[2];
	struct impost_x86_sregs s;
	uint32_t count;
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\n");
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[0], e, 2), 0);
	cr_assert_eq(impost_vcpu_get_cpuid(m.cpu[0], got, 2, &count), 0);
	cr_assert_eq(memcmp(e, got, sizeof(e)), 0);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[0], &s), 0);
	s.cr3 = UINT64_C(1) << 47; /* 48 bits of address are there now */
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &s), 0);
	s.cr3 = UINT64_C(1) << 48;
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &s), -IMPOST_ESTATE);
	e[1].leaf = 0;
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[0], e, 2), -EINVAL);
	cr_assert(strstr(impost_error(m.ctx), "is there twice"));
	e[1] = (struct impost_x86_cpuid){.leaf = 7, .subleaf = 1, .reserved = 2};
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[0], e, 2), -EINVAL);
	cr_assert(strstr(impost_error(m.ctx), "leaf 0x7, sub-leaf 0x1: reserved is 0x2"), "%s",
		  impost_error(m.ctx));
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[0], NULL, 2), -EINVAL);
	cr_assert_eq(impost_vcpu_get_cpuid(m.cpu[0], e, 2, &count), 0);
	cr_assert_eq(memcmp(e, got, sizeof(e)), 0, "it is as it was");
	long_mode(&m, m.cpu[0]);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[0], e, 1), -EBUSY);
	mock_close(&m);
}

Test(mock_devices, cpuid_can_be_the_vms)
{
	struct impost_x86_cpuid e = {.leaf = 1, .ebx = 0x800}, got;
	uint32_t count;
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nhlt =\n", 0, 2, "cpuid", "vm");
	cr_assert_eq(impost_vm_set_cpuid(m.vm, &e, 1), 0);
	cr_assert_eq(impost_vcpu_get_cpuid(m.cpu[1], &got, 1, &count), 0);
	cr_assert_eq(got.ebx, 0x01000800, "the APIC id is each one's own");
	e.reserved = 1;
	cr_assert_eq(impost_vm_set_cpuid(m.vm, &e, 1), -EINVAL);
	cr_assert_eq(impost_vcpu_set_cpuid(m.cpu[1], &e, 1), -EINVAL);
	e.reserved = 0;
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vm_set_cpuid(m.vm, &e, 1), -EBUSY);
	mock_close(&m);
}

Test(mock_devices, vcpus_have_ids_and_a_number)
{
	struct impost_vcpu *cpu;
	struct mock m;

	mock_open_with(&m, NULL, 0, 2, NULL, NULL);
	cr_assert_eq(impost_vcpu_create(m.vm, 1, &cpu), -EEXIST);
	cr_assert_eq(impost_vcpu_create(m.vm, 5000, &cpu), -EINVAL);
	cr_assert_eq(impost_vcpu_create(m.vm, 7, &cpu), -ENOSPC);
	cr_assert_eq(impost_vcpu_destroy(m.cpu[1]), 0);
	m.cpu[1] = NULL;
	cr_assert_eq(impost_vcpu_create(m.vm, 4095, &m.cpu[1]), 0);
	mock_close(&m);
}

/* What leaf LEAF has in REGISTER, 0 for ECX and 1 for EDX, goes without BIT. */
static void hide(struct mock *m, uint32_t leaf_number, int edx, uint32_t bit)
{
	struct impost_x86_cpuid e[64];
	uint32_t count;

	cr_assert_eq(impost_vcpu_get_cpuid(m->cpu[0], e, 64, &count), 0);
	for (uint32_t i = 0; i < count; i++)
		if (e[i].leaf == leaf_number)
			*(edx ? &e[i].edx : &e[i].ecx) &= ~(UINT32_C(1) << bit);
	cr_assert_eq(impost_vcpu_set_cpuid(m->cpu[0], e, count), 0, "%s", impost_error(m->ctx));
}

Test(mock_devices, five_levels_are_there_only_if_cpuid_says_so)
{
	struct impost_x86_sregs s;
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[0], &s), 0);
	s.cr4 |= 1u << 12;
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &s), 0);
	hide(&m, 7, 0, 16);
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[0], &s), -IMPOST_ESTATE);
	cr_assert(strstr(impost_error(m.ctx), "LA57"), "%s", impost_error(m.ctx));
	mock_close(&m);
}

/* Without them, the bit that makes an entry a page is reserved (SDM vol. 3, table 4-16). */
Test(mock_devices, pages_of_1_gib_are_there_only_if_cpuid_says_so)
{
	struct mock m;

	mock_open(&m, "[vcpu 0]\nhlt =\n");
	put64(&m, PDPT, 0x83);
	hide(&m, 0x80000001, 1, 26);
	run_expecting(&m, IMPOST_EXIT_FAIL_ENTRY, "reserved bits");
	mock_close(&m);
	mock_open(&m, "[vcpu 0]\nhlt =\n");
	put64(&m, PDPT, 0x83);
	run_to(&m, IMPOST_EXIT_HLT);
	mock_close(&m);
}

/* One byte holds an id in xAPIC mode, and 255 is all CPUs. */
Test(mock_devices, ids_above_254_need_x2apic_mode)
{
	struct impost_x86_lapic lapic;
	struct impost_x86_sregs sregs;
	uint32_t bytes, id = 0;
	struct mock m;

	for (uint32_t i = 254; i <= 300; i += i == 255 ? 45 : 1) {
		mock_open_with(&m, NULL, 0, 2, NULL, NULL);
		cr_assert_eq(impost_vcpu_destroy(m.cpu[1]), 0);
		cr_assert_eq(impost_vcpu_create(m.vm, i, &m.cpu[1]), 0);
		cr_assert_eq(impost_vcpu_get(m.cpu[1], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic),
					     &bytes),
			     0);
		cr_assert_eq(impost_vcpu_set(m.cpu[1], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic)),
			     i == 254 ? 0 : -IMPOST_ESTATE);
		cr_assert(i == 254 || strstr(impost_error(m.ctx), "x2APIC mode"), "%s",
			  impost_error(m.ctx));
		cr_assert_eq(impost_vcpu_get_sregs(m.cpu[1], &sregs), 0);
		impost_x86_setup_x2apic(&sregs, &lapic, i);
		cr_assert_eq(impost_vcpu_set_sregs(m.cpu[1], &sregs), 0);
		cr_assert_eq(impost_vcpu_set(m.cpu[1], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic)),
			     0, "%s", impost_error(m.ctx));
		cr_assert_eq(impost_vcpu_get(m.cpu[1], IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic),
					     &bytes),
			     0);
		memcpy(&id, lapic.regs + 0x20, sizeof(id));
		cr_assert_eq(id, i);
		mock_close(&m);
	}
}

/* INIT and startup IPI leave the APIC in its mode (SDM vol. 3, 11.12.5.1). */
Test(mock_devices, a_startup_ipi_keeps_x2apic_mode)
{
	struct impost_x86_runstate waits = {sizeof(waits), IMPOST_X86_WAIT_FOR_SIPI};
	struct impost_x86_lapic lapic = {.size = sizeof(lapic)};
	struct impost_x86_sregs sregs;
	struct impost_exit x;
	struct mock m;

	mock_open_with(&m, "[vcpu 0]\nsipi = 1 0x10\nhlt =\n[vcpu 1]\nhlt =\n", 0, 2, NULL, NULL);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[1], &sregs), 0);
	impost_x86_setup_x2apic(&sregs, &lapic, 1);
	cr_assert_eq(impost_vcpu_set_sregs(m.cpu[1], &sregs), 0);
	cr_assert_eq(impost_vcpu_set(m.cpu[1], IMPOST_SECTION_RUNSTATE, &waits, sizeof(waits)), 0);
	run_to(&m, IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_run(m.cpu[1], &x), 0);
	cr_assert_eq(x.kind, (uint32_t)IMPOST_EXIT_HLT);
	cr_assert_eq(impost_vcpu_get_sregs(m.cpu[1], &sregs), 0);
	cr_assert_eq(sregs.apic_base & 0xc00, 0xc00u);
	cr_assert_eq(sregs.cs.base, 0x10000u);
	mock_close(&m);
}

/* As many vCPUs as there can be, with gaps between their ids, in no great time. */
Test(mock_devices, a_thousand_vcpus, .timeout = 20)
{
	static struct impost_vcpu *cpu[1024];
	struct impost_vm_config config;
	struct impost_vcpu *more;
	struct mock m;

	cr_assert_eq(mock_try(&m, NULL, 0, 1025, NULL, NULL), -EINVAL);
	cr_assert_eq(impost_vm_config_init(m.ctx, &config), 0);
	config.backend = "mock";
	config.cpus = 1024;
	cr_assert_eq(impost_vm_create(m.ctx, &config, &m.vm), 0, "%s", impost_error(m.ctx));
	for (uint32_t i = 0; i < 1024; i++)
		cr_assert_eq(impost_vcpu_create(m.vm, i * 4, &cpu[i]), 0, "%u: %s", i,
			     impost_error(m.ctx));
	cr_assert_eq(impost_vcpu_create(m.vm, 1, &more), -ENOSPC);
	for (uint32_t i = 0; i < 1024; i++)
		cr_assert_eq(impost_vcpu_destroy(cpu[i]), 0);
	mock_close(&m);
}

Test(mock_devices, guest_debug_is_checked)
{
	struct impost_guest_debug debug = {.size = sizeof(debug), .flags = 8};
	struct mock m;

	mock_open(&m, NULL);
	cr_assert_eq(impost_vcpu_guest_debug(m.cpu[0], &debug), -EINVAL);
	debug.flags = IMPOST_DEBUG_SINGLE_STEP;
	cr_assert_eq(impost_vcpu_guest_debug(m.cpu[0], &debug), 0);
	mock_close(&m);
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

Test(mock_devices, nothing_stays_open)
{
	struct impost_irqfd f = {.size = sizeof(f), .gsi = 5, .resample_fd = -1};
	struct impost_ioeventfd p = {
		.size = sizeof(p), .space = IMPOST_SPACE_PIO, .address = 0x510};
	unsigned before;
	struct mock m;

	mock_open(&m, NULL); /* what the first one opens for good is not counted */
	mock_close(&m);
	before = open_fds();
	f.fd = p.fd = eventfd(0, EFD_CLOEXEC);
	mock_open_with(&m, "[vcpu 0]\nhlt =\n", 0, 3, NULL, NULL);
	cr_assert_eq(impost_vm_irqfd(m.vm, &f), 0);
	cr_assert_eq(impost_vm_ioeventfd(m.vm, &p), 0);
	mock_close(&m);
	close(f.fd);
	cr_assert_eq(open_fds(), before);
}
