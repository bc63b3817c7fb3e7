/* SPDX-License-Identifier: Apache-2.0 */
/* The PVH entry: an ELF note with a 32-bit physical address (Xen, docs/misc/pvh). */
#include "formats.h"

#include <inttypes.h>
#include <libelf.h>
#include <string.h>

#define NOTE_NAME "Xen"	     /* xen/include/public/elfnote.h */
#define NOTE_TYPE 18u	     /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTES_MAX (1u << 20) /* bytes; a kernel's notes have a few KiB */

static int refuse(const struct image *image, const GElf_Phdr *phdr, const char *wrong)
{
	return impost_error_set(image->ctx, -IMPOST_EIMAGE,
				"the kernel's ELF notes at file offset 0x%" PRIx64 " have %s",
				phdr->p_offset, wrong);
}

/* Takes the value of a PVH note: a word of the file's class, or of 32 bits. */
static int take(const struct image *image, const GElf_Phdr *phdr, const void *desc, uint64_t bytes,
		int *found, uint64_t *entry)
{
	uint64_t value = 0;

	if (bytes != sizeof(uint32_t) && bytes != sizeof(uint64_t))
		return refuse(image, phdr, "a PVH entry that is neither of 4 nor of 8 bytes");
	/* Little-endian, as the file and this host are. */
	memcpy(&value, desc, bytes);
	if (*found && *entry != value)
		return refuse(image, phdr, "a second, different PVH entry");
	*found = 1;
	*entry = value;
	return 0;
}

int pvh_look(const struct image *image, Elf *elf, const GElf_Phdr *phdr, int *found,
	     uint64_t *entry)
{
	Elf_Type type = phdr->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR;
	size_t at = 0, next, name, desc;
	Elf_Data *data;
	GElf_Nhdr note;
	int err = 0;

	if (!phdr->p_filesz)
		return 0;
	if (phdr->p_filesz > NOTES_MAX)
		return refuse(image, phdr, "more than 1 MiB");
	if (phdr->p_offset > image->bytes || phdr->p_filesz > image->bytes - phdr->p_offset)
		return refuse(image, phdr, "contents beyond the file's end (truncated?)");
	data = elf_getdata_rawchunk(elf, (int64_t)phdr->p_offset, phdr->p_filesz, type);
	if (!data)
		return refuse(image, phdr, elf_errmsg(-1));
	for (; at < data->d_size && err == 0; at = next) {
		next = gelf_getnote(data, at, &note, &name, &desc);
		if (!next)
			return refuse(image, phdr, "a note that runs beyond their end");
		if (note.n_type == NOTE_TYPE && note.n_namesz == sizeof(NOTE_NAME) &&
		    !memcmp((const char *)data->d_buf + name, NOTE_NAME, sizeof(NOTE_NAME)))
			err = take(image, phdr, (const char *)data->d_buf + desc, note.n_descsz,
				   found, entry);
	}
	return err;
}
