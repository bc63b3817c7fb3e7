# SPDX-License-Identifier: Apache-2.0
"""CBOR in the deterministic form of docs/migration-format.md: what is needed of it, and no more."""

import struct

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, SIMPLE = 0, 1, 2, 3, 4, 5, 7
LENGTHS = {24: "B", 25: ">H", 26: ">I", 27: ">Q"}
SIMPLES = {20: False, 21: True}


class Malformed(Exception):
    """What was to be decoded is not of that form."""


def head(major, number):
    """The shortest head of a data item (RFC 8949, 4.2.1)."""
    if number < 24:
        return bytes([major << 5 | number])
    for info, form in LENGTHS.items():
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | info]) + struct.pack(form, number)
    raise ValueError(f"{number} has more than 64 bits")


def encode(value):
    """The one encoding of VALUE."""
    if isinstance(value, bool):
        return bytes([SIMPLE << 5 | (21 if value else 20)])
    if isinstance(value, int):
        return head(UINT, value) if value >= 0 else head(NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return head(BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return head(TEXT, len(text)) + text
    if isinstance(value, list):
        return head(ARRAY, len(value)) + b"".join(map(encode, value))
    pairs = sorted((encode(key), encode(item)) for key, item in value.items())
    return head(MAP, len(pairs)) + b"".join(key + item for key, item in pairs)


class Reader:
    """Decodes one item after the other, and takes no other form than encode()'s."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        """The next COUNT bytes."""
        if count > len(self.data) - self.at:
            raise Malformed(f"{count} bytes are wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def head(self):
        """The next item's major type and number."""
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info
        if info not in LENGTHS or major == SIMPLE:
            raise Malformed(f"a head of {first:#x}")
        number, = struct.unpack(LENGTHS[info], self.take(struct.calcsize(LENGTHS[info])))
        if len(head(major, number)) != 1 + struct.calcsize(LENGTHS[info]):
            raise Malformed(f"{number} is not in its shortest form")
        return major, number

    def item(self):
        """The next item."""
        major, number = self.head()
        if major == UINT:
            return number
        if major == NEGATIVE:
            return -1 - number
        if major == BYTES:
            return bytes(self.take(number))
        if major == TEXT:
            return bytes(self.take(number)).decode()
        if major == ARRAY:
            return [self.item() for _ in range(number)]
        if major == MAP:
            return self.map(number)
        if major == SIMPLE and number in SIMPLES:
            return SIMPLES[number]
        raise Malformed(f"major type {major}, {number}")

    def map(self, count):
        """COUNT pairs, whose keys are texts, sorted and single."""
        items, last = {}, b""
        for _ in range(count):
            begin = self.at
            key = self.item()
            encoded = bytes(self.data[begin:self.at])
            if not isinstance(key, str) or encoded <= last:
                raise Malformed(f"key {key!r} does not belong there")
            items[key], last = self.item(), encoded
        return items


def decode(data):
    """The item that DATA is."""
    reader = Reader(data)
    item = reader.item()
    if reader.at != len(data):
        raise Malformed(f"{len(data) - reader.at} bytes behind the item")
    return item


def record(data):
    """The contents of a record, of version 1."""
    item = decode(data)
    if set(item) != {"compat", "version", "contents"} or item["compat"] > 1:
        raise Malformed(f"no record of version 1: {sorted(item)}")
    return item["contents"]


def encode_record(contents):
    """A record of version 1."""
    return encode({"compat": 1, "version": 1, "contents": contents})
