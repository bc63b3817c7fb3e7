# SPDX-License-Identifier: Apache-2.0
"""The source's side: sends a VM that was kept."""

import os
import fcntl

import cbor
import machine
import wire
from wire import check

# So much goes in one row.
ROW_BYTES = 1 << 18


class Source:
    """What is said over one connection, one request after the other."""

    def __init__(self, connection, kept, features=wire.PLAIN, knows_features=True):
        self.main, self.kept = connection, kept
        self.can, self.knows_features = features, knows_features
        self.features = 0  # that are in use

    # --- what is said, each with its Ok ---

    def start(self):
        """The two compare what they can do."""
        greeting = wire.GREETING.pack(wire.VERSION, self.can) if self.knows_features else wire.BARE
        header, _ = self.main.ask(wire.START, header=greeting)
        version, self.features = wire.GREETING.unpack(header)
        check(version == (wire.VERSION if self.knows_features else 0), f"version {version}")
        check(not self.features & ~(self.can if self.knows_features else 0),
              f"features {self.features:#x} were not offered")

    def config(self, **changes):
        """The VM as it was before memory moved, with CHANGES of the record `migration`."""
        migration = {**self.kept.migration, "connections": 1, "local": False, "offsets": [], **changes}
        header, _ = self.main.ask(wire.CONFIG, machine.encode_config(self.kept.early, migration))
        none, dropped = wire.GREETING.unpack(header)
        check(not none and dropped in (0, self.features & wire.POSTCOPY), f"features {dropped:#x} fall away")
        self.features &= ~dropped

    def memory(self, connection=None, regions=None):
        """All that is not zero and, where that is cheap, what is."""
        for region in self.kept.regions if regions is None else regions:
            for at in range(0, region.length, ROW_BYTES):
                size = min(ROW_BYTES, region.length - at)
                self.rows(connection or self.main, region, at, size)

    def rows(self, connection, region, at, size):
        """SIZE bytes from AT on of REGION, of which runs of zeros go apart."""
        items, data = [], b""
        for page in range(at, at + size, wire.PAGE):
            content = bytes(region.memory[page:page + wire.PAGE])
            zero = self.features & wire.ZERO_PAGES and not any(content)
            items.append((region.gpa + page | (wire.ROW_ZERO if zero else 0), wire.PAGE))
            data += b"" if zero else content
        connection.ask_memory(items, data)

    def state(self):
        """The VM as it is to be."""
        self.main.ask(wire.STATE, cbor.encode(self.kept.late))

    def complete(self):
        """With its Ok the VM is the other's."""
        self.main.ask(wire.COMPLETE)

    def abandon(self):
        """The VM stays here."""
        self.main.say(wire.ABANDON)

    def everything(self):
        """All, in the plain order."""
        self.start()
        self.config()
        self.memory()
        self.state()
        self.complete()

    # --- memory that comes after the VM ---

    def postpone(self):
        """No page has gone that counts."""
        self.main.ask(wire.POSTPONE, wire.pack_rows([(region.gpa, region.length)
                                                     for region in self.kept.regions]))

    def heard(self):
        """The rows of a Fault; None: it was the Ok to Complete."""
        code, header, length = self.main.read_head()
        check(header == wire.BARE, "a header")
        if code == wire.ERROR:
            raise wire.Refused(self.main.read(length).decode())
        if code == wire.OK:
            check(length == 0, "an Ok with a payload")
            return None
        check(code == wire.FAULT, f"{code:#x}, where a Fault or an Ok was to come")
        return wire.rows(self.main.read(length))

    def serve(self, faults):
        """Sends the rows of a Fault, which is not answered."""
        for gpa, size, flags in faults:
            check(not flags, f"a row with flags {flags:#x}")
            region = self.kept.find(gpa, size)
            at = gpa - region.gpa
            self.main.say(wire.MEMORY, wire.pack_rows([(gpa, size)]), length=16)
            self.main.write(bytes(region.memory[at:at + size]))

    def complete_and_serve(self):
        """Complete, and Faults until its Ok. Returns how many came."""
        self.main.say(wire.COMPLETE)
        count = 0
        while (faults := self.heard()) is not None:
            self.serve(faults)
            count += 1
        return count

    def follow(self, first):
        """Waits for FIRST Faults, and then sends all that there is, unasked."""
        for _ in range(first):
            faults = self.heard()
            check(faults is not None, "an Ok to nothing")
            self.serve(faults)
        for region in self.kept.regions:
            self.serve([(region.gpa, region.length, 0)])
        self.complete_and_serve()

    def resume(self, connection):
        """Goes on over CONNECTION, in the place of the one that broke. Returns the rows that lack."""
        self.main = connection
        _, table = self.main.ask(wire.RESUME, self.kept.migration["token"], most=1 << 20)
        return wire.rows(table)

    # --- descriptors ---

    def memfds(self, seals=fcntl.F_SEAL_SHRINK, shorter=0):
        """The memory of each region in a file of its own, behind a page that is not its."""
        fds = []
        for region in self.kept.regions:
            fds.append(os.memfd_create("peer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            os.ftruncate(fds[-1], wire.PAGE + region.length - shorter)
            os.pwrite(fds[-1], bytes(region.memory[:region.length - shorter]), wire.PAGE)
            fcntl.fcntl(fds[-1], fcntl.F_ADD_SEALS, seals)
        return fds

    def local_config(self):
        """Config of memory that comes as such files."""
        self.config(local=True, offsets=[wire.PAGE] * len(self.kept.regions))

    def memory_fd(self, slot, *fds):
        """MemoryFd, with any number of descriptors."""
        self.main.say(wire.MEMORY_FD, length=4)
        self.main.write_with_fds(slot.to_bytes(4, "little"), fds)
        self.main.read_answer(wire.MEMORY_FD)
