# SPDX-License-Identifier: Apache-2.0
"""The mock from Python: what its steps are for the host, and what the host's answers are for it."""
import errno
import threading

import pytest

import impost
from impost import step


def test_plugins_and_caps(ctx, vm):
    names = {plugin.name: plugin for plugin in ctx.plugins()}
    assert names["mock"].kind == "backend" and names["mock"].reason == ""
    assert {"mem-host", "complete"} <= ctx.probe("mock") == vm.caps
    assert vm.backend == "mock" and vm.irqchip == "full" and vm.layers == ""


def test_what_the_guest_writes(vm, vcpu):
    vm.mock.append(0, step.io_write(0x80, 0x1234, 2), step.mmio_write(0xd0000000, 0x55667788), step.hlt())
    out = vcpu.run()
    assert (out.kind, out.port, out.size, out.count, out.is_write) == ("IO", 0x80, 2, 1, True)
    assert out.data == b"\x34\x12" and out.value == 0x1234
    assert "0x80" in str(out)
    with pytest.raises(ValueError, match="nothing to answer"):
        out.answer(1)
    mmio = vcpu.run()
    assert (mmio.kind, mmio.gpa, mmio.size, mmio.value) == ("MMIO", 0xd0000000, 4, 0x55667788)
    assert vcpu.run().kind == "HLT"
    assert vm.mock.played(0) == 3


def test_what_the_host_answers(vm, vcpu):
    vm.mock.append(0, step.io_read(0x60, expect=7), step.mmio_read(0xd0000000, 8), step.hypercall(42, expect=5))
    vcpu.run().answer(7)
    vcpu.run().answer(b"\1\2\3\4\5\6\7\x08")
    assert vcpu.complete() is None
    assert vcpu.regs["rax"] == 0x0807060504030201
    call = vcpu.run()
    assert (call.kind, call.number, call.args) == ("HYPERCALL", 42, (0,) * 6)
    call.answer(5)
    assert vcpu.complete() is None
    assert vcpu.regs["rax"] == 5


def test_another_answer_than_the_script_expects(vm, vcpu):
    vm.mock.append(0, step.io_read(0x60, expect=7))
    vcpu.run().answer(8)
    with pytest.raises(impost.Error, match="answered 0x8, the script expects 0x7") as caught:
        vcpu.run()
    assert caught.value.name == "EDIVERGED" and caught.value.errno > 4000


def test_what_an_exit_does_not_have(vm, vcpu):
    vm.mock.append(0, step.hlt(), step.shutdown("crash"))
    halt = vcpu.run()
    for name in ("port", "gpa", "data", "index", "reason"):
        assert not hasattr(halt, name)
    assert vcpu.run().reason == 3


def test_memory_and_registers(vm, vcpu):
    vm.mock.append(0, step.write(0x1000, b"guest"), step.set_register("r9", 99), step.hlt())
    vcpu.run()
    assert vm.memory.read(0x1000, 5) == b"guest"
    assert vcpu.regs["r9"] == 99
    vcpu.set_regs(rax=1, rip=0x2000)
    assert (vcpu.regs["rax"], vcpu.regs["rip"], vcpu.regs["r9"]) == (1, 0x2000, 99)
    with pytest.raises(ValueError, match="no registers: eax"):
        vcpu.set_regs(eax=1)
    vm.memory.write(0xfffe, b"ab")
    with pytest.raises(impost.Error) as caught:
        vm.memory.write(0xffff, b"ab")
    assert caught.value.errno == errno.EFAULT and caught.value.strerror
    vm.memory.add(0xc0000000, 0x1000, readonly=True)
    assert vm.memory.regions() == [impost.Region(0, 0x10000, False), impost.Region(0xc0000000, 0x1000, True)]
    vm.memory.remove(0xc0000000)
    assert len(vm.memory.regions()) == 1


def test_msrs_and_cpuid(vcpu):
    vcpu.set_msrs({0x174: 0x10, 0x175: 0x20})
    assert vcpu.msrs(0x174, 0x175) == {0x174: 0x10, 0x175: 0x20}
    with pytest.raises(impost.Error, match="0xdead0001"):
        vcpu.msrs(0xdead0001)
    assert any(entry["leaf"] == 1 for entry in vcpu.cpuid())


def test_interrupts_and_time(vm, vcpu):
    vm.irq_line(4, 1)
    vm.msi(0xfee00000, 0x41)
    vcpu.nmi()
    assert [irq.kind for irq in vm.mock.interrupts()] == ["line", "msi", "nmi"]
    assert vm.mock.interrupts()[1].address == 0xfee00000 and vm.mock.interrupts()[1].data == 0x41
    vm.mock.advance(1000)
    with pytest.raises(impost.Error):
        vm.mock.append(0, impost.Step("EXIT", kind="IO"))


def test_loop_hands_exits_out(vm, vcpu):
    seen = []
    vm.mock.append(0, step.io_write(0x80, 1), step.io_read(0x60, expect=9), step.mmio_write(0xd0000000, 2), step.hlt())

    def io(access):
        if access.is_write:
            seen.append(access.value)
        else:
            access.answer(9)

    last = vcpu.loop(io=io, mmio=lambda access: True)
    assert seen == [1] and last.kind == "MMIO" and last.value == 2
    assert vcpu.loop(io=io).kind == "HLT"


@pytest.mark.parametrize("error", [ZeroDivisionError("in a handler"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_handler_raises_comes_out(vm, vcpu, error):
    def raises(_):
        raise error

    vm.mock.append(0, step.io_write(0x80, 1), step.hlt())
    with pytest.raises(type(error)) as caught:
        vcpu.loop(io=raises)
    assert caught.value is error
    assert vcpu.run().kind == "HLT"


def test_kick_from_another_thread(vm, vcpu):
    exits = []
    thread = threading.Thread(target=lambda: exits.append(vcpu.run().kind))
    thread.start()
    vcpu.kick()
    thread.join(60)
    assert exits == ["INTR"]


def test_two_vcpus_on_threads(vm):
    vcpus = [vm.create_vcpu(number) for number in range(2)]
    seen = {0: [], 1: []}

    def run(vcpu):
        while (out := vcpu.run()).kind == "IO":
            seen[vcpu.number].append(out.value)

    vcpus[1].set_regs(rip=0)
    for number in range(2):
        vm.mock.append(number, *(step.io_write(0x80, value) for value in range(100)), step.hlt())
    # The second waits for a startup IPI, which the first one's script sends.
    vm.mock.append(0, step.sipi(1, 0x10))
    threads = [threading.Thread(target=run, args=[vcpu]) for vcpu in vcpus]
    for thread in threads:
        thread.start()
    threads[0].join(60)
    vm.mock.append(0, step.hlt())
    vcpus[0].run()
    threads[1].join(60)
    assert seen == {0: list(range(100)), 1: list(range(100))}


def test_held(vm, vcpu):
    with vm.held():
        assert vcpu.regs["rip"] is not None
        with pytest.raises(impost.Error) as caught:
            with vm.held():
                pass
        assert caught.value.errno == errno.EALREADY


def test_wrong_configuration_is_said():
    with pytest.raises(impost.Error, match="ini:2") as caught:
        impost.Context(ini="[impost]\nnonsense = 1\n")
    assert caught.value.name == "ECONFIG"


def test_log():
    told = []
    with impost.Context(ini="[impost]\nlog = debug\nplugin_dir = /nonexistent-folder\n",
                        log=lambda level, text: told.append((level, text))) as context:
        with pytest.raises(impost.Error):
            context.plugins()
    assert all(level in ("error", "warn", "info", "debug") and text for level, text in told)


def test_a_name_with_a_nul_is_no_name(ctx):
    with pytest.raises(ValueError, match="NUL"):
        ctx.create_vm(backend="mock\0x")
