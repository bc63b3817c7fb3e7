# SPDX-License-Identifier: Apache-2.0
"""What a guest says of itself (facts-init prints it), and how it must be for the boot that was asked for."""

import re
from dataclasses import dataclass, field
from functools import cached_property

from complaints import complaints

MIB, GIB = 1 << 20, 1 << 30
PAGE = 0x1000
EBDA, HIGH_RAM, HOLE, HOLE_END = 0x9FC00, 0x100000, 0xB0000000, 4 * GIB  # include/impost/x86_64/layout.h
# The registers that the ACPI tables name: tools/ports.h
ENDS = {"reboot": "reset the machine through port 0xcf9", "poweroff": "switched the machine off through port 0x600"}
# Without XSAVE: QEMU's emulation of SVM does not let the hypervisor see a guest's XSETBV, so the guest would be run
# with another XCR0 than it has set: Linux complains about CPUID leaf 0xd, or its processes lose their SSE registers. A
# guest of QEMU's microvm with -accel kvm -cpu host has the same "XSAVE consistency problem" in the same lab.
# Rome: of the first EPYC (family 17h up to model 1Fh) Linux takes who shares the third-level cache from bit 3 of the
# APIC id, and not from CPUID.
LAB_CPU = "EPYC-Rome,+svm,-xsave,-xsaveopt,-xsavec,-xgetbv1,-avx,-avx2,-f16c,-fma"


@dataclass(frozen=True)
class Boot:
    """A guest that is booted, and what it must find."""

    name: str
    kernel: str  # vmlinuz or vmlinux
    end: str  # what its init does at last: poweroff or reboot
    topology: tuple = (1, 1, 1, 1)  # sockets, dies in each, cores, threads
    mib: int = 256
    protocol: str = ""  # --boot; empty: auto
    cmdline: str = ""  # more of it
    pvh: bool = False
    template: str = ""  # INI text
    hidden: tuple = ()  # flags that must not be in /proc/cpuinfo
    shown: tuple = ()  # and flags that must be there

    @property
    def cpus(self):
        sockets, dies, cores, threads = self.topology
        return sockets * dies * cores * threads


@dataclass(frozen=True)
class Place:
    """Where a CPU is: numbers that are the same for CPUs which share the socket, die or core."""

    socket: int
    die: int
    core: int
    apic_id: int


def places(topology):
    """The place of each CPU. Each level has as many bits of the APIC id as its count needs (SDM vol. 3, 9.9.1)."""
    _, dies, cores, threads = topology
    bits = [(count - 1).bit_length() for count in (dies, cores, threads)]
    found = []
    for cpu in range(topology[0] * dies * cores * threads):
        core, thread = divmod(cpu, threads)
        die, core_in_die = divmod(core, cores)
        socket, die_in_socket = divmod(die, dies)
        apic_id = ((socket << bits[0] | die_in_socket) << bits[1] | core_in_die) << bits[2] | thread
        found.append(Place(socket, die, core, apic_id))
    return found


def cpu_list(text):
    """The CPUs of a list such as 0-2,5."""
    cpus = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus


def ram(mib):
    """First and last address of the stretches of RAM that Linux shows in /proc/iomem. It keeps off the first page."""
    size = mib * MIB
    stretches = [(PAGE, EBDA - 1), (HIGH_RAM, min(size, HOLE) - 1)]
    if size > HOLE:
        stretches.append((HOLE_END, HOLE_END + size - HOLE - 1))
    return stretches


@dataclass
class Facts:
    """What one guest printed, by section, and how `impost run` ended."""

    status: int = -1
    sections: dict = field(default_factory=dict)
    said: list = field(default_factory=list)  # by impost, on stderr

    def lines(self, section):
        return self.sections.get(section, [])

    def values(self, section):
        """KEY:VALUE lines, as `grep . FILE...` and many files of /proc have them."""
        pairs = (line.partition(":") for line in self.lines(section))
        return {key.strip(): value.strip() for key, _, value in pairs}

    @cached_property
    def cpus(self):
        """The CPUs of /proc/cpuinfo."""
        cpus = []
        for line in self.lines("cpuinfo"):
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "processor":
                cpus.append({})
            if key:
                cpus[-1][key] = value
        return cpus

    @property
    def ended(self):
        return "end" in self.sections


def read(lines):
    """What boot-judged printed of one boot."""
    facts = Facts()
    section = facts.sections.setdefault("console", [])
    for line in lines:
        if line.startswith("@@ "):
            section = facts.sections.setdefault(line[3:], [])
        elif line.startswith("@! "):
            facts.said.append(line[3:])
        elif line.startswith("@= "):
            facts.status = int(line.split()[1])
        else:
            section.append(line)
    return facts


def visible(boot, facts):
    """The topology that Linux can see: on an AMD CPU without TOPOEXT it knows of no threads, and takes them for
    cores."""
    cpu = facts.cpus[0] if facts.cpus else {}
    if cpu.get("vendor_id") == "AuthenticAMD" and "topoext" not in cpu.get("flags", "").split():
        sockets, dies, cores, threads = boot.topology
        return (sockets, dies, cores * threads, 1)
    return boot.topology


def notes(boot, facts):
    """What could not be looked at."""
    if facts.ended and visible(boot, facts) != boot.topology:
        yield "the CPU has no TOPOEXT: threads are looked at as cores"


# --- Checks: each yields what is wrong, in words. ---


def check_end(boot, facts):
    if not facts.ended:
        yield "init did not get to its end"
    if facts.status != 0:
        yield f"impost run ended with status {facts.status}, and not with 0, after {boot.end}"
    end = f"the guest {ENDS[boot.end]}"
    if not any(line.split(maxsplit=1) == ["end", end] for line in facts.said):
        yield f"it is not said that {end}"


def check_log(_, facts):
    console = (line for line in facts.lines("console") if line.startswith("["))
    for line, reason in dict.fromkeys(complaints([*console, *facts.lines("dmesg")])):
        yield f"{reason}: {line}"


def check_protocol(boot, facts):
    """A kernel that came through PVH has made its own boot_params: version 2.12, and loader 0xb, a hypervisor;
    ours has the version of the bzImage, or the latest, and no number of a loader."""
    values = facts.values("boot")
    version = values.get("/sys/kernel/boot_params/version")
    loader = values.get("/proc/sys/kernel/bootloader_type")
    if boot.pvh != (version == "0x020c") or loader != (str(0xB0) if boot.pvh else str(0xFF)):
        yield f"boot_params has version {version} and loader type {loader}"


def check_cpuinfo(boot, facts):
    topology = visible(boot, facts)
    expected = places(topology)
    if len(facts.cpus) != len(expected):
        yield f"{len(facts.cpus)} CPUs are on line, and not {len(expected)}"
        return
    sockets, dies, cores, threads = topology
    siblings, cpu_cores = dies * cores * threads, dies * cores
    for number, (cpu, place) in enumerate(zip(facts.cpus, places(boot.topology))):
        wanted = {"processor": number, "physical id": place.socket, "siblings": siblings, "cpu cores": cpu_cores,
                  "apicid": place.apic_id, "initial apicid": place.apic_id}
        for key, value in wanted.items():
            if cpu.get(key) != str(value):
                yield f"/proc/cpuinfo: CPU {number} has {key} {cpu.get(key)}, and not {value}"
    core_ids = {(cpu.get("physical id"), cpu.get("core id")) for cpu in facts.cpus}
    if len(core_ids) != sockets * dies * cores:
        yield f"/proc/cpuinfo: {len(core_ids)} cores have a physical id and core id of their own"


def sharers(expected, cpu, level):
    return {i for i, place in enumerate(expected) if getattr(place, level) == getattr(expected[cpu], level)}


def check_topology(boot, facts):
    expected, values = places(visible(boot, facts)), facts.values("topology")
    for cpu in range(len(expected)):
        for name, level in (("core_cpus_list", "core"), ("die_cpus_list", "die"), ("package_cpus_list", "socket")):
            path = f"cpu{cpu}/topology/{name}"
            if path not in values or cpu_list(values[path]) != sharers(expected, cpu, level):
                yield f"{path} is {values.get(path)}"


def check_caches(boot, facts):
    """The first two levels belong to a core, the third to a die, as on the processors that there are."""
    expected, values = places(visible(boot, facts)), facts.values("cache")
    for cpu in range(len(expected)):
        levels = [path for path in values if path.startswith(f"cpu{cpu}/cache/") and path.endswith("/level")]
        if len(levels) < 3:
            yield f"CPU {cpu} has {len(levels)} caches"
        for path in levels:
            shared = values.get(path.replace("/level", "/shared_cpu_list"), "")
            level = "die" if values[path] == "3" else "core"
            if not shared or cpu_list(shared) != sharers(expected, cpu, level):
                yield f"{path.replace('/level', '')}: a cache of level {values[path]} is shared by CPUs {shared}"


def check_memory(boot, facts):
    ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", "\n".join(facts.lines("iomem")), re.MULTILINE)
    found = [(int(first, 16), int(last, 16)) for first, last in ranges]
    if found != ram(boot.mib):
        yield f"/proc/iomem has RAM at {', '.join(f'{a:#x}-{b:#x}' for a, b in found)}"
    total = int(facts.values("meminfo").get("MemTotal", "0 kB").split()[0]) * 1024
    # What the kernel itself takes: its image, and a part that grows with the RAM.
    if not boot.mib * MIB * 23 // 24 - 48 * MIB <= total <= boot.mib * MIB:
        yield f"/proc/meminfo has {total // MIB} MiB in all, of {boot.mib} MiB"


def check_tables(boot, facts):
    tables = {name for line in facts.lines("tables") for name in line.split()}
    for name in sorted({"FACP", "APIC", "DSDT"} - tables):
        yield f"ACPI table {name} is not there"
    if not any(value for key, value in facts.values("dmi").items() if key.endswith("/sys_vendor")):
        yield "SMBIOS names no vendor of the system"


def check_features(boot, facts):
    for number, cpu in enumerate(facts.cpus):
        flags = cpu.get("flags", "").split()
        for name in boot.hidden:
            if name in flags:
                yield f"CPU {number} shows {name}, which the template hides"
        for name in boot.shown:
            if name not in flags:
                yield f"CPU {number} does not show {name}"


CHECKS = [check_end, check_log, check_protocol, check_cpuinfo, check_topology, check_caches, check_memory,
          check_tables, check_features]


def judge(boot, facts):
    """All that is wrong with a boot; nothing more is looked at in one that did not get to its end."""
    wrong = list(check_end(boot, facts))
    if facts.ended:
        wrong += [text for check in CHECKS[1:] for text in check(boot, facts)]
    return wrong
