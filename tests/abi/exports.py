#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libimpost exports what the public headers declare, and nothing else. Usage: exports.py SOURCE-ROOT LIBRARY"""
import re
import subprocess
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
DECLARATION = re.compile(r"\bIMPOST_API\b[^;{]*?\b(impost_\w+)\s*\(")
# What sanitizers put into every object that they instrument.
INSTRUMENTED = re.compile(r"__(asan|ubsan|odr_asan|tsan|sanitizer|sancov|start___|stop___)")


def declared(include):
    """Names of the functions that the headers declare as public."""
    names = set()
    for header in include.rglob("*.h"):
        names |= set(DECLARATION.findall(COMMENT.sub("", header.read_text(encoding="utf-8"))))
    return names


def exported(library):
    """Names of the symbols that the library defines for others."""
    lines = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    # Type A: the names of symbol versions.
    names = {line.split()[0].split("@")[0] for line in lines if line.split()[1] != "A"}
    return {name for name in names if not INSTRUMENTED.match(name)}


def main():
    public, present = declared(Path(sys.argv[1]) / "include/impost"), exported(sys.argv[2])
    if not public:
        print("no public declaration was found: exports.py reads the headers wrongly", file=sys.stderr)
        return 1
    for name in sorted(public - present):
        print(f"{name} is declared in a public header but not exported", file=sys.stderr)
    for name in sorted(present - public):
        print(f"{name} is exported but no public header declares it", file=sys.stderr)
    return 1 if public ^ present else 0


sys.exit(main())
