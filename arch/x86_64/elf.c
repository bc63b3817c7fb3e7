/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The static ELF kernel, 64-bit or with a PVH entry. libelf decodes the headers (read, never
 * mapped: the file may shrink); every number is judged here, and segments go straight from the file
 * into guest memory.
 */
#include "formats.h"
#include "ram.h"

#include <asm/bootparam.h>
#include <inttypes.h>
#include <libelf.h>
#include <string.h>

/* Kernels have fewer than ten; the limit bounds the search for overlaps. */
#define SEGMENTS_MAX 64u

#define LIMIT_32_BIT UINT64_C(0x100000000)

struct segment {
	uint64_t offset; /* in the file */
	uint64_t filled; /* bytes from the file */
	struct range gpa;
};

struct elf {
	struct image image;
	uint32_t protocol; /* AUTO until it is known */
	uint64_t entry;
	GElf_Ehdr ehdr;
	uint32_t count;
	struct segment segment[SEGMENTS_MAX];
};

static int refuse_libelf(const struct elf *elf)
{
	return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
				"the kernel is a malformed ELF file: %s", elf_errmsg(-1));
}

static int is_64_bit(const struct elf *elf)
{
	return elf->ehdr.e_ident[EI_CLASS] == ELFCLASS64;
}

static uint64_t phdr_bytes(const struct elf *elf)
{
	return is_64_bit(elf) ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
}

/* Is it an ELF file for x86, and of a type that can be loaded as it is? */
static int check_ident(const struct elf *elf)
{
	const GElf_Ehdr *ehdr = &elf->ehdr;
	const char *wrong = NULL;

	if (ehdr->e_ident[EI_DATA] != ELFDATA2LSB)
		wrong = "big-endian";
	else if (ehdr->e_machine != (is_64_bit(elf) ? EM_X86_64 : EM_386))
		wrong = "for another CPU";
	else if (ehdr->e_type == ET_DYN)
		wrong = "dynamic or position-independent";
	else if (ehdr->e_type != ET_EXEC)
		wrong = "not an executable";
	else if (ehdr->e_phentsize != phdr_bytes(elf))
		wrong = "malformed: its e_phentsize is not that of its class";
	else if (!is_64_bit(elf) && elf->protocol == IMPOST_X86_PROTOCOL_LINUX64)
		wrong = "a 32-bit one, without a 64-bit entry";
	else if (elf->protocol == IMPOST_X86_PROTOCOL_LINUX32)
		wrong = "without an entry for the protocol linux32, which a bzImage has";
	if (wrong)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel is an ELF file, but %s: a static x86 "
					"executable is needed, 64-bit or with a PVH entry",
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
	    count * phdr_bytes(elf) > elf->image.bytes - elf->ehdr.e_phoff)
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

/* Finds the PVH entry, if the file has one; which makes it a PVH kernel. */
static int find_pvh(struct elf *elf, Elf *handle)
{
	GElf_Phdr phdr;
	int found = 0, err = 0;

	for (int i = 0; i < elf->ehdr.e_phnum && err == 0; i++) {
		if (!gelf_getphdr(handle, i, &phdr))
			return refuse_libelf(elf);
		if (phdr.p_type == PT_NOTE)
			err = pvh_look(&elf->image, handle, &phdr, &found, &elf->entry);
	}
	if (err < 0)
		return err;
	if (found)
		elf->protocol = IMPOST_X86_PROTOCOL_PVH;
	else if (elf->protocol == IMPOST_X86_PROTOCOL_PVH || !is_64_bit(elf))
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel is %s ELF file without a PVH entry (an ELF "
					"note of type 18)",
					is_64_bit(elf) ? "an" : "a 32-bit");
	return 0;
}

/* Finds out how it is entered. */
static int find_entry(struct elf *elf, Elf *handle)
{
	int err = 0;

	if (elf->protocol != IMPOST_X86_PROTOCOL_LINUX64)
		err = find_pvh(elf, handle);
	if (err < 0 || elf->protocol == IMPOST_X86_PROTOCOL_PVH)
		return err;
	elf->protocol = IMPOST_X86_PROTOCOL_LINUX64;
	elf->entry = elf->ehdr.e_entry;
	return 0;
}

/* Is the entry in bytes that come from the file, and where the CPU can reach it? */
static int check_entry(const struct elf *elf)
{
	int pvh = elf->protocol == IMPOST_X86_PROTOCOL_PVH;

	if (pvh && elf->entry >= LIMIT_32_BIT)
		return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
					"the kernel's PVH entry 0x%" PRIx64
					" lies above 4 GiB, where 32-bit code cannot be",
					elf->entry);
	for (uint32_t i = 0; i < elf->count; i++) {
		const struct segment *segment = &elf->segment[i];

		if (elf->entry >= segment->gpa.start &&
		    elf->entry - segment->gpa.start < segment->filled)
			return 0;
	}
	return impost_error_set(elf->image.ctx, -IMPOST_EIMAGE,
				"the kernel's %s entry 0x%" PRIx64
				" is in none of its segments (it must be a physical address)",
				pvh ? "PVH" : "ELF", elf->entry);
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
			err = find_entry(elf, handle);
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

/* Linux reads the setup header in the zero page even when it was not in the file, so one is made:
 * the least that boot.rst calls obligatory. */
static void make_header(struct impost_x86_kernel *kernel)
{
	const struct setup_header header = {
		.boot_flag = 0xaa55,
		.header = UINT32_C(0x53726448), /* "HdrS" */
		.loadflags = LOADED_HIGH,
	};

	kernel->setup_header_bytes = sizeof(header);
	memcpy(kernel->setup_header, &header, sizeof(header));
}

static struct impost_x86_kernel describe(const struct elf *elf)
{
	int pvh = elf->protocol == IMPOST_X86_PROTOCOL_PVH;
	struct impost_x86_kernel kernel = {
		.format = IMPOST_X86_FORMAT_ELF,
		.protocol = elf->protocol,
		.mode = pvh ? IMPOST_X86_MODE_PROTECTED : IMPOST_X86_MODE_LONG,
		.cmdline_max = CMDLINE_MAX,
		.entry = elf->entry,
		.start = UINT64_MAX,
		.initrd_max = INITRD_MAX,
	};

	for (uint32_t i = 0; i < elf->count; i++) {
		const struct range *gpa = &elf->segment[i].gpa;

		kernel.start = gpa->start < kernel.start ? gpa->start : kernel.start;
		kernel.end = gpa->end > kernel.end ? gpa->end : kernel.end;
	}
	if (!pvh)
		make_header(&kernel);
	return kernel;
}

int elf_read(const struct image *image, uint32_t protocol, struct impost_x86_kernel *ret_kernel)
{
	struct elf elf = {.image = *image, .protocol = protocol};
	int err = read_headers(&elf);

	if (err == 0)
		*ret_kernel = describe(&elf);
	return err;
}

int elf_load(const struct image *image, struct impost_memory *memory,
	     const struct impost_x86_kernel *kernel)
{
	struct elf elf = {.image = *image, .protocol = kernel->protocol};
	struct impost_x86_kernel now;
	int err = read_headers(&elf);

	if (err < 0)
		return err;
	now = describe(&elf);
	err = kernel_compare(image, &now, kernel);
	return err < 0 ? err : load_segments(&elf, memory);
}
