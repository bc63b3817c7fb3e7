# SPDX-License-Identifier: Apache-2.0
"""The mock: steps that it plays, its clock, and its log of interrupts. docs/mock.md tells what each step is."""
from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from ._declarations import ffi
from ._library import Error, Handle, api, chars, check, constant, sized

CONTROL = "mock.control/1"
REGISTERS = [name for name, _ in ffi.typeof("struct impost_x86_regs").fields if name not in ("size", "reserved")]
IRQS = {1: "line", 2: "msi", 3: "nmi", 4: "inject", 5: "irqfd"}
REASONS = {"triple-fault": 1, "guest": 2, "crash": 3}


@dataclass(frozen=True)
class Interrupt:
    """An entry of the interrupt log; what its kind does not have is 0."""

    kind: str
    vcpu: int
    gsi: int
    level: int
    address: int
    data: int


@dataclass(frozen=True)
class Step:
    """A step of a vCPU's script; made by the functions of this module."""

    op: str
    values: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    exit: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""
    expect: int | None = None

    def _fill(self, made: Any, kept: list[Any]) -> None:
        """Fills MADE, a struct impost_mock_step; KEPT holds what it points to."""
        made.size = ffi.sizeof("struct impost_mock_step")
        made.op = constant("MOCK_" + self.op)
        for name, value in self.values.items():
            setattr(made, name, value)
        if self.kind:
            made.exit.kind = constant("EXIT_" + self.kind)
            for path, value in self.exit.items():
                member, name = path.split(".")
                setattr(getattr(made.exit.u, member), name, value)
        if self.data:
            kept.append(ffi.from_buffer(self.data))
            made.data, made.bytes = kept[-1], len(self.data)
        if self.expect is not None:
            made.has_expect, made.expect = 1, self.expect


def _access(kind: str, place: str, address: int, size: int, data: bytes | None, expect: int | None) -> Step:
    member = kind.lower()
    direction = constant("EXIT_READ") if data is None else constant("EXIT_WRITE")
    return Step("EXIT", kind=kind, data=data or b"", expect=expect,
                exit={f"{member}.{place}": address, f"{member}.size": size, f"{member}.count": 1,
                      f"{member}.dir": direction})


def io_write(port: int, value: int, size: int = 1) -> Step:
    """The guest writes VALUE, of SIZE bytes, to PORT."""
    return _access("IO", "port", port, size, value.to_bytes(size, "little"), None)


def io_read(port: int, size: int = 1, expect: int | None = None) -> Step:
    """The guest reads PORT. Another answer than EXPECT makes run() fail."""
    return _access("IO", "port", port, size, None, expect)


def mmio_write(gpa: int, value: int, size: int = 4) -> Step:
    """The guest writes where there is no memory."""
    return _access("MMIO", "gpa", gpa, size, value.to_bytes(size, "little"), None)


def mmio_read(gpa: int, size: int = 4, expect: int | None = None) -> Step:
    """The guest reads where there is no memory."""
    return _access("MMIO", "gpa", gpa, size, None, expect)


def rdmsr(index: int, expect: int | None = None) -> Step:
    """The guest reads an MSR."""
    return Step("EXIT", kind="RDMSR", exit={"msr.index": index}, expect=expect)


def wrmsr(index: int, value: int) -> Step:
    """The guest writes an MSR."""
    return Step("EXIT", kind="WRMSR", exit={"msr.index": index}, data=value.to_bytes(8, "little"))


def hypercall(number: int, expect: int | None = None) -> Step:
    """The guest makes a hypercall."""
    return Step("EXIT", kind="HYPERCALL", exit={"hypercall.number": number}, expect=expect)


def hlt() -> Step:
    """Exit HLT."""
    return Step("EXIT", kind="HLT")


def shutdown(reason: str = "triple-fault") -> Step:
    """Exit SHUTDOWN: "triple-fault", "guest" or "crash"."""
    return Step("EXIT", kind="SHUTDOWN", exit={"shutdown.reason": REASONS[reason]})


def reset(reason: str = "guest") -> Step:
    """Exit RESET."""
    return Step("EXIT", kind="RESET", exit={"shutdown.reason": REASONS[reason]})


def write(gpa: int, data: bytes) -> Step:
    """The guest writes DATA to its memory, which dirties pages."""
    return Step("WRITE", {"gpa": gpa}, data=bytes(data))


def delay(ns: int) -> Step:
    """NS nanoseconds pass; then the clock has moved by as much."""
    return Step("DELAY", {"ns": ns})


def halt() -> Step:
    """The vCPU waits, inside run(), for an interrupt."""
    return Step("HALT")


def set_register(name: str, value: int) -> Step:
    """General register NAME becomes VALUE."""
    return Step("SET", {"reg": REGISTERS.index(name), "value": value})


def sipi(vcpu: int, vector: int) -> Step:
    """Starts a vCPU that waits for it."""
    return Step("SIPI", {"reg": vcpu, "value": vector})


class Mock:
    """The mock's own interface to a VM: `vm.mock`."""

    def __init__(self, handle: Handle) -> None:
        self._vm = handle
        with handle as vm:
            table, own = ffi.new("const void **"), ffi.new("void **")
            check(api().vm_extension(vm, chars(CONTROL), table, own), handle.context)
            self._control, self._own = ffi.cast("const struct impost_mock_control *", table[0]), own[0]

    def append(self, vcpu: int, *steps: Step) -> None:
        """Adds steps at the end of vCPU number VCPU's script, which may be running. Error EINVAL: one is malformed."""
        made, kept = ffi.new("struct impost_mock_step[]", len(steps)), []
        for step, place in zip(steps, made):
            step._fill(place, kept)
        with self._vm:
            check(self._control.append(self._own, vcpu, made, len(steps)))

    def advance(self, ns: int) -> None:
        """Moves the clock, which never moves by itself, by NS nanoseconds."""
        with self._vm:
            check(self._control.advance(self._own, ns))

    def interrupts(self) -> list[Interrupt]:
        """The interrupt log, in order of arrival."""
        found = []
        with self._vm:
            irq = ffi.new("struct impost_mock_irq *")
            while (result := self._control.irq(self._own, len(found), irq)) == 0:
                found.append(Interrupt(IRQS.get(irq.kind, "?"), irq.vcpu, irq.gsi, irq.level, irq.address, irq.data))
        if result != -errno.ENOENT:
            raise Error(-result, "the interrupt log")
        return found

    def played(self, vcpu: int) -> int:
        """How many steps of the vCPU's script have been played."""
        with self._vm:
            steps = ffi.new("uint64_t *")
            check(self._control.played(self._own, vcpu, steps))
            return steps[0]
