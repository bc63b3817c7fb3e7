# SPDX-License-Identifier: Apache-2.0
"""Impost from Python: virtual machines on any hypervisor for which there is a plugin, the mock among them.

    import impost

    with impost.Context(options={"backend.mock": {"check_entry": "no"}}) as ctx:
        with ctx.create_vm(backend="mock") as vm, vm.create_vcpu(0) as vcpu:
            vm.mock.append(0, impost.step.io_write(0x80, 0x55))
            exit = vcpu.run()
            assert exit.port == 0x80 and exit.data == b"\\x55"

What fails raises impost.Error, an OSError with the library's text. Objects are closed by `with`, by close(), or when
the last reference is gone; one that is made from another keeps that one alive. A call on what is closed raises
ValueError. The library's own headers say what each call does, and which thread may make it.
"""
from . import mock as step
from ._library import Error, load, version
from .conformance import Case, conform, list_cases
from .mock import Interrupt, Mock, Step
from .snapshot import Difference, Mismatch, Snapshot, State
from .vm import Context, Exit, Memory, Plugin, Region, Vcpu, Vm

__all__ = ["Case", "Context", "Difference", "Error", "Exit", "Interrupt", "Memory", "Mismatch", "Mock", "Plugin",
           "Region", "Snapshot", "State", "Step", "Vcpu", "Vm", "conform", "list_cases", "load", "step", "version"]
