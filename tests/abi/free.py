#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Without state a description costs nothing: the object is as if there were none. Usage: free.py WITHOUT DISABLED WITH"""
import subprocess
import sys


def contents(archive):
    """Symbols, and bytes of text, data and bss, of an archive's only member."""
    nm = subprocess.run(["nm", "--format=posix", archive], check=True, capture_output=True, text=True).stdout
    size = subprocess.run(["size", archive], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in nm.splitlines() if not line.endswith(":")}, size.splitlines()[1].split()[:3]


without, disabled, described = (contents(path) for path in sys.argv[1:4])
if described[0] <= without[0] or int(described[1][0]) <= int(without[1][0]):
    print(f"the description is not in {sys.argv[3]}: this test compares nothing", file=sys.stderr)
    sys.exit(1)
if without != disabled:
    print(f"without state, {sys.argv[2]} has {disabled}, and not {without} only", file=sys.stderr)
    sys.exit(1)
