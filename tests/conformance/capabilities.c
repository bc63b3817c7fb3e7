/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One test for each capability of caps.def, of its name: what is claimed is there and does
 * something, and what is not claimed is refused with -ENOTSUP and a text, or shows in no other way
 * either.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "section.h"
#include "writer.h"

#define APIC_0 UINT64_C(0xfee00000)

static bool has(const struct box *box, enum impost_cap cap)
{
	return impost_caps_has(box->caps, cap);
}

/* EXPR works where the capability is claimed, and is refused by its name where it is not. */
#define ASK(box, cap, expr)                                                                \
	do {                                                                               \
		if (has(box, cap)) {                                                       \
			OK(box, expr);                                                     \
			break;                                                             \
		}                                                                          \
		REFUSED(box, ENOTSUP, expr);                                               \
		cr_assert_not_null(strstr(impost_error((box)->ctx), impost_cap_name(cap)), \
				   "names no capability: %s", impost_error((box)->ctx));   \
	} while (0)

/* A capability that means nothing without another one. */
static void needs(struct box *box, enum impost_cap cap, enum impost_cap other)
{
	cr_assert(!has(box, cap) || has(box, other), "%s is claimed, %s is not",
		  impost_cap_name(cap), impost_cap_name(other));
}

static void says_nothing(struct box *box, enum impost_cap cap)
{
	char why[200];

	snprintf(why, sizeof(why), "%s does not claim %s, and promises nothing then",
		 backend_name(), impost_cap_name(cap));
	box_close(box);
	cr_skip_test("%s", why);
}

/* --- running --- */

/* The guest writes to memory; or a script, of which there is none, does not. */
static void ask_EXECUTES(struct box *box)
{
	struct impost_exit exit;
	uint32_t value = 0;

	/* mov dword [DATA], 0x12345678; out 0x80, al */
	enter_long(box, box->vcpu,
		   GUEST(0xc7, 0x04, 0x25, 0x00, 0x00, 0x01, 0x00, 0x78, 0x56, 0x34, 0x12, 0xe6,
			 0x80));
	if (has(box, IMPOST_CAP_EXECUTES)) {
		run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
		finish(box, box->vcpu);
	} else {
		OK(box, impost_vcpu_kick(box->vcpu));
		run_to(box, box->vcpu, IMPOST_EXIT_INTR, &exit);
		cr_assert_eq(regs_of(box, box->vcpu).rip, CODE);
	}
	OK(box, impost_memory_read(box->memory, DATA, &value, sizeof(value)));
	cr_assert_eq(value, has(box, IMPOST_CAP_EXECUTES) ? 0x12345678u : 0);
}

static void ask_FREE_RUNNING(struct box *box)
{
	struct pollfd none = {.fd = -1};
	uint32_t value = 0;

	needs(box, IMPOST_CAP_FREE_RUNNING, IMPOST_CAP_VM_PAUSE);
	if (has(box, IMPOST_CAP_FREE_RUNNING))
		return;
	/* inc dword [DATA]; jmp back */
	enter_long(box, box->vcpu, GUEST(0xff, 0x04, 0x25, 0x00, 0x00, 0x01, 0x00, 0xeb, 0xf7));
	poll(&none, 1, 20);
	OK(box, impost_memory_read(box->memory, DATA, &value, sizeof(value)));
	cr_assert_eq(value, 0u, "nobody called run, and the guest has run");
	cr_assert_eq(regs_of(box, box->vcpu).rip, CODE);
}

static void ask_VM_PAUSE(struct box *box)
{
	struct impost_exit exit;

	ASK(box, IMPOST_CAP_VM_PAUSE, impost_vm_pause(box->vm));
	if (has(box, IMPOST_CAP_VM_PAUSE))
		for (int i = 0; i < 3; i++)
			run_to(box, box->vcpu, IMPOST_EXIT_INTR, &exit);
	ASK(box, IMPOST_CAP_VM_PAUSE, impost_vm_resume(box->vm));
}

static void ask_VM_EVENTS(struct box *box)
{
	struct impost_exit exit = {.kind = 77};
	struct pollfd events = {.fd = -1, .events = POLLIN};

	ASK(box, IMPOST_CAP_VM_EVENTS, impost_vm_event_fd(box->vm, &events.fd));
	REFUSED(box, has(box, IMPOST_CAP_VM_EVENTS) ? EAGAIN : ENOTSUP,
		impost_vm_event(box->vm, &exit));
	cr_assert_eq(exit.kind, 77u, "no event, and yet it has written");
	if (!has(box, IMPOST_CAP_VM_EVENTS))
		return;
	cr_assert_geq(fcntl(events.fd, F_GETFD), 0, "this is no descriptor");
	cr_assert_eq(poll(&events, 1, 0), 0, "it is readable with no event there");
}

static void ask_COMPLETE(struct box *box)
{
	struct impost_exit exit;

	ASK(box, IMPOST_CAP_COMPLETE, impost_vcpu_complete(box->vcpu, &exit));
}

static int count_io(void *opaque, struct impost_vcpu *vcpu, struct impost_exit *exit)
{
	unsigned *calls = opaque;

	(void)vcpu;
	cr_assert_eq(exit->kind, IMPOST_EXIT_IO);
	cr_assert_eq(exit->u.io.port, 0x80u);
	return ++*calls == 3;
}

/* Whether the answer is asked for in the middle of a run or behind it, the loop's handler has it.
 */
static void ask_IO_CALLBACKS(struct box *box)
{
	const struct impost_handlers handlers = {.size = sizeof(handlers), .io = count_io};
	struct impost_exit exit;
	unsigned calls = 0;

	box_need(box, IMPOST_CAP_EXECUTES);
	enter_long(box, box->vcpu, GUEST(0xe6, 0x80, 0xeb, 0xfc));
	OK(box, impost_vcpu_loop(box->vcpu, &handlers, &calls, &exit));
	cr_assert_eq(calls, 3u);
	cr_assert_eq(exit.kind, IMPOST_EXIT_IO);
}

/* Where ranges need no claim, claims are nothing to do. */
static void ask_IO_CLAIMS(struct box *box)
{
	OK(box, impost_vm_io_claim(box->vm, IMPOST_SPACE_PIO, 0x510, 0x517));
	OK(box, impost_vm_io_claim(box->vm, IMPOST_SPACE_MMIO, HOLE, HOLE + 0xfff));
	REFUSED(box, EINVAL, impost_vm_io_claim(box->vm, 77, 0, 1));
	REFUSED(box, EINVAL, impost_vm_io_claim(box->vm, IMPOST_SPACE_PIO, 2, 1));
	OK(box, impost_vm_io_release(box->vm, IMPOST_SPACE_PIO, 0x510, 0x517));
	OK(box, impost_vm_io_release(box->vm, IMPOST_SPACE_MMIO, HOLE, HOLE + 0xfff));
}

static void ask_GUEST_DEBUG(struct box *box)
{
	struct impost_guest_debug debug = {.size = sizeof(debug),
					   .flags = IMPOST_DEBUG_SINGLE_STEP};

	ASK(box, IMPOST_CAP_GUEST_DEBUG, impost_vcpu_guest_debug(box->vcpu, &debug));
	debug.flags = 0;
	ASK(box, IMPOST_CAP_GUEST_DEBUG, impost_vcpu_guest_debug(box->vcpu, &debug));
}

/* Without paging an address is the same (SDM vol. 3, 4.1.1). */
static void ask_TRANSLATE(struct box *box)
{
	uint64_t gpa = 77;

	enter_real(box, box->vcpu, GUEST(0xf4));
	ASK(box, IMPOST_CAP_TRANSLATE, impost_vcpu_translate(box->vcpu, 0x12345, &gpa));
	cr_assert_eq(gpa, has(box, IMPOST_CAP_TRANSLATE) ? 0x12345u : 77u);
}

/* --- memory --- */

static void *own_pages(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(pages, MAP_FAILED);
	return pages;
}

static void ask_MEM_HOST(struct box *box)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .gpa = HOLE,
				       .bytes = 0x2000,
				       .hva = own_pages(0x2000)};
	void *hva = NULL;

	ASK(box, IMPOST_CAP_MEM_HOST, impost_memory_add(box->memory, &region));
	if (!has(box, IMPOST_CAP_MEM_HOST))
		return;
	OK(box, impost_memory_ptr(box->memory, HOLE, 0x2000, &hva));
	cr_assert_eq(hva, region.hva);
	OK(box, impost_memory_remove(box->memory, HOLE));
}

static void ask_MEM_BACKEND(struct box *box)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_BACKEND,
				       .gpa = HOLE,
				       .bytes = 0x2000};
	uint8_t page[0x2000];

	ASK(box, IMPOST_CAP_MEM_BACKEND, impost_memory_add(box->memory, &region));
	if (!has(box, IMPOST_CAP_MEM_BACKEND))
		return;
	OK(box, impost_memory_read(box->memory, HOLE, page, sizeof(page)));
	for (size_t i = 0; i < sizeof(page); i++)
		cr_assert_eq(page[i], 0, "new memory is not zero");
	OK(box, impost_memory_fill(box->memory, HOLE, 0x5a, sizeof(page)));
	OK(box, impost_memory_read(box->memory, HOLE + 0xfff, page, 2));
	cr_assert(page[0] == 0x5a && page[1] == 0x5a);
	OK(box, impost_memory_remove(box->memory, HOLE));
}

/* Where memory does not move it stays where it is, whatever comes and goes beside it. */
static void ask_MEM_MOVES(struct box *box)
{
	void *hva;

	needs(box, IMPOST_CAP_MEM_MOVES, IMPOST_CAP_MEM_BACKEND);
	if (has(box, IMPOST_CAP_MEM_MOVES))
		return;
	add_region(box, HOLE, 4);
	OK(box, impost_vm_hold(box->vm, 20000));
	OK(box, impost_vm_release(box->vm));
	OK(box, impost_memory_remove(box->memory, HOLE));
	OK(box, impost_memory_ptr(box->memory, 0, RAM_BYTES, &hva));
	cr_assert_eq(hva, (void *)box->ram);
}

/* vmsplice(2) takes hold of the pages themselves. */
static void ask_MEM_PINNABLE(struct box *box)
{
	struct iovec page = {.iov_base = box->ram + DATA, .iov_len = 4096};
	uint8_t got[4096];
	int ends[2];

	if (!has(box, IMPOST_CAP_MEM_PINNABLE)) {
		says_nothing(box, IMPOST_CAP_MEM_PINNABLE);
		return;
	}
	memset(page.iov_base, 0x3c, page.iov_len);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_assert_eq(vmsplice(ends[1], &page, 1, 0), 4096);
	cr_assert_eq(read(ends[0], got, sizeof(got)), 4096);
	cr_assert_eq(got[4095], 0x3c);
	close(ends[0]);
	close(ends[1]);
}

/* One page at two addresses: what is written at one is read at the other. */
static void ask_MEM_ALIAS(struct box *box)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_POINTER,
				       .gpa = HOLE,
				       .bytes = 0x1000,
				       .hva = own_pages(0x1000)};
	uint32_t value = 0x77;

	if (!has(box, IMPOST_CAP_MEM_ALIAS)) {
		says_nothing(box, IMPOST_CAP_MEM_ALIAS);
		return;
	}
	needs(box, IMPOST_CAP_MEM_ALIAS, IMPOST_CAP_MEM_HOST);
	OK(box, impost_memory_add(box->memory, &region));
	region.gpa += 0x10000;
	OK(box, impost_memory_add(box->memory, &region));
	OK(box, impost_memory_write(box->memory, HOLE, &value, sizeof(value)));
	value = 0;
	OK(box, impost_memory_read(box->memory, region.gpa, &value, sizeof(value)));
	cr_assert_eq(value, 0x77u);
	OK(box, impost_memory_remove(box->memory, region.gpa));
	OK(box, impost_memory_remove(box->memory, HOLE));
}

/* With one of the two kinds the guest cannot write, and the host can. */
static void read_only(struct box *box, enum impost_cap cap, enum impost_cap other)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = 0x1000,
				       .flags = IMPOST_REGION_READONLY};
	uint32_t value = 0x42;

	if (!has(box, cap) && !has(box, other)) {
		REFUSED(box, ENOTSUP, impost_memory_add(box->memory, &region));
		return;
	}
	OK(box, impost_memory_add(box->memory, &region));
	OK(box, impost_memory_write(box->memory, HOLE, &value, sizeof(value)));
	value = 0;
	OK(box, impost_memory_read(box->memory, HOLE, &value, sizeof(value)));
	cr_assert_eq(value, 0x42u);
	OK(box, impost_memory_remove(box->memory, HOLE));
}

static void ask_MEM_READONLY(struct box *box)
{
	read_only(box, IMPOST_CAP_MEM_READONLY, IMPOST_CAP_MEM_ROM_DROP);
}

/* The guest's write leads to no exit and changes nothing, where it can be tried. */
static void ask_MEM_ROM_DROP(struct box *box)
{
	struct impost_region region = {.size = sizeof(region),
				       .kind = IMPOST_REGION_ANONYMOUS,
				       .gpa = HOLE,
				       .bytes = 0x1000,
				       .flags = IMPOST_REGION_READONLY};
	struct impost_x86_regs regs;
	struct impost_exit exit;
	uint32_t value = 1;

	read_only(box, IMPOST_CAP_MEM_ROM_DROP, IMPOST_CAP_MEM_READONLY);
	if (!has(box, IMPOST_CAP_MEM_ROM_DROP) || has(box, IMPOST_CAP_MEM_READONLY) ||
	    !has(box, IMPOST_CAP_EXECUTES))
		return;
	OK(box, impost_memory_add(box->memory, &region));
	/* mov [rdi], edi; out 0x80, al */
	enter_long(box, box->vcpu, GUEST(0x89, 0x3f, 0xe6, 0x80));
	regs = regs_of(box, box->vcpu);
	regs.rdi = HOLE;
	set_regs(box, box->vcpu, &regs);
	run_to(box, box->vcpu, IMPOST_EXIT_IO, &exit);
	finish(box, box->vcpu);
	OK(box, impost_memory_read(box->memory, HOLE, &value, sizeof(value)));
	cr_assert_eq(value, 0u);
	OK(box, impost_memory_remove(box->memory, HOLE));
}

/* --- dirty logs --- */

static void ask_DIRTY_LOG(struct box *box)
{
	uint64_t bitmap[RAM_BYTES / PAGE / 64] = {0};

	ASK(box, IMPOST_CAP_DIRTY_LOG, impost_vm_dirty_start(box->vm, 0));
	if (has(box, IMPOST_CAP_DIRTY_LOG))
		REFUSED(box, EEXIST, impost_vm_dirty_start(box->vm, 0));
	ASK(box, IMPOST_CAP_DIRTY_LOG,
	    impost_vm_dirty_fetch(box->vm, 0, bitmap, RAM_BYTES / PAGE / 64));
	ASK(box, IMPOST_CAP_DIRTY_LOG, impost_vm_dirty_stop(box->vm, 0));
	if (has(box, IMPOST_CAP_DIRTY_LOG))
		REFUSED(box, ENOENT, impost_vm_dirty_stop(box->vm, 0));
}

static void ask_DIRTY_MANUAL(struct box *box)
{
	const uint64_t all[RAM_BYTES / PAGE / 64] = {UINT64_MAX, UINT64_MAX, UINT64_MAX,
						     UINT64_MAX};

	needs(box, IMPOST_CAP_DIRTY_MANUAL, IMPOST_CAP_DIRTY_LOG);
	box_need(box, IMPOST_CAP_DIRTY_LOG);
	OK(box, impost_vm_dirty_start(box->vm, 0));
	ASK(box, IMPOST_CAP_DIRTY_MANUAL,
	    impost_vm_dirty_clear(box->vm, 0, 0, RAM_BYTES / PAGE, all));
	if (!has(box, IMPOST_CAP_DIRTY_MANUAL))
		return;
	REFUSED(box, EINVAL, impost_vm_dirty_clear(box->vm, 0, 1, 1, all));
	REFUSED(box, EINVAL, impost_vm_dirty_clear(box->vm, 0, 64, RAM_BYTES / PAGE, all));
	OK(box, impost_vm_dirty_stop(box->vm, 0));
}

static void ask_DIRTY_INITIALLY_SET(struct box *box)
{
	const uint64_t want = has(box, IMPOST_CAP_DIRTY_INITIALLY_SET) ? UINT64_MAX : 0;
	uint64_t bitmap[RAM_BYTES / PAGE / 64] = {0};

	needs(box, IMPOST_CAP_DIRTY_INITIALLY_SET, IMPOST_CAP_DIRTY_LOG);
	box_need(box, IMPOST_CAP_DIRTY_LOG);
	for (int i = 0; i < 2; i++) {
		memset(bitmap, 0, sizeof(bitmap));
		OK(box, impost_vm_dirty_start(box->vm, 0));
		OK(box, impost_vm_dirty_fetch(box->vm, 0, bitmap, RAM_BYTES / PAGE / 64));
		for (size_t k = 0; k < RAM_BYTES / PAGE / 64; k++)
			cr_assert_eq(bitmap[k], want, "word %zu of start %d", k, i);
		OK(box, impost_vm_dirty_stop(box->vm, 0));
	}
}

/* A log by page is a log, and takes what is written into account page by page. */
static void ask_DIRTY_RING(struct box *box)
{
	needs(box, IMPOST_CAP_DIRTY_RING, IMPOST_CAP_DIRTY_LOG);
	cr_assert(!has(box, IMPOST_CAP_DIRTY_RING) || !has(box, IMPOST_CAP_DIRTY_INITIALLY_SET),
		  "a ring holds what was written, not everything");
}

/* Told or not, a reader of dirty pages has what the host wrote. */
static void ask_MARK_DIRTY(struct box *box)
{
	struct impost_dirty_config config = {.size = sizeof(config)};
	struct impost_dirty *dirty;
	struct impost_range range;
	uint64_t count = 0;
	uint8_t byte = 1;

	OK(box, impost_dirty_create(box->memory, &config, &dirty));
	OK(box, impost_dirty_sync(dirty));
	do
		OK(box, impost_dirty_take(dirty, &range, 1, &count));
	while (count);
	OK(box, impost_memory_write(box->memory, 5 * PAGE + 7, &byte, 1));
	OK(box, impost_dirty_sync(dirty));
	OK(box, impost_dirty_take(dirty, &range, 1, &count));
	cr_assert_eq(count, 1u);
	cr_assert_eq(range.gpa, 5 * PAGE);
	cr_assert_eq(range.bytes, PAGE);
	OK(box, impost_dirty_take(dirty, &range, 1, &count));
	cr_assert_eq(count, 0u, "another page is there");
	OK(box, impost_dirty_destroy(dirty));
}

/* --- interrupts --- */

/* A second VM, with IRQCHIP. */
static void irqchip(struct box *box, enum impost_cap cap, uint32_t chip)
{
	struct impost_vm *const none = (struct impost_vm *)16;
	struct impost_vm_config config;
	struct impost_vm *vm = none;

	OK(box, impost_vm_config_init(box->ctx, &config));
	config.backend = backend_name();
	config.irqchip = chip;
	ASK(box, cap, impost_vm_create(box->ctx, &config, &vm));
	if (!has(box, cap)) {
		cr_assert_eq(vm, none, "a refused create has written");
		return;
	}
	cr_assert_eq(impost_vm_irqchip(vm), chip);
	OK(box, impost_vm_destroy(vm));
}

static void ask_IRQCHIP_NONE(struct box *box)
{
	irqchip(box, IMPOST_CAP_IRQCHIP_NONE, IMPOST_IRQCHIP_NONE);
}

static void ask_IRQCHIP_LAPIC(struct box *box)
{
	irqchip(box, IMPOST_CAP_IRQCHIP_LAPIC, IMPOST_IRQCHIP_LAPIC);
}

static void ask_IRQCHIP_FULL(struct box *box)
{
	irqchip(box, IMPOST_CAP_IRQCHIP_FULL, IMPOST_IRQCHIP_FULL);
}

/* The PIC's requests show the level of line 3, where a PIC is. */
static void ask_IRQ_LINE(struct box *box)
{
	needs(box, IMPOST_CAP_IRQ_LINE, IMPOST_CAP_IRQCHIP_FULL);
	ASK(box, IMPOST_CAP_IRQ_LINE, impost_vm_irq_line(box->vm, 3, 1));
	ASK(box, IMPOST_CAP_IRQ_LINE, impost_vm_irq_line(box->vm, 3, 0));
	if (!has(box, IMPOST_CAP_IRQ_LINE))
		return;
	REFUSED(box, EINVAL, impost_vm_irq_line(box->vm, box->caps->max_gsis, 0));
}

static void ask_MSI(struct box *box)
{
	lapic_on(box, box->vcpu);
	ASK(box, IMPOST_CAP_MSI, impost_vm_msi(box->vm, APIC_0, 0x41));
}

static void ask_NMI(struct box *box)
{
	static union section events;

	ASK(box, IMPOST_CAP_NMI, impost_vcpu_nmi(box->vcpu));
	if (!has(box, IMPOST_CAP_NMI) || !has(box, IMPOST_CAP_EVENTS))
		return;
	section_get(box, IMPOST_SECTION_EVENTS, &events);
	cr_assert(events.events.flags & IMPOST_X86_EVENTS_NMI_PENDING);
	cr_assert_eq(events.events.nmi.pending, 1, "it is not pending");
}

static void ask_IRQ_INJECT(struct box *box)
{
	ASK(box, IMPOST_CAP_IRQ_INJECT, impost_vcpu_irq_inject(box->vcpu, 0x61));
	if (!has(box, IMPOST_CAP_IRQ_INJECT))
		return;
	REFUSED(box, EBUSY, impost_vcpu_irq_inject(box->vcpu, 0x62));
	REFUSED(box, EINVAL, impost_vcpu_irq_inject(box->vcpu, 256));
}

static void ask_IRQ_WINDOW(struct box *box)
{
	ASK(box, IMPOST_CAP_IRQ_WINDOW, impost_vcpu_irq_window(box->vcpu, 1));
	ASK(box, IMPOST_CAP_IRQ_WINDOW, impost_vcpu_irq_window(box->vcpu, 0));
}

static void ask_GSI_ROUTES(struct box *box)
{
	struct impost_gsi_route route = {
		.gsi = 5, .type = IMPOST_ROUTE_MSI, .msi_address = APIC_0, .msi_data = 0x42};

	ASK(box, IMPOST_CAP_GSI_ROUTES, impost_vm_set_gsi_routes(box->vm, &route, 1));
	if (!has(box, IMPOST_CAP_GSI_ROUTES))
		return;
	route.gsi = box->caps->max_gsis;
	REFUSED(box, EINVAL, impost_vm_set_gsi_routes(box->vm, &route, 1));
	OK(box, impost_vm_set_gsi_routes(box->vm, NULL, 0));
}

static void eventfd_of_a_line(struct box *box, enum impost_cap cap, bool resample)
{
	struct impost_irqfd irqfd = {.size = sizeof(irqfd), .gsi = 5, .resample_fd = -1};

	irqfd.fd = eventfd(0, EFD_CLOEXEC);
	if (resample)
		irqfd.resample_fd = eventfd(0, EFD_CLOEXEC);
	ASK(box, cap, impost_vm_irqfd(box->vm, &irqfd));
	irqfd.remove = 1;
	ASK(box, cap, impost_vm_irqfd(box->vm, &irqfd));
	close(irqfd.fd);
	if (resample)
		close(irqfd.resample_fd);
}

static void ask_IRQFD(struct box *box)
{
	eventfd_of_a_line(box, IMPOST_CAP_IRQFD, false);
}

static void ask_IRQFD_RESAMPLE(struct box *box)
{
	needs(box, IMPOST_CAP_IRQFD_RESAMPLE, IMPOST_CAP_IRQFD);
	eventfd_of_a_line(box, IMPOST_CAP_IRQFD_RESAMPLE, true);
}

static void ask_IOEVENTFD(struct box *box)
{
	struct impost_ioeventfd io = {
		.size = sizeof(io), .space = IMPOST_SPACE_PIO, .address = 0x510, .bytes = 2};

	io.fd = eventfd(0, EFD_CLOEXEC);
	ASK(box, IMPOST_CAP_IOEVENTFD, impost_vm_ioeventfd(box->vm, &io));
	io.remove = 1;
	ASK(box, IMPOST_CAP_IOEVENTFD, impost_vm_ioeventfd(box->vm, &io));
	close(io.fd);
}

/* --- policy --- */

static struct impost_x86_cpuid *offered(struct box *box, uint32_t *ret_count)
{
	static struct impost_x86_cpuid entries[512];

	OK(box, impost_vm_cpuid_supported(box->vm, entries, 512, ret_count));
	cr_assert_leq(*ret_count, box->caps->max_cpuid, "more is offered than is taken");
	return entries;
}

static void ask_CPUID_PER_VCPU(struct box *box)
{
	uint32_t count;
	struct impost_x86_cpuid *entries = offered(box, &count);

	cr_assert(has(box, IMPOST_CAP_CPUID_PER_VCPU) || has(box, IMPOST_CAP_CPUID_PER_VM),
		  "there is no way to set CPUID");
	OK(box, impost_vcpu_set_cpuid(box->vcpu, entries, count));
}

static void ask_CPUID_PER_VM(struct box *box)
{
	uint32_t count;
	struct impost_x86_cpuid *entries = offered(box, &count);

	ASK(box, IMPOST_CAP_CPUID_PER_VM, impost_vm_set_cpuid(box->vm, entries, count));
}

static void ask_MSR_EXITS(struct box *box)
{
	const struct impost_msr_range range = {0xc0010200, 2, IMPOST_MSR_EXIT_READ, 0};

	ASK(box, IMPOST_CAP_MSR_EXITS, impost_vm_set_msr_exits(box->vm, &range, 1, 1));
	ASK(box, IMPOST_CAP_MSR_EXITS, impost_vm_set_msr_exits(box->vm, NULL, 0, 0));
}

static void ask_X2APIC_IDS(struct box *box)
{
	struct impost_vcpu *vcpu = NULL;

	cr_assert_eq(has(box, IMPOST_CAP_X2APIC_IDS), box->caps->max_vcpu_id >= 255);
	OK(box, impost_vcpu_destroy(box->vcpu));
	if (has(box, IMPOST_CAP_X2APIC_IDS)) {
		OK(box, impost_vcpu_create(box->vm, 255, &vcpu));
		cr_assert_eq(impost_vcpu_id(vcpu), 255u);
	} else {
		REFUSED(box, EINVAL, impost_vcpu_create(box->vm, 255, &vcpu));
		OK(box, impost_vcpu_create(box->vm, 1, &vcpu));
	}
	box->vcpu = vcpu;
}

/* --- state --- */

/* Whether a section can be got, and set as it was got, is what CAP says. */
static void section_of(struct box *box, enum impost_cap cap, uint32_t section)
{
	static union section s;
	uint32_t size = 77;

	ASK(box, cap, impost_vcpu_get(box->vcpu, section, &s, sizeof(s), &size));
	if (has(box, cap))
		OK(box, impost_vcpu_set(box->vcpu, section, &s, size));
	else
		cr_assert_eq(size, 77u, "refused, and yet it has written");
}

static void ask_XSAVE(struct box *box)
{
	set_supported_cpuid(box, box->vcpu);
	section_of(box, IMPOST_CAP_XSAVE, IMPOST_SECTION_XSAVE);
}

static void ask_DEBUGREGS(struct box *box)
{
	section_of(box, IMPOST_CAP_DEBUGREGS, IMPOST_SECTION_DEBUGREGS);
}

static void ask_EVENTS(struct box *box)
{
	section_of(box, IMPOST_CAP_EVENTS, IMPOST_SECTION_EVENTS);
}

/* What is known of the events is told by their flags. */
static void flag_of_events(struct box *box, enum impost_cap cap, uint32_t flag)
{
	static union section s;

	needs(box, cap, IMPOST_CAP_EVENTS);
	box_need(box, IMPOST_CAP_EVENTS);
	section_get(box, IMPOST_SECTION_EVENTS, &s);
	cr_assert_eq((s.events.flags & flag) != 0, has(box, cap), "flags 0x%x", s.events.flags);
}

static void ask_EVENT_PAYLOAD(struct box *box)
{
	flag_of_events(box, IMPOST_CAP_EVENT_PAYLOAD, IMPOST_X86_EVENTS_PAYLOAD);
}

static void ask_SMM(struct box *box)
{
	static union section s;

	needs(box, IMPOST_CAP_SMM, IMPOST_CAP_EVENTS);
	box_need(box, IMPOST_CAP_EVENTS);
	section_get(box, IMPOST_SECTION_EVENTS, &s);
	cr_assert_eq(s.events.smi.smm, 0, "a new vCPU is in system-management mode");
	if (has(box, IMPOST_CAP_SMM))
		return;
	s.events.smi.smm = 1;
	s.events.flags |= IMPOST_X86_EVENTS_SMM;
	cr_assert_lt(impost_vcpu_set(box->vcpu, IMPOST_SECTION_EVENTS, &s, s.size), 0,
		     "it has taken what it lacks");
}

/* The registers are there in PAE paging without IA-32e mode (SDM vol. 3, 4.4.1). */
static void ask_SREGS_PDPTRS(struct box *box)
{
	static union section s, t;
	int r;

	set_supported_cpuid(box, box->vcpu);
	section_get(box, IMPOST_SECTION_SREGS, &s);
	cr_assert_eq(s.sregs.flags & IMPOST_X86_SREGS_PDPTRS_VALID, 0u);
	s.sregs.cr0 = 0x80000011;
	s.sregs.cr4 = 0x20;
	s.sregs.efer = 0;
	s.sregs.cr3 = PAGE_TABLES;
	s.sregs.flags |= IMPOST_X86_SREGS_PDPTRS_VALID;
	for (uint64_t i = 0; i < 4; i++)
		s.sregs.pdptr[i] = (i + 3) << 12 | 1;
	r = impost_vcpu_set(box->vcpu, IMPOST_SECTION_SREGS, &s, s.size);
	if (r == -ENOTSUP) {
		char why[300];

		snprintf(why, sizeof(why), "%s", impost_error(box->ctx));
		box_close(box);
		cr_skip_test("%s", why);
	}
	OK(box, r);
	section_get(box, IMPOST_SECTION_SREGS, &t);
	cr_assert_eq((t.sregs.flags & IMPOST_X86_SREGS_PDPTRS_VALID) != 0,
		     has(box, IMPOST_CAP_SREGS_PDPTRS));
	if (has(box, IMPOST_CAP_SREGS_PDPTRS))
		cr_assert_arr_eq(t.sregs.pdptr, s.sregs.pdptr, sizeof(s.sregs.pdptr));
}

/* A guest that is no hypervisor has no such state: there is nothing, or nothing is known of it. */
static void ask_NESTED(struct box *box)
{
	static union section s;
	uint32_t size;
	int r = impost_vcpu_get(box->vcpu, IMPOST_SECTION_VCPU_OPAQUE, &s, sizeof(s), &size);

	cr_assert(r == -ENOENT || (r == -ENOTSUP && !has(box, IMPOST_CAP_NESTED)), "%d: %s", r,
		  impost_error(box->ctx));
}

static void ask_CLOCK(struct box *box)
{
	struct impost_x86_clock clock = {.size = sizeof(clock)};
	uint32_t size;
	ASK(box, IMPOST_CAP_CLOCK,
	    impost_vm_get(box->vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock), &size));
	clock = (struct impost_x86_clock){.size = sizeof(clock), .ns = 1};
	ASK(box, IMPOST_CAP_CLOCK,
	    impost_vm_set(box->vm, IMPOST_SECTION_CLOCK, &clock, sizeof(clock)));
}

static struct impost_x86_tsc tsc_of(struct box *box)
{
	struct impost_x86_tsc tsc;
	uint32_t size;
	OK(box, impost_vcpu_get(box->vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc), &size));
	return tsc;
}

/* The capability is the hypervisor's word; its processor's driver may know better, and says so. */
static void ask_TSC_OFFSET(struct box *box)
{
	struct impost_x86_tsc tsc = tsc_of(box), set = tsc;
	int r;

	if (!has(box, IMPOST_CAP_TSC_OFFSET)) {
		says_nothing(box, IMPOST_CAP_TSC_OFFSET);
		return;
	}
	cr_assert(tsc.flags & IMPOST_X86_TSC_HOST, "it tells no TSC of the host's");
	set.value += UINT64_C(1) << 44;
	r = impost_vcpu_set(box->vcpu, IMPOST_SECTION_TSC, &set, sizeof(set));
	cr_assert(r == 0 || r == -ENOTSUP, "%s", impost_error(box->ctx));
	tsc = tsc_of(box);
	cr_assert_eq(tsc.value >= set.value, r == 0, "%s: the TSC is 0x%llx", impost_error_name(r),
		     (unsigned long long)tsc.value);
}

static void ask_TSC_SCALING(struct box *box)
{
	struct impost_x86_tsc tsc = tsc_of(box);
	const uint32_t khz = tsc.khz;

	if (!khz) {
		box_close(box);
		cr_skip_test("%s does not know the TSC's rate", backend_name());
	}
	tsc.khz = khz / 2;
	ASK(box, IMPOST_CAP_TSC_SCALING,
	    impost_vcpu_set(box->vcpu, IMPOST_SECTION_TSC, &tsc, sizeof(tsc)));
	cr_assert_eq(tsc_of(box).khz, has(box, IMPOST_CAP_TSC_SCALING) ? khz / 2 : khz);
}

/* Which controllers the VM is to have for its question. */
static uint32_t irqchip_for(enum impost_cap cap)
{
	if (cap == IMPOST_CAP_IRQ_INJECT || cap == IMPOST_CAP_IRQ_WINDOW)
		return IMPOST_IRQCHIP_NONE;
	if (cap == IMPOST_CAP_IRQ_LINE || cap == IMPOST_CAP_IRQFD ||
	    cap == IMPOST_CAP_IRQFD_RESAMPLE || cap == IMPOST_CAP_GSI_ROUTES)
		return IMPOST_IRQCHIP_FULL;
	return cap == IMPOST_CAP_MSI ? IMPOST_IRQCHIP_LAPIC : IMPOST_IRQCHIP_DEFAULT;
}

#define IMPOST_CAP(bit, NAME, name, what)                               \
	Test(capabilities, NAME)                                        \
	{                                                               \
		struct box box;                                         \
                                                                        \
		box_open(&box, 1, irqchip_for((enum impost_cap)(bit))); \
		ask_##NAME(&box);                                       \
		box_close(&box);                                        \
	}
#include <impost/caps.def>
#undef IMPOST_CAP
