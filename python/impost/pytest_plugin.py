# SPDX-License-Identifier: Apache-2.0
"""
Makes each case of the conformance suite a test of pytest's. With `-p impost.pytest_plugin` and

    def test_conformance(impost_case):
        impost_case.run()

`pytest --impost-backend NAME` has a test for each case, which passes, fails or is skipped as the case does.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from .conformance import TOOL, conform, list_cases


@dataclass(frozen=True)
class ConformanceCase:
    """One case, and the backend that it is for."""

    name: str
    backend: str
    plugin_dir: str | None
    tool: str

    def run(self) -> None:
        """Runs it in a process of its own."""
        cases = list(conform(self.backend, [self.name], plugin_dir=self.plugin_dir, tool=self.tool))
        assert [case.name for case in cases] == [self.name]
        if cases[0].outcome == "skipped":
            pytest.skip(cases[0].text)
        if cases[0].outcome == "failed":
            pytest.fail(cases[0].text, pytrace=False)


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("impost")
    group.addoption("--impost-backend", action="append", default=[], metavar="NAME",
                    help="the backend that conformance is run on; several times: each")
    group.addoption("--impost-plugin-dir", metavar="DIR", help="where its plugin is")
    group.addoption("--impost-tool", default=TOOL, metavar="FILE", help="the impost command")
    group.addoption("--impost-cases", default="", metavar="PREFIX", help="only cases whose name begins so")


def pytest_generate_tests(metafunc: Any) -> None:
    if "impost_case" not in metafunc.fixturenames:
        return
    option = metafunc.config.option
    names = [name for name in list_cases(option.impost_tool) if name.startswith(option.impost_cases)]
    cases = [ConformanceCase(name, backend, option.impost_plugin_dir, option.impost_tool)
             for backend in option.impost_backend for name in names]
    metafunc.parametrize("impost_case", cases, ids=[f"{case.backend}-{case.name}" for case in cases])
