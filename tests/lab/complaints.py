# SPDX-License-Identifier: Apache-2.0
"""What a kernel's log says when firmware, that is, the set-up of a guest, has told it something wrong."""

import re

# What is looked for, why, and a line that must be caught. (The lines are Linux 6.1's.)
COMPLAINTS = [
    (r"ACPI.* (Error|Warning|Exception)\b", "ACPICA does not like a table or its AML",
     "ACPI BIOS Error (bug): A valid RSDP was not found (20220331/tbxfroot-210)"),
    (r"ACPI: .*(disabled|[Ff]ail|[Ii]nvalid|[Uu]nable|not found|mismatch|[Ii]gnor|[Ii]ncorrect|too short)",
     "a table was not used",
     "ACPI: Interpreter disabled."),
    (r"\[Firmware (Bug|Warn|Info)\]", "the kernel's own words for what firmware gets wrong",
     "[Firmware Bug]: CPU1: APIC id mismatch. Firmware: 1 APIC: 2"),
    (r"\bBIOS bug", "the same, in older code",
     "..MP-BIOS bug: 8254 timer not connected to IO-APIC"),
    (r"(?i)\bmtrrs?\b.*(disabled|not|wrong|inconsistent|corrected|don't|mismatch|skipp|losing|bug|\?)",
     "memory types that are missing, or not the same everywhere",
     "mtrr: your CPUs had inconsistent variable MTRR settings"),
    (r"x86/PAT: .*(disabled|skipp|conflict)", "no PAT because of the MTRRs or the CPUID",
     "x86/PAT: MTRRs disabled, skipping PAT initialization too."),
    (r"^e820: ", "the kernel changes the map that it was given",
     "e820: remove [mem 0xc0000000-0xffffffff] usable"),
    (r"(?i)(invalid|overlap|malformed|conflict|not reserved).*\be820\b", "the map contradicts something",
     "PCI: MMCONFIG at [mem 0xe0000000-0xefffffff] not reserved in E820 table"),
    (r"smpboot: .*(not listed|fail|error|mismatch|unable|exceed|weird)", "the kernel cannot find a CPU, or start it",
     "smpboot: Boot CPU (id 0) not listed by BIOS"),
    (r"APIC: .*(not detected|no configuration|disabled|fail|error|unknown)", "no MADT and no MP table that is good",
     "APIC: ACPI MADT or MP tables are not detected"),
    (r"(?i)apic.*\b(id mismatch|invalid|error|bug|stuck|not respond)", "an APIC that is not as told",
     "APIC error on CPU0: 00(40)"),
    (r"(?i)\bIO-?APIC.*(unable|fail|invalid|\bno\b|unreachable|skipped)", "an I/O APIC that is not there",
     "IOAPIC[0]: Invalid reference to IRQ 0"),
    (r"(?i)CPU\d+: .*(stuck|not respond|fail|offline)", "a CPU that was started and did not come",
     "CPU1: Stuck ??"),
    (r"not on the same node|domain not a subset|topology borken|topology.*(mismatch|wrong|inconsistent|bug)",
     "levels of the topology that contradict each other",
     "sched: CPU #1's smt-sibling CPU #0 is not on the same node! [node: 1 != 0]. Ignoring dependency."),
    (r"DMI not present", "no SMBIOS entry point that is good",
     "DMI not present or invalid."),
    (r"SRAT: .*(not used|bad|invalid|fail)|SLIT.*(invalid|not)", "NUMA tables that were dropped",
     "SRAT: PXMs not covering memory, SRAT not used."),
    (r"unchecked MSR access", "an MSR that CPUID promises and that is not there",
     "unchecked MSR access error: WRMSR to 0x1a0 (tried to write 0x0000000000000001) at rIP: 0xffffffff81073744"),
    (r"XSAVE consistency problem", "CPUID leaf 0xd does not fit XCR0",
     "XSAVE consistency problem: size 832 != kernel_size 576"),
    (r"No irq handler for vector|nobody cared|[Ss]purious.*interrupt", "interrupts that are routed wrong",
     "__common_interrupt: 0.55 No irq handler for vector"),
    (r"^WARNING: CPU: |^-+\[ cut here \]", "a check in the kernel that did not hold",
     "WARNING: CPU: 0 PID: 0 at arch/x86/kernel/fpu/xstate.c:606 fpu__init_system_xstate+0x85a/0xb19"),
    (r"^(BUG|Oops|INFO: (rcu|task)|Kernel panic|general protection fault|invalid opcode)\b|Call Trace:",
     "the kernel has failed",
     "BUG: unable to handle page fault for address: ffffffffff5fc020"),
]

# Lines that one of the patterns above finds, and that say nothing bad.
HARMLESS = [
    (r"e820: update \[mem 0x00000000-0x00000fff\] usable ==> reserved",
     "Linux keeps off the first page of every machine",
     "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved"),
    (r"e820: remove \[mem 0x000a0000-0x000fffff\] usable", "and off the ROM area, which no map gives as RAM",
     "e820: remove [mem 0x000a0000-0x000fffff] usable"),
    (r"e820: reserve RAM buffer \[mem ", "it rounds the end of RAM up",
     "e820: reserve RAM buffer [mem 0x0009fc00-0x0009ffff]"),
    (r"e820: update \[mem 0x[0-9a-f]+-0x[0-9a-f]+\] usable ==> usable", "it marks the setup_data it was handed",
     "e820: update [mem 0x00007000-0x0000701f] usable ==> usable"),
    (r"ACPI: Early table checksum verification disabled", "the default; the later one is on",
     "ACPI: Early table checksum verification disabled"),
]

# What it says of time that went wrong, as after a guest was moved. TSCs that differ when the second CPU starts are the
# emulation's.
TIME = re.compile(
    r"(?i)clocksource.*unstable|tsc unstable due to (?!TSCs unsynchronized)|rcu.*(stall|self-detected)|"
    r"soft lockup|hung task|blocked for more than|time.*(backward|jump)")

STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\] ")


def complaints(lines):
    """The lines of a kernel's log that complain, each with the reason why that is bad."""
    found = []
    for line in lines:
        text = STAMP.sub("", line)
        if any(re.match(pattern, text) for pattern, _, _ in HARMLESS):
            continue
        reason = next((reason for pattern, reason, _ in COMPLAINTS if re.search(pattern, text)), None)
        if reason:
            found.append((text, reason))
    return found


def time_complaints(lines):
    """The lines of a kernel's log that complain of time."""
    return [line for line in lines if TIME.search(line)]
