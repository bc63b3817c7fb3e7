#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small valid images for the fuzz targets to start from. Usage: seeds.py FOLDER bz|elf|pvh, or
of a snapshot: seeds.py FOLDER file|memory SNAPSHOT, or what a migration of its VM says: seeds.py
FOLDER stream SNAPSHOT"""
import struct
import sys
from pathlib import Path

PT_LOAD, PT_NOTE = 1, 4


def bzimage(relocatable, xloadflags, jump=0x6A):
    """A bzImage of one setup sector and 1 KiB of payload, for 1 MiB or 2 MiB (boot.rst)."""
    setup, payload = 2 * 512, bytes(range(256)) * 4
    head = bytearray(setup)
    fields = {
        0x1F1: ("<B", 1),  # setup_sects
        0x1F4: ("<I", len(payload) // 16),  # syssize
        0x1FE: ("<H", 0xAA55),
        0x200: ("<BB4s", 0xEB, jump, b"HdrS"),
        0x206: ("<H", 0x20F),  # version
        0x211: ("<B", 1),  # loadflags
        0x214: ("<I", 0x100000),  # code32_start
        0x22C: ("<I", 0x7FFFFFFF),  # initrd_addr_max
        0x230: ("<IB", 0x200000, relocatable),
        0x236: ("<HI", xloadflags, 2047),  # and cmdline_size
        0x258: ("<QI", 0x200000 if relocatable else 0, 0x8000),  # pref_address, init_size
    }
    for offset, (form, *values) in fields.items():
        struct.pack_into(form, head, offset, *values)
    return bytes(head) + payload


def elf(*segments, bits=64):
    """A static ELF with SEGMENTS of (type, paddr, bytes or their number, bss)."""
    wide = bits == 64
    ehdr, phdr = (64, 56) if wide else (52, 32)
    offset = ehdr + phdr * len(segments)
    entry = next((s[1] for s in segments if s[0] == PT_LOAD), 0)
    head = struct.pack("<4sBBB9xHHI" + ("QQQ" if wide else "III") + "IHHHHHH", b"\x7fELF",
                       2 if wide else 1, 1, 1, 2, 62 if wide else 3, 1, entry, ehdr, 0, 0,
                       ehdr, phdr, len(segments), 0, 0, 0)
    phdrs = body = b""
    for kind, paddr, data, bss in segments:
        data = data if isinstance(data, bytes) else bytes(i & 0xFF for i in range(data))
        place, size = (offset + len(body), paddr, paddr, len(data), len(data) + bss), len(data)
        align = 4 if kind == PT_NOTE else 4096
        phdrs += (struct.pack("<IIQQQQQQ", kind, 7, *place, align) if wide else
                  struct.pack("<IIIIIIII", kind, *place, 7, align))
        body += data + bytes(-size % 4)
    return head + phdrs + body


def note(name, kind, desc):
    """An ELF note, with its padding."""
    name += b"\0"
    return (struct.pack("<III", len(name), len(desc), kind) + name + bytes(-len(name) % 4) +
            desc + bytes(-len(desc) % 4))


# A PVH entry as Linux has it, behind another vendor's note, and a 32-bit one (Xen, elfnote.h).
PVH_64 = note(b"GNU", 3, bytes(20)) + note(b"Xen", 18, struct.pack("<Q", 0x100010))
PVH_32 = note(b"Xen", 6, b"guest\0") + note(b"Xen", 18, struct.pack("<I", 0x100010))


SEEDS = {
    "bz-relocatable": bzimage(1, 1),
    "bz-fixed": bzimage(0, 1),
    "bz-above-4g": bzimage(1, 3, 0x7F),
    "bz-32-bit": bzimage(1, 0),
    "elf-one": elf((PT_LOAD, 0x100000, 128, 0)),
    "elf-bss": elf((PT_LOAD, 0x100000, 64, 0), (PT_LOAD, 0x102000, 32, 4096)),
    "pvh-64": elf((PT_LOAD, 0x100000, 64, 0), (PT_NOTE, 0, PVH_64, 0)),
    "pvh-32": elf((PT_LOAD, 0x100000, 64, 64), (PT_NOTE, 0, PVH_32, 0), bits=32),
    "elf-note": elf((PT_NOTE, 0, 16, 0), (PT_LOAD, 0x200000, 16, 16)),
    "elf-low": elf((PT_LOAD, 0x1000, 16, 0)),
}


def snapshot_sections(data):
    """The sections of a snapshot by name (docs/snapshot-format.md)."""
    head, entry, count = struct.unpack_from("<III", data, 16)
    rows = [data[head + i * entry:][:entry] for i in range(count)]
    places = {row[:row.index(0)].decode(): struct.unpack_from("<QQ", row, 72) for row in rows}
    return {name: data[offset:offset + size] for name, (offset, size) in places.items()}


def snapshot_seeds(data):
    """The file, and its table of memory."""
    return {"file-full": data, "memory-full": snapshot_sections(data)["memory"]}


PAGE = 4096
START, CONFIG, STATE, MEMORY, COMPLETE, ABANDON, JOIN, POSTPONE, RESUME = 1, 2, 3, 4, 5, 6, 0x4901, 0x4902, 0x4904
NEXT = 0x49FF  # of the fuzz target alone: what follows is said on another connection
ZERO, ZSTD = 1, 2  # flags of a row, and with the others features of a migration
CONNECTIONS, POSTCOPY, TEXTS = 4, 8, 16


def cbor(value):
    """VALUE in deterministic CBOR (RFC 8949, 4.2.1): numbers, booleans, texts, byte strings, lists, maps."""
    if isinstance(value, bool):
        return bytes([0xF5 if value else 0xF4])
    majors = {int: 0, bytes: 2, str: 3, list: 4, dict: 5}
    number = value if isinstance(value, int) else len(value.encode() if isinstance(value, str) else value)
    major = majors[type(value)] << 5
    size = next(i for i, most in enumerate([24, 1 << 8, 1 << 16, 1 << 32, 1 << 64]) if number < most)
    head = bytes([major | number]) if size == 0 else bytes([major | 23 + size]) + number.to_bytes(1 << size - 1, "big")
    if isinstance(value, dict):
        pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
        return head + b"".join(key + item for key, item in pairs)
    if isinstance(value, list):
        return head + b"".join(map(cbor, value))
    return head + (value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b"")


def frame(command, payload=b"", behind=b"", header=bytes(6)):
    """A request (docs/migration-format.md)."""
    return struct.pack("<H6sQ", command, header, len(payload)) + payload + behind


def table(*rows):
    """ROWS of address with flags, pages, and whatever."""
    return b"".join(struct.pack("<QQ", gpa, pages * PAGE) for gpa, pages, _ in rows)


def memory(*rows):
    """A Memory of ROWS, which have what is behind the table."""
    return frame(MEMORY, table(*rows), b"".join(contents for _, _, contents in rows))


def packed(data):
    """DATA as a row has it compressed: a frame of one raw block (RFC 8878, 3.1.1)."""
    raw = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data)) + (len(data) << 3 | 1).to_bytes(3, "little") + data
    return struct.pack("<Q", len(raw)) + raw


def stream_seeds(data):
    """What a source says that sends the VM of a snapshot, in several ways."""
    state = {name: section for name, section in snapshot_sections(data).items() if name not in ("memory", "base")}
    record = {"connections": 1, "local": False, "token": bytes(16), "offsets": []}
    config = cbor({
        "state": state,
        "migration": cbor({"compat": 1, "version": 1, "contents": record}),
    })
    start = frame(START, header=struct.pack("<HI", 1, ZERO | ZSTD | TEXTS)) + frame(CONFIG, config)
    plain = frame(START) + frame(CONFIG, config)
    pages = bytes(range(256)) * 32
    last = frame(STATE, cbor(state))
    joined = cbor({
        "state": state,
        "migration": cbor({"compat": 1, "version": 1, "contents": dict(record, connections=3)}),
    })
    join = frame(JOIN, bytes(16))
    late = frame(START, header=struct.pack("<HI", 1, ZERO | POSTCOPY | TEXTS)) + frame(CONFIG, config) + last
    local = cbor({
        "state": state,
        "migration": cbor({"compat": 1, "version": 1, "contents": dict(record, local=True, offsets=[0])}),
    })
    return {
        "stream-plain": plain + memory((0, 2, pages)) + last + frame(COMPLETE),
        "stream-kinds": start + memory((0, 1, pages[:PAGE]), (PAGE | ZERO, 1, b""),
                                       (2 * PAGE | ZSTD, 1, packed(pages[:PAGE])), (3 * PAGE, 1, pages[:PAGE])) +
                        memory((0, 1, pages[PAGE:])) + last + frame(COMPLETE),
        "stream-late": start + last + memory((0 | ZERO, 2, b""), (PAGE, 1, pages[PAGE:])) + frame(COMPLETE),
        "stream-postcopy": frame(START, header=struct.pack("<HI", 1, ZERO | POSTCOPY | TEXTS)) + frame(CONFIG, config) +
                           memory((0, 1, pages[:PAGE])) + last + frame(POSTPONE, table((PAGE, 1, b""))) +
                           frame(COMPLETE) + memory((PAGE, 1, pages[PAGE:])) + frame(COMPLETE),
        "stream-joined": frame(START, header=struct.pack("<HI", 1, ZERO | ZSTD | CONNECTIONS | TEXTS)) +
                         frame(CONFIG, joined) + last + frame(COMPLETE) +
                         frame(NEXT) + join + memory((0, 1, pages[:PAGE])) +
                         frame(NEXT) + frame(JOIN, b"another's token.") +
                         frame(NEXT) + join + memory((PAGE | ZERO, 1, b"")),
        "stream-resumed": late + frame(POSTPONE, table((0, 2, b""))) + frame(COMPLETE) + memory((0, 1, pages[:PAGE])) +
                          frame(NEXT) + frame(RESUME, b"another's token.") +
                          frame(NEXT) + frame(RESUME, bytes(16)) + memory((PAGE, 1, pages[PAGE:])) + frame(COMPLETE),
        "stream-abandoned": start + memory((0, 1, pages[:PAGE])) + frame(ABANDON),
        "stream-local": frame(START, header=struct.pack("<HI", 1, TEXTS)) + frame(CONFIG, local) + last,
    }


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(exist_ok=True)
    if len(sys.argv) > 3:
        makers = {"stream": stream_seeds}
        SEEDS = makers.get(kind, snapshot_seeds)(Path(sys.argv[3]).read_bytes())
    for name, image in SEEDS.items():
        if name.startswith(kind + "-"):
            (folder / name).write_bytes(image)
