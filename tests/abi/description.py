#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a C source that has a variable of every public struct: the debug information of its object describes both
ABIs, the plugins' and the library's, whose functions are members of struct impost_api. Usage: described.py ROOT OUTPUT
"""
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
STRUCT = re.compile(r"^struct (impost_\w+) \{", re.M)

include = Path(sys.argv[1]) / "include/impost"
headers = sorted(include.rglob("*.h"))
lines = [f"#include <impost/{header.relative_to(include)}>" for header in headers]
for header in headers:
    for name in STRUCT.findall(COMMENT.sub("", header.read_text(encoding="utf-8"))):
        lines.append(f"extern const struct {name} *abi_{name};\nconst struct {name} *abi_{name};")
text = "\n".join(lines) + "\n"
output = Path(sys.argv[2])
if not output.exists() or output.read_text(encoding="utf-8") != text:  # or it would be compiled each time
    output.write_text(text, encoding="utf-8")
