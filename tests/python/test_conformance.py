# SPDX-License-Identifier: Apache-2.0
"""Conformance from Python: cases as objects, and as tests of pytest's."""
import os
import subprocess
import sys

import pytest
from conftest import PLUGINS, TOOL

import impost
from impost.conformance import parse

REPORT = """TAP version 13
1..4
# backend toy
ok 1 - life/one
not ok 2 - life/two
# tests/conformance/life.c:7: it is another
# and so on
ok 3 - life/three # SKIP toy: has no nested here
not ok 4 - life/four
# toy: 1 passed
"""


def test_report():
    cases = list(parse(REPORT.splitlines(True)))
    assert [(case.name, case.outcome) for case in cases] == [
        ("life/one", "passed"), ("life/two", "failed"), ("life/three", "skipped"), ("life/four", "failed")]
    assert "it is another" in cases[1].text and "and so on" in cases[1].text
    assert cases[2].text == "toy: has no nested here"


def test_cases_of_the_mock():
    names = [name for name in impost.list_cases(TOOL) if name.startswith("life/")]
    cases = list(impost.conform("mock", ["life/*"], plugin_dir=PLUGINS, tool=TOOL))
    assert [case.name for case in cases] == names and len(names) > 1
    assert {case.outcome for case in cases} == {"passed", "skipped"}
    assert [case.name for case in impost.conform("mock", names[0], plugin_dir=PLUGINS, tool=TOOL)] == names[:1]


def test_what_cannot_be_run():
    with pytest.raises(RuntimeError, match="nonesuch"):
        list(impost.conform("nonesuch", plugin_dir=PLUGINS, tool=TOOL))
    with pytest.raises(OSError):
        list(impost.conform("mock", tool="/nonexistent/impost"))


def test_each_case_is_a_test(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_conformance(impost_case):\n    impost_case.run()\n",
                                         encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "-p",
                           "impost.pytest_plugin", "--impost-backend", "mock", "--impost-plugin-dir", PLUGINS,
                           "--impost-tool", TOOL, "--impost-cases", "life/", "--rootdir", str(tmp_path), str(tmp_path)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True,
                          env=dict(os.environ))
    assert done.returncode == 0, done.stdout
    assert "test_conformance[mock-life/nothing_is_left_behind] PASSED" in done.stdout
    assert "has no executes here" in done.stdout
