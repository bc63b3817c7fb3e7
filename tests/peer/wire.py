# SPDX-License-Identifier: Apache-2.0
"""What is said on the wire of a migration: docs/migration-format.md, and nothing else."""

import array
import socket
import struct

START, CONFIG, STATE, MEMORY, COMPLETE, ABANDON, MEMORY_FD = range(1, 8)
JOIN, POSTPONE, FAULT, RESUME = range(0x4901, 0x4905)
OK, ERROR = 1, 2
VERSION = 1
ZERO_PAGES, ZSTD, CONNECTIONS, POSTCOPY, TEXTS = 1, 2, 4, 8, 16
PLAIN = ZERO_PAGES | CONNECTIONS | TEXTS
PAGE = 4096
ROW_ZERO, ROW_ZSTD, ROW_FLAGS = 1, 2, 0xfff
ROWS_MOST, TEXT_MOST = 65536, 65536
BLOCK_MOST = 1 << 17

NAMES = {START: "Start", CONFIG: "Config", STATE: "State", MEMORY: "Memory", COMPLETE: "Complete",
         ABANDON: "Abandon", MEMORY_FD: "MemoryFd", JOIN: "Join", POSTPONE: "Postpone",
         FAULT: "Fault", RESUME: "Resume"}
BARE = bytes(6)
GREETING = struct.Struct("<HI")
HEAD = struct.Struct("<H6sQ")
ROW = struct.Struct("<QQ")

# A peer that says nothing for so long has hung, which fails the test.
PATIENCE = 60


class Ended(Exception):
    """The peer has ended the connection."""


class Wrong(Exception):
    """The peer has said what it must not."""


class Refused(Exception):
    """The peer has answered with Error."""


def check(condition, text):
    """Whether the peer keeps to the document."""
    if not condition:
        raise Wrong(text)


class Connection:
    """A stream socket, which is read and written exactly."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(PATIENCE)

    def close(self):
        """Ends it."""
        self.sock.close()

    def read(self, count):
        """COUNT bytes."""
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_into(self, view):
        """As many bytes as VIEW has."""
        at = 0
        while at < len(view):
            try:
                got = self.sock.recv_into(view[at:])
            except ConnectionResetError:
                got = 0
            if not got:
                raise Ended(f"after {at} of {len(view)} bytes")
            at += got

    def read_with_fds(self, count):
        """COUNT bytes, in one message, and the descriptors with it."""
        fds = array.array("i")
        data, control, flags, _ = self.sock.recvmsg(count, socket.CMSG_SPACE(16 * fds.itemsize),
                                                    socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
        check(len(data) == count and not flags & socket.MSG_CTRUNC, "the message came in parts")
        return data, list(fds)

    def write(self, data):
        """All of DATA. The peer may have ended the connection, which is seen when it is read."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def write_with_fds(self, data, fds):
        """DATA, in one message, with descriptors."""
        socket.send_fds(self.sock, [data], fds)

    def is_over(self):
        """Waits for the end, before which nothing comes."""
        try:
            data = self.sock.recv(1)
        except ConnectionResetError:
            return True
        return not data

    # --- heads ---

    def say(self, code, payload=b"", header=BARE, length=None):
        """A request or a response, and what follows."""
        self.write(HEAD.pack(code, header, len(payload) if length is None else length) + payload)

    def read_head(self):
        """The next head: code, header, length."""
        return HEAD.unpack(self.read(HEAD.size))

    def read_answer(self, command, most=0):
        """The header of an Ok to COMMAND, and what follows it, which is at most MOST bytes."""
        status, header, length = self.read_head()
        if status == ERROR:
            check(length <= TEXT_MOST and header == BARE, "an Error of a wrong form")
            raise Refused(self.read(length).decode())
        check(status == OK, f"{NAMES.get(command, command)} is answered with status {status}")
        check(length <= most, f"{NAMES.get(command, command)}'s Ok has {length} bytes")
        check(command in (START, CONFIG) or header == BARE, "an Ok has a header")
        return header, self.read(length)

    def ask(self, command, payload=b"", header=BARE, most=0):
        """A request and its Ok."""
        self.say(command, payload, header)
        return self.read_answer(command, most)

    def ask_memory(self, items, data):
        """Memory of rows of address and length, with the contents of those that have any."""
        self.say(MEMORY, pack_rows(items))
        self.write(data)
        self.read_answer(MEMORY)

    def refusal(self):
        """The text of the Error that is to come, and then the end."""
        try:
            self.read_answer(None)
        except Refused as refused:
            return str(refused)
        raise Wrong("Ok, where Error was to come")


def frame(content):
    """A zstd frame (RFC 8878) of blocks that are not compressed, with its content's size."""
    blocks = [content[at:at + BLOCK_MOST] for at in range(0, len(content), BLOCK_MOST)]
    heads = [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little")
             for number, block in enumerate(blocks, 1)]
    return (bytes.fromhex("28b52ffda0") + len(content).to_bytes(4, "little") +
            b"".join(head + block for head, block in zip(heads, blocks)))


def rows(table):
    """The rows of a Memory's table: address, length, flags."""
    check(table and len(table) % ROW.size == 0 and len(table) <= ROWS_MOST * ROW.size,
          f"a table of {len(table)} bytes")
    return [(gpa & ~ROW_FLAGS, length, gpa & ROW_FLAGS) for gpa, length in ROW.iter_unpack(table)]


def pack_rows(items):
    """The table of rows of address and length."""
    return b"".join(ROW.pack(*item) for item in items)
