# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python package share: a context on the build's plugins, and a VM of the mock."""
import os
from pathlib import Path

import pytest

import impost

BUILD = Path(os.environ["IMPOST_TEST_BUILD"])
SOURCES = Path(os.environ["IMPOST_TEST_SOURCES"])
PLUGINS = str(BUILD / "plugins")
TOOL = os.environ["IMPOST_TEST_TOOL"]


@pytest.fixture
def ctx():
    with impost.Context(plugin_dir=PLUGINS, options={"backend.mock": {"check_entry": "no"}}) as context:
        yield context


@pytest.fixture
def vm(ctx):
    with ctx.create_vm(backend="mock", cpus=2) as machine:
        machine.memory.add(0, 0x10000)
        yield machine


@pytest.fixture
def vcpu(vm):
    return vm.create_vcpu(0)
