# SPDX-License-Identifier: Apache-2.0
"""Objects that are freed keep their parents alive, what is closed raises, and nothing that is misused crashes."""
import errno
import gc
import threading

import pytest
from conftest import PLUGINS, SOURCES

import impost
from impost import step

OPTIONS = {"backend.mock": {"check_entry": "no"}}


def made():
    context = impost.Context(plugin_dir=PLUGINS, options=OPTIONS)
    vm = context.create_vm(backend="mock")
    return context, vm, vm.create_vcpu(0)


def test_a_vcpu_alone_keeps_all_alive():
    context, vm, vcpu = made()
    mock = vm.mock
    del context, vm
    gc.collect()
    mock.append(0, step.io_write(0x80, 7))
    out = vcpu.run()
    del vcpu, mock
    gc.collect()
    assert out.value == 7


def test_cycles_are_freed_in_order():
    for _ in range(50):
        context, vm, vcpu = made()
        context.ring, vm.ring, vcpu.ring = vcpu, context, vm
        del context, vm, vcpu
    gc.collect()


def test_children_come_first():
    context, vm, vcpu = made()
    with pytest.raises(impost.Error) as caught:
        context.close()
    assert caught.value.errno == errno.EBUSY
    vm.close()
    assert vm.closed and vcpu.closed and not context.closed
    context.close()
    context.close()


@pytest.mark.parametrize("use", [
    lambda context, vm, vcpu: context.plugins(),
    lambda context, vm, vcpu: context.create_vm(backend="mock"),
    lambda context, vm, vcpu: context.open_snapshot("nothing"),
    lambda context, vm, vcpu: vm.create_vcpu(1),
    lambda context, vm, vcpu: vm.caps,
    lambda context, vm, vcpu: vm.mock,
    lambda context, vm, vcpu: vm.memory.read(0, 1),
    lambda context, vm, vcpu: vm.state(),
    lambda context, vm, vcpu: vcpu.run(),
    lambda context, vm, vcpu: vcpu.kick(),
    lambda context, vm, vcpu: vcpu.regs,
    lambda context, vm, vcpu: vcpu.loop(),
])
def test_use_after_close(use):
    context, vm, vcpu = made()
    vm.close()
    context.close()
    with pytest.raises(ValueError, match="is closed"):
        use(context, vm, vcpu)


def test_an_exit_is_over():
    context, vm, vcpu = made()
    vm.mock.append(0, step.io_read(0x60), step.hlt())
    out = vcpu.run()
    vcpu.run()
    for use in (lambda: out.data, lambda: out.answer(1), lambda: str(out)):
        with pytest.raises(ValueError, match="is over"):
            use()
    assert out.port == 0x60
    vm.close()
    with pytest.raises(ValueError, match="is closed"):
        out.answer(1)


def test_an_exit_of_a_handler_is_over():
    kept = []
    _, vm, vcpu = made()
    vm.mock.append(0, step.io_write(0x80, 1), step.hlt())
    vcpu.loop(io=kept.append)
    with pytest.raises(ValueError, match="is over"):
        kept[0].data  # pylint: disable=pointless-statement


def test_a_mock_of_a_closed_vm():
    _, vm, _ = made()
    mock = vm.mock
    vm.close()
    with pytest.raises(ValueError, match="is closed"):
        mock.append(0, step.hlt())


def test_nothing_is_closed_under_a_call():
    context, vm, vcpu = made()
    thread = threading.Thread(target=vcpu.run)
    thread.start()
    try:
        for closed in (vcpu, vm):
            # Until it is inside, nothing is in the way of closing it but that it is needed: so it is asked for first.
            while not vcpu._handle._users:
                pass
            with pytest.raises(impost.Error) as caught:
                closed.close()
            assert caught.value.errno == errno.EBUSY
    finally:
        vcpu.kick()
        thread.join(60)
    vm.close()
    context.close()


def test_a_vm_is_not_closed_by_a_handler():
    _, vm, vcpu = made()
    vm.mock.append(0, step.io_write(0x80, 1), step.hlt())

    def close(_):
        vm.close()

    with pytest.raises(impost.Error) as caught:
        vcpu.loop(io=close)
    assert caught.value.errno == errno.EBUSY
    assert vcpu.run().kind == "HLT"


def test_a_snapshots_state_ends_with_it():
    with impost.Context(plugin_dir=PLUGINS) as context:
        snapshot = context.open_snapshot(str(SOURCES / "tests/golden/snapshot-1-full"))
        state = snapshot.state
        del snapshot
        gc.collect()
        assert state.backend == "mock"
    with pytest.raises(ValueError, match="is closed"):
        state.text()
    with pytest.raises(ValueError, match="is closed"):
        state.backend  # pylint: disable=pointless-statement


def test_a_state_that_was_taken_outlives_the_vm():
    context, vm, _ = made()
    state = vm.state()
    vm.close()
    assert state.registers()["rip"] == 0xfff0
    context.close()
    with pytest.raises(ValueError, match="is closed"):
        state.contents()


def test_a_context_that_was_refused():
    with pytest.raises(impost.Error):
        impost.Context("/nonexistent.ini")
    gc.collect()


def test_many():
    for _ in range(200):
        context, vm, vcpu = made()
        del vcpu
        vm.close()
        context.close()
