# SPDX-License-Identifier: Apache-2.0
"""A VM as a peer keeps it that understands nothing but docs/migration-format.md: what was said of it,
and its memory."""

import cbor
from wire import PAGE, check


class Region:
    """Guest memory from GPA on. What no one has sent is zero."""

    def __init__(self, gpa, length):
        check(gpa % PAGE == 0 and length % PAGE == 0 and length, f"a region at {gpa:#x}")
        self.gpa, self.length = gpa, length
        self.memory = bytearray(length)
        self.sent = set()  # numbers of the pages that came

    def has(self, gpa, length):
        """Whether all of the range is here."""
        return self.gpa <= gpa and length <= self.length and gpa - self.gpa <= self.length - length


class Machine:
    """A VM from its Config on."""

    def __init__(self, config):
        item = cbor.decode(config)
        check(set(item) == {"state", "migration"}, f"Config has {sorted(item)}")
        self.early, self.late = sections(item["state"]), None
        self.migration = cbor.record(item["migration"])
        machine = cbor.record(self.early["machine"])
        self.regions = [Region(region["gpa"], region["bytes"]) for region in machine["regions"]]
        self.vcpus = machine["vcpus"]
        addresses = [region.gpa for region in self.regions]
        check(addresses == sorted(addresses), "the regions are not in order of address")
        check(len(self.migration["token"]) == 16, "a token of other than 16 bytes")
        check(1 <= self.migration["connections"] <= 64, "the number of connections")

    def find(self, gpa, length):
        """The region that has the range."""
        check(gpa % PAGE == 0 and length % PAGE == 0 and length, f"a row at {gpa:#x} of {length}")
        for region in self.regions:
            if region.has(gpa, length):
                return region
        check(False, f"{length} bytes at {gpa:#x} are not within one region")
        return None

    def take_state(self, payload):
        """State: the sections as they are when the guest stands, of the same memory."""
        self.late = sections(cbor.decode(payload))
        late, early = cbor.record(self.late["machine"]), cbor.record(self.early["machine"])
        check(late["regions"] == early["regions"], "State has other memory than Config")

    def contents(self):
        """All memory, region by region."""
        return b"".join(bytes(region.memory) for region in self.regions)


def sections(item):
    """The sections of a state, each of which is an item."""
    for name, data in item.items():
        check(isinstance(data, bytes), f"section {name} is no byte string")
        cbor.decode(data)
    return item


def encode_config(state, migration):
    """Config of the sections of a state."""
    return cbor.encode({"state": state, "migration": cbor.encode_record(migration)})
