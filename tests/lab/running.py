# SPDX-License-Identifier: Apache-2.0
"""Runs the lab for a program that judges what it printed, and says in TAP how that came out."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def absolute(path):
    """Files keep their paths in the lab."""
    return Path(path).absolute()


def run(argv):
    """Gives back the lab's status, and what it printed behind each line of "@@@ NAME", by name."""
    texts, current = {}, []
    with subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as process:
        for line in process.stdout:
            line = line.rstrip("\r\n")
            if line.startswith("@@@ "):
                current = texts.setdefault(line[4:], [])
            else:
                current.append(line)
    return process.returncode, texts


def conclude(status, count, results):
    """Prints the TAP of a run of COUNT cases. RESULTS yields whether each passed, as it prints of it. Exits."""
    if status == 77:
        print("1..0 # SKIP the lab cannot run here: what it said is on stderr")
        sys.exit(0)
    print(f"1..{count}")
    passed = list(results)
    if status != 0:
        print(f"Bail out! the lab ended with status {status}")
    sys.exit(0 if status == 0 and all(passed) else 1)


def tap(number, name, wrong, notes, lines):
    """One case: what is wrong with it; notes; and, if it failed, the lines that it is judged by. Says if it passed."""
    print(f"{'not ' * bool(wrong)}ok {number} {name}")
    for text in wrong:
        print(f"# {text}")
    for text in notes:
        print(f"# note: {text}")
    if wrong:
        for line in lines or []:
            print(f"# | {line}")
    return not wrong
