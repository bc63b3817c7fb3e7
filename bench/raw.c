/* SPDX-License-Identifier: Apache-2.0 */
/* See raw.h. */
#include "raw.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The memory layout of <impost/x86_64/boot.h>. */
#define GDT_ADDR       0x500
#define GDT_BYTES      40
#define ZERO_PAGE_ADDR 0x7000
#define STACK_ADDR     0x8ff0
#define PML4_ADDR      0x9000
#define PDPT_ADDR      0xa000
#define PD_ADDR	       0xb000
#define CMDLINE_ADDR   0x20000
#define LOW_BYTES      (3ull << 30)
#define HIGH_ADDR      (4ull << 30)
#define GIBS	       4ull
#define PAGE_BYTES     4096
#define TABLE_ENTRIES  512
#define TSS_ADDR       0xfffbd000
#define IDENTITY_ADDR  0xfffbc000ull
#define CPUID_ENTRIES  256
#define CMD_LINE_PTR   0x228
#define TABLE_FLAGS    0x3  /* present, writable */
#define LARGE_FLAGS    0x83 /* and a 2 MiB page */
#define LARGE_BYTES    0x200000ull
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define LVT_EXTINT     0x700
#define LVT_NMI	       0x400

#define MSR_COUNT      11

static int failed(const char *what)
{
	perror(what);
	return -1;
}

static int load_elf(struct raw_vm *raw, int fd, uint64_t *ret_entry)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return failed("kernel");
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		off_t at = (off_t)(header.e_phoff + i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return failed("kernel");
		if (segment.p_type != PT_LOAD)
			continue;
		if (pread(fd, raw->memory + segment.p_paddr, segment.p_filesz,
			  (off_t)segment.p_offset) != (ssize_t)segment.p_filesz)
			return failed("kernel");
	}
	*ret_entry = header.e_entry;
	return 0;
}

static void write_tables(struct raw_vm *raw, const char *cmdline)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff,
				       0x008f8b000000ffff};
	uint64_t *pml4 = (uint64_t *)(void *)(raw->memory + PML4_ADDR);
	uint64_t *pdpt = (uint64_t *)(void *)(raw->memory + PDPT_ADDR);
	uint64_t *pd = (uint64_t *)(void *)(raw->memory + PD_ADDR);
	uint32_t cmdline_addr = CMDLINE_ADDR;

	memcpy(raw->memory + GDT_ADDR, gdt, sizeof(gdt));
	pml4[0] = PDPT_ADDR | TABLE_FLAGS;
	for (uint64_t gib = 0; gib < GIBS; gib++)
		pdpt[gib] = (PD_ADDR + gib * PAGE_BYTES) | TABLE_FLAGS;
	for (uint64_t i = 0; i < GIBS * TABLE_ENTRIES; i++)
		pd[i] = i * LARGE_BYTES | LARGE_FLAGS;
	memcpy(raw->memory + ZERO_PAGE_ADDR + CMD_LINE_PTR, &cmdline_addr, sizeof(cmdline_addr));
	memcpy(raw->memory + CMDLINE_ADDR, cmdline, strlen(cmdline) + 1);
}

static int set_cpuid(struct raw_vm *raw)
{
	size_t bytes = sizeof(struct kvm_cpuid2) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 *cpuid = calloc(1, bytes);
	int ret = 0;

	if (!cpuid)
		return failed("calloc");
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(raw->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		ret = failed("KVM_GET_SUPPORTED_CPUID");
	else if (ioctl(raw->vcpu, KVM_SET_CPUID2, cpuid) < 0)
		ret = failed("KVM_SET_CPUID2");
	free(cpuid);
	return ret;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t s)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .s = s,
				    .l = type == 0xb && s,
				    .db = type == 0x3,
				    .g = 1};
}

static int set_registers(struct raw_vm *raw, uint64_t entry)
{
	struct kvm_regs regs = {
		.rip = entry, .rsi = ZERO_PAGE_ADDR, .rsp = STACK_ADDR, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(raw->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return failed("KVM_GET_SREGS");
	sregs.cs = segment(0x10, 0xb, 1);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0x18, 0x3, 1);
	sregs.tr = segment(0x20, 0xb, 0);
	sregs.gdt = (struct kvm_dtable){.base = GDT_ADDR, .limit = GDT_BYTES - 1};
	sregs.idt = (struct kvm_dtable){.base = 0, .limit = 0};
	sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
	sregs.cr3 = PML4_ADDR;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LME, LMA */
	if (ioctl(raw->vcpu, KVM_SET_SREGS, &sregs) < 0)
		return failed("KVM_SET_SREGS");
	if (ioctl(raw->vcpu, KVM_SET_REGS, &regs) < 0)
		return failed("KVM_SET_REGS");
	return 0;
}

static int set_msrs(struct raw_vm *raw)
{
	/* SYSENTER_CS, _ESP, _EIP, STAR, CSTAR, LSTAR, SYSCALL_MASK, KERNEL_GS_BASE, TSC,
	 * MISC_ENABLE, MTRR_DEF_TYPE */
	static const uint32_t indices[MSR_COUNT] = {0x174,	0x175,	    0x176,	0xc0000081,
						    0xc0000083, 0xc0000082, 0xc0000084, 0xc0000102,
						    0x10,	0x1a0,	    0x2ff};
	static const uint64_t values[MSR_COUNT] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x806};
	size_t bytes = sizeof(struct kvm_msrs) + MSR_COUNT * sizeof(struct kvm_msr_entry);
	struct kvm_msrs *msrs = calloc(1, bytes);
	int ret = 0;

	if (!msrs)
		return failed("calloc");
	msrs->nmsrs = MSR_COUNT;
	for (unsigned int i = 0; i < MSR_COUNT; i++) {
		msrs->entries[i].index = indices[i];
		msrs->entries[i].data = values[i];
	}
	if (ioctl(raw->vcpu, KVM_SET_MSRS, msrs) != MSR_COUNT)
		ret = failed("KVM_SET_MSRS");
	free(msrs);
	return ret;
}

static int set_fpu_and_lapic(struct raw_vm *raw)
{
	struct kvm_xsave xsave;
	struct kvm_lapic_state lapic;
	uint32_t lint0 = LVT_EXTINT;
	uint32_t lint1 = LVT_NMI;

	if (ioctl(raw->vcpu, KVM_GET_XSAVE, &xsave) < 0)
		return failed("KVM_GET_XSAVE");
	xsave.region[0] = 0x37f;
	xsave.region[6] = 0x1f80;
	if (ioctl(raw->vcpu, KVM_SET_XSAVE, &xsave) < 0)
		return failed("KVM_SET_XSAVE");
	if (ioctl(raw->vcpu, KVM_GET_LAPIC, &lapic) < 0)
		return failed("KVM_GET_LAPIC");
	memcpy(lapic.regs + APIC_LVT_LINT0, &lint0, sizeof(lint0));
	memcpy(lapic.regs + APIC_LVT_LINT1, &lint1, sizeof(lint1));
	if (ioctl(raw->vcpu, KVM_SET_LAPIC, &lapic) < 0)
		return failed("KVM_SET_LAPIC");
	return 0;
}

static int create_vm(struct raw_vm *raw)
{
	uint64_t identity = IDENTITY_ADDR;

	raw->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (raw->kvm < 0)
		return failed("/dev/kvm");
	raw->vm = ioctl(raw->kvm, KVM_CREATE_VM, 0);
	if (raw->vm < 0)
		return failed("KVM_CREATE_VM");
	if (ioctl(raw->vm, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return failed("KVM_SET_TSS_ADDR");
	if (ioctl(raw->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return failed("KVM_SET_IDENTITY_MAP_ADDR");
	return 0;
}

static int create_irqchip(const struct raw_vm *raw)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(raw->vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return failed("KVM_CREATE_IRQCHIP");
	if (ioctl(raw->vm, KVM_CREATE_PIT2, &pit) < 0)
		return failed("KVM_CREATE_PIT2");
	return 0;
}

static int add_memory(struct raw_vm *raw, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t low = bytes < LOW_BYTES ? bytes : LOW_BYTES;
	struct kvm_userspace_memory_region regions[] = {
		{.memory_size = low, .userspace_addr = (uintptr_t)memory},
		{.slot = 1,
		 .guest_phys_addr = HIGH_ADDR,
		 .memory_size = bytes - low,
		 .userspace_addr = (uintptr_t)memory + low},
	};

	if (memory == MAP_FAILED)
		return failed("mmap");
	raw->memory = memory;
	raw->memory_bytes = bytes;
	for (unsigned int i = 0; i < 2 && regions[i].memory_size; i++)
		if (ioctl(raw->vm, KVM_SET_USER_MEMORY_REGION, &regions[i]) < 0)
			return failed("KVM_SET_USER_MEMORY_REGION");
	return 0;
}

static int create_vcpu(struct raw_vm *raw)
{
	int bytes = ioctl(raw->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	if (bytes < 0)
		return failed("KVM_GET_VCPU_MMAP_SIZE");
	raw->vcpu = ioctl(raw->vm, KVM_CREATE_VCPU, 0);
	if (raw->vcpu < 0)
		return failed("KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, raw->vcpu, 0);
	if (run == MAP_FAILED)
		return failed("mmap");
	raw->run = run;
	raw->run_bytes = (size_t)bytes;
	return 0;
}

int raw_create(struct raw_vm *raw, int kernel, const char *cmdline, size_t bytes,
	       enum raw_order order)
{
	uint64_t entry;

	*raw = (struct raw_vm){.kvm = -1, .vm = -1, .vcpu = -1};
	if (create_vm(raw) || (order == RAW_IRQCHIP_FIRST && create_irqchip(raw)) ||
	    add_memory(raw, bytes) || (order == RAW_MEMORY_FIRST && create_irqchip(raw)) ||
	    create_vcpu(raw) || load_elf(raw, kernel, &entry))
		return -1;
	write_tables(raw, cmdline);
	if (set_cpuid(raw) || set_registers(raw, entry) || set_msrs(raw) || set_fpu_and_lapic(raw))
		return -1;
	return 0;
}

int raw_exits(const struct raw_vm *raw, uint16_t port, uint64_t count)
{
	const struct kvm_run *run = raw->run;

	for (uint64_t i = 0; i < count; i++) {
		if (ioctl(raw->vcpu, KVM_RUN, 0) < 0)
			return failed("KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != port) {
			fprintf(stderr, "plain ioctls: exit %u\n", run->exit_reason);
			return -1;
		}
	}
	return 0;
}

void raw_destroy(struct raw_vm *raw)
{
	if (raw->run)
		munmap(raw->run, raw->run_bytes);
	if (raw->vcpu >= 0)
		close(raw->vcpu);
	if (raw->vm >= 0)
		close(raw->vm);
	if (raw->memory)
		munmap(raw->memory, raw->memory_bytes);
	if (raw->kvm >= 0)
		close(raw->kvm);
	*raw = (struct raw_vm){.kvm = -1, .vm = -1, .vcpu = -1};
}
