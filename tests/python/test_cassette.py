# SPDX-License-Identifier: Apache-2.0
"""What a backend said is recorded, and played again by the mock: the same host gets the same, another one is told so."""
import pytest
from conftest import PLUGINS

import impost
from impost import step

QUIET = {"check_entry": "no"}


def drive(vm, answer):
    """A host: what it was told, and what the guest's memory is then."""
    vcpu = vm.create_vcpu(0)
    vm.memory.add(0, 0x10000)
    if vm.layers:
        vm.mock.append(0, step.io_write(0x80, 1), step.io_read(0x60), step.write(0x1000, b"guest"), step.shutdown())
    told = []

    def io(access):
        told.append((access.port, access.is_write, access.data))
        if not access.is_write:
            access.answer(answer)

    last = vcpu.loop(io=io)
    return told + [last.kind], vm.memory.read(0x1000, 5)


def machine(cassette=None, layers=None):
    options = dict(QUIET, cassette=cassette) if cassette else QUIET
    context = impost.Context(plugin_dir=PLUGINS, options={"backend.mock": options})
    return context, context.create_vm(backend="mock", memory=0x10000, layers=layers)


def test_there_and_again(tmp_path):
    path = str(tmp_path / "cassette")
    context, vm = machine(layers=f"record:{path}")
    with context, vm:
        recorded = drive(vm, 7)
    assert recorded[0][-1] == "SHUTDOWN" and recorded[1] == b"guest"
    context, vm = machine(cassette=path)
    with context, vm:
        assert drive(vm, 7) == recorded
    context, vm = machine(cassette=path)
    with context, vm:
        with pytest.raises(impost.Error) as caught:
            drive(vm, 8)
        assert caught.value.name == "EDIVERGED"
