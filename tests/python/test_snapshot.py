# SPDX-License-Identifier: Apache-2.0
"""Snapshots from Python: by name, and from a VM and back."""
import errno

import pytest
from conftest import PLUGINS, SOURCES

import impost

GOLDEN = str(SOURCES / "tests/golden/snapshot-1-full")


def test_what_it_is(ctx):
    with ctx.open_snapshot(GOLDEN, header_only=True) as snapshot:
        info = snapshot.info
        assert info["version"] == 1 and not info["diff"] and not info["keyed"] and info["base"] is None
        assert info["path"] == GOLDEN and len(info["id"]) == 32
        assert [name for name, _, _ in snapshot.sections()] == ["machine", "vm", "vcpu.0", "memory"]
        with pytest.raises(ValueError, match="header"):
            snapshot.state  # pylint: disable=pointless-statement


def test_state_by_name(ctx):
    with ctx.open_snapshot(GOLDEN) as snapshot:
        state = snapshot.state
        assert state.sections == ["machine", "vm", "vcpu.0"] and state.backend == "mock"
        assert state.registers()["cr3"] == 0x1000 and state.registers()["cs"]["selector"] == 16
        assert state.msrs()["IA32_MTRRCAP"] == 0x508
        assert state.contents()["machine"]["cpus"] == 1
        assert "IA32_MTRRCAP" in state.text()
        assert state.section("machine")[:1] != b""
        with pytest.raises(impost.Error) as caught:
            state.section("nothing")
        assert caught.value.errno == errno.ENOENT
        assert snapshot.regions()[0] == impost.Region(0, 0x8000, False)
        assert len(snapshot.read(0x7ffe, 2)) == 2
        with pytest.raises(impost.Error):
            snapshot.read(0x7fff, 2)
        snapshot.verify()
        assert snapshot.check("mock") == [] == state.check("mock")


def test_what_is_none(ctx, tmp_path):
    path = tmp_path / "none"
    path.write_bytes(b"this is no snapshot" * 100)
    with pytest.raises(impost.Error) as caught:
        ctx.open_snapshot(str(path))
    assert caught.value.name == "EFORMAT"


def test_there_and_back(ctx, tmp_path):
    path = str(tmp_path / "vm.snap")
    secret = b"sixteen bytes or more"
    with ctx.create_vm(backend="mock", memory=0x10000) as vm:
        vm.memory.add(0, 0x10000)
        vcpu = vm.create_vcpu(0)
        vm.memory.write(0x4000, b"kept")
        vcpu.set_regs(rbx=0x1234)
        vm.save(path, key=secret)
        before = vm.state()
    with pytest.raises(impost.Error) as caught:
        ctx.open_snapshot(path, key=b"another key than that")
    assert caught.value.errno == errno.EKEYREJECTED
    with impost.Context(plugin_dir=PLUGINS, options={"backend.mock": {"check_entry": "no"}}) as other:
        with other.open_snapshot(path, key=secret) as snapshot:
            assert snapshot.info["keyed"] and snapshot.info["verified"]
            assert snapshot.read(0x4000, 4) == b"kept"
            assert snapshot.state.registers()["rbx"] == 0x1234
            vm = snapshot.restore("mock")
        with vm:
            assert vm.memory.read(0x4000, 4) == b"kept"
            assert [vcpu.number for vcpu in vm.vcpus] == [0]
            assert vm.vcpus[0].regs["rbx"] == 0x1234
            vm.vcpus[0].set_regs(rbx=0x5678)
            changes = [change for change in before.diff(vm.state()) if "rbx" in change.path]
            assert [(int(change.a, 16), int(change.b, 16)) for change in changes] == [(0x1234, 0x5678)]


def test_a_state_is_loaded(ctx, vm, vcpu):
    vcpu.set_regs(rdi=77)
    state = vm.state()
    vcpu.set_regs(rdi=0)
    state.load(vm)
    assert vcpu.regs["rdi"] == 77
