#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a library without state exports in place of HEADERs' functions: each says -ENOTSUP, and why. Usage: disabled.py OUTPUT HEADER..."""
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
FUNCTION = re.compile(r"\bIMPOST_API\s+([\w\s*]+?)\b(impost_\w+)\s*\((.*?)\)\s*;", re.S)
# Arguments that lead to a context, which has the text of an error.
CONTEXT = re.compile(r"\bstruct impost_(context|vm) \*(\w+)")
TEXT = "this build of impost has no state support (-Dstate=disabled)"


def says(returns, arguments):
    """The statement with which a function of that type says that there is nothing."""
    if returns.endswith("*"):
        return "return NULL;"
    if returns != "int":
        return "" if returns == "void" else "return 0;"
    found = CONTEXT.search(arguments)
    if not found:
        return "return -ENOTSUP;"
    context = found[2] + ("->ctx" if found[1] == "vm" else "")
    return f'return impost_error_set({context}, -ENOTSUP, "{TEXT}");'


def main():
    headers = [Path(header) for header in sys.argv[2:]]
    lines = ["#include <errno.h>", ""] + [f"#include <impost/{header.name}>" for header in headers]
    lines += ["", '#include "vm.h"', "", '#pragma GCC diagnostic ignored "-Wunused-parameter"']
    for header in headers:
        text = COMMENT.sub("", header.read_text(encoding="utf-8"))
        for returns, name, arguments in FUNCTION.findall(text):
            returns = " ".join(returns.split())
            arguments = " ".join(arguments.split())
            space = "" if returns.endswith("*") else " "
            lines += ["", f"{returns}{space}{name}({arguments})", "{", f"\t{says(returns, arguments)}", "}"]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


main()
