#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A device in a few lines, and the mock as its guest: a serial port that prints what is written to it, and tells the guest
that it is ready. Usage: serial.py [PLUGIN-FOLDER]
"""
import sys

import impost
from impost import step

COM1, LINE_STATUS, READY = 0x3f8, 0x3fd, 0x60
GREETING = b"Hello from the guest\n"


class Serial:
    """What a host has at the port."""

    def __init__(self) -> None:
        self.written = bytearray()

    def io(self, access: impost.Exit) -> None:
        if access.port == COM1 and access.is_write:
            self.written += access.data
        elif access.port == LINE_STATUS and not access.is_write:
            access.answer(READY)


def script() -> list[impost.Step]:
    """A guest that asks whether the port is ready before each byte, and fails the run when it is told otherwise."""
    steps = []
    for byte in GREETING:
        steps += [step.io_read(LINE_STATUS, expect=READY), step.io_write(COM1, byte)]
    return steps + [step.shutdown("guest")]


def main(plugin_dir: str | None = None) -> int:
    serial = Serial()
    # The guest is not set up, so what hardware would say of its registers is not asked.
    options = {"backend.mock": {"check_entry": "no"}}
    with impost.Context(plugin_dir=plugin_dir, options=options) as ctx, ctx.create_vm(backend="mock") as vm:
        vcpu = vm.create_vcpu(0)
        vm.mock.append(0, *script())
        last = vcpu.loop(io=serial.io)
    print(serial.written.decode(), end="")
    print(f"{last.kind}: {len(serial.written)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
