# SPDX-License-Identifier: Apache-2.0
"""The conformance suite, by `impost conform`: each of its cases as an object."""
from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Iterable, Iterator, Sequence

TOOL = "impost"
RESULT = re.compile(r"^(not )?ok \d+ - (\S+)(?: # SKIP ?(.*))?")


@dataclass(frozen=True)
class Case:
    """A case that was run: its name, "passed", "failed" or "skipped", and why."""

    name: str
    outcome: str
    text: str = ""


def _words(tool: str, backend: str | None, plugin_dir: str | None, config: str | None, layers: Iterable[str],
           settings: Iterable[str]) -> list[str]:
    words = [tool, "conform"]
    for option, value in (("--config", config), ("--plugin-dir", plugin_dir), ("--backend", backend)):
        if value is not None:
            words += [option, value]
    for layer in layers:
        words += ["--layer", layer]
    for setting in settings:
        words += ["--set", setting]
    return words


def list_cases(tool: str = TOOL) -> list[str]:
    """Names of all cases."""
    done = subprocess.run([tool, "conform", "--list"], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.split()


def parse(lines: Iterable[str]) -> Iterator[Case]:
    """The cases in a TAP report of the suite; comments behind one that failed are its text."""
    failed: str | None = None
    text: list[str] = []
    for line in lines:
        found = RESULT.match(line)
        if failed is not None and (found or line.startswith("1..")):
            yield Case(failed, "failed", "\n".join(text))
            failed = None
        if found and found[1]:
            failed, text = found[2], []
        elif found:
            yield Case(found[2], "skipped" if found[3] is not None else "passed", found[3] or "")
        elif failed is not None:
            text.append(line.rstrip("\n"))
    if failed is not None:
        yield Case(failed, "failed", "\n".join(text))


def conform(backend: str | None = None, tests: str | Sequence[str] = (), *, plugin_dir: str | None = None,
            config: str | None = None, layers: Iterable[str] = (), settings: Iterable[str] = (),
            tool: str = TOOL) -> Iterator[Case]:
    """
    Runs the suite on BACKEND, all of it or TESTS (names, or one, with * for any letters), and gives each case as it
    ends. An OSError or RuntimeError: it could not be run. TOOL is the command, looked for in PATH if it has no folder.
    """
    if isinstance(tests, str):
        tests = [tests]
    words = _words(tool, backend, plugin_dir, config, layers, settings)
    with subprocess.Popen([*words, "--", *tests], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None and process.stderr is not None
        any_case = failed = False
        try:
            for case in parse(process.stdout):
                any_case, failed = True, failed or case.outcome == "failed"
                yield case
        finally:
            if process.poll() is None and not any_case:
                process.stdout.close()
            errors = process.stderr.read()
            status = process.wait()
    if status and not failed:
        raise RuntimeError(f"impost conform ended with {status}: {errors.strip()}")
