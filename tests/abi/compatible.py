#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What was released is there still, and as it was: abidiff(1) against tests/abi/released.abi. Additions are fine.

Usage: compatible.py check RELEASED MODULE LIBRARY VERSION   MODULE is description.py's source, compiled
       compatible.py write RELEASED MODULE                   describes MODULE as what is released
       compatible.py self-test CC...                         changes of each kind are seen for what they are
"""
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

LICENCE = "<!-- SPDX-License-Identifier: Apache-2.0 -->"
ADVICE = ("docs/stability.md says what may change. If this change is meant, and its version is raised as it says, "
          "describe the headers as released: ninja -C BUILD abi-released")
# What says nothing about the ABI, and would change with the folder or the release of a compiler.
PLAIN = ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed", "--no-parameter-names"]
SKIPPED = 77
TABLE = "impost_api"

HEADING = re.compile(r"^'(struct|union|enum) (\w+).*' changed:$")
GONE = re.compile(r"^  \[D\] .*\{abi_(\w+)\}$")
SIZE = re.compile(r"^  type size changed from (\d+) to (\d+) \(in bits\)")
MEMBER = re.compile(r"^    '(.*)', at offset (\d+) \(in bits\)")
SECTION = re.compile(r"^  (?:\d+ )?(data member insertion|data member deletion|enumerator insertion|"
                     r"enumerator deletion|enumerator change|there are data member changes)s?")
# Lines that are in a report in which nothing is wrong.
QUIET = re.compile(r"^(Leaf changes summary|Changed leaf types summary|Removed/Changed/Added|\d+ (Added|Removed) variable|"
                   r"  \[A\] |  type size hasn't changed$|$)")


def describe(module):
    """What abidw(1) makes of MODULE."""
    return subprocess.run(["abidw", *PLAIN, module], check=True, capture_output=True, text=True).stdout


def report(released, module):
    run = subprocess.run(["abidiff", "--leaf-changes-only", "--harmless", released, module], check=False, capture_output=True,
                         text=True)
    if run.returncode & 3:  # the tool itself failed, or was called wrongly
        raise SystemExit(f"abidiff failed: {run.stderr}")
    return run.stdout


def structs(text):
    """{name: its members in order} of the structs of a description."""
    found = {}
    for decl in xml.fromstring(text).iter("class-decl"):
        members = [var.get("name") for var in decl.findall("data-member/var-decl")]
        if members:
            found[decl.get("name")] = members
    return found


class Judge:
    """Goes through a report line by line, and keeps what must not be."""

    def __init__(self, members):
        self.members = members  # of the structs as they were
        self.bad = []
        self.kind = self.name = self.section = None
        self.bits = 0

    def heading(self, kind, name):
        self.kind, self.name, self.section, self.bits = kind, name, None, 0

    def size(self, before, after):
        self.bits = before
        if after < before:
            self.bad.append(f"{self.kind} {self.name} is smaller than it was")
        elif self.members.get(self.name, [""])[0] != "size":
            self.bad.append(f"{self.kind} {self.name} is larger, and has no size that would tell it from what it was")

    def member(self, line):
        """A line of the section under way."""
        found = MEMBER.match(line)
        what = found[1] if found else line.strip().rstrip(":")
        if self.section == "enumerator insertion":
            return
        if self.section == "data member insertion" and found:
            if int(found[2]) < self.bits or not self.bits:
                self.bad.append(f"{self.kind} {self.name}: {what} is not added at the end")
        elif self.section:
            verb = " is gone" if self.section.endswith("deletion") else ""
            self.bad.append(f"{self.kind} {self.name}: {what}{verb}")

    def line(self, line):
        found = HEADING.match(line)
        if found:
            self.heading(found[1], found[2])
        elif GONE.match(line):
            self.bad.append(f"struct {GONE.match(line)[1]} is gone")
        elif SIZE.match(line):
            self.size(*map(int, SIZE.match(line).groups()))
        elif SECTION.match(line):
            self.section = SECTION.match(line)[1]
        elif line.startswith("     "):  # why a member that was told of is another
            return
        elif line.startswith("    "):
            self.member(line)
        elif not QUIET.match(line):
            self.bad.append(line.strip())


def judge(released, module):
    """What must not be, as sentences."""
    found = Judge(structs(Path(released).read_text(encoding="utf-8")))
    for line in report(released, module).splitlines():
        found.line(line)
    return found.bad


def nodes(library):
    """{function: its version node} of what LIBRARY exports."""
    lines = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return dict(line.split()[2].split("@@") for line in lines if "@@IMPOST_" in line)


def misplaced(released, module, library, version):
    """Functions whose version node is not that of the release which has them first (core/libimpost.map)."""
    before = structs(Path(released).read_text(encoding="utf-8"))[TABLE]
    now = structs(describe(module))[TABLE][2:]
    node = "IMPOST_" + ".".join(version.split(".")[:2])
    found = nodes(library)
    for name in now:
        first = "IMPOST_0.1" if name in before else node
        if found.get("impost_" + name) != first:
            yield f"impost_{name} is {found.get('impost_' + name)} and not {first}: see core/libimpost.map"


def check(released, module, library, version):
    bad = judge(released, module)
    if bad:
        bad.append(ADVICE)
    return bad + list(misplaced(released, module, library, version))


def write(released, module):
    head, rest = describe(module).split("\n", 1)
    Path(released).write_text(f"{head}\n{LICENCE}\n{rest}", encoding="utf-8")
    return []


BEFORE = """#include <stdint.h>
struct own { uint32_t size; uint32_t a; int (*fn)(int32_t x, const char *y); };
struct fixed { uint64_t a; };
struct holds { struct fixed one; };
struct other { uint32_t size; uint32_t b; };
const struct own *abi_own; const struct holds *abi_holds; const struct other *abi_other;
"""
# What is changed in BEFORE, and a part of the sentence about it; None: it may be.
CHANGES = [
    ("const char *y); };", "const char *y); uint64_t more; };", None),
    ("const char *y); };", "const char *y); uint64_t more; int (*fn2)(void); };", None),
    ("const struct other *abi_other;", "struct new { int a; }; const struct other *abi_other; struct new *abi_new;", None),
    ("const struct other *abi_other;", "", "struct other is gone"),
    ("uint32_t b;", "", "smaller"),
    ("uint32_t b;", "uint32_t c;", "other::b"),
    ("uint32_t b;", "int32_t b;", "other::b"),
    ("uint32_t b;", "uint32_t c; uint32_t b;", "not added at the end"),
    ("uint64_t a;", "uint64_t a; uint64_t more;", "struct fixed is larger, and has no size"),
    ("const char *y); };", "const char *y, int z); };", "own::fn"),
    ("int (*fn)(int32_t", "int (*fn)(int64_t", "own::fn"),
    ("int (*fn)(int32_t", "long (*fn)(int32_t", "own::fn"),
    ("const char *y); };", "const char *y, int z); uint64_t more; };", "own::fn"),
    ("uint32_t a; int (*fn)(int32_t x, const char *y);", "uint32_t a;", "is gone"),
]


def compile_to(compiler, folder, name, source):
    path = Path(folder) / name
    path.with_suffix(".c").write_text(source, encoding="utf-8")
    subprocess.run([*compiler, "-g", "-shared", "-fPIC", "-o", path, path.with_suffix(".c")], check=True)
    return path


def self_test(*compiler):
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        released = Path(folder) / "released.abi"
        write(released, compile_to(compiler, folder, "before.so", BEFORE))
        if judge(released, Path(folder) / "before.so"):
            bad.append("no change at all is refused")
        for old, new, part in CHANGES:
            after = compile_to(compiler, folder, "after.so", BEFORE.replace(old, new))
            said = " ".join(judge(released, after))
            if part is None and said or part is not None and part not in said:
                bad.append(f"{old} -> {new}: {said or 'nothing is said'}")
    return bad


def main():
    try:
        subprocess.run(["abidiff", "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        print("skipped: there is no abidiff(1), of the package abigail-tools")
        return SKIPPED
    bad = {"check": check, "write": write, "self-test": self_test}[sys.argv[1]](*sys.argv[2:])
    for sentence in bad:
        print(sentence, file=sys.stderr)
    return 1 if bad else 0


sys.exit(main())
