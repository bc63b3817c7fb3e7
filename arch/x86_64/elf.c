/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The static ELF64 kernel. libelf decodes the headers (read, never mapped: the file may shrink);
 * every number is judged here, and segments go straight from the file into guest memory.
 */
#include "image.h"
#include "ram.h"

#include <asm/bootparam.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <string.h>

/* Kernels have fewer than ten; the limit bounds the search for overlaps. */
#define SEGMENTS_MAX 64u

/* What Linux takes without a header that says so: COMMAND_LINE_SIZE less the NUL, and a ramdisk
 * below 4 GiB. */
#define ELF_CMDLINE_MAX 2047u
#define ELF_INITRD_MAX	UINT64_C(0xffffffff)

struct segment {
	uint64_t offset; /* in the file */
	uint64_t filled; /* bytes from the file */
	struct range gpa;
};

struct elf {
	struct image image;
	GElf_Ehdr ehdr;
	uint32_t count;
	struct segment segment[SEGMENTS_MAX];
};

static int refuse_libelf(const struct elf *elf)
{
	return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
				"the kernel is a malformed ELF file: %s", elf_errmsg(-1));
}

/* Is it an ELF64 for x86_64, and of a type that can be loaded as it is? */
static int check_ident(const struct elf *elf)
{
	const GElf_Ehdr *ehdr = &elf->ehdr;
	const char *wrong = NULL;

	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64)
		wrong = "a 32-bit one";
	else if (ehdr->e_ident[EI_DATA] != ELFDATA2LSB)
		wrong = "big-endian";
	else if (ehdr->e_machine != EM_X86_64)
		wrong = "for another CPU";
	else if (ehdr->e_type == ET_DYN)
		wrong = "dynamic or position-independent";
	else if (ehdr->e_type != ET_EXEC)
		wrong = "not an executable";
	else if (ehdr->e_phentsize != sizeof(Elf64_Phdr))
		wrong = "malformed: its e_phentsize is not 56";
	if (wrong)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel is an ELF file, but %s: a static 64-bit "
					"x86_64 executable is needed",
					wrong);
	return 0;
}

/* Judges a PT_LOAD header by itself. */
static int check_segment(const struct elf *elf, const GElf_Phdr *phdr)
{
	const char *wrong = NULL;

	if (phdr->p_filesz > phdr->p_memsz)
		wrong = "p_filesz above p_memsz";
	else if (phdr->p_memsz > UINT64_MAX - phdr->p_paddr)
		wrong = "an address range that wraps around";
	else if (phdr->p_paddr < IMPOST_X86_HIGH_RAM)
		wrong = "an address below 1 MiB, where the boot tables are";
	else if (phdr->p_offset > elf->image.bytes ||
		 phdr->p_filesz > elf->image.bytes - phdr->p_offset)
		wrong = "contents beyond the file's end (truncated?)";
	if (wrong)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel's ELF segment at 0x%" PRIx64 " has %s "
					"(p_offset 0x%" PRIx64 ", p_filesz 0x%" PRIx64
					", p_memsz 0x%" PRIx64 ")",
					phdr->p_paddr, wrong, phdr->p_offset, phdr->p_filesz,
					phdr->p_memsz);
	return 0;
}

/* Adds a PT_LOAD header's segment; it must not overlap those before. */
static int add_segment(struct elf *elf, const GElf_Phdr *phdr)
{
	struct range gpa = {phdr->p_paddr, phdr->p_paddr + phdr->p_memsz};
	int err;

	if (!phdr->p_memsz && !phdr->p_filesz)
		return 0;
	err = check_segment(elf, phdr);
	if (err < 0)
		return err;
	for (uint32_t i = 0; i < elf->count; i++) {
		const struct range *other = &elf->segment[i].gpa;

		if (gpa.start < other->end && other->start < gpa.end)
			return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
						"the kernel's ELF segments at 0x%" PRIx64
						" and 0x%" PRIx64 " overlap",
						other->start, gpa.start);
	}
	elf->segment[elf->count++] = (struct segment){phdr->p_offset, phdr->p_filesz, gpa};
	return 0;
}

/* Takes one program header, whatever it is. */
static int take_phdr(struct elf *elf, const GElf_Phdr *phdr)
{
	switch (phdr->p_type) {
	case PT_LOAD:
		return add_segment(elf, phdr);
	case PT_INTERP:
	case PT_DYNAMIC:
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel is a dynamically linked ELF file: link it "
					"with -static");
	default:
		return 0;
	}
}

/* Reads all program headers. */
static int take_phdrs(struct elf *elf, Elf *handle)
{
	uint64_t count = elf->ehdr.e_phnum;
	GElf_Phdr phdr;
	int err;

	if (!count || count > SEGMENTS_MAX)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel's ELF header announces %" PRIu64
					" program headers: 1 to %u can be",
					count, SEGMENTS_MAX);
	if (elf->ehdr.e_phoff > elf->image.bytes ||
	    count * sizeof(Elf64_Phdr) > elf->image.bytes - elf->ehdr.e_phoff)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel is truncated: its ELF program headers at "
					"0x%" PRIx64 " lie beyond the file's end",
					elf->ehdr.e_phoff);
	for (int i = 0; i < (int)count; i++) {
		if (!gelf_getphdr(handle, i, &phdr))
			return refuse_libelf(elf);
		err = take_phdr(elf, &phdr);
		if (err < 0)
			return err;
	}
	if (!elf->count)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel's ELF file has nothing to load");
	return 0;
}

/* Is E_ENTRY in bytes that come from the file? */
static int check_entry(const struct elf *elf)
{
	uint64_t entry = elf->ehdr.e_entry;

	for (uint32_t i = 0; i < elf->count; i++) {
		const struct segment *segment = &elf->segment[i];

		if (entry >= segment->gpa.start && entry - segment->gpa.start < segment->filled)
			return 0;
	}
	return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
				"the kernel's ELF entry 0x%" PRIx64
				" is in none of its segments (it must be a physical address)",
				entry);
}

static int read_headers(struct elf *elf)
{
	Elf *handle;
	int err;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return refuse_libelf(elf);
	handle = elf_begin(elf->image.fd, ELF_C_READ, NULL);
	if (!handle || elf_kind(handle) != ELF_K_ELF || !gelf_getehdr(handle, &elf->ehdr)) {
		err = impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
				       "the kernel is no ELF file, or is truncated within its "
				       "ELF header");
	} else {
		err = check_ident(elf);
		if (err == 0)
			err = take_phdrs(elf, handle);
		if (err == 0)
			err = check_entry(elf);
	}
	elf_end(handle);
	return err;
}

static int load_segments(const struct elf *elf, struct impost_memory *memory)
{
	int err = 0;

	for (uint32_t i = 0; i < elf->count && err == 0; i++)
		err = ram_check(memory, "the kernel", elf->segment[i].gpa);
	for (uint32_t i = 0; i < elf->count && err == 0; i++) {
		const struct segment *segment = &elf->segment[i];
		uint64_t bss = segment->gpa.start + segment->filled;

		if (segment->filled)
			err = image_load(&elf->image, memory, segment->gpa.start, segment->offset,
					 segment->filled);
		if (err == 0 && bss < segment->gpa.end)
			err = impost_memory_fill(memory, bss, 0, segment->gpa.end - bss);
	}
	return err;
}

/*
 * Describes the loaded file. Linux reads the setup header in the zero page even when it was not in
 * the file, so one is made: the least that boot.rst calls obligatory.
 */
static void describe(const struct elf *elf, struct impost_x86_kernel *ret_kernel)
{
	struct setup_header header = {
		.boot_flag = 0xaa55,
		.header = UINT32_C(0x53726448), /* "HdrS" */
		.loadflags = LOADED_HIGH,
	};
	struct impost_x86_kernel kernel = {
		.kind = IMPOST_X86_KERNEL_ELF64,
		.entry = elf->ehdr.e_entry,
		.start = UINT64_MAX,
		.cmdline_max = ELF_CMDLINE_MAX,
		.setup_header_bytes = sizeof(header),
		.initrd_max = ELF_INITRD_MAX,
	};

	for (uint32_t i = 0; i < elf->count; i++) {
		const struct range *gpa = &elf->segment[i].gpa;

		kernel.start = gpa->start < kernel.start ? gpa->start : kernel.start;
		kernel.end = gpa->end > kernel.end ? gpa->end : kernel.end;
	}
	memcpy(kernel.setup_header, &header, sizeof(header));
	*ret_kernel = kernel;
}

int impost_x86_load_elf64(struct impost_memory *memory, int fd,
			  struct impost_x86_kernel *ret_kernel)
{
	struct elf elf = {0};
	int err;

	err = image_open(impost_memory_context(memory), "kernel", fd, &elf.image);
	if (err == 0)
		err = read_headers(&elf);
	if (err == 0)
		err = load_segments(&elf, memory);
	if (err == 0)
		describe(&elf, ret_kernel);
	return err;
}
