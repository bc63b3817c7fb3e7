#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A command without state says so wherever it is asked for some. Usage: tool-disabled.py IMPOST PLUGINS"""
import subprocess
import sys
import tempfile
from pathlib import Path

IMPOST, PLUGINS = sys.argv[1:3]
NO_STATE = "built without state"
SCRIPT = '[vcpu 0]\ntext = 0x3f8 "ready\\n"\nrepeat = forever\nhalt =\nend =\n'
INI = "[impost]\nbackend = mock\n[boot]\nprotocol = flat\nkernel = kernel\n[backend.mock]\nscript = script\n"


def check(status, part, *args):
    """Runs the command and looks for PART in what it says."""
    run = subprocess.run([IMPOST, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert run.returncode == status, (args, run)
    assert part in run.stdout + run.stderr, (args, run)
    return run.stdout


for words in (["inspect", "x"], ["diff", "x", "y"], ["check", "x"], ["flatten", "x", "y"],
              ["run", "--restore", "x"], ["run", "--key-file", "x"], ["run", "--restore-memory", "map"]):
    check(3, NO_STATE, *words)
assert "snapshot" not in check(0, "doctor", "--help")
assert "restore" not in check(0, "--kernel", "run", "--help")

with tempfile.TemporaryDirectory() as folder:
    for name, text in (("kernel", "\xf4"), ("script", SCRIPT), ("x.ini", INI)):
        (Path(folder) / name).write_text(text, encoding="latin-1")
    socket = folder + "/socket"
    ini = folder + "/x.ini"
    with subprocess.Popen([IMPOST, "run", "-c", ini, "--plugin-dir", PLUGINS, "--control", socket],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as guest:
        assert guest.stdout.readline() == "ready\n"
        check(1, NO_STATE, "ctl", socket, "save", folder + "/snap")
        check(1, "EOPNOTSUPP", "ctl", "--json", socket, "save", folder + "/snap")
        check(0, "running", "ctl", socket, "status")
        check(0, "", "ctl", socket, "quit")
    assert guest.returncode == 0, guest
    (Path(folder) / "x.ini").write_text(INI + "[snapshot]\nkey_file = key\n", encoding="latin-1")
    check(3, NO_STATE, "run", "-c", ini, "--plugin-dir", PLUGINS)
