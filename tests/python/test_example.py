# SPDX-License-Identifier: Apache-2.0
"""The example, as docs/python.md shows it."""
import subprocess
import sys

from conftest import PLUGINS, SOURCES


def test_example():
    done = subprocess.run([sys.executable, str(SOURCES / "examples/serial.py"), PLUGINS], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, "Hello from the guest\nSHUTDOWN: 21 bytes\n")
