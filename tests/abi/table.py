#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every operation, host service and state section has an answer for every hypervisor in docs/plugin-abi.md.
Usage: table.py SOURCE-ROOT
"""
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
COLUMNS = ["KVM", "MSHV", "Xen", "NVMM", "WHP"]
TABLES = {"impost_backend_ops": "backend", "impost_vm_ops": "vm", "impost_vcpu_ops": "vcpu", "impost_host": "host"}


def operations(header):
    """Keys of the rows that backend.h asks for: vm.mem_add, vcpu.run, ..."""
    text = COMMENT.sub("", header.read_text(encoding="utf-8"))
    for struct, prefix in TABLES.items():
        body = re.search(rf"^struct {struct} {{$(.*?)^}};$", text, re.S | re.M).group(1)
        # \w+ before the first parenthesis is the type; the name is in (*name).
        for name in re.findall(r"\(\*(\w+)\)\(", body):
            yield f"{prefix}.{name}"


def sections(definition):
    """Keys of the rows that sections.def asks for: vcpu section regs, vm section pic, ..."""
    text = COMMENT.sub("", definition.read_text(encoding="utf-8"))
    for kind, name in re.findall(r"^IMPOST_(VCPU|VM)_SECTION\(\d+, \w+, (\w+),", text, re.M):
        yield f"{kind.lower()} section {name}"


def rows(document):
    """{key: cells} of the tables whose heading names the five hypervisors."""
    found, inside = {}, False
    for line in document.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[1:] == COLUMNS:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            found[cells[0].strip("`")] = cells[1:]
    return found


def main():
    root = Path(sys.argv[1])
    wanted = list(operations(root / "include/impost/backend.h"))
    wanted += sections(root / "include/impost/x86_64/sections.def")
    table = rows(root / "docs/plugin-abi.md")
    bad = [f"{key} has no row" for key in wanted if key not in table]
    bad += [f"{key} is no operation and no section" for key in table if key not in wanted]
    for key, cells in table.items():
        bad += [f"{key} has no answer for {name}" for name, cell in zip(COLUMNS, cells + [""] * 5) if len(cell) < 3]
        if len(cells) != len(COLUMNS):
            bad.append(f"{key} has {len(cells)} cells")
    if len(wanted) < 60:
        bad.append("fewer operations were found than there are: table.py reads the header wrongly")
    for sentence in bad:
        print(f"docs/plugin-abi.md: {sentence}", file=sys.stderr)
    return 1 if bad else 0


sys.exit(main())
