#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the CPU templates as a C table of their names and texts. Usage: embed.py OUTPUT INI..."""
import sys
from pathlib import Path


def literal(text):
    """TEXT as C string literals, a line each."""
    lines = text.replace("\\", "\\\\").replace('"', '\\"').splitlines()
    return "\n".join(f'\t "{line}\\n"' for line in lines)


def main(output, *inis):
    rows = [f'\t{{"{Path(ini).stem}",\n{literal(Path(ini).read_text())}}},\n' for ini in inis]
    Path(output).write_text('/* Made by embed.py. */\n#include "template.h"\n\n'
                            "const struct template_file template_files[] = {\n"
                            + "".join(rows) + "\t{0},\n};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
