/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels by protocol: what each file can be entered as, PVH notes, flat files, and loading. */
#include "x86_64.h"

#define RAM_BYTES (8 * MIB)

/* --- names --- */

Test(names, go_both_ways)
{
	static const char *const protocols[] = {"auto", "linux64", "linux32", "pvh", "flat"};
	static const char *const modes[] = {NULL, "real", "protected", "long"};
	uint32_t number;

	for (uint32_t i = 0; i < 5; i++) {
		cr_assert_str_eq(impost_x86_protocol_name(i), protocols[i]);
		cr_assert_eq(impost_x86_protocol_from_name(protocols[i], &number), 0);
		cr_assert_eq(number, i);
	}
	for (uint32_t i = 1; i < 4; i++) {
		cr_assert_str_eq(impost_x86_mode_name(i), modes[i]);
		cr_assert_eq(impost_x86_mode_from_name(modes[i], &number), 0);
		cr_assert_eq(number, i);
	}
	number = PATTERN;
	cr_assert_null(impost_x86_protocol_name(5));
	cr_assert_null(impost_x86_mode_name(0));
	cr_assert_null(impost_x86_mode_name(4));
	cr_assert_eq(impost_x86_protocol_from_name("PVH", &number), -EINVAL);
	cr_assert_eq(impost_x86_mode_from_name("", &number), -EINVAL);
	cr_assert_eq(impost_x86_protocol_from_name(NULL, &number), -EINVAL);
	cr_assert_eq(impost_x86_mode_from_name(NULL, &number), -EINVAL);
	cr_assert_eq(impost_x86_protocol_from_name("pvh", NULL), -EINVAL);
	cr_assert_eq(number, (uint32_t)PATTERN);
}

/* --- an ELF file with notes: 64-bit, or 32-bit --- */

#define NOTES_BYTES 128u
#define PVH_ENTRY   (ELF_TEXT + 0x20)

/* A note of a PVH entry of either width, with the padding that the format wants. */
struct note {
	uint32_t namesz, descsz, type;
	char name[4];
	uint32_t desc[2];
};

static struct note note_make(uint64_t entry, uint32_t descsz)
{
	return (struct note){4, descsz, 18, "Xen", {(uint32_t)entry, (uint32_t)(entry >> 32)}};
}

struct pvh64 {
	struct elf elf;
	uint8_t notes[NOTES_BYTES];
};

/* The test's ELF with its second segment as notes, of which BYTES count. */
static struct pvh64 pvh64_make(const void *notes, size_t bytes)
{
	struct pvh64 pvh = {.elf = elf_make()};

	memcpy(pvh.notes, notes, bytes < NOTES_BYTES ? bytes : NOTES_BYTES);
	pvh.elf.phdr[1] = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct pvh64, notes),
		.p_filesz = bytes,
		.p_memsz = bytes,
		.p_align = 4,
	};
	return pvh;
}

struct pvh32 {
	Elf32_Ehdr ehdr;
	Elf32_Phdr phdr[2];
	uint8_t text[ELF_TEXT_SIZE];
	uint8_t notes[NOTES_BYTES];
};

static struct pvh32 pvh32_make(const void *notes, size_t bytes)
{
	struct pvh32 pvh = {
		.ehdr =
			{
				.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32,
					    ELFDATA2LSB, EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_386,
				.e_version = EV_CURRENT,
				.e_entry = 0xc0100000,
				.e_phoff = offsetof(struct pvh32, phdr),
				.e_ehsize = sizeof(Elf32_Ehdr),
				.e_phentsize = sizeof(Elf32_Phdr),
				.e_phnum = 2,
			},
		.phdr =
			{
				{
					.p_type = PT_NOTE,
					.p_offset = offsetof(struct pvh32, notes),
					.p_filesz = (uint32_t)bytes,
				},
				{
					.p_type = PT_LOAD,
					.p_offset = offsetof(struct pvh32, text),
					.p_vaddr = 0xc0100000,
					.p_paddr = ELF_TEXT,
					.p_filesz = ELF_TEXT_SIZE,
					.p_memsz = ELF_TEXT_SIZE + 0x1000,
				},
			},
	};

	memset(pvh.text, 0x5a, sizeof(pvh.text));
	memcpy(pvh.notes, notes, bytes);
	return pvh;
}

/* Reads the file of BYTES at DATA as PROTOCOL. */
static int read_as(struct ram *ram, const void *data, size_t bytes, uint32_t protocol,
		   struct impost_x86_kernel *ret_kernel)
{
	struct impost_x86_kernel_want want = {.size = sizeof(want), .protocol = protocol};
	int fd = file_make(data, bytes);
	int err = impost_x86_kernel_read(ram->ctx, fd, &want, ret_kernel);

	close(fd);
	return err;
}

static int read_auto(struct ram *ram, const void *data, size_t bytes,
		     struct impost_x86_kernel *ret_kernel)
{
	return read_as(ram, data, bytes, IMPOST_X86_PROTOCOL_AUTO, ret_kernel);
}

static void assert_pvh(const struct impost_x86_kernel *kernel)
{
	cr_assert_eq(kernel->size, sizeof(*kernel));
	cr_assert_eq(kernel->format, IMPOST_X86_FORMAT_ELF);
	cr_assert_eq(kernel->protocol, IMPOST_X86_PROTOCOL_PVH);
	cr_assert_eq(kernel->mode, IMPOST_X86_MODE_PROTECTED);
	cr_assert_eq(kernel->entry, PVH_ENTRY);
	cr_assert_eq(kernel->start, ELF_TEXT);
	cr_assert_eq(kernel->initrd_max, (uint64_t)UINT32_MAX);
	cr_assert_eq(kernel->cmdline_max, 2047u);
}

/* Linux writes 8 bytes in a 64-bit file; others 4. */
Test(pvh, entry_of_either_width)
{
	struct ram ram = ram_make(RAM_BYTES);

	for (uint32_t descsz = 4; descsz <= 8; descsz += 4) {
		struct note note = note_make(PVH_ENTRY, descsz);
		struct pvh64 wide = pvh64_make(&note, 16 + descsz);
		struct pvh32 narrow = pvh32_make(&note, 16 + descsz);
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};

		cr_assert_eq(read_auto(&ram, &wide, sizeof(wide), &kernel), 0, "%s",
			     impost_error(ram.ctx));
		assert_pvh(&kernel);
		cr_assert_eq(kernel.end, ELF_TEXT + ELF_TEXT_SIZE);
		cr_assert_eq(read_auto(&ram, &narrow, sizeof(narrow), &kernel), 0, "%s",
			     impost_error(ram.ctx));
		assert_pvh(&kernel);
		cr_assert_eq(kernel.end, ELF_TEXT + ELF_TEXT_SIZE + 0x1000);
	}
	ram_free(&ram);
}

Test(pvh, is_found_among_other_notes)
{
	/* As Linux has it: others of the same vendor, the same type of another vendor. */
	struct {
		struct note other[2];
		struct note pvh;
	} notes = {{note_make(1, 8), note_make(2, 8)}, note_make(PVH_ENTRY, 8)};
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(RAM_BYTES);
	struct pvh64 pvh;

	notes.other[0].type = 17;
	memcpy(notes.other[1].name, "GNU", 4);
	pvh = pvh64_make(&notes, sizeof(notes));
	cr_assert_eq(read_auto(&ram, &pvh, sizeof(pvh), &kernel), 0, "%s", impost_error(ram.ctx));
	assert_pvh(&kernel);
	ram_free(&ram);
}

Test(pvh, same_entry_twice_is_one)
{
	struct note notes[2] = {note_make(PVH_ENTRY, 8), note_make(PVH_ENTRY, 8)};
	struct pvh64 pvh = pvh64_make(notes, sizeof(notes));
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(RAM_BYTES);

	cr_assert_eq(read_auto(&ram, &pvh, sizeof(pvh), &kernel), 0);
	assert_pvh(&kernel);
	notes[1].desc[0]++;
	pvh = pvh64_make(notes, sizeof(notes));
	assert_refused(&ram, read_auto(&ram, &pvh, sizeof(pvh), &kernel), IMPOST_EIMAGE,
		       "a second, different PVH entry");
	ram_free(&ram);
}

/* One member of a note, or of the header of its segment, that cannot be. */
#define NOTE(f) offsetof(struct pvh64, notes) + offsetof(struct note, f)
#define SEG(f)	offsetof(struct pvh64, elf.phdr[1].f)
static const struct {
	size_t offset;
	uint32_t bytes;
	uint64_t value;
	const char *words;
} bad_notes[] = {
	{NOTE(namesz), 4, UINT32_MAX, "runs beyond their end"},
	{NOTE(namesz), 4, 100, "runs beyond their end"},
	{NOTE(descsz), 4, UINT32_MAX, "runs beyond their end"},
	{NOTE(descsz), 4, 9, "runs beyond their end"},
	{NOTE(descsz), 4, 0, "neither of 4 nor of 8"},
	{NOTE(descsz), 4, 7, "neither of 4 nor of 8"},
	{NOTE(desc), 8, PVH_ENTRY + (UINT64_C(1) << 32), "above 4 GiB"},
	{NOTE(desc), 8, ELF_TEXT - 1, "PVH entry 0xfffff is in none of its segments"},
	{NOTE(desc), 8, ELF_TEXT + ELF_TEXT_SIZE, "in none of its segments"},
	{NOTE(desc), 8, 0, "in none of its segments"},
	{SEG(p_offset), 8, UINT64_MAX, "beyond the file's end"},
	{SEG(p_offset), 8, sizeof(struct pvh64) - 23, "beyond the file's end"},
	{SEG(p_filesz), 8, UINT64_MAX, "more than 1 MiB"},
	{SEG(p_filesz), 8, (1 << 20) + 1, "more than 1 MiB"},
	{SEG(p_filesz), 8, NOTES_BYTES + 1, "beyond the file's end"},
	{SEG(p_filesz), 8, 23, "runs beyond their end"},
	{SEG(p_filesz), 8, 11, "runs beyond their end"},
};

Test(pvh, notes_that_cannot_be)
{
	struct note note = note_make(PVH_ENTRY, 8);
	struct ram ram = ram_make(RAM_BYTES);
	int fds = count_fds();

	for (size_t i = 0; i < sizeof(bad_notes) / sizeof(bad_notes[0]); i++) {
		struct impost_x86_kernel kernel = {.size = sizeof(kernel), .entry = PATTERN};
		struct pvh64 pvh = pvh64_make(&note, sizeof(note));

		memcpy((uint8_t *)&pvh + bad_notes[i].offset, &bad_notes[i].value,
		       bad_notes[i].bytes);
		assert_refused(&ram, read_auto(&ram, &pvh, sizeof(pvh), &kernel), IMPOST_EIMAGE,
			       bad_notes[i].words);
		cr_assert_eq(kernel.entry, (uint64_t)PATTERN);
		/* Who wants the 64-bit entry does not care. */
		cr_assert_eq(read_as(&ram, &pvh, sizeof(pvh), IMPOST_X86_PROTOCOL_LINUX64, &kernel),
			     0, "%s", impost_error(ram.ctx));
		cr_assert_eq(kernel.entry, ELF_TEXT + 0x10);
	}
	cr_assert_eq(count_fds(), fds);
	ram_free(&ram);
}

/* Whatever one byte of headers and notes is: refused, or an entry that is in the text. */
Test(pvh, every_byte_mutated)
{
	static const uint8_t values[] = {0x00, 0x01, 0x10, 0x7f, 0x80, 0xff};
	struct note note = note_make(PVH_ENTRY, 4);
	struct ram ram = ram_make(RAM_BYTES);
	unsigned int good = 0, refused = 0;

	for (size_t at = 0; at < sizeof(struct pvh32); at++) {
		if (at >= offsetof(struct pvh32, text) && at < offsetof(struct pvh32, notes))
			continue;
		for (size_t k = 0; k < sizeof(values); k++) {
			struct pvh32 pvh = pvh32_make(&note, 20);
			struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
			int err;

			((uint8_t *)&pvh)[at] = values[k];
			err = read_auto(&ram, &pvh, sizeof(pvh), &kernel);
			cr_assert(err == 0 || err == -IMPOST_EIMAGE, "%d", err);
			if (err == 0) {
				good++;
				cr_assert(kernel.entry >= kernel.start &&
					  kernel.entry < kernel.end);
				cr_assert_leq(kernel.entry, UINT32_MAX);
			}
			refused += err != 0;
		}
	}
	cr_assert(good > 100 && refused > 100, "%u good, %u refused", good, refused);
	ram_free(&ram);
}

/* --- what a file can be entered as --- */

enum { BZ_64, BZ_32, BZ_OLD, ELF_64, PVH_64, PVH_32, TEXT, FILES };

/* Writes file KIND into BUF; returns its bytes. */
static size_t make_file(int kind, uint8_t *buf)
{
	struct note note = note_make(PVH_ENTRY, 4);
	struct pvh64 pvh64 = pvh64_make(&note, 20);
	struct pvh32 pvh32 = pvh32_make(&note, 20);
	struct elf elf = elf_make();
	struct bz bz = bz_make();
	const void *file = &bz;
	size_t bytes = sizeof(bz);

	switch (kind) {
	case BZ_32:
		bz.hdr.xloadflags = 0;
		break;
	case BZ_OLD: /* 2.10: what lies at xloadflags is not that */
		bz.hdr.version = 0x20a;
		break;
	case ELF_64:
		file = &elf, bytes = sizeof(elf);
		break;
	case PVH_64:
		file = &pvh64, bytes = sizeof(pvh64);
		break;
	case PVH_32:
		file = &pvh32, bytes = sizeof(pvh32);
		break;
	case TEXT:
		memset(&bz, 'x', sizeof(bz));
		break;
	}
	memcpy(buf, file, bytes);
	return bytes;
}

#define AUTO	IMPOST_X86_PROTOCOL_AUTO
#define LINUX64 IMPOST_X86_PROTOCOL_LINUX64
#define LINUX32 IMPOST_X86_PROTOCOL_LINUX32
#define PVH	IMPOST_X86_PROTOCOL_PVH
#define FLAT	IMPOST_X86_PROTOCOL_FLAT

/* For each file: what auto finds (0: nothing), and which others it can be. */
static const struct {
	uint32_t found;
	int can[5];
} files[FILES] = {
	[BZ_64] = {LINUX64, {[LINUX64] = 1, [LINUX32] = 1, [FLAT] = 1}},
	[BZ_32] = {LINUX32, {[LINUX32] = 1, [FLAT] = 1}},
	[BZ_OLD] = {LINUX32, {[LINUX32] = 1, [FLAT] = 1}},
	[ELF_64] = {LINUX64, {[LINUX64] = 1, [FLAT] = 1}},
	[PVH_64] = {PVH, {[LINUX64] = 1, [PVH] = 1, [FLAT] = 1}},
	[PVH_32] = {PVH, {[PVH] = 1, [FLAT] = 1}},
	[TEXT] = {0, {[FLAT] = 1}},
};

Test(kernel, each_file_by_each_protocol)
{
	static const uint32_t modes[] = {
		[LINUX64] = IMPOST_X86_MODE_LONG,
		[LINUX32] = IMPOST_X86_MODE_PROTECTED,
		[PVH] = IMPOST_X86_MODE_PROTECTED,
		[FLAT] = IMPOST_X86_MODE_LONG,
	};
	struct ram ram = ram_make(RAM_BYTES);
	uint8_t buf[4096];

	for (int kind = 0; kind < FILES; kind++) {
		size_t bytes = make_file(kind, buf);

		for (uint32_t protocol = AUTO; protocol <= FLAT; protocol++) {
			uint32_t want = protocol ? protocol : files[kind].found;
			int can = protocol ? files[kind].can[protocol] : want != 0;
			struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
			int err = read_as(&ram, buf, bytes, protocol, &kernel);

			cr_assert_eq(err, can ? 0 : -IMPOST_EIMAGE, "file %d, %s: %d %s", kind,
				     impost_x86_protocol_name(protocol), err,
				     impost_error(ram.ctx));
			cr_assert(!can || kernel.protocol == want);
			cr_assert(!can || kernel.mode == modes[want]);
		}
	}
	ram_free(&ram);
}

/* The 32-bit entry is where the kernel begins, the 64-bit one 0x200 behind (boot.rst). */
Test(kernel, entries_of_a_bzimage)
{
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(RAM_BYTES);
	struct bz bz = bz_make();

	bz.hdr.xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	cr_assert_eq(read_as(&ram, &bz, sizeof(bz), LINUX64, &kernel), 0);
	cr_assert_eq(kernel.entry, BZ_START + 0x200);
	cr_assert_eq(kernel.initrd_max, UINT64_MAX);
	cr_assert_eq(read_as(&ram, &bz, sizeof(bz), LINUX32, &kernel), 0);
	cr_assert_eq(kernel.entry, BZ_START);
	cr_assert_eq(kernel.initrd_max, 0x7fffffffu);
	bz.hdr.pref_address = 4 * GIB - 2 * MIB;
	cr_assert_eq(read_as(&ram, &bz, sizeof(bz), LINUX32, &kernel), 0);
	bz.hdr.pref_address = 4 * GIB;
	cr_assert_eq(read_as(&ram, &bz, sizeof(bz), LINUX64, &kernel), 0);
	assert_refused(&ram, read_as(&ram, &bz, sizeof(bz), LINUX32, &kernel), IMPOST_EIMAGE,
		       "must lie below 4 GiB");
	ram_free(&ram);
}

/* --- what is wanted --- */

Test(want, what_cannot_be)
{
	static const struct {
		struct impost_x86_kernel_want want;
		const char *words;
	} wrong[] = {
		{{.size = 16}, "impost_x86_kernel_want has size 16"},
		{{.size = 24, .reserved = 1}, "reserved is 1"},
		{{.size = 24, .protocol = 5}, "no boot protocol 5"},
		{{.size = 24, .protocol = FLAT, .mode = 4}, "no mode 4"},
		{{.size = 24, .mode = IMPOST_X86_MODE_LONG}, "protocol flat only"},
		{{.size = 24, .protocol = PVH, .address = 0x100000}, "for pvh the kernel"},
		{{.size = 24, .protocol = FLAT, .mode = IMPOST_X86_MODE_REAL, .address = 8},
		 "a multiple of 16"},
	};
	struct impost_x86_kernel kernel = {.size = sizeof(kernel), .entry = PATTERN};
	struct ram ram = ram_make(0);
	int fd = file_make("x", 1);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(&ram, impost_x86_kernel_read(ram.ctx, fd, &wrong[i].want, &kernel),
			       EINVAL, wrong[i].words);
	cr_assert_eq(impost_x86_kernel_read(NULL, fd, NULL, &kernel), -IMPOST_EIMAGE);
	cr_assert_eq(kernel.entry, (uint64_t)PATTERN);
	close(fd);
	ram_free(&ram);
}

/* A caller that is newer has more, which is 0; one that set no size is refused, untouched. */
Test(kernel, structs_of_another_size)
{
	static const uint32_t wrong[] = {0, sizeof(struct impost_x86_kernel) - 1, UINT32_MAX};
	struct {
		struct impost_x86_kernel kernel;
		uint64_t newer;
	} longer = {{.size = sizeof(longer)}, UINT64_MAX};
	struct {
		struct impost_x86_kernel_want want;
		uint64_t newer;
	} want = {{.size = sizeof(want)}, 1};
	struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
	struct ram ram = ram_make(0);
	struct bz bz = bz_make();
	int fd = file_make(&bz, sizeof(bz));

	assert_refused(&ram, impost_x86_kernel_read(ram.ctx, fd, &want.want, &kernel), E2BIG,
		       "impost_x86_kernel_want asks for something");
	want.newer = 0;
	cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, &want.want, &kernel), 0);
	cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, NULL, &longer.kernel), 0);
	cr_assert_eq(longer.kernel.size, sizeof(longer));
	cr_assert_eq(longer.newer, 0);
	longer.kernel.size = sizeof(kernel);
	cr_assert_eq(memcmp(&longer.kernel, &kernel, sizeof(kernel)), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kernel.size = wrong[i];
		kernel.entry = PATTERN;
		assert_refused(&ram, impost_x86_kernel_read(ram.ctx, fd, NULL, &kernel), EINVAL,
			       "impost_x86_kernel has size");
		assert_refused(&ram, impost_x86_bzimage_parse(ram.ctx, "", 0, 0, &kernel), EINVAL,
			       "impost_x86_kernel has size");
		cr_assert_eq(kernel.entry, (uint64_t)PATTERN);
	}
	close(fd);
	ram_free(&ram);
}

/* --- flat files --- */

#define REAL IMPOST_X86_MODE_REAL
#define PROT IMPOST_X86_MODE_PROTECTED
#define LONG IMPOST_X86_MODE_LONG

static const struct {
	uint32_t mode;
	uint64_t address;
	uint64_t bytes;
	uint64_t entry; /* 0: refused */
} flats[] = {
	{0, 0, 1, 0x100000},
	{LONG, 0, 3 * MIB, 0x100000},
	{PROT, 0, 1, 0x100000},
	{REAL, 0, 1, 0x10000},
	{REAL, 0x7c00, 512, 0x7c00},
	{REAL, 0x10000, 0x8fc00, 0x10000},
	{REAL, 0x10000, 0x8fc01, 0},
	{REAL, 0x9fbf0, 16, 0x9fbf0},
	{REAL, 0x9fc00, 1, 0},
	{REAL, UINT64_C(0xfffffffffffffff0), 1, 0},
	{PROT, 0xfffff001, 4095, 0xfffff001},
	{PROT, 0xfffff001, 4096, 0},
	{PROT, UINT64_C(0x100000000), 1, 0},
	{LONG, UINT64_C(0x100000000), 1, UINT64_C(0x100000000)},
	{LONG, UINT64_MAX, 1, 0},
	{LONG, UINT64_MAX - 4096, 4097, 0},
	{LONG, 12345, 1, 12345},
};

Test(flat, fits_where_its_mode_can_reach)
{
	struct ram ram = ram_make(0);

	for (size_t i = 0; i < sizeof(flats) / sizeof(flats[0]); i++) {
		struct impost_x86_kernel_want want = {.size = sizeof(want),
						      .protocol = FLAT,
						      .mode = flats[i].mode,
						      .address = flats[i].address};
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		int fd = file_make("x", 1);

		cr_assert_eq(ftruncate(fd, (off_t)flats[i].bytes), 0);
		if (!flats[i].entry) {
			assert_refused(&ram, impost_x86_kernel_read(ram.ctx, fd, &want, &kernel),
				       IMPOST_EIMAGE, "does not end below");
			close(fd);
			continue;
		}
		cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, &want, &kernel), 0, "%zu: %s", i,
			     impost_error(ram.ctx));
		cr_assert_eq(kernel.format, IMPOST_X86_FORMAT_FLAT);
		cr_assert_eq(kernel.mode, flats[i].mode ? flats[i].mode : LONG);
		cr_assert_eq(kernel.entry, flats[i].entry);
		cr_assert_eq(kernel.start, flats[i].entry);
		cr_assert_eq(kernel.end, flats[i].entry + flats[i].bytes);
		close(fd);
	}
	ram_free(&ram);
}

/* --- loading --- */

/* Each file is loaded where it says, claims that, and nothing else is touched. */
Test(load, claims_what_it_takes)
{
	struct ram ram = ram_make(RAM_BYTES);
	static uint8_t got[RAM_BYTES];
	uint8_t buf[4096];

	for (int kind = 0; kind < TEXT; kind++) {
		int fd = file_make(buf, make_file(kind, buf));
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		struct impost_x86_layout layout;
		int loaded = 0;

		cr_assert_eq(lseek(fd, 5, SEEK_SET), 5);
		impost_x86_layout_init(&layout);
		cr_assert_eq(impost_memory_fill(ram.memory, 0, PATTERN, RAM_BYTES), 0);
		cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, NULL, &kernel), 0);
		cr_assert_eq(impost_x86_kernel_load(ram.memory, &layout, fd, &kernel), 0, "%s",
			     impost_error(ram.ctx));
		cr_assert_eq(layout.count, 1u);
		cr_assert_str_eq(layout.place[0].what, "kernel");
		cr_assert_eq(layout.place[0].gpa, kernel.start);
		cr_assert_eq(layout.place[0].bytes, kernel.end - kernel.start);
		cr_assert_eq(impost_memory_read(ram.memory, 0, got, RAM_BYTES), 0);
		for (uint64_t at = 0; at < RAM_BYTES; at++) {
			int within = at >= kernel.start && at < kernel.end;

			cr_assert(within || got[at] == PATTERN, "0x%lx", (unsigned long)at);
			loaded += within && got[at] != PATTERN;
		}
		cr_assert_gt(loaded, 300);
		cr_assert_eq(lseek(fd, 0, SEEK_CUR), 5, "the descriptor's offset is the caller's");
		close(fd);
	}
	ram_free(&ram);
}

/* Where RAM ends before the kernel does, nothing stays claimed. */
Test(load, without_enough_ram)
{
	uint8_t buf[4096];

	for (int kind = 0; kind < TEXT; kind++) {
		int fd = file_make(buf, make_file(kind, buf));
		struct ram ram = ram_make(MIB);
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		struct impost_x86_layout layout;

		impost_x86_layout_init(&layout);
		cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, NULL, &kernel), 0);
		assert_refused(&ram, impost_x86_kernel_load(ram.memory, &layout, fd, &kernel),
			       EFAULT, "give the guest more memory");
		cr_assert_eq(layout.count, 0u);
		close(fd);
		ram_free(&ram);
	}
}

/* Where another place is, both are named and nothing is loaded. */
Test(load, on_another_place)
{
	uint8_t buf[4096];

	for (int kind = 0; kind < TEXT; kind++) {
		int fd = file_make(buf, make_file(kind, buf));
		struct ram ram = ram_make(RAM_BYTES);
		struct impost_x86_layout layout;
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		uint8_t got;

		impost_x86_layout_init(&layout);
		cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, NULL, &kernel), 0);
		cr_assert_eq(impost_x86_layout_claim(ram.ctx, &layout, "device", kernel.end - 1, 1,
						     IMPOST_X86_E820_RESERVED),
			     0);
		cr_assert_eq(impost_memory_fill(ram.memory, kernel.start, PATTERN, 1), 0);
		assert_refused(&ram, impost_x86_kernel_load(ram.memory, &layout, fd, &kernel),
			       EEXIST, "the kernel (0x");
		cr_assert(strstr(impost_error(ram.ctx), "would lie over the device (0x"));
		cr_assert_eq(layout.count, 1u);
		cr_assert_eq(impost_memory_read(ram.memory, kernel.start, &got, 1), 0);
		cr_assert_eq(got, PATTERN);
		close(fd);
		ram_free(&ram);
	}
}

Test(load, a_file_that_has_changed)
{
	struct ram ram = ram_make(RAM_BYTES);
	uint8_t buf[4096];

	for (int kind = 0; kind < FILES; kind++) {
		uint32_t protocol = kind == TEXT ? FLAT : files[kind].found;
		struct impost_x86_kernel_want want = {.size = sizeof(want), .protocol = protocol};
		size_t bytes = make_file(kind, buf);
		int fd = file_make(buf, bytes);
		struct impost_x86_kernel kernel = {.size = sizeof(kernel)};
		struct impost_x86_layout layout;

		impost_x86_layout_init(&layout);
		cr_assert_eq(impost_x86_kernel_read(ram.ctx, fd, &want, &kernel), 0);
		kernel.end += 4096;
		assert_refused(&ram, impost_x86_kernel_load(ram.memory, &layout, fd, &kernel),
			       IMPOST_EIMAGE, "has changed since it was read");
		kernel.end -= 4096;
		cr_assert_eq(ftruncate(fd, 300), 0);
		cr_assert_eq(impost_x86_kernel_load(ram.memory, &layout, fd, &kernel),
			     -IMPOST_EIMAGE, "file %d", kind);
		cr_assert_eq(layout.count, 0u);
		kernel.format = 0;
		assert_refused(&ram, impost_x86_kernel_load(ram.memory, &layout, fd, &kernel),
			       EINVAL, "must be read with impost_x86_kernel_read()");
		close(fd);
	}
	ram_free(&ram);
}
