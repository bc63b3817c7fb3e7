#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header is compiled alone, and every number and struct in one is written down a second time.
Usage: headers-listed.py SOURCE-ROOT
"""
import re
import sys
from pathlib import Path

# What is of a release, not of the ABI.
RELEASE = {"IMPOST_VERSION_MAJOR", "IMPOST_VERSION_MINOR", "IMPOST_VERSION_PATCH", "IMPOST_PLUGIN_ABI_MINOR"}
# A macro that is a number: what follows begins with a digit, a cast, a parenthesis or another number's name. What has
# arguments, and strings, are none.
NUMBER = re.compile(r"^#define (IMPOST_\w+)[ \t]+(?=[-(\d]|U?INT\d+_|IMPOST_)", re.M)
# What has a list of its own: core/api.def, which api.c compares with the struct.
ELSEWHERE = {"impost_api"}
STRUCT = re.compile(r"^struct (impost_\w+) \{", re.M)


def not_in(listed, found, what):
    return [f"{name} {what}" for name in sorted(found - listed)]


root = Path(sys.argv[1])
abi = root / "tests/abi"
include = root / "include/impost"
headers = list(include.rglob("*.h"))
text = "".join(header.read_text(encoding="utf-8") for header in headers)

build = (abi / "meson.build").read_text(encoding="utf-8")
alone = set(re.findall(r"'([\w/]+)'", re.search(r"foreach header : \[(.*?)\]", build, re.S).group(1)))
numbers = set(re.findall(r"^ABI_NUMBER\((\w+)[,(]", (abi / "numbers.def").read_text(encoding="utf-8"), re.M))
structs = set(re.findall(r"^ABI_STRUCT\((\w+),", (abi / "layout.def").read_text(encoding="utf-8"), re.M))

bad = not_in(alone, {str(path.relative_to(include).with_suffix("")) for path in headers},
             "is a header that is not compiled alone: add it to tests/abi/meson.build")
bad += not_in(numbers, set(NUMBER.findall(text)) - RELEASE, "is not pinned: add it to tests/abi/numbers.def")
bad += not_in(structs, set(STRUCT.findall(text)) - ELSEWHERE, "is not pinned: add it to tests/abi/layout.def")
if len(NUMBER.findall(text)) < 250 or len(STRUCT.findall(text)) < 80:
    bad.append("fewer numbers or structs were found than there are: headers-listed.py reads the headers wrongly")
for sentence in bad:
    print(sentence, file=sys.stderr)
sys.exit(1 if bad else 0)
