# SPDX-License-Identifier: Apache-2.0
"""The context, the VM, its memory, its vCPUs and their exits."""
from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping

from ._declarations import ffi
from ._library import Closing, Handle, api, chars, check, constant, filled, sized, text_of

if TYPE_CHECKING:
    from .mock import Mock
    from .snapshot import Snapshot, State

IRQCHIPS = {"default": 0, "none": 1, "lapic": 2, "full": 3}
REGIONS = ("anonymous", "memfd", "backend")
KINDS = {number: name.removeprefix("IMPOST_EXIT_")
         for number, name in ffi.typeof("enum impost_exit_kind").elements.items()}
MEMBERS = {"IO": "io", "MMIO": "mmio", "RDMSR": "msr", "WRMSR": "msr", "HYPERCALL": "hypercall",
           "SHUTDOWN": "shutdown", "RESET": "shutdown", "DEBUG": "debug", "FAIL_ENTRY": "failure",
           "INTERNAL_ERROR": "failure", "OTHER": "other"}
REGISTERS = [name for name, _ in ffi.typeof("struct impost_x86_regs").fields if name not in ("size", "reserved")]
# What a handler's exception becomes on its way through the library.
STOPPED = -errno.ECANCELED

Handler = Callable[["Exit"], "bool | None"]


@dataclass(frozen=True)
class Plugin:
    """A plugin file that was found. `reason` says why it is not usable, and is empty if it is."""

    name: str
    kind: str
    version: str
    summary: str
    capabilities: str
    file: str
    abi: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Region:
    """A region of guest memory."""

    gpa: int
    bytes: int
    readonly: bool


def _bytes_of(value: int | bytes, size: int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(size, "little")
    if len(value) != size:
        raise ValueError(f"{len(value)} bytes where {size} are wanted")
    return bytes(value)


def caps_of(caps: Any) -> frozenset[str]:
    """Names of the capabilities in a struct impost_caps."""
    names = set()
    for number in range(128):
        name = text_of(api().cap_name(number))
        if name and caps.bits[number // 64] >> number % 64 & 1:
            names.add(name)
    return frozenset(names)


class Context(Closing):
    """
    Configuration, log and plugins. `config` is the path of an INI, `ini` one as text; `options` are settings by section
    that beat it: {"backend.mock": {"script": "guest.script"}}. `log(level, text)` gets what is logged; it may be called
    by any thread, and must not call the library.
    """

    def __init__(self, config: str | None = None, *, ini: str | None = None, plugin_dir: str | None = None,
                 options: Mapping[str, Mapping[str, str]] | None = None,
                 log: Callable[[str, str], None] | None = None) -> None:
        made = ffi.new("struct impost_context **")
        self._log = ffi.NULL
        if log is not None:
            self._log = ffi.callback("void(void *, uint32_t, const char *)", self._logger(log))
        check(api().context_open(self._log, ffi.NULL, made))
        self._handle = Handle("context", made[0], api().context_close)
        self._handle.log = self._log  # type: ignore[attr-defined]  # it is called until the context is closed
        try:
            self._configure(config, ini, plugin_dir, options or {})
        except BaseException:
            self._handle.close()
            raise

    @staticmethod
    def _logger(log: Callable[[str, str], None]) -> Callable[[Any, int, Any], None]:
        def logger(_: Any, level: int, text: Any) -> None:
            log(text_of(api().log_level_name(level)), text_of(text))
        return logger

    def _configure(self, config: str | None, ini: str | None, plugin_dir: str | None,
                   options: Mapping[str, Mapping[str, str]]) -> None:
        if plugin_dir is not None:
            self.set("impost", "plugin_dir", plugin_dir)
        with self._handle as ctx:
            if config is not None:
                check(api().context_load_file(ctx, chars(config)), ctx)
            if ini is not None:
                data = ini.encode()
                check(api().context_load_buffer(ctx, chars("ini"), ffi.from_buffer(data), len(data)), ctx)
        for section, keys in options.items():
            for key, value in keys.items():
                self.set(section, key, value)

    def set(self, section: str, key: str, value: str) -> None:
        """Sets KEY in SECTION, as a command line does."""
        with self._handle as ctx:
            check(api().context_set(ctx, chars(section), chars(key), chars(value)), ctx)

    def get(self, section: str, key: str) -> str | None:
        """The value of KEY in SECTION; None: there is none."""
        with self._handle as ctx:
            value = api().context_get(ctx, chars(section), chars(key))
            return None if value == ffi.NULL else text_of(value)

    def plugins(self) -> list[Plugin]:
        """The plugins that were found."""
        kinds = {constant("PLUGIN_BACKEND"): "backend", constant("PLUGIN_LAYER"): "layer"}
        found = []
        with self._handle as ctx:
            while True:
                info = sized("struct impost_plugin_info")
                result = api().plugin_info(ctx, len(found), info)
                if result == -errno.ENOENT and found:
                    return found
                check(result, ctx)
                texts = {name: text_of(getattr(info, name))
                         for name in ("name", "version", "summary", "capabilities", "file", "reason")}
                found.append(Plugin(kind=kinds.get(info.kind, ""), abi=(info.abi_major, info.abi_minor), **texts))

    def probe(self, backend: str) -> frozenset[str]:
        """The capabilities that BACKEND has here. Raises what is in its way, in words for its user."""
        with self._handle as ctx:
            caps = sized("struct impost_caps")
            check(api().backend_probe(ctx, chars(backend), caps), ctx)
            return caps_of(caps)

    def create_vm(self, backend: str | None = None, *, cpus: int | None = None, memory: int | None = None,
                  irqchip: str | None = None, layers: str | None = None) -> Vm:
        """
        A VM without memory or vCPUs, by the first of the backends named, with commas between them, that can run here.
        What is not said is as the configuration has it. `irqchip` is "none", "lapic" or "full".
        """
        with self._handle as ctx:
            config = sized("struct impost_vm_config")
            check(api().vm_config_fill(ctx, config), ctx)
            kept = [chars(backend), chars(layers)]
            if backend is not None:
                config.backend = kept[0]
            if layers is not None:
                config.layers = kept[1]
            if cpus is not None:
                config.cpus = cpus
            if memory is not None:
                config.memory = memory
            if irqchip is not None:
                config.irqchip = IRQCHIPS[irqchip]
            made = ffi.new("struct impost_vm **")
            check(api().vm_create(ctx, config, made), ctx)
            return Vm(made[0], self._handle)

    def open_snapshot(self, path: str, *, key: bytes | None = None, header_only: bool = False,
                      alone: bool = False) -> Snapshot:
        """The snapshot at PATH, checked. `key` is the secret; `alone`: a diff's bases are not opened."""
        from .snapshot import Snapshot
        return Snapshot(self, path, key, header_only, alone)


class Memory:
    """Guest memory: `vm.memory`."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @contextlib.contextmanager
    def _map(self) -> Iterator[Any]:
        with self._handle as vm:
            yield api().vm_memory(vm)

    def add(self, gpa: int, size: int, kind: str = "anonymous", *, readonly: bool = False) -> None:
        """Adds SIZE bytes of memory at GPA, of KIND "anonymous", "memfd" or "backend" (the hypervisor's own)."""
        if kind not in REGIONS:
            raise ValueError(f"{kind!r} is none of {', '.join(REGIONS)}")
        region = sized("struct impost_region", kind=constant(f"REGION_{kind.upper()}"), gpa=gpa, bytes=size,
                       flags=constant("REGION_READONLY") if readonly else 0, fd=-1)
        with self._map() as memory:
            check(api().memory_add(memory, region), self._handle.context)

    def remove(self, gpa: int) -> None:
        """Takes away the region that starts at GPA."""
        with self._map() as memory:
            check(api().memory_remove(memory, gpa), self._handle.context)

    def regions(self) -> list[Region]:
        """All regions, in order of address."""
        found = []
        with self._map() as memory:
            while True:
                region = sized("struct impost_region")
                result = api().memory_get(memory, len(found), region)
                if result == -errno.ENOENT:
                    return found
                check(result, self._handle.context)
                found.append(Region(region.gpa, region.bytes, bool(region.flags & constant("REGION_READONLY"))))

    def read(self, gpa: int, size: int) -> bytes:
        """SIZE bytes at GPA."""
        with self._map() as memory:
            data = bytearray(size)
            check(api().memory_read(memory, gpa, ffi.from_buffer(data), size), self._handle.context)
            return bytes(data)

    def write(self, gpa: int, data: bytes) -> None:
        """Writes DATA at GPA."""
        with self._map() as memory:
            check(api().memory_write(memory, gpa, ffi.from_buffer(data), len(data)), self._handle.context)

    def fill(self, gpa: int, byte: int, size: int) -> None:
        """Fills SIZE bytes at GPA with BYTE."""
        with self._map() as memory:
            check(api().memory_fill(memory, gpa, byte, size), self._handle.context)


class Vm(Closing):
    """A virtual machine: Context.create_vm() or Snapshot.restore() makes one."""

    def __init__(self, pointer: Any, parent: Handle) -> None:
        self._handle = Handle("VM", pointer, api().vm_destroy, parent)
        self._vcpus: list[Vcpu] = []
        self.memory = Memory(self._handle)
        index = 0
        while (vcpu := api().vm_vcpu(pointer, index)) != ffi.NULL:  # of a VM that was restored
            self._vcpus.append(Vcpu(vcpu, self._handle))
            index += 1

    def close(self) -> None:
        """Ends it, and its vCPUs. Error EBUSY: a call is inside."""
        for vcpu in self._vcpus:
            vcpu.close()
        super().close()

    @property
    def vcpus(self) -> list[Vcpu]:
        """Its vCPUs."""
        return [vcpu for vcpu in self._vcpus if not vcpu.closed]

    @property
    def backend(self) -> str:
        """The name of its backend."""
        with self._handle as vm:
            return text_of(api().vm_backend(vm))

    @property
    def layers(self) -> str:
        """The layers over the backend, the first nearest to the host."""
        with self._handle as vm:
            return text_of(api().vm_layers(vm))

    @property
    def caps(self) -> frozenset[str]:
        """Names of what it can do."""
        with self._handle as vm:
            return caps_of(api().vm_caps(vm))

    @property
    def irqchip(self) -> str:
        """Where its interrupt controllers are: "none", "lapic" or "full"."""
        with self._handle as vm:
            number = api().vm_irqchip(vm)
        return next(name for name, value in IRQCHIPS.items() if value == number)

    @property
    def mock(self) -> Mock:
        """The mock's own interface. Error ENOENT: the backend is another."""
        from .mock import Mock
        return Mock(self._handle)

    def add_ram(self) -> None:
        """RAM as the configuration has it, around the hole below 4 GiB."""
        with self._handle as vm:
            check(api().x86_add_ram(api().vm_memory(vm), api().vm_config(vm).memory), self._handle.context)

    def create_vcpu(self, number: int) -> Vcpu:
        """The vCPU with APIC id NUMBER."""
        with self._handle as vm:
            made = ffi.new("struct impost_vcpu **")
            check(api().vcpu_create(vm, number, made), self._handle.context)
            self._vcpus = [*self.vcpus, Vcpu(made[0], self._handle)]
            return self._vcpus[-1]

    @contextlib.contextmanager
    def held(self, timeout_ms: int = 10000) -> Iterator[None]:
        """While it is held nothing of the guest moves. Not for a thread that has an exit in hand."""
        with self._handle as vm:
            check(api().vm_hold(vm, timeout_ms), self._handle.context)
            try:
                yield
            finally:
                check(api().vm_release(vm), self._handle.context)

    def irq_line(self, gsi: int, level: int) -> None:
        """Sets interrupt line GSI to LEVEL."""
        with self._handle as vm:
            check(api().vm_irq_line(vm, gsi, level), self._handle.context)

    def msi(self, address: int, data: int) -> None:
        """Sends a message-signalled interrupt."""
        with self._handle as vm:
            check(api().vm_msi(vm, address, data), self._handle.context)

    def state(self) -> State:
        """Its state, taken now. It must be held, or no thread run its vCPUs."""
        from .snapshot import State
        with self._handle as vm:
            made = ffi.new("struct impost_state **")
            check(api().state_take(vm, made), self._handle.context)
            return State(made[0], self._handle, owned=True)

    def save(self, path: str, *, key: bytes | None = None, sync: bool = True) -> None:
        """Saves a full snapshot to the file PATH."""
        from .snapshot import key_of
        with self._handle as vm:
            options = sized("struct impost_snapshot_save_options")
            kept = key_of(self._handle.context, key)
            options.key = kept
            options.flags = 0 if sync else constant("SNAPSHOT_NO_SYNC")
            check(api().snapshot_save(vm, chars(path), options, ffi.NULL), self._handle.context)


class Exit:
    """
    Why a vCPU came back. What its kind does not have is an AttributeError. `data`, answer() and refuse() reach what the
    library keeps until the vCPU's next run: after that they raise ValueError.
    """

    def __init__(self, vcpu: Vcpu, made: Any) -> None:
        self._vcpu, self._turn, self._exit = vcpu, vcpu._turn, made
        self._kind = KINDS.get(made.kind, "OTHER")

    @property
    def kind(self) -> str:
        """"IO", "MMIO", "RDMSR", "WRMSR", "HLT" and so on: <impost/exits.def>."""
        return self._kind

    def _of(self, what: str, *kinds: str) -> Any:
        if self._kind not in kinds:
            raise AttributeError(f"an exit {self._kind} has no {what}")
        return getattr(self._exit.u, MEMBERS[self._kind])

    @property
    def port(self) -> int:
        return self._of("port", "IO").port

    @property
    def gpa(self) -> int:
        return self._of("gpa", "MMIO").gpa

    @property
    def size(self) -> int:
        """Bytes of one access."""
        return self._of("size", "IO", "MMIO").size

    @property
    def count(self) -> int:
        """Accesses that are handed over at once."""
        return self._of("count", "IO", "MMIO").count

    @property
    def is_write(self) -> bool:
        """Whether the guest writes: else answer() gives what it reads."""
        if self._kind in ("RDMSR", "WRMSR"):
            return self._kind == "WRMSR"
        return self._of("direction", "IO", "MMIO").dir == constant("EXIT_WRITE")

    @property
    def index(self) -> int:
        """Of the MSR."""
        return self._of("index", "RDMSR", "WRMSR").index

    @property
    def number(self) -> int:
        """Of the hypercall, or the backend's own of an exit OTHER."""
        return self._of("number", "HYPERCALL", "OTHER").number

    @property
    def args(self) -> tuple[int, ...]:
        """Of the hypercall."""
        return tuple(self._of("args", "HYPERCALL").args)

    @property
    def reason(self) -> int:
        return self._of("reason", "SHUTDOWN", "RESET", "FAIL_ENTRY", "INTERNAL_ERROR").reason

    @property
    def text(self) -> str:
        """What `reason` means."""
        return self._within(lambda: text_of(self._of("text", "FAIL_ENTRY", "INTERNAL_ERROR").text))

    @property
    def rip(self) -> int:
        return self._of("rip", "DEBUG").rip

    def _within(self, use: Callable[[], Any]) -> Any:
        """What USE gives, while the exit's pointers hold."""
        with self._vcpu._handle:
            if self._vcpu._turn != self._turn:
                raise ValueError("the exit is over: the vCPU has run on")
            return use()

    def _buffer(self) -> Any:
        access = self._of("data", "IO", "MMIO")
        return ffi.buffer(access.data, access.size * access.count)

    @property
    def data(self) -> bytes:
        """What the guest writes; of a read, what has been answered so far."""
        return self._within(lambda: bytes(self._buffer()))

    @property
    def value(self) -> int:
        """`data` as a number; of WRMSR the value written."""
        if self._kind == "WRMSR":
            return self._within(lambda: self._exit.u.msr.value[0])
        return int.from_bytes(self.data, "little")

    def answer(self, value: int | bytes) -> None:
        """What the guest reads, or gets of a hypercall."""
        self._within(lambda: self._answer(value))

    def _answer(self, value: int | bytes) -> None:
        if self._kind in ("IO", "MMIO"):
            if self.is_write:
                raise ValueError("the guest writes: there is nothing to answer")
            buffer = self._buffer()
            buffer[:] = _bytes_of(value, len(buffer))
            return
        msr = self._of("answer", "RDMSR", "HYPERCALL")
        place = msr.value if self._kind == "RDMSR" else msr.result
        place[0] = int.from_bytes(_bytes_of(value, 8), "little")

    def refuse(self) -> None:
        """The guest's access to the MSR raises #GP(0)."""
        def refuse() -> None:
            self._of("refusal", "RDMSR", "WRMSR").refused[0] = 1
        self._within(refuse)

    def __str__(self) -> str:
        text = ffi.new("char[]", 300)
        self._within(lambda: api().exit_format(self._exit, text, len(text)))
        return text_of(text)

    def __repr__(self) -> str:
        return f"<impost.Exit {self._kind}>"


class Vcpu(Closing):
    """A virtual CPU: Vm.create_vcpu() makes one. One thread runs it; any may kick it."""

    def __init__(self, pointer: Any, parent: Handle) -> None:
        self._handle = Handle("vCPU", pointer, api().vcpu_destroy, parent)
        self._turn = 0

    @property
    def number(self) -> int:
        """Its APIC id."""
        with self._handle as vcpu:
            return api().vcpu_id(vcpu)

    def run(self) -> Exit:
        """Runs the guest until something needs the host. The answer to the exit before is taken."""
        with self._handle as vcpu:
            made = ffi.new("struct impost_exit *")
            result = api().vcpu_run(vcpu, made)
            self._turn += 1
            check(result, self._handle.context)
            return Exit(self, made)

    def complete(self) -> Exit | None:
        """Finishes pending I/O without running the guest. An exit: a further access, to be answered first."""
        with self._handle as vcpu:
            made = ffi.new("struct impost_exit *")
            result = api().vcpu_complete(vcpu, made)
            self._turn += 1
            check(result, self._handle.context)
            return Exit(self, made) if made.kind != constant("EXIT_NONE") else None

    def kick(self) -> None:
        """Makes run() return an exit INTR, now or at once when it is next called. Any thread."""
        with self._handle as vcpu:
            check(api().vcpu_kick(vcpu))

    def loop(self, *, io: Handler | None = None, mmio: Handler | None = None, msr: Handler | None = None,
             hypercall: Handler | None = None, intr: Handler | None = None, other: Handler | None = None) -> Exit:
        """
        Runs, and hands each exit to its handler, until one returns True or there is none for an exit that has no
        default. Returns the last exit. What a handler raises comes out of here.
        """
        given = {"io": io, "mmio": mmio, "msr": msr, "hypercall": hypercall, "intr": intr, "other": other}
        raised: list[BaseException] = []
        handlers = sized("struct impost_handlers")
        callbacks = {name: ffi.callback("int(void *, struct impost_vcpu *, struct impost_exit *)",
                                        self._callback(handler, raised), error=STOPPED)
                     for name, handler in given.items() if handler is not None}
        for name, callback in callbacks.items():
            setattr(handlers, name, callback)
        with self._handle as vcpu:
            made = ffi.new("struct impost_exit *")
            self._turn += 1
            result = api().vcpu_loop(vcpu, handlers, ffi.NULL, made)
            self._turn += 1
            if raised:
                raise raised[0]
            check(result, self._handle.context)
            return Exit(self, made)

    def _callback(self, handler: Handler, raised: list[BaseException]) -> Callable[[Any, Any, Any], int]:
        def callback(_: Any, __: Any, pointer: Any) -> int:
            try:
                self._turn += 1
                return 1 if handler(Exit(self, ffi.new("struct impost_exit *", pointer[0]))) else 0
            except BaseException as error:  # pylint: disable=broad-except
                raised.append(error)
                return STOPPED
        return callback

    def nmi(self) -> None:
        """Injects an NMI."""
        with self._handle as vcpu:
            check(api().vcpu_nmi(vcpu), self._handle.context)

    def irq_inject(self, vector: int) -> None:
        """Injects external interrupt VECTOR, in a VM without interrupt controllers."""
        with self._handle as vcpu:
            check(api().vcpu_irq_inject(vcpu, vector), self._handle.context)

    def translate(self, gva: int) -> int:
        """The physical address of linear address GVA. Error EFAULT: it is not mapped."""
        with self._handle as vcpu:
            gpa = ffi.new("uint64_t *")
            check(api().vcpu_translate(vcpu, gva, gpa), self._handle.context)
            return gpa[0]

    @property
    def regs(self) -> dict[str, int]:
        """The general registers, RIP and RFLAGS, by name."""
        with self._handle as vcpu:
            regs = sized("struct impost_x86_regs")
            check(api().vcpu_get_regs(vcpu, regs), self._handle.context)
            return {name: getattr(regs, name) for name in REGISTERS}

    def set_regs(self, **values: int) -> None:
        """Sets registers by name; the others stay."""
        unknown = set(values) - set(REGISTERS)
        if unknown:
            raise ValueError(f"no registers: {', '.join(sorted(unknown))}")
        with self._handle as vcpu:
            regs = sized("struct impost_x86_regs", **{**self.regs, **values})
            check(api().vcpu_set_regs(vcpu, regs), self._handle.context)

    def msrs(self, *indices: int) -> dict[int, int]:
        """The MSRs with these indices."""
        with self._handle as vcpu:
            msrs = ffi.new("struct impost_x86_msr[]", [{"index": index} for index in indices])
            check(api().vcpu_get_msrs(vcpu, msrs, len(indices), ffi.NULL), self._handle.context)
            return {msr.index: msr.value for msr in msrs}

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Sets MSRs, in order, up to the first that is refused."""
        with self._handle as vcpu:
            msrs = ffi.new("struct impost_x86_msr[]",
                           [{"index": index, "value": value} for index, value in values.items()])
            check(api().vcpu_set_msrs(vcpu, msrs, len(values), ffi.NULL), self._handle.context)

    def cpuid(self) -> list[dict[str, int]]:
        """Its CPUID entries."""
        names = ("leaf", "subleaf", "flags", "eax", "ebx", "ecx", "edx")
        with self._handle as vcpu:
            return filled(lambda array, capacity, count: api().vcpu_get_cpuid(vcpu, array, capacity, count),
                          "struct impost_x86_cpuid", lambda entry: {name: getattr(entry, name) for name in names},
                          self._handle.context)
