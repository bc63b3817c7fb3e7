#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header is in the list of those that are compiled alone. Usage: headers-listed.py SOURCE-ROOT"""
import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
build = (root / "tests/abi/meson.build").read_text(encoding="utf-8")
listed = set(re.findall(r"'([\w/]+)'", re.search(r"foreach header : \[(.*?)\]", build, re.S).group(1)))
include = root / "include/impost"
present = {str(path.relative_to(include).with_suffix("")) for path in include.rglob("*.h")}

for name in sorted(present - listed):
    print(f"impost/{name}.h is not compiled alone: add it to tests/abi/meson.build", file=sys.stderr)
sys.exit(1 if present - listed else 0)
