/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF64 reader, with good, cut and hostile files. */
#include "x86_64.h"

#define RAM_BYTES (8 * MIB)

Test(elf, loads_segments_and_clears_bss)
{
	struct ram ram = ram_make(RAM_BYTES);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct elf elf = elf_make();
	uint8_t got[ELF_DATA_SIZE + ELF_BSS_SIZE];
	int fd = file_make(&elf, sizeof(elf)), fds = count_fds();

	cr_assert_eq(impost_memory_fill(ram.memory, MIB, PATTERN, MIB), 0);
	cr_assert_eq(load_kernel(ram.memory, fd, &kernel), 0, "%s", impost_error(ram.ctx));
	cr_assert_eq(kernel.format, IMPOST_X86_FORMAT_ELF);
	cr_assert_eq(kernel.protocol, IMPOST_X86_PROTOCOL_LINUX64);
	cr_assert_eq(kernel.mode, IMPOST_X86_MODE_LONG);
	cr_assert_eq(kernel.version, 0u);
	cr_assert_eq(kernel.entry, ELF_TEXT + 0x10);
	cr_assert_eq(kernel.start, ELF_TEXT);
	cr_assert_eq(kernel.end, ELF_DATA + ELF_DATA_SIZE + ELF_BSS_SIZE);
	cr_assert_eq(impost_memory_read(ram.memory, ELF_TEXT, got, ELF_TEXT_SIZE + 1), 0);
	cr_assert_arr_eq(got, elf.text, ELF_TEXT_SIZE);
	cr_assert_eq(got[ELF_TEXT_SIZE], PATTERN);
	cr_assert_eq(impost_memory_read(ram.memory, ELF_DATA, got, sizeof(got)), 0);
	cr_assert_arr_eq(got, elf.data, ELF_DATA_SIZE);
	for (size_t i = ELF_DATA_SIZE; i < sizeof(got); i++)
		cr_assert_eq(got[i], 0);
	cr_assert_eq(impost_memory_read(ram.memory, kernel.end, got, 1), 0);
	cr_assert_eq(got[0], PATTERN);
	cr_assert_eq(count_fds(), fds);
	close(fd);
	ram_free(&ram);
}

static void assert_untouched(struct ram *ram)
{
	static uint8_t got[MIB];

	cr_assert_eq(impost_memory_read(ram->memory, MIB, got, sizeof(got)), 0);
	for (size_t i = 0; i < sizeof(got); i++)
		cr_assert_eq(got[i], PATTERN);
}

Test(elf, every_prefix_is_refused)
{
	struct ram ram = ram_make(RAM_BYTES);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct elf elf = elf_make();
	int fd = file_make(&elf, sizeof(elf)), fds = count_fds();

	cr_assert_eq(impost_memory_fill(ram.memory, MIB, PATTERN, MIB), 0);
	for (size_t bytes = sizeof(elf); bytes-- > 0;) {
		cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
		cr_assert_eq(load_kernel(ram.memory, fd, &kernel), -IMPOST_EIMAGE, "%zu bytes",
			     bytes);
		cr_assert_eq(load_linux64(ram.memory, fd, &kernel), -IMPOST_EIMAGE, "%zu bytes",
			     bytes);
		cr_assert(strstr(impost_error(ram.ctx), "truncated") ||
				  strstr(impost_error(ram.ctx), "empty"),
			  "%zu bytes: %s", bytes, impost_error(ram.ctx));
	}
	assert_untouched(&ram);
	cr_assert_eq(count_fds(), fds);
	close(fd);
	ram_free(&ram);
}

#define EHDR(f)	   offsetof(struct elf, ehdr.f), sizeof(((struct elf *)NULL)->ehdr.f)
#define PHDR(n, f) offsetof(struct elf, phdr[n].f), sizeof(((struct elf *)NULL)->phdr[n].f)

static const struct {
	size_t offset, bytes;
	uint64_t value;
	int err;
	const char *words;
} bad_fields[] = {
	{EHDR(e_ident[EI_CLASS]), ELFCLASS32, IMPOST_EIMAGE, "another CPU"},
	{EHDR(e_ident[EI_DATA]), ELFDATA2MSB, IMPOST_EIMAGE, "big-endian"},
	{EHDR(e_ident[EI_CLASS]), 7, IMPOST_EIMAGE, "no ELF file"},
	{EHDR(e_ident[EI_DATA]), 7, IMPOST_EIMAGE, "no ELF file"},
	{EHDR(e_machine), EM_AARCH64, IMPOST_EIMAGE, "another CPU"},
	{EHDR(e_type), ET_DYN, IMPOST_EIMAGE, "position-independent"},
	{EHDR(e_type), ET_REL, IMPOST_EIMAGE, "not an executable"},
	{EHDR(e_type), ET_CORE, IMPOST_EIMAGE, "not an executable"},
	{EHDR(e_phentsize), 0, IMPOST_EIMAGE, "e_phentsize"},
	{EHDR(e_phentsize), 32, IMPOST_EIMAGE, "e_phentsize"},
	{EHDR(e_phentsize), 0xffff, IMPOST_EIMAGE, "e_phentsize"},
	{EHDR(e_phnum), 0, IMPOST_EIMAGE, "1 to 64 can be"},
	{EHDR(e_phnum), 65, IMPOST_EIMAGE, "1 to 64 can be"},
	{EHDR(e_phnum), PN_XNUM, IMPOST_EIMAGE, "1 to 64 can be"},
	{EHDR(e_phnum), 64, IMPOST_EIMAGE, "truncated"},
	{EHDR(e_phoff), UINT64_MAX, IMPOST_EIMAGE, "truncated"},
	{EHDR(e_phoff), sizeof(struct elf) - 111, IMPOST_EIMAGE, "truncated"},
	{EHDR(e_entry), ELF_TEXT - 1, IMPOST_EIMAGE, "entry"},
	{EHDR(e_entry), ELF_TEXT + ELF_TEXT_SIZE, IMPOST_EIMAGE, "entry"},
	{EHDR(e_entry), ELF_DATA + ELF_DATA_SIZE, IMPOST_EIMAGE, "entry"},
	{EHDR(e_entry), 0, IMPOST_EIMAGE, "entry"},
	{EHDR(e_entry), UINT64_MAX, IMPOST_EIMAGE, "entry"},
	{PHDR(0, p_type), PT_INTERP, IMPOST_EIMAGE, "dynamically linked"},
	{PHDR(1, p_type), PT_DYNAMIC, IMPOST_EIMAGE, "dynamically linked"},
	{PHDR(0, p_filesz), ELF_TEXT_SIZE + 1, IMPOST_EIMAGE, "p_filesz above p_memsz"},
	{PHDR(1, p_filesz), UINT64_MAX, IMPOST_EIMAGE, "p_filesz above p_memsz"},
	{PHDR(1, p_memsz), UINT64_MAX, IMPOST_EIMAGE, "wraps around"},
	{PHDR(1, p_memsz), UINT64_MAX - ELF_DATA, EFAULT, "needs guest memory"},
	{PHDR(1, p_paddr), UINT64_MAX, IMPOST_EIMAGE, "wraps around"},
	{PHDR(1, p_paddr), ELF_TEXT, IMPOST_EIMAGE, "overlap"},
	{PHDR(1, p_paddr), ELF_TEXT + ELF_TEXT_SIZE - 1, IMPOST_EIMAGE, "overlap"},
	{PHDR(0, p_paddr), ELF_DATA + 1, IMPOST_EIMAGE, "overlap"},
	{PHDR(1, p_paddr), 0x9000, IMPOST_EIMAGE, "below 1 MiB"},
	{PHDR(1, p_paddr), RAM_BYTES - 1, EFAULT, "0x0 to 0x7fffff"},
	{PHDR(1, p_paddr), UINT64_C(1) << 62, EFAULT, "needs guest memory"},
	{PHDR(1, p_offset), UINT64_MAX, IMPOST_EIMAGE, "beyond the file's end"},
	{PHDR(1, p_offset), sizeof(struct elf) - ELF_DATA_SIZE + 1, IMPOST_EIMAGE,
	 "beyond the file's end"},
};

Test(elf, fields_that_cannot_be)
{
	struct ram ram = ram_make(RAM_BYTES);
	int fds = count_fds();

	cr_assert_eq(impost_memory_fill(ram.memory, MIB, PATTERN, MIB), 0);
	for (size_t i = 0; i < sizeof(bad_fields) / sizeof(bad_fields[0]); i++) {
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		struct elf elf = elf_make();
		int fd;

		memcpy((uint8_t *)&elf + bad_fields[i].offset, &bad_fields[i].value,
		       bad_fields[i].bytes);
		fd = file_make(&elf, sizeof(elf));
		assert_refused(&ram, load_kernel(ram.memory, fd, &kernel), bad_fields[i].err,
			       bad_fields[i].words);
		close(fd);
	}
	assert_untouched(&ram);
	cr_assert_eq(count_fds(), fds);
	ram_free(&ram);
}

Test(elf, nothing_to_load)
{
	struct ram ram = ram_make(RAM_BYTES);
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct elf elf = elf_make();
	int fd;

	elf.phdr[0].p_type = elf.phdr[1].p_type = PT_NOTE;
	fd = file_make(&elf, sizeof(elf));
	assert_refused(&ram, load_kernel(ram.memory, fd, &kernel), IMPOST_EIMAGE,
		       "nothing to load");
	close(fd);
	ram_free(&ram);
}

/* Segments that share a border do not overlap, whichever comes first. */
Test(elf, order_does_not_matter)
{
	for (int falling = 0; falling < 2; falling++) {
		struct ram ram = ram_make(RAM_BYTES);
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		struct elf elf = elf_make();
		Elf64_Phdr text = elf.phdr[0];
		int fd;

		elf.phdr[1].p_paddr = ELF_TEXT + ELF_TEXT_SIZE;
		if (falling) {
			elf.phdr[0] = elf.phdr[1];
			elf.phdr[1] = text;
		}
		fd = file_make(&elf, sizeof(elf));
		cr_assert_eq(load_kernel(ram.memory, fd, &kernel), 0, "%s", impost_error(ram.ctx));
		cr_assert_eq(kernel.start, ELF_TEXT);
		cr_assert_eq(kernel.end, ELF_TEXT + ELF_TEXT_SIZE + ELF_DATA_SIZE + ELF_BSS_SIZE);
		close(fd);
		ram_free(&ram);
	}
}

/* Whatever one byte of the headers is, the file is refused or its segments lie in RAM. */
Test(elf, every_byte_of_the_headers_mutated)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct ram ram = ram_make(RAM_BYTES);
	int loaded = 0;

	for (size_t at = 0; at < offsetof(struct elf, text); at++) {
		for (size_t k = 0; k < sizeof(values); k++) {
			struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
			struct elf elf = elf_make();
			int fd;

			((uint8_t *)&elf)[at] = values[k];
			fd = file_make(&elf, sizeof(elf));
			if (load_kernel(ram.memory, fd, &kernel) == 0) {
				loaded++;
				cr_assert_geq(kernel.start, MIB);
				cr_assert_leq(kernel.end, RAM_BYTES);
				cr_assert(kernel.entry >= kernel.start &&
					  kernel.entry < kernel.end);
			}
			close(fd);
		}
	}
	cr_assert_gt(loaded, 100);
	ram_free(&ram);
}
