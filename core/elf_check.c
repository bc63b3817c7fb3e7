/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a plugin file is a whole shared object. The dynamic linker maps what the program headers
 * say without asking how long the file is, and touching a page beyond its end is SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context.h"
#include "plugin.h"

static int truncated(struct impost_context *ctx, const char *what, uint64_t bytes)
{
	return impost_error_set(ctx, -IMPOST_EPLUGIN,
				"it is truncated: its %s beyond the file's end, at %" PRIu64
				" bytes: install it again",
				what, bytes);
}

static int no_object(struct impost_context *ctx)
{
	return impost_error_set(ctx, -IMPOST_EPLUGIN,
				"it is no ELF64 shared object for x86_64, or it is truncated");
}

/* Whether COUNT elements of SIZE bytes at OFFSET lie in a file of BYTES. */
static bool lies_within(uint64_t offset, uint64_t count, uint64_t size, uint64_t bytes)
{
	return offset <= bytes && count <= (bytes - offset) / size;
}

/* e_phnum counts, and not elf_getphdrnum(), which leaves out what the file has not. */
static int check_segments(struct impost_context *ctx, Elf *elf, const GElf_Ehdr *ehdr,
			  uint64_t bytes)
{
	GElf_Phdr phdr;

	for (int i = 0; i < ehdr->e_phnum; i++) {
		if (!gelf_getphdr(elf, i, &phdr))
			return impost_error_set(ctx, -IMPOST_EPLUGIN, "it is a malformed ELF: %s",
						elf_errmsg(-1));
		if (phdr.p_type != PT_NULL && !lies_within(phdr.p_offset, phdr.p_filesz, 1, bytes))
			return truncated(ctx, "segments go", bytes);
	}
	return 0;
}

static int check_headers(struct impost_context *ctx, Elf *elf, uint64_t bytes)
{
	GElf_Ehdr ehdr;

	if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &ehdr) ||
	    ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr.e_machine != EM_X86_64 || ehdr.e_type != ET_DYN ||
	    ehdr.e_phentsize != sizeof(Elf64_Phdr))
		return no_object(ctx);
	if (!lies_within(ehdr.e_phoff, ehdr.e_phnum, sizeof(Elf64_Phdr), bytes))
		return truncated(ctx, "program headers go", bytes);
	/* They come last and are not loaded: that they are there tells that all is. */
	if (ehdr.e_shoff && !lies_within(ehdr.e_shoff, ehdr.e_shnum, sizeof(Elf64_Shdr), bytes))
		return truncated(ctx, "section headers go", bytes);
	return check_segments(ctx, elf, &ehdr, bytes);
}

static int check_fd(struct impost_context *ctx, int fd)
{
	struct stat st;
	Elf *elf;
	int err;

	if (fstat(fd, &st))
		return impost_error_set(ctx, -errno, "cannot read it: %m");
	if (elf_version(EV_CURRENT) == EV_NONE)
		return impost_error_set(ctx, -IMPOST_EPLUGIN, "libelf: %s", elf_errmsg(-1));
	elf = elf_begin(fd, ELF_C_READ, NULL);
	err = check_headers(ctx, elf, (uint64_t)st.st_size);
	elf_end(elf);
	return err;
}

int elf_check(struct impost_context *ctx, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int err;

	if (fd < 0)
		return impost_error_set(ctx, -errno, "cannot read it: %m");
	err = check_fd(ctx, fd);
	close(fd);
	return err;
}
