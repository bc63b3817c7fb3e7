/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing an x86_64 guest up: kernels, tables and registers, against the neutral interface alone.
 * Each step is usable by itself; impost_x86_boot() puts them together. Functions on one object
 * follow that object's thread rules; error texts go to the context of the VM or map that is given.
 */
#ifndef IMPOST_X86_64_BOOT_H
#define IMPOST_X86_64_BOOT_H

#include <stddef.h>

#include <impost/memory.h>
#include <impost/vcpu.h>
#include <impost/vm.h>
#include <impost/x86_64/layout.h>
#include <impost/x86_64/registers.h>
#include <impost/x86_64/state.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- kernel --- */

#define IMPOST_X86_KERNEL_LINUX64 1u /* bzImage, entered at its 64-bit entry point */
/* ELF64, entered at e_entry in 64-bit mode with the Linux register rules */
#define IMPOST_X86_KERNEL_ELF64 2u

/* Bytes of the setup header that are kept: file offsets 0x1f1 to 0x1f1 + 0x8f (boot.rst, "The
 * Real-Mode Kernel Header"). */
#define IMPOST_X86_SETUP_HEADER_MAX 144u

/* What a kernel file is, and where it went. */
struct impost_x86_kernel {
	uint32_t kind;	  /* IMPOST_X86_KERNEL_* */
	uint32_t version; /* boot protocol, 0x020f for 2.15; 0 for ELF */
	uint64_t entry;	  /* gpa, as loaded */
	uint64_t start;	  /* gpa range that it occupies, with its bss and initial memory need */
	uint64_t end;
	uint64_t payload_offset; /* bzImage: protected-mode code in the file */
	uint64_t payload_bytes;
	uint32_t cmdline_max; /* bytes without the NUL that the kernel takes */
	uint32_t setup_header_bytes;
	uint64_t initrd_max; /* highest gpa that the initrd may occupy */
	uint8_t setup_header[IMPOST_X86_SETUP_HEADER_MAX];
};

/*
 * Reads the head of a bzImage: HEAD is the first HEAD_BYTES bytes of a file of FILE_BYTES bytes, at
 * least IMPOST_X86_BZIMAGE_HEAD of them unless the file is shorter (-EINVAL). Loads nothing. CTX,
 * for error texts, may be NULL. The kernel's place is its pref_address, relocatable or not: loaded
 * lower it would move itself there. -IMPOST_EIMAGE: not a bzImage, older than protocol 2.12,
 * without a 64-bit entry, truncated, with a place below 1 MiB, or with sizes that cannot be; the
 * text says which.
 */
#define IMPOST_X86_BZIMAGE_HEAD 1024u
IMPOST_API int impost_x86_bzimage_parse(struct impost_context *ctx, const void *head,
					size_t head_bytes, uint64_t file_bytes,
					struct impost_x86_kernel *ret_kernel);

/*
 * Reads a kernel from FD (its offset is not used), finds out what it is, and loads it at the
 * address that it asks for: a bzImage at pref_address, the segments of an ELF file at p_paddr.
 * -IMPOST_EIMAGE as above, or FD is no regular file, or empty, or an ELF file that is not a static
 * executable for x86_64, has no segments or more than 64 program headers, segments that overlap,
 * wrap around or begin below 1 MiB (where the boot tables are), or an entry outside them. -EFAULT:
 * it does not fit into memory (the text has both ranges). Nothing was loaded then. Or what fstat
 * and pread say. FD stays the caller's.
 */
IMPOST_API int impost_x86_load_kernel(struct impost_memory *memory, int fd,
				      struct impost_x86_kernel *ret_kernel);

/* The two readers behind it, for a host that knows what the file is. */
IMPOST_API int impost_x86_load_bzimage(struct impost_memory *memory, int fd,
				       struct impost_x86_kernel *ret_kernel);
IMPOST_API int impost_x86_load_elf64(struct impost_memory *memory, int fd,
				     struct impost_x86_kernel *ret_kernel);

/* Where an initrd went. */
struct impost_x86_initrd {
	uint64_t gpa;
	uint64_t bytes;
};

/*
 * Loads an initrd from FD as high as memory and the kernel's limit allow, page-aligned, above 1 MiB
 * and clear of the kernel. -EFBIG: there is no room (the text has what is needed and what there
 * is); -IMPOST_EIMAGE: FD is no regular file, or empty. FD stays the caller's.
 */
IMPOST_API int impost_x86_load_initrd(struct impost_memory *memory, int fd,
				      const struct impost_x86_kernel *kernel,
				      struct impost_x86_initrd *ret_initrd);

/* Writes the command line at IMPOST_X86_CMDLINE_ADDR. -E2BIG: longer than the kernel takes, which
 * would cut it; -EFAULT: no memory there. */
IMPOST_API int impost_x86_write_cmdline(struct impost_memory *memory,
					const struct impost_x86_kernel *kernel,
					const char *cmdline);

/*
 * Writes the zero page (struct boot_params) at IMPOST_X86_ZERO_PAGE_ADDR: setup header, initrd (may
 * be NULL) and e820; and the command line, to which it points, as impost_x86_write_cmdline() does.
 * -ENOSPC: more e820 entries than it holds; -EINVAL: a setup header that is too long; else as
 * impost_x86_write_cmdline().
 */
IMPOST_API int impost_x86_write_zero_page(struct impost_memory *memory,
					  const struct impost_x86_kernel *kernel,
					  const char *cmdline,
					  const struct impost_x86_initrd *initrd);

/* --- registers: pure functions that fill a section; the caller sets it on a vCPU --- */

/* General registers at the 64-bit entry: RIP, RSI = zero page, RSP, RFLAGS = 2. */
IMPOST_API void impost_x86_setup_regs(struct impost_x86_regs *regs, uint64_t entry,
				      uint64_t zero_page);

/*
 * Makes what the backend supports into what vCPU ID of CPUS shall see: APIC id, hypervisor bit, TSC
 * deadline when IRQCHIP (IMPOST_IRQCHIP_*, not _DEFAULT) has a local APIC, no APIC and x2APIC when
 * not; one package of CPUS cores with a thread each. Works in place on ENTRIES and adds none: for
 * leaves 0xB and 0x1F to tell the topology, sub-leaves 0 and 1 must be there.
 */
IMPOST_API void impost_x86_setup_cpuid(struct impost_x86_cpuid *entries, uint32_t count,
				       uint32_t id, uint32_t cpus, uint32_t irqchip);

/* --- all of it --- */

/* What to boot. */
struct impost_x86_boot_config {
	uint32_t size;	   /* set by impost_x86_boot_config_init() */
	int32_t kernel_fd; /* the caller's; not closed */
	int32_t initrd_fd; /* -1: none */
	uint32_t reserved;
	const char *cmdline; /* NULL: "" */
};

/* What came of it. */
struct impost_x86_boot_result {
	struct impost_x86_kernel kernel;
	struct impost_x86_initrd initrd; /* bytes 0: none */
};

/*
 * Fills CONFIG with no kernel (-1), no initrd (-1), and `[boot] cmdline` of CTX. _fill wants its
 * `size` set and fills so much of it; _init sets it first.
 */
IMPOST_API void impost_x86_boot_config_fill(struct impost_context *ctx,
					    struct impost_x86_boot_config *config);
static inline void impost_x86_boot_config_init(struct impost_context *ctx,
					       struct impost_x86_boot_config *ret_config)
{
	ret_config->size = sizeof(*ret_config);
	impost_x86_boot_config_fill(ctx, ret_config);
}

/*
 * Sets COUNT vCPUs and the memory of VM up, so that running VCPUS[0], which must be vCPU 0, boots
 * the kernel; the others keep their reset state and wait for SIPI. In a VM with IMPOST_IRQCHIP_NONE
 * the others' run state is left alone: who emulates their local APICs starts them. Every vCPU gets
 * CPUID and the boot MSRs; one of these that the backend neither lists (impost_vm_msr_list()) nor
 * takes does not exist there and is left out. RAM must be there (impost_x86_add_ram()). RET_RESULT
 * may be NULL.
 *
 * -EINVAL: no kernel, no vCPU, a NULL one, one of another VM, or VCPUS[0] is not vCPU 0; else
 * errors are those of the steps. After a failure memory and vCPUs may be set up in part: call again
 * with what is right, or destroy the VM.
 */
IMPOST_API int impost_x86_boot(struct impost_vm *vm, struct impost_vcpu *const *vcpus,
			       uint32_t count, const struct impost_x86_boot_config *config,
			       struct impost_x86_boot_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
