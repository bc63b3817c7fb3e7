/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the x86_64 set-up share: a map of RAM, files in memory, and images to load. */
#ifndef TESTS_UNIT_X86_64_H
#define TESTS_UNIT_X86_64_H

#include <asm/bootparam.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <impost/x86_64/boot.h>

#define MIB	(UINT64_C(1) << 20)
#define GIB	(UINT64_C(1) << 30)
#define PATTERN 0xa5 /* what memory is filled with before a load that must not touch it */

/* A context with a map of its own. */
struct ram {
	struct impost_context *ctx;
	struct impost_memory *memory;
};

static inline void add_region(struct ram *ram, uint64_t gpa, uint64_t bytes, uint32_t flags)
{
	struct impost_region region = {
		.size = sizeof(region), .gpa = gpa, .bytes = bytes, .flags = flags};

	cr_assert_eq(impost_memory_add(ram->memory, &region), 0, "%s", impost_error(ram->ctx));
}

/* BYTES of RAM from 0; none if 0. */
static inline struct ram ram_make(uint64_t bytes)
{
	struct ram ram;

	cr_assert_eq(impost_context_open(NULL, NULL, &ram.ctx), 0);
	cr_assert_eq(impost_memory_create(ram.ctx, &ram.memory), 0);
	if (bytes)
		add_region(&ram, 0, bytes, 0);
	return ram;
}

static inline void ram_free(struct ram *ram)
{
	impost_memory_destroy(ram->memory);
	cr_assert_eq(impost_context_close(ram->ctx), 0);
}

/* Asserts that CALL fails with -ERR and a text that has WORDS in it. */
#define assert_refused(ram, call, err, words)                                             \
	do {                                                                              \
		int got_ = (call);                                                        \
		cr_assert_eq(got_, -(err), "%s: %d (%s), not %s", words, got_,            \
			     impost_error((ram)->ctx), impost_error_name(err));           \
		cr_assert(strstr(impost_error((ram)->ctx), words), "\"%s\" lacks \"%s\"", \
			  impost_error((ram)->ctx), words);                               \
	} while (0)

/* A file in memory with BYTES of DATA. */
static inline int file_make(const void *data, size_t bytes)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, data, bytes), (ssize_t)bytes);
	return fd;
}

static inline int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Reads the kernel in FD as PROTOCOL and loads it; RET_KERNEL is untouched if either fails. */
static inline int load_as(struct impost_memory *memory, uint32_t protocol, int fd,
			  struct impost_x86_kernel *ret_kernel)
{
	struct impost_x86_kernel_want want = {.size = sizeof(want), .protocol = protocol};
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	int err;

	err = impost_x86_kernel_read(impost_memory_context(memory), fd, &want, &kernel);
	if (err == 0)
		err = impost_x86_kernel_load(memory, NULL, fd, &kernel);
	if (err == 0)
		*ret_kernel = kernel;
	return err;
}

static inline int load_kernel(struct impost_memory *memory, int fd,
			      struct impost_x86_kernel *ret_kernel)
{
	return load_as(memory, IMPOST_X86_PROTOCOL_AUTO, fd, ret_kernel);
}

static inline int load_linux64(struct impost_memory *memory, int fd,
			       struct impost_x86_kernel *ret_kernel)
{
	return load_as(memory, IMPOST_X86_PROTOCOL_LINUX64, fd, ret_kernel);
}

/* --- a bzImage: a boot sector, SETUP_SECTS sectors, and a payload --- */

#define BZ_SETUP_BYTES	 1024u
#define BZ_PAYLOAD_BYTES 1536u
#define BZ_BYTES	 (BZ_SETUP_BYTES + BZ_PAYLOAD_BYTES)
#define BZ_START	 (2 * MIB)
#define BZ_INIT_SIZE	 UINT32_C(0x5000)

struct bz {
	union {
		uint8_t bytes[BZ_BYTES];
		struct {
			uint8_t sector[0x1f1];
			struct setup_header hdr;
		} __attribute__((packed));
	};
};

static inline struct bz bz_make(void)
{
	struct bz bz;

	for (size_t i = 0; i < sizeof(bz.bytes); i++)
		bz.bytes[i] = (uint8_t)(i * 7 + i / 256);
	bz.hdr = (struct setup_header){
		.setup_sects = BZ_SETUP_BYTES / 512 - 1,
		.syssize = BZ_PAYLOAD_BYTES / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.code32_start = 0x100000,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = BZ_START,
		.init_size = BZ_INIT_SIZE,
	};
	return bz;
}

/* --- a static ELF64 with two segments --- */

#define ELF_TEXT      (1 * MIB)
#define ELF_TEXT_SIZE UINT64_C(0x180)
#define ELF_DATA      (1 * MIB + 0x2000)
#define ELF_DATA_SIZE UINT64_C(0x80)
#define ELF_BSS_SIZE  UINT64_C(0x1f00)

struct elf {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[2];
	uint8_t text[ELF_TEXT_SIZE];
	uint8_t data[ELF_DATA_SIZE];
};

static inline struct elf elf_make(void)
{
	struct elf elf = {
		.ehdr =
			{
				.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					    ELFDATA2LSB, EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_version = EV_CURRENT,
				.e_entry = ELF_TEXT + 0x10,
				.e_phoff = offsetof(struct elf, phdr),
				.e_ehsize = sizeof(Elf64_Ehdr),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 2,
			},
		.phdr =
			{
				{
					.p_type = PT_LOAD,
					.p_flags = PF_R | PF_X,
					.p_offset = offsetof(struct elf, text),
					.p_vaddr = ELF_TEXT,
					.p_paddr = ELF_TEXT,
					.p_filesz = ELF_TEXT_SIZE,
					.p_memsz = ELF_TEXT_SIZE,
				},
				{
					.p_type = PT_LOAD,
					.p_flags = PF_R | PF_W,
					.p_offset = offsetof(struct elf, data),
					.p_vaddr = ELF_DATA,
					.p_paddr = ELF_DATA,
					.p_filesz = ELF_DATA_SIZE,
					.p_memsz = ELF_DATA_SIZE + ELF_BSS_SIZE,
				},
			},
	};

	for (size_t i = 0; i < sizeof(elf.text); i++)
		elf.text[i] = (uint8_t)(i * 3 + 1);
	for (size_t i = 0; i < sizeof(elf.data); i++)
		elf.data[i] = (uint8_t)(i * 5 + 2);
	return elf;
}

#endif
