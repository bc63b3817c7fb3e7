#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a library without state exports in place of HEADERs' functions: each says -ENOTSUP. Usage: disabled.py OUTPUT HEADER..."""
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
FUNCTION = re.compile(r"\bIMPOST_API\s+([\w\s*]+?)\b(impost_\w+)\s*\(")


def says(returns):
    """The statement with which a function of that type says that there is nothing."""
    if returns.endswith("*"):
        return "return NULL;"
    return {"void": "", "int": "return -ENOTSUP;"}.get(returns, "return 0;")


def main():
    lines = ["#include <errno.h>", "#include <stddef.h>", "#include <stdint.h>", "#include <stdbool.h>", "",
             "#include <impost/version.h>"]
    for header in sys.argv[2:]:
        text = COMMENT.sub("", Path(header).read_text(encoding="utf-8"))
        for returns, name in FUNCTION.findall(text):
            returns = " ".join(returns.split())
            space = "" if returns.endswith("*") else " "
            # Arguments are not looked at, so they need not be repeated (System V ABI: the caller's to clear up).
            lines += ["", f"IMPOST_API {returns}{space}{name}(void);",
                      f"{returns}{space}{name}(void)", "{", f"\t{says(returns)}", "}"]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
