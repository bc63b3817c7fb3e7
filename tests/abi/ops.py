#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""plugins/layer/ops.def has every operation of backend.h, in order, with its parameters. Usage: ops.py SOURCE-ROOT"""
import re
import sys
from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/", re.S)
TABLES = {"impost_backend_ops": "backend", "impost_vm_ops": "vm", "impost_vcpu_ops": "vcpu"}
# Operations that return no int32_t, or whose handle the kit itself must know.
OTHER = {"backend.open", "backend.close", "vm.extension"}
MAKE = {"backend.vm_create", "vm.vcpu_create"}


def split(parameter):
    """("const void *", "buf") of "const void *buf"."""
    kind, name = re.fullmatch(r"(.*?)(\w+)", parameter.strip()).groups()
    return kind.strip(), name


def row(key, parameters):
    """The row that ops.def must have for operation KEY with PARAMETERS, the handle the first of them."""
    if key in OTHER:
        return ("OTHER", key)
    if key.endswith(".destroy"):
        return ("END", key)
    pairs = [split(parameter) for parameter in parameters[1:]]
    if key in MAKE:  # whatever it is called there
        pairs[-1] = (pairs[-1][0], "ret_handle")
    return ("MAKE" if key in MAKE else "OP", key, str(len(pairs)), *(part for pair in pairs for part in pair))


def operations(header):
    """The rows that backend.h asks for."""
    text = COMMENT.sub("", header.read_text(encoding="utf-8"))
    for struct, scope in TABLES.items():
        body = re.search(rf"^struct {struct} {{$(.*?)^}};$", text, re.S | re.M).group(1)
        for name, parameters in re.findall(r"\(\*(\w+)\)\(([^)]*)\)", body):
            yield row(f"{scope}.{name}", re.sub(r"\s+", " ", parameters).split(","))


def rows(definition):
    """The rows of ops.def."""
    text = COMMENT.sub("", definition.read_text(encoding="utf-8"))
    for what, rest in re.findall(r"^LAYER_(\w+)\((.*)\)$", text, re.M):
        cells = [cell.strip() for cell in rest.split(",")]
        yield (what, f"{cells[0]}.{cells[1]}", *cells[2:])


def main():
    root = Path(sys.argv[1])
    wanted = list(operations(root / "include/impost/backend.h"))
    found = list(rows(root / "plugins/layer/ops.def"))
    bad = [f"lacks {line}" for line in wanted if line not in found]
    bad += [f"has {line}, which is not in backend.h" for line in found if line not in wanted]
    if not bad and found != wanted:
        bad.append("is in another order than backend.h")
    if len(wanted) < 48:
        bad.append("fewer operations were found than there are: ops.py reads the header wrongly")
    for sentence in bad:
        print(f"plugins/layer/ops.def: {sentence}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
