# SPDX-License-Identifier: Apache-2.0
"""What Python knows of the library's structs and constants is what the C compiler knows."""
import os
import shlex
import subprocess

from conftest import SOURCES

from impost._declarations import ffi
from impost._library import api, constant

HEAD = """#include <stddef.h>
#include <impost/api.h>
#include <impost/mock.h>
"""


def assertions():
    """A line of C for each struct's size, and each member's place."""
    _, structs, _ = ffi.list_types()
    for name in structs:
        kind = ffi.typeof(f"struct {name}")
        if not name.startswith("impost_") or kind.fields is None:
            continue
        yield f'_Static_assert(sizeof(struct {name}) == {ffi.sizeof(kind)}, "{name}");'
        for member, field in kind.fields:
            yield f'_Static_assert(offsetof(struct {name}, {member}) == {field.offset}, "{name}.{member}");'


def compiles(text):
    words = [*shlex.split(os.environ["CC"]), "-fsyntax-only", "-D_GNU_SOURCE", f"-I{SOURCES}/include", "-xc", "-"]
    done = subprocess.run(words, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    return done.returncode == 0, done.stdout


def test_structs():
    lines = list(assertions())
    assert len(lines) > 400
    good, text = compiles(HEAD + "\n".join(lines) + "\n")
    assert good, text


def test_one_that_is_wrong_is_found():
    good, text = compiles(HEAD + '_Static_assert(sizeof(struct impost_exit) == 127, "impost_exit");\n')
    assert not good and "impost_exit" in text


def test_constants():
    names = ("API_VERSION", "EXIT_WRITE", "CAP_COMPLETE", "SECTION_REGS", "MOCK_SIPI", "PLUGIN_MAGIC", "ESTATE",
             "REGION_ANONYMOUS", "HOLD_NO_LIMIT", "EXIT_INTR", "KICK_HANDLER")
    text = HEAD + "".join(f'_Static_assert((unsigned long long)IMPOST_{name} == {constant(name)}ull, "{name}");\n'
                          for name in names)
    good, said = compiles(text)
    assert good, said


def test_the_table_is_whole():
    table = api()
    members = [name for name, field in ffi.typeof("struct impost_api").fields if field.type.kind == "pointer" or
               field.type.kind == "function"]
    assert len(members) > 200
    assert all(getattr(table, name) != ffi.NULL for name in members)
