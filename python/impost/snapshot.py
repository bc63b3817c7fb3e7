# SPDX-License-Identifier: Apache-2.0
"""Snapshots and the state in them, by name."""
from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ._declarations import ffi
from ._library import Closing, Handle, api, chars, check, constant, sized, text_of
from .vm import Region, Vm

if TYPE_CHECKING:
    from .vm import Context

SECTIONS = {1: "state", 2: "memory", 3: "base"}
NUMBERS = ("version", "compatible", "chain", "created_ns", "file_bytes", "disk_bytes", "header_bytes", "state_bytes",
           "memory_bytes", "guest_bytes", "data_bytes", "zero_bytes")


@dataclass(frozen=True)
class Mismatch:
    """What is in the way of a state: the kind ("cpuid", "msr", ...), what it is called, and why."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """What differs between two states."""

    section: str
    path: str
    a: str
    b: str


def key_of(context: Any, secret: bytes | None) -> Any:
    """The key that SECRET makes; no key for None."""
    if secret is None:
        return ffi.NULL
    key = sized("struct impost_snapshot_key")
    check(api().snapshot_key_make(context, ffi.from_buffer(secret), len(secret), key), context)
    return key


def _told(call: Callable[[Any], int], signature: str, make: Callable[..., Any], context: Any) -> list[Any]:
    """What CALL tells its callback of SIGNATURE, strings behind an opaque pointer, each through MAKE."""
    told: list[Any] = []

    def callback(_: Any, *strings: Any) -> None:
        told.append(make(*map(text_of, strings)))

    check(call(ffi.callback(signature, callback)), context)
    return told


class State:
    """The state of a VM: a snapshot's, or one that was taken."""

    def __init__(self, pointer: Any, parent: Handle, owned: bool) -> None:
        self._context = parent.context
        # One that was taken has texts on the context, and nothing else of the VM's.
        self._handle = Handle("state", pointer, api().state_free, parent.parent, passive=True) if owned else parent
        self._pointer = pointer

    @property
    def backend(self) -> str:
        """The backend that it was taken on."""
        with self._handle:
            return text_of(api().state_backend(self._pointer))

    @property
    def sections(self) -> list[str]:
        """Names of its sections."""
        found = []
        with self._handle:
            name = ffi.new("const char **")
            while (result := api().state_at(self._pointer, len(found), name, ffi.NULL, ffi.NULL)) == 0:
                found.append(text_of(name[0]))
        if result != -errno.ENOENT:
            check(result, self._context)
        return found

    def section(self, name: str) -> bytes:
        """The CBOR of section NAME."""
        with self._handle:
            data, size = ffi.new("const void **"), ffi.new("size_t *")
            check(api().state_find(self._pointer, chars(name), data, size), self._context)
            return bytes(ffi.buffer(data[0], size[0]))

    def _written(self, call: Any) -> str:
        pieces: list[bytes] = []

        def callback(_: Any, text: Any, size: int) -> int:
            pieces.append(bytes(ffi.buffer(text, size)))
            return 0

        with self._handle:
            write = ffi.callback("int(void *, const char *, size_t)", callback, error=-errno.EIO)
            check(call(self._pointer, write, ffi.NULL), self._context)
        return b"".join(pieces).decode()

    def text(self) -> str:
        """All of it, with names for registers, MSRs and CPUID fields."""
        return self._written(api().state_print)

    def contents(self) -> dict[str, Any]:
        """All of it, by section and name: {"machine": {...}, "vm": {...}, "vcpu.0": {"registers": {...}, ...}}."""
        return _unwrapped(json.loads(self._written(api().state_json)))

    def registers(self, vcpu: int = 0) -> dict[str, Any]:
        """General, segment and control registers of the vCPU with APIC id VCPU, by name."""
        registers = self.contents()[f"vcpu.{vcpu}"]["registers"]
        return {**registers["regs"], **registers["sregs"]}

    def msrs(self, vcpu: int = 0) -> dict[str, int]:
        """The vCPU's MSRs, by name."""
        return {name: int(value, 16) for name, value in self.contents()[f"vcpu.{vcpu}"]["msrs"].items()}

    def diff(self, other: State) -> list[Difference]:
        """In what it differs from OTHER."""
        with self._handle, other._handle:
            return _told(lambda tell: api().state_diff(self._pointer, other._pointer, tell, ffi.NULL),
                         "void(void *, const char *, const char *, const char *, const char *)", Difference,
                         self._context)

    def check(self, backend: str | None = None) -> list[Mismatch]:
        """What is in the way of it on BACKEND here; nothing: it can be loaded."""
        with self._handle:
            return _told(lambda tell: api().state_check(self._pointer, chars(backend), tell, ffi.NULL),
                         "void(void *, const char *, const char *, const char *)", Mismatch, self._context)

    def load(self, vm: Vm) -> None:
        """Loads it into VM, which has its regions and vCPUs."""
        with self._handle, vm._handle as pointer:
            check(api().state_load(self._pointer, pointer), self._context)


def _unwrapped(value: Any) -> Any:
    """VALUE, with what records say in the place of the records, which tell their versions as well."""
    if isinstance(value, dict):
        if set(value) == {"compat", "version", "contents"}:
            return _unwrapped(value["contents"])
        return {name: _unwrapped(each) for name, each in value.items()}
    return [_unwrapped(each) for each in value] if isinstance(value, list) else value


class Snapshot(Closing):
    """A VM in a file: Context.open_snapshot() opens one, and checks it."""

    def __init__(self, context: Context, path: str, secret: bytes | None, header_only: bool, alone: bool) -> None:
        with context._handle as ctx:
            options = sized("struct impost_snapshot_open_options",
                            flags=(constant("SNAPSHOT_HEADER") if header_only else 0) |
                            (constant("SNAPSHOT_ALONE") if alone else 0))
            kept = key_of(ctx, secret)
            options.key = kept
            made = ffi.new("struct impost_snapshot **")
            check(api().snapshot_open(ctx, chars(path), options, made), ctx)
            self._handle = Handle("snapshot", made[0], api().snapshot_close, context._handle, passive=True)

    @property
    def info(self) -> dict[str, Any]:
        """What it is: numbers, ids, path, base, and whether it is a diff, has tags, and was verified with them."""
        with self._handle as snapshot:
            info = sized("struct impost_snapshot_info")
            check(api().snapshot_info(snapshot, info), self._handle.context)
            found: dict[str, Any] = {name: getattr(info, name) for name in NUMBERS}
            for name in ("id", "digest", "base_id", "base_digest"):
                found[name] = bytes(getattr(info, name)).hex()
            for name in ("keyed", "diff", "verified"):
                found[name] = bool(info.flags & constant(f"SNAPSHOT_IS_{name.upper()}"))
            found["path"], found["base"] = text_of(info.path), text_of(info.base) or None
            return found

    def sections(self) -> list[tuple[str, str, int]]:
        """Name, kind ("state", "memory", "base") and bytes of each section of the file."""
        found = []
        with self._handle as snapshot:
            section = sized("struct impost_snapshot_section")
            while (result := api().snapshot_section(snapshot, len(found), section)) == 0:
                found.append((text_of(section.name), SECTIONS.get(section.kind, "?"), section.bytes))
        if result != -errno.ENOENT:
            check(result, self._handle.context)
        return found

    def regions(self) -> list[Region]:
        """The regions of guest memory."""
        found = []
        with self._handle as snapshot:
            region = sized("struct impost_snapshot_region")
            while (result := api().snapshot_region(snapshot, len(found), region)) == 0:
                found.append(Region(region.gpa, region.bytes, bool(region.flags & constant("REGION_READONLY"))))
        if result != -errno.ENOENT:
            check(result, self._handle.context)
        return found

    @property
    def state(self) -> State:
        """The state in it. ValueError: only the header was read."""
        with self._handle as snapshot:
            state = api().snapshot_state(snapshot)
            if state == ffi.NULL:
                raise ValueError("only the snapshot's header was read")
            return State(state, self._handle, owned=False)

    def read(self, gpa: int, size: int) -> bytes:
        """SIZE bytes of guest memory at GPA, verified."""
        with self._handle as snapshot:
            data = bytearray(size)
            check(api().snapshot_read(snapshot, gpa, ffi.from_buffer(data), size), self._handle.context)
            return bytes(data)

    def verify(self) -> None:
        """Verifies all memory, in its bases too."""
        with self._handle as snapshot:
            check(api().snapshot_verify(snapshot, 0, ffi.NULL, ffi.NULL), self._handle.context)

    def check(self, backend: str | None = None) -> list[Mismatch]:
        """What is in the way of restoring it on BACKEND here."""
        with self._handle as snapshot:
            return _told(lambda tell: api().snapshot_check(snapshot, chars(backend), tell, ffi.NULL),
                         "void(void *, const char *, const char *, const char *)", Mismatch, self._handle.context)

    def restore(self, backend: str | None = None) -> Vm:
        """The VM in it, with its memory and its vCPUs, on BACKEND, ready to go on."""
        with self._handle as snapshot:
            options = sized("struct impost_snapshot_restore_options")
            kept = chars(backend)
            options.backend = kept
            made = ffi.new("struct impost_vm **")
            check(api().snapshot_restore(snapshot, options, made), self._handle.context)
            assert self._handle.parent is not None
            vm = Vm(made[0], self._handle.parent)
            try:
                check(api().snapshot_load(snapshot, made[0]), self._handle.context)
            except BaseException:
                vm.close()
                raise
            return vm
