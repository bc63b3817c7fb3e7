# SPDX-License-Identifier: Apache-2.0
"""The destination's side: takes a VM, and keeps it."""

import fcntl
import mmap
import os
import socket
import stat
import threading

import wire
from machine import Machine
from wire import check


class Abandoned(Exception):
    """The source has said Abandon."""


class Destination:
    """What is said over one connection, and over those that join it (JOINED, others' ends)."""

    def __init__(self, connection, features=wire.PLAIN, knows_features=True, joined=(), drops=0):
        self.main = connection
        self.can, self.knows_features = features, knows_features
        self.features = 0  # that are in use
        self.drops = drops  # those that fall away with Config
        self.joined = joined
        self.machine = None
        self.said = []  # commands, in the order in which they came
        self.rows = 0   # of Memory, and how many of them were of zeros
        self.zero_rows = 0
        self.instead = {}  # a command: what is done in the place of its Ok, from which on nothing is
        self.before = {}  # a command: what is done before it is answered
        self.joined_instead = {}  # the same on the other connections
        self.lock = threading.Lock()
        self.troubles = []  # of the threads of other connections
        self.slots = set()
        self.loses_last = False  # the last Ok is lost, and nobody listens any more
        self.resumed = 0
        self.others = []  # connections: where memory follows, each takes the place of the one before
        self.lacking = {}  # rows that follow after Complete, by address, of a page each: the region

    def serve(self):
        """Until Complete. True if the VM is here, False if it is not after a wrong answer."""
        while True:
            command, header, length = self.main.read_head()
            check(command in wire.NAMES, f"command {command:#x}")
            check(command == wire.START or header == wire.BARE, "a request has a header")
            self.said.append(command)
            answer = self.take(command, header, length)
            self.before.get(command, lambda: None)()
            if command in self.instead:
                self.instead[command](self.main)
                return False
            self.main.say(wire.OK, header=answer)
            if command == wire.COMPLETE:
                check(not self.troubles, f"on another connection: {self.troubles}")
                if wire.POSTPONE in self.said:
                    self.follow()
                return True

    def take(self, command, header, length):
        """What is behind a request's head. Returns the Ok's header."""
        check(len(self.said) == 1 or wire.START in self.said[:-1], "it does not begin with Start")
        check(command != wire.START or len(self.said) == 1, "Start is said twice")
        if command == wire.START:
            check(length == 0, "Start has a length")
            return self.start(header)
        if command == wire.ABANDON:
            raise Abandoned()
        check(command == wire.CONFIG or self.machine, f"{wire.NAMES[command]} before Config")
        taken = {wire.CONFIG: self.config, wire.STATE: self.state, wire.MEMORY: self.memory,
                 wire.MEMORY_FD: self.memory_fd, wire.COMPLETE: self.complete}
        if self.features & wire.POSTCOPY:
            taken[wire.POSTPONE] = self.postpone
        check(command in taken, f"{wire.NAMES[command]} on this connection")
        check(wire.POSTPONE not in self.said[:-1] or command == wire.COMPLETE,
              f"{wire.NAMES[command]} after Postpone")
        taken[command](length)
        return wire.GREETING.pack(0, self.drops) if command == wire.CONFIG else wire.BARE

    def start(self, header):
        """The versions and features of the two are compared."""
        version, theirs = wire.GREETING.unpack(header)
        check(version in (0, wire.VERSION), f"version {version}")
        check(version or not theirs, "features of a peer that knows none")
        if not self.knows_features or not version:
            return wire.BARE
        self.features = theirs & self.can
        return wire.GREETING.pack(wire.VERSION, self.features)

    def config(self, length):
        """The VM, as it is now."""
        check(not self.machine, "Config is said twice")
        self.machine = Machine(self.main.read(length))
        count = self.machine.migration["connections"]
        check(count == 1 or self.features & wire.CONNECTIONS, "connections that were not agreed on")
        for connection in self.joined[:count - 1]:
            threading.Thread(target=self.serve_joined, args=(connection,), daemon=True).start()
        self.features &= ~self.drops

    def state(self, length):
        """The VM, as it is to be."""
        self.machine.take_state(self.main.read(length))

    def complete(self, length):
        """All is there."""
        check(length == 0, "Complete has a length")
        check(self.machine.late, "Complete before State")
        if self.machine.migration["local"]:
            check(len(self.slots) == len(self.machine.regions), "memory is missing")

    # --- memory ---

    def memory(self, length, connection=None):
        """Rows, and their contents."""
        connection = connection or self.main
        check(not self.machine.migration["local"], "Memory, which is the same already")
        for gpa, size, flags in wire.rows(connection.read(length)):
            region = self.machine.find(gpa, size)
            check(flags in (0, wire.ROW_ZERO), f"a row with flags {flags:#x}")
            check(not flags or self.features & wire.ZERO_PAGES, "zeros were not agreed on")
            at = gpa - region.gpa
            view = memoryview(region.memory)[at:at + size]
            if flags:
                view[:] = bytes(size)
            else:
                connection.read_into(view)
            with self.lock:
                self.rows += 1
                self.zero_rows += flags
                region.sent.update(range(at // wire.PAGE, (at + size) // wire.PAGE))

    # --- memory that comes after the VM ---

    def postpone(self, length):
        """What there is of these rows is nothing any more."""
        check(self.machine.late, "Postpone before State")
        for gpa, size, flags in wire.rows(self.main.read(length)):
            region = self.machine.find(gpa, size)
            check(not flags, f"a row with flags {flags:#x}")
            region.memory[gpa - region.gpa:gpa - region.gpa + size] = bytes(size)
            self.lacking.update({page: region for page in range(gpa, gpa + size, wire.PAGE)})

    def follow(self):
        """All that lacks comes, the last of it because we ask, until the second Complete."""
        if self.lacking:
            self.main.say(wire.FAULT, wire.pack_rows([(max(self.lacking), wire.PAGE)]))
        while True:
            command, header, length = self.main.read_head()
            check(command in (wire.MEMORY, wire.COMPLETE) and header == wire.BARE,
                  f"command {command:#x} while memory follows")
            if command == wire.COMPLETE:
                check(length == 0 and not self.lacking, f"{len(self.lacking)} pages lack")
                if self.loses_last:
                    self.main.sock.shutdown(socket.SHUT_RDWR)
                    return
                if self.others:  # the Ok is lost
                    self.resume(self.others.pop(0))
                    continue
                self.main.say(wire.OK)
                return
            for gpa, size, flags in wire.rows(self.main.read(length)):
                check(flags in (0, self.features & wire.ROW_ZERO), f"a row with flags {flags:#x}")
                self.follow_row(gpa, bytes(size) if flags else self.main.read(size))
            if len(self.others) > 1:
                self.resume(self.others.pop(0))

    def resume(self, connection):
        """The connection breaks, and the source goes on over CONNECTION with what lacks."""
        self.main.sock.shutdown(socket.SHUT_RDWR)
        self.main = connection
        check(self.main.read_head() == (wire.RESUME, wire.BARE, 16), "no Resume")
        check(self.main.read(16) == self.machine.migration["token"], "another's token")
        self.main.say(wire.OK, wire.pack_rows([(gpa, wire.PAGE) for gpa in sorted(self.lacking)]))
        self.resumed += 1

    def follow_row(self, gpa, content):
        """Of what comes twice the first counts."""
        self.machine.find(gpa, len(content))
        for at in range(0, len(content), wire.PAGE):
            region = self.lacking.pop(gpa + at, None)
            if region:
                begin = gpa + at - region.gpa
                region.memory[begin:begin + wire.PAGE] = content[at:at + wire.PAGE]

    def memory_fd(self, length):
        """A region, as a descriptor."""
        check(length == 4 and self.machine.migration["local"], "MemoryFd does not belong there")
        slot, fds = self.main.read_with_fds(4)
        slot = int.from_bytes(slot, "little")
        check(len(fds) == 1, f"{len(fds)} descriptors came")
        check(slot < len(self.machine.regions) and slot not in self.slots, f"slot {slot}")
        region, offset = self.machine.regions[slot], self.machine.migration["offsets"][slot]
        status = os.fstat(fds[0])
        check(stat.S_ISREG(status.st_mode), "the descriptor is of no file")
        check(status.st_size >= offset + region.length, "the file is too short")
        region.memory = mmap.mmap(fds[0], region.length, mmap.MAP_SHARED,
                                  mmap.PROT_READ, offset=offset)
        region.fd = fds[0]
        region.seals = fcntl.fcntl(fds[0], fcntl.F_GET_SEALS)
        self.slots.add(slot)

    # --- further connections ---

    def serve_joined(self, connection):
        """Join, and then Memory until the end."""
        try:
            command, header, length = connection.read_head()
            check((command, header, length) == (wire.JOIN, wire.BARE, 16), "no Join")
            check(connection.read(16) == self.machine.migration["token"], "another's token")
            while command not in self.joined_instead:
                connection.say(wire.OK)
                command, header, length = connection.read_head()
                check((command, header) == (wire.MEMORY, wire.BARE), f"command {command:#x}")
                self.memory(length, connection)
            self.joined_instead[command](connection)
        except wire.Ended:
            pass
        except (wire.Wrong, OSError) as trouble:
            self.troubles.append(trouble)
