/* SPDX-License-Identifier: Apache-2.0 */
/* Lines, messages, routes, eventfds, NMIs and injected vectors reach the guest. */
#include <sys/eventfd.h>
#include <unistd.h>

#include <impost/mock.h>

#include "common.h"

#define APIC_ADDRESS UINT64_C(0xfee00000) /* fixed delivery to APIC 0 (SDM vol. 3, 11.11.1) */

/* again: sti; hlt; jmp again. The handler at HANDLER tells that it ran: out 0x81, al; then IRET. */
static void wait_for_interrupts(struct box *box, uint32_t irqchip, uint8_t vector)
{
	/* mov al, 0x20; out 0x20, al would leave to the host; so the kernel's PICs run in automatic
	 * EOI mode. */
	const uint8_t handler[] = {0xe6, 0x81, 0xcf};

	box_open(box, 1, irqchip);
	box_need(box, IMPOST_CAP_EXECUTES);
	OK(box, impost_memory_write(box->memory, HANDLER, handler, sizeof(handler)));
	real_vector(box, vector, HANDLER);
	enter_real(box, box->vcpu, GUEST(0xfb, 0xf4, 0xeb, 0xfc));
}

static void expect_handler(struct box *box)
{
	struct impost_exit exit;

	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x81u);
	finish(box, box->vcpu);
}

/* Lets the master PIC give vectors 0x20 up, with nothing masked. */
static void pic_on(struct box *box)
{
	struct impost_x86_pic pic;
	uint32_t size;

	OK(box, impost_vm_get(box->vm, IMPOST_SECTION_PIC, &pic, sizeof(pic), &size));
	pic.chip[0].irq_base = 0x20;
	pic.chip[0].imr = 0;
	pic.chip[0].auto_eoi = 1;
	pic.chip[0].init_state = 0;
	OK(box, impost_vm_set(box->vm, IMPOST_SECTION_PIC, &pic, size));
}

Test(interrupts, line_through_the_pic, .timeout = 60)
{
	struct box box;

	wait_for_interrupts(&box, IMPOST_IRQCHIP_FULL, 0x25);
	box_need(&box, IMPOST_CAP_IRQ_LINE);
	lapic_on(&box, box.vcpu);
	pic_on(&box);
	for (int i = 0; i < 5; i++) {
		OK(&box, impost_vm_irq_line(box.vm, 5, 1));
		OK(&box, impost_vm_irq_line(box.vm, 5, 0));
		expect_handler(&box);
	}
	box_close(&box);
}

Test(interrupts, line_that_is_none)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_IRQ_LINE);
	REFUSED(&box, EINVAL, impost_vm_irq_line(box.vm, box.caps->max_gsis, 1));
	REFUSED(&box, EINVAL, impost_vm_irq_line(box.vm, 3, 2));
	box_close(&box);
}

static void end_of_interrupt(struct box *box)
{
	struct impost_x86_lapic lapic;
	uint32_t size;

	/* The guest writes no EOI: take the in-service bits away for it. */
	OK(box, impost_vcpu_get(box->vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &size));
	for (uint32_t reg = 0x100; reg < 0x180; reg += 16)
		memset(lapic.regs + reg, 0, 4);
	OK(box, impost_vcpu_set(box->vcpu, IMPOST_SECTION_LAPIC, &lapic, size));
}

static void message(uint32_t irqchip)
{
	struct box box;

	wait_for_interrupts(&box, irqchip, 0x41);
	box_need(&box, IMPOST_CAP_MSI);
	lapic_on(&box, box.vcpu);
	for (int i = 0; i < 5; i++) {
		OK(&box, impost_vm_msi(box.vm, APIC_ADDRESS, 0x41));
		expect_handler(&box);
		end_of_interrupt(&box);
	}
	box_close(&box);
}

Test(interrupts, message_with_the_full_irqchip, .timeout = 60)
{
	message(IMPOST_IRQCHIP_FULL);
}

Test(interrupts, message_with_local_apics, .timeout = 60)
{
	message(IMPOST_IRQCHIP_LAPIC);
}

#define MESSAGE_CPUS 3u

static bool has_request(struct box *box, struct impost_vcpu *vcpu, uint32_t vector)
{
	struct impost_x86_lapic lapic;
	uint32_t size;

	OK(box, impost_vcpu_get(vcpu, IMPOST_SECTION_LAPIC, &lapic, sizeof(lapic), &size));
	return lapic.regs[0x200 + vector / 32 * 16 + vector % 32 / 8] >> (vector % 8) & 1;
}

/* What a backend that plays guests was told. */
static void expect_in_log(struct box *box, uint32_t index, uint64_t address, uint32_t data)
{
	const struct impost_mock_control *mock;
	struct impost_mock_irq irq = {.kind = 0};
	const void *table;
	void *handle;

	OK(box, impost_vm_extension(box->vm, IMPOST_MOCK_CONTROL, &table, &handle));
	mock = table;
	OK(box, mock->irq(handle, index, &irq));
	cr_assert_eq(irq.kind, IMPOST_MOCK_IRQ_MSI);
	cr_assert_eq(irq.address, address, "it came as one to 0x%llx",
		     (unsigned long long)irq.address);
	cr_assert_eq(irq.data, data);
}

/* A message is accepted by the vCPU that it names, and by no other (SDM vol. 3, 11.11.1). */
Test(interrupts, message_to_each_vcpu, .timeout = 60)
{
	struct impost_vcpu *vcpu[MESSAGE_CPUS];
	struct box box;

	box_open(&box, MESSAGE_CPUS, IMPOST_IRQCHIP_LAPIC);
	box_need(&box, IMPOST_CAP_MSI);
	vcpu[0] = box.vcpu;
	for (uint32_t i = 1; i < MESSAGE_CPUS; i++)
		OK(&box, impost_vcpu_create(box.vm, i, &vcpu[i]));
	for (uint32_t i = 0; i < MESSAGE_CPUS; i++)
		lapic_on(&box, vcpu[i]);
	for (uint32_t i = 0; i < MESSAGE_CPUS; i++) {
		const uint32_t vector = 0x41 + i;

		OK(&box, impost_vm_msi(box.vm, APIC_ADDRESS | i << 12, vector));
		if (!impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
			expect_in_log(&box, i, APIC_ADDRESS | i << 12, vector);
		for (uint32_t k = 0; k < MESSAGE_CPUS; k++)
			if (impost_caps_has(box.caps, IMPOST_CAP_EXECUTES))
				cr_assert_eq(has_request(&box, vcpu[k], vector), k == i,
					     "vector 0x%x and vCPU %u", vector, k);
	}
	for (uint32_t i = 1; i < MESSAGE_CPUS; i++)
		OK(&box, impost_vcpu_destroy(vcpu[i]));
	box_close(&box);
}

Test(interrupts, routed_eventfd, .timeout = 60)
{
	const struct impost_gsi_route route = {
		.gsi = 30, .type = IMPOST_ROUTE_MSI, .msi_address = APIC_ADDRESS, .msi_data = 0x42};
	struct impost_irqfd irqfd = {.size = sizeof(irqfd), .gsi = 30, .resample_fd = -1};
	const uint64_t one = 1;
	struct box box;

	wait_for_interrupts(&box, IMPOST_IRQCHIP_FULL, 0x42);
	box_need(&box, IMPOST_CAP_IRQFD);
	box_need(&box, IMPOST_CAP_GSI_ROUTES);
	lapic_on(&box, box.vcpu);
	OK(&box, impost_vm_set_gsi_routes(box.vm, &route, 1));
	irqfd.fd = eventfd(0, EFD_CLOEXEC);
	OK(&box, impost_vm_irqfd(box.vm, &irqfd));
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(write(irqfd.fd, &one, sizeof(one)), (ssize_t)sizeof(one));
		expect_handler(&box);
		end_of_interrupt(&box);
	}
	/* The line by hand goes the same way. */
	OK(&box, impost_vm_irq_line(box.vm, 30, 1));
	expect_handler(&box);
	irqfd.remove = 1;
	OK(&box, impost_vm_irqfd(box.vm, &irqfd));
	close(irqfd.fd);
	box_close(&box);
}

Test(interrupts, bad_routes_leave_the_table_as_it_was)
{
	static const struct impost_gsi_route bad[] = {
		{.gsi = 3, .type = IMPOST_ROUTE_IOAPIC, .pin = 24},
		{.gsi = 3, .type = IMPOST_ROUTE_PIC_MASTER, .pin = 8},
		{.gsi = 3, .type = 99, .pin = 0},
		{.gsi = 0x7fffffff, .type = IMPOST_ROUTE_MSI},
	};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_GSI_ROUTES);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		REFUSED(&box, EINVAL, impost_vm_set_gsi_routes(box.vm, &bad[i], 1));
	/* Still the table that the VM began with. */
	OK(&box, impost_vm_irq_line(box.vm, 23, 0));
	box_close(&box);
}

Test(interrupts, nothing_is_sent_where_there_is_no_controller)
{
	struct impost_irqfd irqfd = {.size = sizeof(irqfd), .gsi = 5, .resample_fd = -1};
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	REFUSED(&box, ENOTSUP, impost_vm_irq_line(box.vm, 5, 1));
	REFUSED(&box, ENOTSUP, impost_vm_msi(box.vm, APIC_ADDRESS, 0x41));
	REFUSED(&box, ENOTSUP, impost_vm_set_gsi_routes(box.vm, NULL, 0));
	irqfd.fd = eventfd(0, EFD_CLOEXEC);
	REFUSED(&box, ENOTSUP, impost_vm_irqfd(box.vm, &irqfd));
	close(irqfd.fd);
	box_close(&box);
}

Test(interrupts, injection_is_for_vms_without_controllers)
{
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	REFUSED(&box, ENOTSUP, impost_vcpu_irq_inject(box.vcpu, 0x41));
	box_close(&box);
}

Test(interrupts, a_port_signals_an_eventfd, .timeout = 60)
{
	struct impost_ioeventfd io = {.size = sizeof(io),
				      .space = IMPOST_SPACE_PIO,
				      .address = 0x510,
				      .bytes = 1,
				      .match = 0x33,
				      .has_match = 1};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint64_t count;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_IOEVENTFD);
	io.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	OK(&box, impost_vm_ioeventfd(box.vm, &io));
	/* out dx, al; out dx, al; inc al; out dx, al */
	enter_real(&box, box.vcpu, GUEST(0xee, 0xee, 0xfe, 0xc0, 0xee, 0xf4));
	regs = regs_of(&box, box.vcpu);
	regs.rdx = 0x510;
	regs.rax = 0x33;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(*(uint8_t *)exit.u.io.data, 0x34u, "only the value asked for is silent");
	cr_assert_eq(read(io.fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_assert_eq(count, 2u);
	io.remove = 1;
	OK(&box, impost_vm_ioeventfd(box.vm, &io));
	finish(&box, box.vcpu);
	regs.rip = CODE;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(*(uint8_t *)exit.u.io.data, 0x33u);
	close(io.fd);
	box_close(&box);
}

Test(interrupts, memory_signals_an_eventfd, .timeout = 60)
{
	struct impost_ioeventfd io = {
		.size = sizeof(io), .space = IMPOST_SPACE_MMIO, .address = HOLE, .bytes = 4};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint64_t count;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_IOEVENTFD);
	io.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	OK(&box, impost_vm_ioeventfd(box.vm, &io));
	/* mov [rdi], eax; mov [rdi + 4], eax */
	enter_long(&box, box.vcpu, GUEST(0x89, 0x07, 0x89, 0x47, 0x04, 0xf4));
	regs = regs_of(&box, box.vcpu);
	regs.rdi = HOLE;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_MMIO, &exit);
	cr_assert_eq(exit.u.mmio.gpa, HOLE + 4);
	cr_assert_eq(read(io.fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_assert_eq(count, 1u);
	io.remove = 1;
	OK(&box, impost_vm_ioeventfd(box.vm, &io));
	close(io.fd);
	box_close(&box);
}

Test(interrupts, nmi_needs_no_interrupt_flag, .timeout = 60)
{
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_DEFAULT);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_NMI);
	OK(&box, impost_memory_write(box.memory, HANDLER, (uint8_t[]){0xe6, 0x81, 0xcf}, 3));
	real_vector(&box, 2, HANDLER);
	enter_real(&box, box.vcpu, GUEST(0xe6, 0x80, 0xeb, 0xfc));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x80u);
	OK(&box, impost_vcpu_nmi(box.vcpu));
	expect_handler(&box);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x80u, "after IRET");
	box_close(&box);
}

/*
 * cli; out 0x80, al; out 0x80, al; sti; again: cmp bx, 0; je again; out 0x82, al; hlt. The vector
 * waits until interrupts are enabled; its handler sets BX.
 */
#define ENABLE_AND_WAIT \
	GUEST(0xfa, 0xe6, 0x80, 0xe6, 0x80, 0xfb, 0x83, 0xfb, 0x00, 0x74, 0xfb, 0xe6, 0x82, 0xf4)

Test(interrupts, injected_vector_waits_for_the_flag, .timeout = 60)
{
	/* out 0x81, al; inc bx; iret */
	const uint8_t handler[] = {0xe6, 0x81, 0x43, 0xcf};
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_IRQ_INJECT);
	OK(&box, impost_memory_write(box.memory, HANDLER, handler, sizeof(handler)));
	real_vector(&box, 0x61, HANDLER);
	enter_real(&box, box.vcpu, ENABLE_AND_WAIT);
	OK(&box, impost_vcpu_irq_inject(box.vcpu, 0x61));
	REFUSED(&box, EBUSY, impost_vcpu_irq_inject(box.vcpu, 0x62));
	REFUSED(&box, EINVAL, impost_vcpu_irq_inject(box.vcpu, 256));
	for (int i = 0; i < 2; i++) {
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.port, 0x80u);
	}
	expect_handler(&box);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x82u);
	run_to(&box, box.vcpu, IMPOST_EXIT_HLT, &exit);
	box_close(&box);
}

/* A vector that waits is state: taken from one vCPU it comes in another. */
Test(interrupts, injected_vector_that_waits_is_saved, .timeout = 60)
{
	const uint8_t handler[] = {0xe6, 0x81, 0x43, 0xcf};
	struct impost_x86_events none, waits;
	struct impost_exit exit;
	uint32_t size;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_IRQ_INJECT);
	box_need(&box, IMPOST_CAP_EVENTS);
	OK(&box, impost_vcpu_get(box.vcpu, IMPOST_SECTION_EVENTS, &none, sizeof(none), &size));
	cr_assert(none.flags & IMPOST_X86_EVENTS_WAITING);
	cr_assert_eq(none.waiting, 0);
	OK(&box, impost_vcpu_irq_inject(box.vcpu, 0x61));
	OK(&box, impost_vcpu_get(box.vcpu, IMPOST_SECTION_EVENTS, &waits, sizeof(waits), &size));
	cr_assert_eq(waits.waiting, 1);
	cr_assert_eq(waits.waiting_vector, 0x61);
	/* Taken away, there is room for another; and what is not known of is left alone. */
	OK(&box, impost_vcpu_set(box.vcpu, IMPOST_SECTION_EVENTS, &none, sizeof(none)));
	OK(&box, impost_vcpu_irq_inject(box.vcpu, 0x62));
	none.flags &= ~IMPOST_X86_EVENTS_WAITING;
	OK(&box, impost_vcpu_set(box.vcpu, IMPOST_SECTION_EVENTS, &none, sizeof(none)));
	REFUSED(&box, EBUSY, impost_vcpu_irq_inject(box.vcpu, 0x63));
	waits.waiting = 2;
	REFUSED(&box, IMPOST_ESTATE,
		impost_vcpu_set(box.vcpu, IMPOST_SECTION_EVENTS, &waits, sizeof(waits)));
	waits.waiting = 1;
	box_need(&box, IMPOST_CAP_EXECUTES);
	OK(&box, impost_memory_write(box.memory, HANDLER, handler, sizeof(handler)));
	real_vector(&box, 0x61, HANDLER);
	enter_real(&box, box.vcpu, ENABLE_AND_WAIT);
	OK(&box, impost_vcpu_set(box.vcpu, IMPOST_SECTION_EVENTS, &waits, sizeof(waits)));
	for (int i = 0; i < 2; i++) {
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.port, 0x80u);
	}
	expect_handler(&box);
	box_close(&box);
}

Test(interrupts, no_vector_waits_for_an_irqchip)
{
	struct impost_x86_events events;
	uint32_t size;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_FULL);
	box_need(&box, IMPOST_CAP_EVENTS);
	OK(&box, impost_vcpu_get(box.vcpu, IMPOST_SECTION_EVENTS, &events, sizeof(events), &size));
	events.waiting = 1;
	events.flags |= IMPOST_X86_EVENTS_WAITING;
	REFUSED(&box, ENOTSUP,
		impost_vcpu_set(box.vcpu, IMPOST_SECTION_EVENTS, &events, sizeof(events)));
	box_close(&box);
}

/* That the host ceases to ask for a window of its own takes none from a vector that waits. */
Test(interrupts, injected_vector_outlives_the_hosts_window, .timeout = 60)
{
	const uint8_t handler[] = {0xe6, 0x81, 0x43, 0xcf};
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_IRQ_INJECT);
	box_need(&box, IMPOST_CAP_IRQ_WINDOW);
	OK(&box, impost_memory_write(box.memory, HANDLER, handler, sizeof(handler)));
	real_vector(&box, 0x61, HANDLER);
	enter_real(&box, box.vcpu, ENABLE_AND_WAIT);
	OK(&box, impost_vcpu_irq_inject(box.vcpu, 0x61));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	OK(&box, impost_vcpu_irq_window(box.vcpu, 1));
	OK(&box, impost_vcpu_irq_window(box.vcpu, 0));
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x80u);
	expect_handler(&box);
	box_close(&box);
}

Test(interrupts, window_opens_with_the_flag, .timeout = 60)
{
	struct impost_x86_regs regs;
	struct impost_exit exit;
	struct box box;

	box_open(&box, 1, IMPOST_IRQCHIP_NONE);
	box_need(&box, IMPOST_CAP_EXECUTES);
	box_need(&box, IMPOST_CAP_IRQ_WINDOW);
	enter_real(&box, box.vcpu, ENABLE_AND_WAIT);
	OK(&box, impost_vcpu_irq_window(box.vcpu, 1));
	for (int i = 0; i < 2; i++) {
		run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
		cr_assert_eq(exit.u.io.port, 0x80u);
	}
	run_to(&box, box.vcpu, IMPOST_EXIT_IRQ_WINDOW, &exit);
	OK(&box, impost_vcpu_irq_window(box.vcpu, 0));
	regs = regs_of(&box, box.vcpu);
	cr_assert(regs.rflags & 0x200, "RFLAGS.IF");
	regs.rbx = 1;
	set_regs(&box, box.vcpu, &regs);
	run_to(&box, box.vcpu, IMPOST_EXIT_IO, &exit);
	cr_assert_eq(exit.u.io.port, 0x82u);
	box_close(&box);
}
