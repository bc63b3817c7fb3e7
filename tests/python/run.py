#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a file of pytest's on the package as it was built. Usage: run.py BUILD-FOLDER SANITIZERS FILE

The package is put together in a folder of its own: its sources, and what was generated. Where the library has
sanitizers, an interpreter that has none needs their runtime first; where that is not to be found, the test is skipped.
"""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
SOURCES = Path(__file__).resolve().parents[2]
RUNTIMES = {"address": ("libclang_rt.asan-x86_64.so", "libasan.so"),
            "undefined": ("libclang_rt.ubsan_standalone-x86_64.so", "libubsan.so")}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def runtime(sanitizers):
    """The shared runtime of the compiler's sanitizers, for LD_PRELOAD."""
    kind = next((kind for kind in RUNTIMES if kind in sanitizers.split(",")), None)
    if kind is None:
        skip(f"no interpreter runs under the sanitizer {sanitizers}")
    for name in RUNTIMES[kind]:
        done = subprocess.run([*shlex.split(os.environ["CC"]), f"-print-file-name={name}"], stdout=subprocess.PIPE,
                              check=True, text=True)
        if os.path.isabs(done.stdout.strip()):
            return os.path.realpath(done.stdout.strip())
    return skip(f"the compiler has no shared runtime of the sanitizer {kind}")


def without_preload(folder, tool):
    """A command in FOLDER that is TOOL, which has a runtime of its own and takes no other before it."""
    command = Path(folder) / "impost-tool"
    command.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {shlex.quote(str(tool))} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return command


def main():
    build, sanitizers, tests = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        import pytest  # pylint: disable=import-outside-toplevel,unused-import
    except ImportError:
        skip("there is no pytest (python3-pytest)")
    tool = build / "tools/impost"
    env = dict(os.environ, LD_LIBRARY_PATH=str(build / "core"), IMPOST_TEST_BUILD=str(build),
               IMPOST_TEST_SOURCES=str(SOURCES))
    if sanitizers != "none":
        env["LD_PRELOAD"] = runtime(sanitizers)
        # The interpreter frees little of its own at its end.
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    with tempfile.TemporaryDirectory(prefix="impost-python-") as folder:
        shutil.copytree(SOURCES / "python/impost", Path(folder) / "impost",
                        ignore=shutil.ignore_patterns("__pycache__", "_declarations.py"))
        shutil.copy(build / "python/_declarations.py", Path(folder) / "impost")
        env["PYTHONPATH"] = folder
        env["IMPOST_TEST_TOOL"] = str(without_preload(folder, tool) if "LD_PRELOAD" in env else tool)
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs",
                               "--rootdir", str(SOURCES / "tests/python"), tests], env=env, check=False)
    return done.returncode


sys.exit(main())
